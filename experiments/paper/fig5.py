"""Figure 5: training loss and test accuracy by epoch, each optimizer at its best learning rate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import style
from experiments.artifact import Artifact
from experiments.paper._cifar10 import ARMS, DEVIATIONS, RUNS, at_best_lr, epochs
from experiments.verdict import Claim, Part, Records


def _training_loss(curves: pd.DataFrame, *keys: str) -> pd.Series:
    """The training loss in nats, averaged over the updates of every group of `keys`.

    A point of the curve is a mean over the updates since the point before it.
    """
    train = curves[(curves["split"] == "train") & (curves["metric"] == "loss")]
    train = train.sort_values(["run_id", "step"])
    updates = train.groupby("run_id")["step"].diff().fillna(train["step"])
    train = train.assign(updates=updates, total=updates * train["value"])
    sums = train.groupby(list(keys))[["total", "updates"]].sum()
    return (sums["total"] / sums["updates"]).rename("value")


def _mean_loss(records: Records, optimizer: str) -> pd.Series:
    """The training loss averaged over the whole run, in nats, by seed."""
    means = _training_loss(records.curves, "run_id")
    return at_best_lr(records.runs, optimizer)["run_id"].map(means)


def _final_loss(records: Records, optimizer: str) -> pd.Series:
    return at_best_lr(records.runs, optimizer)["train_loss"]


CLAIMS = (
    Claim(
        "fig5.faster",
        "On CIFAR-10, RAdam's training loss falls faster than Adam's and ends lower",
        "by eye",
        (
            Part(
                "Adam's mean training loss minus RAdam's, nats",
                lambda records: _mean_loss(records, "adam") - _mean_loss(records, "radam"),
                above=0.0,
            ),
            Part(
                "in the last epoch, nats",
                lambda records: _final_loss(records, "adam") - _final_loss(records, "radam"),
                above=0.0,
            ),
        ),
    ),
)


def draw(records: Records) -> Figure:
    """Two panels: training loss, test accuracy; mean over seeds, band from lowest to highest."""
    chosen = pd.concat([at_best_lr(records.runs, arm.name)["run_id"] for arm in ARMS])
    curves = records.curves[records.curves["run_id"].isin(chosen)]
    names = curves["optimizer"].map(style.NAMES)
    curves = curves.assign(epoch=np.ceil(epochs(curves)), optimizer=names)
    tests = curves[(curves["split"] == "test") & (curves["metric"] == "accuracy")]
    train = _training_loss(curves, "run_id", "optimizer", "epoch").reset_index()
    figure, axes = style.panels(2)
    wanted = ((train, "training loss (nats)"), (tests, "test accuracy (%)"))
    for panel, (values, label) in zip(axes, wanted, strict=True):
        sns.lineplot(
            values,
            x="epoch",
            y="value",
            hue="optimizer",
            hue_order=[style.NAMES[arm.name] for arm in ARMS],
            palette=style.COLOURS,
            errorbar=lambda values: (values.min(), values.max()),
            legend=panel is axes[0],
            ax=panel,
        )
        panel.set(xlabel="epoch", ylabel=label)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(title=None)
    return figure


ARTIFACT = Artifact(
    id="fig5",
    title="Training loss and test accuracy by epoch, CIFAR-10",
    order=51,
    runs=RUNS,
    claims=CLAIMS,
    draw=draw,
    deviations=DEVIATIONS,
)
