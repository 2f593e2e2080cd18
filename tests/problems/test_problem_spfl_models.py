"""SPFL in other people's solvers: smooth coordinates, exported models, and what they find."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
import pytest
from oracles.spfl import make

import rralloc as rr
from rralloc.errors import NotOffered
from rralloc.forms import Model, Smooth
from rralloc.numerics.logexp import log_expm1_over_x
from rralloc.problems import SPFL
from rralloc.problems._spfl_models import NODES
from rralloc.problems._spfl_pyomo import SCALE
from rralloc.problems._spfl_smooth import LEAST, held
from rralloc.problems.spfl_objectives import OBJECTIVES, PacketObjective
from rralloc.solution import Stopped
from rralloc.solvers.cvxpy_model import require_dpp

FADINGS = ("common", "independent")
SPLITS = {"fixed": {}, "half": {"sign_band_share": 0.5}, "free": {"sign_band_share": "free"}}
TABLE = [(11, 5, 3), (12, 20, 3), (15, 5, 6), (12, 20, 6), (11, 5, 12)]
HOPELESS = 1e30
"""In units of sum w G: a value that nobody would transmit with, on which nobody need agree."""
ENGINES = (
    *("scipy:slsqp", "scipy:trust-constr", "cvxpy:CLARABEL", "cvxpy:ECOS"),
    *("pyomo:pounce", "pyomo:casadi"),
)


HANDICAP = 20.0
"""A local solver owes no optimum; more than this would be a fault of the model."""


def instance(seed=11, K=5, load=3, **settings):
    """The generator of spec section 7 as a problem."""
    f = make(seed, K, load)
    fields = {
        "snr": f["gamma"],
        "weight": f["w"],
        "gradient_energy": f["G"],
        "compensation_error": f["E"],
        "quantization_error": f["D"],
        "compensation_energy": f["H"],
        "sign_rate": f["r_s"],
        "modulus_rate": f["r_m"],
    }
    return SPFL(**fields | settings)


def interior(problem, rng):
    """A random point off all bounds; under common fading one with m > s."""
    size = problem.sizes["K"]
    x = {"bandwidth_share": rng.uniform(0.7, 1.0, size) / size}
    x["sign_power_share"] = rng.uniform(0.2, 0.8, size)
    if problem.free_split:
        x["sign_band_share"] = rng.uniform(0.2, 0.8, size)
    if problem.common:
        s, m = problem.exponents(x)
        low = x["sign_power_share"] / (x["sign_power_share"] + (1 - x["sign_power_share"]) * m / s)
        x["sign_power_share"] = np.maximum(low, x["sign_power_share"]) * 0.9 + 0.1
    return x


@lru_cache
def reference(row, objective, fading, split):
    """The problem and the best that rralloc's own solver finds."""
    problem = instance(*row, objective=objective, fading=fading, **SPLITS[split])
    solver = "newton" if problem.is_convex else "dual"
    with np.errstate(invalid="ignore"):  # inf - inf where nothing finite was found
        return problem, float(rr.solve(problem, solver, certify="none").objective)


# -- answers --------------------------------------------------------------------------------------


def sensible(row, objective, fading, split, engine):
    """cvxpy where the problem is convex, trust-constr where it is quick, J where it is a float."""
    if row[2] == 12 and (objective, fading) == ("unbiased", "independent"):
        return False  # the optimum is about 1e330
    if engine.startswith("cvxpy"):
        return objective == "unbiased"
    return engine != "scipy:trust-constr" or (row[1] == 5 and split == "fixed")


RUNS = [
    run for run in product(TABLE, OBJECTIVES, FADINGS, ("fixed", "free"), ENGINES) if sensible(*run)
]


@pytest.mark.parametrize(("row", "objective", "fading", "split", "engine"), RUNS, ids=str)
def test_engines(row, objective, fading, split, engine):
    problem, best = reference(row, objective, fading, split)
    found = rr.solve(problem, engine, certify="none")
    assert all(np.isfinite(v).all() for v in found.x.values()), found.message
    assert found.violation <= 1e-9
    if not best < HOPELESS:  # 1/q at load 12: only that nothing breaks
        return
    assert found.stopped != Stopped.ERROR, found.message
    assert np.isfinite(found.objective), found.message
    assert found.objective >= best * (1 - 1e-6), "better than rralloc's own solver"
    if problem.is_convex:
        assert found.objective <= best * (1 + 1e-6), found.message
    else:
        assert found.objective <= HANDICAP * best, found.message


