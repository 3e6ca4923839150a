"""Table 2: BLEU of RAdam and of Adam with warmup, in both directions.

The paper's BLEU is of tokenised text in lower case, as fairseq's scripts count it; ours is
sacrebleu's, of the text as it is, and its signature stands in every record. Numbers of the two
kinds cannot be compared with each other, only arms within one kind.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import pandas as pd

from experiments import style
from experiments.artifact import Artifact, Deviation
from experiments.paper import _translation
from experiments.paper._translation import (
    BASES,
    RADAM,
    WARMUP,
    arm,
    by_arm,
    translations,
)
from experiments.record import Store
from experiments.spec import Run, varied
from experiments.verdict import Claim, Part, Records

MARGIN = 0.5
"""BLEU: less than this is "similar". Fixed before the runs were."""
TRANSLATES = 5.0
"""BLEU, from which what a model says counts as a translation."""
OUTSIDE = "iwslt14-test: test"
"""Talks, where the paper scale trains on single sentences: a test out of the domain."""
DIRECTIONS = {("de", "en"): "De-En", ("en", "de"): "En-De"}

CPU = varied(
    BASES["cpu"],
    corpus="multi30k",
    epochs=30,
    batch_size=1_000,
    vocabulary=4_000,
    lengths=(1, 64),
    layers=3,
    averaged=5,
    probes=(),
)
SIZES = {**BASES, "cpu": CPU}


def _pair(scale: str, seed: int) -> tuple[Run, ...]:
    return tuple(
        arm(scale, name, seed, varied(SIZES[scale], source=source, target=target))
        for source, target in DIRECTIONS
        for name in (WARMUP, RADAM)
    )


def _count(scale: str) -> int:
    return 1 if scale == "smoke" else 5


RUNS = {
    scale: tuple(run for seed in range(_count(scale)) for run in _pair(scale, seed))
    for scale in SIZES
}


def _bleu(runs: pd.DataFrame) -> pd.Series:
    """BLEU of every run, the mean over the corpus's own test sets; one that diverged has 0."""
    own = [name for name in runs if name.startswith("test") and name.endswith("_bleu")]
    return runs[own].mean(axis=1).where(runs["status"] != "diverged", 0.0)


def _elsewhere(runs: pd.DataFrame) -> pd.Series:
    """BLEU of the runs that were tested on the IWSLT'14 test set too, which is of another kind."""
    return runs.get(f"{OUTSIDE}_bleu", pd.Series(dtype=float)).dropna()


def _of(
    records: Records,
    name: str,
    direction: tuple[str, str],
    bleu: Callable[[pd.DataFrame], pd.Series] = _bleu,
) -> pd.Series:
    """An arm's BLEU in a direction, by seed."""
    runs = by_arm(records).runs
    source, target = direction
    chosen = runs[
        (runs["arm"] == name) & (runs["source"] == source) & (runs["target"] == target)
    ].set_index("seed")
    return bleu(chosen)


def _lead(records: Records, direction: tuple[str, str]) -> pd.Series:
    """RAdam's BLEU minus that of Adam with warmup, by seed."""
    return _of(records, RADAM, direction) - _of(records, WARMUP, direction)


CLAIMS = (
    Claim(
        "table2.similar",
        "RAdam's BLEU is similar to that of Adam with warmup",
        "IWSLT'14 De-En 34.76 against 34.66, En-De 28.48 against 28.56, WMT'16 En-De "
        "27.27 against 27.03",
        tuple(
            Part(
                f"{label}: RAdam's BLEU minus that of Adam with warmup",
                functools.partial(_lead, direction=direction),
                above=-MARGIN,
                below=MARGIN,
            )
            for direction, label in DIRECTIONS.items()
        ),
        given=tuple(
            Part(
                f"{label}: BLEU of Adam with warmup",
                functools.partial(_of, name=WARMUP, direction=direction),
                above=TRANSLATES,
            )
            for direction, label in DIRECTIONS.items()
        ),
    ),
)


def tabulate(records: Records) -> pd.DataFrame:
    """BLEU by arm, direction and kind of text, mean and standard deviation over seeds."""
    rows = {}
    for name in (WARMUP, RADAM):
        columns = {
            f"{label}{where}": _of(records, name, direction, bleu)
            for where, bleu in (("", _bleu), (", IWSLT'14 test", _elsewhere))
            for direction, label in DIRECTIONS.items()
        }
        rows[name] = {
            column: style.mean_and_deviation(bleu.mean(), bleu.std())
            for column, bleu in columns.items()
            if len(bleu)
        }
        rows[name]["seeds"] = str(max(map(len, columns.values())))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("optimizer")


def samples(store: Store, scale: str) -> pd.DataFrame:
    """Some test sentences from German, and what both make of them at the first seed."""
    runs = _pair(scale, 0)[:2]  # the first of the directions
    return translations(store, dict(zip((WARMUP, RADAM), runs, strict=True)))


def signature(store: Store, scale: str) -> str:
    """How sacrebleu counted in the recorded runs; empty if there are none."""
    counted = (line.get("bleu") for line in store.provenance(RUNS[scale]))
    return ", ".join(dict.fromkeys(filter(None, counted)))


_BLEU = "enough updates for a translation, in about ten minutes a run"
_CHANGED = {
    "corpus": Deviation("corpus", "IWSLT'14 and WMT'16", "a small network learns to translate "
                        "captions of photographs in minutes; there are four standard test sets"),
    "epochs": Deviation("epochs", "70,000 updates", _BLEU),
    "updates": Deviation("updates", "70,000 in all; this is of an epoch", _BLEU),
    "layers": Deviation("layers", "6", _BLEU),
    "lengths": Deviation("lengths", "all", "all but a few"),
    "averaged": Deviation("averaged", "10", "the last sixth of a shorter run"),
    "LinearWarmup.steps": Deviation("LinearWarmup.steps", "4,000", "a shorter run"),
    "probes": Deviation("probes", "of Figures 1 to 3", "these runs are not theirs"),
}  # fmt: skip


def _deviations(scale: str) -> tuple[Deviation, ...]:
    shared = {one.axis: one for one in _translation.UNDELAYED[scale]}
    changed = {"cpu": _CHANGED, "paper": {"corpus": _WITHOUT_WMT}}.get(scale, {})
    return tuple((shared | changed).values())


_WITHOUT_WMT = dataclasses.replace(
    _translation.DEVIATIONS["paper"][0], paper="IWSLT'14, and WMT'16 En-De"
)

ARTIFACT = Artifact(
    id="table2",
    title="Translation quality",
    order=75,
    runs=RUNS,
    claims=CLAIMS,
    tabulate=tabulate,
    deviations={scale: _deviations(scale) for scale in RUNS},
)
