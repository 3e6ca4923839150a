"""The commands behind ``python -m experiments``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from experiments import campaign, ledger, report, yours
from experiments.artifact import Artifact, artifacts, best_scale, check_scale, find, verdicts
from experiments.errors import UserError
from experiments.hold import hold
from experiments.record import ROOT, Store
from experiments.spec import SCALES, Optim, Run
from experiments.stopping import Stopping
from experiments.verdict import Verdict, to_json

if TYPE_CHECKING:
    from experiments.launch import Places
    from experiments.slurm import Slurm

REPOSITORY = Path(__file__).parent.parent
DATA = "RADAM_DATA"
ALL = "all"


def list_artifacts(_: argparse.Namespace) -> None:
    """Every artifact: what it shows, and the scales at which it can be run."""
    rows = [
        {
            "artifact": artifact.id,
            "scales": " ".join(artifact.runs) or "not built yet",
            "claims": len(artifact.claims),
            "what it shows": artifact.title,
        }
        for artifact in artifacts().values()
    ]
    print(report.plain(pd.DataFrame(rows)))


def run(arguments: argparse.Namespace) -> None:
    """Carry out what is outstanding of some artifacts."""
    # torch takes seconds to import: only what computes needs it
    from experiments import engine, group, machine

    launcher = _launcher(arguments)
    with arguments.stopping.noted() as told, group.joined(arguments.device) as arguments.device:
        if launcher is None:
            machine.find_device(arguments.device)
        if group.current().leads:
            _run(arguments, launcher, told)
        else:
            engine.follow(arguments.device, arguments.data_dir, arguments.compile)


def _run(arguments: argparse.Namespace, launcher: Slurm | None, told: Callable[[], bool]) -> None:
    from experiments import group, launch

    chosen = list(_those_named(arguments, arguments.scale).values())
    studies = [artifact.at(arguments.scale) for artifact in chosen]
    _check_others(chosen)
    runs = [(arguments.scale, one) for one in campaign.in_order(studies)]
    store = Store(arguments.results)
    if arguments.again and arguments.optimizer is None:
        raise UserError("--again belongs to an --optimizer; name that too")
    budget = None
    if arguments.time_budget:
        budget = campaign.Budget.of(campaign.seconds(arguments.time_budget), arguments.began)
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UserError(f"--jobs {arguments.jobs} starts no process; give 1 or more")
    jobs = arguments.jobs or (1 if launcher is None else len(runs))
    if jobs > 1 and group.current().size > 1:
        raise UserError("the processes of torchrun share one run at a time; leave out --jobs")
    if arguments.tensorboard is not None:
        from experiments import tensorboard

        tensorboard.prepare(arguments.tensorboard)
    places = launch.Places(
        store, arguments.data_dir, arguments.device, arguments.compile, arguments.tensorboard
    )

    def tell(ended: launch.Campaign) -> None:
        left = list(ended.left.values())
        print(report.campaign(ended.done, left, len(ended.meanwhile), len(runs), store.root))
        if budget and left and not ended.done:
            print("no run ended in that time; where the same command gets no further, give it more")

    if chosen[0].other is not None:
        _heed_changes([one for _, one in runs], chosen[0].other, places, arguments.again)
    try:
        tell(launch.launch(runs, places, jobs, budget=budget, launcher=launcher, told=told))
    except launch.Unfinished as error:
        tell(error.campaign)
        raise


def _check_others(chosen: Iterable[Artifact]) -> None:
    """Build each optimizer of the reader's own once, before anything is run."""
    from experiments import optimizers

    for other in {artifact.other for artifact in chosen if artifact.other}:
        optimizers.check(other)


