"""Figure 2: histograms of log |gradient| by update, Adam with and without warmup."""

from experiments.artifact import Artifact
from experiments.verdict import Claim

ARTIFACT = Artifact(
    id="fig2",
    title="Gradient histograms, Adam with and without warmup",
    order=12,
    claims=(
        Claim(
            "fig2.distorted",
            "Without warmup the gradients shrink to tiny values within 10 updates; with "
            "warmup they do not",
            "by eye",
        ),
    ),
)
