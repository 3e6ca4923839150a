"""Parallel text: split without leaks, checked, and refused in one sentence where it is damaged."""

import codecs
import errno
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.data import bpe, parallel
from experiments.data.parallel import DataError, split_pairs

GERMAN = "Guten Tag.\nDas ist   ein Hund.\nÄpfel sind rot.\n"
ENGLISH = "Hello.\nThis is a dog.\nApples are red.\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder of data sets that holds iwslt14, whose files are not pinned."""
    folder = tmp_path / "iwslt14"
    folder.mkdir()
    for stem in ("train", "validation", "test"):
        (folder / f"{stem}.de").write_text(GERMAN, encoding="utf-8")
        (folder / f"{stem}.en").write_text(ENGLISH, encoding="utf-8")
    return tmp_path


def load(root: Path) -> parallel.Parallel:
    return parallel.load("iwslt14", root)


def test_a_folder_of_text_files_is_read_line_by_line(corpus: Path) -> None:
    found = load(corpus)
    assert found.splits["train"]["de"] == ("Guten Tag.", "Das ist ein Hund.", "Äpfel sind rot.")
    assert found.splits["test"]["en"][1] == "This is a dog."
    assert found.splits.keys() == {"train", "validation", "test"}


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_files_may_be_packed(corpus: Path, ending: str, pack: Callable[[bytes], bytes]) -> None:
    plain = load(corpus)
    path = corpus / "iwslt14" / "train.de"
    path.with_name(f"train.de{ending}").write_bytes(pack(path.read_bytes()))
    path.unlink()
    assert load(corpus) == plain


def test_the_digest_is_of_every_sentence(corpus: Path) -> None:
    before = load(corpus).sha256
    (corpus / "iwslt14" / "test.en").write_text(ENGLISH.replace("red", "read"))
    assert load(corpus).sha256 != before


# Bad input


def refused(root: Path, words: str) -> None:
    before = sorted(root.rglob("*"))
    with pytest.raises(DataError, match=words) as caught:
        load(root)
    assert "\n" not in str(caught.value)
    assert sorted(root.rglob("*")) == before  # nothing is half-written


def test_sides_of_different_length_are_a_sentence(corpus: Path) -> None:
    (corpus / "iwslt14" / "train.en").write_text(ENGLISH + "One more.\n")
    refused(corpus, r"train\.de has 3 and train\.en has 4 lines, and line by line")


def test_an_empty_line_is_a_sentence(corpus: Path) -> None:
    (corpus / "iwslt14" / "train.en").write_text("Hello.\n \t\nApples are red.\n")
    refused(corpus, r"train\.en is empty in line 2, and a line is a sentence; take the line out")


def test_an_empty_file_is_a_sentence(corpus: Path) -> None:
    (corpus / "iwslt14" / "train.en").write_text("")
    refused(corpus, r"train\.en is empty; get the file anew")


def test_another_encoding_is_a_sentence(corpus: Path) -> None:
    (corpus / "iwslt14" / "train.de").write_bytes(GERMAN.encode("latin-1"))
    refused(corpus, r"train\.de is not UTF-8 in line 3; convert it, as with `iconv -t UTF-8`")


def test_a_missing_language_is_a_sentence(corpus: Path) -> None:
    (corpus / "iwslt14" / "train.en").unlink()
    refused(corpus, r"has no file train\.en, nor train\.en\.gz or .*languages de and en")


def test_a_file_that_is_cut_off_is_a_sentence(corpus: Path) -> None:
    path = corpus / "iwslt14" / "train.de"
    path.with_name("train.de.gz").write_bytes(gzip.compress(GERMAN.encode() * 99)[:-20])
    path.unlink()
    refused(corpus, r"train\.de\.gz cannot be read .*; get the file anew")


