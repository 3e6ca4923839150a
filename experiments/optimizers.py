"""The optimizers that a spec can name.

Weight decay is decoupled for the adaptive ones and the classical L2 term for SGD, as in the
paper's experiments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from experiments.errors import UserError
from experiments.spec import Optim, Run
from radam_core import RAdam, schedules
from radam_core.algorithm import Hyperparameters, apply_update
from radam_core.delayed_adam import DelayedAdam


class KahanRAdam(RAdam):
    """RAdam on weights of 16 bits, each with a remainder: what rounding cut off (Kahan summation).

    The remainder is of the weight's type, so that the two together hold about twice its digits.
    Each update is computed in single precision, from the sum of the two.

    Parameters
    ----------
    params, **arguments
        As for RAdam; the moments are of `state_dtype` or of the weight's type.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the parameters; a closure computes the gradients anew and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update_one(p, p.grad, group)
        return loss

    def _update_one(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            dtype = group["state_dtype"] or p.dtype
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(p, dtype=dtype)
            state["exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)
            state["remainder"] = torch.zeros_like(p)
        state["step"] += 1
        names = ("exp_avg", "exp_avg_sq", "remainder")
        m, v, remainder = (state[name].float() for name in names)
        whole = p.float() + remainder
        options = ("lr", "betas", "weight_decay", "decoupled_weight_decay", "maximize")
        hyper = Hyperparameters(*(group[name] for name in options))
        apply_update(whole, grad.float(), m, v, self._plan(int(state["step"]), group), hyper)
        p.copy_(whole)
        for name, value in zip(names, (m, v, whole - p.float()), strict=True):
            state[name].copy_(value)


class RoundedMomentsRAdam(RAdam):
    """RAdam whose moments are rounded to bfloat16 after every update.

    The numbers are those of moments stored in bfloat16, which `rounding="stochastic"` does not
    allow; the memory is not.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the parameters; a closure computes the gradients anew and returns the loss."""
        loss = super().step(closure)
        for state in self.state.values():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name].copy_(state[name].bfloat16())
        return loss


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "adam": AdamW,
    "radam": RAdam,
    "radam-kahan": KahanRAdam,
    "radam-rounded-moments": RoundedMomentsRAdam,
    "delayed-adam": DelayedAdam,
}
DTYPES: dict[Any, torch.dtype] = {"float32": torch.float32}
"""The types that an option can name."""
DURATIONS = ("steps", "milestones", "total")
"""The arguments of a schedule that count time: in epochs where the spec says so."""


def build(optim: Optim, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer of a spec over some parameters.

    Raises
    ------
    UserError
        If there is no optimizer of that name, or it refuses the arguments.
    """
    if optim.name not in OPTIMIZERS:
        known = ", ".join(OPTIMIZERS)
        raise UserError(f"there is no optimizer {optim.name!r}; the optimizers are: {known}")
    arguments = {key: DTYPES.get(value, value) for key, value in optim.options}
    try:
        return OPTIMIZERS[optim.name](
            parameters, lr=optim.lr, weight_decay=optim.weight_decay, **arguments
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{optim.name} refuses its arguments: {error}") from error


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
