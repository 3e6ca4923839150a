"""RAdam for PyTorch: the optimizer of the paper, its variants, and the mathematics behind it.

The optimizers are at hand here; the rest is in the modules: ``rectification`` (rho and r),
``variance`` (of the adaptive learning rate), ``schedules`` (warmups, and products of ``factors``),
``probes`` (what an optimizer does to the weights).
"""

from radam_core import (
    algorithm,
    delayed_adam,
    factors,
    probes,
    radam,
    rectification,
    schedules,
    variance,
)
from radam_core.algorithm import VARIANTS
from radam_core.delayed_adam import DelayedAdam
from radam_core.radam import RAdam
from radam_core.schedules import RectifiedWarmup

__all__ = [
    "VARIANTS",
    "DelayedAdam",
    "RAdam",
    "RectifiedWarmup",
    "algorithm",
    "delayed_adam",
    "factors",
    "probes",
    "radam",
    "rectification",
    "schedules",
    "variance",
]
