"""Data sets that are laid out as ImageNet is: folders or archives, read whole or file by file."""

import dataclasses
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import tasks
from experiments.data import DataError, _images, image_folder, load
from experiments.engine import execute
from experiments.errors import UserError
from experiments.paper._imagenet import SMOKE
from experiments.spec import Optim, Run, options
from experiments.tasks import imagenet

NAME, SIDE = "small", 12
CLASSES = ("n01", "n02", "n10")
TRAIN, TEST = 4, 2  # images of each class


def image(split: str, label: str, number: int, size: tuple[int, int]) -> Image.Image:
    """Noise, and another for every file."""
    digest = hashlib.sha256(f"{split}{label}{number}".encode()).digest()
    rng = np.random.default_rng(list(digest))
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def files(size: tuple[int, int] = (SIDE, SIDE)) -> dict[str, bytes]:
    """A small data set: the content of every file by its path."""
    found = {}
    for split, count in (("train", TRAIN), ("val", TEST)):
        for label in CLASSES:
            for number in range(count):
                buffer = io.BytesIO()
                image(split, label, number, size).save(buffer, "PNG")
                found[f"{split}/{label}/{label}_{number}.png"] = buffer.getvalue()
    return found


def write(folder: Path, content: dict[str, bytes]) -> None:
    for path, part in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(part)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with the small data set in folders."""
    write(tmp_path / "root" / NAME, files())
    return tmp_path / "root"


@pytest.fixture
def archived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with the small data set in three archives, whose digests are pinned."""
    folder = tmp_path / "archived" / NAME
    folder.mkdir(parents=True)
    parts: dict[str, list[str]] = {"train-0": [], "train-1": [], "val": []}
    for path in files():
        split, label, _ = path.split("/")
        parts["val" if split == "val" else f"train-{int(label > 'n01')}"].append(path)
    digests = {}
    for part, paths in parts.items():
        with tarfile.open(folder / f"{part}.tar.xz", "w:xz") as archive:
            for path in reversed(paths):
                member = tarfile.TarInfo(path)
                member.size = len(files()[path])
                archive.addfile(member, io.BytesIO(files()[path]))
        digest = hashlib.sha256((folder / f"{part}.tar.xz").read_bytes()).hexdigest()
        digests[f"{part}.tar.xz"] = digest
    monkeypatch.setitem(image_folder.ARCHIVES, NAME, digests)
    return folder.parent


# Read whole


def test_folders_give_every_image_with_its_label(root: Path) -> None:
    images = image_folder.load(root, NAME, SIDE)
    assert images.classes == CLASSES
    assert images.source == "local folder"
    for split, pixels, labels, count in (
        ("train", images.train_images, images.train_labels, TRAIN),
        ("val", images.test_images, images.test_labels, TEST),
    ):
        assert pixels.shape == (count * len(CLASSES), SIDE, SIDE, 3)
        assert pixels.dtype == np.uint8
        assert labels.dtype == np.int64
        assert labels.tolist() == [n for n in range(len(CLASSES)) for _ in range(count)]
        for index, label in enumerate(labels):
            drawn = image(split, CLASSES[label], index % count, (SIDE, SIDE))
            assert np.array_equal(pixels[index], np.asarray(drawn))


def test_archives_give_the_same_images_in_the_same_order(root: Path, archived: Path) -> None:
    folders, archives = (image_folder.load(one, NAME, SIDE) for one in (root, archived))
    assert np.array_equal(folders.train_images, archives.train_images)
    assert np.array_equal(folders.test_images, archives.test_images)
    assert folders.sha256 == archives.sha256


@pytest.mark.parametrize("size", [(24, 24), (24, 12), (12, 30), (7, 9)])
def test_of_an_image_of_another_size_the_middle_is_taken(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    write(tmp_path / NAME, files(size))
    pixels = image_folder.load(tmp_path, NAME, SIDE).train_images
    assert pixels.shape == (TRAIN * len(CLASSES), SIDE, SIDE, 3)
    if size == (24, 12):  # no scaling: the middle columns, untouched
        drawn = np.asarray(image("train", "n01", 0, size))
        assert np.array_equal(pixels[0], drawn[:, 6:18])


def test_decoded_images_are_kept_until_the_files_change(root: Path, tmp_path: Path) -> None:
    first = image_folder.load(root, NAME, SIDE)
    (kept,) = root.glob("*.npz")
    for path in (root / NAME).rglob("*.png"):
        path.write_bytes(b"\0" * path.stat().st_size)  # names and sizes stay
    again = image_folder.load(root, NAME, SIDE)
    assert again.sha256 == first.sha256
    assert np.array_equal(again.train_images, first.train_images)
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"train/n01/n01_0.png is not a whole image"):
        image_folder.load(root, NAME, SIDE)  # what was kept is damaged, and not relied on
    write(root / NAME, files((24, 24)))
    assert image_folder.load(root, NAME, SIDE).sha256 != first.sha256
    assert [path.suffix for path in root.iterdir() if path.is_file()] == [".npz"] * 2


