"""MADS when the contact's length is unknown: mads.md §2.7 V6; grid oracle; properties.

The oracle knows the statement alone: W k e^(-t/c) - Q p c (1 - e^(-t/c)) on a grid over (p, t),
then ever finer grids around its best point.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rralloc as rr
from rralloc.errors import InvalidProblem, NotOffered
from rralloc.problems import MADS, MADSUnknownContact
from rralloc.problems.mads import Case
from rralloc.testing import check

NAMES = {
    "W": "value",
    "Q": "energy_price",
    "c": "contact_mean_s",
    "g": "snr_per_watt",
    "s": "model_size",
    "b": "bits_per_coordinate",
    "B": "bandwidth_hz",
    "p_max": "power_max_w",
}
SPEC = {"s": 2410.0, "b": 44.0, "B": 4000.0, "p_max": 0.2}
USUAL = {"W": 5e-4, "Q": 0.5, "c": 5.0, "g": 300.0} | SPEC


def problem_of(data):
    return MADSUnknownContact(**{NAMES[n]: v for n, v in data.items()})


def instance(**changes):
    return problem_of(USUAL | changes)


def optimum(problem):
    """The point and the value of each device, straight from the closed form."""
    x = problem.closed_form().point()
    paid = problem.expected_energy_j(x)
    paid = np.where(paid > 0, problem.energy_price * paid, 0.0)
    return x, problem.value * x["kept"] * problem.delivery_probability(x) - paid


def bound_of(problem):
    """The bound of each device: as many instances of one device."""
    count = problem.sizes["N"]
    each = {n: np.broadcast_to(getattr(problem, n), count)[:, None] for n in NAMES.values()}
    return MADSUnknownContact(**each).bound()


def proven(problem, gap=1e-6):
    sol = rr.solve(problem)
    assert (np.asarray(sol.status) == rr.Status.GLOBAL).all()
    assert (np.asarray(sol.violation) < 1e-12).all()
    assert (np.asarray(sol.gap) < gap).all()
    return sol


# -- the oracle -----------------------------------------------------------------------------------


def expected(W, Q, c, g, s, b, B, p, t):
    """The value of sending all that fits, the statement word for word."""
    kept = np.minimum(s, t * B * np.log2(1 + p * g) / b)
    return W * kept * np.exp(-t / c) - Q * p * c * (1 - np.exp(-t / c))


def zoomed(fun, axes, points, rounds=14):
    """The best value of ``fun`` on a grid of the unit box, and of ever finer grids around it."""
    low, high, best = np.zeros(axes), np.ones(axes), 0.0
    for turn in range(rounds):
        count = points if turn == 0 else 61
        lines = [np.linspace(*ends, count) for ends in zip(low, high)]
        value = fun(*np.ix_(*lines))
        at = np.unravel_index(np.argmax(value), value.shape)
        best = max(best, float(value[at]))
        here = np.array([line[i] for line, i in zip(lines, at)])
        step = 3 * (high - low) / (count - 1)
        low, high = np.maximum(here - step, 0.0), np.minimum(here + step, 1.0)
    return best


def searched(W, Q, c, g, s, b, B, p_max):
    """The best value on a grid of 900 x 900 over p and t, and along the ridge k = s."""
    nats = math.log1p(p_max * g)

    def power(i):
        return np.minimum(np.expm1(nats * i**3) / g, p_max)

    def ridge(i):
        p = power(np.maximum(i, 1e-9))
        return expected(W, Q, c, g, s, b, B, p, s * b / (B * np.log1p(p * g) / math.log(2)))

    plane = zoomed(lambda i, j: expected(W, Q, c, g, s, b, B, power(i), 1.5 * c * j**3), 2, 900)
    return max(plane, zoomed(ridge, 1, 10_000))


def scattered(n, seed, nats=(-0.5, 9)):
    """Devices over many decades; W such that ln u, the energy limited efficiency, is in ``nats``.

    In a third of them the model is of the size that a mean contact carries.
    """
    rng = np.random.default_rng(seed)
    data = {
        "s": 10 ** rng.uniform(1, 6, n),
        "b": rng.uniform(8, 60, n),
        "B": 10 ** rng.uniform(3, 7, n),
        "p_max": 10 ** rng.uniform(-2, 1, n),
    }
    c, Q = 10 ** rng.uniform(-2, 2, n), 10 ** rng.uniform(-3, 3, n)
    g = 10 ** rng.uniform(-2, 4, n) / data["p_max"]
    fits = c * data["B"] / data["b"] * np.log2(1 + data["p_max"] * g)
    near = np.maximum(fits * 10 ** rng.uniform(-3, 0.5, n), 1.0)
    data["s"] = np.where(rng.random(n) < 0.33, near, data["s"])
    W = np.exp(rng.uniform(*nats, n)) * data["b"] * Q * np.log(2) / (data["B"] * g)
    return {"W": W, "Q": Q, "c": c, "g": g} | data


def test_random_devices_against_the_grid():
    data = scattered(200, 0)
    best = np.array([searched(*one) for one in zip(*(data[n] for n in NAMES))])
    problem = problem_of(data)
    _, value = optimum(problem)
    bound = bound_of(problem)
    # Below this a value is the difference of far larger terms, and no number has its digits.
    size = np.maximum(best, 1e-9 * data["W"] * problem.kept_max)
    assert ((value - best) / size).min() > -1e-9
    assert ((value - best) / size).max() < 1e-6
    assert ((bound - best) / size).min() > -1e-12
    assert ((bound - value) / size).min() > -1e-12
    assert ((bound - value) / size).max() < 1e-6
    assert (np.bincount(problem.cases(), minlength=4) > 10).all()


def test_the_oracle_finds_a_known_optimum():
    """Q = 0 and a model without end: all of p_max for t = c, W B log2(1 + p g) c/(b e)."""
    found = searched(1.0, 0.0, 2.0, 10.0, 1e9, 8.0, 100.0, 3.0)
    assert found == pytest.approx(2.0 * 100 / 8 * math.log2(31) / math.e, rel=1e-9)


def test_expected_value_by_simulation():
    """The objective is the mean over contacts of what arrives and what is spent."""
    problem = instance(W=[5e-4, 2e-3], c=[5.0, 1.0])
    x = {"kept": [900.0, 300.0], "power_w": [0.1, 0.2], "airtime_s": [4.0, 0.9]}
    x = {n: np.array(v) for n, v in x.items()}
    assert rr.verify(problem, x).ok()
    rng = np.random.default_rng(1)
    tau = rng.exponential(size=(400_000, 2)) * problem.contact_mean_s
    arrived = tau >= x["airtime_s"]
    spent = x["power_w"] * np.minimum(tau, x["airtime_s"])
    drawn = (problem.value * x["kept"] * arrived - problem.energy_price * spent).sum(-1)
    error = drawn.std() / math.sqrt(drawn.size)
    assert abs(problem.objective(x) - drawn.mean()) < 4 * error
    error = arrived.std(0) / math.sqrt(len(tau))
    assert (np.abs(problem.delivery_probability(x) - arrived.mean(0)) < 4 * error).all()
    error = spent.std(0) / math.sqrt(len(tau))
    assert (np.abs(problem.expected_energy_j(x) - spent.mean(0)) < 4 * error).all()


# -- what is known in advance ---------------------------------------------------------------------


def test_free_energy_and_no_limits_wait_for_the_mean():
    """Q -> 0 without caps: t/c -> 1 (the best of a e^-a), all of the power."""
    prices = np.array([1e-3, 1e-6, 1e-9, 1e-12, 0.0])
    x, value = optimum(instance(Q=prices, s=1e9))
    late = 1 - x["airtime_s"] / 5.0
    assert (late >= 0).all()
    assert late[2:].max() < 1e-6
    assert late[-1] == 0
    assert (x["power_w"][1:] == 0.2).all()
    assert value[-1] == pytest.approx(5e-4 * 5 * 4000 / 44 * math.log2(61) / math.e, rel=1e-12)


def test_free_energy_sends_a_model_that_fits_as_fast_as_it_can():
    """Q = 0: W s e^(-t/c) is best with least t: all of p_max, also where less would do."""
    x, value = optimum(instance(Q=0.0, c=50.0))
    time = 2410 * 44 / (4000 * math.log2(61))
    assert x["kept"] == [2410]
    assert x["power_w"] == [0.2]
    assert x["airtime_s"] == pytest.approx([time], rel=1e-12)
    assert value == pytest.approx([5e-4 * 2410 * math.exp(-time / 50)], rel=1e-12)


def test_at_p_max_the_duration_has_a_formula():
    """t = c [1 - Q p b/(W R(p))]^+ of mads.md, where the power limits."""
    problem = instance(W=5e-3, Q=0.01, s=1e9)
    x, _ = optimum(problem)
    rate = 4000 * math.log2(1 + 0.2 * 300)
    assert x["power_w"] == [0.2]
    assert x["airtime_s"] == pytest.approx([5 * (1 - 0.01 * 0.2 * 44 / (5e-3 * rate))], rel=1e-12)


def test_silent_unless_the_first_bit_pays():
    """u = W B g/(b Q ln 2) <= 1 is silence, as for a known contact; the limit p, t -> 0 tells."""
    threshold = 44 * 0.5 * math.log(2) / (4000 * 300)
    problem = instance(W=threshold * np.array([0.5, 1 - 1e-12, 1 + 1e-3, 1.1]))
    x, value = optimum(problem)
    assert (x["kept"] > 0).tolist() == [False, False, True, True]
    assert (value[2:] > 0).all()
    # Second order in u - 1 = e: a = z = 2 e/3, worth a z e/3 of K.
    e, scale = 1e-3, threshold * 5 * 4000 / (44 * math.log(2))
    assert x["airtime_s"][2] == pytest.approx(5 * 2 * e / 3, rel=2e-3)
    assert value[2] == pytest.approx(scale * 4 * e**3 / 27, rel=5e-3)


def test_a_long_contact_is_a_known_one():
    """c -> inf: the model is surely sent, at the Shannon minimum of energy."""
    least = 2410 * 44 * math.log(2) / (4000 * 300)
    lost = []
    for c in (1e6, 1e12, 1e100, 1e300):
        problem = instance(c=c)
        x = proven(problem).x
        _, value = optimum(problem)
        assert x["kept"] == [2410]
        assert problem.cases() == Case.DENSE
        lost.append(1 - value[0] / (5e-4 * 2410 - 0.5 * least))
    assert -1e-12 < lost[0] < 0.02
    assert abs(lost[1]) < 1e-4
    assert max(map(abs, lost[2:])) < 1e-12


def test_a_short_upload_costs_what_mads_pays():
    """One plan, both problems: with c much longer than t, chance and expected energy are MADS's."""
    x = {n: np.array([v]) for n, v in {"kept": 90.0, "power_w": 0.1, "airtime_s": 0.3}.items()}
    known = MADS(
        value=5e-4,
        energy_price=0.5,
        contact_s=0.3,
        snr_per_watt=300.0,
        model_size=2410,
        bits_per_coordinate=44,
        bandwidth_hz=4000.0,
        power_max_w=0.2,
    )
    assert instance(c=1e15).objective(x) == pytest.approx(known.objective(x), rel=1e-13)


