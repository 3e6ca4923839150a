"""Figure 7: RAdam against Adam with 100, 200, 500 and 1000 updates of linear warmup."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from experiments.artifact import Artifact, Deviation
from experiments.paper._cifar10 import (
    DEVIATIONS,
    at_best_lr,
    best_lr,
    draw_accuracy,
    tabulate_accuracy,
)
from experiments.paper._warmup import against_radam, by_warmup, deviations, linear
from experiments.verdict import Claim, Part, Records

UPDATES = (100, 200, 500, 1000)
SMOKE_UPDATES = (2, 4, 8, 16)
LENGTHS = {"smoke": SMOKE_UPDATES, "cpu": UPDATES, "paper": UPDATES}
"""In updates at the cpu scale too, as RAdam's own rectification is: it depends on t alone."""


def _warmups(runs: pd.DataFrame) -> list[str]:
    """The arms with warmup, the shortest first."""
    found = runs.dropna(subset="LinearWarmup.steps").sort_values("LinearWarmup.steps")
    return list(found["optimizer"].unique())


def _lead_over_best(records: Records) -> pd.Series:
    """RAdam's test accuracy minus that of the warmup with the best validation accuracy."""
    runs = by_warmup(records).runs

    def validation(arm: str) -> float:
        chosen = runs[(runs["optimizer"] == arm) & (runs["lr"] == best_lr(runs, arm))]
        return float(chosen["validation_accuracy"].mean())

    best = max(_warmups(runs), key=validation)
    return at_best_lr(runs, "radam")["test_accuracy"] - at_best_lr(runs, best)["test_accuracy"]


def _lead_over_shortest(records: Records) -> pd.Series:
    """RAdam's test accuracy minus that of the shortest warmup, both at lr 0.1."""
    runs = by_warmup(records).runs
    runs = runs[runs["lr"] == 0.1].set_index("seed")
    arms = (runs[runs["optimizer"] == arm] for arm in ("radam", _warmups(runs)[0]))
    radam, shortest = (arm["test_accuracy"] for arm in arms)
    return radam - shortest


CLAIMS = (
    Claim(
        "fig7.near-best",
        "RAdam falls at most half a point short of Adam with the best of four warmups",
        "91.38 against 91.29 %",
        (
            Part(
                "RAdam's test accuracy minus the best warmup's, points",
                _lead_over_best,
                above=-0.5,
            ),
        ),
    ),
    Claim(
        "fig7.less-tuning",
        "At lr 0.1 RAdam does better than Adam with 100 updates of warmup",
        "91.06 against 90.13 %",
        (
            Part(
                "RAdam's test accuracy minus that of warmup 100, lr 0.1, points",
                _lead_over_shortest,
                above=0.0,
            ),
        ),
    ),
)


def _names(runs: pd.DataFrame) -> dict[str, str]:
    warmups = {arm: f"Adam, warmup {arm.rpartition(' ')[2]}" for arm in _warmups(runs)}
    return {"adam": "Adam"} | warmups | {"radam": "RAdam"}


def draw(records: Records) -> Figure:
    """Six panels: Adam without warmup, with each of four, and RAdam."""
    records = by_warmup(records)
    return draw_accuracy(records, _names(records.runs), columns=3)


def tabulate(records: Records) -> pd.DataFrame:
    """Test accuracy by arm and learning rate."""
    records = by_warmup(records)
    return tabulate_accuracy(records, _names(records.runs))


ARTIFACT = Artifact(
    id="fig7",
    title="Warmup against rectification, CIFAR-10",
    order=70,
    runs={scale: against_radam(scale, map(linear, LENGTHS[scale])) for scale in LENGTHS},
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations={
        "paper": DEVIATIONS["paper"],
        "cpu": deviations(
            "cpu",
            "the warmups keep their lengths in updates, as RAdam's rectification does, so that "
            "they take 8 to 79 % of the 1,264 updates here, of the paper's 64,000 at most 2 %",
        ),
        "smoke": (
            *DEVIATIONS["smoke"],
            Deviation(
                "LinearWarmup.steps",
                "100, 200, 500, 1000",
                "a run has 64 updates, and RAdam's rectification hardly begins",
            ),
        ),
    },
)
