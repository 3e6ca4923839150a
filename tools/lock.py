"""Write requirements.lock and environment.yml from pyproject.toml (`make lock`).

The lock pins every package that radam_core and the extras of pyproject.toml need, directly or not,
on Linux and macOS and on Python 3.11 to 3.13. Pins that still fit are kept; `--upgrade` renews all.
environment.yml holds the same pins for conda.
"""

import argparse
import subprocess
import sys
from pathlib import Path

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


def pins(lock_text: str) -> list[str]:
    """Return the `name==version [; marker]` lines of a lock, without its comments."""
    lines = (line.strip() for line in lock_text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def conda_environment(lock_text: str) -> str:
    """Return the text of environment.yml for a lock: the same pins, installed by pip."""
    # A marker holds quotes and a comment sign would end a plain scalar, so each pin is quoted.
    return CONDA_HEADER + "".join(f'      - "{pin}"\n' for pin in pins(lock_text))


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
    """Write both files and say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="renew every pin")
    arguments = parser.parse_args()
    lock = ROOT / "requirements.lock"
    try:
        resolve(lock, upgrade=arguments.upgrade)
    except subprocess.CalledProcessError as failure:
        return failure.returncode
    (ROOT / "environment.yml").write_text(conda_environment(lock.read_text()))
    print("wrote requirements.lock and environment.yml; `make env` installs them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
