"""A run as a value: what is trained or measured, and nothing about where or when.

A run belongs to no figure. Its id is the hash of its canonical JSON, so that every artifact which
needs "ResNet-20, RAdam, lr 0.1, seed 0" finds the same record. Fields that hold their default are
left out of the canonical form: a field added later changes no existing id.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Options = tuple[tuple[str, Any], ...]
"""Keyword arguments as a value: sorted pairs, hashable."""

SCALES = ("smoke", "cpu", "paper")
"""Embedded data in seconds, and no vote; real data, smaller; the paper's setting."""

PRECISIONS = ("float32", "bfloat16", "float16")
"""Of the forward and the backward pass; weights and optimizer state are float32 unless the settings
and the optimizer's options say otherwise."""


def _frozen(value: Any) -> Any:
    """Lists become tuples, mappings become sorted pairs, so that a spec can be hashed."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, _frozen(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item) for item in value)
    return value


def options(**keywords: Any) -> Options:
    """Keyword arguments as a value: ``options(beta2=0.999, mu=0.1)``."""
    return tuple(sorted((key, _frozen(value)) for key, value in keywords.items()))


@dataclass(frozen=True)
class Optim:
    """An optimizer with its settings: a name of `experiments.optimizers`, and keyword arguments.

    Raises
    ------
    ValueError
        If `lr` or `weight_decay` is no number, negative, infinite or NaN.
    """

    name: str
    lr: float
    weight_decay: float = 0.0
    options: Options = ()

    def __post_init__(self) -> None:
        for field in ("lr", "weight_decay"):
            value = getattr(self, field)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
                raise ValueError(f"{field}={value!r} is not a finite number >= 0; give one")
            object.__setattr__(self, field, float(value))  # 1 and 1.0 are one id


@dataclass(frozen=True)
class Schedule:
    """One factor of the learning-rate schedule: a name of `radam_core.factors` and its arguments.

    With ``unit="epoch"`` the arguments that count time are given in epochs, and so is `delay`: for
    so long the factor rests at its first value.
    """

    name: str
    options: Options = ()
    unit: Literal["update", "epoch"] = "update"
    delay: int = 0


@dataclass(frozen=True)
class Run:
    """One training run or one measurement.

    `settings` are the task's own (network, number of images, rho ...); without `optim` the run is
    a measurement that trains nothing. `probes` are the updates, counted from 1, of which
    histograms of gradients, changes and adaptive rates are recorded.

    Raises
    ------
    ValueError
        If `precision` is none of the three, `epochs` or `batch_size` is negative, `clip` is not a
        finite number above 0, or `probes` has a number below 1.
    """

    task: str
    optim: Optim | None = None
    schedule: tuple[Schedule, ...] = ()
    epochs: int = 0
    batch_size: int = 0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    clip: float | None = None
    seed: int = 0
    settings: Options = ()
    probes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise ValueError(f"precision={self.precision!r} is not known; use {known}")
        for field in ("epochs", "batch_size"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field}={getattr(self, field)} is negative; count from 0")
        if self.clip is not None:
            if not (math.isfinite(self.clip) and self.clip > 0):
                raise ValueError(f"clip={self.clip} is no norm; use a finite number > 0, or None")
            object.__setattr__(self, "clip", float(self.clip))
        object.__setattr__(self, "probes", tuple(self.probes))
        if any(probe < 1 for probe in self.probes):
            raise ValueError(f"probes={self.probes} has no update's number; count from 1")

    @functools.cached_property
    def id(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:12]

    def canonical_json(self) -> str:
        """Sorted keys, no white space, no field that holds its default."""
        return json.dumps(self.fields(), sort_keys=True, separators=(",", ":"))

    def fields(self) -> dict[str, Any]:
        """What JSON can hold of the run: no field that has its default, lists for tuples."""
        fields: dict[str, Any] = _without_defaults(self)
        return fields

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Run:
        """The inverse of `fields`, and of a parsed `canonical_json`."""
        found = _with_options(fields, "settings")
        if "optim" in found:
            found["optim"] = Optim(**_with_options(found["optim"]))
        found["schedule"] = tuple(
            Schedule(**_with_options(one)) for one in fields.get("schedule", ())
        )
        return cls(**found)

    def setting(self, name: str) -> Any:
        """One of the task's settings.

        Raises
        ------
        KeyError
            If the run does not hold it.
        """
        return dict(self.settings)[name]

    def axes(self) -> dict[str, Any]:
        """The run as one flat row: the columns that a figure groups by."""
        row: dict[str, Any] = {"task": self.task, "seed": self.seed}
        if self.optim is not None:
            row |= {"optimizer": self.optim.name, "lr": self.optim.lr}
            row |= {"weight_decay": self.optim.weight_decay}
            row |= {f"optim.{key}": value for key, value in self.optim.options}
            row |= {"epochs": self.epochs, "batch_size": self.batch_size}
            row |= {"precision": self.precision, "clip": self.clip}
        if self.probes:
            row["probes"] = self.probes
        for factor in self.schedule:
            row |= {f"{factor.name}.{key}": value for key, value in factor.options}
            if factor.delay:
                row[f"{factor.name}.delay"] = factor.delay
        return row | dict(self.settings)

    def __str__(self) -> str:
        if self.optim is None:
            return f"{self.task}{_words(self.settings)} seed {self.seed}"
        warmups = (one for one in self.schedule if one.name.endswith("Warmup"))
        arm = "".join(f" {one.name}{_words(one.options)}" for one in warmups)
        return f"{self.task} {self.optim.name} lr {self.optim.lr:g}{arm} seed {self.seed}"


def _words(pairs: Options) -> str:
    return "".join(f" {key} {value}" for key, value in pairs)


def names(runs: Iterable[Run]) -> dict[Run, str]:
    """What to call each of some runs, so that they can be told apart: by as few axes as it takes.

    To what a run calls itself come the axes that runs of one name differ on, while they do.
    """
    found = {run: str(run) for run in runs}
    axes = {run: run.axes() for run in found}
    for key in dict.fromkeys(key for row in axes.values() for key in row):
        alike: dict[str, list[Run]] = {}
        for run, name in found.items():
            alike.setdefault(name, []).append(run)
        for group in alike.values():
            if len({axes[run].get(key) for run in group}) > 1:
                word = key.removeprefix("optim.")
                having = (run for run in group if key in axes[run])
                found |= {run: f"{found[run]}, {word} {axes[run][key]}" for run in having}
    return found


def _without_defaults(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _without_defaults(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
    if isinstance(value, (tuple, list)):
        return [_without_defaults(item) for item in value]
    return value


def _with_options(fields: Mapping[str, Any], name: str = "options") -> dict[str, Any]:
    return {**fields, name: _frozen(fields.get(name, ()))}


def grid(base: Run, **axes: Iterable[Any]) -> tuple[Run, ...]:
    """Every combination of the axes, the last one fastest.

    An axis is a field of `Run`, ``lr`` (of the run's optimizer), or a setting that `base` has.

    Raises
    ------
    ValueError
        If an axis is none of these.
    """
    product = itertools.product(*(tuple(values) for values in axes.values()))
    return tuple(varied(base, **dict(zip(axes, point, strict=True))) for point in product)


def with_other_batches(run: Run) -> Run:
    """A run with its own initial weights, and the batches of the next seed."""
    settings = options(**(dict(run.settings) | {"data_seed_offset": 1}))
    return dataclasses.replace(run, settings=settings)


def varied(run: Run, /, **changes: Any) -> Run:
    """A run with other values on some axes, as those of `grid`.

    Raises
    ------
    ValueError
        If one is no axis of the run.
    """
    fields = {field.name for field in dataclasses.fields(Run)}
    run = dataclasses.replace(run, **{key: changes[key] for key in changes if key in fields})
    for key, value in changes.items():
        if key in fields:
            continue
        if key == "lr" and run.optim is not None:
            run = dataclasses.replace(run, optim=dataclasses.replace(run.optim, lr=value))
        elif key in dict(run.settings):
            settings = options(**(dict(run.settings) | {key: value}))
            run = dataclasses.replace(run, settings=settings)
        else:
            raise ValueError(f"{key!r} is no field of Run, no setting of the base run, and not lr")
    return run
