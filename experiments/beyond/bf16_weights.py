"""Training with weights in bfloat16: to nearest, with stochastic rounding, or Kahan summation.

A bfloat16 number has eight significant bits: what changes it by less than about a three-hundredth
is lost in rounding to nearest, and under a decaying learning rate, sooner or later, every update
is. Stochastic rounding keeps the updates in the mean; Kahan summation keeps what was cut off in a
second number. Which of them makes up for the loss, and at what price in memory?

All arms compute forward and backward in bfloat16, from the same initial weights (but for their
rounding) and the same batches: they differ in what is stored. Runs of one other seed, not among
those here, chose network, length and learning rates.
"""

from __future__ import annotations

import functools

import pandas as pd
from matplotlib.figure import Figure

from experiments import style
from experiments.artifact import OURS, Artifact, Deviation
from experiments.paper._cifar10 import cosine
from experiments.paper._classifiers import cell
from experiments.paper._language import best_rate, of_arm
from experiments.spec import Optim, Run, grid, options
from experiments.verdict import Claim, Part, Records, counted, difference

LEARNING_RATES = (0.0003, 0.001, 0.003)
REFERENCE = "float32 weights"
SINGLE = options(state_dtype="float32")
STOCHASTIC = options(state_dtype="float32", rounding="stochastic")
ARMS = {
    REFERENCE: (Optim("radam", lr=1e-3), 4 + 8),
    "nearest": (Optim("radam", lr=1e-3, options=SINGLE), 2 + 8),
    "nearest, bfloat16 moments": (Optim("radam", lr=1e-3), 2 + 4),
    "stochastic": (Optim("radam", lr=1e-3, options=STOCHASTIC), 2 + 8),
    "stochastic, bfloat16 moments": (
        Optim("radam-rounded-moments", lr=1e-3, options=STOCHASTIC),
        2 + 4,
    ),
    "Kahan": (Optim("radam-kahan", lr=1e-3, options=SINGLE), 2 + 8 + 2),
    "Kahan, bfloat16 moments": (Optim("radam-kahan", lr=1e-3), 2 + 4 + 2),
}
"""The optimizer of each arm, and the bytes a weight takes: its own, its moments', its remainder's.

All but the reference have weights in bfloat16, and moments in float32 where nothing else is said.
"""


def _weights(arm: str) -> str:
    return "float32" if arm == REFERENCE else "bfloat16"


PAPER = Run(
    task="cifar10",
    schedule=cosine(100),
    epochs=100,
    batch_size=128,
    precision="bfloat16",
    settings=options(
        widths=(2048, 2048, 2048),
        train_images=45_000,
        validation_images=5_000,
        augment=True,
        weights="float32",
    ),
)
CPU = Run(
    task="cifar10",
    schedule=cosine(4),
    epochs=4,
    batch_size=128,
    precision="bfloat16",
    settings=options(
        widths=(256, 256),
        train_images=40_000,
        validation_images=5_000,
        augment=True,
        weights="float32",
    ),
)
SMOKE = Run(
    task="digits",
    schedule=cosine(2),
    epochs=2,
    batch_size=64,
    precision="bfloat16",
    settings=options(
        widths=(32,), train_images=1_000, validation_images=200, augment=False, weights="float32"
    ),
)


def _arms(base: Run, seeds: int) -> tuple[Run, ...]:
    """Every arm at every learning rate; seed by seed, so that whole comparisons end first."""
    return tuple(
        run
        for seed in range(seeds)
        for arm, (optim, _) in ARMS.items()
        for run in grid(
            base, optim=[optim], weights=[_weights(arm)], lr=LEARNING_RATES, seed=[seed]
        )
    )


_KEYS = {
    (optim.name, _weights(arm), *map(dict(optim.options).get, ("state_dtype", "rounding"))): arm
    for arm, (optim, _) in ARMS.items()
}


def _labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """With the arms in place of the optimizers' names."""
    axes = frame[["optimizer", "weights", "optim.state_dtype", "optim.rounding"]].astype(object)
    keys = axes.where(axes.notna(), None).itertuples(index=False, name=None)
    return frame.assign(optimizer=[_KEYS[key] for key in keys])


@functools.lru_cache(maxsize=1)  # every part of every claim asks for it
def _runs(records: Records) -> pd.DataFrame:
    return _labelled(records.runs)


def _excess(records: Records, arm: str, lr: float, over: str = REFERENCE) -> pd.Series:
    """An arm's training loss in the last epoch minus another's, in nats, by seed."""
    runs = _runs(records)
    return difference(of_arm(runs, arm, lr), of_arm(runs, over, lr), "train_loss")


def _at_best_lr(records: Records, arm: str) -> pd.Series:
    """The test loss, in nats by seed, at the learning rate with the lowest validation loss."""
    return of_arm(_runs(records), arm, None)["test_loss"]


def _within(arm: str, over: str = REFERENCE) -> tuple[Part, ...]:
    """Within a hundredth of a nat of another arm, at every learning rate."""
    words = "that of float32 weights" if over == REFERENCE else f"{over}'s"
    return tuple(
        Part(
            f"training loss minus {words}, nats, lr {lr:g}",
            functools.partial(_excess, arm=arm, lr=lr, over=over),
            above=-0.01,
            below=0.01,
        )
        for lr in LEARNING_RATES
    )