def test_knowing_the_contact_is_worth_something():
    """E over tau of the best for a known tau >= the best plan without knowing it (quadrature)."""
    data = scattered(60, 3)
    _, value = optimum(problem_of(data))
    node, weight = np.polynomial.legendre.leggauss(400)
    share = (node + 1) / 2  # tau = -c ln(share): share is uniform
    tau = -data["c"] * np.log(share)[:, None]
    fields = {NAMES[n]: v for n, v in data.items() if n != "c"}
    known = MADS(contact_s=tau, **fields)
    x = known.closed_form().point()
    energy = np.where(x["kept"] > 0, known.energy_price * known.energy_j(x), 0.0)
    mean = (weight[:, None] / 2 * (known.value * x["kept"] - energy)).sum(0)
    assert (mean >= value * (1 - 1e-9)).all()
    assert (mean > 1.2 * value)[value > 0].mean() > 0.5


# -- degenerate rows ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"c": 0.0},
        {"g": 0.0},
        {"W": 0.0},
        {"W": -3.0},
        {"W": 0.0, "Q": 0.0},
        {"W": -1.0, "Q": 0.0},
        {"p_max": 0.0},
        {"p_max": 0.0, "Q": 0.0, "g": 0.0},
        {"Q": math.inf},
        {"Q": 1e300},
        {"c": 0.0, "Q": 0.0},
        {"c": 0.0, "Q": math.inf},
    ],
    ids=str,
)
def test_silent_rows(change):
    problem = instance(**change)
    sol = proven(problem)
    assert [sol.kept[0], sol.power_w[0], sol.airtime_s[0], sol.objective] == [0, 0, 0, 0]
    assert sol.bound == 0
    assert problem.cases() == Case.SILENT


