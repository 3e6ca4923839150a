"""What the notebooks call: an artifact's figure, tables, verdicts and numbers, from its records.

`artifact` glues everything under names that the text can use, so that no number of a run is ever
typed: ``fig6-figure``, ``fig6-scale``, ``fig6-seeds``; for a claim ``fig6.robust`` its verdict,
and ``fig6.robust-1``, ``fig6.robust-2`` ... its estimates with their intervals. ``fig6-data`` are
links to what the figure is drawn from, in files beside the page.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd
from IPython import get_ipython
from IPython.display import Markdown
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats
from myst_nb import glue

from experiments import ledger, report, style
from experiments.artifact import Artifact, best_scale, find, of, verdicts
from experiments.record import ROOT, Store, to_csv, write_atomically
from experiments.spec import SCALES, Run
from experiments.timings import FOLDER, TABLES, lines
from experiments.verdict import Records

UNTESTED, UNKNOWN, NONE = "not yet tested", "not yet known", "none yet"
"""What a sentence says in place of a verdict, of a number and of a scale without records."""
DATA = Path("_data")
"""Beside the notebook, where Sphinx and Jupyter find them: the files behind its figures."""


def _at_hand(name: str) -> tuple[Artifact, Store, str, Records]:
    """An artifact, the store, the scale to show, and what is recorded of it at that scale."""
    found, store = find(name), Store()
    scale = best_scale(found, store)
    return found, store, scale, found.records(scale, store)


def artifact(name: str) -> None:
    """Glue an artifact's figure and its data, scale, number of seeds, verdicts and estimates.

    Where no whole comparison is recorded, all of them say so.
    """
    style.use()
    set_matplotlib_formats("svg")
    found, store, scale, records = _at_hand(name)
    _claims(found, store, scale, records)
    if found.draw is not None:
        bare = records.runs.empty
        glue(f"{name}-figure", style.blank(_lacking(found, store)) if bare else found.draw(records))
        glue(f"{name}-data", data(f"{name}-{scale}", records), display=False)


def claims(name: str) -> None:
    """Glue what `artifact` glues but for the figure and its data."""
    _claims(*_at_hand(name))


def _claims(found: Artifact, store: Store, scale: str, records: Records) -> None:
    recorded = not records.runs.empty
    glue(f"{found.id}-scale", scale if recorded else NONE, display=False)
    seeds = records.runs["seed"].nunique() if recorded else 0
    glue(f"{found.id}-seeds", str(seeds), display=False)
    for claim, verdict in zip(found.claims, found.verdicts(store), strict=True):
        untested = verdict.status == "not run"
        words = UNTESTED if untested else report.MARKS[verdict.status].split(" ", 1)[1]
        glue(verdict.claim, words, display=False)
        estimates = [report.with_interval(estimate) for estimate in verdict.estimates]
        for number, estimate in enumerate(estimates or [UNKNOWN] * len(claim.parts), 1):
            glue(f"{verdict.claim}-{number}", estimate, display=False)


def data(name: str, records: Records) -> Markdown:
    """Write what a figure is drawn from into files beside the notebook; links to them.

    A row a run, with all its axes and its final numbers; and a row a point of a curve, with the
    axes on which the runs differ.
    """
    if records.runs.empty:
        return Markdown("No data yet.")
    points = [name for name in ("step", "split", "metric", "value") if name in records.curves]
    axes = [
        axis
        for axis in records.runs
        if axis in records.curves and axis != "run_id" and _differs(records.runs[axis])
    ]
    tables = {"by run": records.runs}
    if len(records.curves):
        tables["point by point"] = records.curves[axes + points]
    return _linked({words: (f"{name}-{words.split()[-1]}s", tables[words]) for words in tables})


def _linked(tables: Mapping[str, tuple[str, pd.DataFrame]]) -> Markdown:
    """Write each table into a file of the name beside it; links to them, by the words of each."""
    DATA.mkdir(exist_ok=True)
    links = []
    for words, (name, rows) in tables.items():
        path = DATA / f"{name}.csv"
        write_atomically(path, to_csv(rows))
        links.append(f"[{words}]({path.as_posix()})")
    return Markdown("The data behind this figure: " + ", ".join(links) + ".")


def _differs(axis: pd.Series) -> bool:
    return bool(axis.map(str).nunique() > 1)


def table(name: str) -> Markdown:
    """An artifact's own table, or how to have it where nothing is recorded."""
    found, store, _, records = _at_hand(name)
    if found.tabulate is None:
        raise ValueError(f"{name} has no table; use artifact({name!r}) for its figure")
    if records.runs.empty:
        return Markdown(_lacking(found, store, "`"))
    return shown(found.tabulate(records).rename(columns=str).reset_index())


