"""A tree of regions that proves how much the best beam can serve, checked from its bare arrays.

The witness is a dictionary of arrays over the nodes of a tree, node 0 the whole space:

    device  (n,)    the device on which the node is divided, -1 for a leaf
    child   (n,)    its first child; the children are consecutive and come after it
    angle   (n,)    where the phase is cut
    y, u    (n, K)  multipliers, any numbers >= 0

Devices are undecided at the root. A device that is *undecided* is divided into *out*, and *in* with
its phase in one of four quadrants that start at ``angle``; the first device that is taken in sets
the common phase instead, so it has one child *in*, with phase 0. A device that is *in* has its
sector cut at ``angle``. Whatever the arrays say, the regions are rebuilt from these rules, cover
all beams, and are bounded one by one:

With unit columns ghat_k, tau_k = 1/|g_k|^2, r_k = sqrt(tau_k), a unit x and y_k = ghat_k^H x, a
device that is in with a sector of half-width a around theta has

    |y_k|^2 >= tau_k,    (1 + r_k) Re(e^{-j theta} y_k) >= cos(a) (|y_k|^2 + r_k)

(the latter as r_k <= |y_k| <= 1). Adding y_k and 2 u_k of them to the count, no beam of the region
serves more than

    max_{|x|=1} x^H A x + 2 Re(q^H x)  +  sum_undecided (w_k - tau_k y_k)^+
        +  sum_in (w_k - tau_k y_k - 2 u_k cos(a_k) r_k)

with A = sum_k (y_k - 2 u_k cos a_k) ghat_k ghat_k^H, q = sum_in u_k (1 + r_k) e^{j theta_k} ghat_k,
and the maximum is at most lam + q^H (lam I - A)^{-1} q for any lam above the spectrum of A.

Source: derived.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rralloc.problems._ota_bounds import LOOSE, hopeful
from rralloc.typing import Array

OUT, OPEN, IN = -1, 0, 1
QUADRANTS = 4
ROUNDING = 1e-12
"""Relative to the size of the terms, added to every bound."""
BLOCK = 4096
"""Nodes that are bounded at once."""


class Tree(NamedTuple):
    """The arrays of a witness, read and cleaned."""

    device: Array
    child: Array
    angle: Array
    y: Array
    u: Array


class Regions(NamedTuple):
    """State, sector ``(n, K)`` of every device at every node."""

    state: Array
    low: Array
    high: Array


def proven(columns: Array, value: Array, witness: Any) -> float:
    """What the tree proves for one instance, columns ``(N, K)`` of threshold 1; inf if nothing."""
    try:
        tree = _read(witness, len(value))
        regions, order = _regions(tree)
    except (TypeError, ValueError, KeyError, IndexError):
        return np.inf
    able = hopeful(columns) & (value > 0)
    if not able.any():
        return 0.0
    # 1. Every node by itself.
    regions.state[:, ~able] = OUT
    best = np.empty(len(tree.device))
    for first in range(0, len(best), BLOCK):
        part = slice(first, first + BLOCK)
        inside = Regions(*(v[part][:, able] for v in regions))
        best[part] = _bounds(
            columns[:, able], value[able], inside, tree.y[part][:, able], tree.u[part][:, able]
        )
    # 2. From the leaves up: a node is no better than the best of its children.
    for node, children in reversed(order):
        best[node] = min(best[node], best[children].max())
    return float(best[0])


def _read(witness: Any, K: int) -> Tree:
    device, child = (np.asarray(witness[n], dtype=int) for n in ("device", "child"))
    angle = np.asarray(witness["angle"], dtype=float)
    shape = (len(device), K)
    if child.shape != shape[:1] or angle.shape != shape[:1] or not shape[0]:
        raise ValueError("not a tree: arrays of different lengths")
    if device.max() >= K or not np.isfinite(angle[device >= 0]).all():
        raise ValueError("not a tree: a device or an angle out of range")
    pair = []
    for name in ("y", "u"):
        held = np.asarray(witness[name], dtype=float)
        if held.shape != shape:
            raise ValueError("not a tree: multipliers of another shape")
        pair.append(np.where(np.isfinite(held) & (held > 0), held, 0.0))
    return Tree(device, child, angle, *pair)


def _regions(tree: Tree) -> tuple[Regions, list[tuple[int, slice]]]:
    """The regions of all nodes, and the inner nodes with their children, parents first."""
    count, K = tree.y.shape
    state = np.full((count, K), OPEN, dtype=np.int8)
    low, high = np.zeros((count, K)), np.zeros((count, K))
    reached = np.zeros(count, dtype=int)
    reached[0] = 1
    order = []
    for node in np.flatnonzero(tree.device >= 0):
        k, a, first = int(tree.device[node]), float(tree.angle[node]), int(tree.child[node])
        parts = _parts(state[node], low[node, k], high[node, k], k, a)
        children = slice(first, first + len(parts))
        if first <= node or children.stop > count or not reached[node]:
            raise ValueError("not a tree: a child before its parent, or out of range")
        state[children], low[children], high[children] = state[node], low[node], high[node]
        state[children, k], low[children, k], high[children, k] = np.array(parts).T
        reached[children] += 1
        order.append((int(node), children))
    if not (reached == 1).all():
        raise ValueError("not a tree: every node must be reached once")
    return Regions(state, low, high), order


def _parts(state: Array, low: float, high: float, k: int, a: float) -> list[tuple[int, Any, Any]]:
    """State and sector of device k in the children of a node; together they are the node."""
    if state[k] == IN:
        if not low <= a <= high:
            raise ValueError("not a tree: a cut outside of the sector")
        return [(IN, low, a), (IN, a, high)]
    if state[k] == OUT:
        raise ValueError("not a tree: divided on a device that is out")
    if not (state == IN).any():
        return [(OUT, 0.0, 0.0), (IN, 0.0, 0.0)]
    ends = a + 2 * np.pi / QUADRANTS * np.arange(QUADRANTS + 1)
    return [(OUT, 0.0, 0.0), *((IN, ends[j], ends[j + 1]) for j in range(QUADRANTS))]


def _bounds(columns: Array, value: Array, regions: Regions, y: Array, u: Array) -> Array:
    """The bound of the module docstring for each region ``(n,)``."""
    norm = np.linalg.norm(columns, axis=0)
    unit, root = columns / norm, np.minimum(np.sqrt(LOOSE) / norm, 1.0)
    undecided, inside = regions.state == OPEN, regions.state == IN
    y, u = np.where(undecided | inside, y, 0.0), np.where(inside, u, 0.0)
    middle, half = (regions.low + regions.high) / 2, (regions.high - regions.low) / 2
    cosine = np.maximum(np.cos(half), 0.0)
    # 1. The quadratic over the sphere.
    weight = y - 2 * u * cosine
    A = (unit * weight[:, None, :]) @ unit.conj().T
    q = (u * (1 + root) * np.exp(1j * middle)) @ unit.T
    top = _on_the_sphere(A, q)
    # 2. What the multipliers cost, and a little for rounding.
    slack = value - root**2 * y
    paid = 2 * u * cosine * root
    rest = np.where(undecided, np.maximum(slack, 0.0), np.where(inside, slack - paid, 0.0))
    size = (2 * (y + 4 * u) + np.where(undecided | inside, value, 0.0)).sum(1)
    bound: Array = top + rest.sum(1) + ROUNDING * size
    return bound


def _on_the_sphere(A: Array, q: Array) -> Array:
    """At least max x^H A x + 2 Re(q^H x) over |x| = 1, for Hermitian A ``(n, N, N)``."""
    lam, v = np.linalg.eigh(A)
    p = (v.conj().swapaxes(1, 2) @ q[:, :, None])[:, :, 0]
    square = p.real**2 + p.imag**2
    length = np.sqrt(square.sum(1))
    below = lam[:, -1:] - lam
    # Bisection for the least lam + q^H (lam I - A)^{-1} q; every point above the spectrum is valid.
    low, high = 1e-9 * length, length
    for _ in range(50):
        shift = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            rising = (square / (shift[:, None] + below) ** 2).sum(1) < 1
        low, high = np.where(rising, low, shift), np.where(rising, shift, high)
    with np.errstate(divide="ignore", invalid="ignore"):
        pole = np.where(square > 0, square / (high[:, None] + below), 0.0).sum(1)
    top: Array = lam[:, -1] + high + pole
    return top
