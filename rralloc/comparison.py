"""Comparison: the cases of a sweep as rows, tables, profiles, and a map of who to choose where."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rralloc import profiles, regret, tables
from rralloc.errors import UnknownName
from rralloc.problem import Problem
from rralloc.report import seconds as duration
from rralloc.solution import Solution, Status, Stopped
from rralloc.sweep import Case
from rralloc.typing import Array

NEGLIGIBLE = 1e-9
"""Losses are relative to the best objective, or to this share of the largest if that is more."""
CLOSE = 1e-3
"""A point counts as solved in profiles when it loses at most this to the best one found."""


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
    """wall seconds of all instances together, each case by its quickest repetition"""
    cpu_seconds: float
    stopped: str
    message: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """What every solver did to every problem, and the solutions where they were computed whole."""

    problems: Mapping[str, Problem]
    cases: list[Case]
    solutions: dict[tuple[str, str], Solution]

    @cached_property
    def rows(self) -> list[Row]:
        """A row for each problem and solver, in the order asked for."""
        return [_row(cases, loss) for cases, loss in zip(self._grouped, self._losses)]

    @cached_property
    def _grouped(self) -> list[list[Case]]:
        """Cases of one problem and one solver together; a solver asked twice is two."""
        groups: list[list[Case]] = []
        for case in self.cases:
            if groups and _follows(groups[-1][-1], case):
                groups[-1].append(case)
            else:
                groups.append([case])
        return groups

    @cached_property
    def _losses(self) -> list[Array]:
        """Relative distance to the best point of the table, instance by instance, per group."""
        named = [cases[0].problem for cases in self._grouped]
        values = [np.concatenate([c.objective for c in cases]) for cases in self._grouped]
        best, floor = {}, {}
        for name in dict.fromkeys(named):
            problem, found = self.problems[name], [v for n, v in zip(named, values) if n == name]
            best[name] = (np.fmin if problem.sense == "min" else np.fmax).reduce(found)
            floor[name] = _floor(problem, found)
        return [distance(v, best[n], floor[n]) for n, v in zip(named, values)]

    def _seconds(self) -> list[Array]:
        """Wall seconds for each instance, those of its case shared out, per group."""
        return [
            np.concatenate([np.full(c.instances, c.seconds / max(c.instances, 1)) for c in cases])
            for cases in self._grouped
        ]

    def losses(self) -> dict[tuple[str, str], Array]:
        """(problem, solver) -> loss of each instance ``(S,)``; NaN without a feasible point."""
        return {(c[0].problem, c[0].solver): v for c, v in zip(self._grouped, self._losses)}

    def by_instance(self) -> Iterator[tuple[tuple[str, str], Array, Array]]:
        """(problem, solver), losses ``(S,)`` and seconds ``(S,)`` of every group of cases."""
        for cases, loss, took in zip(self._grouped, self._losses, self._seconds()):
            yield (cases[0].problem, cases[0].solver), loss, took

    # -- tables -----------------------------------------------------------------------------

    def to_dataframe(self) -> Any:
        """The rows as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame([dataclasses.asdict(r) for r in self.rows])

    def to_markdown(self) -> str:
        """The table for people, as Markdown."""
        return tables.markdown(_HEAD, self._cells())

    def to_latex(self, label: str = "tab:solvers") -> str:
        r"""The table as LaTeX (booktabs), its caption computed: ``\usepackage{booktabs}``."""
        return tables.latex(_HEAD, self._cells(), caption=self.caption(), label=label)

    def to_json(self) -> str:
        """The rows as a JSON list; NaN is null."""
        return tables.records(self.to_dataframe())

    def save(self, path: str | Path) -> None:
        """Write the table: .csv and .json hold the rows, .md and .tex are for people."""
        from rralloc.io import write_text

        write_text(path, tables.text(self, Path(path).suffix.lower()))

    def summary(self) -> str:
        """The table as text, best first within each problem."""
        blocks = []
        for name in dict.fromkeys(r.problem for r in self.rows):
            rows = [r for r in self.rows if r.problem == name]
            blocks.append(_block(name, sorted(rows, key=_quality)))
        return "\n\n".join(blocks)

    def _cells(self) -> list[list[str]]:
        """What is shown of each row, best first within each problem."""
        cells = []
        for name in dict.fromkeys(r.problem for r in self.rows):
            rows = sorted((r for r in self.rows if r.problem == name), key=_quality)
            cells += [[name, r.solver, *_shown(r)] for r in rows]
        return cells

    # -- profiles ---------------------------------------------------------------------------

    def costs(self, measure: str = "seconds", close: float = CLOSE) -> Any:
        """Cost of every case, a DataFrame (case x solver); inf where it was not solved.

        ``measure``: ``seconds``, ``cpu_seconds`` or ``iterations``. Solved means: every instance
        has a feasible point that loses at most ``close`` to the best one found by anybody. With
        ``chunk=1`` every instance is a case.
        """
        import pandas as pd

        _known("measure", measure, ("seconds", "cpu_seconds", "iterations"))
        found: dict[str, dict[tuple[str, int], float]] = {}
        for cases, loss in zip(self._grouped, self._losses):
            column = found.setdefault(cases[0].solver, {})
            for case in cases:
                mine = loss[case.first : case.first + case.instances]
                good = case.ran and bool((mine <= close).all())
                column[case.problem, case.first] = _cost(case, measure) if good else np.inf
        return pd.DataFrame(found).fillna(np.inf)

    def profile(
        self,
        measure: str = "seconds",
        kind: Literal["performance", "data"] = "performance",
        close: float = CLOSE,
    ) -> Any:
        """Shares of cases solved, a DataFrame with a column for each solver.

        ``performance`` (Dolan and Moré 2002): within a factor (the index) of the cheapest solver
        of that case. ``data`` (Moré and Wild 2009): within a cost (the index), whoever else is in
        the table. ``.attrs["caption"]`` is one sentence computed from the numbers.
        """
        _known("kind", kind, ("performance", "data"))
        costs = self.costs(measure, close)
        make = profiles.performance if kind == "performance" else profiles.data
        frame = make(costs)
        frame.attrs["caption"] = profiles.caption(costs, measure, kind)
        frame.attrs["measure"], frame.attrs["kind"] = measure, kind
        return frame

    def caption(self, measure: str = "seconds") -> str:
        """One sentence: who solves how much, and how fast."""
        return profiles.caption(self.costs(measure), measure, "performance")

    def means(self, measure: str = "seconds", shift: float = 1e-3, close: float = CLOSE) -> Any:
        """Shifted geometric mean of the cost of each solver, cheapest first, a DataFrame.

        exp(mean(log(c + s))) - s over the cases; a case that was not solved counts as ten times
        the dearest solved one of the table (``failed`` says how many). The shift, 1 ms unless set,
        keeps the quickest cases from deciding alone.
        """
        return profiles.shifted_means(self.costs(measure, close), shift)

    def regret(
        self,
        x: str | Callable[[Problem], Array],
        y: str | Callable[[Problem], Array],
        *,
        bins: int = 4,
        close: float = CLOSE,
    ) -> Any:
        """Which solver to use where, over two statistics of the channel; a DataFrame.

        x, y: ``"mean FIELD"`` or ``"spread FIELD"`` (in dB over all entries of an instance), the
        name of a field with one number for each instance, or a function of the problem that
        returns ``(S,)``. The plane is cut into ``bins`` x ``bins`` cells with as many instances
        along each axis. A line of the result is a solver in a cell: ``regret`` is its mean loss
        there, where an instance without a feasible point counts as 1; ``seconds`` what an instance
        takes; ``choice`` marks the quickest of those whose regret is at most ``close`` (if there is
        none, the one that regrets least). ``rr.plot.regret`` draws it.
        """
        return regret.table(self, x, y, bins, close)

    def __repr__(self) -> str:
        return self.summary()


