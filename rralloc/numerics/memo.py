"""Remember one evaluation: value, slope and point of a form are asked at the same level."""

from __future__ import annotations

from collections.abc import Callable

from rralloc.typing import Array


def last_call(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """``function``, not computed again when called twice in a row with the same array object."""
    held: list[tuple[Array, Array]] = []

    def remembered(at: Array) -> Array:
        if not held or held[0][0] is not at:
            held[:] = [(at, function(at))]
        return held[0][1]

    return remembered
