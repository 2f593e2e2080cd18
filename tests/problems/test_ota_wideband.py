"""Wideband selection: against one subcarrier, flat channels, every subset; degenerate inputs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from oracles import ota as oracle

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.problems import OTASelection, OTAWideband
from rralloc.solution import Stopped
from rralloc.solvers.coverage_wideband import add, anneal, normalised
from rralloc.testing import check


def channels(seed, *shape):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / math.sqrt(2)


def drawn(seed=0, F=3, N=3, K=6, **settings):
    return OTAWideband(
        channels(seed, F, N, K), **{"mse_target": 1.0, "transmit_power": float(F)} | settings
    )


# -- the model ------------------------------------------------------------------------------------


def test_served_means_the_error_of_every_subcarrier():
    """tau_f = noise_f/((P/F) target_f), device by device, from the raw channel."""
    rng = np.random.default_rng(0)
    noise, target = rng.uniform(0.2, 0.6, 3), rng.uniform(1, 3, 3)
    phi = rng.uniform(0.5, 1.5, 6)
    problem = drawn(
        noise_power=noise, mse_target=target, transmit_power=2.0, aggregation_weight=phi
    )
    seen = set()
    for seed in range(30):
        m = channels(seed, 3, 3)
        for k, served in enumerate(problem.served(m)):
            own = [
                oracle.mse(problem.channel[f], [k], m[f], noise[f], 2.0 / 3, phi) for f in range(3)
            ]
            assert served == all(e <= t for e, t in zip(own, target))
            seen.add(bool(served))
    assert seen == {True, False}


def test_the_error_is_what_a_simulation_measures():
    phi = np.array([0.5, 1.0, 1.5, 1.0])
    problem = drawn(
        1,
        F=2,
        K=4,
        noise_power=[0.05, 0.1],
        mse_target=50.0,
        transmit_power=3.0,
        aggregation_weight=phi,
    )
    x = problem.complete(problem.points()["all-devices"]())
    assert x["selected"].all()
    b, eta = problem.transmit_scaling(x)
    assert (np.abs(b) ** 2).max(-1) == pytest.approx([1.5, 1.5])  # half of P, all of it used
    symbols = channels(2, 4, 200_000)
    for f in range(2):
        noise = channels(3 + f, 3, 200_000) * math.sqrt(problem.noise_power[f])
        received = (problem.channel[f] * b[f]) @ symbols + noise
        m = x["beamformer"][f] / np.linalg.norm(x["beamformer"][f])
        error = np.mean(np.abs(m.conj() @ received / math.sqrt(eta[f]) - phi @ symbols) ** 2)
        assert problem.mse(x)[f] == pytest.approx(error, rel=0.01)


def test_random_channels_have_taps_of_falling_power():
    problem = OTAWideband.random(K=50, N=4, F=16, taps=3, batch=40, rng=0)
    assert problem.sizes == {"F": 16, "N": 4, "K": 50}
    taps = np.fft.ifft(problem.channel, axis=1)
    power = (np.abs(taps) ** 2).mean((0, 2, 3))
    assert power[:3] == pytest.approx(np.exp([0, -1, -2]) / np.exp([0, -1, -2]).sum(), rel=0.06)
    assert power[3:] == pytest.approx(0, abs=1e-25)
    assert (np.abs(problem.channel) ** 2).mean() == pytest.approx(1, rel=0.03)
    few = OTAWideband.random(K=400, N=2, F=2, taps=5, rng=0)  # more taps than subcarriers
    assert (np.abs(few.channel) ** 2).mean() == pytest.approx(1, rel=0.1)


def test_selected_follows_from_the_beams_and_a_false_claim_is_reported():
    problem = drawn()
    x = problem.complete({"beamformer": channels(1, 3, 3), "selected": np.ones(6, dtype=bool)})
    assert not x["selected"].all()
    assert rr.verify(problem, x).ok()
    report = rr.verify(problem, x | {"selected": np.ones(6, dtype=bool)})
    assert report.false_claims == ("selected",)


@pytest.mark.parametrize("size", [1e-200, 1e-8, 1e8, 1e200])
def test_only_directions_count(size):
    problem, m = drawn(mse_target=4.0), channels(1, 3, 3)
    there = {"beamformer": m * size * np.exp([[0.3j], [2j], [0j]])}
    assert problem.objective(there) == problem.objective({"beamformer": m}) > 0
    assert np.linalg.norm(problem.project(there)["beamformer"], axis=-1) == pytest.approx(1)
    m[1] = 0  # one silent beam silences all
    assert problem.objective({"beamformer": m}) == 0
    assert not problem.mse({"beamformer": m}).any()


# -- the ascent -----------------------------------------------------------------------------------


def test_one_step_follows_the_derivative_of_the_smoothed_count():
    """Central differences of sum_k w_k (prod_f s_kf)^r at the first beta, r = 1/F."""
    from rralloc.solvers import coverage_wideband as module

    problem, rng = drawn(2), np.random.default_rng(0)
    g, w = problem.columns[None] * 2, rng.uniform(0.5, 1, (1, 6))
    m = channels(5, 1, 3, 3, 1)
    m /= np.linalg.norm(m, axis=2, keepdims=True)

    def smoothed(beams):
        a = np.abs(np.einsum("fnk,fn->fk", g[0].conj(), beams))
        s = 1 / (1 + np.exp(-(2.0 * (a - 1) + 1.2)))
        return float((w[0] * s.prod(0) ** (1 / 3)).sum())

    gradient = np.zeros((3, 3), dtype=complex)
    for f, n in np.ndindex(3, 3):
        for part in (1.0, 1j):
            step = np.zeros((3, 3), dtype=complex)
            step[f, n] = 1e-6 * part
            rise = smoothed(m[0, :, :, 0] + step) - smoothed(m[0, :, :, 0] - step)
            gradient[f, n] += part * rise / 2e-6
    along = gradient / np.linalg.norm(gradient, axis=-1, keepdims=True)
    expected = along + (0.5 + 0.2 * 2) * m[0, :, :, 0]
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    seen = []

    def record(beams):  # the beams after the first step are the last that `unit` made
        out = original(beams)
        seen.append(out)
        return out

    original = module.unit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "unit", record)
        patch.setattr(module, "BETAS", np.array([2.0]))
        anneal(g, w, m.astype(np.complex64))
    assert seen[-1][0, :, :, 0] == pytest.approx(expected, abs=2e-4)


def test_adding_never_loses_a_device():
    for seed in range(6):
        problem = OTAWideband.random(K=15, N=3, F=4, rng=seed, mse_target=1.5)
        g, w = normalised(problem.columns[None], problem.values[None])
        m = problem.sample(np.random.default_rng(seed))["beamformer"]
        new = add(g[0], w[0], m, 3)
        assert problem.objective({"beamformer": new}) > 0
        assert (problem.served(new) >= problem.served(m)).all()


# -- one subcarrier, flat channels, every subset --------------------------------------------------


def test_one_subcarrier_is_ota_selection():
    """Same evaluation exactly, same quality on average (coverage: 14.3 at (6, 20), -2 dB)."""
    wide = OTAWideband.random(K=20, N=6, F=1, batch=60, rng=3)
    narrow = OTASelection(wide.channel[:, 0], mse_target=10**-0.2)
    mine, theirs = rr.solve(wide, rng=0), rr.solve(narrow, "coverage", rng=0)
    assert mine.solver == "coverage-wideband"
    assert (narrow.objective({"beamformer": mine.x["beamformer"][:, 0]}) == mine.objective).all()
    assert (
        wide.objective({"beamformer": theirs.x["beamformer"][:, None]}) == theirs.objective
    ).all()
    assert mine.objective.mean() == pytest.approx(theirs.objective.mean(), abs=0.2)
    assert mine.bound.mean() == pytest.approx(theirs.bound.mean(), abs=0.1)


def test_a_flat_channel_is_ota_selection_with_a_share_of_the_power():
    wide = OTAWideband.random(K=15, N=4, F=4, taps=1, batch=40, rng=5)
    narrow = OTASelection(wide.channel[:, 0], mse_target=10**-0.2, transmit_power=4.0 / 4)
    mine, theirs = rr.solve(wide, rng=0), rr.solve(narrow, "coverage", rng=0)
    everywhere = np.repeat(theirs.x["beamformer"][:, None], 4, axis=1)
    assert (wide.objective({"beamformer": everywhere}) == theirs.objective).all()
    assert (mine.objective <= theirs.bound).all()
    assert mine.objective.mean() == pytest.approx(theirs.objective.mean(), abs=0.25)


@pytest.mark.parametrize(
    ("F", "N", "K", "target"), [(2, 2, 5, 1.0), (3, 3, 5, 0.8), (2, 3, 6, 0.7)]
)
def test_every_subset(F, N, K, target):
    """The largest set that every subcarrier can serve by itself, subset by subset."""

    def feasible(g, members):
        part = g[:, list(members)]
        return oracle.dual_gain(part) >= 1 / target <= oracle.least_gain(part) * (1 + 1e-9)

    sizes = []
    for seed in range(3):
        problem = drawn(seed, F=F, N=N, K=K, mse_target=target)
        sets = [s for n in range(K, 0, -1) for s in itertools.combinations(range(K), n)]
        best = next((s for s in sets if all(feasible(g, s) for g in problem.channel)), ())
        sol = rr.solve(problem, rng=0)
        assert sol.objective == len(best)
        assert sol.bound >= len(best)
        sizes.append(len(best))
    assert max(sizes) >= 2


def test_orthogonal_devices_with_values():
    """No beam serves two: the most valuable device that all subcarriers hear."""
    g = np.stack([np.eye(3), np.eye(3) * [1, 1, 0.5]]).astype(complex)
    problem = OTAWideband(g, mse_target=1.0, transmit_power=2.0, value=[1.0, 2.0, 5.0])
    sol = rr.solve(problem, rng=0)
    assert sol.objective == sol.bound == 2.0
    assert sol.status == rr.Status.GLOBAL


def test_it_serves_more_than_what_people_use():
    problem = OTAWideband.random(K=20, batch=10, rng=2, mse_target=10**0.2)
    sol = rr.solve(problem, rng=0)
    for name in problem.points():
        other = rr.solve(problem, f"baseline:{name}")
        assert (sol.objective >= other.objective).all()
        assert sol.objective.mean() > other.objective.mean() + 8
    assert not (sol.objective > sol.bound).any()
    error = np.abs(np.einsum("bfn,bfnk->bfk", sol.x["beamformer"].conj(), problem.channel)) ** -2.0
    claimed = np.broadcast_to(sol.x["selected"][:, None], error.shape)
    assert (error[claimed] <= 10**0.2 * (1 + 2e-9)).all()


@pytest.mark.parametrize("N", [2, 3])
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 7.0, -1.0, np.nan, np.inf])
def test_any_witness_gives_a_valid_bound(N, scale):
    rng = np.random.default_rng(N)
    for seed in range(3):
        problem = drawn(seed, N=N, K=5, mse_target=1.2, value=[1, 2, 1, 3, 1.0])
        with np.errstate(invalid="ignore"):
            bound = problem.bound(None, {"dual_weight": scale * rng.uniform(0, 2, (3, 5))})
        assert bound >= rr.solve(problem, rng=0).objective
        alone = [
            OTASelection(g, mse_target=1.2, value=[1, 2, 1, 3, 1.0]).bound()
            for g in problem.channel
        ]
        assert bound <= min(alone)


def test_the_bound_is_that_of_the_tightest_subcarrier():
    """UB0 and UB1 of ota.md 2.6 on each, for those whom no subcarrier excludes."""
    weak, found = np.array([1.0, 0.55, 1.0])[:, None, None], set()
    for seed in range(8):
        w = np.random.default_rng(seed).uniform(0.5, 1.5, 7)
        g = channels(seed, 3, 4, 7) * weak
        problem = OTAWideband(g, mse_target=1.0, transmit_power=3.0, value=w)
        able = np.where((np.abs(g) ** 2).sum(1).min(0) >= 1, w, 0.0)
        main = [np.linalg.eigvalsh((h * able) @ h.conj().T)[-1] for h in g]
        assert problem.bound() == pytest.approx(min(able.sum(), *main), rel=1e-8)
        found |= {0 < able.sum() < w.sum(), "main" if min(main) < able.sum() else "strength"}
    assert found >= {True, "main", "strength"}


def test_two_antennas_are_bounded_by_the_optimum_of_the_worst_subcarrier():
    seen = set()
    for seed in range(8):
        problem = drawn(seed, N=2, K=7, mse_target=0.7)
        able = (np.linalg.norm(problem.channel, axis=1) ** 2 >= 1 / 0.7).all(0)
        each = [oracle.two_antennas(g, 1 / 0.7, list(able * 1.0)) for g in problem.channel]
        assert problem.bound() <= min(each)
        seen.add(min(each) < max(each))
    assert True in seen


def test_the_solver_forgets_whom_some_subcarrier_excludes():
    g = np.stack([np.eye(3), np.eye(3) * [2, 0.5, 1e9]]).astype(complex)
    columns, w = normalised(g[None], np.array([[1.0, 2.0, 0.0]]))
    assert w.tolist() == [[1.0, 0.0, 0.0]]
    assert columns[0, 1] == pytest.approx(np.diag([2.0, 0.0, 0.0]))


@pytest.mark.parametrize("scale", [2.0**-27, 2.0**26])
def test_units_do_not_matter(scale):
    problem = OTAWideband.random(K=10, N=3, F=3, batch=4, rng=4)
    other = problem.replace(channel=problem.channel * scale, noise_power=scale**2)
    here, there = (rr.solve(p, rng=0) for p in (problem, other))
    assert (here.objective == there.objective).all()
    assert (here.bound == there.bound).all()


# -- degenerate inputs ----------------------------------------------------------------------------


@pytest.mark.parametrize("N", [1, 2, 3])
def test_a_device_that_fades_on_one_subcarrier_is_not_served(N):
    g = channels(0, 3, N, 4)
    g[1, :, 2] = 0
    for noise in (0.0, 1e-300, 1.0):
        problem = OTAWideband(g, mse_target=50.0, noise_power=noise)
        sol = rr.solve(problem, rng=0)
        assert not sol.x["selected"][2]
        assert sol.bound <= 3
        for name in problem.points():
            assert not rr.solve(problem, f"baseline:{name}").x["selected"][2]


@pytest.mark.parametrize("N", [1, 2, 3])
@pytest.mark.parametrize(
    ("noise", "served"), [(0.0, 6), (1e-300, 6), (1e-12, 6), (1e6, 0), (1e300, 0)]
)
def test_silence_and_storm(N, noise, served):
    sol = rr.solve(drawn(1, N=N, noise_power=noise), rng=0)
    assert sol.objective == served
    assert sol.status == rr.Status.GLOBAL
    assert np.isfinite(sol.x["beamformer"]).all()


def test_one_storm_is_enough():
    sol = rr.solve(drawn(1, noise_power=[0.0, 1e6, 0.0]), rng=0)
    assert sol.objective == sol.bound == 0


def test_no_channel_one_device_and_one_antenna():
    nothing = OTAWideband(np.zeros((2, 3, 4)), mse_target=1.0)
    assert rr.solve(nothing, rng=0).status == rr.Status.GLOBAL
    for name in nothing.points():
        assert rr.solve(nothing, f"baseline:{name}").objective == 0
    single = OTAWideband(np.ones((2, 3, 1)), mse_target=1.0)  # gain 3/2 on each
    assert rr.solve(single, rng=0).objective == 1
    antenna = OTAWideband(channels(0, 10, 4, 1, 9), mse_target=4.0)
    sol = rr.solve(antenna)
    assert sol.solver == "closed-form"
    least = (np.abs(antenna.channel[:, :, 0]) ** 2).min(1)
    assert (sol.objective == (least >= 4 / 4.0).sum(-1)).all()  # F = 4: a quarter of P
    assert (sol.status == rr.Status.GLOBAL).all()


@pytest.mark.parametrize("start", [0.0, np.nan, 1e300, 1e-300])
def test_a_useless_start_does_no_harm(start):
    problem = drawn(3, mse_target=3.0)
    sol = rr.solve(problem, rng=0, start={"beamformer": np.full((3, 3), start + 0j)})
    assert np.isfinite(sol.x["beamformer"]).all()
    assert sol.objective >= 1


def test_a_good_start_is_used_and_a_seed_repeats():
    problem = OTAWideband.random(K=20, N=4, F=4, batch=5, rng=1)
    good = rr.solve(problem, rng=0)
    again = rr.solve(problem, rng=5, starts=1, start=good)
    assert "does not use" not in again.message
    alone = rr.solve(problem, rng=5, starts=1)
    assert again.objective.sum() > alone.objective.sum()
    assert (rr.solve(problem, rng=0).x["beamformer"] == good.x["beamformer"]).all()


def test_a_deadline_is_kept():
    problem = OTAWideband.random(K=20, batch=400, rng=0)
    sol = rr.solve(problem, rng=0, time_limit=0.2, certify="none")
    late = np.asarray(sol.stopped) == Stopped.TIME
    assert late.any()
    assert (np.asarray(sol.status)[~late] >= rr.Status.FEASIBLE).all()


def test_why_it_does_not_apply():
    refused = rr.solvers_for(OTASelection.random(K=4, rng=0)).refused
    assert refused["coverage-wideband"] == "OTASelection has no SubcarrierCoverage form"
    other = rr.solvers_for(OTAWideband.random(K=4, rng=0)).refused
    assert other["closed-form"] == "no formula for N = 4 antennas, only for 1"
    assert other["coverage"] == "OTAWideband has no Coverage form"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channel": [[[1.0, math.nan]]]}, "channel.*remove missing"),
        ({"channel": [[1.0, 2.0]]}, r"lacks axes \(F, N, K\)"),
        ({"mse_target": 0.0}, "mse_target"),
        ({"noise_power": -1.0}, "noise_power"),
        ({"noise_power": [1.0, 1.0, 1.0]}, "axis F"),
        ({"transmit_power": 0.0}, "transmit_power"),
        ({"aggregation_weight": [1.0, 0.0]}, "aggregation_weight"),
        ({"value": [1.0, -1.0]}, "value"),
    ],
)
def test_bad_input_is_named(changes, words):
    with pytest.raises(InvalidProblem, match=words):
        OTAWideband(**{"channel": np.ones((2, 1, 2)), "mse_target": 1.0} | changes)


def test_scenario_round_trip():
    problem = OTAWideband.random(K=3, N=2, F=2, batch=2, rng=0, value=[1.0, 2.5, 0.0])
    assert rr.io.from_dict(rr.io.to_dict(problem)) == problem


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"N": 1, "F": 2},
        {"N": 2, "F": 3, "mse_target": 2.0},
        {"N": 3, "F": 2, "value": [1.0, 0.5, 0.0, 2.0], "aggregation_weight": [1.0, 2.0, 0.5, 1.0]},
    ],
    ids=str,
)
def test_conformance(settings):
    ran = check(OTAWideband.random(K=4, batch=3, rng=1, **settings))
    assert {"fields", "indexing", "baselines", "projection", "bound"} <= set(ran)
    assert ("closed_form" in ran) == (settings.get("N") == 1)
