"""Runs as jobs of a Slurm cluster, through submitit: one job a run, all of one array.

A job that meets its time limit, or is preempted, goes back to the queue and on from its
checkpoint. The results folder must be one that the nodes share.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import submitit

from experiments.errors import RunFailed, UserError
from experiments.launch import (
    FAILED,
    KILLED,
    LOST,
    NO_TIME,
    NOT_BEGUN,
    PAUSED,
    Outcome,
    Places,
    Waiting,
    carry_out,
)
from experiments.record import Store
from experiments.spec import Run

Order = tuple[Run, str, Places, float]
"""What a job is given: run, scale, places, and when to stop."""
PENDING = "PD"
POLL_SECONDS = 2.0
GRACE_SECONDS = 20.0
"""So long may a result take to be seen through a network file system."""
LIMIT_MINUTES = 60
TIMES = 1000
"""How often a job may meet its time limit."""
SIGNAL_SECONDS = 90
"""So long before its limit a job is sent a signal; Slurm may be a minute early."""
MARGIN_SECONDS = 240.0
"""So long before its limit, but no more than a third of it, a job stops at a checkpoint."""
ARRAY = 1000
"""The most jobs of an array: more than that Slurm refuses, unless it is told otherwise."""
TIME = re.compile(r"(?:(\d+)-)?(\d+(?::\d+){0,2})")
"""Minutes, minutes:seconds, hours:minutes:seconds; after days, hours come first."""
REPOSITORY = Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Job:
    """One run: a job that submitit may put back into the queue, and that then goes on.

    Attributes
    ----------
    limit
        Seconds that a start of it may take.
    """

    limit: float

    def __call__(self, run: Run, scale: str, places: Places, until: float) -> Outcome:
        """Do the run, or as much of it as this start has the time for."""
        margin = min(MARGIN_SECONDS, self.limit / 3)
        outcome = carry_out(run, scale, places, min(until, time.time() + self.limit - margin))
        if outcome.left == PAUSED and time.time() < until:
            # What Slurm would send before long: submitit then has it put the job back.
            signal.raise_signal(signal.Signals[f"SIG{submitit.JobEnvironment.USR_SIG}"])
        return outcome

    def checkpoint(self, *order: Any) -> submitit.helpers.DelayedSubmission:
        """What to submit again where a job must give way: the same, for its files say the rest."""
        return submitit.helpers.DelayedSubmission(self, *order)


@dataclasses.dataclass(frozen=True)
class Slurm:
    """A launcher: hands out the runs as jobs, and waits for them.

    Attributes
    ----------
    options
        Those of sbatch, such as ``("partition=gpu", "gres=gpu:1", "time=2:00:00")``. `time`
        limits every start of a job.
    """

    options: Sequence[str] = ()

    def __call__(self, waiting: Waiting, jobs: int) -> Generator[Outcome]:
        """Yield the outcomes as the jobs end; what is left when the caller stops is cancelled."""
        places = _absolute(waiting.places)
        folder = places.store.root / ".slurm" / uuid.uuid4().hex[:8]
        at_work: dict[Any, Run] = {}
        died = False
        try:
            while runs := list(islice(iter(waiting.next, None), ARRAY)):
                orders = [(run, waiting.scales[run], places, waiting.budget.stop) for run in runs]
                at_work = dict(zip(self._submit(folder, orders, jobs), runs, strict=True))
                for job, outcome in _ends(at_work, waiting):
                    died |= outcome.left in (KILLED, FAILED)
                    if job.paths.result_pickle.exists() or outcome.left == KILLED:  # it is over
                        del at_work[job]
                    yield outcome
        finally:
            if at_work:
                subprocess.run(["scancel", *(job.job_id for job in at_work)], check=False)
            elif not died:  # else its log may say why
                shutil.rmtree(folder, ignore_errors=True)

    def _submit(self, folder: Path, orders: list[Order], jobs: int) -> list[Any]:
        given = dict(_option(text) for text in self.options)
        minutes = _minutes(given.pop("time", str(LIMIT_MINUTES)))
        paths = f"{shlex.quote(str(REPOSITORY))}:$PWD:$PYTHONPATH"
        try:
            executor = submitit.SlurmExecutor(folder, max_num_timeout=TIMES)
            executor.update_parameters(
                job_name="radam",
                time=minutes,
                signal_delay_s=SIGNAL_SECONDS,
                array_parallelism=jobs,
                setup=[f"export PYTHONPATH={paths}"],
                additional_parameters=given,
            )
            return list(executor.map_array(Job(60.0 * minutes), *zip(*orders, strict=True)))
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written ({error.strerror or error}); name with --results a "
                "folder that the nodes of the cluster share"
            ) from error
        except submitit.core.utils.FailedJobError as error:
            raise UserError("sbatch takes no such job, and says why above; mend --slurm") from error
        except RuntimeError as error:  # submitit finds no srun
            raise UserError("there is no Slurm here; leave out --launcher slurm") from error


def _option(text: str) -> tuple[str, str | bool]:
    """An option of sbatch: ``key=value``, or a key alone; named as submitit names its own."""
    key, equals, value = text.removeprefix("--").partition("=")
    return key.replace("-", "_"), value if equals else True


def _minutes(text: str | bool) -> int:
    """A time in one of Slurm's notations, in minutes; as there, begun ones count."""
    found = TIME.fullmatch(str(text))
    days, clock = found.groups(default="0") if found else ("0", "0")
    parts = [int(part) for part in clock.split(":")]
    if found and found[1] is None and len(parts) < 3:
        parts.insert(0, 0)  # without days, one or two numbers are no hours
    hours, minutes, seconds = (*parts, 0, 0)[:3]
    total = 60 * (24 * int(days) + hours) + minutes + (seconds > 0)
    if not total:
        given = "time" if text is True else f"time={text}"
        raise UserError(f"{given} is no time; give one such as time=120 (minutes) or time=2:00:00")
    return total


