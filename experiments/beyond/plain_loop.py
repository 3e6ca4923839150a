"""Does the engine train as a straightforward loop does? The same networks by both.

The plain loop computes in float32 and in PyTorch's usual memory format; torch's loader opens each
image, and torchvision's transforms change it. The engine is what the studies of image classifiers
are run with: bfloat16, whole batches augmented at once, channels last. Seed by seed they begin with
the same weights, but they draw other batches: so that their curves can hardly be closer than those
of two seeds.
"""

from __future__ import annotations

import dataclasses
import functools

import pandas as pd

from experiments.artifact import Artifact
from experiments.beyond.fast_path import (
    ARMS,
    FAST,
    PLAIN,
    curves_of,
    distance,
    draw_pair,
    gain,
    tabulate_pair,
    to_other_seeds,
)
from experiments.paper._cifar10 import BASES, DEVIATIONS, SEEDS
from experiments.paper._classifiers import PRECISION
from experiments.spec import SCALES, Run, grid, options
from experiments.verdict import Claim, Part, Records

NAMES = {PLAIN: "plain loop", FAST: "engine"}
"""What a run is by its precision."""


def _loop(run: Run) -> Run:
    """A run by the plain loop."""
    settings = options(**dict(run.settings), per_image=True)
    return dataclasses.replace(run, precision=PLAIN, settings=settings)


def _runs(scale: str) -> tuple[Run, ...]:
    engine = dataclasses.replace(BASES[scale], precision=FAST)
    return tuple(
        run
        for seed in range(SEEDS[scale])
        for base in (_loop(engine), engine)
        for run in grid(base, seed=(seed,), optim=ARMS)
    )


def _apart(records: Records) -> pd.Series:
    """How far an engine's curve lies from the loop's, in distances of two of these, by seed.

    A distance is the mean over the epochs, and over all pairs; the ratio is averaged over the
    optimizers.
    """
    loops, engines = curves_of(records)
    # Where shuffles of the seeds stand side by side, a loop is there several times.
    loops = loops[~loops.reset_index("optimizer").duplicated().to_numpy()]
    noise = pd.Series({run: to_other_seeds(loops, *run) for run in loops.index})
    noise = noise.groupby(level=0).mean(skipna=False)  # of an optimizer
    ratios = {
        (optimizer, seed): distance(loops.loc[optimizer], curve) / noise[optimizer]
        for (optimizer, seed), curve in engines.iterrows()
    }
    ratios = pd.Series(ratios).rename_axis(["optimizer", "seed"])
    return ratios.groupby("seed").mean(skipna=False)


CLAIMS = (
    Claim(
        "plain-loop.curve",
        "The engine's training curve lies no more than half as far again from a plain loop's as "
        "two of the loop's seeds from each other",
        "not tried",
        (
            Part(
                "distance to the plain loop over that of its seeds, mean of three optimizers",
                _apart,
                below=1.5,
            ),
        ),
    ),
    Claim(
        "plain-loop.accuracy",
        "A network that the engine trained is within a point of one by a plain loop",
        "not tried",
        (
            Part(
                "test accuracy minus that of the plain loop, points, mean of three optimizers",
                gain,
                above=-1.0,
                below=1.0,
            ),
        ),
    ),
)

ARTIFACT = Artifact(
    id="plain-loop",
    title="The engine against a plain training loop, CIFAR-10",
    order=64,
    runs={scale: _runs(scale) for scale in SCALES},
    claims=CLAIMS,
    draw=functools.partial(draw_pair, names=NAMES),
    tabulate=functools.partial(tabulate_pair, names=NAMES, heading="trained by"),
    deviations={**DEVIATIONS, "smoke": (*DEVIATIONS["smoke"], PRECISION)},
)
