"""The comparison of two precisions: how its numbers are read off the records."""

import dataclasses
import itertools

import pandas as pd
import pytest

from experiments.artifact import find
from experiments.beyond import fast_path
from experiments.spec import SCALES
from experiments.verdict import Records, judge

OPTIMIZERS = ("sgd", "adam", "radam")


def records_of(shift: float, seeds: int = 3, epochs: int = 2) -> Records:
    """Runs whose loss is the seed's number; in bfloat16 it, and the accuracy, are `shift` more."""
    runs, curves = [], []
    for optimizer, seed, precision in itertools.product(
        OPTIMIZERS, range(seeds), ("float32", "bfloat16")
    ):
        more = shift * (precision == "bfloat16")
        run = {"run_id": f"{optimizer}{seed}{precision}", "optimizer": optimizer, "seed": seed}
        run |= {"precision": precision, "epochs": epochs}
        measured = {"status": "finished", "train_loss": 10 + seed + more}
        runs.append(run | measured | {"test_accuracy": 50 + more, "validation_accuracy": 50.0})
        curves += [
            run
            | {"step": 10 * epoch, "split": "train", "metric": "loss", "value": 10 + seed + more}
            for epoch in range(1, epochs + 1)
        ]
    return Records(pd.DataFrame(runs), pd.DataFrame(curves))


def verdicts_on(records: Records) -> dict[str, str]:
    artifact = find("fast-path")
    return {
        claim.id.partition(".")[2]: judge("fast-path", claim, records, "cpu").status
        for claim in artifact.claims
    }


def values_of(records: Records) -> list[list[float]]:
    return [claim.parts[0].statistic(records).tolist() for claim in find("fast-path").claims]


def test_curves_are_measured_against_other_seeds() -> None:
    """The losses of the seeds are 10, 11 and 12: the others lie 1.5, 1 and 1.5 away in the mean."""
    apart, gain, excess = values_of(records_of(0.3))
    assert apart == pytest.approx([0.2, 0.3, 0.2])
    assert gain == pytest.approx([0.3] * 3)
    assert excess == pytest.approx([3, 3 / 1.1, 2.5])


def test_the_verdicts_tell_precisions_that_agree_from_such_as_do_not() -> None:
    assert set(verdicts_on(records_of(0.0)).values()) == {"reproduced"}
    assert set(verdicts_on(records_of(10.0)).values()) == {"contradicted"}


def test_a_run_that_diverged_in_one_precision_is_no_agreement() -> None:
    records = records_of(0.0)
    records.runs.loc[records.runs["precision"] == "bfloat16", "status"] = "diverged"
    assert verdicts_on(records)["accuracy"] == "contradicted"


def diverge(records: Records, lost: pd.Series) -> Records:
    """The records in which some runs diverged in their second epoch."""
    runs = records.runs.assign(status=records.runs["status"].mask(lost, "diverged"))
    runs["train_loss"] = runs["train_loss"].mask(lost)
    gone = records.curves["run_id"].isin(runs["run_id"][lost]) & (records.curves["step"] > 10)
    return Records(runs, records.curves[~gone])


def test_no_optimizer_that_diverged_drops_out_of_the_mean() -> None:
    records = records_of(0.0)
    adam = records.runs["optimizer"] == "adam"
    fast = diverge(records, adam & (records.runs["precision"] == "bfloat16"))
    assert verdicts_on(fast) == {
        "curve": "inconclusive",  # in the mean as far as two seeds or further
        "accuracy": "contradicted",
        "loss": "contradicted",
    }
    both = diverge(records, adam)
    assert set(verdicts_on(both).values()) == {"inconclusive"}


def test_a_reference_that_diverged_makes_no_other_distance_look_small() -> None:
    records = records_of(0.3)
    runs = records.runs
    one = (runs["optimizer"] == "adam") & (runs["precision"] == "float32") & (runs["seed"] == 0)
    assert verdicts_on(records)["curve"] == "reproduced"
    assert verdicts_on(diverge(records, one))["curve"] == "inconclusive"


def test_one_seed_says_nothing_of_the_distance_between_seeds() -> None:
    apart, gain, _ = values_of(records_of(0.3, seeds=1))
    assert pd.isna(apart).all()
    assert gain == pytest.approx([0.3])


@pytest.mark.parametrize("scale", SCALES)
def test_every_run_has_its_twin_in_the_other_precision(scale: str) -> None:
    runs = find("fast-path").at(scale)
    in_one, in_other = (
        {dataclasses.replace(run, precision="float32") for run in runs if run.precision == one}
        for one in (fast_path.PLAIN, fast_path.FAST)
    )
    assert in_one == in_other
    assert 2 * len(in_one) == len(runs)


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_the_runs_in_bfloat16_are_those_of_figure_6(scale: str) -> None:
    fast = {run.id for run in find("fast-path").at(scale) if run.precision == fast_path.FAST}
    assert fast <= {run.id for run in find("fig6").at(scale)}


def test_the_leads_tell_optimizers_apart_that_a_mean_over_them_does_not() -> None:
    records = records_of(0.0)
    gained = {("radam", "float32"): 3.0, ("radam", "bfloat16"): 5.0, ("adam", "bfloat16"): 0.5}
    for (optimizer, precision), more in gained.items():
        runs = records.runs
        of_arm = (runs["optimizer"] == optimizer) & (runs["precision"] == precision)
        runs.loc[of_arm, "test_accuracy"] += more
    leads = fast_path.leads(records)
    assert leads.mean().to_dict() == {"float32": 3.0, "bfloat16": 4.5}
    assert leads.index.tolist() == [0, 1, 2]
