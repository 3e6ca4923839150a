"""Verdicts: every status in closed form, the interval against Student's, and what may vote."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from scipy import stats

from experiments import report
from experiments.artifact import Artifact
from experiments.record import Result, Store
from experiments.spec import Run, options
from experiments.verdict import (
    LOST,
    Claim,
    Part,
    Records,
    Verdict,
    counted,
    difference,
    interval,
    judge,
    to_json,
)


def records(**metrics: Sequence[float]) -> Records:
    """One run a seed, with these metrics."""
    runs = pd.DataFrame(metrics)
    runs.insert(0, "run_id", [f"run{seed}" for seed in range(len(runs))])
    runs.insert(1, "seed", range(len(runs)))
    return Records(runs, pd.DataFrame())


def part(name: str, **bounds: Any) -> Part:
    return Part(name, lambda found: found.runs.set_index("seed")[name], **bounds)


def verdict(found: Records, *parts: Part) -> Verdict:
    return judge("fig0", Claim("fig0.claim", "text", "value", parts), found, "cpu")


# Student's interval


def test_the_interval_by_hand() -> None:
    # Mean 2, standard deviation 1; with 2 degrees of freedom t(p) = (2p - 1) / sqrt(2p (1 - p)).
    low, high = interval(pd.Series([1.0, 2.0, 3.0]))
    half = 0.95 / math.sqrt(2 * 0.975 * 0.025) / math.sqrt(3)
    assert (low, high) == pytest.approx((2 - half, 2 + half), rel=1e-12)


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=8, unique=True))
def test_the_interval_is_students(eighths: list[int]) -> None:
    values = [eighth / 8 for eighth in eighths]
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=spread)
    assert interval(pd.Series(values)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_fewer_than_two_values_say_nothing(values: list[float]) -> None:
    assert interval(pd.Series(values, dtype=float)) == (-math.inf, math.inf)


def test_equal_values_have_no_width() -> None:
    assert interval(pd.Series([2.0, 2.0, 2.0])) == (2.0, 2.0)


# What a part says: [1, 2, 3] has the interval [-0.484, 4.484], [9, 10, 11] has [7.516, 12.484]


@pytest.mark.parametrize(
    ("bounds", "holds"),
    [
        ({"above": 7.5}, True),
        ({"above": 7.6}, None),
        ({"above": 12.4}, None),
        ({"above": 12.5}, False),
        ({"below": 12.5}, True),
        ({"below": 12.4}, None),
        ({"below": 7.6}, None),
        ({"below": 7.5}, False),
        ({"above": 7.5, "below": 12.5}, True),
        ({"above": 7.6, "below": 12.5}, None),
        ({"above": 7.5, "below": 12.4}, None),
        ({"above": 0.0, "below": 7.5}, False),
        ({"above": 12.5, "below": 20.0}, False),
    ],
)
def test_a_part_holds_if_its_whole_interval_lies_between_the_bounds(
    bounds: dict[str, float], holds: bool | None
) -> None:
    (estimate,) = verdict(records(x=[9.0, 10.0, 11.0]), part("x", **bounds)).estimates
    assert estimate.holds is holds
    assert (estimate.value, estimate.n) == (10.0, 3)
    assert (estimate.low, estimate.high) == pytest.approx((7.5159, 12.4841), abs=1e-4)


@given(
    st.lists(st.floats(-10, 10), min_size=3, max_size=6),
    st.floats(-10, 10),
    st.floats(-10, 10),
)
def test_above_and_below_are_mirror_images(values: list[float], bound: float, width: float) -> None:
    negative = [-value for value in values]
    above, below = bound, bound + abs(width)
    (one,) = verdict(records(x=values), part("x", above=above, below=below)).estimates
    (other,) = verdict(records(x=negative), part("x", above=-below, below=-above)).estimates
    assert one.holds is other.holds


# What a claim takes as given

HOLDS, FAILS, OPEN = (part("x", above=bound) for bound in (7.0, 13.0, 10.0))


@pytest.mark.parametrize("given", [FAILS, OPEN])
@pytest.mark.parametrize("parts", [(HOLDS,), (FAILS,), (HOLDS, FAILS)])
def test_what_is_not_given_leaves_a_claim_open(given: Part, parts: tuple[Part, ...]) -> None:
    claim = Claim("fig0.claim", "text", "value", parts, given=(HOLDS, given))
    judged = judge("fig0", claim, records(x=[9.0, 10.0, 11.0]), "cpu")
    assert judged.status == "inconclusive"
    assert [(one.label, one.holds) for one in judged.lacks] == [
        ("x", False if given is FAILS else None)
    ]
    (row,) = report.table([judged]).to_dict("records")
    assert row["ours"].endswith(
        f"; not given: x: 10.0 [7.52, 12.5] ({report.bound(*judged.lacks)})"
    )


def test_too_few_seeds_say_nothing_of_what_is_given() -> None:
    claim = Claim("fig0.claim", "text", "value", (HOLDS,), given=(HOLDS,))
    judged = judge("fig0", claim, records(x=[9.0]), "cpu")
    assert (judged.status, judged.lacks) == ("inconclusive", ())


def test_what_is_given_changes_nothing() -> None:
    claim = Claim("fig0.claim", "text", "value", (FAILS,), given=(HOLDS,))
    judged = judge("fig0", claim, records(x=[9.0, 10.0, 11.0]), "cpu")
    assert (judged.status, judged.lacks) == ("contradicted", ())


# The status of a claim


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ((HOLDS,), "reproduced"),
        ((HOLDS, HOLDS), "reproduced"),
        ((FAILS,), "contradicted"),
        ((FAILS, FAILS), "contradicted"),
        ((HOLDS, FAILS), "partly"),
        ((HOLDS, OPEN), "partly"),
        ((OPEN,), "inconclusive"),
        ((OPEN, FAILS), "inconclusive"),
    ],
)
def test_the_status_follows_from_the_parts(parts: tuple[Part, ...], status: str) -> None:
    found = verdict(records(x=[9.0, 10.0, 11.0]), *parts)
    assert found.status == status
    assert (found.n, found.scale) == (3, "cpu")
    assert found.run_ids == ("run0", "run1", "run2")


@pytest.mark.parametrize("values", [[100.0], [100.0, 100.1]])
def test_fewer_than_three_seeds_decide_nothing(values: list[float]) -> None:
    found = verdict(records(x=values), part("x", above=0.0))
    assert found.status == "inconclusive"
    assert found.n == len(values)


@pytest.mark.parametrize(
    ("value", "status"), [(1.5, "reproduced"), (1.0, "inconclusive"), (0.5, "contradicted")]
)
def test_one_value_decides_where_nothing_is_random(value: float, status: str) -> None:
    found = verdict(records(x=[value]), part("x", above=1.0, exact=True))
    assert found.status == status
    assert found.estimates[0].low == found.estimates[0].high == value


def test_a_missing_value_is_a_missing_seed() -> None:
    found = verdict(records(x=[9.0, math.nan, 11.0]), part("x", above=0.0))
    assert (found.status, found.n) == ("inconclusive", 2)


@pytest.mark.parametrize(
    ("found", "parts"),
    [
        (Records(pd.DataFrame(), pd.DataFrame()), (HOLDS,)),
        (records(x=[1.0, 2.0, 3.0]), ()),
        (records(x=[math.nan] * 3), (HOLDS,)),
    ],
)
def test_without_a_number_a_claim_is_not_run(found: Records, parts: tuple[Part, ...]) -> None:
    none = verdict(found, *parts)
    assert (none.status, none.scale, none.n) == ("not run", None, 0)
    assert (none.estimates, none.run_ids) == ((), ())


@pytest.mark.parametrize("other", [HOLDS, FAILS])
def test_a_part_without_records_leaves_a_claim_open(other: Part) -> None:
    found = verdict(records(x=[9.0, 10.0, 11.0], y=[math.nan] * 3), other, part("y", above=0.0))
    assert (found.status, found.n) == ("inconclusive", 0)
    assert report.with_interval(found.estimates[1]) == "no record"


def test_a_misspelt_column_is_no_missing_record() -> None:
    with pytest.raises(KeyError, match="y"):
        verdict(records(x=[9.0, 10.0, 11.0]), HOLDS, part("y", above=0.0))


# Runs that diverged


def lost(found: Records, *seeds: int) -> Records:
    """The records with the runs of some seeds diverged."""
    status = found.runs["seed"].isin(seeds).map({True: "diverged", False: "finished"})
    return Records(found.runs.assign(status=status), found.curves)


@pytest.mark.parametrize(
    ("part", "holds"), [(HOLDS, None), (OPEN, None), (FAILS, False)], ids=["holds", "open", "fails"]
)
def test_a_seed_lost_to_divergence_counts_and_lets_no_part_hold(
    part: Part, holds: bool | None
) -> None:
    found = verdict(lost(records(x=[9.0, 10.0, 11.0, math.nan]), 3), part)
    (estimate,) = found.estimates
    assert (estimate.n, estimate.lost, estimate.value, estimate.holds) == (4, 1, 10.0, holds)
    assert report.ours([estimate]).startswith("x: 10.0 [7.52, 12.5], 1 of 4 seeds lost to div")


def test_a_seed_that_the_statistic_leaves_out_is_lost_too() -> None:
    leaving = Part("x", lambda found: found.runs.set_index("seed")["x"].iloc[:3], above=7.0)
    found = lost(records(x=[9.0, 10.0, 11.0, 10.0]), 0)  # another seed's numbers hang on it
    assert (verdict(found, leaving).status, verdict(found, leaving).n) == ("inconclusive", 4)


def test_where_all_is_lost_nothing_is_said() -> None:
    found = verdict(lost(records(x=[math.nan] * 3, y=[1.0] * 3), 0, 1, 2), part("x", above=0.0))
    assert (found.status, found.n) == ("inconclusive", 3)
    assert report.with_interval(found.estimates[0]) == "3 of 3 seeds lost to divergence"
    both = verdict(
        lost(records(x=[math.nan] * 3, y=[1.0] * 3), 0, 1, 2),
        part("x", above=0.0),
        part("y", above=0.0, exact=True),
    )
    assert both.status == "inconclusive"


def test_a_run_that_diverged_counts_with_the_worst_value() -> None:
    runs = lost(records(test_accuracy=[50.0, 60.0], train_loss=[1.0, math.nan]), 1).runs
    as_they_count = counted(runs)
    assert as_they_count["test_accuracy"].tolist() == [50.0, 0.0]
    assert as_they_count["train_loss"].tolist() == [1.0, LOST]
    others = runs.assign(train_loss=[0.75, 1.0], status="finished")
    assert difference(runs, others, "train_loss").tolist() == [0.25, LOST - 1.0]
    assert difference(runs, runs, "train_loss").isna().tolist() == [False, True]


# From the records on disk: scales, and whole comparisons


def arms(scale: str, seeds: int) -> tuple[Run, ...]:
    """Two arms a seed; a scale's runs are its own."""
    return tuple(
        Run("fake", seed=seed, settings=options(arm=arm, scale=scale))
        for seed in range(seeds)
        for arm in "ab"
    )


