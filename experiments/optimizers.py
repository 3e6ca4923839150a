"""The optimizers that a spec can name.

Weight decay is decoupled for Adam and RAdam and the classical L2 term for SGD, as in the paper's
experiments; for AdaGrad and RMSProp it is PyTorch's, an L2 term too.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, AdamW, Optimizer, RMSprop

from experiments.errors import UserError, named
from experiments.radam_variants import CountedRAdam, KahanRAdam, RAdamFirst, RoundedMomentsRAdam
from experiments.spec import Optim, Run
from radam_core import RAdam, factors, schedules
from radam_core.delayed_adam import DelayedAdam

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adam": AdamW,
    "radam": RAdam,
    "radam-counted": CountedRAdam,
    "radam-first": RAdamFirst,
    "radam-kahan": KahanRAdam,
    "radam-rounded-moments": RoundedMomentsRAdam,
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

    Its name is a key of `OPTIMIZERS`, or "package.module:Class" for one from elsewhere.

    Raises
    ------
    UserError
        If there is no optimizer of that name, or it refuses the arguments; or if one from elsewhere
        raises anything else, of which the traceback is a note.
    """
    constructor = _constructor(optim.name)
    parameters, arguments = list(parameters), dict(optim.options)
    if _takes(constructor, "weight_decay"):
        arguments["weight_decay"] = optim.weight_decay
    elif optim.weight_decay:
        raise UserError(
            f"{optim.name} takes no weight_decay, and {optim.weight_decay:g} is asked for; ask for "
            """none, on the command line by --optimizer-args '{"weight_decay": 0}'"""
        )
    lr: float | Tensor = optim.lr
    if capturable:  # a graph reads the rate where it lies, and cannot be told a new number
        lr = torch.tensor(lr, device=parameters[0].device)
        arguments |= CAPTURABLE[optim.name]
    try:
        inspect.signature(constructor).bind(parameters, lr=lr, **arguments)
    except TypeError as error:
        raise UserError(f"{optim.name} refuses its arguments: {error}") from error
    try:
        optimizer = constructor(parameters, lr=lr, **arguments)
    except ValueError as error:
        raise UserError(f"{optim.name} refuses its arguments: {error}") from error
    except Exception as error:
        if not is_from_elsewhere(optim):
            raise
        failed = UserError(f"{optim.name} cannot be built: {named(error)}")
        failed.add_note(traceback.format_exc())  # for its author
        raise failed from error
    for group in optimizer.param_groups:  # a schedule multiplies numbers, on the host
        group["initial_lr"] = optim.lr if capturable else float(group["lr"])
    return optimizer


def is_capturable(optim: Optim) -> bool:
    """Whether its step can be part of a CUDA graph, which would repeat what was drawn by chance."""
    return optim.name in CAPTURABLE and dict(optim.options).get("rounding") != "stochastic"


def is_from_elsewhere(optim: Optim) -> bool:
    """Whether it is "package.module:Class"."""
    return ":" in optim.name


@functools.cache
def sources(optim: Optim) -> tuple[str, ...]:
    """For an optimizer from elsewhere what it is made of now: version and sha256 of its module.

    Its package's version is that of a distribution of the same name, where there is one. For an
    optimizer of ours there is nothing: the commit says all.
    """
    if not is_from_elsewhere(optim):
        return ()
    module = sys.modules[_constructor(optim.name).__module__]
    file = module.__file__
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else "no file"
    package = module.__name__.partition(".")[0]
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = "no version"
    return (f"{package} ({version}), {module.__name__} {digest}",)


def _takes(constructor: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(constructor).parameters.values()
    return any(one.name == name or one.kind is one.VAR_KEYWORD for one in parameters)


def _constructor(name: str) -> Callable[..., Optimizer]:
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        known = ", ".join(OPTIMIZERS)
        raise UserError(
            f"there is no optimizer {name!r}; the optimizers are: {known}, or one from elsewhere "
            "as package.module:Class"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module may fail in any way while it is imported
        failed = UserError(
            f"{name} cannot be imported ({named(error)}); give package.module:Class, with the "
            "package installed or in the present folder"
        )
        if not (module in sys.modules or isinstance(error, ModuleNotFoundError)):
            failed.add_note(traceback.format_exc())  # for its author
        raise failed from error
    if not (inspect.isclass(found) and issubclass(found, Optimizer)):
        raise UserError(f"{name} is no torch.optim.Optimizer; name a class that is")
    closure = inspect.signature(found.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UserError(f"{name} needs a closure for every update, and the training loop has none")
    return found


def check(optim: Optim) -> None:
    """Build an optimizer over one parameter, so that a mistake is found before anything is run.

    Raises
    ------
    UserError
        As `build` does.
    """
    build(optim, [nn.Parameter(torch.zeros(1))])


def schedule(run: Run, optimizer: Optimizer, updates_per_epoch: int) -> schedules.Schedule:
    """The learning-rate schedule of a run: the product of its factors.

    Raises
    ------
    UserError
        If there is no factor of a name, or it refuses the arguments.
    """
    chosen: list[factors.Factor] = []
    for spec in run.schedule:
        scale = updates_per_epoch if spec.unit == "epoch" else 1
        arguments = {key: _in_updates(key, value, scale) for key, value in spec.options}
        try:
            factor = _factor(spec.name)(**arguments)
            delay = round(spec.delay * scale)
            chosen.append(factors.Delayed(factor, delay) if delay else factor)
        except (TypeError, ValueError) as error:
            raise UserError(f"{spec.name} refuses its arguments: {error}") from error
    return schedules.Schedule(optimizer, *chosen)


def _factor(name: str) -> type[factors.Factor]:
    factor = getattr(factors, name, None)
    if not (inspect.isclass(factor) and issubclass(factor, factors.Factor)):
        raise UserError(f"radam_core.factors has no factor {name!r}")
    return factor


def _in_updates(key: str, value: Any, scale: int) -> Any:
    if key not in DURATIONS:
        return value
    if isinstance(value, tuple):
        return tuple(_in_updates(key, one, scale) for one in value)
    return round(value * scale)
