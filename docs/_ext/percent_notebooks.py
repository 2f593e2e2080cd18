"""Notebooks are kept as percent scripts in ``notebooks/``; here they become pages.

Each ``notebooks/name.py`` is written to ``docs/notebooks/name.ipynb`` (not kept in git) before the
build; MyST-NB executes it and shows its figures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
import nbformat


def convert(app: Any, config: Any = None) -> None:
    """Write every notebook whose text has changed."""
    source = Path(app.confdir).parent / "notebooks"
    target = Path(app.confdir) / "notebooks"
    target.mkdir(exist_ok=True)
    for script in sorted(source.glob("*.py")):
        notebook = jupytext.read(script)
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{number}"  # random otherwise: the page would change every time
        text = nbformat.writes(notebook)
        file = target / f"{script.stem}.ipynb"
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", convert)
    return {"parallel_read_safe": True}
