"""What a guest promises: conformance, known optima, a solver that agrees, a policy that trains."""

import numpy as np
import pytest
from rralloc_guest.policies.oldest_first import OldestFirst
from rralloc_guest.problems.upload_energy import UploadEnergy
from rralloc_guest.solvers.sequential_linear import SequentialLinear

import rralloc as rr
from rralloc import fl
from rralloc.problems import FDMARate, SumRate, WaterFilling
from rralloc.testing import check


def test_the_problem_keeps_what_its_forms_promise():
    """Every form, tried by the conformance suite."""
    ran = check(UploadEnergy.random(K=3, batch=2, rng=0))
    wanted = {"projection", "gradient", "bound", "level", "smooth", "model:cvxpy"}
    assert wanted <= set(ran)


def test_equal_devices_share_equally():
    """By symmetry and convexity: K P S/r(B/K); r = 1 MHz/4 log2(1 + 4)."""
    problem = UploadEnergy(
        snr_bandwidth_hz=[1e6] * 4, power_w=0.1, payload_bit=1e5, bandwidth_budget_hz=1e6
    )
    sol = rr.solve(problem)
    assert sol.solver == "level"
    assert sol.status is rr.Status.GLOBAL
    assert sol.objective == pytest.approx(4 * 0.1 * 1e5 / (0.25e6 * np.log2(5)), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_conic_solver_agrees(seed):
    """The same optimum by cvxpy, written out here and not taken from the problem's model."""
    import cvxpy as cp

    q = 10 ** np.random.default_rng(seed).uniform(-1, 1.5, 5)
    power, bits = np.linspace(0.1, 0.4, 5), np.linspace(2, 1, 5)
    b = cp.Variable(5)
    nats = -cp.rel_entr(b, b + q)
    best = cp.Problem(cp.Minimize((power * bits * np.log(2)) @ cp.inv_pos(nats)), [cp.sum(b) <= 1])
    best.solve(solver=cp.CLARABEL)
    problem = UploadEnergy(
        snr_bandwidth_hz=q * 1e6, power_w=power, payload_bit=bits * 1e6, bandwidth_budget_hz=1e6
    )
    sol = rr.solve(problem)
    assert sol.objective == pytest.approx(best.value, rel=1e-6)
    np.testing.assert_allclose(sol.bandwidth_hz / 1e6, b.value, atol=1e-4)


@pytest.mark.parametrize(
    "problem",
    [
        UploadEnergy.random(K=4, batch=2, rng=1),
        WaterFilling.random(K=4, batch=2, rng=1),
        FDMARate.random(K=4, rng=1),
    ],
    ids=lambda p: type(p).__name__,
)
def test_the_solver_reaches_the_optimum_of_convex_problems(problem):
    """Against the exact solver of each."""
    best = rr.solve(problem, "level")
    sol = rr.solve(problem, SequentialLinear)
    np.testing.assert_allclose(sol.objective, best.objective, rtol=1e-6)


def test_the_solver_climbs_to_a_corner_of_a_problem_that_is_not_convex():
    """A stationary point, better than the start."""
    problem = SumRate.random(K=3, rng=0)
    sol = rr.solve(problem, SequentialLinear)
    assert sol.status >= rr.Status.LOCAL
    assert sol.objective > problem.objective(problem.initial())


def test_the_policy_hears_everybody_in_turn():
    """9 rounds of 2 are 3 turns of 6."""
    task = fl.Task.digits(clients=6, partition="iid", seed=0)
    history = fl.train(task, fl.Link.cell(6, seed=0), OldestFirst(count=2), rounds=9, seed=0)
    assert history.scheduled.tolist() == [3.0] * 6
    assert history.accuracy[-1] > history.accuracy[0]


def test_the_problem_allocates_in_training_and_saves_energy():
    """Against equal shares of the band."""
    task = fl.Task.digits(clients=6, partition="iid", seed=0)
    link = fl.Link.cell(6, seed=0)
    joules = {
        solver: fl.train(task, link, rr.Optimised(UploadEnergy, solver), rounds=5).joules[-1]
        for solver in (None, "baseline:equal")
    }
    assert joules[None] < joules["baseline:equal"]
