"""From claims and records to verdicts: the statistics, once.

A claim is a list of parts, each a number that the records give once a seed and that must lie
between two bounds. The part holds if the whole 95 % interval of its mean (Student's t over seeds)
lies between them, fails if the whole interval lies outside, and is undecided otherwise. The
claim is *reproduced* if every part holds, *contradicted* if every part fails, *partly* reproduced
if some hold, and *inconclusive* otherwise. With fewer than three seeds nothing is decided, except
where the number has no randomness in it. A claim may rest on something given, such as that the arm
it compares with learns at all: where that does not hold, it is inconclusive too, and so it is where
a part has no number. What is not inconclusive must then stand the readings of `experiments.checks`.

A run that diverged never drops out. It counts with the worst value of a metric, see `counted`; and
where a statistic has no number for its seed, that is still one of the seeds, and the part cannot
hold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import pandas as pd
from scipy.special import stdtrit

Status = Literal["reproduced", "partly", "contradicted", "inconclusive", "not run"]
MIN_SEEDS = 3
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Records:
    """What a statistic sees: one row a run, and the runs' curves. Both may be empty.

    It is equal to itself alone, so that what is read off it can be cached.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame

    def where(self, chosen: pd.Series) -> Records:
        """The runs of which something is true, with their curves."""
        runs = self.runs[chosen]
        return Records(runs, self.curves[self.curves["run_id"].isin(runs["run_id"])])


def curve(curves: pd.DataFrame, split: str, metric: str) -> pd.DataFrame:
    """The points of one of the curves that runs have, such as the loss in training."""
    return curves[(curves["split"] == split) & (curves["metric"] == metric)]


def with_best_epoch(records: Records) -> pd.DataFrame:
    """The runs, with the best test accuracy over the epochs: what the authors' script reports."""
    tests = curve(records.curves, "test", "accuracy")
    best = tests.groupby("run_id")["value"].max().rename("best_epoch")
    return records.runs.join(best, on="run_id")


NO_SAY = "no say"
"""A column, of a reading of the records, that is true for runs that may choose nothing."""


