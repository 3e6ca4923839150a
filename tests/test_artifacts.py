"""The artifacts: complete, fair between their arms, open about deviations, drawn from records."""

import dataclasses
import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import colorspacious
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex, to_rgb

from experiments import checks, report, style
from experiments.artifact import Artifact, artifacts, best_scale, find, verdicts
from experiments.beyond import data_order, gpt2, heavy_tails, loss_by_count, lr_range
from experiments.errors import UserError
from experiments.paper import _classifiers, _language, fig5
from experiments.record import Result, Store
from experiments.spec import SCALES, Optim, Run, options
from experiments.verdict import MIN_SEEDS, Claim, Records, judge

PAPER = (
    *("fig1", "fig2", "fig3", "fig4", "fig5", "fig6", "fig7", "fig8", "fig9"),
    *("table1", "table1-imagenet", "table2", "table3"),
    "thm1",
)
"""Every figure and table of the paper, Table 1 in two parts, and its theorem."""

BUILT = tuple(artifacts())

UNTUNED = ("UntunedLinearWarmup", "UntunedExponentialWarmup", "RectifiedWarmup")
COMPARE_SEEDS = ("fast-path.curve", "plain-loop.curve")
"""Claims that one seed says nothing of."""
WARMUPS = {"LinearWarmup", *UNTUNED}
CLASSIFIERS = {"optimizer", "optim.momentum", "optim.betas", "lr", "seed"}
TRANSLATION = {
    *("optimizer", "optim.delay", "optim.eps", "LinearWarmup.steps", "seed"),
    *("epochs", "LinearDecay.delay", "probes"),  # of Adam-2k, by its delay
}
TRANSFORMERS = {"optimizer", "LinearWarmup.steps", "UntunedLinearWarmup.beta2", "lr", "seed"}
OF_NETWORKS = {
    name for bases in heavy_tails.BASES.values() for base in bases for name, _ in base.settings
}
COMPARED: dict[str, set[str]] = {
    "table1": CLASSIFIERS,
    "table1-imagenet": CLASSIFIERS,
    "tiny-imagenet-32": CLASSIFIERS,
    "data-order": CLASSIFIERS,
    "lr-range": CLASSIFIERS,
    "cosine-decay": CLASSIFIERS | {"StepDecay.milestones", "StepDecay.gamma", "CosineDecay.total"},
    "epochs-186": CLASSIFIERS | {"epochs"},
    "fig4": {"optimizer", "lr", "seed"},
    "wikitext-2": {"optimizer", "lr", "seed"},
    "state-of-the-union": {"optimizer", "lr", "seed"},
    "counted-rectification": {"optimizer", "lr", "seed"},
    "sparse-words": {"optimizer", "optim.momentum", "optim.alpha", "optim.betas", "lr", "seed"},
    "sparse-words-decay": {
        *("optimizer", "optim.momentum", "optim.alpha", "optim.betas", "lr", "seed"),
    },
    "rare-words": set(),
    "loss-by-count": {"optimizer", "lr", "seed"},
    "gpt2": TRANSFORMERS | {"network"},
    "gpt2-state-of-the-union": TRANSFORMERS | {"network"},
    "fig1": TRANSLATION,
    "fig2": TRANSLATION,
    "fig3": TRANSLATION,
    "post-norm": {
        *("optimizer", "optim.delay", "optim.eps_placement", "optim.rectification"),
        *("optim.early", "LinearWarmup.steps", "norm", "seed"),
        *("UntunedLinearWarmup.beta2", "UntunedExponentialWarmup.beta2"),
    },
    "short-rectification": {
        *("optimizer", "optim.delay", "optim.betas", "LinearWarmup.steps", "seed"),
    },
    "warmup-phases": {
        *("optimizer", "optim.delay", "LinearWarmup.steps", "norm", "layers", "lr", "seed"),
    },
    "controls-rate": TRANSLATION,
    "table2": {"optimizer", "optim.delay", "LinearWarmup.steps", "source", "target", "seed"},
    "fast-path": CLASSIFIERS | {"precision"},
    "plain-loop": CLASSIFIERS | {"precision", "per_image"},
    "fig5": CLASSIFIERS,
    "fig6": CLASSIFIERS,
    "fig7": {"optimizer", "LinearWarmup.steps", "lr", "seed"},
    "table3": {"optimizer", "optim.first", "seed"},
    "data-order-table3": {"optimizer", "optim.first", "seed"},
    "untuned-warmup": {"optimizer", "lr", "seed"} | {f"{name}.beta2" for name in UNTUNED},
    "fig8": set(),
    "fig9": {"mu", "seed"},
    "thm1": set(),
    "finite-variance": {"rho", "seed"},
    "moving-average": set(),
    "heavy-tails": {"of", "pool", "seed"} | OF_NETWORKS,
    "bf16-weights": {"optimizer", "optim.state_dtype", "optim.rounding", "weights", "lr", "seed"},
}
"""The declared axes: on these alone may an artifact's runs of one scale differ."""

