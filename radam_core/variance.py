r"""Variance of the adaptive learning rate: its formulas, and its simulation.

Under Gaussian gradients of mean 0 and variance :math:`\sigma^2`, the paper models the square of
the adaptive learning rate :math:`\psi` as :math:`\rho\tau^2 / \chi^2_\rho` with
:math:`\tau^2 = 1/\sigma^2`. The formulas give :math:`\mathrm{Var}[\psi]` in units of
:math:`\tau^2`; the simulations are what they are checked against.

Source: "On the Variance of the Adaptive Learning Rate and Beyond" (arXiv 1908.03265), Section 3.
"""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from radam_core import rectification

__all__ = [
    "exact_variance",
    "first_order_variance",
    "moving_average_variance",
    "sample_psi",
    "simulate_variance",
]

# Trajectories that draw from one random generator. Part of what a seed means: another value here
# gives other draws.
_BLOCK = 1024


def exact_variance(rho: ArrayLike) -> NDArray[np.float64]:
    r"""Variance of :math:`\psi` by Eq. 2, in units of :math:`1/\sigma^2`.

    Parameters
    ----------
    rho : array_like
        Degrees of freedom, real numbers of any shape.

    Returns
    -------
    numpy.ndarray of float64
        Of the shape of ``rho``; infinite where ``rho <= 2``. The paper states Eq. 2 for
        ``rho > 4``, but it is finite and holds from 2 on.

    See Also
    --------
    radam_core.rectification.exact_variance : the same for one float, with the formula.
    """
    return _elementwise(_exact, rho)


def first_order_variance(rho: ArrayLike) -> NDArray[np.float64]:
    r"""Variance of :math:`\psi` by the paper's first-order approximation, Eq. 5.

    .. math:: \mathrm{Var}[\psi] \approx \frac{\rho}{2 (\rho - 2)(\rho - 4)\sigma^2}

    Parameters
    ----------
    rho : array_like
        Degrees of freedom, real numbers of any shape.

    Returns
    -------
    numpy.ndarray of float64
        Of the shape of ``rho``, in units of :math:`1/\sigma^2`; infinite where ``rho <= 4``.
    """
    return _elementwise(_first_order, rho)


