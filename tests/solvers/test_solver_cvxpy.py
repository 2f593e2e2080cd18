"""cvxpy: engines agree, models are built once and are DPP, bad endings keep their words."""

import threading
import warnings
from typing import ClassVar

import numpy as np
import pytest
from oracles import water_filling

import rralloc as rr
from rralloc.errors import InvalidProblem, NotOffered, SolverUnavailable, UnknownOption
from rralloc.fields import Constraint, data, option, variable
from rralloc.forms import Handle, Model, offers
from rralloc.problem import Problem
from rralloc.problems import WaterFilling
from rralloc.solvers import Cvxpy, _engines, cvxpy_model
from rralloc.typing import Array

ENGINES = ("cvxpy", "cvxpy:ECOS", "cvxpy:SCS")


class Quadratic(Problem):
    """min sum (x - c)^2 s.t. sum x = 1, x >= low: the projection onto a simplex if low = 0."""

    sense = "min"
    c: Array = data("K", unit="1")
    low: Array = data(unit="1", default=0.0)
    flaw: str = option(default="")
    x = variable("K", unit="1", low="low")
    built: ClassVar[list[str]] = []

    def objective(self, x):
        return ((x["x"] - self.c) ** 2).sum(-1)

    def constraints(self, x):
        return (Constraint("sum", x["x"].sum(-1) - 1.0, "1", 1.0, equality=True),)

    @offers(Model)
    def model(self):
        size, flaw = self.sizes["K"], self.flaw
        return Model((size, flaw), lambda backend: _quadratic(size, flaw), backends=("cvxpy",))


def _quadratic(size, flaw):
    import cvxpy as cp

    Quadratic.built.append(flaw)
    x, c, low = cp.Variable(size), cp.Parameter(size), cp.Parameter()
    rules = [cp.sum(x) == 1, x >= low]
    cost = cp.sum_squares(x - c)
    if flaw == "not DPP":
        scale = cp.Parameter(nonneg=True, value=1.0)
        cost = cp.sum_squares(scale * (x - c))
    elif flaw == "not DCP":
        cost = -cost
    elif flaw == "unbounded":
        cost, rules = cp.sum(x) + low, []
    elif flaw == "integer":
        rules.append(cp.Variable(integer=True) == x[0])
    model = cp.Problem(cp.Minimize(cost), rules)

    def assign(problem):
        c.value, low.value = np.broadcast_to(problem.c, size), float(problem.low)
        if flaw == "throws":
            raise ArithmeticError("no such data")

    def point(problem):
        return {"x": x.value * (np.nan if flaw == "nan" else 1.0)}

    return Handle(model, assign, point)


@pytest.fixture
def fresh(monkeypatch):
    """An empty cache and an empty list of builds."""
    monkeypatch.setattr(cvxpy_model, "HANDLES", _engines.Handles())
    monkeypatch.setattr(Quadratic, "built", [])


def simplex(c):
    """Projection onto {x >= 0, sum x = 1} by trying every number of positive entries."""
    top = np.sort(c)[::-1]
    shifts = [(top[:n].sum() - 1) / n for n in range(1, len(c) + 1)]
    return np.maximum(c - max(s for s, v in zip(shifts, top) if v > s), 0)


@pytest.mark.parametrize("name", ENGINES)
def test_water_filling_agrees_with_the_oracle(name):
    problem = WaterFilling.random(K=8, batch=4, rng=1)
    sol = rr.solve(problem, name)
    for i in range(4):
        power, _, rate = water_filling.solve(list(problem.gain[i]), 10.0)
        assert sol.objective[i] == pytest.approx(rate, rel=1e-5)
        assert np.allclose(sol.x["power_w"][i], power, atol=1e-2)
    assert sol.solver == name
    assert (sol.status == rr.Status.GLOBAL).all()
    assert (sol.stopped == rr.Stopped.CONVERGED).all()
    assert (sol.violation <= 1e-15).all()  # projected
    assert (sol.iterations > 0).all()


def test_ecos_is_the_twin_of_clarabel():
    problem = WaterFilling.random(K=12, batch=6, rng=7)
    one, two = rr.solve(problem, "cvxpy"), rr.solve(problem, "cvxpy:ecos")
    assert np.allclose(one.objective, two.objective, rtol=1e-7)
    assert not np.array_equal(one.x["power_w"], two.x["power_w"])  # not the same engine


def test_equality_constrained_quadratic(fresh):
    c = np.random.default_rng(0).normal(size=(5, 4))
    sol = rr.solve(Quadratic(c=c), "cvxpy", feas_tol=1e-7)
    assert np.allclose(sol.x["x"], [simplex(row) for row in c], atol=1e-6)
    assert (sol.status >= rr.Status.FEASIBLE).all()


