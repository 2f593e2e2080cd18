"""A problem as a document: class, fields, options, digest."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

from rralloc.errors import RRAllocError, ScenarioError
from rralloc.io.files import dumps, read_json, write_text
from rralloc.io.values import (
    SCENARIO,
    Document,
    check_extent,
    check_fields,
    check_keys,
    decode,
    defaults,
    encode,
    naming,
    plain,
    restore,
    text,
)
from rralloc.problem import Problem
from rralloc.registry import problem_class


def save_scenario(problem: Problem, path: str | os.PathLike[str]) -> None:
    """Write ``problem`` as a scenario file."""
    write_text(path, dumps(to_dict(problem)))


def load_scenario(path: str | os.PathLike[str]) -> Problem:
    """The problem that a scenario file holds; a problem class must be known to ``rr.register``."""
    document = read_json(path)
    with naming(str(path)):
        return from_dict(document)


def to_dict(problem: Problem) -> Document:
    """The scenario document of a problem: JSON values only."""
    data = {}
    for name in problem._data:
        array = getattr(problem, name)
        numbers = array is not None and not isinstance(array, str)
        data[name] = encode(f"data.{name}", array) if numbers else array
    return {
        "schema": SCENARIO,
        "problem": type(problem).__name__,
        "data": data,
        "options": {i.alias or n: _encode_option(problem, n) for n, i in problem._options.items()},
        "digest": problem.digest,
    }


def from_dict(document: Any) -> Problem:
    """The problem of a scenario document, built and checked by its own constructor."""
    check_keys(document, SCENARIO, required=("problem", "data"), allowed=("options", "digest"))
    cls = problem_class(text("problem", document["problem"]))
    values = _read_data(cls, document["data"]) | _read_options(cls, document.get("options", {}))
    check_extent(cls, values)
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
    default = defaults(cls)
    required = [n for n in cls._data if default[n] is dataclasses.MISSING]
    check_fields("data", data, required, cls._data)
    left_open = {n: v for n, v in data.items() if v is None and default[n] is None}
    words = {n: v for n, v in data.items() if isinstance(v, str) and v in cls._data[n].words}
    given = {n: v for n, v in data.items() if n not in left_open | words}
    arrays = {n: decode(f"data.{n}", v, cls._data[n].dtype) for n, v in given.items()}
    return arrays | left_open | words


def _read_options(cls: type[Problem], options: Any) -> Document:
    check_fields("options", options, (), [i.alias or n for n, i in cls._options.items()])
    default = defaults(cls)
    return {n: restore(v, default[cls._aliases.get(n, n)]) for n, v in options.items()}


def _encode_option(problem: Problem, name: str) -> Any:
    value = getattr(problem, name)
    try:
        stored = json.loads(json.dumps(plain(value), allow_nan=False))
        same = repr(restore(stored, defaults(type(problem))[name])) == repr(value)
    except (TypeError, ValueError):
        same = False
    if not same:
        raise ScenarioError(
            f"options.{name} = {value!r} is not a JSON value (a plain number, string, true, false, "
            f"null, or a tuple of them), so no file can bring it back. Save "
            f"problem.replace({name}=...) with such a value and put the object back after loading."
        )
    return stored
