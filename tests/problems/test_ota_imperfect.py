"""Aggregation with errors: formulas against symbols, the set against every subset, chances."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from oracles import ota_errors as oracle
from scipy.integrate import quad
from scipy.special import i0e
from scipy.stats import chi2

import rralloc as rr
from rralloc.errors import InvalidProblem, NotOffered
from rralloc.forms import ClosedForm, Coverage, Sweep
from rralloc.problems import OTASelection, OTASelectionImperfect
from rralloc.problems import _ota_errors as errors
from rralloc.problems.ota_imperfect import calibrated, risk, with_chance, worst_case
from rralloc.testing import check


def channels(seed, *shape):
    return oracle.gaussian(np.random.default_rng(seed), *shape)


def drawn(seed=0, N=3, K=8, **settings):
    return OTASelectionImperfect(channels(seed, N, K), **{"mse_target": 2.0} | settings)


def unit(m):
    return m / np.linalg.norm(m)


def pieces(problem, m):
    """Noise term with each device as the weakest and cost of each, over the target, in words."""
    K = problem.channel.shape[1]
    phi = np.broadcast_to(
        1.0 if problem.aggregation_weight is None else problem.aggregation_weight, K
    )
    v, delta, late = (
        np.broadcast_to(a, K)
        for a in (problem.csi_error, problem.phase_error_rad, problem.timing_offset)
    )
    gain = np.array([abs(np.vdot(unit(m), h)) ** 2 for h in problem.channel.T])
    level = problem.noise_power / problem.transmit_power * phi**2 / gain
    kept = [math.sin(d) / d if d else 1.0 for d in delta]
    pulse = [math.sin(math.pi * x) / (math.pi * x) if x else 1.0 for x in late]
    cost = v * phi**2 / gain + 2 * phi**2 * (1 - np.array(kept) * np.array(pulse))
    return level / problem.mse_target, cost / problem.mse_target


# -- formulas against symbols ---------------------------------------------------------------------


def simulated(seed, K=4, symbols=400_000, **settings):
    """A problem, a beam that serves everybody, the simulated error and shares."""
    problem = drawn(seed, K=K, mse_target=100.0, noise_power=0.05, transmit_power=2.0, **settings)
    m = problem.points()["all-devices"]()["beamformer"]
    x = problem.complete({"beamformer": m})
    assert x["selected"].all()
    fields = ("csi_error", "phase_error_rad", "timing_offset")
    v, delta, late = (np.broadcast_to(getattr(problem, f), K) for f in fields)
    phi = np.broadcast_to(settings.get("aggregation_weight", 1.0), K)
    rng = np.random.default_rng(seed)
    found, share = oracle.sum_error(
        rng, problem.channel, m, range(K), phi, 0.05, 2.0, v, delta, late, symbols
    )
    return problem, x, found, share


def test_inverting_an_estimate():
    """ota.md 7: (sigma^2/P) max phi^2/|m^H hhat|^2 + sum v phi^2/|m^H hhat|^2."""
    phi = np.array([0.5, 1.0, 1.5, 2.0])
    v = np.array([0.02, 0.0, 0.1, 0.05])
    problem, x, found, share = simulated(3, aggregation_weight=phi, csi_error=v)
    gain = np.abs(unit(x["beamformer"]).conj() @ problem.channel) ** 2 / phi**2
    assert problem.mse(x) == pytest.approx(found, rel=0.01)
    extra = errors.inversion_error(gain, v)
    assert extra.sum() > 0.2 * found  # what is tested is not a detail
    assert problem.mse(x) == pytest.approx(0.05 / 2 / gain.min() + extra.sum(), rel=1e-12)
    for k, s in share.items():
        assert s == pytest.approx(phi[k], abs=0.03)  # unbiased


def test_phases():
    """ota.md 7: 2 phi^2 (1 - sin Delta/Delta), .08230 at .5; the bias is sin Delta/Delta."""
    assert errors.phase_error(1.0, 0.5) == pytest.approx(0.08230, abs=5e-6)
    delta = np.array([0.5, 1.0, 0.0, math.pi])
    problem, x, found, share = simulated(4, phase_error_rad=delta)
    clean = problem.replace(phase_error_rad=0.0).mse(x)
    assert problem.mse(x) - clean == pytest.approx(errors.phase_error(1.0, delta).sum())
    assert problem.mse(x) == pytest.approx(found, rel=0.01)
    for k, s in share.items():
        assert s == pytest.approx(errors.phase_bias(delta[k]), abs=0.01)


def test_dividing_by_the_bias_removes_it_and_costs_error():
    rng = np.random.default_rng(0)
    delta, turned = 1.2, np.exp(1j * rng.uniform(-1.2, 1.2, 200_000))
    kappa = errors.phase_bias(delta)
    assert np.mean(turned / kappa) == pytest.approx(1.0, abs=0.005)
    after = np.mean(np.abs(turned / kappa - 1) ** 2)
    assert after == pytest.approx(1 / kappa**2 - 1, rel=0.01)
    assert after > errors.phase_error(1.0, delta)


def test_late_clocks():
    """ota.md 7: own symbol and interference, 2 phi^2 (1 - sinc delta), .12902 at .2."""
    assert errors.timing_error(1.0, 0.2) == pytest.approx(0.12902, abs=5e-6)
    late = np.array([0.2, 0.5, 0.0, 0.8])
    problem, x, found, _ = simulated(5, timing_offset=late)
    clean = problem.replace(timing_offset=0.0).mse(x)
    assert problem.mse(x) - clean == pytest.approx(errors.timing_error(1.0, late).sum())
    assert problem.mse(x) == pytest.approx(found, rel=0.01)


def test_all_errors_at_once():
    """Phase and clock of one device meet in a product: the sum of both formulas is too much."""
    phi = np.array([0.5, 1.0, 1.5, 2.0])
    settings = {"csi_error": [0.02, 0.0, 0.1, 0.05], "phase_error_rad": [1.0, 2.0, 0.0, 1.5]}
    settings |= {"timing_offset": [0.5, 0.6, 0.3, 0.5], "aggregation_weight": phi}
    problem, x, found, _ = simulated(6, **settings)
    assert problem.mse(x) == pytest.approx(found, rel=0.01)
    delta, late = np.array(settings["phase_error_rad"]), np.array(settings["timing_offset"])
    added = (errors.phase_error(phi, delta) + errors.timing_error(phi, late)).sum()
    joint = errors.alignment_error(phi, delta, late).sum()
    assert problem.mse(x) - joint + added > 1.1 * found


@pytest.mark.parametrize("x", [1e-9, 1e-4, 0.1, 0.2, 0.23, 1.0, 3.0])
def test_small_errors_keep_their_digits(x):
    """1 - sin x/x by the power series, summed until nothing changes."""
    terms = [-((-1) ** n) * x ** (2 * n) / math.factorial(2 * n + 1) for n in range(1, 20)]
    exact = 2 * math.fsum(terms)
    assert errors.phase_error(1.0, x) == pytest.approx(exact, rel=1e-13)
    assert errors.timing_error(1.0, x / math.pi) == pytest.approx(exact, rel=1e-13)


def test_an_unheard_device_costs_nothing_only_without_error():
    assert errors.inversion_error(np.zeros(2), np.array([0.0, 1e-3])).tolist() == [0.0, math.inf]


# -- the set follows from the beam ----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_no_set_is_larger(seed):
    """Against every subset, for random beams."""
    rng = np.random.default_rng(seed)
    problem = drawn(
        seed,
        noise_power=0.3,
        transmit_power=rng.uniform(0.5, 2),
        aggregation_weight=rng.uniform(0.5, 1.5, 8),
        csi_error=rng.uniform(0, 0.2, 8) * (seed % 3 > 0),
        phase_error_rad=rng.uniform(0, 1, 8) * (seed % 2),
        timing_offset=rng.uniform(0, 0.5, 8) * (seed % 4 > 1),
    )
    sizes = set()
    for trial in range(20):
        m = channels(100 + trial, 3)
        level, cost = pieces(problem, m)
        served = problem.served(m)
        sizes.add(served.sum())
        assert served.sum() == oracle.largest_set(level, cost, 1.0)
        x = {"beamformer": m}
        assert problem.objective(x) == served.sum()
        assert problem.mse(x) <= 2.0 * (1 + 1e-8)
        if served.any():
            spent = level[served].max() + cost[served].sum()
            assert problem.mse(x) == pytest.approx(2.0 * spent, rel=1e-9)
            same = [
                level[list(s)].max() + cost[list(s)].sum()
                for s in itertools.combinations(range(8), int(served.sum()))
            ]
            assert spent == pytest.approx(min(same), rel=1e-9)
    assert len(sizes) > 1


def test_a_large_batch_is_worked_on_in_parts():
    rng = np.random.default_rng(0)
    level, cost = rng.uniform(0, 1, (300, 70)), rng.uniform(0, 0.1, (300, 70))
    whole = errors.longest(level, cost, 1.0)
    assert (whole == [errors.longest(a, b, 1.0) for a, b in zip(level, cost)]).all()
    assert errors.BLOCK < 300 * 70**2
    assert errors.longest(level, np.zeros(70), 0.5).tolist() == (level <= 0.5).tolist()


# -- solving --------------------------------------------------------------------------------------


def test_twins_can_be_counted_by_hand():
    """Equal columns: matched beam, (1/G)(noise/P) + s (v/G + fixed) <= target."""
    g = np.tile(np.array([[2.0], [0.0], [1.0]]), 9).astype(complex)
    problem = OTASelectionImperfect(
        g, mse_target=1.0, csi_error=0.3, phase_error_rad=0.5, timing_offset=0.1
    )
    fixed = 2 * (1 - math.sin(0.5) / 0.5 * math.sin(0.1 * math.pi) / (0.1 * math.pi))
    most = math.floor((1 - 1 / 5) / (0.3 / 5 + fixed))
    assert 1 < most < 9
    sol = rr.solve(problem, rng=0)
    assert sol.solver == "sweep"
    assert sol.objective == most
    assert sol.bound == most
    assert sol.status == rr.Status.GLOBAL


@pytest.mark.parametrize("seed", range(4))
def test_the_sweep_beats_random_beams_and_respects_the_bound(seed):
    rng = np.random.default_rng(seed)
    problem = drawn(
        seed,
        K=7,
        csi_error=rng.uniform(0, 0.1, 7),
        phase_error_rad=rng.uniform(0, 0.6, 7),
        timing_offset=rng.uniform(0, 0.2, 7),
    )
    sol = rr.solve(problem, rng=0)
    crowd = OTASelectionImperfect(
        np.broadcast_to(problem.channel, (20_000, 3, 7)),
        mse_target=2.0,
        csi_error=problem.csi_error,
        phase_error_rad=problem.phase_error_rad,
        timing_offset=problem.timing_offset,
    )
    best = crowd.objective({"beamformer": channels(seed, 20_000, 3)}).max()
    assert best <= sol.objective <= sol.bound
    assert sol.bound <= OTASelection.bound(problem)
    nominal = rr.solve(OTASelection(problem.channel, mse_target=2.0), rng=0)
    x = problem.complete(nominal.x)
    assert problem.objective(x) <= sol.objective <= nominal.objective


def test_a_sweep_serves_more_than_the_nominal_beam():
    problem = OTASelectionImperfect.random(
        K=20, batch=6, rng=3, csi_error=0.002, phase_error_rad=0.1, timing_offset=0.02
    )
    nominal = rr.solve(OTASelection(problem.channel, mse_target=problem.mse_target), rng=0)
    sol = rr.solve(problem, "sweep", rng=0)
    assert (sol.objective >= problem.objective(nominal.x)).all()
    assert sol.objective.mean() > problem.objective(nominal.x).mean() + 1
    assert (sol.problem.mse(sol.x) <= problem.mse_target * (1 + 1e-8)).all()


def test_without_errors_it_is_the_parent():
    none = {"csi_error": 0.0, "phase_error_rad": 0.0, "timing_offset": 0.0}
    problem = OTASelectionImperfect.random(K=8, N=3, batch=3, rng=0, value=np.arange(8.0), **none)
    parent = OTASelection(problem.channel, mse_target=problem.mse_target, value=np.arange(8.0))
    mine, theirs = rr.solve(problem, rng=0), rr.solve(parent, rng=0)
    assert mine.solver == theirs.solver == "coverage"
    assert (mine.x["beamformer"] == theirs.x["beamformer"]).all()
    assert (mine.x["selected"] == theirs.x["selected"]).all()
    assert (mine.bound == theirs.bound).all()
    assert (problem.mse(mine.x) == parent.mse(theirs.x)).all()
    with pytest.raises(NotOffered, match="coverage applies"):
        problem.view(Sweep)
    two = OTASelectionImperfect(channels(0, 2, 8), mse_target=1.0)
    assert rr.solve(two).status == rr.Status.GLOBAL


def test_with_errors_thresholds_and_formulas_are_not_offered():
    problem = drawn(csi_error=0.1)
    with pytest.raises(NotOffered, match="no device has a threshold"):
        problem.view(Coverage)
    with pytest.raises(NotOffered, match="beyond 1 antenna"):
        problem.view(ClosedForm)
    assert "errors add up" in rr.solvers_for(problem).refused["coverage"]
    with pytest.raises(NotOffered, match="estimates"):
        problem.least_error_scaling({"beamformer": channels(0, 3)})
    assert rr.solvers_for(problem)[0] == "sweep"


def test_one_antenna_is_exact():
    problem = OTASelectionImperfect(channels(0, 20, 1, 9), mse_target=3.0, csi_error=0.1)
    sol = rr.solve(problem)
    assert (sol.status == rr.Status.GLOBAL).all()
    most = [oracle.largest_set(*pieces(p, np.ones(1)), 1.0) for p in problem]
    assert sol.objective.tolist() == most


def test_different_values_are_refused_beside_errors_only():
    with pytest.raises(InvalidProblem, match="knapsack; give one value"):
        drawn(value=np.arange(8.0), timing_offset=0.1)
    assert drawn(value=np.arange(8.0)).values.max() == 7
    same = drawn(value=2.5, timing_offset=0.1, mse_target=6.0)
    m = channels(1, 3)
    assert same.objective({"beamformer": m}) == 2.5 * same.served(m).sum() > 0


@pytest.mark.parametrize("scale", [2.0**-27, 2.0**26])
def test_units_do_not_matter(scale):
    settings = {"phase_error_rad": 0.3, "timing_offset": 0.1, "csi_error": 0.02}
    here = drawn(2, **settings)
    settings["csi_error"] *= scale**2
    there = drawn(2, **settings, noise_power=scale**2).replace(channel=here.channel * scale)
    for seed in range(10):
        m = channels(seed, 3)
        assert (there.served(m) == here.served(m)).all()
    assert there.bound() == here.bound()


@pytest.mark.parametrize("N", [1, 2, 3])
@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({"csi_error": 1e30}, 0),
        ({"phase_error_rad": math.pi}, 1),  # each costs 2 phi^2, the target is 3
        ({"timing_offset": 0.999999}, 1),
        ({"noise_power": 0.0, "csi_error": 1e-12}, 4),
        ({"noise_power": 0.0, "phase_error_rad": math.pi}, 1),
        ({"noise_power": 1e300, "phase_error_rad": 0.1}, 0),
        ({"mse_target": 1e-300, "timing_offset": 0.1}, 0),
    ],
    ids=str,
)
def test_extremes(N, settings, most):
    g = channels(1, N, 5) * 1e3
    g[:, 2] = 0  # never heard
    sol = rr.solve(OTASelectionImperfect(g, **{"mse_target": 3.0} | settings), rng=0)
    assert sol.objective == most
    assert not sol.x["selected"][2]
    assert np.isfinite(sol.x["beamformer"]).all()
    assert sol.bound >= most


def test_no_channel_no_device():
    problem = OTASelectionImperfect(np.zeros((3, 4)), mse_target=1.0, csi_error=0.1)
    sol = rr.solve(problem, rng=0)
    assert sol.objective == sol.bound == 0
    assert problem.mse(sol.x) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"csi_error": -1e-9}, "csi_error"),
        ({"phase_error_rad": 3.2}, "phase_error_rad"),
        ({"phase_error_rad": -0.1}, "phase_error_rad"),
        ({"timing_offset": 1.0}, "timing_offset"),
        ({"timing_offset": math.nan}, "timing_offset"),
        ({"csi_error": [0.1, 0.2]}, "axis K"),
    ],
)
def test_bad_input_is_named(changes, words):
    with pytest.raises(InvalidProblem, match=words):
        drawn(**changes)


def test_scenario_round_trip():
    problem = OTASelectionImperfect.random(K=3, N=2, batch=2, rng=0, csi_error=[0.1, 0.0, 0.2])
    assert rr.io.from_dict(rr.io.to_dict(problem)) == problem


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"csi_error": 0.05},
        {"N": 3, "phase_error_rad": [0.1, 0.4, 0.0, 0.2], "timing_offset": 0.1},
        {"N": 1, "csi_error": 0.05},
        {"N": 2, "csi_error": [[0.05], [0.0], [0.2]], "value": 2.0, "mse_target": 2.0},
    ],
    ids=str,
)
def test_conformance(settings):
    ran = check(OTASelectionImperfect.random(K=4, batch=3, rng=1, **settings))
    assert {"fields", "indexing", "baselines", "projection", "bound"} <= set(ran)


# -- the receiver's estimate alone ----------------------------------------------------------------


def believed(seed=0, batch=None, **settings):
    return OTASelection.random(K=20, N=6, batch=batch, rng=seed, **settings)


def test_nothing_in_the_ball_costs_a_served_device():
    """Random errors on the sphere, and the worst one, which turns against the beam."""
    rng = np.random.default_rng(1)
    phi, radius = rng.uniform(0.5, 1.5, 20), rng.uniform(0, 0.3, 20)
    problem = believed(aggregation_weight=phi, noise_power=0.7, transmit_power=1.3)
    robust = worst_case(problem, radius)
    sol = rr.solve(robust, rng=0)
    m, chosen = unit(sol.x["beamformer"]), sol.x["selected"]
    assert 0 < chosen.sum() < rr.solve(problem, rng=0).objective
    e = channels(2, 5000, 6, 20)
    e *= radius / np.linalg.norm(e, axis=-2)[:, None, :]
    y = m.conj() @ problem.channel
    worst = -m[:, None] * (y / np.abs(y)) * radius
    for error in (e, worst):
        assert (problem.replace(channel=problem.channel + error).gain(m)[..., chosen] >= 1).all()
    # Tight: the weakest served device is lost soon after, and the ball leaves nobody out in vain.
    lost = ~problem.replace(channel=problem.channel + 1.5 * worst).served(m)
    assert lost[chosen].any()
    outside = ~chosen & (np.abs(y) > radius)
    assert not problem.replace(channel=problem.channel + worst).served(m)[outside].any()


def test_without_radius_nothing_changes_and_bad_radii_are_refused():
    problem = believed()
    same = worst_case(problem, 0.0)
    m = channels(0, 6)
    assert (same.served(m) == problem.served(m)).all()
    for radius in (-0.1, math.nan, math.inf):
        with pytest.raises(InvalidProblem, match="radius"):
            worst_case(problem, radius)
    with pytest.raises(InvalidProblem, match="without noise"):
        worst_case(problem.replace(noise_power=0.0), 0.1)


def test_the_chance_is_kept_by_the_union_bound():
    rng = np.random.default_rng(0)
    v = rng.uniform(0.005, 0.04, 20)
    problem = believed(3)
    for members in (None, 12):
        sol = rr.solve(with_chance(problem, v, 0.1, members), rng=0)
        chosen = np.flatnonzero(sol.x["selected"])
        assert 3 < len(chosen) <= 12
        found = oracle.any_violated(
            rng, problem.channel, sol.x["beamformer"], chosen, np.ones(20), 10**0.2, v
        )
        assert found <= 0.1
    nominal = rr.solve(problem, rng=0)
    found = oracle.any_violated(
        rng,
        problem.channel,
        nominal.x["beamformer"],
        np.flatnonzero(nominal.x["selected"]),
        np.ones(20),
        10**0.2,
        v,
    )
    assert found > 0.5


def test_the_exact_risk_is_what_a_simulation_measures():
    rng = np.random.default_rng(4)
    problem = believed(5, aggregation_weight=rng.uniform(0.5, 1.5, 20), noise_power=0.5)
    phi, v, m = problem.aggregation_weight, rng.uniform(0.01, 0.3, 20), channels(1, 6)
    tau = 0.5 / problem.mse_target
    risks = risk(problem, m, v)
    for k in range(20):
        found = oracle.any_violated(rng, problem.channel, m, [k], phi, tau, v, 50_000)
        assert risks[k] == pytest.approx(found, abs=0.01)
    joint = oracle.any_violated(rng, problem.channel, m, [2, 5, 7], phi, tau, v)
    assert errors.lost(risks[[2, 5, 7]]) == pytest.approx(joint, abs=0.005)


@pytest.mark.parametrize(("a", "t"), [(0.0, 1.0), (1.0, 0.3), (2.0, 2.5), (8.0, 6.0), (40.0, 39.0)])
def test_the_law_of_a_modulus(a, t):
    """Rice density by quadrature."""

    def density(r):
        return 2 * r * math.exp(-((r - a) ** 2)) * i0e(2 * a * r)

    low = max(0.0, t - 12)
    exact = quad(density, low, t, epsabs=0, epsrel=1e-10)[0]
    for unit in (1e-6, 1.0, 1e5):
        found = errors.chance_below(a * unit, t * unit, unit)
        assert found == pytest.approx(exact, rel=1e-7)


def test_the_law_of_a_modulus_at_its_ends():
    below = errors.chance_below
    assert below(np.array([1.0, 2.0]), 1.5, 0.0).tolist() == [1.0, 0.0]
    assert below(1e6, 1e6 - 1e-6, 1e-9) == 0.0
    assert below(0.0, 1.0, 1e9) == pytest.approx(1e-18, rel=1e-6)
    sides = below(np.array([1e4 - 1e-8, 1e4]), 9999.0, 1.0)  # on either side of ``LINE``
    assert sides[0] == pytest.approx(sides[1], rel=1e-6)
    assert below(1e8, 1e8 - 1, 1.0) == pytest.approx(0.0786496, abs=1e-6)  # Phi(-sqrt 2)


def test_the_safest_set_is_the_largest_that_the_chance_allows():
    rng = np.random.default_rng(0)
    for _ in range(20):
        risks = rng.uniform(0, 0.15, 7)
        mask, lost = errors.safest(risks, np.ones(7), 0.2)
        sets = [s for n in range(8) for s in itertools.combinations(range(7), n)]
        fine = [s for s in sets if 1 - np.prod([1 - risks[k] for k in s]) <= 0.2]
        assert mask.sum() == max(map(len, fine))
        assert lost == pytest.approx(1 - np.prod(1 - risks[mask]), rel=1e-9)
    mask, lost = errors.safest(np.ones(3), np.ones(3), 0.2)
    assert not mask.any()
    assert lost == 0


def test_calibration_spends_the_chance_it_has():
    """ota.md 7 (30 draws): nominal 14.5 with .95 violated; ball 7.5/.000; chance 9.7/.002."""
    problem, v, most = believed(5, batch=12), 0.02, 0.1

    def solve(p):
        return rr.solve(p, "coverage", rng=0)

    radius = math.sqrt(v / 2 * chi2.ppf((1 - most) ** (1 / 20), 12))
    plain, ball = solve(problem), solve(worst_case(problem, radius))
    union = solve(with_chance(problem, v, most))
    found = calibrated(problem, v, most, solve)
    sizes = [s.objective.mean() for s in (plain, ball, union)]
    assert sizes == pytest.approx([14.5, 7.5, 9.7], abs=1.2)
    assert (found.selected.sum(-1) >= union.objective).all()
    assert found.selected.sum() > union.objective.sum()
    assert (found.violated <= most).all()
    assert found.violated.mean() > 0.02
    rng = np.random.default_rng(0)
    for lane in (0, 7):
        members = np.flatnonzero(found.selected[lane])
        again = oracle.any_violated(
            rng,
            problem.channel[lane],
            found.beamformer[lane],
            members,
            np.ones(20),
            10**0.2,
            np.full(20, v),
        )
        assert found.violated[lane] == pytest.approx(again, abs=0.005)


def test_calibration_of_one_instance_and_of_nothing():
    problem = believed(1)

    def solve(p):
        return rr.solve(p, "coverage", effort=1, rng=0)

    sure = calibrated(problem, 0.0, 0.1, solve, steps=3)
    assert sure.selected.sum() == solve(problem).objective
    assert sure.violated == 0
    hopeless = calibrated(problem, 1.0, 1e-5, solve, steps=3)
    assert not hopeless.selected.any()
    for probability in (0.0, 1.0, math.nan):
        with pytest.raises(InvalidProblem, match="probability"):
            calibrated(problem, 0.1, probability, solve)
    with pytest.raises(InvalidProblem, match="variance"):
        with_chance(problem, -0.1, 0.1)


def test_instances_with_and_without_errors_in_one_batch():
    problem = OTASelectionImperfect(
        np.eye(3, 5) + 1,
        mse_target=10.0,
        value=[[5, 1, 1, 1, 1], [1] * 5],
        csi_error=[[0.0] * 5, [0.001] * 5],
    )
    bounds = [problem[i].bound() for i in range(2)]
    np.testing.assert_array_equal(problem.bound(), bounds)
    assert problem.bound()[0] >= 9  # all are served


@pytest.mark.parametrize("seed", range(3))
def test_the_sweep_is_no_worse_than_who_knows_which_devices_are_cheap(seed):
    """Phases known well or hardly at all: the beam must not be spent on the latter."""
    phase = np.random.default_rng(seed).choice([0.05, 2.0], size=(4, 20))
    problem = OTASelectionImperfect.random(
        K=20, N=6, batch=4, rng=seed, csi_error=0.0, timing_offset=0.0, phase_error_rad=phase
    )
    swept = rr.solve(problem, rng=0)
    cheap = OTASelection(
        problem.channel, mse_target=problem.mse_target, value=np.where(phase < 1, 1.0, 0.0)
    )
    informed = problem.objective(rr.solve(cheap, rng=0).x)
    assert (swept.objective >= informed).all()
    for name in ("strongest", "all-devices"):
        assert (swept.objective >= rr.solve(problem, f"baseline:{name}").objective).all()


def test_errors_are_not_counted_twice():
    with pytest.raises(NotOffered, match="in the problem already"):
        worst_case(drawn(csi_error=0.1), 0.1)