OFFSET = ("data_seed_offset", 1)

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
    """One may be claimed before it can be run."""
    artifact = Artifact("new", "What nobody ran", (Claim("new.one", "It holds", "1"),))
    with pytest.raises(UserError, match=r"new is not built yet; .*experiments list"):
        artifact.at("smoke")
    assert [verdict.status for verdict in artifact.verdicts(Store())] == ["not run"]


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
    assert {run.schedule[0].unit for run in runs if warmup(run)} <= {"update"}
    decays = {
        tuple(dataclasses.replace(one, delay=0) for one in run.schedule if one.name not in WARMUPS)
        for run in runs
    }
    assert len(decays) == (2 if name == "cosine-decay" else 1)  # with its unit, which is no axis


def warmup(run: Run) -> Any:
    """The warmup of a run, or None."""
    return next((one for one in run.schedule if one.name in WARMUPS), None)


@pytest.mark.parametrize(("name", "scale"), RUNNABLE)
def test_every_arm_has_the_same_seeds_and_budget(name: str, scale: str) -> None:
    """The runs are a whole product: no arm is tried at more learning rates or seeds."""
    runs = find(name).at(scale)
    arms: dict[Any, set[Any]] = {}
    for run in runs:
        optimizer = run.optim and dataclasses.replace(run.optim, lr=0)
        arm = (optimizer, run.schedule, run.epochs, run.axes().get("mu"), run.axes().get("rho"))
        tried = (run.optim.lr if run.optim else None, run.seed)
        if name in ("fast-path", "plain-loop"):  # which do not compare optimizers
            arm, tried = (run.precision,), (run.optim, run.seed)
        if name in ("data-order", "loss-by-count") and scale != "paper":  # at one rate, see below
            tried = run.seed
        arms.setdefault(arm, set()).add(tried)
    assert len({frozenset(tried) for tried in arms.values()}) == 1


def test_the_image_classifiers_share_their_runs() -> None:
    assert find("table1").runs == find("fig5").runs == find("fig6").runs


def test_other_orders_of_the_data_meet_the_runs_of_table_1() -> None:
    """The same arms at the rates that validation chose, and nothing but the batches another."""
    table1 = find("table1").records("cpu", Store()).runs
    chosen = {arm: _classifiers.best_lr(table1, arm) for arm in ("sgd", "adam", "radam")}
    assert {arm.name: arm.lr for arm in data_order.CHOSEN} == chosen
    for scale, runs in find("data-order").runs.items():
        same = [
            dataclasses.replace(run, settings=tuple(one for one in run.settings if one != OFFSET))
            for run in runs
        ]
        assert {run.id for run in same} <= {run.id for run in find("table1").at(scale)}
        assert {run.setting(OFFSET[0]) for run in runs} == {OFFSET[1]}


def test_the_loss_by_count_is_of_the_runs_that_validation_chose() -> None:
    """The same arms at the same rates, and nothing but the classes of words is asked besides."""
    of_one = ("fig4", "counted-rectification")
    records = [find(name).records("cpu", Store()).runs for name in of_one]
    runs = pd.concat(records).drop_duplicates("run_id")
    arms = loss_by_count.ARMS
    assert {arm.name: arm.lr for arm in arms} == {
        arm.name: _language.best_rate(runs, arm.name) for arm in arms
    }
    theirs = {run.id for name in of_one for run in find(name).at("cpu")}
    ours = {
        dataclasses.replace(run, task="language_model") for run in find("loss-by-count").at("cpu")
    }
    assert {run.id for run in ours} <= theirs


