"""Growing the audience of one beam, device by device: the beam version of ``greedy``.

    start at the strongest device; add the first outsider that can be served with all members

Outsiders are asked by value, then by the gain that the beam already gives them, then by strength.
After each addition the beam is centred, its least gain over the members raised, so that the next
outsider finds room.

Source: spec ota.md §3 (e), "greedy add", a plain baseline; the ranking by value is derived.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rralloc.numerics.least_distance import max_min
from rralloc.solvers._coverage_search import QUICK, Search
from rralloc.typing import Array

STEPS = 20
"""Steps of the phase-frozen ascent until one more device is served."""
ROUGH = 1e-2
"""Centring stops at rises of the least gain below this share."""
DEAF = 1e-3
"""A device that hears less than this share of its strength gives no phase to start from."""


def growing(columns: Array, value: Array) -> Iterator[Array]:
    """Beams ``(N,)`` for more and more members, each worth no less than the one before.

    There is at least one. Columns ``(N, K)`` are normalised to threshold 1. Devices of value 0 are
    never aimed at.
    """
    search = Search(columns, value)
    strength = (columns.real**2 + columns.imag**2).sum(0)
    # 1. The strongest device among the most valuable ones.
    first = int(np.lexsort((-strength, -value))[0])
    length = np.sqrt(strength[first])
    m = columns[:, first] / length if length > 0 else np.eye(len(columns), dtype=complex)[0]
    members, worth = np.arange(len(value)) == first, 0.0
    while True:
        if search.worth(m) >= worth:
            worth = search.worth(m)
            yield m
        # 2. The first outsider that can be served with all members, until there is none.
        for k in _outsiders(search, strength, members, m):
            larger = members | (np.arange(len(value)) == k)
            beam = search.join(larger, _leaning(columns[:, k], m), STEPS)
            if beam.gain >= 1.0:
                # 3. Centre the beam.
                members = larger
                m = max_min(columns[:, members], beam.m, steps=QUICK, tol=ROUGH).m
                break
        else:
            return


def _outsiders(search: Search, strength: Array, members: Array, m: Array) -> Array:
    """Devices of some value that are not members: by value, then gain, then strength."""
    order = np.lexsort((-strength, -search.gain(m), -search.value))
    return order[(~members & (search.value > 0))[order]]


def _leaning(g: Array, m: Array) -> Array:
    """The beam; where column g does not hear it, and so has no phase, leaning towards g."""
    unit = g / np.linalg.norm(g)
    return m if abs(np.vdot(unit, m)) >= DEAF else m + unit
