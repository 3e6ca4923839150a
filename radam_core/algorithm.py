r"""Algorithm 2 of the paper, in plain operations: what every faster path must agree with.

An update has two halves. :func:`plan_update` works out the numbers that are the same for all
elements of a parameter, in Python floats: lines 7 to 14 of Algorithm 2 but for the tensors.
:func:`apply_update` does the rest, element by element: lines 5, 6, 10, 12 and 14.

Source: "On the Variance of the Adaptive Learning Rate and Beyond" (arXiv 1908.03265).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from radam_core.rectification import Rectification, natural_threshold, r, rho

__all__ = [
    "VARIANTS",
    "Conventions",
    "Hyperparameters",
    "Update",
    "apply_update",
    "plan_update",
]

Early = Literal["sgd", "skip"]
EpsPlacement = Literal["raw", "corrected"]


@dataclass(frozen=True)
class Conventions:
    """The choices on which implementations of RAdam disagree.

    Parameters
    ----------
    threshold : float or None
        What ``rho`` must exceed for an update to be adaptive; None is the natural threshold of
        ``rectification``, 4 or 2.
    strict : bool
        True to ask for ``rho > threshold``, False for ``rho >= threshold``.
    early : {"sgd", "skip"}
        An update that is not adaptive moves the weights along the momentum ("sgd"), or leaves
        them as they are, undecayed too, while the moments gather ("skip").
    decoupled_weight_decay : bool
        True shrinks the weights, as AdamW does; False adds the decay to the gradient (L2).
    eps_placement : {"raw", "corrected"}
        Whether ``eps`` is added to the root of the second moment before its bias correction
        ("raw") or after it ("corrected", as in :class:`torch.optim.Adam`).
    rectification : {"first-order", "exact"}
        Whether ``r`` equalises the variance of Eq. 5 or that of Eq. 2.
    """

    threshold: float | None = None
    strict: bool = True
    early: Early = "sgd"
    decoupled_weight_decay: bool = True
    eps_placement: EpsPlacement = "raw"
    rectification: Rectification = "first-order"

    @property
    def least_rho(self) -> float:
        """The threshold in force."""
        natural = natural_threshold(self.rectification)
        return natural if self.threshold is None else self.threshold


VARIANTS: Mapping[str, Conventions] = {
    # Algorithm 2 of arXiv 1908.03265; eps as its Section 2 says.
    "paper": Conventions(),
    # The copies that the authors' image, language-model and translation recipes import.
    "authors": Conventions(threshold=5, strict=False),
    # The file that the authors' README has users install.
    "authors-shipped": Conventions(threshold=5, strict=False, early="skip"),
    # torch.optim.RAdam.
    "torch": Conventions(threshold=5, decoupled_weight_decay=False),
}
"""The conventions of the known implementations, by name."""


class Update(NamedTuple):
    r"""What update ``t`` of a parameter does, in numbers that are the same for all its elements.

    With the moments :math:`m_t` and :math:`v_t` as they are stored, uncorrected, the update is

    - ``"adaptive"``: :math:`\theta \leftarrow \theta - \alpha\,\text{size}\,
      m_t / (\sqrt{v_t} + \text{eps})`,
    - ``"sgd"``: :math:`\theta \leftarrow \theta - \alpha\,\text{size}\, m_t`,
    - ``"skip"``: nothing at all.
    """

    kind: Literal["adaptive", "sgd", "skip"]
    size: float
    eps: float


class Hyperparameters(NamedTuple):
    """The numbers of a parameter group that every element's update needs."""

    lr: Any  # a float; for updates that autograd sees or a CUDA graph records, a tensor too
    betas: tuple[float, float]
    weight_decay: float
    decoupled: bool
    maximize: bool


def plan_update(
    t: int, betas: tuple[float, float], eps: float, conventions: Conventions = VARIANTS["paper"]
) -> Update:
    r"""Work out update ``t``: Algorithm 2, lines 7 to 14, but for the tensors.

    Parameters
    ----------
    t : int
        Number of the update, from 1.
    betas : (float, float)
        Decay rates of the two moments.
    eps : float
        Term added to the root of the second moment.
    conventions : Conventions
        How to decide what Algorithm 2 and its implementations decide differently.

    Returns
    -------
    Update
        Its ``size`` is :math:`r_t \sqrt{1 - \beta_2^t} / (1 - \beta_1^t)` for an adaptive update
        and :math:`1 / (1 - \beta_1^t)` for one of momentum SGD.

    Raises
    ------
    ValueError
        If ``t`` is not an integer of at least 1 or ``betas[1]`` is outside (0, 1).
    """
    beta1, beta2 = betas
    threshold = conventions.least_rho
    rho_t = rho(t, beta2)
    if not (rho_t > threshold if conventions.strict else rho_t >= threshold):
        if conventions.early == "skip":
            return Update("skip", 0.0, 0.0)
        return Update("sgd", 1 / bias_correction(beta1, t), 0.0)
    r_t = r(t, beta2, conventions.rectification)
    return adaptive_update(t, betas, eps, r_t, conventions.eps_placement)


def adaptive_update(
    t: int, betas: tuple[float, float], eps: float, r_t: float, eps_placement: EpsPlacement
) -> Update:
    """Adam's update ``t``, its size multiplied by ``r_t``."""
    beta1, beta2 = betas
    root = math.sqrt(bias_correction(beta2, t))
    # sqrt(v / (1 - beta2^t)) + eps = (sqrt(v) + eps root) / root: one form for both placements
    eps = eps if eps_placement == "raw" else eps * root
    return Update("adaptive", r_t * root / bias_correction(beta1, t), eps)


def bias_correction(beta: float, t: int) -> float:
    """1 - beta^t without cancellation."""
    return -math.expm1(t * math.log(beta)) if beta > 0 else 1.0


def apply_update(
    p: Tensor, g: Tensor, m: Tensor, v: Tensor, update: Update, hyper: Hyperparameters
) -> None:
    """Apply an update to one parameter and its moments, in place.

    Parameters
    ----------
    p, g, m, v : Tensor
        Parameter, gradient, first and second moment, real and of one shape. The gradient is left
        as it is.
    update : Update
        The plan.
    hyper : Hyperparameters
        Those of the parameter's group.
    """
    lr, (beta1, beta2), weight_decay, decoupled, maximize = hyper
    if maximize:
        g = -g
    if weight_decay != 0 and not decoupled:
        g = g.add(p, alpha=weight_decay)
    m.lerp_(g, 1 - beta1)  # m = beta1 m + (1 - beta1) g
    v.mul_(beta2).addcmul_(g, g, value=1 - beta2)  # v = beta2 v + (1 - beta2) g^2
    if update.kind == "skip":
        return
    if weight_decay != 0 and decoupled:
        p.mul_(1 - lr * weight_decay)
    if update.kind == "sgd":
        p.add_(m, alpha=-lr * update.size)
    else:
        denominator = v.sqrt().add_(update.eps)
        if vanishes(update.eps, p.dtype):
            denominator.masked_fill_(denominator == 0, math.inf)
        p.addcdiv_(m, denominator, value=-lr * update.size)


def vanishes(eps: float, dtype: torch.dtype) -> bool:
    """Tell whether ``eps`` may be lost in rounding, so that a zero moment leaves a zero divisor.

    Such an element has seen zero gradients alone, or ones whose squares underflow: a divisor of
    infinity keeps it where it is, instead of the NaN of 0/0.
    """
    return eps < torch.finfo(dtype).tiny
