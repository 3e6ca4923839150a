"""What several test files share: one thread, tiny runs, and the records of every smoke run."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: results depend on the threads

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from experiments.artifact import artifacts
from experiments.record import Store
from experiments.spec import Optim, Run, Schedule, options

settings.register_profile("radam", deadline=None)  # no test judges by the clock
settings.load_profile("radam")

TINY = Run(
    task="digits",
    optim=Optim("radam", lr=0.03, weight_decay=1e-4),
    schedule=(
        Schedule("LinearWarmup", options(steps=4)),
        Schedule("StepDecay", options(milestones=(2,), gamma=0.1), unit="epoch"),
    ),
    epochs=3,
    batch_size=32,
    settings=options(depth=8, train_images=80, validation_images=40, augment=True),
)
"""Three epochs of three updates, the last batch of each smaller: a fraction of a second."""


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Heed Ctrl-C, here and in what the tests start.

    A shell starts what runs in its background with Ctrl-C ignored, and that is inherited.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def hangup() -> Iterator[None]:
    """Heed SIGHUP, here and in what the test starts: who was started by nohup ignores it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def tiny() -> Run:
    return TINY


@pytest.fixture(scope="session")
def smoke_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The records of every artifact's smoke runs, made once for all workers of pytest-xdist."""
    from experiments import launch

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    store = Store(shared / "smoke")
    runs = [("smoke", run) for one in artifacts().values() for run in one.runs.get("smoke", ())]
    places = launch.Places(store, data_root=shared / "data")
    # The other workers wait for these records: their cores are free.
    jobs = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    with FileLock(shared / "smoke.lock"):
        launch.launch(runs, places, jobs, quiet=True)
    return store


@pytest.fixture
def sentence(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail for the user's reasons; its one sentence."""
    from experiments.__main__ import main

    def run(*words: str | Path) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        last = shown.err.rpartition("\r")[2]  # a bar that had begun is wiped out
        assert last.startswith("error: ")
        assert shown.err.count("\n") == 1
        assert last.endswith("\n")
        return last

    return run
