"""Certificates: a bound is evaluated by the problem; lies and broken trees prove nothing false."""

import dataclasses
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import SaysEach, Waves, offering

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.numerics.cells import CellTree
from rralloc.problems import (
    FDMARate,
    FEELScheduling,
    InverseWaterFilling,
    MinMaxLatency,
    SumRate,
    WaterFilling,
)

DCCP37 = 4.686035  # tests/oracles: best of grid and 60 polished starts


# -- cells ----------------------------------------------------------------------------------------


def grown(cuts, n, seed=0):
    """A random tree of halvings and its leaves, built by hand."""
    rng = np.random.default_rng(seed)
    axis, child = [-1], [-1]
    for _ in range(cuts):
        leaves = [i for i, a in enumerate(axis) if a < 0]
        i = int(rng.choice(leaves))
        axis[i], child[i] = int(rng.integers(n)), len(axis)
        axis += [-1, -1]
        child += [-1, -1]
    return CellTree(np.array(axis), np.array(child))


@given(st.integers(0, 40), st.integers(1, 4), st.integers(0, 9999))
def test_cells_cover_the_box_and_do_not_overlap(cuts, n, seed):
    rng = np.random.default_rng(seed)
    lower = rng.normal(size=n)
    upper = lower + rng.uniform(0.1, 3.0, size=n)
    low, high = grown(cuts, n, seed).cells(lower, upper)
    assert low.shape == high.shape == (cuts + 1, n)
    assert (high > low).all()
    volume = np.prod(high - low, axis=1).sum()
    assert volume == pytest.approx(np.prod(upper - lower), rel=1e-12)
    for y in lower + (upper - lower) * rng.uniform(size=(50, n)):
        assert ((y > low) & (y < high)).all(-1).sum() == 1


def test_one_node_is_the_whole_box():
    low, high = CellTree(np.array([-1]), np.array([-1])).cells(np.zeros(2), np.ones(2))
    assert low.tolist() == [[0, 0]]
    assert high.tolist() == [[1, 1]]


@pytest.fixture
def promptly():
    """A circle must be refused, not walked for ever."""

    def late(*_):
        raise TimeoutError("still walking the tree after 2 s")

    old = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 2.0)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, old)


@pytest.mark.usefixtures("promptly")
@pytest.mark.parametrize(
    ("axis", "child"),
    [
        ([0, -1, -1], [0, -1, -1]),  # its own child
        ([0, 0, -1], [1, 0, -1]),  # a circle
        ([0, -1, -1], [2, -1, -1]),  # second child beyond the end
        ([0, -1, -1], [7, -1, -1]),
        ([0, -1, -1], [-2, -1, -1]),  # negative: would wrap around
        ([0, -1, -1, -1, -1], [1, -1, -1, -1, -1]),  # nodes nobody reaches
        ([0, 0, 0, -1, -1], [1, 3, 3, -1, -1]),  # two parents
        ([0, 1, -1, -1], [1, 2, -1, -1]),  # a node is child twice
        ([5, -1, -1], [1, -1, -1]),  # no such axis
    ],
)
def test_a_broken_tree_is_refused(axis, child):
    tree = CellTree(np.array(axis), np.array(child))
    with pytest.raises(ValueError, match="tree"):
        tree.cells(np.zeros(2), np.ones(2))


def test_a_forgotten_cell_cannot_be_hidden():
    """Dropping a leaf leaves a node that its parent points to, or one that nobody reaches."""
    whole = grown(6, 2)
    short = CellTree(whole.axis[:-1], whole.child[:-1])
    with pytest.raises(ValueError, match="tree"):
        short.cells(np.zeros(2), np.ones(2))


@given(st.integers(0, 30), st.integers(0, 9999))
def test_every_valid_tree_gives_a_valid_bound(cuts, seed):
    problem = SumRate.dccp37()
    cells = np.empty((), dtype=object)
    cells[()] = grown(cuts, 4, seed)
    bound = problem.bound(None, {"cells": cells})
    assert bound >= DCCP37 - 1e-5
    assert bound <= problem.bound() + 1e-12


# -- witnesses ------------------------------------------------------------------------------------

PRICED = [
    (WaterFilling, "water_level_w"),
    (InverseWaterFilling, "water_level_w"),
    (FDMARate, "price"),
    (FEELScheduling, "multiplier"),
    (MinMaxLatency, "latency_s"),
]


@pytest.mark.parametrize(("cls", "name"), PRICED, ids=[c[0].__name__ for c in PRICED])
def test_a_corrupted_witness_never_improves_a_bound_beyond_the_truth(cls, name):
    problem = cls.random(K=4, batch=3, rng=7)
    sol = rr.solve(problem)
    assert (sol.status == rr.Status.GLOBAL).all()
    true, sign = sol.objective, 1 if problem.sense == "max" else -1
    level = sol.duals.get(name, sol.objective)
    rng = np.random.default_rng(0)
    factors = [0.0, -1.0, 1e-12, 0.5, 0.999, 1.001, 2.0, 1e12, *np.exp(rng.normal(size=20))]
    for factor in factors:
        for witness in (level * factor, level + (factor - 1)):
            with np.errstate(all="ignore"):
                bound = np.asarray(problem.bound(sol.x, {name: np.asarray(witness)}))
            wrong = sign * (true - bound) > 1e-9 * np.abs(true)
            assert not wrong.any(), (factor, true, bound)


