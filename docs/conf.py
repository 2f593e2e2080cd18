"""Sphinx settings. Building needs no network: ``make docs``.

Mathematics is drawn in the reader's browser by MathJax, which Sphinx names by its public address
and does not fetch while building. To read the pages without a network, unpack the MathJax release
that ``sphinx.ext.mathjax.MATHJAX_URL`` names into ``docs/_static/mathjax`` and set

    html_static_path = ["_static"]
    mathjax_path = "mathjax/tex-mml-chtml.js"
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import rralloc

# What pages and notebooks run in: one BLAS thread, figures without a screen.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
logging.getLogger("traitlets").setLevel(logging.WARNING)  # a line for each notebook
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "rralloc"
author = "The rralloc developers"
copyright = "the rralloc developers, Apache-2.0"
release = version = rralloc.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "plain_docstrings",
    "computed_by",
    "percent_notebooks",
]
exclude_patterns = ["_build", "_ext"]
default_role = "code"  # docstrings put code between single back-ticks too

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"Array": "Array", "Point": "Point", "Witness": "Witness"}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
python_display_short_literal_types = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"rralloc {release}"
html_theme_options = {"navigation_with_keys": True}
