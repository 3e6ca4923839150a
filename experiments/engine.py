"""The one training loop, and the one way to carry out a run.

A run can be stopped at any moment. Its checkpoint holds everything that the next update depends
on, so that a resumed run is bit-equal, on the CPU, to an uninterrupted one. It is written after
every epoch, and within a long one after every few minutes.

On a GPU an update is replayed as one CUDA graph where the task allows it, and nothing waits for the
GPU between two points of the curve. Started by torchrun, several processes share a run.
"""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from experiments import group, optimizers, precision, tasks
from experiments.errors import CheckpointBroken, OptimizerFailed, UserError, named, unwritable
from experiments.group import Group
from experiments.machine import (
    conditions,
    describe,
    find_device,
    is_out_of_memory,
    settings,
    threads,
)
from experiments.record import THEN, Result, replacing, surroundings
from experiments.replay import Replay
from experiments.spec import Run
from radam_core.probes import Histogram, LogBins, Probe

Report = Callable[[int, int, float, float], None]
"""Called now and then with: updates done, updates in all, training loss, learning rate."""

Loss = Callable[[nn.Module, tasks.Batch], Tensor]
ORIGINS = ("devices", "processors", "commits", "dirty", "torches", "sources", "manners")
"""What a run was made with: lists, of all that it was made with one after the other."""
PROGRESS = (
    *("epoch", "batch", "losses", "epoch_losses", "curves", "metrics", "diverged_at", "notes"),
    *ORIGINS,
)
CURVE_POINTS = 120
"""About how many points the curve of the training loss has, over a whole run."""
OF_THE_DEVICE = ("lr", "initial_lr", "fused", "foreach", "capturable", "differentiable")
"""What a group of the optimizer holds that this device or the schedule decides, and no state."""
BINS = LogBins(-20, 12, 128)
"""Of the histograms: four bins a decade."""
CHECKPOINT_SECONDS = 300.0
"""So much of an epoch is lost at most where a run is killed within it."""


class Paused(Exception):
    """The time was up before the run had ended; its checkpoint holds what was done."""


