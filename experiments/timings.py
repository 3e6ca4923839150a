"""Timings, which belong to a kind of device and not to a run: where they are kept.

Two files of a JSON object a line: what each table of a benchmark came about on, and the paces that
runs were rehearsed at. They are written under the lock of the records. Nothing here needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.record import Store, as_line, write_atomically

FOLDER = "benchmarks"
TABLES, PACES = "timings.jsonl", "paces.jsonl"
KEYS = {TABLES: ("table",), PACES: ("device", "kind")}
"""What tells the lines of a file apart: of each there is one."""


def lines(store: Store, name: str) -> list[dict[str, Any]]:
    """The lines of a file; none where there is no file yet.

    Raises
    ------
    UserError
        If it is damaged.
    """
    file = store.root / FOLDER / name
    found: list[dict[str, Any]] = []
    if not file.exists():
        return found
    try:
        for text in file.read_text().splitlines():
            line = json.loads(text)
            key(name, line)
            found.append(line)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is not whole after line {len(found)} ({error}): restore the file from git, "
            "or delete the damaged line and time again"
        ) from error
    return found


def put(store: Store, name: str, new: Iterable[dict[str, Any]]) -> None:
    """Write lines in place of those of the same key; the caller has `Store.changing`."""
    kept = {key(name, line): line for line in (*lines(store, name), *new)}
    text = "".join(as_line(kept[one]) for one in sorted(kept))
    write_atomically(store.root / FOLDER / name, text)


def path(store: Store, line: dict[str, Any]) -> Path:
    """Where the table lies that a line is about."""
    return store.root / FOLDER / Path(line["table"]).name


def table(store: Store, line: dict[str, Any]) -> str:
    """The same table, as text.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    try:
        return path(store, line).read_text()
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"{path(store, line)} cannot be read ({error}): restore the file from git, or delete "
            f"its line in {TABLES} and time again"
        ) from error


def key(name: str, line: dict[str, Any]) -> str:
    """What a line of a file is about."""
    return json.dumps([line[part] for part in KEYS[name]], sort_keys=True)
