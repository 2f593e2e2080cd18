"""SP-FL's blocks and surrogates: exact, tight, convex; and the alternation built on them.

Expected values are the specification's (spfl.md §7), a second solver's, or a fine grid's.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import brentq

import rralloc as rr
from rralloc import testing
from rralloc.errors import NotOffered
from rralloc.forms import Blocks, ClosedForm, Level, Separable, Surrogate
from rralloc.problems import SPFL
from rralloc.verify import violation

LAWS = ("plain", "sign_unbiased", "unbiased", "optimal_scaling")
FADINGS = ("independent", "common")
CASES = pytest.mark.parametrize("law", LAWS), pytest.mark.parametrize("fading", FADINGS)
SPLITS = pytest.mark.parametrize("split", [None, "free", 0.4])
STARTS = ("uniform", "rate", "equal-outage")


def every(test):
    """All objectives, fadings and kinds of split."""
    for mark in (*CASES, SPLITS):
        test = mark(test)
    return test


def make(seed, K, load, objective, fading):
    """Section 7's instance generator."""
    rng = np.random.default_rng(seed)
    snr = 10 ** (rng.uniform(5, 25, K) / 10)
    w = rng.dirichlet(5 * np.ones(K))
    G = np.exp(1.6 * rng.standard_normal(K))
    E = G * rng.uniform(0.2, 0.6, K)
    D = G * rng.uniform(0.005, 0.05, K)
    scale = sum(w * G)
    total = 1000 + 1000 * 3 + 64
    return SPFL(
        snr=snr / K,
        weight=w,
        gradient_energy=G / scale,
        compensation_error=E / scale,
        quantization_error=D / scale,
        sign_rate=load / K * 1000 / total,
        modulus_rate=load / K * 3064 / total,
        objective=objective,
        fading=fading,
    )


def drawn(law, fading, split, K=4, batch=3, load=3.0, rng=1):
    settings = {"objective": law, "fading": fading, "load": load}
    if split is not None:
        settings["sign_band_share"] = split
    return SPFL.random(K=K, batch=batch, rng=rng, **settings)


def somewhere(problem, rng):
    """A random point inside, all of the band used."""
    shape = (*problem.batch_shape, problem.sizes["K"])
    x = {
        "bandwidth_share": rng.dirichlet(20 * np.ones(shape[-1]), shape[:-1]),
        "sign_power_share": rng.uniform(0.2, 0.8, shape),
    }
    return x | ({"sign_band_share": rng.uniform(0.2, 0.8, shape)} if problem.free_split else {})


# -- blocks ---------------------------------------------------------------------------------------


@every
def test_conformance(law, fading, split):
    case = testing._Case(drawn(law, fading, split), np.random.default_rng(0))
    for promise in (testing.blocks, testing.surrogate):
        case.form = promise.__name__
        promise(case)


@every
def test_a_block_has_the_objective_and_the_gradient_of_the_problem(law, fading, split):
    problem, rng = drawn(law, fading, split), np.random.default_rng(2)
    x, y = somewhere(problem, rng), somewhere(problem, rng)
    whole = problem.gradient(x)
    for name, own in (
        ("bandwidth", ["bandwidth_share", "sign_band_share"]),
        ("power", ["sign_power_share"]),
    ):
        part = problem.view(Blocks).fix(name, x)
        names = [v.name for v in part.variables]
        assert names == [n for n in own if n in x]
        for z in (x, x | {n: y[n] for n in names}):
            mine = part.objective({n: z[n] for n in names})
            np.testing.assert_allclose(mine, problem.objective(z), rtol=1e-13)
        slopes = part.gradient({n: x[n] for n in names})
        for n in names:
            np.testing.assert_allclose(slopes[n], whole[n], rtol=1e-12)


@every
def test_a_step_is_a_conforming_problem_in_itself(law, fading, split):
    problem, rng = drawn(law, fading, split, K=3, batch=2, load=1.0), np.random.default_rng(3)
    part = problem.view(Blocks).fix("bandwidth", somewhere(problem, rng))
    case = testing._Case(part, rng)
    for promise in (testing.fields, testing.indexing, testing.gradient, testing.separable):
        case.form = promise.__name__
        promise(case)


