"""Table 3: which of the first updates may be Adam's or momentum SGD's."""

from experiments.artifact import Artifact
from experiments.verdict import Claim

ARTIFACT = Artifact(
    id="table3",
    title="The first updates, CIFAR-10",
    order=95,
    claims=(
        Claim(
            "table3.adam-early",
            "Adam in updates 1 to 4, before RAdam, costs test accuracy",
            "89.98 against 91.08 %",
        ),
        Claim(
            "table3.adam-later",
            "Adam in updates 5 to 8, after four of momentum SGD, costs test accuracy",
            "90.29 against 91.08 %",
        ),
    ),
)
