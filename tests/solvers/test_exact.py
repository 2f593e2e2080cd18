"""Exact coverage: against every subset, the sweep for two antennas, and forged proofs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracles import ota as oracle

import rralloc as rr
from rralloc.numerics.beams import normal
from rralloc.problems import OTASelection
from rralloc.problems import _ota_proof as proof
from rralloc.problems._ota_proof import proven
from rralloc.solution import Stopped
from rralloc.solvers._exact_phases import Columns, Dual, Regions, relaxed


def rayleigh(N, K, target_db, batch, seed):
    return OTASelection.random(K=K, N=N, batch=batch, rng=seed, mse_target=10 ** (target_db / 10))


def served(problem, m):
    """The count from the raw channel."""
    gain = np.abs(np.asarray(problem.channel).conj().T @ m) ** 2 / np.vdot(m, m).real
    return float((gain * float(problem.mse_target) >= 1 - 1e-9).sum())


def certified(sol):
    assert (np.asarray(sol.status) == rr.Status.GLOBAL).all()
    assert (np.asarray(sol.stopped) == Stopped.CONVERGED).all()
    return np.asarray(sol.objective).tolist()


# -- the optimum ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("K", "target_db", "draws"), [(6, -2, 4), (7, -1, 3), (8, -3, 1), (8, 0, 2)]
)
def test_every_subset(K, target_db, draws):
    problem = rayleigh(3, K, target_db, draws, K)
    best = [oracle.best_set(g, 10 ** (-target_db / 10)) for g in problem.channel]
    sol = rr.solve(problem, "exact", rng=0)
    assert certified(sol) == best
    for one, m, count in zip(problem, sol.x["beamformer"], best):
        assert served(one, m) == count


@pytest.mark.parametrize("whole", [False, True])
def test_every_subset_with_values(whole):
    rng = np.random.default_rng(5)
    for seed in range(4):
        value = rng.integers(1, 6, 6).astype(float) if whole else rng.uniform(0, 2, 6)
        problem = rayleigh(3, 6, -2, None, seed).replace(value=value)
        sol = rr.solve(problem, "exact", rng=0)
        best = oracle.best_set(np.asarray(problem.channel), 10**0.2, list(value))
        assert sol.objective == pytest.approx(best, rel=1e-4)
        assert sol.objective <= best * (1 + 1e-12) <= sol.bound * (1 + 1e-12)
        assert sol.status == rr.Status.GLOBAL


def test_two_antennas_embedded_in_three_dimensions():
    """The sweep knows the optimum for two; a turn hides them among three antennas."""
    rng = np.random.default_rng(1)
    for seed in range(20):
        g = normal(np.random.default_rng(seed), (2, 12))
        turn = np.linalg.qr(normal(rng, (3, 3)))[0]
        sol = rr.solve(OTASelection(turn[:, :2] @ g, mse_target=10**-0.05), "exact", rng=0)
        assert certified(sol) == oracle.two_antennas(g, 10**0.05)


def test_one_and_two_antennas_take_the_formula():
    one, two = rayleigh(1, 9, 0, 4, 0), rayleigh(2, 9, 0, 4, 0)
    assert (
        certified(rr.solve(one, "exact")) == (np.abs(one.channel[:, 0]) ** 2 >= 1).sum(-1).tolist()
    )
    assert certified(rr.solve(two, "exact")) == [oracle.two_antennas(g, 1.0) for g in two.channel]


@pytest.mark.parametrize(("N", "target_db"), [(3, -2), (4, -3), (6, -4)])
def test_small_ensembles_are_certified(N, target_db):
    """ota.md section 4, K = 12; effort 2 is never above and reaches .985 of the optimum (D)."""
    problem = rayleigh(N, 12, target_db, 10, N)
    best, quick = (rr.solve(problem, s, rng=0) for s in ("exact", "coverage"))
    certified(best)
    assert (best.objective >= quick.objective).all()
    assert quick.objective.sum() >= 0.985 * best.objective.sum()


@pytest.mark.parametrize("target_db", [-4, -2, 0])
def test_six_antennas_and_twenty_devices_are_certified(target_db):
    """At 0 dB there are regions where all seem to be served and no multiplier says where to cut."""
    channel = normal(np.random.default_rng(6), (5, 6, 20))[3]
    problem = OTASelection(channel, mse_target=10 ** (target_db / 10))
    best = rr.solve(problem, "exact", rng=0, nodes=5000)
    again = rr.solve(problem, "exact", rng=1, nodes=5000, width=16)
    assert certified(best) == certified(again) == served(problem, best.x["beamformer"])


def test_line_of_sight_and_path_loss_are_certified():
    rng = np.random.default_rng(0)
    scattered = normal(rng, (5, 6, 12))
    angle = np.sin(np.radians(rng.uniform(-60, 60, (5, 1, 12))))
    line = np.exp(1j * np.pi * np.arange(6)[:, None] * angle)
    rician = math.sqrt(0.8) * line + math.sqrt(0.2) * scattered
    losses = 10 ** (-rng.uniform(0, 20, (5, 1, 12)) / 20) * scattered
    for channel, target in ((rician, 10**-0.3), (losses, 10**0.4)):
        problem = OTASelection(channel, mse_target=target)
        best, quick = (rr.solve(problem, s, rng=0) for s in ("exact", "coverage"))
        certified(best)
        assert (best.objective >= quick.objective).all()


def test_the_optimum_does_not_depend_on_coordinates():
    """ota.md (H)."""
    problem, rng = rayleigh(4, 11, -2, 4, 4), np.random.default_rng(3)
    g = np.asarray(problem.channel)
    turn = np.linalg.qr(normal(rng, (4, 4)))[0]
    others = [
        problem.replace(channel=g * np.exp(2j * np.pi * rng.random((4, 1, 11)))),
        problem.replace(channel=g[:, :, rng.permutation(11)]),
        problem.replace(channel=turn @ g),
        problem.replace(channel=g * 1e-9, noise_power=1e-18),
        problem.replace(channel=g * 1e9, noise_power=1e18),
    ]
    here = certified(rr.solve(problem, "exact", rng=0))
    for other in others:
        assert certified(rr.solve(other, "exact", rng=1)) == here


@pytest.mark.parametrize(
    ("channel", "target", "count"),
    [
        (np.zeros((3, 4)), 1.0, 0),
        (np.ones((3, 1)), 1.0, 1),
        (np.ones((3, 7)), 1.0, 7),
        (np.eye(4) * 1e12, 1.0, 4),
        (np.eye(4) * 1e-12, 1.0, 0),
        (np.eye(3)[:, [0, 0, 1, 2]] * 0.9, 1 / 0.81, 2),
        (np.diag([1e9, 1e4, 2.0]), 1.0, 3),
    ],
)
def test_degenerate(channel, target, count):
    """Nobody, one device, twins, far from the threshold, on the threshold."""
    sol = rr.solve(OTASelection(channel.astype(complex), mse_target=target), "exact", rng=0)
    assert sol.objective == count
    assert sol.bound == count


def test_values_of_zero():
    g = np.eye(3, dtype=complex)[:, [0, 0, 0, 1]] * 1.1
    problem = OTASelection(g, mse_target=1.0, value=[0.0, 0.0, 0.0, 1.0])
    assert certified(rr.solve(problem, "exact")) == 1.0
    assert certified(rr.solve(problem.replace(value=np.zeros(4)), "exact")) == 0.0


# -- interruptions --------------------------------------------------------------------------------


def test_an_interrupted_search_keeps_its_bracket():
    problem = rayleigh(6, 14, -4, None, 0)
    best = certified(rr.solve(problem, "exact", rng=0))
    brackets = []
    for nodes in (1, 30, 60, 90):
        sol = rr.solve(problem, "exact", rng=0, nodes=nodes, width=4)
        assert sol.objective <= best <= sol.bound
        brackets.append(float(sol.bound))
    assert brackets == sorted(brackets, reverse=True)
    assert brackets[-1] < brackets[0] < problem.bound()


def test_a_tiny_time_limit_keeps_a_valid_bracket():
    problem = rayleigh(3, 8, -2, None, 3)
    best = oracle.best_set(np.asarray(problem.channel), 10**0.2)
    for limit in (1e-9, 1e-3, 1e-2):
        sol = rr.solve(problem, "exact", rng=0, time_limit=limit)
        assert sol.bound >= best
        assert not sol.objective > best


def test_a_callback_stops_it():
    problem = rayleigh(6, 14, -4, None, 0)
    sol = rr.solve(problem, "exact", rng=0, callback=lambda row: True)
    assert sol.stopped == Stopped.USER
    assert sol.objective <= sol.bound


def test_a_start_is_used():
    problem = rayleigh(6, 12, -4, None, 2)
    best = rr.solve(problem, "exact", rng=0)
    again = rr.solve(problem, "exact", rng=0, start=best, nodes=1)
    assert "does not use" not in again.message
    assert again.objective == best.objective
    useless = rr.solve(problem, "exact", rng=0, start={"beamformer": np.full(6, np.nan + 0j)})
    assert useless.objective == best.objective


def test_it_is_asked_for_by_name_only():
    problem = rayleigh(4, 5, 0, None, 0)
    assert rr.solve(problem).solver == "coverage"
    assert "exact" in rr.solvers_for(problem)


# -- forged proofs --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case():
    problem = rayleigh(6, 12, -4, None, 7)
    sol = rr.solve(problem, "exact", rng=0)
    return problem, sol, sol.duals["tree"].item()


def claim(problem, tree):
    box = np.empty((), dtype=object)
    box[()] = tree
    return float(problem.bound(None, {"tree": box}))


def test_the_true_proof_proves(case):
    problem, sol, tree = case
    assert len(tree["device"]) > 30
    assert claim(problem, tree) == sol.objective < problem.bound()


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.999, 1.001, 2.0, 1e3, -1.0, np.nan, np.inf])
def test_other_multipliers_prove_less(case, factor):
    problem, sol, tree = case
    with np.errstate(invalid="ignore"):
        for names in (("y",), ("u",), ("y", "u")):
            forged = tree | {n: tree[n] * factor for n in names}
            assert claim(problem, forged) >= sol.objective


def test_a_damaged_tree_proves_nothing(case):
    problem, _, tree = case
    trivial, count = float(problem.bound()), len(tree["device"])
    inner = np.flatnonzero(tree["device"] >= 0)
    damaged = [
        {n: v[:-1] for n, v in tree.items()},  # a leaf is missing
        tree | {"child": np.where(np.arange(count) == inner[1], inner[1], tree["child"])},
        tree | {"child": tree["child"] - 1},
        tree | {"child": np.full(count, count - 2)},
        tree | {"device": np.where(np.arange(count) == count - 1, 0, tree["device"])},
        tree | {"device": np.full(count, 12)},
        tree | {"angle": np.full(count, np.nan)},
        tree | {"y": tree["y"][:, 1:]},
        {n: v[:0] for n, v in tree.items()},
        {"device": tree["device"]},
        None,
        "tree",
    ]
    for forged in damaged:
        assert claim(problem, forged) == trivial


def test_a_leaf_cut_off_or_moved_never_fools(case):
    problem, sol, tree = case
    leaves = np.flatnonzero(tree["device"] < 0)
    inner = np.flatnonzero(tree["device"] >= 0)
    rng = np.random.default_rng(0)
    for _ in range(60):
        forged = {n: v.copy() for n, v in tree.items()}
        one, two = rng.choice(leaves, 2, replace=False)
        forged["y"][[one, two]], forged["u"][[one, two]] = (
            forged["y"][[two, one]],
            forged["u"][[two, one]],
        )
        node = rng.choice(inner)
        forged["angle"][node] += rng.normal()
        forged["device"][rng.choice(inner)] = rng.integers(12)
        assert claim(problem, forged) >= sol.objective


def test_no_beam_beats_what_any_tree_claims():
    """Random trees with random multipliers against the best of many random beams."""
    for seed in range(150):
        rng = np.random.default_rng(seed)
        N, K = int(rng.integers(2, 5)), int(rng.integers(2, 7))
        g, w = normal(rng, (N, K)) * 1.3, rng.uniform(0.1, 2, K)
        tree = random_tree(rng, K, int(rng.integers(1, 12)))
        m = normal(rng, (N, 4000))
        m = np.concatenate([m / np.linalg.norm(m, axis=0), g / np.linalg.norm(g, axis=0)], 1)
        best = (w @ (np.abs(g.conj().T @ m) ** 2 >= 1)).max()
        assert best <= proven(g, w, tree)


def test_every_region_bounds_the_beams_in_it():
    """Regions around a random beam, with the best multipliers that the solver finds for them.

    Neither its own value nor that of the problem is below the beam's.
    """
    tight = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        N, K = 3, 10
        g = normal(rng, (N, K)) * 0.9
        m = g[:, :3] @ normal(rng, (3,))
        heard = g.conj().T @ (m / np.linalg.norm(m))
        able, inside = np.linalg.norm(g, axis=0) >= 1, np.abs(heard) >= 1
        if inside.sum() < 2:
            continue
        known = rng.permutation(np.flatnonzero(inside))[: rng.integers(2, inside.sum() + 1)]
        state = np.where(able, 0, -1)
        state[rng.permutation(np.flatnonzero(~inside))[:2]] = -1
        state[known] = 1
        low, high = np.zeros((2, K))
        for k in known[1:]:
            low[k] = np.angle(heard[k] / heard[known[0]]) - rng.uniform(0, 0.7)
            high[k] = np.angle(heard[k] / heard[known[0]]) + rng.uniform(0, 0.7)
        norm = np.linalg.norm(g, axis=0)
        data = Columns(g / norm, norm**-2, np.ones(K))
        region = Regions(state[None], low[None], high[None])
        start = Dual(np.full((1, K), 0.5), np.zeros((1, K)), np.ones(1), np.ones(1))
        found = relaxed(data, region, start, -np.inf)
        count = (inside & (state >= 0)).sum()
        again = proof._bounds(g, np.ones(K), proof.Regions(*region), found.y, found.u)[0]
        assert count <= found.bound[0]
        assert count <= again
        tight += again < (state >= 0).sum() - 0.5
    assert tight > 20


@pytest.mark.parametrize("rim", [False, True])
def test_the_rules_hold_at_their_edges(rim):
    """Two devices in one direction: their phases are at the end of the sector, both are served.

    Large multipliers turn any rule that is too strong into a claim below 2. ``rim``: one device is
    just strong enough.
    """
    for seed in range(400):
        rng = np.random.default_rng(seed)
        v = normal(rng, (2,))
        v /= np.linalg.norm(v)
        size = rng.uniform(1, 3, 2)
        size[0] = 1.0 if rim else size[0]
        width, side = rng.uniform(0.1, np.pi), rng.integers(2)
        g = np.stack([size[0] * v, size[1] * np.exp(-0.3j) * v], 1)  # y_1 = e^{0.3j} |y_1|
        low, high = (0.3, 0.3 + width) if side else (0.3 - width, 0.3)
        regions = proof.Regions(np.array([[1, 1]]), np.array([[0.0, low]]), np.array([[0.0, high]]))
        y, u = 10.0 ** rng.uniform(-2, 3, (2, 1, 2)) * (rng.random((2, 1, 2)) < 0.7)
        assert proof._bounds(g, np.ones(2), regions, y, u)[0] >= 2 - 1e-9 * (y + u).sum()


def test_trees_that_are_none():
    """Children shared by two nodes, a cut outside of the sector, a node under itself."""
    device = np.array([0, 1, 1, -1, -1, -1, -1, -1, -1, -1])
    child = np.array([1, 3, 5, -1, -1, -1, -1, -1, -1, -1])
    fine = {"device": device, "child": child, "angle": np.zeros(10), "y": np.zeros((10, 2))}
    fine["u"] = fine["y"]
    g, w = 2 * np.eye(2, dtype=complex), np.ones(2)
    assert proven(g, w, fine) == pytest.approx(2)
    assert proven(g, w, fine | {"child": np.where(child == 3, 5, child)}) == np.inf
    assert proven(g, w, fine | {"child": np.where(child == 5, 3, child)}) == np.inf
    assert proven(g, w, fine | {"child": np.where(child == 5, 2, child)}) == np.inf
    longer = {n: np.concatenate([v, v[-2:]]) for n, v in fine.items()}
    longer["device"][6], longer["child"][6] = 1, 10
    for angle, value in ((0.7, 2.0), (-0.1, np.inf), (1.6, np.inf), (5.0, np.inf)):
        assert proven(g, w, longer | {"angle": np.where(np.arange(12) == 6, angle, 0)}) == (
            pytest.approx(value)
        )


def random_tree(rng, K, splits):
    """A valid tree by the rules of the witness, multipliers at random."""
    device, child, angle, sector = [-1], [-1], [0.0], [{}]
    for _ in range(splits):
        leaf = int(rng.choice(np.flatnonzero(np.array(device) < 0)))
        k, known = int(rng.integers(K)), sector[leaf]
        if known.get(k) == "out":
            continue
        a = float(rng.uniform(-4, 4))
        if k in known:
            low, high = known[k]
            a = low + (high - low) * float(rng.random())
            parts = [(low, a), (a, high)]
        elif any(s != "out" for s in known.values()):
            parts = ["out", *((a + j * np.pi / 2, a + (j + 1) * np.pi / 2) for j in range(4))]
        else:
            parts = ["out", (0.0, 0.0)]
        device[leaf], child[leaf], angle[leaf] = k, len(device), a
        for part in parts:
            device.append(-1)
            child.append(-1)
            angle.append(0.0)
            sector.append(known | {k: part})
    y, u = rng.exponential(rng.uniform(0.1, 2), (2, len(device), K))
    y *= rng.random((len(device), 1)) < 0.9
    return {
        "device": np.array(device),
        "child": np.array(child),
        "angle": np.array(angle),
        "y": y,
        "u": u,
    }
