"""Runs as jobs of a real Slurm: recorded once, each, whatever happens to its job.

``tests/slurm/with_slurm.sh python -m pytest -m slurm`` brings one up for these tests.
"""

import dataclasses
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments import launch, slurm
from experiments.__main__ import main
from experiments.artifact import Artifact, artifacts
from experiments.campaign import Budget
from experiments.errors import UserError
from experiments.launch import Places
from experiments.record import Store
from experiments.slurm import Slurm
from experiments.spec import Run

pytestmark = pytest.mark.slurm


@pytest.fixture(autouse=True)
def no_job_is_left() -> Iterator[None]:
    """A test's last job may be completing when the test has ended."""
    yield
    until(lambda: queue() == [])


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(Store(tmp_path / "results"), tmp_path / "data")


def start(runs: tuple[Run, ...], places: Places, jobs: int = 9, **how: object) -> launch.Campaign:
    pairs = [("smoke", run) for run in runs]
    return launch.launch(pairs, places, jobs, quiet=True, launcher=Slurm(("time=5",)), **how)


def queue() -> list[str]:
    told = subprocess.run(["squeue", "--noheader", "--array"], capture_output=True, check=True)
    return told.stdout.decode().splitlines()


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it did not happen in two minutes")


def test_the_jobs_record_what_one_process_does(tiny: Run, places: Places, tmp_path: Path) -> None:
    """Five of them at once on three processors, all into the same tables."""
    runs = tuple(dataclasses.replace(tiny, seed=seed) for seed in range(5))
    ended = start(runs, places)
    assert {one.run for one in ended.done} == set(runs)
    assert ended.left == {}
    assert start(runs, places) == launch.Campaign()
    other = Places(Store(tmp_path / "here"), places.data_root)
    launch.launch([("smoke", run) for run in runs], other, quiet=True)
    assert places.store.table(runs).equals(other.store.table(runs))
    assert places.store.curves(runs).equals(other.store.curves(runs))
    assert list((places.store.root / ".slurm").iterdir()) == []
    assert queue() == []


def test_the_command_hands_out_an_artifact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "thm1", "fig8", "--results", str(tmp_path), "--launcher", "slurm"]
    assert main([*words, "--slurm", "time=5", "--slurm", "partition=all", "--jobs", "1"]) == 0
    assert capsys.readouterr().out.startswith("2 runs done now (0 diverged), 0 were recorded")


@pytest.mark.parametrize("blow", ["the limit of its time", "a killed process"])
def test_a_job_that_is_stopped_goes_on_from_its_checkpoint(
    tiny: Run, places: Places, blow: str
) -> None:
    """At its time limit, or preempted, Slurm sends a signal; one that is killed has no time."""
    run = dataclasses.replace(tiny, epochs=60)
    whole = launch.engine.execute(run)
    killed = blow == "a killed process"

    def strike() -> None:
        until(places.checkpoint(run).exists)
        if killed:
            os.kill(int(places.lock(run).read_text().split()[1]), signal.SIGKILL)
        else:
            (job,) = (line.split()[0] for line in queue())
            subprocess.run(["scancel", "--signal=USR2", job], check=True)
            until(lambda: "PD" in queue()[0].split())
            subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], check=True)

    striking = threading.Thread(target=strike)
    striking.start()
    if killed:
        with pytest.raises(UserError, match="was killed"):
            start((run,), places)
        assert places.store.recorded([run]) == set()
    (result,) = start((run,), places).done
    striking.join()
    assert (result.metrics, result.curves) == (whole.metrics, whole.curves)


def test_a_campaign_ends_in_time_and_leaves_no_job(tiny: Run, places: Places) -> None:
    runs = tuple(dataclasses.replace(tiny, epochs=10_000, seed=seed) for seed in range(2))
    now = time.time()
    ended = start(runs, places, jobs=1, budget=Budget(stop=now + 25, kill=now + 60))
    assert ended.done == []
    assert ended.left == {runs[0]: launch.PAUSED, runs[1]: launch.NO_TIME}
    assert places.checkpoint(runs[0]).exists()


def test_a_campaign_that_is_told_to_end_takes_its_jobs_back(tiny: Run, places: Places) -> None:
    runs = tuple(dataclasses.replace(tiny, epochs=10_000, seed=seed) for seed in range(2))
    ended = start(runs, places, jobs=1, told=places.checkpoint(runs[0]).exists)
    assert ended.left == {runs[0]: launch.CUT_OFF, runs[1]: launch.NOT_BEGUN}


def test_a_job_puts_itself_back_before_its_limit(
    tiny: Run, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which it takes for a quarter of a minute, of which Slurm knows nothing."""
    endless, job = dataclasses.replace(tiny, epochs=10_000), slurm.Job(15.0)
    monkeypatch.setattr(slurm, "Job", lambda _: job)

    def is_back() -> bool:
        return places.checkpoint(endless).exists() and any("PD" in one.split() for one in queue())

    began = time.time()
    ended = start((endless,), places, told=lambda: is_back() or time.time() > began + 120)
    assert ended.left == {endless: launch.CUT_OFF}
    assert time.time() < began + 120


def test_two_campaigns_do_nothing_twice(tiny: Run, places: Places) -> None:
    """While this one waits for its jobs, another does one of their runs here."""
    endless = dataclasses.replace(tiny, epochs=10_000)
    with launch.hold(places.lock(endless)) as held:
        assert held
        ended = start((endless, tiny), places)
    assert [one.run for one in ended.done] == [tiny]
    assert ended.left == {endless: launch.HELD}


def test_what_slurm_refuses_is_a_sentence(
    tiny: Run, places: Places, capfd: pytest.CaptureFixture[str]
) -> None:
    pairs = [("smoke", tiny)]
    with pytest.raises(UserError, match="sbatch takes no such job, and says why above"):
        launch.launch(pairs, places, 1, quiet=True, launcher=Slurm(("partition=none",)))
    assert "invalid partition" in capfd.readouterr().err
    assert queue() == []


def test_what_the_user_can_mend_in_a_job_is_a_sentence(tiny: Run, places: Places) -> None:
    """And the other jobs are taken back."""
    endless = dataclasses.replace(tiny, epochs=10_000)
    broken = dataclasses.replace(tiny, task="chess")
    with pytest.raises(UserError, match="there is no task 'chess'"):
        start((endless, broken), places)


def test_the_command_needs_no_gpu_where_it_hands_out(
    tiny: Run, tmp_path: Path, sentence: Callable[..., str]
) -> None:
    """Its jobs look for the device: none of them has one here."""
    artifacts()["some"] = Artifact("some", "some runs", (), {"smoke": (tiny,)})
    words = ("run", "some", "--results", tmp_path, "--launcher", "slurm", "--device", "cuda")
    try:
        assert "there is no device 'cuda' here" in sentence(*words)
    finally:
        del artifacts()["some"]
