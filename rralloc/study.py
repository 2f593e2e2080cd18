"""Study: problems x solvers as one table in which nothing is hidden.

A solver that fails, does not apply or runs out of time is a row like any other, with the reason.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rralloc.driver import solve
from rralloc.errors import NotOffered, RRAllocError, SolverUnavailable
from rralloc.problem import Problem
from rralloc.registry import check_name, solvers_for
from rralloc.report import seconds as duration
from rralloc.solution import Solution, Status
from rralloc.solver import Solver
from rralloc.typing import Array

F = TypeVar("F", bound=Callable[..., Any])
Problems = Problem | Mapping[str, Problem] | Sequence[Problem]


def study(name: str) -> Callable[[F], F]:
    """Mark a function ``f(out, quick, **settings)`` as the study that the CLI runs by that name."""

    def mark(function: F) -> F:
        function.study_name = name  # type: ignore[attr-defined]  # read by the registry
        return function

    return mark


@dataclass(frozen=True)
class Row:
    """One problem (a batch counts as one) under one solver."""

    problem: str
    digest: str
    solver: str
    instances: int
    solved: int
    """instances with a feasible point"""
    proven: int
    """instances with status GLOBAL"""
    objective: float
    """mean over the instances that have a feasible point"""
    loss: float
    """mean relative distance to the best point any solver of this table found; >= 0"""
    gap: float
    """worst proven gap; NaN where nothing is proven"""
    violation: float
    iterations: float
    seconds: float
    cpu_seconds: float
    stopped: str
    message: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """Rows, and the solutions behind them where they were computed in this process."""

    rows: list[Row]
    solutions: dict[tuple[str, str], Solution]

    def to_dataframe(self) -> Any:
        """The rows as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame([dataclasses.asdict(r) for r in self.rows])

    def summary(self) -> str:
        """The table as text, best first within each problem."""
        blocks = []
        for name in dict.fromkeys(r.problem for r in self.rows):
            rows = [r for r in self.rows if r.problem == name]
            blocks.append(_block(name, sorted(rows, key=_quality)))
        return "\n\n".join(blocks)

    def profile(self, measure: str = "seconds") -> Any:
        """Dolan-Moré profile: share of problems solved within a factor of the best, a DataFrame.

        Rows are factors, columns solvers; a problem counts as solved when every instance has a
        feasible point within 1e-3 of the best found.
        """
        import pandas as pd

        table = self.to_dataframe()
        good = (table.solved == table.instances) & (table.loss <= 1e-3)
        cost = table[measure].where(good, np.inf).clip(lower=1e-9)
        table = table.assign(ratio=cost / cost.groupby(table.problem).transform("min"))
        ratio = table.pivot(index="problem", columns="solver", values="ratio").fillna(np.inf)
        finite = ratio.to_numpy()[np.isfinite(ratio.to_numpy())]
        factors = np.unique(np.concatenate([[1.0], finite]))
        return pd.DataFrame(
            {s: [(ratio[s] <= f).mean() for f in factors] for s in ratio}, index=factors
        )

    def __repr__(self) -> str:
        return self.summary()


def compare(
    problems: Problems,
    solvers: Iterable[str | Solver | type[Solver]] | None = None,
    *,
    time_limit: float | None = None,
    executor: Executor | None = None,
    rng: int = 0,
    path: str | Path | None = None,
    **options: Any,
) -> Comparison:
    """Solve every problem with every solver; one row each, failures kept.

    A misspelt solver name is an error; a solver that does not apply is a row that says why.

    ``problems``: one, several, or a dict of names. ``solvers``: None takes all that apply to the
    problem. ``time_limit``: wall seconds for each row. ``path``: a JSON-lines file to which each
    row is appended when it is done; a second call with the same options skips the rows it finds
    there. ``executor``: any
    ``concurrent.futures.Executor``; problems and solvers travel pickled. ``options`` go to
    ``solve``.
    """
    named, asked = _named(problems), None if solvers is None else list(solvers)
    for name in asked or ():
        if isinstance(name, str):
            check_name(name)
    jobs = [
        (name, problem, solver)
        for name, problem in named.items()
        for solver in (solvers_for(problem) if asked is None else asked)
    ]
    told = {"time_limit": time_limit, "rng": rng} | options
    keys = [(problem.digest, _settings(solver, told)) for _, problem, solver in jobs]
    known = _read(path)
    args = [(p, s, told) for (_, p, s), key in zip(jobs, keys) if key not in known]
    results = iter(executor.map(_attempt, args) if executor else map(_attempt, args))
    rows, values, solutions = [], [], {}
    for (name, problem, solver), key in zip(jobs, keys):
        label = _label(solver)
        if key in known:
            row, reached = known[key]
            row = dataclasses.replace(row, problem=name)
        else:
            found = next(results)
            row, reached = _row(name, problem, label, found), _feasible(found, problem)
            _append(path, row, reached, key[1])
            if isinstance(found, Solution):
                solutions[name, label] = found
        rows.append(row)
        values.append(reached)
    return Comparison(_with_loss(rows, values, named), solutions)


