"""rho and r against their definitions: in fractions where t is small, in 60 digits elsewhere."""

import itertools
import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from radam_core.rectification import (
    exact_variance,
    first_order_variance,
    first_rectified_step,
    natural_threshold,
    r,
    rho,
    rho_inf,
)

# Both ends of (0, 1) by their logarithm, and what lies between.
BETAS = st.one_of(
    st.floats(-15.5, -0.05).map(lambda exponent: 1 - 10**exponent),
    st.floats(-300, -0.05).map(lambda exponent: 10**exponent),
    st.floats(0.01, 0.99),
)
UPDATES = st.one_of(st.integers(1, 100), st.floats(0, 9).map(lambda exponent: int(10**exponent)))


@pytest.fixture(autouse=True)
def _sixty_digits() -> Any:
    with mpmath.workdps(60):
        yield


def rho_60(t: int, beta2: float) -> Any:
    beta = mpmath.mpf(beta2)
    return 2 / (1 - beta) - 1 - 2 * t * beta**t / (1 - beta**t)


def eq_2_60(rho: Any) -> Any:
    rho = mpmath.mpf(rho)
    log_ratio = mpmath.loggamma((rho - 1) / 2) - mpmath.loggamma(rho / 2)
    return rho / (rho - 2) - rho / 2 * mpmath.exp(2 * log_ratio)


def r_60(t: int, beta2: float, method: str) -> Any:
    now, limit = rho_60(t, beta2), 2 / (1 - mpmath.mpf(beta2)) - 1
    if method == "exact":
        return mpmath.sqrt(eq_2_60(limit) / eq_2_60(now))
    return mpmath.sqrt((now - 4) * (now - 2) * limit / ((limit - 4) * (limit - 2) * now))


@pytest.mark.parametrize("beta2", [0.25, 0.5, 0.75, 0.875, 1 - 2**-10])
@pytest.mark.parametrize("t", [1, 2, 3, 4, 5, 6, 20, 100])
def test_rho_is_the_simple_average_with_the_same_centre_of_mass(t: int, beta2: float) -> None:
    b = Fraction(beta2)
    weights = [b ** (t - i) for i in range(1, t + 1)]
    age = sum(w * (t - i) for i, w in enumerate(weights, start=1)) / sum(weights)
    assert rho(t, beta2) == pytest.approx(float(2 * age + 1), rel=1e-15)


@settings(deadline=None)
@given(BETAS)
def test_the_first_two_updates_in_closed_form(beta2: float) -> None:
    assert rho(1, beta2) == 1.0
    assert rho(2, beta2) == pytest.approx((1 + 3 * beta2) / (1 + beta2), rel=1e-15)


@settings(deadline=None)
@given(UPDATES, BETAS)
@example(10**9, 1 - 1e-12)
@example(5, 1 - 1e-12)
@example(10**9, math.nextafter(1, 0))
@example(10**9, math.nextafter(0, 1))
def test_rho_to_the_last_digits(t: int, beta2: float) -> None:
    assert rho(t, beta2) == pytest.approx(float(rho_60(t, beta2)), rel=1e-15)


@settings(deadline=None)
@given(BETAS)
def test_rho_arrives_at_its_limit(beta2: float) -> None:
    assert rho_inf(beta2) == pytest.approx(
        float((1 + Fraction(beta2)) / (1 - Fraction(beta2))), rel=1e-15
    )
    assert rho(10**20, beta2) == rho_inf(beta2)


@pytest.mark.parametrize(("t", "value"), [(4, 3.998), (5, 4.996), (6, 5.994)])
def test_rho_at_the_usual_beta2(t: int, value: float) -> None:
    assert rho(t, 0.999) == pytest.approx(value, abs=1e-3)


@settings(deadline=None)
@given(UPDATES, BETAS, st.sampled_from(["first-order", "exact"]))
@example(10**9, 1 - 1e-9, "exact")
@example(3, 1 - 1e-12, "exact")
@example(7, 0.6000001, "first-order")
def test_r_as_far_as_rho_is_known(t: int, beta2: float, method: Any) -> None:
    threshold = natural_threshold(method)
    if rho(t, beta2) <= threshold:
        assert r(t, beta2, method) == 0.0
        return
    # One rounding of rho is a relative change of rho - threshold by this much:
    condition = rho(t, beta2) / (rho(t, beta2) - threshold)
    if condition < 1e12:
        assert r(t, beta2, method) == pytest.approx(
            float(r_60(t, beta2, method)), rel=2e-13 + 2e-15 * condition
        )


