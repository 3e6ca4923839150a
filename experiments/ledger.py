"""The ledger: what is planned and recorded, what it cost, and where it differs from the paper.

All of it is read from the specs and from the provenance of the records; nothing is typed anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from experiments import checks, report
from experiments.artifact import Artifact, artifacts
from experiments.campaign import Left, hours_left
from experiments.record import TABLES, Store, as_line
from experiments.spec import SCALES, Run

CPU = "cpu"
NOT_KNOWN = "not known"


def deviations(artifact: Artifact, scale: str) -> pd.DataFrame:
    """On what, and why, the runs at a scale differ from the paper's: one row an axis."""
    rows = [
        {
            "what": f"`{deviation.axis}`",
            "the paper": deviation.paper,
            "here": on_axis(artifact.at(scale), deviation.axis),
            "why": deviation.reason,
        }
        for deviation in artifact.deviations.get(scale, ())
    ]
    return pd.DataFrame(rows, columns=["what", "the paper", "here", "why"])


def on_axis(runs: tuple[Run, ...], axis: str) -> str:
    """What some runs have on an axis."""
    return "; ".join(dict.fromkeys(value(run.axes().get(axis, "none")) for run in runs))


def value(of: object) -> str:
    """A value of an axis as people read it."""
    if isinstance(of, tuple):
        return ", ".join(map(value, of))
    return f"{of:,}" if type(of) is int else str(of)


def groups() -> list[list[Artifact]]:
    """The artifacts in their order; those that read the very same runs are together."""
    found: list[list[Artifact]] = []
    for artifact in artifacts().values():
        for group in found:
            if _alike(artifact, group[0]):
                group.append(artifact)
                break
        else:
            found.append([artifact])
    return found


def _alike(one: Artifact, other: Artifact) -> bool:
    return (one.runs, one.deviations) == (other.runs, other.deviations)


def records(artifact: Artifact, store: Store) -> pd.DataFrame:
    """One row a scale: how many runs and seeds, where they were done, and for how long."""
    return pd.DataFrame([_scale(artifact, scale, store) for scale in _scales(artifact)])


def state(artifact: Artifact, store: Store) -> str:
    """What is recorded, in short: runs at each scale, and the time that they took."""
    runs = {scale: artifact.at(scale) for scale in _scales(artifact)}
    counts = [
        f"{scale} {len(store.recorded(planned)):,} of {len(planned):,}"
        for scale, planned in runs.items()
    ]
    lines = [line for planned in runs.values() for line in settled(planned, store)]
    return f"runs recorded: {', '.join(counts) or 'none planned'}; {time(lines) or 'no time yet'}"


def _scales(artifact: Artifact) -> list[str]:
    return [scale for scale in SCALES if scale in artifact.runs]


def settled(runs: tuple[Run, ...], store: Store) -> list[dict[str, Any]]:
    """The provenance of those runs that are recorded."""
    done = store.recorded(runs)
    return [line for line in store.provenance(runs) if line["run_id"] in done]


def _scale(artifact: Artifact, scale: str, store: Store) -> dict[str, str]:
    runs = artifact.at(scale)
    done, lines = store.recorded(runs), settled(runs, store)
    seeds = {run.seed for run in runs if run.id in done}
    return {
        "scale": scale,
        "runs planned": f"{len(runs):,}",
        "recorded": f"{len(done):,}",
        "seeds": f"{len(seeds)} of {len({run.seed for run in runs})}",
        "on": "; ".join(f"{machine} ({n})" for machine, n in made_on(lines).items()) or "–",
        "time": time(lines) or "–",
        "shares runs with": ", ".join(
            f"{name} ({n})" for name, n in shared(artifact, scale).items()
        )
        or "none",
    }


def firmness(store: Store) -> pd.DataFrame:
    """One row for each claim that the rule decides: in how many other readings that stands."""
    rows = []
    for artifact in artifacts().values():
        for verdict in artifact.verdicts(store):
            if verdict.readings:
                stands = verdict.readings.items()
                claim = f"**{artifact.id}** {verdict.text}"
                rows.append(
                    {"claim": claim, "by the rule": report.MARKS[verdict.by_rule]}
                    | dict.fromkeys(checks.NAMES, "–")
                    | {name: f"{count} of {tried}" for name, (count, tried) in stands}
                )
    return pd.DataFrame(rows, columns=["claim", "by the rule", *checks.NAMES])


