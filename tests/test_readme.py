"""The README: short, and its verdicts those of the records."""

import re
from pathlib import Path

import pytest

from experiments import report
from experiments.artifact import artifacts, find, verdicts
from experiments.errors import UserError
from experiments.record import Store

README = Path(__file__).parent.parent / "README.md"


def test_the_verdicts_are_fresh() -> None:
    """``python -m experiments verdicts --write README.md`` makes them so."""
    text = README.read_text()
    assert report.refreshed(text, verdicts()) == text


def test_what_it_says_of_the_papers_scale_is_so() -> None:
    trainings = [run for one in artifacts().values() for run in one.runs.get("paper", ())]
    recorded = Store().recorded([run for run in trainings if run.optim])
    said = "no training is recorded at the paper's scale yet"
    assert (said in " ".join(README.read_text().split())) is not bool(recorded)


def test_every_claim_has_its_row() -> None:
    _, _, rest = README.read_text().partition(report.BEGIN)
    table, _, _ = rest.partition(report.END)
    for artifact in artifacts().values():
        for claim in artifact.claims:
            assert f"| {artifact.id} | {claim.text} |" in table


def test_it_fits_on_two_screens_but_for_its_verdicts() -> None:
    before, _, rest = README.read_text().partition(report.BEGIN)
    lines = (before + rest.partition(report.END)[2]).splitlines()
    assert len(lines) <= 75
    assert sum(line.startswith("![") for line in lines) == 1


def test_its_picture_and_links_are_there() -> None:
    text = README.read_text()
    for target in text.split("](")[1:]:
        address = target.partition(")")[0]
        assert address.startswith("https://") or (README.parent / address).exists()


def test_the_time_that_it_names_is_that_of_the_records() -> None:
    (said,) = (line for line in README.read_text().splitlines() if "run fig6 --scale cpu" in line)
    found = re.search(r"(\d+) to (\d+) minutes on two cores$", said)
    assert found
    low, high = map(int, found.groups())
    runs = find("fig6").at("cpu")
    lines = Store().provenance(runs)
    assert len(lines) == len(runs)
    core_minutes = sum(line["wall_seconds"] * line["threads"] for line in lines) / 60
    assert low <= core_minutes / 2 <= high


@pytest.mark.parametrize("text", ["nothing", report.BEGIN, f"{report.END}\n{report.BEGIN}"])
def test_a_document_without_markers_is_a_sentence(tmp_path: Path, text: str) -> None:
    document = tmp_path / "document.md"
    document.write_text(text)
    with pytest.raises(UserError, match="needs the lines"):
        report.refresh(document, [])
    assert document.read_text() == text
    assert list(tmp_path.iterdir()) == [document]


def test_a_document_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        report.refresh(tmp_path / "none.md", [])
