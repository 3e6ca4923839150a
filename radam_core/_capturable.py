"""The update with its plan worked out on the device, for CUDA graphs and `torch.compile`.

Nothing here waits for the device or branches on a number that it holds: ``t`` is a tensor, and both
an adaptive update and an early one are worked out, of which one is taken.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from radam_core._paths import Batch
from radam_core.algorithm import Conventions, Hyperparameters, vanishes
from radam_core.rectification import STIRLING


class DeviceUpdate(NamedTuple):
    """What `algorithm.Update` holds, for each of n parameters: booleans and double precision [n].

    ``eps`` is that of an adaptive update; one number where it is the same for all.
    """

    adaptive: Tensor
    size: Tensor
    eps: float | Tensor


def plan_on_device(
    t: Tensor, betas: tuple[float, float], eps: float, conventions: Conventions
) -> DeviceUpdate:
    """Work out updates ``t`` [n], as `algorithm.plan_update` does on the host.

    In double precision: ``rho`` is a small difference of large numbers. In single precision, all
    that MPS has, ``r`` loses digits as beta2 nears 1, and an update close to the threshold may be
    taken for one on its other side.
    """
    beta1, beta2 = betas
    rho_inf = (1 + beta2) / (1 - beta2)
    rho = rho_inf - 2 * t / torch.expm1(-t * math.log(beta2))
    threshold = conventions.least_rho
    adaptive = rho > threshold if conventions.strict else rho >= threshold

    unbiased = 1 - beta1**t  # of the first moment
    root = torch.sqrt(-torch.expm1(t * math.log(beta2)))
    variance = exact_variance if conventions.rectification == "exact" else first_order_variance
    # Where the update is not adaptive, the variance at a length where it is finite: not used.
    length = torch.where(adaptive, rho, rho_inf)
    r = torch.sqrt(variance(torch.full_like(t, rho_inf)) / variance(length)).clamp(max=1)
    return DeviceUpdate(
        adaptive=adaptive,
        size=torch.where(adaptive, r * root, 1.0) / unbiased,
        eps=eps if conventions.eps_placement == "raw" else eps * root,
    )


def first_order_variance(rho: Tensor) -> Tensor:
    """Eq. 5, for rho > 4."""
    return rho / (2 * (rho - 2) * (rho - 4))


def exact_variance(rho: Tensor) -> Tensor:
    """Eq. 2 as `rectification.exact_variance` has it, for rho > 2."""
    z = rho / 2 - 1
    by_gamma = torch.log(z) + 2 * (torch.lgamma(z + 0.5) - torch.lgamma(z + 1))
    # The difference of large log-gammas cancels: from z = 20 on Stirling's series has all digits.
    w = 1 / (z * z)
    by_series = torch.zeros_like(z)
    for coefficient in STIRLING:
        by_series = coefficient + w * by_series
    by_series /= z
    return rho / (rho - 2) * -torch.expm1(torch.where(z < 20, by_gamma, by_series))


def apply_capturable(
    batch: Batch,
    eps: float,
    conventions: Conventions,
    hyper: Hyperparameters,
) -> None:
    """Apply to each tensor the update that its step, already counted, asks for.

    Parameters
    ----------
    batch : Batch
        Real tensors of one type, on one device.
    eps : float
        The group's.
    conventions, hyper
        The group's; ``lr`` may be a tensor, of one element.
    """
    lr, (beta1, beta2), weight_decay, decoupled, maximize = hyper
    p, g, m, v = batch[:4]
    double = torch.float32 if p[0].device.type == "mps" else torch.float64
    if isinstance(lr, Tensor):
        lr = lr.reshape(()).to(p[0].device, double)
    t = torch.stack(batch.steps).to(p[0].device, double)
    update = plan_on_device(t, hyper.betas, eps, conventions)
    if maximize:
        g = list(torch._foreach_neg(g))
    if weight_decay != 0 and not decoupled:
        g = list(torch._foreach_add(g, p, alpha=weight_decay))
    torch._foreach_lerp_(m, g, 1 - beta1)
    torch._foreach_mul_(v, beta2)
    torch._foreach_addcmul_(v, g, g, 1 - beta2)
    skip = conventions.early == "skip"
    if weight_decay != 0 and decoupled:
        lost = lr * weight_decay
        kept = 1 - (update.adaptive.to(t.dtype) * lost if skip else lost)
        torch._foreach_mul_(p, _numbers(kept, p))

    denominators = list(torch._foreach_sqrt(v))
    torch._foreach_add_(denominators, _numbers(update.eps, p))
    if vanishes(eps, p[0].dtype):
        denominators = [torch.where(x == 0, math.inf, x) for x in denominators]
    adaptive = torch._foreach_div(m, denominators)
    early = [0.0] * len(m) if skip else m
    steps = list(map(torch.where, update.adaptive.unbind(), adaptive, early))
    torch._foreach_mul_(steps, _numbers(-lr * update.size, p))
    torch._foreach_add_(p, steps)


def _numbers(numbers: float | Tensor, like: list[Tensor]) -> Any:
    """One number for all tensors, or one for each.

    In their type or, where that has 16 bits, in single precision. One for each, and only that,
    takes a GPU a kernel for each.
    """
    if not isinstance(numbers, Tensor):
        return numbers
    numbers = numbers.to(torch.promote_types(like[0].dtype, torch.float32))
    return list(numbers.unbind()) if numbers.dim() else numbers
