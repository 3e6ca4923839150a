"""Figure 9: the simulated variance of the adaptive learning rate, plain and rectified."""

from __future__ import annotations

import functools
import math

import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact, Deviation
from experiments.spec import Run, grid, options
from experiments.verdict import Claim, Part, Records

MEANS = (0.0, 0.001, 0.01, 0.1, 1.0, 10.0)
PAPER = Run(
    task="variance",
    settings=options(
        quantity="trajectories", beta2=0.999, mu=0.0, steps=6_000, trajectories=5_000, first=5
    ),
)
RUNS = {
    "smoke": grid(PAPER, steps=[600], trajectories=[200], mu=(0.0, 10.0), seed=[0]),
    "paper": grid(PAPER, mu=MEANS, seed=range(5)),
}


def _metric(records: Records, name: str, mu: float) -> pd.Series:
    runs = records.runs
    return runs[runs["mu"] == mu].set_index("seed")[name]


def _parts(
    label: str, name: str, above: float = -math.inf, below: float = math.inf
) -> tuple[Part, ...]:
    """The same part for every mean of the gradient."""
    return tuple(
        Part(
            f"{label}, g ~ N({mu:g}, 1)",
            functools.partial(_metric, name=name, mu=mu),
            above=above,
            below=below,
        )
        for mu in MEANS
    )


CLAIMS = (
    Claim(
        "fig9.large",
        "The variance of the adaptive learning rate is far larger in the first updates",
        "by eye: two to three orders of magnitude",
        _parts("highest / lowest variance over updates 5 to 6000", "plain_fall", above=100.0),
    ),
    Claim(
        "fig9.flat",
        "Rectified, the variance is nearly constant: highest by lowest less than ten",
        "by eye: nearly flat",
        _parts(
            "highest / lowest rectified variance over updates 5 to 6000",
            "first-order_range",
            below=10.0,
        ),
    ),
)


def draw(records: Records) -> Figure:
    """Three panels: plain, rectified as in the paper, rectified exactly; mean over seeds."""
    figure, axes = style.panels(3, sharey=True)
    titles = {"plain": "plain", "first-order": "rectified, Eq. 5", "exact": "rectified, Eq. 2"}
    means = [f"{mu:g}" for mu in sorted(records.curves["mu"].unique())]
    colours = dict(zip(means, style.in_order(len(means)), strict=True))
    curves = records.curves.assign(mean=records.curves["mu"].map("{:g}".format))
    for panel, (split, title) in zip(axes, titles.items(), strict=True):
        chosen = curves[curves["split"] == split]
        last = panel is axes[-1]
        style.lines(panel, chosen, "step", "value", "mean", colours, errorbar=None, legend=last)
        panel.set(xscale="log", yscale="log", title=title, xlabel="update t")
        panel.set_ylabel("variance of ψ")
    axes[-1].legend(title="mean of the gradient", ncols=2, fontsize="small")
    return figure


ARTIFACT = Artifact(
    id="fig9",
    title="Simulated variance, plain and rectified",
    order=81,
    runs=RUNS,
    claims=CLAIMS,
    draw=draw,
    deviations={
        "smoke": (
            Deviation("steps", "6,000", "seconds"),
            Deviation("trajectories", "5,000", "seconds"),
            Deviation("mu", "six means", "two of them in seconds"),
        )
    },
)
