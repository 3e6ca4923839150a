"""Where timings are kept: a table for each benchmark and kind of device, and how it came about."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import torch

from experiments.record import ROOT, Store, processor, surroundings, write_atomically
from experiments.timings import FOLDER, TABLES, put


def record(name: str, table: pd.DataFrame, device: str, results: Path = ROOT) -> Path:
    """Write a benchmark's table, in place of an earlier one from the same kind of device.

    Below `results` stand ``benchmarks/<name>-<kind of device>.csv`` and, with one line for each
    table, ``benchmarks/timings.jsonl``. The line is written last.

    Returns
    -------
    Path
        The table's file.
    """
    where = torch.device(device)
    store, path = Store(results), results / FOLDER / f"{name}-{where.type}.csv"
    line = {
        "table": path.name,
        **surroundings(),
        "device": _describe(where),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    with store.changing(FOLDER):
        write_atomically(path, table.to_csv(index=False))
        put(store, TABLES, [line])
    return path


def _describe(device: torch.device) -> str:
    """What a timing depends on: the GPU's name, or the processor's and the instructions used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"
