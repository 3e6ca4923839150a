"""A run in one pair of hands: a lock file that the kernel takes back from whoever dies.

No time-outs and no heartbeats: the lock of a killed process is free at once, that of a stopped
one is not. On a shared folder it holds between machines too, as the lock of the tables does.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.errors import unwritable


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Hold a lock file while the block runs; it names the holder, for people to read.

    Yields
    ------
    bool
        False, at once, where another process holds it.

    Raises
    ------
    UserError
        If the folder cannot be written, or its file system has no locks.
    """
    lock = FileLock(path, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
    except Timeout:
        yield False
        return
    except OSError as error:
        lock.release(force=True)
        raise unwritable(
            f"{path} cannot be written and locked ({error.strerror or error}); free space, change "
            "the folder's permissions, or name another with --results",
            error,
        ) from error
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)  # who waits for this very file looks again for its name
        lock.release()
