"""What else makes a post-norm Transformer learn without a tuned warmup, beside Figure 1's arms.

Another network: the layer norms before the sublayers. Other warmups for Adam: two that need no
tuning (Ma & Yarats 2021). Other Adams: eps added after bias correction, as in torch. And other
RAdams: the exact rectification, and one that skips its first four updates in place of momentum
SGD. The paper has none of these.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact
from experiments.paper import _translation
from experiments.paper._classifiers import cell
from experiments.paper._translation import (
    BASES,
    BETAS,
    RADAM,
    SEEDS,
    VANILLA,
    WARMUP,
    arm,
    arm_of,
    by_arm,
    changed,
)
from experiments.paper.fig1 import LEARNS, learnt, share
from experiments.spec import Run, Schedule, options, varied
from experiments.verdict import Claim, Part, Records, curve

PRE, LINEAR, EXPONENTIAL, CORRECTED, EXACT, SKIPPING = OTHERS = (
    "Adam-vanilla, pre-norm",
    "Adam, untuned linear warmup",
    "Adam, untuned exponential warmup",
    "Adam-vanilla, eps after correction",
    "RAdam, exact",
    "RAdam, first four skipped",
)
ARMS = (VANILLA, WARMUP, RADAM, *OTHERS)


def _run(scale: str, name: str, seed: int) -> Run:
    if name not in OTHERS:
        return arm(scale, name, seed)
    vanilla, radam = (arm(scale, one, seed) for one in (VANILLA, RADAM))
    if name == PRE:
        return varied(vanilla, norm="pre")
    if name in (LINEAR, EXPONENTIAL):
        kind = "UntunedLinearWarmup" if name == LINEAR else "UntunedExponentialWarmup"
        warmup = Schedule(kind, options(beta2=BETAS[1]))
        return dataclasses.replace(vanilla, schedule=(warmup, *vanilla.schedule))
    if name == CORRECTED:
        return changed(vanilla, eps_placement="corrected")
    return changed(radam, **({"rectification": "exact"} if name == EXACT else {"early": "skip"}))


RUNS = {
    scale: tuple(_run(scale, name, seed) for seed in range(SEEDS[scale]) for name in ARMS)
    for scale in BASES
}
TOLD_BY = {
    LINEAR: "UntunedLinearWarmup.beta2",
    EXPONENTIAL: "UntunedExponentialWarmup.beta2",
    CORRECTED: "optim.eps_placement",
    EXACT: "optim.rectification",
    SKIPPING: "optim.early",
}
"""The axis that the runs of an arm have, and no others."""


def _arm(row: Mapping[Hashable, Any]) -> str:
    for name, axis in TOLD_BY.items():
        if pd.notna(row.get(axis)):
            return name
    name = arm_of(row)
    return PRE if name == VANILLA and row["norm"] == "pre" else name


def named(records: Records) -> Records:
    """The records with the arm's name in the column `arm`."""
    return by_arm(records, _arm)


def _share(records: Records, name: str) -> pd.Series:
    return share(named(records).runs, name)


def behind(records: Records, name: str) -> pd.Series:
    """An arm's final training loss minus RAdam's, nats, by seed."""
    runs = named(records).runs
    return learnt(runs, RADAM) - learnt(runs, name)


def _learns(name: str) -> Part:
    return Part(
        f"{name}: final training loss below that of token frequencies alone, nats",
        lambda records: learnt(named(records).runs, name),
        above=LEARNS,
    )


def _avoids(id: str, name: str, text: str) -> Claim:
    part = Part(
        "share of what Adam with warmup learns",
        functools.partial(_share, name=name),
        above=0.5,
    )
    return Claim(f"post-norm.{id}", text, "not tried", (part,), given=(_learns(WARMUP),))


def _as_radam(id: str, name: str, text: str) -> Claim:
    part = Part(
        "its final training loss minus RAdam's, nats",
        functools.partial(behind, name=name),
        above=-0.1,
        below=0.1,
    )
    return Claim(f"post-norm.{id}", text, "not tried", (part,), given=(_learns(RADAM),))


CLAIMS = (
    _avoids(
        "pre-norm", PRE, "With the layer norms before the sublayers Adam learns without warmup"
    ),
    _avoids("linear", LINEAR, "With untuned linear warmup Adam learns on a post-norm Transformer"),
    _avoids(
        "exponential",
        EXPONENTIAL,
        "With untuned exponential warmup Adam learns on a post-norm Transformer",
    ),
    _avoids(
        "corrected",
        CORRECTED,
        "With eps added after bias correction Adam learns without warmup",
    ),
    _as_radam("exact", EXACT, "RAdam ends at the same loss with the exact rectification"),
    _as_radam(
        "skipping",
        SKIPPING,
        "RAdam ends at the same loss without its first four updates of momentum SGD",
    ),
)


def draw(records: Records) -> Figure:
    """Training loss by update: mean over seeds; the arms of Figure 1 as thin lines."""
    losses = curve(named(records).curves, "train", "loss")
    figure, axes = style.panels(2, height=4.0, sharey=True)
    groups = {
        "networks and Adams": (VANILLA, WARMUP, PRE, CORRECTED),
        "warmups and RAdams": (RADAM, LINEAR, EXPONENTIAL, EXACT, SKIPPING),
    }
    for panel, (title, names) in zip(axes, groups.items(), strict=True):
        spare = iter(style.PALETTE)
        colours = {name: _translation.COLOURS.get(name) or next(spare) for name in names}
        style.lines(panel, losses, "step", "value", "arm", colours)
        panel.set(title=title, xlabel="update", ylabel="training loss (nats)")
        panel.legend(title=None, fontsize="small")
    return figure


def tabulate(records: Records) -> pd.DataFrame:
    """By arm: final training loss and the share learnt, mean and deviation over seeds."""
    runs = named(records).runs
    rows = {}
    for name in ARMS:
        chosen = runs[runs["arm"] == name]
        shares = _share(records, name)
        rows[name] = {
            "training loss, nats": cell(chosen, "train_loss"),
            "share learnt": style.mean_and_deviation(shares.mean(), shares.std()),
            "seeds": str(len(chosen)),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("arm")


ARTIFACT = Artifact(
    id="post-norm",
    title="Other remedies for a post-norm Transformer",
    order=10,
    runs=RUNS,
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations=_translation.UNDELAYED,
)
