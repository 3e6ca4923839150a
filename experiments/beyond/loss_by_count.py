"""Whose words does it help to rectify each parameter by its own count? The loss by how rare.

Adam, RAdam and `radam-counted` as in the studies that they come from, each at the rate that
validation chose there, trained again for the test loss of words in classes.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact, Deviation
from experiments.beyond.counted_rectification import COUNTED
from experiments.paper import fig4
from experiments.paper._classifiers import cell
from experiments.paper._language import ADAM, RADAM, names
from experiments.spec import Run, grid
from experiments.verdict import LOST, Claim, Part, Records, diverged

ARMS = tuple(
    dataclasses.replace(optim, lr=lr)
    for optim, lr in ((ADAM, 0.003), (RADAM, 0.01), (COUNTED, 0.01))
)
"""Each at the learning rate that validation chose for it at the cpu scale."""
RAREST, MOST_FREQUENT = "4 to 15", "1,024 or more"
SCALES = ("smoke", "cpu")


def _runs(scale: str) -> tuple[Run, ...]:
    base = dataclasses.replace(fig4.BASES[scale], task="loss_by_count")
    return grid(base, seed=range(fig4.SEEDS[scale]), optim=ARMS)


def _lead(records: Records, words: str) -> pd.Series:
    """By how many percent the perplexity of a class lies below RAdam's if counted, by seed.

    There is none where both diverged; one that did has learnt nothing.
    """
    arms = ("radam-counted", "radam")
    ours, theirs = (
        records.runs[records.runs["optimizer"] == arm].set_index("seed") for arm in arms
    )
    loss, other = (runs[f"{words}_loss"].mask(diverged(runs), LOST) for runs in (ours, theirs))
    return -100 * np.expm1(loss - other).mask(diverged(ours) & diverged(theirs))


CLAIMS = (
    Claim(
        "loss-by-count.rarest",
        "Rectified by each parameter's own count, RAdam predicts the rarest words better",
        "not tried",
        (
            Part(
                "test perplexity of the rarest words below RAdam's, %",
                functools.partial(_lead, words=RAREST),
                above=0.0,
            ),
        ),
    ),
    Claim(
        "loss-by-count.more",
        "It gains more with the rarest words than with the most frequent",
        "not tried",
        (
            Part(
                "test perplexity below RAdam's, rarest minus most frequent words, points",
                lambda records: _lead(records, RAREST) - _lead(records, MOST_FREQUENT),
                above=0.0,
            ),
        ),
    ),
    Claim(
        "loss-by-count.frequent",
        "The most frequent words, which nearly every update has, it predicts as RAdam does",
        "not tried",
        (
            Part(
                "test perplexity of the most frequent words below RAdam's, %",
                functools.partial(_lead, words=MOST_FREQUENT),
                above=-1.0,
                below=1.0,
            ),
        ),
    ),
)


def _by_class(records: Records) -> pd.DataFrame:
    """The runs once for each class of words, the rarest first, with the loss in nats as "value"."""
    splits = records.curves.loc[records.curves["metric"] == "loss", "split"].unique()
    runs = records.runs.assign(arm=records.runs["optimizer"].map(names(records.runs)))
    return pd.concat(
        runs.assign(words=words, value=runs[f"{words}_loss"])
        for words in splits
        if words not in ("train", "validation", "test")
    )


def draw(records: Records) -> Figure:
    """The test loss by class of words, and the perplexity against RAdam's; a line an optimizer."""
    found = _by_class(records).set_index(["seed", "words"])
    theirs = found.loc[found["optimizer"] == "radam", "value"]
    found["lead"] = -100 * np.expm1(found["value"] - theirs.reindex(found.index))
    colours = style.colours(found["arm"].unique())
    figure, axes = style.panels(2)
    labels = {"value": "test loss (nats)", "lead": "perplexity below RAdam's (%)"}
    for panel, (quantity, label) in zip(axes, labels.items(), strict=True):
        first = panel is axes[0]
        shown = found.reset_index()
        style.lines(panel, shown, "words", quantity, "arm", colours, legend=first, marker="o")
        panel.set(xlabel="times in the training text", ylabel=label)
        panel.tick_params(axis="x", rotation=30)
    axes[0].legend(title=None, loc="lower left")
    return figure


def tabulate(records: Records) -> pd.DataFrame:
    """Test perplexity by class of words and optimizer: mean and standard deviation over seeds."""
    found = _by_class(records)
    found["perplexity"] = np.exp(found["value"])
    cells = found.groupby(["words", "arm"], sort=False).apply(cell, "perplexity")
    return cells.unstack().rename_axis(index="times in the training text", columns=None)


ARTIFACT = Artifact(
    id="loss-by-count",
    title="The test loss by how often a word is in the training text",
    order=48,
    runs={scale: _runs(scale) for scale in SCALES},
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations={
        scale: (
            *(one for one in fig4.ARTIFACT.deviations[scale] if one.axis != "lr"),
            Deviation("task", "language_model", "its test loss is told by classes of words, too"),
            Deviation("optimizer", "adam, radam", "radam-counted is an experiment of ours"),
            Deviation(
                "lr",
                "0.001",
                "for each optimizer the one that validation chose at the cpu scale, in Figure 4 "
                "and in counted-rectification",
            ),
        )
        for scale in SCALES
    },
)