@settings(deadline=None)
@given(BETAS, st.sampled_from(["first-order", "exact"]))
def test_r_rises_from_zero_to_one(beta2: float, method: Any) -> None:
    values = [r(2**k, beta2, method) for k in range(70)]
    assert values[0] == 0.0
    assert all(b >= a * (1 - 1e-12) for a, b in itertools.pairwise(values))
    assert values[-1] == (1.0 if rho_inf(beta2) > natural_threshold(method) else 0.0)


@pytest.mark.parametrize("method", ["first-order", "exact"])
def test_r_nears_one_where_the_terms_of_eq_2_cancel(method: Any) -> None:
    beta2 = 1 - 2e-9  # rho_inf = 1e9
    assert r(10**9, beta2, method) < 1
    assert r(10**10, beta2, method) == pytest.approx(1, abs=1e-7)


def test_the_first_order_is_the_more_cautious() -> None:
    # Eq. 5 over Eq. 2 is 3.3 at rho = 5: just after the threshold r is 1.8 times too small.
    ratio = r(5, 0.999, "exact") / r(5, 0.999, "first-order")
    assert ratio == pytest.approx(1.8, abs=0.05)


@settings(deadline=None)
@given(st.floats(-13, 16).map(lambda exponent: 2 + 10**exponent).filter(lambda rho: rho > 2))
@example(math.nextafter(2, 3))
@example(1e9)
def test_exact_variance_in_sixty_digits(rho: float) -> None:
    assert exact_variance(rho) == pytest.approx(float(eq_2_60(rho)), rel=2e-13)


def test_exact_variance_in_closed_form() -> None:
    # Gamma at half-integers: E[psi] = sqrt(rho/2) Gamma((rho-1)/2) / Gamma(rho/2)
    assert exact_variance(3) == pytest.approx(3 - 6 / math.pi, rel=1e-14)
    assert exact_variance(4) == pytest.approx(2 - math.pi / 2, rel=1e-14)
    assert exact_variance(5) == pytest.approx(5 / 3 - 40 / (9 * math.pi), rel=1e-14)


def test_variances_are_infinite_up_to_their_thresholds() -> None:
    assert exact_variance(2) == exact_variance(-1) == math.inf
    assert first_order_variance(4) == first_order_variance(0) == math.inf
    assert math.isfinite(exact_variance(math.nextafter(2, 3)))
    assert math.isfinite(first_order_variance(math.nextafter(4, 5)))


@settings(deadline=None)
@given(BETAS, st.floats(1, 1e4))
def test_first_rectified_step_is_the_first(beta2: float, threshold: float) -> None:
    step = first_rectified_step(beta2, threshold)
    if step is None:
        assert rho_inf(beta2) <= threshold
    else:
        assert rho(step, beta2) > threshold
        assert step == 1 or rho(step - 1, beta2) <= threshold


def test_first_rectified_step_at_the_usual_values() -> None:
    assert [first_rectified_step(0.999, threshold) for threshold in (2, 4, 5)] == [3, 5, 6]
    assert first_rectified_step(0.999, threshold=0.5) == 1
    assert first_rectified_step(0.5) is None


def test_integers_of_other_libraries_are_update_numbers() -> None:
    assert rho(np.int64(7), 0.999) == rho(7, 0.999)


@pytest.mark.parametrize("beta2", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf])
def test_beta2_out_of_range(beta2: float) -> None:
    for call in (rho_inf, first_rectified_step, lambda b: rho(3, b), lambda b: r(3, b)):
        with pytest.raises(ValueError, match=r"beta2=.* is outside \(0, 1\)"):
            call(beta2)


@pytest.mark.parametrize("t", [0, -1, 1.5, 2.0, math.nan, "3", None])
def test_t_is_no_update_number(t: Any) -> None:
    for call in (rho, r):
        with pytest.raises(ValueError, match="is not an update number"):
            call(t, 0.999)


def test_unknown_method_and_threshold() -> None:
    with pytest.raises(ValueError, match="unknown rectification 'second-order'"):
        r(3, 0.999, "second-order")
    with pytest.raises(ValueError, match="threshold is NaN"):
        first_rectified_step(0.999, math.nan)