@pytest.mark.parametrize("name", BUILT)
def test_what_a_claim_says_of_a_seed_is_read_off_the_runs_of_that_seed(name: str) -> None:
    """Else the numbers of a shuffle would not be those of the meetings of runs that it has."""
    one = find(name)
    for scale in one.runs:
        records, arms = one.records(scale, Store()), checks.arms_of(one.at(scale))
        asked = [claim for claim in one.claims if not claim.of_pairs]
        parts = {part for claim in asked for part in (*claim.parts, *claim.given)}
        if records.runs.empty or records.runs["seed"].nunique() < MIN_SEEDS:
            continue
        first, second, *others = sorted(set(records.runs["seed"]))
        swapped = {first: second, second: first}
        ways = [{}, *({arm: swapped} for arm in {*arms.values()})]
        apart = max(first, second, *others) + 1
        of_all = checks.side_by_side(records, arms, ways)
        last = checks.side_by_side(records, arms, ways[-1:])
        for part in parts:
            alone, together = part.statistic(records), part.statistic(of_all)
            same, numbers = pd.Index([first, second, *others]), pd.Index(others)
            expected = {place: alone.reindex(numbers) for place in range(1, len(ways) - 1)}
            expected |= {0: alone.reindex(same), len(ways) - 1: part.statistic(last).reindex(same)}
            for place, values in expected.items():
                found = together.reindex(values.index + place * apart).set_axis(values.index)
                pd.testing.assert_series_equal(found, values, check_names=False)


@pytest.mark.parametrize("scale", SCALES)
def test_warmup_and_first_updates_are_measured_against_the_same_radam(scale: str) -> None:
    grid, warmups, first, untuned = (
        {run.id: run for run in find(name).at(scale)}
        for name in ("fig6", "fig7", "table3", "untuned-warmup")
    )
    asked = {run.seed for run in warmups.values()}
    plain = {
        id
        for id, run in grid.items()
        if run.optim and run.optim.name in ("adam", "radam") and run.seed in asked
    }
    assert plain == grid.keys() & warmups.keys() == grid.keys() & untuned.keys()
    seeds = {run.seed for run in grid.values()} & {run.seed for run in first.values()}
    assert len(grid.keys() & first.keys()) == len(seeds) >= (1 if scale == "smoke" else 3)


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_the_warmups_are_the_papers(scale: str) -> None:
    axes = on_axes(find("fig7").at(scale))
    assert axes["LinearWarmup.steps"] == {None, 100, 200, 500, 1000}
    assert axes["optimizer"] == {"adam", "radam"}
    assert all(len(run.schedule) == 1 for run in find("fig7").at(scale) if not warmup(run))


def test_the_first_updates_are_those_of_appendix_c() -> None:
    runs = find("table3").at("paper")
    assert on_axes(runs)["optim.first"] == {
        None,
        (("adam", 4),),
        (("sgd", 4), ("adam", 4)),
    }
    assert {run.optim.lr for run in runs if run.optim} == {0.1}
    assert {run.seed for run in runs} == set(range(5))


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


def test_the_imagenet_scale_has_the_settings_of_the_paper() -> None:
    axes = on_axes(find("table1-imagenet").at("paper"))
    assert axes["batch_size"] == {256}
    assert axes["epochs"] == {90}
    assert axes["StepDecay.milestones"] == {(31, 61)}
    assert axes["width"] == {64}
    assert axes["stem"] == {"7x7"}
    assert axes["side"] == {224}
    assert axes["lr"] >= {0.003}
    (train,), (validation,) = axes["train_images"], axes["validation_images"]
    assert train + validation == 1_281_167


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_what_goes_past_figure_6_shares_its_runs(scale: str) -> None:
    for name in ("lr-range", "cosine-decay", "epochs-186"):
        runs = find(name).at(scale)
        seeds = {run.seed for run in runs}
        assert len(seeds) >= 3
        shared = {run.id for run in find("fig6").at(scale) if run.seed in seeds}
        assert shared <= {run.id for run in runs}


