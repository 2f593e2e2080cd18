"""Scenarios and results as JSON: nothing is executed on reading, nothing is rounded on writing.

    {"schema": "rralloc/scenario/1", "problem": "WaterFilling",
     "data": {"gain": [2.0, 1.0, 0.5], "power_budget_w": 3.0}, "options": {}, "digest": "..."}

Arrays are nested lists, complex ones ``{"re": ..., "im": ...}``; infinities are the strings
``"inf"`` and ``"-inf"``, a missing number in a result is ``null``. A scenario written by hand may
leave out ``options`` and ``digest`` and give a scalar for any array; ``schema(WaterFilling)`` is
the JSON Schema it can be validated with. A file appears whole or not at all.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from rralloc.errors import RRAllocError, ScenarioError
from rralloc.fields import Data
from rralloc.problem import Problem
from rralloc.registry import problem_class
from rralloc.solution import Solution, Status, Stopped, Trace, codes
from rralloc.typing import Array

SCENARIO = "rralloc/scenario/1"
RESULT = "rralloc/result/1"
Document = dict[str, Any]

_INFINITE = {"inf": math.inf, "-inf": -math.inf}
_NUMBERS = ("objective", "bound", "gap", "violation", "raw_violation", "kkt")
_WORDS: dict[str, Any] = {"status": Status, "stopped": Stopped}
_TEXTS = ("solver", "bound_method", "message")
_TIMES = ("seconds", "cpu_seconds")


# -- scenarios ----------------------------------------------------------------------------------


def save_scenario(problem: Problem, path: str | os.PathLike[str]) -> None:
    """Write ``problem`` as a scenario file."""
    write_text(path, dumps(to_dict(problem)))


def load_scenario(path: str | os.PathLike[str]) -> Problem:
    """The problem that a scenario file holds; a problem class must be known to ``rr.register``."""
    document = read_json(path)
    with _naming(str(path)):
        return from_dict(document)


def to_dict(problem: Problem) -> Document:
    """The scenario document of a problem: JSON values only."""
    data = {}
    for name in problem._data:
        array = getattr(problem, name)
        data[name] = None if array is None else _encode(f"data.{name}", array)
    return {
        "schema": SCENARIO,
        "problem": type(problem).__name__,
        "data": data,
        "options": {n: _encode_option(problem, n) for n in problem._options},
        "digest": problem.digest,
    }


def from_dict(document: Any) -> Problem:
    """The problem of a scenario document, built and checked by its own constructor."""
    _check_keys(document, SCENARIO, required=("problem", "data"), allowed=("options", "digest"))
    cls = problem_class(_text("problem", document["problem"]))
    values = _read_data(cls, document["data"]) | _read_options(cls, document.get("options", {}))
    try:
        problem = cls(**values)
    except RRAllocError:
        raise
    except (TypeError, ValueError) as error:
        raise ScenarioError(f"{cls.__name__} cannot be built from this: {error}") from error
    written = document.get("digest", problem.digest)
    if written != problem.digest:
        raise ScenarioError(
            f"digest: the document says {written!r}, its contents give {problem.digest!r}: it was "
            'changed after it was written, or by another version. Delete "digest" to accept it.'
        )
    return problem


def _read_data(cls: type[Problem], data: Any) -> Document:
    defaults = _defaults(cls)
    required = [n for n in cls._data if defaults[n] is dataclasses.MISSING]
    _check_fields("data", data, required, cls._data)
    left_open = [n for n, v in data.items() if v is None and defaults[n] is None]
    given = {n: v for n, v in data.items() if n not in left_open}
    arrays = {n: _decode(f"data.{n}", v, cls._data[n].dtype) for n, v in given.items()}
    return arrays | dict.fromkeys(left_open)


def _read_options(cls: type[Problem], options: Any) -> Document:
    _check_fields("options", options, (), cls._options)
    defaults = _defaults(cls)
    return {n: _restore(v, defaults[n]) for n, v in options.items()}


def _defaults(cls: type[Problem]) -> Document:
    return {f.name: f.default for f in dataclasses.fields(cls)}  # type: ignore[arg-type]


def _encode_option(problem: Problem, name: str) -> Any:
    value = getattr(problem, name)
    try:
        plain = json.loads(json.dumps(_plain(value), allow_nan=False))
        same = repr(_restore(plain, _defaults(type(problem))[name])) == repr(value)
    except (TypeError, ValueError):
        same = False
    if not same:
        raise ScenarioError(
            f"options.{name} = {value!r} is not a JSON value (a plain number, string, true, false, "
            f"null, or a tuple of them), so no file can bring it back. Save "
            f"problem.replace({name}=...) with such a value and put the object back after loading."
        )
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _restore(value: Any, default: Any) -> Any:
    """Options are frozen: a JSON list is a tuple, unless the default is a list."""
    if isinstance(value, list):
        inner = [_restore(v, default) for v in value]
        return inner if isinstance(default, list) else tuple(inner)
    if isinstance(value, dict):
        return {k: _restore(v, default) for k, v in value.items()}
    return _INFINITE.get(value, value) if isinstance(value, str) else value


# -- results ------------------------------------------------------------------------------------


def save_result(sol: Solution, path: str | os.PathLike[str]) -> None:
    """Write a solution together with its whole scenario."""
    write_text(path, dumps(result_to_dict(sol)))


def load_result(path: str | os.PathLike[str]) -> Solution:
    """The solution that a result file holds, with an empty trace.

    Only shapes are checked: objective, bound and status are what the file says. ``rr.verify(
    sol.problem, sol)`` recomputes them from the point.
    """
    document = read_json(path)
    with _naming(str(path)):
        return result_from_dict(document)


def result_to_dict(sol: Solution) -> Document:
    """The result document; duals that are not numeric arrays are dropped and named."""
    duals = {n: np.asarray(v) for n, v in sol.duals.items()}
    dropped = [n for n, v in duals.items() if v.dtype.kind not in "biufc"]
    said = [sol.message, f"not saved: duals {', '.join(dropped)}" if dropped else ""]
    words = {
        n: np.array([m.name.lower() for m in enum])[np.asarray(getattr(sol, n), dtype=int)].tolist()
        for n, enum in _WORDS.items()
    }
    return {
        "schema": RESULT,
        "scenario": to_dict(sol.problem),
        "solver": sol.solver,
        "x": {n: _encode(f"x.{n}", v) for n, v in sol.x.items()},
        **{n: _encode(n, getattr(sol, n)) for n in _NUMBERS},
        "bound_method": sol.bound_method,
        **words,
        "iterations": _encode("iterations", sol.iterations),
        **{n: float(getattr(sol, n)) for n in _TIMES},
        "message": "; ".join(s for s in said if s),
        "duals": {n: _encode(f"duals.{n}", v) for n, v in duals.items() if n not in dropped},
    }


def result_from_dict(document: Any) -> Solution:
    """The solution of a result document."""
    required = [n for n in RESULT_SCHEMA["required"] if n != "schema"]
    _check_keys(document, RESULT, required=required, allowed=())
    with _naming("scenario"):
        problem = from_dict(document["scenario"])
    parts: Document = {n: _text(n, document[n]) for n in _TEXTS}
    parts |= {n: float(_shaped(n, _decode(n, document[n], float), ())) for n in _TIMES}
    for name in _NUMBERS:
        values = _decode(name, document[name], float, nan=True)
        parts[name] = _shaped(name, values, problem.batch_shape)[()]
    for name, enum in _WORDS.items():
        parts[name] = codes(
            _shaped(name, _read_words(name, document[name]), problem.batch_shape), enum
        )
    counts = _decode("iterations", document["iterations"], int)
    parts["iterations"] = _shaped("iterations", counts, problem.batch_shape)[()]
    parts |= {"x": read_point(problem, document["x"], "x", whole=True), "trace": Trace()}
    return Solution(problem=problem, duals=_read_duals(problem, document["duals"]), **parts)


def read_point(
    problem: Problem, document: Any, where: str = "point", *, whole: bool = False
) -> dict[str, Array]:
    """``{"power_w": [...]}`` as arrays of the declared kind; a scalar may stand for all of them.

    ``whole`` (a result) asks for every axis and keeps the kind that was written: a whole number
    that no solver has found is ``null`` too.
    """
    variables = {v.name: v for v in problem.variables}
    _check_fields(where, document, [n for n, v in variables.items() if not v.derived], variables)
    point = {}
    for name, value in document.items():
        kind = _kind(value) if whole else variables[name].dtype
        array = _decode(f"{where}.{name}", value, kind, nan=True)
        shape = problem.shape_of(variables[name])
        point[name] = _shaped(f"{where}.{name}", array, shape) if whole else array
    return point


def load_point(path: str | os.PathLike[str], problem: Problem) -> dict[str, Array]:
    """A point of this problem from a file, ``{"power_w": [...]}``."""
    document = read_json(path)
    with _naming(str(path)):
        return read_point(problem, document)


def _read_duals(problem: Problem, document: Any) -> dict[str, Array]:
    _check_fields("duals", document, (), document)
    duals = {n: _decode(f"duals.{n}", v, _kind(v), nan=True) for n, v in document.items()}
    for name, array in duals.items():
        if array.shape[: len(problem.batch_shape)] != problem.batch_shape:
            raise ScenarioError(
                f"duals.{name}: shape {array.shape} does not begin with the batch shape "
                f"{problem.batch_shape}"
            )
    return duals


def _kind(value: Any) -> type:
    if isinstance(value, dict):
        return complex
    found = set(map(type, _leaves(value)[1]))
    return next((t for t in (bool, int) if found == {t}), float)


def _read_words(name: str, value: Any) -> Array:
    shape, words = _leaves(value)
    known = {m.name.lower(): int(m) for m in _WORDS[name]}
    for word in words:
        if not isinstance(word, str) or word not in known:
            raise ScenarioError(f"{name}: {word!r} is none of {', '.join(known)}")
    return np.array([known[w] for w in words], dtype=np.int8).reshape(shape)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ScenarioError(f"{name}: {value!r} is not a string")
    return value


def _shaped(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape != shape:
        raise ScenarioError(f"{name}: shape {array.shape}, but the scenario asks for {shape}")
    return array


def load(path: str | os.PathLike[str]) -> Problem | Solution:
    """Whatever the file holds: a scenario gives a problem, a result a solution."""
    document = read_json(path)
    with _naming(str(path)):
        if isinstance(document, dict) and document.get("schema") == RESULT:
            return result_from_dict(document)
        return from_dict(document)


# -- values -------------------------------------------------------------------------------------


def _encode(where: str, value: Any) -> Any:
    """An array as JSON values that read back bit for bit."""
    array = np.asarray(value)
    if array.dtype.kind == "c" and array.dtype.itemsize <= 16:
        return {"re": _encode(where, array.real), "im": _encode(where, array.imag)}
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


def _decode(where: str, value: Any, dtype: Any, *, nan: bool = False) -> Array:
    """Nested lists as an array of ``dtype``; ``nan`` allows null."""
    kind = np.dtype(dtype).kind
    if kind == "c":
        return _decode_complex(where, value, dtype, nan)
    shape, leaves = _leaves(value)
    numbers = [_number(v, kind, nan) for v in leaves]
    for position, number in enumerate(numbers):
        if number is None:
            raise ScenarioError(_not_a_number(where, shape, position, leaves[position], kind))
    try:
        return np.array(numbers, dtype=dtype).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise ScenarioError(f"{where}: {error}") from None


def _decode_complex(where: str, value: Any, dtype: Any, nan: bool) -> Array:
    if not isinstance(value, dict):
        return _decode(where, value, float, nan=nan).astype(dtype)
    _check_fields(where, value, ("re", "im"), ("re", "im"))
    re, im = (_decode(f"{where}.{part}", value[part], float, nan=nan) for part in ("re", "im"))
    if re.shape != im.shape and re.shape and im.shape:
        raise ScenarioError(f"{where}: re has shape {re.shape}, im has shape {im.shape}")
    array = np.empty(np.broadcast_shapes(re.shape, im.shape), dtype=dtype)
    array.real, array.imag = re, im
    return array


def _leaves(value: Any) -> tuple[tuple[int, ...], list[Any]]:
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
            return _INFINITE.get(value)
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


# -- checks -------------------------------------------------------------------------------------


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Put the file, or the part of it, in front of what is wrong with it."""
    try:
        yield
    except RRAllocError as error:
        error.args = (f"{where}: {error}",)
        raise


