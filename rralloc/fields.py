"""What a problem declares: data fields, options, decision variables, constraints.

    class WaterFilling(Problem):
        sense = "max"
        gain: Field = data("K", unit="1/W", low=0, doc="channel gain over noise")
        power_budget_w: Field = data(unit="W", low=0, doc="total power")
        power_w = variable("K", unit="W", low=0, scale="power_budget_w")

A data field names its axes (``"K"``, ``"N K"``), unit and range; what precedes those axes in the
array a user passes is the batch.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.typing import Array

_KEY = "rralloc"


@dataclass(frozen=True, eq=False)
class Data:
    """A declared data field: axes, unit, allowed range, meaning."""

    axes: tuple[str, ...]
    unit: str
    low: float
    high: float
    open_low: bool
    open_high: bool
    inf: bool
    dtype: Any
    doc: str
    words: tuple[str, ...] = ()
    """Words that may stand in the place of numbers, e.g. ``"free"`` for what is to be decided."""

    @property
    def range(self) -> str:
        """The allowed range as an interval, ``[0, inf) W``."""
        if np.dtype(self.dtype) == bool:
            return "true or false"
        left = "(" if self.open_low or not np.isfinite(self.low) else "["
        right = "]" if np.isfinite(self.high) and not self.open_high else ")"
        if self.inf:
            right = "]"
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{left}{self.low:g}, {self.high:g}{right}{unit}"


@dataclass(frozen=True, eq=False)
class Option:
    """A declared option: part of the structure, not of the data."""

    choices: tuple[Any, ...] | None
    doc: str
    alias: str | None = None
    """The constructor's keyword, where the attribute's own name is taken by a method."""


@dataclass(frozen=True, eq=False)
class Variable:
    """A decision variable: axes, unit, bounds, and the scale that its violations are divided by.

    ``low``, ``high`` and ``scale`` are numbers or names of attributes of the problem.
    ``derived`` variables follow from the others by ``problem.complete``; ``when`` names a flag of
    the problem without which an instance does not have this variable.
    """

    name: str
    axes: tuple[str, ...]
    unit: str
    low: float | str
    high: float | str
    scale: float | str
    dtype: Any
    derived: bool
    doc: str
    when: str | None = None


@dataclass(frozen=True, eq=False)
class Constraint:
    """``slack >= 0`` (or ``== 0``), shape ``(..., axes)``; the violation is ``-slack / scale``."""

    name: str
    slack: Array
    unit: str
    scale: Array | float
    equality: bool = False


def data(
    axes: str = "",
    *,
    unit: str,
    low: float = -np.inf,
    high: float = np.inf,
    open_low: bool = False,
    open_high: bool = False,
    inf: bool = False,
    dtype: Any = float,
    default: Any = dataclasses.MISSING,
    kw_only: bool = True,
    words: Sequence[str] = (),
    doc: str = "",
) -> Any:
    """Declare a data field; ``default=None`` stays None and is resolved on use."""
    shape = tuple(axes.split())
    info = Data(shape, unit, low, high, open_low, open_high, inf, dtype, doc, tuple(words))
    return dataclasses.field(default=default, kw_only=kw_only, metadata={_KEY: info})


def option(
    *,
    default: Any,
    choices: Sequence[Any] | None = None,
    alias: str | None = None,
    doc: str = "",
) -> Any:
    """Declare an option with its default, its choices if closed, its keyword if not its name."""
    info = Option(tuple(choices) if choices is not None else None, doc, alias)
    return dataclasses.field(default=default, kw_only=True, metadata={_KEY: info})


def variable(
    axes: str = "",
    *,
    unit: str,
    low: float | str = -np.inf,
    high: float | str = np.inf,
    scale: float | str = 1.0,
    dtype: Any = float,
    derived: bool = False,
    name: str = "",
    when: str | None = None,
    doc: str = "",
) -> Variable:
    """Declare a decision variable; its name is the attribute's unless another is given."""
    shape = tuple(axes.split())
    return Variable(name, shape, unit, low, high, scale, dtype, derived, doc, when)


