"""The results store: what goes in comes out, and nothing half-written is ever read."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import engine, record
from experiments.errors import UserError
from experiments.record import Result, Store, write_atomically
from experiments.spec import Optim, Run, options

REPOSITORY = Path(__file__).parent.parent
RUNS = tuple(
    Run("fake", Optim("radam", lr=0.1), epochs=2, batch_size=8, seed=seed) for seed in range(3)
)
OTHER = Run("other", settings=options(points=50, rho=4.0))


def result(run: Run, status: str = "finished", **metrics: float) -> Result:
    curves = [(1.0, "train", "loss", 0.5), (2.0, "test", "accuracy", 90.0 + run.seed)]
    return Result(run, status, metrics or {"loss": 0.1, "accuracy": 90.0}, curves, {"note": "x"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.*")}


# There and back


def test_what_goes_in_comes_out(store: Store) -> None:
    assert store.recorded(RUNS) == set()
    assert store.table(RUNS).empty
    assert store.curves(RUNS).empty
    for run in RUNS[:2]:
        store.add(result(run, loss=0.1 + run.seed, accuracy=1 / 3), "cpu")
    store.add(result(OTHER, ratio=2.0), "paper")

    assert store.recorded([*RUNS, OTHER]) == {RUNS[0].id, RUNS[1].id, OTHER.id}
    table = store.table(RUNS)
    assert list(table["run_id"]) == [run.id for run in RUNS[:2]]
    assert list(table["loss"]) == [0.1, 1.1]
    assert list(table["accuracy"]) == [1 / 3, 1 / 3]
    assert list(table["status"]) == ["finished", "finished"]
    assert list(table["seed"]) == [0, 1]
    assert set(table["optimizer"]) == {"radam"}
    curves = store.curves(RUNS)
    assert set(curves["run_id"]) == {run.id for run in RUNS[:2]}
    points = curves[curves["seed"] == 1][["step", "split", "metric", "value"]]
    assert list(points.itertuples(index=False, name=None)) == list(result(RUNS[1]).curves)
    assert list(store.table([OTHER])["ratio"]) == [2.0]
    mixed = store.table([*RUNS, OTHER])
    assert mixed["ratio"].isna().tolist() == [True, True, False]


def test_the_tables_are_tidy(store: Store) -> None:
    store.add(result(RUNS[0], loss=0.25), "cpu")
    rows = pd.read_csv(store.root / "fake" / "runs.csv")
    (row,) = rows.to_dict("records")
    expected = {"run_id": RUNS[0].id, "scale": "cpu", "optimizer": "radam", "lr": 0.1, "seed": 0}
    expected |= {"status": "finished", "metric": "loss", "value": 0.25}
    assert expected.items() <= row.items()
    curves = pd.read_csv(store.root / "fake" / "curves.csv")
    assert list(curves.columns) == ["run_id", "step", "split", "metric", "value"]


def test_a_run_done_again_takes_the_place_of_the_first(store: Store) -> None:
    for run in RUNS:
        store.add(result(run, loss=1.0, accuracy=2.0), "cpu")
    store.add(result(RUNS[1], "diverged", loss=math.nan), "paper")
    table = store.table(RUNS).set_index("seed")
    assert table["status"].to_dict() == {0: "finished", 1: "diverged", 2: "finished"}
    assert table["loss"].isna().to_dict() == {0: False, 1: True, 2: False}
    assert table["accuracy"].isna().to_dict() == {0: False, 1: True, 2: False}
    assert len(store.curves(RUNS)) == 6
    assert sorted(line["scale"] for line in store.provenance(RUNS)) == ["cpu", "cpu", "paper"]


def test_a_run_that_gave_nothing_is_recorded_all_the_same(store: Store) -> None:
    nothing = Result(RUNS[0], "diverged", {}, [], {"diverged_at": 1})
    store.add(nothing, "cpu")
    store.add(result(RUNS[1]), "cpu")
    store.add(nothing, "cpu")
    assert store.recorded(RUNS) == {RUNS[0].id, RUNS[1].id}
    assert list(store.table(RUNS)["status"]) == ["diverged", "finished"]
    assert set(store.curves(RUNS)["seed"]) == {1}


@settings(max_examples=15)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3))
def test_numbers_keep_every_bit_through_later_additions(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    store = Store(tmp_path_factory.mktemp("bits"))
    for run, value in zip(RUNS, values, strict=True):
        store.add(result(run, loss=value), "cpu")
    assert list(store.table(RUNS)["loss"]) == values


def test_the_points_of_a_long_curve_stay_apart(store: Store) -> None:
    """Whole steps keep all their digits, others as many as the values."""
    steps = [0.123456789, 2.0, 1_000_000.0, 1_234_567.0, 1_234_568.0, 2.0**40]
    curves = [(step, "train", "loss", 1 / 3) for step in steps]
    store.add(Result(RUNS[0], "finished", {}, curves), "cpu")
    found = store.curves(RUNS)
    assert found["step"].tolist() == [0.123457, *steps[1:]]
    assert set(found["value"]) == {0.333333}
    before = files(store.root)
    store.add(Result(RUNS[0], "finished", {}, [(int(curves[1][0]), *curves[1][1:])]), "cpu")
    assert store.curves(RUNS)["step"].tolist() == [2.0]
    store.add(Result(RUNS[0], "finished", {}, curves), "cpu")
    assert files(store.root) == before


def test_the_order_of_additions_does_not_change_the_records(tmp_path: Path) -> None:
    stores = Store(tmp_path / "a"), Store(tmp_path / "b")
    for store, runs in zip(stores, (RUNS, RUNS[::-1]), strict=True):
        for run in runs:
            store.add(result(run), "cpu")
    assert files(stores[0].root) == files(stores[1].root)


def test_adding_leaves_the_text_of_other_runs_alone(store: Store) -> None:
    """Integers stay integers where a later run has no such setting."""
    with_points = Run("fake", settings=options(points=50))
    store.add(result(with_points, loss=0.1), "cpu")
    store.add(result(RUNS[0], loss=0.1), "cpu")
    store.add(result(RUNS[1], loss=0.1), "cpu")
    rows = pd.read_csv(store.root / "fake" / "runs.csv", dtype=str, keep_default_na=False)
    row = rows[rows["run_id"] == with_points.id].to_dict("records")[0]
    assert (row["points"], row["lr"], row["value"]) == ("50", "", "0.1")


def test_a_run_that_is_forgotten_leaves_nothing(store: Store) -> None:
    for run in RUNS[:2]:
        store.add(result(run, loss=0.1 + run.seed), "cpu")
    store.add(result(OTHER, ratio=2.0), "paper")
    before = files(store.root)
    store.add(result(RUNS[2]), "cpu")
    store.forget([RUNS[2]])
    assert store.recorded([*RUNS, OTHER]) == {RUNS[0].id, RUNS[1].id, OTHER.id}
    assert files(store.root) == before
    store.forget(RUNS)
    assert store.recorded(RUNS) == set()
    store.add(result(RUNS[0]), "cpu")
    assert set(store.curves(RUNS)["seed"]) == {0}


def test_every_row_of_the_repository_is_of_a_run_on_record() -> None:
    """Whoever reads the tables without the store takes all of them for results."""
    store = Store()
    for task in store.tasks():
        recorded = {line["run_id"] for line in store.lines(task)}
        for name in record.TABLES:
            rows = pd.read_csv(store.root / task / f"{name}.csv", dtype=str)
            assert set(rows["run_id"]) <= recorded, f"{task}/{name}.csv"


# Cut off in between


@pytest.mark.parametrize("stage", ["curves.csv", "runs.csv", "provenance.jsonl"])
def test_rows_of_a_run_that_was_cut_off_are_not_read(
    store: Store, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    store.add(result(RUNS[0]), "cpu")

    def cut_off(path: Path, text: str) -> None:
        if path.name == stage:
            raise KeyboardInterrupt
        write_atomically(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(record, "write_atomically", cut_off)
        with pytest.raises(KeyboardInterrupt):
            store.add(result(RUNS[1], loss=7.0), "cpu")
    assert store.recorded(RUNS) == {RUNS[0].id}
    assert set(store.table(RUNS)["seed"]) == {0}
    assert set(store.curves(RUNS)["seed"]) == {0}

    store.add(result(RUNS[1], loss=8.0), "cpu")
    assert store.table(RUNS).set_index("seed")["loss"].to_dict() == {0: 0.1, 1: 8.0}
    assert len(store.curves(RUNS)) == 4


@pytest.mark.parametrize("stage", ["curves.csv", "runs.csv"])
def test_a_run_is_off_the_record_before_its_rows_are(
    store: Store, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    for run in RUNS[:2]:
        store.add(result(run), "cpu")

    def cut_off(path: Path, text: str) -> None:
        if path.name == stage:
            raise KeyboardInterrupt
        write_atomically(path, text)

    monkeypatch.setattr(record, "write_atomically", cut_off)
    with pytest.raises(KeyboardInterrupt):
        store.forget(RUNS[1:])
    assert set(store.table(RUNS)["seed"]) == {0}
    assert set(store.curves(RUNS)["seed"]) == {0}


@pytest.mark.parametrize(("name", "read"), [("runs", Store.table), ("curves", Store.curves)])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_table_that_lost_rows_is_a_sentence(
    store: Store, name: str, read: Callable[..., pd.DataFrame], lost: int
) -> None:
    for run in RUNS[:2]:
        store.add(result(run), "cpu")
    path = store.root / "fake" / f"{name}.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-lost]))
    with pytest.raises(UserError, match=f"{name}.csv lacks rows of run"):
        read(store, RUNS)


def test_a_file_is_the_old_or_the_new_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.csv"
    write_atomically(path, "old")

    def fail(*_: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, "new")
    assert files(tmp_path) == {"table.csv": b"old"}


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, done = tmp_path / "table.csv", []
    write_atomically(path, "old")
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        done.append((os.fstat(descriptor).st_size, path.read_text()))

    monkeypatch.setattr(os, "fsync", note)
    write_atomically(path, "newer")
    assert done == [(5, "old")]
    assert files(tmp_path) == {"table.csv": b"newer"}


# Damage


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("provenance.jsonl", lambda text: text[:-20]),
        ("provenance.jsonl", lambda text: text + b"<<<<<<< HEAD\n"),
        ("provenance.jsonl", lambda text: text + b"[]\n"),
        ("provenance.jsonl", lambda text: text + b'{"run_id": "abc"}\n'),
        ("provenance.jsonl", lambda text: b"\xff\xfe" + text),
        ("runs.csv", lambda text: b""),
        ("runs.csv", lambda text: b"\xff\xfe" + text),
        ("runs.csv", lambda text: b"rubbish\n"),
        ("runs.csv", lambda text: text.replace(b"0.1", b"0.x")),
        ("runs.csv", lambda text: text + text.splitlines(keepends=True)[-1]),
        ("runs.csv", lambda text: text + b"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q\n"),
        ("runs.csv", None),
        ("curves.csv", lambda text: b""),
        ("curves.csv", lambda text: text.replace(b"90", b"x90")),
        ("curves.csv", lambda text: text.replace(b"step", b"stop")),
        ("curves.csv", None),
    ],
)
def test_a_damaged_file_is_named_in_a_sentence(
    store: Store, name: str, damage: Callable[[bytes], bytes] | None
) -> None:
    store.add(result(RUNS[0]), "cpu")
    path = store.root / "fake" / name
    if damage is None:
        path.unlink()
    else:
        before = path.read_bytes()
        path.write_bytes(damage(before))
        assert path.read_bytes() != before
    with pytest.raises(UserError, match=r"restore .* from git, or delete") as error:
        read(store)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def read(store: Store) -> tuple[pd.DataFrame, pd.DataFrame]:
    return store.table(RUNS), store.curves(RUNS)


def test_nothing_is_built_on_a_damaged_table(store: Store) -> None:
    store.add(result(RUNS[0]), "cpu")
    path = store.root / "fake" / "curves.csv"
    path.write_text("rubbish\n")
    before = files(store.root)
    with pytest.raises(UserError, match=r"curves\.csv"):
        store.add(result(RUNS[1]), "cpu")
    assert files(store.root) == before


# A folder that cannot be written


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    with pytest.raises(UserError, match=r"cannot be written .*--results"):
        Store(tmp_path / "results").add(result(RUNS[0]), "cpu")
    assert (tmp_path / "results").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / "results"]


def test_a_folder_without_permission(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, for permissions do not bind every user."""
    store.add(result(RUNS[0]), "cpu")
    before = files(store.root)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(UserError, match="Permission denied"):
        store.add(result(RUNS[1]), "cpu")
    assert files(store.root) == before
    assert store.recorded(RUNS) == {RUNS[0].id}


