"""Figure 3 at the paper's learning rate: is Adam-2k distorted in ours because the rate is higher?

Figure 3 compares updates 1 and 10, so that short runs show it: those of the grid of learning rates
have three of the arms, and here are the two others. At the paper scale Figure 3 has that rate.
"""

from __future__ import annotations

import functools

import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact, Deviation
from experiments.beyond.warmup_phases import GRID, short
from experiments.paper import _histograms
from experiments.paper._classifiers import cell
from experiments.paper._translation import (
    ARMS,
    DELAYED,
    DEVIATIONS,
    EPS,
    PAPER,
    SEEDS,
    VANILLA,
    arm,
    by_arm,
)
from experiments.paper.fig1 import LEARNS, learnt
from experiments.paper.fig2 import HALF_A_DECADE
from experiments.spec import varied
from experiments.verdict import Claim, Part, Records

CONTROLS = (DELAYED, EPS)
RATES = {"smoke": 0.003, "cpu": PAPER.axes()["lr"]}


def _moved(records: Records, name: str) -> pd.Series:
    """How far an arm's gradients are at update 10 from where they were at 1, decades, by seed."""
    return _histograms.distance(records, name, "gradient")


def _less(records: Records, name: str) -> pd.Series:
    return _moved(records, VANILLA) - _moved(records, name)


def _above(records: Records) -> pd.Series:
    """Adam-eps's final training loss minus Adam-2k's, nats, by seed."""
    runs = by_arm(records).runs
    return learnt(runs, DELAYED) - learnt(runs, EPS)


CLAIMS = (
    Claim(
        "controls-rate.undistorted",
        "At the paper's learning rate the gradients keep their distribution with Adam-2k and "
        "with Adam-eps",
        "by eye",
        tuple(
            Part(
                f"distance of the gradients' distributions at updates 10 and 1, decades, {name}",
                functools.partial(_moved, name=name),
                below=HALF_A_DECADE,
            )
            for name in CONTROLS
        ),
    ),
    Claim(
        "controls-rate.less",
        "At that rate they move less with each of the two than with plain Adam",
        "by eye",
        tuple(
            Part(
                f"that distance for Adam without warmup minus that for {name}, decades",
                functools.partial(_less, name=name),
                above=0.0,
            )
            for name in CONTROLS
        ),
    ),
    Claim(
        "controls-rate.order",
        "At that rate Adam-eps ends above Adam-2k, in runs half as long as Figure 1's",
        "by eye: Adam-eps clearly above Adam-2k",
        (Part("Adam-eps's final training loss minus Adam-2k's, nats", _above, above=0.0),),
        given=(
            Part(
                "Adam-2k: final training loss below that of token frequencies alone, nats",
                lambda records: learnt(by_arm(records).runs, DELAYED),
                above=LEARNS,
            ),
        ),
    ),
)


def draw(records: Records) -> Figure:
    """Ridges of Adam without warmup and of the two controls."""
    return _histograms.draw(records, (VANILLA, *CONTROLS))


def tabulate(records: Records) -> pd.DataFrame:
    """By arm: how far the gradients move and where training ends, mean and deviation over seeds."""
    runs = by_arm(records).runs
    rows = {}
    for name in ARMS:
        apart = _moved(records, name)
        rows[name] = {
            "gradients moved, decades": style.mean_and_deviation(apart.mean(), apart.std()),
            "training loss, nats": cell(runs[runs["arm"] == name], "train_loss"),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("optimizer")


_HERE = GRID | {"probes": Deviation("probes", "1 to 100, and up to 70,000", "those compared")}

ARTIFACT = Artifact(
    id="controls-rate",
    title="Adam-2k and Adam-eps at the paper's learning rate, German-English",
    order=12,
    runs={
        scale: tuple(
            arm(scale, name, seed, varied(short(scale), lr=rate))
            for seed in range(SEEDS[scale])
            for name in ARMS
        )
        for scale, rate in RATES.items()
    },
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations={
        "smoke": DEVIATIONS["smoke"],
        "cpu": tuple(_HERE.get(one.axis, one) for one in DEVIATIONS["cpu"] if one.axis != "lr"),
    },
)