def info_of(field: dataclasses.Field[Any]) -> Data | Option | None:
    """What ``data`` or ``option`` left in a dataclass field."""
    found: Data | Option | None = field.metadata.get(_KEY)
    return found


def read(owner: str, name: str, info: Data, value: Any) -> Array:
    """``value`` as a checked, copied, read-only array with at least the declared axes."""
    where = f"{owner}.{name}"
    try:
        array = _numbers(np.dtype(info.dtype), value)
    except (TypeError, ValueError) as error:
        other = "".join(f" or {w!r}" for w in info.words)
        raise InvalidProblem(
            f"{where}: cannot read {reprlib.repr(value)} as numbers ({error}); pass an array{other}"
        ) from None
    axes = len(info.axes)
    if array.ndim == 0:
        array = array.reshape((1,) * axes)
    if array.ndim < axes:
        raise InvalidProblem(
            f"{where}: shape {array.shape} lacks axes ({', '.join(info.axes)}); "
            "a scalar stands for all of them, else the last axes of the array must be these"
        )
    if array.size == 0:
        raise InvalidProblem(f"{where}: shape {array.shape} is empty; at least one value is needed")
    _check_range(where, info, array)
    array.setflags(write=False)
    return array


def _numbers(target: np.dtype[Any], value: Any) -> Array:
    """``value`` copied into the declared type; an error where that would change what it says."""
    given = np.ma.filled(value, np.nan)  # masked values are missing ones
    if given.dtype.kind not in ("fiubOc" if target.kind == "c" else "fiubO"):
        raise TypeError(f"they are of type {given.dtype}, not {target}")
    with np.errstate(invalid="ignore"):
        array = given.astype(target)
    if target.kind in "biu" and not np.array_equal(array, given):
        raise ValueError("0 or 1 is needed" if target.kind == "b" else "integers are needed")
    return array


def _outside(info: Data, array: Array) -> Array:
    """Mask of the values that are not in the range; NaN is in none."""
    if np.iscomplexobj(array):
        return np.asarray(~np.isfinite(array))
    low = array <= info.low if info.open_low and np.isfinite(info.low) else array < info.low
    high = array >= info.high if info.open_high else array > info.high
    bad = low | high | np.isnan(array)
    return bad if info.inf else bad | np.isinf(array)


def _check_range(where: str, info: Data, array: Array) -> None:
    if array.dtype == bool:
        return
    # The extremes tell whether all is well, and NaN is both of them; complex has no order.
    ordered = not np.iscomplexobj(array)
    if ordered and not _outside(info, np.array([array.min(), array.max()])).any():
        return
    bad = _outside(info, array)
    if not bad.any():
        return
    with np.errstate(invalid="ignore"):  # inf - inf, told apart by depth
        worst = np.maximum(info.low - array, array - info.high) if ordered else array.real
        depth = np.where(bad, np.nan_to_num(worst, nan=np.inf, posinf=np.inf), -np.inf)
    index = tuple(int(i) for i in np.unravel_index(np.argmax(depth), array.shape))
    unit = "" if info.unit == "1" else f" {info.unit}"
    raise InvalidProblem(
        f"{where}{list(index) if index else ''} = {array[index]:g}{unit} is not in {info.range} "
        f"({int(bad.sum())} of {array.size} values are not). {_advice(info, array[index])}"
    )


def _advice(info: Data, value: Any) -> str:
    meaning = f"It is the {info.doc}; " if info.doc else ""
    if np.isnan(value):
        return f"{meaning}remove missing values before building the problem."
    if value < 0 and info.low >= 0:
        return f"{meaning}give it on a linear scale in {info.unit}, not in dB, and not negative."
    return f"{meaning}give finite values in {info.unit} inside the range."
