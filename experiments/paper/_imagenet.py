"""The runs with ResNet-18 on ImageNet, and on smaller data sets that are laid out as it is."""

from __future__ import annotations

from collections.abc import Iterable

from experiments.paper._cifar10 import decay
from experiments.paper._classifiers import ARMS, leads
from experiments.spec import Run, grid, options

LEARNING_RATES = (0.1, 0.03, 0.01, 0.003, 0.001)

PAPER = Run(
    task="imagenet",
    schedule=decay(31, 61),
    epochs=90,
    batch_size=256,
    precision="bfloat16",
    settings=options(
        data="imagenet",
        classes=1_000,
        train_images=1_231_167,
        validation_images=50_000,
        side=224,
        in_memory=False,
        augment=True,
        width=64,
        stem="7x7",
    ),
)
SMOKE = Run(
    task="imagenet",
    schedule=decay(1, 2),
    epochs=3,
    batch_size=64,
    settings=options(
        data="digits",
        classes=10,
        train_images=1_000,
        validation_images=200,
        side=8,
        in_memory=True,
        augment=False,
        width=8,
        stem="3x3",
    ),
)


def arms(base: Run, seeds: int, rates: Iterable[float] = LEARNING_RATES) -> tuple[Run, ...]:
    """Every arm at every learning rate; seed by seed, so that whole comparisons end first."""
    return grid(base, seed=range(seeds), optim=ARMS, lr=rates)


BETWEEN = (*leads("radam", "adam"), *leads("sgd", "radam"))
"""What would have to be true for RAdam to test better than Adam and worse than SGD."""

SMOKE_RUNS = arms(SMOKE, 1, rates=(0.1, 0.01))
