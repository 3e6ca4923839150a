"""Which run next, and how long it will take: whole comparisons first, durations from the records.

Nothing here computes: it needs no torch.
"""

from __future__ import annotations

import dataclasses
import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from experiments import timings
from experiments.errors import UserError
from experiments.record import THEN, Store
from experiments.spec import Optim, Run
from experiments.verdict import MIN_SEEDS

RESERVE = 20.0
"""Seconds that a campaign keeps of its time, to stop in good order."""
UNITS = {"s": 1, "m": 60, "h": 3600}
YEAR = 365 * 24 * 3600.0


def in_order(studies: Sequence[Sequence[Run]]) -> list[Run]:
    """The runs of some artifacts, each once, so that whole comparisons end first.

    A comparison is what an artifact has of one task and one seed. First come the seeds that a
    verdict needs, artifact by artifact; then one more seed of every artifact, and so on.
    """
    found = []
    for place, runs in enumerate(studies):
        seeds: dict[str, list[int]] = {}
        for run in runs:
            of_task = seeds.setdefault(run.task, [])
            if run.seed not in of_task:
                of_task.append(run.seed)
        tasks = list(seeds)
        for run in runs:
            rank = seeds[run.task].index(run.seed)
            more = max(0, rank + 1 - MIN_SEEDS)
            found.append(((more, place, tasks.index(run.task), rank), run))
    return list(dict.fromkeys(run for _, run in sorted(found, key=lambda one: one[0])))


def seeds(text: str) -> list[range]:
    """Seeds such as ``0``, ``0-2`` or ``0,2``.

    Raises
    ------
    UserError
        If they are none.
    """
    found = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        numbers = [first, last] if dash else [first]
        if not all(number.isdecimal() for number in numbers) or int(numbers[-1]) < int(first):
            raise UserError(f"--seeds {text} names no seeds; give some such as 0, 0-2 or 0,2")
        found.append(range(int(first), int(numbers[-1]) + 1))
    return found


