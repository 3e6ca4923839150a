"""The grid of learning rates, depths and norms: how its numbers are read off the records."""

from collections.abc import Callable

import pandas as pd
import pytest

from experiments.artifact import find
from experiments.beyond import warmup_phases
from experiments.paper._translation import ARMS, DELAYED, EPS, RADAM, VANILLA, WARMUP, by_arm
from experiments.verdict import Records, judge

GRID = find("warmup-phases")
NO_CURVES = pd.DataFrame(columns=["run_id", "step"])
FREQUENCIES = 6.0
"""The loss of a model that knows only how frequent each token is."""


def records_of(learnt: Callable[[pd.Series], float]) -> Records:
    """Records in which a run, whose row has its axes and its arm, learns so many nats."""
    runs = pd.DataFrame([{"run_id": run.id, **run.axes()} for run in GRID.at("cpu")])
    arms = by_arm(Records(runs, NO_CURVES)).runs
    losses = [FREQUENCIES - learnt(row) for _, row in arms.iterrows()]
    runs = runs.assign(status="finished", unigram_loss=FREQUENCIES, train_loss=losses)
    return Records(runs, NO_CURVES)


def as_the_claims_have_it(row: pd.Series) -> float:
    """Adam without warmup stalls with the norms after the sublayers, in the deeper network."""
    stalls = row["arm"] == VANILLA and row["norm"] == "post" and row["layers"] == 6
    return 0.1 if stalls else {VANILLA: 2.0, WARMUP: 1.9, RADAM: 1.5}[row["arm"]]


def statuses(records: Records) -> dict[str, str]:
    return {
        claim.id.partition(".")[2]: judge(GRID.id, claim, records, "cpu").status
        for claim in GRID.claims
    }


def test_the_claims_hold_where_adam_stalls_in_some_settings_and_radam_in_none() -> None:
    records = records_of(as_the_claims_have_it)
    assert set(statuses(records).values()) == {"reproduced"}
    learnt = warmup_phases.by_setting(records)
    assert len(learnt) == len(GRID.at("cpu")) / 3
    assert learnt.loc[("post", 6, 0.001, 0), VANILLA] == pytest.approx(0.1)


def test_one_setting_decides_against_a_claim_on_every_one() -> None:
    def learnt(row: pd.Series) -> float:
        one = row["norm"] == "pre" and row["layers"] == 2 and row["lr"] == 0.003
        return 0.2 if one and row["arm"] != WARMUP else as_the_claims_have_it(row)

    assert statuses(records_of(learnt)) == {
        "post-norm": "reproduced",
        "pre-norm": "contradicted",
        "radam": "partly",
    }


def test_a_claim_that_asks_for_one_setting_fails_where_there_is_none() -> None:
    always = records_of(lambda row: {VANILLA: 2.0, WARMUP: 1.9, RADAM: 1.5}[row["arm"]])
    assert statuses(always)["post-norm"] == "contradicted"


def test_where_the_warmup_does_not_learn_the_others_are_not_asked() -> None:
    def learnt(row: pd.Series) -> float:
        lost = row["lr"] == 0.0003
        return {WARMUP: 0.4}.get(row["arm"], -1.0) if lost else as_the_claims_have_it(row)

    assert set(statuses(records_of(learnt)).values()) == {"reproduced"}


def test_a_run_that_diverged_has_learnt_nothing() -> None:
    records = records_of(as_the_claims_have_it)
    arms = by_arm(records).runs["arm"]
    lost = (arms == RADAM) & (records.runs["norm"] == "post") & (records.runs["lr"] == 0.003)
    runs = records.runs.assign(status=records.runs["status"].where(~lost, "diverged"))
    runs["train_loss"] = runs["train_loss"].where(~lost)
    assert statuses(Records(runs, records.curves))["radam"] == "partly"


# Figure 3 at the paper's learning rate

CONTROLS = find("controls-rate")


def controls(decades: dict[str, float], losses: dict[str, float]) -> dict[str, str]:
    """The verdicts where an arm's gradients move so far up to update 10, and it ends so."""
    runs = pd.DataFrame([{"run_id": run.id, **run.axes()} for run in CONTROLS.at("cpu")])
    arms = by_arm(Records(runs, NO_CURVES)).runs["arm"]
    runs = runs.assign(status="finished", unigram_loss=FREQUENCIES)
    runs["train_loss"] = arms.map(losses) + 0.001 * runs["seed"]
    points = [
        run | {"step": run["optim.delay"] + update, "split": "gradient", "metric": f"{bin}"}
        | {"value": float(bin == (decades[arm] if update == 10 else 0.0))}
        for arm, run in zip(arms, runs.fillna(0).to_dict("records"), strict=True)
        for update in (1, 10)
        for bin in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]  # fmt: skip
    records = Records(runs, pd.DataFrame(points))
    return {
        claim.id.partition(".")[2]: judge(CONTROLS.id, claim, records, "cpu").status
        for claim in CONTROLS.claims
    }


def test_three_arms_at_the_papers_rate_are_those_of_the_grid() -> None:
    grid, runs = {run.id for run in GRID.at("cpu")}, CONTROLS.at("cpu")
    assert [run.id in grid for run in runs] == [
        name not in (DELAYED, EPS) for _ in range(3) for name in ARMS
    ]
    assert {run.axes()["lr"] for run in runs} == {find("fig3").at("paper")[0].axes()["lr"]}


def test_the_controls_are_judged_at_that_rate_by_what_moves_and_where_they_end() -> None:
    still = dict.fromkeys(ARMS, 0.25)
    even = dict.fromkeys(ARMS, 4.0)
    plain_moves, above = still | {VANILLA: 0.75}, even | {EPS: 4.5}
    assert controls(plain_moves, above) == {
        "undistorted": "reproduced",
        "less": "reproduced",
        "order": "reproduced",
    }
    assert controls(dict.fromkeys(ARMS, 0.75), even | {EPS: 3.5}) == {
        "undistorted": "contradicted",
        "less": "inconclusive",
        "order": "contradicted",
    }
    assert controls(plain_moves | {DELAYED: 1.0}, above | {DELAYED: 5.9})["undistorted"] == "partly"
    assert controls(plain_moves, dict.fromkeys(ARMS, 5.9) | {EPS: 6.5})["order"] == "inconclusive"
