"""Who learns the rare words, and when, under a learning rate that falls along half a cosine?

A constant rate has to choose between noise at the end and speed at the beginning, and the noise of
large steps is that of rare words above all.
"""

from __future__ import annotations

from experiments.artifact import Artifact
from experiments.beyond.sparse_words import CPU, SMOKE, claims, draw, runs, tabulate
from experiments.paper._cifar10 import cosine

ARTIFACT = Artifact(
    id="sparse-words-decay",
    title="Who learns the rare words, and when, under cosine decay",
    order=43,
    runs={
        scale: runs(scale, cosine(base.epochs))
        for scale, base in {"smoke": SMOKE, "cpu": CPU}.items()
    },
    claims=claims("sparse-words-decay", ", under cosine decay"),
    draw=draw,
    tabulate=tabulate,
)