def test_a_folder_that_is_only_for_reading_serves_as_well(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_images, "TemporaryDirectory", refuse)
    assert len(image_folder.load(root, NAME, SIDE).train_images) == TRAIN * len(CLASSES)
    assert list(root.glob("*.npz")) == []


def test_a_data_set_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^small is not in .*: put the folders small/train and"):
        image_folder.load(tmp_path, NAME, SIDE)
    with pytest.raises(DataError, match=r"^tiny-imagenet-32 is .*archives train-0.tar.xz, train-1"):
        load("tiny-imagenet-32", tmp_path, download=True)


def test_an_archive_that_is_not_the_published_one_is_a_sentence(archived: Path) -> None:
    path = archived / NAME / "train-1.tar.xz"
    expected = image_folder.ARCHIVES[NAME]["train-1.tar.xz"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{path} has the sha256 \w+, and {expected} was"):
        image_folder.load(archived, NAME, SIDE)
    path.unlink()
    with pytest.raises(DataError, match=rf"{path} cannot be read .*: replace it"):
        image_folder.load(archived, NAME, SIDE)
    assert list(archived.glob("*.npz")) == []


def test_splits_with_other_classes_are_a_sentence(root: Path) -> None:
    (root / NAME / "val" / "n10").rename(root / NAME / "val" / "n11")
    with pytest.raises(DataError, match="train and val have different classes, n10 among them"):
        image_folder.load(root, NAME, SIDE)
    for path in (root / NAME / "val" / "n11").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"cannot be read .*n11"):
        image_folder.load(root, NAME, SIDE)


@pytest.mark.data
def test_tiny_imagenet_32_is_whole() -> None:
    from experiments.command_line import parser

    root = parser().parse_args(["data", "tiny-imagenet-32"]).data_dir
    images = load("tiny-imagenet-32", root)
    assert np.bincount(images.train_labels).tolist() == [500] * 200
    assert np.bincount(images.test_labels).tolist() == [50] * 200
    assert images.train_images.shape[1:] == (32, 32, 3)


# In training


def run_on(**settings: object) -> Run:
    return dataclasses.replace(
        SMOKE,
        optim=Optim("radam", 0.01),
        epochs=2,
        batch_size=5,
        settings=options(
            **dict(SMOKE.settings)
            | {"data": NAME, "classes": 3, "train_images": 9, "validation_images": 3, "side": 8}
            | {"augment": True}
            | settings
        ),
    )


def task_of(run: Run, root: Path) -> tasks.Training:
    task = tasks.load(run, root, torch.device("cpu"))
    assert not isinstance(task, tasks.Measurement)
    return task


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_run_trains_on_any_such_data_set(root: Path, in_memory: bool) -> None:
    run = run_on(in_memory=in_memory)
    result = execute(run, data_root=root)
    assert result.status == "finished"
    assert result.metrics.keys() == {
        "train_loss",
        *(f"{split}_{metric}" for split in ("validation", "test", "seen")
          for metric in ("accuracy", "loss")),
    }  # fmt: skip
    again = execute(run, data_root=root)
    assert again.metrics == result.metrics
    assert again.provenance["data_sha256"] == result.provenance["data_sha256"]


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_resumed_run_is_equal_to_an_uninterrupted_one(
    root: Path, tmp_path: Path, in_memory: bool
) -> None:
    run = run_on(in_memory=in_memory)
    whole = execute(run, data_root=root)

    def stop(done: int, *_: object) -> None:
        if done > 2:  # in the second epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, data_root=root, checkpoint=tmp_path / "run.pt", report=stop)
    resumed = execute(run, data_root=root, checkpoint=tmp_path / "run.pt")
    assert resumed.metrics == whole.metrics
    assert resumed.curves == whole.curves


