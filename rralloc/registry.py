"""Names: which problems, solvers and studies exist, found by looking, not by listing.

A distribution declares one entry point in the group ``rralloc.plugins`` that names a package;
the modules of its ``problems``, ``solvers`` and ``studies`` subpackages are imported on first use
and every concrete class (and every ``@study`` function) defined there becomes known. A new file is
visible without reinstalling; ``rr.register(cls)`` does the same for a class in a notebook cell.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from rralloc.errors import NotOffered, SolverUnavailable, UnknownName, UnknownOption
from rralloc.problem import Problem

if TYPE_CHECKING:
    from rralloc.solver import Solver

GROUP = "rralloc.plugins"
KINDS = ("problems", "solvers", "studies")
T = TypeVar("T")

_guests: dict[str, Any] = {}
_made: dict[type[Solver], Solver] = {}


def register(thing: T) -> T:
    """Make a Problem or Solver class, or a study, known by name in this process."""
    name = getattr(thing, "name", None) or getattr(thing, "__name__", repr(thing))
    _guests[str(name)] = thing
    solver_classes.cache_clear()
    problem_classes.cache_clear()
    studies.cache_clear()
    return thing


@cache
def _packages() -> tuple[str, ...]:
    from importlib.metadata import entry_points

    # Ours is named even where the distribution's metadata is absent (a bare checkout on the path).
    return tuple(dict.fromkeys(["rralloc", *(e.value for e in entry_points(group=GROUP))]))


def _modules(kind: str) -> Iterator[ModuleType]:
    for package in _packages():
        try:
            folder = importlib.import_module(f"{package}.{kind}")
        except ModuleNotFoundError as error:
            if error.name != f"{package}.{kind}":
                raise
            continue
        for found in pkgutil.iter_modules(folder.__path__):
            if not found.name.startswith("_"):
                yield importlib.import_module(f"{package}.{kind}.{found.name}")


def members(module: ModuleType) -> dict[str, Any]:
    """The public things that a module itself defines."""
    return {
        n: v
        for n, v in vars(module).items()
        if not n.startswith("_") and getattr(v, "__module__", None) == module.__name__
    }


@cache
def problem_classes() -> dict[str, type[Problem]]:
    """Class name -> problem class, our own and every plug-in's."""
    return _classes("problems", Problem, lambda cls: cls.__name__)


@cache
def solver_classes() -> dict[str, type[Solver]]:
    """Solver name -> class, by rank: the order in which a default is looked for."""
    from rralloc.solver import Solver

    found = _classes("solvers", Solver, lambda cls: str(cls.name))
    return dict(sorted(found.items(), key=lambda item: (item[1].rank, item[0])))


@cache
def studies() -> dict[str, Callable[..., Any]]:
    """Study name -> function, each marked by ``@study``."""
    found = {}
    for module in _modules("studies"):
        for thing in members(module).values():
            if hasattr(thing, "study_name"):
                found[thing.study_name] = thing
    return found | {t.study_name: t for t in _guests.values() if hasattr(t, "study_name")}


def _classes(kind: str, base: type[T], name: Callable[[type[T]], str]) -> dict[str, type[T]]:
    things = [thing for module in _modules(kind) for thing in members(module).values()]
    found = {}
    for thing in [*things, *_guests.values()]:
        if isinstance(thing, type) and issubclass(thing, base) and _concrete(thing):
            found[name(thing)] = thing
    return found


def _concrete(cls: type) -> bool:
    return hasattr(cls, "name") or (issubclass(cls, Problem) and bool(cls.variables))


def problem_class(name: str) -> type[Problem]:
    """The problem class of that name."""
    known = problem_classes()
    if name not in known:
        raise UnknownName("problem", name, known)
    return known[name]


def resolve(
    solver: str | Solver | type[Solver] | None,
    problem: Problem,
    options: dict[str, Any] | None = None,
) -> Solver:
    """A name, class, instance or None as a solver with its options set."""
    from rralloc.solver import Solver

    options = options or {}
    if solver is None:
        solver = problem.default_solver or _first(problem)
    if isinstance(solver, Solver):
        return _changed(solver, options) if options else solver
    if isinstance(solver, type):
        return solver(**_known(solver, options))
    return _by_name(solver, options)


