"""The RAdams that can be installed, behind one interface: that of a PyTorch optimizer.

A package is imported when its optimizer is made, so that nothing here needs any of them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.dlpack import from_dlpack

from experiments.errors import UserError
from radam_core import RAdam

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Implementation:
    """One of the RAdams.

    Parameters
    ----------
    name
        What the tables call it.
    package, module
        What to install, and to import.
    make
        Makes the optimizer from parameters or groups and torch's options ``lr``, ``betas``,
        ``eps``, ``weight_decay``; any further ones are its own.
    same
        Pairs of options: with the first, it does what ``radam_core.RAdam`` does with the second.
    betas
        Those at which to ask it.
    settings
        By the id of a question, options of its own that change the answer.
    unasked
        Ids of the questions that are not put to it.
    single
        Whether it computes in single precision, whatever the parameters are.
    """

    name: str
    package: str
    module: str
    make: Callable[..., Optimizer]
    same: tuple[tuple[Options, Options], ...] = ()
    betas: tuple[float, float] = (0.9, 0.999)
    settings: Mapping[str, Options] = field(default_factory=dict)
    unasked: frozenset[str] = frozenset()
    single: bool = False

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str:
        """The version of its package, without what names a build.

        Raises
        ------
        UserError
            If the package is not installed.
        """
        try:
            return metadata.version(self.package).partition("+")[0]
        except metadata.PackageNotFoundError:
            raise UserError(
                f"{self.package} is not installed; all the peers are, after "
                "pip install -e '.[peers]'"
            ) from None


def _imported(module: str, name: str, params: Any, **options: Any) -> Optimizer:
    optimizer: Optimizer = getattr(importlib.import_module(module), name)(params, **options)
    return optimizer


class _Optax(Optimizer):
    """optax.radam on torch's tensors, in double precision where they are."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        **options: Any,
    ) -> None:
        import jax
        import optax

        super().__init__(params, {})
        self.params = [p for group in self.param_groups for p in group["params"]]
        self.numbers = (lr, *betas, eps)
        self.update = _jitted(**options)
        with jax.enable_x64(True):
            self.moments = optax.radam(*self.numbers, **options).init(_arrays(self.params))

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        import jax

        with jax.enable_x64(True):
            grads = _arrays([p.grad for p in self.params])
            moved, self.moments = self.update(
                self.numbers, _arrays(self.params), grads, self.moments
            )
            mu, nu = self.moments[0].mu, self.moments[0].nu
            for p, *found in zip(self.params, moved, mu, nu, strict=True):
                new, m, v = map(from_dlpack, found)
                p.copy_(new)
                self.state[p] = {"exp_avg": m, "exp_avg_sq": v}


@functools.cache
def _jitted(**options: Any) -> Callable[..., Any]:
    """An update of optax.radam; compiled once for all numbers, since that takes a while."""
    import jax
    import optax

    def update(numbers: Any, params: Any, grads: Any, moments: Any) -> Any:
        updates, moments = optax.radam(*numbers, **options).update(grads, moments, params)
        return optax.apply_updates(params, updates), moments

    compiled: Callable[..., Any] = jax.jit(update)
    return compiled


def _arrays(tensors: list[Tensor]) -> list[Any]:
    from jax import numpy

    return [numpy.array(numpy.from_dlpack(x.detach()), copy=True) for x in tensors]


def _pytorch_warmup(params: Any, **options: Any) -> Optimizer:
    from pytorch_warmup import RAdamWarmup

    class WarmedAdam(torch.optim.Adam):
        """Adam, its learning rate dampened anew after every step."""

        def __init__(self) -> None:
            super().__init__(params, **options)
            self.warmup = RAdamWarmup(self)

        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            with self.warmup.dampening():
                pass
            return loss

    return WarmedAdam()


def _schedule_free(params: Any, **options: Any) -> Optimizer:
    from schedulefree import RAdamScheduleFree

    optimizer: Optimizer = RAdamScheduleFree(params, **options)
    optimizer.train()  # type: ignore[attr-defined]
    return optimizer


OURS = Implementation(
    "radam_core",
    "radam-core",
    "radam_core",
    RAdam,
    settings={
        "threshold": {"variant": "authors"},
        "early": {"early": "skip"},
        "eps": {"eps_placement": "corrected"},
        "decay": {"decoupled_weight_decay": False},
        "bfloat16": {"state_dtype": torch.float32},
    },
)
CORRECTED = {"eps_placement": "corrected"}
PEERS = (
    Implementation(
        "torch",
        "torch",
        "torch",
        torch.optim.RAdam,
        same=(
            ({}, {"variant": "torch"}),
            (
                {"decoupled_weight_decay": True},
                {"variant": "torch", "decoupled_weight_decay": True},
            ),
        ),
        settings={"decay": {"decoupled_weight_decay": True}},
    ),
    Implementation(
        "torch-optimizer",
        "torch-optimizer",
        "torch_optimizer",
        functools.partial(_imported, "torch_optimizer", "RAdam"),
        same=(({}, {"variant": "authors"}),),
        single=True,
    ),
    Implementation(
        "timm",
        "timm",
        "timm",
        functools.partial(_imported, "timm.optim.radam", "RAdamLegacy"),
        same=(({}, {"variant": "authors"}),),
        single=True,
    ),
    Implementation(
        "pytorch-optimizer",
        "pytorch-optimizer",
        "pytorch_optimizer",
        functools.partial(_imported, "pytorch_optimizer", "RAdam"),
        same=(
            ({}, {"variant": "authors-shipped"}),
            ({"degenerated_to_sgd": True}, {"variant": "authors"}),
            ({"n_sma_threshold": 4, "degenerated_to_sgd": True}, {}),
        ),
        settings={
            "threshold": {"n_sma_threshold": 4},
            "early": {"degenerated_to_sgd": True},
            "algorithm": {"n_sma_threshold": 4, "degenerated_to_sgd": True},
            "decay": {"weight_decouple": False},
        },
    ),
    Implementation(
        "optax",
        "optax",
        "optax",
        _Optax,
        same=(({}, {"variant": "authors", **CORRECTED}), ({"threshold": 4}, CORRECTED)),
        settings={"threshold": {"threshold": 4}, "algorithm": {"threshold": 4}},
        # It has its own arrays, functions in place of objects, and one tree of parameters.
        unasked=frozenset(
            {
                "grouped",
                "capturable",
                "compile",
                "differentiable",
                "maximize",
                "sparse",
                "grad",
                "late",
                "groups",
                "state_dict",
                "scaler",
            }
        ),
    ),
    Implementation(
        "pytorch-warmup",
        "pytorch-warmup",
        "pytorch_warmup",
        _pytorch_warmup,
        settings={"decay": {"decoupled_weight_decay": True}},
        # It changes the learning rate from outside of Adam's step.
        unasked=frozenset({"capturable", "compile", "scaler"}),
    ),
    Implementation(
        "schedule-free",
        "schedulefree",
        "schedulefree",
        _schedule_free,
        same=(({}, {"early": "skip", **CORRECTED}), ({"silent_sgd_phase": False}, CORRECTED)),
        betas=(0.0, 0.999),  # so that what it averages are the weights themselves
        settings={
            "early": {"silent_sgd_phase": False},
            "algorithm": {"silent_sgd_phase": False},
        },
    ),
)
