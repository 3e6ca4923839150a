"""pyproject.toml, requirements.lock and environment.yml describe one environment: this one."""

import re
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tools.lock import conda_environment, pins

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = (ROOT / "environment.yml").read_text(encoding="utf-8")


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
