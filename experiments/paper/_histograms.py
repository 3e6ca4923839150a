"""Distributions of gradients and of updates on a logarithmic scale: numbers, and ridges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.paper._translation import by_arm
from experiments.verdict import Records, interval

QUANTITIES = {"gradient": "log10 |gradient|", "update": "log10 |change of a weight|"}
EARLY, LATER = 1, 10
"""The updates whose distributions are compared."""
OVERLAP = 2.5
"""How many ridges high a ridge is."""


def shares(records: Records, arm: str, quantity: str) -> pd.DataFrame:
    """An arm's distributions: for each seed and update (rows) the share of each bin (columns).

    Columns are the bins' middles in log10, without gaps. Elements that are exactly zero have no
    logarithm: the shares are of all others. A run that diverged before an update has none there.
    """
    curves = by_arm(records).curves
    rows = curves[(curves["arm"] == arm) & (curves["split"] == quantity)]
    middles = pd.to_numeric(rows["metric"], errors="coerce")
    rows = rows.assign(middle=middles)[middles.notna()]
    table = rows.pivot_table(
        index=["seed", "update"], columns="middle", values="value", fill_value=0
    )
    if table.empty:
        return table
    width = float(np.diff(table.columns).min())
    bins = np.arange(table.columns[0], table.columns[-1] + width / 2, width)
    table = table.reindex(columns=bins, method="nearest", tolerance=width / 4, fill_value=0)
    return table.div(table.sum(axis=1), axis=0)


def distance(records: Records, arm: str, quantity: str) -> pd.Series:
    """Wasserstein-1 distance, in decades, of the distributions at updates 10 and 1, by seed."""
    table = shares(records, arm, quantity)
    apart = _at(table, LATER) - _at(table, EARLY)
    return apart.cumsum(axis=1).abs().sum(axis=1, skipna=False) * _width(table)


def fall(records: Records, arm: str, quantity: str) -> pd.Series:
    """How far the mean of the logarithm falls from update 1 to 10, in decades, by seed."""
    table = shares(records, arm, quantity)
    return _means(_at(table, EARLY)) - _means(_at(table, LATER))


def first(records: Records, arm: str, quantity: str) -> pd.Series:
    """The mean of the logarithm at update 1, by seed."""
    return _means(_at(shares(records, arm, quantity), EARLY))


def _at(table: pd.DataFrame, update: int) -> pd.DataFrame:
    """The distributions at an update, by seed."""
    return table[table.index.get_level_values("update") == update].droplevel("update")


def _means(table: pd.DataFrame) -> pd.Series:
    return (table * table.columns.to_numpy()).sum(axis=1, skipna=False)


def _width(table: pd.DataFrame) -> float:
    return float(np.diff(table.columns[:2]).sum())


def tabulate(records: Records, arms: Sequence[str]) -> pd.DataFrame:
    """By arm and quantity: the means of the logarithms, and how far apart the distributions are."""
    rows = []
    for arm in arms:
        for quantity, label in QUANTITIES.items():
            means = _means(shares(records, arm, quantity)).groupby("update").mean()
            apart = distance(records, arm, quantity)
            low, high = interval(apart)
            bounds = f" [{low:.2f}, {high:.2f}]" if len(apart) > 1 else ""
            rows.append(
                {
                    "arm": arm,
                    "distribution of": label,
                    "mean at update 1": f"{means[EARLY]:.2f}",
                    "at update 10": f"{means[LATER]:.2f}",
                    "distance, decades": f"{apart.mean():.2f}{bounds}",
                }
            )
    return pd.DataFrame(rows).set_index(["arm", "distribution of"])


def draw(records: Records, arms: Sequence[str]) -> Figure:
    """A column an arm, gradients above and changes below; a ridge an update, mean over seeds.

    All ridges are of one height: they tell where the elements lie, and not how many there are.
    """
    figure, axes = style.panels(len(arms), height=4.2, rows=len(QUANTITIES))
    for row, (quantity, label) in enumerate(QUANTITIES.items()):
        tables = [shares(records, arm, quantity).groupby("update").mean() for arm in arms]
        panels = axes[row * len(arms) : (row + 1) * len(arms)]
        for panel, table, arm in zip(panels, tables, arms, strict=True):
            colours = style.in_order(len(table))
            for place, (colour, (_, ridge)) in enumerate(
                zip(colours, table.iterrows(), strict=True)
            ):
                heights = -place + ridge.to_numpy() / ridge.max() * OVERLAP
                panel.fill_between(ridge.index, -place, heights, color=colour, alpha=0.35, lw=0)
                panel.plot(ridge.index, heights, color=colour, lw=1.2)
            panel.set(xlabel=label, yticks=[-place for place in range(len(table))])
            panel.set_yticklabels([f"{update:,.0f}" for update in table.index])
            panel.set_title(arm if row == 0 else "")
        lowest = min(float(_visible(table).min()) for table in tables)
        furthest = max(float(_visible(table).max()) for table in tables)
        for panel in panels:
            panel.set_xlim(lowest - _width(tables[0]), furthest + _width(tables[0]))
        panels[0].set_ylabel("update")
    return figure


def _visible(table: pd.DataFrame) -> np.ndarray:
    """The bins that hold more than a ten-thousandth of a distribution."""
    middles: np.ndarray = np.array(table.columns, dtype=float)
    seen: np.ndarray = middles[(table > 1e-4).any().to_numpy()]
    return seen