def test_files_are_read_in_an_order_and_in_parts_of_the_seed_and_the_epoch(root: Path) -> None:
    def shown(seed: int, epoch: int, **settings: object) -> tuple[list[int], torch.Tensor]:
        run = dataclasses.replace(run_on(in_memory=False, **settings), seed=seed)
        batches = list(task_of(run, root).batches(epoch))
        assert [len(labels) for _, labels in batches] == [5, 4]
        labels = [int(label) for _, part in batches for label in part]
        return labels, torch.cat([images for images, _ in batches])

    torch.manual_seed(1)
    labels, images = shown(0, 1)
    state = torch.get_rng_state()
    assert images.shape == (9, 3, 8, 8)
    again = shown(0, 1)
    assert torch.equal(torch.get_rng_state(), state)  # the parts are not drawn from it
    assert again[0] == labels
    assert torch.equal(again[1], images)
    for other in (shown(1, 1), shown(0, 2)):
        assert not torch.equal(other[1], images)
    plain = shown(0, 1, augment=False)
    assert plain[0] == labels
    assert not torch.equal(plain[1], images)


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_epoch_goes_on_within_without_the_files_before(
    root: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    """In this process, where its reading can be seen."""
    task, read = task_of(run_on(in_memory=in_memory), root), []
    assert isinstance(task, tasks.Divisible)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    whole, of_part = list(task.batches(1)), list(task.parts(1, 1, 2))
    open_file = imagenet.pil_loader

    def opened(path: str) -> Image.Image:
        read.append(path)
        return open_file(path)

    monkeypatch.setattr(imagenet, "pil_loader", opened)
    found, found_part = list(task.batches(1, 1)), list(task.parts(1, 1, 2, 1))
    assert len(whole) == len(of_part) == 2
    assert torch.equal(found[0][0], whole[1][0])
    assert torch.equal(found_part[0][0][0], of_part[1][0][0])
    assert len(found) == len(found_part) == 1
    assert len(read) == (0 if in_memory else 4 + 2)


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_parts_of_several_processes_are_the_batches(root: Path, in_memory: bool) -> None:
    """With the same cuts of the same images, and a mean loss that is the batch's."""
    task = task_of(run_on(in_memory=in_memory), root)
    assert isinstance(task, tasks.Divisible)
    torch.manual_seed(0)
    model = task.model().eval()  # without batch-norm statistics of the parts
    of_parts = [list(task.parts(1, rank, 2)) for rank in range(2)]
    for batch, *parts in zip(task.batches(1), *of_parts, strict=True):
        losses = [task.loss(model, part) * weight for part, weight in parts]
        assert losses[0] != losses[1]
        mean = torch.stack(losses).mean().item()
        assert mean == pytest.approx(task.loss(model, batch).item(), rel=1e-5)


def test_a_file_of_the_training_set_is_held_out_or_trained_on(root: Path) -> None:
    task = task_of(run_on(in_memory=False), root)
    assert isinstance(task, imagenet.FromFiles)
    train, validation = set(task.train), set(task.held_out["validation"])
    assert len(train) == 9
    assert len(validation) == 3
    assert train.isdisjoint(validation)
    assert set(task.held_out["seen"]) <= train
    assert len(task.held_out["test"]) == TEST * len(CLASSES)


def test_the_middle_of_a_file_is_that_of_the_whole_image(root: Path) -> None:
    """A shorter edge of 8/7 of the side, of which the middle is cut out, as bytes."""
    white = Image.new("RGB", (40, 20), "white")
    white.save(root / "white.png")
    pixels, label = imagenet.Files([(str(root / "white.png"), 2)], 14, None)[0]
    assert pixels.shape == (3, 14, 14)
    assert pixels.dtype == torch.uint8
    assert (pixels == 255).all()
    assert label == 2
    half = Image.new("RGB", (40, 20), "black")
    half.paste(white, (20, 0))  # the right half is white
    half.save(root / "half.png")
    pixels, _ = imagenet.Files([(str(root / "half.png"), 0)], 14, None)[0]
    assert (pixels[:, :, :6] == 0).all()
    assert (pixels[:, :, 8:] == 255).all()


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("how", ["text", "cut off", "oversized"])
def test_a_file_that_is_no_good_image_is_a_sentence(
    root: Path, monkeypatch: pytest.MonkeyPatch, how: str, in_memory: bool
) -> None:
    """Whoever reads it: this process, or a worker of the loader's."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)  # as many as make a worker
    (path,) = (root / NAME / "train" / "n01").glob("*_0.png")
    content = {"text": b"text", "cut off": path.read_bytes()[:200]}
    path.write_bytes(content.get(how, path.read_bytes()))
    if how == "oversized":
        image("train", "n01", 0, (4 * SIDE, SIDE)).save(path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIDE * SIDE)  # twice that is refused
    run = run_on(in_memory=in_memory, train_images=11, validation_images=1)
    says = {"oversized": "has too many pixels .*: put a smaller copy there"}
    expected = says.get(how, "is not a whole image .*: replace it")
    with pytest.raises(DataError, match=rf"^\S*n01_0.png {expected}\.$") as caught:
        list(task_of(run, root).batches(0))
    assert "object at" not in str(caught.value)


def test_the_classes_of_a_part_are_among_those_of_a_larger_part() -> None:
    images = load("digits", Path("none"))
    parts = [imagenet.some_classes(images, wanted) for wanted in (3, 7, 10)]
    few, more, every = (set(part.classes) for part in parts)
    assert few < more < every
    for part in parts:
        assert set(part.train_labels) == set(part.test_labels) == set(range(len(part.classes)))
        for label, name in enumerate(part.classes):
            chosen = part.train_images[part.train_labels == label]
            original = images.train_images[images.train_labels == images.classes.index(name)]
            assert np.array_equal(chosen, original)
    assert np.array_equal(parts[2].train_labels, images.train_labels)


def test_more_classes_than_there_are_is_a_sentence(root: Path) -> None:
    with pytest.raises(UserError, match="4 classes are asked for, of 3; ask for fewer"):
        task_of(run_on(classes=4), root)
    with pytest.raises(UserError, match=r"small has 3 classes, and the run 4: .* classes=3$"):
        task_of(run_on(classes=4, in_memory=False), root)
