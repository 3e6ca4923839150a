"""Figure 6: test accuracy by epoch at four learning rates, for SGD, Adam and RAdam."""

from __future__ import annotations

import functools

import pandas as pd

from experiments import style
from experiments.artifact import Artifact
from experiments.paper._cifar10 import DEVIATIONS, RUNS
from experiments.paper._classifiers import (
    against,
    draw_accuracy,
    names,
    narrower,
    spread,
    tabulate_accuracy,
)
from experiments.verdict import Claim, Part, Records

CLAIMS = (
    Claim(
        "fig6.robust",
        "RAdam is less sensitive to the learning rate than Adam and SGD",
        "by eye: RAdam's four curves lie close together, the others' spread",
        (
            Part(
                "Adam's spread of test accuracy minus RAdam's, points",
                lambda records: narrower(records, "radam", "adam"),
                above=0.0,
            ),
            Part(
                "SGD's minus RAdam's, points",
                lambda records: narrower(records, "radam", "sgd"),
                above=0.0,
            ),
        ),
    ),
    Claim(
        "fig6.overlap",
        "RAdam ends at nearly the same accuracy for every learning rate from 0.003 to 0.1",
        "by eye: the four curves overlap",
        (
            Part(
                "RAdam's spread of test accuracy, points",
                lambda records: spread(records.runs, "radam"),
                below=2.0,
            ),
        ),
    ),
)


def yours(arm: str) -> tuple[Claim, ...]:
    """The claim about another optimizer."""
    parts = [
        Part(
            f"spread of test accuracy of {style.name(rival)} minus {style.name(arm)}'s, points",
            functools.partial(narrower, arm=arm, rival=rival),
            above=0.0,
        )
        for rival in ("radam", "adam", "sgd")
    ]
    return against(
        "fig6", arm, "is less sensitive to the learning rate than RAdam, Adam and SGD", parts
    )


def tabulate(records: Records) -> pd.DataFrame:
    """Test accuracy by optimizer and learning rate."""
    return tabulate_accuracy(records, names(records.runs))


ARTIFACT = Artifact(
    id="fig6",
    title="Robustness to the learning rate, CIFAR-10",
    order=60,
    runs=RUNS,
    claims=CLAIMS,
    yours=yours,
    draw=draw_accuracy,
    tabulate=tabulate,
    deviations=DEVIATIONS,
)
