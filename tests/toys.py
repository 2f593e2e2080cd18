"""Small problems, solvers and policies with known answers, shared by the tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rralloc.fields import Constraint, data, option, variable
from rralloc.fl.data import Dataset
from rralloc.fl.learners import SoftmaxRegression
from rralloc.fl.link import Link
from rralloc.fl.task import Task
from rralloc.forms import Blocks, Boxes, Level, Stages, offers
from rralloc.numerics.logexp import LN2
from rralloc.policy import Decision, Round
from rralloc.problem import Problem
from rralloc.problems import FDMARate, SumRate
from rralloc.solver import Solver
from rralloc.typing import Field

# -- problems -------------------------------------------------------------------------------------


class Unaware(SumRate):
    """Does not know beforehand that its promises cannot be kept."""

    def infeasible(self):
        return False


class Bowl(Problem):
    """min sum (x - c)^2 + offset, sum x <= budget (or = budget), 0 <= x <= 1."""

    sense = "min"
    centre: Field = data("K", unit="1")
    budget: Field = data(unit="1", inf=True, default=np.inf)
    offset: Field = data(unit="1", default=0.0)
    exact: bool = option(default=False, choices=(False, True))

    x = variable("K", unit="1", low=0, high=1)

    def objective(self, x):
        return ((x["x"] - self.centre) ** 2).sum(-1) + self.offset

    def constraints(self, x):
        if np.isinf(self.budget).all():
            return ()
        slack = self.budget - x["x"].sum(-1)
        return (Constraint("sum", slack, "1", 1.0, equality=self.exact),)


class PowerBlock(Problem):
    """max sum_k w_k b_k log2(1 + (g_k/b_k) p_k), sum p <= P: what is left with bandwidth held."""

    sense = "max"
    gain: Field = data("K", unit="Hz/W", low=0)
    bandwidth_hz: Field = data("K", unit="Hz", low=0)
    weight: Field = data("K", unit="1", low=0)
    power_budget_w: Field = data(unit="W", low=0)

    power_w = variable("K", unit="W", low=0, scale="power_budget_w")

    def objective(self, x):
        return joint_rate(self.weight, self.gain, self.bandwidth_hz, x["power_w"])

    def constraints(self, x):
        slack = self.power_budget_w - x["power_w"].sum(-1)
        return (Constraint("power", slack, "W", self.power_budget_w),)

    @offers(Level)
    def level(self):
        """p_k = b_k [w_k/(price ln2) - 1/g_k]^+."""

        def demand(price):
            lift = self.weight / (price[..., None] * LN2) - 1 / self.gain
            return self.bandwidth_hz * np.maximum(lift, 0.0)

        dearest = (self.weight * self.gain).max(-1) / LN2
        cheapest = dearest * 1e-12
        return Level(
            lambda price: {"power_w": demand(price)},
            lambda price: demand(price).sum(-1),
            self.power_budget_w,
            (cheapest, dearest),
            "log",
        )


def joint_rate(weight, gain, band, power):
    """sum_k w_k b_k log2(1 + g_k p_k/b_k), 0 where b = 0."""
    safe = np.where(band > 0, band, 1.0)
    return (weight * np.where(band > 0, band * np.log1p(gain * power / safe), 0.0)).sum(-1) / LN2


class JointRate(Problem):
    """max sum_k w_k b_k log2(1 + g_k p_k/b_k), sum b <= B, sum p <= P: jointly concave."""

    sense = "max"
    unit = "bit/s"
    differentiable = False
    gain: Field = data("K", unit="Hz/W", low=0)
    weight: Field = data("K", unit="1", low=0, default=1.0)
    bandwidth_budget_hz: Field = data(unit="Hz", low=0)
    power_budget_w: Field = data(unit="W", low=0)

    bandwidth_hz = variable("K", unit="Hz", low=0, scale="bandwidth_budget_hz")
    power_w = variable("K", unit="W", low=0, scale="power_budget_w")

    @classmethod
    def random(cls, *, K, batch=None, rng=None, **settings):
        """Gains over one decade, weights that favour the weak."""
        rng = np.random.default_rng(rng)
        gain = 10 ** rng.uniform(0, 1, size=(K,) if batch is None else (batch, K))
        fields = {"gain": gain, "weight": gain**-0.4}
        return cls(**fields | {"bandwidth_budget_hz": 1.0, "power_budget_w": 1.0} | settings)

    def objective(self, x):
        return joint_rate(self.weight, self.gain, x["bandwidth_hz"], x["power_w"])

    def constraints(self, x):
        rows = (("bandwidth_hz", "Hz"), ("power_w", "W"))
        budgets = (self.bandwidth_budget_hz, self.power_budget_w)
        return tuple(
            Constraint(name, budget - x[name].sum(-1), unit, budget)
            for (name, unit), budget in zip(rows, budgets)
        )

    def project(self, x):
        out = {}
        for name, budget in (
            ("bandwidth_hz", self.bandwidth_budget_hz),
            ("power_w", self.power_budget_w),
        ):
            value = np.maximum(x[name], 0.0)
            total = value.sum(-1)
            fit = np.where(total > budget, budget / np.where(total > 0, total, 1.0), 1.0)
            out[name] = value * fit[..., None]
        return out

    def points(self):
        shape = self.shape_of(type(self).power_w)
        ramp = np.arange(1, shape[-1] + 1)

        def split(score):
            share = np.broadcast_to(score / score.sum(), shape)
            return {
                "bandwidth_hz": share * self.bandwidth_budget_hz[..., None],
                "power_w": share * self.power_budget_w[..., None],
            }

        return {"equal": lambda: split(np.ones(shape[-1])), "ramp": lambda: split(ramp)}

    @offers(Blocks)
    def blocks(self):
        """Bandwidth is FDMARate at q = g p, power is PowerBlock."""

        def fix(name, x):
            if name == "bandwidth":
                return FDMARate(
                    snr_bandwidth_hz=self.gain * x["power_w"],
                    bandwidth_budget_hz=self.bandwidth_budget_hz,
                    weight=self.weight,
                )
            return PowerBlock(
                gain=self.gain,
                bandwidth_hz=x["bandwidth_hz"],
                weight=self.weight,
                power_budget_w=self.power_budget_w,
            )

        return Blocks(("bandwidth", "power"), fix)

    def oracle(self):
        """The optimal value of one instance, by a conic solver."""
        import cvxpy as cp

        gain, weight = (np.broadcast_to(v, self.sizes["K"]) for v in (self.gain, self.weight))
        b, p = cp.Variable(gain.size, nonneg=True), cp.Variable(gain.size, nonneg=True)
        bits = -cp.rel_entr(b, b + cp.multiply(gain, p)) / LN2
        limits = [cp.sum(b) <= self.bandwidth_budget_hz, cp.sum(p) <= self.power_budget_w]
        model = cp.Problem(cp.Maximize(cp.sum(cp.multiply(weight, bits))), limits)
        return float(model.solve(solver=cp.CLARABEL))


class Waves(Problem):
    """min sum_k (x_k - c_k)^2 - cos(9 x_k)/9 on [-1, 1]^K: many basins, simple cell bounds."""

    sense = "min"
    bound_method = "cells by Taylor's theorem"
    centre: Field = data("K", unit="1")
    x = variable("K", unit="1", low=-1, high=1)

    def objective(self, x):
        return ((x["x"] - self.centre) ** 2 - np.cos(9 * x["x"]) / 9).sum(-1)

    def bound(self, x=None, witness=None):
        """The lowest cell of each instance's tree; NaN without one."""
        best = np.full(self.batch_shape, np.nan)
        for index in np.ndindex(self.batch_shape) if witness else ():
            one = self[index] if index else self
            form = one.boxes()
            cells = np.asarray(witness["cells"], dtype=object)[index].cells(form.lower, form.upper)
            best[index] = form.bound(*cells).min()
        return best[()]

    @offers(Boxes)
    def boxes(self):
        """f >= f(m) - |f'(m)| h - 3.5 h^2 within h of the middle m, as f'' >= 2 - 9."""
        one = self if self.batch_shape == () else self.flat()[0]
        size = one.sizes["K"]

        def bound(low, high):
            middle, half = (low + high) / 2, (high - low) / 2
            value = (middle - one.centre) ** 2 - np.cos(9 * middle) / 9
            slope = 2 * (middle - one.centre) + np.sin(9 * middle)
            return (value - np.abs(slope) * half - 3.5 * half**2).sum(-1)

        return Boxes(-np.ones(size), np.ones(size), bound, lambda y: {"x": y})

    def lowest(self):
        """The optimal value, by a fine grid in each coordinate."""
        grid = np.linspace(-1, 1, 400_001)
        each = [((grid - c) ** 2 - np.cos(9 * grid) / 9).min() for c in self.centre]
        return float(np.sum(each))


