"""Parallel text, German and English: whence it comes, checked, and split.

Runs read local files alone. `python -m experiments data NAME` fetches a corpus from the Hugging
Face hub and writes it there as text files, one for each split and language.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from experiments.data import hub, number_words
from experiments.errors import DataError

LANGUAGES = ("de", "en")
Sentences = tuple[str, ...]
Split = Mapping[str, Sentences]
"""The sentences of each language; those of one line are translations of each other."""

OPENERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
}
"""How a file may be packed, by its ending."""

TATOEBA_SHA256 = "b7688f84f99fa33c17397c14d8bd9cef1fdeb2ee0bf50074767023aee8926e28"
PINNED = Path(__file__).with_suffix(".sha256")
"""Digests of the lines of files, with single spaces between the words, as sha256sum writes them."""
HELD_OUT = {"validation": 1_000, "test": 2_000}
"""How many English sentences of Tatoeba are held out for each split."""


@dataclass(frozen=True)
class Parallel:
    """A parallel corpus.

    Attributes
    ----------
    splits
        "train", "validation", "test" and perhaps further test sets, by name.
    sha256
        Digest of all sentences of all splits.
    source
        Where the bytes came from: "local folder" or "installed packages".
    """

    splits: Mapping[str, Split]
    sha256: str
    source: str


@dataclass(frozen=True)
class Files:
    """A corpus as text files, one for each split and language, and where the hub has it.

    Attributes
    ----------
    folder
        Its name below the folder of the data sets.
    stems
        For each split the name of its files without the language: "train" is ``train.de`` and
        ``train.en``, each as it is or packed by gzip or xz.
    hub
        Arguments of ``datasets.load_dataset``: the repository, its configuration, its revision.
    """

    folder: str
    stems: Mapping[str, str]
    hub: Mapping[str, str]


STANDARD = {"train": "train", "validation": "validation", "test": "test"}
FILES = {
    "multi30k": Files(
        "multi30k",
        {
            "train": "train",
            "validation": "val",
            "test": "test_2016_flickr",
            "test 2017": "test_2017_flickr",
            "test 2017, COCO": "test_2017_mscoco",
            "test 2018": "test_2018_flickr",
        },
        hub={"path": "bentrevett/multi30k"},
    ),
    "iwslt14": Files(
        "iwslt14",
        STANDARD,
        hub={
            "path": "bbaaaa/iwslt14-de-en",
            "name": "de-en",
            "revision": "refs/convert/parquet",
        },
    ),
    "iwslt14-test": Files(
        "iwslt14-test",
        {"test": "test"},
        hub={
            "path": "bbaaaa/iwslt14-de-en",
            "name": "de-en",
            "revision": "refs/convert/parquet",
        },
    ),
    "wmt16": Files("wmt16", STANDARD, hub={"path": "wmt/wmt16", "name": "de-en"}),
}
CORPORA = ("tatoeba", "numbers", *FILES)


def load(name: str, root: Path, download: bool = False) -> Parallel:
    """A corpus by its name.

    Parameters
    ----------
    name
        One of `CORPORA`; or several, joined by "+", of which the first is trained on and the
        others only bring their test sets: "tatoeba+iwslt14-test".
    root
        The folder of the data sets; "numbers" needs none.
    download
        Whether what is absent may be fetched from the Hugging Face hub.

    Raises
    ------
    DataError
        If there is no such corpus, a file is absent, damaged or not the published one, its lines
        are not pairs of sentences, or a package is not installed.
    """
    name, *others = name.split("+")
    if others:
        whole = dict(load(name, root, download).splits)
        for one in others:
            found = load(one, root, download).splits
            kept = {split: found[split] for split in found if split not in ("train", "validation")}
            whole |= {f"{one}: {split}": sides for split, sides in kept.items()}
        return Parallel(whole, digest(whole), "local folder")
    if name == "numbers":
        splits = number_words.splits()
        return Parallel(splits, digest(splits), "installed packages")
    root = Path(root).expanduser()
    if name == "tatoeba":
        splits = _tatoeba(root)
    elif name in FILES:
        splits = _from_files(name, root, download)
    else:
        known = ", ".join(CORPORA)
        raise DataError(f"there is no parallel corpus {name!r}; the corpora are: {known}")
    return Parallel(splits, digest(splits), "local folder")


def digest(splits: Mapping[str, Split]) -> str:
    """The sha256 of all sentences, split by split and language by language."""
    found = hashlib.sha256()
    for name, split in splits.items():
        for language, sentences in split.items():
            found.update("\n".join((name, language, *sentences, "")).encode())
    return found.hexdigest()


# Text files


def _from_files(name: str, root: Path, download: bool) -> dict[str, Split]:
    files = FILES[name]
    folder = root / files.folder
    if download and not folder.exists():
        _fetch(name, files, root)
    if not folder.is_dir():
        raise DataError(
            f"{name} is not in {root}: `python -m experiments data {name}` fetches it from the "
            f"Hugging Face hub, or put its text files into {folder}"
        )
    return _read(files, folder)


def _read(files: Files, folder: Path) -> dict[str, Split]:
    return {
        split: read_split(folder, stem)
        for split, stem in files.stems.items()
        if split in STANDARD or any(folder.glob(f"{stem}.*"))  # the hub has not all test sets
    }


def read_split(folder: Path, stem: str) -> Split:
    """The two files of a split, line by line.

    Raises
    ------
    DataError
        If one is absent, is not text in UTF-8, has an empty line or another number of lines than
        the other, or is not the one that is pinned.
    """
    split = {language: _lines(folder, f"{stem}.{language}") for language in LANGUAGES}
    counts = {language: len(sentences) for language, sentences in split.items()}
    if len(set(counts.values())) > 1:
        said = " and ".join(f"{stem}.{one} has {count:,}" for one, count in counts.items())
        raise DataError(
            f"{folder}: {said} lines, and line by line they should be translations; get both "
            "files anew from one source"
        )
    return split


def _lines(folder: Path, name: str) -> Sentences:
    packed = [folder / f"{name}{ending}" for ending in OPENERS]
    path = next((one for one in packed if one.exists()), None)
    if path is None:
        raise DataError(
            f"{folder} has no file {name}, nor {name}.gz or {name}.xz: a corpus has one for each "
            f"of the languages {' and '.join(LANGUAGES)}"
        )
    opener = OPENERS[path.name.removeprefix(name)]
    try:
        content = opener(path.read_bytes())
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path} cannot be read ({error}); get the file anew") from error
    lines = sentences(content, path)
    found = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    expected = _pins().get(f"{folder.name}/{name}", found)
    if found != expected:
        raise DataError(
            f"{path} has the sha256 {found}, unpacked and with single spaces, and {expected} was "
            "expected; get the published file"
        )
    return lines


@functools.cache
def _pins() -> dict[str, str]:
    lines = PINNED.read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ") for line in lines)}


def sentences(content: bytes, path: Path) -> Sentences:
    """The lines of a text file, with single spaces between the words.

    Raises
    ------
    DataError
        If it is not UTF-8, or a line of it is empty.
    """
    try:
        text = content.decode("utf-8-sig")  # a byte-order mark is no part of the first word
        lines = [" ".join(line.split()) for line in text.split("\n")]
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} is not UTF-8 in line {line}; convert it, as with `iconv -t UTF-8`"
        ) from error
    if lines[-1] == "":  # what follows the last line's end is no line
        lines.pop()
    if not lines:
        raise DataError(f"{path} is empty; get the file anew")
    if "" in lines:
        raise DataError(
            f"{path} is empty in line {lines.index('') + 1}, and a line is a sentence; take the "
            "line out of the files of both languages"
        )
    return tuple(lines)


def _fetch(name: str, files: Files, root: Path) -> None:
    """From the hub into a scratch folder inside `root`; what is whole and right moves out of it."""
    try:
        found = hub.load(**files.hub)
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{name}-", dir=root) as scratch:
            folder = Path(scratch, files.folder)
            for split, stem in files.stems.items():
                if split in found:
                    rows = (row.get("translation", row) for row in found[split])
                    _write_split(folder, stem, rows)
            _refuse_another(name, files, folder)
            os.replace(folder, root / files.folder)
    except (OSError, ValueError) as error:  # what `datasets` raises where it reaches nobody
        raise DataError(
            f"{name} cannot be fetched from the Hugging Face hub ({error}); put its text files "
            f"into {root / files.folder}"
        ) from error


def _refuse_another(name: str, files: Files, folder: Path) -> None:
    """Raise where what was fetched would not be read."""
    try:
        _read(files, folder)
    except DataError as error:
        words = str(error).replace(f"{folder.parent}/", "")  # which is gone when they are read
        raise DataError(f"what the Hugging Face hub has of {name} is not kept: {words}") from error


def _write_split(folder: Path, stem: str, rows: Iterable[Mapping[str, str]]) -> None:
    folder.mkdir(exist_ok=True)
    kept = [[" ".join(row[language].split()) for language in LANGUAGES] for row in rows]
    kept = [pair for pair in kept if all(pair)]  # some corpora have pairs with an empty side
    for number, language in enumerate(LANGUAGES):
        text = "".join(f"{pair[number]}\n" for pair in kept)
        (folder / f"{stem}.{language}").write_text(text, encoding="utf-8")


# Tatoeba


def _tatoeba(root: Path) -> dict[str, Split]:
    """Pairs of sentences from tatoeba.org, as manythings.org/anki gave them out on 2018-05-13.

    Many an English sentence has several translations. What is held out is drawn from the English
    sentences, one pair each; no sentence of either language that is held out is trained on.
    """
    paths = [root / "deu-eng" / "deu-eng.zip", root / "deu-eng.zip"]
    path = next((one for one in paths if one.exists()), None)
    if path is None:
        raise DataError(
            f"tatoeba is not in {root}, and cannot be fetched: put deu-eng.zip of "
            f"https://www.manythings.org/anki/, as it was on 2018-05-13, into {paths[0].parent}"
        )
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != TATOEBA_SHA256:
            raise DataError(
                f"{path} has the sha256 {found}, and {TATOEBA_SHA256} was expected; get the file "
                "of 2018-05-13"
            )
        with zipfile.ZipFile(path) as archive:
            lines = archive.read("deu.txt").decode().splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); get the file anew") from error
    return split_pairs([(german, english) for english, german in (x.split("\t") for x in lines)])


def split_pairs(pairs: list[tuple[str, str]]) -> dict[str, Split]:
    """Pairs of German and English into training, validation and test set; the same everywhere."""
    first: dict[str, str] = {}
    for german, english in pairs:
        first.setdefault(english, german)
    distinct = list(first)
    order = np.random.default_rng(0).permutation(len(distinct))
    splits: dict[str, list[tuple[str, str]]] = {"train": []}
    begin = 0
    for name, count in HELD_OUT.items():
        chosen = [distinct[i] for i in order[begin : begin + count]]
        splits[name] = [(first[english], english) for english in chosen]
        begin += count
    held_out = {one for name in HELD_OUT for pair in splits[name] for one in pair}
    splits["train"] = [pair for pair in pairs if held_out.isdisjoint(pair)]
    return {name: _columns(kept) for name, kept in splits.items()}


def _columns(pairs: list[tuple[str, str]]) -> Split:
    return dict(zip(LANGUAGES, map(tuple, zip(*pairs, strict=True)), strict=True))
