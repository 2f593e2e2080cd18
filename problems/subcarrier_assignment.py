"""OFDMA: which device gets which subcarrier, and with what power.

    max  sum_kf a_kf log2(1 + g_kf p_f)   s.t.  sum_k a_kf <= 1,  sum_f p_f <= P  (Subcarrier...
    ...Assignment);  with powers given and n_k subcarriers for device k            (SubcarrierQuota)

The first is the best device on each subcarrier and water-filling over them; the second is a linear
assignment. Source: classic (Jang and Lee 2003; Kuhn 1955); spec rrm.md §15 item 7; bounds derived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Self

import numpy as np

from rralloc.fields import Constraint, data, variable
from rralloc.forms import ClosedForm, Model, offers
from rralloc.numerics.logexp import LN2
from rralloc.numerics.shapes import batched, within_budget
from rralloc.problem import Problem
from rralloc.problems._subcarrier_models import QUOTA, shares_cvxpy
from rralloc.problems.water_filling import WaterFilling
from rralloc.typing import Array, Field, Point, Witness


def _one_owner(owner: Array, devices: int) -> Array:
    """0/1 ``(..., K, F)`` from the owner of each subcarrier ``(..., F)``; -1 owns nothing."""
    return (np.arange(devices)[:, None] == owner[..., None, :]).astype(int)


class _Subcarriers(Problem):
    """What both problems share: gains, one owner for each subcarrier, how random ones are drawn."""

    sense = "max"
    unit = "bit/s/Hz"
    differentiable = False

    gain: Field = data("K F", unit="1/W", low=0, doc="channel gain over noise power")

    @classmethod
    def random(
        cls,
        *,
        K: int,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        F: int | None = None,
        **settings: Any,
    ) -> Self:
        """Rayleigh fading g ~ Exp(1) for K devices on F = 2 K subcarriers."""
        shape = batched(batch, K, 2 * K if F is None else F)
        drawn = {"gain": np.random.default_rng(rng).exponential(size=shape)}
        return cls(**drawn | cls._random_rest(shape) | settings)

    @classmethod
    def _random_rest(cls, shape: tuple[int, ...]) -> dict[str, Any]:
        return {}

    @property
    def _whole_gain(self) -> Array:
        tail = (self.sizes["K"], self.sizes["F"])
        return np.broadcast_to(self.gain, (*self.gain.shape[:-2], *tail))

    def _one_each(self, x: Point) -> Constraint:
        return Constraint("one owner", 1.0 - np.sum(x["assigned"], axis=-2), "1", 1.0)


class SubcarrierAssignment(_Subcarriers):
    """Owners and powers of subcarriers for the largest sum rate.

    Problem
        max sum_kf a_kf log2(1 + g_kf p_f)  s.t.  sum_k a_kf <= 1, a in {0, 1}, sum_f p_f <= P,
        p >= 0.

    Parameters
        gain: g ``(..., K, F)``, 1/W, >= 0, channel gain over noise on each subcarrier.
        power_budget_w: P ``(...)``, W, >= 0.
    Variables
        assigned: a ``(..., K, F)``, 0 or 1. power_w: p ``(..., F)``, W.
    Bound
        That of ``WaterFilling`` over the best gain of each subcarrier, which no assignment exceeds.
    Errors
        InvalidProblem for negative, missing or infinite values.
    Choose this when
        devices share subcarriers and total rate is what counts. Devices that are weak everywhere
        get nothing: where everybody must get some, see ``SubcarrierQuota``.
    Source
        Classic (Jang and Lee 2003); rrm.md §15 item 7.
    """

    source = "classic (Jang and Lee 2003); rrm.md §15.7"
    bound_method = "Lagrangian dual at the water level of the best gains"

    power_budget_w: Field = data(unit="W", low=0, doc="total power")

    assigned = variable("K F", unit="1", low=0, high=1, dtype=int, doc="1 where k owns f")
    power_w = variable("F", unit="W", low=0, scale="power_budget_w", doc="transmit power")

    @classmethod
    def _random_rest(cls, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"power_budget_w": float(shape[-1])}

    @cached_property
    def best(self) -> WaterFilling:
        """The best device's gain on each subcarrier, the same budget."""
        return WaterFilling(gain=self._whole_gain.max(-2), power_budget_w=self.power_budget_w)

    def rate(self, x: Point) -> Array:
        """Rate of each device ``(..., K)``, bit/s/Hz."""
        snr = np.maximum(self.gain * np.asarray(x["power_w"])[..., None, :], 0.0)
        return np.asarray((x["assigned"] * np.log1p(snr)).sum(-1) / LN2)

    def objective(self, x: Point) -> Array:
        """Sum rate, bit/s/Hz."""
        return np.asarray(self.rate(x).sum(-1))

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """One owner each, total power."""
        slack = self.power_budget_w - x["power_w"].sum(-1)
        return self._one_each(x), Constraint("total power", slack, "W", self.power_budget_w)

    def project(self, x: Point) -> dict[str, Array]:
        """Whoever holds the largest share of a subcarrier owns it; power scaled onto the budget."""
        held = np.asarray(x["assigned"], dtype=float)
        owner = np.where(held.max(-2) > 0, held.argmax(-2), -1)
        power = within_budget(x["power_w"], self.power_budget_w)
        return {"assigned": _one_owner(owner, self.sizes["K"]), "power_w": power}

    def points(self) -> dict[str, Callable[[], Point]]:
        """``round-robin``: in turn, equal power. ``best-equal``: the best owner, equal power.

        ``strongest``: everything to the device of the largest mean gain, equal power.
        """
        size, count = self.sizes["K"], self.sizes["F"]

        def owned_by(owner: Array) -> Point:
            full = np.broadcast_to(owner, (*self.batch_shape, count))
            power = np.broadcast_to(self.power_budget_w[..., None] / count, full.shape)
            return {"assigned": _one_owner(full, size), "power_w": power}

        return {
            "round-robin": lambda: owned_by(np.arange(count) % size),
            "best-equal": lambda: owned_by(self._whole_gain.argmax(-2)),
            "strongest": lambda: owned_by(self._whole_gain.mean(-1).argmax(-1)[..., None]),
        }

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The dual at the witness's ``water_level_w``, or at the level read off x."""
        return self.best.bound(None if x is None else {"power_w": x["power_w"]}, witness)

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """The best device on each subcarrier (the first of equals), then water-filling."""
        filled = self.best.view(ClosedForm)

        def point() -> Point:
            shape = self.shape_of(type(self).power_w)
            owner = np.broadcast_to(self._whole_gain.argmax(-2), shape)
            return {"assigned": _one_owner(owner, self.sizes["K"]), **filled.point()}

        return ClosedForm(point, filled.witness)

    @offers(Model)
    def model(self) -> Model:
        """Shares of subcarriers in place of owners, which loses nothing: the optimum has owners."""
        size = self.sizes["K"], self.sizes["F"]
        return Model(
            ("SubcarrierAssignment", *size),
            lambda _: shares_cvxpy(*size),
            backends=("cvxpy",),
            reason="with owners it is a mixed-integer program, and its relaxation is conic",
        )


