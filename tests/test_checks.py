"""A verdict that decides falls where other readings of the same records say otherwise."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest

from experiments import checks, ledger, report
from experiments.artifact import Artifact
from experiments.paper import _classifiers, _language
from experiments.record import Result, Store
from experiments.spec import Optim, Run, grid, with_other_batches
from experiments.verdict import Claim, Part, Records, judge

RADAM = Optim("radam", lr=0.1)
ARMS = (Optim("sgd", lr=0.1), RADAM)


def planned(seeds: int) -> tuple[Run, ...]:
    return grid(Run(task="digits", optim=ARMS[0], epochs=2), seed=range(seeds), optim=ARMS)


def recorded(
    runs: Sequence[Run], leads: Sequence[float], best: float = 0.0, spread: float = 0.0
) -> Records:
    """RAdam's lead by seed; `best` is what its first test epoch is higher than its last.

    By `spread` every arm is higher with a seed than with the one before.
    """
    rows, curves = [], []
    for run in runs:
        assert run.optim is not None
        is_radam = run.optim.name == "radam"
        value = 50.0 + spread * run.seed + is_radam * leads[run.seed]
        row = {"run_id": run.id, **run.axes(), "status": "finished", "test_accuracy": value}
        rows.append(row)
        for step, there in ((1, value + is_radam * best), (2, value)):
            point = {"step": step, "split": "test", "metric": "accuracy", "value": there}
            curves.append({"run_id": run.id, **run.axes(), **point})
    return Records(pd.DataFrame(rows), pd.DataFrame(curves))


def result(run: Run, accuracy: float) -> Result:
    curves = [(float(step), "test", "accuracy", accuracy) for step in (1, 2)]
    return Result(run, "finished", {"test_accuracy": accuracy}, curves)


def lead(records: Records) -> pd.Series:
    of = records.runs.pivot(index="seed", columns="optimizer", values="test_accuracy")
    return of["radam"] - of["sgd"]


CLAIM = Claim("fig0.better", "it is better", "by eye", (Part("points", lead, above=0.0),))


def artifact(runs: tuple[Run, ...]) -> Artifact:
    return Artifact("fig0", "A figure", (CLAIM,), {"cpu": runs})


def test_without_each_seed_once_where_the_rest_can_decide() -> None:
    readings = list(checks.readings(recorded(planned(4), [1, 1, 1, 1])))
    seeds = [set(one.runs["seed"]) for name, one in readings if name == checks.ONE_LESS]
    assert seeds == [{1, 2, 3}, {0, 2, 3}, {0, 1, 3}, {0, 1, 2}]
    three = [name for name, _ in checks.readings(recorded(planned(3), [1, 1, 1]))]
    assert three == [checks.BEST_EPOCH]


def test_the_authors_protocol_counts_the_best_test_epoch() -> None:
    records = recorded(planned(3), [1, 1, 1], best=4.0)
    ((_, reading),) = checks.readings(records)
    assert set(lead(reading)) == {5.0}
    assert set(lead(records)) == {1.0}


def test_no_seed_alone_may_choose_a_learning_rate() -> None:
    """RAdam ends higher at one of two rates, and one seed alone has that rate chosen."""
    runs = grid(planned(3)[0], seed=range(3), optim=ARMS, lr=(0.1, 1.0))
    records = recorded(runs, [1.0, 1.1, 0.9])
    low = records.runs["lr"].eq(0.1)
    is_radam = records.runs["optimizer"].eq("radam")
    chance = {0: 60.0, 1: 50.0, 2: 50.0}  # RAdam's at the rate at which it ends higher
    validation = records.runs["seed"].map(chance).where(is_radam & low, 52.0)
    ends = records.runs["test_accuracy"] - 5.0 * (is_radam & ~low)
    table = records.runs.assign(validation_accuracy=validation, test_accuracy=ends)

    at_best = functools.partial(_classifiers.lead, arm="radam", rival="sgd")
    claim = Claim("fig0.better", "it is better", "by eye", (Part("points", at_best, above=0.0),))
    verdict = artifact(runs).judged(claim, Records(table, records.curves), "cpu")
    assert (verdict.status, verdict.fails_with) == ("inconclusive", (checks.OTHER_RATES,))


def test_a_run_that_diverged_has_no_say_where_its_seed_has_none() -> None:
    runs = pd.DataFrame(
        [
            {"run_id": f"{lr}-{seed}", "optimizer": "radam", "lr": lr, "seed": seed}
            | {"status": "finished", "validation_loss": loss, "validation_accuracy": 100 - loss}
            for lr, losses in {0.1: [2.0, 2.0, 2.0], 1.0: [1.0, 1.0, float("nan")]}.items()
            for seed, loss in enumerate(losses)
        ]
    )
    runs["test_accuracy"] = runs["validation_accuracy"]
    runs.loc[runs["validation_loss"].isna(), "status"] = "diverged"
    records = Records(runs, pd.DataFrame(columns=["run_id", "split", "metric", "value"]))
    readings = [one for name, one in checks.readings(records) if name == checks.OTHER_RATES]
    for best in (_classifiers.best_lr, _language.best_rate):
        assert best(runs, "radam") == 0.1
        assert [best(one.runs, "radam") for one in readings] == [0.1, 0.1, 1.0]


@pytest.mark.parametrize("copies", [1, 5])
def test_a_tie_of_rates_is_one_however_they_are_added_up(copies: int) -> None:
    """With five copies, the means of these differ in the last bit."""
    for best, first, second in (
        (_classifiers.best_lr, [68.2, 28.84, 43.04], [70.04, 27.0, 43.04]),
        (_language.best_rate, [25.21, 45.88, 43.8], [27.29, 43.8, 43.8]),
    ):
        rows = [
            {"optimizer": "radam", "lr": lr, "status": "finished"}
            | dict.fromkeys(("validation_accuracy", "validation_loss"), value)
            for lr, values in ((0.1, first), (1.0, second))
            for value in values
        ]
        assert best(pd.DataFrame(rows * copies), "radam") == 0.1


def shuffles(runs: Sequence[Run], records: Records) -> list[Records]:
    arms = checks.arms_of(runs)
    return [with_seeds(records, arms, to) for to in checks.pairings(CLAIM, records, arms)]


def with_seeds(records: Records, arms: Mapping[str, int], to: checks.Shuffle) -> Records:
    """One way to shuffle by itself."""
    return checks.side_by_side(records, arms, [to])


def test_shuffled_seeds_give_every_arm_the_values_that_it_has() -> None:
    """Each pairing of the seeds of two arms once, but the one there is."""
    runs = planned(3)
    records = recorded(runs, [1, 2, 4], spread=10.0)
    shuffled = shuffles(runs, records)
    assert len({tuple(lead(one).sort_index()) for one in shuffled}) == len(shuffled) == 5
    for one in shuffled:
        for arm in ("sgd", "radam"):
            before, after = (
                x.runs[x.runs["optimizer"] == arm].set_index("seed")["test_accuracy"]
                for x in (records, one)
            )
            assert sorted(after) == sorted(before)
            assert sorted(after.index) == [0, 1, 2]
        seeds = one.runs.set_index("run_id")["seed"]
        assert (one.curves["seed"] == one.curves["run_id"].map(seeds)).all()
        assert not lead(one).equals(lead(records))


def test_arms_that_a_claim_is_not_about_are_not_shuffled() -> None:
    runs = grid(planned(3)[0], seed=range(3), optim=(*ARMS, Optim("adam", lr=0.1)))
    records = recorded(runs, [1, 2, 4], spread=10.0)
    assert len(shuffles(runs, records)) == 5


@pytest.mark.parametrize(("seeds", "number"), [(2, 1), (4, 23), (5, 119), (6, checks.DRAWN)])
def test_all_shuffles_are_tried_or_many_and_none_twice(seeds: int, number: int) -> None:
    runs = planned(seeds)
    shuffled = shuffles(runs, recorded(runs, [2**seed for seed in range(seeds)], spread=100.0))
    assert len({tuple(lead(one).sort_index()) for one in shuffled}) == len(shuffled) == number


def total(records: Records) -> pd.Series:
    return records.runs.groupby("seed")["test_accuracy"].sum()


def test_many_arms_with_many_seeds_are_shuffled_as_well() -> None:
    arms = (*ARMS, *(Optim("adam", lr=0.1, weight_decay=0.01 * number) for number in range(12)))
    runs = grid(planned(5)[0], seed=range(5), optim=arms)
    records = recorded(runs, [1, 2, 4, 8, 16], spread=100.0)
    numbers = checks.arms_of(runs)
    claim = dataclasses.replace(CLAIM, parts=(Part("points", total, above=0.0),))
    ways = checks.pairings(claim, records, numbers)
    shuffled = [with_seeds(records, numbers, to) for to in ways]
    assert len({tuple(one.runs["seed"]) for one in shuffled}) == checks.DRAWN


def test_a_claim_has_the_numbers_of_the_shuffled_records() -> None:
    """All are read at once."""
    runs = grid(planned(3)[0], seed=range(3), optim=(*ARMS, Optim("adam", lr=0.1)))
    records = recorded(runs, [1, 2, 4], spread=100.0)
    arms, asked = checks.arms_of(runs), []

    def number(of: Records) -> pd.Series:
        asked.append(of)
        others = of.runs[of.runs["optimizer"] == "adam"].set_index("seed")["test_accuracy"]
        numbers = lead(of) - others
        return numbers[numbers.index % 3 != 2]

    part = Part("points", number, above=0.0)
    claim = dataclasses.replace(CLAIM, parts=(part,), given=(part,))
    ways = checks.pairings(claim, records, arms)
    expected = [number(with_seeds(records, arms, to)) for to in ways]
    asked.clear()
    found = [*checks.shuffled(claim, records, arms, ways)]
    assert len(found) == len(ways) == 35
    assert len(asked) == 1
    asked.clear()
    for one, numbers in zip(found, expected, strict=True):
        for read in (*one.parts, *one.given):
            values = read.statistic(records)
            assert sorted(values.index) == [0, 1, 2]
            pd.testing.assert_series_equal(
                values.dropna().sort_index(), numbers.sort_index(), check_names=False
            )
    assert not asked


@pytest.mark.parametrize(
    ("leads", "best", "spread", "fails_with"),
    [
        ([1.0, 1.1, 0.9, 1.0], 0.0, 0.0, ()),
        ([0.9, 0.15, 0.6, 0.9], 0.0, 0.0, (checks.ONE_LESS,)),
        # an epoch that is worse than the last is not the best
        ([1.0, 1.1, 0.9, 1.0], -9.0, 0.0, ()),
        ([1.0, 1.1, 0.9, 1.0], 0.0, 0.1, ()),  # what the seeds share is small against the lead
        ([1.0, 1.1, 0.9, 1.0], 0.0, 10.0, (checks.PAIRED,)),
    ],
)
def test_a_claim_that_holds_must_hold_in_the_other_readings(
    leads: list[float], best: float, spread: float, fails_with: tuple[str, ...]
) -> None:
    runs = planned(4)
    records = recorded(runs, leads, best, spread)
    assert judge("fig0", CLAIM, records, "cpu").status == "reproduced"
    verdict = artifact(runs).judged(CLAIM, records, "cpu")
    assert verdict.fails_with == fails_with
    assert verdict.status == ("inconclusive" if fails_with else "reproduced")
    (ours,) = report.table([verdict])["ours"]
    assert all(f"not with {name}" in ours for name in fails_with)


@pytest.mark.parametrize(
    ("leads", "best", "spread", "fails_with"),
    [
        ([1.0, 1.1, 0.9, 1.0], 0.0, 0.0, ()),
        ([0.9, 0.15, 0.6, 0.9], 0.0, 0.0, (checks.ONE_LESS,)),
        ([1.0, 1.1, 0.9, 1.0], 0.0, 10.0, (checks.PAIRED,)),
    ],
)
def test_a_claim_that_is_contradicted_must_be_so_in_the_other_readings(
    leads: list[float], best: float, spread: float, fails_with: tuple[str, ...]
) -> None:
    runs = planned(4)
    records = recorded(runs, leads, best, spread)
    worse = Claim("fig0.worse", "it is worse", "by eye", (Part("points", lead, below=0.0),))
    assert judge("fig0", worse, records, "cpu").status == "contradicted"
    verdict = artifact(runs).judged(worse, records, "cpu")
    assert verdict.fails_with == fails_with
    assert verdict.status == ("inconclusive" if fails_with else "contradicted")


@pytest.mark.parametrize(("spread", "status"), [(0.1, "partly"), (10.0, "inconclusive")])
def test_of_a_claim_that_holds_in_part_a_part_must_hold_in_the_other_readings(
    spread: float, status: str
) -> None:
    runs = planned(4)
    records = recorded(runs, [1.0, 1.1, 0.9, 1.0], spread=spread)
    parts = (*CLAIM.parts, Part("points", lead, below=0.0))
    claim = dataclasses.replace(CLAIM, parts=parts)
    assert judge("fig0", claim, records, "cpu").status == "partly"
    verdict = artifact(runs).judged(claim, records, "cpu")
    assert (verdict.status, verdict.by_rule) == (status, "partly")


def test_what_does_not_hold_at_the_authors_epoch_is_inconclusive() -> None:
    """Its rival's first epoch is better than its last."""
    runs = planned(3)
    records = recorded(runs, [1.0, 1.1, 0.9])
    first = records.curves["optimizer"].eq("sgd") & records.curves["step"].eq(1)
    curves = records.curves.assign(value=records.curves["value"] + 5.0 * first)
    verdict = artifact(runs).judged(CLAIM, Records(records.runs, curves), "cpu")
    assert (verdict.status, verdict.fails_with) == ("inconclusive", (checks.BEST_EPOCH,))


