"""FEEL scheduling: one device a round, drawn by importance and channel, aggregate kept unbiased.

    min  rho sum_k a_k^2/p_k + (1 - rho) sum_k p_k T_k     s.t.  sum_k p_k = 1,  p >= 0

a_k = (n_k/n) ||g_k|| is the importance, T_k the upload latency; the server weighs device k's
gradient by n_k/(n p_k), so the first term is the estimator's second moment. The solution is a
*law*, the action a draw. Source: abstract of arXiv 2004.00490 (one device a round, unbiased,
closed form, extension to several devices); problem and formula derived in spec rrm.md §4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.fields import Constraint, data, option, variable
from rralloc.forms import Handle, Level, Model, offers
from rralloc.numerics.rates import rate
from rralloc.policy import Decision, Round
from rralloc.problem import Problem
from rralloc.typing import Array, Field, Point, Witness


class FEELScheduling(Problem):
    """The law by which a device is drawn: importance against upload latency.

    Problem
        min rho sum_k a_k^2/p_k + (1-rho) sum_k p_k T_k  s.t.  sum_k p_k = 1, p_k >= 0.

    Parameters
        importance: a ``(..., K)``, >= 0, data share times gradient norm. A device with a_k = 0
            is never drawn (a constraint, after the spec); all zero gives the uniform law.
        latency_s: T ``(..., K)``, s, > 0; inf excludes the device (then the aggregate is unbiased
            for the sum over the remaining ones only, and ``Solution.message`` says so).
        tradeoff: rho ``(...)``, in (0, 1]; 1 is importance alone. At 0 the infimum is not attained.
        draws: devices drawn each round, without replacement (used by ``to_decision`` only).
    Variables
        probability: p ``(..., K)``.
    Bound
        Dual at lam: 2 sum_k sqrt(rho) a_k sqrt((1-rho) T_k + lam) - lam.
    Choose this when
        devices take turns and the server must stay unbiased.
    Source
        Abstract of arXiv 2004.00490; problem, law and several-device estimator: rrm.md §4, derived.
    """

    sense = "min"
    source = "arXiv 2004.00490 (abstract); rrm.md §4, derived"
    bound_method = "Lagrangian dual at the multiplier of sum p = 1"
    reports = ("gradient_norm",)

    importance: Field = data("K", unit="1", low=0, doc="data share times gradient norm")
    latency_s: Field = data("K", unit="s", low=0, open_low=True, inf=True, doc="upload latency")
    tradeoff: Field = data(unit="1", low=0, high=1, open_low=True, doc="weight of importance rho")
    draws: int = option(default=1, doc="devices drawn each round, without replacement")

    probability = variable("K", unit="1", low=0, high=1, doc="probability of being drawn")

    def check(self) -> None:
        """At least one device must be reachable; draws must be a count."""
        if np.isinf(self.latency_s).all(-1).any():
            raise InvalidProblem(
                "FEELScheduling.latency_s: every device of some instance has latency inf; "
                "nothing can be scheduled, so leave the round out"
            )
        if not 1 <= self.draws <= self.sizes["K"]:
            raise InvalidProblem(
                f"FEELScheduling.draws = {self.draws} is not in [1, {self.sizes['K']}]; "
                "draw at least one and at most all devices"
            )

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Importance Exp(1)/K, latency 0.1 s + Exp(0.5 s), rho = 0.5."""
        return {
            "importance": rng.exponential(size=shape) / shape[-1],
            "latency_s": 0.1 + rng.exponential(0.5, size=shape),
            "tradeoff": 0.5,
        }

    # -- evaluation -------------------------------------------------------------------------

    @property
    def _live(self) -> Array:
        """Devices that may get probability: reachable, and important unless none is."""
        reachable = np.isfinite(self.latency_s)
        wanted = reachable & (self.importance > 0)
        return np.where(wanted.any(-1, keepdims=True), wanted, reachable)

    def _terms(self) -> tuple[Array, Array, Array, Array]:
        """a and T with excluded devices neutral, rho and 1-rho with a device axis."""
        live, rho = self._live, self.tradeoff[..., None]
        a, T = np.where(live, self.importance, 0.0), np.where(live, self.latency_s, np.inf)
        return a, T, rho, 1 - rho

    def objective(self, x: Point) -> Array:
        """rho sum a^2/p + (1-rho) sum p T over reachable devices; inf where p = 0 < a."""
        a, T, rho, rest = self._terms()
        p = x["probability"]
        T = np.where(np.isfinite(T), T, 0.0)
        zero = np.real(p) <= 0
        moment = np.where(a > 0, a**2 / np.where(zero, 1.0, p), 0.0)
        moment = np.where(zero & (a > 0), np.inf, moment)
        return (rho * moment + rest * p * T).sum(-1)

    def gradient(self, x: Point) -> dict[str, Array]:
        """-rho a^2/p^2 + (1-rho) T; -inf where p = 0 < a."""
        a, T, rho, rest = self._terms()
        with np.errstate(divide="ignore", invalid="ignore"):
            steep = np.where(a > 0, (a / x["probability"]) ** 2, 0.0)
        return {"probability": -rho * steep + rest * np.where(np.isfinite(T), T, 0.0)}

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """A law sums to one and never draws a device without channel or importance."""
        p = x["probability"]
        idle = np.where(self._live, 1.0, -p)
        return (
            Constraint("sum of probabilities = 1", p.sum(-1) - 1, "1", 1.0, equality=True),
            Constraint("idle or unreachable devices are not drawn", idle, "1", 1.0),
        )

    def project(self, x: Point) -> dict[str, Array]:
        """Non-negative, zero on unreachable devices, rescaled to sum 1."""
        p = np.where(self._live, np.maximum(x["probability"], 0.0), 0.0)
        total = p.sum(-1, keepdims=True)
        uniform = self._live / self._live.sum(-1, keepdims=True)
        return {"probability": np.where(total > 0, p / np.where(total > 0, total, 1.0), uniform)}

    def points(self) -> dict[str, Callable[[], Point]]:
        """``uniform``; ``importance``: p ~ a; ``channel``: the fastest device alone."""
        shape = self.shape_of(type(self).probability)

        def law(score: Array) -> Point:
            p = np.broadcast_to(score / score.sum(-1, keepdims=True), shape)
            return {"probability": p}

        def uniform() -> Point:
            return law(np.broadcast_to(self._live, shape).astype(float))

        def importance() -> Point:
            a = np.where(self._live, self.importance, 0.0)
            return law(np.where(a.any(-1, keepdims=True), a, self._live))

        def channel() -> Point:
            fastest = np.where(self._live, self.latency_s, np.inf).argmin(-1)[..., None]
            return law(np.broadcast_to(np.arange(shape[-1]) == fastest, shape).astype(float))

        return {"uniform": uniform, "importance": importance, "channel": channel}

    def note(self) -> str:
        """Which devices are excluded by latency inf."""
        lost = int(np.isinf(self.latency_s).sum())
        return (
            f"{lost} unreachable device(s) excluded: unbiased for the others only" if lost else ""
        )

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The dual at the witness's ``multiplier``, else at the mean of rho a^2/p^2 - (1-rho) T."""
        a, T, rho, rest = self._terms()
        fastest = T.min(-1)
        if witness is not None and "multiplier" in witness:
            lam = np.asarray(witness["multiplier"])
        else:
            p = (x if x is not None else self.initial())["probability"]
            live = (p > 0) & (a > 0)
            with np.errstate(divide="ignore", invalid="ignore"):
                each = rho * a**2 / np.where(live, p, 1.0) - rest * p * np.where(live, T, 0.0)
            lam = np.where(live, each, 0.0).sum(-1)
        # Any lam >= -(1-rho) min T is valid; excluded devices have a = 0 and drop out.
        lam = np.maximum(lam, -rest[..., 0] * fastest)
        speed = rest * np.where(np.isfinite(T), T, fastest[..., None]) + lam[..., None]
        dual = 2 * (np.sqrt(rho) * a * np.sqrt(np.maximum(speed, 0.0))).sum(-1) - lam
        # All importance zero: the fastest device alone costs (1-rho) min T.
        return np.where((a > 0).any(-1), dual, rest[..., 0] * fastest)

    # -- forms ------------------------------------------------------------------------------

    @offers(Level)
    def level(self) -> Level:
        """level y = (lam + (1-rho) Tmin)/rho; p_k = a_k/sqrt(y + (1-rho)/rho (T_k - Tmin))."""
        a, T, rho, rest = self._terms()
        idle = ~(a > 0).any(-1, keepdims=True)
        a = np.where(idle, self._live.astype(float), a)  # nothing matters: the uniform law
        fastest = np.where(a > 0, T, np.inf).min(-1, keepdims=True)
        with np.errstate(invalid="ignore"):
            delay = np.where((a > 0) & ~idle, rest / rho * (T - fastest), 0.0)
        first = np.where((a > 0) & (fastest == T), a, 0.0).max(-1)
        bracket = first**2, a.sum(-1) ** 2

        def law(y: Array) -> Array:
            return a / np.sqrt(y[..., None] + delay)

        def point(y: Array) -> Point:
            p = law(y)
            return {"probability": p / p.sum(-1, keepdims=True)}

        def slope(y: Array) -> Array:
            return -0.5 * (law(y) / (y[..., None] + delay)).sum(-1)

        def witness(y: Array) -> Witness:
            return {"multiplier": rho[..., 0] * y - rest[..., 0] * fastest[..., 0]}

        ones = np.ones(first.shape)
        return Level(point, lambda y: law(y).sum(-1), ones, bracket, "log", slope, witness)

    @offers(Model)
    def model(self) -> Model:
        """A second moment of inverses; excluded devices have a = 0, T = 0 and p fixed to 0."""
        size = self.sizes["K"]
        return Model(("FEELScheduling", size), lambda backend: _MODELS[backend](size))

    # -- training ---------------------------------------------------------------------------

    @classmethod
    def from_round(cls, round: Round) -> Self:
        """a = share * reported norm, T = compute + payload/rate on the whole band; rho = 0.5.

        Both terms are divided by their value at the uniform law, which makes rho portable
        between tasks (rrm.md §4). Devices that report have computed, so the round waits for the
        slowest of them whoever is drawn. Without reports (rules that need none) a = share.
        """
        a = round.share * round.statistics.get("gradient_norm", np.ones(round.devices))
        speed = rate(np.full(round.devices, round.bandwidth_hz), round.snr_bandwidth_hz)
        with np.errstate(divide="ignore"):
            T = round.waiting_s + round.payload_bit / speed
        moment = round.devices * float((a**2).sum())
        a = a / np.sqrt(moment) if moment > 0 else a
        unit_s = T[np.isfinite(T)].mean() if np.isfinite(T).any() else 1.0
        return cls(importance=a, latency_s=T / unit_s, tradeoff=0.5)

    def draw(self, p: Array, rng: np.random.Generator) -> Array:
        """``draws`` devices in order, without replacement, renormalised after each."""
        left, order = np.array(p, dtype=float), []
        for _ in range(min(self.draws, int((left > 0).sum()))):
            device = int(rng.choice(left.size, p=left / left.sum()))
            order.append(device)
            left[device] = 0.0
        return np.array(order, dtype=int)

    def to_decision(self, x: Point, round: Round, rng: np.random.Generator) -> Decision:
        """Draw, and weigh so that the mean over draws is the full aggregate.

        Device drawn at step j of m, with renormalised probability q_j, gets
        (n_k/n) [1/q_j + (m - j)]/m: the average over steps of "those before, plus this one / q".
        """
        p = np.asarray(x["probability"], dtype=float)
        order = self.draw(p, rng)
        weight, left = np.zeros(p.size), p.copy()
        for j, device in enumerate(order, 1):
            q = p[device] / left.sum()
            weight[device] = round.share[device] * (1 / q + order.size - j) / order.size
            left[device] = 0.0
        return Decision(
            scheduled=weight > 0,
            weight=weight,
            bandwidth_hz=np.where(weight > 0, round.bandwidth_hz, 0.0),
            power_w=np.broadcast_to(round.power_w, p.shape),
            in_turn=True,
            x={"probability": p},
        )


