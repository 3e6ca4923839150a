"""Theorem 1: the variance of the adaptive learning rate falls monotonically in rho."""

from __future__ import annotations

from experiments.artifact import Artifact, Deviation
from experiments.spec import Run, options
from experiments.verdict import Claim, Part

LOW, HIGH = 2.001, 1e8
"""The theorem speaks of rho > 4; the exact variance is finite, and still falls, from 2 on."""


def _grid(points: int) -> tuple[Run, ...]:
    settings = options(quantity="analytic", low=LOW, high=HIGH, points=points)
    return (Run(task="variance", settings=settings),)


CLAIMS = (
    Claim(
        "thm1.monotone",
        "The variance of the adaptive learning rate falls monotonically in rho",
        "proved for rho > 4",
        (
            Part(
                "largest relative step of Eq. 2 over a grid of rho from 2.001 to 1e8",
                lambda records: records.runs.set_index("seed")["largest_relative_step"],
                below=0.0,
                exact=True,
            ),
        ),
    ),
)

ARTIFACT = Artifact(
    id="thm1",
    title="Monotone decrease of the variance",
    order=90,
    runs={"smoke": _grid(200), "paper": _grid(20_000)},
    claims=CLAIMS,
    deviations={"smoke": (Deviation("points", "every rho > 4, by proof", "enough to try it"),)},
)