def execute(
    run: Run,
    *,
    device: str = "cpu",
    data_root: Path = Path("data"),
    compiled: bool = False,
    checkpoint: Path | None = None,
    every: float = CHECKPOINT_SECONDS,
    until: float = math.inf,
    stopped: Callable[[], bool] = lambda: False,
    window: int | None = None,
    report: Report = lambda done, total, loss, lr: None,
    watch: Callable[[tasks.Point], None] = lambda point: None,
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
    compiled
        Whether torch.compile rewrites the model and its loss: the same numbers up to rounding.
    checkpoint
        The file to resume from, where it exists, and to write after every epoch.
    every
        Seconds from one checkpoint to the next within an epoch.
    until
        When to write a last checkpoint and to stop, in seconds since 1970.
    stopped
        Asked before every update: whether to do so now.
    window
        How many updates a point of the training loss's curve is the mean of; if not given, as many
        as make about `CURVE_POINTS` of them.
    report
        Progress, with every such point.
    watch
        Called with every new point of the losses and metrics, but not of the histograms.

    Raises
    ------
    Paused
        If `until` has come, or the run was `stopped`.
    OptimizerFailed
        If an update of an optimizer from elsewhere raises something, or its state cannot be kept.
    CheckpointBroken
        If the checkpoint cannot be read.
    UserError
        If the device, the task or the optimizer does not exist.
    DataError
        If the data is not there, or is not what it should be.
    """
    began = time.monotonic()
    if run.optim is not None and min(run.epochs, run.batch_size) < 1:
        raise UserError(f"{run} trains, and so needs epochs and a batch size of at least 1")
    where = find_device(device)
    clock = Clock()
    with settings(where):
        torch.manual_seed(run.seed)
        task = tasks.load(run, data_root, where)
        provenance = conditions(where)
        if task.data_sha256 is not None:
            provenance["data_sha256"] = task.data_sha256
        if isinstance(task, tasks.Measurement):
            clock.start()
            metrics, curves = task.measure()
            clock.stop()
            status = "finished"
        else:
            group.current().call(run)
            saving = _Saving(checkpoint, every, until, stopped)
            training = _Training(run, task, where, compiled, clock, saving, window, report, watch)
            try:
                training.resume()
                training.train()
            finally:
                training.replay = None  # it has the training, too: neither would go by itself
            metrics, curves, status = training.metrics, training.curves, training.status
            provenance |= training.origins(provenance["versions"])
            provenance |= training.manner
            if isinstance(task, tasks.Remarks) and status == "finished":
                provenance |= task.remarks(training.model)
            provenance |= training.notes
            if training.sources:
                provenance["optimizer_sources"] = training.sources
            if training.started is not None:
                provenance["startup_seconds"] = round(training.started - began, 2)
            if training.diverged_at is not None:
                provenance["diverged_at"] = training.diverged_at
    provenance |= {"wall_seconds": round(clock.wall, 2), "cpu_seconds": round(clock.cpu, 2)}
    return Result(run, status, metrics, curves, provenance)


@dataclass
class Clock:
    """Seconds at work, across interruptions: on the wall, and of the processor's time.

    What was done after the last checkpoint of a killed run is done again, and not counted.
    """

    wall: float = 0.0
    cpu: float = 0.0

    def start(self) -> None:
        """Count from here."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Count up to here."""
        self.wall += time.perf_counter() - self._wall
        self.cpu += time.process_time() - self._cpu


@dataclass
class _Saving:
    """Where and when checkpoints are written."""

    path: Path | None
    every: float
    until: float
    stopped: Callable[[], bool]

    def __post_init__(self) -> None:
        self.last = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last checkpoint is so old that another is worth its time."""
        return self.path is not None and time.monotonic() - self.last >= self.every

    def is_over(self, ahead: float = 0.0) -> bool:
        """Whether the time will be up before the next `ahead` seconds are."""
        return time.time() + ahead >= self.until or self.stopped()


class _Training:
    """The state of a run in training, and its loop."""

    def __init__(
        self,
        run: Run,
        task: tasks.Training,
        device: torch.device,
        compiled: bool,
        clock: Clock,
        saving: _Saving,
        window: int | None,
        report: Report,
        watch: Callable[[tasks.Point], None],
    ) -> None:
        if run.optim is None:
            raise UserError(f"{run} trains, and so needs an optimizer")
        self.run, self.task, self.device, self.clock = run, task, device, clock
        self.saving, self.window, self.report, self.watch = saving, window, report, watch
        self.compiled = compiled
        self.group = _group_for(task, compiled)
        self.model = task.model().to(device)
        self.network = self.group.shared(self.model)
        self.loss = _compiled(task.loss) if compiled else task.loss
        half = run.precision == "float16"  # its small gradients would vanish
        self.scaler = torch.amp.GradScaler(device.type, enabled=half)
        # A scaler looks at the gradients before it steps, and processes wait for each other.
        replays = _replays(task, device) and self.group.size == 1 and not half
        self.steps_in_graph = replays and optimizers.is_capturable(run.optim)
        parameters = list(self.model.parameters())
        self.optimizer = optimizers.build(run.optim, parameters, self.steps_in_graph)
        step = self._gradients_and_step if self.steps_in_graph else self._gradients
        self.replay = Replay(step, parameters) if replays else None
        self.schedule = optimizers.schedule(run, self.optimizer, task.updates_per_epoch)
        self.probe = Probe(self.optimizer, BINS)
        concludes = isinstance(task, tasks.Concluding)
        self.averaged = AveragedModel(self.model, use_buffers=True) if concludes else None
        self.epoch = 0
        self.batch = 0  # how many of the epoch's batches are done
        self.losses: list[Tensor] = []  # since the last point of the curve
        self.epoch_losses: list[float] = []
        self.curves: list[tasks.Point] = []
        self.metrics: dict[str, float] = {}
        self.notes: dict[str, Any] = {}
        self.diverged_at: int | None = None
        here = surroundings()
        self.devices = [describe(device)]  # all that worked on it, one after the other
        self.processors, self.commits = [here["processor"]], [here["commit"]]  # the same
        self.dirty, self.torches = [here["dirty"]], [here["versions"].get("torch")]
        self.sources = list(optimizers.sources(run.optim))  # of its optimizer
        self.manner: dict[str, Any] = {"compiled": compiled, "processes": self.group.size}
        self.manner["threads"] = threads(device)
        if precision.is_emulated(run.precision, device, compiled):
            self.manner["arithmetic"] = f"float32, rounded to {run.precision}"
        how = (f"{name}: {value}" for name, value in self.manner.items() if value)
        self.manners = [", ".join(how)]  # such as "processes: 1, threads: 2"
        self.untried = optimizers.is_from_elsewhere(run.optim)  # whether its state can be read back
        self.started: float | None = None  # when this process had done its first update
        self.evaluation: float | None = None  # seconds that the last one took

    @property
    def status(self) -> str:
        """How the run ended."""
        return "finished" if self.diverged_at is None else "diverged"

    def origins(self, versions: dict[str, str]) -> dict[str, Any]:
        """What a record says of all that it was made with, and not by this process alone."""
        torches = _joined(self.torches)
        return {
            "device": _joined(self.devices),
            "processor": _joined(self.processors),
            "commit": _joined(self.commits),
            "dirty": any(self.dirty) or self.dirty[-1],
            "manner": _joined(self.manners),
            "versions": versions | ({"torch": torches} if torches else {}),
        }

    def train(self) -> None:
        """The loop: every epoch trains, evaluates and writes a checkpoint."""
        self.clock.start()
        while self.epoch < self.run.epochs and self.diverged_at is None:
            self._train_epoch()
            self._evaluate_in_time()
            self.epoch += 1
            self.batch, self.losses, self.epoch_losses = 0, [], []
            self._save()

    def _train_epoch(self) -> None:
        total = self.run.epochs * self.task.updates_per_epoch
        done = self.epoch * self.task.updates_per_epoch
        window = self.window or max(1, round(total / CURVE_POINTS))
        self.model.train()
        for number, (batch, weight) in enumerate(self._batches(), self.batch + 1):
            self._save_in_time()
            self.losses.append(self._update_in_view(batch, weight, done + number))
            self.batch = number
            self.started = self.started or time.monotonic()
            if len(self.losses) < window and number < self.task.updates_per_epoch:
                continue
            values = torch.stack(self.losses).tolist()  # the one wait for the device in a window
            bad = next((i for i, loss in enumerate(values) if not math.isfinite(loss)), None)
            if bad is not None:
                self.diverged_at = done + number - len(values) + bad + 1
                self.metrics["train_loss"] = math.nan  # not that of an earlier epoch
                return
            self.epoch_losses += values
            mean = sum(values) / len(values)
            self._note((done + number, "train", "loss", mean))
            self.report(done + number, total, mean, self._rate(done + number))
            self.losses = []
        self.metrics["train_loss"] = sum(self.epoch_losses) / len(self.epoch_losses)

    def _batches(self) -> Iterator[tuple[tasks.Batch, float]]:
        """The batches left of the epoch, or this process's parts of them, with their weights."""
        if self.group.size == 1:
            return ((batch, 1.0) for batch in self.task.batches(self.epoch, self.batch))
        assert isinstance(self.task, tasks.Divisible)
        return self.task.parts(self.epoch, self.group.rank, self.group.size, self.batch)

    def _update_in_view(self, batch: tasks.Batch, weight: float, number: int) -> Tensor:
        """An update, with its histograms where they are asked for."""
        if number not in self.run.probes:
            return self._update(batch, weight)
        losses: list[Tensor] = []
        reading = self.probe.watch(lambda: losses.append(self._update(batch, weight)))
        for quantity in ("gradient", "update", "adaptive_rate"):
            histogram = getattr(reading, quantity)
            if histogram is not None:
                self.curves += [(number, quantity, *point) for point in _points(histogram)]
        return losses[0]

    def _update(self, batch: tasks.Batch, weight: float) -> Tensor:
        loss = self.replay(batch) if self.replay else self._gradients(batch, weight)
        if not self.steps_in_graph:
            self._step()
            self.scaler.update()
        self.schedule.step()
        return loss

    def _step(self) -> None:
        """What an optimizer from elsewhere raises is for its author to mend."""
        try:
            self.scaler.step(self.optimizer)
        except Exception as error:
            assert self.run.optim is not None
            if not optimizers.is_from_elsewhere(self.run.optim) or is_out_of_memory(error):
                raise
            number = self.epoch * self.task.updates_per_epoch + self.batch + 1
            failed = OptimizerFailed(
                f"{self.run.optim.name} failed in update {number} of {self.run}: {named(error)}"
            )
            failed.add_note(traceback.format_exc())
            raise failed from error

    def _gradients_and_step(self, batch: tasks.Batch) -> Tensor:
        loss = self._gradients(batch)
        self.optimizer.step()
        return loss

    def _gradients(self, batch: tasks.Batch, weight: float = 1.0) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with self._precision():
            loss = self.loss(self.network, batch) * weight
        torch.autograd.backward(self.scaler.scale(loss))
        if self.run.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.run.clip)
        return self.group.mean(loss.detach())

    def _rate(self, update: int) -> float:
        """The learning rate of an update; the optimizer's own may be on the device."""
        assert self.run.optim is not None
        return self.run.optim.lr * self.schedule.multiplier(update)

    def _evaluate_in_time(self) -> None:
        """Evaluate, unless the last one took longer than the time that is left."""
        if self.diverged_at is None:  # else a checkpoint would hold the end of the run without it
            if self.evaluation is None and self.saving.until < math.inf:
                self._save()  # the first takes nobody knows how long
            self._save_in_time(ahead=self.evaluation or 0.0)
        began = time.monotonic()
        if self.group.leads:
            self._evaluate()
        self.evaluation = time.monotonic() - began

    def _evaluate(self) -> None:
        step = (self.epoch + 1) * self.task.updates_per_epoch
        self.model.eval()
        with torch.inference_mode(), self._precision():
            values = self.task.evaluate(self.model)
        for (split, metric), value in values.items():
            self.metrics[f"{split}_{metric}"] = value
            self._note((step, split, metric, value))
        if self.averaged is not None and self.diverged_at is None:
            self._conclude(self.averaged)

    def _conclude(self, averaged: AveragedModel) -> None:
        """Take the weights into the average if it is time, and test at the end of the run."""
        assert isinstance(self.task, tasks.Concluding)
        left = self.run.epochs - self.epoch - 1
        if left < self.task.averaged:
            averaged.update_parameters(self.model)
        if left == 0:
            averaged.eval()
            with torch.inference_mode(), self._precision():
                metrics, self.notes = self.task.conclude(averaged.module)
            self.metrics |= metrics

    def _note(self, point: tasks.Point) -> None:
        self.curves.append(point)
        self.watch(point)

    def _precision(self) -> AbstractContextManager[None]:
        return precision.autocast(self.run.precision, self.device, self.compiled)

    def _parts(self) -> dict[str, Any]:
        names = ("model", "optimizer", "schedule", "scaler", "averaged")
        parts = {name: getattr(self, name) for name in names}
        return {name: part for name, part in parts.items() if part is not None}

    def _save_in_time(self, ahead: float = 0.0) -> None:
        """Write a checkpoint where one is due; where the time is up, the last one."""
        over = self.group.agreed(self.saving.is_over(ahead))
        if over or self.saving.is_due():
            self._save()
        if over:
            raise Paused

    def _save(self) -> None:
        self.clock.stop()
        if self.saving.path is not None:
            self._write(self.saving.path)
            self.saving.last = time.monotonic()
        self.clock.start()

    def _write(self, path: Path) -> None:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {name: getattr(self, name) for name in PROGRESS}
        state["clock"] = (self.clock.wall, self.clock.cpu)
        state["generator"] = torch.get_rng_state()
        if self.device.type == "cuda":
            state["cuda_generator"] = torch.cuda.get_rng_state(self.device)
        try:
            _write_checkpoint(path, state)
        except (OSError, RuntimeError) as error:  # torch's writer has no error of its own
            raise unwritable(
                f"the checkpoint {path} cannot be written; free space, change the folder's "
                "permissions, or name another with --results",
                error,
            ) from error
        if self.untried:
            self._read_back(path)

    def _read_back(self, path: Path) -> None:
        """What an optimizer from elsewhere keeps can be written whatever it is, but not read."""
        self.untried = False
        try:
            _read_checkpoint(path)
        except CheckpointBroken as error:
            assert self.run.optim is not None
            path.unlink()
            raise OptimizerFailed(
                f"{self.run.optim.name} keeps what cannot be read from a checkpoint again; let its "
                "state and its param_groups hold nothing but tensors, Python's own numbers and "
                "strings, and lists, tuples and dicts of these"
            ) from error

    def resume(self) -> None:
        """Go on from the checkpoint, where there is one."""
        state = self.group.agreed(self._read())
        if state is None:
            return
        try:
            self._restore(state)
        except Exception as error:  # torch names no common class for what does not fit
            if is_out_of_memory(error):
                raise  # of the device: there is nothing wrong with the file
            assert self.saving.path is not None
            raise _unreadable(self.saving.path) from error

    def _read(self) -> dict[str, Any] | None:
        path = self.saving.path
        return None if path is None or not path.exists() else _read_checkpoint(path)

    def _restore(self, state: dict[str, Any]) -> None:
        groups = state["optimizer"]["param_groups"]
        for saved, own in zip(groups, self.optimizer.param_groups, strict=True):
            decided = {name: own[name] for name in OF_THE_DEVICE if name in own}
            saved |= own | saved | decided  # an older one lacks some
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.schedule.apply()
        here = {name: getattr(self, name) for name in ORIGINS}
        for name in PROGRESS:
            setattr(self, name, state.get(name, getattr(self, name)))  # an older one lacks some
        for name, own in here.items():
            if getattr(self, name)[-1:] != own:
                getattr(self, name).extend(own)
        self.losses = [loss.to(self.device) for loss in self.losses]
        self.clock.wall, self.clock.cpu = state["clock"]
        torch.set_rng_state(state["generator"])
        if self.device.type == "cuda" and "cuda_generator" in state:  # it may come from a CPU
            torch.cuda.set_rng_state(state["cuda_generator"], self.device)


