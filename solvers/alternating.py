"""Alternating optimisation over the problem's blocks, with starts and block orders as options.

    for each block in order:  x_block <- argmin problem(block | rest held)

Each block is a Problem of its own and is solved by whatever applies to it, or by what ``methods``
names. A block step that worsens the parent's objective is refused, so the method is monotone. The
limit depends on start and order where the problem is not convex: the fair opponent of a global
method is the best of all starts and orders (``start_from="all"``, ``order="all"``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from itertools import permutations, product
from typing import Any, NamedTuple

import numpy as np

from rralloc.driver import solve
from rralloc.errors import UnknownName
from rralloc.forms import Blocks
from rralloc.numerics.shapes import choose
from rralloc.run import Run
from rralloc.solver import Iterative
from rralloc.typing import Array, Point


class Iterate(NamedTuple):
    """Points ``{name: (S, ...)}`` with their objective."""

    x: dict[str, Array]
    value: Array
    done: Array


class Alternating(Iterative):
    """Block after block until a sweep changes the objective by less than ``tol`` (relative).

    ``order``: block names in the order of a sweep, ``"forward"``, ``"reverse"`` or ``"all"``.
    ``start_from``: a baseline of the problem, ``""`` for the first, ``"all"`` for every one.
    ``methods``: block name -> solver name, for blocks whose default is not wanted.

    Choose this when the problem is easy in each group of variables. The result is a point that no
    single block improves, which need not be stationary for the whole, let alone global.
    """

    name = "alternating"
    rank = 40
    needs = (Blocks,)
    warm = True
    steps = 500
    compact_at = 0.25

    order: str | tuple[str, ...] = "forward"
    start_from: str = ""
    methods: Mapping[str, str] = field(default_factory=dict)
    tol: float = 1e-10

    def solve(self, problem: Any, start: Point | None, run: Run) -> None:
        """One run for each start and order; the frame keeps the best point of each lane."""
        for begin, order in product(self._starts(problem, start), self._orders(problem)):
            self._sweep_from(problem, begin, order, run)
            run.check()

    def _sweep_from(self, problem: Any, begin: Point, order: tuple[str, ...], run: Run) -> None:
        one = type(self)(order=order, methods=self.methods, tol=self.tol)
        super(Alternating, one).solve(problem, begin, run)

    def _starts(self, problem: Any, start: Point | None) -> list[Point]:
        rules = problem.points()
        if start is not None:
            return [start]
        if self.start_from == "all":
            return [rule() for rule in rules.values()]
        if self.start_from and self.start_from not in rules:
            raise UnknownName("start", self.start_from, rules)
        return [rules[self.start_from]() if self.start_from else problem.initial()]

    def _orders(self, problem: Any) -> list[tuple[str, ...]]:
        names = problem.view(Blocks).names
        if self.order == "all":
            return list(permutations(names))
        if self.order in ("forward", "reverse"):
            return [names if self.order == "forward" else names[::-1]]
        unknown = set(self.order) - set(names)
        if unknown or isinstance(self.order, str):
            raise UnknownName("block order", self.order, ["forward", "reverse", "all", *names])
        return [tuple(self.order)]

    def begin(self, problem: Any, start: Point | None, run: Run) -> Iterate:
        """The start, made feasible, with its objective."""
        x = problem.project(problem.initial() if start is None else start)
        return Iterate(x, np.asarray(problem.objective(x)), np.zeros(problem.size, dtype=bool))

    def step(self, problem: Any, state: Iterate, run: Run) -> Iterate:
        """One sweep over the blocks."""
        form, x, value = problem.view(Blocks), dict(state.x), state.value
        for block in self.order:
            part = solve(form.fix(block, x), self.methods.get(block), certify="none", rng=run.rng)
            trial = x | {n: v for n, v in part.x.items() if n in x}
            reached = np.asarray(problem.objective(trial))
            with np.errstate(invalid="ignore"):  # from outside the domain to outside: no gain
                gain = value - reached if problem.sense == "min" else reached - value
            taken = ~state.done & (gain >= 0)
            x = {n: choose(taken, trial[n], x[n]) for n in x}
            value = np.where(taken, reached, value)
        tol = self.tol if run.tol is None else run.tol
        with np.errstate(invalid="ignore"):
            small = np.abs(value - state.value) <= tol * np.abs(value)
        small |= value == state.value
        return Iterate(x, value, state.done | small)

    def point(self, problem: Any, state: Iterate) -> Point:
        """The current point."""
        return state.x
