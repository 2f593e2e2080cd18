"""Bounds by way of other problems, for instances that their own problem cannot prove.

A reduction turns "no point of this problem is better than v" into questions that another problem
answers with a proof. It is rigorous as far as the other problem's bound is, and small K only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rralloc.driver import solve
from rralloc.registry import problem_class
from rralloc.typing import Point

STEP = 2e-4
"""How far (relatively) below the point's value the refuted value of a multicast beam lies."""


def multicast_by_selection(problem: Any, x: Point, time_limit: float | None) -> float:
    """No beam with less power reaches all: the tree of ``exact`` refutes that all are served.

    A beam m with |m^H h_k| >= 1 for all k and |m|^2 <= v exists just if a unit beam serves all
    at the threshold 1/v. v is the point's value less ``STEP``; NaN if the search ends open.
    """
    value = float(problem.objective(x)) * (1 - STEP)
    selection = _named("OTASelection")(
        channel=problem.channel, mse_target=1.0, noise_power=1 / value
    )
    found = solve(selection, "exact", rng=0, time_limit=time_limit)
    all_served = float(found.bound) >= problem.sizes["K"] - 0.5
    return float("nan") if all_served else value


def admission_by_subsets(problem: Any, x: Point, time_limit: float | None) -> float:
    """The least over all sets S of c v(S)/(sum_S w)^2 + a (1 - sum_S w/sum w)^2.

    v(S) is what the least multicast beam to h_k/w_k, k in S, needs, from below by its dual.
    """
    size = problem.sizes["K"]
    weight = np.broadcast_to(problem.data_size, size)
    scaled = problem.channel / weight
    noise = float(problem.noise_power) / float(problem.transmit_power)
    share, least = weight / weight.sum(), np.inf
    for members in range(1, 2**size):
        chosen = (members >> np.arange(size)) & 1 == 1
        multicast = _named("Multicast")(channel=scaled[:, chosen])
        needs = float(solve(multicast, rng=0, time_limit=time_limit).bound)
        left_out = 1 - share[chosen].sum()
        cost = noise * needs / weight[chosen].sum() ** 2 + float(problem.constant) * left_out**2
        least = min(least, cost)
    return least


def errors_by_selection(problem: Any, x: Point, time_limit: float | None) -> float:
    """The largest s such that s devices could be served by what their least errors leave.

    A device errs least under its own matched filter. What the s cheapest leave of the target is
    a threshold at which s devices must be served; ``exact`` says how many can be.
    """
    size, channel = problem.sizes["K"], problem.channel
    least = np.sort([problem.costs(channel[:, k])[k] for k in range(size)])
    worth = float(problem.values.max())
    fields = ("channel", "noise_power", "transmit_power", "aggregation_weight")
    nominal = {n: getattr(problem, n) for n in fields}
    found = round(float(problem.objective(x)) / worth)
    for members in range(size, found, -1):
        left = float(problem.mse_target) - least[:members].sum()
        if left <= 0:
            continue
        selection = _named("OTASelection")(**nominal, mse_target=left, value=1.0)
        if float(solve(selection, "exact", rng=0, time_limit=time_limit).bound) > members - 0.5:
            return members * worth
    return found * worth


def _named(name: str) -> Any:
    """A problem class by its name: the frame imports none."""
    return problem_class(name)


REDUCTIONS: dict[str, Callable[[Any, Point, float | None], float]] = {
    "multicast-by-selection": multicast_by_selection,
    "admission-by-subsets": admission_by_subsets,
    "errors-by-selection": errors_by_selection,
}
"""Name -> (problem, point, time limit) -> bound."""
