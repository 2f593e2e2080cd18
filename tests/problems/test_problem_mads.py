"""One round of MADS: spec mads.md §2.6-2.8 and §6 with its corrections; oracle; properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import mads as oracle

import rralloc as rr
from rralloc.errors import InvalidProblem, NotOffered
from rralloc.problems import MADS
from rralloc.problems.mads import Case
from rralloc.testing import check

SPEC = {"model_size": 2410, "bits_per_coordinate": 44, "bandwidth_hz": 4000.0, "power_max_w": 0.2}
V2 = {"circuit_power_w": 0.05, "header_bits": 500.0}


def instance(W, Q, tau, g, **changes):
    """The model and radio of the acceptance set."""
    data = {"value": W, "energy_price": Q, "contact_s": tau, "snr_per_watt": g}
    return MADS(**SPEC | data | changes)


def optimum(problem):
    """Kept, power, airtime and value of each device, straight from the closed form."""
    x = problem.closed_form().point()
    energy = problem.energy_j(x)
    value = problem.gain.of(x["kept"])
    return (
        *(x["kept"], x["power_w"], x["airtime_s"]),
        value - np.where(energy > 0, problem.energy_price * energy, 0.0),
    )


def proven(problem):
    sol = rr.solve(problem)
    assert (np.asarray(sol.status) == rr.Status.GLOBAL).all()
    assert (np.asarray(sol.violation) < 1e-12).all()
    assert (np.asarray(sol.gap) < 1e-9).all()
    return sol


# -- section 6: the worked rows -------------------------------------------------------------------

ROWS = [
    # W, Q, tau, g; k, p, case, whole k; with V2: k, p, t, value
    ((5e-4, 0.5, 5, 300), (2408.251566, 0.1278207613, Case.ENERGY, 2408)),
    ((5e-4, 0.5, 0.5, 300), (240.8251566, 0.1278207613, Case.ENERGY, 241)),
    ((5e-4, 0.5, 40, 300), (2410, 0.001943657927, Case.DENSE, 2410)),
    ((5e-6, 0.5, 5, 300), (0, 0, Case.SILENT, 0)),
    ((5e-3, 0.01, 5, 300), (2410, 0.1281709147, Case.DENSE, 2410)),
    ((5e-3, 0.01, 2, 300), (1078.315879557, 0.2, Case.POWER, 1078)),
    ((5e-4, 0, 5, 300), (2410, 0.1281709147, Case.DENSE, 2410)),
    ((5e-4, 0.5, 5, 3), (0, 0, Case.SILENT, 0)),
]
ROWS_V2 = [
    (2396.887929, 0.1278207613, 5, 0.7538920615),
    (229.4615202, 0.1278207613, 0.5, 0.07027556979),
    (2410, 0.03139767359, 7.877411707, 0.8843985066),
    (0, 0, 0, 0),
    (2410, 0.1304695685, 5, 12.04097652),
    (1066.952243, 0.2, 2, 5.32976122),
    (2410, 0.1304695685, 5, 1.205),
    (0, 0, 0, 0),
]


@pytest.mark.parametrize(("given_", "expected"), ROWS)
def test_spec_6_rows(given_, expected):
    kept, power, case, whole = expected
    problem = instance(*given_)
    sol = proven(problem)
    assert sol.kept == pytest.approx([kept], rel=1e-9)
    assert sol.power_w == pytest.approx([power], rel=1e-9)
    assert sol.airtime_s == [given_[2] if kept else 0]
    assert problem.cases() == case
    assert proven(problem.replace(integer=True)).kept == [whole]


@pytest.mark.parametrize(("row", "expected"), list(zip(ROWS, ROWS_V2)))
def test_spec_6_rows_with_circuit_and_header(row, expected):
    sol = proven(instance(*row[0], **V2))
    found = [sol.kept[0], sol.power_w[0], sol.airtime_s[0], sol.objective]
    assert found == pytest.approx(expected, rel=1e-9)


def test_correction_1_racing_to_sleep_respects_the_power():
    """The most efficient speed needs more than p_max here."""
    sol = proven(instance(5e-3, 0.01, 100, 30, circuit_power_w=0.5, header_bits=500.0))
    assert sol.power_w == pytest.approx([0.2], rel=1e-12)
    assert sol.airtime_s == pytest.approx([9.4876], abs=5e-5)
    assert sol.objective == pytest.approx(11.98358695, rel=1e-9)


# -- section 6: seeded totals ---------------------------------------------------------------------


def drawn_g1(seed=4242, n=64):
    rng = np.random.default_rng(seed)
    u, x = rng.random(n), rng.exponential(4, n)
    tau, g = np.where(u < 0.8, x, 0.0), 10 ** rng.uniform(0.5, 3.5, n)
    x2, Q = rng.gamma(2, 0.5, n), rng.uniform(0.02, 1, n)
    return instance(1.2 * x2 / 2410, Q, tau, g)


def drawn_g2(seed, R, N):
    rng = np.random.default_rng(seed)
    u = rng.random((R, N))
    tau = np.where(u < 0.4, rng.exponential(4, (R, N)), 0.0)
    return tau, 300 * rng.exponential(1, (R, N)), rng.gamma(2, 0.5, (R, N))


def test_spec_6_totals_of_one_round():
    problem = drawn_g1()
    assert problem.contact_s[:2] == pytest.approx([3.11448735, 4.56160009], abs=5e-9)
    sol = proven(problem)
    assert sol.objective == pytest.approx(19.986978206246604, rel=1e-9)
    assert sol.kept.sum() == pytest.approx(46015.623488105375, rel=1e-9)
    assert problem.energy_j(sol.x).sum() == pytest.approx(10.345049062047028, rel=1e-9)
    assert np.bincount(problem.cases()).tolist() == [20, 27, 7, 10]
    whole = proven(problem.replace(integer=True))
    assert whole.objective == pytest.approx(19.985913837300824, rel=1e-9)
    assert whole.kept.sum() == 46011
    both = proven(problem.replace(**V2))
    assert both.objective == pytest.approx(16.44605536160639, rel=1e-9)
    assert (both.kept > 0).sum() == 35


def test_spec_6_the_clairvoyant_price_splits_the_horizon_into_rounds():
    tau, g, w = (v[:, 0] for v in drawn_g2(4343, 80, 1))
    kept, power, time, _ = optimum(instance(w, 2218.32977407, tau, g))
    assert (w * kept).sum() == pytest.approx(33766.6250108184, rel=1e-9)
    assert (power * time).sum() == pytest.approx(4.0, rel=1e-9)
    assert (tau > 0).sum() == 30


def test_spec_6_rounds_in_turn_with_a_queue():
    """Drift plus penalty: the queue of one round is the price of the next; its bound of 2.9."""
    tau, g, w = drawn_g2(4444, 300, 5)
    V, budget, Q = 2e-4, 0.05, np.zeros(5)
    value = energy = 0.0
    for r in range(300):
        kept, power, time, _ = optimum(instance(V * w[r], Q, tau[r], g[r]))
        assert not power[V * w[r] * 4000 * g[r] <= 44 * Q * np.log(2)].any()
        value, energy = value + (w[r] * kept).sum(), energy + (power * time).sum()
        Q = np.maximum(Q + power * time - budget, 0.0)
    assert value == pytest.approx(650450.5388291611, rel=1e-9)
    assert energy == pytest.approx(76.13497272861723, rel=1e-9)
    assert energy - 300 * 5 * budget <= Q.sum() * (1 + 1e-12)
    ceiling = V * w.max() * 4000 * g.max() / (44 * np.log(2)) + 0.2 * tau.max() - budget
    assert ceiling >= Q.max()


# -- against searches -----------------------------------------------------------------------------


def scattered(n, seed, s=(1, 6)):
    """Devices over many decades, in all four cases; W such that y_eng is between -1 and 12."""
    rng = np.random.default_rng(seed)
    data = {
        "s": 10 ** rng.uniform(*s, n),
        "b": rng.uniform(8, 60, n),
        "B": 10 ** rng.uniform(4, 7, n),
        "p_max": 10 ** rng.uniform(-2, 1, n),
    }
    tau, Q = 10 ** rng.uniform(-3, 2, n), 10 ** rng.uniform(-3, 3, n)
    g = 10 ** rng.uniform(-3, 3, n) / data["p_max"]
    W = 2 ** rng.uniform(-1, 12, n) * data["b"] * Q * np.log(2) / (data["B"] * g)
    return {"W": W, "Q": Q, "tau": tau, "g": g} | data


NAMES = {
    "W": "value",
    "Q": "energy_price",
    "tau": "contact_s",
    "g": "snr_per_watt",
    "s": "model_size",
    "b": "bits_per_coordinate",
    "B": "bandwidth_hz",
    "p_max": "power_max_w",
    "P_c": "circuit_power_w",
    "b0": "header_bits",
    "E": "energy_budget_j",
}


def problem_of(data, **options):
    return MADS(**{NAMES[n]: v for n, v in data.items()}, **options)


def size_of(data):
    """Below this a value is a difference of far larger terms, and no number has its digits."""
    return 1e-9 * data["W"] * data["tau"] * data["B"] / data["b"]


def test_spec_6_random_devices_against_a_scalar_search():
    data = scattered(6000, 5)
    best, kept = oracle.base(**data)
    problem = problem_of(data)
    k, _, _, value = optimum(problem)
    assert np.abs(value - best).max(initial=0, where=best < size_of(data)) < 1e-9 * best.max()
    many = best > size_of(data)
    assert value[many] == pytest.approx(best[many], rel=1e-9)
    assert k == pytest.approx(kept, rel=1e-6, abs=1e-6 * data["s"].max())
    assert (np.bincount(problem.cases()) > 300).all()


VARIANTS = {
    "circuit": lambda d: {"P_c": 0.1 * d["p_max"]},
    "strong circuit": lambda d: {"P_c": 3 * d["p_max"]},
    "header": lambda d: {"b0": 0.02 * d["s"] * d["b"]},
    "both": lambda d: {"P_c": 0.3 * d["p_max"], "b0": 0.1 * d["s"] * d["b"]},
    "budget": lambda d: {"E": 0.3 * d["p_max"] * d["tau"]},
    "budget and circuit": lambda d: {"E": 0.9 * d["p_max"] * d["tau"], "P_c": d["p_max"]},
    "all": lambda d: {
        "E": 0.3 * d["p_max"] * d["tau"],
        "P_c": 0.3 * d["p_max"],
        "b0": np.full(d["s"].size, 100.0),
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_against_a_search_over_time_and_efficiency(variant):
    """V2 and V5, also together: never below the search, and the search is not far below."""
    data = scattered(700, 6)
    data |= VARIANTS[variant](data)
    best = oracle.full(**data)
    problem = problem_of(data)
    *_, value = optimum(problem)
    size = np.maximum(best, size_of(data))
    assert ((value - best) / size).min() > -1e-9
    assert ((value - best) / size).max() < 1e-6
    proven(problem)


def few(n, seed):
    """Models of 5 to 40 parameters whose k is in the middle."""
    rng = np.random.default_rng(seed)
    data = scattered(n, seed)
    data["s"] = rng.integers(5, 41, n).astype(float)
    snr = 10 ** rng.uniform(0, 2, n)
    data["g"] = snr / data["p_max"]
    data["B"] = data["s"] * data["b"] * rng.uniform(0.1, 2, n) / np.log2(1 + snr) / data["tau"]
    data["W"] = 2 ** rng.uniform(-1, 8, n) * data["b"] * data["Q"] * np.log(2)
    data["W"] /= data["B"] * data["g"]
    return data


def each(data):
    """One device after another, as the enumeration wants them."""
    for i in range(data["W"].size):
        one = {n: float(v[i]) for n, v in data.items()}
        yield i, one | {"s": int(one["s"])}


@pytest.mark.parametrize("variant", ["none", "both", "budget and circuit", "all"])
def test_whole_numbers_against_enumeration(variant):
    data = few(80, 7)
    data |= VARIANTS.get(variant, lambda _: {})(data)
    problem = problem_of(data, integer=True)
    k, _, _, value = optimum(problem)
    for i, one in each(data):
        best, _ = oracle.whole(**one)
        assert value[i] == pytest.approx(best, rel=1e-9, abs=1e-12 * one["W"] * one["s"])
    assert (k == np.rint(k)).all()
    assert len(set(k)) > 10
    proven(problem)


@pytest.mark.parametrize("variant", ["none", "both", "budget and circuit"])
def test_a_curve_against_enumeration(variant):
    """V4, with s = 24 entries of each device in any order and on any scale."""
    rng = np.random.default_rng(8)
    data = few(60, 8)
    data["s"] = np.full(60, 24.0)
    data |= VARIANTS.get(variant, lambda _: {})(data)
    entries = rng.exponential(size=(60, 24)) ** 3 * (rng.random((60, 24)) < 0.8)
    problem = problem_of(data, residual=1e-7 * entries)
    k, _, _, value = optimum(problem)
    falling = -np.sort(-entries, axis=-1) / entries.mean(-1, keepdims=True)
    for i, one in each(data):
        best, _ = oracle.whole(**one, gain=one["W"] * falling[i])
        assert value[i] == pytest.approx(best, rel=1e-9, abs=1e-12 * one["W"] * one["s"])
    assert len(set(k)) > 5
    proven(problem)


def test_a_flat_curve_is_the_linear_rule():
    linear = drawn_g1(n=30).replace(model_size=50, bandwidth_hz=80.0, value=0.02, integer=True)
    flat = linear.replace(residual=np.full((30, 50), 7.0))
    assert optimum(flat)[0].tolist() == optimum(linear)[0].tolist()
    assert proven(flat).objective == pytest.approx(proven(linear).objective, rel=1e-12)


@pytest.mark.parametrize("more", [{}, V2], ids=["plain", "circuit and header"])
def test_codings_against_a_search(more):
    """V3: the best of three, each device its own; q = b - ceil(log2 s) = 32 bits."""
    problem = drawn_g1(n=400).replace(coding="best", value=0.002, **more)
    assert (problem.dense_bits == 32).all()
    *_, value = optimum(problem)
    d = {n: getattr(problem, name) for n, name in NAMES.items() if n not in ("E", "b")}
    able = d["tau"] > 0
    d = {n: np.broadcast_to(v, 400)[able] for n, v in d.items()}
    best = oracle.coded(**d, q=32.0, index_bits=44.0)
    assert ((value[able] - best) / np.maximum(best, 1e-6)).min() > -1e-9
    assert value[able] == pytest.approx(best, rel=1e-7, abs=1e-9)
    assert (value[~able] == 0).all()
    alone = [optimum(problem.replace(coding=c))[3] for c in ("index", "bitmap", "dense")]
    assert (value == np.maximum.reduce(alone)).all()
    assert len(set(np.argmax(alone, axis=0)[value > 0])) > 1
    proven(problem)


def test_dense_coding_sends_all_or_nothing():
    problem = drawn_g1(n=200).replace(coding="dense", dense_bits_per_coordinate=10.0)
    kept = proven(problem).kept
    assert set(kept) == {0.0, 2410.0}
    assert set(np.asarray(problem.cases())) == {Case.SILENT, Case.DENSE}


@pytest.mark.parametrize("more", [{}, {"circuit_power_w": 0.05}, {"energy_budget_j": 0.1}])
@pytest.mark.parametrize("solver", ["cvxpy", "pyomo", "scipy:slsqp"])
def test_solvers_of_others_agree(solver, more):
    """Their coordinates are scaled: they find the optimum, and the dual proves it."""
    problem = drawn_g1(n=12).replace(**more)
    if solver == "scipy:slsqp" and "circuit_power_w" in more:
        pytest.skip("no derivatives where sending costs a jump")
    sol = rr.solve(problem, solver)
    assert sol.status == rr.Status.GLOBAL, sol
    assert sol.objective == pytest.approx(rr.solve(problem).objective, rel=1e-6)


OPTIONS = [(w, c) for w in (False, True) for c in ("index", "bitmap", "dense", "best")]


@pytest.mark.parametrize(("whole", "coding"), OPTIONS)
def test_proven_over_many_decades(whole, coding):
    """Every option at once, all data over 20 to 40 decades; no rule of thumb is better."""
    rng = np.random.default_rng(11)

    def decades(low, high):
        return 10 ** rng.uniform(low, high, (600, 1))

    def some(values):
        return np.where(rng.random((600, 1)) < 0.6, values, 0.0)

    tau, p_max, Q, B, g = (decades(*e) for e in ((-9, 9), (-12, 6), (-20, 20), (-3, 12), (-18, 18)))
    bits, s = rng.uniform(40, 70, (600, 1)), np.floor(decades(0, 8))
    problem = MADS(
        value=bits * Q * np.log(2) / (B * g) * 2 ** rng.uniform(-1, 40, (600, 1)),
        energy_price=Q,
        contact_s=tau,
        snr_per_watt=g,
        model_size=s,
        bits_per_coordinate=bits,
        bandwidth_hz=B,
        power_max_w=p_max,
        integer=whole,
        coding=coding,
        circuit_power_w=some(p_max * decades(-9, 3)),
        header_bits=some(np.floor(decades(0, 4))),
        energy_budget_j=p_max * tau * decades(-6, 3),
    )
    sol = rr.solve(problem)
    assert (sol.status == rr.Status.GLOBAL).all()
    assert (sol.violation < 1e-11).all()
    assert 50 < (sol.kept > 0).sum() < 550
    for name in problem.points():
        rule = rr.solve(problem, f"baseline:{name}")
        assert (rule.violation < 1e-11).all()
        assert (rule.objective <= sol.objective * (1 + 1e-9)).all()


def test_a_grid_of_k_and_p_is_never_better():
    problem = instance(5e-4, 0.5, 5, [300.0, 30.0, 1000.0])
    k, p = np.linspace(0, 2410, 301)[:, None], np.linspace(0, 0.2, 301)[None]
    *_, value = optimum(problem)
    for best, g in zip(value, problem.snr_per_watt):
        fits = k * 44 <= 5 * 4000 * np.log2(1 + p * g)
        assert np.where(fits, 5e-4 * k - 0.5 * 5 * p, -np.inf).max() <= best * (1 + 1e-12)


# -- section 6: degenerate rows -------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"integer": True}, V2, {"coding": "best"}])
@pytest.mark.parametrize(
    "change",
    [
        {"contact_s": 0.0},
        {"snr_per_watt": 0.0},
        {"value": 0.0},
        {"value": -3.0},
        {"value": 0.0, "energy_price": 0.0},
        {"value": -1.0, "energy_price": 0.0},
        {"power_max_w": 0.0},
        {"energy_price": math.inf},
        {"energy_price": 1e300},
        {"energy_price": math.inf, "value": math.inf},
        {"value": math.inf, "contact_s": 0.0},
        {"energy_budget_j": 0.0},
        {"energy_budget_j": 0.0, "contact_s": 0.0},
    ],
)
def test_silent_rows(change, options):
    problem = instance(5e-4, 0.5, 5.0, 300.0, **options).replace(**change)
    sol = proven(problem)
    assert [sol.kept[0], sol.power_w[0], sol.airtime_s[0], sol.objective] == [0, 0, 0, 0]
    assert sol.bound == 0
    if "energy_budget_j" not in change:
        assert problem.cases() == Case.SILENT


@pytest.mark.parametrize("options", [{}, {"integer": True}, V2])
@pytest.mark.parametrize(("tau", "case"), [(2.0, Case.POWER), (50.0, Case.DENSE)])
def test_infinite_value_sends_what_it_can(options, tau, case):
    problem = instance(math.inf, 0.5, tau, 300.0, **options)
    free = instance(1.0, 0.0, tau, 300.0, **options)
    assert problem.cases() == case
    for found, expected in zip(optimum(problem)[:3], optimum(free)[:3]):
        assert found == pytest.approx(expected, rel=1e-12)
    sol = rr.solve(problem)
    assert sol.objective == sol.bound == math.inf
    assert sol.violation < 1e-12


def test_an_infinite_price_next_to_others():
    problem = instance([5e-4, math.inf, 5e-4], [0.5, 1.0, math.inf], 5.0, 300.0)
    assert problem.cases().tolist() == [Case.ENERGY, Case.DENSE, Case.SILENT]
    x = {n: np.full(3, v) for n, v in {"kept": 1.0, "power_w": 0.1, "airtime_s": 1.0}.items()}
    assert problem.objective(x) == -math.inf


def test_free_energy_takes_the_least_power():
    """Q = 0: the contact or the model limits; no power is wasted on a model that fits."""
    kept, power, *_ = optimum(instance(5e-4, 0.0, [2.0, 5.0], 300.0))
    assert power == pytest.approx([0.2, 0.1281709147], rel=1e-9)
    assert kept == pytest.approx([1078.315879557, 2410], rel=1e-9)


def test_a_contact_of_1e_minus_300_seconds():
    sol = proven(instance(5e-4, 0.5, 1e-300, 300.0))
    assert 0 < sol.kept[0] < 1e-200
    assert 0 < sol.power_w[0] <= 0.2


@pytest.mark.parametrize("tau", [1e6, 1e12, 1e300])
def test_a_long_contact_costs_the_shannon_minimum(tau):
    sol = proven(instance(5e-4, 0.5, tau, 300.0))
    problem = instance(5e-4, 0.5, tau, 300.0)
    assert sol.kept == [2410]
    energy = problem.energy_j(sol.x)
    least = 2410 * 44 * math.log(2) / (4000 * 300)
    assert energy == pytest.approx([least], rel=40 / tau + 1e-12)
    assert problem.cases() == Case.DENSE


def test_energy_falls_with_the_contact_once_dense():
    problem = instance(5e-4, 0.5, np.geomspace(6, 1e9, 400), 300.0)
    energy = problem.energy_j(problem.closed_form().point())
    assert (np.diff(energy) < 0).all()


def test_next_to_silence_no_digits_are_lost():
    """Correction 9: value W a [y - (1 - 2^-y)/ln 2] near y = 0, W above the threshold by 1e-6."""
    threshold = 44 * 0.5 * math.log(2) / (4000 * 300)
    more = 1e-6
    kept, power, _, value = optimum(instance(threshold * (1 + more), 0.5, 5.0, 300.0))
    y = math.log1p(more) / math.log(2)
    assert kept == pytest.approx([5 * 4000 / 44 * y], rel=1e-9)
    assert power == pytest.approx([more / 300], rel=1e-9)
    assert value == pytest.approx([threshold * 5 * 4000 / 44 * more**2 / (2 * math.log(2))], 1e-5)
    assert optimum(instance(threshold * (1 - 1e-12), 0.5, 5.0, 300.0))[0] == [0]


def test_fewer_than_one_coordinate():
    """V1 decides between none and one; the floor alone would silence slow channels for ever."""
    problem = instance(5e-4, 0.5, [0.002, 0.0005, 0.0019], 300.0, integer=True)
    relaxed = optimum(problem.replace(integer=False))[0]
    assert ((relaxed > 0) & (relaxed < 1)).all()
    assert proven(problem).kept.tolist() == [1, 0, 1]
    assert problem.cases().tolist() == [Case.ENERGY] * 3  # the relaxed label


def test_whole_numbers_that_fit_exactly():
    """k = 10 needs exactly p_max; rounding may not cost a coordinate."""
    tau = np.geomspace(1e-3, 1e3, 500)
    g = np.expm1(10 * 44 / (4000 * tau[tau * 4000 > 10]) * np.log(2)) / 0.2
    problem = instance(math.inf, 1.0, tau[tau * 4000 > 10], g, integer=True)
    x = problem.closed_form().point()
    assert (x["kept"] == 10).all()
    assert (x["power_w"] <= 0.2).all()
    assert rr.verify(problem, x).violation < 1e-11


# -- section 2.8: monotone ------------------------------------------------------------------------

SWEEPS = {
    "contact_s": (np.geomspace(1e-3, 1e3, 4000), +1, -1),
    "value": (np.geomspace(1e-7, 1e-1, 4000), +1, +1),
    "snr_per_watt": (np.geomspace(1e-1, 1e5, 4000), +1, 0),
    "power_max_w": (np.geomspace(1e-5, 10, 4000), +1, 0),
    "energy_price": (np.geomspace(1e-4, 1e4, 4000), -1, -1),
    "bits_per_coordinate": (np.geomspace(1, 1e4, 4000), -1, 0),
}


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("name", SWEEPS)
def test_spec_2_8_sweeps(name, integer):
    values, of_kept, of_power = SWEEPS[name]
    for tau in (2.0, 5.0):
        problem = instance(5e-4, 0.2, tau, 300.0, integer=integer).replace(**{name: values})
        kept, power, *_ = optimum(problem)
        assert (of_kept * np.diff(kept) >= -1e-9).all()
        assert len(set(kept)) > 100
        if of_power and not integer:
            # Least power is constant along the contact until the model fits: but for silence.
            assert (of_power * np.diff(power) >= -1e-13).all()


def test_kept_is_linear_in_the_contact_and_power_does_not_depend_on_it():
    tau = np.linspace(0.1, 4.9, 50)
    kept, power, *_ = optimum(instance(5e-4, 0.5, tau, 300.0))
    assert kept / tau == pytest.approx(kept[0] / tau[0], rel=1e-12)
    assert power == pytest.approx(power[0], rel=1e-12)


def test_a_budget_is_never_exceeded_and_more_is_never_worse():
    budgets = np.geomspace(1e-4, 10, 60)
    base = drawn_g1(n=30).replace(circuit_power_w=0.01)
    last = 0.0
    for budget in budgets:
        problem = base.replace(energy_budget_j=budget)
        sol = proven(problem)
        assert (problem.energy_j(sol.x) <= budget * (1 + 1e-12)).all()
        assert sol.objective >= last * (1 - 1e-12)
        last = sol.objective
    assert last == pytest.approx(proven(base).objective, rel=1e-12)


# -- KKT ------------------------------------------------------------------------------------------


def test_kkt_residual_vanishes_at_the_optimum_only():
    problem = problem_of(scattered(2000, 9))
    x = problem.closed_form().point()
    assert problem.kkt_residual(x).max() < 1e-12
    sent = x["kept"] > 0
    off = x | {"power_w": np.minimum(x["power_w"] * 1.01, problem.power_max_w)}
    moved = sent & (off["power_w"] > 1.001 * x["power_w"])
    assert (problem.kkt_residual(off)[moved] > 1e-6).all()
    silent = {n: np.zeros(2000) for n in x}
    assert (problem.kkt_residual(silent)[sent] > 1e-9).all()
    assert (problem.kkt_residual(silent)[~sent] == 0).all()


def test_kkt_residual_with_a_budget():
    data = scattered(500, 10)
    problem = problem_of(data | VARIANTS["budget"](data))
    assert problem.kkt_residual(problem.closed_form().point()).max() < 1e-12


@pytest.mark.parametrize(
    "options", [{"integer": True}, V2, {"circuit_power_w": 0.1}, {"coding": "best"}]
)
def test_no_derivatives_where_sending_costs_a_jump(options):
    problem = instance(5e-4, 0.5, 5.0, 300.0, **options)
    with pytest.raises(NotOffered):
        problem.kkt_residual(rr.solve(problem).x)
    refused = rr.solvers_for(problem).refused
    assert "scipy:slsqp" in refused
    assert ("cvxpy" in refused) == (options != {"circuit_power_w": 0.1})


def test_infinite_prices_are_for_the_closed_form_alone():
    refused = rr.solvers_for(instance(math.inf, 0.5, 5.0, 300.0)).refused
    assert "infinite" in refused["cvxpy"]
    assert "infinite" in refused["scipy:slsqp"]


# -- properties -----------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(-30, 30), st.integers(-30, 30), st.booleans())
def test_units_do_not_matter(seed, joule, hertz, whole):
    """Powers, times and prices in other units, by powers of two: the same k to the last bit."""
    here = problem_of(scattered(8, seed, s=(1, 2)), integer=whole)
    j, t = 2.0**joule, 2.0**hertz
    there = here.replace(
        energy_price=here.energy_price / j,
        contact_s=here.contact_s * t,
        bandwidth_hz=here.bandwidth_hz / t,
        power_max_w=here.power_max_w * j / t,
        snr_per_watt=here.snr_per_watt * t / j,
    )
    kept, power, time, _ = optimum(here)
    k, p, u, _ = optimum(there)
    assert k.tolist() == kept.tolist()
    assert (p * t / j).tolist() == power.tolist()
    assert (u / t).tolist() == time.tolist()


@pytest.mark.parametrize("options", [{}, {"integer": True}, V2, {"coding": "best"}])
def test_batch_equals_loop_and_order_does_not_matter(options):
    problem = MADS.random(K=6, batch=(2, 3), rng=0, **options)
    sol = rr.solve(problem)
    for i in np.ndindex(2, 3):
        one = rr.solve(problem[i])
        assert one.kept.tolist() == sol.kept[i].tolist()
        assert one.objective == pytest.approx(sol.objective[i], rel=1e-14)
    order = np.random.default_rng(0).permutation(6)
    turned = rr.solve(problem.select(N=order))
    assert (turned.kept == sol.kept[..., order]).all()


def test_fields_of_different_batches_broadcast():
    problem = instance(np.full((4, 1, 3), 5e-4), np.full((2, 3), 0.5), 5.0, [300.0, 30.0, 3.0])
    assert problem.batch_shape == (4, 2)
    sol = proven(problem)
    assert sol.kept.shape == (4, 2, 3)
    assert problem.cases().shape == (4, 2, 3)


def test_scalars_are_one_device():
    sol = rr.solve(instance(5e-4, 0.5, 5, 300))
    assert sol.kept.shape == (1,)
    assert sol.status is rr.Status.GLOBAL


# -- frame ----------------------------------------------------------------------------------------

SMALL = {"model_size": 30, "bandwidth_hz": 60.0, "value": np.linspace(0.01, 0.1, 12).reshape(3, 4)}
CURVE = np.random.default_rng(0).exponential(size=(3, 4, 30))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"integer": True},
        {"circuit_power_w": 0.05},
        V2,
        V2 | {"integer": True, "energy_budget_j": 0.1},
        {"energy_budget_j": 0.1},
        {"coding": "bitmap"},
        {"coding": "dense"} | V2,
        {"coding": "best", "integer": True},
        {"coding": "best", "energy_budget_j": 0.1} | V2,
        SMALL | {"residual": CURVE},
        SMALL | {"residual": CURVE[0], "coding": "best", "energy_budget_j": 0.3} | V2,
    ],
    ids=str,
)
def test_conformance(options):
    ran = check(MADS.random(K=4, batch=3, rng=1, **options))
    assert {"fields", "indexing", "baselines", "projection", "bound", "closed_form"} <= set(ran)
    if not options:
        assert {"gradient", "smooth", "model:cvxpy", "model:pyomo"} <= set(ran)


def test_baselines_are_worth_less_than_the_optimum():
    problem = drawn_g1()
    best = rr.solve(problem)
    values = {n: rr.solve(problem, f"baseline:{n}").objective for n in problem.points()}
    assert list(values) == [
        *("half-power", "max-power", "1-percent", "3-percent", "10-percent", "dense", "silent")
    ]
    assert max(values.values()) < best.objective
    assert values["silent"] == 0
    dense = problem.points()["dense"]()
    assert set(dense["kept"]) == {0.0, 2410.0}
    three = problem.points()["3-percent"]()
    assert set(three["kept"]) == {0.0, 2410 * 0.03}


def test_max_power_is_optimal_where_energy_is_free():
    problem = drawn_g1().replace(energy_price=0.0)
    most = problem.points()["max-power"]()
    assert most["kept"] == pytest.approx(optimum(problem)[0], rel=1e-12)


def test_scenario_round_trip():
    problem = MADS.random(K=3, batch=2, rng=0, value=[1e-3, math.inf, -1.0], integer=True)
    assert rr.io.from_dict(rr.io.to_dict(problem)) == problem


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"contact_s": -1.0}, r"contact_s\[0\] = -1 s is not in \[0, inf\) s"),
        ({"snr_per_watt": -1.0}, "snr_per_watt"),
        ({"energy_price": -1.0}, "energy_price"),
        ({"energy_price": math.nan}, "energy_price"),
        ({"value": math.nan}, "value"),
        ({"value": -math.inf}, "value"),
        ({"contact_s": math.inf}, "contact_s"),
        ({"model_size": 0}, r"model_size\[0\] = 0 is not in \[1, inf\)"),
        ({"bits_per_coordinate": 0}, "bits_per_coordinate"),
        ({"bandwidth_hz": 0}, "bandwidth_hz"),
        ({"power_max_w": -0.1}, "power_max_w"),
        ({"circuit_power_w": -0.1}, "circuit_power_w"),
        ({"header_bits": -1}, "header_bits"),
        ({"energy_budget_j": -1.0}, "energy_budget_j"),
        ({"coding": "zip"}, "coding = 'zip'; choose one of 'index'"),
        ({"integer": "yes"}, "integer"),
        (
            {"residual": np.ones((1, 7))},
            "residual has 7 entries for each device; model_size is 2410",
        ),
        ({"coding": "best", "bits_per_coordinate": 12}, "give dense_bits_per_coordinate"),
        ({"value": [1.0, 2.0], "contact_s": [1.0, 2.0, 3.0]}, "axis N"),
    ],
)
def test_bad_input_is_named(change, words):
    with pytest.raises(InvalidProblem, match=words):
        instance(5e-4, 0.5, 5.0, 300.0).replace(**change)
