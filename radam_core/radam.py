"""RAdam, with the conventions in which its implementations differ under one roof."""

import functools
import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from radam_core._capturable import apply_capturable
from radam_core._options import conventions_of, resolved
from radam_core._paths import (
    Batch,
    apply_differentiable,
    apply_each,
    apply_foreach,
    apply_fused,
    obstacle,
    uncompiled,
)
from radam_core._state import MOMENTS, check_dense, check_moments, fresh
from radam_core._wide import NARROW, apply_in_its_type
from radam_core.algorithm import Early, EpsPlacement, Hyperparameters, Update, plan_update
from radam_core.rectification import Rectification, r, rho

__all__ = ["RAdam", "RectificationState"]


class RectificationState(NamedTuple):
    """Where the rectification of a parameter group stands.

    Parameters
    ----------
    t : int
        Updates made, of the parameter that has made the most; 0 before the first.
    rho : float
        Length of the moving average after them, Algorithm 2, line 8; 0 before the first.
    r : float
        Rectification term of the latest update, 0 if that was not adaptive.
    rectified : bool
        Whether it was adaptive.
    """

    t: int
    rho: float
    r: float
    rectified: bool


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
    place of :math:`\epsilon`. ``variant`` selects one of them, a row of
    :data:`radam_core.algorithm.VARIANTS`; each choice is a keyword, too, and then takes precedence
    over the variant.

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
        See :class:`~radam_core.algorithm.Conventions`. None, the default, here and below leaves it
        to ``variant``.
    foreach : bool, optional
        Update all tensors of a kind together, operation by operation, which takes memory for one
        more copy of the parameters; False goes tensor by tensor. None, the default, leaves it to
        ``fused`` or, where that cannot be, does so for parameters on a GPU.
    maximize : bool
        Ascend the objective.
    capturable : bool
        Work the update out on the device, in double precision where it has that, so that it can be
        recorded in a CUDA graph. Slower outside of one. Under :func:`torch.compile` this happens by
        itself, in one graph for all updates; differentiable ones and stochastic rounding stay
        outside of it.
    differentiable : bool
        Let autograd see the update, for gradients through training. A tensor ``lr`` then keeps
        its graph. An element whose gradients were all zero has no derivative (NaN).
    fused : bool, optional
        Update in one pass over memory, by torch's fused kernels for Adam. None, the default, does
        so wherever that is possible and ``foreach`` is not given: for parameters on a CPU or a
        CUDA GPU whose ``eps`` does not vanish in rounding. True insists. The few early updates are
        always made operation by operation.
    variant : {"paper", "authors", "authors-shipped", "torch"}
        The implementation whose conventions to follow.
    rectification : {"first-order", "exact"}, optional
        The variance that :math:`r_t` equalises: the paper's approximation (Eq. 5) or the exact
        one (Eq. 2). The latter is finite from :math:`\rho > 2` on, so that with the paper's
        conventions the adaptive steps begin at the third update instead of the fifth.
    threshold : float, optional
        See :class:`~radam_core.algorithm.Conventions`; at least 4, or 2 with the exact
        rectification.
    strict : bool, optional
        See :class:`~radam_core.algorithm.Conventions`.
    early : {"sgd", "skip"}, optional
        See :class:`~radam_core.algorithm.Conventions`.
    eps_placement : {"raw", "corrected"}, optional
        See :class:`~radam_core.algorithm.Conventions`.
    state_dtype : torch.float32 or "float32", optional
        Keeps the moments of bfloat16 and float16 parameters in single precision, and computes
        their updates in it. None, the default, gives moments the parameter's type.
    rounding : {"nearest", "stochastic"}
        How an update computed in single precision is rounded to a bfloat16 parameter.
        "stochastic" rounds up or down with probabilities that keep the mean, so that updates too
        small for bfloat16 still count on average; it needs ``state_dtype=torch.float32``, and
        leaves parameters of other types as they are. The random bits depend on the update's number
        alone, and not on ``torch.manual_seed``: a resumed training draws the same. In the
        study ``bf16-weights`` training ends as with float32 weights, and as with Kahan summation,
        which would take two more bytes for each weight: hence no such option.

    Raises
    ------
    ValueError
        If an option is out of range or unknown, if two exclude each other, or if
        :math:`\rho_\infty` does not exceed the threshold (``beta2 <= 0.6`` for the paper's):
        Algorithm 2 allows that and is momentum SGD for ever, which nobody asks for by asking for
        RAdam.
    RuntimeError
        From :meth:`step`, if a gradient is sparse (no parameter has then been changed), or if
        ``fused=True`` is not possible.

    Notes
    -----
    A parameter's state is ``step`` (a float tensor, :math:`t`), ``exp_avg`` and ``exp_avg_sq``
    (:math:`m` and :math:`v`, with the shape and device of the parameter), as in
    ``torch.optim.RAdam`` and ``torch.optim.Adam``, whose state dicts this class can load: options
    that they lack stay as they are here, those that they have are taken over, but for the ways to
    compute (``foreach``, ``fused``, ``capturable``, ``differentiable``). Each parameter
    counts its own updates. A complex parameter is treated as two real ones.

    16 bits are few for the moments. In bfloat16 a factor of 0.999 rounds to 1, so that the second
    moment never fades; in float16 the squares of gradients below about 1e-3 vanish, and elements
    where the second moment is zero do not move. Keep parameters in float32 and compute in 16 bits
    (``torch.autocast``), or use ``state_dtype``.
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
        fused: bool | None = None,
        variant: str = "paper",
        rectification: Rectification | None = None,
        threshold: float | None = None,
        strict: bool | None = None,
        early: Early | None = None,
        eps_placement: EpsPlacement | None = None,
        state_dtype: torch.dtype | Literal["float32"] | None = None,
        rounding: Literal["nearest", "stochastic"] = "nearest",
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
            "fused": fused,
            "variant": variant,
            "rectification": rectification,
            "threshold": threshold,
            "strict": strict,
            "early": early,
            "eps_placement": eps_placement,
            "state_dtype": state_dtype,
            "rounding": rounding,
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
        super().add_param_group(resolved({**self.defaults, **param_group}))
        # torch has put the default in again, but the group's own options say what its variant is.
        del self.param_groups[-1]["variant"]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a pickled optimizer or, through ``load_state_dict``, a saved state."""
        groups = state["param_groups"]
        if "defaults" not in state:  # from load_state_dict: options that it lacks stay as they are
            groups = [
                {**old, **_taken_over(saved)}
                for old, saved in zip(self.param_groups, groups, strict=True)
            ]
        groups = list(map(resolved, groups))
        check_moments(state["state"])
        super().__setstate__({**state, "param_groups": groups})
        for group in self.param_groups:
            for p in group["params"]:
                if "step" in (p_state := self.state.get(p, {})):
                    device = p.device if group["capturable"] else "cpu"
                    step = torch.as_tensor(p_state["step"], dtype=torch.float32)
                    p_state["step"] = step.to(device)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state dict of this class, or of torch's RAdam, Adam or AdamW.

        Parameters
        ----------
        state_dict : dict
            What ``state_dict`` returned.

        Raises
        ------
        ValueError
            If its groups or its moments do not match this optimizer's parameters, or an option in
            it is not possible here; nothing has then been changed.
        """
        # torch gives the moments the types of their parameters. Hooks get at the state that is
        # loaded after every other hook has changed it, and at the result before any other does.
        moments: list[tuple[Tensor, str, Tensor]] = []
        hooks = (
            self.register_load_state_dict_pre_hook(
                lambda _, loaded: moments.extend(self._moments_in(loaded))
            ),
            self.register_load_state_dict_post_hook(lambda _: self._widen(moments), prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def _moments_in(self, state_dict: dict[str, Any]) -> Iterator[tuple[Tensor, str, Tensor]]:
        """The moments in a state dict: parameter, name, and the moment itself."""
        ours, theirs = (
            chain.from_iterable(group["params"] for group in groups)
            for groups in (self.param_groups, state_dict["param_groups"])
        )
        for p, key in zip(ours, theirs, strict=False):  # if they differ in number, torch says so
            state = state_dict["state"].get(key, {})
            lacks = not {"step", *MOMENTS} <= state.keys()
            if state and (lacks or "mu_product" in state):  # the latter is NAdam's
                raise ValueError(
                    f"the state of a parameter holds {', '.join(sorted(state))}: it is of another "
                    "kind of optimizer than RAdam, Adam or AdamW as torch has them"
                )
            for name in MOMENTS if state else ():
                yield p, name, state[name]

    def _widen(self, moments: list[tuple[Tensor, str, Tensor]]) -> None:
        """Take the moments that ``state_dtype`` wants wider from what was loaded."""
        dtypes = {p: _state_dtype(p, group) for group in self.param_groups for p in group["params"]}
        for p, name, moment in moments:
            if self.state[p][name].dtype != dtypes[p]:
                self.state[p][name] = moment.to(p.device, dtypes[p], copy=True)

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
            If a gradient is sparse; no parameter has then been changed. If a group asks for
            ``fused=True`` and that is not possible, if its moments do not fit its parameters, or
            if a CUDA graph is recorded without ``capturable``; the group's update is then not
            counted.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        batches = [Batch([], [], [], [], []) for _ in self.param_groups]
        for group, batch in zip(self.param_groups, batches, strict=True):
            self._init_group(group, *batch)
        for batch in batches:
            check_dense(batch.grads, "RAdam")
        for number, (group, batch) in enumerate(zip(self.param_groups, batches, strict=True)):
            with torch.set_grad_enabled(group["differentiable"]):
                if not batch.params:
                    continue
                if self._is_on_device(group):
                    self._update_on_device(group, batch)
                else:
                    self._update(group, batch, number)
        return loss

    def rectification_state(self) -> list[RectificationState]:
        """Where the rectification stands, for each parameter group.

        Returns
        -------
        list of RectificationState
            One a group, in the order of ``param_groups``. With ``capturable=True`` reading it
            waits for the device.
        """
        return [self._rectification_state(group) for group in self.param_groups]

    def _rectification_state(self, group: dict[str, Any]) -> RectificationState:
        states = [self.state.get(p, {}) for p in group["params"]]
        steps = [state["step"] for state in states if "step" in state]
        t = int(max(steps, default=0))
        if t == 0:
            return RectificationState(0, 0.0, 0.0, False)
        beta2 = group["betas"][1]
        rectified = self._plan(t, group).kind == "adaptive"
        r_t = r(t, beta2, group["rectification"]) if rectified else 0.0
        return RectificationState(t, rho(t, beta2), r_t, rectified)

    def _plan(self, t: int, group: dict[str, Any]) -> Update:
        """The plan of update ``t``; where a subclass has another one, it cannot be captured."""
        return plan_update(t, group["betas"], group["eps"], conventions_of(group))

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Fill the lists with the parameters that have a gradient, and their state.

        Under this name and with lists to fill, as in torch's optimizers, torch.compile runs it
        outside of its graph.
        """
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            state = self.state[p]
            if not state:
                device = p.device if group["capturable"] else "cpu"
                state.update(fresh(p, _state_dtype(p, group), device))
            params.append(p)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            steps.append(state["step"])

    @uncompiled  # type: ignore[untyped-decorator]
    def _update(self, group: dict[str, Any], batch: Batch, number: int) -> None:
        """Plan on the host, and apply each plan to all tensors that share it."""
        if batch.params[0].is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError("a CUDA graph would repeat this very update: use capturable=True")
        hyper = _hyperparameters(group)
        for updates, part in batch.alike(map(Tensor.item, batch.steps)):
            t = int(updates) + 1
            apply = functools.partial(self._apply, group, self._plan(t, group), hyper)
            seed = t * 1009 + number if group["rounding"] == "stochastic" else None
            # Autograd is to see the tensors that it was given.
            part = part if group["differentiable"] else part.local()
            apply_in_its_type(part, apply, seed)
            part.count_update()  # at last, since an update that fails is none

    def _apply(
        self, group: dict[str, Any], update: Update, hyper: Hyperparameters, batch: Batch
    ) -> None:
        """Choose among the ways to do the same arithmetic."""
        if group["differentiable"]:
            apply_differentiable(batch, update, hyper)
            return
        foreach = group["foreach"]
        if group["fused"] or (group["fused"] is None and foreach is None):
            reason = obstacle(batch, group["eps"])
            if reason is None:
                apply_fused(batch, update, hyper)
                return
            if group["fused"]:
                raise RuntimeError(f"fused=True is not possible: {reason}; leave it out")
        if foreach or (foreach is None and batch.params[0].is_cuda):
            apply_foreach(batch, update, hyper)
        else:
            apply_each(batch, update, hyper)

    def _is_on_device(self, group: dict[str, Any]) -> bool:
        """Whether to plan on the device: on demand, or where a compiled update can."""
        if not torch.compiler.is_compiling():  # which itself sets capturable
            return bool(group["capturable"])
        return (
            group["rounding"] == "nearest"  # other rounding has other bits each time
            and not group["differentiable"]  # autograd would not see into it
            and type(self)._plan is RAdam._plan
        )

    def _update_on_device(self, group: dict[str, Any], batch: Batch) -> None:
        """Plan on the device, since the host does not know the number of the update."""
        if type(self)._plan is not RAdam._plan:
            raise RuntimeError(
                f"{type(self).__name__} plans its updates on the host: use capturable=False"
            )
        torch._foreach_add_(batch.steps, 1)
        apply = functools.partial(
            apply_capturable,
            eps=group["eps"],
            conventions=conventions_of(group),
            hyper=_hyperparameters(group, on_device=True),
        )
        for _, part in batch.alike([0.0] * len(batch.params)):
            # A compiled step leaves DTensors to torch.compile.
            apply_in_its_type(part if torch.compiler.is_compiling() else part.local(), apply)


def _taken_over(saved: dict[str, Any]) -> dict[str, Any]:
    """The options of a saved group that count here."""
    if "rounding" in saved:  # of this class
        return saved
    # Those of another one say what is computed, but its ways to do so are its own.
    ways = ("foreach", "fused", "capturable", "differentiable")
    taken = {name: value for name, value in saved.items() if name not in ways}
    taken["betas"] = tuple(map(float, saved["betas"]))  # which torch takes as tensors, too
    if saved["weight_decay"] and "decoupled_weight_decay" not in saved:
        warnings.warn(
            "the state is of an older torch and does not say whether its weight decay is "
            "decoupled; the optimizer's own decoupled_weight_decay stays",
            stacklevel=2,
        )
    return taken


def _hyperparameters(group: dict[str, Any], on_device: bool = False) -> Hyperparameters:
    lr = group["lr"]
    if isinstance(lr, Tensor) and not on_device:
        lr = lr.reshape(()) if group["differentiable"] else lr.item()
    return Hyperparameters(
        lr,
        group["betas"],
        group["weight_decay"],
        group["decoupled_weight_decay"],
        group["maximize"],
    )


def _state_dtype(p: Tensor, group: dict[str, Any]) -> torch.dtype:
    """The type of a parameter's moments: its own, or a wider one on demand."""
    return torch.float32 if group["state_dtype"] and p.dtype in NARROW else p.dtype