def test_what_is_about_one_run_done_twice_is_asked_of_no_other_pairs() -> None:
    runs = planned(4)
    records = recorded(runs, [1.0, 1.1, 0.9, 1.0], spread=10.0)
    twice = dataclasses.replace(CLAIM, of_pairs=True)
    verdict = artifact(runs).judged(twice, records, "cpu")
    assert (verdict.status, verdict.fails_with) == ("reproduced", ())
    assert checks.PAIRED not in verdict.readings


@pytest.mark.parametrize("there", [0.8, -0.8])
def test_what_does_not_hold_with_runs_that_were_made_again_is_inconclusive(
    tmp_path: Path, there: float
) -> None:
    """One of RAdam's runs was made elsewhere too, and led by that much there."""
    runs = planned(3)
    store = Store(tmp_path)
    for run, value in zip(runs, recorded(runs, [1.0, 1.1, 0.9]).runs["test_accuracy"], strict=True):
        store.add(result(run, value), "cpu")
    (one,) = (run for run in runs if run.seed == 1 and run.optim == RADAM)
    store.again.add(result(one, 50.0 + there), "cpu")
    assert store.tasks() == [one.task]
    (verdict,) = artifact(runs).verdicts(store)
    holds = there > 0
    assert verdict.fails_with == (() if holds else (checks.AGAIN,))
    assert verdict.status == ("reproduced" if holds else "inconclusive")
    assert verdict.readings[checks.AGAIN] == (int(holds), 1)