def test_the_longer_schedule_is_longer_by_the_same_share_at_every_scale() -> None:
    epochs = {scale: on_axes(find("epochs-186").at(scale))["epochs"] for scale in ("cpu", "paper")}
    assert epochs["paper"] == {164, 186}
    short, long = sorted(epochs["cpu"])
    assert long == round(short * 186 / 164)


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_the_wide_grid_goes_on_where_that_of_figure_6_ends(scale: str) -> None:
    four, wide = (on_axes(find(name).at(scale))["lr"] for name in ("fig6", "lr-range"))
    assert four < wide
    assert max(wide) >= 10 * max(four)
    assert min(wide) <= min(four) / 10


@pytest.mark.parametrize("name", ["fig6", "table1-imagenet", "tiny-imagenet-32"])
def test_every_arm_trains_well_past_its_first_decay(name: str) -> None:
    for scale in find(name).runs.keys() - {"smoke"}:
        for run in find(name).at(scale):
            first = run.axes()["StepDecay.milestones"][0]
            assert run.epochs >= 1.5 * first


# Deviations

PAPERS = {
    "tiny-imagenet-32": "table1-imagenet",
    "wikitext-2": "fig4",
    "state-of-the-union": "fig4",
    "loss-by-count": "fig4",
    "controls-rate": "fig3",
}
"""Where an artifact that goes past the paper deviates at the paper scale too: from what."""


@pytest.mark.parametrize(("name", "scale"), RUNNABLE)
def test_every_deviation_is_declared_with_its_reason_and_is_one(name: str, scale: str) -> None:
    artifact, ours = find(name), find(PAPERS.get(name, name))
    declared = [deviation.axis for deviation in artifact.deviations.get(scale, ())]
    assert len(set(declared)) == len(declared)
    here = on_axes(artifact.at(scale))
    paper = on_axes(ours.at("paper")) if "paper" in ours.runs else here
    assert set(declared) <= here.keys() | paper.keys()
    if scale != "paper" or name in PAPERS:
        axes = (here.keys() | paper.keys()) - {"seed"}  # verdicts tell how many seeds there are
        differing = {axis for axis in axes if here.get(axis) != paper.get(axis)}
        there = {one.axis: one.paper for one in ours.deviations.get("paper", ())}
        as_in_print = {
            axis for axis, value in there.items() if {value} == set(map(str, here.get(axis, ())))
        }
        assert set(declared) == (differing | there.keys()) - as_in_print
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


VISIONS = (None, "protanomaly", "deuteranomaly", "tritanomaly")
"""Of a reader: with all three kinds of cones, or without one of them."""


def seen(colour: str, vision: str | None) -> np.ndarray:
    """A colour as red, green and blue that look to everybody as it looks to such a reader."""
    rgb = np.array(to_rgb(colour))
    if vision is None:
        return rgb
    space = {"name": "sRGB1+CVD", "cvd_type": vision, "severity": 100}
    return np.clip(colorspacious.cspace_convert(rgb, space, "sRGB1"), 0, 1)


