"""Names: which problems, solvers, policies and studies exist, found by looking, not by listing.

A distribution declares one entry point in the group ``rralloc.plugins`` that names a package; the
modules of its ``problems``, ``solvers``, ``policies`` and ``studies`` subpackages are imported on
first use and every concrete class (and every ``@study`` function) defined there becomes known. A
new file is visible without reinstalling; ``rr.register(cls)`` does the same for a class in a
notebook cell.

Of two things with one name what was registered wins, then ours, then the distribution that is first
in the alphabet; a warning names the other. A plug-in that cannot be imported is left out with a
warning, and everything else works.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from rralloc.errors import NotOffered, SolverUnavailable, UnknownName, UnknownOption
from rralloc.problem import Problem

if TYPE_CHECKING:
    from rralloc.policy import Policy
    from rralloc.solver import Solver

GROUP = "rralloc.plugins"
KINDS = ("problems", "solvers", "policies", "studies")
FRAME_POLICIES = ("rralloc.policy", "rralloc.fl.scheduling")
"""Modules of the frame that define policies."""
T = TypeVar("T")

_guests: dict[str, Any] = {}
_made: dict[type[Solver], Solver] = {}
_told: set[str] = set()
"""What has been warned of: each trouble is told once in a process."""
_broken: set[str] = set()
"""Modules of plug-ins that could not be imported; they are not tried again."""


def register(thing: T) -> T:
    """Make a Problem, Solver or policy class, or a study, known by name in this process."""
    name = getattr(thing, "name", None)
    if is_policy(thing) or not isinstance(name, str):
        name = getattr(thing, "__name__", repr(thing))
    _guests[str(name)] = thing
    for table in (solver_classes, problem_classes, policies, studies):
        table.cache_clear()
    return thing


# -- where they are ------------------------------------------------------------------------------


@cache
def _packages() -> dict[str, str]:
    """Package -> its distribution: ours, then the plug-ins' by name of distribution and package."""
    from importlib.metadata import entry_points

    found = {(e.dist.name if e.dist else "?", e.module) for e in entry_points(group=GROUP)}
    # Ours is named even where the distribution's metadata is absent (a bare checkout on the path).
    return {"rralloc": "rralloc"} | {p: d for d, p in sorted(found) if p != "rralloc"}


def _modules(kind: str) -> Iterator[ModuleType]:
    for package in _packages():
        folder = _imported(package, package) and _imported(f"{package}.{kind}", package)
        if folder and not hasattr(folder, "__path__"):  # a small plug-in may have one file
            yield folder
            continue
        for found in pkgutil.iter_modules(folder.__path__) if folder else ():
            if not found.name.startswith("_"):
                module = _imported(f"{package}.{kind}.{found.name}", package)
                if module:
                    yield module


def _imported(name: str, package: str) -> ModuleType | None:
    """A module; None where a package has no such folder or a plug-in fails, which is told."""
    if name in _broken:
        return None
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name != package:
            return None
        if package == "rralloc":
            raise
        _broken.add(name)
        _tell(
            f"plug-in {_packages()[package]!r}: {name} cannot be imported "
            f"({type(error).__name__}: {error}). It is left out; mend or uninstall the plug-in."
        )
        return None


def _tell(trouble: str) -> None:
    if trouble not in _told:
        _told.add(trouble)
        warnings.warn(trouble, RuntimeWarning, stacklevel=2)


def members(module: ModuleType) -> dict[str, Any]:
    """The public things that a module itself defines."""
    return {
        n: v
        for n, v in vars(module).items()
        if not n.startswith("_") and getattr(v, "__module__", None) == module.__name__
    }


# -- what they are called ------------------------------------------------------------------------


@cache
def problem_classes() -> dict[str, type[Problem]]:
    """Class name -> problem class, our own and every plug-in's."""
    return _named("problem", _modules("problems"), _is_problem, lambda cls: cls.__name__)


@cache
def solver_classes() -> dict[str, type[Solver]]:
    """Solver name -> class, by rank: the order in which a default is looked for."""
    found = _named("solver", _modules("solvers"), _is_solver, lambda cls: str(cls.name))
    return dict(sorted(found.items(), key=lambda item: (item[1].rank, item[0])))


@cache
def policies() -> dict[str, type[Policy]]:
    """Class name -> policy class; those of problems' own modules too."""
    ours = (importlib.import_module(name) for name in FRAME_POLICIES)
    modules = [*ours, *_modules("problems"), *_modules("policies")]
    return _named("policy", modules, is_policy, lambda cls: cls.__name__)


