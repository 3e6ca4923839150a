"""Who learns the rare words, and when? Six optimizers date paragraphs by the words in them.

The model is linear and its loss a quadratic, so that every word has one best weight, and the
progress of a class of words is by how many percent their distance from it is shorter than at the
start. Every optimizer is shown at the learning rate of one common grid that ends at the lowest
validation loss, and keeps it from the first update to the last.
"""

from __future__ import annotations

import dataclasses
import functools

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import style
from experiments.artifact import Artifact
from experiments.paper._classifiers import cell, epochs
from experiments.paper._language import best_rate, of_arm
from experiments.spec import Optim, Run, Schedule, grid, options
from experiments.verdict import Claim, Part, Records, diverged

BETAS = options(betas=(0.9, 0.999))
ARMS = {
    "SGD": Optim("sgd", lr=1.0),
    "momentum": Optim("sgd", lr=1.0, options=options(momentum=0.9)),
    "AdaGrad": Optim("adagrad", lr=1.0),
    "RMSProp": Optim("rmsprop", lr=1.0, options=options(alpha=0.99)),
    "Adam": Optim("adam", lr=1.0, options=BETAS),
    "RAdam": Optim("radam", lr=1.0, options=BETAS),
}
"""But for the learning rate and SGD's momentum all is as it is in PyTorch by default."""
COLOURS = {
    "SGD": style.GREY,
    "momentum": style.COLOURS["SGD"],  # as "SGD" stands for it in the other chapters
    **{arm: style.COLOURS[arm] for arm in ("AdaGrad", "RMSProp", "Adam", "RAdam")},
}
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
RAREST, MOST_FREQUENT = "4 to 15", "1,024 or more"

CPU = Run(
    task="sparse_words",
    optim=ARMS["SGD"],
    epochs=6,
    batch_size=64,
    settings=options(every=1, penalty=1.0),
)
SMOKE = Run(
    task="sparse_words",
    optim=ARMS["SGD"],
    epochs=3,
    batch_size=32,
    settings=options(every=10, penalty=1.0),
)


def _labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """With the arms in place of the optimizers' names: two of them are SGD."""
    names = frame["optimizer"].map({optim.name: arm for arm, optim in ARMS.items()})
    plain = (frame["optimizer"] == "sgd") & frame["optim.momentum"].isna()
    return frame.assign(optimizer=names.mask(plain, "SGD"))


@functools.lru_cache(maxsize=1)  # every part of every claim asks for it, and for the next two
def at_best(records: Records) -> Records:
    """Every arm's runs at its best learning rate, and their curves."""
    runs = _labelled(records.runs)
    chosen = pd.concat([of_arm(runs, arm, None)["run_id"] for arm in ARMS])
    kept = records.where(records.runs["run_id"].isin(chosen))
    return Records(_labelled(kept.runs), _labelled(kept.curves))


@functools.lru_cache(maxsize=1)
def progress(records: Records) -> pd.DataFrame:
    """The progress of every class in percent, by arm, seed and epoch; at the best rates.

    A row an epoch, in the columns "optimizer", "lr", "seed", "epoch", "words" and "value".
    """
    curves = at_best(records).curves
    curves = curves.assign(epoch=epochs(curves))
    found = curves[curves["metric"] == "progress"].rename(columns={"split": "words"})
    return found[["optimizer", "lr", "seed", "epoch", "words", "value"]]


@functools.lru_cache(maxsize=1)
def over_the_run(records: Records) -> pd.DataFrame:
    """The mean progress over a run in percent, by optimizer, class of words and seed."""
    keys = ["optimizer", "words", "seed"]
    return progress(records).groupby(keys, sort=False)["value"].mean().reset_index()


def _mean(records: Records, arm: str, words: str) -> pd.Series:
    """The mean progress over the ends of the epochs, in percent by seed: higher is earlier.

    A run that diverged has learnt nothing: it counts with a progress of 0.
    """
    runs, means = at_best(records).runs, over_the_run(records)
    runs = runs[runs["optimizer"] == arm].set_index("seed")
    chosen = means[(means["optimizer"] == arm) & (means["words"] == words)]
    return chosen.set_index("seed")["value"].reindex(runs.index).mask(diverged(runs), 0.0)


def _lead(records: Records, rival: str, words: str) -> pd.Series:
    """By how much Adam's mean progress is ahead of a rival's, in points by seed."""
    return _mean(records, "Adam", words) - _mean(records, rival, words)


def _difference(records: Records, rival: str) -> pd.Series:
    """By how much Adam's lead is larger for the rarest words than for the most frequent."""
    return _lead(records, rival, RAREST) - _lead(records, rival, MOST_FREQUENT)


