"""More than 1,000 corrupted claims about the library's best points: the judge rejects every one.

A corruption counts if it makes the claim false: a point that is infeasible or worth something
else, a number that is not what the point gives, a status or a bound that nothing proves. Every
claim as it stands in the library, and every claim that says less than is true, is accepted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import rralloc as rr
from rralloc import registry
from rralloc.library import Claim, Instance, judge, load, proven_bound
from rralloc.solution import gap_between
from rralloc.verify import violation

FOLDER = Path(__file__).parents[2] / "library"
INSTANCES = load(FOLDER)
HELD = [i for i in INSTANCES if i.claim is not None]


@cache
def proven(instance: Instance) -> np.ndarray:
    """The bound that stands, once for each instance.

    Where cells, a tree or a reduction prove (half a minute in all) it is that of the file, which
    ``rralloc certify`` recomputes.
    """
    if instance.prove is not None or not instance.convex:
        return np.asarray(instance.claim.bound)
    return np.asarray(proven_bound(instance.problem, instance.claim))


def verdict(instance: Instance, claim: Claim) -> list[str]:
    return judge(instance.problem, claim, proven(instance))


# -- corruptions: each yields false claims of one kind ---------------------------------------------


def sign(problem: rr.Problem) -> float:
    return 1.0 if problem.sense == "max" else -1.0


def size(rng: np.random.Generator) -> float:
    return float(10 ** rng.uniform(-6, 0))


def _numeric(instance: Instance, rng: np.random.Generator) -> Iterator[tuple[str, Claim]]:
    """A false objective, gap or violation."""
    claim = instance.claim
    value, far = claim.objective, size(rng)
    far *= rng.choice([-1, 1])
    other = value * (1 + far) if value not in (0.0, np.inf) else far
    yield "objective", replace(claim, objective=other)
    consistent = gap_between(np.asarray(other), np.asarray(claim.bound))
    yield "objective and gap", replace(claim, objective=other, gap=float(consistent))
    yield "objective NaN", replace(claim, objective=np.nan)
    yield "gap", replace(claim, gap=(0.0 if np.isnan(claim.gap) else claim.gap) + abs(far))
    if not claim.gap <= 1e-8:
        yield "gap", replace(claim, gap=0.0, status=rr.Status.FEASIBLE)


def _bound(instance: Instance, rng: np.random.Generator) -> Iterator[tuple[str, Claim]]:
    """A bound past the objective, or better than what is proven."""
    claim, better = instance.claim, sign(instance.problem)
    value = claim.objective
    if value == np.inf:
        return
    past = value - better * size(rng) * (abs(value) or 1.0)
    gap = float(gap_between(np.asarray(value), np.asarray(past)))
    yield "bound past the objective", replace(claim, bound=past, gap=gap)
    if not claim.gap <= 1e-6:  # open or nearly: a bound between what is proven and the objective
        weaker = np.nan_to_num(claim.bound, nan=value + better * abs(value))
        tight = weaker + 0.9 * (value - weaker)
        gap = float(gap_between(np.asarray(value), np.asarray(tight)))
        yield "bound too good", replace(claim, bound=tight, gap=gap, status=rr.Status.FEASIBLE)


def _status(instance: Instance, rng: np.random.Generator) -> Iterator[tuple[str, Claim]]:
    """A status that nothing proves."""
    claim = instance.claim
    yield "infeasible", replace(claim, status=rr.Status.INFEASIBLE)
    if not claim.gap <= 1e-4:
        yield "global without proof", replace(claim, status=rr.Status.GLOBAL)
        zero = {"bound": claim.objective, "gap": 0.0}
        yield "global with a fake bound", replace(claim, status=rr.Status.GLOBAL, **zero)


def _form(instance: Instance, rng: np.random.Generator) -> Iterator[tuple[str, Claim]]:
    """A point that is none: NaN, wrong shape, a variable missing, a false derived variable."""
    claim, problem = instance.claim, instance.problem
    own = {v.name: v for v in problem.variables}
    for name, var in own.items():
        array = np.array(claim.x[name])
        if var.derived:
            flipped = array.copy()
            flipped.flat[rng.integers(array.size)] ^= True
            yield "false derived variable", replace(claim, x=claim.x | {name: flipped})
            continue
        if array.dtype.kind in "fc":
            holed = array.copy()
            holed.flat[rng.integers(array.size)] = np.nan
            yield "NaN", replace(claim, x=claim.x | {name: holed})
        row = np.atleast_1d(array)
        longer = np.concatenate([row, row[..., -1:], row[..., -1:]], -1)
        yield "wrong shape", replace(claim, x=claim.x | {name: longer})
        short = {n: v for n, v in claim.x.items() if n != name}
        yield "missing variable", replace(claim, x=short)


def _point(instance: Instance, rng: np.random.Generator) -> Iterator[tuple[str, Claim]]:
    """A point moved, the claims about it kept; counts where that changes value or feasibility."""
    claim, problem = instance.claim, instance.problem
    for var in problem.variables:
        if var.derived:
            continue
        array = np.array(claim.x[var.name])
        place = int(rng.integers(array.size))
        if array.dtype.kind != "i":
            yield from moved(claim, problem, "scaled up", var.name, array * (1 + size(rng)))
        low, high, _ = problem.limits(var)
        if array.dtype.kind in "fi":
            below = array.copy()
            below.flat[place] = np.broadcast_to(low, array.shape).flat[place] - 1
            yield from moved(claim, problem, "below its bound", var.name, below)
            top = np.broadcast_to(high, array.shape).flat[place]
            if np.isfinite(top):
                above = array.copy()
                above.flat[place] = top + np.ceil(size(rng) * max(abs(top), 1.0))
                yield from moved(claim, problem, "above its bound", var.name, above)
            if array.dtype.kind == "i" or getattr(problem, "integer", False):
                half = array.astype(float)
                half.flat[place] += 0.5
                yield from moved(claim, problem, "fractional", var.name, half)
        if array.shape and array.shape[-1] > 1:
            swapped = array[..., rng.permutation(array.shape[-1])]
            yield from moved(claim, problem, "swapped devices", var.name, swapped)


def moved(
    claim: Claim, problem: rr.Problem, kind: str, name: str, array: np.ndarray
) -> Iterator[tuple[str, Claim]]:
    """The claim about another point, if that point is really infeasible or worth something else."""
    x = {v.name: claim.x[v.name] for v in problem.variables if not v.derived} | {name: array}
    with np.errstate(all="ignore"):
        full = problem.complete(x)
        value, worst = float(problem.objective(full)), float(violation(problem, full))
    scale = max(abs(value), abs(claim.objective))
    same = value == claim.objective or abs(value - claim.objective) <= 1e-8 * scale
    if worst > 1e-8 or not same:
        yield kind, replace(claim, x=full)


KINDS: tuple[Callable[[Instance, np.random.Generator], Iterator[tuple[str, Claim]]], ...] = (
    *(_numeric, _bound, _status, _form, _point),
)


# -- tests -----------------------------------------------------------------------------------------


def test_every_one_of_more_than_1000_corrupted_claims_is_rejected() -> None:
    rng = np.random.default_rng(0)
    tried: Counter[str] = Counter()
    accepted = []
    for instance in HELD:
        for kind in KINDS:
            for name, claim in kind(instance, rng):
                tried[name] += 1
                if not verdict(instance, claim):
                    accepted.append((instance.name, name))
    assert not accepted
    assert sum(tried.values()) >= 1000
    assert min(tried.values()) >= 3, tried  # no kind is there by name only
    assert len(tried) >= 17


def test_no_claim_of_the_library_is_a_false_alarm() -> None:
    alarms = {i.name: said for i in HELD if (said := verdict(i, i.claim))}
    assert not alarms


def test_a_claim_may_say_less_than_is_true() -> None:
    for instance in HELD:
        claim = instance.claim
        if not np.isfinite(claim.bound):
            continue
        weaker = claim.bound + sign(instance.problem) * (abs(claim.bound) + 1.0)
        gap = float(gap_between(np.asarray(claim.objective), np.asarray(weaker)))
        humble = replace(claim, bound=weaker, gap=gap, status=rr.Status.FEASIBLE)
        assert not verdict(instance, humble), instance.name
        assert not verdict(instance, replace(claim, violation=1e-3)), instance.name


def test_an_infeasible_instance_has_no_point_to_claim() -> None:
    barred = [i for i in INSTANCES if i.claim is None]
    assert len(barred) >= 5
    for instance in barred:
        problem = instance.problem
        with np.errstate(all="ignore"):
            x = problem.complete(problem.initial())
            value = float(problem.objective(x))
        false = Claim(x, value, np.nan, np.nan, rr.Status.FEASIBLE)
        assert judge(problem, false), instance.name


def test_a_batch_is_judged_instance_by_instance() -> None:
    problem = rr.problems.WaterFilling.random(K=4, batch=3, rng=0)
    sol = rr.solve(problem)
    assert judge(problem, sol) == []
    told = np.array(sol.objective)
    told[1] *= 1 + 1e-6
    assert any("objective" in w for w in judge(problem, replace(Claim.of(sol), objective=told)))
    assert "batch" in judge(problem, replace(Claim.of(sol), objective=1.0))[0]


@pytest.mark.parametrize(
    "lie",
    [
        {"status": 99},
        {"status": 4.5},
        {"status": -7},
        {"status": np.nan},
        {"violation": np.nan},
        {"status": int(rr.Status.NONE), "objective": 1e9, "bound": 1.0, "gap": 0.0},
        {"status": int(rr.Status.NONE), "objective": np.nan, "bound": 1.0, "gap": np.nan},
    ],
    ids=str,
)
def test_lies_that_a_reviewer_thought_of(lie):
    instance = next(i for i in INSTANCES if i.name == "waterfilling-plain")
    assert judge(instance.problem, replace(instance.claim, **lie))


PLAIN = next(i for i in INSTANCES if i.name == "waterfilling-plain")


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"x": {"power_w": ["a", "b", "c", "d"]}}, "not a number"),
        ({"x": {"power_w": [None] * 4}}, "not a number"),
        ({"x": {"power_w": None}}, "not a number"),
        ({"x": {"power_w": [[1.0], [1.0, 2.0], 3.0, 4.0]}}, "no array"),
        ({"x": {"power_w": np.ones(4, dtype=complex)}}, "complex"),
        ({"x": {"power_w": np.ones((4, 4))}}, "has shape (4, 4)"),
        ({"x": {}}, "lacks power_w"),
        ({"x": None}, "the point is NoneType"),
        ({"x": np.ones(4)}, "the point is ndarray"),
        ({"objective": 1j}, "objective is complex"),
        ({"objective": "much"}, "objective is not a number"),
        ({"bound": None}, "bound is not a number"),
        ({"gap": [0.0, 0.0]}, "gap has shape (2,)"),
        ({"status": "global"}, "status is not a number"),
        ({"witness": {"water_level_w": np.ones((5, 3))}}, "the witness"),
        ({"witness": {"water_level_w": "high"}}, "the witness"),
        ({"witness": {"water_level_w": [[1.0], [1.0, 2.0]]}}, "the witness"),
        ({"witness": [1.0]}, "the witness is list"),
        ({"kkt": -1.0}, "KKT residual -1 is claimed"),
    ],
    ids=str,
)
def test_what_is_no_claim_gets_a_sentence(lie, words):
    said = judge(PLAIN.problem, replace(PLAIN.claim, **lie))
    assert any(words in w for w in said), said


def test_no_witness_is_a_claim_like_any_other():
    assert judge(PLAIN.problem, replace(PLAIN.claim, witness=None)) == []


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"iterations": np.array(-5)}, "iterations -5"),
        ({"iterations": "many"}, "iterations is not a number"),
        ({"x": None}, "the point is NoneType"),
        ({"seconds": -5.0}, "seconds -5"),
        ({"cpu_seconds": np.nan}, "cpu_seconds nan"),
        ({"raw_violation": -1.0}, "raw_violation -1"),
        ({"bound_method": "clairvoyance"}, "not 'clairvoyance'"),
    ],
    ids=str,
)
def test_words_of_a_solution_that_cannot_be(lie, words):
    sol = rr.solve(PLAIN.problem)
    assert judge(PLAIN.problem, sol) == []
    assert any(words in w for w in judge(PLAIN.problem, replace(sol, **lie)))


def test_a_smaller_kkt_residual_than_the_point_has_is_a_lie():
    problem = rr.problems.SumRate.random(K=3, rng=0)
    sol = rr.solve(problem, "multistart", rng=0)
    assert judge(problem, sol) == []
    poor = problem.complete({n: v * 0.5 for n, v in sol.x.items()})
    value = float(problem.objective(poor))
    claim = Claim(poor, value, np.nan, np.nan, rr.Status.FEASIBLE)
    assert judge(problem, claim) == []
    assert any("KKT" in w for w in judge(problem, replace(claim, kkt=1e-9)))


def test_lies_about_instances_without_a_point():
    """Status NONE hides nothing: a bound must be proven, an objective is nobody's."""
    problem = rr.problems.WaterFilling.random(K=4, batch=4, rng=0)
    sol = rr.solve(problem)
    none = {n: np.full_like(v, np.nan) for n, v in sol.x.items()}
    nan, status = np.full(4, np.nan), np.zeros(4)
    silent = Claim(none, nan, nan, nan, status, violation=nan)
    assert judge(problem, silent) == []
    proven = replace(silent, bound=sol.bound, witness=sol.duals)
    assert judge(problem, proven) == []
    assert judge(problem, replace(silent, bound=sol.bound), sol.bound) == []
    for lie, word in (
        ({"bound": sol.bound * 0.5}, "bound"),
        ({"bound": np.ones(4)}, "bound"),
        ({"objective": np.full(4, 1e9)}, "objective"),
        ({"gap": np.zeros(4)}, "gap"),
        ({"status": np.ones(4)}, "infeasible"),
    ):
        assert any(word in w for w in judge(problem, replace(silent, **lie))), lie
        assert judge(problem, replace(proven, **lie)), lie


