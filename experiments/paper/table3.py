"""Table 3: which of the first updates may be Adam's or momentum SGD's."""

from __future__ import annotations

import dataclasses
import functools

import pandas as pd

from experiments.artifact import Artifact
from experiments.paper._cifar10 import BASES, DEVIATIONS
from experiments.paper._classifiers import RADAM, cell
from experiments.spec import Optim, grid, options
from experiments.verdict import Claim, Part, Records, difference, with_best_epoch


def _first(*first: tuple[str, int]) -> Optim:
    """RAdam whose first updates are another optimizer's."""
    arguments = options(**dict(RADAM.options), first=first)
    return dataclasses.replace(RADAM, name="radam-first", options=arguments)


ARMS = {
    "RAdam throughout": RADAM,
    "Adam in updates 1 to 4, then RAdam": _first(("adam", 4)),
    "momentum SGD in updates 1 to 4, Adam in 5 to 8, then RAdam": _first(("sgd", 4), ("adam", 4)),
}
THROUGHOUT, EARLY, LATER = ARMS
SEEDS = {"smoke": 1, "cpu": 5, "paper": 5}


def _arm(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """The runs of an arm, by seed."""
    first = dict(ARMS[name].options).get("first")
    firsts = (one if isinstance(one, tuple) else None for one in runs["optim.first"])
    return runs[[one == first for one in firsts]].set_index("seed")


def _cost(records: Records, name: str) -> pd.Series:
    """RAdam's test accuracy minus an arm's, in points, by seed."""
    radam, arm = (_arm(records.runs, one) for one in (THROUGHOUT, name))
    return difference(radam, arm, "test_accuracy")


def claims(study: str, where: str = "") -> tuple[Claim, ...]:
    """What is claimed of the first updates, `where` it is not with a seed's own batches."""
    return (
        Claim(
            f"{study}.adam-early",
            "Adam in updates 1 to 4, before RAdam, costs test accuracy" + where,
            "89.98 against 91.08 %",
            (
                Part(
                    "RAdam's test accuracy minus that with Adam in updates 1 to 4, points",
                    functools.partial(_cost, name=EARLY),
                    above=0.0,
                ),
            ),
        ),
        Claim(
            f"{study}.adam-later",
            "Adam in updates 5 to 8, after four of momentum SGD, costs test accuracy" + where,
            "90.29 against 91.08 %",
            (
                Part(
                    "RAdam's test accuracy minus that with Adam in updates 5 to 8, points",
                    functools.partial(_cost, name=LATER),
                    above=0.0,
                ),
            ),
        ),
    )


COLUMNS = {
    "test_accuracy": "test accuracy, last epoch",
    "best_epoch": "test accuracy, best epoch",
    "train_loss": "training loss",
    "seen_error": "training error",
}


def tabulate(records: Records) -> pd.DataFrame:
    """By arm: accuracy and error in percent, loss in nats; mean and deviation over the seeds.

    The loss is the last epoch's, as it is trained on; the error is that of the last weights on
    training images that are neither shifted nor mirrored.
    """
    runs = with_best_epoch(records)
    runs["seen_error"] = 100 - runs["seen_accuracy"]
    rows = {}
    for name in ARMS:
        arm = _arm(runs, name)
        cells = {label: cell(arm, column) for column, label in COLUMNS.items()}
        rows[name] = {**cells, "seeds": str(len(arm))}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("first updates")


ARTIFACT = Artifact(
    id="table3",
    title="The first updates, CIFAR-10",
    order=95,
    runs={
        scale: grid(base, seed=range(SEEDS[scale]), optim=ARMS.values())
        for scale, base in BASES.items()
    },
    claims=claims("table3"),
    tabulate=tabulate,
    deviations=DEVIATIONS,
)
