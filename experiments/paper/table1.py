"""Table 1: test accuracy of SGD, Adam and RAdam, each at its best learning rate."""

from __future__ import annotations

import pandas as pd

from experiments import style
from experiments.artifact import Artifact
from experiments.paper._cifar10 import (
    ARMS,
    DEVIATIONS,
    RUNS,
    at_best_lr,
    best_lr,
    with_best_epoch,
)
from experiments.verdict import Claim, Part, Records


def _lead(records: Records, rival: str) -> pd.Series:
    """RAdam's test accuracy minus the rival's, in points, by seed."""
    radam, other = (at_best_lr(records.runs, name) for name in ("radam", rival))
    return radam["test_accuracy"] - other["test_accuracy"]


CLAIMS = (
    Claim(
        "table1.beats-adam",
        "On CIFAR-10, RAdam tests better than Adam",
        "91.38 against 90.54 %",
        (
            Part(
                "RAdam's test accuracy minus Adam's, points",
                lambda records: _lead(records, "adam"),
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
                lambda records: _lead(records, "sgd"),
                above=-0.5,
            ),
        ),
    ),
    Claim(
        "table1.imagenet",
        "On ImageNet, RAdam tests better than Adam and worse than SGD",
        "67.62 against 66.54 and 69.86 %",
    ),
)


def tabulate(records: Records) -> pd.DataFrame:
    """By optimizer: the learning rate chosen on validation, and the test accuracy in percent.

    The last column is the authors' way to report: the best test accuracy over the epochs.
    """
    rows = {}
    for arm in ARMS:
        runs = at_best_lr(with_best_epoch(records), arm.name)
        rows[style.NAMES[arm.name]] = {
            "learning rate": f"{best_lr(records.runs, arm.name):g}",
            "test accuracy, last epoch": style.mean_and_deviation(
                runs["test_accuracy"].mean(), runs["test_accuracy"].std()
            ),
            "test accuracy, best epoch": style.mean_and_deviation(
                runs["best_epoch"].mean(), runs["best_epoch"].std()
            ),
            "seeds": len(runs),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("optimizer")


ARTIFACT = Artifact(
    id="table1",
    title="Test accuracy, CIFAR-10 and ImageNet",
    order=50,
    runs=RUNS,
    claims=CLAIMS,
    tabulate=tabulate,
    deviations=DEVIATIONS,
)
