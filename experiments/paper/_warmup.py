"""Adam with a warmup before the CIFAR-10 recipe: the arms, and what each is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pandas as pd

from experiments.artifact import Deviation
from experiments.paper._cifar10 import ADAM, BASES, DEVIATIONS, LEARNING_RATES, RADAM, SEEDS
from experiments.spec import Run, Schedule, grid, options
from experiments.verdict import Records

KINDS = {
    "LinearWarmup.steps": "linear",
    "UntunedLinearWarmup.beta2": "untuned-linear",
    "UntunedExponentialWarmup.beta2": "untuned-exponential",
    "RectifiedWarmup.beta2": "rectified",
}
"""The column of a run's axes that tells a warmup, and its name."""


def linear(updates: int) -> Schedule:
    """Linear warmup over a number of updates."""
    return Schedule("LinearWarmup", options(steps=updates))


def against_radam(scale: str, warmups: Iterable[Schedule]) -> tuple[Run, ...]:
    """RAdam, Adam as it is, and Adam with each warmup, at every learning rate; seed by seed."""
    base = BASES[scale]
    schedules = [(warmup, *base.schedule) for warmup in warmups]
    runs: list[Run] = []
    for seed in range(SEEDS[scale]):
        one = dataclasses.replace(base, seed=seed)
        runs += grid(one, optim=(RADAM, ADAM), lr=LEARNING_RATES)
        runs += grid(one, optim=(ADAM,), schedule=schedules, lr=LEARNING_RATES)
    return tuple(runs)


def by_warmup(records: Records) -> Records:
    """The records with the warmup in the column "optimizer": "adam", "adam linear 100" ..."""
    runs = records.runs
    arms = pd.Series([_arm(row) for row in runs.to_dict("records")], index=runs["run_id"])
    curves = records.curves.assign(optimizer=records.curves["run_id"].map(arms))
    return Records(runs.assign(optimizer=arms.to_numpy()), curves)


def _arm(row: dict[str, object]) -> str:
    for column, kind in KINDS.items():
        value = row.get(column)
        if pd.notna(value):
            length = f" {value:g}" if column.endswith("steps") else ""
            return f"{row['optimizer']} {kind}{length}"
    return str(row["optimizer"])


def deviations(scale: str, reason: str) -> tuple[Deviation, ...]:
    """Those of the CIFAR-10 runs; `reason` says what the shorter run means for a warmup."""
    return tuple(
        dataclasses.replace(one, reason=f"{one.reason}; {reason}") if one.axis == "epochs" else one
        for one in DEVIATIONS[scale]
    )
