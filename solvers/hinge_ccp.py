"""Hinge by the convex-concave procedure: who is not served counts by how much.

    min sum_k w_k x_k  s.t.  x_k >= 1 - |g_k^H m|^2,  x >= 0,  |m| <= 1

|g_k^H m|^2 is convex, so it is replaced by its tangent at the last beam, with y_k = g_k^H m_0:

    x_k >= 1 + |y_k|^2 - 2 Re(y_k^* g_k^H m)

Source: the surrogate of Kim, Swindlehurst and Park (abstract and public settings), each tangent
program solved by an interior-point method; spec ota.md §3 (c); a reconstruction.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc import forms
from rralloc.forms import Handle
from rralloc.numerics.beams import unit
from rralloc.run import LaneRun
from rralloc.solvers._lifted import Lane, Lifted, require
from rralloc.typing import Array, Point

STEPS = 100


class HingeCCP(Lifted):
    """The linearised hinge surrogate, each step a second-order cone program, from one start.

    ``engine``: ``ECOS`` (GPL-3), or ``CLARABEL``. ``tol`` (1e-4): it ends where the surrogate falls
    by a smaller share. ``max_iter``: most programs for an instance (100). It starts at the best
    matched filter and keeps the best beam of all that it meets.

    Choose this when you compare with the surrogate itself, without the subgradient's step size;
    ``subgradient`` needs no engine.
    """

    name = "hinge-ccp"
    rank = 260

    engine: str = "ECOS"

    def available(self) -> None:
        """Raise when cvxpy or the engine is missing."""
        require(self.engine, semidefinite=False)

    def solve(self, problem: Any, start: Point | None, run: LaneRun) -> None:
        """Linearise, solve, count, until the surrogate does not fall."""
        lane = Lane(problem, run, self.engine, self.name)
        tol = 1e-4 if run.tol is None else run.tol
        if not lane.finished:
            m, last = matched(lane), np.inf
            with lane.program(tangents(*lane.g.shape)) as handle:
                for _ in range(STEPS):
                    # 1. The best beam for the tangents; any length up to 1.
                    handle.assign(lines(lane, m))
                    found = handle.point(None)["m"] if lane.solved(handle) else None
                    if found is None or not np.isfinite(found).all() or not found.any():
                        break
                    # 2. Longer is never worse; count whom it serves.
                    m = unit(found)
                    lane.offer(m)
                    # 3. Stop where the surrogate does not fall any more.
                    loss = hinge(lane, m)
                    if lane.finished or last - loss <= tol * loss:
                        break
                    last = loss
        lane.end()


def matched(lane: Lane) -> Array:
    """The matched filter that serves the most; among equals, the one of the least hinge."""
    beams = [unit(lane.g[:, k]) for k in np.flatnonzero(lane.hopeful)]
    best = min(beams, key=lambda m: (-lane.most(lane.offer(m)), hinge(lane, m)))
    return np.asarray(best)


def hinge(lane: Lane, m: Array) -> float:
    """sum_k w_k max(0, 1 - |g_k^H m|^2)."""
    return float(lane.value @ np.maximum(1 + lane.room - lane.gain(m), 0.0))


def lines(lane: Lane, m: Array) -> dict[str, Array]:
    """The tangents at m as rows of a program; rows of strong devices are divided by their size."""
    y = lane.g.conj().T @ m
    turned = 2 * lane.g * y
    offset = 1 + lane.room + np.abs(y) ** 2
    scale = 1 / np.maximum(offset, np.linalg.norm(turned, axis=0))
    real = np.concatenate([turned.real, turned.imag]).T
    return {
        "rows": real * scale[:, None],
        "offset": offset * scale,
        "lift": scale,
        "cost": lane.value,
    }


def tangents(antennas: int, devices: int) -> forms.Model:
    """min cost^T x  s.t.  lift * x + rows @ (Re m, Im m) >= offset,  x >= 0,  |m| <= 1."""
    return forms.Model(
        ("tangents", antennas, devices),
        lambda _: _built(antennas, devices),
        exact=False,
        backends=("cvxpy",),
    )


def _built(antennas: int, devices: int) -> Handle:
    import cvxpy as cp

    m, x = cp.Variable(2 * antennas), cp.Variable(devices, nonneg=True)
    rows, offset = cp.Parameter((devices, 2 * antennas)), cp.Parameter(devices)
    lift, cost = (cp.Parameter(devices, nonneg=True) for _ in range(2))
    asked = cp.multiply(lift, x) + rows @ m >= offset
    model = cp.Problem(cp.Minimize(cost @ x), [asked, cp.norm(m) <= 1])

    def assign(data: dict[str, Array]) -> None:
        rows.value, offset.value = data["rows"], data["offset"]
        lift.value, cost.value = data["lift"], data["cost"]

    def point(_: Any) -> dict[str, Any]:
        real = m.value
        return {"m": None if real is None else real[:antennas] + 1j * real[antennas:]}

    return Handle(model, assign, point)
