"""Slotted ALOHA: with what probability should each device send?

    max  sum_k w_k log(p_k prod_{j != k} (1 - p_j))    s.t.  0 <= p <= 1

A packet arrives when its device sends in the slot and nobody else does. The weighted sum of the
logarithms of the devices' success probabilities (proportional fairness) is, device by device,
w_k log p_k + (W - w_k) log(1 - p_k) with W = sum w: concave, and p_k = w_k/W.

Source: classic (Abramson 1970; proportional fairness Kar, Sarkar, Tassiulas 2004); spec rrm.md
§15 "Extras" for equal weights, p = 1/N; weights derived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rralloc.fields import data, variable
from rralloc.forms import ClosedForm, Handle, Model, Smooth, offers
from rralloc.problem import Problem
from rralloc.typing import Array, Field, Point, Witness

EDGE = 700.0
"""|logit| at which a probability is 0 or 1 in double precision (on its own side of 1/2)."""
BELOW_ONE = 1 - 2.0**-53


class SlottedALOHA(Problem):
    """Transmission probabilities of devices that share slots without a schedule.

    Problem
        max sum_k w_k log(p_k prod_{j != k} (1 - p_j))  s.t.  0 <= p <= 1 (0 log 0 = 0).

    Parameters
        weight: w ``(..., K)``, >= 0, default 1. With w = 0 a device never sends.
    Variables
        transmit_probability: p ``(..., K)``.
    Bound
        Gibbs' inequality, device by device: w_k log p + (W - w_k) log(1 - p) is largest at
        p = w_k/W, whatever the others do.
    Errors
        InvalidProblem for negative, missing or infinite weights.
    Choose this when
        devices send now and then and no schedule can be told to them; the server can tell them
        one number. With a schedule see ``ProportionalFairShare``: each device then gets w_k/W of
        the slots, here w_k/W prod_{j != k} (1 - w_j/W).
    Source
        Classic; rrm.md §15 "Extras"; weights derived.
    """

    sense = "max"
    source = "classic (Abramson 1970); rrm.md §15"
    bound_method = "Gibbs' inequality for each device"

    weight: Field = data("K", unit="1", low=0, doc="weight of the device")

    transmit_probability = variable("K", unit="1", low=0, high=1, doc="probability of sending")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Weights uniform in [1/2, 2]."""
        return {"weight": rng.uniform(0.5, 2.0, size=shape)}

    # -- evaluation -------------------------------------------------------------------------

    @property
    def others(self) -> Array:
        """W - w_k ``(..., K)``, the weight of everybody else, without cancellation."""
        size = self.weight.shape[-1]
        rest = np.where(np.eye(size, dtype=bool), 0.0, self.weight[..., None, :])
        return np.asarray(rest.sum(-1))

    def success(self, x: Point) -> Array:
        """Probability ``(..., K)`` that the packet of k arrives in a slot."""
        p = np.asarray(x["transmit_probability"])
        quiet = np.where(np.eye(p.shape[-1], dtype=bool), 1.0, 1 - p[..., None, :])
        return np.asarray(p * quiet.prod(-1))

    def throughput(self, x: Point) -> Array:
        """Expected packets that arrive in a slot, of all devices: K p (1-p)^(K-1) at one p."""
        return np.asarray(self.success(x).sum(-1))

    def objective(self, x: Point) -> Array:
        """sum_k w_k ln(success_k), nats; -inf where a device with weight never succeeds."""
        p = np.asarray(x["transmit_probability"])
        sends = _times_log(self.weight, p, np.log)
        waits = _times_log(self.others, -p, np.log1p)
        return np.asarray((sends + waits).sum(-1))

    def gradient(self, x: Point) -> dict[str, Array]:
        """w/p - (W - w)/(1 - p)."""
        p = np.asarray(x["transmit_probability"])
        with np.errstate(divide="ignore", invalid="ignore"):
            up = np.where(self.weight > 0, self.weight / p, 0.0)
            down = np.where(self.others > 0, self.others / (1 - p), 0.0)
        return {"transmit_probability": up - down}

    def points(self) -> dict[str, Callable[[], Point]]:
        """``equal``: p = 1/K for all; ``cautious``: half of that; ``half``: p = 1/2."""
        shape = self.shape_of(type(self).transmit_probability)

        def everybody(p: float) -> Callable[[], Point]:
            return lambda: {"transmit_probability": np.full(shape, p)}

        return {
            "equal": everybody(1 / shape[-1]),
            "cautious": everybody(1 / shape[-1] / 2),
            "half": everybody(0.5),
        }

    def _shares(self) -> tuple[Array, Array]:
        """w_k/W and (W - w_k)/W ``(..., K)``, the latter without cancellation."""
        total = self.weight + self.others
        total = np.where(total > 0, total, 1.0)
        return self.weight / total, self.others / total

    def _best(self) -> Point:
        """w_k/W, below 1 as long as anybody else has weight (they might be 1e16 times lighter)."""
        send, wait = self._shares()
        return {"transmit_probability": np.where(wait > 0, np.minimum(send, BELOW_ONE), send)}

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """sum_k w_k ln(w_k/W) + (W - w_k) ln((W - w_k)/W), the optimum itself."""
        send, wait = self._shares()
        mine, theirs = _share_log(self.weight, send, wait), _share_log(self.others, wait, send)
        return np.asarray((mine + theirs).sum(-1))

    # -- forms ------------------------------------------------------------------------------

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """p_k = w_k/W."""
        return ClosedForm(self._best)

    @offers(Smooth)
    def smooth(self) -> Smooth:
        """In z = ln(p/(1-p)): -w ln(1+e^-z) - (W-w) ln(1+e^z), smooth on the whole line."""
        one = self if self.batch_shape == () else self.flat()[0]
        total = float(one.weight.sum()) or 1.0
        send, wait = one.weight / total, one.others / total

        def flatten(x: Point) -> Array:
            p = np.asarray(x["transmit_probability"])
            with np.errstate(divide="ignore"):
                return np.clip(np.log(p) - np.log1p(-p), -EDGE, EDGE)

        def unflatten(z: Array) -> Point:
            return {"transmit_probability": np.exp(-np.logaddexp(0, -z))}

        def value_grad(z: Array) -> tuple[float, Array]:
            lost = send * np.logaddexp(0, -z) + wait * np.logaddexp(0, z)
            p, q = np.exp(-np.logaddexp(0, -z)), np.exp(-np.logaddexp(0, z))
            return float(lost.sum()), wait * p - send * q

        def nothing(z: Array) -> tuple[Array, Array]:
            return np.zeros(0), np.zeros((0, z.size))

        size = self.sizes["K"]
        ends = np.full(size, -EDGE), np.full(size, EDGE)
        return Smooth(flatten, unflatten, ends, value_grad, nothing, np.zeros(0, dtype=bool))

    @offers(Model)
    def model(self) -> Model:
        """Logarithms of p and 1 - p with weights over W."""
        size = self.sizes["K"]
        return Model(("SlottedALOHA", size), lambda backend: _MODELS[backend](size))


