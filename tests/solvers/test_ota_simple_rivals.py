"""subgradient, gsds, greedy for a beam: against every subset, QR, cvxpy and the spec."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import ota as oracle

import rralloc as rr
from rralloc.errors import NotOffered
from rralloc.forms import Coverage, Subsets
from rralloc.problems import OTASelection, WaterFilling
from rralloc.run import Interrupted
from rralloc.solution import Stopped
from rralloc.solvers import subgradient as dual
from rralloc.solvers._greedy_beam import growing
from rralloc.solvers.coverage import normalised
from rralloc.solvers.gsds import spatial_order

NAMES = ("subgradient", "gsds", "greedy")
EACH = pytest.mark.parametrize("name", NAMES)


def rayleigh(N, K, target_db, batch, seed):
    return OTASelection.random(K=K, N=N, batch=batch, rng=seed, mse_target=10 ** (target_db / 10))


def gains(problem, sol):
    """|m^H h_k|^2 of the unit beam, from the raw channel."""
    m = sol.x["beamformer"] / np.linalg.norm(sol.x["beamformer"], axis=-1, keepdims=True)
    return np.abs(np.einsum("...n,...nk->...k", m.conj(), problem.channel)) ** 2


# -- never too good, and exact where it is easy ---------------------------------------------------


@EACH
@pytest.mark.parametrize("valued", [False, True], ids=["count", "value"])
def test_never_above_every_subset(name, valued):
    for seed in range(3):
        value = np.random.default_rng(seed).integers(0, 4, 6).astype(float) if valued else None
        problem = rayleigh(3, 6, -2, 2, seed)
        sol = rr.solve(problem.replace(value=value), name)
        best = [oracle.best_set(g, 10**0.2, value) for g in problem.channel]
        assert (sol.objective <= np.array(best) * (1 + 1e-12)).all()
        assert (sol.objective > 0).all()
        assert (sol.status >= rr.Status.FEASIBLE).all()
        # The claim follows from the raw channel.
        claimed = np.where(sol.x["selected"], gains(problem, sol), np.inf)
        assert (claimed >= 10**0.2 * (1 - 2e-9)).all()


@EACH
def test_two_antennas_never_above_the_sweep(name):
    problem = rayleigh(2, 25, 0, 8, 3)
    best = [oracle.two_antennas(g, 1.0) for g in problem.channel]
    assert (rr.solve(problem, name).objective <= best).all()


@EACH
@pytest.mark.parametrize(
    ("channel", "count"),
    [
        (np.zeros((3, 4)), 0),
        (np.ones((3, 1)), 1),
        (np.ones((1, 1)), 1),
        (np.ones((3, 7)), 7),
        (np.eye(4) * 1e12, 4),
        (np.eye(4) * 1e-12, 0),
        (np.eye(3)[:, [0, 0, 1, 2]], 2),
        (np.eye(4)[:, [0, 0, 0, 1]] * [1, 1, 1, 0], 3),
        (np.diag([0.0, 0.0, 1.0]), 1),
    ],
    ids=str,
)
def test_degenerate(name, channel, count):
    """Nobody, one device, one antenna, twins, dead devices, far from the threshold."""
    problem = OTASelection(np.array(channel, dtype=complex)[None], mse_target=1.0)
    sol = rr.solve(problem, name)
    assert sol.objective == [count]
    assert np.isfinite(sol.x["beamformer"]).all()
    alone = rr.solve(problem[0], name)
    assert alone.objective == count


@pytest.mark.parametrize("name", ["gsds", "greedy"])
def test_orthogonal_columns(name):
    """The j strongest of orthogonal columns are served together iff sum_{i<=j} tau/|g_i|^2 <= 1."""
    strength = np.array([9.0, 1.2, 4.0, 3.0, 2.0])
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((5, 5)) + 1j * rng.standard_normal((5, 5)))[0]
    for channel in (np.diag(np.sqrt(strength)), turn * np.sqrt(strength)):
        # 1/9 + 1/4 + 1/3 = .69; with 1/2 it is 1.19.
        assert rr.solve(OTASelection(channel + 0j, mse_target=1.0), name).objective == 3


def test_subgradient_starts_no_worse_than_the_simple_beams():
    problem = rayleigh(6, 20, -2, 20, 8)
    filters = problem.channel / np.linalg.norm(problem.channel, axis=1, keepdims=True)
    beams = np.concatenate([filters, np.full((20, 6, 1), 6**-0.5)], axis=-1)
    heard = np.abs(problem.channel.conj().swapaxes(1, 2) @ beams) ** 2
    simple = (heard >= 10**0.2).sum(1).max(1)
    assert rr.solve(problem, "subgradient", max_iter=0).objective.tolist() == simple.tolist()
    assert (rr.solve(problem, "subgradient").objective >= simple).all()


@EACH
def test_one_antenna_is_a_threshold(name):
    problem = rayleigh(1, 12, 0, 10, 1)
    strong = (np.abs(problem.channel[:, 0]) ** 2 >= 1.0).sum(-1)
    assert rr.solve(problem, name).objective.tolist() == strong.tolist()


@EACH
def test_devices_without_value_are_not_aimed_at(name):
    """Three worthless twins, stronger than the one device that counts."""
    g = np.eye(3, dtype=complex)[:, [0, 0, 0, 1]] * [2, 2, 2, 1]
    problem = OTASelection(g, mse_target=1.0, value=[0.0, 0.0, 0.0, 1.0])
    assert rr.solve(problem, name).objective == 1.0
    assert rr.solve(problem.replace(value=np.zeros(4)), name).objective == 0.0


def test_greedy_takes_value_before_gain():
    """The valuable device is weak and lies across all others: alone it is worth more."""
    g = np.eye(3, dtype=complex)[:, [0, 0, 1]] * [2, 2, 1]
    problem = OTASelection(g, mse_target=1.0, value=[1.0, 1.0, 5.0])
    assert rr.solve(problem, "greedy").objective == 5.0
    assert rr.solve(problem.replace(value=None), "greedy").objective == 2.0


def test_greedy_asks_by_value_among_outsiders_too():
    """After device 0 there is room for one: the better heard 1, or the more valuable 2."""
    g = np.array([[np.sqrt(2), 0.9, 0], [0, 1.2, 0], [0, 0, np.sqrt(2)]], dtype=complex)
    problem = OTASelection(g, mse_target=1.0)
    both = [oracle.pair(g[:, 0], g[:, k]) for k in (1, 2)]
    assert min(both) >= 1 - 1e-12
    assert oracle.best_set(g, 1.0) == 2
    for value, total in (([9.0, 1.0, 2.0], 11.0), ([9.0, 2.0, 1.0], 11.0), (None, 2.0)):
        assert rr.solve(problem.replace(value=value), "greedy").objective == total


# -- invariances ----------------------------------------------------------------------------------


@EACH
def test_a_batch_is_a_loop(name):
    problem = rayleigh(4, 12, -2, (2, 5), 2)
    whole = rr.solve(problem, name).objective
    each = [[rr.solve(problem[i, j], name).objective for j in range(5)] for i in range(2)]
    assert whole.tolist() == each


@EACH
def test_the_order_of_the_devices_does_not_matter(name):
    """Draw by draw: no algorithm here depends on the order, except through rounding."""
    problem, rng = rayleigh(6, 20, -2, 30, 4), np.random.default_rng(3)
    shuffled = problem.replace(channel=problem.channel[:, :, rng.permutation(20)])
    here, there = (rr.solve(p, name).objective for p in (problem, shuffled))
    assert (here != there).sum() <= 1


@pytest.mark.parametrize("name", ["gsds", "greedy"])
def test_neither_phases_nor_a_rotation_matter(name):
    """gsds and greedy keep the draws but for rounding (gsds: but for the sum of filters)."""
    problem, rng = rayleigh(6, 20, -2, 30, 4), np.random.default_rng(3)
    turn = np.linalg.qr(rng.standard_normal((6, 6)) + 1j * rng.standard_normal((6, 6)))[0]
    here = rr.solve(problem, name).objective
    for channel in (turn @ problem.channel, problem.channel * np.exp(2j * np.pi * rng.random(20))):
        there = rr.solve(problem.replace(channel=channel), name).objective
        assert (here != there).sum() <= 4
        assert there.mean() == pytest.approx(here.mean(), abs=0.2)


def test_subgradient_depends_on_phases_and_rotation_only_through_its_start():
    """The all-ones beam is not special in other coordinates: equal on the mean."""
    problem, rng = rayleigh(6, 20, -2, 60, 4), np.random.default_rng(3)
    turn = np.linalg.qr(rng.standard_normal((6, 6)) + 1j * rng.standard_normal((6, 6)))[0]
    here = rr.solve(problem, "subgradient").objective.mean()
    there = rr.solve(problem.replace(channel=turn @ problem.channel), "subgradient").objective
    assert there.mean() == pytest.approx(here, abs=0.4)


@EACH
@pytest.mark.parametrize("scale", [2.0**-27, 2.0**27])
def test_units_do_not_matter(name, scale):
    """Gains x 1e+-8 with the threshold scaled along, by powers of two: the same to the bit."""
    problem = rayleigh(6, 20, -2, 8, 4)
    other = problem.replace(channel=problem.channel * scale, noise_power=scale**2)
    here, there = (rr.solve(p, name).objective for p in (problem, other))
    assert here.tolist() == there.tolist()


@EACH
@pytest.mark.parametrize(("target", "count"), [(1e200, 20), (1e12, 20), (1e-12, 0), (1e-200, 0)])
def test_a_threshold_that_everybody_or_nobody_meets(name, target, count):
    problem = rayleigh(6, 20, 0, 3, 4).replace(mse_target=target)
    assert rr.solve(problem, name).objective.tolist() == [count] * 3


@EACH
def test_without_noise_everybody_is_served(name):
    problem = rayleigh(3, 5, 0, 2, 4).replace(noise_power=0.0)
    assert rr.solve(problem, name).objective.tolist() == [5, 5]


# -- means of the spec ----------------------------------------------------------------------------


def test_means_at_6_20():
    """ota.md section 4 at -2 dB: 12.58, 11.88, 13.58; (L): all below effort 1 on the mean."""
    problem = rayleigh(6, 20, -2, 30, 21)
    fast = rr.solve(problem, "coverage", effort=1, rng=0).objective.mean()
    for name, mean in zip(NAMES, (12.58, 11.88, 13.58), strict=True):
        found = rr.solve(problem, name).objective.mean()
        assert found == pytest.approx(mean, abs=1.0), name
        assert found < fast, name


# -- subgradient: one linearised problem ----------------------------------------------------------


def surrogate(g, w, m0):
    """min sum w x, x >= 1 + |y|^2 - 2 Re(y^* g^H m), x >= 0, |m| <= 1, by a conic solver."""
    import cvxpy as cp

    y = g.conj().T @ m0
    m, x = cp.Variable(len(g), complex=True), cp.Variable(g.shape[1], nonneg=True)
    rows = [
        x[k] >= 1 + abs(y[k]) ** 2 - 2 * cp.real(np.conj(y[k]) * (g[:, k].conj() @ m))
        for k in range(g.shape[1])
    ]
    model = cp.Problem(cp.Minimize(w @ x), [*rows, cp.norm(m) <= 1])
    return model.solve(solver=cp.CLARABEL)


@pytest.mark.parametrize("seed", range(4))
def test_one_linearised_problem(seed):
    """Weak duality at every step; beam and prices meet at the conic solver's optimum."""
    rng = np.random.default_rng(seed)
    g = np.asarray(rayleigh(4, 9, 0, None, seed).channel)
    w = rng.uniform(0.2, 1, 9)
    m0 = rng.standard_normal(4) + 1j * rng.standard_normal(4)
    m0 /= np.linalg.norm(m0)
    best = surrogate(g, w, m0)
    tangents = dual.Tangents.at(g[None], w[None], m0[None])
    path = list(dual.ascending(tangents, dual.as_real(m0)[None], 4000, 0.1, 0.0))
    assert max(tangents.dual(price)[0] for _, price in path) <= best * (1 + 1e-6) + 1e-7
    assert min(tangents.loss(m)[0] for m, _ in path) >= best * (1 - 1e-6) - 1e-7
    assert tangents.dual(path[-1][1])[0] == pytest.approx(best, rel=2e-3, abs=2e-3)
    assert tangents.loss(path[-1][0])[0] == pytest.approx(best, rel=1e-2, abs=1e-2)


