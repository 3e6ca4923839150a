"""The State of the Union addresses as a second text: the small LSTM of Figure 4 on all of them."""

from __future__ import annotations

from experiments.artifact import Artifact, Deviation
from experiments.paper import fig4
from experiments.paper._cifar10 import decay
from experiments.paper._language import CPU, lags, leads, yours
from experiments.spec import varied
from experiments.verdict import Claim

WHOLE = varied(CPU, schedule=decay(2), epochs=3, corpus="sotu", train_tokens=0)
"""Twice the text half as often: about as many updates as on WikiText-2."""

CLAIMS = (
    Claim(
        "state-of-the-union.ends-lower",
        "On the State of the Union addresses, too, RAdam ends at a lower test perplexity than Adam",
        "on One Billion Word 35.70 against 36.92",
        leads("radam", "adam"),
    ),
    Claim(
        "state-of-the-union.starts-slower",
        "On the State of the Union addresses, too, RAdam is slower at first: after one epoch its "
        "test perplexity is above Adam's",
        "on One Billion Word, by eye",
        lags("radam", "adam"),
    ),
)


_SAME = [
    one for one in fig4.ARTIFACT.deviations["cpu"] if one.axis not in ("corpus", "train_tokens")
]
ARTIFACT = Artifact(
    id="state-of-the-union",
    title="Language modelling, State of the Union addresses",
    order=42,
    runs={"smoke": fig4.ARTIFACT.at("smoke"), "cpu": fig4.arms(WHOLE, "cpu")},
    claims=CLAIMS,
    yours=yours("state-of-the-union", " on the State of the Union addresses"),
    draw=fig4.draw,
    tabulate=fig4.tabulate,
    deviations={
        "smoke": fig4.ARTIFACT.deviations["smoke"],
        "cpu": (Deviation("corpus", "lm1b", "a second text, which a package brings along"), *_SAME),
    },
)
