"""Language modelling: the next word of a text, by an LSTM or a Transformer."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.data import text
from experiments.data.tokens import END, UNKNOWN, Tokens
from experiments.errors import UserError
from experiments.spec import Run
from experiments.tasks._language_networks import (
    SHRINKAGE,
    Network,
    Recurrent,
    Transformer,
    is_small,
)

EVALUATION_STREAMS, SHORTEST = 64, 1000
"""In how many streams a held-out text is read at most, and with about how many tokens at least."""
SAMPLE_WORDS = 60
NEEDS = {"lstm": ("embedding",), "pre": ("heads",), "post": ("heads",)}
"""The networks, and the sizes that not all of them have."""

_load = functools.lru_cache(maxsize=1)(text.load)


class LanguageModel:
    """A network on a text, whose run has these settings.

    ``corpus``, ``train_tokens`` and ``held_out_tokens`` are as in `text.load`; ``network`` is
    "lstm", or a Transformer with its layer norm "pre" or "post"; ``length`` is that of an unroll,
    or of a window; ``cutoffs`` are the ranks at which the adaptive softmax's clusters begin;
    ``width``, ``layers`` and ``dropout`` are of the network, and so are ``embedding`` of an LSTM
    and ``heads`` of a Transformer.

    The training text is cut into as many streams as a batch has, one below the other. An LSTM goes
    down all of them at once, in the same order in every epoch, for it remembers; a Transformer,
    which does not, sees the windows in an order of the run's seed and the epoch.
    """

    def __init__(self, run: Run, data_root: Path, device: torch.device) -> None:
        self.run, self.device = run, device
        self.settings = dict(run.settings)
        _check_settings(self.settings)
        self.length = self.settings["length"]
        sizes = (self.settings[name] for name in ("train_tokens", "held_out_tokens"))
        self.corpus = _load(self.settings["corpus"], data_root, *sizes)
        self.data_sha256 = self.corpus.sha256
        self.repeats = is_small(len(self.corpus.words))
        self.held_out = {"validation": self.corpus.validation, "test": self.corpus.test}
        batch = run.batch_size * self.length
        self.updates_per_epoch = (len(self.corpus.train) - 1) // batch
        if self.updates_per_epoch < 1:
            raise UserError(
                f"a batch of {run.batch_size} sequences of {self.length} needs {batch + 1:,} "
                f"tokens, and the training text has {len(self.corpus.train):,}: take more of it, "
                "shorter sequences or fewer"
            )
        _check_clusters(self.settings["cutoffs"], len(self.corpus.words), self.settings["width"])

    @property
    def _remembers(self) -> bool:
        return bool(self.settings["network"] == "lstm")

    def model(self) -> Network:
        """A new network."""
        names = ("cutoffs", "width", "layers", "dropout")
        common = {name: self.settings[name] for name in names}
        common["words"] = len(self.corpus.words)
        if self._remembers:
            embedding = self.settings["embedding"]
            return Recurrent(**common, embedding=embedding, streams=self.run.batch_size)
        heads, norm = self.settings["heads"], self.settings["network"]
        return Transformer(**common, heads=heads, length=self.length, norm=norm)

    def batches(self, epoch: int, first: int = 0) -> Iterator[Tensor]:
        """The training text but for a last part batch, in tokens [length + 1, batch].

        Each is to give the next.
        """
        within = np.arange(self.length + 1)[:, None]
        for sequences in itertools.islice(self._sequences(epoch), first, None):
            tokens = self.corpus.train[sequences * self.length + within]
            yield torch.from_numpy(tokens.astype(np.int64)).to(self.device)

    def _sequences(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """The numbers [batch] of every batch's sequences, of which the text is one after the other.

        In memory is a Transformer's order of them alone, with 4 bytes for each.
        """
        updates, batch = self.updates_per_epoch, self.run.batch_size
        if self._remembers:
            yield from (np.arange(batch) * updates + update for update in range(updates))
            return
        order = np.arange(updates * batch, dtype=np.int32)
        np.random.default_rng([self.run.seed, epoch]).shuffle(order)
        yield from (chosen.astype(np.int64) for chosen in order.reshape(updates, batch))

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Minus the mean log-probability of the next word, in nats."""
        assert isinstance(model, Network)
        return model.training_loss(batch)

    def evaluate(self, model: nn.Module) -> dict[tuple[str, str], float]:
        """Nats a token and the perplexity, over every token of the held-out texts once.

        Of an LSTM also the perplexity of the test text that is begun with a state of zeros, as is
        common: training has left that state behind at once and for good.
        """
        assert isinstance(model, Network)
        values: dict[tuple[str, str], float] = {}
        for split, tokens in self.held_out.items():
            values |= self.summary(split, self.losses(model, tokens))
        if self._remembers:
            nats = float(self.losses(model, self.held_out["test"], from_zeros=True).mean())
            values["test", "perplexity_from_zeros"] = _perplexity(nats)
        return values

    def summary(self, split: str, losses: Tensor) -> dict[tuple[str, str], float]:
        """What is recorded of a held-out text, of the losses [tokens] of its words."""
        nats = float(losses.mean())
        return {(split, "loss"): nats, (split, "perplexity"): _perplexity(nats)}

    def losses(self, model: Network, tokens: Tokens, from_zeros: bool = False) -> Tensor:
        """Minus the log-probability of each of a text's words, given those before it, [tokens].

        In nats, in double precision. The text is cut into streams that are read side by side,
        window by window. An LSTM is given all of the stream before a word, and what it remembers of
        the training text unless it begins from zeros; a Transformer what is before it in the
        window, which is at least one word. The first word of the text is given the end of a
        sentence.
        """
        streams = min(EVALUATION_STREAMS, max(1, len(tokens) // SHORTEST))
        targets = self._in_streams(tokens, streams)
        inputs = self._in_streams(np.append(self._end, tokens[:-1]), streams)
        losses = torch.empty(targets.shape, dtype=torch.float64, device=self.device)
        state = None if from_zeros else model.remembered(streams)
        with torch.autocast(self.device.type, enabled=False):
            for first in range(0, len(targets), self.length):
                window = slice(first, first + self.length)
                found, state = model.log_probabilities(inputs[window], targets[window], state)
                losses[window] = -found
        return losses.T.flatten()[: len(tokens)]

    def _in_streams(self, values: np.ndarray, streams: int) -> Tensor:
        """Tokens [n], with zeros at the end, as [time, streams]."""
        padded = np.zeros((streams, -(-len(values) // streams)), np.int64)
        padded.flat[: len(values)] = values
        return torch.from_numpy(padded.T.copy()).to(self.device)

    @property
    def _end(self) -> int:
        return self.corpus.words.index(END)

    def remarks(self, model: nn.Module) -> dict[str, Any]:
        """The size of the vocabulary, and some words that the model goes on with by itself."""
        assert isinstance(model, Network)
        return {"vocabulary": len(self.corpus.words), "sample": self.sample(model)}

    @torch.inference_mode()
    def sample(self, model: Network, words: int = SAMPLE_WORDS) -> str:
        """Words drawn one after the other, each given those before it; never the unknown one."""
        model.eval()
        generator = torch.Generator().manual_seed(self.run.seed)
        unknown = self.corpus.words.index(UNKNOWN)
        drawn, state = [self._end], model.remembered(1)
        for _ in range(words):
            given = drawn[-1:] if self._remembers else drawn[-self.length :]
            tokens = torch.tensor(given, device=self.device)[:, None]
            features, state = model(tokens, state)
            chances = model.head.log_prob(features[-1].float())[0].exp().cpu()
            chances[unknown] = 0
            drawn.append(int(torch.multinomial(chances, 1, generator=generator)))
        return " ".join(self.corpus.words[token] for token in drawn[1:])


def _perplexity(nats: float) -> float:
    """That of a mean number of nats a token; finite."""
    return math.exp(min(nats, 700.0))


def _check_settings(settings: dict[str, Any]) -> None:
    """What would else show as an error of another library, or not at all."""
    network = settings["network"]
    if network not in NEEDS:
        raise UserError(f"network={network!r} is not known; use {', '.join(NEEDS)}")
    lacking = [name for name in NEEDS[network] if name not in settings]
    if lacking:
        raise UserError(f"network={network!r} needs {lacking[0]}, which these runs do not have")
    for name in ("train_tokens", "held_out_tokens"):
        if settings[name] < 0:
            raise UserError(f"{name}={settings[name]} is negative; 0 is for all of the text")
    for name in ("length", "width", "layers", *NEEDS[network]):
        if settings[name] < 1:
            raise UserError(f"{name}={settings[name]} leaves no network; use at least 1")
    if not 0 <= settings["dropout"] < 1:
        raise UserError(f"dropout={settings['dropout']} is no share; use one from 0 to below 1")
    if settings["width"] % settings.get("heads", 1):
        raise UserError(
            f"{settings['heads']} heads do not divide the width {settings['width']}; use another "
            "number"
        )


def _check_clusters(cutoffs: tuple[int, ...], words: int, width: int) -> None:
    if not cutoffs or [*cutoffs] != sorted({*cutoffs}) or cutoffs[0] < 1:
        raise UserError(f"the cut-offs {cutoffs} are no rising ranks of words; give some that are")
    if cutoffs[-1] >= words:
        raise UserError(
            f"the vocabulary has {words:,} words, and the last cut-off is {cutoffs[-1]:,}: take "
            "lower cut-offs, or more of the text if there is more"
        )
    least = SHRINKAGE ** len(cutoffs)  # of every cluster's features
    if width < least:
        raise UserError(
            f"a width of {width} leaves nothing to the last of {len(cutoffs)} clusters of rare "
            f"words; take at least {least}, or fewer cut-offs"
        )


def build(run: Run, data_root: Path, device: torch.device) -> LanguageModel:
    """The task of a run."""
    return LanguageModel(run, data_root, device)
