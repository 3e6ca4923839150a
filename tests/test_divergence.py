"""Runs that diverge, in the committed records of the cpu scale: no claim does better by a gap."""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest

from experiments import checks
from experiments.artifact import Artifact, artifacts, find
from experiments.record import Store
from experiments.spec import Run
from experiments.verdict import Records, Verdict, judge

TRAINED = [
    name
    for name, one in artifacts().items()
    if "cpu" in one.runs and all(run.optim for run in one.at("cpu"))
]
RANKS = {"contradicted": 0, "not run": 0, "inconclusive": 0, "partly": 1, "reproduced": 2}
WORSE_IS_CLAIMED = (
    *("fig4.starts-slower", "state-of-the-union.starts-slower"),
    *("bf16-weights.nearest", "bf16-weights.nearest-tuned"),
    *("untuned-warmup.linear", "untuned-warmup.exponential"),
    *("short-rectification.nearer", "counted-rectification.better"),
    *("loss-by-count.rarest", "loss-by-count.more"),
)
"""Claims that an arm with RAdam does badly, or that another does as well."""


@functools.cache
def recorded(name: str) -> Records:
    records = find(name).records("cpu", Store())
    if records.runs.empty:
        pytest.skip(f"no whole comparison of {name} is recorded")
    return records


@functools.cache
def lost(name: str, share: float = 0.002) -> Records:
    """The same as the engine records runs that diverge after a share of their updates."""
    runs, curves = recorded(name).runs.assign(status="diverged"), recorded(name).curves
    own = [name for name in runs if name.endswith(("_loss", "_perplexity", "_bleu", "_error"))]
    chance = {name: 10.0 for name in ("validation_accuracy", "test_accuracy") if name in runs}
    runs = runs.assign(**dict.fromkeys(own, np.nan), **chance)
    last = curves.groupby("run_id")["step"].transform("max")
    epoch = last / curves["epochs"]
    tested = curves["split"].isin(["validation", "test", "seen"]) | (curves["metric"] == "progress")
    end = (share * last).where(~tested, np.ceil(share * last / epoch) * epoch)
    curves = curves.assign(value=curves["value"].mask(tested))
    return Records(runs, curves[curves["step"] <= end])


def diverging(name: str, ids: set[str]) -> Records:
    """The records of an artifact, but that some runs diverged."""
    frames = (
        pd.concat([one[~one["run_id"].isin(ids)], other[other["run_id"].isin(ids)]]).sort_index()
        for one, other in (
            (recorded(name).runs, lost(name).runs),
            (recorded(name).curves, lost(name).curves),
        )
    )
    return Records(*frames)


def arms(artifact: Artifact) -> list[list[Run]]:
    found: dict[Run, list[Run]] = {}
    for run in artifact.at("cpu"):
        assert run.optim is not None
        arm = dataclasses.replace(run, seed=0, optim=dataclasses.replace(run.optim, lr=0.0))
        found.setdefault(arm, []).append(run)
    return list(found.values())


def judged(name: str, records: Records) -> list[Verdict]:
    return [judge(name, claim, records, "cpu") for claim in find(name).claims]


@pytest.mark.parametrize("name", TRAINED)
def test_no_seed_drops_out_and_no_arm_with_radam_gains(name: str) -> None:
    before = judged(name, recorded(name))
    for arm in arms(find(name)):
        first = [run for run in arm if run.seed == arm[0].seed]
        for runs in (arm, first):
            after = judged(name, diverging(name, {run.id for run in runs}))
            for old, new in zip(before, after, strict=True):
                assert [one.n for one in new.estimates] == [one.n for one in old.estimates]
                if arm[0].optim.name.startswith("radam") and new.claim not in WORSE_IS_CLAIMED:
                    assert RANKS[new.status] <= RANKS[old.status]


@pytest.mark.parametrize("name", TRAINED)
def test_where_all_diverged_nothing_holds(name: str) -> None:
    for verdict in judged(name, lost(name)):
        assert verdict.status in ("contradicted", "inconclusive")


@pytest.mark.parametrize("name", TRAINED)
def test_what_diverged_is_read_alike_where_shuffles_stand_side_by_side(name: str) -> None:
    """Every fourth run, of one arm or another."""
    ids = recorded(name).runs["run_id"]
    records, of = diverging(name, {*sorted(ids)[::4]}), checks.arms_of(find(name).at("cpu"))
    together = checks.side_by_side(records, of, [{}, {}])
    for claim in find(name).claims:
        for part in () if claim.of_pairs else (*claim.parts, *claim.given):
            alone = part.statistic(records)
            found = part.statistic(together).reindex(alone.index)
            pd.testing.assert_series_equal(found, alone, check_names=False)


def test_a_plain_loop_that_always_diverged_is_no_measure() -> None:
    loops = recorded("plain-loop").runs.query("precision == 'float32'")
    lost = loops[(loops["optimizer"] == "sgd") | (loops.index == loops.index[1])]
    assert set(lost["optimizer"]) == {"sgd", "adam"}
    records = diverging("plain-loop", set(lost["run_id"]))
    (claim,) = (one for one in find("plain-loop").claims if one.id == "plain-loop.curve")
    assert claim.parts[0].statistic(records).isna().all()
