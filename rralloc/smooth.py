"""The default ``Smooth`` form: every variable divided by its declared scale."""

from __future__ import annotations

import numpy as np

from rralloc.derivatives import Linear, linearise, scales
from rralloc.errors import NotOffered
from rralloc.forms import Smooth
from rralloc.problem import Problem
from rralloc.typing import Array, Point


def scaled(problem: Problem) -> Smooth:
    """Flat coordinates of one instance; refused where the problem is not differentiable."""
    name = type(problem).__name__
    if not problem.differentiable:
        raise NotOffered(f"{name} is not differentiable in its own variables")
    if any(np.dtype(v.dtype).kind != "f" for v in problem.variables if not v.derived):
        raise NotOffered(f"{name} has complex or discrete variables and no flat coordinates")
    return _Scaled(problem).form() if problem.batch_shape == () else _refuse_batch(problem)


def _refuse_batch(problem: Problem) -> Smooth:
    # Applicability is asked of the whole batch; the form itself is used one instance at a time.
    first = problem.flat()[0]
    return _Scaled(first).form()


class _Scaled:
    """Coordinates and a one-point memory, as value and constraints are asked at the same z."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.scale = scales(problem)
        self.sign = 1.0 if problem.sense == "min" else -1.0
        self._at: tuple[bytes, Linear] | None = None

    def form(self) -> Smooth:
        start = self.flatten(self.problem.initial())
        return Smooth(
            self.flatten,
            self.unflatten,
            self.bounds(),
            self.value_grad,
            self.constraints_jac,
            self.linear(start).equality,
        )

    def flatten(self, x: Point) -> Array:
        return np.concatenate([(np.asarray(x[n]) / s).ravel() for n, s in self.scale.items()])

    def unflatten(self, z: Array) -> dict[str, Array]:
        out, first = {}, 0
        for name, scale in self.scale.items():
            out[name] = z[first : first + scale.size].reshape(scale.shape) * scale
            first += scale.size
        return out

    def bounds(self) -> tuple[Array, Array]:
        lows, highs = [], []
        for var in self.problem.variables:
            if not var.derived:
                low, high, _ = self.problem.limits(var)
                scale = self.scale[var.name]
                lows.append((np.broadcast_to(low, scale.shape) / scale).ravel())
                highs.append((np.broadcast_to(high, scale.shape) / scale).ravel())
        return np.concatenate(lows), np.concatenate(highs)

    def linear(self, z: Array) -> Linear:
        key = z.tobytes()
        if self._at is None or self._at[0] != key:
            self._at = key, linearise(self.problem, self.unflatten(z))
        return self._at[1]

    def value_grad(self, z: Array) -> tuple[float, Array]:
        here = self.linear(z)
        return self.sign * here.value, self.sign * here.gradient

    def constraints_jac(self, z: Array) -> tuple[Array, Array]:
        here = self.linear(z)
        return here.slack, here.jacobian
