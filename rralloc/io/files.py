"""Strict JSON on disk: a file appears whole or not at all, and reading executes nothing."""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rralloc.errors import ScenarioError

MAX_BYTES = 256 * 2**20
"""Larger files are not read: a scenario takes 4 times its size in memory, a crafted file 45."""


def dumps(document: Mapping[str, Any], indent: int = 0) -> str:
    """A document as strict JSON, one field on a line and each array on one."""
    pad = " " * indent
    rows = []
    for name, value in document.items():
        nested = isinstance(value, dict) and bool(value)
        text = dumps(value, indent + 2) if nested else json.dumps(value, allow_nan=False)
        rows.append(f"{pad}  {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(rows) + f"\n{pad}}}"


def read_json(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> Any:
    """A JSON file, strictly: no NaN, no field twice, no more than ``max_bytes`` (``MAX_BYTES``).

    A larger file is read by ``from_dict(read_json(path, max_bytes=...))``.
    """
    text = _read(path, MAX_BYTES if max_bytes is None else max_bytes)
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ScenarioError(f"{path}: not a JSON file: {error}") from None


def _read(path: str | os.PathLike[str], limit: int) -> str:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(limit + 1)  # not by its announced size: a device has none
    except IsADirectoryError:
        raise ScenarioError(f"{path}: a folder, not a JSON file; name a file in it") from None
    if len(raw) > limit:
        raise ScenarioError(
            f"{path}: more than {limit} bytes. If you trust it, read it with "
            "rralloc.io.read_json(path, max_bytes=...) and give the document to from_dict or "
            "result_from_dict"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: not a JSON file: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = sorted(name[:60] for name, count in times.items() if count > 1)
        more = ", ..." if len(twice) > 5 else ""
        raise ValueError(f"{', '.join(twice[:5])}{more} is given twice")
    return found


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
