"""Figure 4: perplexity of Adam and RAdam on One Billion Word."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from matplotlib.figure import Figure

from experiments.artifact import Artifact, Deviation
from experiments.paper._language import (
    ADAM,
    CPU,
    PAPER,
    RADAM,
    SMOKE,
    draw_perplexity,
    lags,
    leads,
    names,
    tabulate_perplexity,
    yours,
)
from experiments.spec import Optim, Run, grid
from experiments.verdict import Claim, Records

BASES = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER}
SEEDS = {"smoke": 1, "cpu": 3, "paper": 5}
LEARNING_RATES = {
    "smoke": (0.001, 0.01),
    "cpu": (0.001, 0.003, 0.01, 0.03),
    "paper": (0.0003, 0.001, 0.003),
}
"""The paper's among them; the smaller the network, the larger the rates that it takes."""

CLAIMS = (
    Claim(
        "fig4.ends-lower",
        "RAdam ends at a lower test perplexity than Adam",
        "35.70 against 36.92",
        leads("radam", "adam"),
    ),
    Claim(
        "fig4.starts-slower",
        "RAdam is slower at first: after one epoch its test perplexity is above Adam's",
        "by eye",
        lags("radam", "adam"),
    ),
    Claim(
        "fig4.gap",
        "The gap at the end is of the paper's size, from half of it to twice as much",
        "3.3 %",
        leads("radam", "adam", above=1.65, below=6.6),
    ),
)


def arms(base: Run, scale: str, optims: Iterable[Optim] = (ADAM, RADAM)) -> tuple[Run, ...]:
    """Each optimizer at a scale's learning rates; seed by seed."""
    return grid(base, seed=range(SEEDS[scale]), optim=optims, lr=LEARNING_RATES[scale])


def draw(records: Records) -> Figure:
    """Train and test perplexity, at the paper's learning rate and with each at its best."""
    return draw_perplexity(records, names(records.runs))


def tabulate(records: Records) -> pd.DataFrame:
    """Final test perplexity by optimizer and learning rate."""
    return tabulate_perplexity(records, names(records.runs))


_NETWORK = (
    Deviation(
        "length",
        "20, with the state set to zero at every file, held-out ones as well",
        "training carries its state through the text and never resets it; a held-out text begun "
        "with zeros would be read in a state that training has left for good",
    ),
    Deviation(
        "network", "lstm, its first weights by rules of the authors' own", "torch's first weights"
    ),
)
_LAPTOP = "two cores train the whole grid with three seeds in three to four hours"
RANKS = "so that there are words in every cluster of a smaller vocabulary"
ARTIFACT = Artifact(
    id="fig4",
    title="Language modelling by an LSTM",
    order=40,
    runs={scale: arms(base, scale) for scale, base in BASES.items()},
    claims=CLAIMS,
    yours=yours("fig4"),
    draw=draw,
    tabulate=tabulate,
    deviations={
        "paper": (
            Deviation("corpus", "lm1b, its files in another order in every epoch; tested on all of "
                      "the held-out text", "a run goes on at any batch in the order of the files; "
                      "every other held-out sentence is for validation"),
            *_NETWORK,
            Deviation("lr", "0.001", "both optimizers are tried at the same three rates, the "
                      "paper's among them"),
        ),
        "cpu": (
            Deviation("corpus", "lm1b", "WikiText-2 is small enough"),
            *_NETWORK,
            Deviation("train_tokens", "all, some 800 million", _LAPTOP),
            Deviation("cutoffs", "4,000, 40,000, 200,000", RANKS),
            Deviation("embedding", "300", _LAPTOP),
            Deviation("width", "2,048", _LAPTOP),
            Deviation("batch_size", "128", "a smaller corpus would else have too few updates"),
            Deviation("epochs", "14", _LAPTOP),
            Deviation("StepDecay.milestones", "9", "the same share of a shorter run"),
            Deviation("lr", "0.001", "both optimizers are tried at the same four rates, the "
                      "paper's among them; a smaller network takes larger ones"),
        ),
        "smoke": (
            Deviation("corpus", "lm1b", "a text that a package brings along"),
            *_NETWORK,
            Deviation("train_tokens", "all, some 800 million", "seconds"),
            Deviation("held_out_tokens", "all", "seconds"),
            Deviation("cutoffs", "4,000, 40,000, 200,000", RANKS),
            Deviation("embedding", "300", "seconds"),
            Deviation("width", "2,048", "seconds"),
            Deviation("batch_size", "128", "more than a handful of updates an epoch"),
            Deviation("epochs", "14", "seconds"),
            Deviation("StepDecay.milestones", "9", "the same share of a shorter run"),
            Deviation("lr", "0.001", "seconds: two rates, the paper's among them"),
        ),
    },
)  # fmt: skip
