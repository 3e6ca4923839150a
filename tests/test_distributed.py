"""Two processes on the CPU lead where one does: DDP, FSDP2, DTensors, ZeRO, checkpoints.

The processes start once and go through all checks; each test then looks at what came of one.
"""

import copy
import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from filelock import FileLock
from torch import Tensor, nn

from radam_core import RAdam
from radam_core.probes import track

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="needs torch's gloo"
)

PROCESSES = 2
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "foreach": {"foreach": True},
    "loop": {"foreach": False},
    "capturable": {"capturable": True},
}
COMMON: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.1}
UPDATES = 8


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Whose tensors two processes cannot halve: some have 5 rows, one has one element."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)


def batch(t: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(t)).to(dtype)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, first: int = 0, last: int = UPDATES
) -> None:
    """On the same batch in every process."""
    dtype = next(model.parameters()).dtype
    for t in range(first, last):
        optimizer.zero_grad()
        model(batch(t, dtype)).square().mean().backward()
        optimizer.step()


def alone(options: dict[str, Any], dtype: torch.dtype = torch.float64, last: int = UPDATES) -> Any:
    """The same in one process: the model, its optimizer."""
    model = network(dtype)
    optimizer = RAdam(model.parameters(), **COMMON, **options)
    train(model, optimizer, 0, last)
    return model, optimizer


def whole(x: Tensor) -> Tensor:
    return getattr(x, "full_tensor", lambda: x)().detach()


def assert_alike(model: nn.Module, other: nn.Module, **tolerance: float) -> None:
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(
            whole(p), whole(q), **{"rtol": 1e-10, "atol": 1e-12, **tolerance}
        )


def sharded(model: nn.Sequential) -> nn.Sequential:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (PROCESSES,))
    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=mesh)
    return model


# ---- the checks, each run in every process


def ddp(options: dict[str, Any]) -> None:
    """Each process has its half of the batch."""
    model = network()
    parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = RAdam(parallel.parameters(), **COMMON, **options)
    for t in range(UPDATES):
        optimizer.zero_grad()
        half = batch(t).chunk(PROCESSES)[dist.get_rank()]
        parallel(half).square().mean().backward()
        optimizer.step()
    assert_alike(model, alone(options)[0])


def fsdp(options: dict[str, Any]) -> None:
    model = sharded(network())
    optimizer = RAdam(model.parameters(), **COMMON, **options)
    train(model, optimizer)
    reference, other = alone(options)
    assert_alike(model, reference)
    assert optimizer.rectification_state() == other.rectification_state()


def dtensors(options: dict[str, Any]) -> None:
    """Sharded either way, whole, and with gradients that are still to be summed or spread."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (PROCESSES,))
    values = torch.arange(15.0).reshape(5, 3) / 7
    for placement, of_gradient in (
        (Shard(0), Shard(0)),
        (Shard(1), Shard(1)),
        (Shard(1), Replicate()),
        (Replicate(), Replicate()),
        (Replicate(), Shard(0)),
        (Replicate(), Partial()),
    ):
        # Beside it in the group a tensor of this process alone.
        p = nn.Parameter(distribute_tensor(values.clone(), mesh, [placement]))
        q, r = nn.Parameter(values.clone()), nn.Parameter(values.clone())
        optimizers = [RAdam(params, **COMMON, **options) for params in ([p, q], [r])]
        for t in range(UPDATES):
            grad = batch(t, torch.float32)[0].expand(5, 3).contiguous()
            if isinstance(of_gradient, Partial):
                p.grad = DTensor.from_local(grad / PROCESSES, mesh, [of_gradient])
            else:
                p.grad = distribute_tensor(grad, mesh, [of_gradient])
            q.grad, r.grad = grad.clone(), grad.clone()
            for optimizer in optimizers:
                optimizer.step()
        for x in (p, q):
            torch.testing.assert_close(whole(x), r.detach(), rtol=1e-5, atol=1e-6)


def local_parts_in_another_order(options: dict[str, Any]) -> None:
    """What a DTensor says of its strides need not hold for the part in this process."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard

    mesh = init_device_mesh("cpu", (PROCESSES,))

    def spread(part: Tensor) -> Tensor:
        return DTensor.from_local(part, mesh, [Shard(0)], shape=torch.Size((6, 2)), stride=(2, 1))

    part = torch.arange(6.0).reshape(2, 3).t()
    p, q = nn.Parameter(spread(part.clone())), nn.Parameter(part.clone().contiguous())
    assert p.is_contiguous()
    assert not p.to_local().is_contiguous()
    optimizers = [RAdam([x], **COMMON, **options) for x in (p, q)]
    for t in range(UPDATES):
        grad = batch(t, torch.float32)[:3, :2]
        p.grad, q.grad = spread(grad.t().contiguous().t()), grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(p.to_local().detach(), q.detach(), rtol=1e-5, atol=1e-6)


def zero_redundancy(options: dict[str, Any]) -> None:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model = network()
    parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = ZeroRedundancyOptimizer(
        parallel.parameters(), optimizer_class=RAdam, **COMMON, **options
    )
    train(parallel, optimizer)
    reference, other = alone(options)
    assert_alike(model, reference)
    optimizer.consolidate_state_dict(to=0)
    if dist.get_rank() == 0:
        resumed = RAdam(model.parameters())
        resumed.load_state_dict(optimizer.state_dict())
        assert resumed.rectification_state() == other.rectification_state()
        train(model, resumed, UPDATES, UPDATES + 3)
        train(reference, other, UPDATES, UPDATES + 3)
        assert_alike(model, reference)
    dist.barrier()


