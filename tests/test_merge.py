"""Two results folders into one: nothing lost, nothing mixed, and twice is as once."""

import dataclasses
import errno
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import pytest

from experiments import engine, launch, timings
from experiments.__main__ import main
from experiments.errors import DiskFull, UserError
from experiments.hold import hold
from experiments.launch import Places
from experiments.merge import Merged, merge
from experiments.record import Result, Store
from experiments.spec import Optim, Run, options

A = Run("fake", Optim("sgd", 0.1, options=options(momentum=0.9)), epochs=2, batch_size=8)
B = Run("fake", Optim("adam", 0.1, options=options(betas=(0.9, 0.999))), settings=options(depth=8))
BOTH = dataclasses.replace(A, seed=1)
OTHER = Run("other", settings=options(points=50))


def result(run: Run, value: float = 1 / 3, status: str = "finished", **known: object) -> Result:
    curves = [(1.0, "train", "loss", value), (2.0, "test", "loss", math.nan)]
    return Result(run, status, {"loss": value, "accuracy": 90.0}, curves, known)


def files(root: Path) -> dict[str, bytes]:
    """All that counts: the locks of the tables have nothing in them."""
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != ".lock"}


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    """Two folders, each with a run of its own and one that both have, from another machine."""
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    for store, run, device in ((here, A, "cpu"), (there, B, "a GPU")):
        store.add(result(BOTH, device=device), "cpu")
        store.add(result(run, device=device), "cpu")
    there.add(result(OTHER, 2.0), "paper")
    return here, there


def test_all_comes_together_and_the_other_folder_stays(stores: tuple[Store, Store]) -> None:
    here, there = stores
    before = files(there.root)
    merged = merge(here, there)
    assert (set(merged.new), merged.same) == ({B.id, OTHER.id}, [BOTH.id])
    assert files(there.root) == before
    assert here.recorded([A, B, BOTH, OTHER]) == {A.id, B.id, BOTH.id, OTHER.id}
    table = here.table([A, B, BOTH]).set_index("run_id")
    assert table["optim.momentum"].isna().to_dict() == {A.id: False, B.id: True, BOTH.id: False}
    assert (table["loss"] == 1 / 3).all()
    assert len(here.curves([A, B, BOTH, OTHER])) == 8


def test_twice_is_as_once(stores: tuple[Store, Store]) -> None:
    here, there = stores
    merge(here, there)
    once = files(here.root)
    again = merge(here, there)
    assert (again.new, set(again.same)) == ([], {B.id, BOTH.id, OTHER.id})
    assert merge(here, here) == Merged()
    assert files(here.root) == once


def test_who_takes_from_whom_makes_no_difference(
    stores: tuple[Store, Store], tmp_path: Path
) -> None:
    ours, theirs = (
        (Store(shutil.copytree(one.root, tmp_path / f"{name}-of-{one.root.name}")))
        for one, name in zip(stores, ("copy", "copy"), strict=True)
    )
    merge(stores[0], stores[1])
    merge(theirs, ours)
    assert files(stores[0].root) == files(theirs.root)
    third = Store(tmp_path / "empty")
    for store in (ours, stores[1]):
        merge(third, store)
    assert files(third.root) == files(theirs.root)


def test_it_is_as_if_all_had_been_recorded_in_one_folder(
    stores: tuple[Store, Store], tmp_path: Path
) -> None:
    merge(*stores)
    one = Store(tmp_path / "one")
    one.add(result(OTHER, 2.0), "paper")
    for run, device in ((B, "a GPU"), (A, "cpu"), (BOTH, "a GPU")):
        one.add(result(run, device=device), "cpu")
    assert files(stores[0].root) == files(one.root)