def _named(problems: Problems) -> dict[str, Problem]:
    if isinstance(problems, Problem):
        return {type(problems).__name__: problems}
    if isinstance(problems, Mapping):
        return dict(problems)
    return {f"{type(p).__name__} {i}": p for i, p in enumerate(problems)}


def _settings(solver: str | Solver | type[Solver], told: Mapping[str, Any]) -> str:
    """What a row depends on besides the problem, in words that every process agrees on."""
    who = solver.name if isinstance(solver, type) else solver
    return f"{who!r} {sorted(told.items())!r}"


def _label(solver: str | Solver | type[Solver]) -> str:
    if isinstance(solver, str):
        return solver
    if not isinstance(solver, Solver):
        return solver.name
    declared: Any = solver  # a dataclass by Solver.__init_subclass__
    fields = [f for f in dataclasses.fields(declared) if f.name != solver.variant]
    told = [f"{f.name}={getattr(solver, f.name)!r}" for f in fields if _set(solver, f)]
    return f"{solver.label()}({', '.join(told)})" if told else solver.label()


def _set(solver: Solver, field: dataclasses.Field[Any]) -> bool:
    """Whether an option with a default has another value."""
    if field.default_factory is not dataclasses.MISSING:
        return bool(getattr(solver, field.name) != field.default_factory())
    given = field.default is not dataclasses.MISSING
    return given and bool(getattr(solver, field.name) != field.default)


def _attempt(job: tuple[Problem, Any, dict[str, Any]]) -> Solution | str:
    problem, solver, options = job
    try:
        return solve(problem, solver, **options)
    except (NotOffered, SolverUnavailable) as why:
        return f"does not apply: {why}"
    except RRAllocError as why:
        return f"failed: {why}"
    except Exception as why:  # a broken solver is a row too
        return f"failed: {type(why).__name__}: {why}"


def _row(name: str, problem: Problem, label: str, found: Solution | str) -> Row:
    base: dict[str, Any] = {
        "problem": name,
        "digest": problem.digest,
        "solver": label,
        "instances": problem.size,
    }
    nan = float("nan")
    if isinstance(found, str):
        empty: dict[str, Any] = dict.fromkeys(
            ("objective", "loss", "gap", "violation", "iterations"), nan
        )
        spent: dict[str, Any] = {
            "seconds": nan,
            "cpu_seconds": nan,
            "stopped": "not run",
            "message": found,
        }
        return Row(**base, solved=0, proven=0, **empty, **spent)
    status, fine = np.asarray(found.status), np.asarray(found.status) >= Status.FEASIBLE
    return Row(
        **base,
        solved=int(fine.sum()),
        proven=int((status == Status.GLOBAL).sum()),
        objective=_over(np.mean, np.asarray(found.objective)[fine]),
        loss=nan,
        gap=_over(np.nanmax, np.asarray(found.gap)[fine]),
        violation=_over(np.max, np.asarray(found.violation)[fine]),
        iterations=_over(np.mean, np.asarray(found.iterations)),
        seconds=found.seconds,
        cpu_seconds=found.cpu_seconds,
        stopped=_why(found),
        message=found.message,
    )


