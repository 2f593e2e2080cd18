"""SP-FL in training: what sign-prioritised allocation buys, beside every rival it must meet.

Digits, MLP 64-32-10, 20 devices with Dirichlet(0.1) labels, full-batch gradients, common Rayleigh
fading known by its mean, 3 bits for a modulus. Each scheme's learning rate is tuned on seeds that
are not reported. SP-FL here is a reconstruction from a public abstract (arXiv 2603.10763). Spec:
spfl.md §6 and "What moves training".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import rralloc as rr
from rralloc import fl
from rralloc.fl.compare import TrainingComparison
from rralloc.fl.schemes import ErrorFree, SignModulus
from rralloc.fl.statistics import Interval, mean_interval, paired_difference
from rralloc.policy import Optimised, Policy
from rralloc.pool import pool_of
from rralloc.problems import SPFL, MinMaxLatency
from rralloc.studies._tuning import seeds_of, tuned_comparison
from rralloc.study import study

CLIENTS, ROUNDS = 20, 60
WEIGHTS = 64 * 32 + 32 + 32 * 10 + 10
LOADS = (3.0, 4.5, 6.0, 12.0)
RATES = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
TUNING_SEEDS = (1000, 1001, 1002)
QUICK = {"rounds": 1, "polished": 3, "finished": 1}
"""Options of ``dual`` for a problem that is solved 60 times in every run."""
SINGLE = "single packet, optimised"
SINGLE_BEST = "single packet, innovations + tau, optimised"
ONE_BIT_BEST = "one-bit, innovations, optimised band"
FREE_BEST = "SP-FL free split, innovations"
CLIPPED = "SP-FL free split, clipped innovations"
CLIP: dict[str, Any] = {"compensation": "constant", "clip": 2.0}
"""Moduli above twice their mean are cut off; what is cut off comes back in the next round."""


def make_task(seed: int, learning_rate: float = 0.4) -> fl.Task:
    """Digits, one hidden layer of 32, Dirichlet(0.1) labels over 20 devices, 397 test images."""
    return fl.Task.digits(
        clients=CLIENTS,
        partition="dirichlet",
        alpha=0.1,
        learner="mlp",
        hidden=(32,),
        learning_rate=learning_rate,
        test_share=397 / 1797,
        seed=seed,
    )


def make_link(seed: int, load: float = 6.0) -> fl.Link:
    """Mean SNR 0-15 dB on 1/K of the band; ``load`` bit/s/Hz at the uniform allocation."""
    return fl.Link.loaded(CLIENTS, load=load, weights=WEIGHTS, seed=seed)


def optimised(scheme: SignModulus, solver: str | None = None, **settings: Any) -> Policy:
    """SPFL with these settings, solved in every round; a baseline if ``solver`` names one."""
    options = {} if solver else QUICK
    return Optimised(SPFL, solver, settings=settings, options=options, scheme=scheme)


def rows() -> dict[str, Policy]:
    """Every scheme of the study, by the name it has in the tables."""
    gradients, free = SignModulus(), {"sign_band_share": "free"}
    innovations = SignModulus(reference="innovation")
    stale = SignModulus(reference="stale", estimator="plain")
    single = SignModulus(packets="single")
    one_bit = SignModulus(packets="one-bit")
    one_bit_innovations = SignModulus(packets="one-bit", reference="innovation")
    tau = SignModulus(packets="single", reference="innovation", rescale=True)
    plain = {"objective": "plain"}
    return {
        SINGLE: optimised(single, packets="single", **plain),
        SINGLE_BEST: optimised(tau, packets="single", **plain),
        "one-bit, uniform": optimised(one_bit, "baseline:uniform", packets="one-bit"),
        "one-bit, innovations, uniform": optimised(
            one_bit_innovations, "baseline:uniform", packets="one-bit"
        ),
        ONE_BIT_BEST: optimised(one_bit_innovations, packets="one-bit", **plain),
        "SP-FL uniform": optimised(gradients, "baseline:uniform"),
        "SP-FL best split, equal band": optimised(gradients, "baseline:best-split"),
        "SP-FL fixed split": optimised(gradients),
        "SP-FL free split": optimised(gradients, **free),
        "SP-FL free split, stale": optimised(stale, **free, **plain),
        "SP-FL fixed split, innovations": optimised(innovations, **plain),
        FREE_BEST: optimised(innovations, **free, **plain),
        CLIPPED: optimised(SignModulus(reference="innovation", **CLIP), **free, **plain),
        "off / signs / single, innovations": optimised(innovations, packets="choice", **plain),
        "top 5 by gradient energy": fl.TopGradient(5, scheme=single),
        "error-free": Optimised(MinMaxLatency, "baseline:equal-split", scheme=ErrorFree()),
    }


DEMO = (SINGLE, SINGLE_BEST, ONE_BIT_BEST, "SP-FL uniform", FREE_BEST)


@dataclass(frozen=True)
class Cell:
    """One row at one load: final accuracy with interval, and the learning rate tuned for it."""

    accuracy: Interval
    rate: float


@study("spfl")
def study_spfl(
    out: Path,
    quick: bool = False,
    *,
    seeds: int | None = None,
    loads: tuple[float, ...] | None = None,
    workers: int = 2,
) -> None:
    """SP-FL in training against single packets, one bit, scheduling: digits, paired intervals."""
    reported = seeds_of(seeds, 4 if quick else 12)
    loads = ((6.0,) if quick else LOADS) if loads is None else loads
    chosen = {n: p for n, p in rows().items() if not quick or n in DEMO}
    out.mkdir(parents=True, exist_ok=True)
    print(f"\nSP-FL (a reconstruction): digits, MLP 64-32-10, {CLIENTS} devices, Dirichlet(0.1),")
    print(f"{ROUNDS} rounds, {len(reported)} seeds; learning rates tuned on other seeds.")
    found: dict[float, TrainingComparison] = {}
    rates: dict[float, dict[str, float]] = {}
    with pool_of(workers) as pool:
        for load in loads:
            tuned = tuned_comparison(
                chosen,
                make_task,
                partial(make_link, load=load),
                rates=(0.4, 0.8) if quick else RATES,
                tuning_seeds=TUNING_SEEDS[:1] if quick else TUNING_SEEDS,
                seeds=reported,
                budget_s=np.inf,
                pool=pool,
                folder=None if quick else out / "runs",
                tuning={"evaluate_every": 20},
                rounds=ROUNDS,
                evaluate_every=2,
            )
            found[load], rates[load] = tuned.comparison, tuned.rates
            _print(found[load], load)
            _save(found, rates, out)
    if len(loads) > 1:
        rr.plot.save(_accuracy_against_load(found), out / "spfl_accuracy_against_load.png")
    hardest = max(loads)
    picture = TrainingComparison(
        {n: r for n, r in found[hardest].runs.items() if n in DEMO},
        found[hardest].seeds,
        found[hardest].tuned_on,
    )
    rr.plot.save(rr.plot.accuracy(picture, x="round"), out / "spfl_accuracy.png")


def finals(result: TrainingComparison, name: str) -> np.ndarray[Any, Any]:
    """Accuracy in per cent ``(seeds,)``: mean of the last three evaluations."""
    return 100 * np.array([h.final() for h in result.runs[name]])


def _print(result: TrainingComparison, load: float) -> None:
    width = max(map(len, result.runs))
    rivals = [r for r in (SINGLE, SINGLE_BEST, ONE_BIT_BEST) if r in result.runs]
    head = "".join(f"   minus {r[:28]:28s}" for r in rivals)
    print(f"\n{f'load {load:g}: test accuracy, %':{width}s}            {head}")
    for name in result.runs:
        own = mean_interval(finals(result, name))
        cells = [f"   {lead(result, name, rival):34s}" for rival in rivals]
        print(f"{name:{width}s} {own.mean:5.1f} ±{(own.high - own.low) / 2:4.1f}" + "".join(cells))


def lead(result: TrainingComparison, name: str, rival: str) -> str:
    """The paired difference of final accuracies with its interval, a dash for the rival itself."""
    if name == rival:
        return "-"
    d = paired_difference(finals(result, name), finals(result, rival))
    return f"{d.mean:+5.1f} [{d.low:+5.1f}, {d.high:+5.1f}]"


def _save(
    found: Mapping[float, TrainingComparison], rates: Mapping[float, dict[str, float]], out: Path
) -> None:
    """All final accuracies and rates, after every load."""
    import pandas as pd

    table = [
        {"load": load, "scheme": name, "seed": seed, "accuracy": value, "rate": rates[load][name]}
        for load, result in found.items()
        for name in result.runs
        for seed, value in zip(result.seeds, finals(result, name))
    ]
    pd.DataFrame(table).to_csv(out / "spfl.csv", index=False)
    (out / "spfl_learning_rates.json").write_text(
        json.dumps({f"{load:g}": chosen for load, chosen in rates.items()}, indent=1)
    )


def _accuracy_against_load(found: Mapping[float, TrainingComparison]) -> Any:
    names = [n for n in next(iter(found.values())).runs if n in (*DEMO, "one-bit, uniform")]
    lines = {
        name: {load: mean_interval(finals(result, name)) for load, result in found.items()}
        for name in names
    }
    return rr.plot.against(lines, x="load, bit/s/Hz at equal bands", y="test accuracy, %")