def test_certify_bounds_a_foreign_point_without_asking_its_solver():
    problem = WaterFilling.random(K=6, rng=3)
    best = rr.solve(problem)
    poor = rr.solve(problem, SaysEach(act=offering(power_w=np.full(6, 1e-3))), certify="none")
    assert np.isnan(poor.bound)
    cheap = rr.certify(problem, poor, "cheap")
    full = rr.certify(problem, poor, "full")
    assert cheap.bound >= full.bound >= best.objective * (1 - 1e-12)
    assert full.bound == pytest.approx(best.objective, rel=1e-9)
    assert full.gap == pytest.approx(1 - poor.objective / full.bound, rel=1e-9)
    assert full.status == poor.status
    np.testing.assert_array_equal(full.power_w, poor.power_w)


def test_certify_none_changes_nothing():
    problem = WaterFilling.random(K=3, rng=3)
    sol = rr.solve(problem, certify="none")
    assert rr.certify(problem, sol, "none") is sol
    plain = rr.solve(Waves(centre=[0.3]), "multistart", rng=0)
    assert np.isnan(plain.bound)


def test_a_good_foreign_point_becomes_global():
    problem = SumRate.dccp37()
    point = rr.solve(problem, "branch-and-bound").power_w
    claimed = rr.solve(problem, SaysEach(act=offering(power_w=point)))
    assert claimed.status < rr.Status.GLOBAL
    proven = rr.certify(problem, claimed)
    assert proven.status is rr.Status.GLOBAL
    assert proven.gap <= 1e-4
    assert proven.objective == claimed.objective


def test_a_poor_point_stays_poor_however_hard_one_looks():
    problem = SumRate.dccp37()
    sol = rr.solve(problem, "sca", certify="full")
    assert sol.status is rr.Status.LOCAL
    assert sol.gap == pytest.approx(1 - 3.4502903 / DCCP37, rel=1e-3)


def test_certify_full_in_a_batch_improves_every_lane():
    problem = SumRate.random(K=2, batch=3, rng=0)
    cheap, full = rr.solve(problem, "sca"), rr.solve(problem, "sca", certify="full")
    assert (full.bound <= cheap.bound).all()
    assert (full.bound >= full.objective * (1 - 1e-12)).all()
    assert full.bound.shape == (3,)
    assert (full.gap <= cheap.gap).all()


def test_infeasible_instances_get_no_bound_from_certify():
    gain = np.array([[1e-11, 1e-11], [0.0, 1e-11]])
    problem = MinMaxLatency(
        path_gain=gain, compute_s=0.1, payload_bit=1e5, power_w=0.1, bandwidth_budget_hz=1e6
    )
    sol = rr.solve(problem, certify="full")
    assert sol.status.names().tolist() == ["global", "infeasible"]
    assert rr.certify(problem, sol).status.names().tolist() == ["global", "infeasible"]


def test_a_witness_of_another_kind_is_ignored():
    for cls, name in [*PRICED, (SumRate, "cells")]:
        problem = cls.random(K=3, rng=0)
        x = problem.initial()
        assert problem.bound(x, {"nonsense": np.array(1.0)}) == problem.bound(x), name


def test_certify_judges_the_point_anew():
    problem = MinMaxLatency.random(K=4, batch=3, rng=0)
    sol = rr.solve(problem)
    assert (sol.status == rr.Status.GLOBAL).all()
    strict = rr.certify(problem, sol, gap_tol=1e-16)
    assert (np.asarray(strict.status)[strict.gap > 1e-16] < rr.Status.GLOBAL).all()
    lied = dataclasses.replace(sol, objective=sol.objective / 2, violation=sol.violation + 1)
    np.testing.assert_array_equal(rr.certify(problem, lied).objective, sol.objective)
    with pytest.raises(InvalidProblem, match="of another problem"):
        rr.certify(MinMaxLatency.random(K=4, batch=3, rng=5), sol)


def test_a_promised_rate_that_is_broken_is_never_feasible():
    links = SumRate(
        gain=[[1e12, 0.0], [0.0, 1e12]],
        noise_w=1.0,
        power_max_w=1.0,
        minimum_rate=[5.0, 5.0],
        weight=[1.0, 0.0],
    )
    assert rr.verify(links, {"power_w": [1.0, 0.0]}).violation == pytest.approx(1.0)


def test_a_search_that_finds_no_feasible_cell_proves_infeasibility():
    links = SumRate(
        gain=[[1.0, 0.9], [0.8, 0.6]], noise_w=0.1, power_max_w=1.0, minimum_rate=[3.0, 3.0]
    )
    assert rr.solve(links, "branch-and-bound").status is rr.Status.INFEASIBLE


@pytest.mark.parametrize("name", ["tol", "feas_tol", "gap_tol", "time_limit"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), "much"])
def test_settings_that_mean_nothing_are_refused(name, value):
    with pytest.raises(InvalidProblem, match=name):
        rr.solve(SumRate.dccp37(), **{name: value})


def test_an_unknown_effort_is_refused():
    with pytest.raises(InvalidProblem, match="certify = 'bogus'"):
        rr.solve(SumRate.dccp37(), certify="bogus")


def test_a_forged_bound_is_not_believed():
    links = SumRate.dccp37()
    honest = rr.solve(links, "sca")
    forged = dataclasses.replace(
        honest, bound=honest.objective, gap=0.0, status=rr.Status.GLOBAL, bound_method="trust me"
    )
    judged = rr.certify(links, forged, "cheap")
    assert judged.status < rr.Status.GLOBAL
    assert judged.bound == honest.bound
    assert judged.gap > 0.5


def test_what_the_search_proved_is_still_proved_when_judged_again():
    links = SumRate.random(K=3, rng=0)
    found = rr.certify(links, rr.solve(links, "sca"), time_limit=20)
    again = rr.certify(links, found, "cheap")
    assert again.bound == pytest.approx(found.bound, rel=1e-12)
