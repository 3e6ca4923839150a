"""Many runs: skip the recorded, resume the stopped, several processes side by side.

Whoever computes a run holds its lock, and records it before letting go: any number of campaigns
share a results folder, on one machine or on several, and no run is done twice.
"""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from experiments import engine, group, machine
from experiments.campaign import Budget, Durations, likenesses
from experiments.errors import DataError, DiskFull, RunFailed, UserError, named
from experiments.hold import hold
from experiments.progress import Progress
from experiments.record import OUT_OF_MEMORY, Result, Store
from experiments.spec import Run, names
from experiments.stopping import SIGNALS

MARGIN = 1.5
"""A run is begun if so many times what its like needed to reach a checkpoint is left."""

PATIENCE = 60.0
"""Seconds to reach a checkpoint, where one run's error or a signal ends the campaign."""

LOOK_SECONDS = 0.5
"""Between two looks whether the campaign was told to end."""

PAUSED = "stopped at a checkpoint"
CUT_OFF = "cut off after a checkpoint"
LOST = "cut off before its first checkpoint"
NO_TIME = "not begun for lack of time"
HELD = "in other hands"
NOT_BEGUN = "not begun"
KILLED = "killed"
FAILED = "failed"
NO_SPACE = "disk full"
NO_DATA = "without data"


@dataclass(frozen=True)
class Places:
    """Where a campaign computes, and where it reads and writes."""

    store: Store
    data_root: Path
    device: str = "cpu"
    compiled: bool = False
    tensorboard: Path | None = None

    def checkpoint(self, run: Run) -> Path:
        """The checkpoint of a run, until it is recorded."""
        return self.store.checkpoint(run.id)

    def lock(self, run: Run) -> Path:
        """The file that the process which does a run holds."""
        return self.store.lock(run.id)


@dataclass(frozen=True)
class Outcome:
    """What became of a run that was handed out: a result, or the reason that there is none.

    Without either, another campaign has recorded it. An `error` ends the campaign, unless it is a
    `RunFailed`, or a `DataError`, which is of the runs on that data alone.
    """

    run: Run
    result: Result | None = None
    left: str = ""
    error: UserError | None = None


@dataclass(frozen=True)
class Campaign:
    """What was done now, what others did meanwhile, what is left for which reason; and errors."""

    done: list[Result] = field(default_factory=list)
    left: dict[Run, str] = field(default_factory=dict)
    meanwhile: list[Run] = field(default_factory=list)
    errors: list[UserError] = field(default_factory=list)

    def take(self, outcome: Outcome) -> None:
        """Note what became of a run."""
        if outcome.error is not None:
            self.errors.append(outcome.error)
        if outcome.result is not None:
            self.done.append(outcome.result)
        elif outcome.left:
            self.left[outcome.run] = outcome.left
        elif outcome.error is None:
            self.meanwhile.append(outcome.run)

    def complaint(self) -> UserError | None:
        """What went wrong, if anything did; first what keeps every run from being done."""
        failed = [error for error in self.errors if isinstance(error, RunFailed)]
        missing = [error for error in self.errors if isinstance(error, DataError)]
        ended = [error for error in self.errors if error not in (*failed, *missing)]
        killed = [run for run, why in self.left.items() if why == KILLED]
        for error in ended:
            if not isinstance(error, DiskFull):
                return error
        said = list(dict.fromkeys(str(error) for error in missing))
        if said and not self.done and {*self.left.values()} == {NO_DATA}:
            return DataError("; ".join(said))
        said += [str(error) for error in ended[:1]]
        if failed:
            said.append(f"{failed[0]}{f' ({len(failed)} runs failed)' * (len(failed) > 1)}")
        if killed:
            said.append(
                f"the process of {killed[0]}{' and of others' * (len(killed) > 1)} was killed, "
                "perhaps for lack of memory; the same command, with fewer --jobs, goes on from here"
            )
        if not said:
            return None
        # Where a failure is ours as well as the user's, it is ours to look at.
        status = min((error.status for error in self.errors), default=UserError.status)
        found = Unfinished("; ".join(said), self, status)
        for note in (note for error in failed[:1] for note in getattr(error, "__notes__", ())):
            found.add_note(note)
        return found


