"""How everything here is timed: the contestants take turns, and the medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import pandas as pd
import torch


def compare(
    contestants: Mapping[str, Callable[[], object]], device: str, rounds: int = 15
) -> pd.DataFrame:
    """Median milliseconds a call, and the ratio to the first contestant.

    Each round calls every contestant once, so that a slow moment of the machine hits all alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 2):
        for name, call in contestants.items():
            started = time.perf_counter()
            call()
            if torch.device(device).type == "cuda":
                torch.cuda.synchronize(device)
            if number >= 2:  # the first rounds allocate and warm caches
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) * 1e3 for name, times in seconds.items()}
    first = next(iter(medians.values()))
    rows = [
        {"contestant": name, "ms": f"{median:.3g}", "ratio": f"{median / first:.2f}"}
        for name, median in medians.items()
    ]
    return pd.DataFrame(rows)
