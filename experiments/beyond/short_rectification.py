"""Figure 1 with a beta2 of 0.98: is RAdam behind because its rectification outlasts a short run?

Rectification is counted in updates, some 2 / (1 - beta2) of them. With the paper's 0.999 they are
a small part of its run, and more than the whole of ours at the cpu scale; with 0.98, which is
usual for Transformers, a tenth of it. All arms get it.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact
from experiments.paper._classifiers import cell
from experiments.paper._translation import (
    BASES,
    BETAS,
    COLOURS,
    RADAM,
    SEEDS,
    UNDELAYED,
    VANILLA,
    WARMUP,
    arm,
    by_arm,
    changed,
)
from experiments.paper.fig1 import LEARNS, learnt, share
from experiments.verdict import Claim, Part, Records, curve

SHORT = 0.98
BETA2S = (BETAS[1], SHORT)
ARMS = (VANILLA, WARMUP, RADAM)

RUNS = {
    scale: tuple(
        changed(arm(scale, name, seed), betas=(BETAS[0], beta2))
        for seed in range(SEEDS[scale])
        for beta2 in BETA2S
        for name in ARMS
    )
    for scale in BASES
}


def _with(records: Records, beta2: float) -> Records:
    """The records of one beta2, with the arm's name in the column `arm`."""
    return by_arm(records.where(records.runs["optim.betas"].str[1] == beta2))


def by_beta2(records: Records) -> dict[float, pd.DataFrame]:
    """The runs of each beta2, with the arm's name in the column `arm`."""
    return {beta2: _with(records, beta2).runs for beta2 in BETA2S}


def _behind(records: Records, beta2: float) -> pd.Series:
    """RAdam's final training loss minus that of Adam with warmup, nats, by seed."""
    runs = _with(records, beta2).runs
    return learnt(runs, WARMUP) - learnt(runs, RADAM)


def _share(records: Records) -> pd.Series:
    """What Adam learns without warmup, as a share of what it learns with one, by seed."""
    return share(_with(records, SHORT).runs, VANILLA)


WITH_WARMUP = Part(
    "with warmup, final training loss below that of token frequencies alone, nats",
    lambda records: learnt(_with(records, SHORT).runs, WARMUP),
    above=LEARNS,
)
CLAIMS = (
    Claim(
        "short-rectification.radam",
        "With a beta2 of 0.98 RAdam ends where Adam with warmup ends",
        "not tried",
        (
            Part(
                "RAdam's final training loss minus that of Adam with warmup, nats",
                lambda records: _behind(records, SHORT),
                above=-0.1,
                below=0.1,
            ),
        ),
        given=(WITH_WARMUP,),
    ),
    Claim(
        "short-rectification.nearer",
        "It ends nearer to Adam with warmup than with a beta2 of 0.999",
        "not tried",
        (
            Part(
                "distance of the two with 0.999 minus that with 0.98, nats",
                lambda records: _behind(records, BETAS[1]).abs() - _behind(records, SHORT).abs(),
                above=0.0,
            ),
        ),
        given=(WITH_WARMUP,),
    ),
    Claim(
        "short-rectification.stalls",
        "With a beta2 of 0.98 Adam without warmup stalls too",
        "not tried",
        (Part("share of what Adam with warmup learns", _share, below=0.5),),
        given=(WITH_WARMUP,),
    ),
)


def draw(records: Records) -> Figure:
    """A panel a beta2: training loss by update, mean over seeds, band from lowest to highest."""
    colours = {name: COLOURS[name] for name in ARMS}
    figure, axes = style.panels(2, height=3.6, sharey=True)
    for panel, beta2 in zip(axes, BETA2S, strict=True):
        curves, last = _with(records, beta2).curves, panel is axes[-1]
        losses = curve(curves, "train", "loss")
        style.lines(panel, losses, "step", "value", "arm", colours, legend=last)
        panel.set(title=f"β₂ = {beta2:g}", xlabel="update", ylabel="training loss (nats)")
    axes[-1].legend(title=None)
    return figure


def tabulate(records: Records) -> pd.DataFrame:
    """By arm and beta2: training loss in the last epoch, nats, mean and deviation over seeds."""
    rows = {}
    for name in ARMS:
        rows[name] = {
            f"β₂ = {beta2:g}": cell(runs[runs["arm"] == name], "train_loss")
            for beta2, runs in by_beta2(records).items()
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("training loss, nats")


ARTIFACT = Artifact(
    id="short-rectification",
    title="Figure 1 with a shorter rectification, German-English",
    order=10,
    runs=RUNS,
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations=UNDELAYED,
)
