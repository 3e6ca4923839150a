"""RAdam for PyTorch: the optimizer of the paper, its variants, and the mathematics behind it.

The optimizers are at hand here; the rest is in the modules: ``rectification`` (rho and r),
``variance`` (of the adaptive learning rate), ``schedules`` (warmups and decays), ``probes`` (what
an optimizer does to the weights).
"""

from radam_core import algorithm, delayed_adam, probes, radam, rectification, schedules, variance
from radam_core.algorithm import VARIANTS
from radam_core.delayed_adam import DelayedAdam
from radam_core.radam import RAdam

__all__ = [
    "VARIANTS",
    "DelayedAdam",
    "RAdam",
    "algorithm",
    "delayed_adam",
    "probes",
    "radam",
    "rectification",
    "schedules",
    "variance",
]
