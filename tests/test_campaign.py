"""Which run next, and how long it will take."""

import dataclasses
import json
from pathlib import Path

import pytest

from experiments import timings
from experiments.campaign import (
    Budget,
    Durations,
    Left,
    hours_left,
    hours_planned,
    in_order,
    likenesses,
    seconds,
    seeds,
)
from experiments.errors import UserError
from experiments.record import THEN, Result, Store
from experiments.spec import Optim, Run, Schedule, grid, options
from experiments.verdict import MIN_SEEDS

BASE = Run("digits", Optim("radam", 0.1), epochs=2, batch_size=8, settings=options(depth=8))


def study(arms: str, seeds: int, task: str = "digits") -> tuple[Run, ...]:
    """Arm by arm, which is not how they are to be done."""
    return tuple(
        dataclasses.replace(BASE, task=task, optim=Optim(arm, 0.1), seed=seed)
        for arm in arms
        for seed in range(seeds)
    )


def names(runs: list[Run]) -> str:
    return " ".join(f"{run.optim.name}{run.seed}" for run in runs if run.optim)


def test_whole_comparisons_end_first_and_verdicts_before_more_seeds() -> None:
    assert MIN_SEEDS == 3
    ordered = in_order([study("ab", 5), study("bc", 4)])
    assert names(ordered) == "a0 b0 a1 b1 a2 b2 c0 c1 c2 a3 b3 c3 a4 b4"


def test_a_task_is_a_comparison_of_its_own() -> None:
    ordered = in_order([study("ab", 2) + study("cd", 2, task="imagenet")])
    assert names(ordered) == "a0 b0 a1 b1 c0 d0 c1 d1"
    assert in_order([]) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90), ("9m", 540), ("1h30m", 5400), ("0.5h", 1800), ("1:30:05", 5405)],
)
def test_a_time_has_units(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("0", [0]), ("0-2", [0, 1, 2]), ("0,2", [0, 2]), ("3,0-1", [3, 0, 1])]
)
def test_seeds_are_numbers_and_ranges(text: str, expected: list[int]) -> None:
    assert [seed for part in seeds(text) for seed in part] == expected


@pytest.mark.parametrize("text", ["", "a", "-1", "1-", "2-0", "0,", "0-1-2", "0 1", "1.5"])
def test_what_names_no_seeds_is_a_sentence(text: str) -> None:
    with pytest.raises(UserError, match="names no seeds; give some such as 0, 0-2 or 0,2"):
        seeds(text)


@pytest.mark.parametrize(
    "text", ["", "9", "m", "9 m", "-9m", "9d", "0s", "nine", "1h30", "99999h", "1:30", "1:60:00"]
)
def test_what_is_no_time_is_a_sentence(text: str) -> None:
    with pytest.raises(
        UserError, match="is no time of up to a year; give one such as 90s, 9m or 1h30m"
    ):
        seconds(text)


@pytest.mark.parametrize("given", [1.0, 10.0, 540.0, 36_000.0])
def test_a_campaign_stops_and_then_kills_within_its_time(given: float) -> None:
    budget = Budget.of(given, began=1000.0)
    assert 1000 < budget.stop < budget.kill < 1000 + given
    assert given - 20 <= budget.stop - 1000
    assert Budget().stop == Budget().kill == float("inf")


