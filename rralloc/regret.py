"""Regret: which solver to use where, over two statistics of the channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.problem import Problem
from rralloc.typing import Array

if TYPE_CHECKING:
    from rralloc.comparison import Comparison

Statistic = str | Callable[[Problem], Array]
FLOOR_DB = -400.0
"""Stands for a gain of zero."""


def statistic(problem: Problem, what: Statistic) -> Array:
    """A number for each instance ``(S,)``.

    ``"mean FIELD"``: 10 log10 of the mean; ``"spread FIELD"``: standard deviation of the dB values,
    both over all entries of an instance (|.|^2 where the field is complex); ``"FIELD"``: the field
    itself, which must have one number for each instance; or a function of the problem.
    """
    flat = problem.flat()
    if callable(what):
        found = np.asarray(what(flat), dtype=float)
    else:
        how, _, name = what.rpartition(" ")
        if name not in flat._data or how not in ("", "mean", "spread"):
            fields = ", ".join(flat._data)
            raise InvalidProblem(
                f"statistic {what!r}: say 'mean FIELD', 'spread FIELD' or 'FIELD' with FIELD one "
                f"of {fields}, or give a function of the problem"
            )
        found = _of_field(getattr(flat, name), how, flat.size, what)
    if not np.isfinite(found).all():
        raise InvalidProblem(
            f"statistic {what!r} is not finite on {int((~np.isfinite(found)).sum())} of "
            f"{flat.size} instances; leave these out of the comparison"
        )
    if found.shape != (flat.size,):
        raise InvalidProblem(
            f"statistic {what!r} has shape {found.shape}; it must give one number for each of the "
            f"{flat.size} instances"
        )
    return found


def _of_field(array: Array, how: str, size: int, what: Statistic) -> Array:
    if not isinstance(array, np.ndarray):
        raise InvalidProblem(f"statistic {what!r}: this instance leaves that field open")
    values = np.abs(array) ** 2 if np.iscomplexobj(array) else array
    if not how:
        return np.asarray(values, dtype=float)
    values = values.reshape(size, -1)
    with np.errstate(divide="ignore"):
        if how == "mean":
            return np.maximum(10 * np.log10(values.mean(axis=1)), FLOOR_DB)
        decibels = np.maximum(10 * np.log10(values), FLOOR_DB)
    spread: Array = decibels.std(axis=1)
    return spread


def label(what: Statistic) -> str:
    """How an axis is called."""
    if callable(what):
        return (what.__name__ if hasattr(what, "__name__") else repr(what)).replace("_", " ")
    how, _, _ = what.rpartition(" ")
    return f"{what} [dB]" if how else what


def table(comparison: Comparison, x: Statistic, y: Statistic, bins: int, close: float) -> Any:
    """The long table that ``Comparison.regret`` describes."""
    import pandas as pd

    if not bins >= 1:
        raise InvalidProblem(f"bins = {bins!r}; give 1 or more")
    # 1. Where every instance lies: cells that hold alike many instances along each axis.
    names = list(comparison.problems)
    where = {n: [statistic(comparison.problems[n], s) for s in (x, y)] for n in names}
    edges = [_edges(np.concatenate([where[n][axis] for n in names]), bins) for axis in range(2)]
    cells = {n: [_place(where[n][axis], edges[axis]) for axis in range(2)] for n in names}
    # 2. What every solver lost there, and how long it took for an instance.
    lines = []
    for (name, solver), loss, took in comparison.by_instance():
        i, j = cells[name]
        failed = np.isnan(loss)
        lost = np.where(failed, 1.0, np.minimum(loss, 1.0))
        line = {"i": i, "j": j, "regret": lost, "failed": failed, "seconds": took}
        lines.append(pd.DataFrame(line).assign(solver=solver))
    grouped = pd.concat(lines).groupby(["i", "j", "solver"], sort=True)
    frame = grouped.agg(
        instances=("regret", "size"),
        regret=("regret", "mean"),
        failed=("failed", "mean"),
        seconds=("seconds", "mean"),
    ).reset_index()
    # 3. The choice: the quickest whose regret is small; else the least regret.
    frame["choice"] = False
    for _, cell in frame.groupby(["i", "j"]):
        good = cell[(cell.regret <= close) & cell.seconds.notna()]
        chosen = good.seconds.idxmin() if len(good) else cell.regret.idxmin()
        frame.loc[chosen, "choice"] = True
    for axis, letter in enumerate("xy"):
        index = frame["ij"[axis]].to_numpy()
        frame[f"{letter}_low"], frame[f"{letter}_high"] = edges[axis][index], edges[axis][index + 1]
    frame.attrs = {"x": label(x), "y": label(y), "close": close}
    return frame


def _edges(values: Array, bins: int) -> Array:
    """Quantiles as edges; fewer where many values agree."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
    return edges if edges.size > 1 else np.array([edges[0], edges[0]])


def _place(values: Array, edges: Array) -> Array:
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, edges.size - 2)