@every
def test_the_exact_power_step_is_the_best_of_a_fine_grid(law, fading, split):
    problem, rng = drawn(law, fading, split), np.random.default_rng(4)
    x = somewhere(problem, rng)
    part = problem.view(Blocks).fix("power", x)
    exact = problem.losses(x | rr.solve(part, "closed-form", certify="none").x)
    grid = 1 / (1 + np.exp(-np.linspace(-12, 12, 1501)))
    shape = x["sign_power_share"].shape
    tried = np.stack(
        [problem.losses(x | {"sign_power_share": np.full(shape, a)}) for a in [*grid, 1.0]]
    )
    least = tried.min(0)
    assert (exact <= least + 1e-12 * np.abs(least)).all()
    np.testing.assert_allclose(exact, least, rtol=1e-3)


@every
def test_the_default_steps_never_ascend_and_the_exact_one_is_not_worse(law, fading, split):
    problem, rng = drawn(law, fading, split, load=6.0), np.random.default_rng(5)
    x = somewhere(problem, rng)
    before = problem.objective(x)
    for name in ("bandwidth", "power"):
        part = problem.view(Blocks).fix(name, x)
        once = rr.solve(part, certify="none")
        assert once.solver == ("newton" if law == "unbiased" and name == "bandwidth" else "sca:1")
        assert (once.objective <= before * (1 + 1e-12)).all()
        if name == "power":
            exact = rr.solve(part, "closed-form", certify="none")
            assert (exact.objective <= once.objective * (1 + 1e-12)).all()


def test_restricted_packets_have_no_blocks():
    problem = SPFL.random(K=3, rng=0, packets="one-bit")
    for form in (Blocks, Surrogate):
        with pytest.raises(NotOffered, match="one-bit"):
            problem.view(form)


# -- surrogates -----------------------------------------------------------------------------------


@every
def test_the_surrogate_touches_majorises_and_is_convex_in_its_coordinates(law, fading, split):
    """Coordinates (b, alpha), with a free split (x_s, x_m, alpha)."""
    problem, rng = drawn(law, fading, split, K=5, batch=4, load=1.0), np.random.default_rng(6)
    for _ in range(6):
        x0 = somewhere(problem, rng)
        near = problem.view(Surrogate).at(x0)
        form = near.view(Separable)
        np.testing.assert_allclose(near.losses(x0), problem.losses(x0), rtol=1e-10)
        assert (violation(near, x0) <= 1e-12).all()
        # The gradient at x0, by differences of the problem's own objective.
        y0 = form.coordinates(x0)
        _, slope, _ = form.local(y0)
        for i in range(y0.shape[-1]):
            step = np.zeros(y0.shape)
            step[..., i] = 1e-6 * y0[..., i]
            ends = [problem.losses(form.point(y0 + t * step)) for t in (1, -1)]
            taken = (ends[0] - ends[1]) / (2e-6 * y0[..., i])
            np.testing.assert_allclose(slope[..., i], taken, rtol=1e-5, atol=1e-7)
        # Above the objective, and the middle of a segment is not above the mean of its ends.
        ys = [form.coordinates(somewhere(problem, rng)) for _ in range(8)]
        for a, b in pairwise(ys):
            values = [form.local(y)[0] for y in (a, b, (a + b) / 2)]
            for y, value in zip((a, b), values):
                below = problem.losses(form.point(y))
                assert (value >= below - 1e-10 * np.abs(below)).all()
            mean = (values[0] + values[1]) / 2
            assert (values[2] <= mean + 1e-10 * np.abs(mean)).all()


