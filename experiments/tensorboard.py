"""The curves of runs for TensorBoard, as they come."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from experiments.errors import UserError
from experiments.spec import Run
from experiments.tasks import Point

FLUSH_SECONDS = 5


def prepare(folder: Path) -> None:
    """Make the folder.

    Raises
    ------
    UserError
        If that cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder {folder} cannot be made ({error.strerror}); name another with "
            "--tensorboard"
        ) from error


@contextmanager
def written(folder: Path, run: Run) -> Iterator[Callable[[Point], None]]:
    """Something to call with every new point of a run's curves, in a folder of its own."""
    writers: list[SummaryWriter] = []

    def write(point: Point) -> None:
        step, split, metric, value = point
        if not writers:  # a run that was killed made points after its last checkpoint: off they go
            words = " ".join(value for _, value in run.settings if isinstance(value, str))
            words += f" {dict(run.optim.options)}" if run.optim else ""  # what tells arms apart
            name = "-".join(re.findall(r"[\w.+-]+", f"{run} {words} {run.id}"))
            after = int(step)
            writers.append(
                SummaryWriter(str(folder / name), purge_step=after, flush_secs=FLUSH_SECONDS)
            )
        writers[0].add_scalar(f"{metric}/{split}", value, int(step))

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()
