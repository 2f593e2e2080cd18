"""What an allocation buys in training: handwritten digits over a fading uplink.

Scheduling: one device a round, by FEEL's law (importance and channel) against uniform, channel-only
and importance-only laws. Bandwidth: everybody a round, the band split to finish together against
an equal split. Learning rates are tuned for each policy on seeds that are not reported. Spec:
rrm.md §4 and §5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path

import numpy as np

import rralloc as rr
from rralloc import fl
from rralloc.fl.compare import TrainingComparison
from rralloc.policy import Optimised
from rralloc.problems import FEELScheduling, MinMaxLatency
from rralloc.study import study

CLIENTS = 10
TUNING_SEEDS = range(1000, 1003)


def make_task(seed: int, learning_rate: float = 1.0) -> fl.Task:
    """Digits, softmax regression, one label-sorted shard for each of 10 devices."""
    return fl.Task.digits(
        clients=CLIENTS,
        partition="shards",
        shards_per_client=1,
        learner="softmax",
        learning_rate=learning_rate,
        seed=seed,
    )


def make_mlp_task(seed: int, learning_rate: float = 0.5) -> fl.Task:
    """Digits, one hidden layer of 32, Dirichlet(0.1) skew over 10 devices."""
    return fl.Task.digits(
        clients=CLIENTS,
        partition="dirichlet",
        alpha=0.1,
        learner="mlp",
        hidden=(32,),
        learning_rate=learning_rate,
        seed=seed,
    )


def make_link(seed: int) -> fl.Link:
    """Devices in a 500 m cell, 3GPP path loss, Rayleigh fading, 1 Mbit updates on 1 MHz."""
    return fl.Link.cell(CLIENTS, seed=seed, payload_bit=1e6)


def scheduling_policies() -> dict[str, Optimised]:
    """One device a round, drawn by four laws."""
    return {
        "importance and channel (FEEL)": Optimised(FEELScheduling),
        "importance only": Optimised(FEELScheduling, "baseline:importance"),
        "uniform": Optimised(FEELScheduling, "baseline:uniform"),
        "channel only": Optimised(FEELScheduling, "baseline:channel"),
    }


def bandwidth_policies() -> dict[str, Optimised]:
    """Everybody every round, the band split in two ways."""
    return {
        "min-max latency": Optimised(MinMaxLatency),
        "equal split": Optimised(MinMaxLatency, "baseline:equal-split"),
    }


@study("first-training")
def first_training(
    out: Path, quick: bool = False, *, seeds: int = 0, workers: int = 2
) -> dict[str, TrainingComparison]:
    """Accuracy against seconds and joules on digits: FEEL scheduling, and min-max bandwidth."""
    count = seeds or (8 if quick else 20)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        pool: Executor | None = None
        if workers > 1:
            pool = stack.enter_context(_pool(workers))
        scheduling = _scheduling(out, quick, count, pool)
        bandwidth = _bandwidth(out, quick, count, pool)
    return {"scheduling": scheduling, "bandwidth": bandwidth}


def _pool(workers: int) -> Executor:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def _scheduling(out: Path, quick: bool, seeds: int, pool: Executor | None) -> TrainingComparison:
    horizon = 60.0 if quick else 120.0
    rates = (0.05, 0.1, 0.2) if quick else (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    budget = {"rounds": 100_000, "max_seconds": horizon, "evaluate_every": 10 if quick else 5}
    runs, chosen = {}, {}
    for name, policy in scheduling_policies().items():
        chosen[name], _ = fl.tune(
            make_task,
            make_link,
            policy,
            rates,
            TUNING_SEEDS[:2] if quick else TUNING_SEEDS,
            budget_s=horizon,
            executor=pool,
            **(budget | {"evaluate_every": 10_000}),
        )
        found = fl.compare(
            _Tuned(chosen[name]),
            make_link,
            {name: policy},
            range(seeds),
            executor=pool,
            path=out / "runs",
            tuned_on=TUNING_SEEDS,
            **budget,
        )
        runs |= found.runs
    result = TrainingComparison(runs, tuple(range(seeds)), tuple(TUNING_SEEDS))
    budgets = [horizon / 4, horizon / 2, horizon]
    print(f"\nscheduling one of {CLIENTS} devices a round: digits, softmax, label-sorted shards,")
    print(f"{seeds} seeds, learning rates tuned on other seeds: {_said(chosen)}")
    print(result.table(budgets, rival="uniform"))
    _save(result, out, "scheduling", chosen)
    return result


def _bandwidth(out: Path, quick: bool, seeds: int, pool: Executor | None) -> TrainingComparison:
    rounds = 60 if quick else 150
    result = fl.compare(
        make_mlp_task,
        make_link,
        bandwidth_policies(),
        range(seeds),
        executor=pool,
        path=out / "runs",
        rounds=rounds,
        evaluate_every=2 if quick else 1,
    )
    horizon = result.common_seconds()
    saved = [
        1 - a.seconds[-1] / b.seconds[-1]
        for a, b in zip(result.runs["min-max latency"], result.runs["equal split"])
    ]
    mean = fl.mean_interval(saved)
    same = all(
        np.array_equal(a.accuracy, b.accuracy, equal_nan=True)
        for a, b in zip(result.runs["min-max latency"], result.runs["equal split"])
    )
    print(f"\nsplitting the band, everybody every round: digits, MLP 64-32-10, Dirichlet(0.1),")
    print(
        f"{seeds} seeds, {rounds} rounds: the same accuracy round by round: {same}; min-max takes "
        f"{100 * mean.mean:.1f} % less time [{100 * mean.low:.1f}, {100 * mean.high:.1f}]"
    )
    print(result.table([horizon / 4, horizon / 2, horizon], rival="equal split"))
    _save(result, out, "bandwidth", {})
    return result


class _Tuned:
    """``make_task`` at a tuned learning rate; a class, so that a worker process can receive it."""

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate

    def __call__(self, seed: int) -> fl.Task:
        return make_task(seed, self.learning_rate)


def _said(chosen: Mapping[str, float]) -> str:
    return ", ".join(f"{n} {eta:g}" for n, eta in chosen.items())


def _save(
    result: TrainingComparison, out: Path, name: str, chosen: Mapping[str, float]
) -> None:
    result.to_dataframe().to_csv(out / f"{name}.csv", index=False)
    (out / f"{name}_learning_rates.json").write_text(json.dumps(dict(chosen), indent=1))
    rr.plot.save(rr.plot.accuracy(result), out / f"{name}_seconds.png")
    rr.plot.save(rr.plot.accuracy(result, x="joules"), out / f"{name}_joules.png")
