"""Learning-rate schedules: warmups and any product of factors, as PyTorch schedulers.

>>> schedule = RectifiedWarmup(optimizer)  # doctest: +SKIP
>>> optimizer.step(); schedule.step()  # once per update  # doctest: +SKIP

A warmup goes with a decay, one of :mod:`radam_core.factors` or any scheduler of PyTorch:

>>> schedule = RectifiedWarmup(optimizer, CosineDecay(70_000))  # doctest: +SKIP
>>> decay = CosineAnnealingLR(optimizer, T_max=70_000, eta_min=1e-5)  # doctest: +SKIP
>>> schedule = RectifiedWarmup(optimizer, decay)  # steps the decay, too  # doctest: +SKIP
"""

import math
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from radam_core import factors
from radam_core.rectification import Rectification

__all__ = [
    "LinearWarmup",
    "RectifiedWarmup",
    "Schedule",
    "UntunedExponentialWarmup",
    "UntunedLinearWarmup",
]

Function = Callable[[int], float]


class Schedule(LRScheduler):
    """Multiplies each group's learning rate by the product of factors.

    Use it as any PyTorch scheduler: construct it after the optimizer (which sets the learning rate
    of the first update, ``t = 1``), then call :meth:`step` after every ``optimizer.step()``.

    It starts from the rates that it finds when it is constructed, and sets these times the product.

    A scheduler of PyTorch, of any kind, can be among the factors: it is stepped by this one, and
    reads and sets the rates as they are without the functions. That is the way to combine a warmup
    with whatever sets the rates anew at every update (``LambdaLR``, ``OneCycleLR``, ``CyclicLR``,
    ``CosineAnnealingLR`` with an ``eta_min``, ``SequentialLR``). Those that multiply alone
    (``StepLR``, ``LinearLR``, ``ExponentialLR``, ``CosineAnnealingLR`` up to its ``T_max``), and
    ``ReduceLROnPlateau`` after the warmup, may as well stand beside it, or in one
    ``ChainedScheduler`` with it, in any order: what others multiply onto the rates, it keeps. A
    Schedule of functions inside of a ``SequentialLR`` starts where its turn begins.

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
    *factors : callable or torch.optim.lr_scheduler.LRScheduler
        Functions of ``t``, such as those of :mod:`radam_core.factors`, and schedulers of PyTorch
        for the same optimizer; none leaves the learning rate alone. Where the product of the
        functions is 0, the rate is ``2**-100`` times its base: too little to move a weight but one
        of that order, and enough to keep what other schedulers multiply onto it; but not what a
        second Schedule at rest does, if the rate is a tensor in single precision.
    last_epoch : int
        Number of updates already made, less one, as in every PyTorch scheduler. The base learning
        rates are then the groups' ``initial_lr``; a chain is resumed by its ``state_dict``.

    Raises
    ------
    TypeError
        If ``optimizer`` is not an optimizer, or a factor is neither a function nor a scheduler.
    ValueError
        If a factor gives a negative or non-finite multiplier, or is a scheduler of another
        optimizer.
    RuntimeError
        From :meth:`step`, if the functions hold a learning rate at 0 and somebody has set it anew.
    """

    def __init__(
        self, optimizer: Optimizer, *factors: Function | LRScheduler, last_epoch: int = -1
    ) -> None:
        self.schedulers = [one for one in factors if isinstance(one, LRScheduler)]
        self.factors = tuple(one for one in factors if not isinstance(one, LRScheduler))
        for scheduler in self.schedulers:
            _check_scheduler(scheduler, optimizer)
        for factor in self.factors:
            if not callable(factor):
                raise TypeError(f"{factor!r} is not a factor: use a function of the update number")
        self.bare_lrs: list[float | Tensor] = []  # the rates without the functions
        self._last_lr: list[float | Tensor] = []  # the rates as they were set
        super().__init__(optimizer, last_epoch)
        hook = optimizer.register_load_state_dict_pre_hook(_with_present_rates)
        weakref.finalize(self, hook.remove)

    @property
    def t(self) -> int:
        """Number of the update that the present learning rate is for, from 1."""
        return self.last_epoch + 1

    def multiplier(self, t: int, group: int = 0) -> float:
        """Return the product of all functions.

        Parameters
        ----------
        t : int
            Number of the update, from 1.
        group : int
            Number of the parameter group, which a warmup may depend on.
        """
        functions = [*self.factors, *self._own(self.optimizer.param_groups[group])]
        product = math.prod((function(t) for function in functions), start=1.0)
        if not 0 <= product < math.inf:
            raise ValueError(
                f"the factors {functions} multiply to {product} at t={t}; "
                "a learning rate needs a finite multiplier of at least 0"
            )
        return product

    def _own(self, group: dict[str, Any]) -> list[Function]:
        """The factors that a subclass adds, which may depend on the parameter group."""
        return []

    def step(self, epoch: int | None = None) -> None:
        """Set the learning rates of the next update.

        Parameters
        ----------
        epoch : int, optional
            Deprecated by PyTorch; use ``last_epoch`` of the constructor.
        """
        self._take_over()
        if self.schedulers and self.last_epoch >= 0:
            self._set(self.bare_lrs)
            for scheduler in self.schedulers:
                scheduler.step()
            self.bare_lrs = self._rates()
        super().step(epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rates of update :attr:`t`, one per parameter group."""
        return [bare * scale for bare, scale in zip(self.bare_lrs, self._scales(), strict=True)]

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        """The same, from the base rates: SequentialLR asks for it when our turn begins."""
        if self.schedulers:
            raise RuntimeError(
                "a Schedule with PyTorch's schedulers among its factors cannot begin anew: give "
                "SequentialLR one of functions alone"
            )
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
        states = [scheduler.state_dict() for scheduler in self.schedulers]
        return {**state, "schedulers": states, "rates": self._rates()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another schedule stood, and set the optimizer's learning rates accordingly.

        Parameters
        ----------
        state_dict : dict
            What :meth:`state_dict` returned.

        Raises
        ------
        ValueError
            If it is of another kind of scheduler, or of one with other schedulers in it; nothing
            has then been changed.
        """
        state = dict(state_dict)
        rates, states = state.pop("rates", None), state.pop("schedulers", [])
        if rates is None or len(states) != len(self.schedulers):
            raise ValueError(
                "this state is of another kind of scheduler, or of a Schedule with other "
                "schedulers among its factors: construct the schedule as it was when it was saved"
            )
        for scheduler, one in zip(self.schedulers, states, strict=True):
            scheduler.load_state_dict(one)
        super().load_state_dict(state)
        self._set(rates)

    def _scales(self) -> list[float]:
        """What the bare rates are multiplied by, one per parameter group."""
        groups = range(len(self.optimizer.param_groups))
        return [max(self.multiplier(self.t, group), _REST) for group in groups]

    def _take_over(self) -> None:
        """Count in what others did to the rates since this schedule set them."""
        # New lists: the old ones may be part of a state_dict that somebody holds.
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:
            group.setdefault("initial_lr", _unaliased(group["lr"]))
            self.base_lrs = [*self.base_lrs, _unaliased(group["initial_lr"])]
        if self.last_epoch < 0:  # nothing is set yet, or SequentialLR has undone it
            self.bare_lrs = self._rates()
            return
        before = zip(self._rates(), self._last_lr, self.bare_lrs, self._scales(), strict=False)
        bare = [_bare(*one) for one in before]
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
            f"the factors hold the learning rate at 0, and it was set to {float(rate):g}: give a "
            "scheduler that sets it anew to the Schedule, as one of its factors, and wait with "
            "setting the rate by hand"
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


def _check_scheduler(scheduler: LRScheduler, optimizer: Optimizer) -> None:
    if isinstance(scheduler, ReduceLROnPlateau):
        raise TypeError(
            "ReduceLROnPlateau cannot be a factor, since its step needs a metric: step it beside "
            "the schedule"
        )
    if scheduler.optimizer is not optimizer:
        raise ValueError(f"{type(scheduler).__name__} is the scheduler of another optimizer")


# ---- warmups


class LinearWarmup(Schedule):
    """Linear warmup, ``min(1, t / steps)`` at update ``t``.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Any; see :class:`Schedule`.
    steps : int
        Number of the first update that uses the full learning rate.
    *others : callable or torch.optim.lr_scheduler.LRScheduler
        More factors, a decay for instance; see :class:`Schedule`.
    last_epoch : int
        See :class:`Schedule`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        *others: Function | LRScheduler,
        last_epoch: int = -1,
    ) -> None:
        super().__init__(optimizer, factors.LinearWarmup(steps), *others, last_epoch=last_epoch)


class _AdamWarmup(Schedule):
    """A warmup by the decay rate of each group's second moment."""

    beta2: float | None

    def __init__(
        self,
        optimizer: Optimizer,
        *others: Function | LRScheduler,
        beta2: float | None = None,
        last_epoch: int = -1,
    ) -> None:
        self.beta2 = beta2
        super().__init__(optimizer, *others, last_epoch=last_epoch)

    def _beta2(self, group: dict[str, Any]) -> float:
        if self.beta2 is not None:
            return self.beta2
        if len(group.get("betas", ())) < 2:
            raise ValueError(
                f"{type(self.optimizer).__name__} has no betas: give the warmup its beta2, such as "
                "beta2=0.999"
            )
        return float(group["betas"][1])


class RectifiedWarmup(_AdamWarmup):
    """RAdam's rectification term as a warmup of any optimizer, ``r_t`` at update ``t``.

    RAdam has it built in: there this warns.

    It is 0 (see :class:`Schedule`) while ``r_t`` is undefined. On Adam this gives RAdam without its
    early updates of momentum SGD: the weights rest until ``rho_t`` passes the threshold of the
    rectification. Source: Liu et al. (2020), Algorithm 2.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Any; see :class:`Schedule`.
    *others : callable or torch.optim.lr_scheduler.LRScheduler
        More factors, a decay for instance; see :class:`Schedule`.
    beta2 : float, optional
        Decay rate of the second moment, in (0, 1). None, the default, takes each group's own.
    method : {"first-order", "exact"}
        The variance that ``r_t`` equalises: Eq. 5 ("first-order", the paper's) or Eq. 2 ("exact").
    last_epoch : int
        See :class:`Schedule`.

    Raises
    ------
    ValueError
        If the optimizer has no ``betas`` and ``beta2`` is not given, if ``beta2`` is not in (0, 1)
        or so small that ``r_t`` is never defined, or if ``method`` is unknown.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *others: Function | LRScheduler,
        beta2: float | None = None,
        method: Rectification = "first-order",
        last_epoch: int = -1,
    ) -> None:
        self.method = method
        if isinstance(optimizer, torch.optim.RAdam) or hasattr(optimizer, "rectification_state"):
            warnings.warn(
                f"{type(optimizer).__name__} multiplies its steps by r_t already: with this warmup "
                "r_t counts twice; leave the warmup out, or use Adam",
                stacklevel=2,
            )
        super().__init__(optimizer, *others, beta2=beta2, last_epoch=last_epoch)

    def _own(self, group: dict[str, Any]) -> list[Function]:
        return [factors.RectifiedWarmup(self._beta2(group), self.method)]


class UntunedLinearWarmup(_AdamWarmup):
    """Linear warmup over Adam's own horizon, ``min(1, t (1 - beta2) / 2)`` at update ``t``.

    2000 updates at ``beta2=0.999``: the rule of thumb of Ma and Yarats (2021).

    Parameters
    ----------
    optimizer, *others, beta2, last_epoch
        As for :class:`RectifiedWarmup`.

    Raises
    ------
    ValueError
        If the optimizer has no ``betas`` and ``beta2`` is not given, or ``beta2`` is not in (0, 1).
    """

    def _own(self, group: dict[str, Any]) -> list[Function]:
        return [factors.UntunedLinearWarmup(self._beta2(group))]


class UntunedExponentialWarmup(_AdamWarmup):
    """Exponential warmup over Adam's own horizon, ``1 - exp(-(1 - beta2) t)`` at update ``t``.

    The rule of thumb of Ma and Yarats (2021).

    Parameters
    ----------
    optimizer, *others, beta2, last_epoch
        As for :class:`RectifiedWarmup`.

    Raises
    ------
    ValueError
        If the optimizer has no ``betas`` and ``beta2`` is not given, or ``beta2`` is not in (0, 1).
    """

    def _own(self, group: dict[str, Any]) -> list[Function]:
        return [factors.UntunedExponentialWarmup(self._beta2(group))]