def test_a_file_that_is_damaged_inside_is_a_sentence(corpus: Path) -> None:
    path = corpus / "iwslt14" / "train.de"
    packed = bytearray(gzip.compress(GERMAN.encode() * 99))
    packed[len(packed) // 2] ^= 0xFF
    path.with_name("train.de.gz").write_bytes(packed)
    path.unlink()
    refused(corpus, r"train\.de\.gz cannot be read .*; get the file anew")


def test_a_byte_order_mark_is_no_part_of_the_first_word(corpus: Path) -> None:
    plain = load(corpus)
    for path in (corpus / "iwslt14").iterdir():
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert load(corpus) == plain


def test_an_absent_corpus_says_how_to_get_it(tmp_path: Path) -> None:
    refused(tmp_path, "iwslt14 is not in .*experiments data iwslt14` fetches it from the Hugging")
    with pytest.raises(DataError, match=r"tatoeba is not in .*: put deu-eng\.zip of https://"):
        parallel.load("tatoeba", tmp_path)


def test_an_unknown_corpus_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no parallel corpus 'europarl'; the corpora are: tatoeba,"):
        parallel.load("europarl", tmp_path)


def test_a_file_that_is_not_the_pinned_one_is_a_sentence(corpus: Path) -> None:
    (corpus / "iwslt14").rename(corpus / "iwslt14-test")
    with pytest.raises(DataError, match=r"test\.de has the sha256 [0-9a-f]{64}, .* was expected"):
        parallel.load("iwslt14-test", corpus)
    with zipfile.ZipFile(corpus / "deu-eng.zip", "w") as archive:
        archive.writestr("deu.txt", "Hi.\tHallo!\n")
    with pytest.raises(DataError, match=r"deu-eng\.zip has the sha256 .* get the file of 2018-05"):
        parallel.load("tatoeba", corpus)


def test_the_pinned_files_are_those_of_the_corpora() -> None:
    stems = {
        f"{files.folder}/{stem}.{language}"
        for files in parallel.FILES.values()
        for stem in files.stems.values()
        for language in parallel.LANGUAGES
    }
    assert parallel._pins().keys() <= stems
    assert len(parallel._pins()) == 14


# The hub


def test_the_hubs_rows_become_text_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"translation": {"de": "Guten  Tag.", "en": "Hello."}},
        {"translation": {"de": "", "en": "No German."}},
    ]
    asked = []

    def hub(**arguments: str) -> dict[str, list[dict[str, dict[str, str]]]]:
        asked.append(arguments)
        return dict.fromkeys(("train", "validation", "test"), rows)

    monkeypatch.setattr(parallel.hub, "load", hub)
    found = parallel.load("iwslt14", tmp_path / "new", download=True)
    assert found.splits["train"] == {"de": ("Guten Tag.",), "en": ("Hello.",)}
    assert asked == [parallel.FILES["iwslt14"].hub]
    assert parallel.load("iwslt14", tmp_path / "new", download=True) == found  # from the files
    assert len(asked) == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["iwslt14"]


def test_what_the_hub_has_is_held_against_the_pins_before_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"de": "Guten Tag.", "en": "Hello."}]
    monkeypatch.setattr(parallel.hub, "load", lambda **_: {"train": rows})
    words = r"hub has of multi30k is not kept: multi30k/train\.de has the sha256 .* was expected"
    with pytest.raises(DataError, match=words):
        parallel.load("multi30k", tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


def test_a_hub_out_of_reach_is_asked_once_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    asked = []

    def ask(self: object, path: str, revision: str | None) -> None:
        asked.append(path)
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", ask)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("it is not there"))
    with pytest.raises(DataError, match=r"cannot be fetched from the .* no route\); put its"):
        parallel.load("multi30k", tmp_path, download=True)
    assert asked == [parallel.FILES["multi30k"].hub["path"]]
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_hubs_cache_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: pytest.fail("asked"))
    monkeypatch.setattr("datasets.load_dataset", lambda path, **given: (path, given))
    found = parallel.hub.load("owner/name", "main", split="train")
    assert found == ("owner/name", {"revision": "main", "split": "train"})