def test_one_model_serves_all_instances_of_a_structure(fresh):
    c = np.random.default_rng(1).normal(size=(5, 3))
    rr.solve(Quadratic(c=c), "cvxpy")
    rr.solve(Quadratic(c=c[:2]), "cvxpy:ECOS")
    assert Quadratic.built == [""]
    rr.solve(Quadratic(c=np.zeros(4)), "cvxpy")
    assert Quadratic.built == ["", ""]


def test_an_answer_does_not_depend_on_what_was_solved_before(fresh):
    c = np.random.default_rng(2).normal(size=(4, 3))
    for name in ENGINES:
        batch = rr.solve(Quadratic(c=c), name).x["x"]
        cvxpy_model.HANDLES = _engines.Handles()
        alone = rr.solve(Quadratic(c=c[3]), name).x["x"]
        assert np.array_equal(batch[3], alone)


def test_a_model_in_use_or_spoilt_is_not_lent_again(fresh):
    problem = Quadratic(c=np.zeros(3))
    form = problem.view(Model)
    handles = _engines.Handles(limit=2)
    one, two = (handles.borrow(problem, form, "cvxpy", lambda handle: None) for _ in range(2))
    with one as (outer, _), two as (inner, _):
        assert inner is not outer
    assert len(handles) == 1
    with pytest.raises(KeyError), handles.borrow(problem, form, "cvxpy", lambda handle: None):
        raise KeyError
    assert len(handles) == 0
    for size in (3, 4, 5):
        other = Quadratic(c=np.zeros(size))
        with handles.borrow(other, other.view(Model), "cvxpy", lambda handle: None):
            pass
    assert len(handles) == 2
    seen = []
    thread = threading.Thread(target=lambda: seen.append(len(handles)))
    thread.start()
    thread.join()
    assert seen == [0]


def test_a_redefined_class_does_not_meet_its_old_model(fresh):
    class Quadratic2(Quadratic):
        pass

    rr.solve(Quadratic(c=np.zeros(3)), "cvxpy")
    rr.solve(Quadratic2(c=np.zeros(3)), "cvxpy")
    assert len(Quadratic.built) == 2


def test_a_model_must_be_dpp(fresh):
    with pytest.raises(InvalidProblem, match=r"convex but not DPP.*q = g \* P"):
        rr.solve(Quadratic(c=np.zeros(3), flaw="not DPP"), "cvxpy")
    with pytest.raises(InvalidProblem, match="not convex"):
        rr.solve(Quadratic(c=np.zeros(3), flaw="not DCP"), "cvxpy")


def test_infeasible_and_unbounded_keep_the_engines_word(fresh):
    sol = rr.solve(Quadratic(c=np.zeros((2, 3)), low=[0.0, 1.0]), "cvxpy", feas_tol=1e-7)
    assert list(sol.stopped) == [rr.Stopped.CONVERGED, rr.Stopped.ERROR]
    assert list(sol.status) == [rr.Status.LOCAL, rr.Status.NONE]
    assert sol.message == "cvxpy:CLARABEL: infeasible (1 of 2 instances)"
    assert np.isnan(sol.x["x"][1]).all()
    sol = rr.solve(Quadratic(c=np.zeros(3), flaw="unbounded"), "cvxpy:ECOS")
    assert (sol.stopped, sol.status) == (rr.Stopped.ERROR, rr.Status.NONE)
    assert sol.message == "cvxpy:ECOS: unbounded"


@pytest.mark.parametrize(
    ("flaw", "words"),
    [("throws", "ArithmeticError: no such data"), ("integer", "SolverError")],
)
def test_foreign_exceptions_become_errors_with_their_words(fresh, flaw, words):
    sol = rr.solve(Quadratic(c=np.zeros((2, 3)), flaw=flaw), "cvxpy")
    assert (sol.stopped == rr.Stopped.ERROR).all()
    assert (sol.status == rr.Status.NONE).all()
    assert words in sol.message


def test_values_that_are_not_numbers_are_no_point(fresh):
    sol = rr.solve(Quadratic(c=np.zeros(3), flaw="nan"), "cvxpy")
    assert sol.status == rr.Status.NONE