def _heed_changes(runs: Iterable[Run], other: Optim, places: Places, again: bool) -> None:
    """Say of which runs an optimizer of the reader's own was another; drop them if that is asked.

    Whoever drops a run has its data, holds it, and judges it then.
    """
    from experiments import engine, optimizers, tasks
    from experiments.machine import find_device

    store, now = places.store, list(optimizers.sources(other))
    runs = [
        run
        for run in runs
        if run.optim is not None
        and run.optim.name == other.name
        and (store.checkpoint(run.id).exists() or store.provenance([run]))
    ]
    for like in {campaign.likenesses(run)[0] for run in runs if again}:
        tasks.load(like, places.data_root, find_device("cpu"))
    found: Counter[str] = Counter()
    for run in runs:
        checkpoint = store.checkpoint(run.id)
        with hold(store.lock(run.id)) if again else nullcontext(True) as ours:
            recorded = [line.get("optimizer_sources", now) for line in store.provenance([run])]
            begun = [engine.begun_with(checkpoint)] if checkpoint.exists() else []
            changed = [sources for sources in recorded + begun if sources != now]
            if not changed:
                continue
            if changed != [None]:  # else nobody knows, and the run says that it cannot be read
                found["recorded" if recorded else "begun"] += 1
                found["held"] += not ours
            if again and ours:
                store.forget([run])
                checkpoint.unlink(missing_ok=True)
    if not found.total():
        return
    fate = "with --again they start anew"
    if again:
        held = f", but for {found['held']} that others are at" if found["held"] else ""
        fate = f"they start anew{held}"
    print(
        f"{other.name} is not what it was when {found['recorded']} of its runs were recorded and "
        f"{found['begun']} begun; {fate}",
        file=sys.stderr,
    )


def _varied(name: str, arguments: argparse.Namespace) -> Artifact:
    """An artifact, with the settings that are asked for."""
    settings: dict[str, object] = {}
    for words in arguments.set:
        key, equals, value = words.partition("=")
        if not (key and equals):
            raise UserError(f"--set {words} sets nothing; write NAME=VALUE, as in corpus=wmt16")
        try:
            settings[key] = json.loads(value)
        except ValueError:  # words need no quotation marks
            settings[key] = value
    return find(name).varied(**settings)


def _chosen(name: str, arguments: argparse.Namespace) -> Artifact:
    """The same, with an optimizer of the reader's own beside it where one is named."""
    artifact = _varied(name, arguments)
    if arguments.optimizer is None:
        if arguments.optimizer_args is not None:
            raise UserError("--optimizer-args belongs to an --optimizer; name that too")
        return artifact
    return yours.beside(artifact, arguments.optimizer, arguments.optimizer_args)


def _those_named(arguments: argparse.Namespace, scale: str | None = None) -> dict[str, Artifact]:
    """The artifacts that are named, with the runs of the seeds that are asked for.

    "all", or no name, stands for all that take the options beside. Where a scale is given, they
    must have runs at it.
    """
    found: dict[str, Artifact] = {}
    for name in arguments.artifact or [ALL]:
        if name == ALL:
            found |= _all(arguments, scale)
        else:
            found[name] = _chosen_at(scale, name, arguments)
    if arguments.seeds is None:
        return found
    return _of_seeds(found, campaign.seeds(arguments.seeds), SCALES if scale is None else [scale])


def _all(arguments: argparse.Namespace, scale: str | None) -> dict[str, Artifact]:
    able = [name for name, one in artifacts().items() if one.yours or not arguments.optimizer]
    found = {}
    for name in able:
        try:
            found[name] = _chosen_at(scale, name, arguments)
        except UserError as error:
            refused = error
    if not found:
        raise refused
    return found


def _chosen_at(scale: str | None, name: str, arguments: argparse.Namespace) -> Artifact:
    artifact = _chosen(name, arguments)
    if scale is not None:
        artifact.at(scale)  # says so where it has no runs there
    return artifact