def moving_average_variance(t: int, beta2: float = 0.999) -> float:
    r"""Variance of :math:`\psi_t` itself, an exponential moving average of :math:`t` squares.

    Eq. 2 holds for a simple average. For the weights :math:`w_k` of Adam's, which sum to one, the
    Laplace transform of the average of squares is
    :math:`L(x) = \prod_k (1 + 2 w_k x)^{-1/2}` in units of :math:`\sigma^2`, and

    .. math::

        \mathrm{E}[\psi_t^2] = \int_0^\infty L(x)\,dx, \qquad
        \mathrm{E}[\psi_t] = \frac{1}{\sqrt{\pi}} \int_0^\infty \frac{L(x)}{\sqrt{x}}\,dx .

    Parameters
    ----------
    t : int
        The update, counted from 1.
    beta2 : float
        Decay of the second moment, in (0, 1).

    Returns
    -------
    float
        In units of :math:`1/\sigma^2`, to about nine digits; infinite for ``t <= 2``.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    rectification.rho(t, beta2)  # raises where an argument is out of range
    if t <= 2:
        return math.inf
    weights = (1 - beta2) * beta2 ** np.arange(t, dtype=np.float64)
    weights /= weights.sum()
    # In u = log(x) the integrands are analytic and fall off exponentially on both sides: the
    # trapezoidal rule is then exact to double precision.
    u, step = np.linspace(-80.0, 120.0, 801, retstep=True)
    log_transform = np.zeros_like(u)
    for part in np.array_split(weights, -(-t // 1000)):
        log_transform -= 0.5 * np.log1p(2 * part[:, None] * np.exp(u)).sum(axis=0)
    mean = step * np.exp(log_transform + u / 2).sum() / math.sqrt(math.pi)
    return float(step * np.exp(log_transform + u).sum() - mean**2)


_exact = np.frompyfunc(rectification.exact_variance, 1, 1)
_first_order = np.frompyfunc(rectification.first_order_variance, 1, 1)


def _elementwise(function: np.ufunc, rho: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(function(np.asarray(rho, dtype=np.float64)), dtype=np.float64)


def sample_psi(rho: float, size: int, seed: int = 0, device: torch.device | str = "cpu") -> Tensor:
    r"""Draw :math:`\psi = \sqrt{\rho / \chi^2_\rho}`, whose variance Eq. 2 gives.

    For an integer ``rho`` this is :math:`\sqrt{\rho / \sum_{i \le \rho} g_i^2}` of independent
    standard normal gradients.

    Parameters
    ----------
    rho : float
        Degrees of freedom, any positive number.
    size : int
        Number of independent draws.
    seed : int
        Seed of the draws; torch's own generators are left as they were.
    device : torch.device or str
        Where to draw; it must know float64.

    Returns
    -------
    torch.Tensor of float64
        Shape ``[size]``, in units of :math:`1/\sigma`. The fourth moment, and with it the standard
        error of a sample's variance, is finite only for ``rho > 4``.

    Raises
    ------
    ValueError
        If ``rho`` is not a positive number.
    """
    if not 0 < rho < math.inf:
        raise ValueError(f"rho={rho} degrees of freedom are impossible: give a positive number")
    # A distribution of torch draws from the global generators only.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        degrees = torch.tensor(rho, dtype=torch.float64, device=device)
        return (rho / torch.distributions.Chi2(degrees).sample((size,))).sqrt()


def simulate_variance(
    beta2: float = 0.999,
    mu: float = 0.0,
    sigma: float = 1.0,
    steps: int = 6000,
    trajectories: int = 5000,
    seed: int = 0,
    device: torch.device | str = "cpu",
    chunk: int = 65536,
) -> NDArray[np.float64]:
    r"""Simulate the variance of the adaptive learning rate over training (Figure 9).

    .. math::

        \psi_t = \sqrt{\frac{1 - \beta_2^t}{(1 - \beta_2)\sum_{i=1}^t \beta_2^{t-i} g_i^2}},
        \qquad g_i \sim \mathcal{N}(\mu, \sigma^2) \text{ independent}

    Parameters
    ----------
    beta2 : float
        Decay of the second moment, in (0, 1).
    mu, sigma : float
        Mean and standard deviation of the gradients; ``sigma`` is positive.
    steps : int
        Updates :math:`t = 1, 2, \dots` to simulate.
    trajectories : int
        Independent sequences of gradients, over which the variance is taken; at least 2.
    seed : int
        Seed, at least 0. On one kind of device it determines the result, up to rounding in the
        last digits, whatever ``chunk`` is.
    device : torch.device or str
        Where to simulate; it must know float64.
    chunk : int
        Trajectories to simulate side by side, rounded up to a multiple of 1024. Memory is
        proportional to it, about 30 bytes each, and to ``steps``, 16 bytes each.

    Returns
    -------
    numpy.ndarray of float64
        Shape ``[steps]``: the unbiased sample variance of :math:`\psi_t`, at index ``t - 1``. For
        ``mu = 0`` the true variance is infinite at t = 1 and 2, and its estimate means nothing.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    rectification.rho_inf(beta2)  # raises where beta2 is outside (0, 1)
    _check_simulation(mu, sigma, seed, steps=steps, trajectories=trajectories, chunk=chunk)
    generators = [
        _generator(seed, block, device) for block in range(math.ceil(trajectories / _BLOCK))
    ]
    side_by_side = math.ceil(chunk / _BLOCK)
    count, mean, scatter = 0, np.zeros(steps), np.zeros(steps)
    for first in range(0, len(generators), side_by_side):
        size = min(side_by_side * _BLOCK, trajectories - first * _BLOCK)
        ours = generators[first : first + side_by_side]
        its_mean, its_scatter = _simulate_chunk(beta2, mu, sigma, steps, size, ours, device)
        # Chan, Golub, LeVeque: the mean and the scatter about it of the union of two samples.
        delta = its_mean - mean
        mean += delta * (size / (count + size))
        scatter += its_scatter + delta**2 * (count * size / (count + size))
        count += size
    return scatter / (count - 1)


def _simulate_chunk(
    beta2: float,
    mu: float,
    sigma: float,
    steps: int,
    size: int,
    generators: list[torch.Generator],
    device: torch.device | str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of psi_t, and sum of squares about it, over ``size`` trajectories: each [steps]."""
    # Double precision for the draws as well: among so many a single one may be zero, psi infinite.
    g = torch.empty(size, dtype=torch.float64, device=device)
    blocks = list(zip(torch.split(g, _BLOCK), generators, strict=True))
    ema = torch.zeros(size, dtype=torch.float64, device=device)  # sum_i beta2^(t-i) g_i^2
    means: list[Tensor] = []
    scatters: list[Tensor] = []
    for t in range(1, steps + 1):
        for block, generator in blocks:
            block.normal_(mu, sigma, generator=generator)
        ema.mul_(beta2).addcmul_(g, g)
        psi = ema.rsqrt().mul_(math.sqrt(math.expm1(t * math.log(beta2)) / (beta2 - 1)))
        variance, mean = torch.var_mean(psi, correction=0)
        means.append(mean)
        scatters.append(variance * size)
    return torch.stack(means).cpu().numpy(), torch.stack(scatters).cpu().numpy()


def _generator(seed: int, block: int, device: torch.device | str) -> torch.Generator:
    """Give each block of trajectories its own stream, so that no chunking changes its draws."""
    mixed = np.random.SeedSequence((seed, block)).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(mixed >> np.uint64(1)))


def _check_simulation(
    mu: float, sigma: float, seed: int, *, steps: int, trajectories: int, chunk: int
) -> None:
    if not math.isfinite(mu):
        raise ValueError(f"mu={mu} is not finite: give the mean of the gradients")
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma={sigma} is out of range: use a positive, finite number")
    lower_bounds = {"seed": (seed, 0), "steps": (steps, 1), "chunk": (chunk, 1)}
    lower_bounds["trajectories"] = (trajectories, 2)
    for name, (value, lowest) in lower_bounds.items():
        if not isinstance(value, int) or value < lowest:
            raise ValueError(f"{name}={value} is out of range: use an integer >= {lowest}")
