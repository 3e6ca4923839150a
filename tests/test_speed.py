"""What makes training fast changes no result: replayed updates, 16 bits, compiled losses."""

import dataclasses
import functools
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_engine import Stopped, interrupted, outcome
from torch import Tensor, nn

from experiments import engine, optimizers
from experiments.engine import execute
from experiments.record import Result
from experiments.replay import WARMUP, Replay
from experiments.spec import Optim, Run, Schedule, options

ARMS = {
    "its step in the graph": Optim("radam", 0.03, weight_decay=1e-4),
    "its step outside": Optim("delayed-adam", 0.01, options=options(delay=2)),
    "rounding by chance": Optim(
        "radam", 0.03, options=options(rounding="stochastic", state_dtype="float32")
    ),
}


class Rehearsal(Replay):
    """Records and replays without a GPU: a step with everything it touches as it was recorded.

    Like a CUDA graph, it computes on the batch that was held; and the learning rate must lie in a
    tensor, because a graph would not see a new number.
    """

    made: int = 0

    def _aside(self, held: Tensor) -> Tensor:
        return self.step(held)

    def _record(self, held: Tensor) -> Callable[[], Tensor]:
        Rehearsal.made += 1
        training = self.step.__self__
        for group in training.optimizer.param_groups if training.steps_in_graph else ():
            assert isinstance(group["lr"], Tensor)
            assert group["capturable"]
        step = self.step
        return lambda: step(held).clone()


@pytest.fixture
def rehearsal(monkeypatch: pytest.MonkeyPatch) -> type[Rehearsal]:
    """The engine takes the path of a GPU."""
    monkeypatch.setattr(engine, "_replays", lambda *_: True)
    monkeypatch.setattr(engine, "Replay", Rehearsal)
    Rehearsal.made = 0
    return Rehearsal


def train_losses(result: Result) -> dict[float, float]:
    return {step: value for step, split, _, value in result.curves if split == "train"}


# Replayed updates. A tiny run has, in each of its epochs, two batches of 32 and one of 16.


def longer(tiny: Run, arm: str) -> Run:
    """Epochs enough for both shapes to be recorded, and replayed some times."""
    return dataclasses.replace(tiny, optim=ARMS[arm], epochs=WARMUP + 3)


@pytest.mark.parametrize("arm", ARMS)
def test_replayed_updates_are_those_of_the_plain_loop(
    tiny: Run, arm: str, monkeypatch: pytest.MonkeyPatch, rehearsal: type[Rehearsal]
) -> None:
    run = longer(tiny, arm)
    fast = execute(run)
    assert rehearsal.made == 2
    monkeypatch.undo()
    plain = execute(run)
    if arm == "its step in the graph":  # its rectification is worked out on the device
        assert train_losses(fast) == pytest.approx(train_losses(plain), rel=1e-3)
    else:
        assert outcome(fast) == outcome(plain)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("reports", [4, 9])
def test_a_replaying_run_resumes(
    tiny: Run, tmp_path: Path, arm: str, reports: int, rehearsal: type[Rehearsal]
) -> None:
    whole = execute(longer(tiny, arm))
    resumed, stops = interrupted(longer(tiny, arm), tmp_path / "run.pt", reports)
    assert stops > 0
    assert outcome(resumed) == outcome(whole)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("begins_replaying", [True, False])