def check_name(name: str) -> None:
    """Raise ``UnknownName`` unless a solver of that name (or ``name:variant``) exists."""
    classes = solver_classes()
    head, _, value = name.partition(":")
    if name not in classes and not (head in classes and classes[head].variant and value):
        raise UnknownName("solver", name, _every_name(classes))


def _changed(solver: Solver, options: dict[str, Any]) -> Solver:
    settings = {n: getattr(solver, n) for n in _option_names(type(solver))}
    return type(solver)(**settings | _known(type(solver), options))


def _option_names(cls: type[Solver]) -> list[str]:
    return [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]  # a dataclass by its base


def _by_name(name: str, options: dict[str, Any]) -> Solver:
    check_name(name)
    classes = solver_classes()
    head, _, value = (name, "", "") if name in classes else name.partition(":")
    cls = classes[head]
    chosen = {cls.variant: value} if cls.variant and value else {}
    return cls(**_known(cls, chosen | options))


def _every_name(classes: dict[str, type[Solver]]) -> list[str]:
    return [n for cls in classes.values() for n in (cls.names() or (f"{cls.name}:...",))]


def _known(cls: type[Solver], options: dict[str, Any]) -> dict[str, Any]:
    fields = _option_names(cls)
    wrong = sorted(set(options) - set(fields))
    if wrong:
        has = ", ".join(fields) or "none"
        raise UnknownOption(f"{cls.name} has no option {', '.join(wrong)}; its options: {has}")
    return options


def _first(problem: Problem) -> Solver:
    reasons = []
    for name, cls in solver_classes().items():
        if cls.rank >= 1000:
            continue
        try:
            found = _plain(cls)
            found.available()
            found.applies(problem)
        except (NotOffered, SolverUnavailable) as why:
            reasons.append(f"{name}: {why}")
            continue
        return found
    raise NotOffered("no solver applies. " + " | ".join(reasons))


def _plain(cls: type[Solver]) -> Solver:
    """The solver with its default options, if every option has one; frozen, so made once."""
    if cls not in _made:
        _made[cls] = _with_defaults(cls)
    return _made[cls]


def _with_defaults(cls: type[Solver]) -> Solver:
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # a dataclass by its base
    missing = dataclasses.MISSING
    needs = [f.name for f in fields if f.default is missing and f.default_factory is missing]
    if needs:
        raise NotOffered(f"has no default for {', '.join(needs)}: pass an instance")
    return cls()


class SolverList(list[str]):
    """Names that apply, best first; ``refused`` maps the others to the reason why not."""

    def __init__(self, names: list[str], refused: dict[str, str]) -> None:
        super().__init__(names)
        self.refused = refused

    def __repr__(self) -> str:
        width = max((len(n) for n in [*self, *self.refused]), default=0)
        yes = [f"  {n}" for n in self]
        no = [f"  {n:{width}s}  {why}" for n, why in self.refused.items()]
        return "\n".join(["applies:", *yes, "does not apply:", *no])


def solvers_for(problem: Problem) -> SolverList:
    """Names of the solvers that apply to this instance; the others with the reason why not."""
    names, refused = [], {}
    for cls in solver_classes().values():
        for name in cls.names(problem) or (cls.name,):
            try:
                found = _by_name(name, {}) if name != cls.name else _plain(cls)
                found.available()
                found.applies(problem)
            except (NotOffered, SolverUnavailable) as why:
                refused[name] = str(why)
                continue
            names.append(name)
    return SolverList(names, refused)


def folder_members(package: str) -> dict[str, Any]:
    """The public problems, solvers, policies and studies defined in the modules of one folder."""
    from rralloc.solver import Solver

    folder = importlib.import_module(package)
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(folder.__path__):
        if not module.name.startswith("_"):
            found |= members(importlib.import_module(f"{package}.{module.name}"))

    def shown(thing: Any) -> bool:
        if not isinstance(thing, type):
            return hasattr(thing, "study_name")
        is_policy = all(hasattr(thing, method) for method in ("start", "decide", "learn"))
        return is_policy or issubclass(thing, Problem | Solver)

    return {n: thing for n, thing in found.items() if shown(thing)}


def folder_member(package: str, name: str) -> Any:
    """One of them, for ``from rralloc.problems import WaterFilling``."""
    if name.startswith("_"):
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    found = folder_members(package)
    if name not in found:
        raise AttributeError(str(UnknownName(f"name in {package}", name, found)))
    return found[name]
