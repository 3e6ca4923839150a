"""RAdams that the studies compare with RAdam, and that nobody should train with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from radam_core import RAdam
from radam_core.algorithm import Hyperparameters, Update, adaptive_update, apply_update
from radam_core.rectification import rho_inf


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


class _ByParameter(RAdam):
    """A RAdam that updates each parameter by itself, in a way of its own."""

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
        raise NotImplementedError


class KahanRAdam(_ByParameter):
    """RAdam on weights of 16 bits, each with a remainder: what rounding cut off (Kahan summation).

    The remainder is of the weight's type, so that the two together hold about twice its digits.
    Each update is computed in single precision, from the sum of the two.

    Parameters
    ----------
    params, **arguments
        As for RAdam; the moments are of `state_dtype` or of the weight's type.
    """

    def _update_one(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            dtype = torch.float32 if group["state_dtype"] else p.dtype
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


class CountedRAdam(_ByParameter):
    """RAdam that rectifies each number of a parameter by how often that one had a gradient.

    RAdam's rho counts updates. A rare word's embedding has a gradient in few of them, and in its
    second moment are as many squares: with the weights w that these have there, as good as
    ``sum(w)**2 / sum(w**2)`` equally weighted ones (Kish's effective sample size). As many has the
    second moment of a number with a gradient in each of its first t updates, for some t, and rho
    of that t takes the place of RAdam's, one for each number of the parameter; up to 4 the step is
    momentum SGD's, as in Algorithm 2. A gradient in every update makes the step RAdam's.

    Parameters
    ----------
    params, **arguments
        As for RAdam, of its default conventions; weights are in single precision.
    """

    def _update_one(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        names = ("exp_avg", "exp_avg_sq", "weights", "squared_weights")
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros(())
            state |= {name: torch.zeros_like(p) for name in names}
        state["step"] += 1
        t, (beta1, beta2) = int(state["step"]), group["betas"]
        m, v, weights, squared = (state[name] for name in names)
        seen = (grad != 0).to(p.dtype)
        m.lerp_(grad, 1 - beta1)
        v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        weights.mul_(beta2).add_(seen)
        squared.mul_(beta2**2).add_(seen)
        rho = _rho_of_size(weights.square() / squared.clamp(min=torch.finfo(p.dtype).tiny), beta2)
        limit = rho_inf(beta2)
        # Alg. 2, line 11
        squared_r = (rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)
        r = squared_r.clamp(min=0).sqrt()
        adaptive = r * math.sqrt(1 - beta2**t) / (v.sqrt() + group["eps"])
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(m * torch.where(rho > 4, adaptive, 1.0), alpha=group["lr"] / (1 - beta1**t))


def _rho_of_size(size: Tensor, beta2: float) -> Tensor:
    """Rho (Alg. 2, line 8) after the updates whose squares, all there, have an effective size.

    After t of them it is ``rho_inf * (1 - x) / (1 + x)`` for ``x = beta2**t``, which is solved
    for x; where there is none, rho is 1, as after one.
    """
    limit = rho_inf(beta2)
    share = (size.clamp(min=1.0) / limit).clamp(max=1 - torch.finfo(size.dtype).eps)
    t = torch.log1p(-2 * share / (1 + share)) / math.log(beta2)
    return limit - t * (1 - share) / share  # 2 x / (1 - x) = (1 - share) / share
