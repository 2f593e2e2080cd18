"""Numbers that settings ask for: the tests, and the errors that say they failed."""

from __future__ import annotations

import numpy as np

from rralloc.errors import InvalidProblem


def is_count(value: object, least: int = 1) -> bool:
    """Whether it is a whole number >= ``least``; True and False are not."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and value >= least  # type: ignore[operator]  # it is a number by now


def require_count(label: str, value: object) -> None:
    """ValueError unless it is a whole number >= 1."""
    if not is_count(value):
        raise ValueError(f"{label}={value!r} must be an integer >= 1; pass a positive count.")


def require_whole(label: str, value: object) -> None:
    """InvalidProblem unless it is a whole number >= 1."""
    if not is_count(value):
        raise InvalidProblem(f"{label} = {value!r} is not a whole number >= 1")


def require_non_negative(label: str, value: object) -> None:
    """InvalidProblem unless it is a number >= 0, infinity too, or None."""
    if value is not None and not (isinstance(value, int | float) and value >= 0):
        raise InvalidProblem(f"{label} = {value!r} is not in [0, inf); give a number or None")