def test_an_infinite_price_next_to_others():
    problem = instance(Q=[0.5, math.inf, 0.0])
    sol = proven(problem)
    assert (sol.kept > 0).tolist() == [True, False, True]
    assert (problem.cases() == Case.SILENT).tolist() == [False, True, False]
    x = {n: np.full(3, v) for n, v in {"kept": 1.0, "power_w": 0.1, "airtime_s": 1.0}.items()}
    assert problem.objective(x) == -math.inf


@pytest.mark.parametrize("more", [{}, {"B": 1e12}, {"Q": 0.0}, {"p_max": 1e300, "g": 1e200}])
@pytest.mark.parametrize("c", [1e-300, 1e-12, 1e300])
def test_contacts_of_any_length(c, more):
    problem = instance(c=c, **more)
    sol = proven(problem)
    assert sol.kept[0] > 0
    assert all(np.isfinite(v).all() for v in sol.x.values())
    assert (sol.kept[0] == 2410) == (c == 1e300)


def test_no_contact_delivers_nothing():
    problem = instance(c=[0.0, 5.0])
    x = {n: np.full(2, v) for n, v in {"kept": 1.0, "power_w": 0.1, "airtime_s": 1.0}.items()}
    assert problem.delivery_probability(x) == pytest.approx([0, math.exp(-0.2)])
    assert problem.expected_energy_j(x)[0] == 0


