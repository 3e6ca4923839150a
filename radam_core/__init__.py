"""RAdam for PyTorch: the optimizer of the paper, its variants, and the mathematics behind it."""

from radam_core import radam, rectification, schedules
from radam_core.radam import RAdam

__all__ = ["RAdam", "radam", "rectification", "schedules"]
