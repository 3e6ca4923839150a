"""Which run next, and how long it will take: whole comparisons first, durations from the records.

Nothing here computes: it needs no torch.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from experiments.errors import UserError
from experiments.record import Store
from experiments.spec import Optim, Run
from experiments.verdict import MIN_SEEDS

RESERVE = 20.0
"""Seconds that a campaign keeps of its time, to stop in good order."""
UNITS = {"s": 1, "m": 60, "h": 3600}


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


def seconds(text: str) -> float:
    """A time such as ``90s``, ``9m`` or ``1h30m``.

    Raises
    ------
    UserError
        If it is none.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text)
    total = sum(float(number) * UNITS[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != text or not total:
        raise UserError(f"{text!r} is no time; give one such as 90s, 9m or 1h30m")
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
                    for like in _likenesses(Run.from_json(json.dumps(line["spec"]))):
                        self.lines.setdefault(like, []).append(line)

    def whole(self, run: Run) -> float | None:
        """Seconds of a run from end to end; None where nothing like it is recorded."""
        return self._median(run, "wall_seconds")

    def to_checkpoint(self, run: Run) -> float | None:
        """Seconds until a run has something to leave behind: for a measurement, all of them."""
        return self._median(run, "startup_seconds" if run.optim else "wall_seconds")

    def _median(self, run: Run, field: str) -> float | None:
        for like in _likenesses(run):
            found = [line[field] for line in self.lines.get(like, []) if field in line]
            if found:
                return float(statistics.median(found))
        return None


def _likenesses(run: Run) -> tuple[Run, ...]:
    """What runs of about one duration have in common: the optimizer's name too, or all but that."""
    like = dataclasses.replace(run, seed=0, schedule=(), optim=None)
    if run.optim is None:
        return (like,)
    return dataclasses.replace(like, optim=Optim(run.optim.name, lr=0.0)), like
