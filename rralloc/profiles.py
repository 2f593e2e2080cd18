"""Profiles of solvers over many cases: shares solved, means, and a sentence that says what is seen.

A *cost table* is a DataFrame, cases x solvers, of what each case cost (seconds, iterations), inf
where it was not solved. Everything here is computed from that table alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.report import seconds as duration
from rralloc.typing import Array

FAILED = 10.0
"""An unsolved case counts as so many times the dearest solved one in a mean."""


def performance(costs: Any) -> Any:
    """Dolan-Moré: share of cases solved within a factor of the cheapest solver, per factor.

    rho_s(f) = |{p : c_ps <= f min_r c_pr}| / |P|. A case that nobody solved counts against all.
    """
    table = costs.to_numpy(dtype=float)
    least = table.min(axis=1, keepdims=True, initial=np.inf)
    with np.errstate(invalid="ignore"):
        ratio = np.where(np.isfinite(table), table / least, np.inf)
    return _shares(ratio, costs.columns, start=1.0)


def data(costs: Any) -> Any:
    """Moré-Wild: share of cases solved at a cost of at most so much, per cost."""
    return _shares(costs.to_numpy(dtype=float), costs.columns)


def _shares(values: Array, names: Any, start: float | None = None) -> Any:
    import pandas as pd

    at = np.unique(values[np.isfinite(values)])
    if start is not None:
        at = np.union1d(at, [start])
    columns = {n: np.sort(values[:, i]) for i, n in enumerate(names)}
    size = max(len(values), 1)
    shares = {n: np.searchsorted(column, at, side="right") / size for n, column in columns.items()}
    return pd.DataFrame(shares, index=at)


def shifted_means(costs: Any, shift: float = 1e-3) -> Any:
    """exp(mean(log(c + s))) - s for each solver, cheapest first; failures at ``FAILED`` times.

    Columns: ``mean``, ``ratio`` to the cheapest, ``solved``, ``failed``.
    """
    import pandas as pd

    table = costs.to_numpy(dtype=float)
    solved = np.isfinite(table)
    dearest = table[solved].max() if solved.any() else 1.0
    filled = np.where(solved, table, FAILED * dearest)
    if not solved.any():
        filled[:] = np.nan
    mean = np.expm1(np.log1p(filled / shift).mean(axis=0)) * shift
    counts = solved.sum(axis=0)
    frame = pd.DataFrame(
        {"mean": mean, "ratio": mean / mean.min(), "solved": counts, "failed": len(table) - counts},
        index=list(costs.columns),
    )
    return frame.sort_values("mean", kind="stable")


def caption(costs: Any, measure: str = "seconds", kind: str = "performance") -> str:
    """One sentence: how many cases, who is cheapest how often, who solves most, who fails."""
    table, names = costs.to_numpy(dtype=float), [str(n) for n in costs.columns]
    size, solved = len(table), np.isfinite(table)
    if not solved.any():
        return f"Nobody solves any of the {_cases(size)}."
    counts = solved.sum(axis=0)
    able = solved.any(axis=1)
    ties = np.isclose(table[able], table[able].min(axis=1, keepdims=True), rtol=1e-12)
    wins = np.bincount(ties.argmax(axis=1), minlength=len(names))
    lead = int(wins.argmax())
    word = {"seconds": "quickest", "cpu_seconds": "quickest (CPU)"}.get(measure, "cheapest")
    said = [f"of {_cases(size)}, {names[lead]} is {word} in {_share(wins[lead], size)}"]
    full = [i for i in range(len(names)) if counts[i] == size]
    typical = [float(np.median(table[solved[:, i], i])) if counts[i] else np.inf for i in full]
    if full:
        listed = sorted(zip(typical, full))
        shown = [f"{names[i]} (median {_amount(m, measure)})" for m, i in listed[:3]]
        more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
        said.append(f"{', '.join(shown)}{more} solve{'s' * (len(listed) == 1)} all")
    else:
        most = int(counts.argmax())
        said.append(f"nobody solves all, {names[most]} most ({_share(counts[most], size)})")
    worst = int(counts.argmin())
    if counts[worst] < size:
        said.append(f"{names[worst]} misses {_share(size - counts[worst], size)}")
    text = "; ".join(said)
    text = text[0].upper() + text[1:]
    if kind == "performance" and len(names) > 1 and lead in full:
        ratio = table[able, lead] / table[able].min(axis=1)
        text += f"; {names[lead]} is never more than {ratio.max():.3g} times the best"
    return text + "."


def _cases(size: int) -> str:
    return f"{size} case{'s' * (size != 1)}"


def _share(count: int, size: int) -> str:
    """Per cent, or the count where per cent would say none or all of what is neither."""
    rounded = round(100 * count / size)
    if 0 < count < size and rounded in (0, 100):
        return f"{count} of {size}"
    return f"{rounded} %"


def _amount(value: float, measure: str) -> str:
    return duration(value) if measure.endswith("seconds") else f"{value:.3g}"
