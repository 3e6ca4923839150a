"""The time of fig9's simulation, at several chunk sizes."""

from __future__ import annotations

import functools

import pandas as pd

from experiments.benchmarks._timing import compare
from radam_core.variance import simulate_variance

CHUNKS = (256, 1024, 4096)


def benchmark(device: str = "cpu") -> pd.DataFrame:
    """Median milliseconds for 5,000 trajectories of 600 steps, and the ratio to the first."""
    simulate = functools.partial(simulate_variance, steps=600, trajectories=5_000, device=device)
    contestants = {f"chunk {chunk}": functools.partial(simulate, chunk=chunk) for chunk in CHUNKS}
    return compare(contestants, device, rounds=3)