def test_proven_over_many_decades():
    rng = np.random.default_rng(11)

    def decades(low, high):
        return 10 ** rng.uniform(low, high, (2000, 1))

    c, p_max, Q, B, g = (decades(*e) for e in ((-9, 9), (-12, 6), (-20, 20), (-3, 12), (-18, 6)))
    bits, s = rng.uniform(40, 70, (2000, 1)), np.floor(decades(0, 8))
    u = np.exp(rng.uniform(0.01, 30, (2000, 1)))
    data = {"W": u * bits * Q * np.log(2) / (B * g), "Q": Q, "c": c, "g": g}
    problem = problem_of(data | {"s": s, "b": bits, "B": B, "p_max": p_max})
    sol = proven(problem)
    assert (sol.kept > 0).all()
    assert (np.bincount(problem.cases().ravel(), minlength=4)[1:] > 20).all()
    for name in problem.points():
        rule = rr.solve(problem, f"baseline:{name}")
        assert (rule.violation < 1e-11).all()
        assert (rule.objective <= sol.objective * (1 + 1e-9)).all()


def test_any_witness_proves_something():
    """A bound from a wrong airtime is still a bound."""
    problem = problem_of({n: v[:, None] for n, v in scattered(300, 5).items()})
    best = rr.solve(problem).objective
    for share in (0.0, 1e-300, 1e-9, 0.1, 0.5, 1.0, 7.0):
        bound = problem.bound(None, {"airtime_share": np.full((300, 1), share)})
        assert (bound >= best * (1 - 1e-12)).all()


# -- properties -----------------------------------------------------------------------------------


seeds = st.integers(0, 10**6)


@settings(max_examples=30)
@given(seeds, st.integers(-30, 30), st.integers(-30, 30))
def test_units_do_not_matter(seed, joule, second):
    """Joules and seconds in other units, by powers of two."""
    here = problem_of(scattered(8, seed))
    j, t = 2.0**joule, 2.0**second
    there = here.replace(
        energy_price=here.energy_price / j,
        contact_mean_s=here.contact_mean_s * t,
        bandwidth_hz=here.bandwidth_hz / t,
        power_max_w=here.power_max_w * j / t,
        snr_per_watt=here.snr_per_watt * t / j,
    )
    (x, value), (y, other) = optimum(here), optimum(there)
    assert y["kept"].tolist() == x["kept"].tolist()
    assert (y["power_w"] * t / j).tolist() == x["power_w"].tolist()
    assert (y["airtime_s"] / t).tolist() == x["airtime_s"].tolist()
    assert other == pytest.approx(value, rel=1e-14)


@settings(max_examples=10)
@given(seeds)
def test_milliseconds(seed):
    here = problem_of(scattered(20, seed))
    there = here.replace(
        contact_mean_s=here.contact_mean_s * 1e3,
        bandwidth_hz=here.bandwidth_hz / 1e3,
        power_max_w=here.power_max_w / 1e3,
        snr_per_watt=here.snr_per_watt * 1e3,
    )
    assert rr.solve(there).objective == pytest.approx(rr.solve(here).objective, rel=1e-12)


@settings(max_examples=10)
@given(seeds)
def test_batch_equals_loop_and_order_does_not_matter(seed):
    data = {n: v.reshape(2, 3, 4) for n, v in scattered(24, seed).items()}
    problem = problem_of(data)
    sol = rr.solve(problem)
    for i in np.ndindex(2, 3):
        one = rr.solve(problem[i])
        assert one.kept.tolist() == sol.kept[i].tolist()
        assert one.objective == pytest.approx(sol.objective[i], rel=1e-14)
        assert one.bound == pytest.approx(sol.bound[i], rel=1e-14)
    order = np.random.default_rng(0).permutation(4)
    assert (rr.solve(problem.select(N=order)).kept == sol.kept[..., order]).all()


