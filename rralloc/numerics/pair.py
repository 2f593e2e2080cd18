"""Two columns: the unit vector of largest least gain, in closed form.

    max_m min(|a^H m|^2, |b^H m|^2) = min_y lambda_max(y a a^H + (1 - y) b b^H)

With A = |a|^2, B = |b|^2, r = |a^H b| it is A for r >= A, B for r >= B, else (AB - r^2)/(A + B -
2r), at m along (B - r) a + (A - r) e^{j arg(b^H a)} b and y = (B - r)/(A + B - 2r).

Source: ota.md §2.4, derived.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.typing import Array


class Pair(NamedTuple):
    """m ``(..., N)`` of unit norm, its least gain ``(...)``, the dual weight y ``(...)`` of a."""

    m: Array
    gain: Array
    weight: Array


def pair_beam(a: Array, b: Array) -> Pair:
    """The best beam for a and b ``(..., N)``, neither zero."""
    size = np.maximum(np.abs(a).max(-1), np.abs(b).max(-1))[..., None]
    a, b = a / size, b / size
    A, B = ((v.real**2 + v.imag**2).sum(-1) for v in (a, b))
    inner = (b.conj() * a).sum(-1)
    r = np.abs(inner)
    turn = np.where(r > 0, inner / np.where(r > 0, r, 1.0), 1.0)
    # A gain that is reached by the weaker one's own matched filter has the other for free.
    own_a, own_b = (r >= A) & (A <= B), (r >= B) & (B < A)
    left, right = np.maximum(B - r, 0.0), np.maximum(A - r, 0.0)
    left, right = np.where(own_a, 1.0, left), np.where(own_a, 0.0, right)
    left, right = np.where(own_b, 0.0, left), np.where(own_b, 1.0, right)
    m = left[..., None] * a + (right * turn)[..., None] * b
    m = m / np.linalg.norm(m, axis=-1, keepdims=True)
    heard = [np.abs((v.conj() * m).sum(-1)) for v in (a, b)]
    return Pair(m, (np.minimum(*heard) * size[..., 0]) ** 2, left / (left + right))
