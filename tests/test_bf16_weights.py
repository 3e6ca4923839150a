"""Weights in bfloat16: what the arms of the study store, and that they differ in nothing else."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from experiments import optimizers, tasks
from experiments.beyond.bf16_weights import ARMS, REFERENCE
from experiments.spec import Run, options


def built(arm: str, p: nn.Parameter, lr: float = 1e-4) -> torch.optim.Optimizer:
    optim, _ = ARMS[arm]
    return optimizers.build(dataclasses.replace(optim, lr=lr), [p])


def parameter(arm: str, numel: int = 1000) -> nn.Parameter:
    return nn.Parameter(torch.ones(numel, dtype=None if arm == REFERENCE else torch.bfloat16))


def trained(arm: str, updates: int = 400) -> tuple[nn.Parameter, dict[str, Tensor]]:
    """Under a steady gradient and a learning rate far below the resolution at 1."""
    p = parameter(arm)
    optimizer = built(arm, p)
    for _ in range(updates):
        p.grad = torch.full_like(p, 0.5)
        optimizer.step()
    return p, optimizer.state[p]


@pytest.fixture(scope="module")
def reference() -> float:
    p, _ = trained(REFERENCE)
    assert p[0].item() < 0.99  # some ten thousandths an update, hundreds of them
    return p[0].item()


def test_to_nearest_the_weights_stand_still() -> None:
    for arm in ("nearest", "nearest, bfloat16 moments"):
        p, _ = trained(arm)
        assert torch.equal(p, torch.ones_like(p))


@pytest.mark.parametrize("arm", ["Kahan", "Kahan, bfloat16 moments"])
def test_a_weight_and_its_remainder_go_where_a_wide_weight_goes(arm: str, reference: float) -> None:
    p, state = trained(arm)
    whole = p.float() + state["remainder"].float()
    torch.testing.assert_close(whole, torch.full_like(whole, reference), rtol=0, atol=5e-4)
    assert torch.equal(whole.bfloat16(), p)
    assert state["remainder"].dtype == torch.bfloat16


@pytest.mark.parametrize("arm", ["stochastic", "stochastic, bfloat16 moments"])
def test_stochastic_rounding_goes_there_on_average(arm: str, reference: float) -> None:
    p, _ = trained(arm)
    # A thousand weights, each rounded by at most 2^-8 at a time: a deviation of the mean of 2e-4.
    assert p.float().mean().item() == pytest.approx(reference, abs=1e-3)


@pytest.mark.parametrize("arm", ARMS)
def test_the_bytes_of_a_weight(arm: str) -> None:
    p, state = trained(arm, updates=2)
    parts = [p, *(state[name] for name in state if name != "step")]
    if ARMS[arm][0].name == "radam-rounded-moments":  # the numbers alone are as if stored so
        moments = [part.bfloat16() for part in parts[1:]]
        for stored, part in zip(moments, parts[1:], strict=True):
            assert torch.equal(stored.float(), part)
        parts = [p, *moments]
    assert sum(part.element_size() for part in parts) == ARMS[arm][1]


def test_a_stored_type_changes_neither_loss_nor_gradients(tiny: Run) -> None:
    """As long as the wide weights are ones that the narrow type can hold."""
    seen = []
    for weights in ("float32", "bfloat16"):
        settings = dict(tiny.settings) | {"widths": (16, 8), "weights": weights}
        task = tasks.load(
            dataclasses.replace(tiny, settings=options(**settings)),
            Path("none"),
            torch.device("cpu"),
        )
        torch.manual_seed(0)
        model = task.model()
        assert {p.dtype for p in model.parameters()} == {getattr(torch, weights)}
        assert [p.shape for p in model.parameters()][::2] == [(16, 64), (8, 16), (10, 8)]
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(p.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            loss = task.loss(model, next(task.batches(0)))
        loss.backward()
        seen.append([loss, *(p.grad.float() for p in model.parameters())])
    for wide, narrow in zip(*seen, strict=True):
        assert torch.equal(wide, narrow)
