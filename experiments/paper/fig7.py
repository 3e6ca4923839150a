"""Figure 7: RAdam against Adam with 100, 200, 500 and 1000 updates of linear warmup."""

from __future__ import annotations

import pandas as pd

from experiments import style
from experiments.artifact import Artifact, Deviation
from experiments.paper._cifar10 import BASES, DEVIATIONS, updates
from experiments.paper._classifiers import (
    against,
    at_best_lr,
    lead,
    leads,
)
from experiments.paper._warmup import (
    LINEAR,
    against_radam,
    by_warmup,
    deviations,
    draw,
    linear,
    tabulate,
)
from experiments.verdict import TIE, Claim, Part, Records, voters

UPDATES = (100, 200, 500, 1000)
SMOKE_UPDATES = (2, 16)
LENGTHS = {"smoke": SMOKE_UPDATES, "cpu": UPDATES, "paper": UPDATES}
"""In updates at the cpu scale too, as RAdam's own rectification is: it depends on t alone."""


def _warmups(runs: pd.DataFrame) -> list[str]:
    """The arms with linear warmup, the shortest first."""
    return list(runs.dropna(subset=LINEAR).sort_values(LINEAR)["optimizer"].unique())


def best_warmup(runs: pd.DataFrame) -> str:
    """The arm with linear warmup that has the best validation accuracy, at its best rate."""
    validation = {
        warmup: round(voters(at_best_lr(runs, warmup))["validation_accuracy"].mean(), TIE)
        for warmup in _warmups(runs)
    }
    return max(validation, key=lambda warmup: validation[warmup])


def _lead_over_best(records: Records, arm: str) -> pd.Series:
    """An arm's test accuracy minus that of the best warmup, in points, by seed.

    Each at its best learning rate, so that Adam has four times as many tries.
    """
    records = by_warmup(records)
    return lead(records, arm, best_warmup(records.runs))


def _lead_over_shortest(records: Records) -> pd.Series:
    """RAdam's test accuracy minus that of the shortest warmup, both at lr 0.1."""
    records = by_warmup(records)
    high = records.runs[records.runs["lr"] == 0.1]
    return lead(Records(high, records.curves), "radam", _warmups(high)[0])


CLAIMS = (
    Claim(
        "fig7.near-best",
        "RAdam falls at most half a point short of Adam with the best of four warmups",
        "91.38 against 91.29 %",
        (
            Part(
                "RAdam's test accuracy minus the best warmup's, points",
                lambda records: _lead_over_best(records, "radam"),
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


def _shares(scale: str) -> str:
    """Of how many of a run's updates the shortest and the longest warmup are."""
    shares = (100 * length / updates(BASES[scale]) for length in (min(UPDATES), max(UPDATES)))
    return " to ".join(f"{share:.2g}" for share in shares) + " %"


def yours(arm: str) -> tuple[Claim, ...]:
    """The claim about another optimizer."""
    part = Part(
        f"test accuracy of {style.name(arm)} minus the best warmup's, points",
        lambda records: _lead_over_best(records, arm),
        above=-0.5,
    )
    parts = [part, *leads(arm, "radam", above=-0.5)]
    text = "falls at most half a point short of Adam with the best of four warmups, and of RAdam"
    return against("fig7", arm, text, parts)


ARTIFACT = Artifact(
    id="fig7",
    title="Warmup against rectification, CIFAR-10",
    order=70,
    runs={scale: against_radam(scale, map(linear, LENGTHS[scale])) for scale in LENGTHS},
    claims=CLAIMS,
    yours=yours,
    draw=draw,
    tabulate=tabulate,
    deviations={
        "paper": DEVIATIONS["paper"],
        "cpu": deviations(
            "cpu",
            "the warmups keep their lengths in updates, as RAdam's rectification does, so that "
            f"they take {_shares('cpu')} of the {updates(BASES['cpu']):,} updates here, and "
            f"{_shares('paper')} at the paper scale",
        ),
        "smoke": (
            *DEVIATIONS["smoke"],
            Deviation(
                "LinearWarmup.steps",
                "100, 200, 500, 1000",
                f"a run has {updates(BASES['smoke'])} updates, and RAdam's rectification hardly "
                "begins",
            ),
        ),
    },
)
