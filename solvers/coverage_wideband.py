"""Coverage on several subcarriers: one unit vector for each, one set of devices for all.

    max_{m_1..m_F}  sum_k w_k prod_f [|g_k[f]^H m_f|^2 >= 1],  |m_f| = 1

A device's indicator is the product over the subcarriers. Annealed ascent smooths it to

    (prod_f s_kf)^r,  s_kf = sigmoid(beta (a_kf - 1) + 1.2),  a_kf = |g_k[f]^H m_f|,

with derivative r beta (1 - s_kf) (prod_f s_kf)^r in a_kf: who is lost elsewhere pulls less. The
power r grows from 1/F (geometric mean) like beta^(1/4) up to 1: with the bare product a few devices
pull all beams at the start. With one subcarrier this is the ascent of ``coverage``. Then devices
are added one by one: F independent least-distance problems, all of which must succeed.

Source: ota.md section 7 (multipath), with the corrections' ascent; the power r derived here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.forms import SubcarrierCoverage
from rralloc.numerics.least_distance import max_min
from rralloc.run import Run
from rralloc.solver import Solver
from rralloc.solvers._coverage_ascent import EDGE, NEAR, TINY, unit
from rralloc.solvers.coverage import AIM, STRONG, dual_weight, usable
from rralloc.typing import Array, Point

BLOCK = 1 << 18
"""Gains (lanes x subcarriers x devices x starts) that are worked on at once."""
BETAS = np.geomspace(2, 320, 60)
"""How sharp the indicators are, step by step."""
QUICK = 6
"""Steps of the phase-frozen ascent after a device joined."""
DUAL_STEPS = 60
"""Subgradient steps for the dual weights of each subcarrier."""


class CoverageWideband(Solver):
    """Annealed ascent of all subcarriers together from many starts, then adding devices.

    ``starts``: random starts for each instance. ``polished``: how many of the best go on to add
    devices. ``tries``: outsiders that each tries before it gives up.

    The dual weights it leaves prove the bound of the tightest subcarrier alone. Random starts come
    from the ``rng`` of the call, a given start is one of them.

    Choose this when every subcarrier has its own beam and all must agree on the devices.
    """

    name = "coverage-wideband"
    rank = 20
    needs = (SubcarrierCoverage,)
    certifies = True
    warm = True

    starts: int = 48
    polished: int = 4
    tries: int = 3

    def solve(self, problem: Any, start: Point | None, run: Run) -> None:
        """One block of lanes after another."""
        form = problem.view(SubcarrierCoverage)
        g, w = normalised(form.columns, form.weight)
        first = None if start is None else start["beamformer"]
        size = max(1, BLOCK // (g.shape[1] * g.shape[3] * self.starts))
        for low in range(0, len(g), size):
            lanes = np.arange(low, min(low + size, len(g)))
            reason = run.interruption()
            if reason is not None:
                run.end(reason, np.arange(low, len(g)))
                return
            # 1. Annealed ascent from isotropic starts and the caller's.
            beams = self._starts(g[lanes], None if first is None else first[lanes], run)
            found = leading(*anneal(g[lanes], w[lanes], beams), self.polished)
            # 2. Add devices to the best few.
            m = found[:, 0].copy()
            for i, lane in enumerate(lanes):
                reason = run.interruption()
                if reason is not None:
                    run.end(reason, lanes[i:])
                    break
                m[i] = self._polished(g[lane], w[lane], found[i])
            proof = {"dual_weight": _dual_weights(g[lanes], w[lanes])} if run.traced else None
            run.offer(form.point(m), lanes=lanes, witness=proof, trace=run.watching)

    def _starts(self, g: Array, first: Array | None, run: Run) -> Array:
        """Beams ``(S, F, N, L)``."""
        shape = (*g.shape[:3], self.starts)
        drawn = run.rng.standard_normal(shape) + 1j * run.rng.standard_normal(shape)
        if first is not None:
            drawn[..., 0] = usable(first, drawn[..., 0])
        return unit(drawn.astype(np.complex64))

    def _polished(self, g: Array, w: Array, beams: Array) -> Array:
        """The best of some beams ``(L, F, N)`` after adding devices."""
        best, most = beams[0], -1.0
        for m in beams:
            new = add(g, w, m, self.tries)
            worth = _worth(g, w, new)
            if worth > most:
                best, most = new, worth
            if most >= w.sum():
                break
        return best


def normalised(columns: Array, weight: Array) -> tuple[Array, Array]:
    """Columns and values; who is out of reach on some subcarrier is zero in both."""
    g = columns / np.sqrt(AIM)
    norm = np.linalg.norm(g, axis=-2)
    able = (norm >= 1).all(-2) & (weight > 0)
    scale = np.where(able[..., None, :], np.minimum(1.0, STRONG / np.maximum(norm, 1e-300)), 0.0)
    return g * scale[..., None, :], np.where(able, weight, 0.0)


def anneal(g: Array, w: Array, beams: Array) -> tuple[Array, Array]:
    """Best beams met on the way ``(S, F, N, L)`` and what they are worth ``(S, L)``."""
    g, F, K = g.astype(np.complex64), g.shape[1], g.shape[3]
    rows = np.ascontiguousarray(g.conj().swapaxes(-1, -2))
    w = (w / np.maximum(w.max(-1, keepdims=True), 1e-300)).astype(np.float32)
    best, record = beams.copy(), np.full((len(g), beams.shape[-1]), -1, dtype=np.float32)
    for beta in (*BETAS, None):
        # 1. Who hears which beams; keep the best that each start has met.
        y = rows @ beams
        gain = y.real**2 + y.imag**2
        least = gain.min(1)
        worth = (w[:, None, :] @ ((least >= EDGE) + np.float32(0.5 / K) * (least >= NEAR)))[:, 0]
        better = worth >= record
        np.copyto(record, worth, where=better)
        np.copyto(best, beams, where=better[:, None, None, :])
        if beta is None:
            break
        # 2. Product of the soft indicators, by logarithms; the largest is 1.
        a = np.sqrt(gain)
        z = np.float32(beta) * (a - 1) + np.float32(1.2)
        power = np.float32(np.clip((beta / 2) ** 0.25 / F, 1 / F, 1))
        log = -power * np.logaddexp(np.float32(0), -z).sum(1)
        whole = np.exp(log - log.max(1, keepdims=True)) * w[:, :, None]
        # 3. Step along the gradient, damped more and more.
        short = 1 / (1 + np.exp(np.clip(z, -60, 60)))
        slope = whole[:, None] * short / np.maximum(a, TINY)
        beams = unit(unit(g @ (slope * y)) + np.float32(0.5 + 0.2 * beta) * beams)
    return best, record


def leading(beams: Array, record: Array, count: int) -> Array:
    """The ``count`` most valuable beams of each lane in double precision ``(S, L, F, N)``."""
    order = (-record).argsort(-1, kind="stable")[:, :count]
    found = np.take_along_axis(beams, order[:, None, None, :], -1).astype(complex)
    found = found.transpose(0, 3, 1, 2)
    return np.asarray(found / np.linalg.norm(found, axis=-1, keepdims=True))


def add(g: Array, w: Array, m: Array, tries: int) -> Array:
    """Beams ``(F, N)`` that serve more than m does: add the nearest until none fits."""
    grown = True
    while grown:
        gain, grown = _gain(g, m), False
        least = gain.min(0)
        members = (least >= 1) & (w > 0)
        left = np.where(members | (w <= 0), -1.0, least)
        for k in (-left).argsort(kind="stable")[:tries]:
            new = _joined(g, members, k, gain[:, k], m) if left[k] > 0 else None
            # Counted again: on the threshold, rounding may decide otherwise.
            if new is not None and _worth(g, w, new) > w[members].sum():
                m, grown = new, True
                break
    return m


def _joined(g: Array, members: Array, k: int, gain: Array, m: Array) -> Array | None:
    """Beams that serve device k and the members, or None; the hardest subcarrier first."""
    m, with_k = m.copy(), members | (np.arange(len(members)) == k)
    for f in gain.argsort(kind="stable"):
        if gain[f] < 1:
            beam = max_min(g[f][:, with_k], m[f], steps=QUICK, target=1.0)
            if beam.gain < 1:
                return None
            m[f] = beam.m
    return m


def _gain(g: Array, m: Array) -> Array:
    """|g_k[f]^H m_f|^2 ``(F, K)``."""
    y = (m.conj()[:, None, :] @ g)[:, 0]
    return np.asarray(y.real**2 + y.imag**2)


def _worth(g: Array, w: Array, m: Array) -> float:
    """Value of those who are served on every subcarrier."""
    return float(w[_gain(g, m).min(0) >= 1].sum())


def _dual_weights(g: Array, w: Array) -> Array:
    """Those of every subcarrier alone ``(S, F, K)``."""
    lanes = g.reshape(-1, *g.shape[2:])
    value = np.repeat(w, g.shape[1], axis=0)
    return dual_weight(lanes, value, DUAL_STEPS).reshape(*g.shape[:2], -1)
