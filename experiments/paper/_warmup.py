"""Adam with a warmup before the CIFAR-10 recipe: the arms, and what each is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Deviation
from experiments.paper._cifar10 import BASES, DEVIATIONS, LEARNING_RATES, SEEDS
from experiments.paper._classifiers import ADAM, RADAM, draw_accuracy, tabulate_accuracy
from experiments.spec import Run, Schedule, grid, options
from experiments.verdict import Records

LINEAR = "LinearWarmup.steps"
KINDS = {
    LINEAR: "warmup {:g}",
    "UntunedLinearWarmup.beta2": "untuned linear",
    "UntunedExponentialWarmup.beta2": "untuned exponential",
    "RectifiedWarmup.beta2": "rectified warmup",
}
"""The column of a run's axes that tells a warmup, and what it is called."""


def linear(updates: int) -> Schedule:
    """Linear warmup over a number of updates."""
    return Schedule("LinearWarmup", options(steps=updates))


def against_radam(scale: str, warmups: Iterable[Schedule]) -> tuple[Run, ...]:
    """Adam as it is, with each warmup, and RAdam, at every learning rate; seed by seed."""
    base = BASES[scale]
    schedules = [(warmup, *base.schedule) for warmup in warmups]
    runs: list[Run] = []
    for seed in range(SEEDS[scale]):
        one = dataclasses.replace(base, seed=seed)
        runs += grid(one, optim=(ADAM,), lr=LEARNING_RATES)
        runs += grid(one, optim=(ADAM,), schedule=schedules, lr=LEARNING_RATES)
        runs += grid(one, optim=(RADAM,), lr=LEARNING_RATES)
    return tuple(runs)


def by_warmup(records: Records) -> Records:
    """The records with the warmup in the column "optimizer": "adam", "adam, warmup 100" ..."""
    runs = records.runs
    arms = pd.Series([_arm(row) for row in runs.to_dict("records")], index=runs["run_id"])
    curves = records.curves.assign(optimizer=records.curves["run_id"].map(arms))
    return Records(runs.assign(optimizer=arms.to_numpy()), curves)


def _arm(row: dict[Any, Any]) -> str:
    optimizer = str(row["optimizer"])
    for column, kind in KINDS.items():
        if pd.notna(row.get(column)):
            return f"{optimizer}, {kind.format(row[column])}"
    return optimizer


def names(runs: pd.DataFrame) -> dict[str, str]:
    """The arms in the order of the runs, with the name of each for readers."""
    found = {}
    for arm in runs["optimizer"].unique():
        optimizer, comma, kind = arm.partition(",")
        found[arm] = style.name(optimizer) + comma + kind
    return found


def draw(records: Records) -> Figure:
    """A panel an arm: Adam as it is, with each warmup, and RAdam."""
    records = by_warmup(records)
    return draw_accuracy(records, names(records.runs), columns=3)


def tabulate(records: Records) -> pd.DataFrame:
    """Test accuracy by arm and learning rate."""
    records = by_warmup(records)
    return tabulate_accuracy(records, names(records.runs))


def deviations(scale: str, reason: str) -> tuple[Deviation, ...]:
    """Those of the CIFAR-10 runs; `reason` says what the shorter run means for a warmup."""
    return tuple(
        dataclasses.replace(one, reason=f"{one.reason}; {reason}") if one.axis == "epochs" else one
        for one in DEVIATIONS[scale]
    )
