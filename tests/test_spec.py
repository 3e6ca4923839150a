"""Specs: a run's id is stable, says everything that matters, and nothing else."""

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.artifact import artifacts
from experiments.spec import Optim, Run, Schedule, grid, names, options, varied

EXAMPLE = Run(
    task="cifar10",
    optim=Optim("radam", lr=0.1, weight_decay=1e-4, options=options(betas=(0.9, 0.999))),
    schedule=(Schedule("StepDecay", options(milestones=(81, 122), gamma=0.1), unit="epoch"),),
    epochs=164,
    batch_size=128,
    settings=options(depth=20, train_images=45_000, validation_images=5_000, augment=True),
)

WARMUP = Schedule("LinearWarmup", options(steps=100))

values = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
some_options = st.dictionaries(st.text(max_size=5), values, max_size=3).map(
    lambda given: options(**given)
)
nonnegative = st.floats(min_value=0, allow_infinity=False)
optims = st.builds(Optim, st.text(max_size=5), nonnegative, nonnegative, some_options)
schedules = st.builds(
    Schedule, st.text(max_size=5), some_options, st.sampled_from(["update", "epoch"])
)
runs = st.builds(
    Run,
    task=st.text(max_size=5),
    optim=st.none() | optims,
    schedule=st.lists(schedules, max_size=2).map(tuple),
    epochs=st.integers(0, 1000),
    batch_size=st.integers(0, 1000),
    precision=st.sampled_from(["float32", "bfloat16"]),
    clip=st.none() | st.floats(min_value=1e-3, max_value=1e3),
    seed=st.integers(),
    settings=some_options,
)


def test_the_id_and_the_canonical_form_stay_what_they_are() -> None:
    """Every record on disk is found by this; a change here orphans them all."""
    assert EXAMPLE.canonical_json() == (
        '{"batch_size":128,"epochs":164,"optim":{"lr":0.1,"name":"radam",'
        '"options":[["betas",[0.9,0.999]]],"weight_decay":0.0001},"schedule":[{"name":"StepDecay",'
        '"options":[["gamma",0.1],["milestones",[81,122]]],"unit":"epoch"}],"settings":'
        '[["augment",true],["depth",20],["train_images",45000],["validation_images",5000]],'
        '"task":"cifar10"}'
    )
    assert EXAMPLE.id == "f9a2a3108609"
    measurement = Run(task="variance", settings=options(quantity="samples", rho=4.0), seed=3)
    assert measurement.canonical_json() == (
        '{"seed":3,"settings":[["quantity","samples"],["rho",4.0]],"task":"variance"}'
    )


@given(runs)
def test_a_run_comes_back_from_its_canonical_form(run: Run) -> None:
    again = Run.of(json.loads(run.canonical_json()))
    assert again == run
    assert again.id == run.id


