"""SCIP and MAiNGO on small problems that are not convex: they find the optimum and prove nothing.

Whatever an engine claims stays in words. On SP-FL in its logarithmic coordinates SCIP's claim is
wrong by some per cent, which must not reach ``bound`` or ``status``.
"""

import numpy as np
import pytest
from toys import Unaware

import rralloc as rr
from rralloc.problems import SPFL, EnergyEfficiency, MaxMinSINR, SumRate

PACKAGE = {"pyomo:scip": "pyscipopt", "pyomo:maingo": "maingopy"}


@pytest.fixture(params=sorted(PACKAGE))
def engine(request):
    pytest.importorskip(PACKAGE[request.param], reason="the extra rralloc[global] brings it")
    return request.param


def claim_of(sol):
    """The bound that an engine says it has, on its model's objective."""
    return float(sol.message.partition("claims bound ")[2].split()[0])


# github.com/cvxgrp/dccp issue 37; the second value with 1 bit/s/Hz for everybody.
CLASSIC = [(0.0, 4.68604), (1.0, 3.03826)]


@pytest.mark.parametrize(("minimum_rate", "best"), CLASSIC)
def test_the_classic_instance(engine, minimum_rate, best):
    problem = SumRate.dccp37(minimum_rate=minimum_rate)
    sol = rr.solve(problem, engine)
    assert sol.objective == pytest.approx(best, rel=1e-5)
    assert sol.violation <= 1e-9
    assert sol.stopped is rr.Stopped.CONVERGED
    tree = rr.solve(problem, "branch-and-bound")
    assert tree.status is rr.Status.GLOBAL
    assert sol.objective == pytest.approx(tree.objective, rel=1e-4)
    assert sol.objective <= tree.bound * (1 + 1e-9)
    # What proves is the tree. The engine's claim is right here, and yet only words.
    assert claim_of(sol) == pytest.approx(best, rel=1e-4)
    assert sol.status is rr.Status.LOCAL
    assert sol.bound == pytest.approx(problem.bound(), rel=1e-12)
    assert sol.bound > 2 * best


@pytest.mark.parametrize("seed", range(3))
def test_random_links_against_branch_and_bound(engine, seed):
    problem = SumRate.random(K=3, rng=seed)
    sol, tree = rr.solve(problem, engine), rr.solve(problem, "branch-and-bound")
    assert sol.objective == pytest.approx(tree.objective, rel=1e-4)
    assert sol.objective <= tree.bound * (1 + 1e-9)
    assert sol.status < rr.Status.GLOBAL


@pytest.mark.parametrize("cls", [EnergyEfficiency, MaxMinSINR], ids=lambda c: c.__name__)
def test_power_control_against_its_proven_optimum(engine, cls):
    problem = cls.random(K=3, rng=0)
    best, sol = rr.solve(problem), rr.solve(problem, engine)
    assert best.status is rr.Status.GLOBAL
    assert sol.objective == pytest.approx(best.objective, rel=1e-4)
    # Proven too, by the problem's own bound at the point: the gap is that bound's.
    assert sol.status is rr.Status.GLOBAL
    assert sol.bound == pytest.approx(problem.bound(sol.x, sol.duals or None), rel=1e-9)


@pytest.mark.parametrize("fading", ["independent", "common"])
@pytest.mark.parametrize("devices", [1, 2])
def test_maingo_reaches_the_certified_optimum_of_small_sp_fl(devices, fading):
    pytest.importorskip("maingopy", reason="the extra rralloc[global] brings it")
    problem = SPFL.random(K=devices, rng=1, load=4, objective="plain", fading=fading)
    sol, other = rr.solve(problem, "pyomo:maingo"), rr.solve(problem, "dual")
    assert sol.objective == pytest.approx(other.objective, rel=1e-4)
    assert sol.objective >= other.bound * (1 - 1e-9)
    assert sol.status is rr.Status.GLOBAL  # by the problem's own bound at the point


@pytest.mark.parametrize("fading", ["independent", "common"])
@pytest.mark.parametrize("devices", [1, 2])
def test_no_claim_about_sp_fl_becomes_a_bound(engine, devices, fading):
    problem = SPFL.random(K=devices, rng=1, load=4, objective="plain", fading=fading)
    sol, other = rr.solve(problem, engine), rr.solve(problem, "dual")
    if sol.stopped is rr.Stopped.ERROR:
        assert sol.status is rr.Status.NONE
        return
    assert "claims bound" in sol.message
    assert sol.bound <= other.objective * (1 + 1e-9)
    worse = sol.objective > other.objective * (1 + 1e-3)
    assert sol.status < rr.Status.GLOBAL if worse else sol.status >= rr.Status.FEASIBLE


def test_a_failure_is_a_row_with_its_reason(engine):
    # Two links that hear each other as well as themselves: no powers give both 2 bit/s/Hz.
    never = Unaware(gain=np.ones((2, 2)), noise_w=1.0, power_max_w=1.0, minimum_rate=2.0)
    problems = {"never": never, "classic": SumRate.dccp37()}
    comparison = rr.compare(problems, [engine, "scipy:slsqp"])
    sol = rr.solve(never, engine)
    assert sol.stopped is rr.Stopped.ERROR
    assert sol.status < rr.Status.FEASIBLE
    assert f"{engine}: " in sol.message
    assert "nfeasible" in sol.message
    table = comparison.to_dataframe().set_index(["problem", "solver"])
    assert len(table) == 4
    assert table.loc[("never", engine), "solved"] == 0
    assert table.loc[("classic", engine), "solved"] == 1
    assert "error" in comparison.summary().lower()
