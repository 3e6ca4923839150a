"""The training loop: interruption changes no bit, divergence is a result, bad input a sentence."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments import engine, machine, optimizers, tasks
from experiments.engine import Paused, execute
from experiments.errors import UserError
from experiments.record import Result
from experiments.spec import Optim, Run, Schedule, options
from radam_core import factors


class Stopped(Exception):
    """Stands for Ctrl-C, or a machine that goes down."""


def outcome(result: Result) -> tuple[object, ...]:
    return result.status, result.metrics, result.curves


def interrupted(run: Run, checkpoint: Path, reports: int, **how: float) -> tuple[Result, int]:
    """Stop a run after so many reports, resume it, stop it again ...; and how often that was."""
    stops = 0
    while True:
        seen = 0

        def report(done: int, total: int, loss: float, lr: float) -> None:
            nonlocal seen
            seen += 1
            if seen > reports:
                raise Stopped

        try:
            return execute(run, checkpoint=checkpoint, report=report, **how), stops
        except Stopped:
            stops += 1


# Interruption. A tiny run has three epochs of three updates, each of which is reported.

LOW = {
    "precision": "bfloat16",
    "settings": options(
        widths=(16,), weights="bfloat16", train_images=80, validation_images=40, augment=True
    ),
}
SINGLE = options(state_dtype="float32")
STOCHASTIC = options(state_dtype="float32", rounding="stochastic")
ARMS = {
    "radam with schedules": {},
    "radam with clip and bfloat16": {"clip": 0.5, "precision": "bfloat16"},
    "sgd with momentum": {"optim": Optim("sgd", lr=0.1, options=options(momentum=0.9))},
    "adam": {"optim": Optim("adam", lr=0.01)},
    "counted": {"optim": Optim("radam-counted", lr=0.01)},
    "delayed adam": {"optim": Optim("delayed-adam", lr=0.01, options=options(delay=4))},
    "stochastic": LOW | {"optim": Optim("radam", lr=0.01, options=STOCHASTIC)},
    "rounded": LOW | {"optim": Optim("radam-rounded-moments", lr=0.01, options=STOCHASTIC)},
    "kahan": LOW | {"optim": Optim("radam-kahan", lr=0.01, options=SINGLE)},
    "kahan with bfloat16 moments": LOW | {"optim": Optim("radam-kahan", lr=0.01)},
}


@pytest.mark.parametrize(
    ("arm", "reports"),
    [(arm, 3) for arm in ARMS] + [("radam with schedules", 5)],  # after an epoch; inside one
)
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    tiny: Run, tmp_path: Path, arm: str, reports: int
) -> None:
    run = dataclasses.replace(tiny, **ARMS[arm])
    whole = execute(run)
    resumed, stops = interrupted(run, tmp_path / "folder" / "run.pt", reports)
    assert stops == 2
    assert outcome(resumed) == outcome(whole)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["run.pt"]


class Shrinking(torch.optim.SGD):
    """An optimizer that keeps its state in its groups, as some do: a count, by which it slows."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            group["count"] = group.get("count", 0) + 1
            for weight in group["params"]:
                weight.grad /= group["count"]
        super().step()


def test_what_an_optimizer_keeps_in_its_groups_goes_on_where_it_was(
    tiny: Run, tmp_path: Path
) -> None:
    """And yet the device and the schedule have the last word: the rate falls after two epochs."""
    run = dataclasses.replace(tiny, optim=Optim(f"{__name__}:Shrinking", lr=0.1))
    whole = execute(run)
    resumed, stops = interrupted(run, tmp_path / "run.pt", reports=3)
    assert stops == 2
    assert outcome(resumed) == outcome(whole)
    state = torch.load(tmp_path / "run.pt")["optimizer"]["param_groups"]
    assert [group["count"] for group in state] == [9]


@pytest.mark.parametrize("arm", ARMS)
def test_a_run_that_was_stopped_anywhere_in_an_epoch_ends_the_same(
    tiny: Run, tmp_path: Path, regression: type["Regression"], arm: str
) -> None:
    """With a checkpoint before every update, also where the window of a point is half full."""
    regression.current = Regression(updates_per_epoch=75)
    run = dataclasses.replace(tiny, **ARMS[arm])
    whole = execute(run)
    assert [step for step, *_ in whole.curves][36:40] == [74, 75, 75, 77]
    resumed, stops = interrupted(run, tmp_path / "run.pt", reports=25, every=0.0)
    assert stops == 4
    assert outcome(resumed) == outcome(whole)


