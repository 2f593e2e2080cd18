"""Tables as text: Markdown, LaTeX, CSV, JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rralloc.errors import UnknownName
from rralloc.io.values import encode

if TYPE_CHECKING:
    from rralloc.comparison import Comparison

KINDS = (".csv", ".json", ".md", ".tex")
_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A pipe table; a bar inside a cell becomes a slash."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([str(value).replace("|", "/") for value in row] for row in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def latex(head: list[str], rows: list[list[str]], *, caption: str, label: str) -> str:
    """A booktabs table with its caption; special characters are escaped."""
    align = "ll" + "r" * (len(head) - 3) + "l"
    lines = [r" & ".join(map(_escaped, row)) + r" \\" for row in rows]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escaped(caption)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            r" & ".join(map(_escaped, head)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in str(text))


def records(frame: Any) -> str:
    """A data frame as a JSON list of rows, not rounded: NaN is null, infinities are words."""
    rows = frame.to_dict("records")
    found = [
        {n: encode(n, v) if isinstance(v, float) else v for n, v in row.items()} for row in rows
    ]
    return json.dumps(found, indent=1, allow_nan=False)


def text(comparison: Comparison, suffix: str) -> str:
    """A comparison as CSV or JSON (rows as they are), as Markdown or LaTeX (for people)."""
    check_suffix(suffix)
    if suffix == ".csv":
        return str(comparison.to_dataframe().to_csv(index=False)).rstrip("\n")
    makers = {
        ".json": comparison.to_json,
        ".md": comparison.to_markdown,
        ".tex": comparison.to_latex,
    }
    return makers[suffix]()


def check_suffix(suffix: str) -> None:
    """Refuse a suffix that no table has."""
    if suffix not in KINDS:
        raise UnknownName("kind of table", suffix, KINDS)
