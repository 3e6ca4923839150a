"""Table 1, ImageNet: test accuracy of SGD, Adam and RAdam, each at its best learning rate."""

from __future__ import annotations

from experiments.artifact import Artifact, Deviation
from experiments.paper._classifiers import PRECISION, tabulate, yours
from experiments.paper._imagenet import BETWEEN, PAPER, SMOKE_RUNS, arms
from experiments.verdict import Claim

CLAIMS = (
    Claim(
        "table1-imagenet.between",
        "On ImageNet, RAdam tests better than Adam and worse than SGD",
        "67.62 against 66.54 and 69.86 %",
        BETWEEN,
    ),
)


HELD_OUT = Deviation(
    "train_images",
    "1,281,167",
    "50,000 training images are held out, so that a learning rate is chosen on images that are "
    "neither trained on nor tested on",
)
DIGITS = (
    Deviation("data", "imagenet", "data that is installed with the packages"),
    Deviation("lr", "0.003 and 0.005 for RAdam", "seconds instead of hours"),
    Deviation("classes", "1,000", "what the data set has"),
    Deviation("train_images", "1,281,167", "what the data set has"),
    Deviation("validation_images", "none", "what the data set has"),
    Deviation("side", "224", "what the data set has"),
    Deviation("in_memory", "False", "small images fit"),
    Deviation("augment", "True", "a mirrored or shifted digit may be another digit"),
    Deviation("width", "64", "seconds instead of hours"),
    Deviation("stem", "7x7", "a stem of stride 4 would leave 2 x 2 pixels of such an image"),
    Deviation("epochs", "90", "seconds instead of hours"),
    Deviation("StepDecay.milestones", "31, 61", "the same shares of a shorter run"),
    Deviation("batch_size", "256", "more than a handful of updates an epoch"),
)

ARTIFACT = Artifact(
    id="table1-imagenet",
    title="Test accuracy, ImageNet",
    order=52,
    runs={"smoke": SMOKE_RUNS, "paper": arms(PAPER, 5)},
    claims=CLAIMS,
    yours=yours("table1-imagenet", "ImageNet"),
    tabulate=tabulate,
    deviations={"smoke": DIGITS, "paper": (HELD_OUT, PRECISION)},
)
