"""Adam that first only gathers its second moment: the paper's Adam-2k."""

import functools
from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from radam_core._checks import check_count
from radam_core._options import check_numbers
from radam_core._paths import Batch, apply_foreach, apply_fused, obstacle
from radam_core._state import check_dense, check_moments, fresh
from radam_core._wide import apply_in_its_type
from radam_core.algorithm import Hyperparameters, Update, adaptive_update, bias_correction

__all__ = ["DelayedAdam"]


class DelayedAdam(Optimizer):
    r"""Adam whose weights and momentum rest while the second moment gathers ``delay`` gradients.

    The paper's Adam-2k (Liu et al. 2020, Section 3, Figures 1 and 3), with which it shows that
    more samples behind the first adaptive learning rates make warmup unnecessary. With
    :math:`t = 1, 2, \dots` counting every update and :math:`k = t - \text{delay}` the real ones,

    .. math::

        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 && \text{at every } t, \\
        m_k &= \beta_1 m_{k-1} + (1 - \beta_1) g_t   && \text{from } k = 1 \text{ on}, \\
        \theta &\leftarrow (1 - \eta \lambda) \theta - \eta \, \frac{m_k}{1 - \beta_1^k} \,
            \frac{\sqrt{1 - \beta_2^t}}{\sqrt{v_t} + \epsilon} && \text{from } k = 1 \text{ on}.

    Each moment is thus corrected for the gradients it has really seen. Weight decay
    :math:`\lambda` is decoupled and rests during the delay, too. Where the paper counts iterations
    of this method from -1999, it counts :math:`k`: the loss curve starts at the first real update.
    Its learning rate does the same when the schedule is wrapped in
    ``radam_core.factors.Delayed(factor, delay)``.

    Updates are counted per parameter: one whose gradients start late has its own delay.

    Parameters
    ----------
    params : iterable
        Parameters, named parameters or parameter groups, as for every PyTorch optimizer. Groups
        may set any of the options below for themselves.
    lr : float or Tensor
        Learning rate :math:`\eta`, at least 0. A tensor holds one element.
    betas : (float, float)
        Decay rates of the two moments, each in [0, 1).
    eps : float
        Term :math:`\epsilon` in the denominator, greater than 0.
    weight_decay : float
        Decoupled weight decay :math:`\lambda`, at least 0.
    delay : int
        Number of updates that only gather the second moment; 0 gives Adam.
    eps_placement : {"raw", "corrected"}
        What ``eps`` is added to: "raw", the root of :math:`v_t` itself, as in the paper, in
        fairseq's Adam and in the authors' code; "corrected", the root of
        :math:`v_t / (1 - \beta_2^t)`, as in :class:`torch.optim.Adam`.
    momentum_count : {"real", "all"}
        The exponent of the momentum's bias correction: "real", the :math:`k` above; "all",
        :math:`t`, as in the authors' code, where the correction has vanished when the delay ends,
        so that the first real updates grow from :math:`1 - \beta_1` of their size to all of it.

    Raises
    ------
    ValueError
        If an option is out of range.
    RuntimeError
        From :meth:`step`, if a gradient is sparse; nothing has then been changed.

    Notes
    -----
    A parameter's state is ``step`` (:math:`t`, a tensor of one element in single precision), and
    ``exp_avg`` and ``exp_avg_sq`` (:math:`m` and :math:`v`, with the shape, type and device of the
    parameter). After the delay an update is one pass over memory, as that of
    :class:`radam_core.radam.RAdam`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        delay: int = 2000,
        *,
        eps_placement: Literal["raw", "corrected"] = "raw",
        momentum_count: Literal["real", "all"] = "real",
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "delay": delay,
            "eps_placement": eps_placement,
            "momentum_count": momentum_count,
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
            If an option is out of range.
        """
        _check_options({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a pickled optimizer or, through ``load_state_dict``, a saved state."""
        check_moments(state["state"])
        super().__setstate__(state)
        for p_state in self.state.values():  # a step may have been saved as a number
            step = torch.as_tensor(p_state["step"], dtype=torch.float32)
            p_state["step"] = step.to("cpu")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state dict of this class.

        Parameters
        ----------
        state_dict : dict
            What ``state_dict`` returned.

        Raises
        ------
        ValueError
            If it is of another kind of optimizer, or its groups or its moments do not match this
            one's parameters; nothing has then been changed.
        """
        if any("delay" not in group for group in state_dict["param_groups"]):
            raise ValueError(
                "this state is of another kind of optimizer, which counts its updates otherwise: "
                "DelayedAdam takes over DelayedAdam's alone"
            )
        super().load_state_dict(state_dict)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one update, which during the delay is one of the second moment alone.

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
            If a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        params = [p for group in self.param_groups for p in group["params"]]
        check_dense((p.grad for p in params if p.grad is not None), "DelayedAdam")
        for group in self.param_groups:
            batch = self._batch(group)
            if batch.params:
                _update(group, batch)
        return loss

    def _batch(self, group: dict[str, Any]) -> Batch:
        """The group's parameters that have a gradient, and their state."""
        batch = Batch([], [], [], [], [])
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state.update(fresh(p))
            row = (p, p.grad, state["exp_avg"], state["exp_avg_sq"], state["step"])
            for tensors, tensor in zip(batch, row, strict=True):
                tensors.append(tensor)
        return batch


def _update(group: dict[str, Any], batch: Batch) -> None:
    hyper = Hyperparameters(
        float(group["lr"]), group["betas"], group["weight_decay"], decoupled=True, maximize=False
    )
    for updates, part in batch.alike(map(Tensor.item, batch.steps)):
        update = _plan(int(updates) + 1, group)
        apply_in_its_type(part.local(), functools.partial(_apply, group, update, hyper))
        part.count_update()


def _plan(t: int, group: dict[str, Any]) -> Update | None:
    """Update ``t``; None if it is one of the second moment alone."""
    k = t - group["delay"]
    if k < 1:
        return None
    betas, count = group["betas"], k if group["momentum_count"] == "real" else t
    # Adam's update t, which corrects the momentum for t gradients, for another number of them.
    size = bias_correction(betas[0], t) / bias_correction(betas[0], count)
    return adaptive_update(t, betas, group["eps"], size, group["eps_placement"])


def _apply(
    group: dict[str, Any], update: Update | None, hyper: Hyperparameters, batch: Batch
) -> None:
    if update is None:
        beta2 = hyper.betas[1]
        torch._foreach_mul_(batch.exp_avg_sqs, beta2)
        torch._foreach_addcmul_(batch.exp_avg_sqs, batch.grads, batch.grads, 1 - beta2)
    elif obstacle(batch, group["eps"]) is None:
        apply_fused(batch, update, hyper)
    else:
        apply_foreach(batch, update, hyper)


def _check_options(options: dict[str, Any]) -> None:
    check_numbers(options)
    if options["eps"] == 0:
        raise ValueError(
            "eps=0 is out of range: use a number greater than 0, or a gradient of zero divides "
            "zero by zero"
        )
    check_count("delay", options["delay"], least=0)
    for name, choices in (
        ("eps_placement", ("raw", "corrected")),
        ("momentum_count", ("real", "all")),
    ):
        if options[name] not in choices:
            raise ValueError(f"{name}={options[name]!r} is unknown; use one of {choices}")
