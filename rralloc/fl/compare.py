"""Fair comparison of policies: paired seeds, intervals of paired differences, resumable runs.

Every policy is trained with every seed on the task and link made for that seed, so a difference
between two policies is taken seed by seed. Learning rates are tuned on seeds that are not
reported (``tune``), and ``compare`` refuses seeds that were tuned on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.fl.engine import train
from rralloc.fl.history import History
from rralloc.fl.link import Link
from rralloc.fl.statistics import Interval, mean_interval, paired_difference
from rralloc.fl.task import Task
from rralloc.policy import Policy
from rralloc.typing import Array

MakeTask = Callable[[int], Task]
MakeLink = Callable[[int], Link]


@dataclass(frozen=True, eq=False)
class TrainingComparison:
    """Runs by policy and seed, in the order of ``seeds``."""

    runs: Mapping[str, list[History]]
    seeds: tuple[int, ...]
    tuned_on: tuple[int, ...] = ()

    def __repr__(self) -> str:
        horizon = self.common_seconds()
        return self.table([horizon / 4, horizon / 2, horizon])

    def at_seconds(self, policy: str, budget: float) -> Array:
        """Accuracy ``(seeds,)`` last measured within ``budget`` seconds."""
        return np.array([h.at_seconds(budget) for h in self.runs[policy]])

    def mean(self, policy: str, budget: float) -> Interval:
        """Mean accuracy at equal seconds with its 95 % interval over seeds."""
        return mean_interval(self.at_seconds(policy, budget))

    def difference(self, policy: str, rival: str, budget: float) -> Interval:
        """Mean paired difference at equal seconds, policy minus rival, with its 95 % interval."""
        return paired_difference(self.at_seconds(policy, budget), self.at_seconds(rival, budget))

    def common_seconds(self) -> float:
        """The longest time that every run reached."""
        return float(min(h.seconds[-1] for runs in self.runs.values() for h in runs))

    def table(self, budgets: Sequence[float], rival: str | None = None) -> str:
        """Accuracy in per cent at equal seconds, and paired differences to ``rival``."""
        rival = rival or next(iter(self.runs))
        width = max(len(n) for n in self.runs)
        head = "".join(f"{b:>13.0f} s" for b in budgets)
        lines = [f"{'test accuracy, %':{width}s}{head}   minus {rival} at {budgets[-1]:.0f} s"]
        for name in self.runs:
            cells = (self.mean(name, b) for b in budgets)
            row = "".join(f"{100 * c.mean:9.1f} ±{50 * (c.high - c.low):4.1f}" for c in cells)
            lines.append(f"{name:{width}s}{row}   {self._against(name, rival, budgets[-1])}")
        return "\n".join(lines)

    def _against(self, name: str, rival: str, budget: float) -> str:
        if name == rival:
            return "-"
        d = self.difference(name, rival, budget)
        return f"{100 * d.mean:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"

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
        if " at 0x" in repr(self.policy):
            raise InvalidProblem(
                f"policy {self.name!r}: its repr does not tell its settings, so a finished run "
                "could not be told from another; make it a frozen dataclass, or leave path out"
            )
        told = f"{self.policy!r}|{sorted(self.options.items())!r}|"
        key = content(task) + content(link) + hashlib.sha256(told.encode()).hexdigest()
        plain = "".join(c if c.isalnum() else "-" for c in self.name)
        short = hashlib.sha256(key.encode()).hexdigest()[:10]
        return f"{plain}-seed{self.seed}-{short}.json"


def content(thing: Any) -> str:
    """Hash of a frozen dataclass by the values of its fields, arrays by their bytes."""
    sha = hashlib.sha256(type(thing).__qualname__.encode())
    for item in fields(thing):
        value = getattr(thing, item.name)
        sha.update(item.name.encode())
        if is_dataclass(value):
            sha.update(content(value).encode())
        elif isinstance(value, np.ndarray):
            sha.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
            for part in value:
                sha.update(part.tobytes() + b"|")
        else:
            sha.update(repr(value).encode())
    return sha.hexdigest()


def compare(
    make_task: MakeTask,
    make_link: MakeLink,
    policies: Mapping[str, Policy],
    seeds: Iterable[int],
    *,
    executor: Executor | None = None,
    path: str | Path | None = None,
    tuned_on: Iterable[int] = (),
    progress: bool = False,
    **options: Any,
) -> TrainingComparison:
    """Train every policy with every seed; ``options`` go to ``train`` (``rounds=``, ...).

    ``path``: a folder where each finished run is written at once and read back on a second call
    with the same arguments, so an interrupted comparison resumes. ``executor``: any
    ``concurrent.futures.Executor``; functions and policies must then be picklable.
    """
    seeds, tuned = tuple(seeds), tuple(tuned_on)
    overlap = sorted(set(seeds) & set(tuned))
    if overlap:
        raise InvalidProblem(f"seeds {overlap} were tuned on; report on others")
    jobs = [
        Job(make_task, make_link, policy, seed, options, None if path is None else Path(path), name)
        for name, policy in policies.items()
        for seed in seeds
    ]
    done = list(_run(jobs, executor, progress))
    size = len(seeds)
    runs = {name: done[i * size : (i + 1) * size] for i, name in enumerate(policies)}
    return TrainingComparison(runs, seeds, tuned)


def tune(
    make_task: Callable[[int, float], Task],
    make_link: MakeLink,
    policy: Policy,
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
    results = executor.map(_call, jobs) if executor is not None else map(_call, jobs)
    if not progress:
        return results
    from tqdm.auto import tqdm

    bar: Iterable[History] = tqdm(results, total=len(jobs), unit="run", leave=False)
    return bar
