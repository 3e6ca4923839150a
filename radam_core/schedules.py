"""Learning-rate schedules: warmups and decays as small functions of the update number.

A *factor* maps the update number ``t`` (1 for the first update) to a multiplier of the base
learning rate. A :class:`Schedule` multiplies any number of factors and drives an optimizer:

>>> schedule = Schedule(optimizer, LinearWarmup(4000), CosineDecay(70_000))  # doctest: +SKIP
>>> optimizer.step(); schedule.step()  # once per update  # doctest: +SKIP

Warmups are evaluated at ``t``, so that the first update already moves the weights. Decays are
evaluated at the number of updates already made, ``t - 1``, so that the first update uses the full
learning rate; PyTorch's schedulers count this way too (their ``last_epoch`` is ``t - 1``).

A schedule can be one of several, with PyTorch's own:

>>> warmup = Schedule(optimizer, RectifiedWarmup(0.999))  # doctest: +SKIP
>>> decay = CosineAnnealingLR(optimizer, T_max=70_000)  # doctest: +SKIP
>>> schedule = ChainedScheduler([warmup, decay])  # doctest: +SKIP

Factors are frozen dataclasses: they compare, hash, print and pickle as plain values.
"""

import math
import operator
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from radam_core.rectification import Rectification, natural_threshold, r, rho_inf