class Spend(Problem):
    """max sum_t v_t s_t over R rounds, sum s <= budget, 0 <= s <= 1: the largest values first."""

    sense = "max"
    value: Field = data("R", unit="1", low=0)
    budget: Field = data(unit="1", low=0)
    spend = variable("R", unit="1", low=0, high=1)

    def objective(self, x):
        return (self.value * x["spend"]).sum(-1)

    def constraints(self, x):
        return (Constraint("budget", self.budget - x["spend"].sum(-1), "1", 1.0),)

    @offers(Stages)
    def stages(self):
        """A causal server sees this round's value and, afterwards, what it spent."""
        one = np.ones(1)

        def seen(t):
            return Round(
                index=t,
                path_gain=self.value[..., t : t + 1],
                bandwidth_hz=1.0,
                power_w=one,
                noise_psd_w_hz=1.0,
                payload_bit=1.0,
                compute_s=one,
                share=one,
            )

        def assemble(decisions):
            return {"spend": np.array([float(d.x["spend"]) for d in decisions])}

        return Stages(
            self.value.shape[-1], seen, assemble, lambda t, d: {"spent": float(d.x["spend"])}
        )


# -- solvers --------------------------------------------------------------------------------------


class Says(Solver):
    """Does what it is told: ``act(problem, start, run)`` on the whole batch."""

    name = "says"
    act: Any


