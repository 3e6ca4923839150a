"""Tasks: model, batches, loss and evaluation, or one measurement. One file each.

``load(run, ...)`` imports the module named by ``run.task`` and calls its `build`; a new file here
is a new task.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from experiments.errors import UserError
from experiments.spec import Run

Batch = Any
Point = tuple[float, str, str, float]
"""One point of a curve: step, split, metric, value."""


class Training(Protocol):
    """What the training loop asks of a task.

    The order of the batches depends on the run's seed and the epoch alone, so that a resumed run
    sees what an uninterrupted one would have seen.
    """

    data_sha256: str
    updates_per_epoch: int

    def model(self) -> nn.Module:
        """A freshly initialised model, drawn from torch's global generator."""

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the number `first` on, on the task's device."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean training loss of a batch, a scalar."""

    def evaluate(self, model: nn.Module) -> dict[tuple[str, str], float]:
        """(split, metric) -> value, on every held-out split."""


@runtime_checkable
class Divisible(Protocol):
    """A training task whose loss is a mean over samples: several processes can share a batch."""

    def parts(
        self, epoch: int, rank: int, size: int, first: int = 0
    ) -> Iterator[tuple[Batch, float]]:
        """One process's part of every batch, and what its mean weighs in that over processes.

        From the number `first` on, as `Training.batches`.
        """


@runtime_checkable
class Repeating(Protocol):
    """A training task of which a GPU may be able to replay an update.

    It can where `repeats` holds: a batch is one tensor, and the loss does the same operations for
    all batches of a shape.
    """

    repeats: bool


@runtime_checkable
class Remarks(Protocol):
    """A training task that has more to say of a trained model than numbers."""

    def remarks(self, model: nn.Module) -> dict[str, Any]:
        """What is kept with the run's provenance; it draws from no global generator."""


@runtime_checkable
class Concluding(Protocol):
    """A training task that tests once, when all is trained, on averaged weights.

    The weights are averaged over the ends of the last `averaged` epochs.
    """

    averaged: int

    def conclude(self, model: nn.Module) -> tuple[dict[str, float], dict[str, Any]]:
        """Metrics, and what is to stand beside them in the record."""


@runtime_checkable
class Measurement(Protocol):
    """A task that trains nothing: one call gives everything.

    The digest is None where no data is read.
    """

    data_sha256: str | None

    def measure(self) -> tuple[dict[str, float], list[Point]]:
        """Metrics and curves."""


def load(run: Run, data_root: Path, device: torch.device) -> Training | Measurement:
    """The task of a run.

    Raises
    ------
    UserError
        If there is no such task.
    """
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    known = [name for name in names if not name.startswith("_")]
    if run.task not in known:
        raise UserError(f"there is no task {run.task!r}; the tasks are: {', '.join(known)}")
    task: Training | Measurement = importlib.import_module(f"{__name__}.{run.task}").build(
        run, data_root, device
    )
    return task
