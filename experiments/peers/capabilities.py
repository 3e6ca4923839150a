"""What a RAdam can do, each found out by trying it on a few numbers.

Every function takes a way to make an optimizer and its betas, and answers in a few words. An
optimizer that refuses one of torch's options has ``no such option``; one that swallows it in
silence is judged by what it then does.
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.optim import Optimizer

from experiments.peers._recording import Recording
from experiments.peers.conventions import NO_OPTION, Betas
from experiments.peers.walks import Make, noise, step, walk

UPDATES = 12
"""Of most walks: both sides of where any RAdam begins to rectify."""


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def _same(path: Tensor, other: Tensor) -> bool:
    """Whether two paths are one, but for rounding to single precision."""
    return bool((path - other).abs().max() <= 1e-5 * other.abs().max())


def _apart(path: Tensor, right: Tensor) -> float:
    """By how much of its length some update of a path [updates + 1, elements] is off."""
    moves, right_moves = path.diff(dim=0), right.diff(dim=0)
    off = (moves - right_moves).norm(dim=1) / right_moves.norm(dim=1).clamp(min=1e-30)
    return float(off.max())


def _unless_off(answer: str, apart: float) -> str:
    return answer if apart < 1e-4 else f"{answer}, a step off by {100 * apart:.1f} %"


# ---- how fast it can be


def grouped(make: Make, betas: Betas) -> str:
    """How many operations an update of many tensors takes, in the best of its ways."""
    best = math.inf
    for options in ({}, {"foreach": True}, {"fused": True}):
        with contextlib.suppress(TypeError):
            few, many = (_operations(partial(make, **options), n, betas) for n in (4, 8))
            best = min(best, few if few == many else math.inf)
    if best == 1:
        return "in one pass"
    return f"together, in {best} passes" if best < math.inf else "one by one"


def _operations(make: Make, tensors: int, betas: Betas) -> int:
    """How many operations an adaptive update takes."""
    params = [torch.zeros(3, requires_grad=True) for _ in range(tensors)]
    optimizer = make(params, betas=betas)
    for _ in range(UPDATES):
        for p in params:
            p.grad = torch.ones_like(p)
        with Recording() as recording:
            optimizer.step()
    passes: int = recording.passes(params[0].shape)
    return passes


def capturable(make: Make, betas: Betas) -> str:
    """Whether an update, once recorded, goes on counting when it is replayed."""
    start, grads = _zeros(3), noise(UPDATES, 3)
    p, grad = start.clone().requires_grad_(), grads[0].clone()
    try:
        optimizer = make([p], lr=0.01, betas=betas, capturable=True)
    except TypeError:
        return NO_OPTION
    p.grad = grad
    # torch has its own RAdam refuse devices that have no graphs, such as this one.
    with mock.patch("torch.optim.radam._get_capturable_supported_devices", return_value=["cpu"]):
        optimizer.step()
        grad.copy_(grads[1])
        with Recording() as recording:
            optimizer.step()
    if recording.reads_from_device:
        return "the option does nothing"
    path = [p.detach().clone()]
    for row in grads[2:]:
        grad.copy_(row)
        with torch.no_grad():
            recording.replay()
        path.append(p.detach().clone())
    apart = _apart(torch.stack(path), walk(make, start, grads, lr=0.01, betas=betas)[2:])
    return _unless_off("yes", apart) if apart < 0.5 else "the option does nothing"


def compiled(make: Make, betas: Betas) -> str:
    """How many graphs torch.compile makes of the updates, with a compiler that changes nothing."""
    graphs = 0

    def compiler(graph: Any, _: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return graph.forward

    start, grads = _zeros(3), noise(8, 3)
    p = start.clone().requires_grad_()
    optimizer = make([p], betas=betas)
    torch.compiler.reset()
    update = torch.compile(optimizer.step, backend=compiler)
    path = [start]
    with torch._dynamo.config.patch(recompile_limit=100):
        for grad in grads:
            p.grad = grad.clone()
            update()
            path.append(p.detach().clone())
    torch.compiler.reset()
    if graphs == len(grads):
        return "a new graph every update"
    count = "one graph" if graphs == 1 else f"{graphs} graphs"
    return _unless_off(count, _apart(torch.stack(path), walk(make, start, grads, betas=betas)))


# ---- what it can be asked for


def differentiable(make: Make, betas: Betas) -> str:
    """Whether autograd gives the derivative of the weights by the scale of the gradients."""
    grads = noise(UPDATES, 3)

    def end(scale: Tensor) -> Tensor:
        p = _zeros(3).requires_grad_().clone()
        optimizer = make([p], lr=0.01, betas=betas, eps=0.1, differentiable=True)
        for grad in grads:
            p.grad = scale * grad
            optimizer.step()
        return p.sum()

    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    try:
        (derivative,) = torch.autograd.grad(end(scale), scale)
    except TypeError:
        return NO_OPTION
    except RuntimeError:  # there is no graph to go back through
        return "the option does nothing"
    h = 1e-6
    quotient = (end(scale + h) - end(scale - h)) / (2 * h)
    return "yes" if torch.isclose(derivative, quotient, rtol=1e-5) else "wrong"


def maximize(make: Make, betas: Betas) -> str:
    """Whether it can ascend."""
    grads = noise(UPDATES, 3)
    try:
        path = walk(make, _zeros(3), grads, betas=betas, maximize=True)
    except TypeError:
        return NO_OPTION
    up = walk(make, _zeros(3), -grads, betas=betas)
    return "yes" if _same(path, up) else "the option does nothing"


# ---- which parameters and gradients it takes


def complex_numbers(make: Make, betas: Betas) -> str:
    """How a complex parameter moves: as two real ones, or as one number with a direction."""
    grads = noise(UPDATES, 6).view(UPDATES, 3, 2)
    pairs = walk(make, _zeros(3, 2), grads, betas=betas)
    start, complex_grads = torch.view_as_complex(_zeros(3, 2)), torch.view_as_complex(grads)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Casting complex values to real")
        path = walk(make, start, complex_grads, betas=betas)
        turned = walk(make, start, 1j * complex_grads, betas=betas)
    if _same(torch.view_as_real(path), pairs):
        return "as two real ones"
    if not path.imag.any():
        return "only the real part moves"
    return "by absolute value" if _same(1j * path, turned) else "wrong"


def sixteen_bits(make: Make, betas: Betas) -> str:
    """The type of a bfloat16 parameter's moments, and after a reload."""
    p = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    optimizer = make([p], betas=betas)
    step(optimizer, p, torch.ones_like(p))
    again = make([p], betas=betas)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    before, after = _moments_type(optimizer, p), _moments_type(again, p)
    return before if after == before else f"{before}, but {after} after a reload"


