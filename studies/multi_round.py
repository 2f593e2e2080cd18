"""Does SP-FL need an objective that looks beyond one round? Candidates against one-bit innovations.

With innovations, one-bit packets are a point of the free split's feasible set, and yet they train
better than the split that minimises the error of the round. In a round the energy of a device's
innovation is multiplied by

    rho = (1-q) + q (1-p) E/G + q p D/G,

so candidates are J = c F(rho), with F for several rounds: rho/(1 - gamma rho) (the discounted sum
of errors), (1 - sqrt rho)^-2 (the stationary error under drift, by EF21's argument), log rho (no
drift). Beside them: what replaces a lost modulus, and clipped moduli. Digits, as in the SP-FL
study; rates are tuned on other seeds, and their means are shown, because the answer lies there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rralloc.fl.compare import TrainingComparison
from rralloc.fl.schemes import SignModulus
from rralloc.policy import Policy
from rralloc.pool import pool_of
from rralloc.problems.spfl import SPFL
from rralloc.problems.spfl_objectives import ExponentialSum, PacketObjective, Slopes, Term
from rralloc.studies._tuning import seeds_of, tuned_comparison
from rralloc.studies.spfl import (
    CLIP,
    CLIPPED,
    FREE_BEST,
    ONE_BIT_BEST,
    ROUNDS,
    finals,
    lead,
    make_link,
    make_task,
    optimised,
    rows,
)
from rralloc.study import study
from rralloc.typing import Array

RATES = (0.4, 0.57, 0.8, 1.13, 1.6, 2.26)
TUNING_SEEDS = (1000, 1001, 1002)
LOADS = (12.0, 3.0)

Derivatives = tuple[Array, Array, Array]


class Rho(ExponentialSum):
    """The factor by which a round shrinks the energy of what the server does not know."""

    name = "rho"

    def terms(self, problem: SPFL) -> tuple[Array, list[Term]]:
        """1 - (1 - E/G) q - (E - D)/G q p."""
        _, G, E, D, _ = problem.statistics
        some = np.where(G > 0, G, 1.0)
        e, d = np.where(G > 0, E / some, 0.0), np.where(G > 0, D / some, 0.0)
        return np.ones_like(e), [Term(e - 1, -1, 0), Term(d - e, -1, 1)]


def discounted(r: Array, gamma: float = 0.9) -> Derivatives:
    """rho/(1 - gamma rho) = sum over t of gamma^t rho^(t+1)."""
    u = 1 - gamma * r
    return r / u, u**-2, 2 * gamma * u**-3


def stationary(r: Array) -> Derivatives:
    """(1 - sqrt rho)^-2."""
    root = np.sqrt(r)
    u, first, second = 1 - root, 0.5 / root, -0.25 / root**3
    return u**-2, 2 * u**-3 * first, 6 * u**-4 * first**2 + 2 * u**-3 * second


def logarithm(r: Array) -> Derivatives:
    """log rho."""
    return np.log(r), 1 / r, -1 / r**2


Law = Literal["discounted", "stationary", "logarithm"]
LAWS: dict[Law, Callable[[Array], Derivatives]] = {
    "discounted": discounted,
    "stationary": stationary,
    "logarithm": logarithm,
}


@dataclass(frozen=True)
class OfRho(PacketObjective):
    """J = c F(rho) with c = w G, or w alone; F gives its value and two derivatives."""

    law: Law = "discounted"
    by_energy: bool = True

    @property
    def name(self) -> str:  # type: ignore[override]  # read only
        """The law."""
        return f"{self.law} error"

    def _weight(self, problem: SPFL) -> Array:
        return problem.weight * (problem.gradient_energy if self.by_energy else 1.0)

    def value(self, s: Array, m: Array, problem: SPFL) -> Array:
        """C F(rho)."""
        with np.errstate(all="ignore"):
            return self._weight(problem) * LAWS[self.law](Rho().value(s, m, problem))[0]

    def grid(self, s: Array, problem: SPFL) -> Array:
        """The same for all pairs."""
        with np.errstate(all="ignore"):
            return self._weight(problem) * LAWS[self.law](Rho().grid(s, problem))[0]

    def slopes(self, s: Array, m: Array, problem: SPFL) -> Slopes:
        """Chain rule."""
        r, c = Rho().slopes(s, m, problem), self._weight(problem)
        with np.errstate(all="ignore"):
            f, g, h = (c * part for part in LAWS[self.law](r.value))
        return Slopes(
            f,
            g * r.s,
            g * r.m,
            h * r.s * r.s + g * r.ss,
            h * r.s * r.m + g * r.sm,
            h * r.m * r.m + g * r.mm,
        )


def candidates() -> dict[str, Policy]:
    """The reference first; then objectives, compensations, clips."""
    innovation = partial(SignModulus, reference="innovation")

    def free(objective: str | PacketObjective = "plain", **scheme: Any) -> Policy:
        return optimised(innovation(**scheme), objective=objective, sign_band_share="free")

    constant: dict[str, Any] = {"compensation": "constant"}
    known = rows()
    return {
        ONE_BIT_BEST: known[ONE_BIT_BEST],
        FREE_BEST: known[FREE_BEST],
        "free split, best compensation": free(compensation="best"),
        "free split, discounted error": free(OfRho("discounted"), **constant),
        "free split, stationary error": free(OfRho("stationary"), **constant),
        "free split, log contraction": free(OfRho("logarithm", False), **constant),
        CLIPPED: known[CLIPPED],
        "the same, clipped at 3": free(**{**CLIP, "clip": 3.0}),
        "error-free": known["error-free"],
    }


@study("multi-round")
def study_multi_round(
    out: Path,
    quick: bool = False,
    *,
    seeds: int | None = None,
    loads: tuple[float, ...] | None = None,
    workers: int = 2,
) -> None:
    """Objectives for several rounds, compensations, clips against one-bit innovations: digits."""
    reported = seeds_of(seeds, 2 if quick else 8)
    out.mkdir(parents=True, exist_ok=True)
    for load in (LOADS[:1] if quick else LOADS) if loads is None else loads:
        with pool_of(workers) as pool:
            tuned = tuned_comparison(
                candidates(),
                make_task,
                partial(make_link, load=load),
                rates=RATES[2:5] if quick else RATES,
                tuning_seeds=TUNING_SEEDS[:1] if quick else TUNING_SEEDS,
                seeds=reported,
                budget_s=np.inf,
                pool=pool,
                folder=out / "runs",
                tuning={},
                rounds=ROUNDS,
                evaluate_every=2,
            )
        result = tuned.comparison
        _print(result, tuned.means, load)
        lines = {
            name: {"accuracy": finals(result, name).tolist(), "at_rates": tuned.means[name]}
            for name in result.runs
        }
        (out / f"multi_round_load{load:g}.json").write_text(json.dumps(lines, indent=1))


def _print(result: TrainingComparison, means: dict[str, dict[float, float]], load: float) -> None:
    width = max(map(len, result.runs))
    grid = next(iter(means.values()))
    head = " ".join(f"{rate:6g}" for rate in grid)
    print(
        f"\nload {load:g}: accuracy at the tuned rate, minus one-bit; at each rate (tuning seeds)"
    )
    print(f"{'':{width}s} {'':26s}{'':10s}{head}", flush=True)
    for name in result.runs:
        own = finals(result, name).mean()
        told = " ".join(f"{100 * value:6.1f}" for value in means[name].values())
        versus = lead(result, name, ONE_BIT_BEST)
        print(f"{name:{width}s} {own:6.1f}  {versus:26s}  {told}", flush=True)