class Unfinished(UserError):
    """Some runs came to grief, and the campaign did what it could of the others."""

    def __init__(self, sentence: str, campaign: Campaign, status: int) -> None:
        super().__init__(sentence)
        self.campaign, self.status = campaign, status


def launch(
    runs: Sequence[tuple[str, Run]],
    places: Places,
    jobs: int = 1,
    quiet: bool = False,
    budget: Budget | None = None,
    launcher: Launcher | None = None,
    told: Callable[[], bool] = lambda: False,
) -> Campaign:
    """Carry out the runs that are not recorded yet, in their order, and record each as it ends.

    Parameters
    ----------
    runs
        Pairs of scale and run; a run that comes twice is done once.
    places
        Where.
    jobs
        How many processes work side by side; on the CPU they share the cores, and with the device
        "cuda" all GPUs are used in turn.
    quiet
        Show no progress.
    budget
        When to end, if at a certain time.
    launcher
        What hands out the runs, if not processes of this machine.
    told
        Asked now and then: whether to end the campaign, and the runs at work at a checkpoint.

    Raises
    ------
    UserError
        If something must be mended before any run can be done.
    Unfinished
        If the disk is full; or, when all else is done, if a run failed, a worker was killed or some
        of the data cannot be had.
    """
    recorded = places.store.recorded(run for _, run in runs)
    outstanding = {run: scale for scale, run in runs if run.id not in recorded}
    campaign = Campaign()
    if not outstanding:
        return campaign
    with places.store.writing():
        pass
    budget = budget or Budget()
    with Progress(len(outstanding), quiet, names(run for _, run in runs)) as progress:
        waiting = Waiting(outstanding, places, budget, progress, launcher is not None, told)
        # Alone, this process could not kill itself in time; in a group it has to be the one.
        alone = (jobs == 1 and budget.kill == math.inf) or group.current().size > 1
        outcomes = (launcher or (_in_turn if alone else _side_by_side))(waiting, jobs)
        with closing(outcomes):
            for outcome in outcomes:
                if waiting.again(outcome):
                    continue
                campaign.take(outcome)
                waiting.closed |= outcome.left == PAUSED
                if outcome.left == NO_DATA:
                    others = waiting.on_the_data_of(outcome.run)
                    campaign.left.update(dict.fromkeys(others, NO_DATA))
                    continue  # the sentence at the end says all
                if not (outcome.error is None or isinstance(outcome.error, RunFailed)):
                    waiting.stop()
                    if not outcome.left:
                        continue  # its sentence says all
                how = outcome.result.status if outcome.result else outcome.left
                progress.ended(outcome.run, how or "recorded elsewhere", not outcome.left)
        why = NOT_BEGUN if waiting.stopped else NO_TIME
        campaign.left.update(dict.fromkeys(waiting.runs, why))
        if complaint := campaign.complaint():
            raise complaint
    return campaign


Reporter = Callable[[Run, int, int, float, float], None]


class Waiting:
    """The runs that nobody does yet, in their order; what ran out of memory before comes last."""

    def __init__(
        self,
        outstanding: dict[Run, str],
        places: Places,
        budget: Budget,
        progress: Progress,
        elsewhere: bool,
        told: Callable[[], bool],
    ) -> None:
        self.scales, self.places, self.budget, self.progress = outstanding, places, budget, progress
        self.elsewhere = elsewhere  # on devices that nobody here knows the pace of
        self.told = told  # whether to stop
        failed = {line["run_id"] for line in places.store.provenance(outstanding)}
        self.runs = sorted(outstanding, key=lambda run: run.id in failed)
        self.held: set[Run] = set()
        self.closed = False  # once a run has stopped for lack of time, none begins
        self.stopped = False  # and those at work stop, too

    def next(self) -> Run | None:
        """The next run that can reach a checkpoint in time, if there is one."""
        seconds = self._seconds()
        left = self.budget.stop - time.time()
        fits = (run for run in self.runs if MARGIN * seconds(run) < left)
        run = None if self.is_over() or self.closed else next(fits, None)
        if run is not None:
            self.runs.remove(run)
            self.progress.begins(run, self.places.checkpoint(run).exists())
        return run

    def on_the_data_of(self, run: Run) -> list[Run]:
        """The runs that need the same data, which wait no longer."""
        kind = likenesses(run)[-1]
        found = [other for other in self.runs if likenesses(other)[-1] == kind]
        self.runs = [other for other in self.runs if other not in found]
        return found

    def stop(self) -> None:
        """Begin no more, and have those at work stop at a checkpoint; soon they are ended."""
        self.closed = self.stopped = True
        now = time.time()
        self.budget = Budget(now, min(self.budget.kill, now + PATIENCE))

    def is_over(self) -> bool:
        """Whether those at work are to stop now."""
        if self.told() and not self.stopped:
            self.stop()
        return self.stopped

    def cut_off(self, run: Run) -> Outcome:
        """A run that is ended before it has stopped."""
        return Outcome(run, left=CUT_OFF if self.places.checkpoint(run).exists() else LOST)

    def again(self, outcome: Outcome) -> bool:
        """Whether a run that another process holds is to be tried once more, after all others."""
        if outcome.left != HELD or outcome.run in self.held:
            return False
        self.held.add(outcome.run)
        self.runs.append(outcome.run)
        return True

    def _seconds(self) -> Callable[[Run], float]:
        """What each run needs to reach a checkpoint, as far as the records tell."""
        if self.budget.stop == math.inf or self.elsewhere:
            return lambda run: 0.0
        device = machine.describe(machine.find_device(self.places.device))
        durations = Durations(self.places.store, device, {run.task for run in self.runs})
        return lambda run: durations.to_checkpoint(run) or 0.0