def _moments_type(optimizer: Optimizer, p: Tensor) -> str:
    moments = [x for x in optimizer.state[p].values() if isinstance(x, Tensor)]
    (dtype,) = {x.dtype for x in moments if x.shape == p.shape}
    return str(dtype).removeprefix("torch.")


def sparse(make: Make, betas: Betas) -> str:
    """Whether sparse gradients are taken, and refused in words if not."""
    p = _zeros(3).requires_grad_()
    optimizer = make([p], betas=betas)
    p.grad = torch.ones_like(p).to_sparse()
    try:
        optimizer.step()
    except Exception as error:
        return "refused" if "gradient" in str(error) else "fails inside"
    return "taken"


def gradients(make: Make, betas: Betas) -> str:
    """What is left of p.grad after an update."""
    for ways in ({}, {"foreach": True}, {"foreach": False}, {"capturable": True}):
        for decay in ({}, {"decoupled_weight_decay": False}):
            with contextlib.suppress(TypeError, AssertionError):  # torch's capturable is a GPU's
                if not _keeps_gradients(make, betas=betas, weight_decay=0.1, **decay, **ways):
                    return "overwritten"
        with contextlib.suppress(TypeError, AssertionError):
            if not _keeps_gradients(make, betas=betas, maximize=True, **ways):
                return "overwritten by `maximize`"
    return "as it was"


def _keeps_gradients(make: Make, **options: Any) -> bool:
    p = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = make([p], **options)
    kept = []
    for grad in noise(UPDATES, 3):
        step(optimizer, p, grad)
        kept.append(p.grad is not None and torch.equal(p.grad, grad))
    return all(kept)


