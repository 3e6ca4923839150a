"""Figure 8: the exact variance (Eq. 2), its first-order approximation (Eq. 5), their difference."""

from __future__ import annotations

from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact, Deviation
from experiments.spec import Run, options
from experiments.verdict import Claim, Part, Records


def _grid(points: int) -> tuple[Run, ...]:
    settings = options(quantity="analytic", low=5.0, high=500.0, points=points)
    return (Run(task="variance", settings=settings),)


CLAIMS = (
    Claim(
        "fig8.overlap",
        "Eq. 5 is an accurate approximation of Eq. 2 for rho from 5 to 500",
        "by eye: the curves overlap",
        (
            Part(
                "share of rho from 5 to 500 with Eq. 5 within 10 % of Eq. 2",
                lambda records: records.runs.set_index("seed")["share_within_tenth"],
                above=0.9,
                exact=True,
            ),
            Part(
                "largest Eq. 5 / Eq. 2",
                lambda records: records.runs.set_index("seed")["largest_ratio"],
                below=1.1,
                exact=True,
            ),
        ),
    ),
    Claim(
        "fig8.hundredfold",
        "The variance at rho = 5 is over 100 times that at rho = 500",
        "over 100",
        (
            Part(
                "Eq. 2 at rho = 5 / Eq. 2 at rho = 500",
                lambda records: records.runs.set_index("seed")["fall"],
                above=100.0,
                exact=True,
            ),
        ),
    ),
)


def draw(records: Records) -> Figure:
    """The two curves and their difference; and their ratio, which the paper does not show."""
    wide = records.curves.pivot(index="step", columns="split", values="value")
    figure, (left, right) = style.panels(2)
    left.plot(wide["exact"], color=style.EXACT, label="Eq. 2, exact")
    left.plot(wide["first-order"], color=style.FIRST_ORDER, label="Eq. 5, first order")
    difference = (wide["first-order"] - wide["exact"]).abs()
    left.plot(difference, color=style.PLAIN, linestyle="--", label="absolute difference")
    left.set(xscale="log", yscale="log", xlabel="ρ", ylabel="variance of ψ, in units of τ²")
    left.legend()
    right.plot(wide["first-order"] / wide["exact"], color=style.FIRST_ORDER)
    right.axhline(1, color=style.PLAIN, linestyle="--")
    right.set(xscale="log", xlabel="ρ", ylabel="Eq. 5 / Eq. 2", ylim=(0, None))
    return figure


ARTIFACT = Artifact(
    id="fig8",
    title="Exact and first-order variance",
    order=80,
    runs={"smoke": _grid(50), "paper": _grid(5_000)},
    claims=CLAIMS,
    draw=draw,
    deviations={"smoke": (Deviation("points", "two curves", "enough to draw them"),)},
)
