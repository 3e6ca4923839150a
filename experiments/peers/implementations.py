"""The RAdams that can be installed, behind one interface: that of a PyTorch optimizer.

A package is imported when its optimizer is made, so that nothing here needs any of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from experiments.errors import UserError
from radam_core import RAdam

Make = Callable[..., Optimizer]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Implementation:
    """One of the RAdams.

    Parameters
    ----------
    name
        What the tables call it.
    package
        What to install, and whose version counts.
    module
        What to import.
    make
        Makes the optimizer from parameters or groups and torch's options ``lr``, ``betas``,
        ``eps``, ``weight_decay``; any further ones are its own.
    ours
        The options with which ``radam_core.RAdam`` does the same; None where none do.
    betas
        Those at which it is RAdam.
    settings
        By the id of a capability, options of its own that change the answer.
    unasked
        Ids of the capabilities that are not its business.
    single
        Whether it computes in single precision, whatever the parameters are.
    """

    name: str
    package: str
    module: str
    make: Make
    ours: Options | None
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
                f"{self.package} is not installed: the extra `peers` brings all the peers, "
                "pip install -e '.[peers]'"
            ) from None


def _torch_optimizer(params: Any, **options: Any) -> Optimizer:
    from torch_optimizer import RAdam

    return RAdam(params, **options)


def _timm(params: Any, **options: Any) -> Optimizer:
    from timm.optim.radam import RAdamLegacy

    return RAdamLegacy(params, **options)


def _pytorch_optimizer(params: Any, **options: Any) -> Optimizer:
    from pytorch_optimizer import RAdam

    return RAdam(params, **options)


def _schedule_free(params: Any, **options: Any) -> Optimizer:
    from schedulefree import RAdamScheduleFree

    optimizer = RAdamScheduleFree(params, **options)
    optimizer.train()
    return optimizer


def _pytorch_warmup(params: Any, **options: Any) -> Optimizer:
    from pytorch_warmup import RAdamWarmup

    class WarmedAdam(torch.optim.Adam):
        """Adam whose learning rate is dampened anew after every step."""

        def __init__(self) -> None:
            super().__init__(params, **options)
            self.warmup = RAdamWarmup(self)

        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            with self.warmup.dampening():
                pass
            return loss

    return WarmedAdam()


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
        rule = optax.radam(lr, *betas, eps, **options)
        with jax.enable_x64(True):
            self.moments = rule.init(_arrays(self.params))
            self.update = rule.update

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        import jax
        import optax

        with jax.enable_x64(True):
            arrays = _arrays(self.params)
            updates, self.moments = self.update(
                _arrays([p.grad for p in self.params]), self.moments, arrays
            )
            moved = optax.apply_updates(arrays, updates)
            for p, array, mu, nu in zip(
                self.params, moved, self.moments[0].mu, self.moments[0].nu, strict=True
            ):
                p.copy_(torch.from_dlpack(array))
                self.state[p] = {"mu": torch.from_dlpack(mu), "nu": torch.from_dlpack(nu)}


def _arrays(tensors: list[Tensor]) -> list[Any]:
    import jax

    return [jax.numpy.array(jax.dlpack.from_dlpack(x.detach()), copy=True) for x in tensors]


OURS = Implementation(
    "radam_core",
    "radam-core",
    "radam_core",
    RAdam,
    ours={},
    settings={
        "threshold": {"variant": "torch"},
        "early": {"early": "skip"},
        "eps": {"eps_placement": "corrected"},
        "decay": {"decoupled_weight_decay": False},
        "bfloat16": {"state_dtype": torch.float32},
    },
)
PEERS = (
    Implementation(
        "torch",
        "torch",
        "torch",
        torch.optim.RAdam,
        ours={"variant": "torch"},
        settings={"decay": {"decoupled_weight_decay": True}},
    ),
    Implementation(
        "torch-optimizer",
        "torch-optimizer",
        "torch_optimizer",
        _torch_optimizer,
        ours={"variant": "authors"},
        single=True,
    ),
    Implementation("timm", "timm", "timm", _timm, ours={"variant": "authors"}, single=True),
    Implementation(
        "pytorch-optimizer",
        "pytorch-optimizer",
        "pytorch_optimizer",
        _pytorch_optimizer,
        ours={"variant": "authors-shipped"},
        settings={
            "early": {"degenerated_to_sgd": True},
            "algorithm": {"n_sma_threshold": 4, "degenerated_to_sgd": True},
            "threshold": {"n_sma_threshold": 4},
            "decay": {"weight_decouple": False},
        },
    ),
    Implementation(
        "optax",
        "optax",
        "optax",
        _Optax,
        ours={"variant": "authors", "eps_placement": "corrected"},
        settings={"algorithm": {"threshold": 4}, "threshold": {"threshold": 4}},
        unasked=frozenset(
            "grouped capturable compile differentiable maximize sparse grad late groups "
            "state_dict scaler".split()
        ),
    ),
    Implementation(
        "pytorch-warmup",
        "pytorch-warmup",
        "pytorch_warmup",
        _pytorch_warmup,
        ours=None,
        settings={"decay": {"decoupled_weight_decay": True}},
        unasked=frozenset({"capturable", "compile", "scaler"}),
    ),
    # With beta1 = 0 its averages are the weights themselves.
    Implementation(
        "schedule-free",
        "schedulefree",
        "schedulefree",
        _schedule_free,
        ours={"early": "skip", "eps_placement": "corrected"},
        betas=(0.0, 0.999),
        settings={
            "early": {"silent_sgd_phase": False},
            "algorithm": {"silent_sgd_phase": False},
        },
    ),
)
