"""What a favourable verdict is held against: the same records, read in another way.

A claim that holds by the rule must also hold in every one of the `readings`, or it is inconclusive:
they can take a "reproduced" away and never give one. The `pairings` only show how much rests on
which seed of one arm is compared with which of another.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Iterator

from experiments.spec import Run
from experiments.verdict import MIN_SEEDS, NO_SAY, Records

ONE_LESS = "one seed less"
BEST_EPOCH = "the best test epoch, as the authors count"
OTHER_RATES = "learning rates chosen without one seed"
CHOSEN_BY = ("validation_accuracy", "validation_loss")
"""What a learning rate is chosen by, in the mean over the seeds."""
SHUFFLES = 10


def readings(records: Records) -> Iterator[tuple[str, Records]]:
    """The records without each of the seeds, and by the authors' protocol; each with its name.

    There are as many without a seed as there are seeds, if what is left can still decide; one
    that takes classifiers at their best test epoch, in place of the last; and as many as there
    are seeds in which one has no say in the choice of a learning rate, and counts all the same.
    """
    seeds = records.runs["seed"]
    if seeds.nunique() > MIN_SEEDS:
        for seed in seeds.unique():
            yield ONE_LESS, records.where(seeds != seed)
    if "test_accuracy" in records.runs:
        curves = records.curves
        tests = curves[(curves["split"] == "test") & (curves["metric"] == "accuracy")]
        best = records.runs["run_id"].map(tests.groupby("run_id")["value"].max())
        yield BEST_EPOCH, Records(records.runs.assign(test_accuracy=best), curves)
    if seeds.nunique() > 1 and set(CHOSEN_BY) & set(records.runs):
        for seed in seeds.unique():
            without = records.runs.assign(**{NO_SAY: seeds == seed})
            yield OTHER_RATES, Records(without, records.curves)


def pairings(runs: Iterable[Run], records: Records) -> Iterator[Records]:
    """The records with the seeds of every arm shuffled, `SHUFFLES` times, always in the same ways.

    Differences between arms are taken seed by seed, as a seed gives all arms the same batches.
    Where that moves them together, shuffling widens the intervals; where it does not, it changes
    them by chance.

    Parameters
    ----------
    runs
        The artifact's, at the scale of the records.
    records
        Whole comparisons.
    """
    generator = random.Random(0)
    seeds = sorted(records.runs["seed"].unique())
    arms = _arms(runs)
    for _ in range(SHUFFLES):
        orders = [
            dict(zip(seeds, generator.sample(seeds, len(seeds)), strict=True))
            for _ in set(arms.values())
        ]
        moved = {
            run_id: orders[arms[run_id]][seed]
            for run_id, seed in zip(records.runs["run_id"], records.runs["seed"], strict=True)
        }
        frames = (records.runs, records.curves)
        yield Records(*(x.assign(seed=x["run_id"].map(moved)) if len(x) else x for x in frames))


def _arms(runs: Iterable[Run]) -> dict[str, int]:
    """The number of every run's arm: of all that is the same but for seed and learning rate."""
    numbers: dict[Run, int] = {}
    found = {}
    for run in runs:
        optim = run.optim and dataclasses.replace(run.optim, lr=0.0)
        arm = dataclasses.replace(run, seed=0, optim=optim)
        found[run.id] = numbers.setdefault(arm, len(numbers))
    return found