def _follows(last: Case, case: Case) -> bool:
    """Whether a case goes on where the last one of the same solver and problem ended."""
    same = (last.problem, last.settings) == (case.problem, case.settings)
    return same and last.first + last.instances == case.first


def _floor(problem: Problem, values: list[Array]) -> Array:
    """What a loss is at least divided by, ``(S,)``: 1e-9 of the largest objective around."""
    with np.errstate(all="ignore"):
        start = np.asarray(problem.objective(problem.complete(problem.initial())), dtype=float)
    sizes = [np.where(np.isfinite(v), np.abs(v), 0.0) for v in (start.reshape(-1), *values)]
    return NEGLIGIBLE * np.max(np.broadcast_arrays(*sizes), axis=0)


def distance(values: Array, best: Array, floor: Array | float = 0.0) -> Array:
    """|v - best| / max(|best|, floor), 0 where they are equal."""
    with np.errstate(invalid="ignore", divide="ignore"):
        loss = np.abs(values - best) / np.maximum(np.maximum(np.abs(best), floor), 1e-300)
    return np.where(values == best, 0.0, loss)


def _known(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UnknownName(what, value, choices)


def _cost(case: Case, measure: str) -> float:
    if measure == "iterations":
        return max(float(case.iterations.sum()), 1.0)
    return max(float(getattr(case, measure)), 1e-9)


# -- rows ----------------------------------------------------------------------------------------


def _row(cases: list[Case], loss: Array) -> Row:
    def joined(name: str) -> Array:
        return np.concatenate([getattr(c, name) for c in cases])

    first, ran = cases[0], any(c.ran for c in cases)
    status = joined("status")
    return Row(
        problem=first.problem,
        digest=first.digest,
        solver=first.solver,
        instances=status.size,
        solved=int((status >= Status.FEASIBLE).sum()),
        proven=int((status == Status.GLOBAL).sum()),
        objective=_over(np.mean, joined("objective")),
        loss=_over(np.mean, loss),
        gap=_over(np.max, joined("gap")),
        violation=_over(np.max, joined("violation")),
        iterations=_over(np.mean, joined("iterations")) if ran else np.nan,
        seconds=_over(np.sum, np.array([c.seconds for c in cases])),
        cpu_seconds=_over(np.sum, np.array([c.cpu_seconds for c in cases])),
        stopped=_why(cases),
        message="; ".join(dict.fromkeys(" ".join(c.message.split()) for c in cases if c.message)),
    )


def _over(reduce: Callable[[Array], Any], values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(reduce(known)) if known.size else float("nan")


def _why(cases: list[Case]) -> str:
    """Why the runs ended, most frequent first."""
    idle = sum(c.instances for c in cases if not c.ran)
    ended = np.concatenate([c.stopped for c in cases if c.ran] or [np.zeros(0, dtype=int)])
    counts = {Stopped(code).name.lower(): int((ended == code).sum()) for code in np.unique(ended)}
    counts |= {"not run": idle} if idle else {}
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{n} {w}" for w, n in sorted(counts.items(), key=lambda item: -item[1]))


def _quality(row: Row) -> tuple[float, float, float]:
    loss = row.loss if np.isfinite(row.loss) else np.inf
    return (-row.solved / max(row.instances, 1), round(loss, 9), row.seconds)


# -- text ----------------------------------------------------------------------------------------

_HEAD = [
    *("problem", "solver", "solved", "proven", "mean objective"),
    *("loss to best", "worst gap", "time", "CPU", "ended"),
]


def _shown(row: Row) -> list[str]:
    if row.stopped == "not run":
        return ["0", "0", "-", "-", "-", "-", "-", row.message]
    clocks = duration(row.seconds), duration(row.cpu_seconds)
    counts = f"{row.solved}/{row.instances}", f"{row.proven}/{row.instances}"
    return [*counts, f"{row.objective:.8g}", _number(row.loss), _number(row.gap), *clocks,
            row.stopped]  # fmt: skip


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