def voters(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that choose between learning rates, or arms: all, but in a reading of `checks`."""
    return runs[~runs[NO_SAY]] if NO_SAY in runs else runs


TIE = 9
"""Digits of the means that choose: beyond them it is chance, how they were added up, that would."""

LOST = 20.0
"""Nats: worse than a guess among all classes, or all words."""
WORST = {
    **dict.fromkeys(("validation_accuracy", "test_accuracy"), 0.0),
    **dict.fromkeys(("train_loss", "validation_loss", "test_loss"), LOST),
}
"""What a run that diverged counts with, whatever the last of it was."""


def diverged(runs: pd.DataFrame) -> pd.Series:
    """Of which of the runs the loss became no number."""
    return runs["status"] == "diverged"


def counted(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs as they count: those that diverged have classified and learnt nothing."""
    lost = diverged(runs)
    if not lost.any():
        return runs
    worst = {name: value for name, value in WORST.items() if name in runs}
    return runs.assign(**{name: runs[name].mask(lost, worst[name]) for name in worst})


def difference(runs: pd.DataFrame, others: pd.DataFrame, metric: str) -> pd.Series:
    """A metric of some runs minus that of others, by their index, as they count.

    There is none where both diverged: two failures are not alike.
    """
    found = counted(runs)[metric] - counted(others)[metric]
    return found.mask(diverged(runs) & diverged(others))


@dataclass(frozen=True)
class Part:
    """A number that must lie above one bound and below another.

    Attributes
    ----------
    label
        What the number is, with its unit: it heads the estimate in every table.
    statistic
        Records -> one value a seed; none for a seed of which the records do not tell it.
    above, below
        The bounds, fixed before the runs are.
    exact
        True where the number has no randomness in it: one value then decides.
    """

    label: str
    statistic: Callable[[Records], pd.Series]
    above: float = -math.inf
    below: float = math.inf
    exact: bool = False


@dataclass(frozen=True)
class Claim:
    """What the paper says, the number it gives, and what would have to be true of ours.

    A claim without parts belongs to an artifact that is not built yet: it is "not run". What is
    `given` must hold for the parts to mean anything. `of_pairs` says of a claim that it is about
    the same run done in two ways, so that to compare two seeds would be to ask something else.
    """

    id: str
    text: str
    paper_value: str
    parts: tuple[Part, ...] = ()
    given: tuple[Part, ...] = ()
    of_pairs: bool = False


@dataclass(frozen=True)
class Estimate:
    """The mean of a part over seeds, its interval, and whether the part holds.

    Of the `n` seeds, `lost` have no number where runs diverged: they can take a "holds" away, and
    mean and interval are those of the others.
    """

    label: str
    value: float
    low: float
    high: float
    n: int
    above: float
    below: float
    holds: bool | None
    lost: int = 0


@dataclass(frozen=True)
class Verdict:
    """The judgement of one claim at one scale, and the artifact's runs that were at hand for it.

    `readings` has, of a claim that the rule decides, in how many of the other readings of the
    records it comes out alike and how many there are, by their name; those that change none of its
    numbers ask nothing of it, and are not counted. `fails_with` names those that deny it, and
    `lacks` is what it takes as given and does not hold, where there are seeds enough to say so:
    with either it is inconclusive.
    """

    artifact: str
    claim: str
    text: str
    paper_value: str
    status: Status
    scale: str | None
    estimates: tuple[Estimate, ...]
    run_ids: tuple[str, ...]
    fails_with: tuple[str, ...] = ()
    lacks: tuple[Estimate, ...] = ()
    readings: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def by_rule(self) -> Status:
        """What the parts say by themselves: without what is given, and without other readings."""
        return _status([estimate.holds for estimate in self.estimates])

    @property
    def n(self) -> int:
        """Seeds behind the weakest part."""
        return min((estimate.n for estimate in self.estimates), default=0)


def judge(artifact: str, claim: Claim, records: Records, scale: str | None) -> Verdict:
    """Judge a claim by the records of one scale; empty records give "not run"."""
    estimates: tuple[Estimate, ...] = ()
    if len(records.runs):
        estimates = tuple(_estimate(part, records) for part in claim.parts)
    decided = [estimate for estimate in estimates if estimate.n]
    ids = tuple(sorted(records.runs["run_id"])) if decided else ()
    given = [_estimate(part, records) for part in claim.given] if decided else []
    unmet = [estimate for estimate in given if estimate.holds is not True]
    unknown = any(math.isnan(estimate.value) for estimate in estimates)
    status = _status([estimate.holds for estimate in estimates])
    return Verdict(
        artifact=artifact,
        claim=claim.id,
        text=claim.text,
        paper_value=claim.paper_value,
        status=("inconclusive" if unmet or unknown else status) if decided else "not run",
        scale=scale if decided else None,
        estimates=estimates if decided else (),
        run_ids=ids,
        lacks=tuple(estimate for estimate in unmet if estimate.n >= MIN_SEEDS),
    )


def _status(holds: Sequence[bool | None]) -> Status:
    if all(one is True for one in holds):
        return "reproduced"
    if all(one is False for one in holds):
        return "contradicted"
    return "partly" if any(one is True for one in holds) else "inconclusive"


def _estimate(part: Part, records: Records) -> Estimate:
    values = part.statistic(records).dropna()
    lost = _lost(records.runs, values)
    mean = float(values.mean()) if len(values) else math.nan
    low, high = interval(values)
    if part.exact and len(values):
        low = high = mean
    holds: bool | None = None
    if part.exact or len(values) >= MIN_SEEDS:
        holds = _between(low, high, part.above, part.below)
    if lost and holds:
        holds = None
    n = len(values) + lost
    return Estimate(part.label, mean, low, high, n, part.above, part.below, holds, lost)


def _lost(runs: pd.DataFrame, values: pd.Series) -> int:
    """How many seeds have no value, where runs diverged: it may be of another seed that one did."""
    missing = set(runs["seed"]) - set(values.index)
    return len(missing) if missing and "status" in runs and diverged(runs).any() else 0


def _between(low: float, high: float, above: float, below: float) -> bool | None:
    """Whether an interval lies between two bounds; None where it lies across one."""
    if low > above and high < below:
        return True
    return False if high < above or low > below else None


def interval(values: pd.Series) -> tuple[float, float]:
    """Student's 95 % interval of the mean; infinitely wide for fewer than two values."""
    n = len(values)
    if n < 2:
        return -math.inf, math.inf
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(n)
    return mean - half, mean + half


def to_json(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as JSON: a list of objects, infinite and missing numbers as null."""
    rows = [{**asdict(verdict), "n": verdict.n} for verdict in verdicts]
    for row in rows:
        for estimate in (*row["estimates"], *row["lacks"]):
            for key in ("value", "low", "high", "above", "below"):
                if not math.isfinite(estimate[key]):
                    estimate[key] = None
    return json.dumps(rows, indent=2)
