"""Tiny-ImageNet-32 in place of ImageNet: Table 1's comparison at a hundredth of its cost."""

from __future__ import annotations

from experiments.artifact import Artifact, Deviation
from experiments.paper._cifar10 import decay
from experiments.paper._classifiers import PRECISION, draw_accuracy, tabulate, yours
from experiments.paper._imagenet import BETWEEN, LEARNING_RATES, PAPER, SMOKE_RUNS, arms
from experiments.paper.table1_imagenet import DIGITS
from experiments.spec import varied
from experiments.verdict import Claim

WHOLE = varied(
    PAPER,
    data="tiny-imagenet-32",
    side=32,
    in_memory=True,
    classes=200,
    train_images=90_000,
    validation_images=10_000,
    stem="3x3",
)
CPU = varied(
    WHOLE,
    schedule=decay(5, 10),
    epochs=15,
    classes=50,
    train_images=22_500,
    validation_images=2_500,
    width=16,
    stem="3x3/2",
)

CLAIMS = (
    Claim(
        "tiny-imagenet-32.between",
        "On Tiny-ImageNet-32, in place of ImageNet, RAdam tests better than Adam and worse "
        "than SGD",
        "on ImageNet 67.62 against 66.54 and 69.86 %",
        BETWEEN,
    ),
)


STAND_IN = (
    PRECISION,
    Deviation("data", "imagenet", "images at 32 x 32 pixels of 200 of ImageNet's classes, which "
              "can be had and trained on where ImageNet cannot"),
    Deviation("side", "224", "what the data set has"),
    Deviation("in_memory", "False", "small images fit; a training image is then one of 32 x 32 "
              "pixels of the image padded by 4, in place of a random part of it"),
)  # fmt: skip
LAPTOP = "three to four minutes of one core a run"
RATES = (0.3, *LEARNING_RATES)
"""At the cpu scale; SGD did best at the end of the paper's."""

ARTIFACT = Artifact(
    id="tiny-imagenet-32",
    title="Test accuracy, Tiny-ImageNet-32 in place of ImageNet",
    order=52,
    runs={"smoke": SMOKE_RUNS, "cpu": arms(CPU, 3, RATES), "paper": arms(WHOLE, 5)},
    claims=CLAIMS,
    yours=yours("tiny-imagenet-32", "Tiny-ImageNet-32"),
    draw=draw_accuracy,
    tabulate=tabulate,
    deviations={
        "smoke": DIGITS,
        "cpu": (
            *STAND_IN,
            Deviation("classes", "1,000", LAPTOP),
            Deviation("train_images", "1,281,167", LAPTOP),
            Deviation("validation_images", "none", "a learning rate is chosen on images that are "
                      "neither trained on nor tested on"),
            Deviation("width", "64", LAPTOP),
            Deviation("stem", "7x7", "of 32 x 32 pixels, one convolution of stride 2 leaves what "
                      "the paper's stem leaves of 64 x 64"),
            Deviation("epochs", "90", LAPTOP),
            Deviation("StepDecay.milestones", "31, 61", "the same shares of a shorter run"),
            Deviation("lr", "0.1, 0.03, 0.01, 0.003, 0.001", "one more for all optimizers, since "
                      "SGD did best at the end of these"),
        ),
        "paper": (
            *STAND_IN,
            Deviation("classes", "1,000", "what the data set has"),
            Deviation("train_images", "1,281,167", "what the data set has"),
            Deviation("validation_images", "none", "a learning rate is chosen on images that are "
                      "neither trained on nor tested on"),
            Deviation("stem", "7x7", "a 3x3 convolution of stride 1 and no pooling: the paper's "
                      "stem would leave 8 x 8 of 32 x 32 pixels"),
        ),
    },
)  # fmt: skip
