"""The optimizers that a spec can name.

Weight decay is decoupled for the adaptive ones and the classical L2 term for SGD, as in the
paper's experiments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.optimizer import ParamsT

from experiments.errors import UserError
from experiments.spec import Optim, Run
from radam_core import RAdam, schedules
from radam_core.algorithm import Update, adaptive_update
from radam_core.delayed_adam import DelayedAdam


class RAdamFirst(RAdam):
    """RAdam whose first updates are another optimizer's (Appendix C of the paper).

    Parameters
    ----------
    params
        As for RAdam.
    first
        Pairs of "sgd" or "adam" and a number of updates, in their order: ``(("sgd", 4), ("adam",
        4))`` makes updates 1 to 4 momentum SGD's and updates 5 to 8 Adam's. The moments gather all
        the while, as in RAdam.
    **arguments
        RAdam's own.

    Raises
    ------
    ValueError
        If `first` names another optimizer, or no number of updates.
    """

    def __init__(
        self, params: ParamsT, *, first: Sequence[tuple[str, int]] = (), **arguments: Any
    ) -> None:
        for name, count in first:
            if name not in ("sgd", "adam") or type(count) is not int or count < 1:
                raise ValueError(
                    f"first={first!r} does not say whose the first updates are; use pairs such as "
                    '("adam", 4), of "sgd" or "adam" and a number of updates'
                )
        self.first = [name for name, count in first for _ in range(count)]
        super().__init__(params, **arguments)

    def _plan(self, t: int, group: dict[str, Any]) -> Update:
        if t > len(self.first):
            return super()._plan(t, group)
        beta1, beta2 = group["betas"]
        if self.first[t - 1] == "sgd":
            return Update("sgd", 1 / (1 - beta1**t), 0.0)
        return adaptive_update(t, (beta1, beta2), group["eps"], 1.0, group["eps_placement"])


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "adam": AdamW,
    "radam": RAdam,
    "radam-first": RAdamFirst,
    "delayed-adam": DelayedAdam,
}
CAPTURABLE: dict[str, dict[str, Any]] = {
    "sgd": {"fused": True},
    "adam": {"fused": True, "capturable": True},
    "radam": {"capturable": True},
}
"""Those whose step can be part of a CUDA graph, and the arguments that make it so."""
DURATIONS = ("steps", "milestones", "total")
"""The arguments of a schedule that count time: in epochs where the spec says so."""


def build(optim: Optim, parameters: Iterable[nn.Parameter], capturable: bool = False) -> Optimizer:
    """The optimizer of a spec over some parameters; with a step for CUDA graphs, if asked for.

    Raises
    ------
    UserError
        If there is no optimizer of that name, or it refuses the arguments.
    """
    if optim.name not in OPTIMIZERS:
        known = ", ".join(OPTIMIZERS)
        raise UserError(f"there is no optimizer {optim.name!r}; the optimizers are: {known}")
    parameters, arguments = list(parameters), dict(optim.options)
    lr: float | Tensor = optim.lr
    if capturable:  # a graph reads the rate where it lies, and cannot be told a new number
        lr = torch.tensor(lr, device=parameters[0].device)
        arguments |= CAPTURABLE[optim.name]
    try:
        optimizer = OPTIMIZERS[optim.name](
            parameters, lr=lr, weight_decay=optim.weight_decay, **arguments
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{optim.name} refuses its arguments: {error}") from error
    for group in optimizer.param_groups:
        group["initial_lr"] = optim.lr  # a schedule multiplies numbers, on the host
    return optimizer


def schedule(run: Run, optimizer: Optimizer, updates_per_epoch: int) -> schedules.Schedule:
    """The learning-rate schedule of a run: the product of its factors.

    Raises
    ------
    UserError
        If there is no factor of a name, or it refuses the arguments.
    """
    factors = []
    for spec in run.schedule:
        scale = updates_per_epoch if spec.unit == "epoch" else 1
        arguments = {key: _in_updates(key, value, scale) for key, value in spec.options}
        try:
            factors.append(_factor(spec.name)(**arguments))
        except (TypeError, ValueError) as error:
            raise UserError(f"{spec.name} refuses its arguments: {error}") from error
    return schedules.Schedule(optimizer, *factors)


def _factor(name: str) -> type[schedules.Factor]:
    factor = getattr(schedules, name, None)
    if not (inspect.isclass(factor) and issubclass(factor, schedules.Factor)):
        raise UserError(f"radam_core.schedules has no factor {name!r}")
    return factor


def _in_updates(key: str, value: Any, scale: int) -> Any:
    if key not in DURATIONS:
        return value
    if isinstance(value, tuple):
        return tuple(_in_updates(key, one, scale) for one in value)
    return round(value * scale)