def _of_seeds(
    chosen: Mapping[str, Artifact], wanted: Iterable[range], scales: Iterable[str]
) -> dict[str, Artifact]:
    """Some artifacts, with their runs of some seeds alone; each seed must be that of a run."""
    planned = {
        run.seed for one in chosen.values() for scale in scales for run in one.runs.get(scale, ())
    }
    for seed in (seed for part in wanted for seed in part):
        if seed not in planned:
            known = ", ".join(map(str, sorted(planned)))
            raise UserError(f"no planned run has seed {seed}; their seeds are {known}")

    def some(runs: tuple[Run, ...]) -> tuple[Run, ...]:
        return tuple(run for run in runs if any(run.seed in part for part in wanted))

    return {
        name: replace(one, runs={scale: some(runs) for scale, runs in one.runs.items()})
        for name, one in chosen.items()
    }


def _launcher(arguments: argparse.Namespace) -> Slurm | None:
    """What hands out the runs, if not processes of this machine."""
    if arguments.launcher == "local":
        if arguments.slurm:
            raise UserError("--slurm gives options to --launcher slurm; name that too")
        return None
    if arguments.launcher != "slurm":
        raise UserError(f"there is no launcher {arguments.launcher!r}; use local or slurm")
    from experiments.slurm import Slurm

    return Slurm(tuple(arguments.slurm))


def counts(artifact: Artifact, store: Store) -> dict[str, dict[str, int]]:
    """For each scale, how many runs are planned, recorded, and begun: with a checkpoint."""
    found = {}
    for scale in SCALES:
        runs = artifact.runs.get(scale, ())
        recorded = store.recorded(runs)
        begun = [run for run in runs if store.checkpoint(run.id).exists()]
        found[scale] = {
            "planned": len(runs),
            "recorded": len(recorded),
            "begun": sum(run.id not in recorded for run in begun),
        }
    return found


def _counted(at: Mapping[str, int]) -> str:
    if not at["planned"]:
        return "-"
    begun = f", {at['begun']} begun" if at["begun"] else ""
    return f"{at['recorded']} of {at['planned']}{begun}"


def status(arguments: argparse.Namespace) -> None:
    """What is planned, what is recorded and what is begun."""
    check_scale(arguments.scale)
    store = Store(arguments.results)
    chosen = _those_named(arguments, arguments.scale if arguments.estimate else None)
    if not store.root.is_dir():
        print(f"there is no folder {store.root} yet, and so no record", file=sys.stderr)
    if arguments.estimate:
        studies = {name: artifact.at(arguments.scale) for name, artifact in chosen.items()}
        _estimate(studies, store, arguments.scale, arguments.json)
        return
    state = {name: counts(artifact, store) for name, artifact in chosen.items()}
    if arguments.json:
        print(json.dumps(state, indent=2))
        return
    rows = [
        {"artifact": name} | {scale: _counted(at) for scale, at in scales.items()}
        for name, scales in state.items()
    ]
    print(report.plain(pd.DataFrame(rows)))


def _estimate(
    studies: Mapping[str, tuple[Run, ...]], store: Store, scale: str, as_json: bool
) -> None:
    """How many runs are outstanding at a scale, and for how long, artifact by artifact."""
    studies = _with_all(studies)
    hours = {name: campaign.hours_left(runs, store) for name, runs in studies.items()}
    if as_json:
        found = {
            name: {
                "left": len(campaign.outstanding(runs, store)),
                "taken": ledger.cost(ledger.settled(runs, store)),
                "hours": _counting(hours[name]),
                "planned": _counting(campaign.hours_planned(runs, store)),
            }
            for name, runs in studies.items()
        }
        print(json.dumps(found, indent=2))
        return
    print(_times(studies, hours, list(hours[ALL]), store))
    outstanding = campaign.outstanding(studies[ALL], store)
    unknown = [left.unknown for left in hours[ALL].values()] or [tuple(outstanding)]
    if any(run.optim for runs in unknown for run in runs):
        print(
            "What is not known is measured, by some updates of every kind of run, with "
            f"`python -m experiments rehearse --scale {scale} --device DEVICE`."
        )


