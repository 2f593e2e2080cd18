"""What the package promises as a whole."""

import ast
import doctest
import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

import rralloc.channel

MODULES = sorted(m.name for m in pkgutil.iter_modules(rralloc.channel.__path__))


def test_all_is_sorted_complete_and_importable() -> None:
    names = rralloc.channel.__all__
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(rralloc.channel, name) is not None
    for module in ("fading", "geometry", "outage", "pathloss", "units"):
        loaded = importlib.import_module(f"rralloc.channel.{module}")
        own = {
            n for n, v in vars(loaded).items() if getattr(v, "__module__", "") == loaded.__name__
        }
        assert {n for n in own if not n.startswith("_")} <= set(names)


def _top_level_imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("module", ["__init__", *MODULES])
def test_importing_needs_numpy_alone(module: str) -> None:
    path = Path(rralloc.channel.__path__[0]) / f"{module}.py"
    assert _top_level_imports(path) - set(sys.stdlib_module_names) <= {"numpy", "rralloc"}


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_are_true(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"rralloc.channel.{module}"))
    assert result.failed == 0


def test_every_public_callable_says_when_to_choose_it() -> None:
    for name in rralloc.channel.__all__:
        entry = getattr(rralloc.channel, name)
        if callable(entry):
            assert "Choose this" in (entry.__doc__ or ""), name
