"""Proportional fairness: shares of time for static rates, and the scheduler that finds them.

    max  sum_k w_k log(s_k r_k)    s.t.  sum_k s_k <= 1, s >= 0             (ProportionalFairShare)
    each round serve  argmax_k w_k r_k/Rbar_k,  Rbar_k the mean rate so far     (ProportionalFair)

With static rates the shares are w_k/W, whatever the rates. With fading the scheduler serves
whoever is best *against its own mean*; with exponential fading everybody gets 1/K of the rounds
and, as the best of K fades is H_K = 1 + 1/2 + ... + 1/K on average, H_K/K of its mean rate.

Source: classic (Kelly 1997; the scheduler: Tse, see Viswanath, Tse, Laroia 2002); spec rrm.md §15
item 4; the bound derived.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.fields import Constraint, data, variable
from rralloc.forms import ClosedForm, Handle, Model, offers
from rralloc.numerics.counts import require_whole
from rralloc.numerics.rates import rate
from rralloc.numerics.shapes import within_budget
from rralloc.policy import Decision, Round
from rralloc.problem import Problem
from rralloc.typing import Array, Field, Point, Witness


class ProportionalFairShare(Problem):
    """Shares of time for devices with static rates.

    Problem
        max sum_k w_k ln(s_k r_k)  s.t.  sum_k s_k <= 1, s >= 0 (a device of weight 0 counts 0).

    Parameters
        rate: r ``(..., K)``, bit/s, >= 0: what a device sends when it has all the time.
        weight: w ``(..., K)``, >= 0, default 1.
    Variables
        time_share: s ``(..., K)``.
    Bound
        Lagrangian dual at a price nu > 0 of time (``sol.duals``: ``price``):
        sum_k w_k (ln(w_k r_k/nu) - 1) + nu.
    Errors
        InvalidProblem for negative values. Infeasible where a device with weight has rate zero:
        its logarithm is minus infinity.
    Choose this when
        devices take turns and nobody shall gain a percentage that costs others more per cent. For
        the largest sum of rates see ``FDMARate``, for everybody done at once ``MinMaxLatency``.
    Source
        Classic (Kelly 1997); rrm.md §15 item 4; bound derived.
    """

    sense = "max"
    source = "classic (Kelly 1997); rrm.md §15.4"
    bound_method = "Lagrangian dual at the price of time"

    rate: Field = data("K", unit="bit/s", low=0, doc="rate with all the time")
    weight: Field = data("K", unit="1", low=0, default=1.0, doc="weight of the device")

    time_share = variable("K", unit="1", low=0, doc="share of the time")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Rates of a 1 MHz channel at a mean SNR of 10 dB with Rayleigh fading."""
        return {"rate": 1e6 * np.log2(1 + 10 * rng.exponential(size=shape))}

    # -- evaluation -------------------------------------------------------------------------

    @property
    def _weights(self) -> Array:
        return np.broadcast_to(self.weight, (*self.batch_shape, self.sizes["K"]))

    def objective(self, x: Point) -> Array:
        """sum_k w_k ln(s_k r_k), rates in bit/s; -inf where a device with weight has none."""
        got = x["time_share"] * self.rate
        inside = np.real(got) > 0
        value = self.weight * np.log(np.where(inside, got, 1.0))
        return np.asarray(np.where(self.weight > 0, np.where(inside, value, -np.inf), 0.0).sum(-1))

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """All the time."""
        return (Constraint("total time", 1.0 - x["time_share"].sum(-1), "1", 1.0),)

    def project(self, x: Point) -> dict[str, Array]:
        """Clip to s >= 0 and scale down onto the whole time."""
        return {"time_share": within_budget(x["time_share"], np.ones(self.batch_shape))}

    def infeasible(self) -> Array:
        """A device that counts has no rate."""
        return np.asarray(((self.rate == 0) & (self._weights > 0)).any(-1))

    def why_infeasible(self) -> str:
        """A device that counts has no rate."""
        deaf = np.flatnonzero((self.rate == 0) & (self._weights > 0)).tolist()
        return (
            f"devices {deaf} have rate 0 bit/s, and no share of time changes that: the logarithm "
            "of what they get is minus infinity; give them weight 0 or leave them out"
        )

    def points(self) -> dict[str, Callable[[], Point]]:
        """``equal``: 1/K each; ``equal-rate``: shares of 1/r, so that everybody gets as much."""
        shape = self.shape_of(type(self).time_share)

        def equal() -> Point:
            return {"time_share": np.full(shape, 1 / shape[-1])}

        def equal_rate() -> Point:
            best = self.rate.max(-1, keepdims=True)
            heard = self.rate > 0
            # A device without rate has no weight either (else infeasible) and gets no time.
            each = np.where(heard, best / np.where(heard, self.rate, 1.0), best == 0)
            return {"time_share": np.broadcast_to(each / each.sum(-1, keepdims=True), shape)}

        return {"equal": equal, "equal-rate": equal_rate}

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The dual at the witness's ``price``, else at nu = W, which is the optimal one."""
        price = self._weights.sum(-1)
        if witness is not None and "price" in witness:
            price = np.asarray(witness["price"], dtype=float)
        active = (self._weights > 0) & (self.rate > 0)
        useless = ~((price > 0) & np.isfinite(price))
        nu = np.where(useless, 1.0, price)
        heard = np.log(np.where(active, self._weights * self.rate, 1.0)) - np.log(nu)[..., None]
        value = np.where(active, self._weights * (heard - 1), 0.0).sum(-1) + nu
        # At a price of nothing or infinity the dual is infinite, unless nobody counts.
        return np.asarray(np.where(useless, np.where(active.any(-1), np.inf, 0.0), value))

    # -- forms ------------------------------------------------------------------------------

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """s_k = w_k/W at the price W; 1/K where nobody counts."""
        total = self._weights.sum(-1, keepdims=True)

        def point() -> Point:
            share = self._weights / np.where(total > 0, total, 1.0)
            return {"time_share": np.where(total > 0, share, 1 / self.sizes["K"])}

        return ClosedForm(point, lambda: {"price": total[..., 0]})

    @offers(Model)
    def model(self) -> Model:
        """In the shares alone: rates add a constant."""
        size = self.sizes["K"]
        return Model(("ProportionalFairShare", size), lambda backend: _MODELS[backend](size))