CLAIMS = (
    Claim(
        "bf16-weights.nearest",
        "Rounded to nearest, bfloat16 weights end at a higher training loss than float32 weights",
        "not tried",
        tuple(
            Part(
                f"training loss minus that of float32 weights, nats, lr {lr:g}",
                functools.partial(_excess, arm="nearest", lr=lr),
                above=0.0,
            )
            for lr in LEARNING_RATES
        ),
    ),
    Claim(
        "bf16-weights.nearest-tuned",
        "A learning rate of its own, chosen on validation, does not save rounding to nearest",
        "not tried",
        (
            Part(
                "test loss minus that of float32 weights, nats",
                lambda records: _at_best_lr(records, "nearest") - _at_best_lr(records, REFERENCE),
                above=0.0,
            ),
        ),
    ),
    Claim(
        "bf16-weights.stochastic",
        "With stochastic rounding, training ends within 0.01 nats of float32 weights",
        "not tried",
        _within("stochastic"),
    ),
    Claim(
        "bf16-weights.kahan",
        "With Kahan summation, training ends within 0.01 nats of float32 weights",
        "not tried",
        _within("Kahan"),
    ),
    Claim(
        "bf16-weights.same",
        "Stochastic rounding and Kahan summation end within 0.01 nats of each other",
        "not tried",
        _within("stochastic", over="Kahan"),
    ),
    Claim(
        "bf16-weights.moments",
        "Moments in bfloat16, rounded to nearest, cost less than 0.01 nats, however the weights "
        "are rounded",
        "not tried",
        tuple(
            Part(
                f"training loss minus that with float32 moments, nats, {arm}, lr {lr:g}",
                functools.partial(_excess, arm=f"{arm}, bfloat16 moments", lr=lr, over=arm),
                below=0.01,
            )
            for arm in ("nearest", "stochastic", "Kahan")
            for lr in LEARNING_RATES
        ),
    ),
)


_COLOURS = dict(
    zip((REFERENCE, "nearest", "stochastic", "Kahan"), (style.GREY, *style.PALETTE), strict=False)
)


def draw(records: Records) -> Figure:
    """Left, by learning rate, the excess of the final loss; right, the loss at the lowest rate."""
    colours = {arm: _COLOURS[arm.partition(",")[0]] for arm in ARMS}
    figure, (left, right) = style.panels(2, height=3.6)
    for arm in list(ARMS)[1:]:
        excess = pd.DataFrame({lr: _excess(records, arm, lr) for lr in LEARNING_RATES})
        dashes = "o--" if "moments" in arm else "o-"
        left.plot(excess.mean(), dashes, color=colours[arm], markersize=4, label=arm)
        low, high = excess.min(), excess.max()
        left.fill_between(LEARNING_RATES, low, high, color=colours[arm], alpha=0.15)
    left.axhline(0, color=style.GREY, linewidth=1)
    style.rates(left, LEARNING_RATES)
    left.set_ylabel("training loss − float32's (nats)")
    left.legend(fontsize="x-small", handlelength=3)
    curves = _labelled(records.curves)
    lowest = curves[(curves["split"] == "train") & (curves["lr"] == min(LEARNING_RATES))]
    plain = {arm: colours[arm] for arm in ARMS if "moments" not in arm}
    lowest = lowest[lowest["optimizer"].isin(plain)]
    how = {"errorbar": None, "linewidth": 1.2}
    style.lines(right, lowest, "step", "value", "optimizer", plain, **how)
    right.set(xlabel="update", ylabel=f"training loss (nats), lr {min(LEARNING_RATES):g}")
    right.legend(title=None, fontsize="x-small")
    return figure


def tabulate(records: Records) -> pd.DataFrame:
    """By arm: bytes a weight, final training loss by learning rate, test accuracy at its best."""
    runs = _runs(records)
    rows = {}
    for arm, (_, size) in ARMS.items():
        losses = counted(runs[runs["optimizer"] == arm]).groupby("lr")["train_loss"].mean()
        rows[arm] = {
            "bytes a weight": size,
            **{f"training loss, lr {lr:g}": f"{losses[lr]:.3f}" for lr in LEARNING_RATES},
            "best lr": f"{best_rate(runs, arm):g}",
            "test accuracy": cell(of_arm(runs, arm, None), "test_accuracy"),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("weights")


_MINUTES = "every run in less than half a minute on one core"
ARTIFACT = Artifact(
    id="bf16-weights",
    title="Weights in bfloat16: nearest, stochastic rounding, Kahan summation",
    order=80,
    runs={"smoke": _arms(SMOKE, 1), "cpu": _arms(CPU, 5), "paper": _arms(PAPER, 5)},
    claims=CLAIMS,
    draw=draw,
    tabulate=tabulate,
    deviations={
        "cpu": (
            Deviation("widths", OURS, _MINUTES),
            Deviation("train_images", OURS, _MINUTES),
            Deviation("epochs", OURS, _MINUTES),
            Deviation("CosineDecay.total", OURS, "the whole run"),
        ),
        "smoke": (
            Deviation("task", OURS, "data that is installed"),
            Deviation("widths", OURS, "seconds"),
            Deviation("train_images", OURS, "what the data set has"),
            Deviation("validation_images", OURS, "what the data set has"),
            Deviation("augment", OURS, "a mirrored or shifted digit may be another digit"),
            Deviation("epochs", OURS, "seconds"),
            Deviation("CosineDecay.total", OURS, "the whole run"),
            Deviation("batch_size", OURS, "more than a handful of updates an epoch"),
        ),
    },
)
