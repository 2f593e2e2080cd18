"""What the server puts in the place of a modulus that it did not receive.

A sign packet without its modulus packet is decoded with the *compensatory modulus* gbar_k >= 0,
times the scalar that fits it best to the true modulus m_k = |u_k|, which the device reports:

    a_k = <m_k, gbar_k>/||gbar_k||^2  (0 if gbar_k = 0),    H_k = a_k^2 ||gbar_k||^2,
    E_k = || m_k - a_k gbar_k ||^2 = G_k - H_k  <=  G_k = ||u_k||^2.

===========  ======================================================================
kind         gbar_k
===========  ======================================================================
zero         0: a lone sign packet is worth nothing
constant     a vector of ones (times the reported mean modulus)
global       |last estimate of the aggregate|, which everybody knows from the model
ema          running mean, factor 1/2, of the moduli received in a round, broadcast
memory       running mean, factor 1/2, of the moduli received *from device k*
best         memory or constant, whichever fits better: the device says so in one bit
===========  ======================================================================

Before there is anything to remember, ``memory`` falls back on ``ema`` and every kind on
``constant``. A memory that is rarely refreshed ages; with innovations, whose moduli change quickly,
``constant`` or ``best`` serve better. The server forms gbar_k from packets it received; the device
can form the same, because the server acknowledges modulus packets and broadcasts the shared vector.
Source: spec spfl.md §2.4 and correction 7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from rralloc.typing import Array

Compensation = Literal["zero", "constant", "global", "ema", "memory", "best"]

REMEMBERING = ("memory", "best")
"""Kinds that remember each device's own moduli."""

KEEP = 0.5
"""Weight of what is remembered when something new arrives."""


@dataclass(frozen=True, eq=False)
class ModulusMemory:
    """What one side remembers of moduli: ``own (K, d)``, ``refreshed (K,)``, ``common (d,)``."""

    own: Array
    refreshed: Array
    """Whether a modulus packet of the device has ever arrived."""
    common: Array | None = None
    """The vector that the server broadcasts; None before there is one."""

    @classmethod
    def empty(cls, devices: int, weights: int) -> ModulusMemory:
        """Nothing received yet."""
        return cls(np.zeros((devices, weights)), np.zeros(devices, dtype=bool))

    def guess(self, kind: Compensation, mean_modulus: Array, flat: Array) -> Array:
        """gbar ``(K, d)`` before its scalar, from the reports ``mean_modulus`` and ``flat (K,)``.

        flat: the devices that want a constant vector whatever is remembered.
        """
        if kind == "zero":
            return np.zeros_like(self.own)
        constant = np.broadcast_to(mean_modulus[:, None], self.own.shape)
        if kind == "constant":
            return constant
        shared = constant if self.common is None else self.common
        if kind in REMEMBERING:
            all_own = bool(self.refreshed.all())
            shared = self.own if all_own else np.where(self.refreshed[:, None], self.own, shared)
        if not flat.any():
            return np.broadcast_to(shared, self.own.shape)
        return np.where(flat[:, None], constant, shared)

    def after(self, kind: Compensation, arrived: Array, moduli: Array) -> ModulusMemory:
        """With the moduli ``(n, d)`` of the n devices marked in ``arrived (K,)``."""
        if kind not in REMEMBERING or not arrived.any():
            return self
        known = np.where(self.refreshed[arrived, None], self.own[arrived], moduli)
        own = self.own.copy()
        own[arrived] = KEEP * known + (1.0 - KEEP) * moduli
        return replace(self, own=own, refreshed=self.refreshed | arrived)

    def told(self, common: Array | None) -> ModulusMemory:
        """With the vector that the server broadcasts."""
        return replace(self, common=common)

    def to_broadcast(self, kind: Compensation, moduli: Array, estimate: Array) -> Array | None:
        """The shared vector ``(d,)`` after a round that brought ``moduli (n, d)`` and an estimate.

        Rounds that brought nothing leave it as it was.
        """
        if kind == "global":
            return np.abs(estimate) if estimate.any() else self.common
        if kind in ("zero", "constant") or len(moduli) == 0:
            return self.common
        fresh = moduli.mean(axis=0)
        return fresh if self.common is None else KEEP * self.common + (1.0 - KEEP) * fresh


class Fit(NamedTuple):
    """How well gbar fits: scalar a, energy H after scaling, error E, and the bit; all ``(K,)``."""

    scale: Array
    energy: Array
    error: Array
    flat: Array
    """The device wants a constant vector (``best`` only)."""


def square(vectors: Array) -> Array:
    """Energy of each row, ``(K,)``."""
    return np.einsum("kd,kd->k", vectors, vectors)


def best_multiple(vectors: Array, of: Array) -> tuple[Array, Array]:
    """The scalars c ``(K,)`` that bring c_k of_k nearest to each row, and <vector_k, of_k>.

    c = <vector, of>/||of||^2, 0 where of = 0.
    """
    product, energy = np.einsum("kd,kd->k", vectors, of), square(of)
    some = energy > 0
    return np.where(some, product / np.where(some, energy, 1.0), 0.0), product


def fit(
    kind: Compensation, memory: ModulusMemory, modulus: Array, mean_modulus: Array
) -> tuple[Fit, Array]:
    """The fit of gbar to ``modulus (K, d)``, and gbar with its scalar, ``(K, d)``."""
    nowhere = np.zeros(len(modulus), dtype=bool)
    guess, energy = memory.guess(kind, mean_modulus, nowhere), square(modulus)
    scale, product = best_multiple(modulus, guess)
    explained = np.minimum(scale * product, energy)
    flat = nowhere
    if kind == "best":
        by_mean = np.minimum(modulus.shape[1] * mean_modulus**2, energy)
        flat = by_mean > explained
        guess = memory.guess(kind, mean_modulus, flat)
        scale, explained = np.where(flat, 1.0, scale), np.where(flat, by_mean, explained)
    return Fit(scale, explained, energy - explained, flat), scale[:, None] * guess
