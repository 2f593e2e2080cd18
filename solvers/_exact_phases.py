"""What the devices can be worth together when some are in, some out, some undecided.

Columns are g_k = unit column over sqrt(tau_k), so device k is served where y_k = ghat_k^H x has
|y_k|^2 >= tau_k, |x| = 1. A device that is *in* has its phase in a sector of half-width alpha <=
pi/2 around theta, and as sqrt(tau) <= |y| <= 1 gives (|y| - sqrt(tau))(1 - |y|) >= 0,

    (1 + sqrt(tau)) Re(e^{-j theta} y) >= cos(alpha) (|y|^2 + sqrt(tau)).

With M for x x^H the relaxation is max sum_k w_k s_k s.t. tau_k s_k <= ghat_k^H M ghat_k, s <= 1,
s = 1 where in, s = 0 where out, the rows above, M >= x x^H, tr M = 1. Its dual in y, u >= 0 is

    min  lam + t + sum_open (w - tau y)^+ + sum_in (w - tau y - 2 u cos(alpha) sqrt(tau))
    s.t. [[lam I - sum_k (y_k - 2 u_k cos(alpha_k)) ghat_k ghat_k^H, -q], [-q^H, t]] >= 0,
         q = sum_in u_k (1 + sqrt(tau_k)) e^{j theta_k} ghat_k,

and *every* dual point is a proof, so the barrier method below may stop at once when a region is
beaten. Many regions ``(B, K)`` are handled together.

Source: chords of phase sectors as in Lu and Liu (arXiv 1702.01974), for a selection and with |y|^2
in the chord: derived.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rralloc.typing import Array

OUT, OPEN, IN = -1, 0, 1
LAST = 1e-6
"""Barrier weight at which a region counts as solved, values of size 1."""
WARM = 1e-2
"""Barrier weight of the point from which the parts of a region start: not too near the edge."""
STEPS = 40
"""Newton steps at most; those few regions keep what they have proven."""
FRACTION = 0.97
"""Share of the way to the boundary that a step may take."""


class Columns(NamedTuple):
    """Unit columns ``(N, K)``, least gains tau, values w ``(K,)``."""

    unit: Array
    tau: Array
    value: Array


class Regions(NamedTuple):
    """State of each device, and the sector of its phase where it is in, all ``(B, K)``."""

    state: Array
    low: Array
    high: Array


class Dual(NamedTuple):
    """y, u ``(B, K)``, lam, t ``(B,)``."""

    y: Array
    u: Array
    lam: Array
    t: Array


class Relaxed(NamedTuple):
    """Proven bounds ``(B,)`` by y, u ``(B, K)``; a point for the parts of the region to start from.

    ``x`` ``(B, N)`` is the relaxed beam and ``heard`` ``(B, K)`` the gains ghat_k^H M ghat_k.
    """

    bound: Array
    y: Array
    u: Array
    warm: Dual
    x: Array
    heard: Array


class _Rows(NamedTuple):
    """Regions in the terms of the dual: masks, cos(alpha), and row vectors ``(B, N, K)``."""

    open: Array
    inside: Array
    cosine: Array
    vector: Array

    @property
    def able(self) -> Array:
        return self.open | self.inside


def relaxed(columns: Columns, regions: Regions, start: Dual, target: float) -> Relaxed:
    """Bounds for all regions; those below ``target`` are not improved any further."""
    rows = _rows(columns, regions)
    dual = _interior(columns, rows, start)
    count = len(start.lam)
    mu = np.full(count, 0.1)
    best = np.full(count, np.inf)
    proof_y, proof_u = dual.y.copy(), dual.u.copy()
    warm = Dual(*(v.copy() for v in dual))
    x = np.zeros((count, len(columns.unit)), dtype=complex)
    heard = np.zeros(dual.y.shape)
    live = np.arange(count)
    for _ in range(STEPS):
        now, part = _take(dual, live), _take(rows, live)
        # 1. A Newton step of the barrier problem, as long as pays.
        system = _System.at(columns, part, now, mu[live])
        step, decrement = system.newton()
        now = _moved(now, step, system.length(step, decrement))
        # 2. What the new point proves.
        value = _value(columns, part, now)
        better = live[value < best[live]]
        early = mu[live] >= WARM
        for whole, kept, new in zip(dual, warm, now):
            whole[live] = new
            kept[live[early]] = new[early]
        best[live] = np.minimum(best[live], value)
        proof_y[better], proof_u[better] = dual.y[better], dual.u[better]
        x[live], heard[live] = system.primal()
        # 3. Leave when beaten, when it clearly will not be, or at the end; else a lower barrier.
        m, near = mu[live], decrement < 0.5
        weight = len(columns.unit) + 1 + (part.able + part.inside + 2 * part.open).sum(1)
        over = (value - 1.3 * m * weight > target) | (m <= LAST)
        going = ~((best[live] < target) | near & over)
        mu[live] = np.where(decrement < 3, np.maximum(m * np.where(near, 0.2, 0.4), 0.9 * LAST), m)
        live = live[going]
        if not live.size:
            break
    return Relaxed(best, proof_y, proof_u, warm, x, heard)


def _take(parts: Any, lanes: Array) -> Any:
    return type(parts)(*(v[lanes] for v in parts))


def _rows(columns: Columns, regions: Regions) -> _Rows:
    inside = regions.state == IN
    middle, half = (regions.low + regions.high) / 2, (regions.high - regions.low) / 2
    cosine = np.where(inside, np.maximum(np.cos(half), 0.0), 0.0)
    turn = np.where(inside, (1 + np.sqrt(columns.tau)) * np.exp(1j * middle), 0.0)
    return _Rows(regions.state == OPEN, inside, cosine, columns.unit * turn[:, None, :])


def _interior(columns: Columns, rows: _Rows, start: Dual) -> Dual:
    """The start moved into the interior: masked, positive, lam and t large enough."""
    y = np.where(rows.able, np.maximum(start.y, 1e-3), 0.0)
    u = np.where(rows.inside, np.where(start.u > 0, start.u, 0.05), 0.0)
    lam, v = np.linalg.eigh(_matrix(columns, y - 2 * u * rows.cosine))
    least = np.maximum(start.lam, lam[:, -1] + 0.2)
    q = (v.conj().swapaxes(1, 2) @ (rows.vector @ u[:, :, None]))[:, :, 0]
    most = ((q.real**2 + q.imag**2) / (least[:, None] - lam)).sum(1)
    return Dual(y, u, least, np.maximum(start.t, most + 0.1))


def _matrix(columns: Columns, weight: Array) -> Array:
    """sum_k weight_k ghat_k ghat_k^H ``(B, N, N)``."""
    g = columns.unit
    product: Array = (g * weight[:, None, :]) @ g.conj().T
    return product


def _block(columns: Columns, rows: _Rows, dual: Dual) -> Array:
    """[[lam I - A, -q], [-q^H, t]] ``(B, N + 1, N + 1)``; linear in the dual."""
    size = len(columns.unit)
    S = np.empty((len(dual.lam), size + 1, size + 1), dtype=complex)
    S[:, :size, :size] = -_matrix(columns, dual.y - 2 * dual.u * rows.cosine)
    S[:, range(size), range(size)] += dual.lam[:, None]
    S[:, :size, size] = -(rows.vector @ dual.u[:, :, None])[:, :, 0]
    S[:, size, :size] = S[:, :size, size].conj()
    S[:, size, size] = dual.t
    return S


def _linear(columns: Columns, rows: _Rows, dual: Dual) -> Array:
    """The part of the dual objective that is linear, constants left out ``(B,)``."""
    tau = columns.tau
    paid = np.where(rows.inside, tau * dual.y + 2 * dual.u * rows.cosine * np.sqrt(tau), 0.0)
    total: Array = dual.lam + dual.t - paid.sum(1)
    return total


def _value(columns: Columns, rows: _Rows, dual: Dual) -> Array:
    """The dual objective ``(B,)``."""
    slack = np.maximum(columns.value - columns.tau * dual.y, 0.0)
    fixed = np.where(rows.open, slack, 0.0) + np.where(rows.inside, columns.value, 0.0)
    total: Array = _linear(columns, rows, dual) + fixed.sum(1)
    return total


def _moved(dual: Dual, step: Dual, length: Array) -> Dual:
    a = length[:, None]
    return Dual(
        dual.y + a * step.y,
        dual.u + a * step.u,
        dual.lam + length * step.lam,
        dual.t + length * step.t,
    )


def _share(slack: Array, mu: Array) -> Array:
    """argmax over 0 < s < 1 of slack s + mu (log s + log(1 - s))."""
    z = slack / mu[:, None]
    root = np.sqrt(z * z + 4)
    high = (z - 2 + root) / np.where(z > 1e-6, 2 * z, 1.0)
    s = np.where(z > 1e-6, high, 2 / (2 - np.minimum(z, 0.0) + root))
    return np.clip(s, 1e-12, 1 - 1e-12)


class _System(NamedTuple):
    """The barrier problem at one dual point."""

    columns: Columns
    rows: _Rows
    dual: Dual
    mu: Array
    half: Array
    """S^(-1/2) ``(B, N + 1, N + 1)``."""
    inverse: Array

    @classmethod
    def at(cls, columns: Columns, rows: _Rows, dual: Dual, mu: Array) -> _System:
        lam, v = np.linalg.eigh(_block(columns, rows, dual))
        lam = np.maximum(lam, 1e-14 * lam[:, -1:])
        half = v / np.sqrt(lam)[:, None, :] @ v.conj().swapaxes(1, 2)
        return cls(columns, rows, dual, mu, half, half @ half)

    def primal(self) -> tuple[Array, Array]:
        """x ``(B, N)`` and ghat_k^H M ghat_k ``(B, K)``, scaled to corner 1 and trace 1."""
        g, size = self.columns.unit, len(self.columns.unit)
        P = self.inverse[:, :size, :size]
        heard = (g.conj() * (P @ g)).sum(1).real
        trace = np.trace(P, axis1=1, axis2=2).real
        corner = self.inverse[:, size, size].real
        return self.inverse[:, :size, size] / corner[:, None], heard / trace[:, None]

    def newton(self) -> tuple[Dual, Array]:
        """The Newton step and its squared length in the local norm ``(B,)``."""
        g, tau, rows = self.columns.unit, self.columns.tau, self.rows
        size, K, mu = len(g), len(tau), self.mu[:, None]
        P, p = self.inverse[:, :size, :size], self.inverse[:, :size, size]
        corner = self.inverse[:, size, size].real
        c, gh = rows.vector, g.conj().T
        f = 2 * rows.cosine
        # 1. Inner products of the columns and rows under the inverse.
        Pg, Pc = P @ g, P @ c
        gg, gc, cc = gh @ Pg, gh @ Pc, c.conj().swapaxes(1, 2) @ Pc
        gp, cp = (gh @ p[:, :, None])[:, :, 0], (c.conj() * p[:, :, None]).sum(1)
        # 2. Gradient over mu.
        share = np.where(rows.open, _share(self.columns.value - tau * self.dual.y, self.mu), 1.0)
        heard = np.einsum("bkk->bk", gg).real
        y, u = np.where(rows.able, self.dual.y, 1.0), np.where(rows.inside, self.dual.u, 1.0)
        slope = np.empty((len(mu), 2 * K + 2))
        slope[:, :K] = heard - tau * share / mu - 1 / y
        slope[:, K:-2] = 2 * cp.real - f * heard - f * np.sqrt(tau) / mu - 1 / u
        slope[:, -2] = 1 / self.mu - np.trace(P, axis1=1, axis2=2).real
        slope[:, -1] = 1 / self.mu - corner
        # 3. Hessian over mu; u enters through q and through the weights y - f u.
        H = np.empty((len(mu), 2 * K + 2, 2 * K + 2))
        yy, yq = np.abs(gg) ** 2, 2 * (gc * gp.conj()[:, :, None]).real
        qq = 2 * (cp[:, :, None] * cp[:, None, :]).real + 2 * corner[:, None, None] * cc.real
        H[:, :K, :K] = yy
        H[:, :K, K:-2] = yq - yy * f[:, None, :]
        H[:, K:-2, :K] = H[:, :K, K:-2].swapaxes(1, 2)
        mixed = f[:, :, None] * yq
        H[:, K:-2, K:-2] = qq - mixed - mixed.swapaxes(1, 2) + f[:, :, None] * yy * f[:, None, :]
        y_lam, y_t = (np.abs(Pg) ** 2).sum(1), np.abs(gp) ** 2
        H[:, -2, :K], H[:, -1, :K] = -y_lam, -y_t
        H[:, -2, K:-2] = f * y_lam - 2 * (Pc.conj() * p[:, :, None]).sum(1).real
        H[:, -1, K:-2] = f * y_t - 2 * cp.real * corner[:, None]
        H[:, :-2, -2:] = H[:, -2:, :-2].swapaxes(1, 2)
        H[:, -2, -2], H[:, -1, -1] = (np.abs(P) ** 2).sum((1, 2)), corner**2
        H[:, -2, -1] = H[:, -1, -2] = (np.abs(p) ** 2).sum(1)
        bend = (tau / mu) ** 2 / (share**-2.0 + (1 - np.where(rows.open, share, 0.0)) ** -2.0)
        own = np.concatenate([1 / y**2 + np.where(rows.open, bend, 0.0), 1 / u**2], 1)
        # 4. Unknowns that a region does not have stay where they are.
        free = np.concatenate([rows.able, rows.inside, np.ones((len(mu), 2), dtype=bool)], 1)
        H *= free[:, :, None] & free[:, None, :]
        slope *= free
        at = np.arange(2 * K)
        H[:, at, at] += np.where(free[:, :-2], own, 1.0)
        size_of = np.sqrt(np.einsum("bii->bi", H))
        H /= size_of[:, :, None] * size_of[:, None, :]
        at = np.arange(2 * K + 2)
        H[:, at, at] += 1e-13
        d = -np.linalg.solve(H, (slope / size_of)[:, :, None])[:, :, 0] / size_of
        return Dual(d[:, :K], d[:, K:-2], d[:, -2], d[:, -1]), -(slope * d).sum(1)

    def length(self, step: Dual, decrement: Array) -> Array:
        """Where along the step the barrier function is about least ``(B,)``."""
        columns, rows, mu = self.columns, self.rows, self.mu
        # 1. Rates at which eigenvalues and multipliers change; the boundary is where one is -1.
        turn = self.half @ _block(columns, rows, step) @ self.half
        ratio_y = step.y / np.where(rows.able, self.dual.y, 1.0)
        ratio_u = step.u / np.where(rows.inside, self.dual.u, 1.0)
        rate = np.concatenate([np.linalg.eigvalsh(turn), ratio_y, ratio_u], 1)
        worst = rate.min(1)
        high = np.where(worst < 0, -FRACTION / np.where(worst < 0, worst, -1.0), 64.0)
        high = np.minimum(high, 64.0)
        low, a = np.zeros(len(high)), np.minimum(1.0, high)
        # 2. Bisection on the slope; a step of length 1 is good enough near the centre.
        fall = _linear(columns, rows, step)
        for trial in range(6):
            slack = columns.value - columns.tau * (self.dual.y + a[:, None] * step.y)
            gain = np.where(rows.open, columns.tau * step.y * _share(slack, mu), 0.0).sum(1)
            rising = fall - gain - mu * (rate / (1 + a[:, None] * rate)).sum(1) > 0
            high, low = np.where(rising, a, high), np.where(rising, low, a)
            middle = np.where(rising | (high <= 2 * a), (low + high) / 2, np.minimum(4 * a, high))
            a = np.where(~rising & (decrement < 1), a, middle) if trial == 0 else middle
        return np.where(low > 0, low, a)
