"""What the studies of image classifiers share: the arms, and how a number is read off the records.

Here an arm is a value of the column "optimizer". A run that diverged has classified nothing, so
that no arm does better by failing at a learning rate.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping

import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import Deviation
from experiments.spec import Optim, options
from experiments.verdict import (
    TIE,
    Claim,
    Part,
    Records,
    counted,
    curve,
    difference,
    voters,
    with_best_epoch,
)

SGD = Optim("sgd", lr=0.1, weight_decay=1e-4, options=options(momentum=0.9))
ADAM = Optim("adam", lr=0.1, weight_decay=1e-4, options=options(betas=(0.9, 0.999)))
RADAM = Optim("radam", lr=0.1, weight_decay=1e-4, options=options(betas=(0.9, 0.999)))
ARMS = (SGD, ADAM, RADAM)
EPOCHS = {"test_accuracy": "last epoch", "best_epoch": "best epoch"}
PRECISION = Deviation(
    "precision",
    "float32",
    "bfloat16 arithmetic is faster where the device has it; weights, state and update stay in "
    "float32, and what it changes is measured: see fast-path",
)


def names(runs: pd.DataFrame) -> dict[str, str]:
    """The arms that have runs, with the name of each for readers: the paper's, then others."""
    paper = [arm.name for arm in ARMS]
    others = sorted(set(runs["optimizer"]) - set(paper))
    return {arm: style.name(arm) for arm in [*paper, *others] if arm in set(runs["optimizer"])}


def of_arm(runs: pd.DataFrame, arm: str) -> pd.DataFrame:
    """An arm's runs, as they count."""
    return counted(runs[runs["optimizer"] == arm])


def best_lr(runs: pd.DataFrame, arm: str) -> float:
    """The learning rate with the highest mean validation accuracy over the seeds."""
    chosen = of_arm(voters(runs), arm)
    return float(chosen.groupby("lr")["validation_accuracy"].mean().round(TIE).idxmax())


def at_best_lr(runs: pd.DataFrame, arm: str) -> pd.DataFrame:
    """An arm's runs at its best learning rate, by seed."""
    chosen = of_arm(runs, arm)
    return chosen[chosen["lr"] == best_lr(runs, arm)].set_index("seed")


def lead(records: Records, arm: str, rival: str) -> pd.Series:
    """An arm's test accuracy minus a rival's, in points, by seed, each at its best rate."""
    one, other = (at_best_lr(records.runs, name) for name in (arm, rival))
    return difference(one, other, "test_accuracy")


def spread(runs: pd.DataFrame, arm: str) -> pd.Series:
    """Highest minus lowest test accuracy over the learning rates, in points, by seed.

    A seed of an arm that diverged at every learning rate has none: 0 would be the best there is.
    """
    accuracy = of_arm(runs, arm).groupby("seed")["test_accuracy"]
    return (accuracy.max() - accuracy.min()).where(accuracy.max() > 0)


def narrower(records: Records, arm: str, rival: str) -> pd.Series:
    """A rival's spread of test accuracy minus an arm's, in points, by seed."""
    return spread(records.runs, rival) - spread(records.runs, arm)


def against(artifact: str, arm: str, text: str, parts: Iterable[Part]) -> tuple[Claim, ...]:
    """The one claim about an optimizer that is not the paper's, by the rules of the paper's."""
    return (Claim(f"{artifact}.yours", f"{style.name(arm)} {text}", "", tuple(parts)),)


def leads(arm: str, *rivals: str, above: float = 0.0) -> list[Part]:
    """The parts that say an arm leads each rival."""
    return [
        Part(
            f"test accuracy of {style.name(arm)} minus {style.name(rival)}'s, points",
            functools.partial(lead, arm=arm, rival=rival),
            above=above,
        )
        for rival in rivals
    ]


def yours(study: str, on: str) -> Callable[[str], tuple[Claim, ...]]:
    """What a study claims about another optimizer, `on` a data set."""

    def of(arm: str) -> tuple[Claim, ...]:
        text = f"tests better than RAdam, Adam and SGD on {on}"
        return against(study, arm, text, leads(arm, "radam", "adam", "sgd"))

    return of


