"""The progress of a campaign: live lines on a terminal, plain ones elsewhere, time left honest."""

import io
import sys
from collections.abc import Callable

import pytest

from experiments import progress
from experiments.errors import UserError
from experiments.progress import Progress
from experiments.spec import Run, options

RUNS = tuple(Run("digits", seed=seed, settings=options(points=3)) for seed in range(4))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Time stands still, but for what one adds to it."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def add(seconds: float) -> None:
        now[0] += seconds

    return add


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_say_what_ended_and_now_and_then_what_goes_on(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(4, names={RUNS[1]: "the other"}) as shown:
        for run in RUNS[:2]:
            shown.begins(run, resumed=False)
        clock(10)
        shown.report(RUNS[0], 1, 4, 2.0, 0.1)  # too early for a line
        clock(progress.LINE_SECONDS)
        shown.report(RUNS[0], 2, 4, 1.5, 0.1)
        clock(30)
        shown.ended(RUNS[0], "finished", recorded=True)
        shown.ended(RUNS[1], "in other hands", recorded=False)
    assert capsys.readouterr().err.splitlines() == [
        "digits points 3 seed 0 is 50% done, loss 1.500, lr 0.1; 0.5 of 4 runs, 14:00 left",
        "digits points 3 seed 0: finished; 1.0 of 4 runs, 06:00 left",
        "the other: in other hands; 1.0 of 4 runs, 06:00 left",
    ]


def test_what_was_done_before_says_nothing_of_the_pace(clock: Callable[[float], None]) -> None:
    with Progress(2, quiet=True) as shown:
        assert shown.left() == "time left unknown"
        shown.begins(RUNS[0], resumed=True)
        shown.report(RUNS[0], 80, 100, 1.0, 0.1)
        assert shown.left() == "time left unknown"
        clock(10)
        shown.report(RUNS[0], 90, 100, 1.0, 0.1)  # a tenth of a run in ten seconds
        assert shown.left() == "01:50 left"


def test_the_start_up_says_nothing_of_the_pace(clock: Callable[[float], None]) -> None:
    with Progress(3, quiet=True) as shown:
        shown.begins(RUNS[0], resumed=False)
        clock(60)  # to load the data
        shown.report(RUNS[0], 1, 100, 1.0, 0.1)
        assert shown.left() == "time left unknown"
        clock(10)
        shown.report(RUNS[0], 11, 100, 1.0, 0.1)
        assert shown.left() == "04:49 left"


def test_what_reports_nothing_has_a_pace_from_the_start(clock: Callable[[float], None]) -> None:
    with Progress(3, quiet=True) as shown:
        shown.begins(RUNS[0], resumed=False)
        clock(60)
        shown.ended(RUNS[0], "finished", recorded=True)
        assert shown.left() == "02:00 left"


def test_quiet_is_quiet(
    clock: Callable[[float], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for terminal in (sys.stderr, Terminal()):
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(1, quiet=True) as shown:
            clock(1000)
            shown.report(RUNS[0], 1, 2, 2.0, 0.1)
            shown.ended(RUNS[0], "finished", recorded=True)
        assert not isinstance(terminal, Terminal) or terminal.getvalue() == ""
    monkeypatch.undo()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_line_for_all_and_one_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(4) as shown:
        for run in RUNS[:2]:
            shown.report(run, 1, 2, 2.0, 0.1)
        assert len(shown.lines) == 2
        shown.ended(RUNS[0], "finished", recorded=True)
        shown.report(RUNS[0], 2, 2, 1.0, 0.1)  # a belated message opens no line again
        assert list(shown.lines) == [RUNS[1]]
        for run in RUNS[1:]:
            shown.ended(run, "finished", recorded=True)
    lines = terminal.getvalue()
    assert "all: " in lines
    assert "digits points 3 seed 0: " in lines
    assert "digits points 3 seed 1: " in lines
    assert "4.0 of 4 runs" in lines.split("\r")[-1]


def test_an_error_wipes_the_lines_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    shown = Progress(1)
    shown.report(RUNS[0], 1, 2, 2.0, 0.1)
    shown.__exit__(UserError)
    assert terminal.getvalue().rpartition("\r")[2].strip() == ""
