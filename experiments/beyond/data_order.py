"""Does Table 1's order of the optimizers hang on the order of the data?

Elsewhere a seed sets the initial weights and the order of the batches, with their crops and
reflections, together. Here the weights of a seed meet the batches of the next.
"""

from __future__ import annotations

import dataclasses

from experiments.artifact import Artifact, Deviation
from experiments.paper._cifar10 import BASES, DEVIATIONS, GRID_SEEDS, LEARNING_RATES
from experiments.paper._classifiers import ADAM, RADAM, SGD, lead, tabulate
from experiments.spec import Optim, Run, grid, with_other_batches
from experiments.verdict import Claim, Part

CHOSEN = tuple(
    dataclasses.replace(optim, lr=lr) for optim, lr in ((SGD, 0.1), (ADAM, 0.01), (RADAM, 0.1))
)
"""Each at the learning rate that validation chose in Table 1 at the cpu scale."""
ALL = tuple(
    dataclasses.replace(optim, lr=lr) for optim in (SGD, ADAM, RADAM) for lr in LEARNING_RATES
)
ARMS = {"smoke": CHOSEN, "cpu": CHOSEN, "paper": ALL}
"""At the paper scale no record has chosen yet, so that the runs themselves have to."""


def _runs(scale: str, arms: tuple[Optim, ...]) -> tuple[Run, ...]:
    """Every arm with the batches of the next seed; seed by seed."""
    base = with_other_batches(BASES[scale])
    return grid(base, seed=range(GRID_SEEDS[scale]), optim=arms)


CLAIMS = (
    Claim(
        "data-order.beats-adam",
        "On CIFAR-10, RAdam tests better than Adam also with the batches of other seeds",
        "not tried; 91.38 against 90.54 %",
        (
            Part(
                "RAdam's test accuracy minus Adam's, points",
                lambda records: lead(records, "radam", "adam"),
                above=0.0,
            ),
        ),
    ),
    Claim(
        "data-order.near-sgd",
        "On CIFAR-10, RAdam falls at most half a point short of SGD also with the batches of other "
        "seeds",
        "not tried; 91.38 against 91.51 %",
        (
            Part(
                "RAdam's test accuracy minus SGD's, points",
                lambda records: lead(records, "radam", "sgd"),
                above=-0.5,
            ),
        ),
    ),
)

NEXT = Deviation("data_seed_offset", "none", "ours goes past the paper: batches of the next seed")
_RATES = Deviation(
    "lr",
    "0.1, 0.03, 0.01, 0.003",
    "for each optimizer the one that validation chose in Table 1 at the cpu scale",
)

ARTIFACT = Artifact(
    id="data-order",
    title="Test accuracy with the batches of other seeds, CIFAR-10",
    order=59,
    runs={scale: _runs(scale, arms) for scale, arms in ARMS.items()},
    claims=CLAIMS,
    tabulate=tabulate,
    deviations={
        "paper": (*DEVIATIONS["paper"], NEXT),
        "cpu": (*DEVIATIONS["cpu"], NEXT, _RATES),
        "smoke": (*DEVIATIONS["smoke"], NEXT, _RATES),
    },
)
