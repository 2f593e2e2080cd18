"""Sum rate of interfering links: the classic that local methods get wrong.

    max  sum_k w_k log2(1 + G_kk p_k / (s_k + sum_{j != k} G_kj p_j))     s.t.  0 <= p <= P

with row = receiver, column = transmitter; optionally every link has a minimum rate. Not convex:
a local method may stop at a fraction of the optimum (the 4-link instance below), so a point is
GLOBAL only with a proven bound. Source: spec rrm.md §15 item 5 (WMMSE); surrogate and cell bound
derived; instance ``dccp37`` from github.com/cvxgrp/dccp issue 37.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Self

import numpy as np

from rralloc.errors import NotOffered
from rralloc.fields import Constraint, data, variable
from rralloc.forms import Boxes, ClosedForm, Handle, Model, Surrogate, offers
from rralloc.numerics.cells import CellTree
from rralloc.numerics.logexp import LN2
from rralloc.problem import Problem
from rralloc.problems._interference import Links, times
from rralloc.problems.power_control import PowerForSINR
from rralloc.typing import Array, Field, Point, Witness


class SumRate(Links):
    """Maximise the weighted sum rate of K interfering links by their powers.

    Problem
        max sum_k w_k log2(1 + G_kk p_k/(s_k + sum_{j!=k} G_kj p_j)), 0 <= p <= P,
        rate_k >= minimum_rate_k.

    Parameters
        gain: G ``(..., K, K)``, >= 0, row = receiver, column = transmitter, linear.
        noise_w: s ``(..., K)``, W, > 0. power_max_w: P ``(..., K)``, W, > 0.
        weight: w ``(..., K)``, >= 0, default 1. minimum_rate: ``(..., K)``, bit/s/Hz, default 0.
    Variables
        power_w: p ``(..., K)``, W.
    Bound
        Any cut of the power box into cells (a ``CellTree`` as witness): on a cell the smaller of
        (a) own power highest, interference lowest, and (b) the tangent of the log of the total
        received power minus the chord of the log of interference, both valid on the whole cell.
        Without a witness: interference-free rates.
    Choose this when
        links share the band at the same time.
    Source
        Spec rrm.md §15 item 5; WMMSE surrogate and cell bounds derived.
    """

    sense = "max"
    unit = "bit/s/Hz"
    source = "classic; rrm.md §15.5"
    bound_method = "cells of the power box"

    power_max_w: Field = data("K", unit="W", low=0, open_low=True, doc="power cap")
    weight: Field = data("K", unit="1", low=0, default=1.0, doc="weight of the link's rate")
    minimum_rate: Field = data("K", unit="bit/s/Hz", low=0, default=0.0, doc="promised rate")

    power_w = variable("K", unit="W", low=0, high="power_max_w", scale="power_max_w", doc="power")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Rayleigh fading, cross gains 10 dB below direct ones on average, 20 dB SNR, caps 1 W."""
        return super().random_fields(rng, shape) | {"power_max_w": 1.0}

    @classmethod
    def dccp37(cls, *, minimum_rate: float = 0.0) -> Self:
        """The 4-link instance of cvxgrp/dccp issue 37: a tool answers 3.4503, 4.6860 is reachable.

        The issue's matrix H has rows = transmitters; the gain is its transpose.
        """
        H = [
            [0.431, 0.0002, 0.2605, 0.0039],
            [0.0002, 0.3018, 0.0008, 0.0054],
            [0.0129, 0.0005, 0.4266, 0.1007],
            [0.0011, 0.0031, 0.0099, 0.0634],
        ]
        return cls(
            gain=np.transpose(H),
            noise_w=1e-4,
            power_max_w=1.0,
            weight=[1 / 6, 1 / 6, 1 / 3, 1 / 3],
            minimum_rate=minimum_rate,
        )

    # -- evaluation -------------------------------------------------------------------------

    def _interference(self, power: Array) -> Array:
        """s + sum_{j != k} G_kj p_j ``(..., K)``."""
        return self.noise_w + times(self._cross, power)

    def rates(self, power_w: Array) -> Array:
        """Rate of each link ``(..., K)`` in bit/s/Hz."""
        return np.log1p(self._direct * power_w / self._interference(power_w)) / LN2

    def objective(self, x: Point) -> Array:
        """Weighted sum rate in bit/s/Hz."""
        return (self.weight * self.rates(x["power_w"])).sum(-1)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """Minimum rates."""
        promised = self.minimum_rate > 0
        if not np.any(promised):
            return ()
        slack = np.where(promised, self.rates(x["power_w"]) - self.minimum_rate, 1.0)
        scale = np.where(promised, self.minimum_rate, 1.0)
        return (Constraint("minimum rate", slack, "bit/s/Hz", scale),)

    def points(self) -> dict[str, Callable[[], Point]]:
        """``full-power``; ``strongest``: the link with the best interference-free rate alone."""
        shape = self.shape_of(type(self).power_w)

        def full() -> Point:
            return {"power_w": np.broadcast_to(self.power_max_w, shape)}

        def strongest() -> Point:
            alone = self.weight * np.log1p(self._direct * self.power_max_w / self.noise_w)
            first = np.broadcast_to(alone, shape).argmax(-1)[..., None]
            return {"power_w": np.where(np.arange(shape[-1]) == first, self.power_max_w, 0.0)}

        return {"full-power": full, "strongest": strongest}

    def infeasible(self) -> Array | bool:
        """Minimum rates as SINR targets 2^r - 1: whether any powers within the caps meet them."""
        return self._targets.infeasible() if np.any(self.minimum_rate > 0) else False

    def why_infeasible(self) -> str:
        """Who is to blame, in the words of the problem of least power."""
        return self._targets.why_infeasible()

    @cached_property
    def _targets(self) -> PowerForSINR:
        # A lower target proves less, never too much; 300 bit/s/Hz are out of reach anyway.
        target = np.expm1(LN2 * np.minimum(self.minimum_rate, 300.0))
        return PowerForSINR(
            gain=self.gain, noise_w=self.noise_w, power_max_w=self.power_max_w, sinr_target=target
        )

    # -- bounds -----------------------------------------------------------------------------

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """Interference-free rates, or the worst cell of each instance's tree."""
        free = (self.weight * np.log1p(self._direct * self.power_max_w / self.noise_w)).sum(-1)
        best = np.broadcast_to(free / LN2, self.batch_shape).copy()
        trees: Any = np.asarray((witness or {}).get("cells"), dtype=object)
        if trees.shape == self.batch_shape:
            for index in np.ndindex(self.batch_shape):
                tree = trees[index]
                if isinstance(tree, CellTree):
                    form = (self[index] if index else self).boxes()
                    low, high = tree.cells(form.lower, form.upper)
                    best[index] = min(best[index], form.bound(low, high).max())
        return best[()] if best.ndim == 0 else best

    @offers(Boxes)
    def boxes(self) -> Boxes:
        """One instance over y = p/P in [0, 1]^K."""
        one = self if self.batch_shape == () else self.flat()[0]
        size = one.sizes["K"]
        cell = _CellBound(one)
        cap = np.broadcast_to(one.power_max_w, size)
        return Boxes(
            np.zeros(size), np.ones(size), cell, lambda y: {"power_w": np.clip(y, 0, 1) * cap}
        )

    # -- forms ------------------------------------------------------------------------------

    @offers(Surrogate)
    def surrogate(self) -> Surrogate:
        """WMMSE: with receivers and weights fixed at x0, a concave problem with a closed form."""
        if np.any(self.minimum_rate > 0):
            raise NotOffered("minimum rates: the WMMSE surrogate has no place for them")
        return Surrogate(self._wmmse_at)

    def _wmmse_at(self, x: Point) -> Problem:
        """MSE receivers u and weights v at x0: R >= const + sum_k a_k sqrt(p_k) - c_k p_k.

        v_k = 1/e_k, e_k = 1 - G_kk p_k/total_k; tight at x0 because e_k is the least MSE there.
        """
        power = np.asarray(x["power_w"])
        heard = self._interference(power)
        total = heard + self._direct * power
        receiver = np.sqrt(self._direct * power) / total
        error = heard / total  # 1 - receiver^2 total, without the cancellation at high SNR
        value = self.weight / (error * LN2)
        leak = value * receiver**2
        reach = 2 * value * receiver * np.sqrt(self._direct)
        constant = self.weight / LN2 * (1 - np.log(error)) - value - leak * self.noise_w
        cost = (np.swapaxes(self._matrix, -1, -2) @ leak[..., None])[..., 0]
        return WMMSESurrogate(
            reach=reach, cost=cost, constant=constant.sum(-1), power_max_w=self.power_max_w
        )

    @offers(Model)
    def model(self) -> Model:
        """pyomo only, in y = p/P: the problem is not convex and cvxpy cannot take it."""
        size, promised = self.sizes["K"], bool(np.any(self.minimum_rate > 0))
        return Model(
            ("SumRate", size, promised), lambda _: _pyomo(size, promised), backends=("pyomo",)
        )


