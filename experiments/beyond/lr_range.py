"""How wide a range of learning rates does an optimizer bear? Figure 6 in a number.

The width, in decades, of the range of learning rates at which the test accuracy is within 1 % of
the optimizer's best; between two learning rates that were tried the accuracy is taken to be linear
in the rate's logarithm. The grid is the same for every optimizer, and wide enough to hold the best
of each in its inside.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import report, style
from experiments.artifact import Artifact, Deviation
from experiments.paper._cifar10 import BASES, DEVIATIONS, LEARNING_RATES, SEEDS
from experiments.paper._classifiers import (
    ARMS,
    against,
    best_lr,
    cell,
    names,
    of_arm,
)
from experiments.spec import SCALES, grid
from experiments.verdict import Claim, Part, Records, with_best_epoch

WIDE = (3.0, 1.0, 0.3, *LEARNING_RATES, 0.001, 0.0003)
RATES = {"smoke": (0.3, *LEARNING_RATES, 0.001), "cpu": WIDE, "paper": WIDE}
SHARE = 0.99
"""Of the best accuracy: what counts as within 1 % of it."""


def width(records: Records, arm: str) -> pd.Series:
    """The width of the range of learning rates within 1 % of the best, in decades, by seed."""
    runs = of_arm(records.runs, arm).sort_values("lr")
    return runs.groupby("seed")[["lr", "test_accuracy"]].apply(
        lambda one: decades(one["lr"].to_numpy(), one["test_accuracy"].to_numpy())
    )


def decades(rates: np.ndarray, accuracies: np.ndarray) -> float:
    """How many decades of learning rates, in ascending order, are within 1 % of the best.

    0 where nothing was classified at any of them.
    """
    if not accuracies.any():
        return 0.0
    points = zip(np.log10(rates), accuracies - SHARE * accuracies.max(), strict=True)
    total = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        low, high = min(y0, y1), max(y0, y1)
        if high >= 0:
            above = 1.0 if low >= 0 else high / (high - low)  # the part of the line above zero
            total += above * (x1 - x0)
    return total


def _wider(records: Records, arm: str, rival: str) -> pd.Series:
    """An arm's width minus a rival's, in decades, by seed."""
    return width(records, arm) - width(records, rival)


CLAIMS = (
    Claim(
        "lr-range.wider",
        "RAdam tests within 1 % of its best over a wider range of learning rates than Adam and SGD",
        "by eye, from four learning rates",
        (
            Part(
                "RAdam's range minus Adam's, decades",
                lambda records: _wider(records, "radam", "adam"),
                above=0.0,
            ),
            Part(
                "RAdam's range minus SGD's, decades",
                lambda records: _wider(records, "radam", "sgd"),
                above=0.0,
            ),
        ),
    ),
)


def yours(arm: str) -> tuple[Claim, ...]:
    """The claim about another optimizer."""
    parts = [
        Part(
            f"range of {style.name(arm)} minus {style.name(rival)}'s, decades",
            functools.partial(_wider, arm=arm, rival=rival),
            above=0.0,
        )
        for rival in ("radam", "adam", "sgd")
    ]
    text = (
        "tests within 1 % of its best over a wider range of learning rates than RAdam, Adam and SGD"
    )
    return against("lr-range", arm, text, parts)


def draw(records: Records) -> Figure:
    """Test accuracy of the last epoch by learning rate; mean over seeds, band lowest to highest."""
    arms = names(records.runs)
    runs = pd.concat([of_arm(records.runs, arm) for arm in arms])
    runs = runs.assign(optimizer=runs["optimizer"].map(arms))
    colours = style.colours(arms.values())
    figure, (panel,) = style.panels(1)
    style.lines(panel, runs, "lr", "test_accuracy", "optimizer", colours, marker="o")
    style.rates(panel, runs["lr"])
    panel.set_ylabel("test accuracy (%)")
    panel.legend(title=None)
    return figure


def tabulate(records: Records) -> pd.DataFrame:
    """By optimizer: the best learning rate, the accuracy there, and the range, in decades.

    The best learning rate is chosen on validation. The range is the mean over the seeds, with its
    95 % interval where there are two seeds or more, cut off at 0.
    """
    runs = with_best_epoch(records)
    rows = {}
    for arm, name in names(runs).items():
        rate = best_lr(runs, arm)
        at_best = runs[(runs["optimizer"] == arm) & (runs["lr"] == rate)]
        widths = width(records, arm)
        rows[name] = {
            "best learning rate": f"{rate:g}",
            "test accuracy, last epoch": cell(at_best, "test_accuracy"),
            "test accuracy, best epoch": cell(at_best, "best_epoch"),
            "range within 1 %, decades": report.mean(widths, least=0.0),
            "seeds": str(len(widths)),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("optimizer")


ARTIFACT = Artifact(
    id="lr-range",
    title="The range of learning rates that an optimizer bears, CIFAR-10",
    order=60,
    runs={
        scale: grid(BASES[scale], seed=range(SEEDS[scale]), optim=ARMS, lr=RATES[scale])
        for scale in SCALES
    },
    claims=CLAIMS,
    yours=yours,
    draw=draw,
    tabulate=tabulate,
    deviations={
        **DEVIATIONS,
        "smoke": (
            *DEVIATIONS["smoke"],
            Deviation("lr", "four; ours goes past the paper", "seconds"),
        ),
    },
)
