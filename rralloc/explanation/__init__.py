"""Why is it infeasible? The smallest change that helps, and the devices and budgets to blame.

    >>> why = rr.explain(problem)
    >>> print(why)

Every constraint at every device is a row, and so is every bound that is data (a power cap). The
search minimises the worst violation, reduces the rows that contradict each other to conflicts of
which nothing can be left out, and asks each of these rows alone by how much it must give way.
Source: elastic programming and deletion filter, Chinneck (2008); the rest derived.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rralloc.errors import NotOffered
from rralloc.explanation.changes import field_factors, relaxed, single_changes
from rralloc.explanation.conflicts import (
    Conflict,
    blamed_by_problem,
    conflicts,
    device_axis,
    hopeless,
    least_of_all,
    linear,
    proof,
    starts_of,
    stuck,
)
from rralloc.explanation.fields import feasible, with_fields
from rralloc.explanation.parts import Change, Row
from rralloc.explanation.rows import Rows
from rralloc.explanation.search import MET, SURE, Found, Search
from rralloc.explanation.text import describe
from rralloc.numerics.counts import require_non_negative
from rralloc.problem import Problem
from rralloc.typing import Array, Point

STARTS = 6
"""Random starts besides the problem's own points, where nothing is proven."""


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What ``explain`` found; ``str()`` is for people.

    ``feasible``: None where it could not be decided. ``proven``: infeasibility is, by
    ``evidence``; else local search from several starts failed. ``point``: the least violating
    point (scaled ``violation``), or one that proves feasibility. ``conflicts``: disjoint sets of
    rows that cannot be met together, each without a row to spare; ``conflict``: the first.
    ``alternatives``: each row of a conflict, and each name, alone, least change first; with
    several conflicts each counts for its own. ``relaxations``: the changes with the least sum of
    scaled violations. ``innocent``: devices whose data neither conflict nor matter to how large
    the single changes are. ``reason``: the problem's own words. ``instances``: for a batch, the
    instances that are not feasible; ``why[i]`` picks one.
    """

    problem: Problem
    feasible: bool | None
    proven: bool = False
    evidence: str = ""
    reason: str = ""
    point: Point | None = None
    violation: float = float("nan")
    conflicts: tuple[tuple[Row, ...], ...] = ()
    alternatives: tuple[Change, ...] = ()
    relaxations: tuple[Change, ...] = ()
    innocent: tuple[int, ...] = ()
    instances: Mapping[tuple[int, ...], Explanation] = field(default_factory=dict)

    @property
    def conflict(self) -> tuple[Row, ...]:
        """The first conflict; empty where none was found."""
        return self.conflicts[0] if self.conflicts else ()

    @property
    def devices(self) -> tuple[int, ...]:
        """The devices to blame; in a batch, in any instance."""
        return tuple(sorted({r.index[-1] for r in self._guilty if r.index}))

    @property
    def budgets(self) -> tuple[str, ...]:
        """The budgets to blame: names of rows that belong to no device."""
        return tuple(sorted({r.name for r in self._guilty if not r.index}))

    @property
    def _guilty(self) -> list[Row]:
        each = [self, *self.instances.values()]
        return [row for one in each for rows in one.conflicts for row in rows]

    def __getitem__(self, index: int | tuple[int, ...]) -> Explanation:
        """The explanation of one instance of a batch."""
        given = index if isinstance(index, tuple) else (index,)
        places = np.arange(self.problem.size).reshape(self.problem.batch_shape)[given]
        if np.ndim(places):
            raise IndexError(f"{index!r} is not one instance of the batch {places.shape}")
        place = tuple(int(i) for i in np.unravel_index(places, self.problem.batch_shape))
        fine = "this instance is feasible; ask for it alone to see a point"
        return self.instances.get(place) or Explanation(self.problem[place], True, evidence=fine)

    def __str__(self) -> str:
        return describe(self)

    __repr__ = __str__


def explain(
    problem: Problem,
    *,
    rng: np.random.Generator | int | None = 0,
    time_limit: float | None = None,
) -> Explanation:
    """Say why ``problem`` has no feasible point, who is to blame and what change would help.

    For a batch the result holds the instances that are not feasible. ``time_limit`` in s for the
    whole call; what was found until then stands, with fewer reductions. Infeasible is *proven*
    where ``problem.infeasible()`` or ``bound`` says so, or the conflict's slacks are linear, or
    concave by the class's word (``concave_slacks = True``). Never raises for a hard problem:
    ``feasible`` is then None and ``evidence`` says why.
    """
    require_non_negative("time_limit", time_limit)
    draw = np.random.default_rng(rng)
    deadline = np.inf if time_limit is None else time.perf_counter() + time_limit
    if not problem.batch_shape:
        return _explain(problem, draw, deadline)
    each = {i: _explain(problem[i], draw, deadline) for i in np.ndindex(problem.batch_shape)}
    bad = {i: e for i, e in each.items() if not e.feasible}
    if not bad:
        return Explanation(problem, True, evidence=f"all {problem.size} instances are")
    known = False if any(e.feasible is False for e in bad.values()) else None
    proven = all(e.proven for e in bad.values())
    return Explanation(problem, known, proven, f"{len(bad)} of {problem.size}", instances=bad)


def _explain(problem: Problem, rng: np.random.Generator, deadline: float) -> Explanation:
    # 1. A baseline that works ends it; the problem's own proof comes first of all proofs.
    own = _own_proof(problem)
    if not own:
        for name, rule in {**problem.points(), "start": problem.initial}.items():
            if feasible(problem, point := dict(rule()), MET):
                return _works(problem, point, f"the baseline {name!r} is a point")
    reason = problem.why_infeasible() if hopeless(problem) else ""
    try:
        search = Search(Rows(problem), deadline, rng)
    except (NotOffered, NotImplementedError) as refusal:
        return _by_the_problem(problem, own, reason, str(refusal))
    # 2. The least worst violation of all rows.
    search.linear = linear(search, np.arange(len(search.rows.rows)), rng)
    search.convex = search.linear or getattr(problem, "concave_slacks", False)
    if search.linear:
        search.rows.is_linear(search.middle)
    starts = starts_of(search.rows, rng, search.middle, 0 if own else STARTS)
    found, tried, known = least_of_all(search, starts, own, rng)
    point = search.rows.unflatten(found.z)
    if found.worst <= SURE:
        return _met(problem, point, found, own, reason)
    # 3. Who contradicts whom. The problem's own proof outweighs a local search that misleads; for
    #    one conflict the proof by prices may hold although not for all rows.
    sets = conflicts(search, found, tried)
    if reason and not search.convex and not all(_agrees(search.rows, one) for one in sets):
        return _by_the_problem(problem, own, reason, "")
    for one in [] if known else sets:
        known = known or proof(search, one.rows, _least_of(search, one, found), rng)
    if search.late and not known:
        cut = Explanation(problem, None, evidence="time limit: no feasible point was found so far")
        return replace(cut, reason=reason, point=point, violation=found.worst)
    said = known or f"no feasible point from {len(tried)} starts"
    # 4. What each row alone, and what all together least, must give.
    rows = with_fields(problem, search.rows.rows, point)
    alternatives, involved = single_changes(
        search, rows, sets, [*search.from_near(found.z), *tried]
    )
    least = relaxed(search, rows, found.z, alternatives)
    late = search.late
    if late:
        said += "; time limit: blame may be reduced further, changes are not all told"
    blame = tuple(tuple(dict.fromkeys(rows[i] for i in one.rows)) for one in sets)
    return Explanation(
        problem,
        False,
        bool(known),
        said,
        reason,
        point,
        found.worst,
        blame,
        alternatives,
        least,
        () if late else _innocent(problem, [rows[i] for i in involved]),
    )


def _own_proof(problem: Problem) -> str:
    """How the problem itself proves that nothing is feasible; empty where it does not."""
    if hopeless(problem):
        return "by the problem itself"
    if problem.bound_method:
        with np.errstate(all="ignore"):
            excluded = problem.bound() == (-np.inf if problem.sense == "max" else np.inf)
        return f"a bound by {problem.bound_method}" if np.all(excluded) else ""
    return ""


def _agrees(rows: Rows, one: Conflict) -> bool:
    """The problem also proves it for the devices of this conflict alone."""
    devices = sorted({rows.rows[i].index[-1] for i in one.rows if rows.rows[i].index})
    return not devices or stuck(rows.problem, devices)


def _least_of(search: Search, one: Conflict, found: Found) -> Array:
    return search.least(one.rows, [found.z]).z


def _works(problem: Problem, point: Point, evidence: str) -> Explanation:
    return Explanation(problem, True, evidence=evidence, point=point, violation=0.0)


def _met(problem: Problem, point: Point, found: Found, own: str, reason: str) -> Explanation:
    """All rows can be met, or nearly: feasible if the problem agrees."""
    whole = {
        v.name: np.rint(point[v.name]).astype(int)
        for v in problem.variables
        if np.dtype(v.dtype).kind == "i" and v.name in point
    }
    rounded = {**point, **whole}
    for trial in (rounded, problem.project(rounded)):
        if not own and feasible(problem, trial, MET):
            return _works(problem, trial, "a point that meets every constraint was found")
    if own:
        return _by_the_problem(problem, own, reason, "")
    said = "the constraints can be met, but the objective is infinite or integers are missed there"
    if found.worst > MET:
        said = f"the least violation found, {found.worst:.1e}, is too small to tell"
    return replace(Explanation(problem, None, evidence=said), point=point, violation=found.worst)


def _by_the_problem(problem: Problem, own: str, reason: str, refusal: str) -> Explanation:
    """What the problem's ``infeasible()`` tells about devices and fields."""
    if not own:
        return Explanation(problem, None, evidence=f"no baseline is feasible, and {refusal}")
    blame = blamed_by_problem(problem) if reason else []
    rows = [tuple(Row("needs", (k,), "1", 1.0) for k in devices) for devices in blame]
    changes = field_factors(problem) if reason else ()
    guilty = [r for one in rows for r in one]
    alone = bool(guilty) and all(len(one) == 1 for one in rows)  # else others count as well
    return Explanation(
        problem, False, True, own, reason, None, float("nan"), tuple(rows), changes,
        innocent=_innocent(problem, guilty) if alone else (),
    )  # fmt: skip


def _innocent(problem: Problem, involved: list[Row]) -> tuple[int, ...]:
    """Devices without a row among these."""
    size = problem.sizes.get(device_axis(problem) or "", 0)
    return tuple(sorted(set(range(size)) - {r.index[-1] for r in involved if r.index}))
