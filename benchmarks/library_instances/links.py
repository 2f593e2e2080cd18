"""Links that interfere: the sum rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from library_instances.draft import Draft
from rralloc.library import Method
from rralloc.problem import Problem
from rralloc.problems import MaxMinSINR, PowerForSINR, SINRProduct, SumRate


def interference() -> Iterator[Draft]:
    """Sum rate of interfering links: local methods stop early, proofs grow with K."""

    def links(name: str, problem: SumRate, *words: str, **more: Any) -> Draft:
        return Draft(f"sumrate-{name}", problem, False, *words, **more)

    def square(cross: float, K: int = 3, rng: int = 0, **fields: Any) -> SumRate:
        gain = np.random.default_rng(rng).exponential(size=(K, K))
        gain = gain * np.where(np.eye(K, dtype=bool), 1.0, cross)
        return SumRate(**{"gain": gain, "noise_w": 0.01, "power_max_w": 1.0} | fields)

    yield links(
        "dccp37",
        SumRate.dccp37(),
        *("regular", "poor local optimum"),
        "cvxgrp/dccp issue 37: local methods answer 3.4503, 4.6860 is reachable.",
    )
    yield links(
        "dccp37-promised",
        SumRate.dccp37(minimum_rate=0.5),
        *("promised rates", "poor local optimum", "The same with half a bit promised to each."),
    )
    yield links(
        "promises-too-high",
        SumRate.dccp37(minimum_rate=3.0),
        *("infeasible", "infeasible", "Each promise can be kept alone, not all together."),
        infeasible=True,
        methods=(Method("branch-and-bound"),),
    )
    yield links(
        "weak",
        square(1e-3, 4),
        *("weak interference", "none", "Full power is optimal or nearly so."),
    )
    yield links(
        "strong",
        square(10.0),
        *("strong interference", "combinatorial", "One link at a time: who is silent decides."),
    )
    yield links(
        "spread",
        square(1.0, 3, 5, noise_w=[1e-18, 1e-8, 1.0]),
        *("noise over 18 orders", "scaling", "A receiver at -150 dBm beside one at 30 dBm."),
    )
    yield links(
        "symmetric",
        SumRate(gain=[[1.0, 0.7], [0.7, 1.0]], noise_w=0.05, power_max_w=1.0),
        *("degenerate", "ties", "Two equal optima, one link each; the middle is a saddle."),
    )
    yield links(
        "dead-link",
        SumRate(
            gain=[[1.0, 0.1, 0.3], [0.2, 0.0, 0.1], [0.1, 0.4, 0.8]], noise_w=0.01, power_max_w=1.0
        ),
        *("degenerate", "zero gradient", "A link without own gain only disturbs: it is silent."),
    )
    yield links(
        "six",
        SumRate.random(K=6, rng=0),
        *("regular", "poor local optimum", "Six links: the default ends 1.4 % low."),
    )
    yield links(
        "ten",
        SumRate.random(K=10, rng=0),
        *("larger", "open gap", "Ten links: branch and bound leaves a gap open."),
        methods=(Method("branch-and-bound", {"cells": 100_000}),),
    )


def power_control() -> Iterator[Draft]:
    """Links with a known optimum: balanced, least power, product. Convex in log powers."""

    def one(name: str, problem: Problem, *words: str, **more: Any) -> Draft:
        return Draft(f"{type(problem).__name__.lower()}-{name}", problem, True, *words, **more)

    G = np.array([[1.0, 0.1, 0.2], [0.15, 0.8, 0.1], [0.1, 0.2, 0.9]])
    loud = {"noise_w": 1e-12, "power_max_w": 1.0}
    yield one("plain", MaxMinSINR.random(K=6, rng=0), "regular", "none", "Every link as good.")
    yield one(
        "no-interference",
        MaxMinSINR.random(K=4, rng=1, gain=np.diag([1.0, 0.5, 2.0, 0.1])),
        *("degenerate", "Perron root 0", "Without interference only the caps count."),
    )
    yield one(
        "interference-limited",
        MaxMinSINR(gain=G, **loud),
        *("noise 1e-12", "scaling", "Noise is nothing: the optimum is 1 over the Perron root."),
    )
    yield one(
        "plain",
        PowerForSINR(gain=G, noise_w=0.1, sinr_target=1.5),
        *("regular", "none", "Three links at a target of 1.5."),
    )
    yield one(
        "near-the-limit",
        PowerForSINR(gain=G, noise_w=0.1, sinr_target=3.1),
        *("starved", "ill-conditioned", "The target is close to what no power reaches."),
    )
    yield one(
        "beyond-the-limit",
        PowerForSINR(gain=G, noise_w=0.1, sinr_target=8.0),
        *("infeasible", "infeasible", "No power reaches the target: the Perron root exceeds 1."),
        infeasible=True,
    )
    yield one("plain", SINRProduct.random(K=4, rng=0), "regular", "none", "A geometric program.")
    yield one(
        "interference-limited",
        SINRProduct(gain=G, **loud),
        *("noise 1e-12", "flat", "All powers may be scaled together at nearly no loss."),
    )
