"""An artifact of the paper: a view on the records, with its claims and its figure or table.

Each file of `experiments.paper` and `experiments.beyond` holds one, named ``ARTIFACT``: a new
file there is found by itself.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments import checks
from experiments.errors import UserError
from experiments.record import Store
from experiments.spec import SCALES, Optim, Run, options, varied, with_other_batches
from experiments.verdict import MIN_SEEDS, Claim, Records, Verdict, judge


@dataclass(frozen=True)
class Deviation:
    """One axis on which a scale differs from the paper.

    `axis` is a column of `Run.axes`; what the runs here have on it is read from the runs.
    """

    axis: str
    paper: str
    reason: str


OURS = "none: ours goes past the paper"
"""What the paper has on an axis of a study that it has not."""


@dataclass(frozen=True, eq=False)
class Artifact:
    """A figure, table or theorem of the paper, or one of ours that goes past it.

    Attributes
    ----------
    runs
        For each scale at which it can be run, its runs.
    claims
        Written before the runs are. An artifact that is not built yet has claims without parts.
    yours
        The claims about an optimizer that is not the paper's, by its name; None where the artifact
        compares no optimizers.
    draw, tabulate
        Records -> figure, records -> table; None where the artifact has none.
    deviations
        For each scale, every axis on which its runs differ from the paper's, with the reason.
    order
        Where the artifact stands in lists: the paper's order.
    other
        The optimizer that stands beside the artifact's own, as in its first run, see `beside`.
    settings
        What was set anew in its runs, see `varied`.
    """

    id: str
    title: str
    claims: tuple[Claim, ...]
    runs: Mapping[str, tuple[Run, ...]] = field(default_factory=dict)
    yours: Callable[[str], tuple[Claim, ...]] | None = None
    draw: Callable[[Records], Figure] | None = None
    tabulate: Callable[[Records], pd.DataFrame] | None = None
    deviations: Mapping[str, tuple[Deviation, ...]] = field(default_factory=dict)
    order: int = 100
    other: Optim | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def at(self, scale: str) -> tuple[Run, ...]:
        """The runs at a scale.

        Raises
        ------
        UserError
            If the artifact cannot be run at that scale, or at any.
        """
        check_scale(scale)
        if not self.runs:
            raise UserError(
                f"{self.id} is not built yet; `python -m experiments list` says what is"
            )
        if scale not in self.runs:
            known = ", ".join(self.runs)
            raise UserError(f"{self.id} has no runs at scale {scale!r}; it has them at: {known}")
        return self.runs[scale]

    def records(self, scale: str, store: Store) -> Records:
        """What is recorded at a scale, whole comparisons only.

        A seed of a task counts once every run that is planned for it is recorded: else an arm
        would be judged on other seeds than its rival.
        """
        planned = self.at(scale)
        recorded = store.recorded(planned)
        broken = {(run.task, run.seed) for run in planned if run.id not in recorded}
        whole = [run for run in planned if (run.task, run.seed) not in broken]
        return Records(store.table(whole), store.curves(whole))

    def whole(self, scale: str, store: Store) -> Records:
        """The same, for what is drawn or tabulated.

        Raises
        ------
        UserError
            If no whole comparison is recorded at that scale.
        """
        records = self.records(scale, store)
        if records.runs.empty:
            asked = [f"--optimizer {self.other.name}"] if self.other else []
            asked += ["--set"] if self.settings else []
            too = f", with the same {' and '.join(asked)}," if asked else ""
            raise UserError(
                f"no whole comparison of {self.id} is recorded at scale {scale!r}; "
                f"`python -m experiments run {self.id} --scale {scale}`{too} records it"
            )
        return records

    def beside(self, name: str, /, **arguments: Any) -> Artifact:
        """The artifact with another optimizer beside its own, and the claims about that one.

        It gets what RAdam gets: at every scale the same learning rates, weight decay, schedules,
        seeds and data.

        Parameters
        ----------
        name
            "package.module:Class".
        arguments
            The class's; a `weight_decay` among them replaces RAdam's.

        Raises
        ------
        UserError
            If the artifact compares no optimizers.
        ValueError
            If an argument cannot be used.
        """
        if self.yours is None:
            able = ", ".join(name for name, one in artifacts().items() if one.yours)
            raise UserError(f"{self.id} takes no other optimizer; these do: {able}")
        added = {
            scale: tuple(_instead(name, arguments, run) for run in runs if _is_radam(run))
            for scale, runs in self.runs.items()
        }
        runs = {scale: (*runs, *added[scale]) for scale, runs in self.runs.items()}
        other = next(run.optim for one in added.values() for run in one)
        return replace(self, runs=runs, claims=self.yours(name), other=other)

    def varied(self, **settings: Any) -> Artifact:
        """The artifact with other settings of its runs: another corpus, depth, precision ...

        Nothing else changes, the learning rates and the schedules neither. Its runs are others, so
        that the artifact's own records stay what they are.

        Parameters
        ----------
        settings
            Settings of the task, or one of `VARIABLE`; where an artifact has runs without such a
            setting, these stay as they are.

        Raises
        ------
        UserError
            If no run has such a setting, or it cannot have that value.
        """
        runs = dict(self.runs)
        for name, value in settings.items():
            known = {key for one in runs.values() for run in one for key in _variable(run)}
            if name not in known:
                raise UserError(
                    f"{self.id} has no setting {name!r}; it has: {', '.join(sorted(known))}"
                )
            runs = {
                scale: tuple(_varied(run, name, value) for run in planned)
                for scale, planned in runs.items()
            }
        return replace(self, runs=runs, settings={**self.settings, **settings})

    def verdicts(self, store: Store) -> list[Verdict]:
        """One verdict a claim, at the most telling scale that has records; smoke never votes."""
        return list(_verdicts(self, store.root, store.stamp()))

    def _judged(self, store: Store) -> list[Verdict]:
        scales = [scale for scale in reversed(SCALES) if scale != "smoke" and scale in self.runs]
        records = {
            scale: (self.records(scale, store), self.instead(scale, store)) for scale in scales
        }
        return [self._verdict(claim, records) for claim in self.claims]

    def instead(self, scale: str, store: Store) -> dict[str, Records]:
        """What is recorded of the runs made otherwise, as theirs, by the name of the reading.

        Those that were made again; and those with the batches of another seed, of the seeds with
        which all arms have them.
        """
        runs = self.at(scale)
        again = Records(store.again.table(runs), store.again.curves(runs))
        return {checks.AGAIN: again, checks.SWAPPED: self._swapped(scale, store)}

    def _swapped(self, scale: str, store: Store) -> Records:
        runs, arms = self.at(scale), checks.arms_of(self.at(scale))
        of = {with_other_batches(run): run for run in runs}
        done = store.recorded(of)
        met = {(arms[run.id], run.seed) for other, run in of.items() if other.id in done}
        broken = {run.seed for run in runs if (arms[run.id], run.seed) not in met}
        of = {other: run for other, run in of.items() if run.seed not in broken}
        ids = {other.id: run.id for other, run in of.items()}
        frames = (store.table(of), store.curves(of))
        return Records(*(x.assign(run_id=x["run_id"].map(ids)) if len(x) else x for x in frames))

    def judged(
        self,
        claim: Claim,
        records: Records,
        scale: str,
        instead: Mapping[str, Records] | None = None,
    ) -> Verdict:
        """The verdict on a claim by the records of a scale.

        Where the rule decides, that must stand in other readings of the records too, see
        `experiments.checks`, or the claim is inconclusive.
        """
        verdict = judge(self.id, claim, records, scale)
        if verdict.status in ("inconclusive", "not run"):
            return verdict
        return checks.stood(verdict, claim, self.at(scale), records, instead or {})

    def _verdict(
        self, claim: Claim, records: Mapping[str, tuple[Records, dict[str, Records]]]
    ) -> Verdict:
        judged = [
            self.judged(claim, first, scale, instead) for scale, (first, instead) in records.items()
        ]
        judged = [verdict for verdict in judged if verdict.status != "not run"]
        exact = all(part.exact for part in claim.parts)
        enough = [verdict for verdict in judged if exact or verdict.n >= MIN_SEEDS]
        none = judge(self.id, claim, Records(pd.DataFrame(), pd.DataFrame()), None)
        return next(iter([*enough, *judged, none]))


@functools.lru_cache(maxsize=128)
def _verdicts(artifact: Artifact, root: Path, stamp: tuple[object, ...]) -> list[Verdict]:
    """Once while the records stay what they are: a page asks for the same verdicts many times."""
    return artifact._judged(Store(root))


VARIABLE = ("precision", "batch_size", "clip")
"""What else of a run may be varied than its task's settings."""


