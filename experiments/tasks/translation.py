"""Translation between German and English by a Transformer on byte-pair encoded text."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import MarianMTModel

from experiments.data import parallel
from experiments.data.bpe import END, PAD, encoding
from experiments.errors import DataError, UserError
from experiments.spec import Run
from experiments.tasks._marian import transformer
from experiments.tasks._parts import stream

SMOOTHING = 0.1
"""The share of a label that goes to all tokens alike."""
BUCKET = 4
"""Sentences are padded to multiples of so many tokens, so that the shapes of batches repeat."""
EVALUATION_TOKENS, ON_A_GPU = 4_096, 32_768
"""Tokens that are evaluated at once, those of all hypotheses."""
LONGER = 1.5, 10
"""A translation has at most so many times the tokens of its source, and so many more."""
SHOWN = 8
"""How many translations a record shows."""

Pairs = tuple[list[list[int]], list[list[int]]]
"""Sources and targets as tokens, each with the end's."""


class Translation:
    """A Transformer that learns one direction of a parallel corpus.

    The run's `batch_size` is the most tokens that the longer side of a batch has, padding
    included. What is an epoch elsewhere is here a stretch of as many updates as the setting
    ``updates`` says: the batches of the corpus come pass after pass.

    The run's settings:

    - ``corpus``, ``source``, ``target``: a name of `experiments.data.parallel`, and languages;
    - ``vocabulary``: entries of the joint byte-pair encoding;
    - ``lengths``: the fewest and the most tokens, with the end's, that the longer side of a pair
      has, others being left out; in the held-out sets no pair is too long;
    - ``updates``;
    - ``width``, ``layers``, ``heads``, ``feed_forward``, ``dropout``, ``positions``, ``norm``:
      see `transformer`;
    - ``beam``: how many hypotheses the beam search keeps;
    - ``averaged``: over so many of the last epochs' ends the weights are averaged before the test.
    """

    repeats = True

    def __init__(self, run: Run, data_root: Path, device: torch.device) -> None:
        self.run, self.device = run, device
        self.settings = dict(run.settings)
        self.updates_per_epoch: int = self.settings["updates"]
        self.averaged: int = self.settings["averaged"]
        self.languages = self.settings["source"], self.settings["target"]
        self._check()
        encoded = _encoded(self.settings["corpus"], data_root, self.settings["vocabulary"])
        self.encoding, self.data_sha256 = encoded.encoding, encoded.sha256
        self.splits: dict[str, Pairs] = {}
        self.texts: dict[str, tuple[list[str], list[str]]] = {}
        for name, tokens in encoded.tokens.items():
            kept, text = self._kept(name, tokens), encoded.text[name]
            source, target = self.languages
            self.splits[name] = [tokens[source][i] for i in kept], [tokens[target][i] for i in kept]
            self.texts[name] = [text[source][i] for i in kept], [text[target][i] for i in kept]
        self.buckets = self._buckets(self.splits["train"])
        self.unigram_loss = _unigram_loss(self.splits["train"][1], self.vocabulary)

    @property
    def vocabulary(self) -> int:
        """Entries of the encoding, which may be fewer than were asked for."""
        return int(self.encoding.get_vocab_size())

    def _check(self) -> None:
        """What would else show only at the test, after the training."""
        source, target = self.languages
        if source == target:
            raise UserError(f"a translation from {source!r} into {target!r} is none; name another")
        if self.settings["beam"] < 1:
            raise UserError(f"a beam of {self.settings['beam']} finds nothing; use at least 1")
        epochs = self.run.epochs  # none where nothing is trained, but gradients are measured
        if self.averaged < 1 or 0 < epochs < self.averaged:
            raise UserError(
                f"{self.averaged} ends of epochs cannot be averaged in a run of {epochs}; "
                "use a number from 1 to that"
            )

    def _kept(self, name: str, sides: dict[str, list[list[int]]]) -> list[int]:
        """Which pairs of a split have a length that is asked for."""
        for language in self.languages:
            if language not in sides:
                raise UserError(
                    f"{self.settings['corpus']} has no {language!r}; it has {', '.join(sides)}"
                )
        source, target = (sides[language] for language in self.languages)
        least, most = self.settings["lengths"]
        longest = [max(len(one), len(other)) for one, other in zip(source, target, strict=True)]
        most = most if name == "train" else max(longest)  # what is hard to test is tested
        kept = [i for i, length in enumerate(longest) if least <= length <= most]
        too_long = next((i for i in kept if longest[i] > self.positions), None)
        if too_long is not None:
            raise DataError(
                f"{self.settings['corpus']}, {name}, sentence {too_long + 1} has "
                f"{longest[too_long]} tokens, and the model has {self.positions} positions; give "
                "it more, or leave out longer pairs by `lengths`"
            )
        if not kept:
            raise UserError(f"no pair has {least} to {most} tokens; ask for other lengths")
        return kept

    @property
    def positions(self) -> int:
        """The most tokens that a sentence may have."""
        return int(self.settings["positions"])

    def _buckets(self, pairs: Pairs) -> list[Tensor]:
        """The pairs by the length that they are padded to: tensors [2, pairs, length] of tokens."""
        padded: dict[int, list[int]] = {}
        for i, (one, other) in enumerate(zip(*pairs, strict=True)):
            padded.setdefault(_padded(max(len(one), len(other))), []).append(i)
        longest = max(padded)
        if longest > self.run.batch_size:
            raise UserError(
                f"a batch of {self.run.batch_size} tokens cannot hold a sentence of {longest}; "
                "make it larger, or leave out longer pairs by `lengths`"
            )
        return [
            torch.stack([_matrix([side[i] for i in chosen], length) for side in pairs])
            for length, chosen in sorted(padded.items())
        ]

    def model(self) -> nn.Module:
        """A new Transformer."""
        names = ("width", "layers", "heads", "feed_forward", "dropout", "positions", "norm")
        return transformer(self.vocabulary, **{name: self.settings[name] for name in names})

    def batches(self, epoch: int, first: int = 0) -> Iterator[Tensor]:
        """So many batches [2, sentences, tokens] of sources and targets, padded.

        Every pass over the corpus deals the sentences of a length out anew, and shuffles the
        batches: in an order of the run's seed and the pass alone.
        """
        begin = epoch * self.updates_per_epoch
        dealt: tuple[int, list[Tensor]] = (-1, [])
        for update in range(begin + first, begin + self.updates_per_epoch):
            number, place = divmod(update, self.batches_per_pass)
            if number != dealt[0]:
                dealt = number, self._deal(number)
            yield dealt[1][place].to(self.device).long()

    @functools.cached_property
    def batches_per_pass(self) -> int:
        """How many batches the corpus gives."""
        return sum(-(-bucket.shape[1] // self._sentences(bucket)) for bucket in self.buckets)

    def _sentences(self, bucket: Tensor) -> int:
        """How many sentences of a bucket make a batch."""
        return self.run.batch_size // bucket.shape[2]

    def _deal(self, number: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(stream(self.run, number))
        dealt: list[Tensor] = []
        for bucket in self.buckets:
            order = torch.randperm(bucket.shape[1], generator=generator)
            dealt += [bucket[:, part] for part in order.split(self._sentences(bucket))]
        return [dealt[i] for i in torch.randperm(len(dealt), generator=generator)]

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Mean cross-entropy of a target token, its label smoothed, in nats."""
        return self._cross_entropy(model, batch, SMOOTHING)

    def _cross_entropy(self, model: nn.Module, batch: Tensor, smoothing: float) -> Tensor:
        source, target = map(_trimmed, batch)
        before = F.pad(target[:, :-1], (1, 0), value=END)
        logits = model(
            input_ids=source,
            attention_mask=(source != PAD),
            decoder_input_ids=before,
            use_cache=False,
        ).logits  # [sentences, tokens, vocabulary]
        return F.cross_entropy(
            logits.flatten(0, 1).float(),
            target.flatten(),
            ignore_index=PAD,
            label_smoothing=smoothing,
        )

    def evaluate(self, model: nn.Module) -> dict[tuple[str, str], float]:
        """Mean cross-entropy of a token of the validation set, in nats, its label as it is."""
        total, tokens = 0.0, 0
        for chosen, source in self._in_batches(self.splits["validation"][0]):
            target = _matrix([self.splits["validation"][1][i] for i in chosen])
            width = max(source.shape[1], target.shape[1])
            batch = torch.stack([F.pad(x, (0, width - x.shape[1])) for x in (source, target)])
            count = int((target != PAD).sum())
            loss = self._cross_entropy(model, batch.to(self.device).long(), 0.0)
            total += loss.item() * count
            tokens += count
        return {("validation", "loss"): total / tokens}

    def conclude(self, model: nn.Module) -> tuple[dict[str, float], dict[str, Any]]:
        """BLEU on every test set, and what a model would lose that knows only the frequencies.

        The second part shows some translations, and by which rules BLEU was computed.
        """
        import sacrebleu

        score = sacrebleu.BLEU()
        metrics = {"unigram_loss": self.unigram_loss}
        notes: dict[str, Any] = {}
        for name in (name for name in self.splits if name not in ("train", "validation")):
            given, wanted = self.texts[name]
            found = self.encoding.decode_batch(self.translate(model, self.splits[name][0]))
            metrics[f"{name}_bleu"] = score.corpus_score(found, [wanted]).score
            if name == "test":
                notes["translations"] = list(zip(given, wanted, found, strict=True))[:SHOWN]
        notes["bleu"] = str(score.get_signature())
        return metrics, notes

    def translate(self, model: nn.Module, sources: Sequence[list[int]]) -> list[list[int]]:
        """The best hypotheses of a beam search, as tokens."""
        assert isinstance(model, MarianMTModel)
        found: list[list[int]] = [[] for _ in sources]
        times, more = LONGER
        for chosen, source in self._in_batches(sources, self.settings["beam"]):
            source = source.to(self.device).long()
            longest = min(int(times * source.shape[1]) + more, self.positions - 1)
            given = model.generate(
                source,
                attention_mask=(source != PAD),
                num_beams=self.settings["beam"],
                max_new_tokens=longest,
                do_sample=False,
                length_penalty=1.0,
            )  # [sentences, tokens], from the start token on
            for i, tokens in zip(chosen, given.tolist(), strict=True):
                found[i] = [token for token in tokens if token not in (PAD, END)]
        return found

    def _in_batches(
        self, sentences: Sequence[list[int]], beam: int = 1
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Indices and padded tokens of sentences of about one length, the shortest first."""
        most = EVALUATION_TOKENS if self.device.type == "cpu" else ON_A_GPU
        order = sorted(range(len(sentences)), key=lambda i: (len(sentences[i]), i))
        chosen: list[int] = []
        for i in order:
            if chosen and (len(chosen) + 1) * beam * len(sentences[i]) > most:
                yield chosen, _matrix([sentences[j] for j in chosen])
                chosen = []
            chosen.append(i)
        yield chosen, _matrix([sentences[j] for j in chosen])


@dataclass(frozen=True)
class _Encoded:
    """A corpus as text and as tokens, by split and language; and the digest of all of it."""

    text: Mapping[str, parallel.Split]
    tokens: dict[str, dict[str, list[list[int]]]]
    encoding: Tokenizer
    sha256: str


@functools.lru_cache(maxsize=1)
def _encoded(name: str, root: Path, vocabulary: int) -> _Encoded:
    corpus = parallel.load(name, root)
    if not {"train", "validation"} <= corpus.splits.keys():
        raise DataError(
            f"{name} has only a test set, and nothing to train on: name a corpus that has it "
            f"before it, as in corpus=tatoeba+{name}"
        )
    train = corpus.splits["train"]
    folder = root.expanduser()
    text = (sentence for language in parallel.LANGUAGES for sentence in train[language])
    found = encoding(text, vocabulary, folder if folder.is_dir() else None)
    tokens = {
        split: {language: _tokens(found, sentences) for language, sentences in sides.items()}
        for split, sides in corpus.splits.items()
    }
    both = corpus.sha256 + found.to_str()
    return _Encoded(corpus.splits, tokens, found, hashlib.sha256(both.encode()).hexdigest())


def _tokens(encoding: Tokenizer, sentences: Sequence[str]) -> list[list[int]]:
    return [
        [*one.ids, END]
        for begin in range(0, len(sentences), 10_000)  # the whole at once takes a gigabyte
        for one in encoding.encode_batch_fast(list(sentences[begin : begin + 10_000]))
    ]


def _padded(length: int) -> int:
    return -(-length // BUCKET) * BUCKET


def _matrix(sentences: Sequence[list[int]], length: int | None = None) -> Tensor:
    """Sentences [sentences, tokens], padded to one length."""
    length = length or max(map(len, sentences))
    matrix = np.full((len(sentences), length), PAD, dtype=np.int32)
    for row, sentence in zip(matrix, sentences, strict=True):
        row[: len(sentence)] = sentence
    return torch.from_numpy(matrix)


def _trimmed(tokens: Tensor) -> Tensor:
    """Without the columns that pad all sentences; on a GPU all shapes stay as they are."""
    if tokens.device.type != "cpu":
        return tokens
    return tokens[:, : int((tokens != PAD).sum(dim=1).max())]


def _unigram_loss(targets: Sequence[list[int]], vocabulary: int) -> float:
    """The training loss, in nats, of the best model that gives every token the same chances."""
    counts = np.bincount(np.concatenate(targets), minlength=vocabulary)
    chances = (1 - SMOOTHING) * counts / counts.sum() + SMOOTHING / vocabulary
    return float(-(chances * np.log(chances)).sum())


def build(run: Run, data_root: Path, device: torch.device) -> Translation:
    """The task of a run."""
    return Translation(run, data_root, device)
