"""Does it matter for a result that runs are trained in bfloat16? The same runs in both precisions.

Of what makes a run fast, the precision alone changes the numbers by more than rounding in float32:
images on the device, augmentation in batches, channels last and CUDA graphs compute the same. So
the runs of this comparison have, seed by seed, the same initial weights and the same batches. The
other studies of image classifiers train in bfloat16 alone.

Two runs that differ by roundings drift apart like any two runs, only later: how far apart is
measured against two seeds in float32.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact
from experiments.paper._cifar10 import BASES, DEVIATIONS, SEEDS
from experiments.paper._classifiers import (
    ADAM,
    PRECISION,
    RADAM,
    SGD,
    cell,
    epochs,
    training_loss,
)
from experiments.spec import SCALES, grid
from experiments.verdict import LOST, Claim, Part, Records, counted, difference, diverged

PLAIN: Final = "float32"
FAST: Final = "bfloat16"
NAMES = {PLAIN: PLAIN, FAST: FAST}
ARMS = tuple(
    dataclasses.replace(optim, lr=lr) for optim, lr in ((SGD, 0.1), (ADAM, 0.01), (RADAM, 0.03))
)
"""Each at a learning rate of Figure 6 at which it does well."""


def by_epoch(records: Records, *keys: str) -> pd.Series:
    """The training loss of an epoch, in nats, by `keys` and epoch."""
    curves = records.curves.assign(epoch=np.ceil(epochs(records.curves)))
    return training_loss(curves, *keys, "epoch")


def curves_of(records: Records) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The training losses of the runs in float32, and of those in bfloat16; a column an epoch.

    One that diverged in float32 is no curve to be measured against, and so without a number; one in
    bfloat16 is as far from it as can be.
    """
    keys = ["precision", "optimizer", "seed"]
    curves = by_epoch(records.where(~diverged(records.runs)), *keys).unstack("epoch")
    curves = curves.reindex(pd.MultiIndex.from_frame(records.runs[keys]).sort_values())
    return curves.loc[PLAIN], curves.loc[FAST].fillna(LOST)


def _apart(records: Records) -> pd.Series:
    """How far the two precisions' curves lie apart, in distances of two seeds in float32, by seed.

    A distance is the mean over the epochs; the ratio is averaged over the optimizers.
    """
    plain, fast = curves_of(records)
    apart = (fast - plain).abs().mean(axis=1, skipna=False)
    noise = pd.Series({run: to_other_seeds(plain, *run) for run in plain.index})
    return (apart / noise).groupby("seed").mean(skipna=False)


def to_other_seeds(curves: pd.DataFrame, optimizer: str, seed: int) -> float:
    """The mean distance of an optimizer's curve from those of its other seeds."""
    of_arm = curves.loc[optimizer]
    return distance(of_arm.drop(seed), of_arm.loc[seed])


def distance(curves: pd.DataFrame, one: pd.Series) -> float:
    """The mean distance of some curves from one."""
    return float((curves - one).abs().stack().mean(skipna=False))


def _in_both(records: Records) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs in float32, and the same in bfloat16."""
    runs = records.runs.set_index(["precision", "optimizer", "seed"])
    return runs.loc[PLAIN], runs.loc[FAST]


def gain(records: Records) -> pd.Series:
    """Test accuracy in bfloat16 minus that in float32, in points, by seed; mean of the arms."""
    plain, fast = _in_both(records)
    return difference(fast, plain, "test_accuracy").groupby("seed").mean(skipna=False)


def leads(records: Records) -> pd.DataFrame:
    """RAdam's test accuracy minus Adam's, in points, by seed and precision; no claim is on it."""
    values = counted(records.runs).set_index(["optimizer", "seed", "precision"])["test_accuracy"]
    return (values[RADAM.name] - values[ADAM.name]).unstack("precision")


def _excess(records: Records) -> pd.Series:
    """By how many percent the last epoch's training loss is higher in bfloat16, likewise."""
    plain, fast = _in_both(records)
    ratio = counted(fast)["train_loss"] / counted(plain)["train_loss"]
    ratio = ratio.mask(diverged(fast) & diverged(plain))
    return (100 * (ratio - 1)).groupby("seed").mean(skipna=False)


CLAIMS = (
    Claim(
        "fast-path.curve",
        "A training curve in bfloat16 lies closer to that in float32 than that of another seed",
        "not tried",
        (
            Part(
                "distance of the precisions over that of two seeds, mean of three optimizers",
                _apart,
                below=1.0,
            ),
        ),
        of_pairs=True,
    ),
    Claim(
        "fast-path.accuracy",
        "bfloat16 changes the test accuracy by less than a point",
        "not tried",
        (
            Part(
                "test accuracy minus that in float32, points, mean of three optimizers",
                gain,
                above=-1.0,
                below=1.0,
            ),
        ),
    ),
    Claim(
        "fast-path.loss",
        "bfloat16 changes the final training loss by less than 2 %",
        "not tried",
        (
            Part(
                "training loss over that in float32, percent more, mean of three optimizers",
                _excess,
                above=-2.0,
                below=2.0,
            ),
        ),
    ),
)


def draw_pair(records: Records, names: Mapping[str, str]) -> Figure:
    """A panel an optimizer: training loss by epoch, in both precisions, by their names."""
    train = by_epoch(records, "run_id", "optimizer", "precision").reset_index()
    train["precision"] = train["precision"].map(names)
    colours = {names[PLAIN]: style.GREY, names[FAST]: style.PALETTE[0]}
    figure, axes = style.panels(len(ARMS), sharey=True)
    for panel, arm in zip(axes, ARMS, strict=True):
        of_arm = train[train["optimizer"] == arm.name]
        last = panel is axes[-1]
        style.lines(panel, of_arm, "epoch", "value", "precision", colours, legend=last)
        title = f"{style.name(arm.name)}, lr {arm.lr:g}"
        panel.set(title=title, xlabel="epoch", ylabel="training loss (nats)")
    axes[-1].legend(title=None)
    return figure


def tabulate_pair(records: Records, names: Mapping[str, str], heading: str) -> pd.DataFrame:
    """Test accuracy in percent, and final training loss in nats, by optimizer and precision."""
    runs = records.runs.groupby(["optimizer", "precision"])
    columns = {"test_accuracy": "test accuracy", "train_loss": "training loss"}
    rows = {
        (style.name(arm.name), name): {
            title: cell(runs.get_group((arm.name, precision)), column)
            for column, title in columns.items()
        }
        for arm in ARMS
        for precision, name in names.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["optimizer", heading])


ARTIFACT = Artifact(
    id="fast-path",
    title="Training in bfloat16 against float32, CIFAR-10",
    order=63,
    runs={
        scale: grid(BASES[scale], seed=range(SEEDS[scale]), precision=(PLAIN, FAST), optim=ARMS)
        for scale in SCALES
    },
    claims=CLAIMS,
    draw=functools.partial(draw_pair, names=NAMES),
    tabulate=functools.partial(tabulate_pair, names=NAMES, heading="precision"),
    deviations={**DEVIATIONS, "smoke": (*DEVIATIONS["smoke"], PRECISION)},
)
