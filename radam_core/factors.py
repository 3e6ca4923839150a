"""Factors of the learning rate: warmups and decays as small functions of the update number.

A *factor* maps the update number ``t`` (1 for the first update) to a multiplier of the base
learning rate; :class:`radam_core.schedules.Schedule` drives an optimizer by a product of them.

Warmups are evaluated at ``t``, so that the first update already moves the weights. Decays are
evaluated at the number of updates already made, ``t - 1``, so that the first update uses the full
learning rate; PyTorch's schedulers count this way too (their ``last_epoch`` is ``t - 1``).

Factors are frozen dataclasses: they compare, hash, print and pickle as plain values.
"""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from radam_core._checks import check_count
from radam_core.rectification import Rectification, natural_threshold, r, rho_inf

__all__ = [
    "CosineDecay",
    "Delayed",
    "Factor",
    "LinearDecay",
    "LinearWarmup",
    "RectifiedWarmup",
    "StepDecay",
    "UntunedExponentialWarmup",
    "UntunedLinearWarmup",
]


class Factor(ABC):
    """A multiplier of the base learning rate, as a function of the update number.

    Subclasses are frozen dataclasses that implement ``_at(t)``.
    """

    def __call__(self, t: int) -> float:
        """Return the multiplier of update ``t``.

        Parameters
        ----------
        t : int
            Update number, 1 for the first update.

        Raises
        ------
        ValueError
            If ``t`` is less than 1.
        """
        t = operator.index(t)
        if t < 1:
            raise ValueError(f"t={t} is not an update number: updates are counted from 1")
        return self._at(t)

    @abstractmethod
    def _at(self, t: int) -> float:
        """Return the multiplier of update ``t``, which is known to be at least 1."""


@dataclass(frozen=True)
class LinearWarmup(Factor):
    """Linear warmup, ``min(1, t / steps)``.

    Parameters
    ----------
    steps : int
        Number of the first update that uses the full learning rate.

    Raises
    ------
    ValueError
        If ``steps`` is not a positive integer.
    """

    steps: int

    def __post_init__(self) -> None:
        check_count("steps", self.steps)

    def _at(self, t: int) -> float:
        return min(1.0, t / self.steps)


@dataclass(frozen=True)
class UntunedLinearWarmup(Factor):
    """Linear warmup over Adam's own horizon, ``min(1, t (1 - beta2) / 2)``.

    The rule of thumb of Ma and Yarats (2021): 2000 updates at ``beta2=0.999``.

    Parameters
    ----------
    beta2 : float
        Decay rate of Adam's second moment, in (0, 1).

    Raises
    ------
    ValueError
        If ``beta2`` is not in (0, 1).
    """

    beta2: float

    def __post_init__(self) -> None:
        _check_beta2(self.beta2)

    def _at(self, t: int) -> float:
        return min(1.0, t * (1 - self.beta2) / 2)


@dataclass(frozen=True)
class UntunedExponentialWarmup(Factor):
    """Exponential warmup over Adam's own horizon, ``1 - exp(-(1 - beta2) t)``.

    The rule of thumb of Ma and Yarats (2021).

    Parameters
    ----------
    beta2 : float
        Decay rate of Adam's second moment, in (0, 1).

    Raises
    ------
    ValueError
        If ``beta2`` is not in (0, 1).
    """

    beta2: float

    def __post_init__(self) -> None:
        _check_beta2(self.beta2)

    def _at(self, t: int) -> float:
        return -math.expm1(-(1 - self.beta2) * t)  # expm1 keeps the digits of small values


@dataclass(frozen=True)
class RectifiedWarmup(Factor):
    """RAdam's rectification term used as a warmup, ``r_t``, and 0 while it is undefined.

    On Adam this gives RAdam without its early momentum-SGD updates: the weights rest until
    ``rho_t`` passes the threshold of the rectification (Liu et al. 2020, Algorithm 2).

    Parameters
    ----------
    beta2 : float
        Decay rate of Adam's second moment, in (0, 1).
    method : {"first-order", "exact"}
        The variance that ``r_t`` equalises: Eq. 5 ("first-order", the paper's) or Eq. 2 ("exact").

    Raises
    ------
    ValueError
        If ``beta2`` is not in (0, 1) or so small that ``r_t`` is never defined, or if ``method``
        is unknown.
    """

    beta2: float
    method: Rectification = "first-order"

    def __post_init__(self) -> None:
        _check_beta2(self.beta2)
        threshold = natural_threshold(self.method)
        if rho_inf(self.beta2) <= threshold:
            raise ValueError(
                f"beta2={self.beta2} gives rho_inf={rho_inf(self.beta2):g} <= threshold "
                f"{threshold:g}: the warmup would never start; use a larger beta2"
            )

    def _at(self, t: int) -> float:
        return r(t, self.beta2, method=self.method)


