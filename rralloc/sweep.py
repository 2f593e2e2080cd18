"""Sweep: solver calls as jobs, anywhere, each kept in a file as soon as it is done.

A *case* is what was timed as one: a problem with its batch, or a part of the batch. Its results are
plain arrays over the instances, so that a million of them fit in memory and in a file.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from pickle import PicklingError
from typing import Any, NamedTuple

import numpy as np

from rralloc.content import content
from rralloc.driver import solve
from rralloc.errors import InvalidProblem, NotOffered, RRAllocError, SolverUnavailable
from rralloc.io.values import encode
from rralloc.problem import Problem
from rralloc.solution import Solution, Status
from rralloc.solver import Solver
from rralloc.typing import Array

AHEAD = 256
"""Jobs handed to an executor before the first is back: what bounds the memory of a long sweep."""
FLOATS = ("objective", "gap", "violation")
WHOLES = ("status", "stopped", "iterations")


@dataclass(frozen=True, eq=False)
class Case:
    """One solver on one problem or part of it; arrays ``(S,)`` over its instances."""

    problem: str
    digest: str
    """of the whole problem"""
    solver: str
    settings: str
    first: int
    """place of its first instance in the flat batch of the problem"""
    instances: int
    objective: Array
    """NaN where there is no feasible point"""
    gap: Array
    violation: Array
    status: Array
    stopped: Array
    iterations: Array
    clock: tuple[tuple[float, float], ...]
    """wall and CPU seconds, once for each repetition; empty when it did not run"""
    message: str

    @property
    def ran(self) -> bool:
        """Whether the solver was called at all and came back."""
        return bool(self.clock)

    @property
    def seconds(self) -> float:
        """Wall seconds of the quickest repetition, the one that was disturbed least."""
        return min((wall for wall, _ in self.clock), default=np.nan)

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds, likewise."""
        return min((cpu for _, cpu in self.clock), default=np.nan)


@dataclass(frozen=True, eq=False)
class Job:
    """What becomes a case; ``part`` cuts the instances out when they are wanted, not before."""

    problem: str
    digest: str
    """of the problem as it was given; ``whole`` may be its flat version"""
    whole: Problem
    solver: str | Solver | type[Solver]
    label: str
    settings: str
    """what a case depends on besides the problem, the same in every process"""
    told: dict[str, Any]
    repeat: int
    first: int = 0
    instances: int = 0

    @property
    def key(self) -> tuple[str, str, int, int]:
        """By what a case is known again: contents, solver with settings, place."""
        return self.digest, self.settings, self.first, self.instances

    def part(self) -> Call:
        """What travels to the process that does the work."""
        if self.instances == self.whole.size:
            return Call(self.whole, self.solver, self.told, self.repeat, True)
        part = self.whole[self.first : self.first + self.instances]
        seed = self.told["rng"]
        told = self.told | ({} if seed is None else {"rng": (seed, self.first)})
        return Call(part, self.solver, told, self.repeat, False)

    def case(self, found: Found) -> Case:
        """The job with what came back."""
        blank, zero = np.full(self.instances, np.nan), np.zeros(self.instances, dtype=int)
        arrays = dict.fromkeys(FLOATS, blank) | dict.fromkeys(WHOLES, zero)
        return Case(
            problem=self.problem,
            digest=self.digest,
            solver=self.label,
            settings=self.settings,
            first=self.first,
            instances=self.instances,
            **arrays | found.arrays,
            clock=found.clock,
            message=found.words,
        )


class Call(NamedTuple):
    """A problem, a solver, its options, how often, and whether the solution is wanted back."""

    problem: Problem
    solver: Any
    told: dict[str, Any]
    repeat: int
    whole: bool


class Found(NamedTuple):
    """Arrays over the instances, the clock of all repetitions, words; nothing but words: why."""

    arrays: dict[str, Array]
    clock: tuple[tuple[float, float], ...]
    words: str
    solution: Solution | None = None


def attempt(call: Call) -> Found:
    """Solve ``repeat`` times; whatever goes wrong becomes words."""
    clock = []
    try:
        sol = solve(call.problem, call.solver, **_fresh(call.told))
        clock.append((sol.seconds, sol.cpu_seconds))
        for _ in range(1, call.repeat):
            again = solve(call.problem, call.solver, **_fresh(call.told))
            clock.append((again.seconds, again.cpu_seconds))
    except (NotOffered, SolverUnavailable) as why:
        return Found({}, (), f"does not apply: {why}")
    except RRAllocError as why:
        return Found({}, (), f"failed: {why}")
    except Exception as why:  # a broken solver is a case too
        return Found({}, (), f"failed: {type(why).__name__}: {why}")
    arrays = {n: np.asarray(getattr(sol, n)).reshape(-1) for n in (*FLOATS, *WHOLES)}
    fine = arrays["status"] >= Status.FEASIBLE
    arrays |= {n: np.where(fine, arrays[n], np.nan) for n in FLOATS}
    return Found(arrays, tuple(clock), sol.message, sol if call.whole else None)


def _fresh(told: dict[str, Any]) -> dict[str, Any]:
    """The same random stream in every repetition; parts of a batch have streams of their own."""
    seed = told["rng"]
    return told | {"rng": np.random.default_rng(seed)} if isinstance(seed, tuple) else told


