"""multistart: finds the better of two basins, counts agreement, keeps time."""

import numpy as np
import pytest

import rralloc as rr
from rralloc.errors import NotOffered, UnknownName, UnknownOption
from rralloc.fields import data, variable
from rralloc.problem import Problem
from rralloc.problems import WaterFilling
from rralloc.typing import Array


class Tilted(Problem):
    """min sum (x^2 - 1)^2 + tilt x: two basins in each coordinate, the left one lower."""

    sense = "min"
    tilt: Array = data("K", unit="1", low=0)
    x = variable("K", unit="1", low=-2.0, high=2.0, scale=2.0)

    def objective(self, x):
        return ((x["x"] ** 2 - 1) ** 2 + self.tilt * x["x"]).sum(-1)

    def points(self):
        return {"wrong": lambda: {"x": np.ones(self.shape_of(type(self).x))}}

    def lowest(self):
        grid = np.linspace(-2, 2, 400001)
        return sum(((grid**2 - 1) ** 2 + t * grid).min() for t in self.tilt)


class Mirror(Tilted):
    """The same upside down: the best value is the greatest."""

    sense = "max"

    def objective(self, x):
        return -super().objective(x)


def test_one_local_run_is_stuck_and_many_are_not():
    problem = Tilted(tilt=[0.3, 0.2])
    alone = rr.solve(problem, "scipy:slsqp")
    sol = rr.solve(problem, "multistart", starts=20, rng=0)
    assert alone.objective > problem.lowest() + 0.3
    assert sol.objective == pytest.approx(problem.lowest(), abs=1e-7)
    assert sol.stopped == rr.Stopped.CONVERGED
    assert sol.status == rr.Status.LOCAL
    assert rr.solve(Mirror(tilt=[0.3, 0.2]), "multistart", starts=20, rng=0).objective == (
        pytest.approx(-problem.lowest(), abs=1e-7)
    )


def test_message_counts_the_starts_that_agree():
    problem = Tilted(tilt=[0.3])
    rng = np.random.default_rng(5)
    begins = [problem.initial(), *(problem.sample(rng) for _ in range(11))]
    ends = [float(rr.solve(problem, "scipy:slsqp", start=b).objective) for b in begins]
    agree = sum(e <= min(ends) + 1e-6 * abs(min(ends)) for e in ends)
    assert 0 < agree < 12
    sol = rr.solve(problem, "multistart", starts=12, rng=5)
    assert sol.message == f"multistart: {agree} of 12 starts reached the best value"


def test_a_seed_repeats_and_the_first_start_is_the_callers():
    problem = Tilted(tilt=[0.3, 0.2, 0.1])
    one, two = (rr.solve(problem, "multistart", starts=4, rng=3) for _ in range(2))
    assert np.array_equal(one.x["x"], two.x["x"])
    good = rr.solve(problem, "multistart", starts=1, start={"x": np.full(3, -1.0)})
    assert good.objective == pytest.approx(problem.lowest(), abs=1e-7)
    assert rr.solve(problem, "multistart", starts=1).objective > good.objective + 0.5
    assert len(good.trace) == 1


def test_inner_solver_is_named_by_option_or_variant():
    problem = WaterFilling.random(K=4, rng=0)
    best = rr.solve(problem, "closed-form").objective
    for sol in (
        rr.solve(problem, "multistart:pyomo:pounce", starts=2),
        rr.solve(problem, "multistart", inner="scipy:trust-constr", starts=2),
    ):
        assert sol.objective == pytest.approx(best, rel=1e-6)
        assert "2 of 2 starts" in sol.message
    assert rr.solve(problem, "multistart:pyomo", starts=1).solver == "multistart:pyomo"


def test_refusals():
    problem = WaterFilling.random(K=4, rng=0)
    with pytest.raises(NotOffered, match="ignores its start"):
        rr.solve(problem, "multistart", inner="closed-form")
    with pytest.raises(UnknownOption, match="another"):
        rr.solve(problem, "multistart", inner="multistart:scipy")
    with pytest.raises(UnknownOption, match="at least one"):
        rr.solve(problem, "multistart", starts=0)
    with pytest.raises(UnknownOption, match="start"):
        rr.solve(problem, "multistart", start_count=3)
    with pytest.raises(UnknownName, match="sciy"):
        rr.solve(problem, "multistart", inner="sciy")
    refused = rr.solvers_for(_Jagged(a=[1.0])).refused
    assert "not differentiable" in refused["multistart"]


class _Jagged(Problem):
    differentiable = False
    a: Array = data("K", unit="1")
    x = variable("K", unit="1", low=0.0, high=1.0)

    def objective(self, x):
        return np.abs(self.a - x["x"]).sum(-1)


def test_time_limit_over_a_batch_and_inside_an_instance():
    problem = WaterFilling.random(K=20, batch=200, rng=0)
    sol = rr.solve(problem, "multistart", starts=10, time_limit=0.3, certify="none")
    assert sol.stopped[-1] == rr.Stopped.TIME
    assert sol.status[-1] == rr.Status.NONE
    assert sol.status[0] >= rr.Status.FEASIBLE
    assert sol.seconds < 5
    one = rr.solve(problem[0], "multistart", starts=10**6, time_limit=0.2)
    assert one.stopped == rr.Stopped.TIME
    assert one.status == rr.Status.GLOBAL
    assert "of 1000000 starts" in one.message


def test_a_callback_stops_it_and_words_remain():
    problem = Tilted(tilt=[0.3, 0.2])
    rows = []
    sol = rr.solve(
        problem, "multistart", starts=50, rng=0, callback=lambda r: rows.append(r) or len(rows) == 3
    )
    assert sol.stopped == rr.Stopped.USER
    assert len(rows) == 3
    assert "3 of 50 starts reached" in sol.message


class _Broken(Tilted):
    def gradient(self, x):
        if np.abs(x["x"]).max() != 1.0:
            raise OverflowError("no slope today")
        return {"x": 4 * x["x"] * (x["x"] ** 2 - 1) + self.tilt}


def test_when_no_inner_run_works_its_words_come_up():
    sol = rr.solve(_Broken(tilt=[0.3]), "multistart", starts=3)
    assert sol.stopped == rr.Stopped.ERROR
    assert sol.status == rr.Status.NONE
    assert "none of 3 starts ended at a feasible point" in sol.message
    assert "OverflowError: no slope today" in sol.message
