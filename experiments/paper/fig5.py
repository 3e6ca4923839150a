"""Figure 5: training loss and test accuracy by epoch, each optimizer at its best learning rate."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact
from experiments.paper._cifar10 import ARMS, DEVIATIONS, RUNS, at_best_lr, epochs
from experiments.verdict import Claim, Part, Records


def _mean_loss(records: Records, optimizer: str) -> pd.Series:
    """The training loss averaged over the whole run, in nats, by seed."""
    curves = records.curves
    train = curves[(curves["split"] == "train") & (curves["metric"] == "loss")]
    means = train.groupby("run_id")["value"].mean()
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
    curves = curves.assign(epoch=epochs(curves), optimizer=curves["optimizer"].map(style.NAMES))
    figure, axes = style.panels(2)
    wanted = (("train", "loss", "training loss (nats)"), ("test", "accuracy", "test accuracy (%)"))
    for panel, (split, metric, label) in zip(axes, wanted, strict=True):
        sns.lineplot(
            curves[(curves["split"] == split) & (curves["metric"] == metric)],
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
    axes[0].set_yscale("log")
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