def standing(*names: str) -> Markdown | None:
    """What to know of the records of some artifacts, for the head of a page: the notes below."""
    notes = (pending(*names), ahead(*names), across(*names))
    found = [note.data for note in notes if note is not None]
    return Markdown("\n\n".join(found)) if found else None


def pending(*names: str) -> Markdown | None:
    """A note for the head of a page: of which of some artifacts no comparison is whole, if any."""
    store = Store()
    bare = [found for found, _, _, records in map(_at_hand, names) if records.runs.empty]
    if not bare:
        return None
    commands = "\n".join(
        f"- {found.title} ({_progress(found, store)}): `{_command(found)}`" for found in bare
    )
    return Markdown(
        ":::{note}\nOf these studies no comparison is wholly recorded yet, and where this page "
        f"speaks of them their verdicts are {UNTESTED} and their numbers {UNKNOWN}:\n\n"
        f"{commands}\n:::"
    )


def ahead(*names: str) -> Markdown | None:
    """A note on what is recorded of some artifacts above the scale that is shown, if any is."""
    store, found = Store(), []
    for one, _, shown, _ in map(_at_hand, names):
        above = SCALES[SCALES.index(shown) + 1 :]
        for scale in (scale for scale in above if scale in one.runs):
            runs = one.at(scale)
            if done := store.recorded(runs):
                found.append(f"*{one.title}* ({len(done)} of {len(runs)} runs of `{scale}`)")
    if not found:
        return None
    return Markdown(
        ":::{note}\nThere are records of a larger scale than this page shows, which count once "
        f"three seeds of a whole comparison are there: {'; '.join(found)}.\n:::"
    )


def across(*names: str) -> Markdown | None:
    """A note on those of some artifacts that compare runs of several devices, if any do."""
    mixed = ledger.across_devices(Store())
    titles = [f"*{find(name).title}*" for name in names if name in mixed]
    if not titles:
        return None
    return Markdown(
        f":::{{note}}\nWithin a seed, some arms ran on one kind of machine and some on another: "
        f"{'; '.join(titles)}. [The ledger](ledger.md) says what that costs.\n:::"
    )


def _progress(found: Artifact, store: Store) -> str:
    runs = found.at(_planned(found))
    return f"{len(store.recorded(runs))} of {len(runs)} runs"


def _lacking(found: Artifact, store: Store, mark: str = "") -> str:
    """What stands where an artifact has no whole comparison; its command between marks."""
    return f"{found.id} has {_progress(found, store)} so far: {mark}{_command(found)}{mark}"


def _command(found: Artifact) -> str:
    return f"python -m experiments run {found.id} --scale {_planned(found)}"


def _planned(found: Artifact) -> str:
    """The smallest scale that votes."""
    return next(scale for scale in SCALES if scale in found.runs and scale != "smoke")


def metrics(name: str, by: str) -> pd.DataFrame:
    """Mean over seeds of an artifact's metrics, one row for each value of the axis `by`."""
    found, store = find(name), Store()
    runs = found.whole(best_scale(found, store), store).runs
    return runs.groupby(by).mean(numeric_only=True)


def samples(name: str, pick: Callable[[Records], Mapping[str, str]]) -> Markdown:
    """What some of an artifact's language models have written; ¶ is the end of a paragraph.

    Parameters
    ----------
    name
        The artifact.
    pick
        Its records -> each model's name for readers, and its run.
    """
    found, store, scale, records = _at_hand(name)
    if records.runs.empty:
        return Markdown(_lacking(found, store, "`"))
    lines = store.provenance(found.at(scale))
    written = {line["run_id"]: line["sample"] for line in lines if "sample" in line}
    rows = [
        {"model": model, "text": _escaped(written.get(run, "–"))}
        for model, run in pick(records).items()
    ]
    return shown(pd.DataFrame(rows))


def _escaped(text: str) -> str:
    """Words as they are, in Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#$~])", r"\\\1", text.replace("<eos>", "¶"))


def shown(frame: pd.DataFrame) -> Markdown:
    """A table without its index, its numbers in three digits."""
    return Markdown(report.markdown(frame.map(_cell)))


def _cell(value: object) -> object:
    return report.number(value) if isinstance(value, float) else value


def judged(*names: str) -> Markdown:
    """The verdicts on some artifacts, or on all."""
    return Markdown(
        report.markdown(report.page(verdicts(only=[find(name) for name in names] or None)))
    )


def tally() -> None:
    """Glue how many claims there are, and how many have each verdict: ``claims-reproduced`` ...

    Likewise of the paper's alone, as ``paper-claims``, ``paper-claims-reproduced`` ...
    """
    found = verdicts()
    own = [verdict for verdict in found if verdict.artifact in of("paper")]
    for name, some in (("claims", found), ("paper-claims", own)):
        glue(name, str(len(some)), display=False)
        for status in report.MARKS:
            count = sum(verdict.status == status for verdict in some)
            glue(f"{name}-{status.replace(' ', '-')}", str(count), display=False)


def deviations(name: str) -> Markdown:
    """On what, and why, the runs differ from the paper's: those recorded, or else to be."""
    found, _, scale, records = _at_hand(name)
    shown = _planned(found) if records.runs.empty else scale
    return Markdown(report.markdown(ledger.deviations(found, shown)))


