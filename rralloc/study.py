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
from rralloc.registry import solvers_for
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

    ``problems``: one, several, or a dict of names. ``solvers``: None takes all that apply to the
    problem. ``time_limit``: wall seconds for each row. ``path``: a JSON-lines file to which each
    row is appended when it is done; a second call skips the rows it finds there. ``executor``: any
    ``concurrent.futures.Executor``; problems and solvers travel pickled. ``options`` go to
    ``solve``.
    """
    named = _named(problems)
    jobs = [
        (name, problem, solver)
        for name, problem in named.items()
        for solver in (solvers if solvers is not None else solvers_for(problem))
    ]
    known = _read(path)
    todo = [j for j in jobs if (j[1].digest, _label(j[2])) not in known]
    args = [(p, s, {"time_limit": time_limit, "rng": rng} | options) for _, p, s in todo]
    results = executor.map(_attempt, args) if executor is not None else map(_attempt, args)
    rows, solutions = [], {}
    for (name, problem, solver), found in zip(todo, results):
        row = _row(name, problem, _label(solver), found)
        rows.append(row)
        if isinstance(found, Solution):
            solutions[name, row.solver] = found
        _append(path, row)
    kept = [known[k] for _, p, s in jobs if (k := (p.digest, _label(s))) in known]
    return Comparison(_with_loss(kept + rows, solutions, named), solutions)


def _named(problems: Problems) -> dict[str, Problem]:
    if isinstance(problems, Problem):
        return {type(problems).__name__: problems}
    if isinstance(problems, Mapping):
        return dict(problems)
    return {f"{type(p).__name__} {i}": p for i, p in enumerate(problems)}


def _label(solver: str | Solver | type[Solver]) -> str:
    if isinstance(solver, str):
        return solver
    return solver.label() if isinstance(solver, Solver) else solver.name


def _attempt(job: tuple[Problem, Any, dict[str, Any]]) -> Solution | str:
    problem, solver, options = job
    try:
        return solve(problem, solver, **options)
    except (NotOffered, SolverUnavailable) as why:
        return f"does not apply: {why}"
    except RRAllocError as why:
        return f"failed: {why}"


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


def _with_loss(
    rows: list[Row], solutions: dict[tuple[str, str], Solution], named: dict[str, Problem]
) -> list[Row]:
    """Distance of each solver's points to the best any solver found, instance by instance."""
    out = []
    for row in rows:
        found = solutions.get((row.problem, row.solver))
        if found is None:
            out.append(row)
            continue
        mine, best = _feasible(found), _best(row.problem, solutions, named[row.problem].sense)
        with np.errstate(invalid="ignore", divide="ignore"):
            loss = np.abs(mine - best) / np.maximum(np.abs(best), 1e-300)
        loss = np.where(mine == best, 0.0, loss)[~np.isnan(mine)]
        out.append(dataclasses.replace(row, loss=_over(np.mean, loss)))
    return out


def _feasible(found: Solution) -> Array:
    fine = np.asarray(found.status) >= Status.FEASIBLE
    return np.atleast_1d(np.where(fine, found.objective, np.nan))


def _best(name: str, solutions: dict[tuple[str, str], Solution], sense: str) -> Array:
    every = np.stack([_feasible(s) for (problem, _), s in solutions.items() if problem == name])
    return np.fmin.reduce(every) if sense == "min" else np.fmax.reduce(every)


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


def _read(path: str | Path | None) -> dict[tuple[str, str], Row]:
    if path is None or not Path(path).exists():
        return {}
    rows = {}
    for line in Path(path).read_text().splitlines():
        try:
            read: dict[str, Any] = json.loads(line)
            filled: dict[str, Any] = {k: np.nan if v is None else v for k, v in read.items()}
            row = Row(**filled)
        except (json.JSONDecodeError, TypeError):
            continue  # a line cut short by a kill; its row is computed again
        rows[row.digest, row.solver] = row
    return rows


def _append(path: str | Path | None, row: Row) -> None:
    if path is None:
        return
    values = dataclasses.asdict(row)
    plain: dict[str, Any] = {
        k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("a") as file:
        file.write(json.dumps(plain) + "\n")
        file.flush()
        os.fsync(file.fileno())
