"""Adam averages exponentially, the paper's model simply: what that does to the variance.

The paper replaces the exponential moving average of squares by a simple one of length rho_t, the
one with the same centre of mass. The variance under the true weights is an integral, so that both
can be compared without simulation.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import OURS, Artifact, Deviation
from experiments.spec import Run, options
from experiments.verdict import Claim, Part, Records


def _updates(points: int) -> tuple[Run, ...]:
    settings = options(quantity="moving-average", beta2=0.999, first=5, steps=6_000, points=points)
    return (Run(task="variance", settings=settings),)


CLAIMS = (
    Claim(
        "moving-average.length",
        "A simple average of length rho_t has the variance of Adam's exponential average",
        "an approximation, by the centre of mass",
        (
            Part(
                "share of updates 5 to 6000 with Eq. 2 at rho_t within 10 % of the true variance",
                lambda records: records.runs.set_index("seed")["exact_share_within_tenth"],
                above=0.9,
                exact=True,
            ),
            Part(
                "largest Eq. 2 at rho_t / true variance",
                lambda records: records.runs.set_index("seed")["exact_largest_ratio"],
                below=1.1,
                exact=True,
            ),
        ),
    ),
)


def draw(records: Records) -> Figure:
    """The variance by update; and how far the formulas are off."""
    wide = records.curves.pivot(index="step", columns="split", values="value")
    figure, (left, right) = style.panels(2)
    left.plot(wide["true"], color=style.PLAIN)
    left.set(xscale="log", yscale="log", xlabel="update t", ylabel="variance of ψ")
    for split, label, color, line in (
        ("first-order", "Eq. 5 at ρ", style.FIRST_ORDER, "-"),
        ("exact", "Eq. 2 at ρ", style.EXACT, "-"),
        ("matched", "Eq. 2 at n", style.EXACT, "--"),
    ):
        right.plot(wide[split], label=label, color=color, linestyle=line)
    right.axhline(1, color=style.PLAIN, linestyle=":")
    right.set(xscale="log", xlabel="update t", ylabel="formula / true variance", ylim=(0.9, 1.5))
    right.legend()
    return figure


ARTIFACT = Artifact(
    id="moving-average",
    title="The simple average in place of the exponential one",
    order=82,
    runs={"smoke": _updates(20), "paper": _updates(400)},
    claims=CLAIMS,
    draw=draw,
    deviations={"smoke": (Deviation("points", OURS, "seconds"),)},
)
