"""Table 1, CIFAR-10: test accuracy of SGD, Adam and RAdam, each at its best learning rate."""

from __future__ import annotations

from experiments.artifact import Artifact
from experiments.paper._cifar10 import DEVIATIONS, RUNS
from experiments.paper._classifiers import lead, tabulate, yours
from experiments.verdict import Claim, Part

CLAIMS = (
    Claim(
        "table1.beats-adam",
        "On CIFAR-10, RAdam tests better than Adam",
        "91.38 against 90.54 %",
        (
            Part(
                "RAdam's test accuracy minus Adam's, points",
                lambda records: lead(records, "radam", "adam"),
                above=0.0,
            ),
        ),
    ),
    Claim(
        "table1.near-sgd",
        "On CIFAR-10, RAdam falls at most half a point short of SGD",
        "91.38 against 91.51 %",
        (
            Part(
                "RAdam's test accuracy minus SGD's, points",
                lambda records: lead(records, "radam", "sgd"),
                above=-0.5,
            ),
        ),
    ),
)


ARTIFACT = Artifact(
    id="table1",
    title="Test accuracy, CIFAR-10",
    order=50,
    runs=RUNS,
    claims=CLAIMS,
    yours=yours("table1", "CIFAR-10"),
    tabulate=tabulate,
    deviations=DEVIATIONS,
)
