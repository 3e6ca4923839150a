"""Many runs: skip the recorded, resume the stopped, several processes side by side.

Workers compute; this process alone writes records, one after every run.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from experiments import engine
from experiments.errors import UserError
from experiments.record import Result, Store
from experiments.spec import Run


@dataclass(frozen=True)
class Places:
    """Where a campaign computes, and where it reads and writes."""

    store: Store
    data_root: Path
    device: str = "cpu"
    compiled: bool = False

    def checkpoint(self, run: Run) -> Path:
        """The checkpoint of a run, until it is recorded."""
        return self.store.root / ".checkpoints" / f"{run.id}.pt"


def launch(
    runs: Sequence[tuple[str, Run]], places: Places, jobs: int = 1, quiet: bool = False
) -> list[Result]:
    """Carry out the runs that are not recorded yet, and record each as it ends.

    Parameters
    ----------
    runs
        Pairs of scale and run; a run that comes twice is done once.
    places
        Where.
    jobs
        How many processes work side by side; on the CPU they share the cores.
    quiet
        Show no progress.

    Returns
    -------
    list of Result
        What was done now.
    """
    recorded = places.store.recorded(run for _, run in runs)
    outstanding = {run: scale for scale, run in runs if run.id not in recorded}
    if not outstanding:
        return []
    with places.store.writing():
        pass
    done: list[Result] = []
    with (
        _Progress(len(outstanding), quiet) as progress,
        closing(_results(list(outstanding), places, jobs, progress.report)) as results,
    ):
        for result in results:
            places.store.add(result, outstanding[result.run])
            places.checkpoint(result.run).unlink(missing_ok=True)
            progress.finished(result.run)
            done.append(result)
    return done


Reporter = Callable[[Run, int, int, float, float], None]


def _results(runs: list[Run], places: Places, jobs: int, report: Reporter) -> Generator[Result]:
    if jobs == 1:
        for run in runs:
            yield _execute(run, places, report)
        return
    context = multiprocessing.get_context("spawn")
    messages: Any = context.Queue()
    threads = max(1, torch.get_num_threads() // jobs)
    others = set(multiprocessing.active_children())
    with (
        _forwarding(messages, report),
        ProcessPoolExecutor(jobs, context, _start_worker, (messages, threads)) as pool,
    ):
        futures = [pool.submit(_execute_in_worker, run, places) for run in runs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, perhaps for lack of memory; the same command, with "
                "fewer --jobs, goes on from here"
            ) from error
        except BaseException:  # Ctrl-C too: checkpoints hold what the others have done so far
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise


def _execute(run: Run, places: Places, report: Reporter) -> Result:
    return engine.execute(
        run,
        device=places.device,
        data_root=places.data_root,
        compiled=places.compiled,
        checkpoint=places.checkpoint(run),
        report=lambda *progress: report(run, *progress),
    )


_messages: Any = None


def _start_worker(messages: Any, threads: int) -> None:
    global _messages  # a queue can reach a pool's worker only when it starts
    _messages = messages
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would compute on, and then wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _execute_in_worker(run: Run, places: Places) -> Result:
    return _execute(run, places, lambda *progress: _messages.put(progress))


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


class _Progress:
    """One bar for all the runs, with the loss and the learning rate of the latest report."""

    def __init__(self, runs: int, quiet: bool) -> None:
        layout = "{l_bar}{bar}| {n:.1f}/{total} runs, {elapsed} gone, {remaining} left{postfix}"
        self.bar = tqdm(total=runs, bar_format=layout, mininterval=0.5, disable=quiet)
        self.share: dict[Run, float] = {}

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Only the sentence stays on the screen where one says what is wrong.
        self.bar.leave = not (kind and issubclass(kind, UserError))
        self.bar.close()

    def report(self, run: Run, done: int, total: int, loss: float, lr: float) -> None:
        """Move the bar by what a run has done since its last report."""
        self.bar.set_description(str(run), refresh=False)
        self.bar.set_postfix_str(f"loss {loss:.3f}, lr {lr:.2g}", refresh=False)
        self._reach(run, done / total)

    def finished(self, run: Run) -> None:
        """A run is recorded, were it that it diverged early or reported nothing."""
        self._reach(run, 1.0)

    def _reach(self, run: Run, share: float) -> None:
        if share > self.share.get(run, 0.0):
            self.bar.update(share - self.share.get(run, 0.0))
            self.share[run] = share
