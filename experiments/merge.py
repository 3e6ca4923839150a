"""Two results folders into one: records, the checkpoints of runs that are not recorded, timings.

Nothing is lost and nothing is mixed: a run comes over whole, from a folder that stays as it is.
Merging again changes nothing, and A into B gives the same files as B into A, unless the two hold
different values for the same run: then each keeps its own, and that is said.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from experiments import timings
from experiments.errors import UserError
from experiments.hold import hold
from experiments.record import SETTLED, TABLES, Store, as_line, replacing, write_atomically
from experiments.spec import Run, names

NAMED = 3
"""So many of the runs that differ are named."""


@dataclass
class Merged:
    """What a merge did: ids of runs, and the runs themselves where they are to be named.

    Attributes
    ----------
    new, settled
        Records that came over: of runs that were not recorded, or that had run out of memory here.
    same
        Recorded here too, with the same values or with better.
    differing
        Recorded here with other values; ours stay.
    checkpoints
        That came over.
    held
        Whose checkpoints stayed away, since their runs are at work here.
    tables, paces
        Of benchmarks and of rehearsals, that came over: a pace also where the one here is older.
    timed
        Tables of benchmarks that are here too, otherwise; ours stay.
    """

    new: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    differing: list[Run] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    paces: list[str] = field(default_factory=list)
    timed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = (
            f"{len(self.new)} records and {len(self.checkpoints)} checkpoints are new, "
            f"{len(self.same)} records were here already"
        )
        if self.settled:
            text += f", {len(self.settled)} take the place of runs that ran out of memory here"
        if self.differing:
            text += (
                f"; {len(self.differing)} "
                f"{'run has' if len(self.differing) == 1 else 'runs have'} other values there, and "
                f"ours stay: {_named(self.differing)}"
            )
        if self.held:
            text += f"; {len(self.held)} are at work here, and so no checkpoint came over for them"
        if self.tables or self.paces:
            text += f"; {len(self.tables)} tables of benchmarks and {len(self.paces)} paces are new"
        if self.timed:
            text += f"; of {', '.join(self.timed)}, timed in both, ours stay"
        return text


def _named(runs: Sequence[Run]) -> str:
    """The first of them, and how many more there are."""
    found = list(names(runs).values())
    more = [f"and {len(found) - NAMED} more"] if len(found) > NAMED else []
    return "; ".join(found[:NAMED] + more)


def merge(ours: Store, theirs: Store) -> Merged:
    """Take over what another results folder has, with what was made again there.

    Raises
    ------
    UserError
        If the other folder holds nothing, or a file of the two is damaged or cannot be written.
    """
    pairs = ((ours, theirs), (ours.again, theirs.again))
    checkpoints = sorted(theirs.root.glob(".checkpoints/*.pt"))
    timed = {name: timings.lines(theirs, name) for name in timings.KEYS}
    if not (any(there.tasks() for _, there in pairs) or checkpoints or any(timed.values())):
        raise UserError(
            f"{theirs.root} holds neither records nor checkpoints nor timings; "
            "name a results folder"
        )
    merged = Merged()
    if theirs.root.resolve() != ours.root.resolve():
        for here, there in pairs:
            for task in there.tasks():
                _take_records(here, there, task, merged)
        settled = {line["run_id"] for line in ours.settled()}
        for path in checkpoints:
            if path.stem not in settled:
                _take_checkpoint(ours, theirs, path.stem, merged)
        for path in ours.root.glob(".checkpoints/*.pt"):
            if path.stem in settled:
                _drop_checkpoint(ours, path.stem)
        if any(timed.values()):
            with ours.changing(timings.FOLDER):
                _take_tables(ours, theirs, merged)
                _take_paces(ours, theirs, merged)
    return merged


def _take_records(ours: Store, theirs: Store, task: str, merged: Merged) -> None:
    lines = {line["run_id"]: line for line in theirs.lines(task)}
    rows = {name: theirs.rows(task, name) for name in TABLES}
    values = [_values(table) for table in rows.values()]
    with ours.changing(task):
        before = {line["run_id"]: line for line in ours.lines(task)}
        values_before = [_values(ours.rows(task, name)) for name in TABLES]
        chosen = []
        for run_id, line in lines.items():
            old = before.get(run_id)
            equal = [of.get(run_id) for of in values] == [of.get(run_id) for of in values_before]
            fate = _fate(line, old, equal)
            if fate == "differing":
                merged.differing.append(Run.of(line["spec"]))
            else:
                getattr(merged, fate).append(run_id)
            either = fate == "same" and equal  # which of the two must not depend on who takes
            if fate in ("new", "settled") or (either and as_line(line) < as_line(old or {})):
                chosen.append(run_id)
        if chosen:
            tables = {name: table[table["run_id"].isin(chosen)] for name, table in rows.items()}
            ours.put(task, [lines[run_id] for run_id in chosen], tables)


def _fate(line: dict[str, Any], old: dict[str, Any] | None, equal: bool) -> str:
    """The list of `Merged` that a record belongs to."""
    if old is None:
        return "new"
    if _is_settled(line) != _is_settled(old):
        return "settled" if _is_settled(line) else "same"
    return "same" if equal and line["status"] == old["status"] else "differing"


def _is_settled(line: dict[str, Any]) -> bool:
    return line["status"] in SETTLED


def _values(table: pd.DataFrame) -> dict[str, list[tuple[str, ...]]]:
    """What each run has in a table, without its axes: those its id stands for."""
    columns = [name for name in ("step", "split", "metric", "value") if name in table]
    return {
        str(run_id): list(rows[columns].itertuples(index=False, name=None))
        for run_id, rows in table.groupby("run_id")
    }


def _take_checkpoint(ours: Store, theirs: Store, run_id: str, merged: Merged) -> None:
    """The one that is further stays."""
    from experiments.engine import progress  # torch: most merges have records alone

    there, here = theirs.checkpoint(run_id), ours.checkpoint(run_id)
    with hold(ours.lock(run_id)) as held:
        if not held:
            merged.held.append(run_id)
        elif not here.exists() or progress(there) > progress(here):
            with ours.writing(), there.open("rb") as source, replacing(here) as file:
                shutil.copyfileobj(source, file)
            merged.checkpoints.append(run_id)


def _drop_checkpoint(ours: Store, run_id: str) -> None:
    """What was begun here has ended elsewhere."""
    with hold(ours.lock(run_id)) as held:
        if held:
            ours.checkpoint(run_id).unlink(missing_ok=True)


def _take_tables(ours: Store, theirs: Store, merged: Merged) -> None:
    """Those that were not timed here; without a date, none of two is the newer."""
    here = {line["table"]: line for line in timings.lines(ours, timings.TABLES)}
    for line in timings.lines(theirs, timings.TABLES):
        name, text = line["table"], timings.table(theirs, line)
        if name not in here:
            write_atomically(timings.path(ours, line), text)
            timings.put(ours, timings.TABLES, [line])
            merged.tables.append(name)
        elif line != here[name] or text != timings.table(ours, here[name]):
            merged.timed.append(name)


def _take_paces(ours: Store, theirs: Store, merged: Merged) -> None:
    """Of each kind of run and device the newer."""

    def age(line: dict[str, Any]) -> tuple[str, str]:
        return line["when"], as_line(line)

    def kind(line: dict[str, Any]) -> str:
        return timings.key(timings.PACES, line)

    here = {kind(line): line for line in timings.lines(ours, timings.PACES)}
    newer = [
        line
        for line in timings.lines(theirs, timings.PACES)
        if kind(line) not in here or age(line) > age(here[kind(line)])
    ]
    if newer:
        timings.put(ours, timings.PACES, newer)
    merged.paces.extend(map(kind, newer))