def checkpoints(options: dict[str, Any], dtype: torch.dtype = torch.float64) -> None:
    """Saved by the processes together, loaded into new ones and into one; bit by bit."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import state_dict as dsd

    model = sharded(network(dtype))
    optimizer = RAdam(model.parameters(), **COMMON, **options)
    train(model, optimizer)
    saved, optimizer_saved = dsd.get_state_dict(model, optimizer)
    folder = [tempfile.mkdtemp() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(folder)
    dcp.save({"model": saved, "optimizer": optimizer_saved}, checkpoint_id=folder[0])

    twin = sharded(network(dtype))
    other = RAdam(twin.parameters(), **COMMON, **options)
    state = dict(zip(("model", "optimizer"), dsd.get_state_dict(twin, other), strict=True))
    dcp.load(state, checkpoint_id=folder[0])
    dsd.set_state_dict(
        twin, other, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
    )
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        for name in ("step", "exp_avg", "exp_avg_sq"):
            mine, theirs = optimizer.state[p][name], other.state[q][name]
            assert mine.dtype == theirs.dtype
            assert torch.equal(whole(mine), whole(theirs))
    for one, opt in ((model, optimizer), (twin, other)):
        train(one, opt, UPDATES, UPDATES + 3)
    assert_alike(model, twin, rtol=0, atol=0)

    full = dsd.get_optimizer_state_dict(
        model, optimizer, options=dsd.StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if dist.get_rank() == 0:
        single, expected = network(dtype), alone(options, dtype, last=UPDATES + 3)[1]
        fresh = RAdam(single.parameters(), **COMMON, **options)
        dsd.set_optimizer_state_dict(single, fresh, full)
        for p, q in zip(single.parameters(), expected.param_groups[0]["params"], strict=True):
            assert fresh.state[p]["step"] == UPDATES + 3
            moments = (fresh.state[p]["exp_avg"], expected.state[q]["exp_avg"])
            tolerance = 0.1 if dtype == torch.bfloat16 else 1e-9
            torch.testing.assert_close(*moments, rtol=tolerance, atol=tolerance)
    dist.barrier()


def wide(options: dict[str, Any]) -> None:
    """bfloat16 parameters in parts, with moments in single precision."""
    options = {"state_dtype": torch.float32, **options}
    model = sharded(network(torch.bfloat16))
    optimizer = RAdam(model.parameters(), **COMMON, **options)
    train(model, optimizer)
    dtypes = {state["exp_avg"].dtype for state in optimizer.state.values()}
    assert dtypes == {torch.float32}
    assert_alike(model, alone(options, torch.bfloat16)[0], rtol=2**-6, atol=2**-6)
    checkpoints(options, torch.bfloat16)


def rounded_at_random(options: dict[str, Any]) -> None:
    """In every process alike, where each has all of a parameter: they do not drift apart."""
    options = {"state_dtype": torch.float32, "rounding": "stochastic", **options}
    model = network(torch.bfloat16)
    parallel = nn.parallel.DistributedDataParallel(model)
    train(parallel, RAdam(parallel.parameters(), **COMMON, **options))
    for p in model.parameters():
        gathered = [torch.empty_like(p) for _ in range(PROCESSES)]
        dist.all_gather(gathered, p.detach())
        assert torch.equal(*gathered)
    model = sharded(network(torch.bfloat16))
    train(model, RAdam(model.parameters(), **COMMON, **options))
    assert_alike(model, alone(options, torch.bfloat16)[0], rtol=2**-5, atol=2**-5)


CHECKS: dict[str, Callable[[], None]] = {
    **{
        f"{check.__name__}, {name}": (lambda check=check, options=options: check(options))
        for check in (ddp, fsdp, dtensors, local_parts_in_another_order)
        for name, options in OPTIONS.items()
    },
    **{
        f"{check.__name__}, {name}": (
            lambda check=check, name=name: check(copy.deepcopy(OPTIONS[name]))
        )
        for check in (zero_redundancy, checkpoints, wide)
        for name in ("default", "foreach")
    },
    "rounded at random": lambda: rounded_at_random({}),
    "tracked": lambda: tracked(),
}


def tracked() -> None:
    """Every process reads its own part: together they read what one alone would."""
    readings = []
    for model in (sharded(network()), network()):
        optimizer = RAdam(model.parameters(), **COMMON)
        with track(model, optimizer, every=1) as tracker:
            train(model, optimizer)
        readings.append(tracker.readings[UPDATES])
    parts: list[Any] = [None] * PROCESSES
    dist.all_gather_object(parts, readings[0])
    for name in ("gradient", "update", "adaptive_rate"):
        first, *others = (getattr(part, name) for part in parts)
        assert sum(others, first) == getattr(readings[1], name)


# ---- the processes


def work(rank: int, folder: str) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if os.uname().sysname == "Darwin" else "lo")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=PROCESSES,
        timeout=timedelta(seconds=60),
    )
    failures = {}
    for name, check in CHECKS.items():
        try:
            check()
        except Exception:
            failures[name] = traceback.format_exc()
    torch.save(failures, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What went wrong, by process and check; found out once for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "distributed"
    results = [folder / f"{rank}.pt" for rank in range(PROCESSES)]
    with FileLock(f"{folder}.lock"):
        if not all(map(Path.exists, results)):
            folder.mkdir()
            torch.multiprocessing.spawn(work, args=(str(folder),), nprocs=PROCESSES)
    return [torch.load(result) for result in results]


@pytest.mark.parametrize("check", CHECKS)
def test_two_processes_lead_where_one_does(check: str, failures: list[dict[str, str]]) -> None:
    for rank, of_process in enumerate(failures):
        assert check not in of_process, f"in process {rank}:\n{of_process[check]}"
