"""Docstrings are written to be read as plain text; this makes reStructuredText of them.

Problem                                  a heading, its body shown as it is
    max f(x)  s.t.  x >= 0.
Parameters                               a heading, one bullet for each name
    gain: g ``(..., K)``, 1/W, >= 0.
seed: a sentence                         a bullet, also without a heading
    that goes on.
(blank line, indented)                   a formula: shown as it is
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

HEADS = ("Problem", "Parameters", "Variables", "Bound", "Errors", "Choose this when", "Source")
HEADS += ("Attributes", "Returns", "Raises", "Notes", "Examples")
ITEM = re.compile(r"^(?:``)?([A-Za-z_]\w*(?:, [A-Za-z_]\w*)*)(?:``)?: +(?=\S)")
LEAD = re.compile(r"^(Raises|Choose this when|Statuses|Derived|The rest)\b([^:]*): *(.*)$")
NEXT = re.compile(r"(?<=[.;]) (?=[a-z_]\w*(?:, [a-z_]\w*)*: )")
CODE = re.compile(r"(``.+?``|:\w+:`.+?`|`.+?`|(?<!\w)\*\w+\*(?!\w))")
ALIAS = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")
LIKE = re.compile(r"_Buffer \| _SupportsArray.*?\| _NestedSequence\[complex \| bytes \| str\]")
NDARRAY = re.compile(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[\w+\]\]")


def translate(lines: list[str]) -> list[str]:
    """The docstring as reStructuredText."""
    out: list[str] = []
    for block in _blocks(_without_rules(lines)):
        if out and out[-1]:
            out.append("")
        out += list(_rendered(block))
    return [*out, ""]


def _without_rules(lines: list[str]) -> Iterator[str]:
    """Headings are known by name: the dashes that underline some become blank lines."""
    for line in lines:
        yield "" if re.fullmatch(r"-{4,}", line) else line


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines between blank lines; an indented run is one block with its blank lines."""
    block: list[str] = []
    for line in [*lines, ""]:
        inside = bool(block) and block[0].startswith(" ")
        if line.strip() and not (inside and not line.startswith(" ")):
            block.append(line)
        elif block:
            yield block
            block = [line] if line.strip() else []


def _rendered(block: list[str]) -> Iterator[str]:
    if block[0][:2] in ("==", "+-"):  # a table, whose columns must keep their width
        yield from _table([line.replace("*", "\N{ASTERISK OPERATOR}") for line in block])
    elif block[0].startswith((" ", ">>>")):
        yield from _literal(block)
    else:
        yield from _sections(block)


def _table(block: list[str]) -> Iterator[str]:
    """Every line of a grid is a row of its own."""
    for line, following in zip(block, [*block[1:], "+"]):
        yield line
        if line.startswith("|") and following.startswith("|"):
            yield block[0]


def _literal(block: list[str]) -> Iterator[str]:
    cut = min(len(line) - len(line.lstrip()) for line in block)
    language = "pycon" if block[0].lstrip().startswith(">>>") else "text"
    yield from (f".. code-block:: {language}", "")
    yield from (f"   {line[cut:]}" for line in block)


def _sections(block: list[str]) -> Iterator[str]:
    """Headings, items and sentences of one block, each with the lines indented under it."""
    position = 0
    while position < len(block):
        first, rest = block[position], []
        position += 1
        while position < len(block) and block[position].startswith(" "):
            rest.append(block[position].strip())
            position += 1
        yield from _entry(first, rest)


def _entry(first: str, rest: list[str]) -> Iterator[str]:
    lead = LEAD.match(first)
    if first in HEADS:
        yield from ("", f"**{first}**", "")
        if first == "Problem":
            yield from (".. code-block:: text", "", *(f"   {line}" for line in rest), "")
        else:
            yield from _body(" ".join(rest))
    elif lead:
        words = " ".join([lead[3], *rest])
        yield from ("", f"**{lead[1]}{lead[2]}** {_safe(words)}", "")
    elif ITEM.match(first):
        yield from _body(" ".join([first, *rest]))
    elif rest and re.fullmatch(r"[A-Za-z_]\w*(, [a-z_]\w*)*", first):  # a name, its text below it
        names = ", ".join(f"``{n}``" for n in first.split(", "))
        yield from ("", f"* {names}: {_safe(' '.join(rest))}", "")
    else:
        yield _safe(" ".join([first, *rest]))


def _body(text: str) -> Iterator[str]:
    """``name: words. other: words.`` as bullets; other text as a sentence."""
    for part in NEXT.split(text):
        item = ITEM.match(part)
        if item:
            names = ", ".join(f"``{n}``" for n in item[1].split(", "))
            yield from ("", f"* {names}: {_safe(part[item.end() :])}", "")
        elif part:
            yield from ("", _safe(part), "")


def _safe(text: str) -> str:
    """Stars, bars and trailing underscores mean themselves; code stays code."""
    pieces = CODE.split(text)
    return "".join(
        p if i % 2 else re.sub(r"([*|\\]|_\b)", r"\\\1", p) for i, p in enumerate(pieces)
    )


def process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Called by autodoc for each docstring; changes ``lines`` in place."""
    lines[:] = translate(lines)


def sign(
    app: Any, what: str, name: str, thing: Any, options: Any, told: str | None, gives: str | None
) -> tuple[str | None, str | None]:
    """Type aliases by their plain names."""
    return told and _short(told), gives and _short(gives)


def _short(signature: str) -> str:
    return NDARRAY.sub("ndarray", LIKE.sub("ArrayLike", ALIAS.sub(r"\1", signature)))


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", sign)
    return {"parallel_read_safe": True}