class SaysEach(Says):
    """The same one instance after another."""

    name = "says-each"
    batched = False


class Stranger(Says):
    """The same as somebody else's code."""

    name = "stranger"
    foreign = True


class StrangerEach(SaysEach):
    """The same as somebody else's code, one instance after another."""

    name = "stranger-each"
    foreign = True


for _cls in (Says, SaysEach, Stranger, StrangerEach):
    _cls.solve = lambda self, problem, start, run: self.act(problem, start, run)


def offering(**x) -> Callable[[Any, Any, Any], None]:
    """An ``act`` that offers fixed arrays."""
    return lambda problem, start, run: run.offer({n: np.asarray(v) for n, v in x.items()})


def sleeper(problem, start, run):
    """Offers the default start, then needs 20 ms for each of many steps."""
    run.offer(problem.initial())
    for _ in range(1000):
        time.sleep(0.02)
        run.check()


# -- policies -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Threshold:
    """Spend everything in rounds whose value reaches the threshold, while money is left."""

    budget: float
    threshold: float
    name: str = "threshold"

    def start(self, round, rng):
        return self.budget

    def decide(self, round, memory, rng):
        spend = min(1.0, memory) if round.path_gain[0] >= self.threshold else 0.0
        return decision(round, spend=np.array(spend)), memory

    def learn(self, feedback, memory):
        return memory - feedback["spent"]


@dataclass(frozen=True)
class Coin:
    """Spend a drawn share of what is left."""

    budget: float
    name: str = "coin"

    def start(self, round, rng):
        return self.budget

    def decide(self, round, memory, rng):
        return decision(round, spend=np.array(min(1.0, memory * rng.uniform()))), memory

    def learn(self, feedback, memory):
        return memory - feedback["spent"]


def decision(round, **x) -> Decision:
    """Everybody at an equal split, full aggregate."""
    share = np.asarray(round.share)
    return Decision(
        scheduled=np.ones(share.size, dtype=bool),
        weight=share.copy(),
        bandwidth_hz=np.full(share.size, round.bandwidth_hz / share.size),
        power_w=np.broadcast_to(round.power_w, share.shape),
        x=x,
    )


@dataclass(frozen=True)
class Everybody:
    """All devices side by side at an equal split."""

    name: str = "everybody"

    def start(self, round, rng):
        return None

    def decide(self, round, memory, rng):
        return decision(round), memory

    def learn(self, feedback, memory):
        return memory


@dataclass(frozen=True)
class OneByOne(Everybody):
    """Device t mod K on the whole band, weighed as if it stood for all; draws numbers it wastes."""

    name: str = "one by one"

    def decide(self, round, memory, rng):
        rng.normal(size=7 + round.index)
        chosen = np.arange(round.devices) == round.index % round.devices
        return Decision(
            scheduled=chosen,
            weight=np.where(chosen, 1.0, 0.0),
            bandwidth_hz=np.where(chosen, round.bandwidth_hz, 0.0),
            power_w=np.broadcast_to(round.power_w, chosen.shape),
            in_turn=True,
        ), memory


# -- training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tape:
    """A scheme that passes everything on and keeps what it saw."""

    inner: Any
    seen: list = field(default_factory=list)
    name: str = "tape"

    def transmit(self, updates, decision, round, gain, link, rng):
        received = self.inner.transmit(updates, decision, round, gain, link, rng)
        self.seen.append((updates.copy(), np.array(gain), decision, received, round))
        return received


def make_task(seed: int = 0, learning_rate: float = 0.5, **settings) -> Task:
    """Three Gaussian blobs in the unit square over four unequal clients."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 120)
    x = np.clip(np.eye(3)[y][:, :2] * 0.6 + 0.2 + 0.12 * rng.normal(size=(120, 2)), 0, 1)
    blobs = Dataset("blobs", x[:90], y[:90], x[90:], y[90:], 3)
    clients = tuple(np.split(np.arange(90), [10, 30, 60]))
    return Task(blobs, clients, SoftmaxRegression(2, 3), learning_rate, **settings)


def make_link(seed: int = 0, **settings) -> Link:
    """Four devices over two decades of path gain."""
    rng = np.random.default_rng(seed)
    given = {
        "mean_gain": 10 ** rng.uniform(-12, -10, size=4),
        "compute_s": rng.uniform(0.1, 0.5, size=4),
        "payload_bit": 1e5,
    }
    return Link(**given | settings)