def _over(reduce: Callable[[Array], Any], values: Array) -> float:
    return float(reduce(values)) if values.size and not np.isnan(values).all() else float("nan")


def _why(found: Solution) -> str:
    if found.problem.batch_shape == ():
        return str(found.stopped.name).lower()
    return ", ".join(f"{n} {w}" if n < found.problem.size else w for w, n in _ended(found))


def _ended(found: Solution) -> list[tuple[str, int]]:
    return sorted(found.stopped.counts().items(), key=lambda item: -item[1])


def _with_loss(rows: list[Row], values: list[Array], named: dict[str, Problem]) -> list[Row]:
    """Distance of each solver's points to the best any solver found, instance by instance."""
    best = {}
    for name, problem in named.items():
        every = [v for r, v in zip(rows, values) if r.problem == name]
        if every:
            best[name] = (np.fmin if problem.sense == "min" else np.fmax).reduce(np.stack(every))
    out = []
    for row, mine in zip(rows, values):
        least = best[row.problem]
        with np.errstate(invalid="ignore", divide="ignore"):
            loss = np.abs(mine - least) / np.maximum(np.abs(least), 1e-300)
        loss = np.where(mine == least, 0.0, loss)[~np.isnan(mine)]
        out.append(dataclasses.replace(row, loss=_over(np.mean, loss)))
    return out


def _feasible(found: Solution | str, problem: Problem) -> Array:
    """Objectives ``(S,)`` of the feasible points, NaN elsewhere."""
    if isinstance(found, str):
        return np.full(problem.size, np.nan)
    fine = np.asarray(found.status) >= Status.FEASIBLE
    return np.where(fine, found.objective, np.nan).reshape(problem.size)


def _quality(row: Row) -> tuple[float, float, float]:
    loss = row.loss if np.isfinite(row.loss) else np.inf
    return (-row.solved / row.instances, round(loss, 9), row.seconds)


def _block(name: str, rows: list[Row]) -> str:
    width = max(len("solver"), *(len(r.solver) for r in rows))
    size = rows[0].instances
    plural = "s" if size > 1 else ""
    head = (
        f"{name}, {size} instance{plural}\n  {'solver':{width}s}  solved  proven   "
        f"mean objective   loss to best   worst gap        time  ended"
    )
    return "\n".join([head, *(_line(r, width) for r in rows)])


def _line(row: Row, width: int) -> str:
    if row.stopped == "not run":
        return f"  {row.solver:{width}s}  {row.message}"
    return (
        f"  {row.solver:{width}s}  {row.solved:6d}  {row.proven:6d}  {row.objective:15.8g}  "
        f"{_number(row.loss):>13s}  {_number(row.gap):>10s}  {duration(row.seconds):>10s}  "
        f"{row.stopped}"
    )


def _number(value: float) -> str:
    if np.isnan(value):
        return "-"
    return "0" if value == 0 else f"{value:.1e}"


Known = dict[tuple[str, str], tuple[Row, Array]]


def _read(path: str | Path | None) -> Known:
    """Rows by digest and settings, with the objectives behind them."""
    if path is None or not Path(path).exists():
        return {}
    rows: Known = {}
    for line in Path(path).read_text().splitlines():
        try:
            read: dict[str, Any] = dict(json.loads(line))
            reached = np.array(read.pop("objectives"), dtype=float)
            settings = str(read.pop("settings"))
            filled: dict[str, Any] = {k: np.nan if v is None else v for k, v in read.items()}
            row = Row(**filled)
        except (ValueError, TypeError, KeyError):
            continue  # a line cut short by a kill; its row is computed again
        rows[row.digest, settings] = row, reached
    return rows


def _append(path: str | Path | None, row: Row, reached: Array, settings: str) -> None:
    if path is None:
        return
    plain = {k: _plain(v) for k, v in dataclasses.asdict(row).items()}
    plain |= {"objectives": [_plain(float(v)) for v in reached], "settings": settings}
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    cut_short = file.exists() and file.stat().st_size > 0 and file.read_bytes()[-1:] != b"\n"
    with file.open("a") as end:
        end.write("\n" * cut_short + json.dumps(plain) + "\n")
        end.flush()
        os.fsync(end.fileno())


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