def _check_keys(
    document: Any, tag: str, required: Collection[str], allowed: Collection[str]
) -> None:
    found = document.get("schema") if isinstance(document, dict) else None
    if found != tag:
        raise ScenarioError(f'schema: {_short(found)} where "{tag}" should be{_hint(found)}')
    _check_fields("the document", document, required, (*required, *allowed, "schema"))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _hint(found: Any) -> str:
    if found == RESULT:
        return "; this is a result, which holds its scenario: rralloc.io.load_result reads it"
    return "; this is a scenario, not a result" if found == SCENARIO else ""


def _check_fields(
    where: str, given: Any, required: Collection[str], known: Collection[str]
) -> None:
    if not isinstance(given, dict):
        raise ScenarioError(f"{where}: {_short(given)} where an object {{...}} should be")
    has = ", ".join(known) or "nothing"
    unknown = [n for n in given if n not in known]
    if unknown:
        raise ScenarioError(f"{where}: unknown field {', '.join(unknown)}; known are {has}")
    missing = [n for n in required if n not in given]
    if missing:
        raise ScenarioError(f"{where}: {', '.join(missing)} is missing; known fields are {has}")


# -- files --------------------------------------------------------------------------------------


def dumps(document: Mapping[str, Any], indent: int = 0) -> str:
    """A document as strict JSON, one field on a line and each array on one."""
    pad = " " * indent
    rows = []
    for name, value in document.items():
        nested = isinstance(value, dict) and bool(value)
        text = dumps(value, indent + 2) if nested else json.dumps(value, allow_nan=False)
        rows.append(f"{pad}  {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(rows) + f"\n{pad}}}"


