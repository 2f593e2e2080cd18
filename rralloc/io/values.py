"""Arrays and options as JSON values that read back bit for bit, and checks of what is read."""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from rralloc.errors import RRAllocError, ScenarioError
from rralloc.problem import Problem
from rralloc.typing import Array

SCENARIO = "rralloc/scenario/1"
RESULT = "rralloc/result/1"
Document = dict[str, Any]

MAX_DEPTH = 100
"""Lists and objects in each other: an array of numpy has at most 64 axes."""
MAX_VALUES = 100_000_000
"""Numbers of the largest field once all fields are broadcast to one batch."""
MAX_AXES = 16
"""Axes of one field: numpy broadcasts at most 32 together, and results add their own."""
MAX_WORDS = 2000
"""Characters of what is said about a file: a field of it may be a megabyte long."""

INFINITE = {"inf": math.inf, "-inf": -math.inf}


def encode(where: str, value: Any) -> Any:
    """An array as JSON values that read back bit for bit."""
    array = np.asarray(value)
    if array.dtype.kind == "c" and array.dtype.itemsize <= 16:
        return {"re": encode(where, array.real), "im": encode(where, array.imag)}
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise ScenarioError(f"{where}: JSON cannot hold an array of {array.dtype} exactly")
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array.tolist()
    mixed = array.astype(object)
    for word, where_it_is in (
        ("inf", np.isposinf(array)),
        ("-inf", np.isneginf(array)),
        (None, np.isnan(array)),
    ):
        mixed[where_it_is] = word
    return mixed.tolist()


def decode(where: str, value: Any, dtype: Any, *, nan: bool = False) -> Array:
    """Nested lists as an array of ``dtype``; ``nan`` allows null."""
    kind = np.dtype(dtype).kind
    if kind == "c":
        return _decode_complex(where, value, dtype, nan)
    shape, flat = leaves(value)
    numbers = [_number(v, kind, nan) for v in flat]
    for position, number in enumerate(numbers):
        if number is None:
            raise ScenarioError(_not_a_number(where, shape, position, flat[position], kind))
    try:
        return np.array(numbers, dtype=dtype).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise ScenarioError(f"{where}: {error}") from None


def _decode_complex(where: str, value: Any, dtype: Any, nan: bool) -> Array:
    if not isinstance(value, dict):
        return decode(where, value, float, nan=nan).astype(dtype)
    check_fields(where, value, ("re", "im"), ("re", "im"))
    re, im = (decode(f"{where}.{part}", value[part], float, nan=nan) for part in ("re", "im"))
    if re.shape != im.shape and re.shape and im.shape:
        raise ScenarioError(f"{where}: re has shape {re.shape}, im has shape {im.shape}")
    array = np.empty(np.broadcast_shapes(re.shape, im.shape), dtype=dtype)
    array.real, array.imag = re, im
    return array


def leaves(value: Any) -> tuple[tuple[int, ...], list[Any]]:
    """Shape and entries of nested lists; where they are ragged, entries are lists."""
    array = np.array(value, dtype=object)
    return array.shape, array.ravel().tolist()