@pytest.mark.parametrize("law", ["plain", "optimal_scaling"])
@pytest.mark.parametrize("fading", FADINGS)
@SPLITS
def test_around_dead_packets_the_surrogate_is_smaller_but_never_wrong(law, fading, split):
    problem, rng = drawn(law, fading, split), np.random.default_rng(7)
    x0 = somewhere(problem, rng)
    x0["bandwidth_share"][:, 0] = 0.0
    x0["bandwidth_share"][:, 3] = 1e-5
    x0["sign_power_share"][:, 1] = 1.0
    near = problem.view(Surrogate).at(x0)
    np.testing.assert_allclose(near.losses(x0), problem.losses(x0), rtol=1e-12)
    for _ in range(20):
        x = near.project(somewhere(problem, rng))
        assert (violation(near, x) <= 1e-12).all()
        assert (near.losses(x) >= problem.losses(x) * (1 - 1e-10)).all()
    for name in ("bandwidth", "power"):
        part = problem.view(Blocks).fix(name, x0)
        sol = rr.solve(part, certify="none")
        assert (sol.objective <= problem.objective(x0) * (1 + 1e-12)).all()


def test_plain_and_independent_has_the_papers_closed_form():
    """alpha/(1 - alpha) = sqrt(W_s phi_s/(W_m phi_m)), W_s = w (G-E) q + w (E-D) q p, ..."""
    problem = make(11, 5, 3, "plain", "independent")
    x0 = problem.points()["rate"]()
    near = problem.view(Blocks).fix("power", x0).view(Surrogate).at(x0)
    w, G, E, D, _ = problem.statistics
    s, m = problem.exponents(x0)
    q, p = np.exp(-s), np.exp(-m)
    W_m = w * (E - D) * q * p
    W_s = w * (G - E) * q + W_m
    phi_s, phi_m = problem.thresholds(*problem.packet_bands(x0))
    ratio = np.sqrt(W_s * phi_s / (W_m * phi_m))
    alpha = rr.solve(near).sign_power_share
    np.testing.assert_allclose(alpha, ratio / (1 + ratio), rtol=1e-12)


def test_a_harmful_modulus_packet_gets_no_power():
    """P6: with D > E the modulus packet only adds error."""
    problem = make(11, 5, 3, "plain", "independent")
    problem = problem.replace(quantization_error=2 * problem.compensation_error)
    sol = rr.solve(problem, "alternating", certify="none")
    np.testing.assert_allclose(sol.sign_power_share, 1.0, atol=1e-12)


@every
def test_the_best_power_of_a_surrogate_is_the_best_of_a_grid(law, fading, split):
    problem, rng = drawn(law, fading, split), np.random.default_rng(8)
    x0 = somewhere(problem, rng)
    near = problem.view(Blocks).fix("power", x0).view(Surrogate).at(x0)
    best = near.losses(near.view(ClosedForm).point())
    grid = 1 / (1 + np.exp(-np.linspace(-12, 12, 801)))
    shape = x0["sign_power_share"].shape
    tried = np.stack([near.losses({"sign_power_share": np.full(shape, a)}) for a in grid])
    assert (best <= tried.min(0) * (1 + 1e-12) + 1e-15).all()


def pressure(problem, x0, k, band):
    """Spec §3.2 for ``plain``: D_k(b), term by term, in floats."""
    w, G, E, D = (float(v[k]) for v in problem.statistics[:4])
    s, m = (float(v[k]) for v in problem.exponents(x0))
    W_m = w * (E - D) * math.exp(-s - m)
    W_s = w * (G - E) * math.exp(-s) + W_m
    alpha, total = float(x0["sign_power_share"][k]), 0.0
    for W, share, theta, rate in (
        (W_s, alpha, problem.theta_s, problem.sign_rate),
        (W_m, 1 - alpha, problem.theta_m, problem.modulus_rate),
    ):
        kappa, c = float(theta[0]) / float(problem.snr[k]), math.log(2) * float(rate[0] / theta[0])
        x = c / band
        total += W * kappa / share * (x * math.exp(x) - math.exp(x) + 1)
    return total