# -- the scheduler --------------------------------------------------------------------------------


class MeanRate(NamedTuple):
    """Memory of the scheduler: Rbar, and what was offered in this round, ``(K,)``, bit/s."""

    mean: Array
    offered: Array


@dataclass(frozen=True, eq=False)
class ProportionalFair:
    """Each round serve the ``count`` devices of largest w_k r_k/Rbar_k on equal parts of the band.

    r_k: rate on the band's part in this round, from the gain that the server knows (or the
    statistic ``rate``, bit/s, where a round tells one). Rbar_k <- (1 - 1/T) Rbar_k + r_k/T if
    its packet arrived, else (1 - 1/T) Rbar_k, with T = ``window`` rounds; it starts at r_k/K.
    Ties go to the lower index. weight_k = n_k/n over the sum of that over the served.

    window: T >= 1, the rounds that are remembered: shorter forgets a starved device sooner, longer
    waits longer for a good fade. weight: w ``(K,)`` > 0, None for all 1. scheme: what is
    transmitted; None leaves it to the training run.

    Choose this when channels fade and every device shall get its turn: the classic scheduler
    between the largest rate (the same few devices) and taking turns (blind to fades).
    """

    window: float = 100.0
    count: int = 1
    weight: Any = None
    scheme: Any = None
    label: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.window < np.inf:
            raise InvalidProblem(f"ProportionalFair.window = {self.window!r} is not in [1, inf)")
        require_whole("ProportionalFair.count", self.count)
        if self.weight is not None:
            weight = np.array(self.weight, dtype=float)
            if not ((weight > 0) & np.isfinite(weight)).all():
                raise InvalidProblem(f"ProportionalFair.weight = {self.weight!r} must be > 0")
            object.__setattr__(self, "weight", weight)

    @property
    def name(self) -> str:
        """The label, else the rule."""
        return self.label or f"proportional fair, window {self.window:g}"

    def _rate(self, round: Round) -> Array:
        """r ``(K,)``, bit/s, on the part of the band that a served device gets."""
        told = round.statistics.get("rate")
        if told is not None:
            return np.asarray(told, dtype=float)
        part = round.bandwidth_hz / min(self.count, round.devices)
        return rate(np.full(round.devices, part), round.snr_bandwidth_hz)

    def start(self, round: Round, rng: np.random.Generator) -> MeanRate:
        """Rbar as if everybody had had 1/K of the rounds at its rate of now."""
        now = self._rate(round)
        return MeanRate(now / round.devices, np.zeros(now.shape))

    def decide(
        self, round: Round, memory: MeanRate, rng: np.random.Generator
    ) -> tuple[Decision, MeanRate]:
        """1. Rates now. 2. Rank against the means. 3. Equal parts of the band for the first."""
        # 1.
        now = self._rate(round)
        # 2. Who never had a rate and has one now comes first; who has none now comes last.
        heard, known = now > 0, memory.mean > 0
        worth = np.where(heard, np.inf, 0.0)
        worth[heard & known] = now[heard & known] / memory.mean[heard & known]
        if self.weight is not None:
            worth = worth * self.weight
        count = min(self.count, round.devices)
        chosen = np.zeros(round.devices, dtype=bool)
        chosen[np.argsort(-worth, kind="stable")[:count]] = True
        # 3.
        part = np.where(chosen, 1.0 / count, 0.0)
        weight = np.where(chosen, round.share, 0.0)
        total = weight.sum()
        decision = Decision(
            scheduled=chosen,
            weight=weight / total if total > 0 else weight,
            bandwidth_hz=part * round.bandwidth_hz,
            power_w=np.broadcast_to(round.power_w, chosen.shape),
            x={"bandwidth_share": part, "rate": now},
        )
        return decision, memory._replace(offered=np.where(chosen, now, 0.0))

    def learn(self, feedback: Mapping[str, Any], memory: MeanRate) -> MeanRate:
        """Rbar moves by 1/T towards what arrived (all that was offered, if nothing is said)."""
        got = np.where(feedback.get("arrived", True), memory.offered, 0.0)
        return memory._replace(mean=memory.mean + (got - memory.mean) / self.window)