KILLED = """
import itertools, sys
from pathlib import Path
from experiments.record import Result, Store
from experiments.spec import Run

store = Store(Path(sys.argv[1]))
for seed in itertools.count(int(sys.argv[2])):
    curves = [(float(step), "train", "loss", 0.5) for step in range(500)]
    store.add(Result(Run("fake", seed=seed), "finished", {"loss": float(seed)}, curves), "cpu")
    print(seed, flush=True)
"""


def test_a_process_that_is_killed_while_it_writes_leaves_whole_records(tmp_path: Path) -> None:
    """Truly killed, each time somewhat later in what it does, and followed by another."""
    store, done = Store(tmp_path), 0
    for kill in range(6):
        command = [sys.executable, "-c", KILLED, tmp_path, str(done)]
        writer = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(3):
            done = int(writer.stdout.readline()) + 1
        time.sleep(0.007 * kill)
        writer.kill()
        writer.communicate()
        runs = [Run("fake", seed=seed) for seed in range(done + 50)]
        table = store.table(runs)
        assert list(table["loss"]) == [float(seed) for seed in range(len(table))]
        assert done <= len(table)
        assert len(store.curves(runs)) == 500 * len(table)
    left = {path.name for path in (tmp_path / "fake").iterdir()}
    temporary = {f".{name}.new" for name in ("runs.csv", "curves.csv", "provenance.jsonl")}
    assert left - temporary - {".new"} == {"runs.csv", "curves.csv", "provenance.jsonl"}


