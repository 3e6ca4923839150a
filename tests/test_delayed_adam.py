"""Adam-2k: an independent transcription, the limits where it is Adam, and what it refuses."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radam_core.delayed_adam import DelayedAdam
from radam_core.factors import Delayed, LinearDecay
from radam_core.schedules import Schedule

Array = npt.NDArray[np.float64]

START = np.array([0.5, -1.0, 2.0])


def gradients(updates: int, seed: int = 0) -> Array:
    """Gradients [updates, 3] over six decades, so that eps and its place matter."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(updates, 3)) * np.array([1.0, 1e-3, 1e-6])


def oracle(
    grads: Array,
    lr: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    delay: int = 2000,
    eps_placement: str = "raw",
    momentum_count: str = "real",
) -> Array:
    """Weights after each update [updates, 3], with the moments as sums over past gradients."""
    beta1, beta2 = betas
    theta, trajectory = START.copy(), []
    for t in range(1, len(grads) + 1):
        k = t - delay
        if k >= 1:
            ages_v, ages_m = np.arange(t)[::-1], np.arange(k)[::-1]
            v = (1 - beta2) * (beta2 ** ages_v[:, None] * grads[:t] ** 2).sum(axis=0)
            m = (1 - beta1) * (beta1 ** ages_m[:, None] * grads[delay:t]).sum(axis=0)
            m_hat = m / (1 - beta1 ** (k if momentum_count == "real" else t))
            unbiased = 1 - beta2**t
            if eps_placement == "raw":
                rate = np.sqrt(unbiased) / (np.sqrt(v) + eps)
            else:
                rate = 1 / (np.sqrt(v / unbiased) + eps)
            theta = theta - lr * weight_decay * theta - lr * m_hat * rate
        trajectory.append(theta)
    return np.array(trajectory)


def train(grads: Array, dtype: torch.dtype = torch.float64, **options: Any) -> Array:
    p = torch.nn.Parameter(torch.tensor(START, dtype=dtype))
    optimizer = DelayedAdam([p], **options)
    trajectory = []
    for grad in grads:
        p.grad = torch.tensor(grad, dtype=dtype)
        optimizer.step()
        trajectory.append(p.detach().double().numpy().copy())
    return np.array(trajectory)


@pytest.mark.parametrize("eps_placement", ["raw", "corrected"])
@pytest.mark.parametrize("momentum_count", ["real", "all"])
@pytest.mark.parametrize("delay", [0, 1, 7])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_equals_the_transcription(
    eps_placement: str, momentum_count: str, delay: int, weight_decay: float
) -> None:
    options: dict[str, Any] = {
        "lr": 0.1,
        "betas": (0.8, 0.99),
        "eps": 1e-6,
        "weight_decay": weight_decay,
        "delay": delay,
        "eps_placement": eps_placement,
        "momentum_count": momentum_count,
    }
    grads = gradients(30)
    np.testing.assert_allclose(
        train(grads, **options), oracle(grads, **options), rtol=1e-12, atol=1e-14
    )


