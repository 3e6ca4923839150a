"""What a verdict that decides is held against: the same records, read in another way.

A claim that is reproduced, partly reproduced or contradicted by the rule must be so in every one of
the `readings` too, and in at least half of the `pairings`, or it is inconclusive: they can take a
verdict away and never give one.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from experiments.spec import Run
from experiments.verdict import (
    MIN_SEEDS,
    NO_SAY,
    Claim,
    Part,
    Records,
    Verdict,
    judge,
    with_best_epoch,
)

ONE_LESS = "one seed less"
BEST_EPOCH = "the best test epoch, as the authors count"
OTHER_RATES = "learning rates chosen without one seed"
AGAIN = "runs that were made again in the place of the first"
SWAPPED = "the batches of other seeds"
PAIRED = "the seeds shuffled"
CHOSEN_BY = ("validation_accuracy", "validation_loss")
"""What a learning rate is chosen by, in the mean over the seeds."""
ALL, DRAWN = 120, 40
"""All shuffles of the seeds are tried up to the first number of them; of more, the second."""
NAMES = (ONE_LESS, BEST_EPOCH, OTHER_RATES, AGAIN, SWAPPED, PAIRED)


def stood(
    verdict: Verdict,
    claim: Claim,
    runs: tuple[Run, ...],
    records: Records,
    instead: Mapping[str, Records],
) -> Verdict:
    """A verdict that decides, or its claim as inconclusive where other readings deny it.

    Parameters
    ----------
    verdict
        By the rule alone; reproduced, partly or contradicted.
    claim
        What it is on.
    runs
        The artifact's, at the scale of the records.
    records
        Whole comparisons.
    instead
        What there is of the same runs, made otherwise, by the name of the reading.
    """
    alike = {verdict.status, "reproduced"} if verdict.status == "partly" else {verdict.status}
    stands: dict[str, list[bool]] = {}

    def judged(other: Records) -> Verdict:
        return judge(verdict.artifact, claim, other, verdict.scale)

    for name, other in _readings(records, tuple(instead.items())):
        found = judged(other)
        asks = found.estimates != verdict.estimates
        if name == SWAPPED:  # else part of an arm would meet other batches, and part would not
            asks &= judged(_outcomes_of(instead[name], other)).estimates == found.estimates
        if asks:
            stands.setdefault(name, []).append(found.status in alike)
    if not claim.of_pairs:
        arms = arms_of(runs)
        for one in shuffled(claim, records, arms, pairings(claim, records, arms)):
            found = judge(verdict.artifact, one, records, verdict.scale)
            stands.setdefault(PAIRED, []).append(found.status in alike)
    enough = {name: len(of) / 2 if name == PAIRED else len(of) for name, of in stands.items()}
    fails = tuple(name for name, of in stands.items() if sum(of) < enough[name])
    return dataclasses.replace(
        verdict,
        status="inconclusive" if fails else verdict.status,
        fails_with=fails,
        readings={name: (sum(of), len(of)) for name, of in stands.items()},
    )


@functools.lru_cache(maxsize=4)
def _readings(
    records: Records, instead: tuple[tuple[str, Records], ...]
) -> list[tuple[str, Records]]:
    """The same for all claims of an artifact."""
    return list(readings(records, dict(instead)))


def readings(
    records: Records, instead: Mapping[str, Records] | None = None
) -> Iterator[tuple[str, Records]]:
    """The records without each of the seeds, and by the authors' protocol; each with its name.

    There are as many without a seed as there are seeds, if what is left can still decide; one
    that takes classifiers at their best test epoch, in place of the last; and as many as there
    are seeds in which one has no say in the choice of a learning rate, and counts all the same.
    Where some of the runs were made otherwise, too, there is one that takes these `instead`.
    """
    seeds = records.runs["seed"]
    if seeds.nunique() > MIN_SEEDS:
        for seed in seeds.unique():
            yield ONE_LESS, records.where(seeds != seed)
    if "test_accuracy" in records.runs:
        runs = with_best_epoch(records)
        yield BEST_EPOCH, Records(runs.assign(test_accuracy=runs["best_epoch"]), records.curves)
    if seeds.nunique() > 1 and set(CHOSEN_BY) & set(records.runs):
        for seed in seeds.unique():
            without = records.runs.assign(**{NO_SAY: seeds == seed})
            yield OTHER_RATES, Records(without, records.curves)
    for name, made in (instead or {}).items():
        if len(made.runs):
            pairs = ((records.runs, made.runs), (records.curves, made.curves))
            yield name, Records(*(_in_place(*pair) for pair in pairs))


def _outcomes_of(made: Records, records: Records) -> Records:
    """Records in which none but the runs that were made so have learnt or been tested.

    By what they reached on validation the others may have chosen a learning rate.
    """
    others = ~records.runs["run_id"].isin(made.runs["run_id"])
    outcomes = [name for name in records.runs if name.startswith(("train_", "test_"))]
    blank = {name: records.runs[name].mask(others) for name in outcomes}
    return Records(records.runs.assign(**blank), records.where(~others).curves)


def _in_place(first: pd.DataFrame, made: pd.DataFrame) -> pd.DataFrame:
    """A table with the rows of some runs in the place of those that it has of them."""
    others = first[~first["run_id"].isin(made["run_id"])]
    return pd.concat([others, made[made["run_id"].isin(first["run_id"])]], ignore_index=True)


Shuffle = Mapping[int, Mapping[int, int]]
"""Of some arms, which seed each seed becomes."""


def pairings(claim: Claim, records: Records, arms: Mapping[str, int]) -> list[Shuffle]:
    """Ways to shuffle the seeds of arms against each other: each once.

    Differences between arms are taken seed by seed, as a seed gives all arms the same batches.
    Where that moves them together, shuffling widens the intervals; where it does not, it changes
    them by chance.

    Only those arms are shuffled of which a shuffle alone gives the claim other numbers, in whatever
    order; one of them stays, as the others move against it. `arms` has the number of every run's
    arm, see `arms_of`.
    """
    seeds = sorted(records.runs["seed"].unique())
    turned = dict(zip(seeds, seeds[1:] + seeds[:1], strict=True))
    each = sorted({*arms.values()})
    alone = shuffled(claim, records, arms, [{}, *({arm: turned} for arm in each)])
    unmoved, *moved = (
        [sorted(part.statistic(records).dropna()) for part in one.parts] for one in alone
    )
    moving = [arm for arm, numbers in zip(each, moved, strict=True) if numbers != unmoved][1:]
    orders = list(itertools.permutations(seeds))
    ways: list[Shuffle] = []
    for number in _some(len(orders) ** len(moving)):
        digits = (number // len(orders) ** place % len(orders) for place in range(len(moving)))
        ways.append(
            {
                arm: dict(zip(seeds, orders[digit], strict=True))
                for arm, digit in zip(moving, digits, strict=True)
            }
        )
    return ways


def shuffled(
    claim: Claim, records: Records, arms: Mapping[str, int], ways: Sequence[Shuffle]
) -> Iterator[Claim]:
    """A claim with the numbers that its parts have where seeds are shuffled, for each of the ways.

    A part's number of a seed is of the runs with that seed, and of what is chosen over all seeds,
    which no shuffle changes. So all numbers are read off at once, of so many of the ways that all
    runs that meet in one have met.
    """
    if not ways:
        return
    seeds = sorted(records.runs["seed"].unique())
    moved = {arm for to in ways for arm in to}
    meetings = [
        [*zip(*(_before(to.get(arm, {}), seeds) for arm in moved), seeds, strict=True)]
        for to in ways
    ]
    apart = _apart(records)
    asked: list[Shuffle] = []
    at: dict[tuple[int, ...], int] = {}
    for to, meeting in zip(ways, meetings, strict=True):
        if not at.keys() >= {*meeting}:
            first = len(asked) * apart
            at |= {runs: first + seed for seed, runs in zip(seeds, meeting, strict=True)}
            asked.append(to)
    of_all = side_by_side(records, arms, asked)
    found = {part: part.statistic(of_all) for part in {*claim.parts, *claim.given}}
    for meeting in meetings:
        places = [at[runs] for runs in meeting]
        values = {part: numbers.reindex(places).set_axis(seeds) for part, numbers in found.items()}
        yield dataclasses.replace(
            claim,
            parts=tuple(_numbered(part, values[part]) for part in claim.parts),
            given=tuple(_numbered(part, values[part]) for part in claim.given),
        )


def _before(to: Mapping[int, int], seeds: Sequence[int]) -> list[int]:
    """Of an arm: of which seed the run is that has each seed now."""
    before = {after: seed for seed, after in to.items()}
    return [before.get(seed, seed) for seed in seeds]


def _numbered(part: Part, values: pd.Series) -> Part:
    return dataclasses.replace(part, statistic=lambda _: values)


def _some(ways: int) -> Iterable[int]:
    """The numbers of all ways but the first, which changes nothing, or of `DRAWN` of them."""
    if ways <= ALL:
        return range(1, ways)
    generator, chosen = random.Random(0), set[int]()
    while len(chosen) < DRAWN:
        chosen.add(generator.randrange(1, ways))
    return sorted(chosen)


def side_by_side(records: Records, arms: Mapping[str, int], ways: Sequence[Shuffle]) -> Records:
    """All ways to shuffle the seeds of arms in one, each with runs and seeds of its own.

    Every run is in it once a way, so that what a mean over the seeds chooses, to the digits of
    `verdict.TIE`, is what it was. A way's seeds are as far from those of the next as `_apart` says,
    and the runs have numbers.
    """
    runs = records.runs
    of = [(arms[run_id], seed) for run_id, seed in zip(runs["run_id"], runs["seed"], strict=True)]
    shuffles = [[to.get(arm, {}).get(seed, seed) for arm, seed in of] for to in ways]
    seeds = np.array(shuffles) + _apart(records) * np.arange(len(ways))[:, np.newaxis]
    numbers = np.arange(seeds.size).reshape(seeds.shape)
    place = pd.Series(range(len(of)), index=runs["run_id"])

    def repeated(frame: pd.DataFrame) -> pd.DataFrame:
        if frame.empty:
            return frame
        of = frame["run_id"].map(place)
        many = pd.concat([frame] * len(ways), ignore_index=True)
        return many.assign(run_id=numbers[:, of].ravel(), seed=seeds[:, of].ravel())

    return Records(repeated(runs), repeated(records.curves))


def _apart(records: Records) -> int:
    return int(records.runs["seed"].max()) + 1


def arms_of(runs: Iterable[Run]) -> dict[str, int]:
    """The number of every run's arm: of all that is the same but for seed and learning rate."""
    numbers: dict[Run, int] = {}
    found = {}
    for run in runs:
        optim = run.optim and dataclasses.replace(run.optim, lr=0.0)
        arm = dataclasses.replace(run, seed=0, optim=optim)
        found[run.id] = numbers.setdefault(arm, len(numbers))
    return found
