"""Whatever is trained, in whatever way: where the float64 transcriptions say it ends.

How far an update in a type of precision `eps` may be off: rounding the parameter costs `eps` of its
size. The moments are sums to which every update adds roundings of `eps` of what they hold, or would
hold had all gradients one sign: M, the moving average of |g|. After t updates the step is thus off
by at most 3 (t + 1) eps of the largest that M allows. `bound` adds this up; where L2 decay feeds
the parameter's own error back into the gradient, it adds that, too. The transcriptions themselves
are not exact: rho is a small difference of large numbers, Eq. 2 one of larger ones still.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import IMPLEMENTATIONS, Array
from torch import Tensor

from radam_core import RAdam

FLAVOURS: dict[str, tuple[dict[str, Any], Callable[..., Array]]] = {
    "paper": ({}, oracle.algorithm_2),
    "authors": ({"variant": "authors"}, oracle.authors),
    "authors-shipped": (
        {"variant": "authors-shipped"},
        lambda *args: oracle.authors(*args, degenerated_to_sgd=False),
    ),
    "torch": ({"variant": "torch"}, oracle.torch_radam),
    "exact": (
        {"rectification": "exact"},
        lambda *args: oracle.algorithm_2(*args, exact=True),
    ),
    "corrected eps": (
        {"eps_placement": "corrected"},
        lambda *args: oracle.algorithm_2(*args, corrected_eps=True),
    ),
    "all at once": (
        {"rectification": "exact", "eps_placement": "corrected", "decoupled_weight_decay": False},
        lambda *args: oracle.algorithm_2(*args, exact=True, corrected_eps=True, l2=True),
    ),
}
"""Options, and the transcription of what they ask for."""

L2 = ("torch", "all at once")
EXACT = ("exact", "all at once")


class Kind(NamedTuple):
    """A type of parameters, and how much of a training it can follow."""

    dtype: torch.dtype
    updates: int
    scales: tuple[float, ...]  # of the gradients of successive elements
    beta2s: tuple[float, ...]
    epss: tuple[float, ...]


ALL_BETA2S = (0.8, 0.9, 0.99, 0.999, 0.9999)
NINE_DECADES = (1.0, 1e-3, 1e-6, 1e-9)  # so that eps and its place matter
EPSS = (1e-16, 1e-8, 1e-4)
KINDS = {
    "float64": Kind(torch.float64, 150, NINE_DECADES, ALL_BETA2S, EPSS),
    "float32": Kind(torch.float32, 40, NINE_DECADES, ALL_BETA2S, EPSS),
    "complex128": Kind(torch.complex128, 40, NINE_DECADES, ALL_BETA2S, EPSS),
    "complex64": Kind(torch.complex64, 40, NINE_DECADES, ALL_BETA2S, EPSS),
    # Too few digits, and in float16 too narrow a range, for a longer way and small gradients.
    "bfloat16": Kind(torch.bfloat16, 8, (1.0,), ALL_BETA2S, EPSS),
    "float16": Kind(torch.float16, 8, (1.0,), (0.8, 0.9, 0.99), (1e-4,)),
}
SHAPES = ((), (1,), (3,), (0,), (2, 3), (1, 2, 2))


def bound(
    path: Array, grads: Array, hyper: tuple[float, ...], flavour: str, precision: float
) -> Array:
    """How far from `path` [1 + updates, size], which begins at the start, a training may be."""
    lr, beta1, beta2, eps, weight_decay = hyper
    l2 = flavour in L2
    of_size = 1e-6 if flavour in EXACT else 1e-11
    m, v, off = (np.zeros_like(path[0]) for _ in range(3))
    offs = []
    for t, (theta, g) in enumerate(zip(path, grads, strict=False), start=1):
        if l2:
            g = g + weight_decay * theta
        m = beta1 * m + (1 - beta1) * np.abs(g)
        v = beta2 * v + (1 - beta2) * g**2
        root = np.sqrt(v) + eps * np.sqrt(1 - beta2**t)  # the smaller of the two placements
        size = lr / (1 - beta1**t) * np.maximum(1, np.sqrt(1 - beta2**t) / root)
        if l2:
            off = off * (1 + size * weight_decay * (1 + m / root))
        off = off + precision * (np.abs(theta) + 3 * (t + 1) * size * m) + of_size * size * m
        offs.append(off)
    return np.array(offs)


def split(values: Tensor, shapes: list[tuple[int, ...]], dtype: torch.dtype) -> list[Tensor]:
    """One number after the other into tensors; a complex one takes two."""
    if dtype.is_complex:
        values = torch.view_as_complex(values.reshape(-1, 2))
    parts = values.to(dtype).split([int(np.prod(shape)) for shape in shapes])
    return [part.reshape(shape).clone() for part, shape in zip(parts, shapes, strict=True)]


def flat(tensors: list[Tensor]) -> Array:
    whole = torch.cat([p.detach().flatten() for p in tensors])
    return (torch.view_as_real(whole) if whole.is_complex() else whole).flatten().double().numpy()


@pytest.mark.parametrize("implementation", ["default", *IMPLEMENTATIONS])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(
    flavour=st.sampled_from(list(FLAVOURS)),
    shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3),
    groups=st.integers(1, 3),
    lr=st.sampled_from([1e-3, 1e-2, 0.1]),
    beta1=st.sampled_from([0.0, 0.5, 0.9, 0.99]),
    weight_decay=st.sampled_from([0.0, 1e-4, 0.1]),
    maximize=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
@settings(max_examples=12)
def test_any_training_is_its_transcription(
    kind: Kind,
    implementation: str,
    flavour: str,
    shapes: list[tuple[int, ...]],
    groups: int,
    lr: float,
    beta1: float,
    weight_decay: float,
    maximize: bool,
    seed: int,
    data: st.DataObject,
) -> None:
    if flavour in L2:
        lr = 1e-3  # too small for a weight to swing about zero, where no bound would hold
    beta2, eps = data.draw(st.sampled_from(kind.beta2s)), data.draw(st.sampled_from(kind.epss))
    updates = data.draw(st.integers(1, kind.updates))
    rng = np.random.default_rng(seed)
    size = sum(int(np.prod(shape)) for shape in shapes) * (2 if kind.dtype.is_complex else 1)
    # Away from zero, where a float16's square would vanish.
    signs = rng.choice([-1.0, 1.0], (1 + updates, size))
    numbers = torch.tensor(signs * rng.uniform(0.3, 2, (1 + updates, size)))
    numbers[1:] *= torch.tensor(np.resize(kind.scales, size))

    params, *grads = (split(x, shapes, kind.dtype) for x in numbers)
    start, given_grads = flat(params), np.array([flat(grad) for grad in grads])
    options, transcription = FLAVOURS[flavour]
    optimizer = RAdam(
        [{"params": params[i::groups]} for i in range(groups)],
        lr=lr,
        betas=(beta1, beta2),
        eps=eps,
        weight_decay=weight_decay,
        maximize=maximize,
        **options,
        **IMPLEMENTATIONS.get(implementation, {}),
    )
    ours = []
    for grad in grads:
        for p, g in zip(params, grad, strict=True):
            p.grad = g
        optimizer.step()
        ours.append(flat(params))

    hyper = (lr, beta1, beta2, eps, weight_decay)
    downhill = -given_grads if maximize else given_grads
    theirs = transcription(start, downhill, *hyper)
    precision = torch.finfo(kind.dtype).eps
    allowed = bound(np.vstack([start, theirs]), downhill, hyper, flavour, precision)
    off = np.abs(np.array(ours) - theirs)
    assert (off <= allowed).all(), f"off by {off.max():g}, {(off / allowed).max():g} of the bound"
