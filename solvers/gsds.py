"""GSDS: rank the devices by how well their channels lie in one space, serve the longest prefix.

    pi_1 = argmax |g_k|,    pi_{n+1} = argmax_{k left} |P_n g_k|

P_n projects on the span of the first n channels: similar directions come first, and once N
independent ones are in, the rest follows by strength. For a prefix, one beam for all is sought by
multi-start successive convex approximation (phases frozen, least distance).

Source: greedy spatial device selection as described with arXiv 2302.14336 (abstract) and its public
code, spec ota.md §1; a reconstruction: that code solves each prefix by semidefinite relaxation and
then SCA, and weighs the error against the devices left out; here a prefix is served or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rralloc.forms import Coverage
from rralloc.numerics.beams import unit
from rralloc.numerics.least_distance import max_min
from rralloc.run import Run
from rralloc.solver import Solver
from rralloc.solvers.coverage import normalised
from rralloc.typing import Array, Point

ROUNDING = 1e-12
"""Shares of a channel below this are rounding: no new direction, no projection, a tie."""
STEPS = 20
"""Steps of the phase-frozen ascent from each start."""


class GSDS(Solver):
    """Greedy spatial device selection: the longest prefix of one ranking that a beam serves.

    ``patience``: prefixes in a row that no start could serve before giving up; longer ones hold
    the same devices and more, but the ascent is local. Devices of value 0 are not ranked. Longer
    prefixes are worth more, so values change nothing else.

    Choose this when path losses spread so widely that the order by strength is nearly right; with
    equal path loss it serves one or two devices of twenty fewer than ``coverage``.
    """

    name = "gsds"
    rank = 220
    needs = (Coverage,)

    patience: int = 1

    def solve(self, problem: Any, start: Point | None, run: Run) -> None:
        """The ranking for all lanes at once, then one lane after another.

        Lanes that the time does not reach keep the matched filter of their strongest device.
        """
        form = problem.view(Coverage)
        columns, value = normalised(form)
        order, ranked = spatial_order(columns), (value > 0).sum(-1)
        first = np.take_along_axis(columns, order[:, None, :1], -1)[..., 0]
        m = np.where((ranked > 0)[:, None], unit(first), columns.shape[-2] ** -0.5)
        for lane in range(len(m)):
            reason = run.interruption()
            if reason is not None:
                run.end(reason, np.arange(lane, len(m)))
                break
            if ranked[lane]:
                g = columns[lane][:, order[lane, : ranked[lane]]]
                m[lane] = longest_prefix(g, self.patience)
        run.offer(form.point(m), trace=run.watching)


def spatial_order(columns: Array) -> Array:
    """Devices ``(S, K)`` by projection on the span of those before, equals by strength.

    Zero columns come last.
    """
    lanes, size, count = columns.shape
    every, rank = np.arange(lanes), np.zeros(lanes, dtype=int)
    strength = (columns.real**2 + columns.imag**2).sum(-2)
    left, inside = np.ones((lanes, count), dtype=bool), np.zeros((lanes, count))
    basis, order = np.zeros((lanes, size, size), dtype=complex), np.empty((lanes, count), dtype=int)
    for n in range(count):
        # 1. The largest projection on the span; among equals, and at first, the strongest.
        score = np.where(inside > ROUNDING**2 * strength, inside, 0.0)
        top = np.where(left, score, 0.0).max(-1, keepdims=True)
        equal = left & (score >= top * (1 - ROUNDING))
        pick = np.where(equal, strength, -1.0).argmax(-1)
        order[:, n], left[every, pick] = pick, False
        # 2. The direction it adds, by Gram-Schmidt, twice against rounding.
        g = columns[every, :, pick][..., None]
        rest = g - basis @ (basis.conj().swapaxes(-1, -2) @ g)
        rest = rest - basis @ (basis.conj().swapaxes(-1, -2) @ rest)
        length = np.linalg.norm(rest, axis=-2, keepdims=True)
        fresh = length > ROUNDING * np.linalg.norm(g, axis=-2, keepdims=True)
        q = np.where(fresh, rest / np.where(fresh, length, 1.0), 0.0)
        new = np.flatnonzero(fresh[:, 0, 0] & (rank < size))
        basis[new, :, rank[new]] = q[new, :, 0]
        rank[new] += 1
        # 3. What every device has inside the larger span.
        y = (q.conj().swapaxes(-1, -2) @ columns)[:, 0]
        inside += y.real**2 + y.imag**2
    return order


def longest_prefix(ranked: Array, patience: int = 1) -> Array:
    """A beam ``(N,)`` that serves as many of the first columns ``(N, K)`` as could be found."""
    m, failed = ranked[:, 0] / np.linalg.norm(ranked[:, 0]), 0
    for n in range(2, ranked.shape[1] + 1):
        beams = (
            max_min(ranked[:, :n], s, steps=STEPS, target=1.0) for s in starts(ranked[:, :n], m)
        )
        served = next((beam.m for beam in beams if beam.gain >= 1.0), None)
        m, failed = (m, failed + 1) if served is None else (served, 0)
        if failed >= patience:
            break
    return m


def starts(members: Array, last: Array) -> Iterator[Array]:
    """The beam of the prefix before, the sum of matched filters, the main direction."""
    yield last
    unit = members / np.linalg.norm(members, axis=0)
    yield unit.sum(1)
    yield np.linalg.eigh(unit @ unit.conj().T)[1][:, -1]
