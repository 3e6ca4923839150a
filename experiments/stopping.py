"""How a command is told to end: by Ctrl-C, SIGTERM, or SIGHUP as of a connection that is closed.

All three are Ctrl-C to the rest. Where runs are at work the first is only noted, for them to end at
a checkpoint; the second ends the command at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONCE_SECONDS = 1.0
"""The same signal within so long is the same word: a shell and torchrun hand on what all got."""
LIMIT_SECONDS = 90
"""So long may what is at work take to end."""
SENTENCE = "\nstopping where it can go on from; once more, Ctrl-C or a signal ends it at once\n"


class Stopping:
    """What this process was told, if anything.

    Attributes
    ----------
    number
        The last signal's; None where there was none.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.noting = False
        self.first = 0.0

    @property
    def status(self) -> int:
        """What the command ends with where it was told to."""
        return 128 + (self.number or signal.SIGINT)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear the signals, unless whoever started this process had it ignore them, as nohup."""
        before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
        heard = [number for number, how in before.items() if how not in (signal.SIG_IGN, None)]
        if threading.current_thread() is not threading.main_thread():
            heard = []  # no other may
        try:
            for number in heard:
                signal.signal(number, self._hear)
            yield
        finally:
            for number in heard:
                signal.signal(number, before[number])

    @contextmanager
    def noted(self) -> Iterator[Callable[[], bool]]:
        """Note the first signal while the block runs, and end the command after it.

        Yields
        ------
        callable
            Asked now and then: whether there was one.
        """
        self.noting = True
        try:
            yield lambda: self.number is not None
        finally:
            self.noting = False
            if self.number is not None:
                signal.alarm(0)
        if self.number is not None:
            raise KeyboardInterrupt

    def _hear(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if number == self.number and now - self.first < ONCE_SECONDS:
            return
        if number == signal.SIGHUP:
            _leave_terminal()
        if self.number is None and self.noting:
            self.number, self.first = number, now
            signal.alarm(LIMIT_SECONDS)
            with contextlib.suppress(OSError):
                os.write(2, SENTENCE.encode())  # print could be at work itself
            return
        if number != signal.SIGALRM:
            self.number = number
        raise KeyboardInterrupt


def _leave_terminal() -> None:
    """Whoever writes to a terminal that has gone gets an error; files and pipes stay."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