SWEEPS = {"c": +1, "g": +1, "W": +1, "Q": -1, "b": -1, "p_max": +1, "s": +1}


@settings(max_examples=15)
@given(seeds, st.sampled_from(sorted(SWEEPS)))
def test_value_is_monotone(seed, name):
    data = {n: v[:, None] for n, v in scattered(10, seed).items()}
    data[name] = data[name] * np.geomspace(1e-2, 1e2, 60)
    data["s"] = np.maximum(data["s"], 1.0)
    _, value = optimum(problem_of(data))
    rise = SWEEPS[name] * np.diff(value, axis=-1)
    larger = np.maximum(value[..., 1:], value[..., :-1])
    gross = (data["W"] * np.minimum(problem_of(data).kept_max, data["s"])).max(-1, keepdims=True)
    assert (rise >= -1e-11 * larger - 1e-15 * gross).all()


# -- frame ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{}, {"energy_price": 0.0}, {"model_size": 50}], ids=str)
def test_conformance(change):
    ran = check(MADSUnknownContact.random(K=4, batch=3, rng=1, **change))
    expected_ = {"fields", "indexing", "baselines", "projection", "gradient", "bound"}
    assert expected_ | {"closed_form", "smooth"} <= set(ran)


def test_fields_of_different_batches_broadcast():
    problem = instance(W=np.full((4, 1, 3), 5e-4), Q=np.full((2, 3), 0.5), g=[300.0, 30.0, 3.0])
    assert problem.batch_shape == (4, 2)
    assert proven(problem).kept.shape == (4, 2, 3)
    assert problem.cases().shape == (4, 2, 3)


def test_baselines_are_worth_less_than_the_optimum():
    problem = MADSUnknownContact.random(K=30, rng=0)
    best = rr.solve(problem)
    values = {n: rr.solve(problem, f"baseline:{n}").objective for n in problem.points()}
    assert list(values) == ["half-mean-contact", "mean-contact", "max-power", "silent"]
    assert max(values.values()) < best.objective
    assert values["silent"] == 0


def test_mean_contact_is_what_mads_would_do():
    problem = MADSUnknownContact.random(K=30, rng=0)
    fields = {n: getattr(problem, n) for n in NAMES.values() if n != "contact_mean_s"}
    for name, share in (("mean-contact", 1.0), ("half-mean-contact", 0.5)):
        known = MADS(contact_s=share * problem.contact_mean_s, **fields)
        wanted, found = known.closed_form().point(), problem.points()[name]()
        for field in wanted:
            assert found[field] == pytest.approx(wanted[field], rel=1e-12)


@pytest.mark.parametrize("solver", ["scipy:slsqp", "scipy:trust-constr"])
def test_solvers_of_others_agree(solver):
    problem = MADSUnknownContact.random(K=3, rng=2)
    sol, best = rr.solve(problem, solver), rr.solve(problem)
    assert sol.objective == pytest.approx(best.objective, rel=1e-5)
    assert sol.status == rr.Status.GLOBAL, sol


def test_an_infinite_price_has_no_smooth_form():
    refused = rr.solvers_for(instance(Q=math.inf)).refused
    assert "infinite" in refused["scipy:slsqp"]
    with pytest.raises(NotOffered):
        instance(Q=math.inf).smooth()


def test_scenario_round_trip():
    problem = MADSUnknownContact.random(K=3, batch=2, rng=0, energy_price=[1e-3, math.inf, 0.0])
    assert rr.io.from_dict(rr.io.to_dict(problem)) == problem


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"c": -1.0}, r"contact_mean_s\[0\] = -1 s is not in \[0, inf\) s"),
        ({"c": math.inf}, "contact_mean_s"),
        ({"g": -1.0}, "snr_per_watt"),
        ({"Q": -1.0}, "energy_price"),
        ({"Q": math.nan}, "energy_price"),
        ({"W": math.nan}, "value"),
        ({"W": math.inf}, "value"),
        ({"W": -math.inf}, "value"),
        ({"s": 0}, r"model_size\[0\] = 0 is not in \[1, inf\)"),
        ({"b": 0}, "bits_per_coordinate"),
        ({"B": 0}, "bandwidth_hz"),
        ({"p_max": -0.1}, "power_max_w"),
        ({"W": [1.0, 2.0], "c": [1.0, 2.0, 3.0]}, "axis N"),
    ],
)
def test_bad_input_is_named(change, words):
    with pytest.raises(InvalidProblem, match=words):
        instance(**change)