def lead(found: Records) -> pd.Series:
    wide = found.runs.pivot(index="seed", columns="arm", values="accuracy")
    return wide["a"] - wide["b"]


ARTIFACT = Artifact(
    id="fig0",
    title="two arms",
    claims=(Claim("fig0.lead", "a beats b", "by eye", (Part("lead", lead, above=0.0),)),),
    runs={scale: arms(scale, 4) for scale in ("smoke", "cpu", "paper")},
)


def store_with(folder: Path, scale: str, runs: Sequence[Run]) -> Store:
    """Arm a is better by about 1 at every scale, and by about -1 at paper scale."""
    store = Store(folder)
    sign = -1 if scale == "paper" else 1
    for run in runs:
        better = sign * (1 + run.seed / 100) * (run.setting("arm") == "a")
        store.add(Result(run, "finished", {"accuracy": 90 + better}, []), scale)
    return store


def only(found: Sequence[Verdict]) -> Verdict:
    (one,) = found
    return one


def test_nothing_recorded_is_not_run(tmp_path: Path) -> None:
    assert only(ARTIFACT.verdicts(Store(tmp_path))).status == "not run"


def test_smoke_never_votes(tmp_path: Path) -> None:
    store = store_with(tmp_path, "smoke", ARTIFACT.at("smoke"))
    assert len(store.recorded(ARTIFACT.at("smoke"))) == 8
    assert only(ARTIFACT.verdicts(store)).status == "not run"
    smoke_only = dataclasses.replace(ARTIFACT, runs={"smoke": ARTIFACT.at("smoke")})
    assert only(smoke_only.verdicts(store)).status == "not run"


