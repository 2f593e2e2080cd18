"""The studies that rralloc ships; a new file in this folder is found by itself."""

from __future__ import annotations

from typing import Any

if __name__ != "rralloc.studies":
    raise ImportError(
        "import rralloc.studies: a top-level import makes second copies of its classes"
    )


def __getattr__(name: str) -> Any:
    """Classes by name, loaded when first asked for (PEP 562)."""
    from rralloc.registry import folder_member

    return folder_member(__name__, name)


def __dir__() -> list[str]:
    """Every public class of the folder, for completion."""
    from rralloc.registry import folder_members

    return sorted(folder_members(__name__))
