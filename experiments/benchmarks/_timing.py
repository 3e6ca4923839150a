"""How everything here is timed: the contestants take turns, and are compared round by round."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch


def compare(
    contestants: Mapping[str, Callable[[], object]], device: str, rounds: int = 15
) -> pd.DataFrame:
    """Median milliseconds a call, and the median ratio to the first contestant with its quartiles.

    Each round calls every contestant once, and ratios are taken within a round, so that a slow
    moment of the machine hits all alike; in an order of chance, for who comes next finds caches and
    threads as the one before left them.
    """
    return tabulate(measure(contestants, device, rounds))


def measure(
    contestants: Mapping[str, Callable[[], object]], device: str, rounds: int = 15
) -> dict[str, list[float]]:
    """Seconds that each contestant took, round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    order, chance = list(contestants), random.Random(0)
    for number in range(rounds + 2):
        chance.shuffle(order)
        for name in order:
            _wait(device)
            started = time.perf_counter()
            contestants[name]()
            _wait(device)
            if number >= 2:  # the first rounds allocate and warm caches
                seconds[name].append(time.perf_counter() - started)
    return seconds


def tabulate(seconds: Mapping[str, list[float]]) -> pd.DataFrame:
    """Median milliseconds, and the median ratio to the first contestant with its quartiles."""
    first = next(iter(seconds.values()))
    rows = []
    for name, times in seconds.items():
        median = f"{statistics.median(times) * 1e3:.3g}"
        rows.append({"contestant": name, "ms": median, **against(times, first)})
    return pd.DataFrame(rows)


def against(values: Sequence[float], first: Sequence[float]) -> dict[str, str]:
    """The median ratio to the first contestant's values, round by round, and its quartiles."""
    ratios = [mine / its for mine, its in zip(values, first, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {"ratio": f"{middle:.2f}", "quartiles": f"{low:.2f} to {high:.2f}"}


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
