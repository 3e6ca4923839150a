"""What a RAdam computes: the choices on which the implementations differ, each by an experiment.

Every function takes a way to make an optimizer and its betas, and answers in a few words.
"""

from __future__ import annotations

import math

import torch

from experiments.peers.walks import Make, kinds, noise, step, walk
from radam_core import RAdam
from radam_core.rectification import r, rho

Betas = tuple[float, float]
NO_OPTION = "no such option"


def threshold(make: Make, betas: Betas) -> str:
    """What rho must pass for an update to be adaptive: an integer, as all have it."""
    if kinds(make, 1, betas=betas) == ["adaptive"]:
        return f"from the start, with r{_subscript(_length_at_first(make, betas))}"
    for bound in range(3, 8):
        below, above = (_is_adaptive(make, betas[0], bound + x) for x in (-1e-3, 1e-3))
        if above and not below:
            return f"ρ passes {bound}"
    return "other"


def _is_adaptive(make: Make, beta1: float, length: float) -> bool:
    """Whether an update is adaptive at which rho has a given value."""
    t = math.floor(length) + 2
    low, high = 0.4, 0.999  # rho(t) rises with beta2
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if rho(t, middle) < length else (low, middle)
    try:
        return kinds(make, t, betas=(beta1, high))[-1] == "adaptive"
    except ValueError:  # it would never be, and says so
        return False


def _length_at_first(make: Make, betas: Betas) -> int:
    """The t whose r the first update has."""
    start = torch.zeros(1, dtype=torch.float64)
    size = -walk(make, start, torch.ones_like(start)[None], lr=1.0, betas=betas)[1].item()
    return min(range(1, 20), key=lambda t: abs(r(t, betas[1]) - size))


def _subscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def early(make: Make, betas: Betas) -> str:
    """What the updates are before the first adaptive one."""
    found = kinds(make, 12, betas=betas)
    before = set(found[: found.index("adaptive")])
    return " and ".join(sorted(before)) or "there are none"


def algorithm(make: Make, betas: Betas) -> str:
    """Whether the path is Algorithm 2's, as it is printed: without any eps."""
    start, grads = torch.zeros(5, dtype=torch.float64), noise(60, 5)
    expected = walk(RAdam, start, grads, lr=1e-3, betas=betas, eps=0.0)
    found = walk(make, start, grads, lr=1e-3, betas=betas)
    return "yes" if (found - expected).abs().max() < 1e-7 else "no"


def eps(make: Make, betas: Betas) -> str:
    """Which root eps is added to, from a step with gradients of its size."""
    size, t = 1e-2, 8
    grads = torch.full((t, 1), size, dtype=torch.float64)
    path = walk(make, grads[0] * 0, grads, lr=1.0, eps=size, betas=betas)
    beta2 = betas[1]
    size_ = (path[-2] - path[-1]).item()
    for t_ in range(t, t + 5):  # a warmup may be ahead of the moments
        for root, scale in (("√v", math.sqrt(1 - beta2**t)), ("√v̂", 1.0)):
            if math.isclose(size_, r(t_, beta2) / (1 + 1 / scale), rel_tol=1e-3):
                return root
    return "other"


def decay(make: Make, betas: Betas) -> str:
    """What weight decay does, seen without gradients and against the same as a gradient."""
    lr, amount, updates = 1e-2, 0.1, 50
    start, none = torch.ones(1, dtype=torch.float64), torch.zeros(updates, 1, dtype=torch.float64)
    try:
        path = walk(make, start, none, lr=lr, betas=betas, weight_decay=amount)
    except TypeError:
        return NO_OPTION
    if torch.equal(path, torch.ones_like(path)):
        return "does nothing"
    shrinks = (1 - path[1:] / path[:-1]).flatten() / (lr * amount)
    rests = ", none while it rests" if shrinks[0] == 0 else ""
    if math.isclose(shrinks[-1].item(), 1, rel_tol=1e-3):
        return f"decoupled{rests}"
    for t in range(updates, updates + 5):
        if math.isclose(shrinks[-1].item(), r(t, betas[1]), rel_tol=1e-3):
            return f"decoupled, times rₜ{rests}"
    return "L2" if _is_l2(make, betas, path, lr, amount) else "other"


def _is_l2(make: Make, betas: Betas, path: torch.Tensor, lr: float, amount: float) -> bool:
    """Whether a path under decay is that of `amount` times the weights as gradients."""
    p = path[0].clone().requires_grad_()
    optimizer = make([p], lr=lr, betas=betas)
    moved = torch.stack([path[0], *(step(optimizer, p, amount * x) for x in path[:-1])])
    return torch.allclose(moved, path, rtol=1e-5)
