"""No bound excludes the best point known, whatever a witness says: instances, lied to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import rralloc as rr
from rralloc import library, registry
from rralloc.certify import bound_at
from rralloc.fields import Constraint, variable

FOLDER = Path(__file__).parents[2] / "library"
LIES = (np.nan, np.inf, -np.inf, -1.0, 0.0, 1.7e308, 1e300, 1e-300)


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


@np.errstate(all="ignore")
@pytest.mark.filterwarnings("ignore")  # what foreign solvers say
def test_no_lie_excludes_what_any_class_reaches_at_random():
    """Two lanes of every class with duals; each lane's own best point is never excluded."""
    rng, tried = np.random.default_rng(1), 0
    for cls in registry.problem_classes().values():
        try:
            problem = cls.random(K=3, batch=2, rng=3)
            sol = rr.solve(problem, rng=0, time_limit=2)
        except (rr.errors.RRAllocError, NotImplementedError):
            continue
        honest = {n: np.array(v) for n, v in sol.duals.items() if v.dtype.kind == "f"}
        if not honest:
            continue
        tried += 1
        feasible = np.asarray(sol.status) >= rr.Status.FEASIBLE
        for _ in range(15):
            lie = {n: v.copy() for n, v in honest.items()}
            for value in lie.values():
                wrong = rng.random(value.shape) < rng.choice([0.2, 1.0])
                value[wrong] = rng.choice(LIES)
            slack = 1e-9 * np.maximum(np.abs(sol.objective), 1e-300)
            for evaluate in (problem.bound, lambda x, w, p=problem: bound_at(p, x, w)):
                bound = evaluate(sol.x, lie)
                beyond = (bound - sol.objective) * (1 if problem.sense == "min" else -1)
                assert not (feasible & (beyond > slack)).any(), (cls.__name__, lie, bound)
    assert tried >= 10


def test_prices_too_large_to_compute_with_prove_nothing():
    """One price at the end of the numbers: inf - inf inside, no false bound outside."""
    found = library.load_instance(FOLDER / "mads-race-to-sleep.json")
    lie = {"bit_price": np.array([[1.7e308]]), "energy_surcharge": np.array([[0.0]])}
    assert found.problem.bound(None, lie) >= found.claim.objective


def test_a_price_of_energy_without_a_budget_prices_nothing():
    """MADS without energy budgets: the surcharge has no constraint to pay for."""
    problem = rr.problems.MADS.random(K=3, rng=3)
    best = rr.solve(problem)
    assert not best.duals["energy_surcharge"].any()
    for surcharge in (1e-3, 1.0, 1e300):
        lie = {n: np.array(v) for n, v in best.duals.items()}
        lie["energy_surcharge"][:] = surcharge
        assert problem.bound(best.x, lie) >= best.objective * (1 - 1e-9)


class Gullible(rr.Problem):
    """max -p on [0, 1] W; takes the witness's word, where nobody should."""

    sense = "max"
    bound_method = "word of mouth"
    power_w = variable("K", unit="W", low=0.0, high=1.0)
    sizes = {"K": 1}
    level = rr.fields.data(unit="W", doc="one for each instance")

    def objective(self, x):
        return -x["power_w"].sum(-1) * np.ones(self.batch_shape)

    def bound(self, x=None, witness=None):
        if witness is None or "price" not in witness:
            return np.full(self.batch_shape, 7.0)
        price = np.asarray(witness["price"])
        return np.broadcast_to(np.where(np.isfinite(price), price, -1e9), self.batch_shape)


@pytest.mark.parametrize("lie", [np.nan, np.inf, -np.inf])
def test_the_frame_asks_no_problem_about_numbers_that_are_none(lie):
    many = Gullible(level=np.ones(3))
    x = {"power_w": np.zeros((3, 1))}
    assert bound_at(many, x, {"price": np.array([1.0, lie, 2.0])}).tolist() == [1.0, 7.0, 2.0]
    assert bound_at(many, x, {"price": np.array(lie)}).tolist() == [7.0, 7.0, 7.0]
    assert bound_at(many, x, {"price": np.full(3, 1.0)}).tolist() == [1.0, 1.0, 1.0]
    # A tree beside the numbers stays: it is judged by itself.
    tree = np.empty(3, dtype=object)
    kept = []

    class Listening(Gullible):
        def bound(self, x=None, witness=None):
            kept.append(sorted(witness or {}))
            return super().bound(x, witness)

    bound_at(Listening(level=np.ones(3)), x, {"price": np.full(3, lie), "tree": tree})
    assert kept == [["tree"]]


def poor_device():
    """MADS at its optimum but for a silent device, with prices of that device that are none."""
    problem = library.load_instance(FOLDER / "mads-acceptance.json").problem
    best = rr.solve(problem)
    x = {n: np.array(v) for n, v in best.x.items()}
    for name in ("power_w", "airtime_s", "kept"):
        if name in x:
            x[name][..., 0] = 0
    return problem, best, problem.complete(x)


@pytest.mark.parametrize("lie", [np.nan, np.inf])
def test_a_poor_point_is_not_proven_by_prices_that_are_none(lie):
    problem, best, x = poor_device()
    assert problem.objective(x) < best.objective * (1 - 1e-6)
    duals = {n: np.array(v) for n, v in best.duals.items()}
    for value in duals.values():
        value[0] = lie
    value = problem.objective(x)
    forged = dataclasses.replace(
        best, x=x, objective=value, bound=value, gap=0.0, status=rr.Status.GLOBAL, duals=duals
    )
    assert problem.bound(x, duals) >= best.objective * (1 - 1e-9)
    sure = rr.certify(problem, forged, "cheap")
    assert sure.status < rr.Status.GLOBAL
    assert sure.bound >= best.objective * (1 - 1e-9)
    assert any("bound" in w for w in library.judge(problem, forged))


@pytest.mark.parametrize("lie", [np.nan, np.inf])
def test_shares_that_are_none_do_not_bound_a_product(lie):
    problem = rr.problems.SINRProduct.random(K=4, rng=0)
    best = rr.solve(problem)
    share = np.full_like(best.duals["interference_share"], lie)
    assert problem.bound(None, {"interference_share": share}) >= best.objective * (1 - 1e-9)
    assert best.status == rr.Status.GLOBAL


class Liar(rr.Solver):
    """Proposes full power and a price that is no number."""

    name = "liar-of-this-test"

    def solve(self, problem, start, run):
        prices = np.full(problem.size, np.nan)
        run.offer({"power_w": np.ones((problem.size, 1))}, witness={"price": prices})


def test_solve_does_not_believe_a_solver_that_leaves_no_number():
    sol = rr.solve(Gullible(level=np.ones(2)), Liar())
    assert sol.bound.tolist() == [7.0, 7.0]
    assert (sol.status < rr.Status.GLOBAL).all()


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