@dataclass(frozen=True)
class StepDecay(Factor):
    """Drops by ``gamma`` at milestones, ``gamma ** (number of milestones <= t - 1)``.

    Equal to :class:`torch.optim.lr_scheduler.MultiStepLR` stepped once per update.

    Parameters
    ----------
    milestones : sequence of int
        Numbers of updates after which the learning rate drops, in any order; a repeated milestone
        drops it twice. For drops after given epochs, multiply by the updates per epoch.
    gamma : float
        Factor of one drop, in (0, 1].

    Raises
    ------
    ValueError
        If a milestone is not a positive integer or ``gamma`` is not in (0, 1].
    """

    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))  # hashable, immutable
        for milestone in self.milestones:
            check_count("every milestone", milestone)
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma={self.gamma} is not a decay: use a number in (0, 1]")

    def _at(self, t: int) -> float:
        passed = sum(milestone <= t - 1 for milestone in self.milestones)
        return float(self.gamma**passed)


@dataclass(frozen=True)
class LinearDecay(Factor):
    """Linear decay, ``1 + (end - 1) min(1, (t - 1) / total)``.

    Equal to :class:`torch.optim.lr_scheduler.LinearLR` with ``start_factor=1``.

    Parameters
    ----------
    total : int
        Number of updates after which the multiplier is ``end``, where it stays.
    end : float
        Final multiplier, in [0, 1].

    Raises
    ------
    ValueError
        If ``total`` is not a positive integer or ``end`` is not in [0, 1].
    """

    total: int
    end: float = 0.0

    def __post_init__(self) -> None:
        check_count("total", self.total)
        _check_end(self.end)

    def _at(self, t: int) -> float:
        progress = min(1.0, (t - 1) / self.total)
        return (1 - progress) + self.end * progress


@dataclass(frozen=True)
class CosineDecay(Factor):
    """Half a cosine, ``end + (1 - end) (1 + cos(pi min(1, (t - 1) / total))) / 2``.

    Equal to :class:`torch.optim.lr_scheduler.CosineAnnealingLR` up to ``total``; afterwards it
    stays at ``end`` where PyTorch's rises again.

    Parameters
    ----------
    total : int
        Number of updates after which the multiplier is ``end``, where it stays.
    end : float
        Final multiplier, in [0, 1].

    Raises
    ------
    ValueError
        If ``total`` is not a positive integer or ``end`` is not in [0, 1].
    """

    total: int
    end: float = 0.0

    def __post_init__(self) -> None:
        check_count("total", self.total)
        _check_end(self.end)

    def _at(self, t: int) -> float:
        progress = min(1.0, (t - 1) / self.total)
        fallen = (1 - math.cos(math.pi * progress)) / 2  # in [0, 1]
        return (1 - fallen) + self.end * fallen


@dataclass(frozen=True)
class Delayed(Factor):
    """Another factor that starts counting later, ``factor(max(1, t - delay))``.

    Two uses: a decay that begins where a warmup ends,
    ``LinearWarmup(4000)`` with ``Delayed(LinearDecay(66_000), 4000)``, and any schedule for
    :class:`radam_core.delayed_adam.DelayedAdam`, which counts its updates after the delay.

    Parameters
    ----------
    factor : Factor
        Held at its first value for ``delay`` updates, then run from its ``t = 1``.
    delay : int
        Number of updates, at least 0.

    Raises
    ------
    ValueError
        If ``delay`` is not an integer of at least 0.
    """

    factor: Callable[[int], float]
    delay: int

    def __post_init__(self) -> None:
        check_count("delay", self.delay, least=0)

    def _at(self, t: int) -> float:
        return self.factor(max(1, t - self.delay))


def _check_beta2(beta2: float) -> None:
    if not 0 < beta2 < 1:
        raise ValueError(f"beta2={beta2} is out of range: use a number in (0, 1)")


def _check_end(end: float) -> None:
    if not 0 <= end <= 1:
        raise ValueError(f"end={end} is not a final multiplier: use a number in [0, 1]")
