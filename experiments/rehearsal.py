"""Before a long campaign: some updates of every kind of run, on the device that it is for.

What cannot run there is found within minutes, and how long the rest will take is known beforehand,
from paces that are kept among the timings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from experiments import campaign, engine, machine, timings
from experiments.errors import UserError, named
from experiments.record import Store
from experiments.spec import Run

WINDOW = 20
"""Updates between two looks at the clock, at each of which a GPU is waited for."""


class Enough(Exception):
    """The rehearsal of a run is over."""


@dataclass(frozen=True)
class Rehearsed:
    """What came of the first updates of a run, and of all runs that are like it.

    Attributes
    ----------
    run
        The one that was tried.
    updates
        How many it has in all.
    seconds
        That an update takes once all is warm, with its part of the evaluations that came between
        two of those timed; None where there were too few, or it failed.
    failure
        Why it cannot run here, if it cannot.
    """

    run: Run
    updates: int = 0
    seconds: float | None = None
    failure: str | None = None

    @property
    def hours(self) -> float | None:
        """What the updates of the whole run take."""
        return None if self.seconds is None else self.updates * self.seconds / 3600


def rehearse(
    runs: Iterable[Run],
    device: str,
    data_root: Path,
    compiled: bool = False,
    seconds: float = 10.0,
    tell: Callable[[Rehearsed], None] = lambda one: None,
) -> dict[Run, Rehearsed]:
    """Try one run of every kind: of those that differ in more than seed, schedule and rate.

    Parameters
    ----------
    runs
        What is planned; measurements train nothing and are left out.
    device, data_root, compiled
        As for `engine.execute`.
    seconds
        How long each may train, counted from when it is warm.
    tell
        Called with each as it is done.

    Returns
    -------
    For every run of `runs`, what came of the one that it is like.
    """
    done: dict[Run, Rehearsed] = {}
    found = {}
    for run in (run for run in runs if run.optim is not None):
        like = campaign.likenesses(run)[0]
        if like not in done:
            done[like] = _try(run, device, data_root, compiled, seconds)
            tell(done[like])
        found[run] = done[like]
    return found


def _try(run: Run, device: str, data_root: Path, compiled: bool, seconds: float) -> Rehearsed:
    times: list[tuple[int, float]] = []
    total = 0

    def look(updates: int, of: int, loss: float, lr: float) -> None:
        nonlocal total
        total = of
        times.append((updates, time.perf_counter()))
        if len(times) > 2 and times[-1][1] - times[1][1] >= seconds:
            raise Enough

    try:
        engine.execute(
            run, device=device, data_root=data_root, compiled=compiled, window=WINDOW, report=look
        )
    except Enough:
        pass
    except UserError as error:
        return Rehearsed(run, failure=str(error))
    except Exception as error:  # whatever it is, the others are tried too, and this one is told of
        return Rehearsed(run, failure=named(error))
    if len(times) < 3:
        return Rehearsed(run, total)
    (first, began), (last, ended) = times[1], times[-1]
    return Rehearsed(run, total, (ended - began) / (last - first))


def keep(one: Rehearsed, store: Store, device: str, compiled: bool = False) -> None:
    """Write a pace down, in place of an earlier one of this kind of run on this kind of device."""
    if one.seconds is None:
        return
    line = {
        "kind": campaign.likenesses(one.run)[0].fields(),
        "updates": one.updates,
        "seconds_per_update": one.seconds,
        "compiled": compiled,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        **machine.conditions(machine.find_device(device)),
    }
    with store.changing(timings.FOLDER):
        timings.put(store, timings.PACES, [line])