@pytest.mark.parametrize("name", [name for name in BUILT if find(name).draw])
def test_readers_with_any_colour_vision_tell_the_lines_apart(
    records: dict[str, Records], name: str
) -> None:
    """The colours of seaborn's palette "colorblind" come as near to each other as six."""
    draw, known = find(name).draw, {*style.COLOURS.values(), *style.PALETTE}
    assert draw is not None
    for panel in draw(records[name]).axes:
        shown = {to_hex(line.get_color()) for line in panel.lines} & known
        for one, other in itertools.combinations(sorted(shown), 2):
            for vision in VISIONS:
                pair = (seen(one, vision), seen(other, vision))
                assert colorspacious.deltaE(*pair, input_space="sRGB1") > 10, (one, other, vision)


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
        if not claim.parts or claim.id in COMPARE_SEEDS:
            assert numbers == []
        elif name == "warmup-phases":  # it counts settings where Adam with warmup learns
            assert set(numbers) <= {1}
        elif whole is None:
            assert numbers == [1] * len(claim.parts)
        else:
            assert sum(numbers) == len(whole)
        assert report.ours(verdict.estimates) or not numbers


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in BUILT
        if any(claim.given for claim in find(name).claims) and find(name).at("smoke")[0].optim
    ],
)
def test_two_that_learn_nothing_do_not_end_alike(name: str, tmp_path: Path) -> None:
    """Equal losses, and BLEU of nothing, after runs that end where they began."""
    metrics = {"unigram_loss": 9.0, "train_loss": 8.9, "test_bleu": 1.0}
    metrics |= {"validation_loss": 9.0, "test_loss": 9.0}
    store = Store(tmp_path)
    for run in find(name).at("cpu"):
        store.add(Result(run, "finished", metrics, []), "cpu")
    judged = {one.claim: one for one in find(name).verdicts(store)}
    for claim in find(name).claims:
        if claim.given:
            assert judged[claim.id].status == "inconclusive"
            assert judged[claim.id].lacks


def test_adam_is_not_taken_for_radam_in_any_order_of_the_arms() -> None:
    arms = ["radam", "adam, untuned linear", "adam, warmup 200", "adam"]
    for found in (arms, arms[::-1]):
        records = Records(pd.DataFrame({"optimizer": found}), pd.DataFrame())
        kinds = (gpt2.RECTIFIED, gpt2.UNTUNED_ARM, gpt2.WARMED, gpt2.PLAIN)
        assert [gpt2._arm(records, kind) for kind in kinds] == arms


def test_the_ends_of_the_small_gpt2s_are_perplexities_and_those_lost_count() -> None:
    found = []
    kinds = {"adam": {}, "radam": {}}
    kinds |= {"adam, warmup 8": {"LinearWarmup.steps": 8}}
    kinds |= {"adam, untuned": {"UntunedLinearWarmup.beta2": 0.999}}
    for (kind, warmup), network, seed in itertools.product(kinds.items(), ("pre", "post"), (0, 1)):
        run = {"run_id": f"{kind}{network}{seed}", "optimizer": kind.partition(",")[0], "lr": 0.1}
        run |= {"network": network, "seed": seed, "test_loss": 1.0 + seed, "status": "finished"}
        found.append(run | warmup)
    runs = pd.DataFrame(found)
    runs.loc[(runs["optimizer"] == "radam") & (runs["network"] == "post"), "status"] = "diverged"
    ends = gpt2.ends(Records(runs, pd.DataFrame({"run_id": [], "network": []})))
    assert ends["pre", gpt2.WARMED, 0.1].to_dict() == pytest.approx({0: np.exp(1), 1: np.exp(2)})
    assert ends["post", gpt2.RECTIFIED, 0.1].tolist() == pytest.approx([np.exp(20.0)] * 2)
    assert len(ends) == 16


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
    curves = records["fig6"].curves
    curves = curves.assign(epoch=_classifiers.epochs(curves))
    tests = curves[(curves["split"] == "test") & (curves["metric"] == "accuracy")]
    assert tests.groupby("run_id")["epoch"].apply(list).tolist() == [[1, 2, 3, 4]] * 12


def test_a_run_that_diverged_is_not_stretched_over_the_epochs() -> None:
    ends = {"whole": 160, "diverged": 30}
    rows = [
        {"run_id": name, "epochs": 16, "step": step}
        for name, end in ends.items()
        for step in range(10, end + 1, 10)
    ]
    curves = pd.DataFrame(rows)
    found = _classifiers.epochs(curves).groupby(curves["run_id"]).apply(list)
    assert found["diverged"] == [1, 2, 3]
    assert found["whole"] == list(range(1, 17))


# How a number is read off


