"""A problem and a solver as somebody writes them in a notebook cell."""

import inspect

import numpy as np
import pytest
from toys import Says

import rralloc as rr
from rralloc import registry
from rralloc.errors import UnknownName, UnknownOption
from rralloc.fields import Constraint, data, variable
from rralloc.problem import Problem
from rralloc.problems import WaterFilling
from rralloc.solver import Iterative, Solver
from rralloc.typing import Field


class Harvest(Problem):
    """max sum_k w_k sqrt(p_k), sum p <= P: p ~ w^2, value sqrt(P sum w^2)."""

    sense = "max"
    weight: Field = data("K", unit="1", low=0)
    power_budget_w: Field = data(unit="W", low=0)
    power_w = variable("K", unit="W", low=0, scale="power_budget_w")

    def objective(self, x):
        return (self.weight * np.sqrt(x["power_w"])).sum(-1)

    def constraints(self, x):
        slack = self.power_budget_w - x["power_w"].sum(-1)
        return (Constraint("power", slack, "W", self.power_budget_w),)


@pytest.fixture
def forgotten():
    """Whatever a test registers is unknown again afterwards."""
    before = dict(registry._guests)
    yield
    registry._guests.clear()
    registry._guests.update(before)
    for table in (registry.solver_classes, registry.problem_classes, registry.studies):
        table.cache_clear()


def test_a_new_problem_takes_no_more_than_thirty_lines():
    assert len(inspect.getsource(Harvest).splitlines()) <= 30


@pytest.mark.parametrize("solver", [None, "scipy:slsqp", "scipy:trust-constr", "multistart"])
def test_generic_solvers_take_it_at_once(solver):
    problem = Harvest(weight=[[1.0, 2.0, 3.0], [2.0, 2.0, 1.0]], power_budget_w=[2.0, 5.0])
    options = {"starts": 3, "rng": 0} if solver == "multistart" else {}
    sol = rr.solve(problem, solver, **options)
    best = np.sqrt(problem.power_budget_w * (problem.weight**2).sum(-1))
    np.testing.assert_allclose(sol.objective, best, rtol=1e-6)
    assert (sol.status == rr.Status.LOCAL).all()
    assert np.isnan(sol.bound).all()


def test_one_line_more_proves_the_optimum():
    class Proven(Harvest):
        bound_method = "Cauchy-Schwarz"

        def bound(self, x=None, witness=None):
            return np.sqrt(self.power_budget_w * (self.weight**2).sum(-1))

    sol = rr.solve(Proven(weight=[1.0, 2.0], power_budget_w=3.0))
    assert sol.status is rr.Status.GLOBAL
    assert sol.bound_method == "Cauchy-Schwarz"


def test_a_registered_problem_is_known_by_name(forgotten):
    with pytest.raises(UnknownName, match="Harvest"):
        registry.problem_class("Harvest")
    assert rr.register(Harvest) is Harvest
    assert registry.problem_class("Harvest") is Harvest


class Halving(Solver):
    """Walks from the start towards the best corner, half the way at a time."""

    name = "halving"
    warm = True
    steps: int = 60

    def solve(self, problem, start, run):
        x = (problem.initial() if start is None else start)["power_w"]
        goal = problem.points()["best"]()["power_w"]
        for _ in range(self.steps):
            x = (x + goal) / 2
            run.offer({"power_w": x})


def test_a_solver_works_by_instance_and_class_unregistered():
    problem = WaterFilling.random(K=3, batch=4, rng=0)
    for solver in (Halving, Halving(), Halving(steps=5)):
        sol = rr.solve(problem, solver)
        assert sol.solver == "halving"
        assert (sol.status >= rr.Status.FEASIBLE).all()
        assert (sol.objective >= rr.solve(problem, "baseline:best").objective - 1e-9).all()
    assert rr.solve(problem, Halving(), steps=2).solver == "halving"
    with pytest.raises(UnknownOption, match="its options: steps"):
        rr.solve(problem, Halving, size=3)
    with pytest.raises(UnknownName, match="halving"):
        rr.solve(problem, "halving")


def test_a_registered_solver_is_known_by_name(forgotten):
    problem = WaterFilling.random(K=3, rng=0)
    assert rr.register(Halving) is Halving
    assert rr.solve(problem, "halving", steps=3).solver == "halving"
    assert "halving" in rr.solvers_for(problem)
    with pytest.raises(UnknownName, match="Did you mean 'halving'"):
        rr.solve(problem, "halvin")


def test_registering_again_replaces_the_class(forgotten):
    class Second(Halving):
        name = "halving"
        steps: int = 1

    rr.register(Halving)
    rr.register(Second)
    assert registry.solver_classes()["halving"] is Second


def test_a_registered_solver_that_needs_an_option_is_refused_not_a_crash(forgotten):
    rr.register(rr.Causal)
    rr.register(Says)
    problem = WaterFilling.random(K=3, rng=0)
    found = rr.solvers_for(problem)
    assert "closed-form" in found
    assert "no default for policy" in found.refused["causal"]
    assert "no default for act" in found.refused["says"]
    assert rr.solve(problem).solver == "closed-form"


class Countdown(Iterative):
    """Lane i is done after i + 1 steps, at p = its step count in equal shares."""

    name = "countdown"

    def begin(self, problem, start, run):
        from typing import NamedTuple

        class State(NamedTuple):
            left: np.ndarray
            made: np.ndarray
            done: np.ndarray

        left = np.arange(1, problem.size + 1)
        return State(left, np.zeros(problem.size), np.zeros(problem.size, dtype=bool))

    def step(self, problem, state, run):
        live = ~state.done
        left, made = state.left - live, state.made + live
        return type(state)(left, made, left == 0)

    def point(self, problem, state):
        share = np.ones(problem.shape_of(WaterFilling.power_w))
        return {"power_w": share * state.made[:, None] * 1e-3}


@pytest.mark.parametrize("lanes", [1, 2, 7, 150])
def test_an_iterative_solver_counts_each_lane_by_itself(lanes):
    problem = WaterFilling.random(K=2, batch=lanes, rng=0)
    sol = rr.solve(problem, Countdown)
    steps = np.arange(1, lanes + 1)
    np.testing.assert_array_equal(sol.iterations, steps)
    np.testing.assert_allclose(sol.power_w[:, 0], steps * 1e-3)
    assert (sol.stopped == rr.Stopped.CONVERGED).all()
    cut = rr.solve(problem, Countdown, max_iter=3)
    np.testing.assert_array_equal(cut.stopped, np.where(steps <= 3, 0, rr.Stopped.ITERATIONS))
    np.testing.assert_allclose(cut.power_w[:, 0], np.minimum(steps, 3) * 1e-3)