def progress(path: Path) -> tuple[int, int]:
    """How far a checkpoint is: epochs, and batches of the next.

    Raises
    ------
    CheckpointBroken
        If it cannot be read.
    """
    state = _read_checkpoint(path)
    return state["epoch"], state["batch"]


def begun_with(path: Path) -> list[str] | None:
    """The sources of the optimizers that a checkpoint's run had; None where it cannot be read."""
    try:
        return list(_read_checkpoint(path).get("sources", []))
    except CheckpointBroken:
        return None


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names no common class for a broken file
        raise _unreadable(path) from error
    return state


def _unreadable(path: Path) -> CheckpointBroken:
    return CheckpointBroken(
        f"the checkpoint {path} cannot be read; delete it, and the run starts again"
    )


def _write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        torch.save(state, file)


def follow(device: str, data_root: Path, compiled: bool = False) -> None:
    """Take part in the runs of the process that leads, until it has no more."""
    while (run := group.current().agreed(None)) is not None:
        with contextlib.suppress(Paused):
            execute(run, device=device, data_root=data_root, compiled=compiled)


def _group_for(task: tasks.Training, compiled: bool) -> Group:
    """The processes that share a run of this task."""
    processes = group.current()
    if processes.size > 1 and not isinstance(task, tasks.Divisible):
        raise UserError("a run of this task cannot be shared; start it without torchrun")
    if processes.size > 1 and compiled:
        raise UserError("a run that processes share is not compiled; leave out --compile")
    return processes


def _compiled(loss: Loss) -> Loss:
    """The loss compiled for this run; else many runs would reach the limit of recompilations."""
    torch.compiler.reset()
    return torch.compile(loss, dynamic=False)


def _joined(origins: Sequence[str | None]) -> str | None:
    return THEN.join(one for one in origins if one) or None


def _points(histogram: Histogram) -> Iterator[tuple[str, float]]:
    """Its bins that are not empty, by their middle in log10, and what lies in none."""
    edges = histogram.bins.log_edges
    for middle, count in zip((edges[:-1] + edges[1:]) / 2, histogram.counts, strict=True):
        if count:
            yield f"{middle:g}", float(count)
    for name in ("zeros", "below", "above", "nonfinite"):
        if count := getattr(histogram, name):
            yield name, float(count)


def _replays(task: tasks.Training, device: torch.device) -> bool:
    """Whether an update can be recorded and replayed."""
    return device.type == "cuda" and isinstance(task, tasks.Repeating) and task.repeats