def _number(value: Any, kind: str, nan: bool) -> bool | int | float | None:
    """The number that a JSON value stands for in an array of this kind, else None."""
    if kind == "b" or isinstance(value, bool):
        return value if kind == "b" and isinstance(value, bool) else None
    if isinstance(value, int):
        return value
    if kind == "f":
        if value is None and nan:
            return math.nan
        if isinstance(value, str):
            return INFINITE.get(value)
        return value if isinstance(value, float) and math.isfinite(value) else None
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _not_a_number(where: str, shape: tuple[int, ...], position: int, value: Any, kind: str) -> str:
    index = [int(i) for i in np.unravel_index(position, shape)] if shape else ""
    if isinstance(value, list):
        return f"{where}{index}: the lists are ragged; give every row the same length"
    wanted = {"b": "true or false", "i": "an integer", "u": "an integer"}.get(
        kind, 'a number ("inf" and "-inf" are the infinities)'
    )
    return f"{where}{index}: {_short(value)} is not {wanted}"


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Put the file, or the part of it, in front of what is wrong with it, in one paragraph."""
    try:
        yield
    except RRAllocError as error:
        said = " ".join(str(error).splitlines())
        error.args = (f"{where}: {said if len(said) <= MAX_WORDS else said[:MAX_WORDS] + '...'}",)
        raise


def check_keys(
    document: Any, tag: str, required: Collection[str], allowed: Collection[str]
) -> None:
    """Refuse a document of another kind, and fields that are missing or unknown."""
    _check_depth(document)
    found = document.get("schema") if isinstance(document, dict) else None
    if found != tag:
        raise ScenarioError(f'schema: {_short(found)} where "{tag}" should be{_hint(found)}')
    check_fields("the document", document, required, (*required, *allowed, "schema"))


def _check_depth(document: Any) -> None:
    """Refuse what is nested so deeply that reading it further could exhaust the stack."""
    containers = {dict, list, tuple}
    level: list[Any] = [[document]]
    for _ in range(MAX_DEPTH + 1):
        parts = [outer.values() if isinstance(outer, dict) else outer for outer in level]
        # Most lists hold numbers alone: told by their types, without a look at each number.
        nested = [p for p in parts if not containers.isdisjoint(map(type, p))]
        level = [v for p in nested for v in p if type(v) in containers]
        if not level:
            return
    raise ScenarioError(f"lists and objects are nested more than {MAX_DEPTH} deep")


def check_extent(cls: type[Problem], values: Document) -> None:
    """Refuse fields whose common batch is huge, though each of them alone is small."""
    shapes, largest = [], 1
    for name, info in cls._data.items():
        if isinstance(array := values.get(name), np.ndarray):
            if array.ndim > MAX_AXES:
                raise ScenarioError(f"data.{name}: {array.ndim} axes, more than {MAX_AXES}")
            axes = array.ndim - len(info.axes)
            shapes.append(array.shape[: max(axes, 0)])
            largest = max(largest, math.prod(array.shape[max(axes, 0) :]))
    try:
        batch = math.prod(np.broadcast_shapes(*shapes))
    except ValueError:  # the constructor says so, with the names of the fields
        return
    if batch * largest > MAX_VALUES:
        raise ScenarioError(
            f"data: a field has {batch * largest} values once the fields are broadcast to a batch "
            f"of {batch}, more than {MAX_VALUES}; save smaller batches"
        )


def _short(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):  # given in memory, no JSON
        text = reprlib.repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _listed(names: Collection[Any]) -> str:
    """Some names in a message: not all of thousands, and none of thousands of letters."""
    first = [" ".join(str(n).split()) for n in list(names)[:12]]
    shown = [n if len(n) <= 60 else f"{n[:60]}..." for n in first]
    return ", ".join([*shown, "..."] if len(names) > len(shown) else shown)


def _hint(found: Any) -> str:
    if found == RESULT:
        return "; this is a result, which holds its scenario: rralloc.io.load_result reads it"
    return "; this is a scenario, not a result" if found == SCENARIO else ""


def check_fields(where: str, given: Any, required: Collection[str], known: Collection[str]) -> None:
    """Refuse what is not an object with exactly these fields."""
    if not isinstance(given, dict):
        raise ScenarioError(f"{where}: {_short(given)} where an object {{...}} should be")
    has = ", ".join(known) or "nothing"
    unknown = [n for n in given if n not in known]
    if unknown:
        raise ScenarioError(f"{where}: unknown field {_listed(unknown)}; known are {has}")
    missing = [n for n in required if n not in given]
    if missing:
        raise ScenarioError(f"{where}: {', '.join(missing)} is missing; known fields are {has}")


def defaults(cls: type[Problem]) -> Document:
    """Field name -> default, MISSING where there is none."""
    return {f.name: f.default for f in dataclasses.fields(cls)}  # type: ignore[arg-type]  # a dataclass by its base


def plain(value: Any) -> Any:
    """Tuples as lists, infinities as words."""
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def restore(value: Any, default: Any) -> Any:
    """Options are frozen: a JSON list is a tuple, unless the default is a list."""
    if isinstance(value, list):
        inner = [restore(v, default) for v in value]
        return inner if isinstance(default, list) else tuple(inner)
    if isinstance(value, dict):
        return {k: restore(v, default) for k, v in value.items()}
    return INFINITE.get(value, value) if isinstance(value, str) else value


def text(name: str, value: Any) -> str:
    """``value`` if it is a string."""
    if not isinstance(value, str):
        raise ScenarioError(f"{name}: {reprlib.repr(value)} is not a string")
    return value
