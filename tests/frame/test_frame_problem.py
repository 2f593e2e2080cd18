"""Problem: frozen data, batch axes, copies, identity, inheritance."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from toys import Bowl, JointRate

import rralloc as rr
from rralloc.errors import InvalidProblem, NotOffered
from rralloc.fields import Constraint, data, option, variable
from rralloc.forms import ClosedForm, Level, Surrogate, offers
from rralloc.problem import Problem
from rralloc.problems import FEELScheduling, SumRate, WaterFilling
from rralloc.typing import Field


class Mixed(Problem):
    """Fields with different batch axes of their own."""

    gain: Field = data("K", unit="1", low=0)
    weight: Field = data("K", unit="1", default=1.0)
    budget: Field = data(unit="1", default=1.0)
    matrix: Field = data("K K", unit="1", default=None)
    beam: Field = data("N K", unit="1", dtype=complex, default=None)
    mode: str = option(default="a", choices=("a", "b"))
    x = variable("K", unit="1", low=0, scale="budget")

    def objective(self, x):
        return (self.gain * self.weight * x["x"]).sum(-1) * self.budget


def grown(**more) -> Mixed:
    """Batch (2, 3), each field with other axes of it."""
    rng = np.random.default_rng(0)
    fields = {
        "gain": rng.random((2, 3, 4)),
        "weight": rng.random((3, 4)),
        "budget": rng.random((2, 1)),
    }
    return Mixed(**fields | more)


# -- frozen ---------------------------------------------------------------------------------------


def arrays(problem):
    return [v for v in vars(problem).values() if isinstance(v, np.ndarray)]


def test_arrays_are_copied_and_read_only():
    gain = np.ones((2, 3))
    problem = WaterFilling(gain=gain, power_budget_w=1.0)
    gain[0, 0] = 7.0
    assert problem.gain[0, 0] == 1.0
    assert gain.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        problem.gain[0, 0] = 2.0


@pytest.mark.parametrize(
    "made",
    [
        lambda p: p,
        lambda p: pickle.loads(pickle.dumps(p)),
        copy.copy,
        copy.deepcopy,
        lambda p: p[0],
        lambda p: p[0, 1],
        lambda p: p[:, 1:],
        lambda p: p[p.gain[..., 0] > 0],
        lambda p: p.flat(),
        lambda p: p.flat()[[2, 1]],
        lambda p: p.select(K=[0, 2]),
        lambda p: p.replace(budget=3.0),
        lambda p: rr.stack([p, p]),
        lambda p: pickle.loads(pickle.dumps(p[1])),
    ],
)
def test_read_only_after_every_way_of_making_one(made):
    problem = made(grown(matrix=np.eye(4)))
    assert len(arrays(problem)) >= 4
    assert not any(a.flags.writeable for a in arrays(problem))


def test_attributes_cannot_be_set_or_deleted():
    problem = grown()
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.gain = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.new = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        del problem.gain


# -- shapes ---------------------------------------------------------------------------------------


def test_batch_is_the_broadcast_of_what_precedes_the_axes():
    problem = grown()
    assert problem.batch_shape == (2, 3)
    assert problem.size == 6
    assert problem.sizes["K"] == 4
    assert problem.shape_of(Mixed.x) == (2, 3, 4)
    assert len(problem) == 2
    assert [p.batch_shape for p in problem] == [(3,), (3,)]


def test_one_instance_has_no_length_and_no_index():
    one = grown()[0, 0]
    assert one.batch_shape == ()
    assert one.size == 1
    with pytest.raises(TypeError, match="one instance"):
        len(one)
    with pytest.raises(IndexError, match="one instance"):
        one[0]


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        np.int64(1),
        (1, 2),
        (0, slice(None, None, -1)),
        slice(0, 1),
        (slice(None), 1),
        (..., 1),
        (1, ...),
        ...,
        None,
        [1, 0, 1],
        np.array([True, False]),
        np.array([[True, False, True], [False, True, False]]),
        (np.array([0, 1]), np.array([2, 0])),
    ],
)
def test_indexing_the_batch_equals_indexing_every_full_array(index):
    problem = grown(matrix=np.arange(16.0).reshape(4, 4))
    picked = problem[index]
    full = {
        "gain": problem.gain,
        "weight": np.broadcast_to(problem.weight, (2, 3, 4)),
        "budget": np.broadcast_to(problem.budget, (2, 3)),
    }
    shape = np.empty((2, 3))[index].shape
    assert picked.batch_shape == shape
    for name, array in full.items():
        tail = array.shape[2:]
        flat = array.reshape(6, *tail)[np.arange(6).reshape(2, 3)[index]]
        np.testing.assert_array_equal(np.broadcast_to(getattr(picked, name), shape + tail), flat)
    np.testing.assert_array_equal(picked.matrix, problem.matrix)


@pytest.mark.parametrize("index", [(0, 0, 0), (slice(None), 0, 1), (..., 0, 0, 0), 2, (0, 3), -3])
def test_an_index_never_reaches_the_devices(index):
    with pytest.raises(IndexError):
        grown()[index]


def test_an_index_on_one_batch_axis_never_reaches_the_devices():
    problem = WaterFilling.random(K=3, batch=4, rng=0)
    with pytest.raises(IndexError):
        problem[0, 1]
    with pytest.raises(IndexError):
        problem[:, 0]
    np.testing.assert_array_equal(problem[..., 0].gain, problem[0].gain)


def test_flat_has_one_batch_axis_and_full_arrays():
    problem = grown()
    flat = problem.flat()
    assert flat.batch_shape == (6,)
    assert flat.gain.shape == flat.weight.shape == (6, 4)
    assert flat.budget.shape == (6,)
    for lane, index in enumerate(np.ndindex(2, 3)):
        assert flat[lane] == problem[index].flat()[0]
    assert grown()[0, 0].flat().batch_shape == (1,)


# -- devices --------------------------------------------------------------------------------------


def test_select_takes_devices_on_every_axis_that_bears_the_name():
    matrix = np.arange(16.0).reshape(4, 4)
    problem = grown(matrix=matrix, beam=np.arange(8).reshape(2, 4))
    part = problem.select(K=[True, False, False, True])
    assert part.sizes == {"K": 2, "N": 2}
    np.testing.assert_array_equal(part.matrix, matrix[np.ix_([0, 3], [0, 3])])
    np.testing.assert_array_equal(part.gain, problem.gain[..., [0, 3]])
    np.testing.assert_array_equal(part.beam, problem.beam[:, [0, 3]])
    np.testing.assert_array_equal(problem.select(K=[3, 0]).gain, problem.gain[..., [3, 0]])
    np.testing.assert_array_equal(problem.select(N=[1]).beam, problem.beam[[1]])
    assert problem.select() == problem


def test_select_keeps_the_axis_of_a_single_device():
    problem = WaterFilling.random(K=3, batch=4, rng=0)
    assert problem.select(K=1).gain.shape == (4, 1)
    assert problem.select(K=1) == problem.select(K=[1])


def test_scalars_stay_scalars_under_select():
    problem = Mixed(gain=[1.0, 2.0, 3.0], weight=2.0)
    assert problem.select(K=[2]).weight.tolist() == [2.0]
    assert problem.select(K=[0, 2]).weight.shape == (1,)


def test_select_refuses_nobody_strangers_and_unknown_axes():
    problem = grown()
    with pytest.raises(InvalidProblem, match="K"):
        problem.select(K=[False] * 4)
    with pytest.raises(InvalidProblem, match="K"):
        Mixed(gain=[1.0]).select(K=[False])
    with pytest.raises(InvalidProblem, match="no axis"):
        problem.select(J=[0])
    with pytest.raises(IndexError):
        problem.select(K=[4])
    with pytest.raises(IndexError):
        problem.select(K=[True, False])


# -- joining --------------------------------------------------------------------------------------


def test_stack_undoes_iteration():
    problem = grown()
    again = rr.stack(list(problem))
    assert again.batch_shape == (2, 3)
    for index in np.ndindex(2, 3):
        assert again.flat()[0].sizes == problem.flat()[0].sizes
        np.testing.assert_array_equal(again[index].gain, problem[index].gain)
        np.testing.assert_array_equal(again[index].weight, problem[index].weight)
        assert again[index].budget == problem[index].budget


def test_stack_broadcasts_scalars_against_arrays():
    joined = rr.stack([Mixed(gain=[1.0, 2.0]), Mixed(gain=[3.0, 4.0], weight=[5.0, 6.0])])
    np.testing.assert_array_equal(joined.weight, [[1.0, 1.0], [5.0, 6.0]])
    assert joined.matrix is None
    assert joined.batch_shape == (2,)


def test_stack_refuses_what_does_not_belong_together():
    one = Mixed(gain=[1.0, 2.0])
    for other in (
        Mixed(gain=[1.0, 2.0, 3.0]),
        Mixed(gain=[1.0, 2.0], mode="b"),
        Mixed(gain=[[1.0, 2.0]]),
        WaterFilling(gain=[1.0, 2.0], power_budget_w=1.0),
    ):
        with pytest.raises(InvalidProblem, match="cannot stack"):
            rr.stack([one, other])
    with pytest.raises(InvalidProblem, match="matrix is given in some"):
        rr.stack([one, one.replace(matrix=np.eye(2))])
    with pytest.raises(InvalidProblem, match="at least one"):
        rr.stack([])


def test_replace_checks_and_leaves_the_original():
    problem = grown()
    other = problem.replace(budget=5.0, mode="b")
    assert other.budget == 5.0
    assert other.mode == "b"
    assert problem.mode == "a"
    assert other.gain is not None
    assert problem.replace() == problem
    with pytest.raises(InvalidProblem, match=r"Mixed.gain"):
        problem.replace(gain=-1.0)
    with pytest.raises(TypeError, match="nonsense"):
        problem.replace(nonsense=1)


# -- identity -------------------------------------------------------------------------------------


def test_equal_content_is_equal_and_one_bit_is_not():
    problem, twin = grown(), grown()
    assert problem == twin
    assert problem.digest == twin.digest
    assert hash(problem) == hash(twin)
    assert len({problem, twin, pickle.loads(pickle.dumps(problem)), copy.deepcopy(problem)}) == 1
    gain = problem.gain.copy()
    gain[1, 2, 3] = np.nextafter(gain[1, 2, 3], 1)
    assert problem.replace(gain=gain) != problem
    assert problem.replace(gain=gain).digest != problem.digest


def test_what_tells_two_problems_apart():
    base = Mixed(gain=[[1.0, 2.0], [3.0, 4.0]])
    others = [
        base.replace(mode="b"),
        base.replace(gain=[[1.0, 2.0, 3.0, 4.0]]),
        base.replace(matrix=[[1.0, 2.0], [3.0, 4.0]]),
        base.replace(beam=[[1.0, 2.0], [3.0, 4.0]]),
        base.replace(weight=[1.0, 2.0]),
    ]
    assert len({p.digest for p in (base, *others)}) == 6
    assert base != 1
    assert base != "Mixed"


def test_two_classes_with_the_same_content_differ():
    class Twin(Mixed):
        pass

    assert Twin(gain=[1.0]) != Mixed(gain=[1.0])


def test_the_digest_is_the_same_in_another_process():
    import subprocess
    import sys

    code = (
        "from rralloc.problems import WaterFilling;"
        "print(WaterFilling(gain=[2.0, 1.0], power_budget_w=3.0).digest)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == WaterFilling(gain=[2.0, 1.0], power_budget_w=3.0).digest


def test_repr_shows_sizes_batch_and_options():
    assert repr(grown()) == "Mixed(K=4, batch=(2, 3), mode='a')"
    assert repr(Mixed(gain=[1.0, 2.0], mode="b")) == "Mixed(K=2, mode='b')"


# -- inheritance ----------------------------------------------------------------------------------


class Base(Problem):
    sense = "max"
    gain: Field = data("K", unit="1", low=0)
    x = variable("K", unit="1", low=0, high=1)

    def objective(self, x):
        return (self.gain * x["x"]).sum(-1)

    @offers(ClosedForm)
    def closed_form(self):
        return ClosedForm(lambda: {"x": np.ones(self.shape_of(type(self).x))})


class Child(Base):
    budget: Field = data(unit="1", low=0, default=1.0)
    y = variable("K", unit="1", low=0)
    x = variable("K", unit="1", low=0, high=0.5)

    def constraints(self, x):
        return (Constraint("y", self.budget - x["y"].sum(-1), "1", 1.0),)

    def closed_form(self):
        raise NotOffered("the budget couples the devices")


def test_a_subclass_adds_fields_and_variables_and_may_withdraw_a_form():
    child = Child(gain=[1.0, 2.0], budget=3.0)
    assert [v.name for v in Child.variables] == ["x", "y"]
    assert Child.x.high == 0.5
    assert Base.x.high == 1
    assert [v.name for v in Base.variables] == ["x"]
    assert set(Child._data) == {"gain", "budget"}
    with pytest.raises(NotOffered, match="couples"):
        child.view(ClosedForm)
    assert Base(gain=[1.0]).view(ClosedForm).point()["x"].tolist() == [1.0]


def test_view_is_built_once_and_says_what_is_missing():
    problem = WaterFilling.random(K=3, rng=0).flat()
    assert problem.view(Level) is problem.view(Level)
    with pytest.raises(NotOffered, match="WaterFilling has no Surrogate form"):
        problem.view(Surrogate)
    other = pickle.loads(pickle.dumps(problem))
    assert other == problem
    assert "_views" not in vars(other)


def test_random_takes_an_int_for_a_generator_and_settings_for_fields():
    for cls in (WaterFilling, SumRate, FEELScheduling, JointRate):
        one, two = cls.random(K=3, rng=5), cls.random(K=3, rng=np.random.default_rng(5))
        assert one == two
        assert one != cls.random(K=3, rng=6)
    assert WaterFilling.random(K=3, batch=(2, 4), rng=0).batch_shape == (2, 4)
    assert WaterFilling.random(K=3, rng=0, power_budget_w=7.0).power_budget_w == 7.0
    with pytest.raises(NotOffered, match="random"):
        Bowl.random(K=2)
