"""Training runs of several policies, each with the learning rate that serves it best."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rralloc import fl
from rralloc.errors import InvalidProblem
from rralloc.fl.compare import TrainingComparison
from rralloc.policy import Policy


def seeds_of(asked: int | None, default: int) -> range:
    """The reported seeds.

    Raises InvalidProblem: fewer than 2.
    """
    count = default if asked is None else asked
    if count < 2:
        raise InvalidProblem(f"seeds = {count}: an interval over seeds needs at least 2")
    return range(count)


@dataclass(frozen=True)
class Tuned:
    """Runs by policy, the rate chosen for each, and the mean accuracy at every rate tried."""

    comparison: TrainingComparison
    rates: dict[str, float]
    means: dict[str, dict[float, float]]


def tuned_comparison(
    policies: Mapping[str, Policy],
    make_task: Callable[..., fl.Task],
    make_link: Callable[[int], fl.Link],
    *,
    rates: Sequence[float],
    tuning_seeds: Sequence[int],
    seeds: Sequence[int],
    budget_s: float,
    pool: Executor | None,
    folder: Path | None,
    tuning: Mapping[str, Any],
    make_tuning_task: Callable[..., fl.Task] | None = None,
    **options: Any,
) -> Tuned:
    """Every policy tuned on ``tuning_seeds``, then trained on ``seeds``.

    ``tuning`` are options of the tuning runs that differ from those of the reported ones;
    ``make_tuning_task`` makes smaller tasks for them. One rate needs no tuning.
    """
    runs: dict[str, list[fl.History]] = {}
    chosen: dict[str, float] = {}
    means: dict[str, dict[float, float]] = {}
    for name, policy in policies.items():
        chosen[name], means[name] = float(rates[0]), {}
        if len(rates) > 1:
            chosen[name], means[name] = fl.tune(
                make_tuning_task or make_task,
                make_link,
                policy,
                rates,
                tuning_seeds,
                budget_s=budget_s,
                executor=pool,
                path=folder,
                **{**options, **tuning},
            )
        found = fl.compare(
            partial(make_task, learning_rate=chosen[name]),
            make_link,
            {f"{name}, learning rate {chosen[name]:g}": policy},
            seeds,
            executor=pool,
            path=folder,
            tuned_on=tuning_seeds,
            progress=sys.stderr.isatty(),
            **options,
        )
        runs |= {name: list(*found.runs.values())}
    return Tuned(TrainingComparison(runs, tuple(seeds), tuple(tuning_seeds)), chosen, means)