def entries() -> list[Markdown]:
    """The ledger, folded: records at each scale and deviations there, for the artifacts of a group.

    Plain HTML folds: it works without scripts, in the book and in a notebook. Every artifact has
    an anchor, ``#ledger-fig6``.
    """
    return [_entry(group, Store()) for group in ledger.groups()]


def _entry(group: list[Artifact], store: Store) -> Markdown:
    first = group[0]
    names = ", ".join(f'<strong id="ledger-{one.id}">{one.id}</strong>' for one in group)
    parts = [
        f'<details class="ledger"><summary>{names}: {ledger.state(first, store)}</summary>',
        *(f"**{one.id}**: {one.title}" for one in group),
        report.markdown(ledger.records(first, store)),
        _deviations(first),
        "</details>",
    ]
    return Markdown("\n".join(f"{part.strip()}\n" for part in parts))


def _deviations(found: Artifact) -> str:
    rows = [ledger.deviations(found, scale).assign(scale=scale) for scale in found.runs]
    table = pd.concat(rows) if rows else pd.DataFrame()
    if len(table):
        return report.markdown(table[["scale", "what", "the paper", "here", "why"]])
    if "paper" not in found.runs:
        return "It goes past the paper, which has no such runs: there is nothing to deviate from."
    return "No deviation at any scale."


def firmness() -> Markdown:
    """Of the claims that the rule decides, in how many readings of the records that stands."""
    return Markdown(report.markdown(ledger.firmness(Store())))


def costs(scale: str) -> Markdown:
    """What each artifact took and will take, in time and on disk; what is not known, in a line."""
    table = ledger.costs(scale, Store())
    bare = (table["time taken"] == "–") & (table["time left"] == "not known")
    text = report.markdown(table[~bare])
    if bare.any():
        names = ", ".join(f"`{name}`" for name in table.loc[bare, "artifact"])
        text += f"\n\nNothing is recorded, and nothing known of the time, of {names}."
    return Markdown(text)


def live(name: str) -> None:
    """Run an artifact here and now at the smoke scale; glue its figure as ``NAME-live``.

    Its data is glued too, as ``NAME-live-data``.
    """
    style.use()
    set_matplotlib_formats("svg")
    found: Artifact = find(name)
    if found.draw is None:
        raise ValueError(f"{name} draws no figure")
    records = trained(found.at("smoke"))
    glue(f"{name}-live", found.draw(records))
    glue(f"{name}-live-data", data(f"{name}-live", records), display=False)


def trained(runs: Iterable[Run]) -> Records:
    """Carry out some runs here and now, and keep their records no longer than the page needs."""
    from experiments import engine  # only the live cells need torch

    runs = tuple(runs)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for run in runs:
            store.add(engine.execute(run), "smoke")
        return Records(store.table(runs), store.curves(runs))


def timings(name: str, device: str = "cpu") -> pd.DataFrame:
    """A recorded benchmark's table; empty where none is recorded for that kind of device."""
    path = ROOT / FOLDER / f"{name}-{device}.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def timed_on(name: str, device: str = "cpu") -> str:
    """What a recorded benchmark ran on: the device, its cores, and torch's version."""
    (line,) = (one for one in lines(Store(), TABLES) if one["table"] == f"{name}-{device}.csv")
    return f"{line['device']}, {line['threads']} threads, torch {line['versions']['torch']}"


def skip_absent() -> None:
    """From here on, a cell that imports what is not installed says so instead of failing."""
    shell = get_ipython()
    assert shell is not None, "only a notebook has cells"
    shell.input_transformers_cleanup.append(or_sentence)


def or_sentence(lines: list[str]) -> list[str]:
    """The lines of a cell, or one that prints what must be installed for it to run."""
    imported = re.findall(r"^(?:from|import) (\w+)", "".join(lines), re.MULTILINE)
    absent = [name for name in dict.fromkeys(imported) if importlib.util.find_spec(name) is None]
    if not absent:
        return lines
    return [f"print('Not run here: this example needs {', '.join(absent)}.')\n"]


def figure(name: str, drawn: Figure, data: pd.DataFrame | None = None) -> None:
    """Glue a figure that a notebook has drawn itself, and as ``NAME-data`` what it is drawn from.

    Parameters
    ----------
    name
        The name to glue under.
    drawn
        The figure.
    data
        Its points, a row each; its index is not written.
    """
    set_matplotlib_formats("svg")
    glue(name, drawn)
    if data is not None:
        glue(f"{name}-data", _linked({"point by point": (name, data)}), display=False)
