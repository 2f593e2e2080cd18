"""Fair comparison of policies: paired seeds, intervals of paired differences, resumable runs.

Every policy is trained with every seed on the task and link made for that seed, so a difference
between two policies is taken seed by seed. Learning rates are tuned on seeds that are not
reported (``tune``), and ``compare`` refuses seeds that were tuned on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rralloc.content import content
from rralloc.errors import InvalidProblem
from rralloc.fl import results
from rralloc.fl.engine import train
from rralloc.fl.history import Cost, History
from rralloc.fl.link import Link
from rralloc.fl.schemes import Scheme, WithMemory
from rralloc.fl.statistics import Interval, first_reaching, mean_interval, paired_difference
from rralloc.fl.task import Task
from rralloc.policy import Policy
from rralloc.registry import resolve_policy
from rralloc.typing import Array

MakeTask = Callable[[int], Task]
MakeLink = Callable[[int], Link]
AnyPolicy = Policy | type[Policy] | str


@dataclass(frozen=True, eq=False)
class TrainingComparison:
    """Runs by policy and seed, in the order of ``seeds``."""

    runs: Mapping[str, list[History]]
    seeds: tuple[int, ...]
    tuned_on: tuple[int, ...] = ()

    def __repr__(self) -> str:
        horizon = self.common()
        return self.table([horizon / 4, horizon / 2, horizon])

    def at(self, policy: str, budget: float, cost: Cost = "seconds") -> Array:
        """Accuracy ``(seeds,)`` last measured within the budget: s, J, uplink bits or rounds."""
        return np.array([h.at(budget, cost) for h in self.runs[policy]])

    def mean(self, policy: str, budget: float, cost: Cost = "seconds") -> Interval:
        """Mean accuracy at equal cost with its 95 % interval over seeds."""
        return mean_interval(self.at(policy, budget, cost))

    def difference(
        self, policy: str, rival: str, budget: float, cost: Cost = "seconds"
    ) -> Interval:
        """Mean paired difference at equal cost, policy minus rival, with its 95 % interval."""
        return paired_difference(self.at(policy, budget, cost), self.at(rival, budget, cost))

    def reaching(self, policy: str, target: float, cost: Cost = "round") -> Array:
        """What it costs ``(seeds,)`` to reach an accuracy first: rounds, s, J, bits; inf: never."""
        runs = self.runs[policy]
        return np.array([first_reaching(h.spent(cost), h.accuracy, target) for h in runs])

    def common(self, cost: Cost = "seconds") -> float:
        """The largest budget that every run used up."""
        return float(min(h.spent(cost)[-1] for runs in self.runs.values() for h in runs))

    def table(
        self, budgets: Sequence[float], rival: str | None = None, cost: Cost = "seconds"
    ) -> str:
        """Accuracy in per cent at equal cost, and paired differences to ``rival``."""
        rival = rival or next(iter(self.runs))
        width = max(len(n) for n in self.runs)
        unit = {"seconds": "s", "joules": "J", "bits": "bit", "round": "rounds"}[cost]
        told = [
            f"{b:.3g} {unit}" if cost in ("joules", "bits") else f"{b:.0f} {unit}" for b in budgets
        ]
        head = "".join(f"{t:>15s}" for t in told)
        lines = [f"{'test accuracy, %':{width}s}{head}   minus {rival} at {told[-1]}"]
        for name in self.runs:
            cells = (self.mean(name, b, cost) for b in budgets)
            row = "".join(f"{100 * c.mean:9.1f} ±{50 * (c.high - c.low):4.1f}" for c in cells)
            lines.append(f"{name:{width}s}{row}   {self._against(name, rival, budgets[-1], cost)}")
        return "\n".join(lines)

    def _against(self, name: str, rival: str, budget: float, cost: Cost) -> str:
        if name == rival:
            return "-"
        d = self.difference(name, rival, budget, cost)
        return f"{100 * d.mean:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"

    def to_xarray(self) -> Any:
        """Curves over (policy, seed, round) and counts over devices, as an ``xarray.Dataset``."""
        return results.comparison_to_xarray(self)

    def save(self, path: str | Path) -> None:
        """Write all runs as one netCDF file; it appears whole or not at all."""
        results.write(self.to_xarray(), path)

    @classmethod
    def load(cls, path: str | Path) -> TrainingComparison:
        """Open what ``save`` wrote; runs are read from the file when they are looked at."""
        return results.comparison_from_file(path)

    def to_dataframe(self) -> Any:
        """All curves in long form: policy, seed, round, accuracy, loss, seconds, joules, bits."""
        import pandas as pd

        frames = [
            h.to_dataframe().reset_index().assign(policy=name, seed=h.seed)
            for name, runs in self.runs.items()
            for h in runs
        ]
        return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True)
class Job:
    """One run, as sent to a worker."""

    make_task: MakeTask
    make_link: MakeLink
    policy: Policy
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    name: str = ""

    def __call__(self) -> History:
        """Read the finished run if there is one; else train, and write before returning."""
        task, link = self.make_task(self.seed), self.make_link(self.seed)
        path = None if self.folder is None else self.folder / self._file(task, link)
        if path is not None and path.exists():
            return History.load(path)
        history = train(task, link, self.policy, seed=self.seed, **self.options)
        if path is not None:
            history.save(path)
        return history

    def _file(self, task: Task, link: Link) -> str:
        """Its name carries everything that the run depends on."""
        try:
            key = content((results.SCHEMA, task, link, self.policy, self.options))
        except ValueError as untold:
            raise InvalidProblem(
                f"run of {self.name!r}: {untold}, so a finished run could not be told from "
                "another; make it a frozen dataclass, or leave path out"
            ) from None
        plain = "".join(c if c.isalnum() else "-" for c in self.name)
        short = hashlib.sha256(key.encode()).hexdigest()[:10]
        return f"{plain}-seed{self.seed}-{short}.nc"


def compare(
    make_task: MakeTask | Task,
    make_link: MakeLink | Link,
    policies: Mapping[str, AnyPolicy | tuple[Scheme | WithMemory, AnyPolicy]],
    seeds: Iterable[int],
    *,
    executor: Executor | None = None,
    path: str | Path | None = None,
    tuned_on: Iterable[int] = (),
    progress: bool = False,
    **options: Any,
) -> TrainingComparison:
    """Train every policy with every seed; ``options`` go to ``train`` (``rounds=``, ...).

    make_task, make_link: functions of the seed (so that data, split and places vary too), or one
    task and one link for all. policies: by name, each a policy or a pair (scheme, policy).
    ``path``: a folder where each finished run is written at once and read back on a second call
    with the same arguments, so an interrupted comparison resumes. ``executor``: any
    ``concurrent.futures.Executor``; functions and policies must then be picklable.
    """
    if options.get("observers"):
        raise InvalidProblem(
            "observers watch one run, and compare makes many; call fl.train for the run to watch"
        )
    seeds, tuned = tuple(seeds), tuple(tuned_on)
    overlap = sorted(set(seeds) & set(tuned))
    if overlap:
        raise InvalidProblem(f"seeds {overlap} were tuned on; report on others")
    folder = None if path is None else Path(path)
    task_of, link_of = _maker(make_task), _maker(make_link)
    jobs = []
    for name, entry in policies.items():
        scheme, policy = entry if isinstance(entry, tuple) else (None, entry)
        chosen = options if scheme is None else {**options, "scheme": scheme}
        known = resolve_policy(policy)
        jobs += [Job(task_of, link_of, known, seed, chosen, folder, name) for seed in seeds]
    done = list(_run(jobs, executor, progress))
    size = len(seeds)
    runs = {name: done[i * size : (i + 1) * size] for i, name in enumerate(policies)}
    return TrainingComparison(runs, seeds, tuned)


def tune(
    make_task: Callable[[int, float], Task],
    make_link: MakeLink,
    policy: AnyPolicy,
    rates: Sequence[float],
    seeds: Iterable[int],
    *,
    budget_s: float,
    executor: Executor | None = None,
    path: str | Path | None = None,
    **options: Any,
) -> tuple[float, dict[float, float]]:
    """The learning rate with the best mean accuracy at ``budget_s`` seconds, and all means.

    ``path``: a folder for the finished runs, as in ``compare``.
    """
    policy = resolve_policy(policy)
    rates, seeds = tuple(rates), tuple(seeds)
    folder = None if path is None else Path(path)
    jobs = [
        Job(_At(make_task, eta), make_link, policy, seed, options, folder, f"tuning {policy.name}")
        for eta in rates
        for seed in seeds
    ]
    found = np.array([h.at_seconds(budget_s) for h in _run(jobs, executor, False)])
    means = dict(zip(map(float, rates), found.reshape(len(rates), -1).mean(axis=1).tolist()))
    return max(means, key=lambda eta: means[eta]), means


def _maker(thing: Any) -> Callable[[int], Any]:
    """A function of the seed."""
    return thing if callable(thing) else _Always(thing)


@dataclass(frozen=True)
class _Always:
    """The same for every seed, picklable."""

    thing: Any

    def __call__(self, seed: int) -> Any:
        return self.thing


@dataclass(frozen=True)
class _At:
    """``make_task`` with its learning rate fixed, picklable."""

    make_task: Callable[[int, float], Task]
    learning_rate: float

    def __call__(self, seed: int) -> Task:
        return self.make_task(seed, self.learning_rate)


def _call(job: Job) -> History:
    return job()


def _run(jobs: Sequence[Job], executor: Executor | None, progress: bool) -> Iterable[History]:
    finished = executor.map(_call, jobs) if executor is not None else map(_call, jobs)
    if not progress:
        return finished
    from tqdm.auto import tqdm

    bar: Iterable[History] = tqdm(finished, total=len(jobs), unit="run", leave=False)
    return bar