def _absolute(places: Places) -> Places:
    curves = places.tensorboard
    return dataclasses.replace(
        places,
        store=Store(places.store.root.resolve()),
        data_root=places.data_root.resolve(),
        tensorboard=curves and curves.resolve(),
    )


def _ends(at_work: dict[Any, Run], waiting: Waiting) -> Iterator[tuple[Any, Outcome]]:
    """Every job with its outcome, as they end; at the time to kill, those that do not."""
    left = dict(at_work)
    missing: dict[Any, float] = {}  # since when the queue lacks a job that left no result
    while left:
        states = _states()
        over = waiting.told() or time.time() >= waiting.budget.kill
        for job, run in list(left.items()):
            if job.paths.result_pickle.exists():
                outcome = _outcome(job, run)
            elif over:
                outcome = waiting.cut_off(run)
                if outcome.left == LOST and (states or {}).get(job.job_id) == PENDING:
                    outcome = Outcome(run, left=NOT_BEGUN if waiting.is_over() else NO_TIME)
            elif states is None or job.job_id in states:
                missing.pop(job, None)
                continue
            elif time.monotonic() - missing.setdefault(job, time.monotonic()) < GRACE_SECONDS:
                continue
            else:
                outcome = Outcome(run, left=KILLED)
            del left[job]
            yield job, outcome
        if left:
            time.sleep(POLL_SECONDS)


def _outcome(job: Any, run: Run) -> Outcome:
    """What a job left; one that could not even begin left its traceback."""
    try:
        outcome: Outcome = job.result()
    except Exception as error:  # whatever it was: the other jobs go on
        return Outcome(run, left=FAILED, error=RunFailed(f"the job of {run} failed: {error}"))
    return outcome


def _states() -> dict[str, str] | None:
    """The state of every job of ours that Slurm has not done with; None where it does not say."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i %t"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        return None
    return dict(line.split(maxsplit=1) for line in told.stdout.splitlines())
