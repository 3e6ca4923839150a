"""Figure 9 for gradients that are not normal: of other distributions, and of real networks.

The paper models an element's gradients, early in training, as normal with mean zero. Here they are
drawn with heavier tails; or they are those of the networks of Figures 1, 4 and 6 at their first
weights, from batch to batch.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact
from experiments.paper import _cifar10, _translation, fig4
from experiments.spec import Run, grid, options
from experiments.verdict import Claim, Part, Records

DISTRIBUTIONS = {
    "normal": "normal",
    "laplace": "Laplace",
    "student": "Student, 5 degrees",
    "bursts": "ten times as large in a tenth",
}
NETWORKS = {
    "cifar10": "ResNet, CIFAR-10",
    "translation": "Transformer, translation",
    "language_model": "LSTM, language",
}
STANDS_FOR = {"digits": "cifar10"}
"""At the smoke scale."""
NAMES = {**DISTRIBUTIONS, **NETWORKS, "digits": "ResNet, digits"}
COLOURS = dict(
    zip(NAMES.values(), [*style.in_order(4), *style.PALETTE[:3], style.GREY], strict=True)
)

SIMULATED = Run(
    task="gradients",
    settings=options(of="normal", elements=128, trajectories=1_024, steps=6_000, beta2=0.999),
)
QUICK = {"trajectories": 64, "steps": 200}


def _of(base: Run, **changes: int) -> Run:
    """The gradients of the network that a run would train."""
    settings = dict(base.settings) | dict(SIMULATED.settings) | {"of": base.task, "pool": 500}
    return Run(
        task="gradients",
        batch_size=base.batch_size,
        precision=base.precision,
        settings=options(**settings | changes),
    )


BASES = {
    scale: tuple(
        dataclasses.replace(bases[scale], precision="float32")  # a tail, and not its rounding
        for bases in (_cifar10.BASES, _translation.BASES, fig4.BASES)
    )
    for scale in ("smoke", "cpu")
}
RUNS = {
    "smoke": (
        *grid(SIMULATED, of=("normal", "bursts"), **{key: [n] for key, n in QUICK.items()}),
        *(_of(base, **QUICK | {"pool": 20}) for base in BASES["smoke"]),
    ),
    "cpu": tuple(
        run
        for seed in range(3)
        for base in (*grid(SIMULATED, of=DISTRIBUTIONS), *map(_of, BASES["cpu"]))
        for run in grid(base, seed=[seed])
    ),
}


def _metric(records: Records, name: str, of: str) -> pd.Series:
    runs = records.runs
    return runs[runs["of"].replace(STANDS_FOR) == of].set_index("seed")[name]


def _parts(label: str, name: str, above: float = -math.inf, *, below: float) -> tuple[Part, ...]:
    """The same part for every network."""
    return tuple(
        Part(f"{label}, {words}", functools.partial(_metric, name=name, of=of), above, below)
        for of, words in NETWORKS.items()
    )


CLAIMS = (
    Claim(
        "heavy-tails.normal",
        "At its first weights a network's gradients give the variance that normal ones give",
        "assumed",
        _parts("variance at update 10 / that of normal gradients", "over_normal", 0.5, below=2.0),
    ),
    Claim(
        "heavy-tails.flat",
        "Rectified, the variance is nearly constant for the gradients of networks too: highest "
        "by lowest less than ten",
        "by eye, for normal gradients",
        _parts(
            "highest / lowest rectified variance over updates 5 to 6000",
            "first-order_range",
            below=10.0,
        ),
    ),
)


def draw(records: Records) -> Figure:
    """The variance by update, plain and rectified; mean over seeds."""
    curves = records.curves.assign(gradients=records.curves["of"].map(NAMES))
    order = [name for name in NAMES.values() if name in set(curves["gradients"])]
    drawn = curves["of"].isin(DISTRIBUTIONS).map({True: "drawn", False: "of a network"})
    figure, axes = style.panels(2, sharey=True)
    for panel, (split, title) in zip(
        axes, {"plain": "plain", "first-order": "rectified, Eq. 5"}.items(), strict=True
    ):
        style.lines(
            panel,
            curves[curves["split"] == split],
            "step",
            "value",
            "gradients",
            {name: COLOURS[name] for name in order},
            style=drawn,
            style_order=["of a network", "drawn"],
            errorbar=None,
            legend=panel is axes[0],
        )
        panel.set(xscale="log", yscale="log", title=title, xlabel="update t")
        panel.set_ylabel("variance of ψ")
    named = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    axes[0].legend().remove()
    handles = [named[name] for name in order]  # without the headings that seaborn puts among them
    figure.legend(handles, order, loc="outside lower center", ncols=4)
    return figure


COLUMNS = {
    "kurtosis": "kurtosis, median weight",
    "share_with_zeros": "share of elements left out",
    "over_normal": "variance at update 10 / normal",
    "plain_fall": "plain: highest / lowest",
    "first-order_range": "rectified, Eq. 5",
    "exact_range": "rectified, Eq. 2",
}


def tabulate(records: Records) -> pd.DataFrame:
    """By source of the gradients, mean over seeds; a normal distribution has a kurtosis of 3."""
    means = records.runs.groupby("of")[list(COLUMNS)].mean()
    means = means.loc[[name for name in NAMES if name in means.index]]
    table = means.rename(index=NAMES, columns=COLUMNS).rename_axis("gradients")
    return table.astype(object).where(table.notna(), "–")


ARTIFACT = Artifact(
    id="heavy-tails",
    title="The variance under gradients that are not normal",
    order=83,
    runs=RUNS,
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
)
