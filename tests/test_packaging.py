"""`pip install .` installs radam_core and nothing else of this repository."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import radam_core

ROOT = Path(__file__).resolve().parent.parent
NOT_SOURCE = ignore_patterns(
    ".*", "__pycache__", "_build", "build", "dist", "data", "*.egg-info", "results"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this tree and the wheel that is made from the sdist."""
    folder = tmp_path_factory.mktemp("packaging")
    source = copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist")]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


def wheel(built: Path) -> zipfile.ZipFile:
    """Open the only wheel in a folder."""
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


def metadata(built: Path) -> Message:
    """Return the metadata of the wheel."""
    with wheel(built) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_radam_core_alone(built: Path) -> None:
    with wheel(built) as archive:
        names = archive.namelist()
    modules = {path.name for path in (ROOT / "radam_core").glob("*.py")} | {"py.typed"}
    assert {n for n in names if ".dist-info/" not in n} == {f"radam_core/{m}" for m in modules}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_holds_no_book_and_no_results(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        tops = {Path(name).parts[1] for name in archive.getnames() if len(Path(name).parts) > 1}
    assert {"radam_core", "pyproject.toml", "LICENSE", "README.md"} <= tops
    assert tops.isdisjoint({"book", "experiments", "tests", "tools"})


def test_the_metadata(built: Path) -> None:
    data = metadata(built)
    assert data["Name"] == "radam-core"
    assert data["Version"] == "0.1.0"
    assert data["License-Expression"] == "MIT"
    python = SpecifierSet(data["Requires-Python"])
    assert "3.10" not in python
    assert all(supported in python for supported in ("3.11", "3.12", "3.13"))


def test_the_package_needs_torch_and_numpy_alone(built: Path) -> None:
    requirements = [Requirement(text) for text in metadata(built).get_all("Requires-Dist", [])]
    core = {r.name: r.specifier for r in requirements if r.marker is None}
    assert set(core) == {"torch", "numpy"}
    assert "2.10.0" in core["torch"]
    assert "2.9.1" not in core["torch"]


def test_the_wheel_works_without_the_repository(built: Path, tmp_path: Path) -> None:
    with wheel(built) as archive:
        archive.extractall(tmp_path)
    program = (
        "import pathlib, sys, radam_core\n"
        "assert pathlib.Path(radam_core.__file__).is_relative_to(sys.argv[1])\n"
        "assert not [name for name in sys.modules if name.startswith('experiments')]\n"
        "assert 'torch._dynamo' not in sys.modules  # which takes seconds to import\n"
        "print(radam_core.RAdam.__name__)"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, sys.argv[1])\n{program}"]
    done = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == radam_core.RAdam.__name__


def test_the_citation_names_the_version_and_licence_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert f"version: {project['version']}" in citation
    assert f"license: {project['license']}" in citation
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
