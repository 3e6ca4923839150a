"""Where an optimizer goes when it is given gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Make = Callable[..., Optimizer]


def walk(make: Make, start: Tensor, grads: Tensor, **options: Any) -> Tensor:
    """Where a parameter is before the first update and after each, [updates + 1, *shape].

    Parameters
    ----------
    make
        Makes the optimizer.
    start
        The parameter, any shape.
    grads
        Its gradients [updates, *shape].
    options
        The optimizer's.
    """
    p = start.clone().requires_grad_()
    optimizer = make([p], **options)
    return torch.stack([start, *(step(optimizer, p, grad) for grad in grads)])


def step(optimizer: Optimizer, p: Tensor, grad: Tensor) -> Tensor:
    """Make one update; where the parameter is then."""
    p.grad = grad.clone()
    optimizer.step()
    return p.detach().clone()


def noise(updates: int, elements: int, seed: int = 0) -> Tensor:
    """Gradients from N(0, 1), [updates, elements] in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(updates, elements, dtype=torch.float64, generator=generator)


def kinds(make: Make, updates: int, **options: Any) -> list[str]:
    """What each update is: "adaptive", "SGD" or "none".

    Two elements with steady gradients tell: an adaptive update moves both alike, one of SGD moves
    them by their gradients.
    """
    grads = torch.tensor([1.0, 100.0], dtype=torch.float64).expand(updates, 2)
    path = walk(make, torch.zeros(2, dtype=torch.float64), grads, lr=1.0, **options)
    return [_kind(*move.tolist()) for move in path.diff(dim=0)]


def _kind(small: float, large: float) -> str:
    if small == 0 == large:
        return "none"
    for kind, ratio in (("adaptive", 1.0), ("SGD", 100.0)):
        if math.isclose(large, ratio * small, rel_tol=1e-3):
            return kind
    return "other"