Launcher = Callable[[Waiting, int], Generator[Outcome]]
"""Hands out what waits, to so many at a time, and yields what becomes of each."""


def _in_turn(waiting: Waiting, _: int) -> Generator[Outcome]:
    while (run := waiting.next()) is not None:
        order = (run, waiting.scales[run], waiting.places, waiting.budget.stop)
        yield carry_out(*order, report=waiting.progress.report, stopped=waiting.is_over)


def _side_by_side(waiting: Waiting, jobs: int) -> Generator[Outcome]:
    """As many workers as jobs, each a pool of its own: where one is killed, the others go on."""
    context = multiprocessing.get_context("spawn")
    messages: Any = context.Queue()
    over = context.RawValue("b", False)
    others = set(multiprocessing.active_children())
    devices = _devices(waiting.places.device, min(jobs, len(waiting.runs)))
    threads = max(1, torch.get_num_threads() // len(devices))
    pools: list[ProcessPoolExecutor] = []

    def pool() -> ProcessPoolExecutor:
        pools.append(ProcessPoolExecutor(1, context, _start_worker, (messages, over, threads)))
        return pools[-1]

    idle = [(pool(), dataclasses.replace(waiting.places, device=device)) for device in devices]
    at_work: dict[Future[Outcome], tuple[ProcessPoolExecutor, Places, Run]] = {}
    with _forwarding(messages, waiting.progress.report):
        try:
            while True:
                next_runs = zip(idle, iter(waiting.next, None), strict=False)
                begun = [(*one, run) for one, run in next_runs]
                del idle[: len(begun)]
                busy = Counter(places.device for _, places, _ in [*at_work.values(), *begun])
                for worker, places, run in begun:
                    share = busy[places.device]
                    order = (run, waiting.scales[run], places, waiting.budget.stop, share)
                    with _unheard():
                        work = worker.submit(_carry_out_in_worker, *order)
                    at_work[work] = (worker, places, run)
                if not at_work:
                    break
                over.value = waiting.is_over()
                left = min(waiting.budget.kill - time.time(), LOOK_SECONDS)
                ended, _ = wait(at_work, max(0.0, left), FIRST_COMPLETED)
                if not ended and time.time() >= waiting.budget.kill:
                    for _, _, run in at_work.values():
                        yield waiting.cut_off(run)
                    break
                for future in ended:
                    worker, places, run = at_work.pop(future)
                    try:
                        outcome = future.result()
                    except BrokenProcessPool:
                        worker, outcome = pool(), Outcome(run, left=KILLED)
                    idle.append((worker, places))
                    yield outcome
        finally:  # a second Ctrl-C too: checkpoints hold what was done so far
            for process in set(multiprocessing.active_children()) - others:
                process.kill()  # the idle too: to unload torch takes them seconds
            for worker in pools:
                worker.shutdown()


@contextmanager
def _unheard() -> Iterator[None]:
    """A process that starts now will not hear what reaches all, as Ctrl-C does: we end it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _devices(name: str, jobs: int) -> list[str]:
    """A device for each worker: the one that is named, or every GPU in turn."""
    gpus = torch.cuda.device_count() if name == "cuda" else 0
    return [f"cuda:{worker % gpus}" if gpus > 1 else name for worker in range(jobs)]


def carry_out(
    run: Run,
    scale: str,
    places: Places,
    until: float = math.inf,
    share: int = 1,
    report: Reporter = lambda run, done, total, loss, lr: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Do one run, if nobody else does, and record it; what goes wrong is part of the outcome.

    Parameters
    ----------
    run, scale, places
        What, and where.
    until
        When to stop at a checkpoint, in seconds since 1970.
    share
        How many runs share the device as this one begins, for the record.
    report
        Progress.
    stopped
        Whether to stop at a checkpoint now.
    """
    try:
        return _carry_out(run, scale, places, until, share, report, stopped)
    except Exception as error:
        if group.current().size > 1:
            raise  # the others of a group would not know
        if isinstance(error, UserError):
            kinds = {RunFailed: FAILED, DiskFull: NO_SPACE, DataError: NO_DATA}
            left = next((why for kind, why in kinds.items() if isinstance(error, kind)), "")
            return Outcome(run, left=left, error=error)
        failed = RunFailed(f"{run} failed: {named(error)}")
        failed.add_note(traceback.format_exc())
        return Outcome(run, left=FAILED, error=failed)


def _carry_out(
    run: Run,
    scale: str,
    places: Places,
    until: float,
    share: int,
    report: Reporter,
    stopped: Callable[[], bool],
) -> Outcome:
    with hold(places.lock(run)) as held:
        if not held:
            return Outcome(run, left=HELD)
        if places.store.recorded([run]):  # by another campaign, since this one began
            return Outcome(run)
        if time.time() >= until:
            return Outcome(run, left=NO_TIME)
        try:
            with _watching(places.tensorboard, run) as watch:
                result = engine.execute(
                    run,
                    device=places.device,
                    data_root=places.data_root,
                    compiled=places.compiled,
                    checkpoint=places.checkpoint(run),
                    until=until,
                    stopped=stopped,
                    report=lambda *progress: report(run, *progress),
                    watch=watch,
                )
        except engine.Paused:
            return Outcome(run, left=PAUSED)
        except (MemoryError, RuntimeError) as error:
            if not machine.is_out_of_memory(error) or group.current().size > 1:
                raise  # the others of a group would not know
            where = torch.device(places.device)  # nothing more is asked of it: it is full
            result = Result(run, OUT_OF_MEMORY, {}, [], machine.conditions(where))
        result.provenance["side_by_side"] = share
        places.store.add(result, scale)
        if result.status == OUT_OF_MEMORY:
            torch.cuda.empty_cache()  # whoever shares the device has use for it
        else:
            places.checkpoint(run).unlink(missing_ok=True)
    return Outcome(run, result)


def _watching(
    folder: Path | None, run: Run
) -> AbstractContextManager[Callable[[tuple[float, str, str, float]], None]]:
    """What to call with the points of the curves as they come."""
    if folder is None:
        return nullcontext(lambda point: None)
    from experiments import tensorboard  # its package is only needed where it is asked for

    return tensorboard.written(folder, run)


_messages: Any = None
_over: Any = None


def _start_worker(messages: Any, over: Any, threads: int) -> None:
    global _messages, _over  # what is shared can reach a pool's worker only when it starts
    _messages, _over = messages, over
    torch.set_num_threads(threads)
    machine.start_processes_as_usual()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would compute on, and then wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _carry_out_in_worker(run: Run, scale: str, places: Places, until: float, share: int) -> Outcome:
    return carry_out(
        run,
        scale,
        places,
        until,
        share,
        report=lambda *progress: _messages.put(progress),
        stopped=lambda: bool(_over.value),
    )


@contextmanager
def _forwarding(messages: Any, report: Reporter) -> Iterator[None]:
    """Hand the workers' progress to `report`, in a thread of this process."""
    stopped = threading.Event()

    def forward() -> None:
        while not stopped.is_set():
            try:
                report(*messages.get(timeout=0.5))
            except queue.Empty:
                continue

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
