"""Reduced precision, as the processor's own instructions have it and emulated without them."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments import precision
from experiments.engine import execute
from experiments.spec import PRECISIONS, Run
from experiments.tasks._resnet import ResNet

CPU = torch.device("cpu")
Answer = Callable[[bool], None]


@pytest.fixture
def instructions(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Say whether this processor has them."""
    return lambda answer: monkeypatch.setattr(precision, "has_instructions", lambda: answer)


def gradients(kind: str, model: nn.Module, images: Tensor) -> Tensor:
    model.zero_grad()
    with precision.autocast(kind, CPU):
        loss = F.cross_entropy(model(images).float(), torch.arange(len(images)) % 10)
    torch.autograd.backward(loss)
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("kind", precision.REDUCED)
def test_a_product_is_emulated_exactly(kind: str, instructions: Answer) -> None:
    """Products of whole numbers so small that no rounding depends on an order."""
    reduced = precision.REDUCED[kind]
    torch.manual_seed(0)
    images, kernels = torch.randint(-3, 4, (2, 3, 8, 8)), torch.randint(-3, 4, (4, 3, 3, 3))
    rows, weight = torch.randint(-3, 4, (5, 6)), torch.randint(-3, 4, (7, 6))
    instructions(False)
    with precision.autocast(kind, CPU):
        convolved = F.conv2d(images.float(), kernels.float(), padding=1)
        mapped = F.linear(rows.float(), weight=weight.float())
    assert convolved.dtype == mapped.dtype == reduced
    exact = F.conv2d(images.double(), kernels.double(), padding=1)
    assert torch.equal(convolved, exact.to(reduced))
    assert torch.equal(mapped, (rows @ weight.T).to(reduced))


def test_factors_are_rounded_before_they_are_multiplied(instructions: Answer) -> None:
    instructions(False)
    factor = torch.tensor([[1 + 2**-7 + 2**-9]])  # two bits more than bfloat16 holds
    with precision.autocast("bfloat16", CPU):
        product = F.linear(factor, torch.ones(1, 1))
    assert product.item() == 1 + 2**-7


def test_a_networks_gradients_are_those_of_torchs_own_bfloat16(instructions: Answer) -> None:
    """They differ by the order of the sums, and from those of float32 by the roundings."""
    torch.manual_seed(0)
    model, images = ResNet(8), torch.randn(4, 3, 16, 16)
    instructions(True)
    own, exact = (gradients(kind, model, images) for kind in ("bfloat16", "float32"))
    instructions(False)
    emulated = gradients("bfloat16", model, images)
    assert apart(emulated, own) < apart(exact, own) / 2
    assert torch.equal(gradients("float32", model, images), exact)


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize("kind", PRECISIONS)
def test_a_record_says_where_precision_was_emulated(
    kind: str, has: bool, tiny: Run, instructions: Answer
) -> None:
    instructions(has)
    result = execute(dataclasses.replace(tiny, precision=kind, epochs=1))
    assert result.status == "finished"
    expected = None if has or kind == "float32" else f"float32, rounded to {kind}"
    assert result.provenance.get("arithmetic") == expected


def test_a_gpu_and_compiled_code_compute_by_themselves(instructions: Answer) -> None:
    instructions(False)
    assert precision.is_emulated("bfloat16", CPU, compiled=False)
    assert not precision.is_emulated("bfloat16", CPU, compiled=True)
    assert not precision.is_emulated("bfloat16", torch.device("cuda"), compiled=False)