def zeros(make: Make, betas: Betas) -> str:
    """Where an element goes whose gradients are all zero, with eps = 0."""
    grads = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(UPDATES, 2)
    ends = []
    for options in ({}, {"foreach": True}):
        with contextlib.suppress(TypeError):
            path = walk(make, _zeros(2), grads, betas=betas, eps=0.0, **options)
            ends.append(path[-1, 0].item())
    if not any(ends):
        return "rests"
    return "NaN" if any(map(math.isnan, ends)) else "moves"


# ---- how it keeps its books


def late(make: Make, betas: Betas) -> str:
    """By which t a parameter moves whose gradients start late."""
    grads = noise(UPDATES, 1)
    early, tardy = (_zeros(1).requires_grad_() for _ in range(2))
    optimizer = make([early, tardy], betas=betas)
    for _ in range(5):
        step(optimizer, early, grads[0])
    path = [_zeros(1)]
    for grad in grads:
        early.grad = grad.clone()
        path.append(step(optimizer, tardy, grad))
    alone = walk(make, _zeros(1), grads, betas=betas)
    return "its own" if _same(torch.stack(path), alone) else "that of the others"


def groups(make: Make, betas: Betas) -> str:
    """Whether groups with an lr or betas of their own move as optimizers of their own would."""
    other_betas = (betas[0] / 2, 0.99)
    unlike: list[list[dict[str, Any]]] = [
        [{"lr": 0.1}, {"lr": 0.01}],
        [{"betas": betas}, {"betas": other_betas}],
        [{"betas": other_betas}, {"betas": betas}],
    ]
    right = all(_each_on_its_own(partial(make, betas=betas), own) for own in unlike)
    return "each on its own" if right else "with each other's steps"


def _each_on_its_own(make: Make, own: list[dict[str, Any]]) -> bool:
    grads = noise(UPDATES, 3)
    params = [_zeros(3).requires_grad_() for _ in own]
    optimizer = make([{"params": [p], **options} for p, options in zip(params, own, strict=True)])
    for grad in grads:
        for p in params:
            p.grad = grad.clone()
        optimizer.step()
    apart = [walk(make, _zeros(3), grads, **options)[-1] for options in own]
    return all(_same(p.detach(), end) for p, end in zip(params, apart, strict=True))


def state_dict(make: Make, betas: Betas) -> str:
    """With torch.optim.RAdam: whether either goes on from the other's state as that would."""
    takes = goes_on(torch.optim.RAdam, make, betas)
    gives = goes_on(make, torch.optim.RAdam, betas)
    if takes and gives:
        return "both ways"
    return "takes torch's" if takes else "torch takes it" if gives else "neither way"


def goes_on(first: Make, then: Make, betas: Betas) -> bool:
    """Whether an optimizer, given another's state, makes the updates which that one makes.

    Twenty updates are past what any RAdam does early, and gradients of order 1 past any eps.
    """
    grads = noise(20 + UPDATES, 3)
    p = _zeros(3).requires_grad_()
    before = first([p], lr=0.01, betas=betas)
    for grad in grads[:20]:
        step(before, p, grad)
    q = p.detach().clone().requires_grad_()
    after = then([q], lr=0.01, betas=betas)
    try:
        after.load_state_dict(copy.deepcopy(before.state_dict()))
        moved = [step(after, q, grad) for grad in grads[20:]]
    except (KeyError, ValueError, AttributeError, TypeError):
        return False
    return _apart(torch.stack(moved), torch.stack([step(before, p, g) for g in grads[20:]])) < 1e-3


def scaler(make: Make, betas: Betas) -> str:
    """Whether an update that a GradScaler skips, for an infinite gradient, leaves no trace."""
    grads = noise(UPDATES, 3)
    p = _zeros(3).requires_grad_()
    optimizer = make([p], betas=betas)
    scale = torch.amp.GradScaler("cpu", init_scale=1024.0)
    path = [_zeros(3)]
    for i, grad in enumerate(grads):
        for factor in (math.inf, 1.0) if i % 4 == 2 else (1.0,):
            optimizer.zero_grad()
            scale.scale((p * grad * factor).sum()).backward()
            scale.step(optimizer)
            scale.update()
        path.append(p.detach().clone())
    same = _same(torch.stack(path), walk(make, _zeros(3), grads, betas=betas))
    return "leaves no trace" if same else "leaves a trace"
