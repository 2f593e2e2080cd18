"""Elementwise roots of monotone functions, all lanes at once, finished lanes set aside.

Safeguarded Newton: a step that leaves the bracket, or is not half the one before, is replaced by
bisection, so convergence is certain and quadratic at the end. Tested against
``scipy.optimize.elementwise.find_root``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from rralloc.typing import Array

Function = Callable[..., tuple[Array, Array]]


def bracketed_root(
    fun: Function,
    low: Array,
    high: Array,
    *data: Array,
    tol: float = 4e-16,
    max_iter: int = 200,
    spacing: Literal["linear", "log"] = "linear",
) -> Array:
    """x in [low, high] with f(x) = 0 for non-increasing f; ``fun(x, *data)`` gives (f, f').

    All arrays are 1-D over lanes. If f(low) < 0 the answer is low, if f(high) > 0 it is high.
    ``tol`` is relative to |x|. ``spacing="log"`` bisects the geometric mean (low > 0).
    """
    low, high = (np.array(v, dtype=float) for v in (low, high))
    x = middle(low, high, spacing)
    answer = np.empty_like(x)
    lanes, step = np.arange(x.size), high - low
    for _ in range(max_iter):
        value, slope = fun(x, *data)
        low, high = np.where(value >= 0, x, low), np.where(value <= 0, x, high)
        trial = guarded_newton(x, value, slope, low, high, step, spacing)
        step = np.abs(trial - x)
        done = (step <= tol * np.abs(x)) | (high - low <= tol * np.abs(high))
        if done.any():
            answer[lanes[done]] = trial[done]
            keep = ~done
            lanes, low, high, trial = lanes[keep], low[keep], high[keep], trial[keep]
            step = step[keep]
            data = tuple(d[keep] for d in data)
        if lanes.size == 0:
            return answer
        x = trial
    answer[lanes] = x
    return answer


def middle(low: Array, high: Array, spacing: str) -> Array:
    """The point that bisects a bracket, arithmetic or geometric (the root may span 300 decades)."""
    if spacing == "log":
        mean: Array = np.sqrt(low) * np.sqrt(high)
        return np.clip(mean, low, high)
    return low + 0.5 * (high - low)


def guarded_newton(
    x: Array, value: Array, slope: Array, low: Array, high: Array, step: Array, spacing: str
) -> Array:
    """The Newton point, or the bracket's middle where it leaves the bracket or creeps.

    A step that is not half the one before (``step``) may creep along a flat stretch or away from
    a pole; below 1e-12 of x it is rounding and allowed.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        newton = x - value / slope
        inside = (newton >= low) & (newton <= high)  # an end: the last step of a monotone run
        inside &= np.abs(newton - x) <= np.maximum(0.5 * step, 1e-12 * np.abs(x))
    return np.where(value == 0, x, np.where(inside, newton, middle(low, high, spacing)))
