r"""Rectification: how long RAdam's averages are (:math:`\rho_t`), and what that makes of its step.

Everything here is a pure function of the update number ``t`` (counted from 1) and of ``beta2``,
in plain Python floats. Relative errors are a few roundings of the *inputs*: where a result is
infinitely sensitive to ``beta2``, as :math:`r_t` is where :math:`\rho_t` meets its threshold, no
arithmetic on a rounded ``beta2`` can do better.

The symbols are those of "On the Variance of the Adaptive Learning Rate and Beyond"
(arXiv 1908.03265): Eq. 2 is the variance of the adaptive learning rate, Eq. 5 its first-order
approximation, Algorithm 2 is RAdam.
"""

import math
from operator import index
from typing import Literal, SupportsIndex, get_args

__all__ = [
    "Rectification",
    "exact_variance",
    "first_order_variance",
    "first_rectified_step",
    "natural_threshold",
    "r",
    "rho",
    "rho_inf",
]

Rectification = Literal["first-order", "exact"]
"""How the variance is estimated, by Eq. 5 (Algorithm 2's choice) or by Eq. 2."""

# Each estimate is finite for rho above this, and only there.
_NATURAL_THRESHOLD: dict[Rectification, float] = {"first-order": 4.0, "exact": 2.0}


def rho_inf(beta2: float) -> float:
    r"""Length of the moving average in the limit, :math:`\rho_\infty = 2 / (1 - \beta_2) - 1`.

    Parameters
    ----------
    beta2 : float
        Decay of the second moment, in (0, 1).

    Returns
    -------
    float
        Greater than 1; 1999 for ``beta2 = 0.999``. Source: Algorithm 2, line 2.

    Raises
    ------
    ValueError
        If ``beta2`` is outside (0, 1).
    """
    _check_beta2(beta2)
    return (1 + beta2) / (1 - beta2)


def rho(t: SupportsIndex, beta2: float) -> float:
    r"""Length of the moving average after update ``t``.

    .. math:: \rho_t = \rho_\infty - \frac{2 t \beta_2^t}{1 - \beta_2^t}

    Parameters
    ----------
    t : int
        Number of the update, from 1.
    beta2 : float
        Decay of the second moment, in (0, 1).

    Returns
    -------
    float
        1 at ``t = 1``, close to ``t`` while ``t`` is small against ``rho_inf(beta2)``, and rising
        to ``rho_inf(beta2)``. Source: Algorithm 2, line 8.

    Raises
    ------
    ValueError
        If ``t`` is not an integer of at least 1, or ``beta2`` is outside (0, 1).
    """
    t = _check_t(t)
    limit = rho_inf(beta2)
    if t == 1:
        return 1.0
    x = -math.log(beta2)
    if t * x > 2:
        # The formula itself, with beta2^t / (1 - beta2^t) = 1 / expm1(t x).
        return limit - 2 * t / math.expm1(t * x) if t * x < 700 else limit
    # There the two terms are both near 2/x and cancel. Written with coth they are
    # rho_t = coth(x/2) + t - t coth(t x/2), and the poles 2/x drop out of L(y) = coth(y) - 1/y.
    return t * (1 - _langevin(t * x / 2)) + _langevin(x / 2)


def r(t: SupportsIndex, beta2: float, method: Rectification = "first-order") -> float:
    r"""Rectification term :math:`r_t`, by which RAdam shortens the adaptive step of update ``t``.

    The variance at its floor over the variance now, under the root:

    .. math::

       r_t = \sqrt{\frac{\mathrm{Var}[\psi](\rho_\infty)}{\mathrm{Var}[\psi](\rho_t)}}
       \;\overset{\text{first order}}{=}\;
       \sqrt{\frac{(\rho_t - 4)(\rho_t - 2)\rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2)\rho_t}}

    Parameters
    ----------
    t : int
        Number of the update, from 1.
    beta2 : float
        Decay of the second moment, in (0, 1).
    method : {"first-order", "exact"}
        Take the variance from Eq. 5, as Algorithm 2 does, or from Eq. 2.

    Returns
    -------
    float
        In [0, 1], rising with ``t`` to 1. Zero, the formula's limit, while the variance is
        infinite: for ``rho(t, beta2)`` up to 4 (first order) or 2 (exact).
        Source: Algorithm 2, line 11.

    Raises
    ------
    ValueError
        If ``t`` is not an integer of at least 1, ``beta2`` is outside (0, 1), or ``method`` is
        unknown.
    """
    threshold = natural_threshold(method)
    rho_t, limit = rho(t, beta2), rho_inf(beta2)
    if rho_t <= threshold:
        return 0.0
    variance = first_order_variance if method == "first-order" else exact_variance
    return min(1.0, math.sqrt(variance(limit) / variance(rho_t)))


