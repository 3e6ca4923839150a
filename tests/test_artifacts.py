"""The artifacts: complete, fair between their arms, open about deviations, drawn from records."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from experiments import report, style
from experiments.artifact import Artifact, artifacts, best_scale, find, verdicts
from experiments.errors import UserError
from experiments.record import Store
from experiments.spec import SCALES, Run
from experiments.verdict import MIN_SEEDS, Records

PAPER = (
    *("fig1", "fig2", "fig3", "fig4", "fig5", "fig6", "fig7", "fig8", "fig9"),
    *("table1", "table2", "table3"),
    "thm1",
)
"""Every figure and table of the paper, and its theorem."""

BUILT = ("table1", "fig5", "fig6", "fig8", "fig9", "thm1", "finite-variance", "bf16-weights")
"""Those that can be run; the others are claimed, and say "not run"."""

CLASSIFIERS = {"optimizer", "optim.momentum", "optim.betas", "lr", "seed"}
COMPARED: dict[str, set[str]] = {
    "table1": CLASSIFIERS,
    "fig5": CLASSIFIERS,
    "fig6": CLASSIFIERS,
    "fig8": set(),
    "fig9": {"mu", "seed"},
    "thm1": set(),
    "finite-variance": {"rho", "seed"},
    "bf16-weights": {"optimizer", "optim.state_dtype", "optim.rounding", "weights", "lr", "seed"},
}
"""The declared axes: on these alone may an artifact's runs of one scale differ."""

RUNNABLE = [(name, scale) for name in BUILT for scale in find(name).runs]


def on_axes(runs: Iterable[Run]) -> dict[str, set[Any]]:
    """For each axis of the runs, what they have on it; None where one lacks it."""
    rows = [run.axes() for run in runs]
    return {axis: {row.get(axis) for row in rows} for axis in {key for row in rows for key in row}}


# What there is


def test_every_artifact_of_the_paper_is_there() -> None:
    assert set(PAPER) <= artifacts().keys()
    beyond = [name for name in artifacts() if name not in PAPER]
    assert list(artifacts())[-len(beyond) :] == beyond  # the paper's come first
    assert {name for name, one in artifacts().items() if one.runs} == set(BUILT)
    assert COMPARED.keys() == set(BUILT)


def test_a_file_is_named_for_its_artifact() -> None:
    folder = Path(style.__file__).parent
    files = {path.stem for part in ("paper", "beyond") for path in (folder / part).glob("[!_]*.py")}
    assert {name.replace("-", "_") for name in artifacts()} == files


def test_claims_are_told_apart_and_belong_to_their_artifact() -> None:
    claims = [(one, claim) for one in artifacts().values() for claim in one.claims]
    ids = [claim.id for _, claim in claims]
    assert len(set(ids)) == len(ids)
    for artifact, claim in claims:
        assert claim.id.startswith(f"{artifact.id}.")
        for text in (claim.text, claim.paper_value, *(part.label for part in claim.parts)):
            assert text.strip()
            assert "|" not in text  # it would break the tables
            assert "\n" not in text
    assert all(artifact.title and artifact.claims for artifact in artifacts().values())


def test_what_is_built_has_claims_that_can_be_judged() -> None:
    for name in BUILT:
        artifact = find(name)
        assert any(claim.parts for claim in artifact.claims)
        for claim in artifact.claims:
            for part in claim.parts:
                assert part.above < part.below
                assert (part.above, part.below) != (float("-inf"), float("inf"))


def test_what_is_not_built_says_so() -> None:
    for name in set(PAPER) - set(BUILT):
        with pytest.raises(UserError, match=f"{name} is not built yet; .*experiments list"):
            find(name).at("smoke")
        assert not any(claim.parts for claim in find(name).claims)


@pytest.mark.parametrize("name", BUILT)
def test_scales_are_known_and_every_claim_could_be_decided(name: str) -> None:
    artifact = find(name)
    assert "smoke" in artifact.runs
    assert artifact.runs.keys() <= set(SCALES)
    for scale in artifact.runs.keys() - {"smoke"}:
        seeds = {run.seed for run in artifact.at(scale)}
        exact = all(part.exact for claim in artifact.claims for part in claim.parts)
        assert exact or len(seeds) >= MIN_SEEDS
    with pytest.raises(UserError, match="there is no scale 'huge'; the scales are smoke, cpu"):
        artifact.at("huge")