@settings(max_examples=40, deadline=None)
@given(
    beta1=st.floats(0, 0.99),
    beta2=st.floats(0, 0.9999),
    delay=st.integers(0, 12),
    weight_decay=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_equals_the_transcription_for_any_option(
    beta1: float, beta2: float, delay: int, weight_decay: float, seed: int
) -> None:
    options: dict[str, Any] = {
        "lr": 0.01,
        "betas": (beta1, beta2),
        "weight_decay": weight_decay,
        "delay": delay,
    }
    grads = gradients(10, seed)
    np.testing.assert_allclose(
        train(grads, **options), oracle(grads, **options), rtol=1e-9, atol=1e-11
    )


def test_the_default_is_the_papers_adam_2k() -> None:
    grads = gradients(2003)
    trajectory = train(grads, lr=0.1)
    assert (trajectory[:2000] == START).all()
    assert (trajectory[2000] != START).all()
    np.testing.assert_allclose(trajectory, oracle(grads), rtol=1e-11)


def test_the_first_real_update_has_the_full_size_or_the_authors_tenth() -> None:
    grads = np.ones((51, 3))
    full = train(grads, lr=0.1, delay=50)[-1] - START
    np.testing.assert_allclose(full, -0.1, rtol=1e-6)  # |g| / sqrt(v_hat) = 1
    tenth = train(grads, lr=0.1, delay=50, momentum_count="all")[-1] - START
    np.testing.assert_allclose(tenth, -0.1 * 0.1 / (1 - 0.9**51), rtol=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_without_delay_it_is_the_adam_of_torch(weight_decay: float) -> None:
    grads = gradients(40)
    p = torch.nn.Parameter(torch.tensor(START))
    adam = torch.optim.AdamW([p], lr=0.1, eps=1e-4, weight_decay=weight_decay)
    for grad in grads:
        p.grad = torch.tensor(grad)
        adam.step()
    ours = train(
        grads, lr=0.1, eps=1e-4, weight_decay=weight_decay, delay=0, eps_placement="corrected"
    )
    np.testing.assert_allclose(ours[-1], p.detach().numpy(), rtol=1e-12)


def test_no_decay_in_the_delay() -> None:
    trajectory = train(np.zeros((5, 3)), lr=0.1, weight_decay=0.5, delay=3)
    np.testing.assert_allclose(trajectory / START, np.array([[1, 1, 1, 0.95, 0.95**2]] * 3).T)


def test_momentum_forgets_the_gradients_of_the_delay() -> None:
    grads = gradients(9)
    flipped = grads.copy()
    flipped[:5] *= -1  # the same squares
    assert (train(grads, lr=0.1, delay=5) == train(flipped, lr=0.1, delay=5)).all()
    assert (train(grads, lr=0.1, delay=4) != train(flipped, lr=0.1, delay=4)).any()


def test_splitting_into_groups_changes_nothing() -> None:
    grads = gradients(8)
    whole = train(grads, lr=0.1, delay=3, weight_decay=0.1)[-1]
    parts = [torch.nn.Parameter(torch.tensor(START[i : i + 1])) for i in range(3)]
    optimizer = DelayedAdam([{"params": [p]} for p in parts], lr=0.1, delay=3, weight_decay=0.1)
    for grad in grads:
        for i, p in enumerate(parts):
            p.grad = torch.tensor(grad[i : i + 1])
        optimizer.step()
    np.testing.assert_array_equal(torch.cat(parts).detach().numpy(), whole)


def test_groups_have_their_own_options() -> None:
    grads = gradients(6)
    options: list[dict[str, Any]] = [
        {"lr": 0.1, "delay": 2},
        {"lr": 0.3, "betas": (0.5, 0.9), "eps_placement": "corrected", "delay": 4},
    ]
    parts = [torch.nn.Parameter(torch.tensor(START)) for _ in options]
    optimizer = DelayedAdam([{"params": [p], **o} for p, o in zip(parts, options, strict=True)])
    for grad in grads:
        for p in parts:
            p.grad = torch.tensor(grad)
        optimizer.step()
    for p, o in zip(parts, options, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), train(grads, **o)[-1])


def test_a_parameter_whose_gradients_start_late_has_its_own_delay() -> None:
    early, late = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = DelayedAdam([early, late], lr=0.1, delay=2)
    moved = []
    for t in range(1, 7):
        early.grad = torch.ones(1)
        late.grad = torch.ones(1) if t > 2 else None
        optimizer.step()
        moved.append((early.item() < 1, late.item() < 1))
    assert moved == [(t > 2, t > 4) for t in range(1, 7)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_follows_the_transcription(dtype: torch.dtype) -> None:
    grads = np.sign(gradients(12)) * 0.25  # of the same size, as bfloat16 has few digits
    options: dict[str, Any] = {"lr": 0.05, "delay": 4, "betas": (0.5, 0.75)}
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]
    ours = train(grads, dtype, **options)
    np.testing.assert_allclose(ours, oracle(grads, **options), atol=tolerance)
    assert (ours[-1] != START).any()


def test_a_complex_parameter_is_two_real_ones() -> None:
    grads = torch.tensor(gradients(6)[:, :2])
    real = torch.nn.Parameter(torch.tensor(START[:2]))
    number = torch.nn.Parameter(torch.complex(real.detach()[0], real.detach()[1]))
    optimizers = [DelayedAdam([p], lr=0.1, delay=2) for p in (real, number)]
    for grad in grads:
        real.grad, number.grad = grad.clone(), torch.complex(grad[0], grad[1])
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(torch.view_as_real(number.detach()), real.detach())


def test_a_tensor_rate_is_a_rate() -> None:
    grads = gradients(6)
    by_tensor = train(grads, lr=torch.tensor(0.1, dtype=torch.float64), delay=2)
    assert (by_tensor == train(grads, lr=0.1, delay=2)).all()


def test_the_schedule_counts_from_the_first_real_update() -> None:
    p = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = DelayedAdam([p], lr=0.1, delay=3)
    schedule = Schedule(optimizer, Delayed(LinearDecay(2), delay=3))
    positions = [p.item()]
    for _ in range(6):
        p.grad = torch.ones_like(p)
        optimizer.step()
        schedule.step()
        positions.append(p.item())
    np.testing.assert_allclose(np.diff(positions), [0, 0, 0, -0.1, -0.05, 0], atol=1e-8)


def test_the_state_of_another_optimizer_is_refused() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    adam = torch.optim.Adam([p], lr=0.5)
    adam.step()
    optimizer = DelayedAdam([p])
    with pytest.raises(ValueError, match="of another kind of optimizer"):
        optimizer.load_state_dict(adam.state_dict())
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_the_state_of_another_model_is_refused_and_nothing_changes() -> None:
    p, q = (torch.nn.Parameter(torch.ones(size)) for size in (2, 3))
    p.grad = torch.ones(2)
    theirs, ours = DelayedAdam([p], lr=0.5, delay=0), DelayedAdam([q])
    theirs.step()
    with pytest.raises(ValueError, match=r"moment of shape \(2,\) for a parameter of shape \(3,\)"):
        ours.load_state_dict(theirs.state_dict())
    assert ours.param_groups[0]["lr"] == 1e-3
    assert not ours.state


def test_a_sparse_gradient_is_refused_and_nothing_changes() -> None:
    dense = torch.nn.Parameter(torch.ones(2))
    embedding = torch.nn.Embedding(3, 2, sparse=True)
    optimizer = DelayedAdam([dense, embedding.weight], delay=0)
    dense.grad = torch.ones(2)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="needs dense gradients"):
        optimizer.step()
    assert not optimizer.state
    assert torch.equal(dense.detach(), torch.ones(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, r"lr=-0\.1 is out of range"),
        ({"lr": math.nan}, "lr=nan is out of range"),
        ({"lr": math.inf}, "lr=inf is out of range"),
        ({"weight_decay": -1.0}, r"weight_decay=-1\.0 is out of range"),
        ({"lr": torch.ones(2)}, "lr has 2 elements: give a number or a 1-element tensor"),
        ({"eps": 0.0}, "eps=0 is out of range: use a number greater than 0"),
        ({"eps": math.nan}, "eps=nan is out of range"),
        ({"betas": (1.0, 0.9)}, r"beta1=1\.0 is outside \[0, 1\)"),
        ({"betas": (0.9, -0.1)}, r"beta2=-0\.1 is outside \[0, 1\)"),
        ({"betas": (0.9,)}, r"betas=\(0\.9,\) is not a pair"),
        ({"betas": (0.9, 0.99, 0.999)}, "is not a pair: use two numbers"),
        ({"delay": -1}, "delay must be an integer of at least 0, not -1"),
        ({"delay": 2e3}, r"delay must be an integer of at least 0, not 2000\.0"),
        ({"eps_placement": "inside"}, "eps_placement='inside' is unknown"),
        ({"momentum_count": "some"}, "momentum_count='some' is unknown"),
    ],
)
def test_bad_values_get_a_sentence(options: dict[str, Any], message: str) -> None:
    p = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match=message):
        DelayedAdam([p], **options)
    with pytest.raises(ValueError, match=message):
        DelayedAdam([{"params": [p], **options}])
