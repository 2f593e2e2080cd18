"""Gaps in a sequence of rounds: how long what happens now and then stays away."""

from __future__ import annotations

import numpy as np

from rralloc.typing import Array


def mean_gap(met: Array) -> Array:
    """Mean length ``(..., N)`` of the runs of False over the rounds R of ``(..., R, N)``."""
    away = np.concatenate([np.zeros_like(met[..., :1, :]), ~met], axis=-2)
    gaps = (away[..., 1:, :] & ~away[..., :-1, :]).sum(-2)
    return np.asarray((~met).sum(-2) / np.maximum(gaps, 1))
