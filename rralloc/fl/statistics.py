"""Reading learning curves, and confidence intervals over seeds.

Paired comparison of two schemes over the same n seeds, with d_i = a_i - b_i:

    mean(d) +- t_{(1 + confidence)/2, n - 1} * sd(d) / sqrt(n),   sd with n - 1 in the denominator

Sharing the seed removes what both schemes have in common (data, channel, start) from d_i, so the
interval is narrower than one from two separate sets of runs. One seed says nothing about the
spread: n = 1 gives (-inf, inf). A comparison is settled when 0 lies outside the interval.

A learning curve is a step function: between two evaluations it keeps the last value. Rounds that
were not evaluated carry NaN and are skipped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval [low, high], from `count` values.

    low = -inf and high = inf mean that one value was given: the spread is unknown.
    """

    mean: float
    low: float
    high: float
    count: int


def mean_interval(a: ArrayLike, confidence: float = 0.95) -> Interval:
    """mean(a) +- t_{(1 + confidence)/2, n-1} sd(a) / sqrt(n), in the unit of `a` (n,).

    n = 1 gives an infinite interval, equal values one of width zero.
    Raises ValueError: `a` is empty, not one-dimensional or not finite, or `confidence` lies
    outside (0, 1).

    Choose this when: you report one scheme over several seeds.
    """
    values = _finite_vector("a", a)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence} must lie in (0, 1); 0.95 is usual.")
    mean, half = float(values.mean()), _half_width(values, confidence)
    return Interval(mean, mean - half, mean + half, len(values))


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """The interval of mean(a - b), where a[i] and b[i] (n,) come from the same seed.

    n = 1 gives an infinite interval; identical pairs give (0, 0, 0).
    Raises ValueError: `a` and `b` differ in length, or as `mean_interval`. Costs that are inf
    because a target was never reached have no mean: compare accuracies at a budget instead.

    Choose this when: you claim that one scheme beats another.
    """
    first, second = _finite_vector("a", a), _finite_vector("b", b)
    if len(first) != len(second):
        raise ValueError(
            f"b has {len(second)} values and a has {len(first)}; pass one pair per seed."
        )
    return mean_interval(first - second, confidence)


def at(x_curve: ArrayLike, y_curve: ArrayLike, x: float) -> float:
    """The step curve at x: its last value, NaN skipped, at a point not after x.

    x_curve: (R,) rising or equal. y_curve: (R,). Before the first evaluated point the first value
    is returned, so the result is never NaN. At equal x_curve the later value counts.
    Raises ValueError: shapes differ, x_curve falls or has NaN, x is NaN, or y_curve is all NaN.

    Choose this when: you read one curve at one time, energy or round.
    """
    return float(accuracy_at(x_curve, y_curve, x))


def accuracy_at(seconds: ArrayLike, accuracy: ArrayLike, budget: ArrayLike) -> Floats:
    """The value of every curve at every budget: `at` for many runs and budgets.

    seconds: (..., R) cumulative time (s), or any other cost. accuracy: (..., R), broadcast
    against it. budget: any shape, in the unit of `seconds`. Returns runs' shape + budget's shape:
    curves (S, R) and a budget (B,) give (S, B).
    Raises ValueError: as `at`.

    Choose this when: schemes are compared after the same time, not after the same rounds.
    """
    x, y = _curves(seconds, accuracy)
    query = np.asarray(budget, dtype=np.float64)
    if np.isnan(query).any():
        raise ValueError("x or budget is NaN; pass numbers in the unit of the curve.")
    rows = zip(x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]))
    values = [_step(row_x, row_y, query) for row_x, row_y in rows]
    return np.reshape(values, x.shape[:-1] + query.shape)


def rounds_to(accuracy: ArrayLike, target: float) -> int | None:
    """The first index r with accuracy[r] >= target, None if there is none. accuracy: (R,).

    With accuracy[0] evaluated before training, r is the number of rounds used. NaN is skipped.
    Raises ValueError: `accuracy` is not (R,), or `target` is NaN.

    Choose this when: rounds, not seconds, are what you pay for.
    """
    if math.isnan(target):
        raise ValueError("target=nan must be a number; pass an accuracy such as 0.9.")
    values = np.asarray(accuracy, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"accuracy has shape {values.shape}; pass one curve (R,).")
    reached = np.flatnonzero(values >= target)
    return int(reached[0]) if len(reached) else None


def first_reaching(cost: ArrayLike, accuracy: ArrayLike, target: float) -> float:
    """cost[r] at the first r with accuracy[r] >= target, in the unit of cost; inf if never.

    cost: (R,) cumulative seconds, joules, rounds, ... accuracy: (R,), NaN skipped.
    Raises ValueError: shapes differ, `cost` falls or has NaN, or `target` is NaN.

    Choose this when: you want time or energy to a target accuracy.
    """
    x, y = _curves(cost, accuracy)
    index = rounds_to(y, target)
    return math.inf if index is None else float(x[index])


def _half_width(values: Floats, confidence: float) -> float:
    from scipy import stats

    if len(values) == 1:
        return math.inf
    if np.ptp(values) == 0.0:  # rounding of the mean would leave a width of one ulp
        return 0.0
    quantile = float(stats.t.ppf(0.5 + 0.5 * confidence, len(values) - 1))
    return quantile * float(values.std(ddof=1)) / math.sqrt(len(values))


def _step(x: Floats, y: Floats, query: Floats) -> Floats:
    evaluated = ~np.isnan(y)
    if not evaluated.any():
        raise ValueError("the curve holds only NaN; evaluate at least one round.")
    index = np.searchsorted(x[evaluated], query, side="right") - 1
    return y[evaluated][np.maximum(index, 0)]


def _curves(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Both (..., R) in float64, with x checked to be rising or equal along the last axis."""
    along = np.asarray(x, dtype=np.float64)
    values = np.asarray(y, dtype=np.float64)
    if along.shape[-1:] != values.shape[-1:] or values.shape[-1:] in ((), (0,)):
        raise ValueError(
            f"the curve has x of shape {along.shape} and y of shape {values.shape}; "
            "pass the same number of points R >= 1 in the last axis."
        )
    # Written so that NaN fails too.
    if not (along[..., 1:] >= along[..., :-1]).all() or np.isnan(along).any():
        raise ValueError(
            "the x of the curve (seconds, cost, ...) falls or is NaN; pass cumulative sums."
        )
    first, second = np.broadcast_arrays(along, values)
    return first, second


def _finite_vector(label: str, values: ArrayLike) -> Floats:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0 or not np.isfinite(vector).all():
        raise ValueError(
            f"{label}={values!r} must be a non-empty list of finite numbers, one per seed."
        )
    return vector
