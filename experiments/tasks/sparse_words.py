"""When was a paragraph of the State of the Union spoken? A linear model of the words in it.

A problem whose solution is known: the loss is a quadratic in the weights, one a word, and so every
word has one best weight. How far a word's weight has come towards it can be measured, and compared
between words that are in many paragraphs and words that are in few.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import lsqr
from torch import Tensor, nn

from experiments.data import text
from experiments.data.tokens import RARE, SPLITS
from experiments.errors import UserError
from experiments.spec import Run
from experiments.tasks._by_count import by_count

Floats = NDArray[np.float64]
Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of all paragraphs the words and their values [words]; where each begins, and its target [batch].
"""


@dataclass(frozen=True)
class Part:
    """The paragraphs of a split: their words' values [paragraphs, words], and their years."""

    values: Any  # scipy's sparse matrices have no types
    years: Floats


@dataclass(frozen=True)
class Paragraphs:
    """The text as the model sees it.

    Attributes
    ----------
    words
        The vocabulary, the word in the most paragraphs first.
    counts
        In how many paragraphs of the training text each is.
    classes
        Which words [of the class] are in how many paragraphs, the rarest first.
    parts
        The training, validation and test paragraphs.
    """

    words: tuple[str, ...]
    counts: NDArray[np.int64]
    classes: dict[str, NDArray[np.int64]]
    parts: dict[str, Part]

    @property
    def centre(self) -> float:
        """The mean year of the training paragraphs."""
        return float(self.parts["train"].years.mean())

    @property
    def spread(self) -> float:
        """The standard deviation of their years."""
        return float(self.parts["train"].years.std())

    def targets(self, split: str) -> Floats:
        """The years of a split, from the mean and in standard deviations."""
        return (self.parts[split].years - self.centre) / self.spread

    @property
    def sha256(self) -> str:
        """Digest of the words, and of every split's paragraphs and years."""
        digest = hashlib.sha256("\n".join(self.words).encode())
        for part in self.parts.values():
            for values in (part.values.indices, part.values.indptr, part.years):
                digest.update(np.ascontiguousarray(values).astype("<i8").tobytes())
        return digest.hexdigest()


@functools.lru_cache(maxsize=2)
def load(every: int) -> Paragraphs:
    """The paragraphs of the addresses that have words, every so many-th of the training text.

    A word is letters alone, so that no number tells its year, and known if more than three
    paragraphs of the training text have it. The known words of a paragraph have the same value
    each, and their squares add up to 1: a long paragraph has no more say than a short one.

    Raises
    ------
    DataError
        If the package that brings the text along is not installed.
    UserError
        If there is no word in a class.
    """
    read = {split: _read(split, every if split == "train" else 1) for split in SPLITS}
    counts = Counter(itertools.chain.from_iterable(words for _, words in read["train"]))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    known = {word: count for word, count in ranked if count > RARE}
    index = {word: number for number, word in enumerate(known)}
    in_paragraphs = np.array([*known.values()], np.int64)
    groups = by_count(in_paragraphs)
    empty = [name for name, chosen in groups.items() if not len(chosen)]
    if empty:
        raise UserError(
            f"no word is in {empty[0]} paragraphs of the training text: take more of them, with a "
            "smaller `every`"
        )
    parts = {split: _part(paragraphs, index) for split, paragraphs in read.items()}
    return Paragraphs(tuple(known), in_paragraphs, groups, parts)


def _read(split: str, every: int) -> list[tuple[int, list[str]]]:
    lines = ((year, line) for year, line in text.addresses(split) if line.strip())
    return [
        (year, sorted({word for word in text.words_of(line) if word.isalpha()}))
        for year, line in itertools.islice(lines, 0, None, every)
    ]


def _part(paragraphs: list[tuple[int, list[str]]], index: dict[str, int]) -> Part:
    known = [[index[word] for word in words if word in index] for _, words in paragraphs]
    kept = [number for number, words in enumerate(known) if words]
    rows = [known[number] for number in kept]
    values = np.concatenate([np.full(len(words), len(words) ** -0.5) for words in rows])
    begins = np.cumsum([0, *map(len, rows)])
    matrix = csr_matrix((values, np.concatenate(rows), begins), shape=(len(rows), len(index)))
    return Part(matrix, np.array([paragraphs[number][0] for number in kept], float))