@pytest.mark.parametrize("fading", FADINGS)
@pytest.mark.parametrize("packets", ["single", "one-bit"])
@pytest.mark.parametrize("load", [3, 6])
def test_restricted_packets(packets, fading, load):
    if packets == "single" and fading == "independent":
        pytest.skip("one packet has one fade")
    problem = instance(load=load, packets=packets, fading=fading, objective="plain")
    form = problem.view(Smooth)
    assert form.bounds[0].shape == (5,)
    found = rr.solve(problem, "scipy:slsqp", certify="none")
    best = rr.solve(problem, "dual", certify="none").objective
    assert found.violation <= 1e-9
    assert found.objective >= best * (1 - 1e-6)
    assert found.objective < problem.objective(problem.initial())


def test_a_start_is_used():
    problem = instance(objective="plain", fading="independent")
    best = rr.solve(problem, "dual", certify="none")
    for engine in ("scipy:slsqp", "pyomo:pounce"):
        found = rr.solve(problem, engine, start=best, certify="none")
        assert found.objective == pytest.approx(best.objective, rel=1e-6)


@pytest.mark.parametrize("engine", ["scipy:slsqp", "pyomo:pounce", "pyomo:casadi"])
@pytest.mark.parametrize("objective", ["plain", "optimal_scaling"])
def test_degenerate_data(engine, objective):
    """Unheard devices, silent ones, no moduli, and everybody far out of reach."""
    base = instance(objective=objective)
    changes = [
        {"snr": base.snr * [0, 1, 1, 1, 1]},
        {"gradient_energy": base.gradient_energy * [0, 1, 1, 1, 1]},
        {"modulus_rate": 0.0},
        {"snr": base.snr * 1e-9},
        {"compensation_error": base.gradient_energy, "compensation_energy": 0.0},
    ]
    for change in changes:
        problem = base.replace(**change)
        found = rr.solve(problem, engine, certify="none")
        assert found.stopped != Stopped.ERROR, (change, found.message)
        assert found.violation <= 1e-9
        assert np.isfinite(found.objective)


# -- the smooth form ------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("fading", FADINGS)
@pytest.mark.parametrize("load", [3, 12])
def test_coordinates_come_back(split, fading, load):
    rng = np.random.default_rng(0)
    for objective in OBJECTIVES:
        problem = instance(load=load, objective=objective, fading=fading, **SPLITS[split])
        form = problem.view(Smooth)
        x = interior(problem, rng)
        z = form.flatten(x)
        back = form.unflatten(z)
        for name, value in x.items():
            np.testing.assert_allclose(back[name], value, rtol=1e-11)
        unit = (problem.weight * problem.gradient_energy).sum()
        true = np.arcsinh(problem.objective(x) / unit)
        if load == 3:
            assert form.value_grad(z)[0] == pytest.approx(true, rel=1e-9)


