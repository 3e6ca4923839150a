"""Figure 2: histograms of log |gradient| by update, Adam with and without warmup.

Below them the same for the changes of the weights, of which the paper has no figure.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from experiments.artifact import Artifact
from experiments.paper import _histograms
from experiments.paper._translation import ARMS, DEVIATIONS, RUNS, VANILLA, WARMUP
from experiments.verdict import Claim, Part, Records

HALF_A_DECADE = 0.5
"""A factor of three: what the eye takes for another distribution on a scale of ten decades."""

CLAIMS = (
    Claim(
        "fig2.distorted",
        "Without warmup the gradients shrink to tiny values within 10 updates; with "
        "warmup they do not",
        "by eye",
        (
            Part(
                "without warmup, fall of the mean log10 of gradients from update 1 to 10, decades",
                lambda records: _histograms.fall(records, VANILLA, "gradient"),
                above=HALF_A_DECADE,
            ),
            Part(
                "the same with warmup, decades",
                lambda records: _histograms.fall(records, WARMUP, "gradient"),
                below=HALF_A_DECADE,
            ),
        ),
    ),
)


def draw(records: Records) -> Figure:
    """Ridges of the two arms."""
    return _histograms.draw(records, (VANILLA, WARMUP))


def tabulate(records: Records) -> pd.DataFrame:
    """Means and distances of the two arms."""
    return _histograms.tabulate(records, (VANILLA, WARMUP))


def sizes(records: Records) -> pd.DataFrame:
    """By arm of Figure 1: what the two explanations look at, in decades, means over seeds.

    Columns are "smaller", by how much the first changes are smaller than plain Adam's, and
    "distorted", the distance of the gradients' distributions at updates 10 and 1.
    """
    rows = {
        arm: {
            "changes": _histograms.first(records, arm, "update").mean(),
            "distorted": _histograms.distance(records, arm, "gradient").mean(),
        }
        for arm in ARMS
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.assign(smaller=table["changes"][VANILLA] - table["changes"])


ARTIFACT = Artifact(
    id="fig2",
    title="Gradient histograms, Adam with and without warmup",
    order=12,
    runs=RUNS,
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations=DEVIATIONS,
)