def test_the_tangent_lies_below_and_touches():
    """1 - |g^H m|^2 <= slack, with equality where it was linearised."""
    rng = np.random.default_rng(1)
    g = np.asarray(rayleigh(3, 7, 0, 5, 1).channel)
    m0, m = (rng.standard_normal((5, 3)) + 1j * rng.standard_normal((5, 3)) for _ in range(2))
    tangents = dual.Tangents.at(g, np.ones((5, 7)), m0)
    for beam, close in ((m0, True), (m, False)):
        miss = 1 - np.abs(np.einsum("bn,bnk->bk", beam.conj(), g)) ** 2
        slack = tangents.slack(dual.as_real(beam))
        assert (slack >= miss - 1e-12).all()
        assert np.allclose(slack, miss, atol=1e-12) == close


# -- gsds: the ranking ----------------------------------------------------------------------------


def slow_order(g):
    """The ranking with a fresh QR decomposition for every choice."""
    left = [int(np.linalg.norm(g, axis=0).argmax())]
    while len(left) < g.shape[1]:
        q, r = np.linalg.qr(g[:, left])
        q = q[:, np.abs(np.diag(r)) > 1e-9] if r.shape[1] <= len(g) else np.eye(len(g))
        inside = np.linalg.norm(q.conj().T @ g, axis=0)
        inside[left] = -1
        left.append(int(inside.argmax()))
    return left


