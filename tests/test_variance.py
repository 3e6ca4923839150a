"""Eq. 2 and Eq. 5 against integrals and simulations; the simulation against itself."""

import math
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radam_core import rectification
from radam_core.variance import (
    exact_variance,
    first_order_variance,
    moving_average_variance,
    sample_psi,
    simulate_variance,
)


def moment(rho: float, power: int) -> float:
    """E[psi^power] for psi = sqrt(rho / x) by integrating over the density of x ~ chi^2(rho)."""
    half = mpmath.mpf(rho) / 2

    def integrand(u: Any) -> Any:  # x = u^2 takes the singularity at 0 away
        density = u ** (2 * half - 2) * mpmath.exp(-u * u / 2) / (2**half * mpmath.gamma(half))
        return (mpmath.sqrt(rho) / u) ** power * density * 2 * u

    return float(mpmath.quad(integrand, [0, 1, 3, 10, 40]))


@pytest.mark.parametrize("rho", [3, 3.5, 4, 4.5, 5, 10, 50])
def test_eq_2_is_the_variance_below_four_as_well(rho: float) -> None:
    variance = moment(rho, 2) - moment(rho, 1) ** 2
    assert exact_variance(rho) == pytest.approx(variance, rel=1e-9)


@pytest.mark.parametrize("rho", [6.5, 8, 20, 100])
def test_eq_2_is_the_variance_of_a_sample(rho: float) -> None:
    psi = sample_psi(rho, 400_000, seed=1)
    # The standard error of the variance, from the sample itself.
    squares = (psi - psi.mean()) ** 2
    error = float(squares.std()) / math.sqrt(len(psi))
    assert abs(float(squares.mean()) - exact_variance(rho)) < 4 * error
    assert error < 0.03 * exact_variance(rho)


def test_eq_5_misses_where_it_matters() -> None:
    rho = np.array([4.5, 5, 6, 10, 100])
    ratio = first_order_variance(rho) / exact_variance(rho)
    np.testing.assert_allclose(ratio, [5.6, 3.3, 2.1, 1.4, 1.02], rtol=0.03)
    # "over 100 times larger" at 5 than at 500 holds, by either
    for variance in (exact_variance, first_order_variance):
        assert variance(5) / variance(500) > 100


def test_arrays_are_their_elements() -> None:
    rho = np.array([[1.0, 2.0, 2.5], [4.0, 4.5, 1e9]])
    exact, first_order = exact_variance(rho), first_order_variance(rho)
    assert exact.shape == first_order.shape == rho.shape
    assert exact.dtype == first_order.dtype == np.float64
    for index, value in np.ndenumerate(rho):
        assert exact[index] == rectification.exact_variance(float(value))
        assert first_order[index] == rectification.first_order_variance(float(value))
    assert exact_variance(5).shape == ()
    assert exact_variance([]).shape == (0,)


def test_theorem_1_on_a_grid() -> None:
    rho = 2 + np.geomspace(1e-6, 1e9, 2000)
    assert np.all(np.diff(exact_variance(rho)) < 0)


def test_both_agree_in_the_limit() -> None:
    # Both are 1 / (2 rho) to leading order.
    rho = np.array([1e6, 1e9])
    np.testing.assert_allclose(exact_variance(rho) * 2 * rho, 1, rtol=1e-5)
    np.testing.assert_allclose(first_order_variance(rho) * 2 * rho, 1, rtol=1e-5)