def test_a_batch_with_and_without_points_is_judged_whole():
    problem = rr.problems.WaterFilling.random(K=4, batch=3, rng=0)
    sol = rr.solve(problem)
    there = np.array([True, False, True])
    x = {n: np.where(there[:, None], v, np.nan) for n, v in sol.x.items()}
    status = np.where(there, sol.status, 0)
    numbers = {n: np.where(there, getattr(sol, n), np.nan) for n in ("objective", "gap")}
    mixed = Claim(
        x, bound=sol.bound, status=status, witness=sol.duals, violation=np.zeros(3), **numbers
    )
    assert judge(problem, mixed) == []
    better = np.where(there, sol.bound, 0.5 * sol.bound)
    assert any("bound" in w for w in judge(problem, replace(mixed, bound=better)))
    more = numbers["objective"] * np.array([1.0, 1.0, 2.0])
    assert any("objective" in w for w in judge(problem, replace(mixed, objective=more)))


def test_what_the_default_solver_says_stands_for_every_class():
    """No false alarm, infeasible instances included; trees travel with the solution."""
    wrong, judged = {}, 0
    for name, cls in registry.problem_classes().items():
        try:
            problem = cls.random(K=3, batch=2, rng=1)
            sol = rr.solve(problem, rng=0, time_limit=2)
        except (rr.errors.RRAllocError, NotImplementedError):
            continue
        judged += 1
        if said := judge(problem, sol):
            wrong[name] = said
    for instance in INSTANCES:
        if instance.claim is None:
            said = judge(instance.problem, rr.solve(instance.problem, rng=0))
            wrong |= {instance.name: said} if said else {}
    assert not wrong
    assert judged >= 25
