"""How many local steps between two aggregations? Steps are cheap, but local models drift apart.

    min over tau in 1..limit of  G(tau) = a + sqrt(a^2 + rho h/(eta phi tau)) + rho h,
                                 a      = 1/(2 eta phi T(tau))

h(tau) bounds how far the local models drift from centralised descent in tau steps, T(tau) is the
number of local steps that the budgets allow. Source: arXiv 1804.05271 (abstract) with its public
code; spec rrm.md §8 with correction 5: h as a sum without cancellation, derived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from rralloc.fields import Constraint, data, option, variable
from rralloc.forms import ClosedForm, offers
from rralloc.problem import Problem
from rralloc.typing import Array, Field, Point, Witness

FIXED = (2, 3, 5, 10, 20, 50)
"""The constant numbers of local steps that the source compares with, besides 1 and the limit."""
ROUNDING = 1e-12
"""Budgets that differ by less, relatively, are the same budget."""


class TauControl(Problem):
    """How many local steps to take between two aggregations, under budgets of time or energy.

    Problem
        min over integers 1 <= tau <= limit of
        G(tau) = a + sqrt(a^2 + rho h(tau)/(eta phi tau)) + rho h(tau), with
        a = 1/(2 eta phi T(tau)),
        h(tau) = eta delta sum_{j < tau} ((1 + eta beta)^j - 1), the drift,
        T(tau) = min_m R'_m tau/(c_m tau + b_m), the local steps that the budgets allow, and
        R' = R - c - b with ``reserve``, else R. A budget must hold one step and one aggregation;
        T does not count whole rounds, so with little more than that a round of tau* may not fit.

    Parameters
        cost_per_step: c ``(..., M)``, cost_per_aggregation: b ``(..., M)``, budget: R ``(..., M)``,
        each resource in its own unit (s, J); c = b = 0 is a resource that limits nothing.
        loss_lipschitz: rho ``(...)``; gradient_lipschitz: beta ``(...)``; divergence: delta
        ``(...)``, of the local gradients from the global one; learning_rate: eta ``(...)``.
        control_parameter: phi ``(...)``, must be tuned for each model, so it has no default.
        search_limit: the largest tau ``(...)``, 100 unless given.
        reserve: keep one step and one aggregation for the last check of the model, as the source
        does when it returns the model of least loss.
    Variables
        local_steps: tau ``(...)``, an integer.
    Bound
        Enumeration: G of every allowed tau is computed, and none is below the least.
    Errors
        InvalidProblem for values outside their range.
    Choose this when
        devices may take several local steps a round, and you know what a step and an aggregation
        cost and how different the devices' data are. In training: ``AdaptiveAggregation``.
    Source
        arXiv 1804.05271 (abstract), details from its public code; rrm.md §8 with correction 5.
    """

    sense = "min"
    source = "arXiv 1804.05271 (abstract, public code); rrm.md §8"
    bound_method = "enumeration of every number of local steps"
    differentiable = False

    cost_per_step: Field = data("M", unit="1", low=0, doc="cost of a local step, c")
    cost_per_aggregation: Field = data("M", unit="1", low=0, doc="cost of an aggregation, b")
    budget: Field = data("M", unit="1", low=0, open_low=True, doc="budget of the resource, R")
    loss_lipschitz: Field = data(unit="1", low=0, doc="Lipschitz constant of the loss, rho")
    gradient_lipschitz: Field = data(unit="1", low=0, doc="that of the gradient, beta")
    divergence: Field = data(unit="1", low=0, doc="distance of local gradients to theirs, delta")
    learning_rate: Field = data(unit="1", low=0, open_low=True, doc="step size, eta")
    control_parameter: Field = data(unit="1", low=0, open_low=True, doc="tuned constant, phi")
    search_limit: Field = data(unit="1", low=1, dtype=int, default=100, doc="largest tau")
    reserve: bool = option(
        default=True, choices=(True, False), doc="keep a step and an aggregation for the last check"
    )

    local_steps = variable(
        unit="1", low=1, high="search_limit", dtype=int, doc="local steps per aggregation"
    )

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """K resources near the source's (c = .013, b = .13, R = 15), drift over two decades."""
        return {
            "cost_per_step": 0.013 * rng.uniform(0.5, 2.0, size=shape),
            "cost_per_aggregation": 0.13 * rng.uniform(0.5, 2.0, size=shape),
            "budget": 15.0 * rng.uniform(0.5, 2.0, size=shape),
            "loss_lipschitz": rng.uniform(0.5, 2.0, size=shape[:-1]),
            "gradient_lipschitz": rng.uniform(1.0, 4.0, size=shape[:-1]),
            "divergence": 10 ** rng.uniform(-1.0, 1.0, size=shape[:-1]),
            "learning_rate": 0.01,
            "control_parameter": 0.025,
        }

    # -- h, T, G for tau = 1, 2, ..., the largest limit of the batch -------------------------

    @property
    def steps(self) -> Array:
        """The candidates tau = 1, 2, ... ``(L,)``, L the largest limit of the batch."""
        return np.arange(1, int(self.search_limit.max()) + 1)

    @property
    def left(self) -> Array:
        """R - c - b ``(..., M)``: what one step and one aggregation leave of the budgets."""
        left = self.budget - (self.cost_per_step + self.cost_per_aggregation)
        return np.broadcast_to(left, (*self.batch_shape, self.sizes["M"]))

    def drifts(self) -> Array:
        """h(tau) ``(..., L)``; h(1) = 0, h(2) = eta^2 beta delta; inf where it overflows."""
        eta, beta, delta = (
            v[..., None] for v in (self.learning_rate, self.gradient_lipschitz, self.divergence)
        )
        with np.errstate(over="ignore", invalid="ignore"):
            growth = np.expm1((self.steps - 1) * np.log1p(eta * beta))  # (1 + eta beta)^j - 1
            return np.where(delta > 0, eta * delta * growth.cumsum(-1), 0.0)

    def allowed_steps(self) -> Array:
        """T(tau) ``(..., L)``; 0 without budget, inf where nothing costs anything."""
        with np.errstate(divide="ignore"):
            return 1 / self._use()

    def _use(self) -> Array:
        """1/T(tau) = max_m (c_m + b_m/tau)/R'_m ``(..., L)``: the share that one step uses."""
        net = self.left if self.reserve else self.budget
        price = self.cost_per_step[..., None] + self.cost_per_aggregation[..., None] / self.steps
        some = np.where(net > 0, net, 1.0)[..., None]
        share: Array = np.where(net[..., None] > 0, price / some, np.inf).max(-2)
        return share

    def gaps(self) -> Array:
        """G(tau) ``(..., L)``; inf beyond the limit, and where it overflows."""
        rho = self.loss_lipschitz[..., None]
        gain = (self.learning_rate * self.control_parameter)[..., None]  # eta phi
        with np.errstate(over="ignore", invalid="ignore"):
            drift = np.where(rho > 0, rho * self.drifts(), 0.0)  # rho h
            pace = self._use() / (2 * gain)  # 1/(2 eta phi T)
            gap = pace + np.hypot(pace, np.sqrt(drift) / np.sqrt(gain * self.steps)) + drift
        allowed = np.isfinite(gap) & (self.steps <= self.search_limit[..., None])
        return np.where(allowed, gap, np.inf)

    # -- the problem ------------------------------------------------------------------------

    def objective(self, x: Point) -> Array:
        """G at the nearest whole number of steps; inf outside 1..limit."""
        steps = np.asarray(x["local_steps"])
        inside = (steps >= 1) & (steps <= self.search_limit)
        index = np.where(inside, np.rint(steps), 1).astype(int) - 1
        gaps = np.broadcast_to(self.gaps(), (*index.shape, self.steps.size))
        return np.where(inside, np.take_along_axis(gaps, index[..., None], -1)[..., 0], np.inf)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """Every budget holds one step and one aggregation, whatever tau is."""
        return (Constraint("one step and one aggregation", self.left, "1", self.budget),)

    def project(self, x: Point) -> dict[str, Array]:
        """The nearest allowed whole number."""
        return {"local_steps": self._whole(x["local_steps"])}

    def _whole(self, steps: Array | int) -> Array:
        """Clipped to 1..limit and rounded ``(...)``."""
        near = np.rint(np.clip(steps, 1, self.search_limit)).astype(int)
        return np.broadcast_to(near, self.batch_shape)

    def points(self) -> dict[str, Callable[[], Point]]:
        """A constant tau: ``one-step``, ``2-steps``, ... ``50-steps``, ``most-steps`` (limit)."""
        most = int(self.search_limit.max())
        rules = {"one-step": 1} | {f"{n}-steps": n for n in FIXED if n < most}
        return {
            name: partial(self.project, {"local_steps": np.array(n)})
            for name, n in (rules | {"most-steps": most}).items()
        }

    def infeasible(self) -> Array:
        """Some budget is below c + b; with ``reserve`` also where nothing is left above it."""
        least = ROUNDING if self.reserve else -ROUNDING
        short: Array = self.left < least * self.budget
        return np.asarray(short.any(-1))

    def why_infeasible(self) -> str:
        """Which resource is short, and of what."""
        step, aggregation, budget = np.broadcast_arrays(
            self.cost_per_step, self.cost_per_aggregation, self.budget
        )
        m = int((self.left / self.budget).argmin(-1))
        more = ", which the reserve keeps for the last check" if self.reserve else ""
        return (
            f"budget too small for one step and one aggregation: resource {m} has {budget[m]:g}, a "
            f"local step costs {step[m]:g} and an aggregation {aggregation[m]:g}{more}; zero rounds"
        )

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The least G of all allowed tau: every one is tried."""
        return np.asarray(np.broadcast_to(self.gaps().min(-1), self.batch_shape))

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """argmin over the whole table, the fewest steps among equals."""
        return ClosedForm(lambda: {"local_steps": self._whole(self.gaps().argmin(-1) + 1)})