@pytest.mark.parametrize("change", ["a metric", "a curve", "the status"])
def test_of_two_different_values_ours_stays_and_that_is_said(
    stores: tuple[Store, Store], change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = stores
    other = result(A, status="diverged" if change == "the status" else "finished")
    if change == "a metric":
        other.metrics["loss"] = 0.25
    elif change == "a curve":
        other.curves[0] = (1.0, "train", "loss", 0.25)
    there.add(other, "cpu")
    before = here.table([A])
    assert main(["merge", str(there.root), "--results", str(here.root)]) == 0
    assert f"1 run has other values there, and ours stay: {A}\n" in capsys.readouterr().out
    assert here.table([A]).equals(before)
    assert merge(there, here).differing == [A]  # each keeps its own


def test_a_run_that_had_no_memory_gives_way_to_one_that_had(stores: tuple[Store, Store]) -> None:
    here, there = stores
    failed = Result(B, "out of memory", {}, [], {})
    here.add(failed, "cpu")
    there.add(dataclasses.replace(failed, run=A), "cpu")
    merged = merge(here, there)
    assert (merged.settled, set(merged.same)) == ([B.id], {A.id, BOTH.id})
    assert here.recorded([A, B]) == {A.id, B.id}
    assert here.table([B])["loss"].item() == 1 / 3


def test_what_was_made_again_comes_over_beside_the_first_also_where_it_is_all(
    stores: tuple[Store, Store], tmp_path: Path
) -> None:
    here, there = stores
    there.again.add(result(A, 0.5), "cpu")
    assert set(merge(here, there).new) == {A.id, B.id, OTHER.id}
    assert here.again.table([A])["loss"].item() == 0.5
    assert here.table([A])["loss"].item() == 1 / 3
    alone = Store(tmp_path / "alone")
    alone.again.add(result(BOTH, 0.5), "cpu")
    assert merge(here, alone).new == [BOTH.id]
    assert here.again.recorded([A, BOTH]) == {A.id, BOTH.id}


def test_rows_of_a_run_that_was_cut_off_do_not_come_over(stores: tuple[Store, Store]) -> None:
    here, there = stores
    path = there.root / "fake" / "provenance.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if B.id not in line))
    merge(here, there)
    assert B.id not in (here.root / "fake" / "runs.csv").read_text()


@pytest.mark.parametrize("name", ["provenance.jsonl", "runs.csv", "curves.csv"])
def test_a_damaged_folder_is_a_sentence_and_changes_nothing(
    stores: tuple[Store, Store], name: str
) -> None:
    here, there = stores
    before = files(here.root)
    path = there.root / "fake" / name
    path.write_text(path.read_text().rstrip().rpartition("\n")[0] + "\n" + "{" * (name[0] == "p"))
    with pytest.raises(UserError, match=f"{name} (is not|lacks)"):
        merge(here, there)
    assert files(here.root) == before


@pytest.mark.parametrize("folder", ["empty", "none"])
def test_a_folder_of_something_else_is_a_sentence(
    stores: tuple[Store, Store], sentence: Callable[..., str], tmp_path: Path, folder: str
) -> None:
    (tmp_path / "empty").mkdir()
    said = sentence("merge", tmp_path / folder, "--results", stores[0].root)
    says = "holds neither records nor checkpoints nor timings; name a results folder"
    assert says in said


def test_a_bad_folder_keeps_no_other_away(
    stores: tuple[Store, Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = stores
    folders = [str(tmp_path / "none"), str(there.root)]
    assert main(["merge", *folders, "--results", str(here.root)]) == 2
    assert "none holds neither records nor checkpoints nor timings" in capsys.readouterr().err
    assert here.recorded([A, B, BOTH, OTHER]) == {A.id, B.id, BOTH.id, OTHER.id}


# Timings


def timed(store: Store, name: str, ms: int, **known: object) -> None:
    """A table of a benchmark."""
    table = pd.DataFrame([{"contestant": "ours", "ms": ms}])
    with store.changing(timings.FOLDER):
        line = {"table": f"{name}-cpu.csv", **known}
        timings.path(store, line).write_text(table.to_csv(index=False))
        timings.put(store, timings.TABLES, [line])


def pace(store: Store, run: Run, day: int, device: str = "a GPU") -> dict[str, object]:
    line = {"kind": json.loads(run.canonical_json()), "device": device, "when": f"2026-01-0{day}"}
    with store.changing(timings.FOLDER):
        timings.put(store, timings.PACES, [line])
    return line


def test_tables_of_benchmarks_that_are_not_here_come_over_and_others_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    for name, ours, theirs in (("alike", 5, 5), ("other", 5, 6), ("line", 5, 5)):
        timed(here, name, ours, device="this")
        timed(there, name, theirs, device="that" if name == "line" else "this")
    timed(there, "new", 7, device="that")
    before, theirs_before = files(here.root), files(there.root)
    assert main(["merge", str(there.root), "--results", str(here.root)]) == 0
    said = capsys.readouterr().out
    assert "; 1 tables of benchmarks and 0 paces are new; of line-cpu.csv, other-cpu.csv, " in said
    assert "timed in both, ours stay" in said
    after = files(here.root)
    assert after["benchmarks/new-cpu.csv"] == theirs_before["benchmarks/new-cpu.csv"]
    assert {name for name in after if after[name] != before.get(name)} == {
        "benchmarks/new-cpu.csv",
        "benchmarks/timings.jsonl",
    }
    assert [line["device"] for line in timings.lines(here, timings.TABLES)] == [
        *("this", "this", "that", "this"),
    ]
    again = merge(here, there)
    assert (again.tables, again.timed) == ([], ["line-cpu.csv", "other-cpu.csv"])
    assert files(here.root) == after
    assert files(there.root) == theirs_before


def test_of_two_paces_the_newer_stays_whoever_takes(tmp_path: Path) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    pace(here, A, 2)
    newer = pace(there, A, 3)
    ours = pace(here, B, 4)
    pace(there, B, 1)
    elsewhere = pace(there, B, 1, device="another")
    other = Store(shutil.copytree(here.root, tmp_path / "other"))
    assert len(merge(here, there).paces) == 2
    found = timings.lines(here, timings.PACES)
    assert sorted(found, key=str) == sorted([newer, ours, elsewhere], key=str)
    assert merge(here, there) == Merged()
    assert len(merge(there, other).paces) == 1
    assert files(there.root) == files(here.root)


def test_a_table_that_lacks_there_is_a_sentence(tmp_path: Path) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    timed(there, "new", 7)
    (there.root / "benchmarks" / "new-cpu.csv").unlink()
    with pytest.raises(UserError, match=r"there/benchmarks/new-cpu.csv cannot be read"):
        merge(here, there)
    assert timings.lines(here, timings.TABLES) == []


# Checkpoints


def begun(run: Run, root: Path, seconds: float) -> Places:
    """A folder in which a run was stopped after so many updates."""
    places = Places(Store(root), root / "data")
    done = 0

    def report(*_: object) -> None:
        nonlocal done
        done += 1
        if done == seconds:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.execute(run, checkpoint=places.checkpoint(run), every=0.0, report=report)
    return places


def test_the_further_checkpoint_wins_and_the_run_goes_on_from_there(
    tiny: Run, tmp_path: Path
) -> None:
    here, there = begun(tiny, tmp_path / "here", 2), begun(tiny, tmp_path / "there", 5)
    further = there.checkpoint(tiny).read_bytes()
    assert engine.progress(here.checkpoint(tiny)) < engine.progress(there.checkpoint(tiny))
    assert merge(there.store, here.store).checkpoints == []
    assert merge(here.store, there.store).checkpoints == [tiny.id]
    assert merge(here.store, there.store).checkpoints == []
    assert here.checkpoint(tiny).read_bytes() == there.checkpoint(tiny).read_bytes() == further
    whole = engine.execute(tiny)
    outcome = launch.carry_out(tiny, "smoke", here)
    assert outcome.result is not None
    assert (outcome.result.metrics, outcome.result.curves) == (whole.metrics, whole.curves)

    # What has ended here takes no checkpoint any more, and ends there too.
    assert merge(here.store, there.store).checkpoints == []
    merged = merge(there.store, here.store)
    assert merged.new == [tiny.id]
    assert files(here.store.root) == files(there.store.root)


def test_a_run_at_work_here_keeps_its_checkpoint(tiny: Run, tmp_path: Path) -> None:
    here, there = begun(tiny, tmp_path / "here", 2), begun(tiny, tmp_path / "there", 5)
    before = here.checkpoint(tiny).read_bytes()
    with hold(here.lock(tiny)) as held:
        assert held
        merged = merge(here.store, there.store)
    assert (merged.held, merged.checkpoints) == ([tiny.id], [])
    assert "at work here" in str(merged)
    assert here.checkpoint(tiny).read_bytes() == before


def test_a_checkpoint_that_cannot_be_taken_over_leaves_what_was_there(
    tiny: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = begun(tiny, tmp_path / "here", 2), begun(tiny, tmp_path / "there", 5)
    before = files(here.store.root)

    def full(source: BinaryIO, target: BinaryIO) -> None:
        target.write(source.read(100))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(DiskFull, match="No space left"):
        merge(here.store, there.store)
    assert files(here.store.root) == before


def test_a_broken_checkpoint_is_a_sentence(tiny: Run, tmp_path: Path) -> None:
    here, there = begun(tiny, tmp_path / "here", 2), begun(tiny, tmp_path / "there", 5)
    there.checkpoint(tiny).write_bytes(b"rubbish")
    before = here.checkpoint(tiny).read_bytes()
    with pytest.raises(UserError, match=r"there/.*\.pt cannot be read; delete it"):
        merge(here.store, there.store)
    assert here.checkpoint(tiny).read_bytes() == before
