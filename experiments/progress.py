"""The progress of a campaign: live lines on a terminal, plain ones elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from experiments.errors import UserError
from experiments.spec import Run

LINE_SECONDS = 60.0
"""Where there is no terminal, one line in so much time speaks of a run that goes on."""


class Progress:
    """How far all the runs are together, and each that is at work.

    Parameters
    ----------
    runs
        How many there are.
    quiet
        Show nothing.
    names
        What to call the runs, if not what they call themselves.
    """

    def __init__(
        self, runs: int, quiet: bool = False, names: Mapping[Run, str] | None = None
    ) -> None:
        self.runs, self.names = runs, names or {}
        self.share: dict[Run, float] = {}  # of every run that began, how much is done
        self.resumed: set[Run] = set()
        self.before = 0.0  # what was done, in runs, when the pace began to be taken
        self.began = self.spoke = time.monotonic()
        self.updating = False  # whether an update has been reported
        self.live = not quiet and sys.stderr.isatty()
        self.plain = not quiet and not self.live
        self.whole = self._line("all", runs, "{n:.1f} of {total} runs{postfix}", position=0)
        self.lines: dict[Run, Any] = {}
        self.lock = threading.RLock()  # reports come in a thread of their own

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for run in list(self.lines):
            self.lines.pop(run).close()
        # Only the sentence stays on the screen where one says what is wrong.
        self.whole.leave = not (kind and issubclass(kind, UserError))
        self.whole.close()

    def begins(self, run: Run, resumed: bool) -> None:
        """A run is handed out; what an earlier campaign did of it says nothing of the pace."""
        if resumed:
            self.resumed.add(run)

    def report(self, run: Run, done: int, total: int, loss: float, lr: float) -> None:
        """A run is at work."""
        with self.lock:
            if run in self.share and run not in self.lines:
                return  # it has ended: a belated message
            if run not in self.share:
                first = done if run in self.resumed else 0
                name = self.name(run)
                self.lines[run] = self._line(name, total, "{remaining} left{postfix}", first)
                self.before += first / total
            self.share[run] = done / total
            if not self.updating:  # the first of all took the start-up, too: no pace comes of it
                self.updating, self.began = True, time.monotonic()
                self.before = sum(self.share.values())
            state = f"loss {loss:.3f}, lr {lr:.2g}"
            self.lines[run].set_postfix_str(state, refresh=False)
            self.lines[run].update(done - self.lines[run].n)
            self._refresh()
            if time.monotonic() - self.spoke >= LINE_SECONDS:
                self._say(f"{self.name(run)} is {done / total:.0%} done, {state}")

    def ended(self, run: Run, how: str, recorded: bool) -> None:
        """A run has ended, or was put aside."""
        with self.lock:
            self.share.setdefault(run, 0.0)
            if recorded:
                self.share[run] = 1.0
            if run in self.lines:
                self.lines.pop(run).close()
            self._refresh()
            self._say(f"{self.name(run)}: {how}")

    def name(self, run: Run) -> str:
        """What to call a run."""
        return self.names.get(run, str(run))

    def left(self) -> str:
        """The time left for all of them, if they go on at the pace of this campaign."""
        done, gone = sum(self.share.values()), time.monotonic() - self.began
        if done <= self.before:
            return "time left unknown"
        rest = (self.runs - done) * gone / (done - self.before)
        return f"{tqdm.format_interval(rest)} left"

    def _line(
        self, name: str, total: int, end: str, done: int = 0, position: int | None = None
    ) -> Any:
        return tqdm(
            desc=name,
            total=total,
            initial=done,
            bar_format="{l_bar}{bar}| " + end,
            position=position,
            leave=position is not None,
            disable=not self.live,
            mininterval=0.2,
            smoothing=0.05,
            dynamic_ncols=True,
        )

    def _refresh(self) -> None:
        self.whole.set_postfix_str(self.left(), refresh=False)
        self.whole.update(sum(self.share.values()) - self.whole.n)

    def _say(self, what: str) -> None:
        if self.plain:
            self.spoke = time.monotonic()
            done = sum(self.share.values())
            print(f"{what}; {done:.1f} of {self.runs} runs, {self.left()}", file=sys.stderr)
