"""Strict JSON on disk: a file appears whole or not at all, and reading executes nothing."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rralloc.errors import ScenarioError


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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
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
