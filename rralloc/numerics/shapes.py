"""Small things that every batch-first problem needs."""

from __future__ import annotations

import numpy as np

from rralloc.typing import Array


def batched(batch: int | tuple[int, ...] | None, *tail: int) -> tuple[int, ...]:
    """The shape ``(batch..., tail...)``; None is a single instance, an int one batch axis."""
    if batch is None:
        return tail
    return (batch, *tail) if isinstance(batch, int) else (*batch, *tail)


def within_budget(shares: Array, budget: Array) -> Array:
    """Shares ``(..., K)`` clipped to >= 0 and scaled down where their sum exceeds the budget."""
    shares = np.maximum(shares, 0.0)
    used = shares.sum(-1)
    factor = np.where(used > budget, budget / np.where(used > 0, used, 1.0), 1.0)
    return shares * factor[..., None]


def choose(mask: Array, new: Array, old: Array) -> Array:
    """``new`` where the lane mask ``(S,)`` says so, else ``old``; both ``(S, ...)``."""
    return np.where(mask.reshape(mask.shape + (1,) * (old.ndim - mask.ndim)), new, old)