def test_the_largest_scale_with_enough_seeds_votes(tmp_path: Path) -> None:
    store = store_with(tmp_path, "cpu", ARTIFACT.at("cpu"))
    found = only(ARTIFACT.verdicts(store))
    assert (found.status, found.scale, found.n) == ("reproduced", "cpu", 4)
    assert set(found.run_ids) == {run.id for run in ARTIFACT.at("cpu")}

    store_with(tmp_path, "paper", ARTIFACT.at("paper")[:4])  # two seeds: the smaller scale stays
    assert only(ARTIFACT.verdicts(store)).scale == "cpu"

    store_with(tmp_path, "paper", ARTIFACT.at("paper")[:6])
    found = only(ARTIFACT.verdicts(store))
    assert (found.status, found.scale, found.n) == ("contradicted", "paper", 3)


def test_too_few_seeds_are_said_to_be_inconclusive(tmp_path: Path) -> None:
    store = store_with(tmp_path, "cpu", ARTIFACT.at("cpu")[:4])
    found = only(ARTIFACT.verdicts(store))
    assert (found.status, found.scale, found.n) == ("inconclusive", "cpu", 2)


def test_an_incomplete_comparison_does_not_count(tmp_path: Path) -> None:
    runs = ARTIFACT.at("cpu")
    store = store_with(tmp_path, "cpu", [run for run in runs if run != runs[0]])
    assert set(ARTIFACT.records("cpu", store).runs["seed"]) == {1, 2, 3}
    found = only(ARTIFACT.verdicts(store))
    assert found.n == 3
    assert {runs[0].id, runs[1].id}.isdisjoint(found.run_ids)