def _clean(problem: FEELScheduling, size: int) -> tuple[Array, Array, Array]:
    a, T, rho, rest = problem._terms()
    live = np.broadcast_to(np.isfinite(T), size)
    moment = np.broadcast_to(rho * a**2, size)
    return moment, np.broadcast_to(rest * np.where(live, T, 0.0), size), live.astype(float)


def _cvxpy(size: int) -> Handle:
    import cvxpy as cp

    moment, delay = cp.Parameter(size, nonneg=True), cp.Parameter(size, nonneg=True)
    live = cp.Parameter(size, nonneg=True)
    p = cp.Variable(size, nonneg=True)
    # inv_pos of a device that may not be drawn is taken at 1, where its moment is zero anyway; a
    # variable of its own keeps two parameters from meeting in one product (DPP).
    drawn = cp.Variable(size, nonneg=True)
    cost = cp.sum(cp.multiply(moment, cp.inv_pos(drawn))) + cp.sum(cp.multiply(delay, p))
    model = cp.Problem(cp.Minimize(cost), [cp.sum(p) == 1, p <= live, drawn == p + 1 - live])

    def assign(problem: FEELScheduling) -> None:
        moment.value, delay.value, live.value = _clean(problem, size)

    return Handle(model, assign, lambda _: {"probability": p.value})


