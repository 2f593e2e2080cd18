"""scipy:slsqp and scipy:trust-constr against oracles, at domain edges, and against the clock."""

import numpy as np
import pytest
from oracles import water_filling
from scipy.optimize import OptimizeResult

import rralloc as rr
from rralloc.errors import InvalidProblem, NotOffered, UnknownOption
from rralloc.fields import Constraint, data, variable
from rralloc.problem import Problem
from rralloc.problems import WaterFilling
from rralloc.solvers import ScipyMinimize, scipy_minimize
from rralloc.typing import Array

BOTH = ("scipy:slsqp", "scipy:trust-constr")


class Quadratic(Problem):
    """min sum a (x - c)^2 s.t. sum x = 1, free x: x = c + (1 - sum c)/(a sum 1/a)."""

    sense = "min"
    a: Array = data("K", unit="1", low=0, open_low=True)
    c: Array = data("K", unit="1")
    x = variable("K", unit="1")

    def objective(self, x):
        return (self.a * (x["x"] - self.c) ** 2).sum(-1)

    def constraints(self, x):
        return (Constraint("sum", x["x"].sum(-1) - 1.0, "1", 1.0, equality=True),)

    def optimum(self):
        lack = 1 - self.c.sum(-1, keepdims=True)
        return self.c + lack / self.a / (1 / self.a).sum(-1, keepdims=True)


class Barrier(Problem):
    """min sum c x - log(x - d): infinite at and below d, which no bound mentions; x = d + 1/c."""

    sense = "min"
    c: Array = data("K", unit="1", low=0, open_low=True)
    d: Array = data("K", unit="1")
    x = variable("K", unit="1", low=0.0, high=100.0)

    def objective(self, x):
        room = x["x"] - self.d
        inside = np.where(room.real > 0, room, 1.0)
        value = (self.c * x["x"] - np.log(inside)).sum(-1)
        return np.where((room.real > 0).all(-1), value, np.inf)

    def gradient(self, x):
        room = x["x"] - self.d
        return {"x": np.where(room > 0, self.c - 1 / np.where(room > 0, room, 1.0), np.nan)}


class Thrower(Problem):
    """Evaluates at the start, then refuses."""

    sense = "min"
    c: Array = data(unit="1")
    x = variable(unit="1", low=0.0, high=1.0)

    def objective(self, x):
        return (x["x"] - self.c) ** 2

    def gradient(self, x):
        if np.asarray(x["x"]).real != 0.5:
            raise OverflowError("the objective gave up")
        return {"x": 2 * (x["x"] - self.c)}


@pytest.mark.parametrize("name", BOTH)
def test_water_filling_agrees_with_the_oracle(name):
    problem = WaterFilling.random(K=8, batch=4, rng=1)
    sol = rr.solve(problem, name)
    for i in range(4):
        power, _, rate = water_filling.solve(list(problem.gain[i]), 10.0)
        assert sol.objective[i] == pytest.approx(rate, rel=1e-6)
        assert np.allclose(sol.x["power_w"][i], power, atol=2e-3)
    assert sol.solver == name
    assert (sol.status == rr.Status.GLOBAL).all()
    assert (sol.stopped == rr.Stopped.CONVERGED).all()
    assert (sol.iterations > 1).all()
    assert sol.message == ""


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("unit", [1e-15, 1.0, 1e9])
def test_the_unit_of_power_changes_nothing(name, unit):
    problem = WaterFilling.random(K=5, rng=2)
    other = WaterFilling(gain=problem.gain / unit, power_budget_w=10.0 * unit)
    here, there = rr.solve(problem, name), rr.solve(other, name)
    assert there.objective == pytest.approx(here.objective, rel=1e-7)
    assert there.status == rr.Status.GLOBAL


@pytest.mark.parametrize("name", BOTH)
def test_equality_constraint(name):
    rng = np.random.default_rng(0)
    problem = Quadratic(a=rng.uniform(0.5, 5, (3, 6)), c=rng.normal(size=(3, 6)))
    sol = rr.solve(problem, name)
    assert np.allclose(sol.x["x"], problem.optimum(), atol=1e-5)
    assert (sol.status == rr.Status.LOCAL).all()


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("start", [99.0, 50.0, 2.001])
def test_steps_out_of_the_domain_are_rejected(name, start):
    problem = Barrier(c=[0.5, 1.0, 3.0], d=2.0)
    sol = rr.solve(problem, name, start={"x": np.full(3, start)})
    assert np.allclose(sol.x["x"], 2 + 1 / problem.c, atol=1e-3)
    assert sol.status == rr.Status.LOCAL


@pytest.mark.parametrize("name", BOTH)
def test_a_start_outside_the_domain_moves_inside(name):
    sol = rr.solve(Barrier(c=[0.5, 1.0], d=2.0), name, start={"x": np.zeros(2)})
    assert np.allclose(sol.x["x"], [4.0, 3.0], atol=1e-3)


@pytest.mark.parametrize("name", BOTH)
def test_no_finite_neighbour_is_an_error_with_words(name):
    sol = rr.solve(Barrier(c=[0.5, 1.0], d=200.0), name)
    assert sol.stopped == rr.Stopped.ERROR
    assert sol.status == rr.Status.NONE
    assert "finite at the start" in sol.message