__all__ = [
    "CosineDecay",
    "Delayed",
    "Factor",
    "LinearDecay",
    "LinearWarmup",
    "RectifiedWarmup",
    "Schedule",
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
        _check_count("steps", self.steps)

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
            _check_count("every milestone", milestone)
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
        _check_count("total", self.total)
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
        _check_count("total", self.total)
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
        _check_count("delay", self.delay, least=0)

    def _at(self, t: int) -> float:
        return self.factor(max(1, t - self.delay))


class Schedule(LRScheduler):
    """Multiplies each group's learning rate by the product of factors.

    Use it as any PyTorch scheduler: construct it after the optimizer (which sets the learning rate
    of the first update, ``t = 1``), then call :meth:`step` after every ``optimizer.step()``.

    It starts from the rates that it finds when it is constructed. By itself it sets these times the
    product, a function of ``t`` alone. What others multiply onto the rates, it keeps: in a
    ``ChainedScheduler``, in any order, or beside ``ReduceLROnPlateau``, the rates are the product
    of all. Schedulers that set the rates anew at every update and so keep nothing (``LambdaLR``,
    ``OneCycleLR``, ``SequentialLR``) cannot be chained; a Schedule inside of a ``SequentialLR``
    starts where its turn begins, and the function of a ``LambdaLR`` can be a factor:
    ``lambda t: function(t - 1)``.

    ``state_dict`` holds the count and the learning rates; the factors are code, so construct the
    schedule with the same ones. A resumed schedule gives the very bits of an uninterrupted one.
    The rates come from its state, whether the optimizer's is loaded before it, after it or never.

    A group that joins by ``optimizer.add_param_group`` brings its own learning rate as base and is
    scaled from the next :meth:`step` on; call :meth:`apply` to scale it before its first update.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Its groups may have different learning rates, as floats or as tensors (which are then
        changed in place, as capturable optimizers need).
    *factors : Factor
        Functions of ``t``; none leaves the learning rate alone. Where their product is 0, the rate
        is ``2**-100`` times its base: too little to move a weight, and enough to keep what other
        schedulers multiply onto it.
    last_epoch : int
        Number of updates already made, less one, as in every PyTorch scheduler. The base learning
        rates are then the groups' ``initial_lr``; a chain is resumed by its ``state_dict``.

    Raises
    ------
    TypeError
        If ``optimizer`` is not an optimizer or a factor cannot be called.
    ValueError
        If a factor gives a negative or non-finite multiplier.
    RuntimeError
        From :meth:`step`, if the factors hold a learning rate at 0 and another scheduler has set
        it anew.
    """

    def __init__(
        self, optimizer: Optimizer, *factors: Callable[[int], float], last_epoch: int = -1
    ) -> None:
        for factor in factors:
            if not callable(factor):
                raise TypeError(f"{factor!r} is not a factor: use a function of the update number")
        self.factors = factors
        self.bare_lrs: list[float | Tensor] = []  # the rates without these factors
        self._last_lr: list[float | Tensor] = []  # the rates as they were set
        super().__init__(optimizer, last_epoch)
        hook = optimizer.register_load_state_dict_pre_hook(_with_present_rates)
        weakref.finalize(self, hook.remove)

    @property
    def t(self) -> int:
        """Number of the update that the present learning rate is for, from 1."""
        return self.last_epoch + 1

    def multiplier(self, t: int) -> float:
        """Return the product of all factors at update ``t`` (from 1)."""
        product = math.prod((factor(t) for factor in self.factors), start=1.0)
        if not 0 <= product < math.inf:
            raise ValueError(
                f"the factors {self.factors} multiply to {product} at t={t}; "
                "a learning rate needs a finite multiplier of at least 0"
            )
        return product

    def step(self, epoch: int | None = None) -> None:
        """Set the learning rates of the next update.

        Parameters
        ----------
        epoch : int, optional
            Deprecated by PyTorch; use ``last_epoch`` of the constructor.
        """
        self._take_over()
        super().step(epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rates of update :attr:`t`, one per parameter group."""
        scale = self._scale()
        return [bare_lr * scale for bare_lr in self.bare_lrs]

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        """The same, from the base rates: SequentialLR asks for it when our turn begins."""
        self.bare_lrs = list(self.base_lrs)
        return self.get_lr()

    def apply(self) -> None:
        """Set every group's learning rate for update :attr:`t` without counting an update."""
        self._take_over()
        self._set(self.get_lr())
        self._last_lr = self._rates()

    def state_dict(self) -> dict[str, Any]:
        """Return the count and the learning rates; no code, so ``torch.load`` reads it safely."""
        state = super().state_dict()
        del state["factors"]
        return {**state, "rates": self._rates()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another schedule stood, and set the optimizer's learning rates accordingly.

        Parameters
        ----------
        state_dict : dict
            What :meth:`state_dict` returned.
        """
        state = dict(state_dict)
        rates = state.pop("rates")
        super().load_state_dict(state)
        self._set(rates)

    def _scale(self) -> float:
        return max(self.multiplier(self.t), _REST)

    def _take_over(self) -> None:
        """Count in what others did to the rates since this schedule set them."""
        # New lists: the old ones may be part of a state_dict that somebody holds.
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:
            group.setdefault("initial_lr", _unaliased(group["lr"]))
            self.base_lrs = [*self.base_lrs, _unaliased(group["initial_lr"])]
        if self.last_epoch < 0:  # nothing is set yet, or SequentialLR has undone it
            self.bare_lrs = self._rates()
            return
        scale = self._scale()
        before = zip(self._rates(), self._last_lr, self.bare_lrs, strict=False)
        bare = [_bare(rate, last, bare, scale) for rate, last, bare in before]
        self.bare_lrs = bare + self.base_lrs[len(bare) :]

    def _rates(self) -> list[float | Tensor]:
        return [_unaliased(group["lr"]) for group in self.optimizer.param_groups]

    def _set(self, rates: Sequence[float | Tensor]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


_REST = 2.0**-100  # a power of two, so that multiplying by it and dividing loses no bit


def _bare(
    rate: float | Tensor, last: float | Tensor, bare: float | Tensor, scale: float
) -> float | Tensor:
    """A rate without the factors: to the bit as before where nobody has touched it."""
    if scale == _REST and rate > last * 2.0**50:
        raise RuntimeError(
            f"the factors hold the learning rate at 0, and it was set to {float(rate):g}: a "
            "scheduler that sets it anew (LambdaLR, OneCycleLR, SequentialLR) cannot be chained; "
            "give its function to Schedule as a factor, or wait with setting the rate by hand"
        )
    if isinstance(rate, Tensor):  # without a look at its value, which would wait for the device
        return torch.where(rate == last, bare, rate / scale)
    return bare if rate == last else rate / scale


def _unaliased(lr: float | Tensor) -> float | Tensor:
    """A copy that in-place changes of a tensor learning rate do not reach."""
    return lr.clone() if isinstance(lr, Tensor) else lr


def _with_present_rates(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any] | None:
    """A state to load into an optimizer, but for the learning rates: these are the schedule's."""
    groups, saved = optimizer.param_groups, state_dict["param_groups"]
    if len(groups) != len(saved):
        return None  # the optimizer says what is wrong
    names = ("lr", "initial_lr")
    present = [{name: group[name] for name in names if name in group} for group in groups]
    merged = [{**old, **kept} for old, kept in zip(saved, present, strict=True)]
    return {**state_dict, "param_groups": merged}


def _check_count(name: str, value: int, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")


def _check_beta2(beta2: float) -> None:
    if not 0 < beta2 < 1:
        raise ValueError(f"beta2={beta2} is out of range: use a number in (0, 1)")


def _check_end(end: float) -> None:
    if not 0 <= end <= 1:
        raise ValueError(f"end={end} is not a final multiplier: use a number in [0, 1]")