# Splits


def test_nothing_held_out_is_trained_on() -> None:
    # Many an English sentence has two translations, and many a German one too.
    pairs = [(f"Satz {i // 2}", f"sentence {i // 3}") for i in range(30_000)]
    splits = split_pairs(pairs)
    for name, count in parallel.HELD_OUT.items():
        assert len(set(splits[name]["en"])) == len(splits[name]["en"]) == count
    trained = {*splits["train"]["de"], *splits["train"]["en"]}
    for name in parallel.HELD_OUT:
        assert trained.isdisjoint({*splits[name]["de"], *splits[name]["en"]})
    assert set(splits["validation"]["en"]).isdisjoint(splits["test"]["en"])
    kept = set(zip(splits["train"]["de"], splits["train"]["en"], strict=True))
    assert kept <= set(pairs)
    assert split_pairs(pairs) == splits


def test_the_embedded_corpus_has_thousands_of_pairs_and_no_overlap() -> None:
    found = parallel.load("numbers", Path("none"))
    pairs = {
        name: list(zip(sides["de"], sides["en"], strict=True))
        for name, sides in found.splits.items()
    }
    assert len(pairs["train"]) > 3_000
    assert set(pairs["train"]).isdisjoint(pairs["test"] + pairs["validation"])
    everything = dict(pair for split in pairs.values() for pair in split)
    assert everything["zweihundertneun"] == "two hundred and nine"
    assert parallel.load("numbers", Path("none")) == found


def test_other_corpora_bring_their_test_sets(corpus: Path) -> None:
    found = parallel.load("numbers+iwslt14", corpus)
    alone = parallel.load("numbers", corpus)
    assert found.splits["iwslt14: test"] == load(corpus).splits["test"]
    assert found.splits.keys() == {*alone.splits, "iwslt14: test"}
    assert found.sha256 != alone.sha256


# The encoding

TEXT = ["Der Hund bellt laut.", "The dog barks loudly.", "Zwei Hunde bellen.", "Two dogs bark."]


def test_the_encoding_gives_the_text_back() -> None:
    encoding = bpe.encoding(TEXT, 80)
    for sentence in TEXT:
        assert encoding.decode(encoding.encode(sentence).ids) == sentence
    assert [encoding.token_to_id(one) for one in bpe.SPECIAL] == [bpe.PAD, bpe.END, bpe.UNKNOWN]
    assert encoding.encode("Ω").ids[-1] == bpe.UNKNOWN


def test_the_encoding_is_kept_under_what_it_depends_on(tmp_path: Path) -> None:
    first = bpe.encoding(TEXT, 80, tmp_path)
    (path,) = tmp_path.iterdir()
    again = bpe.encoding(TEXT, 80, tmp_path)
    assert again.to_str() == first.to_str() == bpe.encoding(TEXT, 80).to_str()
    path.write_text(bpe.encoding(TEXT, 50).to_str())
    assert bpe.encoding(TEXT, 80, tmp_path).to_str() != first.to_str()  # it was read
    path.write_text(first.to_str()[:-100])
    assert bpe.encoding(TEXT, 80, tmp_path).to_str() == first.to_str()  # damaged, so trained anew
    assert path.read_text() == first.to_str()
    bpe.encoding(TEXT[1:], 80, tmp_path)
    bpe.encoding(TEXT, 81, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_in_a_folder_without_space_the_encoding_is_trained_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str, encoding: str) -> None:
        path.write_bytes(text[:9].encode(encoding))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert bpe.encoding(TEXT, 80, tmp_path).to_str() == bpe.encoding(TEXT, 80).to_str()
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_below_the_alphabet_is_a_sentence() -> None:
    with pytest.raises(DataError, match=r"vocabulary of 10 is smaller than the alphabet, .* more"):
        bpe.encoding(TEXT, 10)