def _counting(hours: Mapping[str, campaign.Left]) -> dict[str, dict[str, object]]:
    """For JSON: how many runs are unknown, in place of these."""
    return {device: {**vars(of), "unknown": len(of.unknown)} for device, of in hours.items()}


def _with_all(studies: Mapping[str, tuple[Run, ...]]) -> dict[str, tuple[Run, ...]]:
    """Some studies, and what they are together: what they share is done once."""
    return {**studies, ALL: tuple(campaign.in_order(list(studies.values())))}


def _times(
    studies: Mapping[str, tuple[Run, ...]],
    hours: Mapping[str, Mapping[str, campaign.Left]],
    devices: Sequence[str],
    store: Store,
) -> str:
    """What the recorded runs of each study took, and what the others will on some devices.

    Where a device was rehearsed, also what all of them, the recorded too, take at that pace.
    """
    rows = []
    paced = campaign.hours_planned(studies[ALL], store)
    for name, runs in studies.items():
        planned = campaign.hours_planned(runs, store)
        outstanding = tuple(campaign.outstanding(runs, store))
        taken = ledger.time(ledger.settled(runs, store)) or "-"
        row = {"artifact": name, "runs left": str(len(outstanding)), "time taken": taken}
        for device in devices:
            left = hours[name].get(device, campaign.Left(unknown=outstanding))
            row[f"left on {device}"] = ledger.left(left) if outstanding else "none"
            if device in paced and paced[device].rehearsed:
                of = planned[device]
                row[f"all planned on {device}"] = ledger.left(of) if of.rehearsed else "-"
        rows.append(row)
    table = report.plain(pd.DataFrame(rows))
    if any(hours[ALL][device].rehearsed for device in devices if device in hours[ALL]):
        table += (
            "\nWhat is rehearsed is the time of the updates, at the pace that `rehearse` found, "
            "with evaluations only where epochs ended meanwhile; the rest is that of like runs on "
            "record."
        )
    return table


def rehearse(arguments: argparse.Namespace) -> None:
    """Some updates of every kind of run: what cannot run here, and how long the rest takes."""
    from experiments import rehearsal
    from experiments.machine import describe, find_device

    where = find_device(arguments.device)
    chosen = _those_named(arguments, arguments.scale)
    studies = {name: artifact.at(arguments.scale) for name, artifact in chosen.items()}
    _check_others(chosen.values())
    store, studies = Store(arguments.results), _with_all(studies)
    with store.writing():
        outstanding = campaign.outstanding(studies[ALL], store)

    def tell(one: rehearsal.Rehearsed) -> None:
        said = one.failure or "too short to be timed"
        if one.seconds is not None and one.hours is not None:
            said = f"{report.number(1e3 * one.seconds)} ms an update, {one.updates:,} updates, "
            said += f"{report.number(one.hours)} hours"
        print(f"{one.run}, {one.run.precision}: {said}", flush=True)
        rehearsal.keep(one, store, arguments.device, arguments.compile)

    found = rehearsal.rehearse(
        outstanding, arguments.device, arguments.data_dir, arguments.compile, tell=tell
    )
    hours = {name: campaign.hours_left(runs, store) for name, runs in studies.items()}
    print("\n" + _times(studies, hours, [describe(where)], store))
    failed = len({one.run for one in found.values() if one.failure})
    if failed:
        raise UserError(f"{failed} kinds of runs cannot be done here; what is above says why")


def merge(arguments: argparse.Namespace) -> None:
    """Take over the records, checkpoints and timings of other results folders."""
    from experiments.merge import merge

    failed = []
    for folder in arguments.folder:
        try:
            print(f"{folder}: {merge(Store(arguments.results), Store(folder))}")
        except UserError as error:  # the others come over all the same
            failed.append(str(error))
    if failed:
        raise UserError("\nerror: ".join(failed))


