"""What holds for every small problem: conformance, and properties of its solution map."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SMALL

import rralloc as rr
from rralloc.fields import data, variable
from rralloc.problem import Problem
from rralloc.registry import problem_classes
from rralloc.solution import gap_between
from rralloc.testing import check
from rralloc.typing import Array

LOOSE = {"scipy:trust-constr": 1e-3}
"""Its barrier ends at a fixed parameter: 1e-4 off on a minimax, and it says FEASIBLE, no more."""
CLASSES = pytest.mark.parametrize("cls", SMALL, ids=lambda cls: cls.__name__)


def solved(problem, solver=None):
    """The exact solution; feasible, proven, and never beyond its bound."""
    sol = rr.solve(problem, solver)
    assert (np.asarray(sol.status) == rr.Status.GLOBAL).all(), sol
    beyond = sol.bound - sol.objective if problem.sense == "min" else sol.objective - sol.bound
    assert (beyond <= 1e-9 * np.abs(sol.objective)).all()
    return sol


@CLASSES
@pytest.mark.parametrize(("size", "batch"), [(4, 3), (3, None), (1, 2), (3, (2, 2))])
def test_conformance(cls, size, batch):
    ran = check(cls.random(K=size, batch=batch, rng=size))
    assert {"fields", "indexing", "baselines", "projection", "bound"} <= set(ran)


@pytest.mark.parametrize("name", sorted(set(problem_classes()) - {c.__name__ for c in SMALL}))
def test_conformance_of_every_other_class(name):
    try:
        problem = problem_classes()[name].random(K=3, batch=2, rng=1)
    except rr.errors.NotOffered as reason:
        pytest.skip(str(reason))
    assert {"fields", "indexing"} <= set(check(problem))


def test_conformance_leaves_out_infeasible_instances():
    deaf = strategies.MinMaxLatency.random(K=2, rng=0, path_gain=[[1e-10, 1e-11], [1e-10, 0.0]])
    assert "level" in check(deaf)
    assert check(deaf[1]) == ["fields", "indexing"]


@CLASSES
def test_pickling_keeps_content_and_freezes(cls):
    problem = cls.random(K=3, batch=2, rng=0)
    rr.solve(problem)  # views and shapes that were looked up do not travel
    copy = pickle.loads(pickle.dumps(problem))
    assert copy == problem
    assert hash(copy) == hash(problem)
    assert copy != cls.random(K=3, batch=2, rng=1)
    for name in problem._data:
        with pytest.raises(ValueError, match="read-only"):
            getattr(copy, name)[...] = 0


@CLASSES
@given(pick=st.data())
def test_solved_over_many_decades(cls, pick):
    solved(pick.draw(strategies.by_class[cls]()))


@CLASSES
@settings(max_examples=10)
@given(pick=st.data())
def test_batch_equals_loop(cls, pick):
    problem = pick.draw(strategies.by_class[cls](st.just((3,))))
    together = solved(problem)
    for i, one in enumerate(problem):
        alone = solved(one)
        assert alone.objective == pytest.approx(together.objective[i], rel=1e-12, abs=0)
        for name, value in alone.x.items():
            assert value == pytest.approx(together.x[name][i], rel=1e-6, abs=1e-9 * value.max())


@CLASSES
@given(pick=st.data())
def test_order_of_devices_does_not_matter(cls, pick):
    problem = pick.draw(strategies.single[cls]())
    order = np.array(pick.draw(st.permutations(range(problem.sizes["K"]))))
    here, there = solved(problem), solved(problem.select(K=order))
    assert there.objective == pytest.approx(here.objective, rel=1e-12, abs=0)


@CLASSES
def test_every_solver_reaches_the_best(cls):
    """Parametrised by what is listed at run time; baselines are rules and owe nothing."""
    for seed in (0, 1):
        problem = cls.random(K=4, rng=seed)
        names = rr.solvers_for(problem)
        best = solved(problem).objective
        for name in names:
            sol = rr.solve(problem, name, rng=0)
            assert sol.violation <= 1e-9, (name, sol)
            if name.startswith("baseline"):
                assert (sol.objective - best) * (1 if cls.sense == "min" else -1) >= -1e-9 * best
            elif name != "greedy":  # a rule that stops early, by design
                assert gap_between(sol.objective, best) <= LOOSE.get(name, 1e-5), (name, sol)
    assert any(name.startswith("baseline") for name in names)


@CLASSES
def test_status_of_every_random_instance_is_proven(cls):
    solved(cls.random(K=12, batch=50, rng=5))


def broken(**methods):
    """Water-filling with some methods replaced."""
    cls = type("Broken", (strategies.WaterFilling,), methods)
    return cls(gain=[2.0, 1.0, 0.1], power_budget_w=3.0)


def far(self, x=None, witness=None):
    return strategies.WaterFilling.bound(self, x, witness) * 0.7


def shifted(self, x):
    return {"power_w": strategies.WaterFilling.gradient(self, x)["power_w"] * 1.001}


def overfull(self, x):
    return {"power_w": np.maximum(x["power_w"], 0.0)}


def greedy_rule(self):
    return {"double": lambda: {"power_w": np.repeat(self.power_budget_w[..., None], 3, axis=-1)}}


def loop_only(self, x):
    value = strategies.WaterFilling.objective(self, x)
    return value + 0.01 * np.arange(value.size).reshape(value.shape)


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({"bound": far}, "bound: a feasible point beats it"),
        ({"gradient": shifted}, "gradient: differs"),
        ({"project": overfull}, "projection: a projected point is infeasible"),
        ({"points": greedy_rule}, "baselines: double is not feasible"),
        ({"objective": loop_only}, "indexing: objective: batch and loop differ"),
    ],
)
def test_the_suite_catches_broken_promises(methods, words):
    problem = rr.stack([broken(**methods)] * 2)
    with pytest.raises(AssertionError, match=f"Broken: {words}.* at \\["):
        check(problem)


def test_the_suite_catches_a_level_with_a_wrong_slope():
    from dataclasses import replace

    from rralloc.forms import Level, offers

    def level(self):
        form = strategies.WaterFilling.level(self)
        return replace(form, slope=lambda at: 1.01 * form.slope(at))

    with pytest.raises(AssertionError, match="level: slope differs from used"):
        check(broken(level=offers(Level)(level)))


def test_the_suite_skips_what_is_not_offered():
    class Plain(Problem):
        target: Array = data("K", unit="1")
        x = variable("K", unit="1", low=-5, high=5)

        def objective(self, x):
            return ((x["x"] - self.target) ** 2).sum(-1)

    ran = check(Plain(target=[1.0, 2.0]))
    assert ran == ["fields", "indexing", "baselines", "projection", "gradient", "smooth"]