@pytest.mark.parametrize("packets", ["sign-modulus", "single", "one-bit"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("fading", FADINGS)
def test_derivatives(packets, objective, fading):
    if (packets, fading) == ("single", "independent"):
        pytest.skip("one packet has one fade")
    kind = {"packets": packets}
    for settings in (kind, SPLITS["free"], SPLITS["half"]):
        for load in (3, 40):
            problem = instance(load=load, objective=objective, fading=fading, **settings)
            form = problem.view(Smooth)
            rng = np.random.default_rng(1)
            z = form.flatten(problem.initial()) + rng.uniform(-1, 1, form.bounds[0].size) - 0.5
            value, slopes = form.value_grad(z)
            assert np.isfinite(value)
            for step, slope in zip(1e-5 * np.eye(z.size), slopes):
                up, down = form.value_grad(z + step)[0], form.value_grad(z - step)[0]
                size = np.abs(slopes).max() + 1e-4 * abs(value)
                assert abs((up - down) / 2e-5 - slope) <= 1e-5 * size


@pytest.mark.parametrize("fading", FADINGS)
def test_corners_of_the_box(fading):
    """Off, signs only and, under common fading, the single packet are in the box to rounding."""
    for split in SPLITS:
        for objective in ("plain", "optimal_scaling"):
            problem = instance(fading=fading, objective=objective, **SPLITS[split])
            form, unit = problem.view(Smooth), (problem.weight * problem.gradient_energy).sum()
            x = dict(problem.initial())
            corners = {"off": {"bandwidth_share": x["bandwidth_share"] * [0, 1, 1, 1, 1]}}
            corners["signs"] = {"sign_power_share": np.ones(5)}
            if split == "free":
                corners["signs"]["sign_band_share"] = np.ones(5)
            if fading == "common":
                corners["single"] = {}
            for change in corners.values():
                z = np.clip(form.flatten(x | change), *form.bounds)
                true = problem.objective(x | change) / unit
                assert np.sinh(form.value_grad(z)[0]) == pytest.approx(true, rel=1e-9)
                there = problem.objective(form.unflatten(z)) / unit
                assert there == pytest.approx(true, rel=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("fading", FADINGS)
def test_nothing_overflows(objective, fading):
    """Value and gradient are finite in the whole box, whatever the load."""
    rng = np.random.default_rng(2)
    for load in (1, 12, 200):
        for settings in SPLITS.values():
            problem = instance(load=load, objective=objective, fading=fading, **settings)
            form = problem.view(Smooth)
            low, high = form.bounds
            for z in (low, high, *(low + (high - low) * rng.uniform(size=(20, low.size)))):
                value, slopes = form.value_grad(z)
                assert np.isfinite(value)
                assert np.isfinite(slopes).all()


def test_held_back_exponential():
    s = np.geomspace(1e-8, 1e17, 2000)
    value, slope = held(np.log(s), 250.0)
    np.testing.assert_allclose(value[s < 50], s[s < 50], rtol=1e-12, atol=1e-14)
    assert (np.diff(value) > 0).all()
    assert (slope > 0).all()
    assert value.max() < 300


def test_points_outside_come_inside():
    problem = instance()
    form = problem.view(Smooth)
    x = problem.initial() | {"bandwidth_share": np.zeros(5)}
    assert form.flatten(x)[:5] == pytest.approx(np.log(LEAST))
    below = x | {"bandwidth_share": np.full(5, 0.2), "sign_power_share": np.full(5, 0.01)}
    z = form.flatten(below)
    assert (z[5:] > form.bounds[1][5:]).all()  # m < s: outside the bounds, and it comes back
    np.testing.assert_allclose(form.unflatten(z)["sign_power_share"], 0.01)


def test_refusals():
    with pytest.raises(NotOffered, match="discrete"):
        instance(packets="choice").view(Smooth)
    with pytest.raises(NotOffered, match="no exported model"):
        instance(packets="one-bit").view(Model)

    class Own(PacketObjective):
        name = "own"

        def value(self, s, m, problem):
            return problem.weight * (1 - np.exp(-s)) + 0 * m

    problem = instance(objective=Own())
    with pytest.raises(NotOffered, match=r"'own'.*scipy"):
        problem.view(Model)
    assert rr.solve(problem, "scipy:slsqp", certify="none").violation <= 1e-9
    with pytest.raises(NotOffered, match="'plain' is not convex in band and power"):
        rr.solve(instance(objective="plain"), "cvxpy")
    bad = instance(objective="unbiased", compensation_error=10.0)
    with pytest.raises(NotOffered, match="some E > G"):
        rr.solve(bad, "cvxpy")
    assert bad.view(Model).backends == ("pyomo",)


# -- the models -----------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("fading", FADINGS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_pyomo_has_the_problems_numbers(objective, fading, split):
    import pyomo.environ as pyo

    problem = instance(objective=objective, fading=fading, **SPLITS[split])
    handle = problem.view(Model).build("pyomo")
    handle.assign(problem)
    x = interior(problem, np.random.default_rng(3))
    handle.start(problem, x)
    for name, value in x.items():
        part = getattr(handle.model, name)
        np.testing.assert_allclose([pyo.value(part[k]) for k in range(5)], value, rtol=1e-9)
        np.testing.assert_allclose(handle.point(problem)[name], value, rtol=1e-9)
    true = problem.objective(x) / (problem.weight * problem.gradient_energy).sum()
    told = pyo.value(handle.model.last) / SCALE
    if objective in ("sign_unbiased", "unbiased"):
        assert pyo.value(handle.model.size.body) == pytest.approx(1, rel=1e-9)
        told = np.expm1(told)
    assert told == pytest.approx(true, rel=1e-9)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("fading", FADINGS)
def test_cvxpy_is_dpp_and_convex_by_its_rules(fading, split):
    problem = instance(objective="unbiased", fading=fading, **SPLITS[split])
    form = problem.view(Model)
    assert form.backends == ("cvxpy", "pyomo")
    require_dpp(form.build("cvxpy"))
    convex = rr.solve(problem, "cvxpy:CLARABEL", certify="none").objective
    assert convex == pytest.approx(rr.solve(problem, "newton", certify="none").objective, rel=1e-6)


def test_quadrature():
    at, weight = np.polynomial.legendre.leggauss(NODES)
    for u, limit in ((1.0, 1e-14), (20.0, 1e-13), (30.0, 1e-11), (40.0, 1e-9)):
        mean = np.log(np.sum(weight / 2 * np.exp(u * (at - 1) / 2))) + u
        assert abs(mean - log_expm1_over_x(np.array(u))) <= limit


def test_one_model_for_each_structure():
    a, b = (instance(seed, objective="plain").view(Model).key for seed in (11, 12))
    assert a == b
    others = [
        instance(objective="unbiased"),
        instance(fading="independent", objective="plain"),
        instance(objective="plain", **SPLITS["free"]),
        instance(K=6, objective="plain"),
    ]
    assert len({a, *(p.view(Model).key for p in others)}) == 5