@pytest.mark.parametrize(("seed", "load"), [(11, 3), (11, 6), (5, 8)])
def test_the_bandwidth_surrogate_of_plain_against_bisection(seed, load):
    problem = make(seed, 5, load, "plain", "independent")
    x0 = problem.points()["uniform"]()
    near = problem.view(Blocks).fix("bandwidth", x0).view(Surrogate).at(x0)
    assert rr.solvers_for(near)[0] == "level"

    def band(k, log_price):
        def excess(b):
            return math.log(pressure(problem, x0, k, b)) - log_price

        return 1.0 if excess(1.0) > 0 else brentq(excess, 1 / 300, 1.0, xtol=1e-15)

    log_price = brentq(lambda v: sum(band(k, v) for k in range(5)) - 1, -25, 1, xtol=1e-14)
    expected = [band(k, log_price) for k in range(5)]
    sol = rr.solve(near, certify="none")
    np.testing.assert_allclose(sol.bandwidth_share, expected, rtol=1e-9)
    assert sol.duals["price"] == pytest.approx(math.exp(log_price), rel=1e-8)


@CASES[0]
@CASES[1]
@pytest.mark.parametrize("split", [None, 0.4])
def test_the_bandwidth_surrogate_by_its_price_and_by_newton(law, fading, split):
    problem = drawn(law, fading, split, K=6, batch=8, load=2.0)
    x0 = problem.points()["rate"]()
    near = problem.view(Blocks).fix("bandwidth", x0)
    near = (near.surrogate() if law == "unbiased" else near.view(Surrogate)).at(x0)
    by_price = rr.solve(near, "level", certify="none")
    by_newton = rr.solve(near, "newton", certify="none")
    np.testing.assert_allclose(by_price.objective, by_newton.objective, rtol=1e-8)
    assert (by_price.objective <= by_newton.objective + 1e-9 * np.abs(by_newton.objective)).all()
    assert (by_price.violation <= 1e-12).all()
    # The form keeps its promises: used falls from above the budget to below it, at its slope.
    form = near.view(Level)
    low, high = form.bracket
    way = [low + t * (high - low) for t in np.linspace(0, 1, 9)]
    used = np.stack([form.used(level) for level in way])
    assert (np.diff(used, axis=0) <= 1e-12).all()
    assert (used[-1] <= 1 + 1e-12).all()
    for level in way[1:-1]:
        slope = form.slope(level)
        taken = (form.used(level + 1e-5) - form.used(level - 1e-5)) / 2e-5
        np.testing.assert_allclose(slope, taken, rtol=1e-4, atol=1e-8)


def test_the_bandwidth_step_does_not_stall_on_starved_devices():
    """Weights down to e^-1e4: the price still balances the band exactly."""
    problem = make(13, 100, 12, "plain", "independent")
    x = problem.points()["uniform"]()
    for _ in range(4):
        near = problem.view(Blocks).fix("bandwidth", x).view(Surrogate).at(x)
        sol = rr.solve(near, certify="none")
        assert sol.bandwidth_share.sum() == pytest.approx(1.0, abs=1e-13)
        assert sol.iterations <= 20
        after = x | sol.x
        assert problem.objective(after) <= problem.objective(x)
        x = after


@CASES[0]
@CASES[1]
def test_joint_sca_never_ascends_and_does_not_beat_the_dual(law, fading):
    problem = drawn(law, fading, None, K=5, batch=4)
    sol = rr.solve(problem, "sca", certify="none", max_iter=60)
    best = rr.solve(problem, certify="none")
    assert (sol.objective <= problem.objective(problem.points()["uniform"]())).all()
    assert (sol.objective >= best.objective * (1 - 1e-6)).all()
    assert (sol.violation <= 1e-12).all()


