"""What the paper's CIFAR-10 artifacts share: the arms, the runs, and how a number is read off.

Every arm has the same budget: the same learning rates, epochs, seeds and images.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Deviation
from experiments.spec import Optim, Run, Schedule, grid, options
from experiments.verdict import Records

LEARNING_RATES = (0.1, 0.03, 0.01, 0.003)
SGD = Optim("sgd", lr=0.1, weight_decay=1e-4, options=options(momentum=0.9))
ADAM = Optim("adam", lr=0.1, weight_decay=1e-4, options=options(betas=(0.9, 0.999)))
RADAM = Optim("radam", lr=0.1, weight_decay=1e-4, options=options(betas=(0.9, 0.999)))
ARMS = (SGD, ADAM, RADAM)


def _decay(*epochs: int) -> tuple[Schedule, ...]:
    return (Schedule("StepDecay", options(milestones=epochs, gamma=0.1), unit="epoch"),)


PAPER = Run(
    task="cifar10",
    schedule=_decay(81, 122),
    epochs=164,
    batch_size=128,
    settings=options(depth=20, train_images=45_000, validation_images=5_000, augment=True),
)
CPU = Run(
    task="cifar10",
    schedule=_decay(8, 12),
    epochs=16,
    batch_size=128,
    precision="bfloat16",
    settings=options(depth=8, train_images=10_000, validation_images=2_000, augment=True),
)
SMOKE = Run(
    task="digits",
    schedule=_decay(2, 3),
    epochs=4,
    batch_size=64,
    settings=options(depth=8, train_images=1_000, validation_images=200, augment=False),
)


BASES = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER}
SEEDS = {"smoke": 1, "cpu": 3, "paper": 5}
RUNS = {
    scale: grid(base, seed=range(SEEDS[scale]), optim=ARMS, lr=LEARNING_RATES)
    for scale, base in BASES.items()
}
"""Every arm at every learning rate; seed by seed, so that whole comparisons end first."""

_HELD_OUT = Deviation(
    "train_images",
    "50,000",
    "5,000 training images are held out, so that a learning rate is chosen on images that are "
    "neither trained on nor tested on; the authors' script selects on the test images",
)
_LAPTOP = "two cores train the whole grid with three seeds within ninety minutes"
DEVIATIONS = {
    "paper": (_HELD_OUT,),
    "cpu": (
        Deviation("depth", "20", _LAPTOP),
        Deviation("train_images", "50,000", _LAPTOP),
        Deviation("validation_images", "none", "a learning rate is chosen on images that are "
                  "neither trained on nor tested on"),
        Deviation("epochs", "164 (186 in the text)", _LAPTOP),
        Deviation("StepDecay.milestones", "81, 122", "the same shares of a shorter run"),
        Deviation("precision", "float32", "bfloat16 arithmetic is faster; weights, state "
                  "and update stay in float32"),
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


def best_lr(runs: pd.DataFrame, optimizer: str) -> float:
    """The learning rate with the highest mean validation accuracy over the seeds."""
    arm = runs[runs["optimizer"] == optimizer]
    return float(arm.groupby("lr")["validation_accuracy"].mean().idxmax())


def at_best_lr(runs: pd.DataFrame, optimizer: str) -> pd.DataFrame:
    """An optimizer's runs at its best learning rate, by seed."""
    chosen = (runs["optimizer"] == optimizer) & (runs["lr"] == best_lr(runs, optimizer))
    return runs[chosen].set_index("seed")


def spread(runs: pd.DataFrame, optimizer: str) -> pd.Series:
    """Highest minus lowest test accuracy over the learning rates, in points, by seed."""
    accuracy = runs[runs["optimizer"] == optimizer].groupby("seed")["test_accuracy"]
    return accuracy.max() - accuracy.min()


def epochs(curves: pd.DataFrame) -> pd.Series:
    """The epoch of every point of the curves; an epoch's last update completes it."""
    updates = curves.groupby("run_id")["step"].transform("max") / curves["epochs"]
    return curves["step"] / updates


def draw_accuracy(records: Records, arms: Mapping[str, str], columns: int) -> Figure:
    """A panel an arm, test accuracy by epoch: mean over seeds, band from lowest to highest.

    `arms` has the title of each panel for each value of the column "optimizer".
    """
    curves = records.curves
    tests = curves[(curves["split"] == "test") & (curves["metric"] == "accuracy")]
    tests = tests.assign(epoch=epochs(tests))
    rates = sorted(tests["lr"].unique(), reverse=True)
    rows = -(-len(arms) // columns)
    figure, axes = style.panels(columns, sharey=True, rows=rows)
    for surplus in axes[len(arms) :]:
        surplus.remove()
    axes = axes[: len(arms)]
    for panel, (arm, title) in zip(axes, arms.items(), strict=True):
        sns.lineplot(
            tests[tests["optimizer"] == arm],
            x="epoch",
            y="value",
            hue=tests["lr"].map("{:g}".format),
            hue_order=[f"{rate:g}" for rate in rates],
            palette=style.SEQUENCE,
            errorbar=lambda values: (values.min(), values.max()),
            legend="full" if panel is axes[-1] else False,
            ax=panel,
        )
        panel.set(title=title, xlabel="epoch", ylabel="test accuracy (%)")
    axes[-1].legend(title="learning rate", loc="lower right")
    return figure


def tabulate_accuracy(records: Records, arms: Mapping[str, str]) -> pd.DataFrame:
    """Test accuracy in percent by arm and learning rate: mean and standard deviation over seeds.

    A second row for every arm reports as the authors do: the best test accuracy over the epochs.
    """
    runs = with_best_epoch(records)
    runs = runs.rename(columns={"test_accuracy": "last epoch", "best_epoch": "best epoch"})
    long = runs.melt(["optimizer", "lr"], ["last epoch", "best epoch"], "test accuracy")
    cells = long.groupby(["optimizer", "test accuracy", "lr"])["value"].agg(["mean", "std"])
    text = cells.apply(lambda cell: style.mean_and_deviation(cell["mean"], cell["std"]), axis=1)
    order = [(arm, which) for arm in arms for which in ("last epoch", "best epoch")]
    return text.unstack("lr").loc[order].rename(arms, level="optimizer")


def with_best_epoch(records: Records) -> pd.DataFrame:
    """The runs, with the best test accuracy over the epochs: what the authors' script reports."""
    curves = records.curves
    tests = curves[(curves["split"] == "test") & (curves["metric"] == "accuracy")]
    return records.runs.join(tests.groupby("run_id")["value"].max().rename("best_epoch"), "run_id")