@pytest.mark.parametrize(("N", "K"), [(1, 5), (3, 8), (6, 20), (8, 5)])
def test_the_ranking_against_explicit_qr(N, K):
    g = np.asarray(rayleigh(N, K, 0, 20, N).channel)
    assert spatial_order(g).tolist() == [slow_order(one) for one in g]
    assert (spatial_order(g * 1e6) == spatial_order(g)).all()


def test_the_ranking_is_by_norm_once_the_space_is_full():
    g = np.asarray(rayleigh(3, 10, 0, 20, 0).channel)
    order = spatial_order(g)
    norms = np.take_along_axis(np.linalg.norm(g, axis=1), order, 1)
    assert (np.diff(norms[:, 3:], axis=1) <= 0).all()
    assert (np.diff(norms[:, 1:], axis=1) > 0).any()  # before, it is not


def test_the_ranking_with_twins_and_dead_devices():
    """Twins add no direction; the direction found late still counts; zeros come last."""
    g = np.zeros((1, 3, 7), dtype=complex)
    g[0, 0, :3] = [3, 2, 1]
    g[0, 1, 3], g[0, 2, 4] = 2.5, 1.5
    g[0, :2, 5] = [0.5, 4]  # strongest of all
    # 5 first; inside span(5): 3 has 2.48; with e0, e1 the rest of them by norm; then e2.
    order = spatial_order(g)[0].tolist()
    assert order == [5, 3, 0, 1, 2, 4, 6]
    assert sorted(spatial_order(np.zeros((1, 2, 3), dtype=complex))[0].tolist()) == [0, 1, 2]


