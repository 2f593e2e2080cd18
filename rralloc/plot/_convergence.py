"""How solvers got there: objective and gap while they ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rralloc.plot import _labels, _style
from rralloc.solution import Solution
from rralloc.typing import Array

_FEASIBLE = 1e-9
_ROUNDING = 1e-13
Clock = Literal["seconds", "iterations"]


@dataclass(frozen=True)
class _Course:
    """Best feasible objective so far ``(points,)``; the last point is what was returned."""

    at: Array
    objective: Array


def convergence(
    solutions: Solution | Mapping[str, Solution],
    *,
    lane: int = 0,
    x: Clock = "seconds",
    axes: Any = None,
) -> Any:
    """Objective and its distance to the best proven bound while solvers ran; returns the Figure.

    Both are those of the best feasible point so far, as the problem scored it; points that violate
    a constraint by more than 1e-9 are skipped. The last marker is the point returned: it is all
    that is drawn of a solver that kept no history, or did not count iterations while it ran.
    Without any bound the distance is to the best objective found, and the axis says so.

    solutions: ``{label: solution}`` of one problem.
    lane: which instance of a batch, in C order. x: ``seconds`` (of the whole run) or
        ``iterations`` (each solver's own). axes: a pair to draw in.

    Raises ValueError: solutions of different problems, a lane or ``x`` that does not exist.

    Choose this when: you ask which solver to stop early, or whether more time would help.
    """
    runs = _style.labelled(solutions)
    _check(runs, lane, x)
    problem = next(iter(runs.values())).problem
    courses = {n: _course(s, lane, x) for n, s in runs.items()}
    target, proven = _target(runs, courses, lane)
    with _style.styled():
        left, right = _style.own_axes(1, 2, size=(11, 5.4)) if axes is None else axes
        for index, (label, course) in enumerate(courses.items()):
            _draw(left, course.at, course.objective, index, label)
            _draw(right, course.at, _distance(course.objective, target), index, label)
        if proven and np.isfinite(target):
            left.axhline(target, color=_style.FAINT, linewidth=1.2, zorder=1, label="best bound")
        _finish(left, right, problem, proven, x)
        left.set_title("Best feasible point so far")
        _style.title(right, _sentence(courses, target, proven), 48)
        handles, _ = left.get_legend_handles_labels()
        _style.legend(left, handles, below=axes is None)
        return _style.stamp(_style.figure_of(left), _style.digests(runs))


def _check(runs: Mapping[str, Solution], lane: int, x: str) -> None:
    if len(_style.digests(runs)) > 1:
        raise ValueError("solutions of different problems: their objectives cannot be compared")
    size = next(iter(runs.values())).problem.size
    if not 0 <= lane < size:
        raise ValueError(f"lane={lane} is not in [0, {size - 1}], the instances of the batch")
    if x not in ("seconds", "iterations"):
        raise ValueError(f"x={x!r} must be 'seconds' or 'iterations'")


def _course(sol: Solution, lane: int, x: Clock) -> _Course:
    """Trace and final point as one running best."""
    column = sol.trace.column
    found = column("objective", lane)
    fine = column("violation", lane) <= _FEASIBLE if found.size else np.zeros(0, dtype=bool)
    end = sol.seconds if x == "seconds" else float(np.ravel(sol.iterations)[lane])
    at = column("seconds" if x == "seconds" else "iteration", lane)[fine] if found.size else found
    if x == "iterations" and not at.any() and end > 0:
        fine, at = np.zeros_like(fine), at[:0]
    best = np.minimum if sol.problem.sense == "min" else np.maximum
    objective = best.accumulate(found[fine]) if found.size else found
    # The driver scores the returned point after the last row, so the end comes last.
    last = max(end, at[-1]) if at.size else end
    final = float(np.ravel(sol.objective)[lane])
    return _Course(np.append(at, last).astype(float), np.append(objective, final).astype(float))


def _target(
    runs: Mapping[str, Solution], courses: Mapping[str, _Course], lane: int
) -> tuple[float, bool]:
    """The tightest bound of any solution; without one, the best objective."""
    sense = next(iter(runs.values())).problem.sense
    bounds = np.array([np.ravel(s.bound)[lane] for s in runs.values()], dtype=float)
    bounds = bounds[np.isfinite(bounds)]
    if bounds.size:
        return float(bounds.max() if sense == "min" else bounds.min()), True
    ends = np.array([c.objective[-1] for c in courses.values()])
    if np.isnan(ends).all():
        raise ValueError("no solution has a point or a bound in this lane; nothing to draw")
    return float(np.nanmin(ends) if sense == "min" else np.nanmax(ends)), False


def _distance(objective: Array, target: float) -> Array:
    """|objective - target|, not below what double precision resolves."""
    return np.maximum(np.abs(objective - target), _ROUNDING * max(abs(target), 1e-300))


def _draw(ax: Any, at: Array, values: Array, index: int, label: str) -> None:
    style = _style.look(index)
    line = style | {"marker": "none"}
    ax.plot(at, values, drawstyle="steps-post", label="_" + label, **line)
    # The legend shows dashes and end marker as one entry.
    ax.plot(at[-1:], values[-1:], label=label, markersize=9, zorder=3, **style)


def _finish(left: Any, right: Any, problem: Any, proven: bool, x: Clock) -> None:
    unit = problem.unit
    left.set_ylabel(_labels.with_unit(f"objective, {problem.sense}imised", unit))
    to = "best bound" if proven else "best objective found"
    right.set_ylabel(_labels.with_unit(f"|objective - {to}|", unit))
    right.set_yscale("log")
    for ax in (left, right):
        ax.set_xlabel("wall time (s)" if x == "seconds" else "iterations")
        if x == "seconds":
            ax.set_xscale("log")
        else:
            ax.set_xscale("symlog", linthresh=1)
            ends = [line.get_xdata()[-1] for line in ax.get_lines()]
            ax.set_xlim(-0.2, max(2.0, 2 * max(ends)))


def _sentence(courses: Mapping[str, _Course], target: float, proven: bool) -> str:
    scale = max(abs(target), 1e-300)
    ends = {n: abs(c.objective[-1] - target) / scale for n, c in courses.items()}
    ends = {n: v for n, v in ends.items() if np.isfinite(v)}
    if not ends or not proven:
        return ""
    best = min(ends, key=lambda n: ends[n])
    if ends[best] <= _ROUNDING:
        return f"{best} meets the bound to rounding"
    return f"Closest to the bound: {best}, gap {ends[best]:.1e}"
