"""Timings, each against its peers in turns; never asserted in tests."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pandas as pd

from experiments.benchmarks import language, probes, simulation, step, train, translation
from experiments.benchmarks._record import record

__all__ = ["BENCHMARKS", "record"]

BENCHMARKS: dict[str, Callable[[str], pd.DataFrame]] = {
    "step": step.benchmark,
    "options": step.benchmark_options,
    "simulation": simulation.benchmark,
    "probes": probes.benchmark,
    "train": train.benchmark,
    "language": language.benchmark,
    "gpt2": functools.partial(language.benchmark, network="pre"),
    "translation": translation.benchmark,
}
"""By name: device -> table."""