def test_gsds_patience_never_loses():
    problem = rayleigh(6, 20, -2, 20, 4)
    hasty, patient = (rr.solve(problem, "gsds", patience=p).objective for p in (1, 4))
    assert patient.mean() >= hasty.mean()


# -- greedy ---------------------------------------------------------------------------------------


def test_greedy_stops_where_nobody_can_join():
    """On the path no beam serves less; at its end no outsider fits in by itself (SLSQP)."""
    problem = rayleigh(3, 8, -1, 6, 5)
    columns, value = normalised(problem.view(Coverage))
    missed = 0
    for g, w in zip(columns, value, strict=True):
        path = [np.abs(g.conj().T @ m) ** 2 >= 1 for m in growing(g, w)]
        counts = [int(served.sum()) for served in path]
        assert counts[0] >= 1
        assert counts == sorted(counts)
        for k in np.flatnonzero(~path[-1] & (w > 0)):
            joined = g[:, path[-1] | (np.arange(8) == k)]
            missed += oracle.least_gain(joined, starts=3) >= 1 + 1e-6
    assert missed <= 1  # the ascent is local


def test_greedy_has_two_forms_and_says_so():
    problem = rayleigh(6, 4, 0, 1, 0)
    assert "greedy" in rr.solvers_for(problem)
    with pytest.raises(NotOffered):
        problem.view(Subsets)
    refused = rr.solvers_for(WaterFilling.random(K=3, rng=0)).refused["greedy"]
    assert "Subsets" in refused
    assert "Coverage" in refused


