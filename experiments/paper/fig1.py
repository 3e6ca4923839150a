"""Figure 1: training loss by update of five optimizers on IWSLT'14 De-En."""

from experiments.artifact import Artifact
from experiments.verdict import Claim

ARTIFACT = Artifact(
    id="fig1",
    title="Training loss without and with warmup, IWSLT'14 De-En",
    order=11,
    claims=(
        Claim(
            "fig1.stalls",
            "Adam without warmup stalls on a post-norm Transformer; with warmup it learns",
            "loss near 10 without, about 3 with",
        ),
        Claim(
            "fig1.radam",
            "RAdam without warmup ends where Adam with warmup ends",
            "by eye: the curves overlap",
        ),
        Claim(
            "fig1.controls",
            "Adam-2k and Adam-eps also avoid the failure, Adam-eps less well",
            "by eye: Adam-eps clearly above Adam-2k",
        ),
    ),
)
