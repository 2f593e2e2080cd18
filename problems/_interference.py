"""What power-control problems share: links that hear each other, and the powers that feed a loop.

    SINR_k(p) = G_kk p_k / (s_k + sum_{j != k} G_kj p_j)

with row = receiver, column = transmitter. Powers that reach SINR targets answer each other:
``p = loop p + need``; that has a solution exactly if the loop dies out (spectral radius below 1).
Source: Foschini and Miljanic 1993, Yates 1995; the elimination is derived.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.fields import data
from rralloc.problem import Problem
from rralloc.typing import Array, Field


class Links(Problem):
    """Fields and quantities that all interfering links have; not a problem by itself."""

    gain: Field = data("K K", unit="1", low=0, doc="power gain, row = receiver")
    noise_w: Field = data("K", unit="W", low=0, open_low=True, doc="noise power")

    def check(self) -> None:
        """The gain matrix is K x K."""
        if self.gain.shape[-1] != self.gain.shape[-2]:
            name = type(self).__name__
            raise InvalidProblem(f"{name}.gain: shape {self.gain.shape} is not (..., K, K)")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Rayleigh fading, cross gains 10 dB below direct ones on average, 20 dB SNR at 1 W."""
        links = shape[-1]
        mean = np.where(np.eye(links, dtype=bool), 1.0, 0.1)
        return {"gain": mean * rng.exponential(size=(*shape, links)), "noise_w": 0.01}

    @cached_property
    def _matrix(self) -> Array:
        """G with both device axes, also where one number stands for all of it."""
        size = self.sizes["K"]
        return np.broadcast_to(self.gain, (*self.gain.shape[:-2], size, size))

    @cached_property
    def _direct(self) -> Array:
        return np.diagonal(self._matrix, axis1=-2, axis2=-1)

    @cached_property
    def _cross(self) -> Array:
        return np.where(np.eye(self.sizes["K"], dtype=bool), 0.0, self._matrix)

    def sinr(self, power_w: Array) -> Array:
        """SINR of each link ``(..., K)``; negative power counts as none."""
        power = np.where(np.real(power_w) >= 0, power_w, 0.0)
        return self._direct * power / (self.noise_w + times(self._cross, power))

    def dead_links(self) -> str:
        """A sentence that names links that do not hear their own transmitter, if there are any."""
        dead = np.argwhere(np.broadcast_to(self._direct <= 0, (*self.batch_shape, self.sizes["K"])))
        if not dead.size:
            return ""
        named = ", ".join(str(index[-1]) for index in dead[:5])
        more = f" and {len(dead) - 5} more" if len(dead) > 5 else ""
        return f"link {named}{more} has no direct gain: its SINR is 0 at any power"


def times(matrix: Array, vector: Array) -> Array:
    """Matrix times vector over the last axes."""
    return (matrix @ vector[..., None])[..., 0]


def least_fixed_point(loop: Array, need: Array) -> Array:
    """The least x ``(..., K)`` with x = loop x + need, both >= 0; inf where the loop never settles.

    Elimination of one link after another. Only ``1 - loop gain`` is ever subtracted, so every
    component keeps its digits, whatever the units and however many decades the entries span.
    """
    size = need.shape[-1]
    lead = np.broadcast_shapes(loop.shape[:-2], need.shape[:-1])
    rows = np.empty((*lead, size, size + 1))
    rows[..., :-1], rows[..., -1] = loop, need
    settles = np.ones(lead, dtype=bool)
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(size):
            # 1. What link k causes comes back to it through the links before; below 1 it fades.
            spare = 1 - rows[..., k, k]
            settles &= ~(spare <= 0)
            # 2. Its own row without itself: the geometric series of that loop.
            row = rows[..., k, :] / np.where(spare > 0, spare, 1.0)[..., None]
            row[..., k] = 0.0
            # 3. Put it into the rows of all others.
            heard = rows[..., :, k].copy()
            heard[..., k] = 0.0
            rows[..., :, k] = 0.0
            rows[..., k, :] = row
            rows += heard[..., None] * row[..., None, :]
    return np.where(settles[..., None], rows[..., -1], np.inf)


def spectral_radius(matrix: Array) -> Array:
    """Largest absolute eigenvalue ``(...)``."""
    return np.abs(np.linalg.eigvals(matrix)).max(-1)


def loops(matrix: Array) -> list[tuple[list[int], float]]:
    """Groups of links of one matrix ``(K, K)`` that all reach each other, with their loop gain."""
    size = matrix.shape[-1]
    reach = (matrix > 0) | np.eye(size, dtype=bool)
    for k in range(size):
        reach |= reach[:, k : k + 1] & reach[k : k + 1, :]
    both, found = reach & reach.T, []
    for k in range(size):
        group = np.flatnonzero(both[k])
        if group[0] == k:
            gain = float(spectral_radius(matrix[np.ix_(group, group)]))
            found.append(([int(i) for i in group], gain))
    return found
