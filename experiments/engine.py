"""The one training loop, and the one way to carry out a run.

A run can be stopped at any moment. Its checkpoint holds everything that the next update depends
on, so that a resumed run is bit-equal, on the CPU, to an uninterrupted one.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments import optimizers, tasks
from experiments.errors import UserError
from experiments.record import Result, surroundings
from experiments.spec import Run

Report = Callable[[int, int, float, float], None]
"""Called now and then with: updates done, updates in all, training loss, learning rate."""

PROGRESS = ("epoch", "curves", "metrics", "diverged_at")
CURVE_POINTS = 120
"""About how many points the curve of the training loss has, over a whole run."""


def execute(
    run: Run,
    *,
    device: str = "cpu",
    data_root: Path = Path("data"),
    checkpoint: Path | None = None,
    report: Report = lambda done, total, loss, lr: None,
) -> Result:
    """Carry out a run: train, or measure.

    Parameters
    ----------
    run
        What to do.
    device
        A torch device, such as "cpu" or "cuda".
    data_root
        The folder of the data sets.
    checkpoint
        The file to resume from, where it exists, and to write after every epoch.
    report
        Progress.

    Raises
    ------
    UserError
        If the device, the task or the optimizer does not exist.
    DataError
        If the data is not there, or is not what it should be.
    """
    where = find_device(device)
    clock = Clock()
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        task = tasks.load(run, data_root, where)
        provenance = {**surroundings(), "device": _describe(where), "threads": _threads(where)}
        if isinstance(task, tasks.Measurement):
            with clock.running():
                metrics, curves = task.measure()
            status = "finished"
        else:
            training = _Training(run, task, where, clock)
            if checkpoint is not None:
                training.resume(checkpoint)
            training.train(report, checkpoint)
            metrics, curves, status = training.metrics, training.curves, training.status
            provenance["data_sha256"] = task.data_sha256
            if training.diverged_at is not None:
                provenance["diverged_at"] = training.diverged_at
    provenance |= {"wall_seconds": round(clock.wall, 2), "cpu_seconds": round(clock.cpu, 2)}
    return Result(run, status, metrics, curves, provenance)


@dataclass
class Clock:
    """Seconds at work, across interruptions: on the wall, and of the processor's time."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what happens inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


class _Training:
    """The state of a run in training, and its loop."""

    def __init__(self, run: Run, task: tasks.Training, device: torch.device, clock: Clock) -> None:
        if run.optim is None or run.epochs < 1 or run.batch_size < 1:
            raise UserError(f"{run} trains, and so needs an optimizer, epochs and a batch size")
        self.run, self.task, self.device, self.clock = run, task, device, clock
        self.model = task.model().to(device)
        self.optimizer = optimizers.build(run.optim, self.model.parameters())
        self.schedule = optimizers.schedule(run, self.optimizer, task.updates_per_epoch)
        self.epoch = 0
        self.curves: list[tasks.Point] = []
        self.metrics: dict[str, float] = {}
        self.diverged_at: int | None = None

    @property
    def status(self) -> str:
        """How the run ended."""
        return "finished" if self.diverged_at is None else "diverged"

    def train(self, report: Report, checkpoint: Path | None) -> None:
        """The loop: every epoch trains, evaluates and writes a checkpoint."""
        while self.epoch < self.run.epochs and self.diverged_at is None:
            with self.clock.running():
                self._train_epoch(report)
                self._evaluate()
            self.epoch += 1
            if checkpoint is not None:
                self._save(checkpoint)

    def _train_epoch(self, report: Report) -> None:
        total = self.run.epochs * self.task.updates_per_epoch
        done = self.epoch * self.task.updates_per_epoch
        window = max(1, round(total / CURVE_POINTS))
        losses: list[Tensor] = []
        epoch_losses: list[float] = []
        self.model.train()
        for number, batch in enumerate(self.task.batches(self.epoch), 1):
            rate = float(self.optimizer.param_groups[0]["lr"])
            losses.append(self._update(batch))
            if len(losses) < window and number < self.task.updates_per_epoch:
                continue
            values = torch.stack(losses).tolist()  # the one wait for the device in a window
            bad = next((i for i, loss in enumerate(values) if not math.isfinite(loss)), None)
            if bad is not None:
                self.diverged_at = done + number - len(values) + bad + 1
                self.metrics["train_loss"] = math.nan  # not that of an earlier epoch
                return
            epoch_losses += values
            mean = sum(values) / len(values)
            self.curves.append((done + number, "train", "loss", mean))
            report(done + number, total, mean, rate)
            losses = []
        self.metrics["train_loss"] = sum(epoch_losses) / len(epoch_losses)

    def _update(self, batch: tasks.Batch) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with self._precision():
            loss = self.task.loss(self.model, batch)
        torch.autograd.backward(loss)
        if self.run.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.run.clip)
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()

    def _evaluate(self) -> None:
        step = (self.epoch + 1) * self.task.updates_per_epoch
        self.model.eval()
        with torch.inference_mode(), self._precision():
            values = self.task.evaluate(self.model)
        for (split, metric), value in values.items():
            self.metrics[f"{split}_{metric}"] = value
            self.curves.append((step, split, metric, value))

    def _precision(self) -> torch.autocast:
        reduced = self.run.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=reduced)

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}

    def _save(self, path: Path) -> None:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {name: getattr(self, name) for name in PROGRESS}
        state["clock"] = (self.clock.wall, self.clock.cpu)
        state["generator"] = torch.get_rng_state()
        if self.device.type == "cuda":
            state["cuda_generator"] = torch.cuda.get_rng_state(self.device)
        try:
            _write_checkpoint(path, state)
        except (OSError, RuntimeError) as error:  # torch's writer has no error of its own
            raise UserError(
                f"the checkpoint {path} cannot be written; free space, change the folder's "
                "permissions, or name another with --results"
            ) from error

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, where there is one."""
        if not path.exists():
            return
        try:
            self._restore(torch.load(path, map_location=self.device, weights_only=True))
        except Exception as error:  # torch names no common class for a broken file
            raise UserError(
                f"the checkpoint {path} cannot be read; delete it, and the run starts again"
            ) from error

    def _restore(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for name in PROGRESS:
            setattr(self, name, state[name])
        self.clock.wall, self.clock.cpu = state["clock"]
        torch.set_rng_state(state["generator"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_generator"].cpu(), self.device)


def _write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """At every moment the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(state, file)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def find_device(name: str) -> torch.device:
    """A device that is there.

    Raises
    ------
    UserError
        If torch knows no such device, or this machine has none.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a device that holds no numbers is none
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise UserError(
            f"there is no device {name!r} here; use --device cpu"
            + (" or cuda" if torch.cuda.is_available() else "")
        ) from error
    return device


def _describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _threads(device: torch.device) -> int | None:
    return torch.get_num_threads() if device.type == "cpu" else None
