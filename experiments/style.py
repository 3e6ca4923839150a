"""The one look of every figure, and one colour for every optimizer.

The figures have no background of their own and draw lines and text in a grey that reads on white
and, brightened by the book's style sheet, on near-black: one file serves a page in light and in
dark.

seaborn is imported where something is drawn: with the parts of SciPy that it needs that takes over
a second, and most commands draw nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from experiments.errors import UserError

GREY = "#6b7078"
NAMES = {
    "sgd": "SGD",
    "adagrad": "AdaGrad",
    "rmsprop": "RMSProp",
    "adam": "Adam",
    "radam": "RAdam",
    "radam-counted": "RAdam by own counts",
    "delayed-adam": "Adam-2k",
}
COLOURS = {
    "SGD": "#ac640f",
    "AdaGrad": "#86504a",
    "RMSProp": "#a61997",
    "Adam": "#0959e7",
    "RAdam": "#ff515a",
    "Adam-2k": "#4da486",
}
"""One colour for every optimizer.

Readers with any colour vision tell those apart that stand in one figure: a test asks that.
"""
PALETTE = ("#8d87fa", "#278f00", "#20a0b0", "#b71d53", GREY)
"""For series that are no optimizer's, or whose optimizer has no colour of its own."""

EXACT, FIRST_ORDER, PLAIN = *PALETTE[:2], GREY
SEQUENCE = LinearSegmentedColormap.from_list("in order", ["#e8a33d", "#d1495b", "#8a6fc0"])
"""For series that have an order."""

WIDTH = 8.0
"""Inches: the width of a column of the book."""


def name(optimizer: str) -> str:
    """The name for readers of an optimizer in a spec; of "module:Class" its class."""
    return NAMES.get(optimizer, optimizer.rpartition(":")[2])


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for every name: an optimizer's own where it has one."""
    spare = itertools.cycle(PALETTE)
    return {name: COLOURS[name] if name in COLOURS else next(spare) for name in names}


def in_order(count: int) -> list[Any]:
    """Colours for so many series that have an order."""
    shares = np.linspace(0, 1, count)
    return [tuple(colour) for colour in SEQUENCE(shares)[:, :3]]


def use() -> None:
    """Set the look for every figure that is drawn from now on."""
    import seaborn as sns

    sns.set_theme(context="notebook", style="ticks", palette=PALETTE, font_scale=0.9)
    mpl.rcParams.update(
        {
            "axes.edgecolor": GREY,
            "axes.labelcolor": GREY,
            "axes.titlecolor": GREY,
            "text.color": GREY,
            "xtick.color": GREY,
            "ytick.color": GREY,
            "legend.labelcolor": GREY,
            "axes.facecolor": "none",
            "figure.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.grid": True,
            "grid.color": GREY,
            "grid.alpha": 0.25,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
            "lines.linewidth": 1.8,
            "svg.hashsalt": "radam",
            "svg.fonttype": "path",
        }
    )


def panels(
    columns: int, height: float = 3.2, sharey: bool = False, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of the book's width, and its panels from left to right, row by row.

    `height` is that of one row, in inches.
    """
    use()
    figure = Figure(figsize=(WIDTH, rows * height))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    return figure, list(axes.flat)


def extremes(values: pd.Series) -> tuple[float, float]:
    """What a band over seeds spans: the lowest and the highest."""
    return values.min(), values.max()


def rates(panel: Axes, values: Iterable[float]) -> None:
    """Learning rates along the bottom, on a logarithmic scale, each of them named."""
    found = sorted(set(values))
    panel.set(xscale="log", xlabel="learning rate")
    panel.set_xticks(found, [f"{rate:g}" for rate in found])
    panel.xaxis.minorticks_off()


def lines(
    panel: Axes,
    values: pd.DataFrame,
    x: str,
    y: str,
    hue: str,
    colours: Mapping[str, Any],
    **how: Any,
) -> None:
    """A line for each colour's name in the column `hue`: the mean, band from lowest to highest.

    `how` is for seaborn: an `errorbar` of None leaves the band out.
    """
    import seaborn as sns

    sns.lineplot(
        values,
        x=x,
        y=y,
        hue=hue,
        hue_order=list(colours),
        palette=dict(colours),
        ax=panel,
        **{"errorbar": extremes, **how},
    )


def blank(words: str) -> Figure:
    """What stands in a figure's place while there is nothing to draw."""
    use()
    figure = Figure(figsize=(WIDTH, 1.0))
    panel = figure.add_axes((0, 0, 1, 1))  # a notebook shows no figure without axes
    panel.set_axis_off()
    panel.text(0.5, 0.5, words, ha="center", va="center")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure; the same figure gives the same bytes.

    Raises
    ------
    UserError
        If the file cannot be written, or its ending names no format.
    """
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata=metadata, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise UserError(
            f"the figure {path} cannot be written ({error}); name a file that can, such as fig.svg"
        ) from error


def mean_and_deviation(mean: float, deviation: float) -> str:
    """A cell of a table: "91.38 ± 0.12"; the mean alone where there is one seed."""
    return f"{mean:.2f}" if deviation != deviation else f"{mean:.2f} ± {deviation:.2f}"
