"""Where timings are kept: a table for each benchmark and kind of device, and how it came about."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import torch

from experiments.record import (
    ROOT,
    Store,
    as_line,
    processor,
    surroundings,
    write_atomically,
)

FOLDER = "benchmarks"


def record(name: str, table: pd.DataFrame, device: str, results: Path = ROOT) -> Path:
    """Write a benchmark's table, in place of an earlier one from the same kind of device.

    Below `results` stand ``benchmarks/<name>-<kind of device>.csv`` and, with one line for each
    table, ``benchmarks/timings.jsonl``. The line is written last. Timings belong to
    their machine: they are no records of runs, and `merge` leaves them where they are.

    Returns
    -------
    Path
        The table's file.
    """
    where = torch.device(device)
    folder = results / FOLDER
    path, provenance = folder / f"{name}-{where.type}.csv", folder / "timings.jsonl"
    line = {
        "table": path.name,
        **surroundings(),
        "device": _describe(where),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    with Store(results).changing(FOLDER):
        lines = [json.loads(text) for text in _lines(provenance)]
        lines = sorted([*(one for one in lines if one["table"] != path.name), line], key=_table)
        write_atomically(path, table.to_csv(index=False))
        write_atomically(provenance, "".join(map(as_line, lines)))
    return path


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _table(line: dict[str, object]) -> str:
    return str(line["table"])


def _describe(device: torch.device) -> str:
    """What a timing depends on: the GPU's name, or the processor's and the instructions used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"