def naive(
    beta2: float, mu: float, sigma: float, steps: int, trajectories: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The definition of psi_t, term by term."""
    g = np.random.default_rng(0).normal(mu, sigma, (steps, trajectories))
    variances = []
    for t in range(1, steps + 1):
        weights = beta2 ** np.arange(t - 1, -1, -1)[:, None]
        total = (weights * g[:t] ** 2).sum(axis=0)
        psi = np.sqrt((1 - beta2**t) / ((1 - beta2) * total))
        variances.append(psi.var(ddof=1))
    return np.array(variances)


@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 1.0), (1.0, 1.0), (0.1, 0.5), (10.0, 1.0)])
def test_simulation_agrees_with_the_definition(mu: float, sigma: float) -> None:
    ours = simulate_variance(0.95, mu, sigma, steps=80, trajectories=20_000)
    theirs = naive(0.95, mu, sigma, steps=80, trajectories=20_000)
    # From t = 10 on the fourth moment is finite, and 20,000 draws pin the variance to a few %.
    np.testing.assert_allclose(ours[9:], theirs[9:], rtol=0.12)


@pytest.mark.parametrize("t", [3, 4, 5, 10, 100, 1000])
def test_equal_weights_give_eq_2(t: int) -> None:
    assert moving_average_variance(t, 1 - 1e-12) == pytest.approx(exact_variance(t), rel=1e-8)


@pytest.mark.parametrize("beta2", [0.5, 0.9, 0.95])
def test_unequal_weights_by_integration_over_a_transform(beta2: float) -> None:
    t = 6
    weights = [
        (1 - beta2) * mpmath.mpf(beta2) ** k / (1 - mpmath.mpf(beta2) ** t) for k in range(t)
    ]

    def transform(x: Any) -> Any:
        return mpmath.fprod(1 / mpmath.sqrt(1 + 2 * weight * x) for weight in weights)

    ends = [0, 1, 10, 100, 1000, mpmath.inf]
    square = mpmath.quad(transform, ends)
    mean = mpmath.quad(lambda u: 2 * transform(u * u), ends) / mpmath.sqrt(mpmath.pi)
    expected = float(square - mean**2)
    assert moving_average_variance(6, beta2) == pytest.approx(expected, rel=1e-7)


def test_the_simulation_is_of_the_moving_average() -> None:
    simulated = simulate_variance(0.95, steps=80, trajectories=20_000)
    t = (10, 20, 40, 80)
    expected = [moving_average_variance(one, 0.95) for one in t]
    np.testing.assert_allclose(simulated[np.array(t) - 1], expected, rtol=0.12)


def test_the_moving_average_has_no_variance_before_update_3() -> None:
    assert moving_average_variance(1) == moving_average_variance(2) == math.inf
    assert moving_average_variance(3) < math.inf
    with pytest.raises(ValueError, match="beta2"):
        moving_average_variance(5, 1.0)
    with pytest.raises(ValueError, match="t=0"):
        moving_average_variance(0)


def test_a_sum_of_squares_is_chi_squared_while_the_decay_is_slow() -> None:
    # beta2 -> 1: psi_t = sqrt(t / sum g^2), that is rho = t
    simulated = simulate_variance(1 - 1e-9, steps=40, trajectories=20_000)
    t = np.arange(10, 41)
    np.testing.assert_allclose(simulated[9:], exact_variance(t), rtol=0.12)


def test_sigma_is_a_unit() -> None:
    one = simulate_variance(steps=20, trajectories=1100)
    two = simulate_variance(steps=20, trajectories=1100, sigma=2.0)
    np.testing.assert_allclose(two, one / 4, rtol=1e-12)


@settings(deadline=None)
@given(st.integers(1, 10_000), st.integers(2, 5000))
def test_no_chunk_changes_the_result(chunk: int, trajectories: int) -> None:
    whole = simulate_variance(steps=4, trajectories=trajectories)
    parts = simulate_variance(steps=4, trajectories=trajectories, chunk=chunk)
    np.testing.assert_allclose(parts, whole, rtol=1e-10)


def test_the_seed_decides() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    kwargs: dict[str, Any] = {"steps": 30, "trajectories": 2000}
    np.testing.assert_array_equal(
        simulate_variance(seed=3, **kwargs), simulate_variance(seed=3, **kwargs)
    )
    assert not np.any(simulate_variance(seed=3, **kwargs) == simulate_variance(seed=4, **kwargs))
    assert torch.equal(sample_psi(3.5, 10, seed=3), sample_psi(3.5, 10, seed=3))
    assert not torch.equal(sample_psi(3.5, 10, seed=3), sample_psi(3.5, 10, seed=4))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_blocks_of_trajectories_are_independent() -> None:
    # Were two blocks the same draws, the estimate would only lose its freedom: by a factor.
    one = simulate_variance(steps=3, trajectories=1024)
    two = simulate_variance(steps=3, trajectories=2048)
    assert not np.any(np.isclose(two, one * 1023 * 2 / 2047, rtol=1e-9))


@pytest.mark.gpu
def test_simulation_on_a_gpu() -> None:
    here = simulate_variance(steps=50, trajectories=20_000)
    there = simulate_variance(steps=50, trajectories=20_000, device="cuda")
    np.testing.assert_allclose(there[9:], here[9:], rtol=0.12)


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"beta2": 1.0}, "beta2=1.0 is outside"),
        ({"mu": math.nan}, "mu=nan is not finite"),
        ({"sigma": 0.0}, "sigma=0.0 is out of range"),
        ({"sigma": math.inf}, "sigma=inf is out of range"),
        ({"steps": 0}, "steps=0 is out of range"),
        ({"steps": 2.5}, "steps=2.5 is out of range"),
        ({"trajectories": 1}, "trajectories=1 is out of range"),
        ({"chunk": 0}, "chunk=0 is out of range"),
        ({"seed": -1}, "seed=-1 is out of range"),
    ],
)
def test_bad_arguments(kwargs: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        simulate_variance(**kwargs)


@pytest.mark.parametrize("rho", [0.0, -1.0, math.nan, math.inf])
def test_bad_degrees_of_freedom(rho: float) -> None:
    with pytest.raises(ValueError, match="degrees of freedom are impossible"):
        sample_psi(rho, 10)
