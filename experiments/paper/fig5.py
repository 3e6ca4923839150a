"""Figure 5: training loss and test accuracy by epoch, each optimizer at its best learning rate."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import style
from experiments.artifact import Artifact
from experiments.paper._cifar10 import DEVIATIONS, RUNS
from experiments.paper._classifiers import against, at_best_lr, epochs, names, training_loss
from experiments.verdict import LOST, Claim, Part, Records, curve, difference, diverged


def _mean_lead(records: Records, arm: str, rival: str) -> pd.Series:
    """How far an arm's training loss, averaged over the whole run, lies below a rival's, nats."""
    means = training_loss(records.curves, "run_id")

    def mean(arm: str) -> pd.Series:
        runs = at_best_lr(records.runs, arm)
        return runs["run_id"].map(means).mask(diverged(runs), LOST)

    return mean(rival) - mean(arm)


def _final_lead(records: Records, arm: str, rival: str) -> pd.Series:
    """The same for the last epoch's training loss."""
    one, other = (at_best_lr(records.runs, name) for name in (arm, rival))
    return difference(other, one, "train_loss")


CLAIMS = (
    Claim(
        "fig5.faster",
        "On CIFAR-10, RAdam's training loss falls faster than Adam's and ends lower",
        "by eye",
        (
            Part(
                "Adam's mean training loss minus RAdam's, nats",
                lambda records: _mean_lead(records, "radam", "adam"),
                above=0.0,
            ),
            Part(
                "in the last epoch, nats",
                lambda records: _final_lead(records, "radam", "adam"),
                above=0.0,
            ),
        ),
    ),
)


def yours(arm: str) -> tuple[Claim, ...]:
    """The claim about another optimizer."""
    name = style.name(arm)
    parts = (
        Part(
            f"RAdam's mean training loss minus that of {name}, nats",
            lambda records: _mean_lead(records, arm, "radam"),
            above=0.0,
        ),
        Part(
            "in the last epoch, nats",
            lambda records: _final_lead(records, arm, "radam"),
            above=0.0,
        ),
    )
    return against(
        "fig5", arm, "has a training loss that falls faster than RAdam's and ends lower", parts
    )


def _by_epoch(records: Records) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The training loss and the test accuracy of every run at its optimizer's best rate."""
    chosen = pd.concat([at_best_lr(records.runs, arm)["run_id"] for arm in names(records.runs)])
    curves = records.curves[records.curves["run_id"].isin(chosen)]
    curves = curves.assign(epoch=np.ceil(epochs(curves)).astype(int))
    tests = curve(curves, "test", "accuracy")
    train = training_loss(curves, "run_id", "optimizer", "epoch").reset_index()
    return train, tests


def leads_by_epoch(records: Records, arm: str, rival: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """An arm's leads over a rival, by seed (rows) and epoch (columns), each at its best rate.

    The rival's training loss minus the arm's, in nats, and the arm's test accuracy minus the
    rival's, in points; no claim is about them.
    """
    loss, accuracy = (
        values.assign(seed=values["run_id"].map(records.runs.set_index("run_id")["seed"]))
        .set_index(["optimizer", "seed", "epoch"])["value"]
        .unstack("epoch")
        for values in _by_epoch(records)
    )
    return loss.loc[rival] - loss.loc[arm], accuracy.loc[arm] - accuracy.loc[rival]


def draw(records: Records) -> Figure:
    """Two panels: training loss, test accuracy; mean over seeds, band from lowest to highest."""
    arms = names(records.runs)
    train, tests = (
        values.assign(optimizer=values["optimizer"].map(arms)) for values in _by_epoch(records)
    )
    colours = style.colours(arms.values())
    figure, axes = style.panels(2)
    wanted = ((train, "training loss (nats)"), (tests, "test accuracy (%)"))
    for panel, (values, label) in zip(axes, wanted, strict=True):
        first = panel is axes[0]
        style.lines(panel, values, "epoch", "value", "optimizer", colours, legend=first)
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
    yours=yours,
    draw=draw,
    deviations=DEVIATIONS,
)