def _share_log(weight: Array, share: Array, rest: Array) -> Array:
    """weight log(share), which near share = 1 is the logarithm of what the rest leaves."""
    far, near = _times_log(weight, share, np.log), _times_log(weight, -rest, np.log1p)
    return np.where(share > 0.5, near, far)


def _times_log(weight: Array, value: Array, log: Callable[[Array], Array]) -> Array:
    """weight log(value), 0 where weight = 0, -inf outside the domain; complex-safe."""
    edge = 0.0 if log is np.log else -1.0
    inside = np.real(value) > edge
    found = weight * log(np.where(inside, value, 1.0))
    return np.where(weight > 0, np.where(inside, found, -np.inf), 0.0)


# -- models ---------------------------------------------------------------------------------------


def _normalised(problem: SlottedALOHA) -> tuple[Array, Array]:
    total = float(problem.weight.sum()) or 1.0
    return problem.weight / total, problem.others / total


def _settled(problem: SlottedALOHA, p: Array) -> Point:
    """Who has no weight never sends, who is alone with one always does: no limit to approach."""
    alone = (problem.others == 0) & (problem.weight > 0)
    return {"transmit_probability": np.where(problem.weight > 0, np.where(alone, 1.0, p), 0.0)}


def _cvxpy(size: int) -> Handle:
    import cvxpy as cp

    send, wait = cp.Parameter(size, nonneg=True), cp.Parameter(size, nonneg=True)
    p, q = cp.Variable(size), cp.Variable(size)
    worth = cp.sum(cp.multiply(send, cp.log(p)) + cp.multiply(wait, cp.log(q)))
    model = cp.Problem(cp.Maximize(worth), [p + q <= 1])

    def assign(problem: SlottedALOHA) -> None:
        send.value, wait.value = _normalised(problem)

    return Handle(model, assign, lambda problem: _settled(problem, p.value / (p.value + q.value)))


def _pyomo(size: int) -> Handle:
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.k = pyo.RangeSet(0, size - 1)
    model.send = pyo.Param(model.k, mutable=True, initialize=1.0)
    model.wait = pyo.Param(model.k, mutable=True, initialize=1.0)
    model.z = pyo.Var(model.k, bounds=(-40, 40), initialize=0.0)
    model.p = pyo.Expression(model.k, rule=lambda m, k: 1 / (1 + pyo.exp(-m.z[k])))
    lost = (
        model.send[k] * pyo.log(1 + pyo.exp(-model.z[k]))
        + model.wait[k] * pyo.log(1 + pyo.exp(model.z[k]))
        for k in model.k
    )
    model.lost = pyo.Objective(expr=sum(lost))

    def assign(problem: SlottedALOHA) -> None:
        for k, (send, wait) in enumerate(zip(*_normalised(problem))):
            model.send[k], model.wait[k] = float(send), float(wait)

    def start(_: SlottedALOHA, x: Point) -> None:
        for k, p in enumerate(np.clip(x["transmit_probability"], 1e-15, 1 - 1e-15)):
            model.z[k] = float(np.log(p) - np.log1p(-p))

    def point(problem: SlottedALOHA) -> Point:
        return _settled(problem, np.array([pyo.value(model.p[k]) for k in model.k]))

    return Handle(model, assign, point, start)


_MODELS: dict[str, Callable[[int], Handle]] = {"cvxpy": _cvxpy, "pyomo": _pyomo}