def epochs(curves: pd.DataFrame) -> pd.Series:
    """The epoch of every point of the curves; an epoch's last update completes it.

    Every run has as many updates in an epoch as the one that came furthest: one that diverged
    ended before its last.
    """
    updates = curves.groupby("run_id")["step"].transform("max") / curves["epochs"]
    return curves["step"] / updates.max()


def training_loss(curves: pd.DataFrame, *keys: str) -> pd.Series:
    """The training loss in nats, averaged over the updates of every group of `keys`.

    A point of the curve is a mean over the updates since the point before it.
    """
    train = curve(curves, "train", "loss")
    train = train.sort_values(["run_id", "step"])
    updates = train.groupby("run_id")["step"].diff().fillna(train["step"])
    train = train.assign(updates=updates, total=updates * train["value"])
    sums = train.groupby(list(keys))[["total", "updates"]].sum()
    return (sums["total"] / sums["updates"]).rename("value")


def draw_accuracy(
    records: Records, arms: Mapping[str, str] | None = None, columns: int | None = None
) -> Figure:
    """A panel an arm, test accuracy by epoch: mean over seeds, band from lowest to highest.

    `arms` has the title of each panel for each value of the column "optimizer"; if not given, the
    optimizers' names. The panels stand in so many columns; if not given, in one row.
    """
    arms = arms or names(records.runs)
    columns = columns or len(arms)
    tests = curve(records.curves, "test", "accuracy")
    tests = tests.assign(epoch=epochs(tests))
    rates = [f"{rate:g}" for rate in sorted(tests["lr"].unique(), reverse=True)]
    colours = dict(zip(rates, style.in_order(len(rates)), strict=True))
    tests = tests.assign(rate=tests["lr"].map("{:g}".format))
    rows = -(-len(arms) // columns)
    figure, axes = style.panels(columns, sharey=True, rows=rows)
    for surplus in axes[len(arms) :]:
        surplus.remove()
    axes = axes[: len(arms)]
    for panel, (arm, title) in zip(axes, arms.items(), strict=True):
        of_arm, last = tests[tests["optimizer"] == arm], panel is axes[-1]
        style.lines(panel, of_arm, "epoch", "value", "rate", colours, legend=last)
        panel.set(title=title, xlabel="epoch", ylabel="test accuracy (%)")
    axes[-1].legend(title="learning rate", loc="lower right", ncols=1 + (len(rates) > 5))
    return figure


def tabulate_accuracy(records: Records, arms: Mapping[str, str]) -> pd.DataFrame:
    """Test accuracy in percent by arm and learning rate: mean and standard deviation over seeds.

    A second row for every arm reports as the authors do: the best test accuracy over the epochs.
    """
    runs = with_best_epoch(records)
    rows = {}
    for arm, name in arms.items():
        by_rate = runs[runs["optimizer"] == arm].groupby("lr")
        for column, which in EPOCHS.items():
            rows[name, which] = {f"{lr:g}": cell(of_rate, column) for lr, of_rate in by_rate}
    index = ["optimizer", "test accuracy"]
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index).rename_axis("lr", axis=1)


def tabulate_best(records: Records, arms: Mapping[str, str]) -> pd.DataFrame:
    """By arm: the learning rate chosen on validation, and the test accuracy in percent.

    The last but one column is the authors' way to report: the best over the epochs.
    """
    runs = with_best_epoch(records)
    rows = {}
    for arm, name in arms.items():
        rate = best_lr(runs, arm)
        chosen = runs[(runs["optimizer"] == arm) & (runs["lr"] == rate)]
        cells = {
            f"test accuracy, {which}": cell(chosen, column) for column, which in EPOCHS.items()
        }
        rows[name] = {"learning rate": f"{rate:g}", **cells, "seeds": str(len(chosen))}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("optimizer")


def tabulate(records: Records) -> pd.DataFrame:
    """Test accuracy by optimizer."""
    return tabulate_best(records, names(records.runs))


def cell(runs: pd.DataFrame, column: str) -> str:
    """Mean and standard deviation over some runs, or why there is none."""
    diverged = int((runs["status"] == "diverged").sum())
    if diverged:
        return f"{diverged} of {len(runs)} diverged"
    values = runs[column].dropna()
    if values.empty:
        return "not recorded"
    part = f" ({len(values)} of {len(runs)} seeds)" if len(values) < len(runs) else ""
    return style.mean_and_deviation(values.mean(), values.std()) + part