def _lag(records: Records, arm: str) -> pd.Series:
    """By how much an arm's rarest words are behind its most frequent, in points by seed."""
    return _mean(records, arm, MOST_FREQUENT) - _mean(records, arm, RAREST)


def claims(study: str, where: str = "") -> tuple[Claim, ...]:
    """What is claimed of the six, `where` it is not at a constant rate."""
    return (
        Claim(
            f"{study}.earlier",
            "Adam learns the rarest words earlier than SGD does, with momentum or without" + where,
            "not asked",
            tuple(
                Part(
                    f"Adam's progress minus that of {rival}, rarest words, points, mean over the "
                    "run",
                    functools.partial(_lead, rival=rival, words=RAREST),
                    above=0.0,
                )
                for rival in ("SGD", "momentum")
            ),
        ),
        Claim(
            f"{study}.frequent",
            "Adam's lead is smaller for the most frequent words than for the rarest" + where,
            "not asked",
            tuple(
                Part(
                    f"Adam's lead over {rival}, rarest minus most frequent words, points",
                    functools.partial(_difference, rival=rival),
                    above=0.0,
                )
                for rival in ("SGD", "momentum")
            ),
        ),
        Claim(
            f"{study}.lag",
            "With every optimizer the rarest words are learnt later than the most frequent" + where,
            "not asked",
            tuple(
                Part(
                    "progress of the most frequent words minus that of the rarest, points, " + arm,
                    functools.partial(_lag, arm=arm),
                    above=0.0,
                )
                for arm in ARMS
            ),
        ),
    )


def draw(records: Records) -> Figure:
    """A panel an optimizer: the progress of five classes of words by epoch, at its best rate."""
    found = progress(records)
    names = [*dict.fromkeys(found["words"])]
    colours = dict(zip(names, style.in_order(len(names)), strict=True))
    figure, axes = style.panels(3, rows=2, height=2.8, sharey=True)
    for panel, arm in zip(axes, ARMS, strict=True):
        of_one = found[found["optimizer"] == arm]
        style.lines(panel, of_one, "epoch", "value", "words", colours, legend=panel is axes[-1])
        title = f"{arm}, lr {of_one['lr'].iloc[0]:g}"
        panel.set(title=title, xlabel="epoch", ylabel="progress (%)")
        panel.axhline(0, color=style.GREY, linewidth=0.8)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    named = axes[-1].get_legend_handles_labels()
    axes[-1].legend().remove()
    figure.legend(*named, title="in paragraphs", loc="outside lower center", ncols=len(colours))
    return figure


def by_class(records: Records) -> Figure:
    """Mean progress over the run by class of words, a line an optimizer."""
    figure, (panel,) = style.panels(1)
    style.lines(panel, over_the_run(records), "words", "value", "optimizer", COLOURS, marker="o")
    panel.set(xlabel="in how many paragraphs of the training text the words are")
    panel.set(ylabel="progress, mean over the run (%)")
    panel.legend(title=None)
    return figure


def tabulate(records: Records) -> pd.DataFrame:
    """By optimizer: its best rate, its error, and the progress of rarest and most frequent words.

    The error is the root of the mean squared error on the test paragraphs, in years; the progress
    is in percent, after the first epoch and after the last.
    """
    runs, curves = at_best(records).runs, progress(records)
    rows = {}
    for arm in ARMS:
        of_one = curves[curves["optimizer"] == arm]
        rows[arm] = {
            "best lr": f"{best_rate(_labelled(records.runs), arm):g}",
            "test error, years": cell(runs[runs["optimizer"] == arm], "test_error"),
            **{
                f"{which}, {when}, %": f"{one[one['epoch'] == epoch]['value'].mean():.0f}"
                for which, words in (("rarest", RAREST), ("most frequent", MOST_FREQUENT))
                for one in [of_one[of_one["words"] == words]]
                for when, epoch in (("epoch 1", 1), ("last", one["epoch"].max()))
            },
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("optimizer")


def runs(scale: str, schedule: tuple[Schedule, ...] = ()) -> tuple[Run, ...]:
    """Every arm at every rate; seed by seed, so that whole comparisons end first."""
    base, rates, seeds = {"smoke": (SMOKE, RATES[1::2], 1), "cpu": (CPU, RATES, 3)}[scale]
    base = dataclasses.replace(base, schedule=schedule)
    return grid(base, seed=range(seeds), optim=ARMS.values(), lr=rates)


ARTIFACT = Artifact(
    id="sparse-words",
    title="Who learns the rare words, and when: a linear model of State of the Union paragraphs",
    order=43,
    runs={scale: runs(scale) for scale in ("smoke", "cpu")},
    claims=claims("sparse-words"),
    draw=draw,
    tabulate=tabulate,
)