@pytest.mark.parametrize(
    ("arms", "lead", "holds"), [(ARMS, 0.8, True), (ARMS, -0.8, False), ((RADAM,), -0.8, None)]
)
def test_what_does_not_hold_with_the_batches_of_other_seeds_is_inconclusive(
    tmp_path: Path, arms: Sequence[Optim], lead: float, holds: bool | None
) -> None:
    """RAdam leads by that much there; nothing is asked unless every arm has such runs.

    That more seeds are planned than recorded changes nothing.
    """
    runs, more = planned(3), planned(5)
    store = Store(tmp_path)
    for run, value in zip(runs, recorded(runs, [1.0, 1.1, 0.9]).runs["test_accuracy"], strict=True):
        store.add(result(run, value), "cpu")
        if run.optim in arms:
            there = 50.0 + lead * (run.optim == RADAM) + 0.01 * run.seed
            store.add(result(with_other_batches(run), there), "cpu")
    (verdict,) = artifact(more).verdicts(store)
    assert verdict.fails_with == ((checks.SWAPPED,) if holds is False else ())
    assert verdict.status == ("inconclusive" if holds is False else "reproduced")
    assert verdict.readings.get(checks.SWAPPED) == (None if holds is None else (int(holds), 1))


def test_other_batches_ask_no_claim_that_is_of_runs_without_them(tmp_path: Path) -> None:
    """Each arm met them at one of its two learning rates, and a claim is of both."""
    runs = (*planned(3), *grid(planned(1)[0], seed=range(3), optim=ARMS, lr=[0.01]))
    store = Store(tmp_path)
    for run in runs:
        assert run.optim is not None
        store.add(result(run, 50.0 + (run.optim.name == "radam") + 0.01 * run.seed), "cpu")
        if run.optim in ARMS:
            store.add(result(with_other_batches(run), 50.0 + 0.02 * run.seed), "cpu")

    def at_one(records: Records) -> pd.Series:
        return lead(records.where(records.runs["lr"] == RADAM.lr))

    def at_both(records: Records) -> pd.Series:
        best = records.runs.groupby(["optimizer", "seed"])["test_accuracy"].max()
        return best["radam"] - best["sgd"]

    for statistic, asked in ((at_one, True), (at_both, False)):
        claim = dataclasses.replace(CLAIM, parts=(Part("points", statistic, above=0.0),))
        study = dataclasses.replace(artifact(runs), claims=(claim,))
        (verdict,) = study.verdicts(store)
        assert verdict.by_rule == "reproduced"
        assert (verdict.fails_with == (checks.SWAPPED,)) is asked
        assert (checks.SWAPPED in verdict.readings) is asked


def test_no_reading_makes_a_claim_hold() -> None:
    runs = planned(4)
    verdict = artifact(runs).judged(CLAIM, recorded(runs, [1, -1, 1, -1], best=50.0), "cpu")
    assert (verdict.status, verdict.fails_with) == ("inconclusive", ())


def test_the_ledger_counts_the_readings(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = planned(4)
    store = Store(tmp_path_factory.mktemp("results"))
    records = recorded(runs, [1.0, 1.1, 1.2, 1.3], spread=10.0)
    for run, value in zip(runs, records.runs["test_accuracy"], strict=True):
        store.add(result(run, value), "cpu")
    monkeypatch.setattr(ledger, "artifacts", lambda: {"fig0": artifact(runs)})
    (row,) = ledger.firmness(store).to_dict("records")
    assert (row["claim"], row["by the rule"]) == ("**fig0** it is better", "✔ reproduced")
    assert row[checks.ONE_LESS] == "4 of 4"
    assert row[checks.BEST_EPOCH] == "–"  # it changes nothing here
    assert row[checks.AGAIN] == "–"  # none were made again
    held, _, tried = row[checks.PAIRED].partition(" of ")
    assert 0 <= int(held) < int(tried) == 23  # seeds far apart: shuffling blurs
