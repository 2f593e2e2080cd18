"""An instance before it is solved."""

from __future__ import annotations

from dataclasses import dataclass

from rralloc.library import Method
from rralloc.problem import Problem


@dataclass(frozen=True)
class Draft:
    """An instance before it is solved."""

    name: str
    problem: Problem
    convex: bool
    regime: str
    failure_mode: str
    why: str
    size: int = 0
    """number of devices; 0: the problem's axis K or N"""
    methods: tuple[Method, ...] = ()
    """tried besides, or with these settings in place of, the solvers that apply"""
    infeasible: bool = False
