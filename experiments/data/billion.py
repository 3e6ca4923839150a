"""The One Billion Word benchmark (Chelba et al. 2013), from its archive or the Hugging Face hub."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from experiments.data import hub
from experiments.data.tokens import Source
from experiments.errors import DataError, named


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

No commit is pinned, for the hub makes the files of this revision itself, and anew when it likes:
all are read at the commit that it is at, and their sentences counted against the published number.
"""
NAME = "One Billion Word"


def source(folder: Path) -> Source:
    """The benchmark, from a folder if its archive lies there, else from the hub.

    The held-out sentences are in turn for validation and for tests; they are few, and in memory.

    Raises
    ------
    DataError
        If the folder has a part of the archive.
    """
    files, commit = _archive(folder), functools.cache(_commit)

    def shards_of(part: str) -> Sequence[Iterable[str]]:
        return [_unpacked(path) for path in files[part]] if files else _streamed(part, commit())

    @functools.cache
    def held_out() -> list[str]:
        return [*itertools.chain(*shards_of("test"))]

    def every(step: int, first: int) -> Iterator[str]:
        yield from held_out()[first::step]

    def shards(split: str) -> Sequence[Iterable[str]]:
        part, first, step = TAKEN[split]
        return shards_of("train") if part == "train" else [every(step, first)]

    return Source(
        NAME,
        shards,
        {
            split: len(range(first, LM1B[part].sentences, step))
            for split, (part, first, step) in TAKEN.items()
        },
        version=str if files else commit,  # of files the folder's name tells
        remedy="they are not the published files; get them anew"
        if files
        else "the hub has other files now; put the benchmark's archive into the folder lm1b",
    )


def key(folder: Path) -> str:
    """Whence the sentences are, in brief: names and sizes of the files, or the hub.

    Not their times, for a copy of the published files is the same text.
    """
    files = [path for part in _archive(folder).values() for path in part]
    there = [(path.name, path.stat().st_size) for path in files]
    return hashlib.sha256(json.dumps(there or HUB).encode()).hexdigest()[:8]


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


def _unpacked(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            yield from lines
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): unpack the archive of One Billion Word anew."
        ) from error


def _streamed(part: str, commit: str) -> list[Iterator[str]]:
    """The sentences of each of the hub's files; `datasets` itself outlasts a connection's gaps."""

    def sentences(shard: Iterable[dict[str, str]]) -> Iterator[str]:
        with _from_the_hub():
            for row in shard:
                if not isinstance(row["text"], str):
                    raise TypeError(f"{row['text']!r} is no sentence")
                yield row["text"]

    with _from_the_hub():
        stream = hub.load(HUB["path"], commit, split=part, streaming=True)
        count = stream.num_shards
        return [sentences(stream.shard(count, number)) for number in range(count)]


@contextmanager
def _from_the_hub() -> Iterator[None]:
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # every way to the hub fails with errors of its own
        folders = " and ".join(name.partition("/")[0] for name in (TRAINING, HELD_OUT))
        raise DataError(
            f"One Billion Word cannot be read from the Hugging Face hub ({named(error)}): "
            f"run it again to go on with what came, or put the folders {folders} of its "
            "archive into the folder lm1b of the data sets."
        ) from error


def _commit() -> str:
    with _from_the_hub():
        return hub.commit(**HUB)
