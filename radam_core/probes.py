"""What an optimizer does to the weights: histograms of gradients, updates and adaptive rates.

>>> tracker = track(model, optimizer, every=10)  # then train as before  # doctest: +SKIP
>>> tracker.readings[1].gradient.counts  # elements per bin of log10|gradient|  # doctest: +SKIP

Watching changes nothing in the training: it draws no random numbers and writes to no tensor of it.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from radam_core._checks import check_count
from radam_core._paths import local_part, uncompiled

__all__ = ["Histogram", "LogBins", "Probe", "Reading", "Tracker", "log_histogram", "track"]


_FEWEST_BITS, _MOST_BITS = 3, 12
_NARROWEST = math.log10(1 + 2**-_MOST_BITS)


@dataclass(frozen=True)
class LogBins:
    """Bins of equal width in ``log10|x|``.

    Parameters
    ----------
    low, high : float
        Decimal logarithms of the outermost edges, ``-37 <= low < high <= 38``: what single
        precision can tell from zero and from infinity.
    count : int
        Number of bins, each more than 1.06e-4 wide.

    Raises
    ------
    ValueError
        If the range is empty or too wide, or ``count`` is not a positive integer or too large.
    """

    low: float = -16.0
    high: float = 16.0
    count: int = 160

    def __post_init__(self) -> None:
        if not -37 <= self.low < self.high <= 38:
            raise ValueError(
                f"low={self.low}, high={self.high} is no range of decimal logarithms: "
                "use -37 <= low < high <= 38"
            )
        check_count("count", self.count)
        if self.width <= _NARROWEST:
            raise ValueError(
                f"count={self.count} bins from {self.low} to {self.high} are too narrow: use bins "
                f"wider than {_NARROWEST:.3g}"
            )

    @property
    def width(self) -> float:
        """Width of a bin in ``log10|x|``."""
        return (self.high - self.low) / self.count

    @property
    def log_edges(self) -> npt.NDArray[np.float64]:
        """Edges in ``log10|x|`` [count + 1]."""
        return np.linspace(self.low, self.high, self.count + 1)

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Edges in ``|x|`` [count + 1]; a bin holds its lower edge and not its upper one."""
        return np.power(10.0, self.log_edges)


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many elements fall into each bin, and how many into none.

    Histograms over the same bins add up: ``a + b`` is the histogram of both sets of elements.

    Parameters
    ----------
    bins : LogBins
        The bins.
    counts : ndarray of int64
        Elements in each bin [bins.count].
    zeros : int
        Elements equal to zero.
    below, above : int
        Other finite elements under the lowest edge, and at or over the highest one.
    nonfinite : int
        Infinite elements and NaNs.
    """

    bins: LogBins
    counts: npt.NDArray[np.int64]
    zeros: int = 0
    below: int = 0
    above: int = 0
    nonfinite: int = 0

    @property
    def total(self) -> int:
        """Number of elements, in a bin or not."""
        return int(self.counts.sum()) + self.zeros + self.below + self.above + self.nonfinite

    def __add__(self, other: "Histogram") -> "Histogram":
        if not isinstance(other, Histogram):
            return NotImplemented
        if self.bins != other.bins:
            raise ValueError(
                f"histograms over {self.bins} and {other.bins} cannot be added: use the same bins"
            )
        return _from_tally(self.bins, _to_tally(self) + _to_tally(other))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return self.bins == other.bins and np.array_equal(_to_tally(self), _to_tally(other))

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, as JSON has them."""
        return {
            "low": self.bins.low,
            "high": self.bins.high,
            "counts": self.counts.tolist(),
            "zeros": self.zeros,
            "below": self.below,
            "above": self.above,
            "nonfinite": self.nonfinite,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Histogram":
        """Return the histogram whose :meth:`to_dict` is ``data``.

        Raises
        ------
        ValueError
            If ``data`` lacks a key or holds no numbers.
        """
        try:
            bins = LogBins(data["low"], data["high"], len(data["counts"]))
            counts = np.array(data["counts"], dtype=np.int64)
            outside = {name: int(data[name]) for name in ("zeros", "below", "above", "nonfinite")}
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"this is not the dict of a histogram ({error!r}); use the result of to_dict"
            ) from error
        return cls(bins, counts, **outside)