def _variable(run: Run) -> dict[str, Any]:
    """What of a run may be varied, and what it is."""
    fields = VARIABLE if run.optim else ()
    settings = {name: value for name, value in run.settings if not hasattr(run, name)}
    return {name: getattr(run, name) for name in fields} | settings


def _varied(run: Run, name: str, value: Any) -> Run:
    known = _variable(run)
    if name not in known:
        return run
    kind = known[name]
    if name == "clip":  # None says of the gradients that they are not clipped
        kind = None if value is None else 1.0
    try:
        return varied(run, **{name: _like(kind, value)})
    except TypeError:
        raise UserError(
            f"{name}={value!r} is of another kind than {_typed(known[name])}, which it was"
        ) from None
    except ValueError as error:
        raise UserError(str(error)) from error


def _typed(value: Any) -> str:
    """A value as it is typed on a command line; a list for what is a tuple here."""
    return repr(list(value) if isinstance(value, tuple) else value)


def _like(known: Any, value: Any) -> Any:
    """A value as one of the kind of what is known, so that 1 and 1.0 are one id.

    Raises
    ------
    TypeError
        If it is of another kind.
    """
    if type(known) is tuple and type(value) in (list, tuple):
        return tuple(_like(known[0], one) for one in value)
    if (type(known), type(value)) == (float, int):
        return float(value)
    if type(known) is not type(value):
        raise TypeError
    return value