def read_json(path: str | os.PathLike[str]) -> Any:
    """A JSON file, strictly: no NaN, no field twice."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ScenarioError(f"{path}: not a JSON file: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> Document:
    names = [n for n, _ in pairs]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is given twice")
    return dict(pairs)


def _refuse(constant: str) -> Any:
    raise ValueError(f'{constant} is not JSON; write infinities as "inf" and "-inf"')


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole file or none: a temporary neighbour takes the file's place when complete."""
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        target.write_text(text + "\n", encoding="utf-8")  # a device or a pipe keeps its place
        return
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            draft.unlink()


# -- JSON Schema --------------------------------------------------------------------------------

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def schema(problem_class: type[Problem]) -> Schema:
    """A JSON Schema (draft 2020-12) of this problem's scenarios, from its declared fields.

    Shapes that must agree across fields are checked on loading only.
    """
    defaults = _defaults(problem_class)
    data = {n: _field_schema(n, info, defaults[n]) for n, info in problem_class._data.items()}
    options = {n: _option_schema(problem_class, n, defaults[n]) for n in problem_class._options}
    properties = {
        "schema": {"const": SCENARIO},
        "problem": {"const": problem_class.__name__},
        "data": _closed(data, [n for n in data if defaults[n] is dataclasses.MISSING]),
        "options": _closed(options, []),
        "digest": {"type": "string", "description": "content hash; leave out in a file by hand"},
    }
    return {
        "$schema": _DRAFT,
        "title": f"{problem_class.__name__} scenario",
        "description": (problem_class.__doc__ or "").strip().split("\n")[0],
        **_closed(properties, ["schema", "problem", "data"]),
        "$defs": {n: _any_of(_leaf(i), _array(_ref(n))) for n, i in problem_class._data.items()},
    }


