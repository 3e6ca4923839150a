"""What the tests of the optimizers share: given gradients, and where they lead."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from radam_core import RAdam

Array = npt.NDArray[np.float64]

START = np.array([0.5, -1.0, 2.0, 0.1])

IMPLEMENTATIONS: dict[str, dict[str, Any]] = {
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"capturable": True},
    "differentiable": {"differentiable": True},
}


def gradients(updates: int, seed: int = 0) -> Array:
    """Gradients [updates, 4] over nine decades, so that eps and its place matter."""
    scales = np.array([1.0, 1e-3, 1e-6, 1e-9])
    return np.random.default_rng(seed).normal(size=(updates, 4)) * scales


def tensors(start: Array = START, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """The start in two parameters, of shapes [3] and [1, 1]."""
    values = torch.tensor(start, dtype=dtype)
    return [values[:3].clone().requires_grad_(), values[3:].reshape(1, 1).clone().requires_grad_()]


def give_gradients(params: list[Tensor], grad: Array) -> None:
    for p, part in zip(params, (grad[:3], grad[3:]), strict=True):
        p.grad = torch.tensor(part).reshape(p.shape).to(p.device, p.dtype)


def joined(params: list[Tensor]) -> Array:
    return torch.cat([p.detach().flatten() for p in params]).cpu().double().numpy()


def walk(
    grads: Array,
    optimizer: type[torch.optim.Optimizer] = RAdam,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    **options: Any,
) -> Array:
    """Where the optimizer is after every update, [updates, 4]."""
    params = [p.detach().to(device) for p in tensors(dtype=dtype)]
    optimizer_ = optimizer(params, **options)
    path = []
    for grad in grads:
        give_gradients(params, grad)
        optimizer_.step()
        path.append(joined(params))
    return np.array(path)
