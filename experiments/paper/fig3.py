"""Figure 3: histograms of log |gradient| by update, Adam-2k, RAdam and Adam-eps."""

from experiments.artifact import Artifact
from experiments.verdict import Claim

ARTIFACT = Artifact(
    id="fig3",
    title="Gradient histograms, Adam-2k, RAdam and Adam-eps",
    order=13,
    claims=(
        Claim(
            "fig3.undistorted",
            "With Adam-2k, RAdam or Adam-eps the gradients keep their distribution",
            "by eye",
        ),
    ),
)