def _closed(properties: Schema, required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _any_of(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def _parts(values: Schema) -> Schema:
    return _closed({"re": values, "im": values}, ["re", "im"])


def _array(items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _field_schema(name: str, info: Data, default: Any) -> Schema:
    """A scalar, or lists nested at least as deep as the declared axes."""
    deep = _ref(name)
    for _ in info.axes:
        deep = _array(deep)
    forms = [_leaf(info), deep]
    if np.dtype(info.dtype).kind == "c":
        forms.append(_parts(_any_of(*forms)))
    if default is None:
        forms.append({"type": "null"})
    axes = "".join(f", {a}" for a in info.axes)
    return {"description": f"{info.doc or name}; shape (...{axes}), in {info.range}"} | _any_of(
        *forms
    )


def _leaf(info: Data) -> Schema:
    kind = np.dtype(info.dtype).kind
    if kind == "b":
        return {"type": "boolean"}
    number: Schema = {"type": "integer" if kind in "iu" else "number"}
    if kind == "c":
        return number
    if math.isfinite(info.low):
        number["exclusiveMinimum" if info.open_low else "minimum"] = info.low
    if math.isfinite(info.high):
        number["exclusiveMaximum" if info.open_high else "maximum"] = info.high
    words = [w for w, v in _INFINITE.items() if info.inf and info.low <= v <= info.high]
    return _any_of(number, {"enum": words}) if words else number


def _option_schema(cls: type[Problem], name: str, default: Any) -> Schema:
    info = cls._options[name]
    found: Schema = {"description": info.doc or name}
    if info.choices is not None:
        found["enum"] = _plain(info.choices)
    return found | ({"default": default} if isinstance(default, str | int | None) else {})


def _result_schema() -> Schema:
    number = _any_of({"type": "number"}, {"enum": [None, *_INFINITE]})
    values = _any_of(number, _array(_ref("values")))
    arrays = _any_of(_ref("values"), _ref("flags"), _parts(_ref("values")))
    named = {"type": "object", "additionalProperties": arrays}
    properties: Schema = {
        "schema": {"const": RESULT},
        "scenario": {"type": "object", "properties": {"schema": {"const": SCENARIO}}},
        "x": named,
        **{n: _ref("values") for n in (*_NUMBERS, "iterations")},
        **{n: _ref(n) for n in _WORDS},
        **{n: {"type": "string"} for n in _TEXTS},
        **{n: {"type": "number", "minimum": 0} for n in _TIMES},
        "duals": named,
    }
    words = {n: {"enum": [m.name.lower() for m in enum]} for n, enum in _WORDS.items()}
    leaves = words | {"flags": {"type": "boolean"}}
    return {
        "$schema": _DRAFT,
        "title": "rralloc result",
        **_closed(properties, list(properties)),
        "$defs": {"values": values}
        | {n: _any_of(leaf, _array(_ref(n))) for n, leaf in leaves.items()},
    }


RESULT_SCHEMA: Schema = _result_schema()
"""JSON Schema (draft 2020-12) of a result document; its scenario has ``schema(problem_class)``."""
