"""JSON Schema (draft 2020-12) of scenarios and results, made from the declared fields."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from rralloc.fields import Data
from rralloc.io.values import INFINITE, RESULT, SCENARIO, defaults, plain
from rralloc.problem import Problem
from rralloc.solution import Status, Stopped

NUMBERS = ("objective", "bound", "gap", "violation", "raw_violation", "kkt")
WORDS: dict[str, Any] = {"status": Status, "stopped": Stopped}
TEXTS = ("solver", "bound_method", "message")
TIMES = ("seconds", "cpu_seconds")
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def schema(problem_class: type[Problem]) -> Schema:
    """A JSON Schema (draft 2020-12) of this problem's scenarios, from its declared fields.

    Shapes that must agree across fields are checked on loading only.
    """
    default = defaults(problem_class)
    data = {n: _field_schema(n, info, default[n]) for n, info in problem_class._data.items()}
    options = {
        info.alias or n: _option_schema(problem_class, n, default[n])
        for n, info in problem_class._options.items()
    }
    properties = {
        "schema": {"const": SCENARIO},
        "problem": {"const": problem_class.__name__},
        "data": _closed(data, [n for n in data if default[n] is dataclasses.MISSING]),
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
    if info.words:
        forms.append({"enum": list(info.words)})
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
    words = [w for w, v in INFINITE.items() if info.inf and info.low <= v <= info.high]
    return _any_of(number, {"enum": words}) if words else number


def _option_schema(cls: type[Problem], name: str, default: Any) -> Schema:
    info = cls._options[name]
    found: Schema = {"description": info.doc or name}
    if info.choices is not None:
        found["enum"] = plain(info.choices)
    return found | ({"default": default} if isinstance(default, str | int | None) else {})


def _result_schema() -> Schema:
    number = _any_of({"type": "number"}, {"enum": [None, *INFINITE]})
    values = _any_of(number, _array(_ref("values")))
    arrays = _any_of(_ref("values"), _ref("flags"), _parts(_ref("values")))
    named = {"type": "object", "additionalProperties": arrays}
    properties: Schema = {
        "schema": {"const": RESULT},
        "scenario": {"type": "object", "properties": {"schema": {"const": SCENARIO}}},
        "x": named,
        **{n: _ref("values") for n in (*NUMBERS, "iterations")},
        **{n: _ref(n) for n in WORDS},
        **{n: {"type": "string"} for n in TEXTS},
        **{n: {"type": "number", "minimum": 0} for n in TIMES},
        "duals": named,
    }
    words = {n: {"enum": [m.name.lower() for m in enum]} for n, enum in WORDS.items()}
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