# JSON and the tables


def strict(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


def test_the_json_says_everything_and_is_json() -> None:
    parts = (part("x", above=0.0), part("y", below=1.0))
    judged = [
        verdict(records(x=[9.0, 10.0, 11.0], y=[1.0, math.nan, math.nan]), *parts),
        verdict(records(x=[1.0, 2.0, 3.0])),
    ]
    full, none = json.loads(to_json(judged), parse_constant=strict)
    assert {key: full[key] for key in ("artifact", "claim", "text", "paper_value", "status")} == {
        "artifact": "fig0",
        "claim": "fig0.claim",
        "text": "text",
        "paper_value": "value",
        "status": "partly",
    }
    assert (full["scale"], full["n"], full["run_ids"]) == ("cpu", 1, ["run0", "run1", "run2"])
    x, y = full["estimates"]
    assert (x["value"], x["n"], x["holds"], x["above"], x["below"]) == (10.0, 3, True, 0.0, None)
    assert (x["low"], x["high"]) == pytest.approx((7.5159, 12.4841), abs=1e-4)
    assert (y["value"], y["low"], y["high"], y["holds"]) == (1.0, None, None, None)
    assert (none["status"], none["scale"], none["estimates"]) == ("not run", None, [])


@pytest.mark.parametrize(
    ("values", "exact", "text"),
    [
        ([9.0, 10.0, 11.0], False, "10.0 [7.52, 12.5]"),
        ([1234.5678], True, "1,235"),
        ([0.25], False, "0.250"),
        ([999.4], True, "999"),
        ([999.6], True, "1,000"),
        ([-999.9], True, "−1,000"),
        ([999_999.6], True, "1.00e+06"),
        ([2e7], True, "2.00e+07"),
        ([math.nan], True, "no record"),
    ],
)
def test_an_estimate_reads_well(values: list[float], exact: bool, text: str) -> None:
    found = verdict(records(x=values, y=[1.0] * len(values)), part("x", exact=exact), part("y"))
    assert report.with_interval(found.estimates[0]) == text


MANY = {"x, a": [1.0] * 3, "x, b": [2.0] * 3, "x, c": [math.nan] * 3, "x, d": [9.0] * 3}


def test_many_estimates_of_a_kind_are_given_by_their_range() -> None:
    judged = verdict(records(**MANY), *(part(name, below=5.0) for name in MANY))
    assert report.ours(judged.estimates) == "x: 1.00 to 9.00 (asked: below 5.00); 2 of 4 hold"


@pytest.mark.parametrize(("name", "bound"), [("y", 5.0), ("x, d", 6.0)])
def test_estimates_of_different_kinds_are_all_given(name: str, bound: float) -> None:
    parts = [part("x, a", below=5.0), part("x, b", below=5.0), part(name, below=bound)]
    judged = verdict(records(**MANY, y=[4.0] * 3), *parts)
    shown = report.ours(judged.estimates).split("; ")
    assert [text.partition(":")[0] for text in shown] == ["x, a", "x, b", name]


def test_a_bar_in_a_cell_begins_no_other() -> None:
    """As the book's parser reads it."""
    table = pd.DataFrame({"log10 |g|": ["a|b", r"already \| escaped"], "n": [1, 2]})
    parser = MarkdownIt().enable("table")
    tokens = [token.content for token in parser.parse(report.markdown(table)) if token.content]
    assert tokens == ["log10 |g|", "n", "a|b", "1", "already | escaped", "2"]


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ({"above": 0.5}, "x: 10.0 [7.52, 12.5] (asked: above 0.500)"),
        ({"below": 100.0}, "x: 10.0 [7.52, 12.5] (asked: below 100)"),
        ({"above": -1.0, "below": 1.0}, "x: 10.0 [7.52, 12.5] (asked: −1.00 to 1.00)"),
    ],
)
def test_an_estimate_says_what_was_asked_of_it(bounds: dict[str, float], text: str) -> None:
    judged = verdict(records(x=[9.0, 10.0, 11.0]), part("x", **bounds))
    assert report.ours(judged.estimates) == text


def test_the_table_has_a_row_a_claim_and_the_document_takes_it() -> None:
    judged = [verdict(records(x=[9.0, 10.0, 11.0]), HOLDS), verdict(records(x=[1.0]))]
    table = report.table(judged)
    assert list(table["verdict"]) == [report.MARKS["reproduced"], report.MARKS["not run"]]
    assert list(table["scale"]) == ["cpu", ""]
    assert list(table["seeds"]) == ["3", ""]
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.refreshed(text, judged)
    assert once.startswith(f"before\n{report.BEGIN}\n| ")
    assert once.endswith(f" |\n{report.END}\nafter\n")
    assert "old" not in once
    assert report.refreshed(once, judged) == once
