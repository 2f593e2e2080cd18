"""Downlink beamforming: spec rrm.md section 15 item 9, two oracles, bounds, edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import classics as oracle
from strategies import shows

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.problems import DownlinkBeamforming
from rralloc.testing import check

TARGET = (1.0, 2.0, 1.5)


def spec_rows():
    """Channels of the specification, one row for each device."""
    rng = np.random.default_rng(9)
    return (rng.standard_normal((3, 4)) + 1j * rng.standard_normal((3, 4))) / np.sqrt(2)


def spec():
    return DownlinkBeamforming(channel=spec_rows().T, sinr_target=TARGET)


def drawn(seed, K, N, **more):
    return DownlinkBeamforming.random(K=K, N=N, rng=seed, **more)


# -- the specification ----------------------------------------------------------------------------


def test_spec_15_9():
    problem = spec()
    sol = rr.solve(problem)
    assert shows(sol.objective, "1.448409919")
    assert shows(problem.power_w(sol.x), ".342219 .746047 .360144")
    assert sol.status == rr.Status.GLOBAL
    assert sol.gap < 1e-13
    assert problem.sinr(sol.x) == pytest.approx(TARGET, rel=1e-12)


def test_spec_15_9_by_two_other_methods():
    total, power = oracle.beamforming_fixed_point(spec_rows(), TARGET, [1.0] * 3)
    assert shows(total, "1.448409919")
    assert shows(power, ".342219 .746047 .360144")
    assert shows(oracle.beamforming_socp(spec_rows(), TARGET, [1.0] * 3), "1.4484099")
    found = rr.solve(spec(), "cvxpy")
    assert shows(found.objective, "1.4484099")
    assert found.status == rr.Status.GLOBAL


def test_spec_15_9_one_device_alone():
    """gamma |h|^-2."""
    alone = spec().select(K=[0])
    sol = rr.solve(alone)
    assert shows(sol.objective, ".18179")
    assert sol.objective == pytest.approx(1 / np.linalg.norm(spec_rows()[0]) ** 2, rel=1e-13)


# -- other methods --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "K", "N", "target"), [(0, 2, 2, 3.0), (1, 4, 5, 10.0), (2, 5, 3, 0.8), (3, 3, 1, 0.4)]
)
def test_equals_the_cone_program(seed, K, N, target):
    noise = np.random.default_rng(seed).uniform(0.1, 3.0, K)
    problem = drawn(seed, K, N, sinr_target=target, noise_power=noise)
    sol = rr.solve(problem)
    best = oracle.beamforming_socp(problem.channel.T, [target] * K, noise)
    assert sol.objective == pytest.approx(best, rel=1e-6)
    assert rr.solve(problem, "cvxpy").objective == pytest.approx(best, rel=1e-6)
    assert sol.status == rr.Status.GLOBAL


def test_orthogonal_channels_need_what_each_needs_alone():
    problem = DownlinkBeamforming(channel=np.diag([1.0, 2.0, 1j]), sinr_target=[1, 8, 3])
    sol = rr.solve(problem)
    assert sol.objective == pytest.approx(1 + 2 + 3, rel=1e-13)
    assert rr.solve(problem, "baseline:matched").objective == pytest.approx(6, rel=1e-13)


def test_two_devices_on_one_antenna():
    """Same channel: p_k = gamma_k (total + noise/|h|^2)/(1 + gamma_k), so the total is known."""
    problem = DownlinkBeamforming(channel=[[2.0, 2j]], sinr_target=[0.5, 0.2], noise_power=3.0)
    need = 0.5 / 1.5 + 0.2 / 1.2
    assert rr.solve(problem).objective == pytest.approx(0.75 * need / (1 - need), rel=1e-12)


# -- bound ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "N", "target"), [(3, 4, 2.0), (5, 3, 1.0), (4, 4, 100.0)])
def test_any_uplink_powers_prove_a_valid_bound(K, N, target):
    problem, rng = drawn(K, K, N, sinr_target=target), np.random.default_rng(0)
    sol = rr.solve(problem)
    best = oracle.beamforming_socp(problem.channel.T, [target] * K, [1.0] * K)
    trials = [*rng.exponential(size=(40, K)), *10 ** rng.uniform(-8, 8, (40, K)), np.eye(K)[0]]
    bounds = np.array([problem.bound(None, {"uplink_power": y}) for y in trials])
    assert (bounds <= best * (1 + 1e-6)).all()
    assert (bounds > 0).all()
    assert sol.bound == pytest.approx(best, rel=1e-6)
    # The size of the powers does not matter, only their ratios.
    power = sol.duals["uplink_power"]
    for size in (1e-9, 1.0, 1e9):
        tight = problem.bound(None, {"uplink_power": power * size})
        assert tight == pytest.approx(sol.objective, rel=1e-11)


def test_bad_witnesses_prove_nothing_and_do_no_harm():
    problem = spec()
    for y in (np.zeros(3), -np.ones(3), np.full(3, np.nan)):
        assert problem.bound(None, {"uplink_power": y}) == 0
    assert problem.bound(None, {"uplink_power": np.ones(7)}) == problem.bound()


# -- who can be served ----------------------------------------------------------------------------


@pytest.mark.parametrize("slack", [0.1, 1e-3, 1e-6, 1e-9])
def test_up_to_the_edge_of_what_antennas_can_do(slack):
    """Five devices, three antennas: served exactly if sum gamma/(1+gamma) < 3."""
    share = (3 - slack) / 5
    problem = drawn(3, 5, 3, sinr_target=share / (1 - share))
    sol = rr.solve(problem)
    assert sol.status == rr.Status.GLOBAL
    assert sol.violation <= 1e-12
    share = (3 + slack) / 5
    over = rr.solve(problem.replace(sinr_target=share / (1 - share)))
    assert over.status == rr.Status.INFEASIBLE
    assert "3 antennas tell only 3 of their channels apart" in over.message


def test_a_device_of_tiny_target_can_be_the_one_too_many():
    """One antenna: .999999999 + 1e-8 of 1; alone the first can be served."""
    share = np.array([1 - 1e-9, 1e-8])
    problem = DownlinkBeamforming(channel=[[1.0, 1.0]], sinr_target=share / (1 - share))
    assert rr.solve(problem).status == rr.Status.INFEASIBLE
    assert rr.solve(problem.select(K=[0])).status == rr.Status.GLOBAL


@pytest.mark.parametrize("slack", [1e-11, 1e-12, 1e-13, 0.0])
def test_where_rounding_decides_no_bound_passes_a_feasible_point(slack):
    share = (3 - slack) / 5
    sol = rr.solve(drawn(3, 5, 3, sinr_target=share / (1 - share)))
    if sol.status >= rr.Status.FEASIBLE:
        assert sol.bound <= sol.objective * (1 + 1e-3)


def test_devices_in_one_direction_are_named():
    columns = np.array([[1, 2, 0], [1j, 2j, 0], [0, 0, 1]])
    problem = DownlinkBeamforming(channel=columns, sinr_target=[1.5, 1.0, 1.0])
    sol = rr.solve(problem)
    assert sol.status == rr.Status.INFEASIBLE
    assert "devices [0, 1] cannot have their SINR" in sol.message
    assert "tell only 1 of their channels apart" in sol.message
    assert rr.solve(problem.replace(sinr_target=[0.7, 1.0, 1.0])).status == rr.Status.GLOBAL
    # At the edge, 1/2 + 1/2 = 1, no power is enough either.
    assert rr.solve(problem.replace(sinr_target=1.0)).status == rr.Status.INFEASIBLE


def test_a_device_that_hears_nothing_is_named():
    columns = spec_rows().T.copy()
    columns[:, 1] = 0
    sol = rr.solve(DownlinkBeamforming(channel=columns, sinr_target=TARGET))
    assert sol.status == rr.Status.INFEASIBLE
    assert "devices [1] hear nothing" in sol.message


def test_infeasible_instances_leave_the_others_alone():
    both = rr.stack([drawn(3, 5, 3, sinr_target=t) for t in (0.5, 5.0, 0.7)])
    sol = rr.solve(both)
    assert sol.status.tolist() == [rr.Status.GLOBAL, rr.Status.INFEASIBLE, rr.Status.GLOBAL]
    alone = rr.solve(both[2])
    assert alone.objective == pytest.approx(sol.objective[2], rel=1e-13)


def test_where_double_precision_has_no_answer_it_says_so():
    problem = DownlinkBeamforming(channel=[[1, 1], [0, 1e-9]], sinr_target=2.0)
    sol = rr.solve(problem)
    assert sol.status == rr.Status.VIOLATED
    assert "1e15 times" in sol.message


# -- properties -----------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    K=st.integers(1, 5),
    N=st.integers(1, 5),
    decades=st.integers(0, 10),
)
def test_channels_over_twenty_decades(seed, K, N, decades):
    rng = np.random.default_rng(seed)
    channel = drawn(seed, K, N).channel * 10.0 ** rng.uniform(-decades, decades, K)
    target = 10.0 ** rng.uniform(-3, 3, K)
    problem = DownlinkBeamforming(
        channel=channel, sinr_target=target, noise_power=10.0 ** rng.uniform(-9, 3, K)
    )
    sol = rr.solve(problem)
    if (target / (1 + target)).sum() < min(N, K):
        assert sol.status == rr.Status.GLOBAL
        assert sol.gap < 1e-8
    else:
        assert sol.status == rr.Status.INFEASIBLE


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), size=st.floats(-8, 8), turn=st.floats(0, 6))
def test_units_phases_and_order_do_not_matter(seed, size, turn):
    problem, unit = drawn(seed, 4, 3, sinr_target=[0.5, 1, 2, 0.2]), 10.0**size
    here = rr.solve(problem).objective
    channel = problem.channel * unit * np.exp(1j * turn * np.arange(4))
    there = rr.solve(problem.replace(channel=channel)).objective
    assert there * unit**2 == pytest.approx(here, rel=1e-9, abs=0)
    noisy = rr.solve(problem.replace(noise_power=unit)).objective
    assert noisy / unit == pytest.approx(here, rel=1e-9, abs=0)
    moved = rr.solve(problem.select(K=[2, 0, 3, 1])).objective
    assert moved == pytest.approx(here, rel=1e-9, abs=0)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), more=st.floats(1.0, 3.0))
def test_higher_targets_and_fewer_antennas_cost_more(seed, more):
    problem = drawn(seed, 3, 4)
    here = rr.solve(problem).objective
    greedy = rr.solve(problem.replace(sinr_target=2.0 * more)).objective
    assert greedy >= here * (1 - 1e-12)
    assert rr.solve(problem.select(N=[0, 1, 2])).objective >= here * (1 - 1e-12)
    assert rr.solve(problem.select(K=[0, 1])).objective <= here * (1 + 1e-12)


def test_a_batch_is_a_loop():
    problem = DownlinkBeamforming.random(K=4, N=3, batch=(2, 3), rng=5, sinr_target=1.5)
    together = rr.solve(problem)
    for i in np.ndindex(2, 3):
        alone = rr.solve(problem[i])
        assert alone.objective == pytest.approx(together.objective[i], rel=1e-12)
        np.testing.assert_allclose(alone.beamformer, together.beamformer[i], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "problem",
    [
        DownlinkBeamforming.random(K=3, batch=2, rng=1),
        DownlinkBeamforming.random(K=4, N=3, batch=(2, 2), rng=2, sinr_target=1.5),
        DownlinkBeamforming.random(K=1, N=1, rng=3),
    ],
)
def test_conformance(problem):
    assert {"projection", "bound", "closed_form", "model:cvxpy"} <= set(check(problem))


# -- rules and foreign points ---------------------------------------------------------------------


def test_rules_are_what_their_names_say():
    problem = spec()
    best = rr.solve(problem).objective
    forcing = rr.solve(problem, "baseline:zero-forcing")
    heard = np.abs(problem.channel.conj().T @ forcing.beamformer)
    np.testing.assert_allclose(heard, np.diag(np.sqrt(TARGET)), atol=1e-12)
    for name in problem.points():
        assert rr.solve(problem, f"baseline:{name}").objective >= best * (1 - 1e-12)
    matched = rr.solve(problem, "baseline:matched").beamformer
    along = np.abs((problem.channel.conj() * matched).sum(0))
    lengths = np.linalg.norm(problem.channel, axis=0) * np.linalg.norm(matched, axis=0)
    np.testing.assert_allclose(along, lengths, rtol=1e-12)


def test_a_rule_whose_directions_fail_is_not_listed():
    crowd = drawn(0, 5, 3, sinr_target=1.4)
    assert "zero-forcing" not in crowd.points()
    assert "zero-forcing" in drawn(0, 3, 3).points()


def test_any_point_is_projected():
    problem = drawn(0, 5, 3, sinr_target=1.4)
    for w in (np.zeros((3, 5)), np.full((3, 5), np.nan), np.ones((3, 5))):
        assert rr.verify(problem, problem.project({"beamformer": w.astype(complex)})).ok()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sinr_target": [1.0, 0.0, 1.0]}, r"sinr_target\[1\] = 0 is not in \(0, 1e\+10\]"),
        ({"noise_power": 0.0}, "noise_power"),
        ({"channel": np.full((2, 3), np.nan)}, "channel"),
        ({"sinr_target": [1.0, 2.0]}, "axis K"),
    ],
)
def test_bad_input_is_named(changes, words):
    fields = {"channel": np.ones((2, 3)), "sinr_target": 1.0}
    with pytest.raises(InvalidProblem, match=words):
        DownlinkBeamforming(**fields | changes)