def show(arguments: argparse.Namespace) -> None:
    """An artifact from its records: table, verdicts, and the figure in a file."""
    from experiments import style

    artifact, store = _chosen(arguments.artifact, arguments), Store(arguments.results)
    scale = arguments.scale or best_scale(artifact, store)
    records = artifact.whole(scale, store)
    print(f"{artifact.title} ({artifact.id}, scale {scale})\n")
    if artifact.tabulate is not None:
        print(artifact.tabulate(records).to_string() + "\n")
    for verdict in _varied(arguments.artifact, arguments).verdicts(store):
        at = f" (scale {verdict.scale})" if verdict.scale else ""
        print(f"{report.MARKS[verdict.status]}: {verdict.text}{at}")
        _print_estimates(verdict)
    if scale == "smoke":
        print("(what is recorded at the smoke scale shows that all works, and never votes)")
    name = "-".join((artifact.id, *arguments.set))
    if artifact.other is not None:
        name += f"-{style.name(artifact.other.name)}"
        if arguments.optimizer_args is not None:
            name += f"-{yours.tag(arguments.optimizer_args)}"
        for claim in artifact.claims:
            verdict = artifact.judged(claim, records, scale)
            print(f"{report.ANSWERS[verdict.status]}: {verdict.text} (scale {scale})")
            _print_estimates(verdict)
    if artifact.draw is not None:
        path = arguments.out or Path("_build/figures") / f"{name}-{scale}.svg"
        style.save(artifact.draw(records), path)
        print(f"\nfigure in {path}")


def _print_estimates(verdict: Verdict) -> None:
    for estimate in verdict.estimates:
        print(f"    {estimate.label}: {report.with_interval(estimate)}")
    for estimate in verdict.lacks:
        print(f"    not given: {report.ours([estimate])}")
    for reading in verdict.fails_with:
        print(f"    not with {reading}")


def show_verdicts(arguments: argparse.Namespace) -> None:
    """The verdict on every claim."""
    found = verdicts(Store(arguments.results))
    if arguments.write is not None:
        report.refresh(arguments.write, found)
    elif arguments.json:
        print(to_json(found))
    else:
        print(report.plain(report.table(found)))


def get_data(arguments: argparse.Namespace) -> None:
    """Download a data set, or check the one that is there."""
    from experiments import data

    print(data.checked(arguments.name, arguments.data_dir))


