"""A rehearsal tries each kind of run once, times it, and goes on where one fails."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path

import pytest

from experiments import campaign, engine, rehearsal, timings
from experiments.artifact import find
from experiments.record import Store
from experiments.rehearsal import Rehearsed, keep, rehearse
from experiments.spec import Run, options

DIGITS = find("fig6").at("smoke")
MEASURED = find("fig8").at("smoke")


def test_each_kind_is_tried_once_and_timed(tmp_path: Path) -> None:
    told: list[Rehearsed] = []
    found = rehearse([*DIGITS, *MEASURED], "cpu", tmp_path, seconds=0.0, tell=told.append)
    assert set(found) == set(DIGITS)
    tried = [one.run.optim.name for one in told if one.run.optim]
    assert tried == ["sgd", "adam", "radam"]
    for one in told:
        updates = one.run.epochs * -(-one.run.setting("train_images") // one.run.batch_size)
        assert one.failure is None
        assert one.updates == updates
        assert one.seconds is not None
        assert one.hours == pytest.approx(updates * one.seconds / 3600)
    assert {one.run for one in found.values()} == {one.run for one in told}


def test_the_first_window_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In it a GPU compiles and memory fills: here it takes ten times as long as the others."""
    clock = iter([0.0, 10.0, 11.0, 12.0, 13.0])

    def execute(run: Run, **how: object) -> None:
        for number in range(1, 6):
            how["report"](number * rehearsal.WINDOW, 1_000, 1.0, 0.1)  # type: ignore[operator]

    monkeypatch.setattr(engine, "execute", execute)
    monkeypatch.setattr(rehearsal.time, "perf_counter", lambda: next(clock))
    found = rehearse(DIGITS[:1], "cpu", tmp_path, seconds=2.0)
    assert found[DIGITS[0]] == Rehearsed(DIGITS[0], 1_000, 1 / rehearsal.WINDOW)


def test_what_fails_is_told_and_the_others_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dict(DIGITS[0].settings) | {"data": "cifar10"}
    absent = dataclasses.replace(DIGITS[0], task="cifar10", settings=options(**settings))
    broken = DIGITS[1]
    execute = engine.execute

    def breaking(run: Run, **how: object) -> object:
        if run == broken:
            raise RuntimeError("no kernel")
        return execute(run, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "execute", breaking)
    runs = [broken, absent, *find("fig6").at("smoke")[-1:]]
    first, second, third = rehearse(runs, "cpu", tmp_path, seconds=0.0).values()
    assert first.failure == "RuntimeError: no kernel"
    assert second.failure is not None
    assert "cifar10" in second.failure
    assert third.failure is None


def test_a_pace_is_kept_with_how_it_came_about(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = dataclasses.replace(DIGITS[0], precision="bfloat16", seed=3)
    for one in (Rehearsed(run, 64, 2.0), Rehearsed(run, 64, 0.5), Rehearsed(DIGITS[-1], 64)):
        keep(one, store, "cpu", compiled=True)
    (line,) = timings.lines(store, timings.PACES)  # the later one, and none of what was too short
    kind = Run.of(line["kind"])
    assert kind == campaign.likenesses(run)[0]
    assert (line["updates"], line["seconds_per_update"]) == (64, 0.5)
    assert (line["device"], kind.precision, line["compiled"]) == ("cpu", "bfloat16", True)
    assert "precision" not in line  # once is enough
    assert line["versions"]["torch"]
    assert datetime.fromisoformat(line["when"]).tzinfo is not None
    other = dataclasses.replace(run, seed=7)
    assert campaign.hours_left([other], store)["cpu"] == campaign.Left(0.0, 32 / 3600)
    assert store.tasks() == []  # it is no record