# Durations


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Ten seconds with one optimizer, thirty with another, and what must not count.

    The GPU did four runs side by side.
    """
    store = Store(tmp_path)
    lines = [
        (BASE, "finished", 9.0, "cpu"),
        (dataclasses.replace(BASE, seed=1), "finished", 11.0, "cpu"),
        (dataclasses.replace(BASE, seed=2), "diverged", 0.1, "cpu"),
        (dataclasses.replace(BASE, seed=3), "finished", 1.0, "a GPU"),
        (dataclasses.replace(BASE, optim=Optim("adam", 0.1)), "finished", 30.0, "cpu"),
        (dataclasses.replace(BASE, epochs=4), "finished", 77.0, "cpu"),
        (Run("digits", settings=options(points=3)), "finished", 5.0, "cpu"),
    ]
    for run, status, wall, device in lines:
        known = {"wall_seconds": wall, "startup_seconds": wall / 10, "device": device}
        known |= {"side_by_side": 4} if device == "a GPU" else {}
        store.add(Result(run, status, {}, [], known), "cpu")
    return store


def test_durations_are_those_of_the_like_on_the_same_device(store: Store) -> None:
    durations = Durations(store, "cpu", ["digits", "none"])
    warmup = (Schedule("LinearWarmup", options(steps=5)),)
    like = dataclasses.replace(BASE, optim=Optim("radam", 0.003), schedule=warmup, seed=9)
    assert durations.on_device(like) == 10.0
    assert durations.to_checkpoint(like) == 1.0
    assert Durations(store, "a GPU", ["digits"]).on_device(like) == 0.25
    other = dataclasses.replace(BASE, optim=Optim("sgd", 0.1))  # as the others do: 9, 11, 30
    assert durations.on_device(other) == 11.0


@pytest.mark.parametrize(
    "change", [{"epochs": 3}, {"batch_size": 9}, {"clip": 1.0}, {"settings": ()}, {"task": "x"}]
)
def test_of_what_was_never_done_the_duration_is_not_known(
    store: Store, change: dict[str, object]
) -> None:
    unlike = dataclasses.replace(BASE, **change)
    durations = Durations(store, "cpu", ["digits"])
    assert durations.on_device(unlike) is durations.to_checkpoint(unlike) is None
    assert Durations(store, "another GPU", ["digits"]).on_device(BASE) is None


def test_on_a_cpu_it_counts_what_others_left_a_run_of_the_processor(tmp_path: Path) -> None:
    """With several threads that is more than the time on the wall, which then counts."""
    store, known = Store(tmp_path), {"device": "cpu", "wall_seconds": 30.0, "side_by_side": 2}
    slowed, threaded = BASE, dataclasses.replace(BASE, epochs=9)
    store.add(Result(slowed, "finished", {}, [], {**known, "cpu_seconds": 10.0}), "cpu")
    store.add(Result(threaded, "finished", {}, [], {**known, "cpu_seconds": 50.0}), "cpu")
    durations = Durations(store, "cpu", ["digits"])
    assert durations.on_device(slowed) == 5.0
    assert durations.on_device(threaded) == 15.0


def test_a_run_of_several_processes_takes_the_time_of_all(tmp_path: Path) -> None:
    store, known = Store(tmp_path), {"device": "a GPU", "wall_seconds": 30.0, "processes": 4}
    store.add(Result(BASE, "finished", {}, [], known), "cpu")
    assert Durations(store, "a GPU", ["digits"]).on_device(BASE) == 120.0


def test_a_measurement_leaves_nothing_before_its_end(store: Store) -> None:
    (measured,) = grid(Run("digits", settings=options(points=3)), seed=[7])
    assert Durations(store, "cpu", ["digits"]).to_checkpoint(measured) == 5.0


def test_hours_left_are_those_of_the_outstanding_on_each_device(store: Store) -> None:
    recorded = (BASE, dataclasses.replace(BASE, seed=1))
    left = tuple(dataclasses.replace(BASE, seed=seed) for seed in (5, 6, 7))
    adam = dataclasses.replace(BASE, optim=Optim("adam", 0.3))
    assert hours_left(recorded + left, store) == {
        "a GPU": Left(0.75 / 3600),
        "cpu": Left(30 / 3600),
    }
    assert hours_left((*left, adam), store) == {"a GPU": Left(1.0 / 3600), "cpu": Left(60 / 3600)}
    unlike = dataclasses.replace(BASE, batch_size=9)
    assert hours_left((*left, unlike), store) == {
        "a GPU": Left(0.75 / 3600, unknown=(unlike,)),
        "cpu": Left(30 / 3600, unknown=(unlike,)),
    }
    assert hours_left(recorded, store) == {"a GPU": Left(), "cpu": Left()}
    assert hours_left([dataclasses.replace(BASE, task="new")], store) == {}


def rehearsed(store: Store, run: Run, device: str, seconds: float) -> None:
    """A pace of so many seconds an update, of a run that has ten updates."""
    line = {
        "kind": json.loads(likenesses(run)[0].canonical_json()),
        "updates": 10,
        "seconds_per_update": seconds,
        "device": device,
    }
    with store.changing(timings.FOLDER):
        timings.put(store, timings.PACES, [line])


def test_where_nothing_like_a_run_is_recorded_its_time_is_that_of_a_rehearsal(
    store: Store,
) -> None:
    unlike, unknown = (dataclasses.replace(BASE, batch_size=size, seed=5) for size in (9, 7))
    left = (dataclasses.replace(BASE, seed=5), unlike, dataclasses.replace(unlike, seed=6), unknown)
    for like in left[:2]:
        rehearsed(store, like, "cpu", 100.0)
        rehearsed(store, like, "new", 200.0)
    rehearsed(store, unlike, "cpu", 2.0)  # in place of the one before
    assert hours_left(left, store) == {
        "a GPU": Left(0.25 / 3600, unknown=(*left[1:],)),
        "cpu": Left(10 / 3600, 2 * 20 / 3600, (unknown,)),
        "new": Left(0.0, 3 * 2000 / 3600, (unknown,)),
    }
    sgd = dataclasses.replace(unlike, optim=Optim("sgd", 0.1))  # as another optimizer does
    assert hours_left([sgd], store)["cpu"] == Left(0.0, 20 / 3600)


def test_what_was_estimated_stays_known_once_it_is_recorded(store: Store) -> None:
    assert hours_planned([BASE], store) == {}
    rehearsed(store, BASE, "cpu", 100.0)
    unknown = dataclasses.replace(BASE, batch_size=7)
    assert hours_left([BASE, unknown], store)["cpu"] == Left(unknown=(unknown,))  # it is recorded
    assert hours_planned([BASE, unknown], store) == {"cpu": Left(0.0, 1000 / 3600, (unknown,))}


def test_a_damaged_file_of_paces_is_a_sentence(store: Store) -> None:
    rehearsed(store, BASE, "cpu", 1.0)
    path = store.root / "benchmarks" / "paces.jsonl"
    for damage in ("{", "{}", "1"):
        path.write_text(path.read_text().partition("\n")[0] + f"\n{damage}\n")
        with pytest.raises(UserError, match=r"paces.jsonl is not whole after line 1 \("):
            hours_left([BASE], store)


def test_a_run_that_moved_to_another_device_tells_of_none(store: Store) -> None:
    left = dataclasses.replace(BASE, seed=9)
    before = hours_left([left], store)
    moved = {"wall_seconds": 99.0, "device": f"cpu{THEN}a GPU"}
    store.add(Result(dataclasses.replace(BASE, seed=8), "finished", {}, [], moved), "cpu")
    assert hours_left([left], store) == before
