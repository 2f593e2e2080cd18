"""OTA selection: error law, normal form, baselines, bounds, two antennas, degenerate inputs."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from oracles import ota as oracle

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.numerics.least_distance import least_distance, max_min
from rralloc.problems import OTASelection
from rralloc.testing import check


def channels(seed, *shape):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / math.sqrt(2)


def drawn(seed=0, N=3, K=8, **settings):
    return OTASelection(channels(seed, N, K), **{"mse_target": 1.0} | settings)


# -- the error ------------------------------------------------------------------------------------


def test_the_error_is_what_a_simulation_measures():
    """ota.md 2.1 and acceptance (A): 2e5 symbols, 1 %."""
    rng = np.random.default_rng(7)
    phi, noise, power, m = rng.uniform(0.5, 2, 8), 0.3, 2.0, channels(1, 3)
    problem = drawn(noise_power=noise, transmit_power=power, aggregation_weight=phi)
    x = problem.complete({"beamformer": m})
    chosen = x["selected"]
    assert 0 < chosen.sum() < 8
    b, eta = problem.transmit_scaling(x)
    symbols, heard = channels(2, 8, 200_000), channels(3, 3, 200_000) * math.sqrt(noise)
    received = (problem.channel * b) @ symbols + heard
    estimate = (m / np.linalg.norm(m)).conj() @ received / math.sqrt(eta)
    error = np.mean(np.abs(estimate - np.where(chosen, phi, 0) @ symbols) ** 2)
    assert problem.mse(x) == pytest.approx(error, rel=0.01)
    members = np.flatnonzero(chosen)
    direct = oracle.mse(problem.channel, members, m, noise, power, phi)
    assert problem.mse(x) == pytest.approx(direct, rel=1e-12)
    assert np.abs(b).max() ** 2 == pytest.approx(power, rel=1e-12)
    assert not b[~chosen].any()


def test_who_is_served_is_decided_by_the_error_alone():
    problem = drawn(5, noise_power=0.7, transmit_power=3.0, aggregation_weight=np.arange(1.0, 9))
    m = channels(6, 3)
    for k, served in enumerate(problem.served(m)):
        own = oracle.mse(problem.channel, [k], m, 0.7, 3.0, np.arange(1.0, 9))
        assert served == (own <= 1.0)


def test_selected_follows_from_the_beam_and_a_false_claim_is_reported():
    problem = drawn()
    x = problem.complete({"beamformer": channels(1, 3), "selected": np.ones(8, dtype=bool)})
    assert not x["selected"].all()
    assert rr.verify(problem, x).ok()
    assert problem.objective(x) == x["selected"].sum()
    report = rr.verify(problem, x | {"selected": np.ones(8, dtype=bool)})
    assert report.false_claims == ("selected",)
    assert not report.ok()


@pytest.mark.parametrize("size", [1e-200, 1e-8, 1.0, 1e8, 1e200])
def test_only_the_direction_counts(size):
    problem, m = drawn(), channels(1, 3)
    there = {"beamformer": m * size * np.exp(0.3j)}
    assert problem.objective(there) == problem.objective({"beamformer": m})
    assert problem.mse(there) == pytest.approx(problem.mse({"beamformer": m}), rel=1e-12)
    assert np.linalg.norm(problem.project(there)["beamformer"]) == pytest.approx(1)


def test_a_zero_beam_serves_nobody():
    problem = drawn()
    x = problem.complete({"beamformer": np.zeros(3, dtype=complex)})
    assert problem.objective(x) == 0
    assert problem.mse(x) == 0
    b, eta = problem.transmit_scaling(x)
    assert not b.any()
    assert eta == 0
    assert not problem.project(x)["beamformer"].any()


def test_values_count_and_weights_only_divide_channels():
    value = np.array([0.0, 1, 2, 4, 8, 16, 32, 64])
    problem, m = drawn(value=value), channels(1, 3)
    assert problem.objective({"beamformer": m}) == value[drawn().served(m)].sum()
    phi = np.linspace(0.5, 2, 8)
    heavy = drawn(aggregation_weight=phi)
    assert (heavy.served(m) == OTASelection(heavy.channel / phi, mse_target=1.0).served(m)).all()


def test_a_random_beam_serves_an_exponential_share():
    """ota.md acceptance (F): K e^{-tau}; tau = 0.4."""
    problem = OTASelection.random(K=20, batch=2000, rng=3, mse_target=2.5)
    share = problem.objective(problem.sample(np.random.default_rng(4))).mean() / 20
    assert share == pytest.approx(math.exp(-0.4), abs=0.01)


# -- least distance -------------------------------------------------------------------------------


def test_least_distance_to_a_corner_and_to_nothing():
    found = least_distance(np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), np.array([1.0, 1, 1]))
    assert found.x == pytest.approx([1.0, 0.5])  # x = A' u with u on the two active rows
    assert found.multipliers == pytest.approx([1.0, 0.25, 0.0], abs=1e-12)
    assert least_distance(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.ones(2)) is None


@pytest.mark.parametrize("N", [2, 3, 6, 16])
def test_two_devices_have_a_closed_form(N):
    """ota.md 2.4 and acceptance (B)."""
    for seed in range(20):
        a, b = channels(seed, 2, N) * np.array([[1.0], [1 + seed % 3]])
        exact = oracle.pair(a, b)
        assert exact == pytest.approx(oracle.pair_dual(a, b), rel=1e-9)
        beam = max_min(np.stack([a, b], 1), a + b, steps=2000, tol=1e-15)
        assert beam.gain == pytest.approx(exact, rel=1e-9)
        assert np.linalg.norm(beam.m) == pytest.approx(1)


def test_parallel_columns_are_one_column():
    a = channels(0, 4)
    beam = max_min(np.stack([a, a], 1), channels(1, 4))
    assert beam.gain == pytest.approx(oracle.pair(a, a), rel=1e-9)


def test_screening_many_columns_changes_nothing():
    g, m = channels(2, 4, 300), channels(3, 4)
    few, low = max_min(g, m, steps=200, tol=1e-12), np.abs(g.conj().T @ m).min()
    assert few.gain > (low / np.linalg.norm(m)) ** 2
    # Alone, the tight columns hold the beam where it is: KKT of the whole.
    tight = few.pressure > 1e-9
    again = max_min(g[:, tight], few.m, steps=200, tol=1e-12)
    assert again.gain == pytest.approx(few.gain, rel=1e-6)


def test_a_beam_that_misses_a_column_has_gain_zero():
    beam = max_min(np.array([[1.0, 0.0], [0.0, 1.0]], dtype=complex), np.array([1.0 + 0j, 0.0]))
    assert beam.gain == 0.0


# -- one and two antennas -------------------------------------------------------------------------


def test_one_antenna_is_a_threshold():
    problem = OTASelection(channels(0, 50, 1, 9), mse_target=0.8)
    sol = rr.solve(problem)
    assert (sol.objective == (np.abs(problem.channel[:, 0]) ** 2 >= 1.25).sum(-1)).all()
    assert (sol.status == rr.Status.GLOBAL).all()


@pytest.mark.parametrize(("K", "target"), [(3, 1.0), (7, 0.5), (7, 1.0), (12, 0.7), (20, 2.0)])
def test_two_antennas_are_exact(K, target):
    """ota.md 3 (f), acceptance (C)."""
    for seed in range(15):
        problem = OTASelection(channels(seed, 2, K), mse_target=target)
        sol = rr.solve(problem)
        assert sol.objective == oracle.two_antennas(problem.channel, 1 / target)
        assert sol.status == rr.Status.GLOBAL


def test_two_antennas_with_values():
    for seed in range(15):
        value = np.random.default_rng(seed).uniform(0, 3, 9)
        problem = OTASelection(channels(seed, 2, 9), mse_target=0.6, value=value)
        sol = rr.solve(problem)
        best = oracle.two_antennas(problem.channel, 1 / 0.6, list(value))
        assert sol.objective == pytest.approx(best, rel=1e-12)
        assert sol.status == rr.Status.GLOBAL


def test_two_antennas_agree_with_every_subset():
    for seed in range(4):
        problem = OTASelection(channels(seed, 2, 5), mse_target=0.8)
        assert rr.solve(problem).objective == oracle.best_set(problem.channel, 1.25)


def test_two_antennas_where_caps_touch():
    """Twins, antipodes, a threshold met with equality: nobody is lost on a boundary."""
    a, b = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    for column, count in (([a, a, a], 3), ([a, a, b], 2), ([a, a, 1j * a, b, b], 3)):
        g = np.stack(column, 1).astype(complex)
        assert rr.solve(OTASelection(g, mse_target=1.0)).objective == count
    # m = (1, 1)/sqrt(2) gives each a gain of exactly 1/2.
    both = OTASelection(np.stack([a, b, a, b], 1).astype(complex), mse_target=2.0)
    sol = rr.solve(both)
    assert sol.objective == 4
    assert sol.status == rr.Status.GLOBAL


@pytest.mark.parametrize("spread", [4, 8, 12])
def test_two_antennas_with_strong_and_weak_devices(spread):
    rng = np.random.default_rng(spread)
    for seed in range(10):
        g = channels(seed, 2, 10) * 10 ** rng.uniform(0, spread / 2, 10)
        sol = rr.solve(OTASelection(g, mse_target=1.0))
        assert sol.status == rr.Status.GLOBAL
        assert sol.objective >= oracle.two_antennas(g, 1 + 1e-6)


# -- bounds, baselines, invariances ---------------------------------------------------------------


@pytest.mark.parametrize("N", [2, 3])
@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 7.0, -1.0, np.nan, np.inf])
def test_any_witness_gives_a_valid_bound(N, scale):
    rng = np.random.default_rng(N)
    value = np.array([1, 2, 1, 3, 1.0])
    for seed in range(3):
        problem = OTASelection(channels(seed, N, 5), mse_target=0.8, value=value)
        with np.errstate(invalid="ignore"):
            bound = problem.bound(None, {"dual_weight": scale * rng.uniform(0, 2, 5)})
        assert bound >= oracle.best_set(problem.channel, 1.25, list(value))
        assert bound == np.floor(bound)


def test_the_bound_of_the_strong_and_of_the_main_direction():
    """UB0 and UB1 of ota.md 2.6 on numbers that can be read off."""
    far = OTASelection(np.diag([2.0, 0.5, 1.0]).astype(complex), mse_target=1.0)
    assert far.bound() == 2
    near = OTASelection(np.eye(4, dtype=complex), mse_target=1.0)  # lambda_max = 1: one of four
    assert near.bound() == 1
    assert near.replace(value=[0.5, 2.5, 1, 1]).bound() == pytest.approx(2.5)


def test_baselines():
    problem = drawn(3, N=6, K=5, mse_target=3.0)
    assert list(problem.points()) == ["all-devices", "strongest", "random"]
    everybody = rr.solve(problem, "baseline:all-devices")
    least = problem.gain(everybody.x["beamformer"]).min()
    others = [problem.gain(problem.points()[n]()["beamformer"]).min() for n in ("strongest",)]
    assert least > max(others)
    strongest = rr.solve(problem, "baseline:strongest").x["beamformer"]
    g = problem.channel
    k = np.linalg.norm(g, axis=0).argmax()
    assert abs(np.vdot(strongest, g[:, k])) == pytest.approx(np.linalg.norm(g[:, k]))
    again = problem.points()["random"]()["beamformer"]
    assert (again == problem.points()["random"]()["beamformer"]).all()


def test_all_devices_is_the_best_beam_for_everybody():
    """Against SLSQP from many starts; phase-frozen ascent is local, so a share of it counts."""
    for seed in range(4):
        problem = drawn(seed, N=6, K=4, mse_target=1.0)
        m = problem.points()["all-devices"]()["beamformer"]
        best = oracle.least_gain(problem.channel)
        assert 0.7 * best <= problem.gain(m).min() <= best * (1 + 1e-6)


@pytest.mark.parametrize("N", [2, 4])
def test_bound_and_optimum_do_not_depend_on_coordinates(N):
    """ota.md acceptance (H): phase, permutation, unitary, joint scaling."""
    g, rng = channels(8, N, 9), np.random.default_rng(8)
    phase = np.exp(2j * np.pi * rng.random(9))
    order = rng.permutation(9)
    turn = np.linalg.qr(channels(9, N, N))[0]
    problem = OTASelection(g, mse_target=0.8)
    same = [
        OTASelection(g * phase, mse_target=0.8),
        OTASelection(g[:, order], mse_target=0.8),
        OTASelection(turn @ g, mse_target=0.8),
        OTASelection(g * 1e-8, mse_target=0.8, noise_power=1e-16),
        OTASelection(g * 1e8, mse_target=0.8e-3, noise_power=1e10, transmit_power=1e-3),
    ]
    for other in same:
        assert other.bound() == problem.bound()
        if N == 2:
            assert rr.solve(other).objective == rr.solve(problem).objective


# -- degenerate inputs: ota.md 8 ------------------------------------------------------------------


@pytest.mark.parametrize("N", [1, 2, 3])
def test_zero_columns_are_never_served(N):
    g = channels(0, N, 4)
    g[:, 1] = 0
    for noise in (0.0, 1e-300, 1.0):
        problem = OTASelection(g, mse_target=10.0, noise_power=noise)
        sol = rr.solve(problem)
        assert not sol.x["selected"][1]
        for name in problem.points():
            assert not rr.solve(problem, f"baseline:{name}").x["selected"][1]


@pytest.mark.parametrize("N", [1, 2, 3])
def test_no_channel_no_device(N):
    problem = OTASelection(np.zeros((N, 3), dtype=complex), mse_target=1.0)
    sol = rr.solve(problem)
    assert sol.objective == 0
    assert sol.status == rr.Status.GLOBAL
    for name in problem.points():
        assert rr.solve(problem, f"baseline:{name}").objective == 0


@pytest.mark.parametrize("N", [1, 2, 3])
@pytest.mark.parametrize(
    ("noise", "served"), [(0.0, 6), (1e-300, 6), (1e-12, 6), (1e6, 0), (1e300, 0)]
)
def test_silence_and_storm(N, noise, served):
    sol = rr.solve(OTASelection(channels(1, N, 6), mse_target=1.0, noise_power=noise))
    assert sol.objective == served
    assert sol.status == rr.Status.GLOBAL
    assert np.isfinite(sol.x["beamformer"]).all()
    assert sol.problem.mse(sol.x) <= 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channel": [[1.0, math.nan]]}, "channel.*remove missing"),
        ({"channel": [[1.0, math.inf]]}, "channel"),
        ({"channel": [1.0, 2.0]}, r"lacks axes \(N, K\)"),
        ({"mse_target": 0.0}, "mse_target"),
        ({"mse_target": -1.0}, "not in dB"),
        ({"noise_power": -1.0}, "noise_power"),
        ({"transmit_power": 0.0}, "transmit_power"),
        ({"aggregation_weight": [1.0, 0.0]}, "aggregation_weight"),
        ({"value": [1.0, -1.0]}, "value"),
        ({"value": [1.0, 1.0, 1.0]}, "axis K"),
    ],
)
def test_bad_input_is_named(changes, words):
    with pytest.raises(InvalidProblem, match=words):
        OTASelection(**{"channel": [[1.0, 1j]], "mse_target": 1.0} | changes)


def test_batches_and_copies():
    problem = OTASelection.random(K=5, N=3, batch=(2, 2), rng=0)
    assert problem.sizes == {"N": 3, "K": 5}
    assert problem.mse_target == pytest.approx(10 ** (-0.2))
    x = problem.complete(problem.sample(np.random.default_rng(0)))
    assert x["selected"].shape == (2, 2, 5)
    assert problem.mse(x).shape == (2, 2)
    targets = OTASelection(problem.channel[0, 0], mse_target=[0.5, 1.0, 2.0])
    assert targets.batch_shape == (3,)
    counts = targets.objective({"beamformer": np.broadcast_to(x["beamformer"][0, 0], (3, 3))})
    assert (np.diff(counts) >= 0).all()  # looser targets serve no fewer


def test_scenario_round_trip():
    problem = OTASelection.random(K=3, N=2, batch=2, rng=0, value=[1.0, 2.5, 0.0])
    assert rr.io.from_dict(rr.io.to_dict(problem)) == problem


def test_the_library_loads_without_scipy():
    words = "import sys, rralloc; from rralloc.problems import OTASelection as P; "
    words += "P([[1 + 1j, 2]], mse_target=1.0).bound(); assert 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", words], check=True)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"N": 1},
        {"N": 2},
        {"N": 3, "value": [1.0, 0.5, 0.0, 2.0], "aggregation_weight": [1.0, 2.0, 0.5, 1.0]},
        {"noise_power": 0.0},
    ],
    ids=str,
)
def test_conformance(settings):
    ran = check(OTASelection.random(K=4, batch=3, rng=1, **settings))
    assert {"fields", "indexing", "baselines", "projection", "bound"} <= set(ran)
    assert ("closed_form" in ran) == (settings.get("N", 6) <= 2)


def test_two_antennas_and_gains_over_fifteen_decades():
    rng = np.random.default_rng(0)
    for _ in range(60):
        spread = 10.0 ** rng.uniform(-7.5, 7.5, (2, 6))
        sol = rr.solve(
            OTASelection(channels(int(rng.integers(1e6)), 2, 6) * spread, mse_target=1.0)
        )
        assert sol.objective <= sol.bound


def test_values_are_limited_and_huge_ones_do_no_harm():
    with pytest.raises(InvalidProblem, match="value"):
        drawn(value=np.full(8, 1e308))
    sol = rr.solve(drawn(value=[1e300, *[1.0] * 7]), rng=0)
    assert np.isfinite(sol.bound)


@pytest.mark.parametrize("name", ["coverage", "gsds", "subgradient", "greedy", "exact"])
def test_every_solver_tells_its_caller(name):
    seen = []
    rr.solve(OTASelection.random(K=10, N=4, rng=0), name, rng=0, callback=seen.append)
    assert seen
    assert {"objective", "violation"} <= set(seen[0])
