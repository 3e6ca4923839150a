"""The workflows: whole YAML, and every command and file that they name is there."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from pybtex.database import parse_file
from sphinx.builders import linkcheck

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in FILES}
SETTINGS = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def steps(name: str) -> Iterator[dict[str, Any]]:
    for job in WORKFLOWS[name]["jobs"].values():
        yield from job["steps"]


def commands(name: str) -> list[str]:
    return [
        line.strip() for step in steps(name) for line in step.get("run", "").splitlines() if line
    ]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_has_what_every_one_needs(name: str) -> None:
    workflow = WORKFLOWS[name]
    assert workflow["name"] == name
    assert workflow[True]  # YAML reads the key "on" as a truth value
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"] == "ubuntu-latest"
        needs = job.get("needs", [])
        assert {needs} if isinstance(needs, str) else set(needs) <= workflow["jobs"].keys()
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/x@v1"))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_a_workflow_calls_exists(name: str) -> None:
    called = commands(name)
    assert called
    for command in called:
        words = command.split()
        if words[0] == "make":
            assert words[1] in TARGETS, command
        elif words[0].startswith("."):
            script = ROOT / (words[1] if words[0].endswith("python") else words[0])
            assert script.is_file(), command
            assert words[0].endswith("python") or os.access(script, os.X_OK), command
        else:
            assert words[0] in ("git", "mv"), command


def test_the_check_of_what_is_called_finds_what_is_missing() -> None:
    assert "links" in TARGETS
    assert "nothing" not in TARGETS


def test_the_notebooks_go_where_the_buttons_point() -> None:
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    called = commands("book")
    branch, folder = repository["branch"], repository["path_to_book"]
    assert f"git switch --orphan {branch}" in called
    assert f"git push --force origin {branch}" in called
    assert f"mv _build/notebooks {folder}" in called
    assert f"git add --force {folder}" in called


def test_every_workflow_runs_as_it_should() -> None:
    on = {name: set(workflow[True]) for name, workflow in WORKFLOWS.items()}
    assert on == {
        "tests": {"push", "pull_request"},
        "book": {"push", "workflow_dispatch"},
        "weekly": {"schedule", "workflow_dispatch"},
    }
    assert any("--force" in line and "html" in line for line in commands("book"))
    assert "make links" in commands("weekly")
    assert "--force" in (ROOT / ".ci" / "run").read_text()  # what the weekly build calls


def test_notebooks_are_published_only_with_a_book_that_passes() -> None:
    jobs = WORKFLOWS["book"]["jobs"]
    assert jobs["notebooks"]["needs"] == jobs["deploy"]["needs"] == "html"
    assert "make check" in [step.get("run") for step in jobs["html"]["steps"]]


def test_binder_installs_this_repository_into_its_environment() -> None:
    script = ROOT / "binder" / "postBuild"
    assert os.access(script, os.X_OK)
    assert "pip install --no-deps" in script.read_text()
    # Where there is a folder of this name, Binder looks for its files nowhere else.
    assert (ROOT / "binder" / "environment.yml").is_file()
    assert not (ROOT / "postBuild").exists()


def test_the_link_check_is_told_what_this_sphinx_understands() -> None:
    sphinx = Mock()
    linkcheck.setup(sphinx)
    known = {call.args[0] for call in sphinx.add_config_value.call_args_list}
    used = {name for name in SETTINGS if name.startswith("linkcheck_")}
    assert "linkcheck_retries" in used <= known


def test_the_link_check_leaves_out_publishers_alone() -> None:
    works = parse_file(str(ROOT / "book" / "references.bib"), "bibtex").entries.values()
    dois = {f"https://doi.org/{one.fields['doi']}" for one in works if "doi" in one.fields}
    others = {one.fields["url"] for one in works if "url" in one.fields}
    skipped = [re.compile(pattern) for pattern in SETTINGS["linkcheck_ignore"]]
    assert dois
    assert others
    assert {link for link in dois | others if any(one.match(link) for one in skipped)} == dois
    assert all(any(one.match(link) for link in dois) for one in skipped), "a pattern skips nothing"
