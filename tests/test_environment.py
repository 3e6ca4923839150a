"""pyproject.toml, requirements.lock and environment.yml describe one environment: this one.

binder/environment.yml has a part of it.
"""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tools.book import notebooks
from tools.lock import FROM_CONDA, binder_environment, conda_environment, pins

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = (ROOT / "environment.yml").read_text(encoding="utf-8")
BINDER = (ROOT / "binder" / "environment.yml").read_text(encoding="utf-8")


def direct_requirements() -> list[Requirement]:
    """Return what pyproject.toml asks for, with every extra."""
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(text) for part in (PROJECT["dependencies"], *extras) for text in part]


def locked_here() -> dict[str, str]:
    """Return the pinned version of every package that the lock installs on this system."""
    requirements = [Requirement(pin) for pin in pins(LOCK)]
    here = [r for r in requirements if r.marker is None or r.marker.evaluate()]
    found = {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in here}
    assert len(found) == len(here), "the lock pins one package twice for one system"
    return found


def everything_required() -> list[Requirement]:
    """Return every requirement that holds here, direct or not, as the packages declare them."""
    queue = direct_requirements()
    seen: dict[str, Requirement] = {}
    while queue:
        requirement = queue.pop()
        if str(requirement) in seen:
            continue
        seen[str(requirement)] = requirement
        for text in requires(requirement.name) or []:
            nested = Requirement(text)
            extras = requirement.extras or {""}
            if nested.marker is None or any(nested.marker.evaluate({"extra": e}) for e in extras):
                queue.append(nested)
    return list(seen.values())


def test_the_lock_holds_plain_pins() -> None:
    for pin in pins(LOCK):
        name, _, marker = pin.partition(" ; ")
        assert re.fullmatch(r"[a-z0-9-]+==[A-Za-z0-9.]+", name), pin
        assert "/" not in marker


def test_every_requirement_is_locked_at_a_version_that_satisfies_it() -> None:
    locked = locked_here()
    unmet = [
        str(requirement)
        for requirement in everything_required()
        if locked.get(canonicalize_name(requirement.name)) not in requirement.specifier
    ]
    assert not unmet, "pyproject.toml has changed: run `make lock`"


def test_every_locked_package_is_required() -> None:
    required = {canonicalize_name(requirement.name) for requirement in everything_required()}
    assert set(locked_here()) <= required, "pyproject.toml has changed: run `make lock`"


def test_what_is_installed_is_what_is_locked() -> None:
    locked = locked_here()
    assert {name: version(name) for name in locked} == locked, "run `make env`"


def test_conda_gets_the_pins_of_the_lock() -> None:
    assert conda_environment(LOCK) == CONDA, "the lock has changed: run `make lock`"
    packages = yaml.safe_load(CONDA)["dependencies"]
    assert [p for p in packages if isinstance(p, dict)] == [{"pip": pins(LOCK)}]


def test_conda_names_channels_and_packages_only() -> None:
    environment = yaml.safe_load(CONDA)
    assert set(environment) == {"name", "channels", "dependencies"}
    assert environment["channels"] == ["conda-forge"]
    assert "://" not in CONDA + LOCK


def test_conda_has_a_python_that_the_project_supports() -> None:
    pythons = [p for p in yaml.safe_load(CONDA)["dependencies"] if str(p).startswith("python=")]
    assert len(pythons) == 1
    python = pythons[0].removeprefix("python=")
    assert python in SpecifierSet(PROJECT["requires-python"])
    assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]


def binder_packages() -> tuple[list[Requirement], list[Requirement]]:
    """Return what Binder's environment takes from conda-forge, and what pip then adds."""
    *conda, by_pip = yaml.safe_load(BINDER)["dependencies"]
    packages = [text for text in conda if text != "pip" and not text.startswith("python=")]
    return list(map(Requirement, packages)), list(map(Requirement, by_pip["pip"]))


def test_binder_gets_the_pins_of_the_lock_and_no_cuda() -> None:
    assert binder_environment(LOCK, PROJECT) == BINDER, "the lock has changed: run `make lock`"
    conda, by_pip = binder_packages()
    assert {str(one) for one in by_pip} <= {str(Requirement(pin)) for pin in pins(LOCK)}
    assert all(str(one.specifier).startswith("==") for one in by_pip)
    # torchvision of the package index wants its own torch, which brings CUDA along.
    assert not {one.name for one in by_pip} & {"torch", "torchvision", "triton"}
    locked = locked_here()
    assert {one.name for one in conda} == set(FROM_CONDA.values())
    for name, called in FROM_CONDA.items():
        (asked,) = (one for one in conda if one.name == called)
        assert locked[name] in asked.specifier
    assert len(by_pip) < len(pins(LOCK)) / 5


def cells(page: Path) -> str:
    """The code of a page that runs; a line of another language than Python is left out."""
    found = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)
    return "\n".join(line for cell in found for line in cell.split("\n") if line[:1] not in ":!%")


def imported() -> set[str]:
    """The packages that the notebooks' cells, or what they call, import wherever it stands."""
    modules = (path.read_text("utf-8") for path in (ROOT / "experiments").rglob("*.py"))
    names: set[str] = set()
    for code in (*map(cells, notebooks()), *modules):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(str(node.module).partition(".")[0])
    distributions = packages_distributions()
    found = {one for name in names - sys.stdlib_module_names for one in distributions.get(name, [])}
    return {canonicalize_name(name) for name in found} - {"radam-core"}


def test_binder_has_what_the_notebooks_import() -> None:
    _, by_pip = binder_packages()
    names = {one.name for one in by_pip} | set(FROM_CONDA)
    along = {"ipython", "matplotlib-inline", "huggingface-hub"}  # ipykernel and datasets need them
    assert {"torch", "scikit-learn", "optax", "lightning"} <= imported()
    assert imported() <= names | along
