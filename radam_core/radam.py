"""RAdam, with the conventions in which its implementations differ under one roof."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from numbers import Real
from typing import Any, Literal, NamedTuple, get_args, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from radam_core.rectification import Rectification, natural_threshold, r, rho, rho_inf

__all__ = ["VARIANTS", "Conventions", "RAdam", "Update", "plan_update"]

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

_CONVENTIONS = tuple(field.name for field in fields(Conventions))
_CHOICES: dict[str, tuple[bool | str | None, ...]] = {
    "decoupled_weight_decay": (True, False),
    "foreach": (None, True, False),
    "maximize": (True, False),
    "capturable": (True, False),
    "differentiable": (True, False),
    "strict": (True, False),
    "early": get_args(Early),
    "eps_placement": get_args(EpsPlacement),
}


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
    threshold = _threshold(conventions)
    rho_t = rho(t, beta2)
    if not (rho_t > threshold if conventions.strict else rho_t >= threshold):
        if conventions.early == "skip":
            return Update("skip", 0.0, 0.0)
        return Update("sgd", 1 / _bias_correction(beta1, t), 0.0)
    r_t = r(t, beta2, conventions.rectification)
    root = math.sqrt(_bias_correction(beta2, t))
    # sqrt(v / (1 - beta2^t)) + eps = (sqrt(v) + eps root) / root: one form for both placements
    eps = eps if conventions.eps_placement == "raw" else eps * root
    return Update("adaptive", r_t * root / _bias_correction(beta1, t), eps)


class RAdam(Optimizer):
    r"""Rectified Adam (Liu et al. 2020, Algorithm 2), in a drop-in for ``torch.optim.RAdam``.

    .. math::

        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
        v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \\
        \rho_t &= \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t), \qquad
        \rho_\infty = 2 / (1 - \beta_2) - 1, \\
        \theta_t &= (1 - \alpha \lambda)\, \theta_{t-1} - \alpha \frac{m_t}{1 - \beta_1^t}
        \begin{cases}
            r_t \dfrac{\sqrt{1 - \beta_2^t}}{\sqrt{v_t} + \epsilon} & \text{if } \rho_t > 4, \\
            1 & \text{otherwise,}
        \end{cases}

    with :math:`r_t` from :func:`radam_core.rectification.r`. Implementations of RAdam differ in
    where they begin to rectify, in what they do before, in the kind of weight decay and in the
    place of :math:`\epsilon`. ``variant`` selects one of them, a row of :data:`VARIANTS`; each
    choice is a keyword, too, and then takes precedence over the variant.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or parameter groups, as for every PyTorch optimizer. A group
        may set any option below for itself, ``variant`` included.
    lr : float or Tensor
        Learning rate :math:`\alpha`, at least 0. A tensor holds one element.
    betas : (float, float)
        Decay rates of the two moments, in [0, 1) and (0, 1).
    eps : float
        Term :math:`\epsilon`, at least 0. Where an element's gradients have all been zero, so is
        its step, also with ``eps=0``.
    weight_decay : float
        Weight decay :math:`\lambda`, at least 0.
    decoupled_weight_decay : bool, optional
        See :class:`Conventions`. None, the default, here and below leaves it to ``variant``.
    foreach : bool, optional
        Update all tensors of a kind together, in fewer and larger steps, which takes memory for
        one more copy of the parameters. None does so when all parameters are on a GPU.
    maximize : bool
        Ascend the objective.
    capturable : bool
        Must be False: updates cannot be recorded in a CUDA graph.
    differentiable : bool
        Let autograd see the update, for gradients through training. A tensor ``lr`` then keeps
        its graph. An element whose gradients were all zero has no derivative (NaN).
    variant : {"paper", "authors", "authors-shipped", "torch"}
        The implementation whose conventions to follow.
    rectification : {"first-order", "exact"}, optional
        The variance that :math:`r_t` equalises: the paper's approximation (Eq. 5) or the exact
        one (Eq. 2). The latter is finite from :math:`\rho > 2` on, so that with the paper's
        conventions the adaptive steps begin at the third update instead of the fifth.
    threshold : float, optional
        See :class:`Conventions`; at least 4, or 2 with the exact rectification.
    strict : bool, optional
        See :class:`Conventions`.
    early : {"sgd", "skip"}, optional
        See :class:`Conventions`.
    eps_placement : {"raw", "corrected"}, optional
        See :class:`Conventions`.

    Raises
    ------
    ValueError
        If an option is out of range or unknown, or if :math:`\rho_\infty` does not exceed the
        threshold (``beta2 <= 0.6`` for the paper's): Algorithm 2 allows that and is momentum SGD
        for ever, which nobody asks for by asking for RAdam.
    RuntimeError
        From :meth:`step`, if a gradient is sparse; nothing has then been changed.

    Notes
    -----
    A parameter's state is ``step`` (a float tensor, :math:`t`), ``exp_avg`` and ``exp_avg_sq``
    (:math:`m` and :math:`v`, with the shape, type and device of the parameter), as in
    ``torch.optim.RAdam`` and ``torch.optim.Adam``, whose state dicts this class can load: options
    that they lack stay as they are here, those that they have are taken over. Each parameter
    counts its own updates. A complex parameter is treated as two real ones.

    The moments have the parameter's type, and 16 bits are few for them. In bfloat16 a factor of
    0.999 rounds to 1, so that the second moment never fades; in float16 the squares of gradients
    below about 1e-3 vanish, and elements where the second moment is zero do not move. Rather keep
    parameters in float32 and compute in 16 bits (``torch.autocast``).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool | None = None,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        variant: str = "paper",
        rectification: Rectification | None = None,
        threshold: float | None = None,
        strict: bool | None = None,
        early: Early | None = None,
        eps_placement: EpsPlacement | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "capturable": capturable,
            "differentiable": differentiable,
            "variant": variant,
            "rectification": rectification,
            "threshold": threshold,
            "strict": strict,
            "early": early,
            "eps_placement": eps_placement,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, whose missing options are the optimizer's.

        Parameters
        ----------
        param_group : dict
            ``params`` and any of the options of the constructor.

        Raises
        ------
        ValueError
            If an option is out of range or unknown.
        """
        super().add_param_group(_resolved({**self.defaults, **param_group}))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a pickled optimizer or, through ``load_state_dict``, a saved state."""
        # load_state_dict comes here with groups in the place of the ones that this optimizer has;
        # what another optimizer did not save stays as it is.
        present = self.__dict__.get("param_groups", [{} for _ in state["param_groups"]])
        groups = [
            _resolved({**old, **saved})
            for old, saved in zip(present, state["param_groups"], strict=True)
        ]
        super().__setstate__({**state, "param_groups": groups})
        for p_state in self.state.values():
            if "step" in p_state and not torch.is_tensor(p_state["step"]):
                p_state["step"] = torch.tensor(float(p_state["step"]))

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the parameters.

        Parameters
        ----------
        closure : callable, optional
            Computes the gradients anew and returns the loss.

        Returns
        -------
        float or None
            What ``closure`` returned.

        Raises
        ------
        RuntimeError
            If a gradient is sparse; nothing has then been changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        with_gradient = [[p for p in g["params"] if p.grad is not None] for g in self.param_groups]
        if any(p.grad.is_sparse for params in with_gradient for p in params):
            raise RuntimeError(
                "RAdam needs dense gradients: make them so (sparse=False in an embedding) or use "
                "torch.optim.SparseAdam"
            )
        for group, params in zip(self.param_groups, with_gradient, strict=True):
            with torch.set_grad_enabled(group["differentiable"]):
                self._update_group(group, params)
        return loss

    def _update_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Plan the update of each parameter, and apply it to all that share a plan together."""
        batches: defaultdict[tuple[Any, ...], _Batch] = defaultdict(_Batch)
        for p in params:
            state = self.state[p]
            if not state:
                # Single precision, as torch has it: exact up to t = 2^24, where r_t has long
                # arrived at 1 for every beta2 in use.
                state["step"] = torch.tensor(0.0, dtype=torch.float32)
                state["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            state["step"] += 1
            batches[int(state["step"].item()), p.device, p.dtype].append(
                p, p.grad, state["exp_avg"], state["exp_avg_sq"]
            )

        lr = group["lr"]
        if isinstance(lr, Tensor):
            lr = lr.reshape(()) if group["differentiable"] else lr.item()
        apply = _implementation(group, params)
        for (t, _, _), batch in batches.items():
            apply(
                batch,
                self._plan(t, group),
                lr=lr,
                betas=group["betas"],
                weight_decay=group["weight_decay"],
                decoupled=group["decoupled_weight_decay"],
                maximize=group["maximize"],
            )

    def _plan(self, t: int, group: Mapping[str, Any]) -> Update:
        """What update ``t`` does to the parameters of a group: what a subclass may change."""
        conventions = Conventions(**{name: group[name] for name in _CONVENTIONS})
        return plan_update(t, group["betas"], group["eps"], conventions)


class _Batch:
    """Tensors that share an update; a complex one is seen as pairs of real numbers."""

    def __init__(self) -> None:
        self.params: list[Tensor] = []
        self.grads: list[Tensor] = []
        self.exp_avgs: list[Tensor] = []
        self.exp_avg_sqs: list[Tensor] = []

    def append(self, *tensors: Any) -> None:
        lists = (self.params, self.grads, self.exp_avgs, self.exp_avg_sqs)
        for tensor, destination in zip(tensors, lists, strict=True):
            destination.append(torch.view_as_real(tensor) if tensor.is_complex() else tensor)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        return zip(self.params, self.grads, self.exp_avgs, self.exp_avg_sqs, strict=True)


def _implementation(group: Mapping[str, Any], params: list[Tensor]) -> Callable[..., None]:
    """Choose among the functions below, which differ in how they do the same arithmetic."""
    if group["differentiable"]:
        return _apply_differentiable
    foreach = group["foreach"]
    if foreach is None:
        foreach = all(p.device.type == "cuda" for p in params)
    return _apply_foreach if foreach else _apply_each


def _apply_each(
    batch: _Batch,
    update: Update,
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    """Apply an update one tensor after the other, in place."""
    beta1, beta2 = betas
    for p, g, m, v in batch:
        if maximize:
            g = -g
        if weight_decay != 0 and not decoupled:
            g = g.add(p, alpha=weight_decay)
        m.lerp_(g, 1 - beta1)  # m = beta1 m + (1 - beta1) g
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)  # v = beta2 v + (1 - beta2) g^2
        if update.kind == "skip":
            continue
        if weight_decay != 0 and decoupled:
            p.mul_(1 - lr * weight_decay)
        if update.kind == "sgd":
            p.add_(m, alpha=-lr * update.size)
        else:
            denominator = v.sqrt().add_(update.eps)
            if _vanishes(update.eps, p):
                denominator.masked_fill_(denominator == 0, math.inf)
            p.addcdiv_(m, denominator, value=-lr * update.size)


def _apply_foreach(
    batch: _Batch,
    update: Update,
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    """Apply an update to all tensors at once: the operations of `_apply_each`, in their order."""
    beta1, beta2 = betas
    p, g, m, v = batch.params, batch.grads, batch.exp_avgs, batch.exp_avg_sqs
    if maximize:
        g = list(torch._foreach_neg(g))
    if weight_decay != 0 and not decoupled:
        g = list(torch._foreach_add(g, p, alpha=weight_decay))
    torch._foreach_lerp_(m, g, 1 - beta1)
    torch._foreach_mul_(v, beta2)
    torch._foreach_addcmul_(v, g, g, 1 - beta2)
    if update.kind == "skip":
        return
    if weight_decay != 0 and decoupled:
        torch._foreach_mul_(p, 1 - lr * weight_decay)
    if update.kind == "sgd":
        torch._foreach_add_(p, m, alpha=-lr * update.size)
    else:
        denominators = list(torch._foreach_sqrt(v))
        torch._foreach_add_(denominators, update.eps)
        if _vanishes(update.eps, p[0]):
            for denominator in denominators:
                denominator.masked_fill_(denominator == 0, math.inf)
        torch._foreach_addcdiv_(p, m, denominators, -lr * update.size)


def _apply_differentiable(
    batch: _Batch,
    update: Update,
    *,
    lr: float | Tensor,
    betas: tuple[float, float],
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    """Apply an update such that autograd can go back through it, and through a tensor ``lr``.

    The moments change in place at the next update, so no operation may save one of them for its
    derivative: products with numbers save nothing, and quotients are of fresh tensors.
    """
    beta1, beta2 = betas
    for p, g, m, v in batch:
        if maximize:
            g = -g
        if weight_decay != 0 and not decoupled:
            g = g + weight_decay * p
        m.mul_(beta1).add_((1 - beta1) * g)
        v.mul_(beta2).add_((1 - beta2) * g * g)
        if update.kind == "skip":
            continue
        step = update.size * m
        if update.kind == "adaptive":
            denominator = v.sqrt() + update.eps
            if _vanishes(update.eps, p):
                denominator = denominator.masked_fill(denominator == 0, math.inf)
            step = step / denominator
        if weight_decay != 0 and decoupled:
            step = step + weight_decay * p
        p.sub_(lr * step)


def _vanishes(eps: float, like: Tensor) -> bool:
    """Tell whether ``eps`` may be lost in rounding, so that a zero moment leaves a zero divisor.

    Such an element has seen zero gradients alone, or ones whose squares underflow: a divisor of
    infinity keeps it where it is, instead of the NaN of 0/0.
    """
    return eps < torch.finfo(like.dtype).tiny


def _threshold(conventions: Conventions) -> float:
    natural = natural_threshold(conventions.rectification)
    return natural if conventions.threshold is None else conventions.threshold


def _bias_correction(beta: float, t: int) -> float:
    """1 - beta^t without cancellation."""
    return -math.expm1(t * math.log(beta)) if beta > 0 else 1.0


def _resolved(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check a group's options and fill those that its variant decides."""
    variant = options["variant"]
    if variant not in VARIANTS:
        known = ", ".join(map(repr, VARIANTS))
        raise ValueError(f"unknown variant {variant!r}: use one of {known}")
    chosen = {name: options[name] for name in _CONVENTIONS if options[name] is not None}
    conventions = replace(VARIANTS[variant], **chosen)
    conventions = replace(conventions, threshold=_threshold(conventions))
    group = {**options, **asdict(conventions)}
    _check_numbers(group)
    _check_choices(group)
    _check_rectifies(group["betas"][1], conventions)
    return group


def _check_numbers(group: Mapping[str, Any]) -> None:
    lr = group["lr"]
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError(f"lr has {lr.numel()} elements: give a number or a 1-element tensor")
        lr = lr.item()
    for name, value in (("lr", lr), ("eps", group["eps"]), ("weight_decay", group["weight_decay"])):
        if not _is_between(value, 0, math.inf):
            raise ValueError(f"{name}={value!r} is out of range: use a finite number of at least 0")
    betas = group["betas"]
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise ValueError(f"betas={betas!r} is not a pair: use two numbers such as (0.9, 0.999)")
    if not _is_between(betas[0], 0, 1):
        raise ValueError(f"beta1={betas[0]!r} is outside [0, 1): use a number such as 0.9")
    if not _is_between(betas[1], 0, 1) or betas[1] == 0:
        raise ValueError(f"beta2={betas[1]!r} is outside (0, 1): use a number such as 0.999")


def _is_between(value: Any, low: float, high: float) -> bool:
    return isinstance(value, Real) and low <= float(value) < high


def _check_choices(group: Mapping[str, Any]) -> None:
    for name, choices in _CHOICES.items():
        if group[name] not in choices:
            raise ValueError(f"{name}={group[name]!r} is unknown: use one of {choices}")
    if group["capturable"]:
        raise ValueError(
            "capturable=True is not available: this RAdam decides on the CPU which kind of update "
            "to make; use capturable=False, outside of CUDA graphs"
        )
    if group["differentiable"] and group["foreach"]:
        raise ValueError(
            "foreach=True and differentiable=True exclude each other: grouped operations have no "
            "derivative; drop one of them"
        )


def _check_rectifies(beta2: float, conventions: Conventions) -> None:
    natural, threshold = natural_threshold(conventions.rectification), _threshold(conventions)
    if not _is_between(threshold, natural, math.inf):
        raise ValueError(
            f"threshold={threshold!r} is out of range: the {conventions.rectification} variance is "
            f"infinite for rho <= {natural:g}; use a finite number of at least {natural:g}"
        )
    if rho_inf(beta2) <= threshold:
        raise ValueError(
            f"beta2={beta2:g} gives rho_inf={rho_inf(beta2):g} <= threshold {threshold:g}: RAdam "
            f"would never rectify; use beta2 > {(threshold - 1) / (threshold + 1):.3g} or SGD"
        )
