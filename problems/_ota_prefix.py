"""Who takes part once the beam is fixed, where noise is weighed against the data left out.

    F(S) = cost max_{k in S} w_k^2/c_k^2 / (sum_S w)^2 + constant (1 - sum_S w/sum w)^2

for a unit beam m with c_k = |m^H h_k|. The best S is a prefix in decreasing c_k^2/w_k^2: a device
no worse than the worst member adds to sum_S w and nothing else. So K prefixes are all there is to
try; no search.

Source: spec ota.md §2.5; derived.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.typing import Array


class Prefix(NamedTuple):
    """Who takes part ``(..., K)`` and the bound F ``(...)``."""

    chosen: Array
    value: Array


def best_prefix(gain: Array, weight: Array, cost: Array, constant: Array | float = 4.0) -> Prefix:
    """The nonempty S of least F for gain_k = |m^H h_k|^2 ``(..., K)``, m a unit vector.

    weight w_k > 0 ``(..., K)``; cost c >= 0 ``(...)``: noise over power; constant >= 0 ``(...)``.
    Among equals the largest. Nobody that is not heard takes part unless the cost is zero; where
    nobody is heard and noise counts, F is inf.
    """
    gain, weight = np.broadcast_arrays(gain, weight)
    cost = np.broadcast_to(cost, gain.shape[:-1])[..., None]
    constant = np.broadcast_to(constant, gain.shape[:-1])[..., None]
    # 1. The cheapest to hear first.
    with np.errstate(divide="ignore", over="ignore"):
        price = np.where(gain > 0, weight**2 / np.where(gain > 0, gain, 1.0), np.inf)
    order = np.argsort(price, axis=-1, kind="stable")
    price, w = (np.take_along_axis(v, order, -1) for v in (price, weight))
    # 2. F of every prefix: its last device is its worst.
    inside = w.cumsum(-1)
    noisy = np.where(cost > 0, cost * np.where(cost > 0, price, 0.0), 0.0)
    value = noisy / inside**2 + constant * (1 - inside / inside[..., -1:]) ** 2
    # 3. The least, the longest among equals.
    count = w.shape[-1]
    last = count - 1 - value[..., ::-1].argmin(-1)[..., None]
    chosen = np.zeros(gain.shape, dtype=bool)
    np.put_along_axis(chosen, order, np.arange(count) <= last, -1)
    return Prefix(chosen, np.take_along_axis(value, last, -1)[..., 0])