# -- the alternation ------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["plain", "sign_unbiased", "optimal_scaling"])
@CASES[1]
@pytest.mark.parametrize("load", [3.0, 6.0, 12.0])
def test_alternating_is_monotone_and_never_beats_the_dual(law, fading, load):
    problem = drawn(law, fading, None, K=8, batch=6, load=load, rng=21)
    problem = problem[~np.broadcast_to(problem.infeasible(), (6,))]
    if problem.size == 0:
        return
    rows = []
    sol = rr.solve(
        problem,
        "alternating",
        start_from="equal-outage",
        max_iter=25,
        certify="none",
        callback=rows.append,
    )
    first = problem.objective(problem.points()["equal-outage"]())
    for lane in range(problem.size):
        path = [row["objective"] for row in rows if row["lane"] == lane]
        path = np.array([first[lane], *path])
        path = path[np.isfinite(path)]
        assert (np.diff(path) <= 1e-12 * np.abs(path[:-1])).all()
    assert (sol.violation <= 1e-12).all()
    if law == "sign_unbiased" and load == 12.0:
        return  # objectives of 1e7 to 1e25, where the dual's branches overflow
    best = rr.solve(problem, "dual", certify="none").objective
    assert (sol.objective >= best * (1 - 1e-6)).all()


@pytest.mark.parametrize("fading", FADINGS)
@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_exact_steps_are_monotone_and_near_the_dual(fading, order):
    problem = drawn("plain", fading, None, K=10, batch=6, load=6.0, rng=5)
    exact = {"bandwidth": "dual", "power": "closed-form"}
    sol = rr.solve(problem, "alternating", order=order, methods=exact, certify="none")
    best = rr.solve(problem, "dual", certify="none").objective
    np.testing.assert_allclose(sol.objective, best, rtol=0.02)  # either may be the better one
    assert (sol.objective <= problem.objective(problem.points()["best-split"]())).all()


@pytest.mark.parametrize(
    ("seed", "K", "fading", "optimum"),
    [
        (11, 5, "independent", 0.4272094469),
        (11, 5, "common", 0.2315190635),
        (13, 100, "independent", 0.004272531418),
    ],
)
def test_where_the_problem_is_convex_alternation_is_newton(seed, K, fading, optimum):
    problem = make(seed, K, 3, "unbiased", fading)
    joint = rr.solve(problem, "newton", certify="none").objective
    for start in STARTS:
        sol = rr.solve(problem, "alternating", start_from=start, order="reverse", certify="none")
        assert sol.objective == pytest.approx(joint, rel=1e-9)
        assert sol.objective == pytest.approx(optimum, rel=1e-8)


def test_alternation_of_plain_on_the_specs_instance():
    """Spec §7: .39746044, a local minimum that every start and order reaches."""
    problem = make(11, 5, 3, "plain", "independent")
    for start in STARTS:
        for order in ("forward", "reverse"):
            sol = rr.solve(problem, "alternating", start_from=start, order=order, certify="none")
            assert sol.objective == pytest.approx(0.39746044, abs=2e-8)


@pytest.mark.parametrize(("law", "fading"), [("plain", "independent"), ("unbiased", "common")])
def test_a_batch_is_its_rows(law, fading):
    problem = drawn(law, fading, None, K=6, batch=4)
    together = rr.solve(problem, "alternating", certify="none")
    for i, one in enumerate(problem):
        alone = rr.solve(one, "alternating", certify="none")
        assert together.objective[i] == pytest.approx(alone.objective, rel=1e-10)


class Flat:
    """A user's law without terms: 1 - q (1 + p)/2."""

    name = "flat"

    def value(self, s, m, problem):
        late = np.where(np.real(m) > np.real(s), m, s) if problem.common else m
        p = np.exp(-late)
        return problem.weight * (
            1 - 0.5 * np.exp(-s) - 0.5 * (p if problem.common else p * np.exp(-s))
        )


@pytest.mark.parametrize("fading", FADINGS)
def test_a_law_that_is_no_sum_of_exponentials_alternates_exactly(fading):
    problem = drawn(Flat(), fading, None, K=4, batch=2)
    with pytest.raises(NotOffered, match="flat"):
        problem.view(Surrogate)
    sol = rr.solve(problem, "alternating", certify="none")
    assert (sol.objective <= problem.objective(problem.points()["best-split"]()) + 1e-12).all()
    assert (sol.violation <= 1e-12).all()