def test_a_checkpoint_goes_from_one_path_to_the_other(
    tiny: Run, tmp_path: Path, arm: str, begins_replaying: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a GPU to a CPU or back: the rate, and how it is held, are the device's."""
    run = longer(tiny, arm)
    plain = execute(run)
    monkeypatch.setattr(engine, "Replay", Rehearsal)
    monkeypatch.setattr(engine, "_replays", lambda *_: begins_replaying)

    def stop(done: int, total: int, loss: float, lr: float) -> None:
        if done > 9:
            raise Stopped

    with pytest.raises(Stopped):
        execute(run, checkpoint=tmp_path / "run.pt", report=stop)
    monkeypatch.setattr(engine, "_replays", lambda *_: not begins_replaying)
    resumed = execute(run, checkpoint=tmp_path / "run.pt")
    assert train_losses(resumed) == pytest.approx(train_losses(plain), rel=1e-3)


def test_a_run_leaves_nothing_on_the_device(
    tiny: Run, monkeypatch: pytest.MonkeyPatch, rehearsal: type[Rehearsal]
) -> None:
    """Without waiting for the garbage collector: the next run needs the memory."""
    trainings: list[weakref.ref[engine._Training]] = []

    class Watched(engine._Training):
        def train(self) -> None:
            trainings.append(weakref.ref(self))
            super().train()

    monkeypatch.setattr(engine, "_Training", Watched)
    gc.disable()
    try:
        execute(longer(tiny, "its step in the graph"))
        assert rehearsal.made == 2
        assert [training() for training in trainings] == [None]
    finally:
        gc.enable()


def test_the_step_sees_every_batch_of_a_shape_in_one_place() -> None:
    """Where its strides would change, a compiler would begin anew, and inside of a recording."""
    places, sums = set(), []

    def step(held: Tensor) -> Tensor:
        places.add((held.data_ptr(), held.stride()))
        sums.append(held.sum().item())
        return held.sum()

    class Repeated(Rehearsal):
        def _record(self, held: Tensor) -> Callable[[], Tensor]:
            return lambda: step(held).clone()

    replay = Repeated(step, [])
    batches = [*torch.split(torch.arange(80.0).view(4, 20), 2, dim=1)]  # columns, not contiguous
    found = [replay(batch).item() for batch in batches]
    assert found == sums == [batch.sum().item() for batch in batches]
    assert len(places) == 1


def test_what_does_not_repeat_itself_is_not_replayed() -> None:
    """Other tasks, and other devices, take the plain path."""
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    images, words = SimpleNamespace(repeats=True), SimpleNamespace(repeats=False)
    assert engine._replays(images, cuda)
    assert not engine._replays(images, cpu)
    assert not engine._replays(words, cuda)
    assert not engine._replays(SimpleNamespace(), cuda)


@pytest.mark.parametrize("name", optimizers.CAPTURABLE)
def test_a_capturable_optimizer_reads_its_rate_from_a_tensor_in_place(name: str) -> None:
    weight = nn.Parameter(torch.ones(3))
    run = Run("digits", Optim(name, 0.25), (Schedule("StepDecay", options(milestones=(1,))),))
    optimizer = optimizers.build(run.optim, [weight], capturable=True)
    rate = optimizer.param_groups[0]["lr"]
    schedule = optimizers.schedule(run, optimizer, updates_per_epoch=1)
    assert rate.item() == 0.25
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(0.025)


@pytest.mark.gpu
@pytest.mark.parametrize("optim", [*ARMS.values(), Optim("sgd", 0.1), Optim("adam", 0.01)])
@pytest.mark.parametrize("compiled", [False, True])
def test_graphs_on_a_gpu_change_nothing_but_the_rounding(
    tiny: Run, optim: Optim, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dataclasses.replace(tiny, optim=optim, epochs=WARMUP + 3)
    graphs = execute(run, device="cuda", compiled=compiled)
    monkeypatch.setattr(engine, "_replays", lambda *_: False)
    plain = execute(run, device="cuda")
    assert train_losses(graphs) == pytest.approx(train_losses(plain), rel=0.05)
    first = [list(train_losses(one).values())[:4] for one in (graphs, plain)]
    assert first[0] == pytest.approx(first[1], rel=1e-3)


# 16 bits


def test_float16_skips_what_overflows_and_remembers_its_scale(
    tiny: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From so large a scale that some of the first updates overflow, after a resumption too."""
    run = dataclasses.replace(tiny, precision="float16", clip=0.5)
    scaler = functools.partial(torch.amp.GradScaler, init_scale=2.0**22)
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    scales: list[float] = []
    update = engine._Training._update

    def watched(training: engine._Training, batch: Tensor, weight: float) -> Tensor:
        loss = update(training, batch, weight)
        scales.append(training.scaler.get_scale())
        return loss

    monkeypatch.setattr(engine._Training, "_update", watched)
    whole = execute(run)
    assert scales[2] < 2.0**22  # some were skipped before the first checkpoint,
    assert scales[8] < scales[2]  # some after it,
    assert scales[8] == scales[7]  # and not all
    resumed, stops = interrupted(run, tmp_path / "run.pt", reports=3)
    assert stops == 2
    assert outcome(resumed) == outcome(whole)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_16_bits_train_as_32_do_up_to_their_rounding(tiny: Run, precision: str) -> None:
    """Three digits in bfloat16, four in float16; and the loss itself is in single precision."""
    half = train_losses(execute(dataclasses.replace(tiny, precision=precision)))
    single = train_losses(execute(tiny))
    assert half != single
    tolerance = {"bfloat16": 0.02, "float16": 0.005}[precision]
    assert half == pytest.approx(single, rel=tolerance)


# torch.compile


def test_a_compiled_run_is_that_of_the_plain_loop_and_says_so(
    tiny: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a compiler that needs no toolchain: what it is given to compile is the loss."""
    calls = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        calls.append(graph)
        return graph.forward

    compile_ = functools.partial(torch.compile, backend=backend)
    monkeypatch.setattr(torch, "compile", compile_)
    run = dataclasses.replace(tiny, epochs=1)
    compiled, plain = execute(run, compiled=True), execute(run)
    assert calls
    assert compiled.provenance["compiled"]
    assert not plain.provenance["compiled"]
    assert train_losses(compiled) == pytest.approx(train_losses(plain), rel=1e-4)
