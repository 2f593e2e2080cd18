"""Study: problems x solvers as one table in which nothing is hidden.

A solver that fails, does not apply or runs out of time is a row like any other, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from rralloc.comparison import Comparison
from rralloc.errors import InvalidProblem
from rralloc.numerics.counts import is_count, require_non_negative
from rralloc.problem import Problem
from rralloc.registry import check_name, solvers_for
from rralloc.solver import Solver
from rralloc.sweep import Job, label, run, settings_of

F = TypeVar("F", bound=Callable[..., Any])
Problems = Problem | Mapping[str, Problem] | Sequence[Problem]


def study(name: str) -> Callable[[F], F]:
    """Mark a function ``f(out, quick, **settings)`` as the study that the CLI runs by that name."""

    def mark(function: F) -> F:
        function.study_name = name  # type: ignore[attr-defined]  # read by the registry
        return function

    return mark


def compare(
    problems: Problems,
    solvers: str | Solver | type[Solver] | Iterable[str | Solver | type[Solver]] | None = None,
    *,
    time_limit: float | None = None,
    executor: Executor | None = None,
    rng: int = 0,
    path: str | Path | None = None,
    chunk: int | None = None,
    repeat: int = 1,
    progress: bool = False,
    **options: Any,
) -> Comparison:
    """Solve every problem with every solver; one row each, failures kept.

    A misspelt solver name is an error; a solver that does not apply is a row that says why.

    Parameters
    problems
        One, several, or a dict of names.
    solvers
        Names, instances or classes; None takes all that apply to the problem.
    time_limit
        Wall seconds for each call of a solver: each problem, or each part of one.
    executor
        Any ``concurrent.futures.Executor``; problems and solvers travel pickled. A case that is
        lost because its process died is a row that says so.
    rng
        Seed of solvers that draw.
    path
        A JSON-lines file to which each case is appended when it is done; a second call with the
        same options does only what is missing there. A case is known by the data of its problem,
        the name of the class, the solver with its options and those of the call; after you edit a
        class of your own, begin a new file.
    chunk
        Cut batches into parts of at most so many instances, each a case of its own: jobs for an
        executor, steps from which a long sweep resumes, and, with ``chunk=1``, a clock for every
        instance. Solutions of parts are not kept, only their numbers.
    repeat
        Call each solver so many times; rows show the quickest call, cases all of them. The first
        call pays for imports and for building a model.
    progress
        Show a bar.
    options
        Go to ``solve``.
    """
    if isinstance(solvers, str | Solver | type):
        solvers = [solvers]
    named, asked = _named(problems), None if solvers is None else list(solvers)
    for name in asked or ():
        if isinstance(name, str):
            check_name(name)
    _check(chunk, repeat, time_limit, options)
    path = None if path is None else Path(path).expanduser()
    told = {"time_limit": time_limit, "rng": rng} | options
    jobs = []
    for name, problem in named.items():
        step = chunk or max(problem.size, 1)
        whole = problem if step >= problem.size else problem.flat()
        taken: dict[str, str] = {}
        for solver in solvers_for(problem) if asked is None else asked:
            settings = settings_of(solver, told, repeat, path is not None)
            shown = _apart(label(solver), settings, taken)
            for first in range(0, max(whole.size, 1), step):
                size = min(step, whole.size - first)
                job = Job(name, problem.digest, whole, solver, shown, settings, told, repeat)
                jobs.append(replace(job, first=first, instances=size))
    cases, solutions = {}, {}
    for number, case, sol in _shown(run(jobs, executor, path), len(jobs), progress):
        cases[number] = case
        if sol is not None:
            solutions[case.problem, case.solver] = sol
    return Comparison(named, [cases[i] for i in range(len(jobs))], solutions)


def _check(chunk: Any, repeat: Any, time_limit: Any, options: Mapping[str, Any]) -> None:
    """Refuse settings that mean nothing before any work is done."""
    for word, value in {"chunk": chunk, "repeat": repeat}.items():
        if value is not None and not is_count(value):
            raise InvalidProblem(f"{word} = {value!r} is not in {{1, 2, ...}}")
    require_non_negative("time_limit", time_limit)
    if chunk is not None and options.get("start") is not None:
        raise InvalidProblem("start= belongs to a whole batch, and chunk= cuts it; leave one out")


def _apart(shown: str, settings: str, taken: dict[str, str]) -> str:
    """The label, with a number where another solver of this problem has it already."""
    number = 1
    while taken.setdefault(shown if number == 1 else f"{shown} #{number}", settings) != settings:
        number += 1
    return shown if number == 1 else f"{shown} #{number}"


def _named(problems: Problems) -> dict[str, Problem]:
    if isinstance(problems, Problem):
        return {type(problems).__name__: problems}
    if isinstance(problems, Mapping):
        return dict(problems)
    return {f"{type(p).__name__} {i}": p for i, p in enumerate(problems)}


def _shown(done: Any, total: int, progress: bool) -> Any:
    if not progress:
        return done
    from tqdm.auto import tqdm

    return tqdm(done, total=total, unit="case", leave=False)