def made_on(lines: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """On which kinds of machine runs were done, and how many on each."""
    return Counter(_machine(line) for line in lines)


def time_on(lines: Iterable[Mapping[str, Any]]) -> str:
    """The time that runs took on each of them, such as "2.49 core-hours on cpu, Linux ..."."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        found.setdefault(_machine(line), []).append(line)
    words = []
    for on, made in found.items():
        ((device, hours),) = cost(made).items()
        words.append(f"{_duration(hours, 'core-' if device == CPU else '')} on {on}")
    return "; ".join(words)


def across_devices(store: Store) -> list[str]:
    """The artifacts that compare, within a seed, runs that were made on unlike machines.

    Their devices differ, or their versions of torch, or on a CPU the processors, as far as is
    known: older records do not name theirs.
    """
    found = []
    for artifact in artifacts().values():
        for runs in artifact.runs.values():
            seeds = {run.id: (run.task, run.seed) for run in runs}
            made: dict[tuple[str, int], list[tuple[str, str, str]]] = {}
            for line in settled(runs, store):
                made.setdefault(seeds[line["run_id"]], []).append(_origin(line))
            if any(_differ(of_seed) for of_seed in made.values()):
                found.append(artifact.id)
    return list(dict.fromkeys(found))


def _origin(line: Mapping[str, Any]) -> tuple[str, str, str]:
    """Device, processor and version of torch; empty where that is not known, or does not count."""
    device = line.get("device", "")
    processor = line.get("processor", "") if device == CPU else ""
    return device, processor, line.get("versions", {}).get("torch", "")


def _differ(origins: Iterable[tuple[str, str, str]]) -> bool:
    return any(len(set(kind) - {""}) > 1 for kind in zip(*origins, strict=True))


def _machine(line: Mapping[str, Any]) -> str:
    system = str(line.get("platform", "")).partition("-")[0]
    versions = line.get("versions", {})
    parts = [line.get("device", ""), system, f"torch {versions.get('torch', 'unknown')}"]
    return ", ".join(part for part in parts if part)


def cost(lines: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Hours of each kind of device that runs took: of a processor, of its cores.

    A run that shared a GPU with others counts with its share; one of several processes, with all.
    """
    hours: dict[str, float] = {}
    for line in lines:
        device = line["device"]
        share = (line.get("threads") or 1) if device == CPU else 1 / line.get("side_by_side", 1)
        share *= line.get("processes", 1)
        hours[device] = hours.get(device, 0.0) + line["wall_seconds"] * share / 3600
    return hours


def time(lines: Iterable[Mapping[str, Any]]) -> str:
    """The same in words, such as "2.49 core-hours"."""
    return " and ".join(
        _duration(hours, "core-") if device == CPU else f"{_duration(hours)} of {device}"
        for device, hours in cost(lines).items()
    )


def _duration(hours: float, of: str = "") -> str:
    if hours >= 1:
        return f"{report.number(hours)} {of}hours"
    minutes = 60 * hours
    return f"{report.number(minutes)} {of}minutes" if minutes >= 1 else f"under a {of}minute"


def shared(artifact: Artifact, scale: str) -> dict[str, int]:
    """The artifacts of other groups that rest on some of the same runs, and on how many."""
    own = {run.id for run in artifact.at(scale)}
    others = {
        name: len(own & {run.id for run in other.runs.get(scale, ())})
        for name, other in artifacts().items()
        if not _alike(artifact, other)
    }
    return {name: count for name, count in others.items() if count}


def sizes(store: Store) -> Counter[str]:
    """How many bytes of the results belong to each run, by its id."""
    found: Counter[str] = Counter()
    for task in store.tasks():
        for table in TABLES:
            text = (store.root / task / f"{table}.csv").read_text()
            for line in text.splitlines(keepends=True)[1:]:
                found[line.partition(",")[0]] += len(line)
        for provenance in store.lines(task):
            found[provenance["run_id"]] += len(as_line(provenance))
    return found


def costs(scale: str, store: Store) -> pd.DataFrame:
    """One row an artifact: the time that its records took and the rest will, and their size."""
    bytes_of = sizes(store)
    rows = []
    for name, artifact in artifacts().items():
        if scale not in artifact.runs:
            continue
        runs = artifact.at(scale)
        done, lines = store.recorded(runs), settled(runs, store)
        rows.append(
            {
                "artifact": name,
                "runs": f"{len(done)} of {len(runs)}",
                "time taken": time(lines) or "–",
                "time left": _left(runs, store) if len(done) < len(runs) else "none",
                "records, kB": f"{sum(bytes_of[one] for one in done) / 1000:,.0f}",
            }
        )
    return pd.DataFrame(rows)


def _left(runs: tuple[Run, ...], store: Store) -> str:
    """On the devices that are known to the end; where there is none, on those known in part."""
    known = {
        device: of
        for device, of in hours_left(runs, store).items()
        if of.recorded or of.rehearsed or not of.unknown
    }
    whole = {device: of for device, of in known.items() if not of.unknown}
    words = (left(of, f" on {device}") for device, of in (whole or known).items())
    return " or ".join(words) or NOT_KNOWN


def left(of: Left, where: str = "") -> str:
    """How long the rest will take, such as "at least 3.20 hours (rehearsed), 2 runs unknown"."""
    hours = of.recorded + of.rehearsed
    if of.unknown and not hours:
        return NOT_KNOWN
    words = f"{_duration(hours)}{where}"
    if of.rehearsed:
        part = f"{_duration(of.rehearsed)} of it " if of.recorded else ""
        words += f" ({part}rehearsed)"
    if not of.unknown:
        return words
    runs = f"{len(of.unknown)} {'run' if len(of.unknown) == 1 else 'runs'} unknown"
    return f"{'at least ' if 60 * hours >= 1 else ''}{words}, {runs}"
