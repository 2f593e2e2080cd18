"""What SP-FL minimises: error laws J_k(s, m) of one device in the exponents of its two packets.

With the exponents s (sign) and m (modulus),

    q = P(sign decoded) = e^-s,     p = P(modulus decoded | sign decoded) = e^-m, independent fading
                                     p = e^-(m - s)^+                                common fading

and per device the gradient energy G, compensation error E, quantisation error D, compensation
energy H, Y = (G + H - E)/2, weight w, variance weight lam, A = lam w^2:

    plain            w [ (1-q) G + q (1-p) E + q p D ]
    sign_unbiased    w E (1-p)^2 + A [ (1/q - 1) T + p D + p (1-p) E ],    T = p (G+D) + (1-p) H
    unbiased         A [ (G-E)/q + (E+D)/(q p) - G ]
    optimal_scaling  w G - w X^2 / [ (1 - w lam) M + w lam T/q ]
                     X = p G + (1-p) Y,   M = p^2 G + 2 p (1-p) Y + (1-p)^2 H

The first three are sums of terms c q^-i p^j; the last is the least such sum over a scale.
Source: spec spfl.md §2.4-2.7 with its corrections: a reconstruction of arXiv 2603.10763, derived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rralloc.errors import InvalidProblem, NotOffered
from rralloc.typing import Array

if TYPE_CHECKING:
    from rralloc.problems.spfl import SPFL

CAP = 690.0
"""Exponents are capped here: a packet with a larger one is never decoded."""
STEP = 1e-30


class Slopes(NamedTuple):
    """J and its derivatives with respect to s and m, each ``(..., K)``."""

    value: Array
    s: Array
    m: Array
    ss: Array
    sm: Array
    mm: Array


class Term(NamedTuple):
    """c q^-i p^j, that is c exp(u s + v m) with (u, v) by :meth:`exponents`."""

    c: Array
    i: int
    j: int

    def exponents(self, common: bool) -> tuple[int, int]:
        """(u, v): independent fading has p = e^-m, common fading p = e^(s - m) for m >= s."""
        return (self.i + self.j, -self.j) if common else (self.i, -self.j)


class PacketObjective:
    """Base of all error laws; a new one implements ``value`` and, if it likes, ``slopes``.

    ``value`` must accept complex s and m (complex step) and s = inf (device off) or m = inf (no
    modulus packet); it may read every field of the problem. Derivatives that are not given come
    from complex step and are checked against differences when the problem is built.
    """

    name = ""

    def value(self, s: Array, m: Array, problem: SPFL) -> Array:
        """J_k ``(..., K)``; +inf where the law has no value."""
        raise NotImplementedError

    def grid(self, s: Array, problem: SPFL) -> Array:
        """J for every pair of exponents: s ``(I, S, K)`` gives ``(I, I, S, K)``, m by columns."""
        return self.value(s[:, None], s[None], problem)

    def slopes(self, s: Array, m: Array, problem: SPFL) -> Slopes:
        """First derivatives by complex step, second ones by central differences of those."""
        s, m = (np.minimum(np.asarray(v, dtype=float), CAP) for v in (s, m))

        def first(s: Array, m: Array) -> tuple[Array, Array]:
            by_s = np.imag(self.value(s + 1j * STEP, m + 0j, problem)) / STEP
            return by_s, np.imag(self.value(s + 0j, m + 1j * STEP, problem)) / STEP

        hs, hm = 1e-5 * np.maximum(s, 1e-3), 1e-5 * np.maximum(m, 1e-3)
        (up, up_m), (down, down_m) = first(s + hs, m), first(s - hs, m)
        right, left = first(s, m + hm)[1], first(s, m - hm)[1]
        value = np.real(self.value(s, m, problem))
        cross = (up_m - down_m) / (2 * hs)
        return Slopes(value, *first(s, m), (up - down) / (2 * hs), cross, (right - left) / (2 * hm))

    def convex(self, problem: SPFL) -> bool:
        """Jointly convex in bandwidth and power, by a theorem."""
        return False

    def serves_everybody(self, problem: SPFL) -> Array:
        """Mask ``(..., K)`` of devices whose J is infinite without a sign packet."""
        off = np.full(np.shape(problem.gradient_energy), np.inf)
        with np.errstate(all="ignore"):
            return np.isinf(np.real(self.value(off, off, problem)))

    def terms(self, problem: SPFL) -> tuple[Array, list[Term]]:
        """J as c0 plus exponential terms, which gives surrogates and certificates."""
        raise NotOffered(f"the objective {self.name or self!r} is not a sum of exponentials")

    def majorant(self, s: Array, m: Array, problem: SPFL) -> tuple[Array, list[Term]]:
        """A sum of exponentials that is nowhere below J and touches it at (s, m)."""
        return self.terms(problem)


class ExponentialSum(PacketObjective):
    """J = c0 + sum_t c_t q^-i p^j; a new law of this kind is a coefficient table."""

    def value(self, s: Array, m: Array, problem: SPFL) -> Array:
        """The sum; +inf where q = 0 and a term has 1/q, or p = 0 and a term has 1/p."""
        s, m = ordered(s, m, problem)
        total, terms = self.terms(problem)
        lost: Array = np.zeros(np.shape(s), dtype=bool)
        with np.errstate(invalid="ignore", over="ignore"):
            for c, i, j in terms:
                total = total + np.where(c == 0, 0.0, c * power(s, m, i, j, problem.common))
                lost = lost | (c != 0) & ((i > 0) & np.isinf(s) | (j < 0) & np.isinf(m))
        return np.where(lost | np.isnan(total), np.inf, total)

    def grid(self, s: Array, problem: SPFL) -> Array:
        """The exponential of a sum is a product: 2 I exponentials instead of I^2."""
        total, terms = self.terms(problem)
        total = np.broadcast_to(total, (len(s), *s.shape)).copy()
        with np.errstate(over="ignore", invalid="ignore"):
            for term in terms:
                u, v = term.exponents(problem.common)
                if v == 0:
                    total += term.c * np.exp(u * s)[:, None]
                else:
                    total += (term.c * np.exp(u * s))[:, None] * np.exp(v * s)[None]
        return total

    def slopes(self, s: Array, m: Array, problem: SPFL) -> Slopes:
        """Each term times its exponents."""
        below = problem.common & (m < s)
        s, m = ordered(s, m, problem)
        total, terms = self.terms(problem)
        d: list[Array] = [np.zeros(np.shape(s)) for _ in range(5)]
        with np.errstate(invalid="ignore", over="ignore"):
            for term in terms:
                u, v = term.exponents(problem.common)
                e = power(s, m, term.i, term.j, problem.common)
                e = np.where(term.c == 0, 0.0, term.c * e)  # a silent device: 0 times infinity
                total = total + e
                d = [a + f * e if f else a for a, f in zip(d, (u, v, u * u, u * v, v * v))]
        return tied(Slopes(total, *d), below)


class Plain(ExponentialSum):
    """The error of the unscaled estimate: a lost sign costs G, a lost modulus only E, else D.

    Choose this when the server averages what it received without scaling.
    """

    name = "plain"

    def terms(self, problem: SPFL) -> tuple[Array, list[Term]]:
        """w G - w (G-E) q - w (E-D) q p."""
        w, G, E, D, _ = problem.statistics
        return w * G, [Term(-w * (G - E), -1, 0), Term(-w * (E - D), -1, 1)]


class SignUnbiased(ExponentialSum):
    """The estimate divided by q: a lost modulus biases it, a lost sign only adds variance."""

    name = "sign_unbiased"

    def terms(self, problem: SPFL) -> tuple[Array, list[Term]]:
        """Spec §2.7 with the corrected coefficient of p."""
        w, G, E, D, H = problem.statistics
        A = problem.variance_weight * w * w
        return w * E - A * H, [
            Term(A * H, 1, 0),
            Term(A * (G + D - H), 1, 1),
            Term(-2 * w * E + A * (E + H - G), 0, 1),
            Term((w - A) * E, 0, 2),
        ]


class Unbiased(ExponentialSum):
    """No bias at all (control variate); everybody must be served.

    With E <= G it is jointly convex in all variables, also with a free band split.
    """

    name = "unbiased"

    def terms(self, problem: SPFL) -> tuple[Array, list[Term]]:
        """A (G-E)/q + A (E+D)/(q p) - A G."""
        w, G, E, D, _ = problem.statistics
        A = problem.variance_weight * w * w
        return -A * G, [Term(A * (G - E), 1, 0), Term(A * (E + D), 1, -1)]

    def convex(self, problem: SPFL) -> bool:
        """By Lemma 2 of the spec, when no coefficient is negative."""
        return bool(np.all(problem.compensation_error <= problem.gradient_energy))


class OptimalScaling(PacketObjective):
    """The scale that trades bias for variance best: finite for q -> 0, never above the others.

    Choose this for training; it was the most robust estimator there.
    """

    name = "optimal_scaling"

    def value(self, s: Array, m: Array, problem: SPFL) -> Array:
        """w G - w X^2/d, d = (1 - w lam) M + w lam T/q."""
        s, m = ordered(s, m, problem)
        w, G, _, _, _ = problem.statistics
        X, M, T, lam, _ = self._moments(power(s, m, 0, 1, problem.common), problem)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            d = (1 - lam) * M + np.where(lam * T == 0, 0.0, lam * T * np.exp(np.minimum(s, CAP)))
            gain = np.where(d == 0, 0.0, X * X / np.where(d == 0, 1.0, d))
        return w * (G - np.where(np.isinf(s), 0.0, gain))

    def grid(self, s: Array, problem: SPFL) -> Array:
        """With p and 1/q on the grid from 2 I exponentials."""
        w, G, _, _, _ = problem.statistics
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            inverse_q, late = np.exp(s), np.exp(-s)
            p = inverse_q[:, None] * late[None] if problem.common else late[None]
            X, M, T, lam, _ = self._moments(p, problem)
            gain = X * X / ((1 - lam) * M + lam * T * inverse_q[:, None])
        return w * (G - gain)

    def _moments(self, p: Array, problem: SPFL) -> tuple[Array, Array, Array, Array, Array]:
        """X, M, T, w lam, Y at the conditional success probability p."""
        w, G, E, D, H = problem.statistics
        Y = 0.5 * (G + H - E)
        X, T = Y + p * (G - Y), H + p * (G + D - H)
        return X, H + p * (2 * (Y - H) + p * E), T, w * problem.variance_weight, Y

    def slopes(self, s: Array, m: Array, problem: SPFL) -> Slopes:
        """Spec, corrections: with k = X/d, J_i = w(-2k X_i + k^2 d_i) and its derivative."""
        below = problem.common & (m < s)
        s, m = ordered(s, m, problem)
        w, G, E, D, H = problem.statistics
        p = power(s, m, 0, 1, problem.common)
        X, M, T, lam, Y = self._moments(p, problem)
        inverse_q = np.exp(np.minimum(s, 300.0))
        d = (1 - lam) * M + lam * T * inverse_q
        k = np.where(d > 0, X / np.where(d > 0, d, 1.0), 0.0)
        per_d = np.where(d > 0, 2 / np.where(d > 0, d, 1.0), 0.0)
        by_s, by_m = (p, -p) if problem.common else (np.zeros_like(p), -p)
        slope, grown = (1 - lam) * 2 * (Y - H + p * E), lam * (G + D - H) * inverse_q
        along, X_p, bend = slope + grown, G - Y, (1 - lam) * 2 * E

        d_s, d_m = along * by_s + lam * T * inverse_q, along * by_m
        r_s, r_m = X_p * by_s - k * d_s, X_p * by_m - k * d_m

        def second(p_ij: Array, product: Array, growth: Array, r: Array) -> Array:
            d_ij = bend * product + along * p_ij + growth
            return w * (k * (k * d_ij - 2 * X_p * p_ij) - per_d * r)

        p_ss = p if problem.common else np.zeros_like(p)
        growth_ss = grown * 2 * by_s + lam * T * inverse_q
        return tied(
            Slopes(
                w * (G - k * X),
                w * k * (k * d_s - 2 * X_p * by_s),
                w * k * (k * d_m - 2 * X_p * by_m),
                second(p_ss, by_s * by_s, growth_ss, r_s * r_s),
                second(-p_ss, by_s * by_m, grown * by_m, r_s * r_m),
                second(p, by_m * by_m, np.zeros_like(p), r_m * r_m),
            ),
            below,
        )

    def scale(self, s: Array, m: Array, problem: SPFL) -> Array:
        """k = q kappa: the server multiplies what it received by kappa = k/q."""
        s, m = ordered(s, m, problem)
        X, M, T, lam, _ = self._moments(power(s, m, 0, 1, problem.common), problem)
        with np.errstate(over="ignore"):
            d = (1 - lam) * M + lam * T * np.exp(np.minimum(s, CAP))
        return np.where(d > 0, X / np.where(d > 0, d, 1.0), 0.0)

    def majorant(self, s: Array, m: Array, problem: SPFL) -> tuple[Array, list[Term]]:
        """For a fixed scale k, J is the sum w G - 2 w k X + k^2 w [(1 - w lam) M + w lam T/q]."""
        w, G, E, _, H = problem.statistics
        k, Y = self.scale(s, m, problem), 0.5 * (G + H - E)
        constant, terms = self.denominator(problem)
        inverse_q, both, late, squared = (t._replace(c=w * k * k * t.c) for t in terms)
        late = late._replace(c=late.c - 2 * w * k * (G - Y))
        constant = w * G - 2 * w * k * Y + w * k * k * constant
        return constant, [inverse_q, both, late, squared]

    def denominator(self, problem: SPFL) -> tuple[Array, list[Term]]:
        """d = (1 - w lam) M + w lam T/q as a sum of exponentials."""
        w, G, E, D, H = problem.statistics
        lam, Y = w * problem.variance_weight, 0.5 * (G + H - E)
        return (1 - lam) * H, [
            Term(lam * H, 1, 0),
            Term(lam * (G + D - H), 1, 1),
            Term(2 * (1 - lam) * (Y - H), 0, 1),
            Term((1 - lam) * E, 0, 2),
        ]


OBJECTIVES: dict[str, PacketObjective] = {
    law.name: law for law in (Plain(), SignUnbiased(), Unbiased(), OptimalScaling())
}
"""The objectives that have a name."""


class _Foreign(PacketObjective):
    """A user's object that only has ``value`` (and perhaps ``slopes``)."""

    def __init__(self, law: Any) -> None:
        self.own, self.name = law, getattr(law, "name", type(law).__name__)
        if hasattr(law, "slopes"):
            self.slopes = law.slopes  # type: ignore[method-assign]  # the user's own derivatives

    def value(self, s: Array, m: Array, problem: SPFL) -> Array:
        return np.asarray(self.own.value(s, m, problem))


