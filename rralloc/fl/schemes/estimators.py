"""How the server scales what it decoded, so that the error of the aggregate is small.

Device k sends a vector u_k with energy G. With C = 1 if its sign packet is decoded (probability q)
and M = 1 if then its modulus packet is (probability p), the server forms

    uhat_k = C_k [ a_k c_k + M_k b_k (v_k - c_k) ]

from the guess c_k = sign(u_k) gbar_k and the quantised v_k (E v_k = u_k). Of c_k and v_k it knows

    G = ||u||^2,   E = ||u - c||^2,   D = E||v - u||^2,   H = ||c||^2,   Y = <u, c> = (G + H - E)/2.

================  ===============  =========  ============================================
estimator         a                b          bias
================  ===============  =========  ============================================
plain             1                1          lost signs and lost moduli
sign_unbiased     1/q              1/q        lost moduli
unbiased          1/q              1/(q p)    none (gbar is a control variate)
optimal_scaling   kappa            kappa      traded against variance
================  ===============  =========  ============================================

    kappa = X/(q N + w lam (T - q N)),     X = pG + (1-p)Y,     T = p(G+D) + (1-p)H,
    N = ||E[uhat/kappa | C = 1]||^2 = p^2 G + 2p(1-p)Y + (1-p)^2 H,

which minimises  w ||u - E uhat||^2 + lam w^2 Var(uhat)  for the weight w of the device in the
aggregate and lam = ``variance_weight``. Then E uhat = a q (p u + (1-p) c) and E||uhat||^2 = a^2 q T
where a = b; the unbiased estimator has the second moment (G - E)/q + (E + D)/(q p).
q and p must be those of the allocation that was used for sending. Source: spec spfl.md §2.4, §2.6
(derived there).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from rralloc.typing import Array

Estimator = Literal["plain", "sign_unbiased", "unbiased", "optimal_scaling"]

SMALLEST = 1e-300
"""Probabilities below are events that do not happen: no 1/q is formed of them."""


class Success(NamedTuple):
    """Probabilities ``(K,)``: ``sign`` q = P(sign packet), ``modulus`` p = P(modulus | sign)."""

    sign: Array
    modulus: Array


class Statistics(NamedTuple):
    """The four numbers that each device reports about what it sends, all ``(K,)``, >= 0."""

    gradient_energy: Array
    """G, what is lost with the sign packet."""
    compensation_error: Array
    """E, the error that is left when only the sign packet arrives."""
    quantization_error: Array
    """D, the error that is left when both arrive."""
    compensation_energy: Array
    """H, the energy of the guess."""


class Scaling(NamedTuple):
    """Factors ``(K,)``: a on what a sign packet brings, b on what the modulus corrects."""

    guess: Array
    correction: Array


def scaling(
    estimator: Estimator,
    success: Success,
    statistics: Statistics,
    weight: Array,
    variance_weight: float = 1.0,
) -> Scaling:
    """a and b ``(K,)`` for devices of ``weight`` w ``(K,)``; 0 where nothing can be decoded."""
    q, p = success
    if estimator == "plain":
        one = np.ones_like(q)
        return Scaling(one, one)
    if estimator == "optimal_scaling":
        kappa = optimal_scale(success, statistics, variance_weight * weight)
        return Scaling(kappa, kappa)
    return Scaling(_inverse(q), _inverse(q if estimator == "sign_unbiased" else q * p))


def optimal_scale(success: Success, statistics: Statistics, variance_weight: Array) -> Array:
    """kappa ``(K,)`` for ``variance_weight`` lam w ``(K,)``; 0 for a zero vector."""
    (q, p), (G, E, D, H) = success, statistics
    Y = (G + H - E) / 2
    X = p * G + (1 - p) * Y
    T = p * (G + D) + (1 - p) * H
    N = p**2 * G + 2 * p * (1 - p) * Y + (1 - p) ** 2 * H
    cost = q * N + variance_weight * (T - q * N)
    sane = cost > SMALLEST * T
    return np.where(sane, X / np.where(sane, cost, 1.0), 0.0)


def combine(
    by: Scaling, weight: Array, sign_ok: Array, both_ok: Array, guess: Array, full: Array
) -> Array:
    """sum_k w_k uhat_k ``(d,)``.

    sign_ok, both_ok: ``(K,)``, which sign packets arrived, and with which also the modulus.
    guess: ``(n, d)``, c_k for the devices in ``sign_ok``, in order. full: v_k for ``both_ok``.
    """
    on_guess = weight * (by.guess - np.where(both_ok, by.correction, 0.0))
    on_full = weight * by.correction
    return on_guess[sign_ok] @ guess + on_full[both_ok] @ full


def _inverse(probability: Array) -> Array:
    possible = probability > SMALLEST
    return np.where(possible, 1.0 / np.where(possible, probability, 1.0), 0.0)
