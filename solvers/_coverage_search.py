"""One beam, moved by whole devices: add, swap, kick, each step a least-distance problem.

Columns ``(N, K)`` are normalised to threshold 1; devices of value 0 are never aimed at.

Source: spec ota.md §3 (d1), (e) with its corrections; derived.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rralloc.numerics.least_distance import Beam, max_min
from rralloc.typing import Array

QUICK = 6
"""Steps of the phase-frozen ascent after a device joined or left."""


@dataclass(frozen=True, eq=False)
class Search:
    """Local search on one instance."""

    columns: Array
    value: Array

    def gain(self, m: Array) -> Array:
        """|g_k^H m|^2 ``(K,)``."""
        y = self.columns.conj().T @ m
        return y.real**2 + y.imag**2

    def served(self, m: Array) -> Array:
        """Mask ``(K,)`` of the devices of some value that are served."""
        return (self.gain(m) >= 1.0) & (self.value > 0)

    def worth(self, m: Array) -> float:
        """Value of the served devices."""
        return float(self.value[self.served(m)].sum())

    def join(self, members: Array, m: Array, steps: int = QUICK) -> Beam:
        """The phase-frozen ascent for some members from m, until all are served."""
        return max_min(self.columns[:, members], m, steps=steps, target=1.0)

    def outsiders(self, members: Array, m: Array, tries: int) -> Array:
        """The nearest devices that are not members, the nearest first."""
        left = np.where(members | (self.value <= 0), -1.0, self.gain(m))
        order = (-left).argsort(kind="stable")[:tries]
        return order[left[order] > 0]

    def add(self, m: Array, tries: int = 2) -> Array:
        """Add the nearest outsider that can be served with all members, until none can."""
        grown = True
        while grown:
            members, grown = self.served(m), False
            for k in self.outsiders(members, m, tries):
                beam = self.join(members | (np.arange(len(members)) == k), m)
                # Rounding may serve k by joining and not by counting: only what counts goes on.
                if beam.gain >= 1.0 and self.worth(beam.m) > self.worth(m):
                    m, grown = beam.m, True
                    break
        return m

    def swap(self, m: Array, drops: int = 4, tries: int = 3) -> Array:
        """Let the member that weighs most go for an outsider; go on while that pays."""
        paid = True
        while paid:
            paid = False
            for new in self._swaps(m, drops, tries):
                if self.worth(new) > self.worth(m):
                    m, paid = new, True
                    break
        return m

    def _swaps(self, m: Array, drops: int, tries: int) -> list[Array]:
        """Beams after one exchange each."""
        members = self.served(m)
        found: list[Array] = []
        if members.sum() < 2:
            return found
        centre = max_min(self.columns[:, members], m)
        heaviest = np.flatnonzero(members)[(-centre.pressure).argsort(kind="stable")[:drops]]
        for d in heaviest:
            rest = members & (np.arange(len(members)) != d)
            freed = max_min(self.columns[:, rest], centre.m, steps=QUICK).m
            for k in self.outsiders(members, freed, tries):
                beam = self.join(rest | (np.arange(len(members)) == k), freed)
                if beam.gain >= 1.0:
                    found.append(self.add(beam.m, tries))
                    break
        return found

    def kick(self, m: Array, rng: np.random.Generator, kicks: int) -> Array:
        """Drop two or three tight members, force an outsider in, grow again; keep no worse."""
        for _ in range(kicks):
            members = self.served(m)
            inside, outside = np.flatnonzero(members), self.outsiders(members, m, len(members))
            if len(inside) < 3 or not len(outside):
                break
            # 1. Tight members, at random among the tightest half.
            tight = inside[self.gain(m)[inside].argsort(kind="stable")[: max(3, len(inside) // 2)]]
            gone = rng.choice(tight, size=int(rng.integers(2, 4)), replace=False)
            members[gone] = False
            # 2. One of the nearer outsiders.
            members[rng.choice(outside[:6])] = True
            beam = self.join(members, m, 2 * QUICK)
            # 3. Grow again.
            new = self.add(beam.m)
            if self.worth(new) >= self.worth(m):
                m = new
        return m