def seconds(text: str) -> float:
    """A time such as ``90s``, ``9m``, ``1h30m`` or ``1:30:00``.

    Raises
    ------
    UserError
        If it is none.
    """
    text = re.sub(r"^(\d+):([0-5]\d):([0-5]\d)$", r"\1h\2m\3s", text)
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text)
    total = sum(float(number) * UNITS[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != text or not 0 < total <= YEAR:
        raise UserError(f"{text!r} is no time of up to a year; give one such as 90s, 9m or 1h30m")
    return total


@dataclasses.dataclass(frozen=True)
class Budget:
    """When a campaign ends, in seconds since 1970: its runs stop, what does not stop is killed."""

    stop: float = math.inf
    kill: float = math.inf

    @classmethod
    def of(cls, seconds: float, began: float) -> Budget:
        """So many seconds, some of which are kept to stop in good order."""
        reserve = min(RESERVE, seconds / 3)
        return cls(began + seconds - reserve, began + seconds - reserve / 4)


class Durations:
    """How long runs took on a device, and so how long their like will take there.

    Parameters
    ----------
    store
        The records.
    device
        As in a record's provenance: "cpu", or the name of a GPU.
    tasks
        Whose records to read.
    """

    def __init__(self, store: Store, device: str, tasks: Iterable[str]) -> None:
        self.lines: dict[Run, list[dict[str, Any]]] = {}
        for task in sorted(set(tasks)):
            for line in store.lines(task):
                if line["status"] == "finished" and line.get("device") == device:
                    for like in likenesses(Run.of(line["spec"])):
                        self.lines.setdefault(like, []).append(line)

    def on_device(self, run: Run) -> float | None:
        """Seconds that a run takes of a device; of several side by side, each its share.

        One of several processes takes the seconds of all. On a CPU no more than it had of the
        processor: others may have kept it waiting. None where nothing like it is recorded.
        """
        return self._median(run, _alone)

    def to_checkpoint(self, run: Run) -> float | None:
        """Seconds until a run has something to leave behind: for a measurement, all of them."""
        field = "startup_seconds" if run.optim else "wall_seconds"
        return self._median(run, lambda line: line.get(field))

    def _median(self, run: Run, seconds: Callable[[dict[str, Any]], float | None]) -> float | None:
        for like in likenesses(run):
            found = [seconds(line) for line in self.lines.get(like, [])]
            known = [one for one in found if one is not None]
            if known:
                return float(statistics.median(known))
        return None


def _alone(line: dict[str, Any]) -> float:
    seconds: float = line["wall_seconds"]
    if line["device"] == "cpu":
        seconds = min(seconds, line.get("cpu_seconds", seconds))
    processes: int = line.get("processes", 1)
    share: int = line.get("side_by_side", 1)
    return seconds * processes / share


@dataclasses.dataclass(frozen=True)
class Left:
    """What is outstanding on a kind of device.

    Attributes
    ----------
    recorded
        Hours of the runs whose like is on record.
    rehearsed
        Hours of the others, at the pace of a rehearsal: one after the other, with evaluations only
        where epochs ended while it was timed.
    unknown
        The runs of which neither tells.
    """

    recorded: float = 0.0
    rehearsed: float = 0.0
    unknown: tuple[Run, ...] = ()


def outstanding(runs: Iterable[Run], store: Store) -> list[Run]:
    """Those of some runs that are not recorded yet."""
    runs = list(runs)
    recorded = store.recorded(runs)
    return [run for run in runs if run.id not in recorded]


def hours_left(runs: Iterable[Run], store: Store) -> dict[str, Left]:
    """For each kind of device in the records, how long it would take for what is outstanding.

    In the records, or in the rehearsals. A run that moved from one kind to another tells of
    neither.
    """
    runs = list(runs)
    tasks = {run.task for run in runs}
    lines = [line for task in sorted(tasks) for line in store.lines(task)]
    paces = timings.lines(store, timings.PACES)
    devices = {line["device"] for line in [*lines, *paces] if "device" in line}
    left = outstanding(runs, store)
    return {
        device: _left(left, Durations(store, device, tasks), _rehearsed(paces, device))
        for device in sorted(devices)
        if THEN not in device
    }


def hours_planned(runs: Iterable[Run], store: Store) -> dict[str, Left]:
    """For each kind of device in the rehearsals, how long all of some runs take at their pace.

    The recorded ones, too: it is the estimate to hold against what these took.
    """
    runs, paces = list(runs), timings.lines(store, timings.PACES)
    devices = sorted({line["device"] for line in paces})
    return {
        device: _left(runs, Durations(store, device, ()), _rehearsed(paces, device))
        for device in devices
    }


def _left(runs: Iterable[Run], durations: Durations, rehearsed: Mapping[Run, float]) -> Left:
    seconds, at_pace, unknown = 0.0, 0.0, []
    for run in runs:
        known = durations.on_device(run)
        pace = next((rehearsed[like] for like in likenesses(run) if like in rehearsed), None)
        if known is not None:
            seconds += known
        elif pace is not None:
            at_pace += pace
        else:
            unknown.append(run)
    return Left(seconds / 3600, at_pace / 3600, tuple(unknown))


def _rehearsed(paces: Iterable[dict[str, Any]], device: str) -> dict[Run, float]:
    """Seconds that the updates of a run take on a device, by what it is like."""
    found: dict[Run, list[float]] = {}
    for line in paces:
        if line["device"] == device:
            for like in likenesses(Run.of(line["kind"])):
                found.setdefault(like, []).append(line["updates"] * line["seconds_per_update"])
    return {like: float(statistics.median(seconds)) for like, seconds in found.items()}


def likenesses(run: Run) -> tuple[Run, ...]:
    """What runs of about one duration have in common: the optimizer's name too, or all but that."""
    like = dataclasses.replace(run, seed=0, schedule=(), optim=None)
    if run.optim is None:
        return (like,)
    return dataclasses.replace(like, optim=Optim(run.optim.name, lr=0.0)), like