def bench(arguments: argparse.Namespace) -> None:
    """Time against peers, in turns."""
    from experiments.benchmarks import BENCHMARKS, record
    from experiments.machine import find_device

    if arguments.name not in BENCHMARKS:
        raise UserError(
            f"there is no benchmark {arguments.name!r}; they are: {', '.join(BENCHMARKS)}"
        )
    find_device(arguments.device)
    store = Store(arguments.results)
    if arguments.record:
        with store.writing():
            pass
    table = BENCHMARKS[arguments.name](arguments.device)
    print(report.plain(table))
    if arguments.record:
        path = record(arguments.name, table, arguments.device, store.root)
        print(f"recorded in {path}")


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m experiments", description="Rerun the paper.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    default = Path(os.environ.get(DATA) or REPOSITORY / "data")
    listed = "a figure, table or study; `list` names them"

    def command(name: str, action: object) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=action.__doc__, description=action.__doc__)
        sub.set_defaults(action=action)
        return sub

    def option(sub: argparse.ArgumentParser, *names: str) -> None:
        if "results" in names:
            words = "folder of the records (default: the project's own, experiments/results)"
            sub.add_argument("--results", type=Path, default=ROOT, metavar="DIR", help=words)
        if "data" in names:
            words = f"folder of the data sets (default: ${DATA}, or data/)"
            sub.add_argument("--data-dir", type=Path, default=default, metavar="DIR", help=words)
        if "json" in names:
            sub.add_argument("--json", action="store_true", help="as JSON")
        if "optimizer" in names:
            words = "an optimizer of yours, package.module:Class, beside the artifact's own"
            sub.add_argument("--optimizer", metavar="CLASS", help=words)
            words = """its arguments but lr, such as '{"betas": [0.9, 0.99]}'"""
            sub.add_argument("--optimizer-args", metavar="JSON", help=words)
        if "set" in names:
            words = "another setting of the runs, such as corpus=wmt16; may be repeated"
            sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=words)
        if "seeds" in names:
            words = "only the planned runs with these seeds: 0, 0-2 or 0,2"
            sub.add_argument("--seeds", metavar="SEEDS", help=words)
        if "device" in names:
            sub.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps ...")

    command("list", list_artifacts)
    sub = command("run", run)
    sub.add_argument("artifact", nargs="+", help=f"{listed}; or all")
    words = f"one of {', '.join(SCALES)} (default: smoke)"
    sub.add_argument("--scale", default="smoke", help=words)
    words = "runs side by side (default: 1, with Slurm all)"
    sub.add_argument("--jobs", type=int, metavar="N", help=words)
    sub.add_argument("--launcher", default="local", help="local (the default) or slurm")
    words = "an option for sbatch, such as gres=gpu:1 or time=2:00:00; may be repeated"
    sub.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE", help=words)
    sub.add_argument("--compile", action="store_true", help="use torch.compile; for GPUs")
    sub.add_argument(
        "--time-budget", metavar="TIME", help="stop within 90s, 9m, 1h30m, 1:30:00 ..."
    )
    words = "drop, and run anew, what was recorded or begun when your --optimizer was another"
    sub.add_argument("--again", action="store_true", help=words)
    words = "write the curves there for TensorBoard, as they come"
    sub.add_argument("--tensorboard", type=Path, metavar="DIR", help=words)
    option(sub, "seeds", "set", "optimizer", "device", "results", "data")
    sub = command("status", status)
    sub.add_argument("artifact", nargs="*", help=f"{listed} (default: all)")
    words = "time taken, and left: from the recorded runs of each kind of device or its rehearsals"
    sub.add_argument("--estimate", action="store_true", help=words)
    sub.add_argument("--scale", default="paper", help="of the estimate (default: paper)")
    option(sub, "seeds", "set", "optimizer", "json", "results")
    sub = command("rehearse", rehearse)
    sub.add_argument("artifact", nargs="*", help=f"{listed} (default: all that have the scale)")
    words = f"one of {', '.join(SCALES)} (default: paper)"
    sub.add_argument("--scale", default="paper", help=words)
    sub.add_argument("--compile", action="store_true", help="use torch.compile; for GPUs")
    option(sub, "seeds", "set", "optimizer", "device", "results", "data")
    sub = command("merge", merge)
    words = "a results folder, as --results names it elsewhere"
    sub.add_argument("folder", nargs="+", type=Path, metavar="DIR", help=words)
    option(sub, "results")
    sub = command("show", show)
    sub.add_argument("artifact", help=listed)
    sub.add_argument("--scale", help="default: the largest with records")
    sub.add_argument("--out", type=Path, metavar="FILE", help="where the figure goes")
    option(sub, "set", "optimizer", "results")
    sub = command("verdicts", show_verdicts)
    sub.add_argument("--write", type=Path, metavar="FILE", help="into a document's marked table")
    option(sub, "json", "results")
    sub = command("data", get_data)
    sub.add_argument("name", help="cifar10, digits ...; any other word lists all")
    option(sub, "data")
    sub = command("bench", bench)
    sub.add_argument("name", help="step, train ...; any other word lists all")
    sub.add_argument("--record", action="store_true", help="keep the table among the results")
    option(sub, "device", "results")
    return top


def main(words: Sequence[str] | None, began: float, stopping: Stopping) -> int:
    """Run a command, which began then; what the user can mend is one sentence and status 2.

    What nobody had foreseen is told with its traceback, and status 1.
    """
    arguments = parser().parse_args(words, argparse.Namespace(began=began, stopping=stopping))
    try:
        arguments.action(arguments)
    except UserError as error:
        print(*getattr(error, "__notes__", ()), f"error: {error}", sep="\n", file=sys.stderr)
        return error.status
    return 0
