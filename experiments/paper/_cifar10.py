"""The runs that the paper's CIFAR-10 artifacts share, and how they differ from the paper's.

Every arm has the same budget: the same learning rates, epochs, seeds and images.
"""

from __future__ import annotations

from experiments.artifact import Deviation
from experiments.paper._classifiers import ARMS, PRECISION
from experiments.spec import Run, Schedule, grid, options

LEARNING_RATES = (0.1, 0.03, 0.01, 0.003)


def decay(*epochs: int) -> tuple[Schedule, ...]:
    """The recipe's schedule: a tenth after each of some epochs."""
    return (Schedule("StepDecay", options(milestones=epochs, gamma=0.1), unit="epoch"),)


def cosine(epochs: int) -> tuple[Schedule, ...]:
    """Half a cosine, to zero at the end of so many epochs."""
    return (Schedule("CosineDecay", options(total=epochs), unit="epoch"),)


PAPER = Run(
    task="cifar10",
    schedule=decay(81, 122),
    epochs=164,
    batch_size=128,
    precision="bfloat16",
    settings=options(depth=20, train_images=45_000, validation_images=5_000, augment=True),
)
CPU = Run(
    task="cifar10",
    schedule=decay(8, 12),
    epochs=16,
    batch_size=128,
    precision="bfloat16",
    settings=options(depth=8, train_images=10_000, validation_images=2_000, augment=True),
)
SMOKE = Run(
    task="digits",
    schedule=decay(2, 3),
    epochs=4,
    batch_size=64,
    settings=options(depth=8, train_images=1_000, validation_images=200, augment=False),
)


BASES = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER}
SEEDS = {"smoke": 1, "cpu": 3, "paper": 5}
GRID_SEEDS = {"smoke": 1, "cpu": 5, "paper": 5}
"""Those of Table 1 and its like: three did not decide its order at the cpu scale."""


def updates(run: Run) -> int:
    """How many updates a run of an image classifier has."""
    images: int = run.setting("train_images")
    return run.epochs * -(-images // run.batch_size)


RUNS = {
    scale: grid(base, seed=range(GRID_SEEDS[scale]), optim=ARMS, lr=LEARNING_RATES)
    for scale, base in BASES.items()
}
"""Every arm at every learning rate; seed by seed, so that whole comparisons end first."""

_HELD_OUT = Deviation(
    "train_images",
    "50,000",
    "5,000 training images are held out, so that a learning rate is chosen on images that are "
    "neither trained on nor tested on; the authors' script selects on the test images",
)
_LAPTOP = "small enough for two cores to train the whole grid of Figure 6 with five seeds"
DEVIATIONS = {
    "paper": (_HELD_OUT, PRECISION),
    "cpu": (
        Deviation("depth", "20", _LAPTOP),
        Deviation("train_images", "50,000", _LAPTOP),
        Deviation("validation_images", "none", "a learning rate is chosen on images that are "
                  "neither trained on nor tested on"),
        Deviation("epochs", "164 (186 in the text)", _LAPTOP),
        Deviation("StepDecay.milestones", "81, 122", "the same shares of a shorter run"),
        PRECISION,
    ),
    "smoke": (
        Deviation("task", "cifar10", "data that is installed with the packages"),
        Deviation("depth", "20", "seconds instead of hours"),
        Deviation("train_images", "50,000", "what the data set has"),
        Deviation("validation_images", "none", "what the data set has"),
        Deviation("augment", "True", "a mirrored or shifted digit may be another digit"),
        Deviation("epochs", "164 (186 in the text)", "seconds instead of hours"),
        Deviation("StepDecay.milestones", "81, 122", "the same shares of a shorter run"),
        Deviation("batch_size", "128", "more than a handful of updates an epoch"),
    ),
}  # fmt: skip
