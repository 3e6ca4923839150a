"""Figure 6: test accuracy by epoch at four learning rates, for SGD, Adam and RAdam."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact
from experiments.paper._cifar10 import (
    ARMS,
    DEVIATIONS,
    RUNS,
    draw_accuracy,
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
                lambda records: spread(records.runs, "adam") - spread(records.runs, "radam"),
                above=0.0,
            ),
            Part(
                "SGD's minus RAdam's, points",
                lambda records: spread(records.runs, "sgd") - spread(records.runs, "radam"),
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


NAMES = {arm.name: style.NAMES[arm.name] for arm in ARMS}


def draw(records: Records) -> Figure:
    """Three panels, one an optimizer."""
    return draw_accuracy(records, NAMES, columns=len(NAMES))


def tabulate(records: Records) -> pd.DataFrame:
    """Test accuracy by optimizer and learning rate."""
    return tabulate_accuracy(records, NAMES)


ARTIFACT = Artifact(
    id="fig6",
    title="Robustness to the learning rate, CIFAR-10",
    order=60,
    runs=RUNS,
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations=DEVIATIONS,
)
