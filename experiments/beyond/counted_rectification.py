"""What if RAdam rectified each parameter by its own count of gradients? An experiment.

Of the LSTM of Figure 4 the embeddings of rare words are the parameters that see few gradients; all
else is in every update, and rectified as by RAdam.
"""

from __future__ import annotations

import dataclasses

from experiments.artifact import Artifact
from experiments.paper import fig4
from experiments.paper._language import RADAM, leads
from experiments.verdict import Claim

COUNTED = dataclasses.replace(RADAM, name="radam-counted")

CLAIMS = (
    Claim(
        "counted-rectification.better",
        "Rectified by each parameter's own count, RAdam ends at a lower test perplexity",
        "not tried",
        leads("radam-counted", "radam"),
    ),
)


ARTIFACT = Artifact(
    id="counted-rectification",
    title="RAdam, each parameter rectified by its own count, language modelling",
    order=47,
    runs={scale: fig4.arms(base, scale, (RADAM, COUNTED)) for scale, base in fig4.BASES.items()},
    claims=CLAIMS,
    draw=fig4.draw,
    tabulate=fig4.tabulate,
    deviations=fig4.ARTIFACT.deviations,
)
