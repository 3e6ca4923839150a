"""Joint byte-pair encoding of both languages (Sennrich et al. 2016), trained once and kept."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from experiments.data._images import keep
from experiments.errors import DataError

PAD, END, UNKNOWN = range(3)
"""The first entries of every vocabulary: padding, end of a sentence, an unknown character."""
SPECIAL = ("<pad>", "</s>", "<unk>")


def encoding(sentences: Iterable[str], vocabulary: int, folder: Path | None = None) -> Tokenizer:
    """The encoding that sentences give; trained, or read from `folder` where it lies already.

    Parameters
    ----------
    sentences
        What it is trained on: both languages' training sentences.
    vocabulary
        The most entries that it has.
    folder
        Where to keep it, under a name of what it depends on; None keeps it nowhere.

    Raises
    ------
    DataError
        If the vocabulary is smaller than the alphabet.
    """
    text = tuple(sentences)
    digest = hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]
    path = None if folder is None else folder / f"bpe-{vocabulary}-{digest}.json"
    if path is not None and path.exists():
        with contextlib.suppress(Exception):  # so broad is what tokenizers raises at damage
            return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    trained = _trained(text, vocabulary)
    if path is not None:
        keep(path, lambda new: new.write_text(trained.to_str(), encoding="utf-8"))
    return trained


def _trained(text: tuple[str, ...], vocabulary: int) -> Tokenizer:
    encoding = Tokenizer(models.BPE(unk_token=SPECIAL[UNKNOWN]))
    encoding.normalizer = normalizers.NFC()
    encoding.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    encoding.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False
    )
    encoding.train_from_iterator(text, trainer)
    if encoding.get_vocab_size() > vocabulary:
        raise DataError(
            f"a vocabulary of {vocabulary} is smaller than the alphabet, with which the encoding "
            f"has {encoding.get_vocab_size()} entries; ask for more"
        )
    return encoding