def test_a_long_epoch_has_checkpoints_and_a_short_one_no_more_than_its_last(
    tiny: Run, tmp_path: Path, regression: type["Regression"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One update takes a second here, by the clock that the checkpoints go by."""
    regression.current = Regression(updates_per_epoch=10)
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    write, written = engine._write_checkpoint, []

    def note(path: Path, state: dict[str, Any]) -> None:
        written.append(state["epoch"] * 10 + state["batch"])
        write(path, state)

    monkeypatch.setattr(engine, "_write_checkpoint", note)
    update = engine._Training._update

    def slow(self: Any, *batch: object) -> Tensor:
        now[0] += 1.0
        return update(self, *batch)

    monkeypatch.setattr(engine._Training, "_update", slow)
    execute(dataclasses.replace(tiny, epochs=2), checkpoint=tmp_path / "run.pt", every=4.0)
    assert written == [4, 8, 10, 14, 18, 20]


@pytest.mark.parametrize("every", [0.0, 300.0])
def test_a_run_stops_at_a_checkpoint_when_its_time_is_up_and_goes_on_the_same(
    tiny: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: float
) -> None:
    """Whenever that is: the clock moves on at every look."""
    whole = execute(tiny)
    now = iter(range(10_000))
    monkeypatch.setattr("time.time", lambda: float(next(now)))
    pauses = 0
    for until in range(1, 1000):
        try:
            result = execute(tiny, checkpoint=tmp_path / "run.pt", every=every, until=4.0 * until)
            break
        except Paused:
            pauses += 1
    assert pauses >= 3
    assert outcome(result) == outcome(whole)


@pytest.mark.parametrize("breaks_at", [1, 4, 5])
def test_divergence_near_the_end_of_the_time_loses_no_evaluation(
    tiny: Run, tmp_path: Path, regression: type["Regression"], breaks_at: int
) -> None:
    regression.current = Regression(updates_per_epoch=4, breaks_at=breaks_at)
    whole = execute(tiny)
    resumed, _ = interrupted(
        tiny, tmp_path / "run.pt", reports=2, every=0.0, until=time.time() + 99
    )
    assert repr(outcome(resumed)) == repr(outcome(whole))
    assert resumed.metrics.keys() == {"train_loss", "test_loss"}


class Regression:
    """A linear network with dropout, whose loss is NaN from one of the updates on."""

    data_sha256 = "0" * 64

    def __init__(self, updates_per_epoch: int, breaks_at: float = math.inf) -> None:
        self.updates_per_epoch, self.breaks_at = updates_per_epoch, breaks_at

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1))

    def batches(self, epoch: int, first: int = 0) -> Iterator[tuple[int, Tensor]]:
        generator = torch.Generator().manual_seed(epoch)
        for number in range(1, self.updates_per_epoch + 1):
            batch = torch.rand(8, 4, generator=generator)
            if number > first:
                yield epoch * self.updates_per_epoch + number, batch

    def loss(self, model: nn.Module, batch: tuple[int, Tensor]) -> Tensor:
        update, inputs = batch
        loss = F.mse_loss(model(inputs), inputs.sum(1, keepdim=True))
        return loss * (math.nan if update >= self.breaks_at else 1.0)

    def evaluate(self, model: nn.Module) -> dict[tuple[str, str], float]:
        assert not model.training
        assert torch.is_inference_mode_enabled()
        return {("test", "loss"): float(self.loss(model, (0, torch.ones(1, 4))))}


@pytest.fixture
def regression(monkeypatch: pytest.MonkeyPatch) -> type[Regression]:
    """Give every run the task that `Regression.current` holds."""
    monkeypatch.setattr(tasks, "load", lambda *_: Regression.current)
    return Regression


def test_the_random_numbers_of_dropout_go_on_where_they_were(
    tiny: Run, tmp_path: Path, regression: type[Regression]
) -> None:
    regression.current = Regression(updates_per_epoch=5)
    whole = execute(tiny)
    resumed, stops = interrupted(tiny, tmp_path / "run.pt", reports=5)
    assert stops == 2
    assert outcome(resumed) == outcome(whole)
    assert outcome(execute(dataclasses.replace(tiny, seed=1))) != outcome(whole)


def test_a_finished_checkpoint_gives_the_result_at_once(tiny: Run, tmp_path: Path) -> None:
    whole = execute(tiny, checkpoint=tmp_path / "run.pt")
    again, stops = interrupted(tiny, tmp_path / "run.pt", reports=0)
    assert stops == 0
    assert outcome(again) == outcome(whole)


def test_time_is_counted_over_all_the_pieces(
    tiny: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(10_000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(now)))  # a second an epoch
    result, _ = interrupted(tiny, tmp_path / "run.pt", reports=3)
    assert result.provenance["wall_seconds"] == tiny.epochs


def test_a_record_names_all_that_a_run_was_made_with(
    tiny: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three commits, of which the first had changes and the last was on another machine."""
    pieces = [
        ("a", True, "2.14.0", "one"),
        ("b", False, "2.15.0", "one"),
        ("c", False, "2.15.0", "two"),
    ]
    for commit, dirty, version, processor in pieces:
        versions = {"python": "3.13", "torch": version}
        here = {"commit": commit, "dirty": dirty, "versions": versions, "processor": processor}
        for module in (engine, machine):
            monkeypatch.setattr(module, "surroundings", lambda here=here: here)
        stops = iter([False, False, commit != "c"])
        monkeypatch.setattr(engine, "threads", lambda _, commit=commit: 2 if commit == "c" else 1)
        with contextlib.suppress(Paused):
            result = execute(
                tiny, checkpoint=tmp_path / "run.pt", stopped=lambda stops=stops: next(stops, False)
            )
    found = result.provenance
    assert found["manner"] == "processes: 1, threads: 1, then processes: 1, threads: 2"
    assert found["commit"] == "a, then b, then c"
    assert found["versions"] == {"python": "3.13", "torch": "2.14.0, then 2.15.0"}
    assert (found["processor"], found["device"]) == ("one, then two", "cpu")
    assert found["dirty"]


def test_a_checkpoint_that_does_not_say_what_it_was_made_with_goes_on(
    tiny: Run, tmp_path: Path
) -> None:
    """An older one."""
    path = tmp_path / "run.pt"
    whole = execute(tiny, checkpoint=path)
    state = torch.load(path)
    for name in ("processors", "commits", "dirty", "torches", "manners"):
        del state[name]
    torch.save(state, path)
    again = execute(tiny, checkpoint=path).provenance
    for name in ("processor", "commit", "dirty", "versions", "manner"):
        assert again[name] == whole.provenance[name]


# Reproducibility


def test_a_run_neither_reads_nor_moves_the_callers_random_numbers(tiny: Run) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first = execute(tiny)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == before_numpy
    torch.manual_seed(2)
    assert outcome(execute(tiny)) == outcome(first)


def test_the_seed_and_the_precision_change_the_run(tiny: Run) -> None:
    first = outcome(execute(tiny))
    assert outcome(execute(dataclasses.replace(tiny, seed=1))) != first
    assert outcome(execute(dataclasses.replace(tiny, precision="bfloat16"))) != first
    assert outcome(execute(dataclasses.replace(tiny, clip=1e-3))) != first


def test_the_loop_is_what_a_plain_one_does(tiny: Run, regression: type[Regression]) -> None:
    """An oracle: the same updates without engine, windows and schedule object."""
    task = regression.current = Regression(updates_per_epoch=4)
    run = dataclasses.replace(tiny, clip=0.5)
    result = execute(run)
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        model = task.model()
        optimizer = optimizers.build(run.optim, model.parameters())
        losses = []
        for update in range(12):
            inputs = list(task.batches(update // 4))[update % 4]
            # LinearWarmup(4 updates) x StepDecay(0.1 after 2 epochs of 4 updates)
            rate = 0.03 * min(1, (update + 1) / 4) * (0.1 if update >= 8 else 1)
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            loss = task.loss(model, inputs)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            losses.append(loss.item())
    points = {step: value for step, split, _, value in result.curves if split == "train"}
    assert points == pytest.approx(dict(enumerate(losses, 1)), rel=1e-6)
    assert result.metrics["train_loss"] == pytest.approx(np.mean(losses[8:]), rel=1e-6)


def test_the_report_gives_progress_loss_and_rate(tiny: Run) -> None:
    reports: list[tuple[int, int, float, float]] = []
    result = execute(tiny, report=lambda *numbers: reports.append(numbers))
    assert [done for done, *_ in reports] == list(range(1, 10))
    assert {total for _, total, *_ in reports} == {9}
    # Warmup over 4 updates; a tenth after the second epoch, that is after the 6th update.
    expected = [0.03 * min(1, t / 4) * (1 if t <= 6 else 0.1) for t in range(1, 10)]
    assert [lr for *_, lr in reports] == pytest.approx(expected)
    train = [value for _, split, _, value in result.curves if split == "train"]
    assert [loss for _, _, loss, _ in reports] == train


@pytest.mark.parametrize(("per_epoch", "most"), [(3, 9), (200, 123)])
def test_the_curve_is_thinned(
    tiny: Run, regression: type[Regression], per_epoch: int, most: int
) -> None:
    regression.current = Regression(per_epoch)
    curves = execute(tiny).curves
    train = [step for step, split, *_ in curves if split == "train"]
    assert most - 3 <= len(train) <= most  # the rest of an epoch may add one to each
    assert train[-1] == 3 * per_epoch
    assert [step for step, split, *_ in curves if split == "test"] == [
        per_epoch,
        2 * per_epoch,
        3 * per_epoch,
    ]


# Divergence


@pytest.mark.parametrize("breaks_at", [1, 2, 99, 100, 101, 102, 250, 300])
def test_divergence_is_a_result_with_its_update(
    tiny: Run, tmp_path: Path, regression: type[Regression], breaks_at: int
) -> None:
    regression.current = Regression(updates_per_epoch=100, breaks_at=breaks_at)
    result = execute(tiny, checkpoint=tmp_path / "run.pt")
    assert result.status == "diverged"
    assert result.provenance["diverged_at"] == breaks_at
    assert math.isnan(result.metrics["train_loss"])
    steps = [step for step, split, *_ in result.curves if split == "train"]
    assert all(step < breaks_at for step in steps)
    again = execute(tiny, checkpoint=tmp_path / "run.pt")  # and it stays one when resumed
    assert repr(outcome(again)) == repr(outcome(result))  # as text, for NaN is not NaN
    assert again.provenance["diverged_at"] == breaks_at


def test_a_huge_learning_rate_diverges_without_a_crash(tiny: Run) -> None:
    run = dataclasses.replace(tiny, optim=Optim("sgd", lr=1e30), schedule=())
    result = execute(run)
    assert result.status == "diverged"
    train = [step for step, split, *_ in result.curves if split == "train"]
    assert result.provenance["diverged_at"] == len(train) + 1
    assert {"validation_accuracy", "test_accuracy", "test_loss"} <= result.metrics.keys()


# Bad input


@pytest.mark.parametrize(
    "device", ["toaster", "", "cuda:99", "meta", "hpu", "cpu:x", "privateuseone"]
)
def test_an_unknown_device_is_a_sentence(tiny: Run, device: str) -> None:
    with pytest.raises(UserError, match=f"^there is no device '{device}' here; use --device cpu"):
        execute(tiny, device=device)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"task": "chess"}, "there is no task 'chess'; the tasks are: .*digits"),
        ({"task": "_images"}, "there is no task '_images'"),
        ({"optim": Optim("adamax", 0.1)}, "there is no optimizer 'adamax'; .* sgd, .*adam, radam"),
        ({"optim": Optim("radam", 0.1, options=options(beta3=1))}, "radam refuses .*beta3"),
        ({"optim": Optim("radam", 0.1, options=options(betas=(0.9, 1.5)))}, "radam refuses"),
        ({"schedule": (Schedule("Warmdown"),)}, "has no factor 'Warmdown'"),
        ({"schedule": (Schedule("Schedule"),)}, "has no factor 'Schedule'"),
        ({"schedule": (Schedule("LinearWarmup", options(step=3)),)}, "LinearWarmup refuses"),
        ({"schedule": (Schedule("LinearWarmup", options(steps=0)),)}, "LinearWarmup refuses"),
        ({"optim": None}, "trains, and so needs an optimizer"),
        ({"epochs": 0}, "needs epochs and a batch size of at least 1"),
        ({"batch_size": 0}, "needs epochs and a batch size of at least 1"),
        ({"settings": options(depth=8, train_images=9_999, validation_images=1)}, "ask for fewer"),
        ({"settings": options(depth=8, train_images=9, validation_images=0)}, "at least one of"),
        ({"settings": options(depth=8, train_images=0, validation_images=9)}, "at least one of"),
    ],
)
def test_what_does_not_exist_is_a_sentence(
    tiny: Run, change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        execute(dataclasses.replace(tiny, **change))


@pytest.mark.parametrize("kind", ["rubbish", "truncated", "empty", "another's"])
def test_a_corrupt_checkpoint_is_named_and_left_alone(tiny: Run, tmp_path: Path, kind: str) -> None:
    checkpoint = tmp_path / "run.pt"
    execute(dataclasses.replace(tiny, epochs=1), checkpoint=checkpoint)
    content = checkpoint.read_bytes()
    if kind == "another's":
        torch.save({"model": {}}, checkpoint)
    else:
        parts = {"rubbish": b"rubbish", "truncated": content[: len(content) // 2], "empty": b""}
        checkpoint.write_bytes(parts[kind])
    before = checkpoint.read_bytes()
    with pytest.raises(UserError, match=r"run\.pt cannot be read; delete it"):
        execute(tiny, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_a_sound_checkpoint_is_not_blamed_for_a_full_device(
    tiny: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the run is out of memory, and its checkpoint worth keeping."""

    def stop(*progress: float) -> None:
        if progress[0] > 3:
            raise Stopped

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with pytest.raises(Stopped):
        execute(tiny, checkpoint=tmp_path / "run.pt", report=stop)
    monkeypatch.setattr(engine._Training, "_restore", full)
    with pytest.raises(torch.OutOfMemoryError):
        execute(tiny, checkpoint=tmp_path / "run.pt")


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    tiny: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "run.pt"
    execute(dataclasses.replace(tiny, epochs=1), checkpoint=checkpoint)
    before = checkpoint.read_bytes()

    def fill_the_disk(state: object, file: object) -> None:
        file.write(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fill_the_disk)
    with pytest.raises(UserError, match="cannot be written; free space"):
        execute(tiny, checkpoint=checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    assert checkpoint.read_bytes() == before


# Specs become schedules and optimizers


def test_durations_are_in_epochs_where_the_spec_says_so(tiny: Run) -> None:
    specs = (
        Schedule("LinearWarmup", options(steps=0.5), unit="epoch"),
        Schedule("StepDecay", options(milestones=(1, 2), gamma=0.5), unit="epoch"),
        Schedule("LinearDecay", options(total=40), unit="update"),
    )
    run = dataclasses.replace(tiny, schedule=specs)
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = optimizers.build(run.optim, [parameter])
    schedule = optimizers.schedule(run, optimizer, updates_per_epoch=10)
    expected = (factors.LinearWarmup(5), factors.StepDecay((10, 20), 0.5))
    for t in range(1, 30):
        rate = 0.03 * math.prod(factor(t) for factor in expected) * (1 - (t - 1) / 40)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
        optimizer.step()
        schedule.step()


def test_every_duration_of_a_factor_is_known_to_be_one() -> None:
    """A factor's counts are its integers; one left out would stay in updates in silence."""
    found = {
        field.name
        for factor in vars(factors).values()
        if isinstance(factor, type) and dataclasses.is_dataclass(factor)
        if factor is not factors.Delayed  # it wraps a factor, which no spec can hold
        for field in dataclasses.fields(factor)
        if "int" in str(field.type)
    }
    assert found == set(optimizers.DURATIONS)


@pytest.mark.parametrize("name", ["adam", "radam", "delayed-adam"])
def test_weight_decay_of_the_adaptive_optimizers_is_decoupled(name: str) -> None:
    """Where the gradient is zero the weight shrinks by 1 - lr x decay, and does nothing else."""
    weight = nn.Parameter(torch.full((1,), 2.0, dtype=torch.float64))
    extra = options(delay=0) if name == "delayed-adam" else ()
    optimizer = optimizers.build(Optim(name, 0.1, 0.5, extra), [weight])
    for _ in range(8):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    assert weight.item() == pytest.approx(2 * 0.95**8)


def test_weight_decay_of_sgd_is_the_l2_term() -> None:
    """It goes through the momentum: 0.5 x 2 at first, then 0.9 x 1 + 0.5 x 1.9."""
    weight = nn.Parameter(torch.full((1,), 2.0, dtype=torch.float64))
    optimizer = optimizers.build(Optim("sgd", 0.1, 0.5, options(momentum=0.9)), [weight])
    for _ in range(2):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    assert weight.item() == pytest.approx(2 - 0.1 * 1 - 0.1 * (0.9 * 1 + 0.5 * 1.9))
