"""What if RAdam rectified each parameter by its own count of gradients? An experiment.

Of the LSTM of Figure 4 the embeddings and the clusters of rare words are the parameters that see
few gradients; all else is in every update, and rectified as RAdam does.
"""

from __future__ import annotations

import dataclasses

import pandas as pd
from matplotlib.figure import Figure

from experiments.artifact import Artifact
from experiments.paper import fig4
from experiments.paper._language import (
    PAPERS_RATE,
    RADAM,
    draw_perplexity,
    leads,
    names,
    tabulate_perplexity,
)
from experiments.spec import grid
from experiments.verdict import Claim, Records

COUNTED = dataclasses.replace(RADAM, name="radam-counted")

CLAIMS = (
    Claim(
        "counted-rectification.better",
        "Rectified by each parameter's own count, RAdam ends at a lower test perplexity",
        "not tried",
        leads("radam-counted", "radam"),
    ),
)


def draw(records: Records) -> Figure:
    """Train perplexity by update and test perplexity by epoch, at the paper's learning rate."""
    return draw_perplexity(records, names(records.runs), PAPERS_RATE)


def tabulate(records: Records) -> pd.DataFrame:
    """Final test perplexity by optimizer and learning rate."""
    return tabulate_perplexity(records, names(records.runs))


ARTIFACT = Artifact(
    id="counted-rectification",
    title="RAdam, each parameter rectified by its own count, language modelling",
    order=47,
    runs={
        scale: grid(
            base,
            seed=range(fig4.SEEDS[scale]),
            optim=(RADAM, COUNTED),
            lr=fig4.LEARNING_RATES[scale],
        )
        for scale, base in fig4.BASES.items()
    },
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations=fig4.ARTIFACT.deviations,
)
