"""Many beams at once: annealed counting ascent, and moves of single devices by soft minimum.

Arrays are ``(S, N, L)``: lanes, antennas, beams. Columns are normalised to threshold 1. Everything
is a matrix product and elementwise; single precision is enough, as the problem counts again.

Source: spec ota.md, "Better ascent" and "effort 1/2/3" (they override (d2)); derived.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.typing import Array

EDGE = np.float32(1 + 1e-6)
"""Gain from which a beam counts a device here: rounding must not promise what is not there."""
NEAR = np.float32(0.8)
"""Gain from which an outsider may yet be added; measured, .7 to .95 do as well."""
TINY = np.float32(1e-30)


class Field(NamedTuple):
    """Columns ``(S, N, K)``, their conjugate rows ``(S, K, N)``, values ``(S, K)``."""

    columns: Array
    rows: Array
    value: Array

    @classmethod
    def of(cls, columns: Array, value: Array) -> Field:
        """In single precision, values relative to the largest."""
        g = columns.astype(np.complex64)
        scale = np.maximum(value.max(-1, keepdims=True), 1e-300)
        rows = np.ascontiguousarray(g.conj().swapaxes(-1, -2))
        return cls(g, rows, (value / scale).astype(np.float32))

    def gain(self, beams: Array) -> tuple[Array, Array]:
        """g_k^H m and |g_k^H m|^2 ``(S, K, L)``."""
        y = self.rows @ beams
        return y, y.real**2 + y.imag**2

    def worth(self, gain: Array) -> Array:
        """Value of the served devices ``(S, L)``; among equals, of those that are nearly served."""
        near = np.float32(0.5 / gain.shape[1]) * (gain >= NEAR)
        return (self.value[:, None, :] @ (near + (gain >= EDGE)))[:, 0, :]

    def toward(self, weighted: Array, beams: Array, damping: float) -> Array:
        """Unit beams along G (W y) of unit length plus ``damping`` times where they were."""
        return unit(unit(self.columns @ weighted) + np.float32(damping) * beams)


def unit(beams: Array) -> Array:
    """Each beam at norm 1; 0 for 0."""
    power = (beams.real**2 + beams.imag**2).sum(-2, keepdims=True)
    return beams / np.sqrt(np.maximum(power, TINY))


def anneal(field: Field, beams: Array, betas: Array, halve_at: int | None) -> tuple[Array, Array]:
    """Best beams met on the way ``(S, N, L)`` and what they are worth ``(S, L)``.

    The count is smoothed to sum_k w_k sigmoid(beta (a_k - 1) + 1.2), a_k = |g_k^H m|, and beta
    rises; at step ``halve_at`` only the better half of the beams goes on.
    """
    best = beams.copy()
    record = np.full((beams.shape[0], beams.shape[2]), -1, dtype=np.float32)
    for step, beta in enumerate(betas):
        # 1. Who hears which beam; keep the best that each start has met.
        y, gain = field.gain(beams)
        worth = field.worth(gain)
        better = worth >= record
        np.copyto(record, worth, where=better)
        np.copyto(best, beams, where=better[:, None, :])
        # 2. Halve the field once.
        if step == halve_at:
            keep = (-record).argsort(-1, kind="stable")[:, : max(1, record.shape[1] // 2)]
            record = np.take_along_axis(record, keep, -1)
            beams, best = (np.take_along_axis(b, keep[:, None, :], -1) for b in (beams, best))
            y, gain = (np.take_along_axis(v, keep[:, None, :], -1) for v in (y, gain))
        # 3. Step along the gradient of the smoothed count, damped more and more.
        a = np.sqrt(gain)
        e = np.exp(-np.abs(np.float32(beta) * (a - 1) + np.float32(1.2)))
        slope = e / (1 + e) ** 2 / np.maximum(a, TINY)
        slope *= field.value[:, :, None]
        beams = field.toward(slope * y, beams, 0.5 + 0.2 * beta)
    _, gain = field.gain(beams)
    worth = field.worth(gain)
    better = worth >= record
    return np.where(better[:, None, :], beams, best), np.where(better, worth, record)


def soft_minimum(field: Field, members: Array, beams: Array) -> Array:
    """Beams that raise the least gain over their members ``(S, K, L)``."""
    for beta in np.geomspace(8, 320, 30):
        y, gain = field.gain(beams)
        a = np.sqrt(gain)
        least = np.where(members, a, np.inf).min(1, keepdims=True)
        e = np.exp(np.float32(-beta) * np.where(members, a - least, np.float32(np.inf)))
        beams = field.toward(e / np.maximum(a, TINY) * y, beams, 0.5 * beta)
    return beams


def add_one(field: Field, beams: Array, record: Array, tries: int = 3) -> tuple[Array, Array]:
    """Try to serve one of the nearest ``tries`` outsiders as well; keep what is better."""
    _, gain = field.gain(beams)
    served, near = gain >= EDGE, _outsiders(field, gain, tries)
    trials = [served | _only(field, near[:, j]) for j in range(near.shape[1])]
    return _best_of(field, trials, beams, record, ties=False)


def swap_one(field: Field, beams: Array, record: Array, tries: int = 2) -> tuple[Array, Array]:
    """Let one of the two tightest members go for one of the nearest outsiders; ties are moves."""
    _, gain = field.gain(beams)
    served, near = gain >= EDGE, _outsiders(field, gain, tries)
    tight = np.where(served, gain, np.inf).argsort(1, kind="stable")[:, :2]
    trials = [
        served & ~_only(field, tight[:, i]) | _only(field, near[:, j])
        for i in range(tight.shape[1])
        for j in range(near.shape[1])
    ]
    return _best_of(field, trials, beams, record, ties=True)


def _outsiders(field: Field, gain: Array, tries: int) -> Array:
    """The unserved devices of highest gain ``(S, tries, L)``."""
    left = np.where((gain < EDGE) & (field.value[:, :, None] > 0), gain, -1.0)
    return (-left).argsort(1, kind="stable")[:, :tries]


def _only(field: Field, device: Array) -> Array:
    """Mask ``(S, K, L)`` of one device for each beam."""
    return np.arange(field.value.shape[1])[None, :, None] == device[:, None, :]


def _best_of(
    field: Field, trials: list[Array], beams: Array, record: Array, ties: bool
) -> tuple[Array, Array]:
    """Raise the least gain of every trial set and keep, for each beam, the best that came out."""
    count, size = len(trials), beams.shape[2]
    moved = soft_minimum(field, np.concatenate(trials, -1), np.tile(beams, (1, 1, count)))
    worth = field.worth(field.gain(moved)[1]).reshape(-1, count, size)
    pick = worth.argmax(1)[:, None, :]
    found = np.take_along_axis(worth, pick, 1)[:, 0]
    shaped = moved.reshape(*moved.shape[:2], count, size)
    new = np.take_along_axis(shaped, pick[:, None], 2)[:, :, 0]
    better = found >= record if ties else found > record
    return np.where(better[:, None, :], new, beams), np.where(better, found, record)