def test_an_unknown_artifact_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"there is no artifact 'fig99'; the artifacts are: .*fig6"):
        find("fig99")


# Fairness


@pytest.mark.parametrize(("name", "scale"), RUNNABLE)
def test_arms_differ_in_the_declared_axes_alone(name: str, scale: str) -> None:
    runs = find(name).at(scale)
    assert len({run.id for run in runs}) == len(runs)
    differing = {axis for axis, values in on_axes(runs).items() if len(values) > 1}
    assert differing <= COMPARED[name]
    schedules = {run.schedule for run in runs}
    assert len(schedules) == 1  # with its unit, which is no axis


@pytest.mark.parametrize(("name", "scale"), RUNNABLE)
def test_every_arm_has_the_same_seeds_and_budget(name: str, scale: str) -> None:
    """The runs are a whole product: no arm is tried at more learning rates or seeds."""
    runs = find(name).at(scale)
    arms: dict[Any, set[Any]] = {}
    for run in runs:
        arm = (run.optim.name if run.optim else None, run.axes().get("mu"), run.axes().get("rho"))
        arms.setdefault(arm, set()).add((run.optim.lr if run.optim else None, run.seed))
    assert len({frozenset(tried) for tried in arms.values()}) == 1


def test_the_image_classifiers_share_their_runs() -> None:
    assert find("table1").runs == find("fig5").runs == find("fig6").runs


def test_the_paper_scale_has_the_settings_of_the_paper() -> None:
    axes = on_axes(find("fig6").at("paper"))
    assert axes["depth"] == {20}
    assert axes["batch_size"] == {128}
    assert axes["weight_decay"] == {1e-4}
    assert axes["lr"] == {0.1, 0.03, 0.01, 0.003}
    assert axes["optim.momentum"] == {0.9, None}
    assert axes["optim.betas"] == {(0.9, 0.999), None}
    assert axes["StepDecay.milestones"] == {(81, 122)}
    assert axes["StepDecay.gamma"] == {0.1}
    assert axes["epochs"] == {164}
    assert axes["augment"] == {True}


def test_every_arm_trains_well_past_its_first_decay() -> None:
    for scale in ("cpu", "paper"):
        for run in find("fig6").at(scale):
            first = run.axes()["StepDecay.milestones"][0]
            assert run.epochs >= 1.5 * first


# Deviations


@pytest.mark.parametrize(("name", "scale"), RUNNABLE)
def test_every_deviation_is_declared_with_its_reason_and_is_one(name: str, scale: str) -> None:
    artifact = find(name)
    declared = [deviation.axis for deviation in artifact.deviations.get(scale, ())]
    assert len(set(declared)) == len(declared)
    here = on_axes(artifact.at(scale))
    assert set(declared) <= here.keys()
    if scale != "paper":
        paper = on_axes(artifact.at("paper"))
        axes = (here.keys() | paper.keys()) - {"seed"}  # verdicts tell how many seeds there are
        assert set(declared) == {axis for axis in axes if here.get(axis) != paper.get(axis)}
    for deviation in artifact.deviations.get(scale, ()):
        assert deviation.reason.strip()
        assert deviation.paper.strip()


def test_deviations_are_of_scales_that_there_are() -> None:
    for artifact in artifacts().values():
        assert artifact.deviations.keys() <= artifact.runs.keys()


# Figures, tables, verdicts


@pytest.fixture(scope="session")
def records(smoke_store: Store) -> dict[str, Records]:
    return {name: find(name).records("smoke", smoke_store) for name in BUILT}


