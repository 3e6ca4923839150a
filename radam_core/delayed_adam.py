"""Adam that first only gathers its second moment: the paper's Adam-2k."""

import math
from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

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
    A parameter's state is ``step`` (int, :math:`t`), and ``exp_avg`` and ``exp_avg_sq``
    (:math:`m` and :math:`v`, with the shape, type and device of the parameter).
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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state dict of this class.

        Parameters
        ----------
        state_dict : dict
            What ``state_dict`` returned.

        Raises
        ------
        ValueError
            If it is of another kind of optimizer, or its groups do not match this one's; nothing
            has then been changed.
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

        updates = [
            (p, p.grad, group)
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        if any(grad.is_sparse for _, grad, _ in updates):
            raise RuntimeError(
                "DelayedAdam needs dense gradients; make them so (sparse=False in an embedding) "
                "or use torch.optim.SparseAdam"
            )
        for p, grad, group in updates:
            self._update(p, grad, group)
        return loss

    def _update(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        state["step"] += 1

        # A complex number is two real ones, each with its own adaptive rate.
        theta, g, m, v = map(_real, (p, grad, state["exp_avg"], state["exp_avg_sq"]))
        beta1, beta2 = group["betas"]
        t = state["step"]
        k = t - group["delay"]

        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)  # v = beta2 v + (1 - beta2) g^2
        if k < 1:
            return
        m.lerp_(g, 1 - beta1)  # m = beta1 m + (1 - beta1) g

        lr = float(group["lr"])
        count = k if group["momentum_count"] == "real" else t
        m_scale = 1 / (1 - beta1**count)
        v_scale = 1 / math.sqrt(1 - beta2**t)
        if group["eps_placement"] == "raw":  # l = sqrt(1 - beta2^t) / (sqrt(v) + eps)
            denominator = v.sqrt().add_(group["eps"]).mul_(v_scale)
        else:  # l = 1 / (sqrt(v / (1 - beta2^t)) + eps)
            denominator = v.sqrt().mul_(v_scale).add_(group["eps"])
        theta.mul_(1 - lr * group["weight_decay"])
        theta.addcdiv_(m, denominator, value=-lr * m_scale)  # theta -= lr m_hat l


def _real(x: Tensor) -> Tensor:
    """View complex numbers as pairs of real ones, on the same memory."""
    return torch.view_as_real(x) if x.is_complex() else x


def _check_options(options: dict[str, Any]) -> None:
    for name in ("lr", "weight_decay"):
        if not 0 <= float(options[name]) < math.inf:
            raise ValueError(f"{name}={options[name]} is out of range: use a number of at least 0")
    if not 0 < options["eps"] < math.inf:
        raise ValueError(
            f"eps={options['eps']} is out of range: use a number greater than 0, "
            "or a gradient of zero divides zero by zero"
        )
    for i, beta in enumerate(options["betas"], start=1):
        if not 0 <= beta < 1:
            raise ValueError(f"beta{i}={beta} is out of range: use a number in [0, 1)")
    delay = options["delay"]
    if isinstance(delay, bool) or not isinstance(delay, int) or delay < 0:
        raise ValueError(f"delay must be an integer of at least 0, not {delay!r}")
    for name, choices in (
        ("eps_placement", ("raw", "corrected")),
        ("momentum_count", ("real", "all")),
    ):
        if options[name] not in choices:
            raise ValueError(f"{name}={options[name]!r} is unknown; use one of {choices}")
