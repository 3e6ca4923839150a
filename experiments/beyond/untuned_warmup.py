"""Warmups that need no tuning either, on Adam, against RAdam (Ma & Yarats 2021).

Three of them: linear over 2 / (1 - beta2) updates, exponential with the time constant
1 / (1 - beta2), and RAdam's own r_t, which on Adam is RAdam without its first updates of momentum
SGD.
"""

from __future__ import annotations

import pandas as pd

from experiments.artifact import Artifact
from experiments.paper._cifar10 import BASES, DEVIATIONS, updates
from experiments.paper._classifiers import ADAM, lead
from experiments.paper._warmup import against_radam, by_warmup, deviations, draw, tabulate
from experiments.spec import SCALES, Schedule, options
from experiments.verdict import Claim, Part, Records

_, BETA2 = dict(ADAM.options)["betas"]
WARMUPS = tuple(
    Schedule(name, options(beta2=BETA2))
    for name in ("UntunedLinearWarmup", "UntunedExponentialWarmup", "RectifiedWarmup")
)


def _lead(records: Records, arm: str) -> pd.Series:
    """An arm's test accuracy minus RAdam's, in points, by seed; each at its best learning rate."""
    return lead(by_warmup(records), arm, "radam")


CLAIMS = (
    Claim(
        "untuned-warmup.linear",
        "Adam with untuned linear warmup falls at most half a point short of RAdam",
        "not tried; Ma & Yarats (2021): as good",
        (
            Part(
                "its test accuracy minus RAdam's, points",
                lambda records: _lead(records, "adam, untuned linear"),
                above=-0.5,
            ),
        ),
    ),
    Claim(
        "untuned-warmup.exponential",
        "Adam with untuned exponential warmup falls at most half a point short of RAdam",
        "not tried; Ma & Yarats (2021): as good",
        (
            Part(
                "its test accuracy minus RAdam's, points",
                lambda records: _lead(records, "adam, untuned exponential"),
                above=-0.5,
            ),
        ),
    ),
    Claim(
        "untuned-warmup.rectified",
        "RAdam's rectification as a warmup for Adam, without momentum SGD in the first updates, "
        "tests within half a point of RAdam",
        "not tried",
        (
            Part(
                "its test accuracy minus RAdam's, points",
                lambda records: _lead(records, "adam, rectified warmup"),
                above=-0.5,
                below=0.5,
            ),
        ),
    ),
)


ARTIFACT = Artifact(
    id="untuned-warmup",
    title="Warmups without tuning against RAdam, CIFAR-10",
    order=70,
    runs={scale: against_radam(scale, WARMUPS) for scale in SCALES},
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations={
        "paper": DEVIATIONS["paper"],
        "cpu": deviations(
            "cpu",
            "the linear warmup, of 2,000 updates, ends after the run, as RAdam's rectification "
            "does: no warmup of this kind reaches the full learning rate in "
            f"{updates(BASES['cpu']):,} updates",
        ),
        "smoke": DEVIATIONS["smoke"],
    },
)
