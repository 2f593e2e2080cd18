"""No bound excludes the best point known, whatever a witness says: instances, lied to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rralloc as rr
from rralloc import library
from rralloc.fields import Constraint, variable

FOLDER = Path(__file__).parents[2] / "library"
LIES = (np.nan, np.inf, -np.inf, -1.0, 0.0, 1e300, 1e-300)


def instances():
    """One small instance of each class whose best point comes with dual numbers."""
    seen = {}
    for found in library.load(FOLDER):
        claim, kind = found.claim, type(found.problem).__name__
        if claim is None or kind in seen or found.size > 6:
            continue
        duals = rr.solve(found.problem, rng=0, time_limit=5).duals
        numbers = {n: v for n, v in duals.items() if np.asarray(v).dtype.kind == "f"}
        if numbers:
            seen[kind] = found, numbers
    return list(seen.values())


@np.errstate(all="ignore")
def test_no_lie_about_prices_excludes_the_best_point():
    rng, tried = np.random.default_rng(0), set()
    for found, numbers in instances():
        problem, best = found.problem, found.claim.objective
        for _ in range(60):
            lie = {n: np.array(v, dtype=float) for n, v in numbers.items()}
            for value in lie.values():
                wrong = rng.random(value.shape) < rng.choice([0.2, 1.0])
                value[wrong] = rng.choice(LIES)
            bound = np.asarray(problem.bound(found.claim.x, lie))
            slack = 1e-9 * max(abs(best), 1e-300)
            beyond = bound - best if problem.sense == "min" else best - bound
            assert not (beyond > slack).any(), (found.name, lie, bound, best)
        tried.add(type(problem).__name__)
    assert {"MADS", "SINRProduct", "WaterFilling"} <= tried
    assert len(tried) >= 8


@pytest.mark.parametrize("want", [-3.0, 3.0])
def test_a_scale_with_a_sign_is_a_size(want):
    class Sum(rr.Problem):
        power_w = variable("K", unit="W", low=-10.0, high=10.0)
        sizes = {"K": 2}

        def objective(self, x):
            return x["power_w"].sum(-1)

        def constraints(self, x):
            off = x["power_w"].sum(-1) - want
            return (Constraint("sum", off, "W", want, equality=True),)

    assert not rr.verify(Sum(), {"power_w": [0.0, 0.0]}).ok()
    assert rr.verify(Sum(), {"power_w": [want / 2, want / 2]}).ok()
