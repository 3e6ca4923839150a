"""Figure 3: histograms of log |gradient| by update, Adam-2k, RAdam and Adam-eps.

Below them the same for the changes of the weights, of which the paper has no figure.
"""

from __future__ import annotations

import functools

import pandas as pd
from matplotlib.figure import Figure

from experiments.artifact import Artifact
from experiments.paper import _histograms
from experiments.paper._translation import DELAYED, DEVIATIONS, EPS, RADAM, RUNS
from experiments.paper.fig2 import HALF_A_DECADE
from experiments.verdict import Claim, Part, Records

SHOWN = (DELAYED, RADAM, EPS)

CLAIMS = (
    Claim(
        "fig3.undistorted",
        "With Adam-2k, RAdam or Adam-eps the gradients keep their distribution",
        "by eye",
        tuple(
            Part(
                f"distance of the gradients' distributions at updates 10 and 1, decades, {arm}",
                functools.partial(_histograms.distance, arm=arm, quantity="gradient"),
                below=HALF_A_DECADE,
            )
            for arm in SHOWN
        ),
    ),
)


def draw(records: Records) -> Figure:
    """Ridges of the three arms."""
    return _histograms.draw(records, SHOWN)


def tabulate(records: Records) -> pd.DataFrame:
    """Means and distances of the three arms."""
    return _histograms.tabulate(records, SHOWN)


ARTIFACT = Artifact(
    id="fig3",
    title="Gradient histograms, Adam-2k, RAdam and Adam-eps",
    order=13,
    runs=RUNS,
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations=DEVIATIONS,
)