@pytest.mark.parametrize("name", BOTH)
def test_foreign_exception_becomes_an_error_with_its_words(name):
    sol = rr.solve(Thrower(c=[0.0, 0.25]), name)
    assert (sol.stopped == rr.Stopped.ERROR).all()
    assert "OverflowError: the objective gave up" in sol.message


def test_warm_start_is_used():
    problem = WaterFilling.random(K=10, rng=3)
    best = rr.solve(problem, "closed-form")
    for name in BOTH:
        cold, warm = (
            rr.solve(problem, name, max_iter=1),
            rr.solve(problem, name, start=best, max_iter=1),
        )
        assert warm.objective > cold.objective + 0.1
        assert warm.objective == pytest.approx(best.objective, rel=1e-6)
        assert "does not use" not in warm.message
    full = rr.solve(problem, "scipy:slsqp"), rr.solve(problem, "scipy:slsqp", start=best)
    assert full[1].iterations < full[0].iterations


def test_iteration_limit_and_scipys_words():
    sol = rr.solve(WaterFilling.random(K=10, rng=3), "scipy:slsqp", max_iter=2)
    assert sol.stopped == rr.Stopped.ITERATIONS
    assert sol.message == "scipy:slsqp: Iteration limit reached"
    assert sol.status >= rr.Status.FEASIBLE
    assert sol.iterations == 2


@pytest.mark.parametrize(
    ("method", "code", "reason"),
    [(m, c, r) for m, table in scipy_minimize.STOPPED.items() for c, r in table.items()]
    + [("slsqp", 77, rr.Stopped.STALLED)],
)
def test_status_table(monkeypatch, method, code, reason):
    def fake(f, first, **settings):
        return OptimizeResult(x=first, nit=5, status=code, message="words of scipy")

    monkeypatch.setattr(scipy_minimize, "_minimize", fake)
    sol = rr.solve(WaterFilling.random(K=3, rng=0), f"scipy:{method}")
    assert sol.stopped == reason
    assert ("words of scipy" in sol.message) == (reason != rr.Stopped.CONVERGED)


def test_only_stationarity_and_slsqps_zero_are_success():
    good = [(m, c) for m, t in scipy_minimize.STOPPED.items() for c, r in t.items() if r == 0]
    assert good == [("slsqp", 0), ("trust-constr", 1)]


@pytest.mark.parametrize("name", BOTH)
def test_time_limit_over_a_batch(name):
    problem = WaterFilling.random(K=20, batch=300, rng=0)
    sol = rr.solve(problem, name, time_limit=0.25, certify="none")
    late = np.asarray(sol.stopped == rr.Stopped.TIME)
    assert late[-1]
    assert (np.flatnonzero(late) >= np.argmax(late)).all()
    assert (np.diff(late.astype(int)) >= 0).all()
    assert sol.status[-1] == rr.Status.NONE
    assert np.isnan(sol.objective[-1])
    assert (sol.status[~late] >= rr.Status.FEASIBLE).all()
    assert sol.seconds < 5


def test_time_up_inside_keeps_the_last_iterate(monkeypatch):
    problem = WaterFilling.random(K=10, batch=101, rng=0)  # too many lanes to be watched
    ticks = iter(range(10**6))
    monkeypatch.setattr(
        rr.run.Run, "interruption", lambda run: rr.Stopped.TIME if next(ticks) > 3 else None
    )
    sol = rr.solve(problem, "scipy:slsqp", certify="none")
    assert sol.stopped[0] == rr.Stopped.TIME
    assert sol.status[0] == rr.Status.FEASIBLE
    assert sol.status[1] == rr.Status.NONE


@pytest.mark.parametrize("name", BOTH)
def test_callback_sees_iterates_and_stops(name):
    rows = []
    problem = WaterFilling.random(K=10, rng=0)
    sol = rr.solve(problem, name, callback=lambda row: rows.append(row) or len(rows) >= 3)
    assert sol.stopped == rr.Stopped.USER
    assert [r["iteration"] for r in rows[:3]] == [1, 2, 3]
    best = max(r["objective"] for r in rows if r["violation"] <= 1e-9)
    assert sol.objective == pytest.approx(best, rel=1e-12)


def test_settings_reach_scipy_and_typos_do_not_pass():
    problem = WaterFilling.random(K=10, rng=0)
    loose = rr.solve(problem, "scipy:slsqp", settings={"ftol": 1e-2})
    assert loose.iterations < rr.solve(problem, "scipy:slsqp").iterations
    assert rr.solve(problem, "scipy:slsqp", tol=1e-2).iterations == loose.iterations
    with pytest.raises(UnknownOption, match=r"no option metod.*method"):
        rr.solve(problem, "scipy", metod="slsqp")
    with pytest.raises(UnknownOption, match="slsqp, trust-constr"):
        rr.solve(problem, "scipy:nelder")


def test_names_and_refusal():
    problem = WaterFilling.random(K=3, rng=0)
    assert [n for n in rr.solvers_for(problem) if n.startswith("scipy")] == list(BOTH)
    assert rr.solve(problem, ScipyMinimize()).solver == "scipy:slsqp"

    class Discrete(Problem):
        a: Array = data("K", unit="1")
        x = variable("K", unit="1", dtype=int)

        def objective(self, x):
            return (self.a * x["x"]).sum(-1)

    with pytest.raises(NotOffered, match="discrete"):
        rr.solve(Discrete(a=[1.0]), "scipy")
    with pytest.raises(InvalidProblem, match="start lacks"):
        rr.solve(problem, "scipy", start={})
