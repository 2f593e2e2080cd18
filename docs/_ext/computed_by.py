"""The directive ``computed-by``: which lines of the source compute an equation.

    ```{computed-by}
    problems/water_filling.py::WaterFilling.objective
    ```

becomes the file, the line at build time and the name; a click shows the code.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from locate import locate
from sphinx.util.docutils import SphinxDirective


class ComputedBy(SphinxDirective):
    """One reference a line."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """A collapsed listing for each reference."""
        out: list[nodes.Node] = []
        for reference in filter(None, map(str.strip, self.content)):
            try:
                place = locate(reference)
            except LookupError as error:
                raise self.error(str(error)) from error
            self.env.note_dependency(str(self.config.root_of_code / place.path))
            told = f"<code>{place.path}:{place.line}</code> &nbsp; <code>{place.name}</code>"
            code = nodes.literal_block(place.text, place.text, language="python", linenos=True)
            code["highlight_args"] = {"linenostart": place.line}
            out += [
                nodes.raw("", f"<details><summary>{told}</summary>", format="html"),
                code,
                nodes.raw("", "</details>", format="html"),
            ]
        return out


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    from locate import ROOT

    app.add_config_value("root_of_code", ROOT, "")
    app.add_directive("computed-by", ComputedBy)
    return {"parallel_read_safe": True}