class WMMSESurrogate(Problem):
    """What WMMSE maximises in its power step: separable, concave, in closed form.

    Problem
        max constant + sum_k (reach_k sqrt(p_k) - cost_k p_k), 0 <= p <= P.
    Choose this when
        never by hand: ``SumRate`` makes it at each point for ``sca``.
    Source
        Derived; spec rrm.md §15 item 5.
    """

    sense = "max"
    unit = "bit/s/Hz"
    differentiable = False  # infinite slope at zero power

    reach: Field = data("K", unit="1", low=0, doc="slope of sqrt(p)")
    cost: Field = data("K", unit="1/W", low=0, doc="price of power")
    constant: Field = data(unit="bit/s/Hz", doc="value at zero power")
    power_max_w: Field = data("K", unit="W", low=0, doc="power cap")

    power_w = variable("K", unit="W", low=0, high="power_max_w", scale="power_max_w", doc="power")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Coefficients Exp(1), caps 1 W."""
        reach, cost = rng.exponential(size=(2, *shape))
        return {"reach": reach, "cost": cost, "constant": 0.0, "power_max_w": 1.0}

    def objective(self, x: Point) -> Array:
        """Lower bound of the sum rate, tight where it was made."""
        power = np.maximum(x["power_w"], 0.0)
        return self.constant + (self.reach * np.sqrt(power) - self.cost * power).sum(-1)

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """p = min(P, (reach/(2 cost))^2)."""

        def point() -> Point:
            with np.errstate(divide="ignore", invalid="ignore"):
                best = (self.reach / (2 * self.cost)) ** 2
            best = np.where(self.reach > 0, best, 0.0)
            return {"power_w": np.minimum(best, self.power_max_w)}

        return ClosedForm(point)


class _CellBound:
    """Upper bound of one SumRate instance on cells ``(M, K)`` of y = p/P."""

    def __init__(self, problem: SumRate) -> None:
        size = problem.sizes["K"]
        cap = np.broadcast_to(problem.power_max_w, size)
        self.cross = problem._cross * cap
        self.direct = problem._direct * cap
        self.noise = np.broadcast_to(problem.noise_w, size)
        self.weight = np.broadcast_to(problem.weight, size)
        self.target = np.expm1(np.broadcast_to(problem.minimum_rate, size) * LN2)

    def __call__(self, low: Array, high: Array) -> Array:
        least, most = self.noise + low @ self.cross.T, self.noise + high @ self.cross.T
        monotone = (self.weight * np.log1p(self.direct * high / least)).sum(-1)
        best = np.minimum(monotone, self._tangent_chord(low, high, least, most))
        barred = (self.direct * high < self.target * least * (1 - 1e-12)).any(-1)
        return np.where(barred, -np.inf, best / LN2)

    def _tangent_chord(self, low: Array, high: Array, least: Array, most: Array) -> Array:
        """log(total) is concave: its tangent at the middle; log(interference): its chord."""
        middle = (low + high) / 2
        total = self.noise + middle @ self.cross.T + self.direct * middle
        width = most - least
        wide = width > 1e-12 * least
        chord = np.where(wide, np.log(most / least) / np.where(wide, width, 1.0), 1 / least)
        lift = self.weight / total
        slope = lift @ self.cross + lift * self.direct - (self.weight * chord) @ self.cross
        mean = self.noise + middle @ self.cross.T
        level = np.log(total) - np.log(least) - chord * (mean - least)
        return (self.weight * level).sum(-1) + (np.abs(slope) * (high - low) / 2).sum(-1)


def _pyomo(size: int, promised: bool) -> Handle:
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.k = pyo.RangeSet(0, size - 1)
    model.gain = pyo.Param(model.k, model.k, mutable=True, initialize=1.0)
    for name in ("noise", "weight", "target", "cap_w"):
        setattr(model, name, pyo.Param(model.k, mutable=True, initialize=1.0))
    model.y = pyo.Var(model.k, bounds=(0, 1), initialize=0.5)
    model.power_w = pyo.Expression(model.k, rule=lambda m, k: m.cap_w[k] * m.y[k])

    def heard(k: int, others: bool) -> Any:
        signal = sum(model.gain[k, j] * model.y[j] for j in model.k if not others or j != k)
        return model.noise[k] + signal

    rates = (
        model.weight[k] / LN2 * (pyo.log(heard(k, False)) - pyo.log(heard(k, True)))
        for k in model.k
    )
    model.rate = pyo.Objective(expr=sum(rates), sense=pyo.maximize)
    if promised:
        model.promise = pyo.Constraint(
            model.k, rule=lambda m, k: m.gain[k, k] * m.y[k] >= m.target[k] * heard(k, True)
        )

    def assign(problem: SumRate) -> None:
        # Each receiver's row is divided by its noise: log-differences do not change.
        cap = np.broadcast_to(problem.power_max_w, size)
        noise = np.broadcast_to(problem.noise_w, size)
        target = np.expm1(np.broadcast_to(problem.minimum_rate, size) * LN2)
        for k in range(size):
            model.noise[k], model.cap_w[k] = 1.0, float(cap[k])
            model.weight[k] = float(np.broadcast_to(problem.weight, size)[k])
            model.target[k] = float(target[k])
            for j in range(size):
                model.gain[k, j] = float(problem._matrix[k, j] * cap[j] / noise[k])

    def start(problem: SumRate, x: Point) -> None:
        share = np.asarray(x["power_w"]) / problem.power_max_w
        for k in range(size):
            model.y[k] = float(share[k])

    def point(_: SumRate) -> Point:
        return {"power_w": np.array([pyo.value(model.power_w[k]) for k in model.k])}

    return Handle(model, assign, point, start)