@pytest.mark.parametrize(("status", "reason"), cvxpy_model.STOPPED.items())
def test_status_table(monkeypatch, status, reason):
    import cvxpy as cp

    problem = WaterFilling.random(K=3, rng=0)
    monkeypatch.setattr(cp.Problem, "status", property(lambda model: status))
    sol = rr.solve(problem, "cvxpy")
    assert sol.stopped == reason
    assert sol.message == ("" if status == "optimal" else f"cvxpy:CLARABEL: {status}")
    assert (reason is rr.Stopped.CONVERGED) == (status == "optimal")
    assert sol.status == rr.Status.GLOBAL  # the point is judged by itself


def test_every_status_word_of_cvxpy_is_in_the_table():
    from cvxpy import settings

    known = [*settings.SOLUTION_PRESENT, *settings.INF_OR_UNB, *settings.INACCURATE]
    assert set(known) | set(settings.ERROR) == set(cvxpy_model.STOPPED)


def test_scs_on_gains_over_six_decades_is_never_a_silent_success():
    rng = np.random.default_rng(0)
    problem = WaterFilling(gain=10.0 ** rng.uniform(-3, 3, (6, 10)), power_budget_w=10.0)
    best = rr.solve(problem, "closed-form").objective
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sol = rr.solve(problem, "cvxpy:SCS", max_iter=400)
    off = np.abs(sol.objective - best) > 1e-3 * best
    assert (sol.stopped[off] != rr.Stopped.CONVERGED).all()
    assert (sol.stopped == rr.Stopped.STALLED).any()
    assert "cvxpy:SCS: optimal_inaccurate" in sol.message
    exact = rr.solve(problem, "cvxpy")
    assert np.allclose(exact.objective, best, rtol=1e-6)


def test_limits_and_settings_reach_the_engine():
    problem = WaterFilling.random(K=20, rng=0)
    for name in ENGINES:
        short = rr.solve(problem, name, max_iter=3)
        assert short.iterations == 3
        assert short.stopped in (rr.Stopped.ITERATIONS, rr.Stopped.STALLED, rr.Stopped.ERROR)
        assert short.message != ""
        assert rr.solve(problem, name, tol=1e-2).iterations < rr.solve(problem, name).iterations
    assert rr.solve(problem, "cvxpy", settings={"max_iter": 4}).iterations == 4


def test_time_limit_inside_the_engine():
    problem = WaterFilling.random(K=3000, rng=0)
    rr.solve(problem, "cvxpy", max_iter=1, certify="none")  # the model is built and compiled
    sol = rr.solve(problem, "cvxpy", time_limit=0.02, certify="none")
    assert sol.stopped == rr.Stopped.TIME
    assert "user_limit" in sol.message or sol.status == rr.Status.NONE
    assert sol.seconds < 3


def test_time_limit_over_a_batch():
    problem = WaterFilling.random(K=10, batch=2000, rng=0)
    sol = rr.solve(problem, "cvxpy", time_limit=0.4, certify="none")
    late = np.asarray(sol.stopped == rr.Stopped.TIME)
    assert late[-1]
    assert (np.diff(late.astype(int)) >= 0).all()
    assert sol.status[-1] == rr.Status.NONE
    assert (sol.status[~late] >= rr.Status.FEASIBLE).all()
    assert sol.seconds < 5
    assert "instances not finished" in sol.message


def test_start_is_declared_unused():
    problem = WaterFilling.random(K=3, rng=0)
    sol = rr.solve(problem, "cvxpy", start=rr.solve(problem, "closed-form"))
    assert sol.message == "cvxpy does not use the start."


def test_missing_engines_say_what_to_do(monkeypatch):
    import cvxpy

    problem = WaterFilling.random(K=3, rng=0)
    with pytest.raises(SolverUnavailable, match=r"'NOSUCH' installed; it has .*CLARABEL"):
        rr.solve(problem, "cvxpy:NOSUCH")
    monkeypatch.setattr(cvxpy, "installed_solvers", lambda: ["CLARABEL", "SCS"])
    with pytest.raises(SolverUnavailable, match=r"pip install ecos \(GPL-3.*3\.13"):
        rr.solve(problem, "cvxpy:ECOS")
    assert "cvxpy" in rr.solvers_for(problem)


def test_refusals():
    with pytest.raises(UnknownOption, match=r"engin.*engine"):
        rr.solve(WaterFilling.random(K=3, rng=0), "cvxpy", engin="ECOS")

    class PyomoOnly(Quadratic):
        @offers(Model)
        def model(self):
            return Model("key", lambda backend: None, backends=("pyomo",))

    problem = PyomoOnly(c=np.zeros(3))
    assert "only, not for cvxpy" in rr.solvers_for(problem).refused["cvxpy"]
    with pytest.raises(NotOffered, match="pyomo only"):
        rr.solve(problem, Cvxpy())
