"""The variance of the adaptive learning rate by update: its curves, and how far they range."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from experiments.tasks import Point
from radam_core import rectification


def thinned(first: int, last: int, points: int) -> NDArray[np.int64]:
    """About so many updates, evenly in their logarithm."""
    return np.unique(np.geomspace(first, last, points).round().astype(np.int64))


def curve(steps: ArrayLike, split: str, values: ArrayLike) -> list[Point]:
    """One curve of variances."""
    pairs = zip(np.asarray(steps), np.asarray(values), strict=True)
    return [(float(step), split, "variance", float(value)) for step, value in pairs]


def rectified(
    t: NDArray[np.int64], plain: NDArray[np.float64], beta2: float
) -> tuple[dict[str, float], list[Point]]:
    """The variance at some updates, as it is and rectified both ways.

    The metrics are the highest over the lowest: 1 for a flat curve.
    """
    metrics = {"plain_fall": _range(plain)}
    curves = curve(t, "plain", plain)
    for method in ("first-order", "exact"):
        r = np.array([rectification.r(int(one), beta2, method=method) for one in t])
        curves += curve(t, method, r**2 * plain)
        metrics[f"{method}_range"] = _range(r**2 * plain)
    return metrics, curves


def _range(values: NDArray[np.float64]) -> float:
    return float(values.max() / values.min())