@dataclass(frozen=True)
class Reading:
    """What one update did, over all elements of the watched parameters that have a gradient.

    Parameters
    ----------
    gradient : Histogram
        Absolute gradients, as they stand after the update (clipped, unscaled).
    update : Histogram
        Absolute changes of the weights; a change too small for the precision of the weight, or
        none, is a zero.
    adaptive_rate : Histogram or None
        Adaptive learning rates ``psi_t = sqrt((1 - beta2**t) / v_t)`` (Liu et al. 2020, Section 2,
        without ``eps``), where ``v_t`` is the exponential moving average of squared gradients
        after ``t`` updates. It is infinite, and counted as nonfinite, where every gradient so far
        was zero. None for an optimizer that keeps no second moment.
    """

    gradient: Histogram
    update: Histogram
    adaptive_rate: Histogram | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return nested dicts of plain numbers and lists, as JSON has them."""
        rate = self.adaptive_rate
        return {
            "gradient": self.gradient.to_dict(),
            "update": self.update.to_dict(),
            "adaptive_rate": None if rate is None else rate.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Reading":
        """Return the reading whose :meth:`to_dict` is ``data``."""
        rate = data["adaptive_rate"]
        return cls(
            gradient=Histogram.from_dict(data["gradient"]),
            update=Histogram.from_dict(data["update"]),
            adaptive_rate=None if rate is None else Histogram.from_dict(rate),
        )


class Probe:
    """Reads what an optimizer's update does to its parameters.

    The counting runs on the device of the parameters; a reading costs one copy of the weights, a
    few passes over them, and one transfer of the counts to the host. Of a DTensor, such as those of
    FSDP, every process reads the part that it holds.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Any optimizer. Adaptive rates are read from those that keep ``exp_avg_sq`` and ``step``
        for each parameter and ``betas`` for each group, as PyTorch's Adam and RAdam and those of
        this package do.
    bins : LogBins
        Bins of all histograms.
    parameters : iterable of Tensor, optional
        The parameters to watch, such as those of one layer; all of the optimizer's by default.

    Raises
    ------
    ValueError
        If a parameter is complex or is none of the optimizer's.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        bins: LogBins | None = None,
        parameters: Iterable[Tensor] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.bins = LogBins() if bins is None else bins
        self._chosen = None if parameters is None else {id(p): p for p in parameters}
        watched = [p for p, _ in self._watched()]
        if self._chosen is not None and len(watched) < len(self._chosen):
            raise ValueError("a parameter to watch is none of the optimizer's: give them the same")
        if any(p.is_complex() for p in watched):
            raise ValueError("a probe reads real numbers: leave complex parameters out")

    def watch(self, step: Callable[[], object]) -> Reading:
        """Run ``step`` and return what it did.

        Parameters
        ----------
        step : callable
            Makes one update of the optimizer: ``optimizer.step``, or a function that calls it with
            a closure or through a gradient scaler.

        Returns
        -------
        Reading
            Histograms of gradients, updates and adaptive rates.
        """
        before = self._weights()
        step()
        return self._read(before)

    def _weights(self) -> dict[int, Tensor]:
        return {id(p): local_part(p.detach(), p).clone() for p, _ in self._watched()}

    @torch.no_grad()
    def _read(self, before: dict[int, Tensor]) -> Reading:
        watched = [(p, p.grad, group) for p, group in self._watched() if p.grad is not None]
        tallies = [
            self._tally(local_part(grad, p) for p, grad, _ in watched),
            self._tally(_single(local_part(p, p)) - _single(before[id(p)]) for p, _, _ in watched),
            self._tally(self._adaptive_rates((p, group) for p, _, group in watched)),
        ]
        on_host = torch.stack(tallies).cpu().numpy()  # the one transfer
        gradient, update, rate = (_from_tally(self.bins, tally) for tally in on_host)
        return Reading(gradient, update, rate if rate.total else None)

    def _watched(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                if self._chosen is None or id(p) in self._chosen:
                    yield p, group

    def _adaptive_rates(self, params: Iterable[tuple[Tensor, dict[str, Any]]]) -> Iterator[Tensor]:
        for p, group in params:
            state = self.optimizer.state.get(p, {})
            if "exp_avg_sq" in state and "step" in state and "betas" in group:
                unbiased = 1 - group["betas"][1] ** float(state["step"])
                v = _single(local_part(state["exp_avg_sq"], p))
                yield (unbiased / v).sqrt()  # psi

    def _tally(self, tensors: Iterable[Tensor]) -> Tensor:
        device = self.optimizer.param_groups[0]["params"][0].device
        tally = torch.zeros(self.bins.count + 4, dtype=torch.int64, device=device)
        for x in tensors:
            tally += _tally(x, self.bins).to(device)
        return tally


class Tracker:
    """Readings of an optimizer's updates, taken while it trains; what :func:`track` returns.

    A context manager: at its end, or after :meth:`close`, no more readings are taken.

    Attributes
    ----------
    readings : dict of int to Reading
        By the number of the update, counted from 1 where the tracking began.
    t : int
        Updates seen so far.
    """

    def __init__(self, probe: Probe, every: int | None, at: Iterable[int]) -> None:
        self.readings: dict[int, Reading] = {}
        self.t = 0
        self._probe, self._every, self._at = probe, every, frozenset(at)
        self._before: dict[int, Tensor] | None = None
        self._hooks = (
            probe.optimizer.register_step_pre_hook(self._begin),
            probe.optimizer.register_step_post_hook(self._end),
        )

    @uncompiled  # type: ignore[untyped-decorator]
    def _begin(self, *_: object) -> None:
        t = self.t + 1
        due = t in self._at or (self._every is not None and (t - 1) % self._every == 0)
        self._before = self._probe._weights() if due else None

    @uncompiled  # type: ignore[untyped-decorator]
    def _end(self, *_: object) -> None:
        self.t += 1  # here, for an update that fails is none
        if self._before is not None:
            self.readings[self.t] = self._probe._read(self._before)
            self._before = None

    def close(self) -> None:
        """Take no more readings."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def track(
    model: nn.Module,
    optimizer: Optimizer,
    every: int | None = 10,
    at: Iterable[int] = (),
    bins: LogBins | None = None,
) -> Tracker:
    """Read what an optimizer does to a model's weights, at chosen updates of a training.

    >>> with track(model, optimizer, every=10) as tracker:  # doctest: +SKIP
    ...     train(model, optimizer)
    >>> tracker.readings[11].update.counts  # elements per bin of log10|change|  # doctest: +SKIP

    The figures of the paper need the gradients at updates 1, 5, 10, 25, 50, 75 and 100 (Figures 2
    and 3): ``every=None, at=(1, 5, 10, 25, 50, 75, 100)``.

    Parameters
    ----------
    model : torch.nn.Module
        Its parameters are watched, those that the optimizer has.
    optimizer : torch.optim.Optimizer
        Any optimizer; see :class:`Probe`.
    every : int or None
        Read updates 1, ``1 + every``, ``1 + 2 every`` ...; None reads those in ``at`` alone.
    at : iterable of int
        Numbers of further updates to read, counted from 1 where the tracking begins.
    bins : LogBins
        Bins of all histograms.

    Returns
    -------
    Tracker
        Gathers the readings, until it is closed.

    Raises
    ------
    ValueError
        If ``every`` is not a positive integer, if it is None and ``at`` is empty, or if no
        parameter of the model is the optimizer's.
    """
    at = frozenset(at)
    if every is None and not at:
        raise ValueError("no update is to be read: give every, a distance, or at, their numbers")
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise ValueError(f"every={every!r} is no distance between updates: use 1, 2 ..., or None")
    its = {id(p) for group in optimizer.param_groups for p in group["params"]}
    watched = [p for p in model.parameters() if id(p) in its]
    if not watched:
        raise ValueError("no parameter of the model is the optimizer's: give them the same model")
    return Tracker(Probe(optimizer, bins, watched), every, at)


def log_histogram(tensors: Iterable[Tensor], bins: LogBins | None = None) -> Histogram:
    """Count the absolute values of all elements of some tensors on a logarithmic scale.

    Parameters
    ----------
    tensors : iterable of Tensor
        Tensors of any shapes and devices. They are counted in single precision, or in double if
        that is what they have.
    bins : LogBins, optional
        The bins, rounded to that precision.

    Returns
    -------
    Histogram
        The counts, on the host.
    """
    bins = LogBins() if bins is None else bins
    tally = np.zeros(bins.count + 4, dtype=np.int64)
    for x in tensors:
        tally += _tally(x.detach(), bins).cpu().numpy()
    return _from_tally(bins, tally)


def _tally(x: Tensor, bins: LogBins) -> Tensor:
    """Count elements: [zeros, below, each bin, above, nonfinite] of shape [bins.count + 4]."""
    size = _single(x.to_dense().abs()).reshape(-1)
    size = size.nan_to_num(nan=math.inf, posinf=math.inf)
    cells = _cells(bins, size.dtype, size.device)
    # A search among the edges for every element is slow. But the uppermost bits of a positive
    # number say in which part of an octave it lies, and no more than one edge lies in there.
    part = size.view(cells.integer) >> cells.shift
    half = 2 * part + (size >= cells.edge.index_select(0, part))
    tally = torch.zeros(bins.count + 4, dtype=torch.int64, device=size.device)
    tally[1:].index_add_(0, cells.slots, _count(half, len(cells.slots)))
    tally[0] = (size == 0).sum()
    tally[1] -= tally[0]
    return tally


def _count(values: Tensor, bins: int) -> Tensor:
    if values.device.type == "cpu":
        return torch.bincount(values, minlength=bins)
    # Unlike bincount, index_add_ needs not know the greatest value and so never waits for a GPU.
    counts = torch.zeros(bins, dtype=torch.int64, device=values.device)
    return counts.index_add_(0, values, torch.ones_like(values, dtype=torch.int64))


class _Cells(NamedTuple):
    """The positive numbers of a type, cut by their uppermost bits into parts of octaves.

    ``edge`` is the edge of a bin in each part, or infinite; ``slots`` has for what lies below it
    and what lies above it [2 parts] where that is counted: 0 below all edges, 1.. in the bins, then
    above, nonfinite.
    """

    integer: torch.dtype
    shift: int
    edge: Tensor
    slots: Tensor


@functools.cache
def _cells(bins: LogBins, dtype: torch.dtype, device: torch.device) -> _Cells:
    integer, mantissa = (torch.int32, 23) if dtype == torch.float32 else (torch.int64, 52)
    bits = range(_FEWEST_BITS, _MOST_BITS + 1)
    shift = mantissa - next(b for b in bits if math.log10(1 + 2**-b) < bins.width)
    parts = (int(torch.tensor(math.inf, dtype=dtype).view(integer)) >> shift) + 1
    edges = torch.tensor([*bins.edges, math.inf], dtype=dtype)
    lowest = torch.arange(parts, dtype=integer) << shift
    highest = lowest + ((1 << shift) - 1)  # of the last part a NaN, for infinity is its lowest
    first = torch.bucketize(lowest.view(dtype), edges, right=True)
    last = torch.bucketize(highest.view(dtype).nan_to_num(math.inf), edges, right=True)
    edge = torch.where(last > first, edges[first.clamp(max=len(edges) - 1)], math.inf)
    return _Cells(integer, shift, edge.to(device), torch.stack([first, last], 1).ravel().to(device))


def _single(x: Tensor) -> Tensor:
    """In single precision, unless it is in double already."""
    return x if x.dtype == torch.float64 else x.float()


def _to_tally(histogram: Histogram) -> npt.NDArray[np.int64]:
    h = histogram
    return np.array([h.zeros, h.below, *h.counts, h.above, h.nonfinite], dtype=np.int64)


def _from_tally(bins: LogBins, tally: npt.NDArray[np.int64]) -> Histogram:
    zeros, below, above, nonfinite = (int(tally[i]) for i in (0, 1, -2, -1))
    return Histogram(bins, tally[2:-2].copy(), zeros, below, above, nonfinite)
