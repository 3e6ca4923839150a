"""What ends a command with one sentence: the errors that a user can mend, and failed runs."""

from __future__ import annotations

import errno
from collections.abc import Iterator


class UserError(Exception):
    """Says in one sentence what is wrong and what to do."""

    status = 2


class DataError(UserError):
    """A dataset that cannot be had; the message says what is wrong and what to do."""


class DiskFull(UserError):
    """A file could not be written for want of space."""


class RunFailed(UserError):
    """One run raised what nobody had foreseen; the traceback is a note of the exception."""

    status = 1


class OptimizerFailed(RunFailed):
    """An optimizer from elsewhere raised it: its author can mend that."""

    status = 2


class CheckpointBroken(RunFailed):
    """A checkpoint that cannot be read: of its own run alone, and whoever deletes it mends that."""

    status = 2


def named(error: Exception) -> str:
    """What an exception is and says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def unwritable(sentence: str, error: BaseException) -> UserError:
    """What to raise where a file cannot be written: `DiskFull` if that is why."""
    numbers = {getattr(one, "errno", None) for one in _chain(error)}
    return (DiskFull if numbers & {errno.ENOSPC, errno.EDQUOT} else UserError)(sentence)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
