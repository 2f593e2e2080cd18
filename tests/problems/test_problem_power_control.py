"""Power control of interfering links: spec rrm.md section 15 items 2, 3 and 8, oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import power_control as oracle
from strategies import shows

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.forms import Surrogate
from rralloc.problems import MaxMinSINR, PowerForSINR, SINRProduct, SumRate
from rralloc.problems._interference import least_fixed_point, loops
from rralloc.solution import gap_between
from rralloc.testing import check

GAIN = [[1, 0.1, 0.2], [0.15, 0.8, 0.1], [0.05, 0.2, 1.2]]
NEAR = [[1, 0.5, 0.1], [0.05, 1, 0.6], [0.3, 0.05, 0.5]]
NOISE = [0.1] * 3
CLASSES = pytest.mark.parametrize("cls", [MaxMinSINR, PowerForSINR, SINRProduct])
EXACT = pytest.mark.parametrize("solver", ["level", "closed-form"])


@st.composite
def links(draw, low=-2.0, high=2.0, sizes=strategies.sizes):
    """Gains (some cross gains zero), noise and caps over the same decades."""
    size = draw(sizes)
    values = strategies.decades(low, high)
    gain = draw(strategies.rows(values, size * size)).reshape(size, size)
    silent = draw(st.lists(st.booleans(), min_size=size * size, max_size=size * size))
    gain[np.reshape(silent, (size, size)) & ~np.eye(size, dtype=bool)] = 0.0
    return {
        "gain": gain,
        "noise_w": draw(strategies.rows(values, size)),
        "power_max_w": draw(strategies.rows(values, size)),
    }


def proven(problem, solver=None, gap=1e-9):
    """The solution; feasible, and its gap is proven to be next to nothing."""
    sol = rr.solve(problem, solver)
    assert (np.asarray(sol.status) == rr.Status.GLOBAL).all(), sol
    assert (np.asarray(sol.gap) <= gap).all(), sol.gap
    return sol


# -- the numbers of the specification -----------------------------------------------------------


@EXACT
def test_spec_15_2_max_min_with_caps(solver):
    problem = MaxMinSINR(gain=GAIN, noise_w=0.1, power_max_w=1.0)
    sol = proven(problem, solver, 1e-14)
    assert shows(sol.objective, "2.584785328")
    assert shows(sol.power_w, ".901187 1 .743254")
    value, power = oracle.geometric(GAIN, NOISE, "max-min", cap=1.0)
    assert sol.objective == pytest.approx(value, rel=1e-7)
    assert sol.power_w == pytest.approx(power, rel=1e-6)
    value, power = oracle.max_min(GAIN, NOISE, [1.0] * 3)
    assert sol.objective == pytest.approx(value, rel=1e-12)
    assert sol.power_w == pytest.approx(power, rel=1e-11)


@EXACT
def test_spec_15_2_max_min_with_a_total(solver):
    sol = proven(MaxMinSINR(gain=GAIN, noise_w=0.1, total_power_w=3.0), solver, 1e-14)
    assert shows(sol.objective, "2.680605094")
    assert sol.power_w.sum() == pytest.approx(3.0, rel=1e-14)
    value, power = oracle.geometric(GAIN, NOISE, "max-min", total=3.0)
    assert sol.objective == pytest.approx(value, rel=1e-7)
    assert sol.power_w == pytest.approx(power, rel=1e-6)


@EXACT
def test_spec_15_2_max_min_without_noise(solver):
    """Power so large that noise is lost in rounding: 1/rho(A), still proven."""
    sol = proven(MaxMinSINR(gain=GAIN, noise_w=0.1, power_max_w=1e15), solver, 1e-12)
    assert shows(sol.objective, "3.701671460")
    coupling = np.array(GAIN) / np.diag(GAIN)[:, None] * (1 - np.eye(3))
    assert sol.objective == pytest.approx(1 / max(abs(np.linalg.eigvals(coupling))), rel=1e-12)
    both = MaxMinSINR(gain=GAIN, noise_w=0.1, power_max_w=1.0, total_power_w=2.0)
    value, _ = oracle.max_min(GAIN, NOISE, [1.0] * 3, 2.0)
    assert proven(both, solver).objective == pytest.approx(value, rel=1e-12)


def test_spec_15_3_least_power():
    problem = PowerForSINR(gain=GAIN, noise_w=0.1, sinr_target=1.5)
    sol = proven(problem, gap=1e-13)
    assert sol.solver == "closed-form"
    assert shows(sol.power_w, ".26016625 .30128061 .21658054")
    iterated, _ = oracle.foschini_miljanic(GAIN, NOISE, [1.5] * 3)
    assert sol.power_w == pytest.approx(iterated, rel=1e-13)
    _, power = oracle.geometric(GAIN, NOISE, "power", target=[1.5] * 3)
    assert sol.power_w == pytest.approx(power, rel=1e-6)
    ((group, gain),) = loops(problem._loop[0])
    assert group == [0, 1, 2]
    assert shows(gain, ".40522")


def test_spec_15_3_infeasible_targets_are_named():
    problem = PowerForSINR(gain=GAIN, noise_w=0.1, sinr_target=4.0)
    sol = rr.solve(problem)
    assert sol.status == rr.Status.INFEASIBLE
    assert "links 0, 1 and 2" in sol.message
    assert "rho(diag(gamma) A) is 1.0806 and must be below 1" in sol.message
    assert f"come down by more than {10 * math.log10(1.0806):.3f} dB" in sol.message
    assert oracle.foschini_miljanic(GAIN, NOISE, [4.0] * 3)[0] is None


def test_spec_15_8_product():
    problem = SINRProduct(gain=NEAR, noise_w=0.01, power_max_w=1.0)
    sol = proven(problem, gap=1e-13)
    assert shows(sol.power_w, "1 1 .71414")
    assert shows(sol.objective, "3.492328")
    value, power = oracle.product(NEAR, [0.01] * 3, [1.0] * 3)
    assert sol.objective == pytest.approx(value, rel=1e-9)
    assert sol.power_w == pytest.approx(power, rel=1e-4)
    value, _ = oracle.geometric(NEAR, [0.01] * 3, "product", cap=1.0)
    assert sol.objective == pytest.approx(value, rel=1e-6)


def test_spec_15_8_product_with_full_power():
    sol = proven(SINRProduct(gain=GAIN, noise_w=0.1, power_max_w=1.0), gap=1e-13)
    assert shows(sol.objective, "19.591837")
    assert sol.power_w.tolist() == [1, 1, 1]
    assert oracle.product(GAIN, NOISE, [1.0] * 3)[0] == pytest.approx(sol.objective, rel=1e-9)


# -- oracles over random instances --------------------------------------------------------------


@EXACT
@settings(max_examples=20)
@given(fields=links(), share=st.floats(0.1, 2.0))
def test_max_min_equals_bisection(solver, fields, share):
    total = share * fields["power_max_w"].sum()
    sol = proven(MaxMinSINR(**fields, total_power_w=total), solver)
    value, _ = oracle.max_min(
        fields["gain"].tolist(), fields["noise_w"], fields["power_max_w"], total
    )
    assert sol.objective == pytest.approx(value, rel=1e-9)


@settings(max_examples=20)
@given(fields=links(), share=st.floats(0.05, 0.95))
def test_least_power_equals_the_linear_system_and_the_iteration(fields, share):
    best = rr.solve(MaxMinSINR(**fields)).objective
    sol = proven(PowerForSINR(**fields, sinr_target=share * best))
    gain, noise, target = fields["gain"], fields["noise_w"], [share * best] * len(fields["gain"])
    assert sol.power_w == pytest.approx(oracle.least_power(gain, noise, target), rel=1e-9)
    iterated, _ = oracle.foschini_miljanic(gain, noise, target)
    assert sol.power_w == pytest.approx(iterated, rel=1e-9)


@settings(max_examples=20)
@given(fields=links())
def test_product_equals_lbfgs(fields):
    sol = proven(SINRProduct(**fields))
    value, _ = oracle.product(fields["gain"].tolist(), fields["noise_w"], fields["power_max_w"])
    assert sol.objective >= value * (1 - 1e-9)
    assert sol.objective == pytest.approx(value, rel=1e-4)  # L-BFGS stops early now and then


@CLASSES
def test_every_solver_reaches_the_best(cls):
    problem = cls.random(K=4, rng=2)
    best = proven(problem).objective
    names = rr.solvers_for(problem)
    assert {"closed-form", "cvxpy", "pyomo", "scipy:slsqp"} <= set(names)
    for name in names:
        sol = rr.solve(problem, name, rng=0)
        assert sol.violation <= 1e-9, (name, sol)
        if not name.startswith("baseline"):
            close = 1e-3 if name == "scipy:trust-constr" else 1e-6  # its barrier ends early
            assert gap_between(sol.objective, best) <= close, (name, sol)
    assert any(name.startswith("baseline") for name in names)


def test_yates_iteration_is_sca_and_rises_to_the_optimum():
    problem = SINRProduct(gain=NEAR, noise_w=0.01, power_max_w=1.0)
    sol = rr.solve(problem, "sca", tol=1e-14)
    assert sol.objective == pytest.approx(oracle.product(NEAR, [0.01] * 3, [1.0] * 3)[0], rel=1e-9)
    start = {"power_w": np.ones(3)}
    near = problem.view(Surrogate).at(start)
    assert near.objective(start) == pytest.approx(problem.objective(start), rel=1e-14)
    heard = 0.01 + np.array(NEAR).sum(1) - np.diag(NEAR)
    price = ((np.array(NEAR) * (1 - np.eye(3))) / heard[:, None]).sum(0)
    assert rr.solve(near).power_w == pytest.approx(np.minimum(1, 1 / price))


# -- what must hold -----------------------------------------------------------------------------


@CLASSES
@pytest.mark.parametrize(("size", "batch"), [(4, 3), (3, None), (1, 2)])
def test_conformance(cls, size, batch):
    ran = check(cls.random(K=size, batch=batch, rng=size))
    wanted = {"fields", "indexing", "baselines", "projection", "bound", "closed_form", "smooth"}
    assert wanted | {"model:cvxpy", "model:pyomo"} <= set(ran)


def test_conformance_with_a_total_and_without_caps():
    assert "level" in check(
        MaxMinSINR.random(K=3, batch=2, rng=0, power_max_w=np.inf, total_power_w=2.0)
    )
    free = PowerForSINR.random(K=3, batch=2, rng=1)
    assert "projection" in check(free.replace(power_max_w=np.inf))


@CLASSES
def test_random_instances_are_feasible_and_proven(cls):
    proven(cls.random(K=10, batch=50, rng=5))


@pytest.mark.parametrize("cls", [MaxMinSINR, PowerForSINR])
@settings(max_examples=15)
@given(pick=st.data())
def test_gains_over_24_decades(cls, pick):
    fields = pick.draw(links(-18, 6))
    whole = MaxMinSINR(**fields)
    if cls is PowerForSINR:
        # Near the edge double precision proves less: about 1e-15 over the distance from it.
        target = rr.solve(whole).objective * (1 - 1e-5)
        proven(PowerForSINR(**fields, sinr_target=target))
    else:
        proven(whole)


@settings(max_examples=15)
@given(fields=links(-6, 3))
def test_product_over_nine_decades(fields):
    proven(SINRProduct(**fields))


@CLASSES
def test_a_thousand_instances_over_many_decades(cls):
    """Weak noise beside strong loops, chains that lift a link by 1e20, blocks that do not meet."""
    low, high = (-9, 3) if cls is SINRProduct else (-18, 6)
    rng, lanes, size = np.random.default_rng(0), 1000, 5
    gain = 10 ** rng.uniform(low, high, (lanes, size, size))
    gain[(rng.random(gain.shape) < 0.2) & ~np.eye(size, dtype=bool)] = 0.0
    fields = {
        "gain": gain,
        "noise_w": 10 ** rng.uniform(low, 0, (lanes, size)),
        "power_max_w": 10 ** rng.uniform(-3, 3, (lanes, size)),
    }
    if cls is PowerForSINR:
        best = rr.solve(MaxMinSINR(**fields)).objective[:, None]
        fields["sinr_target"] = best * rng.uniform(0.3, 0.999, (lanes, size))
    proven(cls(**fields))


@CLASSES
@settings(max_examples=10)
@given(fields=links(), watt=strategies.decades(-12, 12), gain=strategies.decades(-18, 6))
def test_units_do_not_matter(cls, fields, watt, gain):
    """Powers in other units, and gains times c with noise times c."""
    if cls is PowerForSINR:
        fields = fields | {"sinr_target": 0.5 * rr.solve(MaxMinSINR(**fields)).objective}
    here = rr.solve(cls(**fields))
    units = {"gain": gain, "noise_w": watt * gain, "power_max_w": watt}
    there = rr.solve(cls(**fields | {n: fields[n] * u for n, u in units.items()}))
    assert there.status == here.status == rr.Status.GLOBAL
    assert there.power_w / watt == pytest.approx(here.power_w, rel=1e-6)
    ratio = watt if cls is PowerForSINR else 1.0
    assert there.objective / ratio == pytest.approx(here.objective, rel=1e-10)


@CLASSES
@settings(max_examples=8)
@given(seed=st.integers(0, 2**16), size=st.integers(1, 5))
def test_batch_equals_loop_and_order_does_not_matter(cls, seed, size):
    problem = cls.random(K=size, batch=3, rng=seed)
    together, order = proven(problem), np.random.default_rng(seed).permutation(size)
    for i, one in enumerate(problem):
        alone, turned = proven(one), proven(one.select(K=order))
        assert alone.objective == pytest.approx(together.objective[i], rel=1e-12)
        assert alone.power_w == pytest.approx(together.power_w[i], rel=1e-6)
        assert turned.objective == pytest.approx(alone.objective, rel=1e-11)
        assert turned.power_w == pytest.approx(alone.power_w[order], rel=1e-6)


@CLASSES
@settings(max_examples=10)
@given(seed=st.integers(0, 2**16), more=st.floats(1.0, 10.0))
def test_more_power_never_hurts_and_more_noise_never_helps(cls, seed, more):
    problem = cls.random(K=3, rng=seed, power_max_w=1.0)
    here = proven(problem).objective
    richer = proven(problem.replace(power_max_w=more)).objective
    noisy = rr.solve(problem.replace(noise_w=problem.noise_w * more))
    if cls is PowerForSINR:
        assert richer == here  # the least powers are below the caps already
        if noisy.status != rr.Status.INFEASIBLE:
            assert noisy.objective == pytest.approx(more * here, rel=1e-9)
    else:
        assert richer >= here * (1 - 1e-12)
        assert noisy.objective <= here * (1 + 1e-12)


@settings(max_examples=15)
@given(fields=links())
def test_max_min_and_least_power_are_inverse(fields):
    """The least powers for the best common SINR are the balanced ones; a bit more is infeasible."""
    best = proven(MaxMinSINR(**fields))
    under = proven(PowerForSINR(**fields, sinr_target=best.objective * (1 - 1e-9)), gap=1e-5)
    assert under.objective <= best.power_w.sum() * (1 + 1e-9)
    over = PowerForSINR(**fields, sinr_target=best.objective * (1 + 1e-6))
    assert rr.solve(over).status == rr.Status.INFEASIBLE


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-6, 1.0, 7.0, 1e300])
def test_any_witness_gives_a_valid_bound(scale):
    rng = np.random.default_rng(0)
    for _ in range(20):
        vector, matrix = scale * rng.random(3), scale * rng.random((3, 3))
        least = PowerForSINR(gain=GAIN, noise_w=0.1, sinr_target=1.5)
        assert not least.bound(None, {"noise_price": vector}) > 0.77802741  # spec 15.3, summed
        best = MaxMinSINR(gain=GAIN, noise_w=0.1, power_max_w=1.0)
        assert not best.bound(None, {"balanced_power_w": vector}) < 2.584785327  # spec 15.2
        product = SINRProduct(gain=NEAR, noise_w=0.01, power_max_w=1.0)
        assert not product.bound(None, {"interference_share": matrix}) < 3.4923275  # spec 15.8


@CLASSES
def test_the_bound_needs_no_witness(cls):
    problem = cls.random(K=3, batch=4, rng=3)
    best, worst = rr.solve(problem).objective, problem.bound()
    assert np.isfinite(worst).all()
    assert ((worst - best) * (1 if problem.sense == "max" else -1) >= -1e-12 * best).all()


# -- degenerate inputs --------------------------------------------------------------------------


def test_one_link_alone():
    fields = {"gain": [[2.0]], "noise_w": [0.5]}
    assert rr.solve(MaxMinSINR(**fields, power_max_w=3.0)).objective == pytest.approx(12)
    assert rr.solve(SINRProduct(**fields, power_max_w=3.0)).objective == pytest.approx(12)
    assert rr.solve(PowerForSINR(**fields, sinr_target=4.0)).power_w == pytest.approx([1.0])


def test_links_that_do_not_hear_each_other():
    fields = {"gain": np.diag([1.0, 2.0, 4.0]), "noise_w": 0.5, "power_max_w": [1.0, 2.0, 3.0]}
    assert proven(MaxMinSINR(**fields)).objective == pytest.approx(2.0)  # min P g/s
    product = proven(SINRProduct(**fields))
    assert product.objective == pytest.approx(2 * 8 * 24)
    assert product.power_w.tolist() == [1, 2, 3]
    least = proven(PowerForSINR(**fields, sinr_target=[1.0, 0.0, 2.0]))
    assert least.power_w == pytest.approx([0.5, 0.0, 0.25])


def test_nobody_asks_for_anything():
    sol = rr.solve(PowerForSINR(gain=GAIN, noise_w=0.1, sinr_target=0.0))
    assert sol.status == rr.Status.GLOBAL
    assert sol.power_w.tolist() == [0, 0, 0]


@pytest.mark.parametrize("cls", [MaxMinSINR, SINRProduct])
def test_a_link_without_direct_gain_makes_the_optimum_zero_and_is_named(cls):
    gain = np.array([GAIN, GAIN])
    gain[1, 2, 2] = 0.0
    sol = rr.solve(cls(gain=gain, noise_w=0.1, power_max_w=1.0))
    assert (sol.status == rr.Status.GLOBAL).all()
    assert sol.objective[1] == 0
    assert sol.objective[0] > 2
    assert "link 2 has no direct gain" in sol.message


def test_a_link_without_direct_gain_cannot_reach_a_target():
    gain = np.array(GAIN)
    gain[1, 1] = 0.0
    sol = rr.solve(PowerForSINR(gain=gain, noise_w=0.1, sinr_target=1.5))
    assert sol.status == rr.Status.INFEASIBLE
    assert "link 1 has an SINR target but no direct gain" in sol.message
    quiet = PowerForSINR(gain=gain, noise_w=0.1, sinr_target=[1.5, 0.0, 1.5])
    assert rr.solve(quiet).power_w[1] == 0


def test_a_cap_that_is_too_low_is_named_with_watts():
    problem = PowerForSINR(gain=GAIN, noise_w=0.1, sinr_target=1.5, power_max_w=[0.2, 0.3, 1.0])
    sol = rr.solve(problem)
    assert sol.status == rr.Status.INFEASIBLE
    assert "link 0 needs at least 0.26017 W and has 0.2 W" in sol.message
    assert "link 1 needs at least 0.30128 W and has 0.3 W" in sol.message
    assert "link 2" not in sol.message


def test_only_the_links_in_the_loud_loop_are_blamed():
    gain = np.eye(4) + 0.01
    gain[1, 3] = gain[3, 1] = 2.0
    gain[[0, 2]] *= np.eye(4)[[0, 2]]  # 0 and 2 hear nobody, but are heard
    sol = rr.solve(PowerForSINR(gain=gain, noise_w=0.1, sinr_target=1.0))
    assert "links 1 and 3 interfere too much" in sol.message


def test_a_batch_with_one_infeasible_instance():
    problem = PowerForSINR(gain=GAIN, noise_w=0.1, sinr_target=[[1.5] * 3, [4.0] * 3])
    status = rr.solve(problem).status
    assert status.tolist() == [rr.Status.GLOBAL, rr.Status.INFEASIBLE]


def test_the_product_leaves_the_range_of_numbers_and_nothing_is_claimed():
    gain = np.where(np.eye(40, dtype=bool), 1e12, 0.0)
    sol = rr.solve(SINRProduct(gain=gain, noise_w=1.0, power_max_w=1.0))
    assert np.isinf(sol.objective)
    assert np.isnan(sol.bound)
    assert sol.status < rr.Status.GLOBAL


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MaxMinSINR(gain=GAIN, noise_w=0.1), "both inf for some link"),
        (lambda: MaxMinSINR(gain=np.ones((3, 2)), noise_w=0.1, power_max_w=1.0), "axis K|K, K"),
        (lambda: MaxMinSINR(gain=GAIN, noise_w=0.0, power_max_w=1.0), r"noise_w.* = 0 W"),
        (lambda: SINRProduct(gain=GAIN, noise_w=0.1, power_max_w=np.inf), r"power_max_w.* = inf W"),
        (lambda: PowerForSINR(gain=GAIN, noise_w=0.1, sinr_target=[1, -2, 1]), r"\[1\] = -2"),
        (lambda: PowerForSINR(gain=-1.0, noise_w=0.1, sinr_target=1.0), "not in dB"),
    ],
)
def test_bad_input_is_named(make, words):
    with pytest.raises(InvalidProblem, match=words):
        make()


def test_baselines_are_what_their_names_say():
    problem = MaxMinSINR(gain=GAIN, noise_w=0.1, power_max_w=1.0)
    assert rr.solve(problem, "baseline:full-power").power_w.tolist() == [1, 1, 1]
    equal = rr.solve(problem, "baseline:equal-snr").power_w
    assert equal * np.diag(GAIN) == pytest.approx(np.full(3, 0.8))  # link 1 at its cap
    least = PowerForSINR(gain=GAIN, noise_w=0.1, sinr_target=1.5)
    margin = rr.solve(least, "baseline:one-db-margin")
    assert margin.power_w / rr.solve(least).power_w == pytest.approx(np.full(3, 10**0.1))


def test_a_foreign_point_is_led_to_the_nearest_missing_power():
    problem = PowerForSINR(gain=GAIN, noise_w=0.1, sinr_target=1.5, power_max_w=0.31)
    for start in ([0, 0, 0], [0.31, 0, 0], [5, 5, 5], [0.26, 0.3, 0.22]):
        x = problem.project({"power_w": np.array(start, dtype=float)})
        assert rr.verify(problem, x).ok(1e-12)


def test_the_least_fixed_point_keeps_its_digits():
    """A chain over 24 decades against exact fractions."""
    from fractions import Fraction

    loop = np.array([[0, 1e-18, 0], [1e6, 0, 3e-5], [2.0, 1e-12, 0]])
    need = np.array([1e-9, 1e-18, 1e3])
    a = [[Fraction(v) for v in row] for row in loop.tolist()]
    b = [Fraction(v) for v in need.tolist()]
    rows = [[Fraction(int(i == j)) - a[i][j] for j in range(3)] + [b[i]] for i in range(3)]
    for k in range(3):
        rows[k] = [v / rows[k][k] for v in rows[k]]
        for i in range(3):
            if i != k:
                rows[i] = [v - rows[i][k] * w for v, w in zip(rows[i], rows[k])]
    exact = [float(row[-1]) for row in rows]
    assert least_fixed_point(loop, need) == pytest.approx(exact, rel=4e-16, abs=0)
    assert np.isinf(least_fixed_point(np.array([[0, 2.0], [0.5, 0]]), np.ones(2))).all()


@given(pick=st.data())
def test_promised_rates_are_sinr_targets(pick):
    """SumRate says infeasible exactly where the least powers of the targets do not exist."""
    links = SumRate.random(K=3, rng=pick.draw(st.integers(0, 10**6)))
    rate = np.array(pick.draw(st.lists(st.floats(0.1, 4.0), min_size=3, max_size=3)))
    asked = links.replace(minimum_rate=rate)
    found = oracle.least_power(links.gain, np.full(3, links.noise_w), 2**rate - 1)
    if found is None or (found > links.power_max_w).any():
        assert asked.infeasible()
        words = "targets must come down" if found is None else "needs at least"
        assert words in asked.why_infeasible()
    else:
        assert not asked.infeasible()
        assert rr.verify(asked, {"power_w": np.minimum(found, links.power_max_w)}).ok(1e-6)
