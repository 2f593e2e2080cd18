"""Every error that rralloc raises on purpose, in one tree.

    RRAllocError
    ├── InvalidProblem(ValueError)      a field is outside its declared range, or shapes disagree
    ├── NotOffered(TypeError)           this instance does not have the structure a solver needs
    ├── SolverUnavailable(RuntimeError) a package or an engine is missing; says how to get it
    ├── UnknownName(LookupError)        nothing of that name; says which exist
    ├── UnknownOption(TypeError)        a solver has no such option; says which it has
    ├── ScenarioError(ValueError)       a JSON file is not a scenario or a result
    └── MissingData(RuntimeError)       a data set is not here; says the command that brings it

Each message names what is wrong, where (field, worst index), the value with its unit, what is
allowed, and what to do. Foreign exceptions never leave a solver: they become
``stopped = ERROR`` with the foreign words in ``Solution.message``.
"""

from __future__ import annotations

from collections.abc import Iterable


class RRAllocError(Exception):
    """The root: ``except rr.errors.RRAllocError`` catches all that is raised on purpose."""


class InvalidProblem(RRAllocError, ValueError):
    """A problem cannot be built from these fields."""


class NotOffered(RRAllocError, TypeError):
    """This instance does not offer the form; the message is the reason, for people."""


class SolverUnavailable(RRAllocError, RuntimeError):
    """The solver exists, but a package or an engine it stands on does not."""


class UnknownName(RRAllocError, LookupError):
    """No such problem, solver, policy, scheme or study."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        import difflib

        known = sorted(known)
        close = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"no {kind} is named {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


class UnknownOption(RRAllocError, TypeError):
    """The solver has no option of that name."""


class ScenarioError(RRAllocError, ValueError):
    """The file does not hold what it should."""


class MissingData(RRAllocError, RuntimeError):
    """A real data set is wanted and not here."""
