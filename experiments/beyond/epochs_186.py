"""186 epochs, as the paper's text has it, in place of 164, as the authors' recipes have it."""

from __future__ import annotations

import pandas as pd

from experiments import style
from experiments.artifact import Artifact, Deviation
from experiments.paper._cifar10 import BASES, DEVIATIONS, LEARNING_RATES
from experiments.paper._classifiers import ARMS, against, at_best_lr, names, tabulate_best
from experiments.spec import Run, grid
from experiments.verdict import Claim, Part, Records, difference

EPOCHS = {"smoke": (4, 5), "cpu": (16, 18), "paper": (164, 186)}
"""At the cpu scale one run is longer than the other by the same share as in the paper."""
SEEDS = {"smoke": 1, "cpu": 3, "paper": 3}
RATES = {"smoke": (0.1, 0.01), "cpu": LEARNING_RATES, "paper": LEARNING_RATES}


def _runs(scale: str) -> tuple[Run, ...]:
    """Every arm for both numbers of epochs at every learning rate; seed by seed."""
    return grid(
        BASES[scale],
        seed=range(SEEDS[scale]),
        epochs=EPOCHS[scale],
        optim=ARMS,
        lr=RATES[scale],
    )


def _at(epochs: int, records: Records) -> Records:
    return records.where(records.runs["epochs"] == epochs)


def _numbers(records: Records) -> list[int]:
    return sorted(records.runs["epochs"].unique())


def _gain(records: Records, arm: str) -> pd.Series:
    """Test accuracy after the longer run minus that after the shorter one, in points, by seed."""
    short, long = (at_best_lr(_at(one, records).runs, arm) for one in _numbers(records))
    return difference(long, short, "test_accuracy")


def _part(arm: str) -> Part:
    label = f"test accuracy of the longer run minus the shorter's, points, {style.name(arm)}"
    return Part(label, lambda records: _gain(records, arm), above=-0.5, below=0.5)


def yours(arm: str) -> tuple[Claim, ...]:
    """The claim about another optimizer."""
    text = "tests within half a point of the same after a run of 186 epochs in place of 164"
    return against("epochs-186", arm, text, [_part(arm)])


def tabulate(records: Records) -> pd.DataFrame:
    """Test accuracy by optimizer and number of epochs, each at its best learning rate."""
    arms = names(records.runs)
    tables = {str(one): tabulate_best(_at(one, records), arms) for one in _numbers(records)}
    return pd.concat(tables, names=["epochs"]).swaplevel().loc[list(arms.values())]


ARTIFACT = Artifact(
    id="epochs-186",
    title="186 epochs instead of 164, CIFAR-10",
    order=62,
    runs={scale: _runs(scale) for scale in EPOCHS},
    claims=(
        Claim(
            "epochs-186.same",
            "An eighth more epochs, as 186 are to 164, change no optimizer's test accuracy by over "
            "half a point",
            "186 in the text, 164 in the recipes",
            tuple(_part(arm.name) for arm in ARMS),
        ),
    ),
    yours=yours,
    tabulate=tabulate,
    deviations={
        "paper": DEVIATIONS["paper"],
        "cpu": DEVIATIONS["cpu"],
        "smoke": (
            *DEVIATIONS["smoke"],
            Deviation("lr", "0.1, 0.03, 0.01, 0.003", "seconds"),
        ),
    },
)
