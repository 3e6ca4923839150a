"""Figure 6: test accuracy by epoch at four learning rates, for SGD, Adam and RAdam."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Artifact
from experiments.paper._cifar10 import ARMS, DEVIATIONS, LEARNING_RATES, RUNS, epochs, spread
from experiments.verdict import Claim, Part, Records

CLAIMS = (
    Claim(
        "fig6.robust",
        "RAdam is less sensitive to the learning rate than Adam and SGD",
        "by eye: RAdam's four curves lie close together, the others' spread",
        (
            Part(
                "Adam's spread of test accuracy minus RAdam's, points",
                lambda records: spread(records.runs, "adam") - spread(records.runs, "radam"),
                above=0.0,
            ),
            Part(
                "SGD's minus RAdam's, points",
                lambda records: spread(records.runs, "sgd") - spread(records.runs, "radam"),
                above=0.0,
            ),
        ),
    ),
    Claim(
        "fig6.overlap",
        "RAdam ends at nearly the same accuracy for every learning rate from 0.003 to 0.1",
        "by eye: the four curves overlap",
        (
            Part(
                "RAdam's spread of test accuracy, points",
                lambda records: spread(records.runs, "radam"),
                below=2.0,
            ),
        ),
    ),
)


def draw(records: Records) -> Figure:
    """Three panels, one an optimizer: mean over seeds, the band from the lowest to the highest."""
    curves = records.curves
    tests = curves[(curves["split"] == "test") & (curves["metric"] == "accuracy")]
    tests = tests.assign(epoch=epochs(tests))
    figure, axes = style.panels(len(ARMS), sharey=True)
    for panel, arm in zip(axes, ARMS, strict=True):
        sns.lineplot(
            tests[tests["optimizer"] == arm.name],
            x="epoch",
            y="value",
            hue=tests["lr"].map("{:g}".format),
            hue_order=[f"{lr:g}" for lr in LEARNING_RATES],
            palette=style.SEQUENCE,
            errorbar=lambda values: (values.min(), values.max()),
            legend="full" if panel is axes[-1] else False,
            ax=panel,
        )
        panel.set(title=style.NAMES[arm.name], xlabel="epoch", ylabel="test accuracy (%)")
    axes[-1].legend(title="learning rate", loc="lower right")
    return figure


def tabulate(records: Records) -> pd.DataFrame:
    """Test accuracy in percent by optimizer and learning rate: mean and standard deviation."""
    runs = records.runs.assign(optimizer=records.runs["optimizer"].map(style.NAMES))
    cells = runs.groupby(["optimizer", "lr"])["test_accuracy"].agg(["mean", "std"])
    text = cells.apply(lambda cell: style.mean_and_deviation(cell["mean"], cell["std"]), axis=1)
    return text.unstack("lr").loc[[style.NAMES[arm.name] for arm in ARMS]]


ARTIFACT = Artifact(
    id="fig6",
    title="Robustness to the learning rate, CIFAR-10",
    order=60,
    runs=RUNS,
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations=DEVIATIONS,
)
