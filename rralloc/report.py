"""Words for people: how a Solution reads, how numbers are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rralloc.typing import Array

if TYPE_CHECKING:
    from rralloc.solution import Solution


def describe(sol: Solution) -> str:
    """``100 instances: 71 global, 29 local; worst gap 3.1e-05; ...`` on one readable line."""
    name, head = type(sol.problem).__name__, f"{sol.solver}"
    if sol.problem.batch_shape == ():
        value = f", objective {sol.objective:.9g} {unit_of(sol)}".rstrip()
        status = sol.status.name.lower() + ("" if np.isnan(sol.objective) else value)
    else:
        counts = ", ".join(f"{n} {word}" for word, n in sol.status.counts().items())
        status = f"{sol.problem.size} instances: {counts}"
    parts = [f"{name} by {head}: {status}"]
    gaps = np.asarray(sol.gap)
    if np.isfinite(gaps).any():
        parts.append(f"{_worst(sol)}gap {np.nanmax(gaps):.1e} ({sol.bound_method})")
    violations = np.asarray(sol.violation)
    if np.isfinite(violations).any():
        parts.append(f"{_worst(sol)}violation {np.nanmax(violations):.1e}")
    parts.append(seconds(sol.seconds))
    text = "; ".join(parts)
    return f"<{text}>" + (f"\n  {sol.message}" if sol.message else "")


def _worst(sol: Solution) -> str:
    return "" if sol.problem.batch_shape == () else "worst "


def unit_of(sol: Solution) -> str:
    """The objective's unit, empty for a pure number."""
    return "" if sol.problem.unit == "1" else sol.problem.unit


def seconds(value: float) -> str:
    """A duration with the prefix people expect."""
    if value >= 1.0:
        return f"{value:.1f} s"
    return f"{1e3 * value:.1f} ms" if value >= 1e-3 else f"{1e6 * value:.0f} us"


def numbers(values: Array, digits: int = 4) -> str:
    """A short array as text, for messages."""
    return "(" + ", ".join(f"{v:.{digits}g}" for v in np.ravel(values)) + ")"
