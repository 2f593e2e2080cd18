"""A solution as a document that carries its scenario."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from rralloc.errors import ScenarioError
from rralloc.io.files import dumps, read_json, write_text
from rralloc.io.scenarios import from_dict, to_dict
from rralloc.io.schema import NUMBERS, RESULT_SCHEMA, TEXTS, TIMES, WORDS
from rralloc.io.values import (
    RESULT,
    Document,
    check_fields,
    check_keys,
    decode,
    encode,
    leaves,
    naming,
    text,
)
from rralloc.problem import Problem
from rralloc.solution import Solution, Trace, codes
from rralloc.typing import Array


def save_result(sol: Solution, path: str | os.PathLike[str]) -> None:
    """Write a solution together with its whole scenario."""
    write_text(path, dumps(result_to_dict(sol)))


def load_result(path: str | os.PathLike[str]) -> Solution:
    """The solution that a result file holds, with an empty trace.

    Only shapes are checked: objective, bound and status are what the file says. ``rr.verify(
    sol.problem, sol)`` recomputes them from the point.
    """
    document = read_json(path)
    with naming(str(path)):
        return result_from_dict(document)


def result_to_dict(sol: Solution) -> Document:
    """The result document; duals that are not numeric arrays are dropped and named."""
    duals = {n: np.asarray(v) for n, v in sol.duals.items()}
    dropped = [n for n, v in duals.items() if v.dtype.kind not in "biufc"]
    said = [sol.message, f"not saved: duals {', '.join(dropped)}" if dropped else ""]
    words = {
        n: np.array([m.name.lower() for m in enum])[np.asarray(getattr(sol, n), dtype=int)].tolist()
        for n, enum in WORDS.items()
    }
    return {
        "schema": RESULT,
        "scenario": to_dict(sol.problem),
        "solver": sol.solver,
        "x": {n: encode(f"x.{n}", v) for n, v in sol.x.items()},
        **{n: encode(n, getattr(sol, n)) for n in NUMBERS},
        "bound_method": sol.bound_method,
        **words,
        "iterations": encode("iterations", sol.iterations),
        **{n: float(getattr(sol, n)) for n in TIMES},
        "message": "; ".join(s for s in said if s),
        "duals": {n: encode(f"duals.{n}", v) for n, v in duals.items() if n not in dropped},
    }


def result_from_dict(document: Any) -> Solution:
    """The solution of a result document."""
    required = [n for n in RESULT_SCHEMA["required"] if n != "schema"]
    check_keys(document, RESULT, required=required, allowed=())
    with naming("scenario"):
        problem = from_dict(document["scenario"])
    parts: Document = {n: text(n, document[n]) for n in TEXTS}
    parts |= {n: float(_shaped(n, decode(n, document[n], float), ())) for n in TIMES}
    for name in NUMBERS:
        values = decode(name, document[name], float, nan=True)
        parts[name] = _shaped(name, values, problem.batch_shape)[()]
    for name, enum in WORDS.items():
        parts[name] = codes(
            _shaped(name, _read_words(name, document[name]), problem.batch_shape), enum
        )
    counts = decode("iterations", document["iterations"], int)
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
    check_fields(where, document, [n for n, v in variables.items() if not v.derived], variables)
    point = {}
    for name, value in document.items():
        kind = _kind(value) if whole else variables[name].dtype
        array = decode(f"{where}.{name}", value, kind, nan=True)
        shape = problem.shape_of(variables[name])
        point[name] = _shaped(f"{where}.{name}", array, shape) if whole else array
    return point


def load_point(path: str | os.PathLike[str], problem: Problem) -> dict[str, Array]:
    """A point of this problem from a file, ``{"power_w": [...]}``."""
    document = read_json(path)
    with naming(str(path)):
        return read_point(problem, document)


def _read_duals(problem: Problem, document: Any) -> dict[str, Array]:
    check_fields("duals", document, (), document)
    duals = {n: decode(f"duals.{n}", v, _kind(v), nan=True) for n, v in document.items()}
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
    found = set(map(type, leaves(value)[1]))
    return next((t for t in (bool, int) if found == {t}), float)


def _read_words(name: str, value: Any) -> Array:
    shape, words = leaves(value)
    known = {m.name.lower(): int(m) for m in WORDS[name]}
    for word in words:
        if not isinstance(word, str) or word not in known:
            raise ScenarioError(f"{name}: {word!r} is none of {', '.join(known)}")
    return np.array([known[w] for w in words], dtype=np.int8).reshape(shape)


def _shaped(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape != shape:
        raise ScenarioError(f"{name}: shape {array.shape}, but the scenario asks for {shape}")
    return array


def load(path: str | os.PathLike[str]) -> Problem | Solution:
    """Whatever the file holds: a scenario gives a problem, a result a solution."""
    document = read_json(path)
    with naming(str(path)):
        if isinstance(document, dict) and document.get("schema") == RESULT:
            return result_from_dict(document)
        return from_dict(document)