# -- deadlines ------------------------------------------------------------------------------------


@EACH
def test_no_time_at_all(name):
    sol = rr.solve(rayleigh(6, 20, -2, 40, 0), name, time_limit=0.0)
    stopped = np.asarray(sol.stopped)
    assert (stopped == Stopped.TIME).any()
    assert np.isin(stopped, [Stopped.TIME, Stopped.CONVERGED]).all()


@EACH
def test_a_deadline_keeps_what_was_found(name):
    """Some lanes may not be reached; those that were are as good as a simple beam."""
    sol = rr.solve(rayleigh(8, 60, -2, 400, 0), name, time_limit=0.1, certify="none")
    reached = np.asarray(sol.status) > rr.Status.NONE
    assert (np.asarray(sol.stopped) == Stopped.TIME).any()
    assert reached.any()
    assert (sol.objective[reached] >= 1).all()


@pytest.mark.parametrize(("name", "reached"), [("subgradient", 3), ("greedy", 1)])
def test_a_callback_can_stop_it(name, reached):
    """After the first row: all lanes together keep what they have, one by one the rest is left."""
    sol = rr.solve(rayleigh(6, 20, -2, 3, 0), name, callback=lambda row: True)
    assert (np.asarray(sol.status) >= rr.Status.FEASIBLE).sum() == reached
    assert (np.asarray(sol.stopped)[1:] == Stopped.USER).all()


def test_greedy_interrupted_offers_what_it_has():
    """The clock strikes at the third beam: that one is offered."""

    class Late:
        calls, offered = 0, None

        def check(self):
            self.calls += 1
            if self.calls == 3:
                raise Interrupted(Stopped.TIME)

        def offer(self, x):
            self.offered = x["beamformer"]

    problem, late = rayleigh(6, 20, 0, None, 0), Late()
    with pytest.raises(Interrupted):
        rr.solvers.Greedy().solve(problem, None, late)
    path = list(growing(*normalised(problem.view(Coverage))))
    assert len(path) > 5
    assert (late.offered == path[2]).all()


@EACH
def test_repeats_itself(name):
    problem = rayleigh(4, 15, -3, 5, 0)
    one, two = (rr.solve(problem, name).x["beamformer"] for _ in range(2))
    assert (one == two).all()