def law_of(criterion: Any) -> PacketObjective:
    """The error law that ``SPFL(objective=...)`` means: a name, or an object with ``value``."""
    if isinstance(criterion, PacketObjective):
        return criterion
    if isinstance(criterion, str):
        if criterion in OBJECTIVES:
            return OBJECTIVES[criterion]
        known = ", ".join(map(repr, OBJECTIVES))
        raise InvalidProblem(
            f"SPFL.objective = {criterion!r}; choose one of {known}, or an object with "
            "value(s, m, problem)"
        )
    if not callable(getattr(criterion, "value", None)):
        raise InvalidProblem(f"SPFL.objective = {criterion!r} has no value(s, m, problem)")
    return _Foreign(criterion)


def ordered(s: Array, m: Array, problem: SPFL) -> tuple[Array, Array]:
    """(s, max(s, m)) under common fading: a modulus is of no use without its sign."""
    return (s, np.where(np.real(m) < np.real(s), s, m)) if problem.common else (s, m)


def power(s: Array, m: Array, i: int, j: int, common: bool) -> Array:
    """q^-i p^j; 0 where a factor with positive power is 0, whatever the other."""
    late = m if not common else np.where(np.isinf(m), m, m - np.where(np.isinf(s), 0.0, s))
    z = (i * s if i else 0.0) - (j * late if j else 0.0)
    zero = ((j > 0) & np.isinf(m)) | ((i < 0) & np.isinf(s))
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp(np.where(zero, 0.0, z))
    return np.where(zero, 0.0, e)


