"""One instance as rows ``c_i(z) >= 0`` over a box: what ``explain`` searches and blames.

A row is one constraint at one device, or one bound that is data (a power cap). Bounds that are no
data (power >= 0, a share <= 1) make up the box and are never relaxed. Coordinates z are the
variables divided by their scales, complex ones as real and imaginary part; integers are relaxed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rralloc.errors import NotOffered
from rralloc.explanation.parts import Row
from rralloc.fields import Constraint, Variable
from rralloc.numerics.complex_step import STEP, perturb
from rralloc.problem import Problem
from rralloc.typing import Array, Point

OUTSIDE = -1e20
"""Scaled slack of a row that is no number: very much violated."""
DIFFERENCE = 1e-6
"""Step of central differences where complex step is not allowed."""


def names_of(constraints: Iterable[Constraint]) -> list[str]:
    """Their names; a second one of a name is another constraint, ``rate (2)``."""
    names: list[str] = []
    given = list(constraints)
    taken = {c.name for c in given}
    for constraint in given:
        name, again = constraint.name, 1
        while name in names or (again > 1 and name in taken):
            again += 1
            name = f"{constraint.name} ({again})"
        names.append(name)
    return names


class Rows:
    """Scaled slacks ``(m,)`` and Jacobian ``(m, n)`` of one instance, with a one-point memory."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.free = [v for v in problem.variables if not v.derived]
        kinds = {np.dtype(v.dtype).kind for v in self.free}
        if not kinds <= set("fic"):
            raise NotOffered(f"{type(problem).__name__} decides about things that are no numbers")
        self.analytic = problem.differentiable and "c" not in kinds
        self.scales = {v.name: _scale(problem, v) for v in self.free}
        self.rows: list[Row] = []
        self._at: tuple[Array, Array] | None = None
        self._slope: Array | None = None
        self._line: tuple[Array, Array, Array] | None = None
        self._box()
        self._list_bounds()
        self._list_constraints(problem.initial())
        self.size = np.array([r.scale for r in self.rows])

    # -- coordinates ------------------------------------------------------------------------

    def flatten(self, x: Point) -> Array:
        """z of a point."""
        parts = []
        for var in self.free:
            scaled = np.ravel(np.broadcast_to(x[var.name], self._shape(var)))
            scaled = scaled / self.scales[var.name].ravel()
            parts += [scaled.real, scaled.imag] if np.dtype(var.dtype).kind == "c" else [scaled]
        return np.concatenate(parts).astype(float)

    def unflatten(self, z: Array) -> dict[str, Array]:
        """The point of z; leading axes of z are kept."""
        out, first = {}, 0
        for var in self.free:
            scale = self.scales[var.name]
            piece = z[..., first : first + scale.size]
            first += scale.size
            if np.dtype(var.dtype).kind == "c":
                piece = piece + 1j * z[..., first : first + scale.size]
                first += scale.size
            out[var.name] = piece.reshape(z.shape[:-1] + scale.shape) * scale
        return out

    def _shape(self, var: Variable) -> tuple[int, ...]:
        return self.problem.shape_of(var)

    def _box(self) -> None:
        lows, highs = [], []
        for var in self.free:
            scale = self.scales[var.name]
            twice = 2 if np.dtype(var.dtype).kind == "c" else 1
            low, high = _hard(self.problem, var)
            lows.append(np.tile((low / scale).ravel(), twice))
            highs.append(np.tile((high / scale).ravel(), twice))
        self.low, self.high = np.concatenate(lows), np.concatenate(highs)

    # -- rows -------------------------------------------------------------------------------

    def _list_bounds(self) -> None:
        """The finite bounds that are data: coordinate, side (+1 from below), value in z."""
        found: list[tuple[int, int, float]] = []
        first = 0
        for var in self.free:
            scale = self.scales[var.name]
            low, high, _ = self.problem.limits(var)
            real = np.dtype(var.dtype).kind in "fi"
            for word, value, side in ((var.low, low, 1), (var.high, high, -1)):
                if not (real and _relaxable(word, var)):
                    continue
                field = word if isinstance(word, str) and word in self.problem._data else None
                name = f"{var.name} {'>=' if side == 1 else '<='} {word}"
                full = np.broadcast_to(value, scale.shape)
                for place, index in enumerate(np.ndindex(scale.shape)):
                    if np.isfinite(full[index]):
                        size = float(scale[index])
                        found.append((first + place, side, float(full[index]) / size))
                        self.rows.append(Row(name, index, var.unit, size, field, -side))
            first += scale.size * (1 if real else 2)
        self._where = np.array([f[0] for f in found], dtype=int)
        self._side = np.array([f[1] for f in found], dtype=float)
        self._end = np.array([f[2] for f in found], dtype=float)

    def _list_constraints(self, x: Point) -> None:
        """Each slack that is not +inf; an equality is a row from below and one from above."""
        take, factor, first = [], [], 0
        found = self._constraints(x)
        for name, constraint in zip(names_of(found), found):
            slack = np.asarray(constraint.slack)
            scale = np.broadcast_to(_positive(constraint.scale), slack.shape)
            for side in (1.0, -1.0) if constraint.equality else (1.0,):
                for place, index in enumerate(np.ndindex(slack.shape)):
                    if slack[index] != np.inf:
                        size = float(scale[index])
                        self.rows.append(Row(name, index, constraint.unit, size))
                        take.append(first + place)
                        factor.append(side / size)
            first += slack.size
        self._shapes = [np.shape(c.slack) for c in found]
        self._take, self._factor = np.array(take, dtype=int), np.array(factor)

    def _constraints(self, x: Point) -> tuple[Constraint, ...]:
        with np.errstate(all="ignore"):
            full = {**self.problem.complete(x), **x} if len(x) < len(self.problem.variables) else x
            return self.problem.constraints(full)

    def _slacks(self, z: Array) -> Array:
        """Scaled slacks ``(..., m)`` at z ``(..., n)``."""
        lead = z.shape[:-1]
        bounds = self._side * (z[..., self._where] - self._end)
        # A slack of data alone has no leading axis.
        pieces = [
            np.broadcast_to(c.slack, lead + shape).reshape((*lead, -1))
            for c, shape in zip(self._constraints(self.unflatten(z)), self._shapes)
        ]
        if not pieces:
            return bounds
        slack = np.concatenate(pieces, -1)[..., self._take] * self._factor
        return np.concatenate([bounds, slack], -1)

    def is_linear(self, z: Array) -> None:
        """The rows were found to be linear: their tangents at z are all there is to evaluate."""
        self._line = self.slack(z), self.jacobian(z), z

    def slack(self, z: Array) -> Array:
        """Scaled slacks ``(m,)``; deeply negative where they are no numbers."""
        if self._line is not None:
            return np.asarray(self._line[0] + self._line[1] @ (z - self._line[2]))
        if self._at is None or not np.array_equal(self._at[0], z):
            with np.errstate(all="ignore"):
                slack = self._slacks(z).real
            slack = np.where(np.isnan(slack), OUTSIDE, np.clip(slack, OUTSIDE, -OUTSIDE))
            self._at, self._slope = (z.copy(), slack), None
        return self._at[1]

    def numbers(self, z: Array) -> Array:
        """Which slacks are finite numbers at z ``(m,)``."""
        with np.errstate(all="ignore"):
            return np.asarray(np.isfinite(self._slacks(z)))

    def jacobian(self, z: Array) -> Array:
        """Their derivatives ``(m, n)``; zero where they are no numbers."""
        if self._line is not None:
            return self._line[1]
        self.slack(z)
        if self._slope is None:
            with np.errstate(all="ignore"):
                slope = self._by_complex_step(z) if self.analytic else self._by_steps(z)
            self._slope = np.where(np.isfinite(slope), slope, 0.0)
        return self._slope

    def _by_complex_step(self, z: Array) -> Array:
        # For the slopes alone: the real part of complex log1p is less exact than the real one.
        raised = self._slacks(perturb({"z": z}, 0)["z"])
        return np.asarray(raised.imag.T / STEP)

    def _by_steps(self, z: Array) -> Array:
        step = DIFFERENCE * np.maximum(1.0, np.abs(z))
        ahead, behind = (self._slacks(z + s * np.diag(step)) for s in (1, -1))
        return np.asarray(((ahead - behind) / (2 * step[:, None])).T.real)