@given(runs, st.randoms())
def test_the_order_of_fields_does_not_matter(run: Run, random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            keys = list(value)
            random.shuffle(keys)
            return {key: shuffled(value[key]) for key in keys}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    text = json.dumps(shuffled(json.loads(run.canonical_json())))
    assert Run.of(json.loads(text)).id == run.id


def test_the_order_of_options_does_not_matter_and_equal_numbers_are_one_run() -> None:
    assert options(b=[1, [2]], a=0) == options(a=0, b=(1, (2,))) == (("a", 0), ("b", (1, (2,))))
    assert options(a={"y": 1, "x": [2]}) == (("a", (("x", (2,)), ("y", 1))),)
    one, same = (Run("t", Optim("sgd", lr=lr), clip=lr) for lr in (1, 1.0))
    assert one == same
    assert one.id == same.id


@pytest.mark.parametrize(
    "change",
    [
        {"task": "digits"},
        {"optim": dataclasses.replace(EXAMPLE.optim, name="adam")},
        {"optim": dataclasses.replace(EXAMPLE.optim, lr=0.03)},
        {"optim": dataclasses.replace(EXAMPLE.optim, weight_decay=0.0)},
        {"optim": dataclasses.replace(EXAMPLE.optim, options=options(betas=(0.9, 0.99)))},
        {"optim": None},
        {"schedule": ()},
        {"schedule": (dataclasses.replace(EXAMPLE.schedule[0], unit="update"),)},
        {"epochs": 186},
        {"batch_size": 256},
        {"precision": "bfloat16"},
        {"clip": 1.0},
        {"seed": 1},
        {"settings": options(depth=8)},
    ],
)
def test_every_field_enters_the_id(change: dict[str, Any]) -> None:
    assert dataclasses.replace(EXAMPLE, **change).id != EXAMPLE.id


@given(runs)
def test_a_run_is_hashable_and_its_axes_hold_its_settings(run: Run) -> None:
    assert len({run, Run.of(json.loads(run.canonical_json()))}) == 1
    assert dict(run.settings).items() <= run.axes().items()


def test_axes_are_one_flat_row() -> None:
    assert EXAMPLE.axes() == {
        "task": "cifar10",
        "seed": 0,
        "optimizer": "radam",
        "lr": 0.1,
        "weight_decay": 1e-4,
        "optim.betas": (0.9, 0.999),
        "epochs": 164,
        "batch_size": 128,
        "precision": "float32",
        "clip": None,
        "StepDecay.milestones": (81, 122),
        "StepDecay.gamma": 0.1,
        "depth": 20,
        "train_images": 45_000,
        "validation_images": 5_000,
        "augment": True,
    }
    assert EXAMPLE.setting("depth") == 20
    with pytest.raises(KeyError):
        EXAMPLE.setting("lr")


@pytest.mark.parametrize("field", ["lr", "weight_decay"])
@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf, -math.inf])
def test_an_optimizer_refuses_what_is_no_rate(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{field}=\S+ is not a finite number >= 0"):
        Optim(**{"name": "radam", "lr": 0.1, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("precision", "float8"),
        ("epochs", -1),
        ("batch_size", -1),
        ("clip", 0.0),
        ("clip", -1.0),
        ("clip", math.nan),
        ("clip", math.inf),
    ],
)
def test_a_run_refuses_what_it_would_not_carry_out(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}="):
        dataclasses.replace(EXAMPLE, **{field: value})


def test_a_grid_is_the_product_of_its_axes_the_last_fastest() -> None:
    arms = (Optim("sgd", lr=9.0), Optim("radam", lr=9.0))
    found = grid(EXAMPLE, seed=range(2), optim=arms, lr=(0.1, 0.01), depth=[8, 20])
    points = [
        (run.seed, run.optim.name, run.optim.lr, run.setting("depth")) for run in found if run.optim
    ]
    expected: list[tuple[Any, ...]] = []
    for seed in (0, 1):
        for name in ("sgd", "radam"):
            for lr in (0.1, 0.01):
                expected += [(seed, name, lr, 8), (seed, name, lr, 20)]
    assert points == expected
    assert {run.setting("augment") for run in found} == {True}  # the rest stays
    rates = (0.1, 0.01)  # of whichever optimizer the run then has
    assert set(grid(EXAMPLE, lr=rates, optim=arms)) == set(grid(EXAMPLE, optim=arms, lr=rates))
    assert grid(EXAMPLE) == (EXAMPLE,)
    assert grid(EXAMPLE, seed=[]) == ()


def test_a_run_is_varied_as_by_the_only_point_of_a_grid() -> None:
    run = varied(EXAMPLE, seed=1, lr=0.03, depth=8)
    assert (run,) == grid(EXAMPLE, seed=[1], lr=[0.03], depth=[8])
    assert run.optim
    assert (run.optim.lr, run.seed, run.setting("depth")) == (0.03, 1, 8)
    assert varied(run, seed=0, lr=0.1, depth=20) == EXAMPLE


@pytest.mark.parametrize(
    ("base", "axis"), [(EXAMPLE, "dpeth"), (Run("variance"), "lr"), (EXAMPLE, "momentum")]
)
def test_a_grid_refuses_an_axis_that_the_run_has_not(base: Run, axis: str) -> None:
    with pytest.raises(ValueError, match=f"'{axis}' is no field of Run"):
        grid(base, **{axis: [0.5]})


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (EXAMPLE, "cifar10 radam lr 0.1 seed 0"),
        (
            dataclasses.replace(EXAMPLE, schedule=(WARMUP, *EXAMPLE.schedule)),
            "cifar10 radam lr 0.1 LinearWarmup steps 100 seed 0",
        ),
        (Run("variance", seed=2, settings=options(rho=4.0)), "variance rho 4.0 seed 2"),
    ],
)
def test_a_run_reads_well(run: Run, text: str) -> None:
    assert str(run) == text


def test_names_tell_runs_apart_by_as_little_as_it_takes() -> None:
    post = Run("t", Optim("adam", 0.1, options=options(eps=1.0)), settings=options(norm="post"))
    pre = dataclasses.replace(post, settings=options(norm="pre"))
    small = dataclasses.replace(pre, optim=Optim("adam", 0.1, options=options(eps=0.5)))
    other = dataclasses.replace(post, seed=1)
    assert names([post, other]) == {post: "t adam lr 0.1 seed 0", other: "t adam lr 0.1 seed 1"}
    assert names([post, pre, small, other]) == {
        post: "t adam lr 0.1 seed 0, eps 1.0, norm post",
        pre: "t adam lr 0.1 seed 0, eps 1.0, norm pre",
        small: "t adam lr 0.1 seed 0, eps 0.5",
        other: "t adam lr 0.1 seed 1",
    }


@pytest.mark.parametrize("name", artifacts())
def test_no_two_runs_of_a_study_have_one_name(name: str) -> None:
    for runs in artifacts()[name].runs.values():
        assert len(set(names(runs).values())) == len(set(runs))
