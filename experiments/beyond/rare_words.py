"""RAdam counts updates, and a rare word's embedding has a gradient in few of them."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import OURS, Artifact, Deviation
from experiments.paper._language import CPU, PAPER, SMOKE, logarithmic
from experiments.spec import Run, options
from experiments.verdict import Claim, Part, Records


def _counted(base: Run) -> Run:
    """The batches of a language model, nothing trained on them."""
    settings = options(**dict(base.settings), beta2=0.999, epochs=base.epochs)
    return Run("rare_words", batch_size=base.batch_size, settings=settings)


def _metric(records: Records, name: str) -> pd.Series:
    return records.runs.set_index("seed")[name]


CLAIMS = (
    Claim(
        "rare-words.few",
        "After an epoch RAdam takes over half of its full step, while most words of the vocabulary "
        "have no more than 4 gradients' worth in their second moment",
        "not asked",
        (
            Part("words with an effective sample size of 4 or less, %",
                 lambda records: _metric(records, "words_with_few"), above=50.0, exact=True),
        ),
        given=(
            Part("RAdam's r after the epoch", lambda records: _metric(records, "r"),
                 above=0.5, exact=True),
        ),
    ),
)  # fmt: skip


def draw(records: Records) -> Figure:
    """The effective sample size by a word's count, beside rho."""
    curves = records.curves[records.curves["metric"] == "size"]
    sizes = curves.pivot_table(index="step", columns="split", values="value")
    figure, (panel,) = style.panels(1)
    panel.plot(sizes["median"], color=style.COLOURS["RAdam"], label="median")
    panel.fill_between(
        sizes.index, sizes["lowest"], sizes["highest"], color=style.COLOURS["RAdam"], alpha=0.15
    )
    panel.axhline(records.runs["rho"].mean(), color=style.GREY, label="RAdam's rho")
    panel.axhline(4, color=style.GREY, linestyle=":", label="RAdam's threshold")
    panel.set(xscale="log", xlabel="a word's count in the training text")
    panel.set(ylabel="effective sample size")
    logarithmic(panel)
    panel.legend()
    return figure


ARTIFACT = Artifact(
    id="rare-words",
    title="How many gradients are in the second moment of a rare word's embedding",
    order=46,
    runs={
        scale: (_counted(base),)
        for scale, base in {"smoke": SMOKE, "cpu": CPU, "paper": PAPER}.items()
    },
    claims=CLAIMS,
    draw=draw,
    deviations={
        "cpu": tuple(
            Deviation(axis, OURS, "the runs of Figure 4 at this scale")
            for axis in ("corpus", "train_tokens", "cutoffs", "embedding", "width", "epochs")
        ),
        "smoke": tuple(
            Deviation(axis, OURS, "the runs of Figure 4 at this scale")
            for axis in (
                *("corpus", "train_tokens", "held_out_tokens", "cutoffs", "embedding", "width"),
                "epochs",
            )
        ),
    },
)
