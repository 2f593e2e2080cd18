"""What devices and server remember of earlier rounds, and what is sent relative to it.

Each device k and the server hold the same vector d_k and so the same prediction f_k = tau_k d_k of
this round's gradient g_k:

==========  ==========  =============================  ========================================
reference   sends u_k   predicts f_k                   d_k after a decoded sign packet
==========  ==========  =============================  ========================================
none        g_k         0                              -
stale       g_k         tau_k d_k                      the reconstruction of g_k
innovation  g_k - f_k   d_k, or tau_k d_k (rescale)    f_k + the reconstruction of g_k - f_k
==========  ==========  =============================  ========================================

tau_k = <g_k, d_k>/||d_k||^2 (0 if d_k = 0) is reported by the device in every round; it makes
||g_k - f_k||^2 <= ||g_k||^2. A lost sign packet leaves d_k as it was on both sides (the device sees
no acknowledgement) and the server uses f_k. In all cases it estimates

    ghat_k = f_k + C_k [ a_k c_k + M_k b_k (v_k - c_k) ],

where the guess c_k and the quantised v_k are what a decoded packet *adds to f_k*: with innovations
the decoded u_k itself, with stale the reconstruction of g_k minus f_k (and c_k = 0 if the guess
would be worse than f_k: a lone sign packet is then not used). The statistics G, E, D, H are those
of u = g_k - f_k, c_k and v_k, so every estimator and every objective holds as it stands.

Why d_k moves by the *unscaled* reconstruction (a = b = 1) under every estimator: with

    E||g_k - d_k'||^2 = (1-q) G + q(1-p) E + q p D  <  G = ||g_k - f_k||^2     (E <= G, D < G)

sending is a contraction, and the plain estimator is error feedback in the form of EF21,
ghat_k = d_k' (its objective is exactly the weighted distance that is left). The other estimators
are like DIANA: ghat_k = f_k + scaled increment trades the bias in the *aggregate*, while d_k still
contracts; moving d_k by increments scaled up by 1/q would make it oscillate or diverge. With D >= G
(one or two bits) modulus packets do not contract, and alpha = 1 is the better choice.
Source: spec spfl.md "What moves training"; EF21 and DIANA by analogy, derived here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rralloc.fl.schemes.compensation import Compensation, Fit, ModulusMemory, square
from rralloc.fl.schemes.estimators import Statistics
from rralloc.fl.schemes.quantiser import signed
from rralloc.typing import Array

Reference = Literal["none", "stale", "innovation"]


@dataclass(frozen=True, eq=False)
class Reports:
    """The floats ``(K,)`` that devices report before the decision, free of error."""

    statistics: Statistics
    scale: Array
    """Best scalar for the compensatory modulus; 0: a lone sign packet is not used."""
    mean_modulus: Array
    flat: Array
    """Bits: a constant modulus fits better than what is remembered (compensation ``best``)."""
    multiple: Array
    """tau, the best multiple of d_k."""


@dataclass(frozen=True, eq=False)
class Heard:
    """The packets that arrived, and nothing of the others.

    The server knows them because it decoded them, a device because its packets were acknowledged.
    """

    sign_ok: Array
    modulus_ok: Array
    negative: Array
    """Sign bits ``(n, d)`` of the n devices in ``sign_ok (K,)``, in order."""
    modulus: Array
    """Quantised moduli ``(m, d)`` of the m devices in ``modulus_ok (K,)``, in order."""

    @property
    def both_ok(self) -> Array:
        """Heard completely, ``(K,)``; a modulus without its signs refreshes the memory only."""
        return self.sign_ok & self.modulus_ok


@dataclass(frozen=True, eq=False)
class Increments:
    """What decoded packets add to the prediction f ``(K, d)``."""

    prediction: Array
    guess: Array
    """c ``(n, d)`` for the n devices in ``sign_ok``."""
    full: Array
    """v ``(m, d)`` for the m devices in ``both_ok``."""


@dataclass(frozen=True, eq=False)
class Side:
    """One side's memory; the other side must hold the same bits."""

    memory: ModulusMemory
    reference: Array
    """The d_k of every device, ``(K, d)``; stays 0 with ``none``."""

    def prediction(self, multiple: Array) -> Array:
        """The f of every device, ``(K, d)``: tau_k d_k."""
        return self.reference if (multiple == 1.0).all() else multiple[:, None] * self.reference

    def increments(
        self, reference: Reference, compensation: Compensation, heard: Heard, reports: Reports
    ) -> Increments:
        """Decode the packets that arrived."""
        prediction = self.prediction(reports.multiple)
        gbar = self.memory.guess(compensation, reports.mean_modulus, reports.flat)[heard.sign_ok]
        guess = signed(reports.scale[heard.sign_ok, None] * gbar, heard.negative)
        full = signed(
            heard.modulus[heard.sign_ok[heard.modulus_ok]],
            heard.negative[heard.modulus_ok[heard.sign_ok]],
        )
        if reference == "stale":
            used = reports.scale[heard.sign_ok] > 0
            guess = np.where(used[:, None], guess - prediction[heard.sign_ok], 0.0)
            full = full - prediction[heard.both_ok]
        return Increments(prediction, guess, full)

    def after(
        self, reference: Reference, compensation: Compensation, heard: Heard, new: Increments
    ) -> Side:
        """The memory after the packets that arrived: d moves to f plus what they added."""
        memory = self.memory.after(compensation, heard.modulus_ok, heard.modulus)
        if reference == "none":
            return replace(self, memory=memory)
        moved = self.reference.copy()
        moved[heard.sign_ok] = new.prediction[heard.sign_ok] + new.guess
        moved[heard.both_ok] = new.prediction[heard.both_ok] + new.full
        return Side(memory, moved)

    def content(self) -> tuple[bytes, ...]:
        """Every bit of it, to compare."""
        common = b"" if self.memory.common is None else self.memory.common.tobytes()
        parts = (self.reference, self.memory.own, self.memory.refreshed)
        return (*(part.tobytes() for part in parts), common)

    def told(self, common: Array | None) -> Side:
        """With the shared modulus vector that the server broadcasts."""
        return replace(self, memory=self.memory.told(common))


@dataclass(frozen=True, eq=False)
class State:
    """Both memories. Each is moved only by what its side knows, and both stay the same."""

    device: Side
    server: Side

    @classmethod
    def begin(cls, devices: int, weights: int) -> State:
        """Nothing received yet, d = 0."""

        def side() -> Side:
            return Side(ModulusMemory.empty(devices, weights), np.zeros((devices, weights)))

        return cls(side(), side())

    @property
    def in_sync(self) -> bool:
        """Whether both sides hold the same, bit by bit."""
        return self.device.content() == self.server.content()


def beyond(prediction: Array, updates: Array, guess: Array, fitted: Fit) -> tuple[Array, Fit]:
    """Statistics of ``stale``: G = ||g - f||^2 and the fit of c = guess - f ``(K, d)``.

    A guess that is worse than f is not used: scale 0, E = G, H = 0.
    """
    energy = square(updates - prediction)
    used = (fitted.error < energy) & (fitted.scale > 0)
    return energy, Fit(
        np.where(used, fitted.scale, 0.0),
        np.where(used, square(guess - prediction), 0.0),
        np.where(used, fitted.error, energy),
        fitted.flat,
    )