def natural_threshold(method: Rectification) -> float:
    """Value that ``rho`` must exceed for the variance, as ``method`` has it, to be finite.

    Parameters
    ----------
    method : {"first-order", "exact"}
        Eq. 5 or Eq. 2.

    Returns
    -------
    float
        4 for the first-order approximation, 2 for the exact variance.

    Raises
    ------
    ValueError
        If ``method`` is unknown.
    """
    if method not in _NATURAL_THRESHOLD:
        known = " or ".join(map(repr, get_args(Rectification)))
        raise ValueError(f"unknown rectification {method!r}: use {known}")
    return _NATURAL_THRESHOLD[method]


def first_rectified_step(beta2: float, threshold: float = 4.0) -> int | None:
    r"""Smallest ``t`` with ``rho(t, beta2) > threshold``: the first update that is adaptive.

    Parameters
    ----------
    beta2 : float
        Decay of the second moment, in (0, 1).
    threshold : float
        Algorithm 2 has 4, other implementations 5.

    Returns
    -------
    int or None
        5 for ``beta2 = 0.999``; None where :math:`\rho_\infty` does not exceed the threshold, so
        that no update ever does.

    Raises
    ------
    ValueError
        If ``beta2`` is outside (0, 1) or ``threshold`` is not a number.
    """
    if math.isnan(threshold):
        raise ValueError("threshold is NaN: give a number, 4 for the paper's Algorithm 2")
    if rho_inf(beta2) <= threshold:
        return None
    low, high = 0, 1  # rho(low) <= threshold; rho rises with t, so double, then bisect
    while rho(high, beta2) <= threshold:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rho(middle, beta2) > threshold else (middle, high)
    return high


def first_order_variance(rho: float) -> float:
    r"""Eq. 5 in units of :math:`1/\sigma^2`: :math:`\rho / (2 (\rho - 2)(\rho - 4))`.

    Parameters
    ----------
    rho : float
        Degrees of freedom, any real number.

    Returns
    -------
    float
        First-order variance of the adaptive learning rate; infinite for ``rho <= 4``.
    """
    if rho <= 4:
        return math.inf
    # Divided in turn: the product of the two factors overflows for rho near the largest float.
    return rho / (rho - 2) / (rho - 4) / 2


def exact_variance(rho: float) -> float:
    r"""Eq. 2 in units of :math:`\tau^2 = 1/\sigma^2`, for every ``rho`` with a finite variance.

    .. math::

       & \frac{\rho}{\rho - 2} - \frac{\rho\, 2^{2\rho - 5}}{\pi}
           B\Big(\frac{\rho - 1}{2}, \frac{\rho - 1}{2}\Big)^2 \\
       & = \frac{\rho}{\rho - 2} \big(1 - e^{D}\big), \quad
       e^{D} = \frac{\rho - 2}{2}
           \bigg(\frac{\Gamma((\rho - 1)/2)}{\Gamma(\rho / 2)}\bigg)^2

    The paper states it for ``rho > 4``; the variance is finite from 2 on.

    Parameters
    ----------
    rho : float
        Degrees of freedom, any real number.

    Returns
    -------
    float
        Variance of the adaptive learning rate; infinite for ``rho <= 2``.
    """
    if rho <= 2:
        return math.inf
    return rho / (rho - 2) * -math.expm1(_log_mean_square_share(rho / 2 - 1))


STIRLING = (691 / 90112, -31 / 9216, 17 / 7168, -1 / 320, 1 / 96, -1 / 4)
"""The difference of two of his series, in powers of 1/z^2 times 1/z, the highest first."""


def _log_mean_square_share(z: float) -> float:
    """D(z) = ln(E[psi]^2 / E[psi^2]) = ln(z (Gamma(z + 1/2) / Gamma(z + 1))^2), z = rho/2 - 1 > 0.

    D(z) = D(z + 1) + ln(1 - 1/(2z + 1)^2) leads to where Stirling's series holds, every term of
    which is negative down to rounding: nothing cancels, however large rho is.
    """
    log_share = 0.0
    while z < 10:
        log_share += math.log1p(-((2 * z + 1) ** -2))
        z += 1
    # -1/(4z) + 1/(96z^3) - ...: the remainder < 3e-15 / z.
    w, series = 1 / (z * z), 0.0
    for coefficient in STIRLING:
        series = coefficient + w * series
    return log_share + series / z


def _langevin(y: float) -> float:
    """L(y) = coth(y) - 1/y for y > 0, without the cancellation at small y."""
    if y > 1:
        return 1 / math.tanh(y) - 1 / y
    # Lambert's continued fraction, y / (3 + y^2 / (5 + y^2 / (7 + ...))).
    tail = 0.0
    for odd in range(19, 1, -2):
        tail = y * y / (odd + tail)
    return tail / y


def _check_beta2(beta2: float) -> None:
    if not 0 < beta2 < 1:
        raise ValueError(f"beta2={beta2} is outside (0, 1): use a value such as 0.999")


def _check_t(t: SupportsIndex) -> int:
    try:
        value = index(t)
    except TypeError:
        value = 0
    if value < 1:
        raise ValueError(f"t={t} is not an update number: give an integer of at least 1")
    return value
