"""Compressors: vectors that cost fewer bits, with the exact law of the error.

A compressor C takes each row v of ``(..., d)`` to C(v) of the same shape and says what it costs
and what it loses, with n = ||v||, m = max |v|, and i = ceil(log2 d) bits per index,

    bits(d),      omega(v) = E ||C(v) - v||^2 / n^2      (0 for v = 0, which stays 0)

==============  ====================================  ============================  ===============
compressor      C(v)_j                                bits                          omega(v)
==============  ====================================  ============================  ===============
NoCompression   v_j                                   32 d                          0
ScaledSign      (||v||_1/d) sgn v_j,  sgn 0 = +1      d + 32                        (a)
Ternary         m sgn v_j  w.p. |v_j|/m, else 0       d log2 3 + 32                 (b)
QSGD(s)         n sgn v_j (l_j + [U_j < f_j])/s       d (1 + ceil log2(s+1)) + 32   (c)
TopK(k)         v_j if one of the k largest, else 0   k (32 + i)                    (d)
RandK(k)        (d/k) v_j if drawn, else 0            32 k                          d/k - 1
==============  ====================================  ============================  ===============

    (a) 1 - ||v||_1^2/(d n^2)            (b) sum_j |v_j| (m - |v_j|)/n^2
    (c) sum_j f_j (1 - f_j)/s^2          (d) sum over j left out of v_j^2/n^2

where l_j + f_j = s |v_j|/n, whole and fractional part. Ternary, QSGD and RandK are unbiased,
E C(v) = v; ScaledSign and TopK are not, but shrink the error, omega < 1, and so are the ones for
error feedback (``schemes/compressed.py``). Rows are independent (one row a client); float32 stays
float32, all else becomes float64. Norms are taken of v/m, so that no square over- or underflows.
Source: rrm.md §7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from rralloc.errors import InvalidProblem
from rralloc.numerics.counts import is_count, require_whole
from rralloc.typing import Array

FLOAT_BITS = 32
"""Bits of a float in a packet."""


def index_bits(d: int) -> int:
    """ceil(log2 d): bits that name one of d entries; 0 for d = 1."""
    return int(d - 1).bit_length()


class Compressor(Protocol):
    """What a compressor is: a name, C, its bits and its error. Any object like this will do."""

    @property
    def name(self) -> str:
        """For tables."""

    @property
    def unbiased(self) -> bool:
        """Whether E C(v) = v."""

    def __call__(self, v: Array, rng: np.random.Generator) -> Array:
        """C(v): each row of ``v (..., d)`` by itself, same shape, finite."""

    def bits(self, d: int) -> float:
        """Bits of one compressed vector of d entries."""

    def relative_error(self, v: Array) -> Array:
        """omega(v) ``(...)``, exact: E ||C(v) - v||^2 / ||v||^2; 0 for v = 0."""


@dataclass(frozen=True)
class NoCompression:
    """C(v) = v, in 32 d bits, omega = 0.

    Choose this when: a comparison needs its uncompressed row.
    """

    name: ClassVar[str] = "no compression"
    unbiased: ClassVar[bool] = True

    def __call__(self, v: Array, rng: np.random.Generator | None = None) -> Array:
        """A copy of ``v (..., d)``."""
        return _checked(v)[0].copy()

    def bits(self, d: int) -> float:
        """32 d."""
        return float(FLOAT_BITS * d)

    def relative_error(self, v: Array) -> Array:
        """0 ``(...)``."""
        return np.zeros(_checked(v)[0].shape[:-1])


@dataclass(frozen=True)
class ScaledSign:
    """C(v) = (||v||_1/d) sgn v with sgn 0 = +1: one bit an entry and one float.

    bits: d + 32. omega = 1 - ||v||_1^2/(d ||v||^2) <= 1 - 1/d, without randomness. Biased: the
    scale is the best one for these signs. Source: rrm.md §7.

    Choose this when: there are errors in memory to correct it (``error_feedback=True``) and about
    3 % of the bits is few enough; alone, it forgets which entries matter.
    """

    name: ClassVar[str] = "scaled sign"
    unbiased: ClassVar[bool] = False

    def __call__(self, v: Array, rng: np.random.Generator | None = None) -> Array:
        """C(v), shape of ``v (..., d)``."""
        v, top = _checked(v)
        mean = top * np.abs(_over(v, top)).mean(axis=-1, keepdims=True)
        return np.where(v < 0, -mean, mean)

    def bits(self, d: int) -> float:
        """d + 32."""
        return float(d + FLOAT_BITS)

    def relative_error(self, v: Array) -> Array:
        """1 - ||v||_1^2/(d ||v||^2) ``(...)``, as the variance of |v| over its mean square."""
        size = _unit(v)
        spread = size - size.mean(axis=-1, keepdims=True)
        return _share((spread * spread).sum(axis=-1), size)


@dataclass(frozen=True)
class Ternary:
    """C(v)_j = m sgn(v_j) with probability |v_j|/m, else 0, where m = max |v|: -m, 0 or m.

    bits: d log2 3 + 32 (an entropy coder's; 1.6 bits an entry). omega = sum |v_j| (m - |v_j|) /
    ||v||^2 <= (sqrt d - 1)/2, unbiased; equality if one entry is sqrt d + 1 times all others.
    Source: rrm.md §7 (bound: derived).

    Choose this when: estimates must be unbiased and packets small, and entries are of one size;
    one large entry makes it loud.
    """

    name: ClassVar[str] = "ternary"
    unbiased: ClassVar[bool] = True

    def __call__(self, v: Array, rng: np.random.Generator) -> Array:
        """C(v), shape of ``v (..., d)``; one uniform draw an entry."""
        v, top = _checked(v)
        fires = _uniform(v, rng) < np.abs(_over(v, top))
        return np.where(fires, np.copysign(top, v), 0)

    def bits(self, d: int) -> float:
        """d log2 3 + 32."""
        return d * math.log2(3.0) + FLOAT_BITS

    def relative_error(self, v: Array) -> Array:
        """sum |v_j| (m - |v_j|) / ||v||^2 ``(...)``."""
        size = _unit(v)
        return _share((size * (1.0 - size)).sum(axis=-1), size)


@dataclass(frozen=True)
class QSGD:
    """Unbiased rounding of |v_j| onto s = ``levels`` steps of ||v||/s, with the sign.

    With s |v_j|/||v|| = l_j + f_j, whole and fractional part, C(v)_j = ||v|| sgn(v_j)/s times
    l_j + 1 with probability f_j, else l_j.

    bits: d (1 + ceil log2(s + 1)) + 32, of fixed length; an entropy coder needs less. omega =
    sum f_j (1 - f_j)/s^2 <= min(d/s^2, sqrt d/s). Source: rrm.md §7.

    Choose this when: estimates must be unbiased and s can be of the order of sqrt d, where omega
    is about 1 or less; it is the finer, the more bits it has.
    """

    levels: int
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_whole("QSGD.levels", self.levels)

    @property
    def name(self) -> str:
        """QSGD(s)."""
        return f"QSGD({self.levels})"

    def __call__(self, v: Array, rng: np.random.Generator) -> Array:
        """C(v), shape of ``v (..., d)``; one uniform draw an entry."""
        v, top = _checked(v)
        size = np.abs(_over(v, top))
        low, part, norm = self._position(size)
        level = low + (_uniform(v, rng) < part)
        return np.copysign(top * (norm * level / self.levels), v)

    def bits(self, d: int) -> float:
        """d (1 + ceil log2(s + 1)) + 32."""
        return float(d * (1 + index_bits(self.levels + 1)) + FLOAT_BITS)

    def relative_error(self, v: Array) -> Array:
        """sum f_j (1 - f_j)/s^2 ``(...)``."""
        _, part, _ = self._position(_unit(v))
        return (part * (1.0 - part)).sum(axis=-1) / self.levels**2

    def _position(self, size: Array) -> tuple[Array, Array, Array]:
        """l and f of s |v_j|/||v||, and ||v|| ``(..., 1)``, of moduli of which the largest is 1."""
        norm = np.sqrt((size * size).sum(axis=-1, keepdims=True))
        position = self.levels * _over(size, norm)  # never above s: the norm is never below 1
        low = np.floor(position)
        return low, position - low, norm


@dataclass(frozen=True)
class TopK:
    """The k entries of largest modulus, the others 0; of equal ones the first, so exactly k.

    kept: a whole number is k itself; a fraction in (0, 1] is the density, k = max(1, ceil(kept d)).
        Mind that ``1`` is one entry and ``1.0`` is all. k >= d is the identity.

    bits: k (32 + ceil log2 d), values with indices; above density 32/(32 + ceil log2 d) a plain
    packet is shorter. omega = (energy of what is left out)/||v||^2 <= 1 - k/d, without
    randomness; equality for equal moduli. Biased. Source: rrm.md §7.

    Choose this when: there is a memory for what is left out (``error_feedback=True``, ``DGC``);
    then 1 % of the entries train about as well as all. Without one it stalls.
    """

    kept: int | float
    unbiased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _require_kept("TopK.kept", self.kept)

    @property
    def name(self) -> str:
        """top-k(7) or top-k(1%)."""
        return f"top-k({_words(self.kept)})"

    def count(self, d: int) -> int:
        """k, 1 <= k <= d."""
        return _count(self.kept, d)

    def __call__(self, v: Array, rng: np.random.Generator | None = None) -> Array:
        """C(v), shape of ``v (..., d)``."""
        v, _ = _checked(v)
        return np.where(_largest(np.abs(v), self.count(v.shape[-1])), v, 0)

    def bits(self, d: int) -> float:
        """k (32 + ceil log2 d)."""
        return float(self.count(d) * (FLOAT_BITS + index_bits(d)))

    def relative_error(self, v: Array) -> Array:
        """(energy of what is left out)/||v||^2 ``(...)``."""
        size = _unit(v)
        left_out = np.where(_largest(size, self.count(size.shape[-1])), 0.0, size)
        return _share((left_out * left_out).sum(axis=-1), size)


@dataclass(frozen=True)
class RandK:
    """d/k times k entries drawn uniformly without replacement, the others 0; each row its own.

    kept: k or a density, as in ``TopK``. k >= d is the identity.

    bits: 32 k; both sides draw the same places from a seed, which costs nothing here. omega =
    d/k - 1 whatever v is, in expectation; unbiased. Source: rrm.md §7.

    Choose this when: the error must not depend on the data (as bounds and allocations like it).
    Not with a memory: at k < d/2 what is left over grows from round to round.
    """

    kept: int | float
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_kept("RandK.kept", self.kept)

    @property
    def name(self) -> str:
        """rand-k(7) or rand-k(1%)."""
        return f"rand-k({_words(self.kept)})"

    def count(self, d: int) -> int:
        """k, 1 <= k <= d."""
        return _count(self.kept, d)

    def __call__(self, v: Array, rng: np.random.Generator) -> Array:
        """C(v), shape of ``v (..., d)``; one uniform draw an entry, the k largest are chosen."""
        v, _ = _checked(v)
        d, k = v.shape[-1], self.count(v.shape[-1])
        return np.where(_largest(rng.random(v.shape), k), v * (d / k), 0)

    def bits(self, d: int) -> float:
        """32 k."""
        return float(FLOAT_BITS * self.count(d))

    def relative_error(self, v: Array) -> Array:
        """d/k - 1 ``(...)``; 0 for v = 0."""
        v, top = _checked(v)
        d = v.shape[-1]
        return np.where(top[..., 0] > 0, d / self.count(d) - 1.0, 0.0)


# -- rows -----------------------------------------------------------------------------------------


def _checked(v: npt.ArrayLike) -> tuple[Array, Array]:
    """The rows as float32 or float64 ``(..., d)``, and the largest modulus of each ``(..., 1)``."""
    v = np.asarray(v)
    if v.dtype != np.float32:
        v = v.astype(np.float64, copy=False)
    if v.ndim == 0 or v.shape[-1] == 0:
        raise InvalidProblem(f"v has shape {v.shape}; give (..., d) with d >= 1 entries a row")
    top = np.maximum(v.max(axis=-1, keepdims=True), -v.min(axis=-1, keepdims=True))
    if not np.isfinite(top).all():
        worst = tuple(int(i) for i in np.argwhere(~np.isfinite(v))[0])
        raise InvalidProblem(
            f"v{list(worst)} = {v[worst]} is not finite; compressors need finite entries "
            "(a smaller learning rate, or clipping, keeps training from diverging)"
        )
    return v, top


def _over(v: Array, top: Array) -> Array:
    """v/top ``(..., d)``, 0 where a row is 0."""
    return v / np.where(top > 0, top, 1)


def _unit(v: Array) -> Array:
    """|v|/max |v| ``(..., d)`` in double precision."""
    v, top = _checked(v)
    return np.abs(_over(v.astype(np.float64), top))


def _share(error: Array, size: Array) -> Array:
    """error/||size||^2 ``(...)``, 0 where the row is 0."""
    energy = (size * size).sum(axis=-1)
    return error / np.where(energy > 0, energy, 1.0)


def _uniform(v: Array, rng: np.random.Generator) -> Array:
    """U[0, 1) for each entry, in the precision of v."""
    return rng.random(v.shape, dtype=np.float32 if v.dtype == np.float32 else np.float64)


def _largest(size: Array, k: int) -> Array:
    """Marks exactly k entries of each row ``(..., d)``: the largest, of equal ones the first."""
    edge = np.partition(size, size.shape[-1] - k, axis=-1)[..., -k, None]
    marked = size >= edge
    if marked.sum() > k * (marked.size // marked.shape[-1]):
        above = size > edge
        room = k - above.sum(axis=-1, keepdims=True)
        marked &= above | (np.cumsum(marked & ~above, axis=-1) <= room)
    return marked


# -- options --------------------------------------------------------------------------------------


def _count(kept: int | float, d: int) -> int:
    """k for d entries; a density of 0.07 of 100 is 7, whatever the last binary digit says."""
    k = int(kept) if isinstance(kept, (int, np.integer)) else math.ceil(kept * d * (1.0 - 1e-12))
    return min(max(k, 1), d)


def _words(kept: int | float) -> str:
    return f"{kept}" if isinstance(kept, (int, np.integer)) else f"{100 * kept:g}%"


def _require_kept(label: str, kept: int | float) -> None:
    density = isinstance(kept, float) and 0 < kept <= 1
    if not (density or is_count(kept)):
        raise InvalidProblem(
            f"{label} = {kept!r}: give a whole number >= 1 (how many entries) "
            "or a fraction in (0, 1] (which share of them)"
        )
