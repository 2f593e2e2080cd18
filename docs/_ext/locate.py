"""Where in the source a function, method or class is: ``problems/sum_rate.py::SumRate.boxes``.

Line numbers are read from the source when they are asked for, so they cannot rot. A name that is
not there is a ``LookupError``; the documentation build and the tests both fail on it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Place:
    """A piece of source: path from the root of the repository, first line, name and text."""

    path: str
    line: int
    name: str
    text: str


@cache
def locate(reference: str) -> Place:
    """The place that ``path::qualified.name`` stands for."""
    path, _, name = reference.strip().partition("::")
    file = ROOT / path
    if not name or not file.is_file():
        raise LookupError(f"{reference!r} is not path::name with an existing path")
    source = file.read_text()
    node: ast.AST = ast.parse(source)
    for part in name.split("."):
        found = [n for n in ast.iter_child_nodes(node) if getattr(n, "name", None) == part]
        if not found:
            raise LookupError(f"{path} has no {name}")
        node = found[0]
    lines = source.splitlines()[node.lineno - 1 : node.end_lineno]  # type: ignore[attr-defined]
    indent = len(lines[0]) - len(lines[0].lstrip())
    text = "\n".join(line[indent:] for line in lines)
    return Place(path, node.lineno, name, text)  # type: ignore[attr-defined]
