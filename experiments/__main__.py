"""``python -m experiments``: the command line, or one sentence on why it cannot start."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from experiments.stopping import Stopping


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; a package that lacks, Ctrl-C and its like are told without a traceback."""
    began, stopping = time.time(), Stopping()
    with stopping.listening():
        return _main(words, began, stopping)


def _main(words: Sequence[str] | None, began: float, stopping: Stopping) -> int:
    try:
        from experiments import command_line  # in here, for it needs packages itself

        status = command_line.main(words, began, stopping)
        sys.stdout.flush()
        return status if stopping.number is None else stopping.status
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("experiments", "radam_core"):
            raise  # a slip of ours, and no package to install
        print(
            f"error: the package {package!r} is not installed; `make env` makes an environment "
            "that has everything",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return stopping.status


if __name__ == "__main__":
    sys.exit(main())