def tied(slopes: Slopes, below: Array) -> Slopes:
    """Derivatives where m < s counts as m = s: everything moves with s."""
    if not np.any(below):
        return slopes
    f, s, m, ss, sm, mm = slopes

    def keep(v: Array) -> Array:
        return np.where(below, 0.0, v)

    along = np.where(below, s + m, s), np.where(below, ss + 2 * sm + mm, ss)
    return Slopes(f, along[0], keep(m), along[1], keep(sm), keep(mm))


def check_analytic(law: PacketObjective, problem: SPFL) -> None:
    """Refuse a law whose complex step differs from differences: it uses abs or the like."""
    s, m = np.array([0.3, 0.8]), np.array([0.9, 1.7])
    for a, b in zip(s, m):
        at = np.full(np.shape(problem.gradient_energy), a), np.full((), b)
        one, other = np.broadcast_arrays(*at)
        exact, h = law.slopes(one, other, problem), 1e-5
        up, down = (np.real(law.value(at[0] + e, at[1] + 0 * at[0], problem)) for e in (h, -h))
        taken = (up - down) / (2 * h)
        size = np.abs(taken) + np.abs(exact.s) + 1e-6 * np.abs(exact.value) + 1e-300
        if not np.all(np.abs(taken - exact.s) <= 1e-4 * size):
            raise InvalidProblem(
                f"SPFL.objective {law!r}: its derivative by complex step differs from differences; "
                "write value(s, m, problem) without abs, maximum or real, or give slopes(...)"
            )
