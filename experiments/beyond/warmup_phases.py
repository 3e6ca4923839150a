"""Over which learning rates, depths and places of the layer norms Adam needs a warmup.

Short runs of three arms on a grid, so that Figure 1 is not one setting that happens to fail.
"""

from __future__ import annotations

import dataclasses
import functools

import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact, Deviation
from experiments.paper._translation import (
    BASES,
    COLOURS,
    RADAM,
    SEEDS,
    UNDELAYED,
    VANILLA,
    WARMUP,
    arm,
    by_arm,
)
from experiments.paper.fig1 import LEARNS, learnt
from experiments.spec import Run, varied
from experiments.verdict import Claim, Part, Records

ARMS = (VANILLA, WARMUP, RADAM)
RATES = {"smoke": (0.01,), "cpu": (0.0003, 0.001, 0.003), "paper": (1e-4, 3e-4, 1e-3)}
DEPTHS = {"smoke": (1,), "cpu": (2, 6), "paper": (3, 6, 12)}
NORMS = ("post", "pre")
EPOCHS = {"smoke": 2, "cpu": 5, "paper": 10}
KEYS = ["norm", "layers", "lr", "seed"]


def short(scale: str) -> Run:
    """What all arms have in common: Figure 1's, in fewer epochs."""
    base = BASES[scale]
    return dataclasses.replace(base, epochs=EPOCHS[scale], probes=base.probes[:3])


def _runs(scale: str) -> tuple[Run, ...]:
    return tuple(
        arm(scale, name, seed, varied(short(scale), lr=rate, layers=depth, norm=norm))
        for seed in range(min(SEEDS[scale], 3))
        for norm in NORMS
        for depth in DEPTHS[scale]
        for rate in RATES[scale]
        for name in ARMS
    )


@functools.lru_cache(maxsize=1)  # every part of every claim asks for it
def by_setting(records: Records) -> pd.DataFrame:
    """What each arm (columns) learns in each setting and seed (rows), nats."""
    runs = by_arm(records).runs
    return pd.DataFrame({name: learnt(runs, name, KEYS) for name in ARMS})


def _smallest_share(records: Records, name: str, norm: str) -> pd.Series:
    """An arm's smallest share of what Adam with warmup learns, of settings where that learns."""
    table = by_setting(records).xs(norm, level="norm")
    table = table[table[WARMUP] > LEARNS]
    return (table[name] / table[WARMUP]).groupby("seed").min()


CLAIMS = (
    Claim(
        "warmup-phases.post-norm",
        "Where the norms come after the sublayers, Adam without warmup learns less than half as "
        "much as Adam with warmup in a setting in which that one learns",
        "one setting",
        (
            Part(
                "smallest share of what Adam with warmup learns, post-norm",
                lambda records: _smallest_share(records, VANILLA, "post"),
                below=0.5,
            ),
        ),
    ),
    Claim(
        "warmup-phases.pre-norm",
        "Where the norms come before the sublayers, Adam without warmup learns over half as much "
        "as Adam with warmup in every setting in which that one learns",
        "not tried",
        (
            Part(
                "smallest share of what Adam with warmup learns, pre-norm",
                lambda records: _smallest_share(records, VANILLA, "pre"),
                above=0.5,
            ),
        ),
    ),
    Claim(
        "warmup-phases.radam",
        "RAdam learns over half as much as Adam with warmup in every setting in which that one "
        "learns",
        "one setting",
        tuple(
            Part(
                f"RAdam's smallest share of what Adam with warmup learns, {norm}-norm",
                functools.partial(_smallest_share, name=RADAM, norm=norm),
                above=0.5,
            )
            for norm in NORMS
        ),
    ),
)


def draw(records: Records) -> Figure:
    """A row a place of the norms, a column a depth: what each arm learns, by learning rate.

    The line at zero is what token frequencies alone give, the dotted one from where an arm counts
    as one that learns.
    """
    table = by_setting(records).rename_axis(columns="arm").stack().rename("learnt").reset_index()
    colours = {name: COLOURS[name] for name in ARMS}
    depths = sorted(table["layers"].unique())
    figure, axes = style.panels(len(depths), height=2.8, rows=len(NORMS), sharey=True)
    places = [(norm, depth) for norm in NORMS for depth in depths]
    for panel, (norm, depth) in zip(axes, places, strict=True):
        chosen = table[(table["norm"] == norm) & (table["layers"] == depth)]
        first = panel is axes[0]
        style.lines(panel, chosen, "lr", "learnt", "arm", colours, marker="o", legend=first)
        style.rates(panel, table["lr"])
        panel.set(title=f"{norm}-norm, layers: {depth}", ylabel="learnt (nats)")
        panel.axhline(0, color=style.GREY, linewidth=1)
        panel.axhline(LEARNS, color=style.GREY, linewidth=1, linestyle=":")
    axes[0].legend(title=None, fontsize="small", loc="upper left")
    return figure


def tabulate(records: Records) -> pd.DataFrame:
    """What each arm learns beyond token frequencies, nats: mean over seeds."""
    table = by_setting(records).groupby(KEYS[:-1]).mean()
    return table.map("{:.2f}".format)


GRID = {
    one.axis: one
    for one in (
        Deviation("lr", "0.0003", "a smaller network on a shorter run learns at higher rates"),
        Deviation("layers", "6", "shallower networks train faster"),
        Deviation("epochs", "70,000 updates", "many short runs in place of a few long ones"),
        Deviation("LinearWarmup.steps", "4,000", "a warmup is counted in updates, as rectification "
                  "is; it fills most of so short a run"),
        Deviation("averaged", "10", "a short run ends few epochs"),
    )
}  # fmt: skip


def _deviations(scale: str) -> tuple[Deviation, ...]:
    """Those of Figure 1's runs, but for the grid, and for what here is the same at all scales."""
    shared = {one.axis: one for one in UNDELAYED[scale] if one.axis != "probes"}
    return tuple((shared | (GRID if scale != "paper" else {})).values())


ARTIFACT = Artifact(
    id="warmup-phases",
    title="Where Adam needs a warmup: learning rate, depth, norms",
    order=11,
    runs={scale: _runs(scale) for scale in BASES},
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations={scale: _deviations(scale) for scale in BASES},
)
