"""Probes: counts against NumPy, and a training that does not notice it is watched."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from radam_core import RAdam
from radam_core.delayed_adam import DelayedAdam
from radam_core.probes import Histogram, LogBins, Probe, Reading, Tracker, log_histogram, track

BINS = LogBins(-3, 3, 6)


def test_closed_form() -> None:
    x = torch.tensor(
        [0.0, -0.0, 5e-4, -2e-3, 0.02, -0.03, 1.0, 999.0, 1e3, -5e7, math.inf, math.nan]
    )
    histogram = log_histogram([x], BINS)
    assert histogram.counts.tolist() == [1, 2, 0, 1, 0, 1]
    assert (histogram.zeros, histogram.below, histogram.above, histogram.nonfinite) == (2, 1, 2, 2)
    assert histogram.total == x.numel()


def test_a_bin_holds_its_lower_edge() -> None:
    np.testing.assert_allclose(BINS.edges, [1e-3, 1e-2, 0.1, 1, 10, 100, 1000], rtol=1e-15)
    assert BINS.log_edges.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    for dtype in (torch.float32, torch.float64):
        histogram = log_histogram([torch.tensor(BINS.edges, dtype=dtype)], BINS)
        assert histogram.counts.tolist() == [1] * 6
        assert histogram.above == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_counts_as_numpy_does(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    x = torch.tensor(np.exp(rng.normal(size=2000) * 5) * rng.choice([-1, 1], 2000)).to(dtype)
    histogram = log_histogram([x], BINS)
    precision = np.float64 if dtype == torch.float64 else np.float32
    size = np.abs(x.to(torch.float64 if dtype == torch.float64 else torch.float32).numpy())
    edges = np.append(BINS.edges, np.inf).astype(precision)
    expected, _ = np.histogram(size[size < edges[-2]], edges[:-1])
    assert histogram.counts.tolist() == expected.tolist()
    assert histogram.zeros == (size == 0).sum()
    assert histogram.below == ((size > 0) & (size < edges[0])).sum()
    assert histogram.nonfinite == (~np.isfinite(size)).sum()
    assert histogram.total == 2000


def test_the_smallest_number_is_not_zero() -> None:
    smallest = torch.tensor([1e-45])
    assert smallest.item() > 0
    assert log_histogram([smallest]).below == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_numbers_are_counted_in_single(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, 6e-8, 1e-4, 0.3, 1.0, 1000.0, 6e4], dtype=dtype)
    # Edges as fine as these do not exist in half precision.
    bins = LogBins(-16, 16, 32_000)
    assert log_histogram([x], bins) == log_histogram([x.float()], bins)
    assert log_histogram([x], bins).counts.max() == 1


def test_any_shape_and_layout() -> None:
    x = torch.arange(24.0).reshape(2, 3, 4)
    expected = log_histogram([x.flatten()], BINS)
    assert expected.total == 24
    assert log_histogram([x.transpose(0, 2)], BINS) == expected
    assert log_histogram([x.to_sparse()], BINS) == expected
    assert log_histogram([torch.tensor(0.5)], BINS).total == 1
    assert log_histogram([torch.empty(0)], BINS).total == 0
    assert log_histogram([], BINS).total == 0
    modulus = log_histogram([torch.tensor([3 + 4j, 30 + 40j])], LogBins(0, 2, 2))
    assert modulus.counts.tolist() == [1, 1]


numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=60, deadline=None)
@given(
    a=arrays.arrays(np.float32, st.integers(0, 40), elements=numbers),
    b=arrays.arrays(np.float32, st.integers(0, 40), elements=numbers),
)
def test_merging_is_concatenation(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> None:
    one, two, both = (
        log_histogram(map(torch.from_numpy, parts)) for parts in ([a], [b], [np.append(a, b)])
    )
    assert one + two == both == log_histogram(map(torch.from_numpy, (a, b)))
    assert one + two == two + one
    assert both.total == len(a) + len(b)
    assert both.nonfinite == (~np.isfinite(np.append(a, b))).sum()


def test_through_json_and_back() -> None:
    histogram = log_histogram([torch.tensor([0.0, 0.5, 1e9, 1e-9, math.nan])], BINS)
    assert Histogram.from_dict(json.loads(json.dumps(histogram.to_dict()))) == histogram
    with_rate = Reading(histogram, histogram + histogram, histogram)
    without = Reading(histogram, histogram)
    for reading in (with_rate, without):
        assert Reading.from_dict(json.loads(json.dumps(reading.to_dict()))) == reading
    assert with_rate != without


def test_histograms_differ_where_one_number_differs() -> None:
    first = log_histogram([torch.tensor([0.5])], BINS)
    assert first != log_histogram([torch.tensor([5.0])], BINS)
    assert first != log_histogram([torch.tensor([0.0])], BINS)
    assert first != log_histogram([torch.tensor([0.5])], LogBins(-3, 3, 3))
    assert first != "histogram"


class Regression:
    """A small network with layers of several shapes, trained on batches given by their number."""

    def __init__(self, make: Callable[[Any], torch.optim.Optimizer]) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(5, 7), torch.nn.Dropout(0.5), torch.nn.ReLU(), torch.nn.Linear(7, 2)
        )
        self.optimizer = make(self.model.parameters())

    def loss(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = self.model(torch.randn(8, 5)).square().mean()  # draws from the global generator
        loss.backward()
        return loss

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "adam": lambda params: torch.optim.Adam(params, lr=0.1),
    "fused adam": lambda params: torch.optim.Adam(params, lr=0.1, fused=True),
    "torch's radam": lambda params: torch.optim.RAdam(params, lr=0.1),
    "delayed adam": lambda params: DelayedAdam(params, lr=0.1, delay=3),
}


@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_a_watched_training_is_bit_equal(
    make: Callable[[Any], torch.optim.Optimizer], closure: bool
) -> None:
    plain, watched = Regression(make), Regression(make)
    torch.manual_seed(1)
    for _ in range(8):
        plain.loss()
        plain.optimizer.step()
    torch.manual_seed(1)
    probe = Probe(watched.optimizer)
    for _ in range(8):
        if closure:
            reading = probe.watch(lambda: watched.optimizer.step(watched.loss))
        else:
            watched.loss()
            reading = probe.watch(watched.optimizer.step)
        assert reading.gradient.total == reading.update.total == watched.weights().numel()
    assert torch.equal(plain.weights(), watched.weights())


def test_reads_what_the_update_did() -> None:
    # Powers of two, so that the weights change by exactly lr times the gradient.
    p = torch.nn.Parameter(torch.tensor([1.0, 1.0, 1.0, 2.0**30]))
    optimizer = torch.optim.SGD([p], lr=2.0**-4)
    p.grad = torch.tensor([0.0, 2.0**-5, -(2.0**6), 1.0])
    reading = Probe(optimizer, BINS).watch(optimizer.step)
    assert reading.gradient == log_histogram([torch.tensor([0.0, 2.0**-5, 2.0**6, 1.0])], BINS)
    # The last weight is too large to notice its update.
    assert reading.update == log_histogram([torch.tensor([0.0, 2.0**-9, 2.0**2, 0.0])], BINS)
    assert reading.adaptive_rate is None


@pytest.mark.parametrize("name", ["adam", "fused adam", "torch's radam", "delayed adam"])
def test_the_adaptive_rate_is_that_of_the_gradients(name: str) -> None:
    p = torch.nn.Parameter(torch.zeros(50, dtype=torch.float64))
    optimizer = OPTIMIZERS[name]([p])
    probe = Probe(optimizer)
    rng = np.random.default_rng(0)
    grads = np.exp(rng.normal(size=(7, 50)))
    for t, grad in enumerate(grads, start=1):
        p.grad = torch.tensor(grad)
        reading = probe.watch(optimizer.step)
        ages = np.arange(t)[::-1, None]
        v = (0.001 * 0.999**ages * grads[:t] ** 2).sum(axis=0)
        psi = np.sqrt((1 - 0.999**t) / v)
        assert reading.adaptive_rate == log_histogram([torch.tensor(psi)])


def test_the_adaptive_rate_of_a_weight_without_gradients_is_infinite() -> None:
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([p])
    p.grad = torch.tensor([0.0, 1.0, 0.0])
    reading = Probe(optimizer).watch(optimizer.step)
    assert reading.adaptive_rate is not None
    assert reading.adaptive_rate.nonfinite == 2
    assert reading.adaptive_rate.total == 3


def test_each_group_has_its_own_beta2() -> None:
    parts = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2)]
    optimizer = torch.optim.Adam(
        [{"params": [p], "betas": (0.9, b)} for p, b in zip(parts, (0.5, 0.99), strict=True)]
    )
    probe = Probe(optimizer, LogBins(0, 1, 1000))
    for grad in (1.0, 0.1):
        for p in parts:
            p.grad = torch.full_like(p, grad)
        reading = probe.watch(optimizer.step)
    psi = [math.sqrt((1 - b**2) / ((1 - b) * (b + 0.01))) for b in (0.5, 0.99)]
    expected = log_histogram([torch.tensor(psi, dtype=torch.float64)], probe.bins)
    assert reading.adaptive_rate == expected
    assert expected.counts.max() == 1  # the bins can tell the two apart


def test_readings_of_the_layers_add_up_to_that_of_the_network() -> None:
    def reading(*layers: int) -> Reading:
        net = Regression(OPTIMIZERS["adam"])
        net.loss()
        parameters = [p for layer in layers for p in net.model[layer].parameters()]
        return Probe(net.optimizer, parameters=parameters).watch(net.optimizer.step)

    first, last, both = reading(0), reading(3), reading(0, 3)
    net = Regression(OPTIMIZERS["adam"])
    net.loss()
    assert Probe(net.optimizer).watch(net.optimizer.step) == both
    assert first.gradient + last.gradient == both.gradient
    assert first.update + last.update == both.update
    assert first.adaptive_rate is not None
    assert last.adaptive_rate is not None
    assert first.adaptive_rate + last.adaptive_rate == both.adaptive_rate
    assert first.gradient.total == 5 * 7 + 7


def test_a_parameter_without_gradient_is_left_out() -> None:
    used, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = torch.optim.Adam([used, unused])
    probe = Probe(optimizer)
    assert probe.watch(optimizer.step) == Reading(log_histogram([]), log_histogram([]))
    used.grad = torch.ones(2)
    reading = probe.watch(optimizer.step)
    assert reading.gradient.total == reading.update.total == 2
    assert reading.adaptive_rate is not None
    assert reading.adaptive_rate.total == 2


def test_a_group_that_joins_later_is_watched() -> None:
    parts = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = torch.optim.SGD(parts[:1], lr=0.1)
    probe = Probe(optimizer)
    optimizer.add_param_group({"params": parts[1:]})
    for p in parts:
        p.grad = torch.ones(2)
    assert probe.watch(optimizer.step).update.total == 4


@pytest.mark.parametrize("name", ["adam", "delayed adam"])
def test_low_precision_weights(name: str) -> None:
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = OPTIMIZERS[name]([p])
    p.grad = torch.full_like(p, 0.5)
    reading = Probe(optimizer, LogBins(-1, 1, 2)).watch(optimizer.step)
    assert reading.gradient.counts.tolist() == [3, 0]
    assert reading.adaptive_rate is not None
    assert reading.adaptive_rate.counts.tolist() == [0, 3]  # psi = 2


@pytest.mark.parametrize(
    ("low", "high", "count", "message"),
    [
        (1, 1, 5, "no range of decimal logarithms"),
        (-38, 1, 5, "no range of decimal logarithms"),
        (0, 39, 5, "no range of decimal logarithms"),
        (math.nan, 1, 5, "no range of decimal logarithms"),
        (0, 1, 0, "count must be an integer of at least 1, not 0"),
        (0, 1, 1.0, r"count must be an integer of at least 1, not 1\.0"),
    ],
)
def test_bad_bins_get_a_sentence(low: float, high: float, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogBins(low, high, count)


def test_bad_use_gets_a_sentence() -> None:
    p, stranger = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    with pytest.raises(ValueError, match="none of the optimizer's"):
        Probe(torch.optim.SGD([p], lr=0.1), parameters=[p, stranger])
    number = torch.nn.Parameter(torch.ones(1, dtype=torch.complex64))
    with pytest.raises(ValueError, match="leave complex parameters out"):
        Probe(torch.optim.SGD([p, number], lr=0.1))
    with pytest.raises(ValueError, match="use the same bins"):
        log_histogram([p], LogBins(0, 1, 5)) + log_histogram([p], LogBins(0, 1, 6))
    with pytest.raises(ValueError, match="not the dict of a histogram"):
        Histogram.from_dict({"low": 0, "high": 1})


# ---- through a training


def trained(updates: int, **tracking: Any) -> tuple[nn.Module, RAdam, Tracker]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = RAdam(model.parameters())
    with track(model, optimizer, **tracking) as tracker:
        for _ in range(updates):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
    return model, optimizer, tracker


def test_a_tracker_reads_the_chosen_updates() -> None:
    assert list(trained(25)[2].readings) == [1, 11, 21]
    assert list(trained(7, every=3, at=(2, 4))[2].readings) == [1, 2, 4, 7]
    _, _, tracker = trained(6, every=None, at=(1, 5, 10))
    assert list(tracker.readings) == [1, 5]
    assert tracker.t == 6
    assert all(reading.update.total == 8 for reading in tracker.readings.values())


def test_a_tracker_reads_what_a_probe_reads() -> None:
    _, _, tracker = trained(4, every=3)
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = RAdam(model.parameters())
    probe = Probe(optimizer)
    for t in range(1, 5):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        reading = probe.watch(optimizer.step)
        if t in (1, 4):
            assert tracker.readings[t] == reading


def test_a_closed_tracker_reads_no_more_and_changed_nothing() -> None:
    _, optimizer, tracker = trained(3, every=1)
    optimizer.step()
    assert (tracker.t, len(tracker.readings)) == (3, 3)
    alone, _, _ = trained(3, at=(9,), every=None)
    assert all(map(torch.equal, trained(3, every=1)[0].parameters(), alone.parameters()))


def test_a_tracker_that_would_never_read_is_refused() -> None:
    with pytest.raises(ValueError, match="no update is to be read"):
        trained(1, every=None)


def test_an_update_that_fails_is_neither_counted_nor_read() -> None:
    model = nn.Linear(3, 2)
    optimizer = RAdam(model.parameters())
    with track(model, optimizer, every=2) as tracker:
        for t in range(4):
            for p in model.parameters():
                p.grad = torch.ones_like(p)
            if t == 0:
                model.weight.grad = torch.ones_like(model.weight).to_sparse()
                with pytest.raises(RuntimeError, match="dense gradients"):
                    optimizer.step()
                continue
            optimizer.step()
    assert (tracker.t, list(tracker.readings)) == (3, [1, 3])


def test_a_tracker_watches_the_model_and_nothing_else() -> None:
    first, second = nn.Linear(3, 2), nn.Linear(5, 1)
    optimizer = RAdam([*first.parameters(), *second.parameters()])
    tracker = track(second, optimizer)
    (first(torch.ones(3)).sum() + second(torch.ones(5)).sum()).backward()
    optimizer.step()
    assert tracker.readings[1].gradient.total == 6


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_a_bad_distance_is_refused(every: Any) -> None:
    with pytest.raises(ValueError, match=r"every=.* is no distance between updates"):
        trained(1, every=every)


def test_a_model_of_another_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter of the model is the optimizer's"):
        track(nn.Linear(2, 2), RAdam(nn.Linear(2, 2).parameters()))


def test_bins_too_narrow_are_refused() -> None:
    with pytest.raises(ValueError, match=r"count=20000 bins .* are too narrow"):
        LogBins(0, 1, 20_000)
