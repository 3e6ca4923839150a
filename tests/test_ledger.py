"""The ledger says what the specs and the records say, and nothing else."""

import dataclasses
import re
from pathlib import Path

import pytest

from experiments import ledger, view
from experiments.artifact import artifacts, find
from experiments.campaign import Left
from experiments.record import OUT_OF_MEMORY, THEN, Result, Store
from experiments.spec import Optim, Run, options

SOME = Run("digits", Optim("sgd", 0.1))
LINE = {"device": "cpu", "threads": 2, "wall_seconds": 1800.0, "platform": "Linux-6-x86"}


def test_a_processor_is_paid_by_the_core_and_a_gpu_by_its_share() -> None:
    gpu = {"device": "Some GPU", "threads": None, "wall_seconds": 3600.0, "side_by_side": 4}
    assert ledger.cost([LINE, LINE, gpu]) == {"cpu": 2.0, "Some GPU": 0.25}
    assert ledger.time([LINE, gpu]) == "1.00 core-hours and 15.0 minutes of Some GPU"
    assert ledger.cost([{**LINE, "processes": 3}]) == {"cpu": 3.0}
    assert ledger.cost([{**gpu, "side_by_side": 1, "processes": 8}]) == {"Some GPU": 8.0}
    assert ledger.time([{**LINE, "wall_seconds": 3.0}]) == "under a core-minute"
    assert ledger.time([]) == ""


def test_machines_of_a_kind_are_one() -> None:
    other = {**LINE, "platform": "macOS-15-arm64", "versions": {"torch": "2.15.0"}}
    assert ledger.made_on([LINE, LINE, other]) == {
        "cpu, Linux, torch unknown": 2,
        "cpu, macOS, torch 2.15.0": 1,
    }


def test_the_time_on_each_kind_of_machine_names_it_once() -> None:
    gpu = {**LINE, "device": "Some GPU", "versions": {"torch": "2.15.0"}, "side_by_side": 2}
    assert ledger.time_on([LINE, gpu, LINE]) == (
        "2.00 core-hours on cpu, Linux, torch unknown; "
        "15.0 minutes on Some GPU, Linux, torch 2.15.0"
    )


KNOWN = {**LINE, "processor": "some", "versions": {"torch": "2.15.0"}}
GPU = {**KNOWN, "device": "a GPU"}


@pytest.mark.parametrize(
    ("one", "other", "unlike"),
    [
        (LINE, {**LINE, "device": "a GPU"}, True),
        (KNOWN, LINE, False),  # an older record
        (KNOWN, {**KNOWN, "processor": "another"}, True),
        (KNOWN, {**KNOWN, "processor": f"some{THEN}another"}, True),
        (GPU, {**GPU, "processor": "another"}, False),
        (GPU, {**GPU, "versions": {"torch": "2.16.0"}}, True),
    ],
)
def test_a_seed_with_runs_from_unlike_machines_is_told(
    tmp_path: Path, one: dict[str, object], other: dict[str, object], unlike: bool
) -> None:
    store = Store(tmp_path)
    runs = [run for run in find("fig6").at("smoke") if run.seed == 0]
    for run, line in zip(runs, (one, other), strict=False):
        store.add(Result(run, "finished", {"a": 1.0}, [], line), "smoke")
    assert ("fig6" in ledger.across_devices(store)) == unlike
    assert "fig8" not in ledger.across_devices(store)


