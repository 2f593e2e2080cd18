"""The semidefinite relaxation of a shared beam, as several beams at once.

    max_M min_k g_k^H M g_k,  tr M = 1, M >= 0   =   min_y lambda_max(sum_k y_k g_k g_k^H)

with y >= 0 of sum 1. With M = V V^H and r = floor(sqrt K) + 1 columns in V ``(N, r)``, nothing is
lost, and |g_k^H V| >= 1 is handled as for a single beam: with the directions q_k of the rows
g_k^H V frozen,

    min |V|^2   s.t.  Re(g_k^H V q_k^H) >= 1

is a least-distance problem whose optimum V = sum_k u_k g_k q_k gives the weights y ~ u.

Source: Burer and Monteiro 2003 (low-rank factorisation); spec ota.md §3 (d3), derived.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.numerics.beams import normal
from rralloc.numerics.least_distance import shortest
from rralloc.typing import Array


class LowRank(NamedTuple):
    """V ``(N, r)`` of norm 1, min_k |g_k^H V|^2, weights y ``(K,)`` of sum 1, lambda_max at y."""

    V: Array
    gain: float
    y: Array
    bound: float


def low_rank_sdr(
    columns: Array, start: Array | None = None, *, steps: int = 300, tol: float = 1e-7
) -> LowRank:
    """Relaxed largest least gain of the columns g_k ``(N, K)``, none of them zero.

    ``gain`` is reached by V and ``bound`` proven by y, so the relaxation's value lies between. It
    stops when the gain rises by less than ``tol``, relatively, and when both agree to ``tol``. Weak
    columns of norm about 1 keep everything at size 1.
    """
    size, count = columns.shape
    rank = min(size, int(np.sqrt(count)) + 1)
    rows = columns.conj().T
    V = start
    if V is None:  # every column heard by itself, and a little of everything
        V = columns / np.linalg.norm(columns, axis=0) ** 2
        V = V @ normal(np.random.default_rng(0), (count, rank))
    V = V / np.linalg.norm(V)
    best = LowRank(V, _least(rows, V), np.full(count, 1 / count), np.inf)
    for _ in range(steps):
        # 1. The rows g_k^H V, their directions frozen.
        heard = rows @ best.V
        length = np.linalg.norm(heard, axis=1, keepdims=True)
        if not length.all():
            break
        q = heard / length
        # 2. The shortest V in the half-spaces, scaled to size 1.
        scale = np.sqrt(best.gain)
        turned = (rows[:, :, None] * q.conj()[:, None, :]).reshape(count, -1) / scale
        found = shortest(turned)
        if found is None:
            break
        V = found.x.reshape(size, rank)
        V = V / np.linalg.norm(V)
        # 3. What it reaches and what its multipliers prove.
        gain, y = _least(rows, V), found.multipliers / found.multipliers.sum()
        top = float(np.linalg.eigvalsh(columns * y @ columns.conj().T)[-1])
        rise = gain - best.gain
        y, bound = (y, top) if top < best.bound else (best.y, best.bound)
        best = LowRank(V, gain, y, bound) if rise > 0 else best._replace(y=y, bound=bound)
        if rise <= tol * gain or bound - best.gain <= tol * bound:
            break
    return best


def _least(rows: Array, V: Array) -> float:
    """min_k |g_k^H V|^2."""
    heard = rows @ V
    return float((heard.real**2 + heard.imag**2).sum(1).min())
