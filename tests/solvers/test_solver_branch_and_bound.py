"""branch-and-bound: the global value, with cells that prove it, for either sense."""

import numpy as np
import pytest
from oracles import sum_rate
from toys import Unaware, Waves

import rralloc as rr
from rralloc.errors import NotOffered
from rralloc.problems import SumRate, WaterFilling


def test_the_classic_instance_is_solved_and_proven():
    sol = rr.solve(SumRate.dccp37(), "branch-and-bound")
    assert sol.status is rr.Status.GLOBAL
    assert sol.objective == pytest.approx(4.686035, rel=5e-5)
    assert sol.bound >= 4.686035
    assert sol.gap <= 5e-5
    assert sol.stopped is rr.Stopped.CONVERGED


def test_minimum_rates_against_the_published_value():
    sol = rr.solve(SumRate.dccp37(minimum_rate=1.0), "branch-and-bound", gap=1e-3)
    assert sol.objective <= 3.03826 * (1 + 1e-5)
    assert sol.bound >= 3.03826 * (1 - 1e-5)
    assert sol.violation <= 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_random_links_against_many_local_searches(seed):
    problem = SumRate.random(K=3, rng=seed)
    sol = rr.solve(problem, "branch-and-bound")
    best = sum_rate.local_maxima(problem.gain, 0.01, np.ones(3), np.ones(3), starts=20, seed=seed)
    value = best[0][0]
    assert sol.status is rr.Status.GLOBAL
    assert sol.bound >= value * (1 - 1e-12)
    assert value * (1 - 1e-4) <= sol.objective <= sol.bound


@pytest.mark.parametrize("centre", [[0.3], [0.3, -0.2], [-0.9, 0.35, 0.6]])
def test_a_minimum_with_many_basins(centre):
    problem = Waves(centre=centre)
    sol = rr.solve(problem, "branch-and-bound")
    least = problem.lowest()
    assert sol.status is rr.Status.GLOBAL
    assert sol.bound <= least
    assert least <= sol.objective <= least + 1e-4 * abs(least)


def test_a_batch_is_solved_lane_by_lane():
    problem = Waves(centre=[[0.3], [-0.5]])
    sol = rr.solve(problem, "branch-and-bound")
    assert (sol.status == rr.Status.GLOBAL).all()
    np.testing.assert_allclose(sol.objective, [p.lowest() for p in problem], rtol=1e-4)


def test_the_cell_limit_keeps_a_valid_bound():
    problem = SumRate.dccp37()
    sol = rr.solve(problem, "branch-and-bound", cells=200, width=16)
    assert sol.stopped is rr.Stopped.ITERATIONS
    assert "stopped at" in sol.message
    assert sol.status < rr.Status.GLOBAL
    assert sol.bound >= 4.686035
    assert sol.bound < rr.solve(problem, "baseline:strongest").bound


def test_a_start_and_a_coarser_gap():
    problem = SumRate.dccp37()
    good = {"power_w": np.array([0.0, 0.12114, 1.0, 0.0])}
    sol = rr.solve(problem, "branch-and-bound", start=good, gap=0.05)
    assert sol.objective >= 4.6860
    assert sol.bound / sol.objective <= 1.06
    assert sol.iterations < rr.solve(problem, "branch-and-bound", start=good).iterations


def test_an_impossible_promise_leaves_no_point():
    told = {"gain": np.ones((2, 2)), "noise_w": 1.0, "power_max_w": 1.0, "minimum_rate": 2.0}
    assert rr.solve(SumRate(**told), "branch-and-bound").status == rr.Status.INFEASIBLE
    sol = rr.solve(Unaware(**told), "branch-and-bound")
    assert sol.status <= rr.Status.VIOLATED
    assert "no cell holds a feasible point" in sol.message


def test_refused_without_cell_bounds():
    with pytest.raises(NotOffered, match="Boxes"):
        rr.solve(WaterFilling.random(K=2, rng=0), "branch-and-bound")
