"""Many beams at once: annealed counting ascent, and annealing again from disturbed beams.

Arrays are ``(S, N, L)``: lanes, antennas, beams. Columns are normalised to threshold 1. Everything
is a matrix product and elementwise; single precision is enough, as the problem counts again.

Source: spec ota.md, "Better ascent" (it overrides (d2)); momentum, the number of steps and the
reheats are derived.
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
MOMENTUM = np.float32(0.7)
"""How much of the last step is taken again: worth three times the steps at 200 devices."""
SHAKE = np.float32(0.35)
"""Length of the disturbance before a reheat; measured, .2 to .7 do nearly as well."""
COLD, WARM, HOT = 320.0, 12.0, 2.0
"""Slopes of the smoothed count: at the end, at the start of a reheat, at the start."""


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


def steps(antennas: int) -> int:
    """Steps of one annealing: more dimensions take longer; measured for 3 to 16 antennas."""
    return min(max(30, 10 * antennas - 20), 240)


def anneal(
    field: Field, beams: Array, hot: float, count: int, halve: bool = False
) -> tuple[Array, Array]:
    """Best beams met on the way ``(S, N, L)`` and what they are worth ``(S, L)``.

    The count is smoothed to sum_k w_k sigmoid(beta (a_k - 1) + 1.2), a_k = |g_k^H m|, and beta
    rises from ``hot`` in ``count`` steps; with ``halve``, only the better half of the beams goes
    on after two fifths of them.
    """
    best, before = beams.copy(), beams
    record = np.full((beams.shape[0], beams.shape[2]), -1, dtype=np.float32)
    for step, beta in enumerate(np.geomspace(hot, COLD, count)):
        # 1. Who hears which beam; keep the best that each start has met.
        y, gain = field.gain(beams)
        worth = field.worth(gain)
        better = worth >= record
        np.copyto(record, worth, where=better)
        np.copyto(best, beams, where=better[:, None, :])
        # 2. Halve the field once.
        if halve and step == 2 * count // 5:
            keep = (-record).argsort(-1, kind="stable")[:, : max(1, record.shape[1] // 2)]
            record = np.take_along_axis(record, keep, -1)
            beams, before, best, y, gain = (
                np.take_along_axis(v, keep[:, None, :], -1) for v in (beams, before, best, y, gain)
            )
        # 3. Step along the gradient of the smoothed count, damped more and more.
        a = np.sqrt(gain)
        e = np.exp(-np.abs(np.float32(beta) * (a - 1) + np.float32(1.2)))
        slope = e / (1 + e) ** 2 / np.maximum(a, TINY)
        slope *= field.value[:, :, None]
        ahead = beams + MOMENTUM * (beams - before)
        beams, before = field.toward(slope * y, ahead, 0.5 + 0.2 * beta), beams
    worth = field.worth(field.gain(beams)[1])
    better = worth >= record
    return np.where(better[:, None, :], beams, best), np.where(better, worth, record)


def reheat(
    field: Field, beams: Array, record: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Disturb every beam, anneal it again from half way, and keep what is no worse."""
    noise = rng.standard_normal((2, *beams.shape), dtype=np.float32)
    shaken = unit(beams + SHAKE * unit(noise[0] + 1j * noise[1]))
    new, worth = anneal(field, shaken, WARM, steps(beams.shape[1]) // 2)
    better = worth >= record
    return np.where(better[:, None, :], new, beams), np.where(better, worth, record)