@cache
def studies() -> dict[str, Callable[..., Any]]:
    """Study name -> function, each marked by ``@study``."""

    def is_study(thing: Any) -> bool:
        return hasattr(thing, "study_name")

    return _named("study", _modules("studies"), is_study, lambda thing: thing.study_name)


def _named(
    kind: str,
    modules: Iterator[ModuleType] | list[ModuleType],
    fits: Callable[[Any], bool],
    name: Callable[[Any], str],
) -> dict[str, Any]:
    """Name -> thing. The first of a name stays, and what was registered replaces it."""
    found: dict[str, Any] = {}
    for module in modules:
        for thing in filter(fits, members(module).values()):
            kept = found.setdefault(name(thing), thing)
            if kept is not thing:
                other, own = _origin(thing), _origin(kept)
                _tell(
                    f"two things are called {name(thing)!r}: the {kind} of {own!r} is used, the "
                    f"one of {other!r} ({thing.__module__}.{thing.__qualname__}) is not; rename it"
                )
    return found | {name(thing): thing for thing in _guests.values() if fits(thing)}


def _origin(thing: Any) -> str:
    """The distribution that a thing came with."""
    package = next(p for p in _packages() if f"{thing.__module__}.".startswith(f"{p}."))
    return _packages()[package]


def _is_problem(thing: Any) -> bool:
    concrete = isinstance(thing, type) and issubclass(thing, Problem)
    return concrete and (hasattr(thing, "name") or bool(thing.variables))


def _is_solver(thing: Any) -> bool:
    from rralloc.solver import Solver

    return isinstance(thing, type) and issubclass(thing, Solver) and hasattr(thing, "name")


def is_policy(thing: Any) -> bool:
    """A class with the three methods of a policy; the protocol that states them is none."""
    stated = all(callable(getattr(thing, m, None)) for m in ("start", "decide", "learn"))
    return isinstance(thing, type) and stated and not getattr(thing, "_is_protocol", False)


def resolve_policy(policy: Any) -> Policy:
    """The name or class of a policy as one with its default settings; a policy as it is."""
    if isinstance(policy, str):
        known = policies()
        if policy not in known:
            raise UnknownName("policy", policy, known)
        policy = known[policy]
    if not isinstance(policy, type):
        return policy
    if not is_policy(policy):
        what = "; for a problem pass rr.Optimised of it" if issubclass(policy, Problem) else ""
        raise NotOffered(f"{policy.__name__} is not a policy: no start, decide and learn{what}")
    needs = _without_default(policy)
    if needs:
        raise NotOffered(
            f"policy {policy.__name__} has no default for {', '.join(needs)}: pass an instance, "
            f"{policy.__name__}({', '.join(f'{n}=...' for n in needs)})"
        )
    return policy()


def _without_default(cls: type) -> list[str]:
    """Parameters that a call must give."""
    from inspect import Parameter, signature

    given = signature(cls).parameters.values()
    free = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [p.name for p in given if p.default is Parameter.empty and p.kind not in free]


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
        found = _applicable(cls, cls.name, problem)
        if not isinstance(found, str):
            return found
        reasons.append(f"{name}: {found}")
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
            found = _applicable(cls, name, problem)
            if isinstance(found, str):
                refused[name] = found
            else:
                names.append(name)
    return SolverList(names, refused)


def _applicable(cls: type[Solver], name: str, problem: Problem) -> Solver | str:
    """The solver, or why it does not apply; a guest that breaks when asked does not."""
    try:
        found = _by_name(name, {}) if name != cls.name else _plain(cls)
        found.available()
        found.applies(problem)
    except (NotOffered, SolverUnavailable) as why:
        return str(why)
    except Exception as trouble:
        if cls.__module__.partition(".")[0] == "rralloc":
            raise
        return f"broken: {type(trouble).__name__}: {trouble}"
    return found


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
        return is_policy(thing) or issubclass(thing, Problem | Solver)

    return {n: thing for n, thing in found.items() if shown(thing)}


def folder_member(package: str, name: str) -> Any:
    """One of them, for ``from rralloc.problems import WaterFilling``."""
    if name.startswith("_"):
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    found = folder_members(package)
    if name not in found:
        raise AttributeError(str(UnknownName(f"name in {package}", name, found)))
    return found[name]
