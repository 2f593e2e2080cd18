"""alternating: block by block on a jointly concave toy whose optimum a conic solver knows."""

import numpy as np
import pytest
from toys import JointRate, PowerBlock

import rralloc as rr
from rralloc.errors import NotOffered, UnknownName
from rralloc.problems import WaterFilling

BOTH = ("bandwidth", "power")


@pytest.fixture(scope="module")
def toys():
    problems = [JointRate.random(K=4, rng=seed) for seed in range(4)]
    return problems, np.array([p.oracle() for p in problems])


def test_the_power_block_alone_is_optimal():
    """With b = 1 and w = 1 it is water-filling."""
    gain = np.array([2.0, 1.0, 0.5, 0.1])
    block = PowerBlock(gain=gain, bandwidth_hz=1.0, weight=1.0, power_budget_w=3.0)
    filled = rr.solve(WaterFilling(gain=gain, power_budget_w=3.0))
    sol = rr.solve(block)
    np.testing.assert_allclose(sol.power_w, filled.power_w, rtol=1e-10)


def test_the_joint_optimum_is_reached(toys):
    problems, best = toys
    sol = rr.solve(rr.stack(problems), "alternating")
    np.testing.assert_allclose(sol.objective, best, rtol=1e-4)
    assert (sol.objective <= best * (1 + 1e-6)).all()
    assert (sol.violation <= 1e-9).all()
    assert (sol.status == rr.Status.FEASIBLE).all()


def test_every_sweep_is_monotone(toys):
    problem = rr.stack(toys[0])
    sol = rr.solve(problem, "alternating", max_iter=30)
    first = problem.objective(problem.initial())
    for lane in range(4):
        path = sol.trace.column("objective", lane)
        assert (np.diff(path) >= -1e-12 * path[1:]).all()
        assert path[0] >= first[lane]
        assert path[-1] > first[lane]


def test_one_sweep_by_hand(toys):
    problem = toys[0][1]
    x = problem.initial()
    for order in (BOTH, BOTH[::-1]):
        by_hand = dict(x)
        for block in order:
            by_hand |= rr.solve(problem.blocks().fix(block, by_hand)).x
        sol = rr.solve(problem, "alternating", order=order, max_iter=1)
        for name in by_hand:
            np.testing.assert_allclose(sol.x[name], by_hand[name], rtol=1e-9, atol=1e-12)
        assert sol.stopped is rr.Stopped.ITERATIONS


def test_orders_and_starts_are_options_and_all_is_the_best_of_them(toys):
    problem = rr.stack(toys[0])
    runs = [
        rr.solve(problem, "alternating", order=order, start_from=start, max_iter=3)
        for order in ("forward", "reverse")
        for start in ("equal", "ramp")
    ]
    best = np.max([r.objective for r in runs], axis=0)
    every = rr.solve(problem, "alternating", order="all", start_from="all", max_iter=3)
    np.testing.assert_allclose(every.objective, best, rtol=1e-12)
    assert np.ptp([r.objective for r in runs], axis=0).max() > 1e-6
    plain = rr.solve(problem, "alternating", max_iter=3)
    np.testing.assert_array_equal(plain.objective, runs[0].objective)


def test_the_callers_start_is_used_and_made_feasible(toys):
    problem, best = toys[0][0], toys[1][0]
    late = rr.solve(problem, "alternating", start=rr.solve(problem, "alternating"))
    assert late.iterations <= 3
    wild = {"bandwidth_hz": np.full(4, 100.0), "power_w": np.full(4, 100.0)}
    sol = rr.solve(problem, "alternating", start=wild)
    assert sol.violation <= 1e-9
    assert sol.objective == pytest.approx(best, rel=1e-4)


def test_blocks_may_name_their_solver(toys):
    problem = toys[0][0]
    plain = rr.solve(problem, "alternating", max_iter=3)
    named = rr.solve(problem, "alternating", methods={"bandwidth": "level"}, max_iter=3)
    assert named.objective == pytest.approx(plain.objective, rel=1e-9)
    with pytest.raises(UnknownName, match="nobody"):
        rr.solve(problem, "alternating", methods={"bandwidth": "nobody"}, max_iter=3)


def test_unknown_orders_and_starts_are_named(toys):
    problem = toys[0][0]
    for order in ("backward", ("power", "phase")):
        with pytest.raises(UnknownName, match="block order"):
            rr.solve(problem, "alternating", order=order)
    with pytest.raises(UnknownName, match=r"no start is named 'euqal'\. Did you mean 'equal'"):
        rr.solve(problem, "alternating", start_from="euqal")
    with pytest.raises(NotOffered, match="Blocks"):
        rr.solve(WaterFilling.random(K=2, rng=0), "alternating")
