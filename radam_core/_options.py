"""A parameter group's options: filled in from its variant, and checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from numbers import Real
from typing import Any, get_args

import torch
from torch import Tensor

from radam_core.algorithm import VARIANTS, Conventions, Early, EpsPlacement
from radam_core.rectification import natural_threshold, rho_inf

_CONVENTIONS = tuple(field.name for field in fields(Conventions))
_CHOICES: dict[str, tuple[object, ...]] = {
    "decoupled_weight_decay": (True, False),
    "foreach": (None, True, False),
    "maximize": (True, False),
    "capturable": (True, False),
    "differentiable": (True, False),
    "fused": (None, True, False),
    "strict": (True, False),
    "early": get_args(Early),
    "eps_placement": get_args(EpsPlacement),
    "state_dtype": (None, "float32"),
    "rounding": ("nearest", "stochastic"),
}
_EXCLUSIVE = (
    ("fused", "foreach", "they are two ways to update"),
    ("fused", "differentiable", "a fused kernel has no derivative"),
    ("foreach", "differentiable", "grouped operations have no derivative"),
    ("capturable", "differentiable", "what a CUDA graph replays has no derivative"),
    ("capturable", "fused", "torch's kernels take numbers that a CUDA graph would freeze"),
)


def resolved(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check a group's options and put those that its variant decides in the variant's place.

    Raises
    ------
    ValueError
        If one is out of range or unknown, or if two exclude each other.
    """
    options = dict(options)
    variant = options.pop("variant", "paper")  # a group that is resolved already has none
    if variant not in VARIANTS:
        known = ", ".join(map(repr, VARIANTS))
        raise ValueError(f"unknown variant {variant!r}: use one of {known}")
    chosen = {name: options[name] for name in _CONVENTIONS if options[name] is not None}
    conventions = replace(VARIANTS[variant], **chosen)
    conventions = replace(conventions, threshold=conventions.least_rho)
    group = {**options, **asdict(conventions)}
    if group["state_dtype"] is torch.float32:
        group["state_dtype"] = "float32"  # torch.distributed.checkpoint takes no torch.dtype
    check_numbers(group)
    _check_choices(group)
    _check_rectifies(group["betas"][1], conventions)
    return group


def conventions_of(group: Mapping[str, Any]) -> Conventions:
    """The conventions among a group's options."""
    return Conventions(**{name: group[name] for name in _CONVENTIONS})


def check_numbers(group: Mapping[str, Any]) -> None:
    """Check the options that every optimizer here has.

    Raises
    ------
    ValueError
        If one is out of range.
    """
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
    for name, beta, usual in zip(("beta1", "beta2"), betas, (0.9, 0.999), strict=True):
        if not _is_between(beta, 0, 1):
            raise ValueError(f"{name}={beta!r} is outside [0, 1): use a number such as {usual}")


def _is_between(value: Any, low: float, high: float) -> bool:
    return isinstance(value, Real) and low <= float(value) < high


def _check_choices(group: Mapping[str, Any]) -> None:
    for name, choices in _CHOICES.items():
        if group[name] not in choices:
            raise ValueError(f"{name}={group[name]!r} is unknown: use one of {choices}")
    for one, other, reason in _EXCLUSIVE:
        if group[one] and group[other]:
            raise ValueError(
                f"{one}=True and {other}=True exclude each other: {reason}; drop one of them"
            )
    if group["rounding"] == "stochastic":
        if group["state_dtype"] is None:
            raise ValueError(
                "rounding='stochastic' needs state_dtype=torch.float32: moments of 16 bits would "
                "lose what the weights keep"
            )
        if group["capturable"]:
            raise ValueError(
                "rounding='stochastic' and capturable=True exclude each other: a CUDA graph would "
                "replay the same random bits; drop one of them"
            )
    if group["differentiable"] and group["state_dtype"] is not None:
        raise ValueError(
            "state_dtype and differentiable=True exclude each other: autograd goes through "
            "parameters that are updated in their own type; drop one of them"
        )
    if group.get("amsgrad"):
        raise ValueError(
            "this state is of an Adam with amsgrad=True, which RAdam has no equivalent of: go on "
            "with that Adam, or start RAdam without its state"
        )


def _check_rectifies(beta2: float, conventions: Conventions) -> None:
    natural, threshold = natural_threshold(conventions.rectification), conventions.least_rho
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