# Two writers

ADDER = """
import sys
from pathlib import Path
from experiments.record import Result, Store
from experiments.spec import Run

store = Store(Path(sys.argv[1]))
for seed in range(int(sys.argv[2]), 20, 2):
    store.add(Result(Run("fake", seed=seed), "finished", {"loss": float(seed)}, []), "cpu")
"""


def test_two_processes_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    adders = [
        subprocess.Popen([sys.executable, "-c", ADDER, tmp_path, str(first)], cwd=REPOSITORY)
        for first in (0, 1)
    ]
    assert [adder.wait(timeout=120) for adder in adders] == [0, 0]
    runs = [Run("fake", seed=seed) for seed in range(20)]
    assert list(Store(tmp_path).table(runs)["loss"]) == [float(seed) for seed in range(20)]


# Provenance


def test_provenance_says_how_a_result_was_obtained(store: Store, tiny: Run) -> None:
    store.add(engine.execute(tiny), "smoke")
    (line,) = store.provenance([tiny])
    assert line["run_id"] == tiny.id
    assert Run.of(line["spec"]) == tiny
    assert (line["scale"], line["status"]) == ("smoke", "finished")
    assert line["versions"].keys() >= {"python", "torch", "numpy"}
    assert (line["device"], line["threads"]) == ("cpu", engine.torch.get_num_threads())
    assert len(line["data_sha256"]) == 64
    assert line["wall_seconds"] > 0
    assert line["cpu_seconds"] > 0
    assert line["platform"]


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *author, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the store's module in it, to which `surroundings` then belongs."""
    folder = tmp_path / "experiments"
    (folder / "results").mkdir(parents=True)
    (folder / "record.py").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(record, "__file__", str(folder / "record.py"))
    return tmp_path


def test_provenance_names_the_commit_and_whether_the_tree_was_dirty(checkout: Path) -> None:
    def look() -> tuple[str, bool]:
        found = record.surroundings.__wrapped__()
        return found["commit"], found["dirty"]

    head = git(checkout, "rev-parse", "HEAD")
    assert look() == (head, False)
    (checkout / "experiments" / "results" / "runs.csv").write_text("a campaign writes these")
    assert look() == (head, False)
    (checkout / "new.py").write_text("")
    assert look() == (head, True)


def test_without_a_repository_commit_and_tree_are_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    found = record.surroundings.__wrapped__()
    assert (found["commit"], found["dirty"]) == (None, None)
