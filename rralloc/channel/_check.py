"""One way to refuse a value: say which, where, how much, in which unit, and what to do instead.

Every public function of the package passes its numbers through :func:`require`. The allowed range
is written as an interval, ``"(0, inf)"`` or ``"[0, 1]"``, and the same words decide the check and
appear in the message, so the two cannot disagree. NaN lies in no interval, hence it is refused
everywhere; a round bracket at ``inf`` refuses infinity.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rralloc.errors import InvalidProblem

FloatArray: TypeAlias = npt.NDArray[np.float64]
Shape: TypeAlias = int | Sequence[int]

# 80 dB: a fade of standard deviation 1.4e-4, at which the series of SciPy still converge.
LARGEST_RATIO = 1e8


def require(name: str, value: npt.ArrayLike, within: str, unit: str, fix: str) -> FloatArray:
    """``value`` as float64 if all of it lies in ``within``, else ``InvalidProblem``."""
    array = _as_float(name, value, unit, fix)
    low, high = (float(end) for end in within[1:-1].split(","))
    above = array > low if within[0] == "(" else array >= low
    below = array < high if within[-1] == ")" else array <= high
    bad = ~(above & below)
    if bad.any():
        where = _worst(array, bad, low, high)
        label = f"{name}[{', '.join(map(str, where))}]" if where else name
        raise InvalidProblem(
            f"{label} = {float(array[where])} {unit} is outside {within} {unit}: {fix}."
        )
    return array


def require_scalar(name: str, value: npt.ArrayLike, within: str, unit: str, fix: str) -> float:
    """Like :func:`require`, for one number."""
    array = require(name, value, within, unit=unit, fix=fix)
    if array.ndim:
        raise InvalidProblem(
            f"{name} has shape {array.shape} and must be one number in {unit}: {fix}."
        )
    return float(array)


def require_count(name: str, value: object) -> int:
    """``value`` as an ``int >= 0``."""
    try:
        count = operator.index(value)  # type: ignore[arg-type]  # refusing others is its job
    except TypeError:
        count = -1
    if count < 0:
        raise InvalidProblem(f"{name} = {value!r} is outside 0, 1, 2, ...: give a whole number.")
    return count


def require_shape(shape: Shape) -> tuple[int, ...]:
    """``shape`` as a tuple of whole numbers; one number is a vector of that length."""
    sides = shape if isinstance(shape, Sequence) else (shape,)
    return tuple(require_count(f"shape[{axis}]", side) for axis, side in enumerate(sides))


def require_generator(rng: object) -> np.random.Generator:
    """``rng`` if it is a NumPy ``Generator``; a seed or None would hide which stream is used."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"rng is a {type(rng).__name__} and must be a numpy.random.Generator: "
            "pass numpy.random.default_rng(seed)."
        )
    return rng


def require_k_factor(k_factor: npt.ArrayLike) -> FloatArray:
    """The Rice factor, a linear ratio from 0 (Rayleigh) to 1e8 (80 dB, in effect no fading)."""
    fix = "give line-of-sight power over scattered power as a linear ratio, 10**(K_dB / 10)"
    return require("k_factor", k_factor, f"[0, {LARGEST_RATIO:g}]", unit="(linear)", fix=fix)


def require_m(m: npt.ArrayLike) -> FloatArray:
    """The Nakagami shape, from one half (one-sided Gaussian) to 1e8 (in effect no fading)."""
    fix = "give the Nakagami shape, 1 for Rayleigh, more for a steadier channel"
    return require("m", m, f"[0.5, {LARGEST_RATIO:g}]", unit="(no unit)", fix=fix)


def broadcast(**named: FloatArray) -> tuple[FloatArray, ...]:
    """The arrays at their common NumPy shape, or ``InvalidProblem`` with every name and shape."""
    try:
        return tuple(np.broadcast_arrays(*named.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in named.items())
        raise InvalidProblem(
            f"shapes do not fit together: {shapes}; the last axis is the K devices, "
            "each axis has one length or 1."
        ) from None


def fit(name: str, array: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """``array`` stretched to ``shape``: one value for all, or one value for each device."""
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise InvalidProblem(
            f"{name} has shape {array.shape}, which does not stretch to shape {shape}: "
            "give one number, or one for each entry of the last axis."
        ) from None


def _as_float(name: str, value: npt.ArrayLike, unit: str, fix: str) -> FloatArray:
    raw = np.asarray(value)
    try:
        # The cast of a complex array drops the imaginary part with a mere warning.
        if np.iscomplexobj(raw):
            raise TypeError
        return raw.astype(np.float64)
    except (TypeError, ValueError):
        raise InvalidProblem(
            f"{name} holds {raw.dtype} and must hold real numbers in {unit}: {fix}."
        ) from None


def _worst(
    array: FloatArray, bad: npt.NDArray[np.bool_], low: float, high: float
) -> tuple[int, ...]:
    """Index of the value farthest outside; NaN and infinity count as farthest."""
    # argmax stops at the first NaN: one that was given, or inf - inf at an infinite bound.
    with np.errstate(invalid="ignore", over="ignore"):
        excess = np.maximum(low - array, array - high)
    first = int(np.argmax(np.where(bad, excess, -np.inf)))
    return tuple(int(i) for i in np.unravel_index(first, array.shape))
