"""Read by every Python process that finds this folder on PYTHONPATH: guards it where asked.

A ``sitecustomize`` further along the path is run as well: this one takes nobody's place.
"""

import importlib.machinery
import importlib.util
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  # at every start: no pathlib
if os.environ.get("RRALLOC_OFFLINE") == "1":
    import no_network

    no_network.install()

_rest = [p for p in sys.path if os.path.abspath(p or ".") != _here]  # noqa: PTH100
_next = importlib.machinery.PathFinder.find_spec("sitecustomize", _rest)
if _next is not None and _next.loader is not None:
    _next.loader.exec_module(importlib.util.module_from_spec(_next))