def run(
    jobs: Sequence[Job], executor: Executor | None, path: str | Path | None
) -> Iterator[tuple[int, Case, Solution | None]]:
    """Number, case and solution of every job, in the order in which they end.

    With ``path`` a case is on disk before the next is looked at, and what is found there is not
    done again. A case lost with its process (a worker was killed, a pool broke) says so and is not
    written: the next call does it.
    """
    known = _read(path)
    todo = []
    for number, job in enumerate(jobs):
        if job.key in known:
            case = dataclasses.replace(known[job.key], problem=job.problem)
            yield number, case, None
        else:
            todo.append(number)
    calls = ((number, jobs[number].part()) for number in todo)
    done = _here(calls) if executor is None else _elsewhere(calls, executor)
    for number, found in done:
        case = jobs[number].case(found)
        if path is not None and not found.words.startswith(LOST):
            _append(Path(path), case)
        yield number, case, found.solution


LOST = "failed: lost"


def _here(calls: Iterable[tuple[int, Call]]) -> Iterator[tuple[int, Found]]:
    return ((number, attempt(call)) for number, call in calls)


def _elsewhere(
    calls: Iterator[tuple[int, Call]], executor: Executor
) -> Iterator[tuple[int, Found]]:
    """Keep the executor fed, hand back what is ready."""
    waiting: dict[Future[Found], int] = {}
    exhausted = False
    while waiting or not exhausted:
        while not exhausted and len(waiting) < AHEAD:
            number, call = next(calls, (-1, None))
            exhausted = call is None
            if call is not None:
                try:
                    waiting[executor.submit(attempt, call)] = number
                except Exception as why:  # broken, shut down, or it cannot be pickled
                    yield number, _lost(why)
        ended = wait(waiting, return_when=FIRST_COMPLETED).done
        for future in sorted(ended, key=waiting.__getitem__):
            number = waiting.pop(future)
            gone = future.cancelled()  # dask, when its scheduler died
            trouble = CancelledError("the executor is gone") if gone else future.exception()
            yield number, future.result() if trouble is None else _lost(trouble)


def _lost(why: BaseException) -> Found:
    unsent = isinstance(why, PicklingError | TypeError | AttributeError)
    where = "on its way" if unsent else "with its process"
    return Found({}, (), f"{LOST} {where}: {type(why).__name__}: {why}")


def settings_of(solver: Any, told: dict[str, Any], repeat: int, lasting: bool) -> str:
    """What a case depends on besides the problem: words for people, and a hash.

    Raises InvalidProblem if a file shall last and something in it is known by its address only.
    """
    who, values = label(solver), _chosen(solver) if isinstance(solver, Solver) else {}
    try:
        return f"{who} {content((values, told, repeat))[:16]}"
    except ValueError as untold:
        if lasting:
            raise InvalidProblem(
                f"path: {who} or an option of the call: {untold}, so a finished case could not be "
                "told from another; make it a frozen dataclass or a function of a module, or "
                "leave path out"
            ) from None
        return f"{who} {values!r} {sorted(told.items())!r} {repeat}"


def label(solver: str | Solver | type[Solver]) -> str:
    """How a solver is called in tables: its name, and the options that differ from default."""
    if isinstance(solver, str):
        return solver
    if not isinstance(solver, Solver):
        return solver.name
    told = [f"{n}={v!r}" for n, v in _chosen(solver).items() if n != solver.variant]
    return f"{solver.label()}({', '.join(told)})" if told else solver.label()


def _chosen(solver: Solver) -> dict[str, Any]:
    """The options that have another value than their default, or no default."""
    declared: Any = solver  # a dataclass by Solver.__init_subclass__
    values = {}
    for field in dataclasses.fields(declared):
        default, value = field.default, getattr(solver, field.name)
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if repr(value) != repr(default):
            values[field.name] = value
    return values


# -- the file ------------------------------------------------------------------------------------


BEGIN = b'{"problem": '
"""How a line of ours begins, also one that was cut short."""


def _read(path: str | Path | None) -> dict[tuple[str, str, int, int], Case]:
    """Cases by key; lines that are no case are passed over."""
    cases: dict[tuple[str, str, int, int], Case] = {}
    if path is None or not Path(path).exists():
        return cases
    ours = Path(path).stat().st_size == 0
    with Path(path).open("rb") as lines:
        for line in lines:
            ours |= not line.strip() or line.startswith(BEGIN)
            try:
                case = _case(json.loads(line))
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                continue  # cut short by a kill; it is computed again
            cases[case.digest, case.settings, case.first, case.instances] = case
    if not ours:
        raise InvalidProblem(f"path: {path} holds something else than cases; name another file")
    return cases


def _case(read: dict[str, Any]) -> Case:
    floats = {n: np.array(read[n], dtype=float) for n in FLOATS}  # null is NaN, "inf" infinity
    wholes = {n: np.array(read[n], dtype=int) for n in WHOLES}
    clock = tuple((float(wall), float(cpu)) for wall, cpu in read["clock"])
    case = Case(**read | floats | wholes | {"clock": clock})
    if {a.shape for a in (floats | wholes).values()} != {(case.instances,)}:
        raise ValueError("a case whose arrays do not fit its size")
    return case


def _append(path: Path, case: Case) -> None:
    plain = {f.name: getattr(case, f.name) for f in dataclasses.fields(case)}
    plain |= {n: encode(n, plain[n]) for n in (*FLOATS, *WHOLES)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        cut_short = file.tell() > 0 and not _ends_a_line(file)
        file.write(b"\n" * cut_short + json.dumps(plain, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    ends: bool = file.read(1) == b"\n"
    return ends