@functools.lru_cache(maxsize=2)
def optimum(every: int, penalty: float) -> Floats:
    """The weights [words] at which the training loss of `SparseWords` is lowest.

    Ridge regression, once every word's values are divided by the root of their mean square.
    """
    paragraphs = load(every)
    values, targets = paragraphs.parts["train"].values, paragraphs.targets("train")
    scale = np.sqrt(np.asarray(values.multiply(values).mean(axis=0)).ravel())
    damping = math.sqrt(penalty * len(targets))
    solved = lsqr(values @ diags(1 / scale), targets, damp=damping, atol=1e-12, btol=1e-12)
    weights: Floats = solved[0] / scale
    return weights


class Linear(nn.Module):
    """One weight a word, all of them 0 at first: nothing is drawn by chance."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(words, 1))

    def forward(self, words: Tensor, values: Tensor, begins: Tensor) -> Tensor:
        """The sum of weight times value over every paragraph's words, [batch]."""
        sums = F.embedding_bag(
            words, self.weight, begins, mode="sum", per_sample_weights=values
        )  # [batch, 1]
        return sums[:, 0]


class SparseWords:
    """The year of a paragraph from the words in it.

    The run's settings: ``every`` (1 takes all paragraphs of the training text, 10 every tenth) and
    ``penalty``. The loss of a paragraph with the values ``x`` and the target ``y`` is ::

        (sum_j w_j x_j - y)**2 / 2 + penalty * sum_j (w_j x_j)**2 / 2

    so that a word which is in no paragraph of a batch has a gradient of 0, exactly.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self.run, self.device = run, device
        self.penalty: float = run.setting("penalty")
        self.text = load(run.setting("every"))
        self.data_sha256 = self.text.sha256
        self.train = self.text.parts["train"]
        self.updates_per_epoch = -(-len(self.train.years) // run.batch_size)
        self.optimum = optimum(run.setting("every"), self.penalty)

    def model(self) -> Linear:
        """A new model."""
        return Linear(len(self.text.words))

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Every training paragraph once, in an order of the run's seed and the epoch."""
        order = np.random.default_rng([self.run.seed, epoch]).permutation(len(self.train.years))
        values, targets = self.train.values[order], self.text.targets("train")[order]
        for begin in range(first * self.run.batch_size, len(order), self.run.batch_size):
            chosen = slice(begin, begin + self.run.batch_size)
            yield self._batch(values[chosen], targets[chosen])

    def _batch(self, values: Any, targets: Floats) -> Batch:
        words, begins = (torch.from_numpy(one).long() for one in (values.indices, values.indptr))
        numbers = (torch.from_numpy(one).float() for one in (values.data, targets))
        value, target = (one.to(self.device) for one in numbers)
        return words.to(self.device), value, begins[:-1].to(self.device), target

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean over the paragraphs, in squares of the years' standard deviation."""
        words, values, begins, targets = batch
        assert isinstance(model, Linear)
        squares = torch.bincount(words, values**2, minlength=len(self.text.words))  # [words]
        penalty = self.penalty * (squares @ model.weight[:, 0] ** 2) / len(targets)
        return (F.mse_loss(model(words, values, begins), targets) + penalty) / 2

    def evaluate(self, model: nn.Module) -> dict[tuple[str, str], float]:
        """Loss and error in years on the held-out splits, and the progress of every class.

        The loss is half the mean squared error, without the penalty, and the error the root of the
        mean squared error. A class's progress is by how many percent the distance of its weights
        from their optimum is shorter than at the start: 0 there, 100 at the optimum.
        """
        assert isinstance(model, Linear)
        weights = model.weight.detach()[:, 0].double().cpu().numpy()
        found = {}
        for split in ("validation", "test"):
            missed = self.text.parts[split].values @ weights - self.text.targets(split)
            square = float(np.mean(missed**2))
            found[split, "loss"] = square / 2
            found[split, "error"] = self.text.spread * math.sqrt(square)
        for name, chosen in self.text.classes.items():
            best = self.optimum[chosen]
            left = np.linalg.norm(weights[chosen] - best) / np.linalg.norm(best)
            found[name, "progress"] = 100 * float(1 - left)
        return found


def build(run: Run, data_root: Path, device: torch.device) -> SparseWords:
    """The task of a run; a package brings its text along."""
    return SparseWords(run, device)