@pytest.mark.parametrize("name", BUILT)
def test_a_smoke_run_gives_figure_and_table(
    records: dict[str, Records], tmp_path: Path, name: str
) -> None:
    artifact = find(name)
    assert set(records[name].runs["run_id"]) == {run.id for run in artifact.at("smoke")}
    if artifact.draw is not None:
        figure = artifact.draw(records[name])
        for panel in figure.axes:
            assert panel.get_xlabel()
            assert panel.lines
        style.save(figure, tmp_path / "a" / "figure.svg")
        style.save(artifact.draw(records[name]), tmp_path / "b" / "figure.svg")
        drawn = (tmp_path / "a" / "figure.svg").read_bytes()
        assert drawn.startswith(b"<?xml")
        assert drawn == (tmp_path / "b" / "figure.svg").read_bytes()
    if artifact.tabulate is not None:
        table = artifact.tabulate(records[name])
        assert len(table) > 1
        assert not table.isna().any().any()
        assert "nan" not in table.to_string()


def test_a_figure_that_cannot_be_written_is_a_sentence(
    records: dict[str, Records], tmp_path: Path
) -> None:
    figure = find("fig8").draw(records["fig8"])
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "fig.xyz", tmp_path / "file" / "fig.svg"):
        with pytest.raises(UserError, match="cannot be written"):
            style.save(figure, path)
        assert not path.exists()


def test_smoke_records_never_vote(smoke_store: Store) -> None:
    judged = verdicts(smoke_store)
    assert [verdict.claim for verdict in judged] == [
        claim.id for artifact in artifacts().values() for claim in artifact.claims
    ]
    assert {verdict.status for verdict in judged} == {"not run"}
    assert {verdict.scale for verdict in judged} == {None}


def as_if(artifact: Artifact, scale: str) -> Artifact:
    """The artifact, its smoke runs taken for those of a scale that votes."""
    return dataclasses.replace(artifact, runs={scale: artifact.at("smoke")})


@pytest.mark.parametrize("name", BUILT)
def test_every_part_of_every_claim_finds_its_number(smoke_store: Store, name: str) -> None:
    """Taken for real, the smoke records give every part one value, or have no such arm."""
    whole = {"fig9": {0.0, 10.0}, "finite-variance": {4.0, 8.0}}.get(name)
    for verdict in as_if(find(name), "cpu").verdicts(smoke_store):
        numbers = [estimate.n for estimate in verdict.estimates]
        claim = next(claim for claim in find(name).claims if claim.id == verdict.claim)
        if not claim.parts:
            assert numbers == []
        elif whole is None:
            assert numbers == [1] * len(claim.parts)
        else:
            assert sum(numbers) == len(whole)
        assert report.ours(verdict.estimates) or not numbers


def test_the_analytic_claims_are_decided_by_one_exact_run(smoke_store: Store) -> None:
    """Fig. 8 and Theorem 1 on the small grids: what the formulas say does not hang on the grid."""
    statuses = {
        verdict.claim: verdict.status
        for name in ("fig8", "thm1")
        for verdict in as_if(find(name), "cpu").verdicts(smoke_store)
    }
    assert statuses["fig8.hundredfold"] == "reproduced"
    assert statuses["thm1.monotone"] == "reproduced"
    assert statuses["fig8.overlap"] != "reproduced"  # Eq. 5 is 3.3 times Eq. 2 at rho = 5


def test_the_best_scale_is_the_largest_with_records(smoke_store: Store, tmp_path: Path) -> None:
    assert best_scale(find("fig8"), smoke_store) == "smoke"
    assert best_scale(find("fig8"), Store(tmp_path)) == "smoke"
    upside_down = dataclasses.replace(
        find("fig8"), runs={"paper": find("fig8").at("smoke"), "smoke": find("fig8").at("paper")}
    )
    assert best_scale(upside_down, smoke_store) == "paper"


def test_the_epochs_of_a_curve_end_with_the_run(records: dict[str, Records]) -> None:
    from experiments.paper._cifar10 import epochs

    curves = records["fig6"].curves
    curves = curves.assign(epoch=epochs(curves))
    tests = curves[(curves["split"] == "test") & (curves["metric"] == "accuracy")]
    assert tests.groupby("run_id")["epoch"].apply(list).tolist() == [[1, 2, 3, 4]] * 12
