"""Two antennas: the best beam exactly, by a sweep over caps of a sphere.

A unit m in C^2 is a point p of the unit sphere, and |g^H m|^2 = |g|^2 (1 + n.p)/2 with n the
direction of g there. "Served" is a cap n.p >= 2 t/|g|^2 - 1, and the best beam is the deepest
point: it lies on the boundary of a cap, where the other caps cut arcs. Sorting the ends of the arcs
of every boundary takes O(K^2 log K).

Source: spec ota.md §3 (f), N = 2, with its corrections; derived.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.typing import Array

SLACK = 1e-13
"""Rounding of positions on the sphere; a cap counts where it misses by no more."""
BLOCK = 1 << 19
"""Ends of arcs that are sorted at once."""


class Caps(NamedTuple):
    """Directions ``(K, 3)``, least cosines ``(K,)`` and values ``(K,)`` of the caps."""

    axis: Array
    cosine: Array
    value: Array


class Deepest(NamedTuple):
    """What the best beam is worth, and the beam ``(2,)``."""

    value: float
    m: Array


def deepest(columns: Array, value: Array, threshold: float) -> Deepest:
    """The most valuable unit m for columns ``(2, K)``: served where |g_k^H m|^2 >= threshold."""
    strength = (columns.real**2 + columns.imag**2).sum(0)
    able = (strength >= threshold) & (value > 0)
    if not able.any():
        return Deepest(0.0, np.array([1.0 + 0j, 0.0]))
    g, w, size = columns[:, able], value[able], strength[able]
    caps = Caps(_direction(g / np.sqrt(size)), 2 * threshold / size - 1, w)
    rows = max(1, BLOCK // (2 * len(w)))
    best = Deepest(-1.0, np.zeros(2, dtype=complex))
    for first in range(0, len(w), rows):
        depth, where = _sweep(caps, np.arange(first, min(first + rows, len(w))))
        top = int(depth.argmax())
        if depth[top] > best.value:
            best = Deepest(float(depth[top]), _beam(where[top]))
    return best


def _direction(g: Array) -> Array:
    """Where unit columns ``(2, K)`` lie on the sphere ``(K, 3)``."""
    cross = 2 * g[0].conj() * g[1]
    height = np.abs(g[0]) ** 2 - np.abs(g[1]) ** 2
    n = np.stack([cross.real, cross.imag, height], -1)
    return n / np.linalg.norm(n, axis=-1, keepdims=True)


def _beam(p: Array) -> Array:
    """The unit vector ``(2,)`` at p ``(3,)``."""
    x, y, z = p / np.linalg.norm(p)
    long = np.sqrt((1 + abs(z)) / 2)
    if z >= 0:
        return np.array([long, (x + 1j * y) / (2 * long)])
    return np.array([(x - 1j * y) / (2 * long), long])


def _across(axis: Array) -> tuple[Array, Array]:
    """Two unit vectors that stand on each axis ``(R, 3)`` and on each other."""
    away = np.eye(3)[np.abs(axis).argmin(-1)]
    e1 = np.cross(axis, away)
    e1 /= np.linalg.norm(e1, axis=-1, keepdims=True)
    return e1, np.cross(axis, e1)


def _sweep(caps: Caps, rows: Array) -> tuple[Array, Array]:
    """Depth ``(R,)`` and place ``(R, 3)`` of the deepest arc on the boundaries of some caps."""
    axis, cosine, value = caps
    n, c = axis[rows], cosine[rows]
    sine = np.sqrt(np.maximum(1 - c**2, 0.0))
    e1, e2 = _across(n)
    # 1. On boundary i at angle phi, cap j holds where reach cos(phi - middle) >= need.
    along, beside = sine[:, None] * (e1 @ axis.T), sine[:, None] * (e2 @ axis.T)
    reach, middle = np.hypot(along, beside), np.arctan2(beside, along)
    need = cosine - c[:, None] * (n @ axis.T) - SLACK
    whole = need <= -reach
    whole[np.arange(len(rows)), rows] = True
    arc = ~whole & (need <= reach)
    half = np.arccos(np.clip(need / np.where(arc, reach, 1.0), -1, 1))
    # 2. The ends of the arcs; one that runs past 2 pi also holds at 0.
    start = np.mod(middle - half, 2 * np.pi)
    end = start + 2 * half
    wraps = arc & (end >= 2 * np.pi)
    base = np.where(whole | wraps, value, 0.0).sum(-1)
    at = np.concatenate([np.where(arc, start, 0.0), np.where(arc, end - 2 * np.pi * wraps, 0.0)], 1)
    jump = np.where(arc, value, 0.0)
    # 3. Sort them, beginnings before ends, and add up.
    order = at.argsort(-1, kind="stable")
    at = np.take_along_axis(at, order, -1)
    steps = np.take_along_axis(np.concatenate([jump, -jump], 1), order, -1)
    depth = np.concatenate([base[:, None], base[:, None] + steps.cumsum(-1)], 1)
    # 4. The middle of the deepest arc.
    bounds = np.concatenate([np.zeros((len(rows), 1)), at, np.full((len(rows), 1), 2 * np.pi)], 1)
    top = depth.argmax(-1)[:, None]
    ends = np.take_along_axis(bounds, top, -1), np.take_along_axis(bounds, top + 1, -1)
    phi = (ends[0] + ends[1]) / 2
    place = c[:, None] * n + sine[:, None] * (np.cos(phi) * e1 + np.sin(phi) * e2)
    return np.take_along_axis(depth, top, -1)[:, 0], place
