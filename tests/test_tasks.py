"""Tasks: what is trained on, in which order, and how it is judged."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_engine import interrupted, outcome
from torchvision import models

from experiments import tasks
from experiments.engine import execute
from experiments.errors import UserError
from experiments.spec import Run, options
from experiments.tasks import _images
from experiments.tasks import gradients as gradient_task
from experiments.tasks._images import ImageClassification
from experiments.tasks._per_image import PerImage
from experiments.tasks._resnet import ResNet, ResNet18
from radam_core.rectification import r

CPU = torch.device("cpu")
SIDE, IMAGES = 8, 3


def build(run: Run, **settings: object) -> ImageClassification:
    task = tasks.load(with_settings(run, **settings), Path("none"), CPU)
    assert isinstance(task, ImageClassification)
    return task


def loop(run: Run, **settings: object) -> PerImage:
    task = tasks.load(with_settings(run, per_image=True, **settings), Path("none"), CPU)
    assert isinstance(task, PerImage)
    return task


def with_settings(run: Run, **settings: object) -> Run:
    return dataclasses.replace(run, settings=options(**(dict(run.settings) | settings)))


def shown(task: ImageClassification, images: torch.Tensor) -> np.ndarray:
    """Normalised images [n, c, h, w] as the bytes they come from."""
    return ((images * task.std + task.mean) * 255).round().byte().numpy()


def epoch(task: ImageClassification, number: int) -> tuple[np.ndarray, np.ndarray]:
    batches = [task.shown(batch) for batch in task.batches(number)]
    images = np.concatenate([shown(task, images) for images, _ in batches])
    return images, np.concatenate([labels.numpy() for _, labels in batches])


# Batches


@pytest.mark.parametrize("batch_size", [32, 80, 1000])
def test_an_epoch_gives_every_training_image_once_with_its_label(
    tiny: Run, batch_size: int
) -> None:
    task = build(dataclasses.replace(tiny, batch_size=batch_size), augment=False)
    sizes = [batch.shape[1] for batch in task.batches(0)]
    assert len(sizes) == task.updates_per_epoch == -(-80 // batch_size)
    assert sizes == [batch_size] * (80 // batch_size) + ([80 % batch_size] * (80 % batch_size > 0))
    images, labels = epoch(task, 0)
    pixels, truth = (one.numpy() for one in task.train)
    given = sorted(
        (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )
    assert given == sorted((i.tobytes(), int(t)) for i, t in zip(pixels, truth, strict=True))


def test_the_order_depends_on_seed_and_epoch_alone(tiny: Run) -> None:
    def order(seed: int, number: int) -> tuple[bytes, ...]:
        images, labels = epoch(build(dataclasses.replace(tiny, seed=seed)), number)
        return images.tobytes(), labels.tobytes()

    torch.manual_seed(1)
    first = order(0, 2)
    torch.manual_seed(2)
    task = build(tiny)
    list(task.batches(0))  # and not on the epochs before
    assert tuple(part.tobytes() for part in epoch(task, 2)) == first
    assert len({order(seed, number) for seed in range(3) for number in range(3)}) == 9


@pytest.mark.parametrize("image_by_image", [False, True])
def test_a_run_can_have_the_batches_of_another_seed(tiny: Run, image_by_image: bool) -> None:
    def drawn(seed: int, **settings: int) -> tuple[bytes, bytes]:
        """The initial weights, and the images of an epoch."""
        run = dataclasses.replace(tiny, seed=seed)
        torch.manual_seed(seed)  # as the engine does
        task = (loop if image_by_image else build)(run, augment=True, **settings)
        weights = torch.cat([one.detach().flatten() for one in task.model().parameters()])
        images, _ = loaded(task, 1) if isinstance(task, PerImage) else epoch(task, 1)
        return weights.numpy().tobytes(), images.tobytes()

    own, following = drawn(0), drawn(1)
    assert own[0] != following[0]
    assert own[1] != following[1]
    assert drawn(0, data_seed_offset=1) == (own[0], following[1])
    assert drawn(0, data_seed_offset=0) == own


@pytest.fixture
def coded(tiny: Run, monkeypatch: pytest.MonkeyPatch) -> ImageClassification:
    """Three training images of which every pixel is unlike every other, and none is black."""
    codes = np.arange(1, 1 + IMAGES * SIDE**2, dtype=np.uint8).reshape(IMAGES, SIDE, SIDE, 1)
    images = SimpleNamespace(
        train_images=codes,
        train_labels=np.arange(IMAGES),
        test_images=codes,
        test_labels=np.arange(IMAGES),
        classes=("a", "b", "c"),
        sha256="0" * 64,
    )
    monkeypatch.setattr(_images, "_load", lambda *_: images)
    monkeypatch.setattr(_images, "split", lambda *_: (np.arange(IMAGES), np.arange(1)))
    return build(tiny, train_images=IMAGES)


def crops_of(coded: ImageClassification) -> dict[bytes, tuple[int, int, int, bool]]:
    """By their bytes all crops of the padded images: label, down, right, and whether mirrored."""
    crops = {}
    for label in range(IMAGES):
        (at,) = np.flatnonzero(coded.train[1].numpy() == label)
        padded = np.zeros((SIDE + 8, SIDE + 8), np.uint8)
        padded[4:-4, 4:-4] = coded.train[0][at, 0].numpy()
        for down in range(9):
            for right in range(9):
                crop = padded[down : down + SIDE, right : right + SIDE]
                crops[crop.tobytes()] = (label, down, right, False)
                crops[crop[:, ::-1].tobytes()] = (label, down, right, True)
    assert len(crops) == IMAGES * 9 * 9 * 2
    return crops


def test_augmented_images_are_crops_of_the_padded_image_mirrored_or_not(
    coded: ImageClassification,
) -> None:
    crops = crops_of(coded)
    seen = []
    for number in range(150):
        images, labels = epoch(coded, number)
        found = [crops[image.tobytes()] for image in images]
        assert [label for label, *_ in found] == labels.tolist()
        assert sorted(labels) == [0, 1, 2]
        seen += found
    _, down, right, mirrored = zip(*seen, strict=True)
    assert set(down) == set(right) == set(range(9))
    assert 150 < sum(mirrored) < 300  # of 450, five standard deviations off at least
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.25
    assert abs(np.corrcoef(down, mirrored)[0, 1]) < 0.25


def test_without_augmentation_images_are_given_as_they_are(tiny: Run) -> None:
    task = build(tiny, augment=False)
    whole = {image.tobytes() for image in task.train[0].numpy()}
    images, _ = epoch(task, 0)
    assert {image.tobytes() for image in images} == whole


# Image by image, as a plain loop has it


def loaded(task: PerImage, number: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (torch.cat(parts) for parts in zip(*task.batches(number), strict=True))
    return shown(task.whole, images), labels.numpy()


def test_the_plain_loop_shows_the_same_images_to_the_same_network(tiny: Run) -> None:
    batched, plain = build(tiny, augment=False), loop(tiny, augment=False)
    ours, theirs = (
        sorted((image.tobytes(), int(label)) for image, label in zip(*given, strict=True))
        for given in (epoch(batched, 0), loaded(plain, 0))
    )
    assert ours == theirs
    networks = []
    for task in (batched, plain):
        torch.manual_seed(3)
        networks.append(task.model().eval())
    with torch.inference_mode():
        values = [task.evaluate(one) for task, one in zip((batched, plain), networks, strict=True)]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_the_plain_loop_draws_its_own_crops_and_reflections(coded: ImageClassification) -> None:
    crops = crops_of(coded)
    plain = PerImage(coded)
    seen = []
    for number in range(12):
        images, labels = loaded(plain, number)
        found = [crops[image.tobytes()] for image in images]
        assert [label for label, *_ in found] == labels.tolist()
        assert sorted(labels) == [0, 1, 2]
        seen += found
    _, down, right, mirrored = zip(*seen, strict=True)
    assert len(set(down)) > 4 < len(set(right))
    assert 6 < sum(mirrored) < 30  # of 36


def test_the_plain_loops_batches_depend_on_seed_and_epoch_alone(tiny: Run) -> None:
    def bytes_of(seed: int, number: int) -> tuple[bytes, ...]:
        images, labels = loaded(loop(dataclasses.replace(tiny, seed=seed)), number)
        return images.tobytes(), labels.tobytes()

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = bytes_of(0, 1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert bytes_of(0, 1) == first
    assert len({first, bytes_of(0, 0), bytes_of(1, 1)}) == 3


def test_a_plain_loop_that_is_stopped_goes_on(tiny: Run, tmp_path: Path) -> None:
    run = with_settings(tiny, per_image=True)
    resumed, stops = interrupted(run, tmp_path / "run.pt", 4)
    assert stops > 0
    assert outcome(resumed) == outcome(execute(run))


# Splits


def test_training_validation_and_test_images_are_disjoint(tiny: Run) -> None:
    run = dataclasses.replace(tiny, settings=options(train_images=900, validation_images=397))
    train, validation = _images.split(1297, run)
    assert sorted([*train, *validation]) == list(range(1297))
    fewer = dataclasses.replace(tiny, settings=options(train_images=100, validation_images=50))
    few_train, few_validation = _images.split(1297, fewer)
    assert set(few_train) <= set(train)
    assert set(few_validation) <= set(validation)
    assert set(few_train).isdisjoint(few_validation)
    reseeded = _images.split(1297, dataclasses.replace(fewer, seed=5))
    assert np.array_equal(reseeded[0], few_train)  # the same images for every run
    task = build(tiny)
    assert {split: len(labels) for split, (_, labels) in task.held_out.items()} == {
        "validation": 40,
        "test": 500,
    }


def test_more_images_than_there_are_is_a_sentence(tiny: Run) -> None:
    with pytest.raises(UserError, match=r"1258 training and 40 validation .* has 1297; ask for"):
        build(tiny, train_images=1258)


# Normalisation, loss and evaluation


def test_images_are_normalised_by_the_training_images(tiny: Run) -> None:
    task = build(tiny, augment=False)
    images = torch.cat([task.shown(batch)[0] for batch in task.batches(0)])
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std().item() == pytest.approx(1, abs=1e-3)
    bytes_ = task.train[0].numpy() / 255
    assert task.mean.item() == pytest.approx(bytes_.mean(), rel=1e-5)
    assert task.std.item() == pytest.approx(bytes_.std(ddof=1), rel=1e-5)


@pytest.mark.parametrize("batch", [1000, 7])
def test_evaluation_is_the_plain_computation(
    tiny: Run, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    task = build(tiny)
    torch.manual_seed(0)
    model = task.model().eval()
    monkeypatch.setattr(_images, "EVALUATION_BATCH", batch)
    with torch.inference_mode():
        values = task.evaluate(model)
        some = tuple(part[:40] for part in task.train)  # as many as are held out
        for split, (pixels, labels) in {**task.held_out, "seen": some}.items():
            images = (pixels.float() / 255 - task.mean) / task.std
            logits = model(images).double().numpy()
            truth = labels.numpy()
            chances = np.exp(logits - logits.max(1, keepdims=True))
            chances /= chances.sum(1, keepdims=True)
            loss = -np.log(chances[np.arange(len(truth)), truth]).mean()
            accuracy = 100 * (logits.argmax(1) == truth).mean()
            assert values[split, "accuracy"] == pytest.approx(accuracy, abs=0.3)
            assert values[split, "loss"] == pytest.approx(loss, rel=1e-4)
    assert values.keys() == {
        (split, metric)
        for split in ("validation", "test", "seen")
        for metric in ("accuracy", "loss")
    }


def test_the_training_loss_is_the_mean_cross_entropy(tiny: Run) -> None:
    task = build(tiny)
    uniform = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    torch.nn.init.zeros_(uniform[1].weight)
    torch.nn.init.zeros_(uniform[1].bias)
    batch = next(task.batches(0))
    assert task.loss(uniform, batch).item() == pytest.approx(np.log(10), rel=1e-6)


# The network


def parameters(depth: int, channels: int, classes: int) -> int:
    """Counted layer by layer: 3x3 convolutions without bias, two numbers a batch-norm channel."""
    blocks = (depth - 2) // 6
    count = 9 * channels * 16 + 2 * 16
    width = 16
    for outputs in (16, 32, 64):
        for _ in range(blocks):
            count += 9 * width * outputs + 9 * outputs * outputs + 4 * outputs
            if width != outputs:
                count += width * outputs + 2 * outputs  # the projection
            width = outputs
    return count + 64 * classes + classes


@pytest.mark.parametrize(("depth", "channels"), [(8, 1), (8, 3), (14, 3), (20, 3), (32, 3)])
def test_the_network_has_the_parameters_of_its_depth(depth: int, channels: int) -> None:
    model = ResNet(depth, channels, 10)
    assert sum(p.numel() for p in model.parameters()) == parameters(depth, channels, 10)
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert sum(1 for m in layers if getattr(m, "kernel_size", None) != (1, 1)) == depth


def test_resnet_20_has_the_known_number_of_parameters() -> None:
    assert sum(p.numel() for p in ResNet(20).parameters()) == 272_474


@pytest.mark.parametrize("depth", [-4, 0, 2, 7, 9, 18, 19, 21])
def test_a_depth_that_is_no_depth_is_refused(depth: int) -> None:
    with pytest.raises(UserError, match=rf"depth={depth} is not 6 n \+ 2; use 8, 14, 20"):
        ResNet(depth)


def test_shapes_and_strides() -> None:
    model = ResNet(8, channels=3, classes=7).eval()
    images = torch.randn(2, 3, 32, 32)
    assert model(images).shape == (2, 7)
    assert model.stages(torch.randn(2, 16, 32, 32)).shape == (2, 64, 8, 8)


@pytest.mark.parametrize(("classes", "side"), [(1000, 64), (7, 224)])
def test_resnet_18_is_torchvisions(classes: int, side: int) -> None:
    """The same tensors in the same order, and the same function of them."""
    ours, theirs = ResNet18(classes=classes).eval(), models.resnet18(num_classes=classes).eval()
    names = [*theirs.state_dict()]
    values = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    assert [one.shape for one, _ in values] == [theirs.state_dict()[name].shape for name in names]
    for one, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        one.copy_(other)
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("stem", "left"), [("7x7", 8), ("3x3", 32), ("3x3/2", 16)])
def test_the_stem_of_a_resnet_18(stem: str, left: int) -> None:
    model = ResNet18(width=8, stem=stem, channels=1, classes=5).eval()
    sizes: list[int] = []
    model.stages.register_forward_pre_hook(lambda _, given: sizes.append(given[0].shape[-1]))
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 5)
    assert sizes == [left]


def test_a_stem_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="stem='5x5' is not known; use 7x7, 3x3, 3x3/2"):
        ResNet18(stem="5x5")


# Measurements


def measure(**settings: object) -> tuple[dict[str, float], list[tuple[float, str, str, float]]]:
    task = tasks.load(Run("variance", settings=options(**settings)), Path("none"), CPU)
    assert isinstance(task, tasks.Measurement)
    return task.measure()


def test_the_analytic_measurement_in_closed_form() -> None:
    """Eq. 5 over Eq. 2 at rho = 5, and how far Eq. 2 falls to rho = 500 (known: 3.3 and 250)."""
    metrics, curves = measure(quantity="analytic", low=5.0, high=500.0, points=100)
    # Eq. 2 at rho = 5: rho / (rho - 2) - rho / 2 * (gamma(2) / gamma(2.5))^2, in units of tau^2.
    exact = 5 / 3 - 2.5 / 1.329340388179137**2
    # Eq. 5: rho / (2 (rho - 2) (rho - 4)).
    assert metrics["ratio_at_low"] == pytest.approx(5 / 6 / exact, rel=1e-9)
    assert metrics["largest_ratio"] == metrics["ratio_at_low"]
    assert metrics["fall"] == pytest.approx(250, rel=0.01)
    assert metrics["largest_relative_step"] < 0
    assert 0 < metrics["share_within_tenth"] < 1
    assert curves[0] == (5.0, "exact", "variance", pytest.approx(exact))


def test_the_samples_have_the_variance_of_eq_2() -> None:
    metrics, curves = measure(quantity="samples", rho=20.0, draws=200_000)
    assert metrics["ratio"] == pytest.approx(1, abs=0.05)
    assert metrics["ratio"] == metrics["simulated"] / metrics["exact"]
    assert curves == []


def test_the_trajectories_are_rectified_both_ways() -> None:
    settings = {"beta2": 0.99, "mu": 0.0, "steps": 200, "trajectories": 300, "first": 5}
    metrics, curves = measure(quantity="trajectories", **settings)
    by_split = {
        split: {step: value for step, one, _, value in curves if one == split}
        for split in ("plain", "first-order", "exact")
    }
    for split, values in by_split.items():
        assert min(values) == 5
        assert max(values) == 200
        name = "plain_fall" if split == "plain" else f"{split}_range"
        span = max(values.values()) / min(values.values())
        assert metrics[name] == pytest.approx(span, rel=1e-9)
    assert metrics["first-order_range"] < metrics["plain_fall"]
    assert metrics["exact_range"] < metrics["plain_fall"]
    for method in ("first-order", "exact"):
        for step, value in by_split[method].items():
            expected = r(int(step), 0.99, method=method) ** 2 * by_split["plain"][step]
            assert value == pytest.approx(expected, rel=1e-12)


def test_the_moving_average_is_held_against_both_formulas() -> None:
    settings = {"beta2": 0.999, "first": 5, "steps": 3_000, "points": 30}
    metrics, curves = measure(quantity="moving-average", **settings)
    ratios = [value for _, split, _, value in curves if split == "exact"]
    assert metrics["exact_largest_ratio"] == max(ratios)
    assert min(ratios) > 1  # rho is too short: the centre of mass is not the variance
    assert metrics["exact_share_within_tenth"] < metrics["matched_share_within_tenth"] == 1


def gradients(**settings: object) -> tuple[gradient_task.Gradients, dict[str, float]]:
    sizes = {"elements": 64, "trajectories": 2_000, "steps": 12, "beta2": 0.999}
    run = Run("gradients", batch_size=32, settings=options(**sizes | settings))
    task = tasks.load(run, Path("none"), CPU)
    assert isinstance(task, gradient_task.Gradients)
    return task, task.measure()[0]


def test_normal_gradients_have_the_variance_of_the_theory() -> None:
    task, metrics = gradients(of="normal")
    assert metrics["over_normal"] == pytest.approx(1, abs=0.05)
    assert task.data_sha256 is None


@pytest.mark.parametrize("name", gradient_task.DISTRIBUTIONS)
def test_distributions_have_a_mean_square_of_one(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.empty(1_000_000, dtype=torch.float64)
    draws = gradient_task.DISTRIBUTIONS[name](draws, generator)
    assert draws.square().mean().item() == pytest.approx(1, abs=0.03)


def test_heavier_tails_have_a_larger_variance() -> None:
    found = [gradients(of=name)[1]["over_normal"] for name in ("normal", "laplace", "bursts")]
    assert found == sorted(found)
    assert found[1] > 1.5


DIGITS = {"widths": (8,), "train_images": 200, "validation_images": 100, "augment": False}


def test_gradients_of_a_network_are_taken_at_its_first_weights() -> None:
    """Element by element those of the first weights, whatever batches came before."""
    measurement, _ = gradients(of="digits", pool=3, elements=10_000, **DIGITS)
    task = measurement.task
    torch.manual_seed(0)
    pool = measurement._pool()
    torch.manual_seed(0)
    model = task.model()
    for batch, found in zip(task.batches(0), pool, strict=False):
        gradients_of = torch.autograd.grad(task.loss(model, batch), tuple(model.parameters()))
        expected = torch.cat([one.flatten() for one in gradients_of]).double()
        assert len(found) == len(expected)  # in another order
        torch.testing.assert_close(found.sort().values, expected.sort().values)
    assert measurement.data_sha256 == task.data_sha256


def test_elements_without_a_gradient_are_left_out_and_counted() -> None:
    pool = torch.tensor([[1.0, 0.0, 2.0], [-1.0, 3.0, 2.0]]).double()
    kept, told = gradient_task.standardised(pool)
    assert kept.tolist() == [[1.0, 1.0], [-1.0, 1.0]]
    assert told["share_with_zeros"] == pytest.approx(1 / 3)
    assert told["kurtosis"] == 1.0
    with pytest.raises(UserError, match="every element has a gradient of zero somewhere"):
        gradient_task.standardised(torch.zeros(2, 3).double())


def test_a_measurement_has_no_gradients() -> None:
    with pytest.raises(UserError, match="variance trains no network"):
        gradients(of="variance", quantity="samples")


def test_an_unknown_quantity_is_a_sentence() -> None:
    with pytest.raises(UserError, match="no quantity 'mass'; the quantities are: analytic, "):
        measure(quantity="mass")