def _positive(scale: Array | float) -> Array:
    size = np.abs(scale)
    return np.where((size > 0) & np.isfinite(size), size, 1.0)


def _scale(problem: Problem, var: Variable) -> Array:
    """The size of the box where it has one; else the declared scale."""
    low, high, scale = problem.limits(var)
    if not isinstance(var.scale, str) and var.scale == 1.0:
        scale = _positive(np.where(np.isfinite(low), low, 0.0))
    reach = np.where(np.isfinite(high), np.abs(high), 0.0)
    size = np.where(reach > 0, reach, _positive(scale))
    return np.array(np.broadcast_to(size, problem.shape_of(var)))


def _relaxable(word: float | str, var: Variable) -> bool:
    """A bound is data if it has a name, or is a number with a unit that is not zero."""
    return isinstance(word, str) or (np.isfinite(word) and word != 0 and var.unit != "1")


def _hard(problem: Problem, var: Variable) -> tuple[Array, Array]:
    """Bounds that nothing relaxes: those that are no data, else the range of the field."""
    ends = []
    for word, end in ((var.low, -np.inf), (var.high, np.inf)):
        if not _relaxable(word, var):
            end = float(word)
        elif isinstance(word, str) and word in problem._data:
            info = problem._data[word]
            end = info.low if end < 0 else info.high
        ends.append(np.full(problem.shape_of(var), end))
    return ends[0], ends[1]
