"""The optimizers that a spec can name: those that are made here, and what is refused."""

from typing import Any

import pytest
import torch
from torch import nn

from experiments import optimizers
from experiments.errors import UserError
from experiments.spec import Optim, options
from radam_core import RAdam

LR, DECAY, BETAS = 0.1, 0.01, (0.9, 0.999)
ADAM, SGD = ("adam", 4), ("sgd", 4)


def trajectory(optim: Optim, updates: int = 12) -> list[torch.Tensor]:
    """The weights [5] after every update; the gradients are the same for every optimizer."""
    weights = nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))
    optimizer = optimizers.build(optim, [weights])
    generator = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(updates):
        weights.grad = torch.randn(5, dtype=torch.float64, generator=generator)
        optimizer.step()
        seen.append(weights.detach().clone())
    return seen


def first(*pairs: Any) -> Optim:
    return Optim("radam-first", LR, DECAY, options(betas=BETAS, first=pairs))


def by_hand(kinds: list[str], updates: int = 12) -> list[torch.Tensor]:
    """The same weights, from the formulas of the update that each kind makes."""
    weights = torch.linspace(-1, 1, 5, dtype=torch.float64)
    m, v = torch.zeros_like(weights), torch.zeros_like(weights)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for t in range(1, updates + 1):
        gradient = torch.randn(5, dtype=torch.float64, generator=generator)
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        rho_inf = 2 / (1 - 0.999) - 1
        rho = rho_inf - 2 * t * 0.999**t / (1 - 0.999**t)
        r2 = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
        kind = kinds[t - 1] if t <= len(kinds) else "radam"
        step = m / (1 - 0.9**t)
        if kind != "sgd":
            step = step / ((v.sqrt() + 1e-8) / (1 - 0.999**t) ** 0.5)
        if kind == "radam":
            step = step * r2**0.5
        weights = (1 - LR * DECAY) * weights - LR * step
        seen.append(weights)
    return seen


@pytest.mark.parametrize(
    ("pairs", "kinds"),
    [
        ((ADAM,), ["adam"] * 4),
        ((SGD, ADAM), ["sgd"] * 4 + ["adam"] * 4),
        ((("sgd", 2), ("adam", 1), ("sgd", 1)), ["sgd", "sgd", "adam", "sgd"]),
    ],
)
def test_the_first_updates_are_the_named_optimizers(pairs: Any, kinds: list[str]) -> None:
    for found, expected in zip(trajectory(first(*pairs)), by_hand(kinds), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pairs", [(), (SGD,)])
def test_with_its_own_first_updates_it_is_radam(pairs: Any) -> None:
    radam = trajectory(Optim("radam", LR, DECAY, options(betas=BETAS)))
    for found, expected in zip(trajectory(first(*pairs)), radam, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_the_first_updates_are_counted_on_after_a_resumption() -> None:
    whole = trajectory(first(ADAM))
    weights = nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))
    optimizer = optimizers.build(first(ADAM), [weights])
    generator = torch.Generator().manual_seed(0)
    for expected in whole:
        weights.grad = torch.randn(5, dtype=torch.float64, generator=generator)
        optimizer.step()
        assert torch.equal(weights, expected)
        state = optimizer.state_dict()
        optimizer = optimizers.build(first(ADAM), [weights])
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("pairs", [("lion", 4), ("adam", 0), ("adam", -1), ("adam", 1.5)])
def test_first_updates_of_nobody_are_a_sentence(pairs: Any) -> None:
    with pytest.raises(UserError, match=r"radam-first refuses its arguments: first=.*use pairs"):
        trajectory(first(pairs))


def test_a_subclass_decides_what_an_update_does() -> None:
    class Resting(RAdam):
        def _plan(self, t: int, group: Any) -> Any:
            return super()._plan(t, group)._replace(kind="skip")

    weights = nn.Parameter(torch.ones(3))
    weights.grad = torch.ones(3)
    Resting([weights]).step()
    assert torch.equal(weights.detach(), torch.ones(3))
