"""A second text for the small GPT-2s: does RAdam replace their warmup on the addresses, too?"""

from __future__ import annotations

from experiments.artifact import Artifact
from experiments.beyond import gpt2
from experiments.paper._cifar10 import cosine
from experiments.spec import varied

CPU = varied(gpt2.CPU, schedule=cosine(1), epochs=1, corpus="sotu", train_tokens=0)
"""Twice the text once: about as many updates as on WikiText-2."""
BASES = {"smoke": gpt2.SMOKE, "cpu": CPU}

ARTIFACT = Artifact(
    id="gpt2-state-of-the-union",
    title="Warmup against RAdam on small GPT-2-style models, State of the Union addresses",
    order=45,
    runs={scale: gpt2.arms(base, scale) for scale, base in BASES.items()},
    claims=gpt2.claims("gpt2-state-of-the-union", ", on the State of the Union addresses"),
    draw=gpt2.draw,
    tabulate=gpt2.tabulate,
)