def _pyomo(size: int) -> Handle:
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.k = pyo.RangeSet(0, size - 1)
    for name in ("moment", "delay", "live"):
        setattr(model, name, pyo.Param(model.k, mutable=True, initialize=1.0))
    model.probability = pyo.Var(model.k, bounds=(0, 1), initialize=1 / size)
    model.law = pyo.Constraint(expr=sum(model.probability[k] for k in model.k) == 1)
    model.reach = pyo.Constraint(model.k, rule=lambda m, k: m.probability[k] <= m.live[k])
    terms = (
        model.moment[k] / (model.probability[k] + 1 - model.live[k] + 1e-12)
        + model.delay[k] * model.probability[k]
        for k in model.k
    )
    model.cost = pyo.Objective(expr=sum(terms))

    def assign(problem: FEELScheduling) -> None:
        columns = _clean(problem, size)
        for k in range(size):
            model.moment[k], model.delay[k], model.live[k] = (float(c[k]) for c in columns)

    def start(problem: FEELScheduling, x: Point) -> None:
        for k, value in enumerate(x["probability"]):
            model.probability[k] = float(value)

    def point(_: FEELScheduling) -> Point:
        return {"probability": np.array([pyo.value(model.probability[k]) for k in model.k])}

    return Handle(model, assign, point, start)


_MODELS: dict[str, Callable[[int], Handle]] = {"cvxpy": _cvxpy, "pyomo": _pyomo}
