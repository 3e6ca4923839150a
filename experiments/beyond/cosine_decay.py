"""Cosine decay in place of the recipe's two steps: does the order of the optimizers hang on it?

Every arm of Figure 6 once more, under a learning rate that falls along half a cosine to zero.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact, Deviation
from experiments.paper._cifar10 import BASES, DEVIATIONS, LEARNING_RATES, SEEDS, cosine
from experiments.paper._classifiers import (
    ARMS,
    against,
    draw_accuracy,
    lead,
    names,
    narrower,
    tabulate_best,
)
from experiments.spec import Run, grid
from experiments.verdict import Claim, Part, Records

RATES = {"smoke": (0.1, 0.01), "cpu": LEARNING_RATES, "paper": LEARNING_RATES}
COSINE = "CosineDecay.total"
_FALLS = Deviation(COSINE, "none", "ours goes past the paper: it falls over the whole run")


def _runs(scale: str) -> tuple[Run, ...]:
    """Every arm under both schedules at every learning rate; seed by seed."""
    base = BASES[scale]
    schedules = (base.schedule, cosine(base.epochs))
    return grid(base, seed=range(SEEDS[scale]), schedule=schedules, optim=ARMS, lr=RATES[scale])


def _under(schedule: str, records: Records) -> Records:
    """The records under one of the two schedules, "cosine" or "steps"."""
    return records.where(records.runs[COSINE].notna() == (schedule == "cosine"))


def _part(label: str, statistic: Callable[..., pd.Series], arm: str, rival: str) -> Part:
    """A part that says that an arm is ahead of a rival under cosine decay."""
    return Part(
        label,
        lambda records: statistic(_under("cosine", records), arm, rival),
        above=0.0,
    )


CLAIMS = (
    Claim(
        "cosine-decay.beats-adam",
        "Under cosine decay too, RAdam tests better than Adam",
        "not tried; 91.38 against 90.54 % under step decay",
        (_part("RAdam's test accuracy minus Adam's, points", lead, "radam", "adam"),),
    ),
    Claim(
        "cosine-decay.robust",
        "Under cosine decay too, RAdam is less sensitive to the learning rate than Adam and SGD",
        "not tried",
        (
            _part(
                "Adam's spread of test accuracy minus RAdam's, points", narrower, "radam", "adam"
            ),
            _part("SGD's minus RAdam's, points", narrower, "radam", "sgd"),
        ),
    ),
)


def yours(arm: str) -> tuple[Claim, ...]:
    """The claim about another optimizer."""
    name = style.name(arm)
    parts = [
        _part(f"test accuracy of {name} minus {style.name(rival)}'s, points", lead, arm, rival)
        for rival in ("radam", "adam", "sgd")
    ]
    return against(
        "cosine-decay", arm, "tests better than RAdam, Adam and SGD under cosine decay", parts
    )


def draw(records: Records) -> Figure:
    """A panel an optimizer, under cosine decay."""
    return draw_accuracy(_under("cosine", records))


def tabulate(records: Records) -> pd.DataFrame:
    """Test accuracy by optimizer and schedule, each at its best learning rate."""
    arms = names(records.runs)
    tables = {name: tabulate_best(_under(name, records), arms) for name in ("steps", "cosine")}
    return pd.concat(tables, names=["decay"]).swaplevel().loc[list(arms.values())]


ARTIFACT = Artifact(
    id="cosine-decay",
    title="Cosine decay instead of two steps, CIFAR-10",
    order=61,
    runs={scale: _runs(scale) for scale in BASES},
    claims=CLAIMS,
    yours=yours,
    draw=draw,
    tabulate=tabulate,
    deviations={
        "paper": (
            *DEVIATIONS["paper"],
            _FALLS,
        ),
        "cpu": (
            *DEVIATIONS["cpu"],
            _FALLS,
        ),
        "smoke": (
            *DEVIATIONS["smoke"],
            _FALLS,
            Deviation("lr", "0.1, 0.03, 0.01, 0.003", "seconds"),
        ),
    },
)
