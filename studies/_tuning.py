"""Training runs of several policies, each with the learning rate that serves it best."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rralloc import fl
from rralloc.fl.compare import TrainingComparison
from rralloc.fl.statistics import paired_difference
from rralloc.policy import Policy
from rralloc.typing import Array


@contextmanager
def pool_of(workers: int) -> Iterator[Executor | None]:
    """Spawned processes, or none for one worker."""
    if workers < 2:
        yield None
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield pool


def minus(own: Array, rival: Array) -> str:
    """The paired difference of two rows ``(seeds,)``, for a table."""
    d = paired_difference(own, rival)
    return f"{d.mean:+5.1f} [{d.low:+5.1f}, {d.high:+5.1f}]"


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
) -> tuple[TrainingComparison, dict[str, float]]:
    """Every policy tuned on ``tuning_seeds``, then trained on ``seeds``; and the rates chosen.

    ``tuning`` are options of the tuning runs that differ from those of the reported ones;
    ``make_tuning_task`` makes smaller tasks for them.
    """
    runs: dict[str, list[fl.History]] = {}
    chosen: dict[str, float] = {}
    for name, policy in policies.items():
        chosen[name] = float(rates[0])
        if len(rates) > 1:
            chosen[name], _ = fl.tune(
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
    return TrainingComparison(runs, tuple(seeds), tuple(tuning_seeds)), chosen
