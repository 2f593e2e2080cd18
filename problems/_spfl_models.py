"""SPFL as models: pyomo for the named objectives (:mod:`_spfl_pyomo`), cvxpy where it is convex.

cvxpy: ``unbiased`` with E <= G,

    min ln sum_k A [ (G - E) e^s + (E + D) e^j ]    j >= s + m; common fading: j >= s, j >= m
    s.t. ln phi_s - ln alpha <= ln s,  ln phi_m - ln(1 - alpha) <= ln m,  sum of bands <= 1
    ln phi = ln(r ln2/gamma) + ln int_0^1 e^(u v) dv,  u >= r ln2 / band

which obeys the rules of disciplined convex programming once the integral is a sum over NODES
Gauss-Legendre nodes (relative error of phi 4e-15 up to u = 20, 3e-12 at 30, 8e-10 at 40; u is a
packet's spectral efficiency in nat/s/Hz). So cvxpy's rules prove Lemma 2 a second time, also for
a free split. Source: spec spfl.md §3.1, §5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rralloc.errors import NotOffered
from rralloc.forms import Backend, Handle, Model
from rralloc.problems._spfl_pyomo import pyomo_model
from rralloc.problems._spfl_smooth import packets, unit_of
from rralloc.problems.spfl_objectives import OBJECTIVES, ExponentialSum
from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.problems.spfl import SPFL

NODES = 16
NOTHING = -80.0
"""Logarithm that stands for zero."""


def model(problem: SPFL) -> Model:
    """The form: one structure for each K, objective, fading and kind of split."""
    if problem.packets != "sign-modulus":
        raise NotOffered(
            f"packets={problem.packets!r} has no exported model; 'sign-modulus' has one"
        )
    law = problem.law
    if law is not OBJECTIVES.get(law.name):
        raise NotOffered(
            f"the objective {law.name!r} has no exported model: only {', '.join(OBJECTIVES)} are "
            "written in modelling languages; scipy:* takes any objective"
        )
    size, common, free = problem.sizes["K"], problem.common, problem.free_split
    terms = None
    if isinstance(law, ExponentialSum):
        terms = tuple(term.exponents(common) for term in law.terms(problem)[1])
    builders: dict[Backend, Callable[[], Handle]] = {
        "pyomo": lambda: pyomo_model(size, terms, common, free),
        "cvxpy": lambda: _cvxpy(size, common, free),
    }
    key = ("SPFL", size, law.name, common, free)
    if problem.is_convex:
        return Model(key, lambda backend: builders[backend]())
    why = "where some E > G" if law.name == "unbiased" else "in band and power"
    return Model(
        key,
        lambda backend: builders[backend](),
        backends=("pyomo",),
        reason=f"the objective {law.name!r} is not convex {why}",
    )


def _cvxpy(size: int, common: bool, free: bool) -> Handle:
    import cvxpy as cp

    at, weight = np.polynomial.legendre.leggauss(NODES)
    nodes, log_weight = (at[None] + 1) / 2, np.tile(np.log(weight / 2), (size, 1))
    alpha, s, m, joint = (cp.Variable(size) for _ in range(4))
    bands = [cp.Variable(size) for _ in range(2 if free else 1)]
    limits = [sum(cp.sum(band) for band in bands) <= 1]
    data = []
    for band, power, exponent in ((bands[0], alpha, s), (bands[-1], 1 - alpha, m)):
        rate, offset = cp.Parameter(size, nonneg=True), cp.Parameter(size)
        u = cp.Variable((size, 1))
        mean = cp.log_sum_exp(u @ nodes + log_weight, axis=1)
        limits += [
            u[:, 0] >= cp.multiply(rate, cp.inv_pos(band)),
            offset + mean - cp.log(power) <= cp.log(exponent),
        ]
        data.append((rate, offset))
    limits += [joint >= s, joint >= m] if common else [joint >= s + m]
    cost_s, cost_joint = cp.Parameter(size), cp.Parameter(size)
    last = cp.log_sum_exp(cp.hstack([cost_s + s, cost_joint + joint]))
    model = cp.Problem(cp.Minimize(last), limits)

    def assign(problem: SPFL) -> None:
        for (rate, offset), packet in zip(data, packets(problem)):
            rate.value, offset.value = packet.rate, packet.size
        cost_s.value, cost_joint.value = _log_costs(problem)

    def point(problem: SPFL) -> Point:
        parts = [np.maximum(band.value, 0.0) for band in bands]
        total = sum(parts)
        x = {"bandwidth_share": total, "sign_power_share": np.clip(alpha.value, 0.0, 1.0)}
        return x | {"sign_band_share": parts[0] / np.maximum(total, 1e-300)} if free else x

    return Handle(model, assign, point)


def _log_costs(problem: SPFL) -> tuple[Array, Array]:
    """ln A (G - E) and ln A (E + D), relative to sum w G."""
    _, (of_sign, of_joint) = problem.law.terms(problem)
    size = (problem.sizes["K"],)

    def log(cost: Any) -> Array:
        with np.errstate(divide="ignore"):
            return np.broadcast_to(np.maximum(np.log(cost / unit_of(problem)), NOTHING), size)

    return log(of_sign.c), log(of_joint.c)