def table_of(accuracies: dict[tuple[str, float], float], **columns: Any) -> pd.DataFrame:
    """Runs of one seed with those accuracies by arm and learning rate."""
    rows = [
        {"optimizer": arm, "lr": lr, "seed": 0, "status": "finished", "run_id": f"{arm}{lr}"}
        | {"test_accuracy": value, "validation_accuracy": value}
        for (arm, lr), value in accuracies.items()
    ]
    return pd.DataFrame(rows).assign(**columns)


def test_a_run_that_diverged_counts_as_having_classified_nothing() -> None:
    runs = table_of({("sgd", 0.1): 90.0, ("sgd", 0.03): 80.0, ("sgd", 0.01): 70.0})
    assert _classifiers.best_lr(runs, "sgd") == 0.1
    assert _classifiers.spread(runs, "sgd").tolist() == [20.0]
    runs.loc[0, "status"] = "diverged"  # what its first epochs tested is no longer of interest
    assert _classifiers.best_lr(runs, "sgd") == 0.03
    assert _classifiers.spread(runs, "sgd").tolist() == [80.0]
    runs.loc[0, ["test_accuracy", "validation_accuracy"]] = float("nan")
    assert _classifiers.spread(runs, "sgd").tolist() == [80.0]
    everywhere = runs.assign(status="diverged")
    assert _classifiers.spread(everywhere, "sgd").isna().tolist() == [True]
    assert lr_range.width(Records(everywhere, pd.DataFrame()), "sgd").tolist() == [0.0]
    assert _classifiers.cell(runs, "test_accuracy") == "1 of 3 diverged"
    assert _classifiers.cell(runs[1:], "test_accuracy") == "75.00 ± 7.07"
    assert _classifiers.cell(runs[:0], "test_accuracy") == "not recorded"
    unknown = runs[1:].assign(test_accuracy=[80.0, float("nan")])
    assert _classifiers.cell(unknown, "test_accuracy") == "80.00 (1 of 2 seeds)"


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([100, 100, 100], 2.0),
        ([99, 100, 99], 2.0),  # the bound itself is within
        ([100, 98, 0], 0.5),  # halfway down to 98 the first line passes 99
        ([0, 100, 0], 0.02),  # a hundredth of the way, on both sides
        ([100, 98, 100], 1.0),  # in two pieces
        ([50, 50, 49], 1.5),  # 1 % of 50 is half a point
    ],
)
def test_the_range_of_learning_rates_in_decades(accuracies: list[float], expected: float) -> None:
    rates = np.array([0.001, 0.01, 0.1])
    assert lr_range.decades(rates, np.array(accuracies)) == pytest.approx(expected)


@given(st.lists(st.floats(1, 100), min_size=2, max_size=9))
def test_the_range_is_a_share_of_the_grid_and_the_same_from_either_end(
    accuracies: list[float],
) -> None:
    rates = np.geomspace(1e-4, 1, len(accuracies))
    width = lr_range.decades(rates, np.array(accuracies))
    assert 0 <= width <= 4 + 1e-9
    assert lr_range.decades(rates, np.array(accuracies[::-1])) == pytest.approx(width)
    assert lr_range.decades(rates, 0.5 * np.array(accuracies)) == pytest.approx(width)


def test_the_best_warmup_is_chosen_on_validation() -> None:
    names = ["radam", "adam", "adam"]
    runs = pd.DataFrame(
        {
            "run_id": ["a", "b", "c"],
            "optimizer": names,
            "LinearWarmup.steps": [float("nan"), 100.0, 200.0],
            "lr": 0.1,
            "seed": 0,
            "status": "finished",
            "validation_accuracy": [80.0, 70.0, 71.0],
            "test_accuracy": [80.0, 90.0, 75.0],
        }
    )
    empty = pd.DataFrame({"run_id": [], "optimizer": []})
    best, shortest = (
        claim.parts[0].statistic(Records(runs, empty)).tolist() for claim in find("fig7").claims
    )
    assert best == [5.0]  # against 200 updates, though 100 do better on the test images
    assert shortest == [-10.0]


# An optimizer of the reader's own

YOURS = [name for name in BUILT if find(name).yours is not None]
NADAM, BETAS = "torch.optim:NAdam", options(betas=(0.9, 0.99))


