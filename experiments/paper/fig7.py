"""Figure 7: RAdam against Adam with 100, 200, 500 and 1000 updates of linear warmup."""

from experiments.artifact import Artifact
from experiments.verdict import Claim

ARTIFACT = Artifact(
    id="fig7",
    title="Warmup against rectification, CIFAR-10",
    order=70,
    claims=(
        Claim(
            "fig7.near-best",
            "RAdam does as well as Adam with the best of four warmups",
            "91.38 against 91.29 %",
        ),
        Claim(
            "fig7.less-tuning",
            "At lr 0.1 RAdam does better than Adam with 100 updates of warmup",
            "91.06 against 90.13 %",
        ),
    ),
)
