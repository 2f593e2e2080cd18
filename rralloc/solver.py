"""Solver: frozen settings that propose points, and the one loop of those that go step by step.

A solver is one class with a ``name`` and one of

* ``solve(problem, start, run)`` with ``run.offer(x)`` and ``run.check()``; or
* ``begin`` and ``step`` over lanes (:class:`Iterative`): the frame runs the loop, sets finished
  lanes aside and keeps the clock.

Its dataclass fields are its options. Nothing a solver returns is believed: objective, violation,
bound, gap and status of the :class:`Solution` are recomputed by the problem from the point.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, dataclass_transform

import numpy as np

from rralloc.problem import Problem
from rralloc.run import Run
from rralloc.solution import Stopped
from rralloc.typing import Array, Point, Witness


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Solver:
    """Base of all solvers; subclasses become frozen keyword-only dataclasses by themselves."""

    name: ClassVar[str]
    """What users type; ``name:value`` sets the field named by ``variant``."""
    rank: ClassVar[int] = 100
    """When no solver is named, the applicable one of lowest rank is taken; 1000 is never taken."""
    needs: ClassVar[tuple[type, ...]] = ()
    """Forms that the problem must offer."""
    batched: ClassVar[bool] = True
    """Takes all lanes at once; else the driver hands over one instance after another."""
    foreign: ClassVar[bool] = False
    """Somebody else's code: exceptions become ``stopped=ERROR``, points pass ``project``."""
    warm: ClassVar[bool] = False
    """Uses ``start``."""
    certifies: ClassVar[bool] = False
    """Its witness is worth asking for when somebody else's point needs a bound."""
    variant: ClassVar[str | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    def available(self) -> None:
        """Raise ``SolverUnavailable`` when a package or an engine is missing."""

    def applies(self, problem: Problem) -> None:
        """Raise ``NotOffered`` with the reason when the instance lacks a form."""
        for form in self.needs:
            problem.view(form)

    @classmethod
    def names(cls, problem: Problem | None = None) -> tuple[str, ...]:
        """The names under which this class is listed for a problem."""
        return (cls.name,)

    def label(self) -> str:
        """The name with its variant, as it appears in tables."""
        if self.variant is None:
            return self.name
        default = getattr(type(self), self.variant)  # a dataclass default is a class attribute
        value = getattr(self, self.variant)
        return self.name if value == default else f"{self.name}:{value}"

    def solve(self, problem: Any, start: Point | None, run: Any) -> None:
        """Offer points to ``run``; ``problem`` has one batch axis, or none if not ``batched``."""
        raise NotImplementedError


class Nobody(Solver):
    """Stands in when no instance has a feasible point and no solver was named."""

    name = "none"


class Iterative(Solver):
    """A solver as pure steps over lanes; the loop below is the only one.

    A state is a NamedTuple of arrays with a leading lane axis, or dicts of such arrays, and has
    the boolean fields ``done`` and, if it may give up, ``stalled``.
    """

    steps: ClassVar[int] = 1000
    """Iteration limit when the caller gives none."""
    compact_at: ClassVar[float] = 0.5
    """Share of finished lanes at which the others move on alone; 0 for expensive steps."""

    def begin(self, problem: Any, start: Point | None, run: Run) -> Any:
        """The state before the first step."""
        raise NotImplementedError

    def step(self, problem: Any, state: Any, run: Run) -> Any:
        """The next state; must leave finished lanes as they are."""
        raise NotImplementedError

    def point(self, problem: Any, state: Any) -> Point:
        """The point a state stands for."""
        raise NotImplementedError

    def witness(self, problem: Any, state: Any) -> Witness | None:
        """What the state proves, if anything."""
        return None

    def solve(self, problem: Any, start: Point | None, run: Run) -> None:
        """Step, set finished lanes aside, stop at the limit or the deadline."""
        state, lanes = self.begin(problem, start, run), np.arange(problem.size)
        for _ in range(self.steps if run.max_iter is None else run.max_iter):
            run.iterations[lanes[~state.done]] += 1
            state = self.step(problem, state, run)
            if run.watching:
                run.offer(self.point(problem, state), lanes=lanes, trace=True)
            done = state.done
            if done.mean() >= max(self.compact_at, 1e-12):
                self._hand_in(problem, state, lanes, done, run)
                if done.all():
                    return
                keep = ~done
                problem, lanes, state = problem[keep], lanes[keep], take(state, keep)
            reason = run.interruption()
            if reason is not None:
                run.end(reason, lanes[~state.done])
                break
        else:
            run.end(Stopped.ITERATIONS, lanes[~state.done])
        self._hand_in(problem, state, lanes, np.ones(lanes.size, dtype=bool), run)

    def _hand_in(self, problem: Any, state: Any, lanes: Array, done: Array, run: Run) -> None:
        if not done.all():
            problem, lanes, state = problem[done], lanes[done], take(state, done)
        if hasattr(state, "stalled"):
            run.end(Stopped.STALLED, lanes[state.stalled])
        proof = self.witness(problem, state)
        if not (run.watching and run.filled[lanes].all()):
            run.offer(self.point(problem, state), lanes=lanes, witness=proof)
        elif proof is not None:  # the point was offered after the step
            run.prove(proof, lanes)


def take(state: Any, lanes: Array) -> Any:
    """A state with some lanes only."""

    def pick(value: Any) -> Any:
        return {n: v[lanes] for n, v in value.items()} if isinstance(value, dict) else value[lanes]

    return type(state)(*map(pick, state))