def _is_radam(run: Run) -> bool:
    return run.optim is not None and run.optim.name == "radam"


def _instead(name: str, arguments: dict[str, Any], run: Run) -> Run:
    assert run.optim is not None
    given = {"weight_decay": run.optim.weight_decay} | arguments
    decay = given.pop("weight_decay")
    return replace(run, optim=Optim(name, run.optim.lr, decay, options(**given)))


@functools.cache
def artifacts() -> dict[str, Artifact]:
    """Every artifact by its id, the paper's first and in the paper's order."""
    return of("paper") | of("beyond")


@functools.cache
def of(part: str) -> dict[str, Artifact]:
    """The artifacts of the paper, or those that go beyond it."""
    package = f"experiments.{part}"
    path = importlib.import_module(package).__path__
    modules = [m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_")]
    loaded = [importlib.import_module(f"{package}.{name}").ARTIFACT for name in modules]
    return {one.id: one for one in sorted(loaded, key=lambda artifact: artifact.order)}


def check_scale(scale: str) -> None:
    """Refuse what is no scale.

    Raises
    ------
    UserError
        If it is none of `SCALES`.
    """
    if scale not in SCALES:
        raise UserError(f"there is no scale {scale!r}; the scales are {', '.join(SCALES)}")


def find(name: str) -> Artifact:
    """One artifact.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    try:
        return artifacts()[name]
    except KeyError:
        known = ", ".join(artifacts())
        raise UserError(f"there is no artifact {name!r}; the artifacts are: {known}") from None


def verdicts(store: Store | None = None, only: Iterable[Artifact] | None = None) -> list[Verdict]:
    """The verdict on every claim, artifact by artifact."""
    chosen = artifacts().values() if only is None else only
    return [one for artifact in chosen for one in artifact.verdicts(store or Store())]


def best_scale(artifact: Artifact, store: Store) -> str:
    """The scale to show: the one that the verdicts rest on, or what else there is."""
    judged = [verdict.scale for verdict in artifact.verdicts(store) if verdict.scale]
    known = [scale for scale in reversed(SCALES) if scale in artifact.runs]
    recorded = [scale for scale in known if not artifact.records(scale, store).runs.empty]
    return next(iter([*judged, *recorded, *known[-1:], SCALES[0]]))