def test_artifacts_share_runs_both_ways() -> None:
    runs = {name: {run.id for run in find(name).at("cpu")} for name in ("fig6", "fig7")}
    both = len(runs["fig6"] & runs["fig7"])
    assert both > 0
    assert ledger.shared(find("fig6"), "cpu")["fig7"] == both
    assert ledger.shared(find("fig7"), "cpu")["fig6"] == both
    assert {"fig6", "table1"}.isdisjoint(ledger.shared(find("fig6"), "cpu"))  # one entry
    assert "fig8" not in ledger.shared(find("fig6"), "cpu")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One seed of the smoke runs of fig8 (a measurement), as if it had been recorded."""
    (run,) = find("fig8").at("smoke")
    store = Store(tmp_path)
    provenance = {**LINE, "versions": {"torch": "2.15.0"}}
    curves = [(1.0, "exact", "variance", 0.5)]
    store.add(Result(run, "finished", {"fall": 2.0}, curves, provenance), "smoke")
    return store


def test_a_run_that_had_no_memory_counts_nowhere(store: Store, tiny: Run) -> None:
    before = ledger.time_on(store.settled())
    store.add(Result(tiny, OUT_OF_MEMORY, {}, [], {"device": "cpu", "threads": 2}), "smoke")
    (line,) = store.settled()
    assert line["status"] == "finished"
    assert ledger.time_on(store.settled()) == before


def test_an_entry_counts_what_is_recorded(store: Store) -> None:
    smoke, paper = ledger.records(find("fig8"), store).to_dict("records")
    assert smoke == {
        "scale": "smoke",
        "runs planned": "1",
        "recorded": "1",
        "seeds": "1 of 1",
        "on": "cpu, Linux, torch 2.15.0 (1)",
        "time": "1.00 core-hours",
        "shares runs with": "none",
    }
    assert paper["recorded"] == "0"
    assert paper["on"] == paper["time"] == "–"


def test_the_size_of_a_record_is_that_of_its_lines(store: Store, tiny: Run) -> None:
    (run,) = find("fig8").at("smoke")
    store.add(Result(tiny, "finished", {"a": 1.0}, [], LINE), "smoke")
    found = ledger.sizes(store)
    heads = sum(len(path.read_text().splitlines(True)[0]) for path in store.root.glob("*/*.csv"))
    whole = sum(path.stat().st_size for path in store.root.glob("*/*.*"))
    assert found.keys() == {run.id, tiny.id}
    assert sum(found.values()) == whole - heads


def test_costs_tell_what_is_left(store: Store) -> None:
    (row,) = (
        one for one in ledger.costs("smoke", store).to_dict("records") if one["artifact"] == "fig8"
    )
    assert row["runs"] == "1 of 1"
    assert row["time left"] == "none"
    (row,) = (
        one for one in ledger.costs("paper", store).to_dict("records") if one["artifact"] == "fig6"
    )
    assert row["time taken"] == "–"
    assert row["time left"] == "not known"


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (Left(3.2), "3.20 hours on cpu"),
        (Left(0.0, 3.2), "3.20 hours on cpu (rehearsed)"),
        (Left(3.2, 0.5), "3.70 hours on cpu (30.0 minutes of it rehearsed)"),
        (Left(3.2, 0.0, (SOME,) * 2), "at least 3.20 hours on cpu, 2 runs unknown"),
        (Left(0.0, 0.5, (SOME,)), "at least 30.0 minutes on cpu (rehearsed), 1 run unknown"),
        (Left(0.01, 0.0, (SOME,)), "under a minute on cpu, 1 run unknown"),
        (Left(0.0, 0.0, (SOME,)), "not known"),
        (Left(), "under a minute on cpu"),
    ],
)
def test_what_is_left_tells_the_recorded_from_the_rehearsed_and_the_unknown(
    left: Left, says: str
) -> None:
    assert ledger.left(left, " on cpu") == says


def test_a_device_that_is_known_in_part_is_told_where_none_is_known_to_the_end(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    known = {"a": Left(2.0, 0.0, (SOME,)), "b": Left(unknown=(SOME,))}
    monkeypatch.setattr(ledger, "hours_left", lambda runs, store: known)
    assert ledger._left((), store) == "at least 2.00 hours on a, 1 run unknown"
    known["c"] = Left(3.0)
    assert ledger._left((), store) == "3.00 hours on c"


@pytest.fixture(scope="module")
def entries() -> dict[str, str]:
    """The entry of each artifact, by its anchor."""
    return {
        name: entry.data
        for entry in view.entries()
        for name in re.findall(r'id="ledger-([^"]+)"', entry.data)
    }


def test_the_ledger_has_every_artifact_scale_and_deviation(entries: dict[str, str]) -> None:
    assert entries.keys() == artifacts().keys()
    for name, artifact in artifacts().items():
        assert f"\n**{name}**: {artifact.title}\n" in entries[name]
        for scale in artifact.runs:
            assert f"\n| {scale} | {len(artifact.at(scale)):,} |" in entries[name]
            for one in artifact.deviations.get(scale, ()):
                assert f"\n| {scale} | `{one.axis}` | {one.paper} |" in entries[name]


def test_artifacts_of_the_same_runs_share_an_entry(entries: dict[str, str]) -> None:
    assert entries["fig1"] == entries["fig2"] == entries["fig3"]
    assert entries["fig6"] != entries["fig7"]  # some of the runs, not all
    names = [one.id for group in ledger.groups() for one in group]
    assert sorted(names) == sorted(artifacts())


def test_an_entry_is_folded_and_its_summary_says_what_is_recorded(
    entries: dict[str, str], store: Store
) -> None:
    for entry in entries.values():
        assert entry.startswith("<details")
        assert entry.rstrip().endswith("\n\n</details>")  # a blank line ends the table before
    assert ledger.state(find("fig8"), store) == (
        "runs recorded: smoke 1 of 1, paper 0 of 1; 1.00 core-hours"
    )
    assert ledger.state(find("fig6"), store).endswith("; no time yet")


def test_an_entry_without_the_papers_scale_says_that_it_goes_past_the_paper(
    entries: dict[str, str],
) -> None:
    past = {name for name, entry in entries.items() if "It goes past the paper" in entry}
    assert past == {
        name
        for name, one in artifacts().items()
        if "paper" not in one.runs and not any(one.deviations.values())
    }
    assert "sparse-words" in past


def test_values_are_read_from_the_runs() -> None:
    base = Run("digits", Optim("sgd", 0.1), settings=options(width=(1_000, 20)))
    runs = (base, dataclasses.replace(base, epochs=3))
    assert ledger.on_axis(runs, "width") == "1,000, 20"
    assert ledger.on_axis(runs, "epochs") == "0; 3"
    assert ledger.on_axis(runs, "absent") == "none"
