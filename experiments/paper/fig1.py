"""Figure 1: training loss by update of five optimizers on German-English translation."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact
from experiments.paper._classifiers import cell
from experiments.paper._translation import (
    ARMS,
    COLOURS,
    DELAYED,
    DEVIATIONS,
    EPS,
    RADAM,
    RUNS,
    VANILLA,
    WARMUP,
    arm,
    by_arm,
    translations,
)
from experiments.record import Store
from experiments.verdict import Claim, Part, Records, curve


def learnt(runs: pd.DataFrame, name: str, keys: list[str] | None = None) -> pd.Series:
    """How far an arm ends below a model that knows only how frequent each token is, nats.

    What counts is the mean training loss over the last epoch; a run that diverged learnt nothing.

    Parameters
    ----------
    runs
        With the arms' names in the column `arm`.
    name
        Of an arm.
    keys
        The columns that tell its runs apart, the seed alone if not given.
    """
    frequencies = runs.groupby("seed")["unigram_loss"].max()  # one that diverged has none
    chosen = runs[runs["arm"] == name].set_index(keys or ["seed"])
    below = chosen.index.get_level_values("seed").map(frequencies) - chosen["train_loss"]
    return below.where(chosen["status"] != "diverged", 0.0)


def _learnt(records: Records, name: str) -> pd.Series:
    """The same, from records."""
    return learnt(by_arm(records).runs, name)


def share(runs: pd.DataFrame, name: str) -> pd.Series:
    """What an arm has learnt, as a share of what Adam with warmup has, by seed.

    There is no share of nothing.
    """
    whole = learnt(runs, WARMUP)
    return learnt(runs, name) / whole.where(whole != 0)


def _share(records: Records, name: str) -> pd.Series:
    """The same, from records."""
    return share(by_arm(records).runs, name)


LEARNS = 0.5
"""Nats below the loss of token frequencies alone, from which an arm counts as one that learns."""
WITH_WARMUP = Part(
    "with warmup, final training loss below that of token frequencies alone, nats",
    lambda records: _learnt(records, WARMUP),
    above=LEARNS,
)
CLAIMS = (
    Claim(
        "fig1.stalls",
        "Adam without warmup stalls on a post-norm Transformer on which it learns with warmup",
        "loss near 10 without, about 3 with",
        (
            Part(
                "share of what Adam with warmup learns that Adam without warmup learns",
                lambda records: _share(records, VANILLA),
                below=0.5,
            ),
        ),
        given=(WITH_WARMUP,),
    ),
    Claim(
        "fig1.radam",
        "RAdam without warmup ends where Adam with warmup ends",
        "by eye: the curves overlap",
        (
            Part(
                "RAdam's final training loss minus that of Adam with warmup, nats",
                lambda records: _learnt(records, WARMUP) - _learnt(records, RADAM),
                above=-0.1,
                below=0.1,
            ),
        ),
        given=(WITH_WARMUP,),
    ),
    Claim(
        "fig1.controls",
        "Adam-2k and Adam-eps also avoid the failure, Adam-eps less well",
        "by eye: Adam-eps clearly above Adam-2k",
        (
            Part(
                "share of the distance of Adam with warmup that Adam-2k covers",
                lambda records: _share(records, DELAYED),
                above=0.5,
            ),
            Part(
                "share of that distance that Adam-eps covers",
                lambda records: _share(records, EPS),
                above=0.5,
            ),
            Part(
                "Adam-eps's final training loss minus Adam-2k's, nats",
                lambda records: _learnt(records, DELAYED) - _learnt(records, EPS),
                above=0.0,
            ),
        ),
        given=(WITH_WARMUP,),
    ),
)


def draw(records: Records) -> Figure:
    """Training loss by update: mean over seeds, band from lowest to highest."""
    records = by_arm(records)
    losses = curve(records.curves, "train", "loss")
    losses = losses[losses["update"] > 0]  # before, Adam-2k does not learn
    figure, (panel,) = style.panels(1, height=4.0)
    style.lines(panel, losses, "update", "value", "arm", COLOURS)
    unigram = float(records.runs["unigram_loss"].mean())
    panel.axhline(unigram, color=style.GREY, linestyle=":", linewidth=1.2)
    panel.annotate(
        "token frequencies alone", (1, unigram), xycoords=("axes fraction", "data"),
        ha="right", va="bottom", fontsize="small",
    )  # fmt: skip
    panel.set(xlabel="update", ylabel="training loss (nats)")
    panel.legend(title=None)
    return figure


COLUMNS = {
    "train_loss": "training loss, last epoch",
    "validation_loss": "validation loss, a token",
    "test_bleu": "BLEU, test",
}


def tabulate(records: Records) -> pd.DataFrame:
    """By arm: losses in nats and BLEU, mean and standard deviation over seeds."""
    runs = by_arm(records).runs
    rows = {}
    for name in ARMS:
        chosen = runs[runs["arm"] == name]
        rows[name] = {label: cell(chosen, column) for column, label in COLUMNS.items()}
        rows[name]["seeds"] = str(len(chosen))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("optimizer")


def samples(store: Store, scale: str) -> pd.DataFrame:
    """Some test sentences, and what each arm makes of them at the first seed; empty if not run."""
    return translations(store, {name: arm(scale, name, 0) for name in ARMS})


ARTIFACT = Artifact(
    id="fig1",
    title="Training loss without and with warmup, German-English",
    order=11,
    runs=RUNS,
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations=DEVIATIONS,
)
