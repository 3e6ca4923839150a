"""Curvature as Adam feels it: against dense Hessians, and against what is stable and what not."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.functional import hessian
from torch.func import functional_call

from experiments import sharpness
from radam_core import RAdam
from radam_core.schedules import LinearWarmup


def small() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    return model, torch.randn(5, 3).double(), torch.tensor([0, 1, 1, 0, 1])


def dense(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    names = [name for name, _ in model.named_parameters()]
    values = tuple(value.detach() for value in model.parameters())

    def loss(*values: torch.Tensor) -> torch.Tensor:
        out = functional_call(model, dict(zip(names, values, strict=True)), (images,))
        return nn.functional.cross_entropy(out, labels)

    blocks = hessian(loss, values)
    rows = [
        torch.cat([part.reshape(one.numel(), -1) for part in row], dim=1)
        for one, row in zip(values, blocks, strict=True)
    ]
    return torch.cat(rows).numpy()


@pytest.mark.parametrize("even", [True, False])
def test_it_is_the_largest_eigenvalue_of_the_weighted_hessian(even: bool) -> None:
    model, images, labels = small()
    whole = dense(model, images, labels)
    weights = np.ones(len(whole)) if even else np.random.default_rng(0).uniform(0.1, 10, len(whole))
    root = np.sqrt(weights)
    largest = np.linalg.eigvalsh(root[:, None] * whole * root).max()
    loss = nn.functional.cross_entropy(model(images), labels)
    found = sharpness.sharpness(loss, list(model.parameters()), torch.from_numpy(weights))
    assert found == pytest.approx(largest, rel=0.02)


@pytest.mark.parametrize(("share", "stable"), [(0.99, True), (1.01, False)])
@pytest.mark.parametrize("beta1", [0.5, 0.9])
def test_the_threshold_parts_what_is_stable_from_what_is_not(
    beta1: float, share: float, stable: bool
) -> None:
    curvature = share * sharpness.threshold(beta1)
    x, m = 1.0, 0.0
    for _ in range(5_000):
        m = beta1 * m + (1 - beta1) * curvature * x
        x -= m
    assert (abs(x) < 1e-3) == stable
    assert sharpness.threshold(0.9) == pytest.approx(38)


def test_the_denominator_is_that_of_the_step_to_come() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.Adam([parameter], lr=0.1, betas=(0.9, 0.99))
    for t in (1, 2, 3):
        parameter.grad = torch.tensor([0.1 * t, 3.0])
        found = sharpness._denominator(optimizer, [parameter], t)
        optimizer.step()
        second = optimizer.state[parameter]["exp_avg_sq"] / (1 - 0.99**t)
        assert found == pytest.approx((second.sqrt() + 1e-8).numpy(), rel=1e-6)


def test_along_a_training_the_rate_is_that_of_the_arm() -> None:
    def warm(parameters: list[nn.Parameter]) -> tuple[torch.optim.Adam, LinearWarmup]:
        optimizer = torch.optim.Adam(parameters, lr=0.1, betas=(0.9, 0.9))
        return optimizer, LinearWarmup(optimizer, 4)

    table = sharpness.along(warm, (1, 3))  # type: ignore[arg-type]
    assert list(table["update"]) == [1, 3]
    assert table["rate"].to_numpy() == pytest.approx([0.025, 0.075])
    assert table["loss"][0] == pytest.approx(math.log(10), abs=0.2)
    rectified = sharpness.along(
        lambda parameters: (RAdam(parameters, lr=0.1, betas=(0.9, 0.9)), None), (1, 9), True
    )
    assert rectified["rate"][0] == 0
    assert 0 < rectified["rate"][1] < 0.1
    assert rectified["preconditioned"][0] == pytest.approx(table["preconditioned"][0])
