"""The learning bound: sets as prefixes, solvers against brute force, the proof, edges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from oracles import ota as oracle

import rralloc as rr
from rralloc.forms import Surrogate
from rralloc.numerics.beams import normal
from rralloc.problems import OTABound
from rralloc.solution import Stopped
from rralloc.testing import check


def value_of(problem, members, m):
    """F written out for one instance, one set, one beam."""
    w, m = np.broadcast_to(problem.data_size, problem.sizes["K"]), m / np.linalg.norm(m)
    noise = float(problem.noise_power / problem.transmit_power)
    w = w / w.mean()
    worst = max(w[k] ** 2 / abs(np.vdot(m, problem.channel[:, k])) ** 2 for k in members)
    inside = sum(w[k] for k in members)
    return noise * worst / inside**2 + float(problem.constant) * (1 - inside / w.sum()) ** 2


def every_set(size):
    return [s for n in range(1, size + 1) for s in itertools.combinations(range(size), n)]


def drawn(seed=0, K=5, N=3, **more):
    return OTABound.random(K=K, N=N, rng=seed, **more)


@pytest.mark.parametrize("seed", range(5))
def test_the_set_is_the_best_of_all_sets_for_the_beam(seed):
    """Acceptance (I)."""
    problem = drawn(seed, K=8, constant=[4.0, 1.0, 0.1, 30.0, 0.0][seed])
    m = normal(np.random.default_rng(seed), (3,))
    values = {s: value_of(problem, s, m) for s in every_set(8)}
    x = problem.complete({"beamformer": m})
    assert problem.objective(x) == pytest.approx(min(values.values()), rel=1e-12)
    chosen = tuple(np.flatnonzero(x["selected"]))
    assert values[chosen] == pytest.approx(min(values.values()), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_solver_finds_the_best_of_all_sets_with_their_best_beams(seed):
    problem = drawn(seed, K=5, noise_power=3.0)
    w = np.asarray(problem.data_size) / np.mean(problem.data_size)
    best = np.inf
    for members in every_set(5):
        gain = oracle.least_gain(problem.channel[:, list(members)] / w[list(members)], starts=6)
        inside = w[list(members)].sum()
        best = min(best, 3.0 / gain / inside**2 + 4 * (1 - inside / w.sum()) ** 2)
    sol = rr.solve(problem, rng=0)
    assert sol.solver == "sweep"
    assert sol.objective == pytest.approx(best, rel=2e-3)
    assert sol.objective >= best * (1 - 1e-6)
    assert sol.bound <= best * (1 + 1e-9)
    assert sol.bound > 0


def test_the_sweep_is_better_than_its_rules_and_ascent_only_helps():
    problem = OTABound.random(K=12, N=4, batch=8, rng=3)
    plain = rr.solve(problem, "sweep", refine=None, rng=0)
    full = rr.solve(problem, "sweep", rng=0)
    assert (full.objective <= plain.objective).all()
    for rule in ("all-devices", "strongest"):
        assert (full.objective <= rr.solve(problem, f"baseline:{rule}").objective + 1e-12).all()
    assert (full.bound <= full.objective).all()


def test_the_surrogate_is_tight_and_above():
    problem, rng = drawn(2, K=7), np.random.default_rng(1)
    x = problem.sample(rng)
    inner = problem.view(Surrogate).at(x)
    assert inner.objective(x) == pytest.approx(problem.objective(x), rel=1e-12)
    for _ in range(50):
        y = problem.sample(rng)
        assert inner.objective(y) >= problem.objective(y) * (1 - 1e-12)
    best = rr.solve(inner)
    for _ in range(200):  # nothing near it is better
        near = {"beamformer": best.x["beamformer"] + 0.05 * normal(rng, (3,))}
        assert inner.objective(near) >= best.objective * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_no_beam_is_below_the_bound(seed):
    problem, rng = OTABound.random(K=6, N=2, batch=5, rng=seed), np.random.default_rng(seed)
    bound = problem.bound()
    for _ in range(300):
        assert (problem.objective(problem.sample(rng)) >= bound).all()


def test_more_noise_costs_more_and_everybody_is_admitted_without():
    problem = drawn(5, K=6)
    costs = [rr.solve(problem.replace(noise_power=s), rng=0) for s in (0.0, 0.1, 1.0, 10.0)]
    values = [c.objective for c in costs]
    assert values == sorted(values)
    assert values[0] == 0
    assert costs[0].x["selected"].all()


@pytest.mark.parametrize("size", [1e-100, 1e-8, 1e8, 1e100])
def test_units_do_not_matter(size):
    problem = drawn(6, K=6)
    there = problem.replace(channel=problem.channel * size, transmit_power=size**-2.0)
    here = rr.solve(problem, rng=0)
    found = rr.solve(there, rng=0)
    assert found.objective == pytest.approx(here.objective, rel=1e-6)
    assert found.bound == pytest.approx(here.bound, rel=1e-6)


def test_conformance():
    check(OTABound.random(K=4, N=3, batch=2, rng=1))


def test_silent_devices_stay_out_and_a_silent_cell_is_told():
    channel = normal(np.random.default_rng(0), (3, 4))
    channel[:, 2] = 0
    sol = rr.solve(OTABound(channel, noise_power=0.1), rng=0)
    assert not sol.x["selected"][2]
    assert np.isfinite(sol.objective)
    silent = rr.solve(OTABound(np.zeros((3, 4))), rng=0)
    assert not np.isnan(silent.objective)
    assert silent.status < rr.Status.LOCAL


def test_no_noise_and_silent_devices():
    channel = normal(np.random.default_rng(0), (3, 4))
    channel[:, 2] = 0
    sol = rr.solve(OTABound(channel, noise_power=0.0), rng=0)
    assert sol.objective == 0
    assert rr.solve(OTABound(np.zeros((3, 4)), noise_power=0.0), rng=0).objective == 0


@pytest.mark.parametrize("seed", range(12))
def test_one_device_is_proven(seed):
    sol = rr.solve(OTABound.random(K=1, N=4, rng=seed), rng=0)
    assert sol.status == rr.Status.GLOBAL


def test_data_sizes_over_many_decades_and_deadlines():
    sizes = [1e300, 1.0, 1.0, 1e-300]
    sol = rr.solve(OTABound(normal(np.random.default_rng(0), (3, 4)), data_size=sizes), rng=0)
    assert np.isfinite(sol.objective)
    late = rr.solve(OTABound.random(K=20, N=6, batch=20, rng=0), rng=0, time_limit=0.0)
    assert (late.stopped == Stopped.TIME).all()
    assert np.isfinite(late.objective).all()  # the rules of thumb are kept
