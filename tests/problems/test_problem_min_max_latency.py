"""Min-max latency and device count: spec rrm.md section 5 with its corrections, and oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import sync
from strategies import shows

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.policy import Round
from rralloc.problems import DeviceCount, MinMaxLatency

NOISE = 10**-20.4  # -174 dBm/Hz
CELL = (0.1, 0.2, 0.3, 0.5)
COMPUTE = (0.1, 0.3, 0.2, 0.4)


def gain(distance_km):
    return 10 ** (-(128.1 + 37.6 * np.log10(distance_km)) / 10)


def instance(cls=MinMaxLatency, **changes):
    """The acceptance block of section 5."""
    fields = {
        "path_gain": gain(CELL),
        "compute_s": COMPUTE,
        "payload_bit": 1e6,
        "power_w": 0.1,
        "bandwidth_budget_hz": 1e6,
        "noise_psd_w_hz": NOISE,
    }
    return cls(**fields | changes)


def plain(problem):
    """The arguments of the oracle."""
    a, c = np.broadcast_arrays(problem.snr_bandwidth_hz, problem.compute_s)
    payload, total = float(np.ravel(problem.payload_bit)[0]), float(problem.bandwidth_budget_hz)
    return list(a), list(c), payload, total


@pytest.mark.parametrize(
    ("distance", "compute", "latency", "band"),
    [
        (CELL, COMPUTE, "0.6883072809", "95267.74 197649.27 187804.46 519278.53"),
        (CELL, (0.2,) * 4, ".5714226018", "157272.1 207784.7 257683.4 377259.8"),
        # Printed as 188251.2, with which the four numbers miss 1 MHz.
        ((0.2,) * 4, (0.1, 0.2, 0.3, 0.4), ".6055053137", "147007.9 188251.4 258965.3 405775.4"),
        ((0.2,) * 4, (0.2,) * 4, ".5151937874", "250000 250000 250000 250000"),
    ],
    ids=["reference", "equal compute", "equal gain", "all equal"],
)
def test_spec_5_a(distance, compute, latency, band):
    problem = instance(path_gain=gain(distance), compute_s=compute)
    sol = rr.solve(problem)
    assert shows(sol.objective, latency)
    assert shows(sol.bandwidth_hz, band)
    assert np.ptp(problem.latency(sol.bandwidth_hz)) < 1e-10
    assert sol.status == rr.Status.GLOBAL
    assert sol.bound <= sol.objective
    t, b = sync.solve_precise(*plain(problem))
    assert sol.objective == pytest.approx(t, rel=1e-14)
    assert sol.bandwidth_hz == pytest.approx(b, rel=1e-11)


def test_spec_5_a_gain_over_the_equal_split():
    problem = instance()
    even = rr.solve(problem, "baseline:equal-split").objective
    assert shows(even, ".9176811189")
    assert shows(100 * (1 - rr.solve(problem).objective / even), "25.0")


@given(strategies.min_max_latency(st.just(())))
def test_equals_the_oracle(problem):
    problem = problem.replace(payload_bit=problem.payload_bit[0])
    t, b = sync.solve(*plain(problem))
    sol = rr.solve(problem)
    assert sol.objective == pytest.approx(t, rel=1e-8, abs=0)
    fastest = problem.bandwidth_budget_hz * 1e-6
    assert (np.abs(sol.bandwidth_hz - b) <= 1e-4 * np.array(b) + fastest).all()


@given(strategies.min_max_latency(st.just(())), st.floats(1.0, 100.0))
def test_more_band_is_never_later(problem, more):
    wider = problem.replace(bandwidth_budget_hz=problem.bandwidth_budget_hz * more)
    assert rr.solve(wider).objective <= rr.solve(problem).objective * (1 + 1e-13)


@given(pick=st.data())
def test_weaker_channels_and_slower_processors_get_more(pick):
    weak = np.sort(pick.draw(strategies.rows(strategies.decades(-13, -8), 5)))[::-1]
    band = rr.solve(instance(path_gain=weak, compute_s=0.2)).bandwidth_hz
    assert (np.diff(band) >= -1e-9 * 1e6).all()
    slow = np.sort(pick.draw(strategies.rows(st.floats(0, 2), 5)))
    band = rr.solve(instance(path_gain=gain(0.2), compute_s=slow)).bandwidth_hz
    assert (np.diff(band) >= -1e-9 * 1e6).all()


@given(strategies.decades(-10, 10))
def test_units_of_power_do_not_matter(unit):
    """Gains scaled over 20 orders of magnitude, power inversely: the same shares."""
    here, there = instance(), instance(path_gain=gain(CELL) * unit, power_w=0.1 / unit)
    assert rr.solve(there).bandwidth_hz == pytest.approx(rr.solve(here).bandwidth_hz, rel=1e-9)


# -- degenerate inputs of section 5 -------------------------------------------------------------


def test_one_device_takes_the_band():
    sol = rr.solve(instance(path_gain=gain([0.2]), compute_s=0.1))
    assert sol.bandwidth_hz.tolist() == [1e6]


def test_no_payload_ends_with_the_slowest_processor():
    sol = rr.solve(instance(payload_bit=0.0))
    assert sol.objective == 0.4
    assert sol.bandwidth_hz == pytest.approx([2.5e5] * 4)
    assert sol.status == rr.Status.GLOBAL


@pytest.mark.parametrize("solver", ["level", "scipy:slsqp", "cvxpy", "pyomo"])
@pytest.mark.parametrize(
    "changes",
    [
        {"payload_bit": [1e6, 0, 1e6, 1e6]},
        {"payload_bit": [1e6, 0, 1e6, 1e6], "compute_s": [0.1, 50.0, 0.2, 0.4]},
        {"payload_bit": [1e6, 0, 1e6, 1e6], "path_gain": gain(CELL) * [1, 0, 1, 1]},
        {"path_gain": gain(CELL) * [1, 0, 1, 1], "scheduled": [True, False, True, True]},
    ],
    ids=["nothing to send", "nothing but late", "nothing and deaf", "deaf and left out"],
)
def test_one_device_without_band(solver, changes):
    problem = instance(**changes)
    if solver not in rr.solvers_for(problem):
        pytest.skip(f"{solver} is not available")
    others = [0, 2, 3]
    t, _ = sync.solve(*plain(problem.select(K=others)))
    idle = problem.compute_s[1] if problem.scheduled.all() else 0.0
    assert rr.solve(problem, solver).objective == pytest.approx(max(t, idle), rel=1e-5)


def test_spec_5_a_deaf_device_is_infeasible_and_named():
    sol = rr.solve(instance(path_gain=gain(CELL) * [1, 0, 1, 0]))
    assert sol.status == rr.Status.INFEASIBLE
    assert "device 1, 3 has a payload to send but no received power" in sol.message
    batch = instance(path_gain=np.stack([gain(CELL), gain(CELL) * [1, 1, 0, 1]]))
    sol = rr.solve(batch)
    assert sol.status.names().tolist() == ["global", "infeasible"]
    assert shows(sol.objective[0], "0.6883072809")
    assert "instance 1: device 2" in sol.message


def test_spec_5_a_no_band_is_refused():
    with pytest.raises(InvalidProblem, match="bandwidth_budget_hz = 0 Hz is not in"):
        instance(bandwidth_budget_hz=0.0)


def test_identical_devices_make_both_bracket_ends_roots():
    sol = rr.solve(instance(path_gain=gain(0.2), compute_s=[0.2] * 7))
    assert sol.bandwidth_hz == pytest.approx([1e6 / 7] * 7, rel=1e-12)


def test_nobody_scheduled_takes_no_time():
    assert rr.solve(instance(scheduled=False), "level").objective == 0


def test_spec_5_b_exclusion():
    problem = instance().excluding(max_compute_s=0.35, min_path_gain=gain(0.25))
    assert problem.scheduled.tolist() == [True, True, False, False]
    assert sync.kept(gain(CELL), COMPUTE, gain(0.25), 0.35) == [0, 1]
    sol = rr.solve(problem)
    t, b = sync.solve(*plain(instance().select(K=[0, 1])))
    assert sol.objective == pytest.approx(t, rel=1e-12)
    assert sol.bandwidth_hz == pytest.approx([*b, 0, 0], rel=1e-9)


def test_bound_from_a_far_point_is_still_valid():
    problem = instance()
    poor = {"bandwidth_hz": np.array([9e5, 3e4, 3e4, 4e4])}
    for claim in (1e-3, 0.5, 0.6883, 0.7, 10.0, math.inf):
        bound = problem.bound(poor, {"latency_s": np.array(claim)})
        assert bound <= 0.6883072810  # spec 5 A
    assert problem.bound(poor, {"latency_s": np.array(0.6883)}) >= 0.6882


def test_no_band_means_infinite_latency_however_small_the_band():
    problem = instance()
    for band in (0.0, 1e-305, 1e-320):
        x = {"bandwidth_hz": np.array([band, 3e5, 3e5, 3e5])}
        assert problem.objective(x) > 1e200


def test_round_and_back():
    round = Round(
        index=0,
        path_gain=gain(CELL),
        bandwidth_hz=1e6,
        power_w=np.full(4, 0.1),
        noise_psd_w_hz=NOISE,
        payload_bit=1e6,
        compute_s=np.array(COMPUTE),
        share=np.array([0.5, 0.3, 0.0, 0.2]),
    )
    problem = MinMaxLatency.from_round(round)
    sol = rr.solve(problem)
    decision = problem.to_decision(sol.x, round, np.random.default_rng(0))
    assert decision.scheduled.tolist() == [True, True, False, True]
    assert decision.weight == pytest.approx(round.share)
    assert decision.bandwidth_hz.sum() == pytest.approx(1e6)
    assert decision.bandwidth_hz[2] == 0


# -- problem C ----------------------------------------------------------------------------------


def drawn_cell(seed, size):
    rng = np.random.default_rng(seed)
    distance = np.sqrt(rng.uniform(0.05**2, 0.6**2, size))
    fading = rng.exponential(size=size)
    return gain(distance) * fading, rng.uniform(0.1, 1, size)


def test_spec_5_c():
    path_gain, compute = drawn_cell(3, 20)
    problem = instance(DeviceCount, path_gain=path_gain, compute_s=compute)
    sol = rr.solve(problem)
    assert sol.selected.sum() == 2
    assert shows(sol.objective, "69.10")
    assert sol.status == rr.Status.GLOBAL
    totals, chosen = sync.solve_count(*plain(problem), 50, 200)
    assert sol.objective == pytest.approx(min(totals), rel=1e-10)
    assert set(np.flatnonzero(sol.selected)) == set(chosen)
    for count, printed in ((1, "76.3"), (4, "70.9"), (20, "165.4")):
        assert shows(totals[count - 1], printed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("base", "per_device"), [(50, 200), (5, 200), (1, 1000)])
def test_device_count_equals_exhaustive_search(seed, base, per_device):
    path_gain, compute = drawn_cell(seed, 4 + seed % 3)
    problem = instance(
        DeviceCount,
        path_gain=path_gain,
        compute_s=compute,
        rounds_base=base,
        rounds_per_device=per_device,
    )
    total, chosen = sync.solve_count_exhaustive(*plain(problem), base, per_device)
    sol = rr.solve(problem)
    assert sol.objective == pytest.approx(total, rel=1e-10)
    assert tuple(np.flatnonzero(sol.selected)) == chosen
    assert sol.status == rr.Status.GLOBAL


@settings(max_examples=15)
@given(strategies.device_count(st.just(())), st.floats(1.0, 100.0))
def test_device_count_more_band_is_never_worse(problem, more):
    wider = problem.replace(bandwidth_budget_hz=problem.bandwidth_budget_hz * more)
    assert rr.solve(wider).objective <= rr.solve(problem).objective * (1 + 1e-12)


def test_device_count_leaves_out_the_deaf():
    path_gain, compute = drawn_cell(3, 5)
    path_gain[2] = 0.0
    problem = instance(DeviceCount, path_gain=path_gain, compute_s=compute, rounds_base=1.0)
    sol = rr.solve(problem)
    heard = [0, 1, 3, 4]
    total, _ = sync.solve_count_exhaustive(*plain(problem.select(K=heard)), 1, 200)
    assert sol.objective == pytest.approx(total, rel=1e-10)
    assert not sol.selected[2]
    silent = rr.solve(problem.replace(path_gain=np.zeros(5)))
    assert silent.status == rr.Status.INFEASIBLE
    assert "nobody can take part" in silent.message


def test_device_count_false_claims_are_overwritten():
    problem = instance(DeviceCount)
    x = {"bandwidth_hz": np.array([5e5, 5e5, 0, 0]), "selected": np.ones(4, dtype=bool)}
    report = rr.verify(problem, x)
    assert report.false_claims == ("selected",)
    assert not report.ok()


def test_device_count_of_nobody_takes_for_ever():
    assert instance(DeviceCount).objective({"bandwidth_hz": np.zeros(4)}) == math.inf


@pytest.mark.parametrize(
    ("cls", "changes", "words"),
    [
        (MinMaxLatency, {"path_gain": -90.0}, r"path_gain\[0\] = -90 .* not in dB"),
        (MinMaxLatency, {"compute_s": [0.1, -0.2, 0, 0]}, r"compute_s\[1\] = -0.2 s is not in \[0"),
        (
            MinMaxLatency,
            {"noise_psd_w_hz": 0.0},
            "noise_psd_w_hz = 0 W/Hz is not in",
        ),
        (MinMaxLatency, {"payload_bit": math.inf}, r"payload_bit\[0\] = inf bit"),
        (MinMaxLatency, {"compute_s": [0.1, 0.2]}, "axis K has size 4 in path_gain and 2 in"),
        (DeviceCount, {"payload_bit": [1, 0, 1, 1]}, r"payload_bit\[1\] = 0 bit is not in \(0"),
    ],
)
def test_bad_input_is_named(cls, changes, words):
    with pytest.raises(InvalidProblem, match=words):
        instance(cls, **changes)


def test_baselines_are_what_their_names_say():
    problem = instance()
    assert rr.solve(problem, "baseline:equal-split").bandwidth_hz.tolist() == [2.5e5] * 4
    efficiency = np.log2(1 + problem.snr_bandwidth_hz / 2.5e5)
    need = 1 / efficiency
    by_need = rr.solve(problem, "baseline:by-need").bandwidth_hz
    assert by_need == pytest.approx(1e6 * need / need.sum(), rel=1e-12)
    count = instance(DeviceCount)
    assert rr.solve(count, "baseline:all").bandwidth_hz.tolist() == [2.5e5] * 4
    assert rr.solve(count, "baseline:strongest").bandwidth_hz.tolist() == [1e6, 0, 0, 0]
