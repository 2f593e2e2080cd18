"""baseline: named rules, compared like any solver and never chosen by default."""

import numpy as np
import pytest
from toys import Bowl

import rralloc as rr
from rralloc.errors import NotOffered
from rralloc.problems import MinMaxLatency, SumRate, WaterFilling
from rralloc.solvers import Baseline


def test_rules_are_the_points_of_the_problem():
    problem = WaterFilling(gain=[2.0, 4.0], power_budget_w=3.0)
    equal, best = (rr.solve(problem, f"baseline:{n}") for n in ("equal", "best"))
    np.testing.assert_array_equal(equal.power_w, [1.5, 1.5])
    np.testing.assert_array_equal(best.power_w, [0.0, 3.0])
    assert equal.objective == pytest.approx(np.log2(4) + np.log2(7))
    assert equal.solver == "baseline:equal"
    assert rr.solve(problem, Baseline(rule="best")).objective == best.objective
    assert rr.solve(problem, "baseline", rule="best").solver == "baseline:best"


def test_every_rule_is_listed_feasible_and_not_better_than_the_optimum():
    for cls in (WaterFilling, SumRate, MinMaxLatency):
        problem = cls.random(K=3, batch=4, rng=0)
        rules = [n for n in rr.solvers_for(problem) if n.startswith("baseline:")]
        assert rules == [f"baseline:{n}" for n in problem.points()]
        for rule in rules:
            sol = rr.solve(problem, rule)
            assert (sol.violation <= 1e-12).all()
            worse = sol.bound - sol.objective if cls.sense == "max" else sol.objective - sol.bound
            assert (worse >= -1e-12 * np.abs(sol.bound)).all()


def test_a_rule_that_happens_to_be_optimal_is_global():
    problem = WaterFilling(gain=[3.0, 3.0, 3.0], power_budget_w=6.0)
    assert rr.solve(problem, "baseline:equal").status is rr.Status.GLOBAL
    assert rr.solve(problem, "baseline:best").status < rr.Status.LOCAL


def test_unknown_rules_and_problems_without_rules():
    with pytest.raises(NotOffered, match="baseline:equal, baseline:best"):
        rr.solve(WaterFilling.random(K=2, rng=0), "baseline")
    with pytest.raises(NotOffered, match="no baselines"):
        rr.solve(Bowl(centre=[0.5]), "baseline:equal")


def test_never_the_default():
    class Rule(Bowl):
        differentiable = False

        def points(self):
            return {"middle": lambda: {"x": np.full(self.shape_of(type(self).x), 0.5)}}

    with pytest.raises(NotOffered, match="no solver applies"):
        rr.solve(Rule(centre=[0.2]))
