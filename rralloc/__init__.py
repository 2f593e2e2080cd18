"""rralloc: state a radio-resource allocation problem once.

Get every applicable solver, a certificate, a comparison, a plot, and the accuracy the allocation
buys in federated training:

    >>> import rralloc as rr
    >>> from rralloc.problems import WaterFilling
    >>> sol = rr.solve(WaterFilling(gain=[2.0, 1.0, 0.5, 0.1], power_budget_w=3.0))
    >>> print(sol.power_w.round(4), sol.status.name)
    [1.6667 1.1667 0.1667 0.    ] GLOBAL

Importing this package needs NumPy alone; everything heavier loads on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rralloc import errors
from rralloc.certify import certify
from rralloc.problem import Problem, stack
from rralloc.solution import Solution, Status, Stopped
from rralloc.verify import verify

if TYPE_CHECKING:
    from rralloc import channel, fl, io, plot, problems, solvers, studies, testing
    from rralloc.comparison import Comparison
    from rralloc.driver import solve
    from rralloc.explanation import Explanation, explain
    from rralloc.policy import Causal, Decision, Optimised, Policy, Round
    from rralloc.registry import register, solvers_for
    from rralloc.solver import Solver
    from rralloc.study import compare

__version__ = "0.1.0"

__all__ = [
    "Causal",
    "Comparison",
    "Decision",
    "Explanation",
    "Optimised",
    "Policy",
    "Problem",
    "Round",
    "Solution",
    "Solver",
    "Status",
    "Stopped",
    "certify",
    "channel",
    "compare",
    "errors",
    "explain",
    "fl",
    "io",
    "plot",
    "problems",
    "register",
    "solve",
    "solvers",
    "solvers_for",
    "stack",
    "studies",
    "testing",
    "verify",
]

_MODULES = ("channel", "fl", "io", "plot", "problems", "solvers", "studies", "testing")
_LATER = {
    "Causal": "rralloc.policy",
    "Comparison": "rralloc.comparison",
    "Decision": "rralloc.policy",
    "Explanation": "rralloc.explanation",
    "Optimised": "rralloc.policy",
    "Policy": "rralloc.policy",
    "Round": "rralloc.policy",
    "Solver": "rralloc.solver",
    "compare": "rralloc.study",
    "explain": "rralloc.explanation",
    "register": "rralloc.registry",
    "solve": "rralloc.driver",
    "solvers_for": "rralloc.registry",
}


def __getattr__(name: str) -> Any:
    """Load the rest on first use (PEP 562)."""
    if name in _MODULES:
        return import_module(f"rralloc.{name}")
    if name in _LATER:
        globals()[name] = found = getattr(import_module(_LATER[name]), name)
        return found
    raise AttributeError(f"module 'rralloc' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
