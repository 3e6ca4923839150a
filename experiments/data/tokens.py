"""Words as numbers: the vocabulary, and texts in memory or, if they are too large for it, on disk.

What a paper calls rare is unknown: words that are in the training text three times or less. Every
line ends with a token of its own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from experiments.errors import DataError

UNKNOWN, END = "<unk>", "<eos>"
RARE = 3
"""Words seen so often, or less, in the training text are unknown."""
SPLITS = ("train", "validation", "test")
CHUNK = 1 << 20
"""Tokens that are encoded at once: what is in memory of a text that is not."""
WHOLE = "whole"
"""Where the tokens of a text that is on disk are before they are all there."""

Lines = Callable[[str], Iterable[str]]
"""The lines of a split, as often as they are asked for; words are parted by white space."""
Limits = Mapping[str, int]
"""How many tokens of each split are taken, from its beginning."""
Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Corpus:
    """A text in numbers.

    Attributes
    ----------
    words
        The vocabulary, the most frequent word first: a token is an index into it.
    counts
        How often each is in the training text.
    train, validation, test
        Tokens [n]; of a text that is large, in a file.
    sha256
        Digest of the words and of the tokens of the three splits.
    """

    words: tuple[str, ...]
    counts: NDArray[np.int64]
    train: Tokens
    validation: Tokens
    test: Tokens
    sha256: str


@dataclass(frozen=True)
class Source:
    """A text that is too large for the memory.

    Attributes
    ----------
    name
        For people.
    shards
        The lines of a split in parts, each of which may be read without those before it.
    sentences
        How many lines each split has; asked of what is read to its end.
    version
        What tells the text from another one that would go into the same folder; asked for when it
        is to be read.
    remedy
        What to do where it has another number of lines.
    """

    name: str
    shards: Callable[[str], Sequence[Iterable[str]]]
    sentences: Mapping[str, int]
    version: Callable[[], str]
    remedy: str


def sentences_of(lines: Iterable[str], limit: int) -> Iterator[list[str]]:
    """The words of each line and its end, until there are `limit` of them in all."""
    for line in lines:
        sentence = [*line.split(), END][:limit]
        yield sentence
        limit -= len(sentence)
        if limit == 0:
            return


def vocabulary(counts: Counter[str]) -> dict[str, int]:
    """The words that are known and how often each was seen, the most frequent first."""
    known = {word: count for word, count in counts.items() if count > RARE}
    known[END] = counts[END]
    known[UNKNOWN] = known.get(UNKNOWN, 0) + counts.total() - sum(known.values())
    return dict(sorted(known.items(), key=lambda item: (-item[1], item[0])))


def in_memory(lines: Lines, limits: Limits) -> Corpus:
    """The corpus of a text."""

    def words(split: str) -> Iterator[str]:
        return itertools.chain.from_iterable(sentences_of(lines(split), limits[split]))

    known = vocabulary(Counter(words("train")))
    index = {word: number for number, word in enumerate(known)}
    unknown = index[UNKNOWN]
    tokens = {
        split: np.fromiter((index.get(word, unknown) for word in words(split)), np.int32)
        for split in SPLITS
    }
    return _corpus(known, tokens)


def _corpus(known: dict[str, int], tokens: dict[str, Tokens]) -> Corpus:
    digest = hashlib.sha256("\n".join(known).encode())
    for split in SPLITS:
        digest.update(tokens[split].data)
    counts = np.fromiter(known.values(), np.int64)
    return Corpus(tuple(known), counts, **tokens, sha256=digest.hexdigest())


def on_disk(source: Source, limits: Limits, folder: Path) -> Corpus:
    """The corpus in files, which are made once: the text goes by once, and is never in memory.

    Every shard that has gone by is kept until all have, in a folder of the same name with a dot
    before it: who is interrupted goes on with the next, unless the text is another one by then.

    Raises
    ------
    DataError
        If the text cannot be had or is not whole, or its tokens cannot be stored or are damaged.
    """
    begun = folder.with_name(f".{folder.name}")
    if not folder.exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _alone(folder.with_name(".lock"), source.name):
                if not folder.exists():  # else another process has made it meanwhile
                    _begin(begun, source.version())
                    _write(source, limits, begun)
                    os.replace(begun / WHOLE, folder)
        except OSError as error:
            raise DataError(
                f"The tokens cannot be stored in {folder} ({error.strerror or error}): name a "
                "folder with --data-dir that you can write to and that has 7 GB free."
            ) from error
    shutil.rmtree(begun, ignore_errors=True)
    return _read(folder)


@contextmanager
def _alone(lock_file: Path, name: str) -> Iterator[None]:
    lock = FileLock(lock_file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"{name}: another process is at it, and is waited for", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _begin(begun: Path, version: str) -> None:
    """Make the folder of what is begun, or keep it, if it is of the same text."""
    noted = begun / "version"
    if not noted.exists() or noted.read_bytes() != version.encode():
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir()
        noted.write_text(version)


def _write(source: Source, limits: Limits, begun: Path) -> None:
    """Number the words of every shard, then write the numbers that they have in the vocabulary."""
    numbered = {}
    for split in reversed(SPLITS):  # the large one last: what is wrong shows before it is read
        numbered[split] = _number_all(source, split, limits[split], begun)
    counts: Counter[str] = Counter()
    for one in numbered["train"]:
        counts.update(one.counts())
    known = vocabulary(counts)
    index = {word: number for number, word in enumerate(known)}
    digest = hashlib.sha256("\n".join(known).encode())
    whole = begun / WHOLE
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    for split in SPLITS:
        with (whole / split).open("wb") as file:
            for one in numbered[split]:
                for chunk in one.tokens(index):
                    file.write(chunk.data)
                    digest.update(chunk.data)
    about = {"counts": known, "sha256": digest.hexdigest(), "counts_sha256": _digest(known)}
    (whole / "about.json").write_text(json.dumps(about))


@dataclass(frozen=True)
class _Numbered:
    """A shard in a file, every word of it, known or not, as a number of the shard's own.

    Beside it lies what the numbers stand for, which is written last, with the digest of the file.
    """

    path: Path
    words: int
    sentences: int

    def counts(self) -> dict[str, int]:
        """How often it has each word, in the order of their numbers."""
        counts: dict[str, int] = _about(self.path)["counts"]
        return counts

    def tokens(self, index: Mapping[str, int]) -> Iterator[Tokens]:
        """The numbers that its words have in a vocabulary, in chunks."""
        unknown = index[UNKNOWN]
        table = np.array([index.get(word, unknown) for word in self.counts()], np.int32)
        for chunk in _chunks_of(self.path):
            yield table[chunk]


def _chunks_of(path: Path) -> Iterator[Tokens]:
    with path.open("rb") as file:
        while (chunk := np.fromfile(file, np.int32, CHUNK)).size:
            yield chunk


def _digest(of: Any) -> str:
    return hashlib.sha256(json.dumps(of).encode()).hexdigest()


def _about(path: Path) -> Any:
    return json.loads(path.with_suffix(".json").read_text())


def _number_all(source: Source, split: str, limit: int, folder: Path) -> list[_Numbered]:
    """Each shard in numbers, up to `limit` words in all; what is there whole is taken."""
    found, shards = [], source.shards(split)
    for number, lines in enumerate(shards):
        path = folder / f"{split}-{number:05}-of-{len(shards):05}"
        one = _there(path)
        if one is None:
            print(f"{source.name}, {split}: {number + 1} of {len(shards)}", file=sys.stderr)
            one = _number(sentences_of(lines, limit), path)
        found.append(one)
        limit -= one.words
        if limit == 0:
            return found
    sentences = sum(one.sentences for one in found)
    if sentences != source.sentences[split]:
        for one in found:
            one.path.with_suffix(".json").unlink()
        raise DataError(
            f"{source.name} has {source.sentences[split]:,} sentences in its split {split!r}, and "
            f"{sentences:,} were read: {source.remedy}."
        )
    return found


def _there(path: Path) -> _Numbered | None:
    """A shard that was numbered before, if it is whole."""
    try:
        about = _about(path)
        digest, words = hashlib.sha256(), 0
        for chunk in _chunks_of(path):
            digest.update(chunk.data)
            words += len(chunk)
        digest.update(_digest((about["counts"], about["sentences"])).encode())
        whole = about["sha256"] == digest.hexdigest()
        return _Numbered(path, words, about["sentences"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _number(sentences: Iterable[list[str]], path: Path) -> _Numbered:
    index: dict[str, int] = {}
    counts, digest, ends = Counter[int](), hashlib.sha256(), 0

    def numbers() -> Iterator[int]:
        nonlocal ends
        for sentence in sentences:
            ends += 1
            for word in sentence:
                yield index.setdefault(word, len(index))

    rest = numbers()
    with path.open("wb") as file:
        while (chunk := np.fromiter(itertools.islice(rest, CHUNK), np.int32)).size:
            file.write(chunk.data)
            digest.update(chunk.data)
            counts.update(chunk.tolist())
    seen = {word: counts[number] for word, number in index.items()}
    digest.update(_digest((seen, ends)).encode())
    about = {"counts": seen, "sentences": ends, "sha256": digest.hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(about))
    return _Numbered(path, counts.total(), ends)


def _read(folder: Path) -> Corpus:
    """What was written, held against its digest: all of it goes by once."""
    try:
        about = json.loads(Path(folder, "about.json").read_text())
        tokens: dict[str, Tokens] = {
            split: np.memmap(folder / split, np.int32, "r") for split in SPLITS
        }
        if _digest(about["counts"]) != about["counts_sha256"]:
            raise ValueError("its counts of words are not those that were written")
        corpus = _corpus(about["counts"], tokens)
        if corpus.sha256 != about["sha256"]:
            raise ValueError(f"its sha256 is {corpus.sha256}, and was {about['sha256']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} is not whole ({error}): delete it, and it is made anew."
        ) from error
    return corpus
