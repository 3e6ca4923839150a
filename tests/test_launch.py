"""Many runs: each done once, in any number of processes, and a killed campaign goes on."""

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import engine, launch
from experiments.errors import UserError
from experiments.launch import Places
from experiments.record import Result, Store
from experiments.spec import Run, options

REPOSITORY = Path(__file__).parent.parent
MEASUREMENTS = tuple(
    Run(
        "variance",
        seed=seed,
        settings=options(quantity="samples", rho=5.0, draws=1_000),
    )
    for seed in range(3)
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(Store(tmp_path / "results"), tmp_path / "data")


def start(runs: tuple[Run, ...], places: Places, jobs: int = 1) -> list[Result]:
    return launch.launch([("smoke", run) for run in runs], places, jobs, quiet=True)


def outcomes(results: list[Result]) -> dict[str, object]:
    return {one.run.id: (one.status, one.metrics, one.curves) for one in results}


def test_what_is_recorded_is_skipped(places: Places) -> None:
    assert [one.run for one in start(MEASUREMENTS[:2], places)] == list(MEASUREMENTS[:2])
    before = places.store.provenance(MEASUREMENTS)
    assert [one.run for one in start(MEASUREMENTS, places)] == [MEASUREMENTS[2]]
    assert start(MEASUREMENTS, places) == []
    after = places.store.provenance(MEASUREMENTS)
    assert [line for line in after if line in before] == before
    assert len(after) == 3


def test_a_run_that_comes_twice_is_done_once(places: Places) -> None:
    run = MEASUREMENTS[0]
    again = Run.from_json(run.canonical_json())
    assert [one.run for one in start((run, again, run), places)] == [run]


def test_nothing_to_do_touches_nothing(places: Places) -> None:
    assert start((), places) == []
    assert not places.store.root.exists()


def test_a_checkpoint_lives_until_its_run_is_recorded(
    tiny: Run, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dataclasses.replace(tiny, epochs=1)
    seen = []

    def add(store: Store, result: Result, scale: str) -> None:
        seen.append(places.checkpoint(result.run).exists())

    monkeypatch.setattr(Store, "add", add)
    start((run,), places)
    assert seen == [True]
    assert not places.checkpoint(run).exists()


def test_nothing_is_computed_for_a_folder_that_cannot_be_written(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.store.root.write_text("a file in its place")
    monkeypatch.setattr(engine, "execute", lambda *_, **__: pytest.fail("computed"))
    with pytest.raises(UserError, match="cannot be written"):
        start(MEASUREMENTS, places)


def test_progress_reaches_the_end_whatever_the_runs_report(
    tiny: Run, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    """A measurement reports nothing, a training run every window."""
    runs = [("smoke", run) for run in (*MEASUREMENTS, dataclasses.replace(tiny, epochs=1))]
    launch.launch(runs, places)
    last = capsys.readouterr().err.split("\r")[-1]
    assert "100%" in last
    assert "4.0/4 runs" in last
    assert "loss " in last
    assert "lr " in last


def test_several_processes_give_what_one_gives(tiny: Run, places: Places, tmp_path: Path) -> None:
    runs = (tiny, dataclasses.replace(tiny, seed=1), *MEASUREMENTS)
    one = start(runs, places)
    other = Places(Store(tmp_path / "parallel"), places.data_root)
    two = start(runs, other, jobs=2)
    assert outcomes(one) == outcomes(two)
    assert places.store.table(runs).equals(other.store.table(runs))
    assert places.store.curves(runs).equals(other.store.curves(runs))
    assert multiprocessing.active_children() == []


def test_a_worker_that_was_killed_is_a_sentence(
    tiny: Run, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    monkeypatch.setattr(launch._Progress, "report", kill)  # at the first sign of life
    with pytest.raises(UserError, match="worker process was killed"):
        start((dataclasses.replace(tiny, epochs=200),), places, jobs=2)
    assert places.store.recorded([tiny]) == set()


# A campaign that is stopped from outside. The command runs in a process of its own, on an artifact
# that it puts among the others.

COMMAND = """
import os, signal, sys
from experiments import artifact, engine
from experiments.__main__ import main
from experiments.artifact import Artifact
from experiments.spec import Run

runs = tuple(Run.from_json(line) for line in sys.argv[1].splitlines())
artifact.artifacts()["some"] = Artifact("some", "some runs", (), {"smoke": runs})
kill_at = int(sys.argv[2])
whole = engine.execute


def execute(run, *, report, **places):
    def reporting(done, total, loss, lr):
        report(done, total, loss, lr)
        if run == runs[-1] and done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    return whole(run, report=reporting, **places)


engine.execute = execute
sys.exit(main(["run", "some", *sys.argv[3:]]))
"""


def campaign(
    runs: tuple[Run, ...], places: Places, *words: str, kill_at: int = 0
) -> subprocess.Popen[str]:
    """The command, in a process group of its own; killed at an update of its last run."""
    specs = "\n".join(run.canonical_json() for run in runs)
    paths = ["--results", str(places.store.root), "--data-dir", str(places.data_root)]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, specs, str(kill_at), *paths, *words],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_killed_campaign_goes_on_to_the_same_records(
    tiny: Run, places: Places, tmp_path: Path
) -> None:
    runs = (dataclasses.replace(tiny, epochs=1), tiny)
    killed = campaign(runs, places, kill_at=5)  # in the second of three epochs of three updates
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert places.store.recorded(runs) == {runs[0].id}
    assert places.checkpoint(tiny).exists()

    assert [one.run for one in start(runs, places)] == [tiny]
    assert not places.checkpoint(tiny).exists()
    whole = Places(Store(tmp_path / "whole"), places.data_root)
    start(runs, whole)
    assert places.store.table(runs).equals(whole.store.table(runs))
    assert places.store.curves(runs).equals(whole.store.curves(runs))


def test_workers_end_with_their_parent(tiny: Run, places: Places) -> None:
    """After Ctrl-C, which the whole group gets, and after a kill, which the parent alone gets."""
    endless = (dataclasses.replace(tiny, epochs=10_000),)
    blows = ("SIGINT", "SIGKILL")
    campaigns = [campaign(endless, places, "--jobs", "2") for _ in blows]
    for process, blow in zip(campaigns, blows, strict=True):
        assert process.stderr is not None
        shown = ""
        while "loss" not in shown:  # the bar shows the worker at work
            shown += process.stderr.read(1)
            assert process.poll() is None, shown
        if blow == "SIGINT":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.kill()
    # The pipes close when the last process that holds them has ended: the workers hold them too.
    (_, errors), _ = (process.communicate(timeout=120) for process in campaigns)
    assert [process.returncode for process in campaigns] == [130, -signal.SIGKILL]
    assert "Traceback" not in errors
    assert errors.endswith("\nstopped; the same command goes on from here\n")
    assert places.store.recorded(endless) == set()
