"""Words in classes, by how often they are in the training text."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from experiments.data.tokens import RARE

EDGES = (RARE + 1, 16, 64, 256, 1024)
"""The counts at which the classes begin: the first is that of the rarest words that are known."""


def by_count(counts: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Which words [of the class], by the counts of all [words], have counts such as "4 to 15".

    The rarest come first; a class may have no words.
    """
    found = {}
    for low, high in itertools.zip_longest(EDGES, EDGES[1:]):
        name = f"{low:,} or more" if high is None else f"{low} to {high - 1:,}"
        found[name] = np.flatnonzero((counts >= low) & (counts < (high or math.inf)))
    return found