def test_what_takes_another_optimizer_is_what_compares_optimizers() -> None:
    assert {"table1", "fig5", "fig6", "fig7", "lr-range"} <= set(YOURS)
    for name in set(artifacts()) - set(YOURS):
        with pytest.raises(UserError, match=f"{name} takes no other optimizer; .*: fig4, table1, "):
            find(name).beside(NADAM)


def test_the_leads_by_epoch_are_taken_at_each_best_rate() -> None:
    """Of two rates validation chooses the second; there RAdam leads from the second epoch on."""
    losses = {"adam": (2.0, 1.5), "radam": (2.5, 1.0)}
    accuracies = {"adam": (40.0, 50.0), "radam": (35.0, 57.0)}
    runs, curves = [], []
    for arm, rate, seed in itertools.product(losses, (0.1, 0.01), (0, 1)):
        run = {"run_id": f"{arm}{rate}{seed}", "optimizer": arm, "lr": rate, "seed": seed}
        run["epochs"] = 2
        validated = {"validation_accuracy": 1 / rate, "test_accuracy": 50.0, "status": "finished"}
        runs.append(run | validated)
        away = 100.0 * (rate == 0.1)
        for epoch, (loss, accuracy) in enumerate(
            zip(losses[arm], accuracies[arm], strict=True), start=1
        ):
            loss, accuracy = loss + away, accuracy + seed * epoch * (arm == "radam")
            for point in (("train", "loss", loss), ("test", "accuracy", accuracy)):
                named = dict(zip(("split", "metric", "value"), point, strict=True))
                curves.append(run | {"step": 10 * epoch} | named)
    records = Records(pd.DataFrame(runs), pd.DataFrame(curves))
    loss, accuracy = fig5.leads_by_epoch(records, "radam", "adam")
    assert loss.to_dict("index") == {seed: {1: -0.5, 2: 0.5} for seed in (0, 1)}
    assert accuracy.to_dict("index") == {0: {1: -5.0, 2: 7.0}, 1: {1: -4.0, 2: 9.0}}


def test_perplexities_are_compared_after_the_first_epoch_and_the_last() -> None:
    """RAdam's are half of Adam's at first and a quarter at last, at its best rate half of that."""
    perplexity = {("adam", 0.001): (80, 40), ("adam", 0.003): (90, 50)}
    perplexity |= {("radam", 0.001): (40, 10), ("radam", 0.003): (20, 5)}
    runs, curves = [], []
    for ((arm, rate), tests), seed in itertools.product(perplexity.items(), (0, 1)):
        first, last = (math.log(test * (1 + seed)) for test in tests)
        run = {"run_id": f"{arm}{rate}{seed}", "optimizer": arm, "lr": rate, "seed": seed}
        of_end = {"validation_loss": last, "test_loss": last, "status": "finished"}
        runs.append(run | of_end)
        for step, test in ((10, first), (20, last)):
            for split, loss in (("test", test), ("validation", test + 1)):
                point = {"step": step, "split": split, "metric": "loss", "value": loss}
                curves.append(run | point)
    records = Records(pd.DataFrame(runs), pd.DataFrame(curves[::-1]))
    for lr, least, start in ((0.001, 75.0, -50.0), (None, 87.5, -75.0)):
        below = _language.gap(records, "radam", "adam", lr)
        above = _language.lag(records, "radam", "adam", lr)
        assert below.to_dict() == pytest.approx({0: least, 1: least})
        assert above.to_dict() == pytest.approx({0: start, 1: start})


@pytest.mark.parametrize("name", YOURS)
def test_another_optimizer_gets_what_radam_gets(name: str) -> None:
    beside = find(name).beside(NADAM, **dict(BETAS))
    assert beside.runs.keys() == find(name).runs.keys()
    for scale, own in find(name).runs.items():
        assert beside.at(scale)[: len(own)] == own
        added = beside.at(scale)[len(own) :]
        assert not {run.id for run in own} & {run.id for run in added}
        radam = [run for run in own if run.optim and run.optim.name == "radam"]
        assert len(added) == len(radam) > 0
        for run, rival in zip(added, radam, strict=True):
            assert rival.optim
            nadam = Optim(NADAM, rival.optim.lr, rival.optim.weight_decay, BETAS)
            assert run == dataclasses.replace(rival, optim=nadam)
    (claim,) = beside.claims
    assert claim.id == f"{name}.yours"
    assert claim.text.startswith("NAdam ")
    for part in claim.parts:
        assert (part.above, part.below) != (float("-inf"), float("inf"))