# -- models ---------------------------------------------------------------------------------------


def _normalised(problem: ProportionalFairShare, size: int) -> Array:
    weight = np.broadcast_to(problem.weight, size)
    return np.asarray(weight / (float(weight.sum()) or 1.0))


def _cvxpy(size: int) -> Handle:
    import cvxpy as cp

    weight, share = cp.Parameter(size, nonneg=True), cp.Variable(size)
    worth = cp.sum(cp.multiply(weight, cp.log(share)))
    model = cp.Problem(cp.Maximize(worth), [cp.sum(share) <= 1])

    def assign(problem: ProportionalFairShare) -> None:
        weight.value = _normalised(problem, size)

    return Handle(model, assign, lambda _: {"time_share": share.value})


def _pyomo(size: int) -> Handle:
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.k = pyo.RangeSet(0, size - 1)
    model.weight = pyo.Param(model.k, mutable=True, initialize=1.0)
    model.share = pyo.Var(model.k, bounds=(1e-12, 1), initialize=1 / size)
    model.time = pyo.Constraint(expr=sum(model.share[k] for k in model.k) <= 1)
    worth = sum(model.weight[k] * pyo.log(model.share[k]) for k in model.k)
    model.worth = pyo.Objective(expr=worth, sense=pyo.maximize)

    def assign(problem: ProportionalFairShare) -> None:
        for k, value in enumerate(_normalised(problem, size)):
            model.weight[k] = float(value)

    def start(_: ProportionalFairShare, x: Point) -> None:
        for k, value in enumerate(x["time_share"]):
            model.share[k] = max(float(value), 1e-12)

    def point(_: ProportionalFairShare) -> Point:
        return {"time_share": np.array([pyo.value(model.share[k]) for k in model.k])}

    return Handle(model, assign, point, start)


_MODELS: dict[str, Callable[[int], Handle]] = {"cvxpy": _cvxpy, "pyomo": _pyomo}
