"""Shorter packets, fewer packets: compressors and local steps in training, at equal cost.

Compressors (rrm.md §7): digits, softmax regression, 10 devices, iid and one label-sorted block
for each; minibatches of 20, learning rate .1, momentum .9 on the server (DGC: on the devices), 1 %
density. Local steps (rrm.md §8): 5 devices, full batches, 15 s, fixed numbers of steps against
the adaptive one.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import rralloc as rr
from rralloc import fl
from rralloc.fl import compress
from rralloc.fl.compare import TrainingComparison
from rralloc.policy import Optimised, Policy
from rralloc.pool import pool_of
from rralloc.problems import AdaptiveAggregation, FixedSteps, MinMaxLatency
from rralloc.studies._tuning import seeds_of
from rralloc.study import study

SURE = fl.ErrorFree()
EVERYBODY = Optimised(MinMaxLatency)
SPLITS = ("iid", "shards")
BUDGET_S = 15.0
DENSE = "every float"


def schemes() -> dict[str, Any]:
    """What is sent, by name."""

    def sends(compressor: Any, error_feedback: bool = False) -> fl.Compressed:
        return fl.Compressed(compressor, error_feedback, SURE)

    return {
        DENSE: SURE,
        "top 1 %": sends(compress.TopK(0.01)),
        "top 1 %, error feedback": sends(compress.TopK(0.01), True),
        "DGC, 1 %": sends(fl.DGC(0.01)),
        "DGC, 1 %, no masking": sends(fl.DGC(0.01, masking=False)),
        "DGC, 1 %, clip 2, warm-up 4": sends(fl.DGC(0.01, clip=2.0, warm_up=4)),
        "signs, error feedback": sends(compress.ScaledSign(), True),
        "ternary": sends(compress.Ternary()),
        "QSGD, 4 levels": sends(compress.QSGD(4)),
    }


QUICK = (DENSE, "top 1 %", "top 1 %, error feedback", "signs, error feedback")


def make_task(seed: int, split: str = "shards", server_momentum: float = 0.9) -> fl.Task:
    """Digits over ten devices."""
    return fl.Task.digits(
        clients=10,
        partition=split,
        shards_per_client=1,
        learning_rate=0.1,
        batch_size=20,
        server_momentum=server_momentum,
        test_share=400 / 1797,
        seed=seed,
    )


def make_link(seed: int) -> fl.Link:
    """A cell with 20 kHz, where bits cost time."""
    return fl.Link.cell(10, compute_s=(0.02, 0.05), bandwidth_hz=2e4, seed=seed)


def make_slow_task(seed: int, split: str = "shards") -> fl.Task:
    """Digits over five devices, full batches."""
    return fl.Task.digits(
        clients=5, partition=split, shards_per_client=1, learning_rate=0.2, seed=seed
    )


def make_slow_link(seed: int) -> fl.Link:
    """13 ms for a local step, 130 ms for a packet when five devices share the band."""
    noise, snr, bits = 1e-20, 1.0, 32.0 * 650
    band = 5 * bits / 0.13  # each a fifth of it, at log2(1 + 1) = 1 bit/s/Hz
    gain = snr * noise * band / 5 / 0.1
    return fl.Link(
        np.full(5, gain), np.full(5, 0.013), bandwidth_hz=band, noise_psd_w_hz=noise, fading="none"
    )


def steps() -> dict[str, Policy]:
    """Local steps by name; the adaptive one with a tuned and an untuned constant."""
    fixed: dict[str, Policy] = {f"{t} steps": FixedSteps(EVERYBODY, t) for t in (1, 5, 10, 20, 50)}
    tuned = AdaptiveAggregation(EVERYBODY, control_parameter=3e-5, budget_s=BUDGET_S)
    untuned = AdaptiveAggregation(EVERYBODY, control_parameter=0.025, budget_s=BUDGET_S)
    return {**fixed, "adaptive": tuned, "adaptive, phi 0.025": untuned}


@study("compression")
def study_compression(
    out: Path, quick: bool = False, *, seeds: int | None = None, workers: int = 2
) -> None:
    """Compressors at equal rounds, seconds and bits; local steps, fixed and adaptive: digits."""
    reported = seeds_of(seeds, 3 if quick else 5)
    out.mkdir(parents=True, exist_ok=True)
    folder = None if quick else out / "runs"
    with pool_of(1 if quick else workers) as pool:
        for split in SPLITS[1:] if quick else SPLITS:
            runs = _compressors(split, reported, 100 if quick else 300, pool, quick, folder)
            _print(runs, split)
            if not quick:
                runs.save(out / f"compression_{split}.nc")
            if split == "shards":
                figure = rr.plot.accuracy(runs, x="seconds")
                rr.plot.save(figure, out / "compression_accuracy.png")
        if not quick:
            for split in SPLITS:
                _print_steps(_steps(split, reported[:2], pool), split)


def _compressors(
    split: str, seeds: range, rounds: int, pool: Any, quick: bool, folder: Path | None
) -> TrainingComparison:
    chosen = {n: s for n, s in schemes().items() if not quick or n in QUICK}
    runs: dict[str, list[fl.History]] = {}
    for name, scheme in chosen.items():
        own_momentum = name.startswith("DGC")
        found = fl.compare(
            partial(make_task, split=split, server_momentum=0.0 if own_momentum else 0.9),
            make_link,
            {name: (scheme, EVERYBODY)},
            seeds,
            executor=pool,
            rounds=rounds,
            evaluate_every=5,
            path=folder,
        )
        runs |= found.runs
    return TrainingComparison(runs, tuple(seeds))


def _print(runs: TrainingComparison, split: str) -> None:
    rounds = runs.common("round")
    print(f"\nCompressors, digits, {split}: after equal rounds, and what 90 % cost")
    lines = runs.table([rounds], cost="round").splitlines()
    width = max(map(len, lines))
    print(f"{lines[0]:{width}s}   {'rounds':>7s} {'s':>7s} {'Mbit':>7s}")
    for name, line in zip(runs.runs, lines[1:]):
        costs = [float(np.mean(runs.reaching(name, 0.9, c))) for c in ("round", "seconds", "bits")]
        told = f"{costs[0]:7.0f} {costs[1]:7.1f} {costs[2] / 1e6:7.2f}"
        print(f"{line:{width}s}   {told if np.isfinite(costs).all() else 'not all runs reach it'}")


def _steps(split: str, seeds: range, pool: Any) -> TrainingComparison:
    return fl.compare(
        partial(make_slow_task, split=split),
        make_slow_link,
        steps(),
        seeds,
        executor=pool,
        rounds=1000,
        max_seconds=BUDGET_S,
        scheme=SURE,
    )


def _print_steps(runs: TrainingComparison, split: str) -> None:
    print(f"\nLocal steps, digits, {split}, {BUDGET_S:g} s: least training loss, mean steps")
    for name, histories in runs.runs.items():
        loss = np.mean([np.nanmin(h.loss) for h in histories])
        steps = np.mean([h.local_steps[1:].mean() for h in histories])
        print(f"{name:20s} {loss:.3f} {steps:6.1f}")
