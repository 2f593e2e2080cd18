"""What an allocation buys in training: handwritten digits over a fading uplink.

Scheduling: one device a round, by FEEL's law (importance and channel) against uniform, channel-only
and importance-only laws. Bandwidth: everybody a round, the band split to finish together against
an equal split. Learning rates are tuned for each policy on seeds that are not reported. Spec:
rrm.md §4 and §5.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

import rralloc as rr
from rralloc import fl
from rralloc.fl.compare import TrainingComparison
from rralloc.policy import Optimised
from rralloc.pool import pool_of
from rralloc.problems import FEELScheduling, MinMaxLatency
from rralloc.studies._tuning import seeds_of, tuned_comparison
from rralloc.study import study

CLIENTS = 10
TUNING_SEEDS = range(1000, 1006)


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


def airtime_bound_link(seed: int) -> fl.Link:
    """500 m cell, 3GPP path loss, Rayleigh fading; 5 Mbit on 1 MHz, 0.05-0.2 s to compute."""
    return fl.Link.cell(CLIENTS, seed=seed, payload_bit=5e6, compute_s=(0.05, 0.2))


def compute_bound_link(seed: int) -> fl.Link:
    """The same cell; 1 Mbit on 1 MHz, 0.1-0.5 s to compute: the channel matters less."""
    return fl.Link.cell(CLIENTS, seed=seed, payload_bit=1e6, compute_s=(0.1, 0.5))


LINKS = {"airtime-bound": airtime_bound_link, "compute-bound": compute_bound_link}


def scheduling_policies() -> dict[str, Optimised]:
    """One device a round, drawn by FEEL's law at two trade-offs and by three rules.

    Laws that weigh importance make every device compute and report each round, and are charged
    for it; uniform and channel-only ask for nothing.
    """
    return {
        "FEEL, rho 0.5": Optimised(FEELScheduling),
        "FEEL, rho 0.1": Optimised(FEELScheduling, settings={"tradeoff": 0.1}),
        "importance only": Optimised(FEELScheduling, "baseline:importance"),
        "uniform": Optimised(FEELScheduling, "baseline:uniform", asks=()),
        "channel only": Optimised(FEELScheduling, "baseline:channel", asks=()),
    }


def bandwidth_policies() -> dict[str, Optimised]:
    """Everybody every round, the band split in two ways."""
    return {
        "min-max latency": Optimised(MinMaxLatency),
        "equal split": Optimised(MinMaxLatency, "baseline:equal-split"),
    }


@study("first-training")
def study_first_training(
    out: Path, quick: bool = False, *, seeds: int | None = None, workers: int = 2
) -> None:
    """Accuracy against seconds and joules on digits: FEEL scheduling, and min-max bandwidth."""
    reported = seeds_of(seeds, 8 if quick else 20)
    out.mkdir(parents=True, exist_ok=True)
    with pool_of(workers) as pool:
        for link in ["airtime-bound"] if quick else list(LINKS):
            _scheduling(out, quick, reported, pool, link)
        _bandwidth(out, quick, reported, pool)


def _scheduling(out: Path, quick: bool, seeds: range, pool: Executor | None, link: str) -> None:
    horizon = (1.0 if quick else 2.0) * (120.0 if link == "airtime-bound" else 60.0)
    name_of = f"scheduling_{link.replace('-', '_')}"
    limits: dict[str, Any] = {"rounds": 100_000, "max_seconds": horizon}
    tuned = tuned_comparison(
        scheduling_policies(),
        make_task,
        LINKS[link],
        rates=(2.0, 4.0) if quick else (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
        tuning_seeds=TUNING_SEEDS[:2] if quick else TUNING_SEEDS,
        seeds=seeds,
        budget_s=horizon,
        pool=pool,
        folder=None if quick else out / "runs" / link,
        tuning={"evaluate_every": 5},
        **limits,
    )
    result, rates = tuned.comparison, tuned.rates
    said = ", ".join(f"{n}: {eta:g}" for n, eta in rates.items())
    print(f"\nScheduling one of {CLIENTS} devices a round, {link} link.")
    print("Digits, softmax regression, one label-sorted shard for each device;")
    print(f"{len(seeds)} seeds; learning rates tuned on other seeds ({said}).")
    print(result.table([horizon / 4, horizon / 2, horizon], rival="uniform"))
    for budget in (horizon / 4, horizon):
        d = result.difference("FEEL, rho 0.5", "importance only", budget)
        print(
            f"FEEL, rho 0.5 minus importance only at {budget:.0f} s: "
            f"{100 * d.mean:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
        )
    _save(result, out, name_of)
    (out / f"{name_of}_learning_rates.json").write_text(json.dumps(rates, indent=1))


def _bandwidth(out: Path, quick: bool, seeds: range, pool: Executor | None) -> None:
    rounds = 60 if quick else 150
    result = fl.compare(
        make_mlp_task,
        compute_bound_link,
        bandwidth_policies(),
        seeds,
        executor=pool,
        path=None if quick else out / "runs" / "bandwidth",
        progress=sys.stderr.isatty(),
        rounds=rounds,
    )
    pairs = list(zip(result.runs["min-max latency"], result.runs["equal split"]))
    same = all(np.array_equal(a.accuracy, b.accuracy, equal_nan=True) for a, b in pairs)
    saved = fl.mean_interval([100 * (1 - a.seconds[-1] / b.seconds[-1]) for a, b in pairs])
    burnt = fl.mean_interval([100 * (a.joules[-1] / b.joules[-1] - 1) for a, b in pairs])
    verb = "the same" if same else "NOT the same"
    print("\nSplitting the band, everybody every round. Digits, MLP 64-32-10, Dirichlet(0.1),")
    print(
        f"{len(seeds)} seeds, {rounds} rounds: {verb} accuracy round by round, in "
        f"{saved.mean:.1f} % less time [{saved.low:.1f}, {saved.high:.1f}], for "
        f"{burnt.mean:+.1f} % energy [{burnt.low:+.1f}, {burnt.high:+.1f}]."
    )
    horizon = result.common()
    print(result.table([horizon / 4, horizon / 2, horizon], rival="equal split"))
    _save(result, out, "bandwidth")


def _save(result: TrainingComparison, out: Path, name: str) -> None:
    result.to_dataframe().to_csv(out / f"{name}.csv", index=False)
    rr.plot.save(rr.plot.accuracy(result), out / f"{name}_seconds.png")
    rr.plot.save(rr.plot.accuracy(result, x="joules"), out / f"{name}_joules.png")
