"""The virtual queue of drift plus penalty: a budget for the average, kept by a backlog.

    Q <- max(Q + spent - budget, 0)

For every path Q_R - Q_0 >= sum (spent - budget), so that R rounds overspend by at most Q_R - Q_0
in all; and if nothing is spent above a level, no backlog exceeds that level by more than one
round's excess. Source: spec mads.md §2.6 and §2.9, derived.
"""

from __future__ import annotations

import numpy as np

from rralloc.typing import Array


def served(backlog: Array, spent: Array, budget: Array | float) -> Array:
    """The backlog after a round; elementwise."""
    return np.maximum(backlog + spent - budget, 0.0)


def path(start: Array, spent: Array, budget: Array | float) -> Array:
    """Backlogs ``(R + 1, ...)`` before each of R rounds and after the last, for ``(R, ...)``.

    The path stays above zero by what its lowest dip would have taken from it (Lindley).
    """
    moves = np.cumsum(spent - budget, axis=0)
    free = np.concatenate([np.zeros((1, *moves.shape[1:])), moves])
    dip = np.minimum(np.minimum.accumulate(free, axis=0) + start, 0.0)
    lifted: Array = np.maximum(start + free - dip, 0.0)
    return lifted


def ceiling(start: Array, silent_from: Array, excess: Array | float) -> Array:
    """What no backlog exceeds if nothing is spent above ``silent_from``.

    ``excess`` is the most that a round can spend beyond its budget.
    """
    return np.maximum(start, silent_from + np.maximum(excess, 0.0))
