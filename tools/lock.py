"""Write requirements.lock and the environments for conda from pyproject.toml (`make lock`).

The lock pins every package that radam_core and the extras of pyproject.toml need, directly or not,
on Linux and macOS and on Python 3.11 to 3.13. Pins that still fit are kept; `--upgrade` renews all.
environment.yml holds the same pins for conda, and binder/environment.yml those that the notebooks
need, with a PyTorch for the CPU: Binder cannot build more.
"""

import argparse
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LOCK_HEADER = "# Written by `make lock` from pyproject.toml. Do not edit.\n"
CONDA_HEADER = """\
# Written by `make lock` from requirements.lock. Do not edit.
name: radam
channels:
  - conda-forge
dependencies:
  - python=3.13
  - pip
  - pip:
"""
BINDER_HEADER = """\
# Written by `make lock` from requirements.lock. Do not edit. It has not been tried on Binder.
# PyTorch, and what goes with its build, is conda-forge's: for the CPU, and as new as it has it.
# What else the notebooks need has the versions of the lock.
name: radam
channels:
  - conda-forge
dependencies:
  - python=3.13
"""
FROM_CONDA = {
    "torch": "pytorch-cpu",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "pillow": "pillow",
}
"""What the notebooks have from conda-forge on Binder, and what it is called there."""
NOTEBOOKS = ("experiments", "peers", "integrations")
"""The extras of pyproject.toml that the notebooks need, beside what shows them."""


def pins(lock_text: str) -> list[str]:
    """Return the `name==version [; marker]` lines of a lock, without its comments."""
    lines = (line.strip() for line in lock_text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def conda_environment(lock_text: str) -> str:
    """Return the text of environment.yml for a lock: the same pins, installed by pip."""
    # A marker holds quotes and a comment sign would end a plain scalar, so each pin is quoted.
    return CONDA_HEADER + "".join(f'      - "{pin}"\n' for pin in pins(lock_text))


def binder_environment(lock_text: str, project: dict[str, Any]) -> str:
    """Return the text of binder/environment.yml: what the notebooks need, without CUDA.

    Parameters
    ----------
    lock_text
        The lock.
    project
        The table ``project`` of pyproject.toml.
    """
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for name in NOTEBOOKS for text in extras[name])]
    wanted = [Requirement(text) for text in (*texts, "ipykernel", "myst-nb", "setuptools")]
    lines = [
        f'  - "{FROM_CONDA[one.name]}{one.specifier}"\n' for one in wanted if one.name in FROM_CONDA
    ]
    names = {one.name for one in wanted} - FROM_CONDA.keys()
    locked = [pin for pin in pins(lock_text) if Requirement(pin).name in names]
    return (
        BINDER_HEADER
        + "".join(lines)
        + "  - pip\n  - pip:\n"
        + "".join(f'      - "{pin}"\n' for pin in locked)
    )


def resolve(lock: Path, *, upgrade: bool) -> None:
    """Resolve the requirements of pyproject.toml and write `lock`, one version per package."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"]
    command += ["--python-version", "3.11", "--fork-strategy", "fewest", "--all-extras"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--upgrade"] * upgrade
    command += ["pyproject.toml", "--output-file", str(lock)]
    subprocess.run(command, cwd=ROOT, check=True)
    lock.write_text(LOCK_HEADER + "".join(f"{pin}\n" for pin in pins(lock.read_text())))


def main() -> int:
    """Write the files and say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="renew every pin")
    arguments = parser.parse_args()
    lock = ROOT / "requirements.lock"
    try:
        resolve(lock, upgrade=arguments.upgrade)
    except subprocess.CalledProcessError as failure:
        return failure.returncode
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    binder = binder_environment(lock.read_text(), pyproject["project"])
    (ROOT / "environment.yml").write_text(conda_environment(lock.read_text()))
    (ROOT / "binder" / "environment.yml").write_text(binder)
    print("wrote requirements.lock and environment.yml, for Binder too; `make env` installs them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
