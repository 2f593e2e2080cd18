"""One instance, linearised in dimensionless flat coordinates z = x / scale.

Serves the ``Smooth`` form (what scipy sees) and the KKT residual of ``verify``. Derivatives are
the problem's own: its ``gradient`` for the objective, complex step for the constraints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rralloc.numerics.complex_step import STEP, perturb
from rralloc.problem import Problem
from rralloc.typing import Array, Point


@dataclass(frozen=True, eq=False, repr=False)
class Linear:
    """Value, gradient ``(n,)``, scaled slacks ``(m,)``, Jacobian ``(m, n)``, equality mask."""

    value: float
    gradient: Array
    slack: Array
    jacobian: Array
    equality: Array


def scales(problem: Problem) -> dict[str, Array]:
    """Variable name -> scale in the variable's shape; 1 where the declared scale is 0."""
    found = {}
    for var in problem.variables:
        if not var.derived:
            _, _, scale = problem.limits(var)
            scale = np.broadcast_to(np.abs(scale), problem.shape_of(var))
            found[var.name] = np.where((scale > 0) & np.isfinite(scale), scale, 1.0)
    return found


def linearise(problem: Problem, x: Point) -> Linear:
    """Linearise one instance (``batch_shape == ()``) at x."""
    scale = scales(problem)
    x = {name: np.asarray(x[name]) for name in scale}
    flat_scale = np.concatenate([scale[n].ravel() for n in x])
    slopes = problem.gradient(x)
    gradient = np.concatenate([slopes[n].ravel() for n in x]) * flat_scale
    parts, rows, kinds = [], [], []
    raised = problem.constraints(perturb(x, 0)) if problem.constraints(x) else ()
    for here, there in zip(problem.constraints(x), raised):
        slack = np.atleast_1d(here.slack)
        unit = np.where(np.asarray(here.scale) > 0, here.scale, 1.0)
        moved = np.imag(there.slack).reshape((flat_scale.size, *slack.shape)) / STEP
        parts.append((slack / unit).ravel())
        rows.append((moved / unit).reshape(flat_scale.size, -1).T * flat_scale)
        kinds.append(np.full(slack.size, here.equality))
    empty = np.zeros((0, flat_scale.size))
    return Linear(
        float(problem.objective(x)),
        gradient,
        np.concatenate(parts) if parts else np.zeros(0),
        np.concatenate(rows) if rows else empty,
        np.concatenate(kinds) if kinds else np.zeros(0, dtype=bool),
    )