@pytest.mark.parametrize("name", ["table1", "fig5", "fig6", "fig7", "lr-range"])
def test_another_optimizer_is_drawn_tabulated_and_judged(
    smoke_store: Store, tmp_path: Path, name: str
) -> None:
    """RAdam's records in the other's place: then they are level in every respect."""
    beside = find(name).beside("elsewhere:Other")
    records = find(name).records("smoke", smoke_store)
    copied = [
        table[table["optimizer"] == "radam"].assign(
            optimizer="elsewhere:Other", run_id=lambda rows: "copy" + rows["run_id"]
        )
        for table in (records.runs, records.curves)
    ]
    both = Records(
        pd.concat([records.runs, copied[0]], ignore_index=True),
        pd.concat([records.curves, copied[1]], ignore_index=True),
    )
    verdict = judge(name, beside.claims[0], both, "smoke")
    assert [estimate.n for estimate in verdict.estimates] == [1] * len(beside.claims[0].parts)
    against = [
        one.value for one in verdict.estimates if "RAdam" in one.label or "in the last" in one.label
    ]
    assert against == [0.0] * len(against)
    assert against
    if beside.draw is not None:
        figure = beside.draw(both)
        style.save(figure, tmp_path / "figure.svg")
        legends = [panel.get_legend() for panel in figure.axes if panel.get_legend()]
        words = [text.get_text() for legend in legends for text in legend.get_texts()]
        assert "Other" in [*words, *(panel.get_title() for panel in figure.axes)]
    if beside.tabulate is not None:
        table = beside.tabulate(both)
        assert (table.xs("Other") == table.xs("RAdam")).all(axis=None)


# Other settings


CLIPPED = [name for name, scale in RUNNABLE if scale == "cpu" and find(name).at(scale)[0].optim]


@pytest.mark.parametrize("name", CLIPPED)
def test_what_was_set_anew_is_read_alike(name: str) -> None:
    """The records of the study's own runs in the place of those with another setting."""
    own, varied = find(name), find(name).varied(clip=9.0)
    records = own.records("cpu", Store())
    if records.runs.empty:
        pytest.skip("nothing is recorded")
    ids = {a.id: b.id for a, b in zip(own.at("cpu"), varied.at("cpu"), strict=True)}
    assert not set(ids) & set(ids.values())
    tables = (
        table.assign(run_id=table["run_id"].map(ids), clip=9.0)
        for table in (records.runs, records.curves)
    )
    other = Records(*tables)
    for mine, its in zip(own.claims, varied.claims, strict=True):
        expected, found = judge(name, mine, records, "cpu"), judge(name, its, other, "cpu")
        assert found.status == expected.status != "not run"
        assert repr(found.estimates) == repr(expected.estimates)
    if own.tabulate and varied.tabulate:
        pd.testing.assert_frame_equal(varied.tabulate(other), own.tabulate(records))


@pytest.mark.parametrize(
    ("name", "setting", "value", "like"),
    [
        ("sparse-words", "penalty", 2, 2.0),
        ("fig4", "dropout", 0, 0.0),
        ("fig4", "clip", 1, 1.0),
        ("fig4", "cutoffs", [50, 150], (50, 150)),
    ],
)
def test_a_setting_is_one_id_however_it_is_written(
    name: str, setting: str, value: Any, like: Any
) -> None:
    written, same = (find(name).varied(**{setting: one}) for one in (value, like))
    assert [run.id for run in written.at("cpu")] == [run.id for run in same.at("cpu")]
    assert written.at("cpu") != find(name).at("cpu")


def test_the_value_that_a_setting_has_is_no_other_setting() -> None:
    assert find("sparse-words").varied(penalty=1).runs == find("sparse-words").runs
