"""Verdicts as people read them: a table for the terminal, the README and the book."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.errors import UserError
from experiments.record import OUT_OF_MEMORY, Result, write_atomically
from experiments.verdict import Estimate, Verdict, interval

BEGIN, END = "<!-- verdicts: begin -->", "<!-- verdicts: end -->"
MARKS = {
    "reproduced": "✔ reproduced",
    "partly": "◐ partly reproduced",
    "contradicted": "✘ contradicted",
    "inconclusive": "? inconclusive",
    "not run": "· not run",
}
ANSWERS = {
    "reproduced": "✔ holds",
    "partly": "◐ holds in part",
    "contradicted": "✘ does not hold",
    "inconclusive": "? undecided",
    "not run": "· not run",
}
"""The same about an optimizer that the paper says nothing about."""


def table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row a claim: what the paper says, its number, ours, the verdict and what it rests on."""
    rows = [
        {
            "artifact": verdict.artifact,
            "claim": verdict.text,
            "the paper": verdict.paper_value,
            "ours": "; ".join(
                [
                    ours(verdict.estimates),
                    *(f"not given: {ours([one])}" for one in verdict.lacks),
                    *(f"not with {one}" for one in verdict.fails_with),
                ]
            ),
            "verdict": MARKS[verdict.status],
            "scale": verdict.scale or "",
            "seeds": _seeds(verdict),
        }
        for verdict in verdicts
    ]
    return pd.DataFrame(rows)


def page(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """The table for a page of the book: decided claims first, each with a link to its evidence.

    The link leads to a label of the book, ``(evidence-fig6)=``, which a chapter has for every
    artifact.
    """
    rows = table(sorted(verdicts, key=lambda verdict: verdict.status == "not run"))
    links = "**[" + rows["artifact"] + "](#evidence-" + rows["artifact"] + ")** "
    claims = links + rows["claim"] + "<br>*The paper: " + rows["the paper"] + "*"
    return rows.assign(claim=claims).drop(columns=["artifact", "the paper"])


def summary(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """The table in short, the decided claims first: the verdicts, and what they rest on."""
    rows = table(sorted(verdicts, key=lambda verdict: verdict.status == "not run"))
    return rows.drop(columns=["the paper", "ours"])


def _seeds(verdict: Verdict) -> str:
    if verdict.scale is None:
        return ""
    return "exact" if all(map(is_exact, verdict.estimates)) else str(verdict.n)


def ours(estimates: Sequence[Estimate]) -> str:
    """The estimates in short, and what was asked of them; a range where many are of one kind.

    They are if the same is asked of them, their labels differ only after the first comma, and no
    seed was lost.
    """
    kinds = {(one.label.partition(", ")[0], bound(one)) for one in estimates}
    if len(estimates) <= 2 or len(kinds) > 1 or any(one.lost for one in estimates):
        return "; ".join(f"{one.label}: {with_interval(one)} ({bound(one)})" for one in estimates)
    ((label, asked),) = kinds
    values = [estimate.value for estimate in estimates if estimate.n]
    holding = sum(estimate.holds is True for estimate in estimates)
    return (
        f"{label}: {number(min(values))} to {number(max(values))} ({asked}); "
        f"{holding} of {len(estimates)} hold"
    )


def bound(estimate: Estimate) -> str:
    """What a claim asks of a number, such as "asked: above 0.500"."""
    above, below = math.isfinite(estimate.above), math.isfinite(estimate.below)
    if above and below:
        return f"asked: {number(estimate.above)} to {number(estimate.below)}"
    return (
        f"asked: above {number(estimate.above)}"
        if above
        else f"asked: below {number(estimate.below)}"
    )


def with_interval(estimate: Estimate) -> str:
    """Such as "0.84 [0.51, 1.17]"; the number alone where it has no interval."""
    if not estimate.n:
        return "no record"
    lost = f"{estimate.lost} of {estimate.n} seeds lost to divergence" if estimate.lost else ""
    if estimate.lost == estimate.n:
        return lost
    shown = _spanned(estimate.value, estimate.low, estimate.high)
    if is_exact(estimate):
        shown = number(estimate.value)
    return f"{shown}, {lost}" if lost else shown


def mean(values: pd.Series, least: float = -math.inf) -> str:
    """The mean over seeds, likewise; what cannot be below `least` has its interval cut off there.

    For numbers that no claim is about.
    """
    low, high = interval(values)
    return _spanned(float(values.mean()), max(low, least) if len(values) > 1 else low, high)


def _spanned(value: float, low: float, high: float) -> str:
    if not math.isfinite(low):
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def is_exact(estimate: Estimate) -> bool:
    """Whether the number has no randomness in it."""
    return estimate.n == 1 and estimate.low == estimate.high  # one seed alone has no interval


def number(value: float) -> str:
    """Three significant digits, and no power of ten where the thousands are few."""
    digits = ",.0f" if 1000 <= round(abs(value), 0) < 1e6 else "#.3g"  # "1.00", not "1"
    return f"{value:{digits}}".removesuffix(".").replace("-", "−")


def markdown(rows: pd.DataFrame) -> str:
    """A table in Markdown; a bar within a cell is escaped, so that it begins no other."""
    lines = [rows.columns, ["---"] * len(rows.columns), *rows.itertuples(index=False)]
    cells = [[re.sub(r"(?<!\\)\|", r"\\|", str(cell)) for cell in line] for line in lines]
    return "".join("| " + " | ".join(line) + " |\n" for line in cells)


def plain(rows: pd.DataFrame) -> str:
    """A table for the terminal."""
    cells = [list(map(str, rows.columns)), *([str(c) for c in row] for row in rows.values)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(rows.columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def campaign(
    done: Sequence[Result], left: Sequence[str], meanwhile: int, runs: int, root: Path
) -> str:
    """What a campaign did of so many runs, what others did meanwhile, and why it left the rest."""
    counts = Counter(result.status for result in done)
    short = counts[OUT_OF_MEMORY]
    before = runs - len(done) - len(left) - meanwhile
    lines = [
        f"{len(done)} {'run' if len(done) == 1 else 'runs'} done now "
        f"({counts['diverged']} diverged"
        + (f", {short} out of memory, to be tried again" if short else "")
        + f"), {before} {'was' if before == 1 else 'were'} recorded before"
        + (f", {meanwhile} by others meanwhile" if meanwhile else "")
        + f"; records in {root}"
    ]
    if left:
        reasons = ", ".join(f"{n} {why}" for why, n in Counter(left).items())
        verb = "is" if len(left) == 1 else "are"
        lines.append(f"{len(left)} {verb} left ({reasons}); the same command goes on from here")
    return "\n".join(lines)


def refreshed(text: str, verdicts: Sequence[Verdict]) -> str:
    """A document with the summary of the verdicts between its two markers made anew.

    Raises
    ------
    UserError
        If the markers are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"the document needs the lines {BEGIN} and {END} around its verdict table")
    return f"{before}{BEGIN}\n{markdown(summary(verdicts))}{END}{after}"


def refresh(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write the summary of the verdicts into a document.

    Raises
    ------
    UserError
        If it has no markers, or cannot be read or written.
    """
    try:
        write_atomically(path, refreshed(path.read_text(), verdicts))
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"{path} cannot be written anew ({error}); name a text file that can"
        ) from error