class SubcarrierQuota(_Subcarriers):
    """Owners of subcarriers with given powers, so many for each device.

    Problem
        max sum_kf a_kf log2(1 + g_kf p_f)  s.t.  sum_k a_kf <= 1, sum_f a_kf = n_k, a in {0, 1}.

    Parameters
        gain: g ``(..., K, F)``, 1/W, >= 0, channel gain over noise on each subcarrier.
        subcarriers: n ``(..., K)``, whole numbers >= 0.
        power_w: p ``(..., F)``, W, >= 0, default 1: what is sent on each subcarrier.
    Variables
        assigned: a ``(..., K, F)``, 0 or 1.
    Bound
        For any prices v_k of a device's place (``sol.duals``: ``place_price``) no assignment
        exceeds sum_k n_k v_k + sum_f [max_k (r_kf - v_k)]^+.
    Errors
        InvalidProblem for quotas that are no whole numbers. Infeasible where quotas exceed F.
    Choose this when
        every device must get its number of subcarriers at fixed power. Without quotas, and with
        powers to choose, see ``SubcarrierAssignment``.
    Source
        Classic (Kuhn 1955, ``scipy.optimize.linear_sum_assignment``); rrm.md §15 item 7; bound
        derived.
    """

    source = "classic (Hungarian method); rrm.md §15.7"
    bound_method = "Lagrangian dual at the prices of the devices' places"

    subcarriers: Field = data("K", unit="1", low=0, dtype=int, doc="number a device must get")
    power_w: Field = data("F", unit="W", low=0, default=1.0, doc="power on each subcarrier")

    assigned = variable("K F", unit="1", low=0, high=1, dtype=int, doc="1 where k owns f")

    @classmethod
    def _random_rest(cls, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"subcarriers": max(shape[-1] // shape[-2], 1)}

    @cached_property
    def rates(self) -> Array:
        """r_kf = log2(1 + g_kf p_f) ``(..., K, F)``, bit/s/Hz."""
        full = (*self.batch_shape, self.sizes["K"], self.sizes["F"])
        return np.broadcast_to(np.log1p(self.gain * self.power_w[..., None, :]) / LN2, full)

    def rate(self, x: Point) -> Array:
        """Rate of each device ``(..., K)``, bit/s/Hz."""
        return np.asarray((x["assigned"] * self.rates).sum(-1))

    def objective(self, x: Point) -> Array:
        """Sum rate, bit/s/Hz."""
        return np.asarray(self.rate(x).sum(-1))

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """One owner each, so many for each."""
        missing = np.sum(x["assigned"], axis=-1) - self.subcarriers
        return self._one_each(x), Constraint("subcarriers", missing, "1", 1.0, equality=True)

    @property
    def _quota(self) -> Array:
        return np.broadcast_to(self.subcarriers, (*self.batch_shape, self.sizes["K"]))

    def infeasible(self) -> Array:
        """More subcarriers are promised than there are."""
        return np.asarray(self._quota.sum(-1) > self.sizes["F"])

    def why_infeasible(self) -> str:
        """More subcarriers are promised than there are."""
        return f"devices must get {self._quota.sum()} subcarriers, and there are {self.sizes['F']}"

    def _matched(self, worth: Array) -> Array:
        """a ``(..., K, F)`` of the largest total worth: one row for each place of a device."""
        from scipy.optimize import linear_sum_assignment

        out = np.zeros(worth.shape, dtype=int)
        for index in np.ndindex(self.batch_shape):
            places = np.repeat(np.arange(self.sizes["K"]), self._quota[index])
            rows, columns = linear_sum_assignment(worth[index][places], maximize=True)
            out[index][places[rows], columns] = 1
        return out

    def project(self, x: Point) -> dict[str, Array]:
        """The assignment within the quotas that keeps most of x."""
        held = np.asarray(x["assigned"], dtype=float)
        full = np.broadcast_to(np.nan_to_num(held), self.shape_of(type(self).assigned))
        return {"assigned": self._matched(np.clip(full, 0.0, 1.0))}

    def points(self) -> dict[str, Callable[[], Point]]:
        """``in-turn``: round robin. ``greedy``: next the best pair that is still free."""
        return {"in-turn": self._in_turn, "greedy": self._greedy}

    def _in_turn(self) -> Point:
        """Device 0, 1, ... takes the next subcarrier as long as it still wants one."""
        count, out = self.sizes["F"], np.zeros(self.shape_of(type(self).assigned), dtype=int)
        # Place i of device k comes before place i + 1 of anybody.
        place = np.arange(count)[:, None] < self._quota[..., None, :]
        turn = np.cumsum(place.reshape(*self.batch_shape, -1), axis=-1).reshape(place.shape) - 1
        *lead, _, device = np.nonzero(place & (turn < count))
        out[(*lead, device, turn[place & (turn < count)])] = 1
        return {"assigned": out}

    def _greedy(self) -> Point:
        """Pairs by rate; a pair is taken when both are free."""
        size, count = self.sizes["K"], self.sizes["F"]
        left, free = self._quota.copy(), np.ones((*self.batch_shape, count), dtype=bool)
        out = np.zeros(self.shape_of(type(self).assigned), dtype=int)
        order = np.argsort(-self.rates.reshape(*self.batch_shape, -1), axis=-1, kind="stable")
        for pair in np.moveaxis(order, -1, 0):
            k = np.arange(size) == (pair // count)[..., None]
            f = np.arange(count) == (pair % count)[..., None]
            taken = (k & (left > 0)).any(-1) & (f & free).any(-1)
            k, f = k & taken[..., None], f & taken[..., None]
            out += k[..., :, None] & f[..., None, :]
            left, free = left - k, free & ~f
        return {"assigned": out}

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The dual at the witness's ``place_price``, else at prices read off x."""
        price = None if witness is None else witness.get("place_price")
        if price is None or np.shape(price) != (*self.batch_shape, self.sizes["K"]):
            price = self._prices((x if x is not None else self.initial())["assigned"])
        best = np.maximum((self.rates - np.asarray(price)[..., None]).max(-2), 0.0).sum(-1)
        paid = self._quota * price
        rounding = 1e-15 * (np.abs(paid).sum(-1) + best)
        return np.asarray(paid.sum(-1) + best + rounding)

    def _prices(self, assigned: Array) -> Array:
        """v ``(..., K)`` that prove an optimal a: nobody would trade a place at these prices.

        v_k <= r_kf and v_k <= v_j + (r_kf - r_jf) for each f of k and every j: the largest such
        prices are shortest paths of at most K steps (Bellman-Ford).
        """
        own = np.asarray(assigned) > 0.5
        held = np.where(own, self.rates, np.inf)
        price = held.min(-1)
        trade = (held[..., :, None, :] - self.rates[..., None, :, :]).min(-1)
        for _ in range(self.sizes["K"]):
            price = np.minimum(price, (price[..., None, :] + trade).min(-1))
        # Who wants none takes the price at which it would not take one.
        return np.where(np.isfinite(price), price, self.rates.max(-1))

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """The Hungarian method, one row for each place of a device."""
        best: list[Array] = []

        def assigned() -> Array:
            if not best:
                best.append(self._matched(self.rates))
            return best[0]

        return ClosedForm(
            lambda: {"assigned": assigned()}, lambda: {"place_price": self._prices(assigned())}
        )

    @offers(Model)
    def model(self) -> Model:
        """The linear program in shares, whose corners are assignments."""
        size = self.sizes["K"], self.sizes["F"]
        return Model(("SubcarrierQuota", *size), lambda backend: QUOTA[backend](*size))
