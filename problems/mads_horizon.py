"""MADSHorizon: what a clairvoyant would send, given every contact and all energy in advance.

    max  sum_{r,n} w_rn k_rn
    s.t. sum_r t_rn (p_rn + P_c [k_rn > 0]) <= E_n  for every device n,
         k_rn b + b0 <= t_rn B log2(1 + p_rn g_rn) where k_rn > 0,
         0 <= k_rn <= s,  0 <= p_rn <= p_max,  0 <= t_rn <= tau_rn

The yardstick of the online rules. At the right price lambda_n of a joule every round of device n
is one of MADS with energy_price = lambda_n: one price for each device is all there is to find.

A reconstruction, not a transcript: derived anew from the public abstract and public reviews of
arXiv 2506.07328. Source: spec mads.md §4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rralloc.errors import InvalidProblem, NotOffered
from rralloc.fields import Constraint, data, option, variable
from rralloc.forms import Level, Model, Stages, offers
from rralloc.numerics.gaps import mean_gap
from rralloc.numerics.logexp import LN2
from rralloc.numerics.shapes import batched
from rralloc.problem import Problem
from rralloc.problems import _mads_horizon as horizon
from rralloc.problems._mads_horizon import Price
from rralloc.problems._mads_horizon_models import MODELS
from rralloc.problems._mads_kernel import EPS, ROUNDING, Devices, Packet
from rralloc.problems._mads_upload import FINITE
from rralloc.typing import Array, Field, Point, Witness

if TYPE_CHECKING:
    from rralloc.policy import Decision, Round

FROM_LOG = (
    *("model_size", "bits_per_coordinate", "bandwidth_hz", "power_max_w"),
    *("circuit_power_w", "header_bits"),
    *("prior_contact_s", "prior_snr_per_watt", "prior_value", "prior_gap_rounds"),
)


class MADSHorizon(Problem):
    """How much each device sends in each of R known rounds on one supply of energy.

    Problem
        max sum_rn w_rn k_rn  s.t.  sum_r t_rn (p_rn + P_c [k_rn > 0]) <= E_n,
        k_rn b + b0 <= t_rn B log2(1 + p_rn g_rn) where k_rn > 0, k <= s, p <= p_max, t <= tau.

    Parameters
        value: w ``(..., R, N)`` of a kept coordinate; <= 0 never sends. contact_s: tau
        ``(..., R, N)``, s. snr_per_watt: g = h/(N0 B) ``(..., R, N)``, 1/W. Others ``(..., N)``:
        model_size: s >= 1. bits_per_coordinate: b. bandwidth_hz: B, Hz. power_max_w: p_max, W.
        energy_budget_j: E, J, for all rounds together. circuit_power_w: P_c, W, while sending.
        header_bits: b0. integer: whole k.
        prior_contact_s, prior_snr_per_watt, prior_value, prior_gap_rounds: what an online rule is
        told in advance: the mean of tau over all rounds, median g and mean w of contacts, and the
        mean number of rounds between contacts. By default those of this horizon.
    Variables
        kept: k. power_w: p, W. airtime_s: t, s. All ``(..., R, N)``; 0 where a device is silent.
    Bound
        The Lagrangian dual at a price of energy for each device, ``energy_price`` ``(..., N)`` in
        ``sol.duals``: sum_n lambda_n E_n + sum_r max (w k - lambda_n e(k)). Tight without header
        and whole k; else within about one contact's value for each device.
    Errors
        InvalidProblem for values outside their range.
    Choose this when
        an online rule, or a log of what one did, is to be measured against clairvoyance.
    Source
        A reconstruction, not a transcript: arXiv 2506.07328 (abstract) and public reviews;
        mads.md §4, derived.
    """

    sense = "max"
    source = "arXiv 2506.07328 (abstract, reviews; a reconstruction); mads.md §4, derived"
    bound_method = "Lagrangian dual at each device's price of energy"
    default_solver = "level"
    differentiable = False

    value: Field = data("R N", unit="1", low=-FINITE, doc="value of a kept coordinate, w")
    contact_s: Field = data("R N", unit="s", low=0, doc="upload time, tau")
    snr_per_watt: Field = data("R N", unit="1/W", low=0, doc="gain over noise power, g = h/(N0 B)")
    energy_budget_j: Field = data("N", unit="J", low=0, doc="energy for all rounds, E")
    model_size: Field = data("N", unit="1", low=1, doc="number of parameters, s")
    bits_per_coordinate: Field = data(
        "N", unit="bit", low=0, open_low=True, doc="bits of a kept coordinate, b"
    )
    bandwidth_hz: Field = data("N", unit="Hz", low=0, open_low=True, doc="bandwidth, B")
    power_max_w: Field = data("N", unit="W", low=0, doc="largest transmit power")
    integer: bool = option(default=False, choices=(True, False), doc="keep a whole number")
    circuit_power_w: Field = data("N", unit="W", low=0, default=0.0, doc="circuits' power")
    header_bits: Field = data("N", unit="bit", low=0, default=0.0, doc="bits of a header, b0")
    prior_contact_s: Field = data("N", unit="s", low=0, default=None, doc="mean of tau")
    prior_snr_per_watt: Field = data("N", unit="1/W", low=0, default=None, doc="median of g")
    prior_value: Field = data("N", unit="1", low=0, default=None, doc="mean of w in contact")
    prior_gap_rounds: Field = data(
        "N", unit="1", low=0, default=None, doc="rounds between contacts"
    )

    kept = variable("R N", unit="1", low=0, high="size_each", scale="kept_max", doc="coordinates")
    power_w = variable(
        "R N", unit="W", low=0, high="power_each", scale="power_each", doc="transmit power"
    )
    airtime_s = variable("R N", unit="s", low=0, high="contact_s", scale="contact_s", doc="time")

    @classmethod
    def random(
        cls,
        *,
        K: int,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        rounds: int = 30,
        **settings: Any,
    ) -> Self:
        """K devices that are in contact in two rounds of five, with 0.05 J a round."""
        rng, shape = np.random.default_rng(rng), batched(batch, rounds, K)
        met = rng.random(shape) < 0.4
        drawn: dict[str, Any] = {
            "contact_s": np.where(met, rng.exponential(4.0, shape), 0.0),
            "snr_per_watt": 300 * rng.exponential(size=shape),
            "value": rng.gamma(2.0, 0.5, shape),
            "energy_budget_j": 0.05 * rounds,
            "model_size": 2410,
            "bits_per_coordinate": 44,
            "bandwidth_hz": 4000.0,
            "power_max_w": 0.2,
        }
        return cls(**drawn | settings)

    @classmethod
    def from_log(cls, log: Mapping[str, Array], **settings: Any) -> Self:
        """The horizon that a training run met, with the values its policy saw (``fl.Log``).

        Contacts and gains are the actual ones, also where the policy was shown means only; the
        energy is R times the policy's budget. ``settings``: other fields. How far the run was from
        clairvoyance: solve it, and evaluate ``log_point(log)`` in it.
        Raises InvalidProblem: the log has no values, or its packets are not of this problem's
        coding (dense, bitmap or free uploads), so that no score would mean anything.
        """
        rows = {"value": "value", "contact_s": "contact_actual_s"}
        rows["snr_per_watt"] = "snr_actual_per_watt"
        missing = sorted({*rows.values(), *FROM_LOG, "budget_per_round_j"} - set(log))
        if missing:
            raise InvalidProblem(
                f"the log lacks {', '.join(missing)}; give a fl.Log of at least one round that a "
                "MADS policy decided over a fl.MobileLink"
            )
        fields = {n: log[told] for n, told in rows.items()} | {n: log[n][-1] for n in FROM_LOG}
        budget = np.minimum(log["budget_per_round_j"].sum(0), FINITE)
        horizon = cls(**{**fields, "energy_budget_j": budget, **settings})
        x = cls.log_point(log)
        room = horizon._room(x["power_w"], x["airtime_s"]) - horizon.needed_bits(x["kept"])
        if (room < -1e-6 * horizon.needed_bits(horizon.kept_max)).any():
            raise InvalidProblem(
                "the log has uploads that do not fit with positions sent one by one: a dense or "
                "bitmap packet, or a free one; such a run cannot be scored"
            )
        return horizon

    @staticmethod
    def log_point(log: Mapping[str, Array]) -> dict[str, Array]:
        """What the run did ``(R, N)``: ``kept`` is what arrived, ``airtime_s`` the time on air.

        Lost uploads have power and airtime and nothing kept; their circuit power does not count.
        """
        return {"kept": log["delivered"], "power_w": log["power_w"], "airtime_s": log["on_air_s"]}

    # -- what the kernel needs ----------------------------------------------------------------

    @cached_property
    def devices(self) -> Devices:
        """The arrays of the kernel, rounds before devices; the price is filled in by it."""
        return Devices(
            *(self.value, np.zeros((1, 1)), self.contact_s, self.snr_per_watt),
            *(self.size_each, _rounds(self.bandwidth_hz), self.power_each),
            circuit=_rounds(self.circuit_power_w) if self.circuit_power_w.any() else None,
        )

    @cached_property
    def packet(self) -> Packet:
        """k coordinates have b0 + k b bits."""
        header = _rounds(self.header_bits) if self.header_bits.any() else None
        return Packet(_rounds(self.bits_per_coordinate), header)

    @property
    def smooth_energy(self) -> bool:
        """The energy used is continuous in the price: no circuits, no header, no whole numbers."""
        return not self.integer and self.devices.circuit is None and self.packet.header is None

    @property
    def size_each(self) -> Array:
        """s, for every round."""
        return _rounds(self.model_size)

    @property
    def power_each(self) -> Array:
        """p_max, for every round."""
        return _rounds(self.power_max_w)

    @cached_property
    def kept_max(self) -> Array:
        """The largest k that fits a contact ``(..., R, N)``, whatever the energy."""
        d = self.devices
        return self._full(self._fitting(d.contact_s * d.band * d.y_max))

    def _fitting(self, room: Array) -> Array:
        """The largest k whose packet has at most so many bits."""
        bits, header = self.packet
        part = np.clip((room if header is None else room - header) / bits, 0.0, self.size_each)
        return self._floor(part)

    def _floor(self, kept: Array) -> Array:
        return np.floor(kept * (1 + ROUNDING)) if self.integer else kept

    def _full(self, values: Array) -> Array:
        return np.broadcast_to(values, self.shape_of(type(self).kept))

    # -- evaluation ---------------------------------------------------------------------------

    def energy_j(self, x: Point) -> Array:
        """sum_r t (p + P_c [k > 0]) ``(..., N)``, J."""
        drawn = x["power_w"]
        if self.devices.circuit is not None:
            drawn = drawn + np.where(x["kept"] > 0, self.devices.circuit, 0.0)
        return (x["airtime_s"] * drawn).sum(-2)

    def objective(self, x: Point) -> Array:
        """sum w k."""
        return (self.value * x["kept"]).sum((-1, -2))

    def _room(self, power: Array, time: Array) -> Array:
        """t B log2(1 + p g), bits."""
        return time * self.devices.band * (np.log1p(power * self.snr_per_watt) / LN2)

    def needed_bits(self, kept: Array) -> Array:
        """k b + b0, and 0 for k = 0."""
        size = kept * self.packet.bits
        return size if self.packet.header is None else np.where(kept > 0, self.packet.size(kept), 0)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """Every upload fits; the energy lasts; k is whole."""
        power = np.maximum(x["power_w"], 0.0)  # less is a violation of its own
        room = self._room(power, x["airtime_s"]) - self.needed_bits(x["kept"])
        left = self.energy_budget_j - self.energy_j(x)
        found = [
            Constraint("upload fits", room, "bit", self.needed_bits(self.kept_max)),
            Constraint("energy", left, "J", self.energy_budget_j),
        ]
        if self.integer:
            off = x["kept"] - np.rint(x["kept"])
            found.append(Constraint("kept is whole", off, "1", 1.0, equality=True))
        return tuple(found)

    def project(self, x: Point) -> dict[str, Array]:
        """Clip, shorten all airtimes of a device to its energy, keep no more than then fits."""
        power = np.clip(x["power_w"], 0.0, self.power_each)
        time = np.clip(x["airtime_s"], 0.0, self.contact_s)
        kept = self._floor(np.maximum(x["kept"], 0.0))
        kept = np.minimum(kept, self._fitting(self._room(power, time)))
        used = self.energy_j({"kept": kept, "power_w": power, "airtime_s": time})
        over = used > self.energy_budget_j * (1 + EPS)
        if over.any():
            share = np.where(over, self.energy_budget_j / np.where(used > 0, used, 1.0), 1.0)
            time = time * share[..., None, :]
            kept = np.minimum(kept, self._fitting(self._room(power, time)))
        sends = kept > 0
        return {
            "kept": self._full(kept),
            "power_w": np.where(sends, power, 0.0),
            "airtime_s": np.where(sends, time, 0.0),
        }

    def points(self) -> dict[str, Callable[[], Point]]:
        """``even-power``: the same power in all contacts; ``max-power`` until the energy is gone;
        ``silent``.
        """
        d, energy = self.devices, _rounds(self.energy_budget_j)
        P_c = _rounds(self.circuit_power_w)

        def sent(power: Array, time: Array) -> Point:
            x = {"kept": self.size_each, "power_w": power, "airtime_s": time}
            return self.project({n: self._full(v) for n, v in x.items()})

        def even() -> Point:
            total = self.contact_s.sum(-2, keepdims=True)
            drawn = energy / np.where(total > 0, total, 1.0)
            return sent(np.clip(drawn - P_c, 0.0, d.power_max), self.contact_s)

        def greedy() -> Point:
            drawn = d.power_max + P_c
            before = drawn * (self.contact_s.cumsum(-2) - self.contact_s)
            left = np.maximum(energy - before, 0.0) / np.where(drawn > 0, drawn, 1.0)
            return sent(d.power_max, np.minimum(self.contact_s, left))

        def silent() -> Point:
            return sent(np.zeros(1), np.zeros(1))

        return {"even-power": even, "max-power": greedy, "silent": silent}

    # -- prices -------------------------------------------------------------------------------

    def _blocks(self, fun: Callable[..., tuple[Array, ...]], *each: Array) -> tuple[Array, ...]:
        """``fun(devices, packet, *each)`` for some devices at a time, joined on the last axis."""
        shape = self.shape_of(type(self).kept)
        *lead, rounds, many = shape
        each = tuple(np.broadcast_to(v, (*lead, many)) for v in each)
        out: tuple[Array, ...] = ()
        for some in horizon.blocks(rounds * self.size, many):
            few = horizon.part(self.devices, self.packet, some, shape)
            piece = fun(*few, *[v[..., some] for v in each])
            out = out or tuple(np.empty((*v.shape[:-1], many)) for v in piece)
            for whole, values in zip(out, piece):
                whole[..., some] = values
        return out

    @cached_property
    def _priced(self) -> tuple[Price, Array]:
        """Each device's price, and a slightly cheaper one at which it would spend too much."""
        if self.smooth_energy:
            found = self._blocks(
                lambda d, packet, budget: tuple(horizon.water_price(d, packet, budget)),
                self.energy_budget_j,
            )
            return Price(*found), found[0]

        def stepped(d: Devices, packet: Packet, budget: Array) -> tuple[Array, ...]:
            (price, depth), low = horizon.stepped_price(d, packet, budget, self.integer)
            return price, depth, low

        price, depth, low = self._blocks(stepped, self.energy_budget_j)
        return Price(price, depth), low

    @property
    def energy_price(self) -> Array:
        """lambda ``(..., N)``, 1/J; 0 where the budget does not bind."""
        return self._priced[0].price

    @cached_property
    def _solved(self) -> tuple[Point, Array]:
        """What is done at the devices' own prices, and the rounds' dual there."""
        (price, depth), low = self._priced

        def best(
            d: Devices, packet: Packet, price: Array, depth: Array, low: Array, budget: Array
        ) -> tuple[Array, ...]:
            at = Price(price, depth)
            if self.smooth_energy:
                plan = horizon.water_plan(d, packet, at)
                dual = horizon.surplus(d, plan, price)
            else:
                plan = horizon.stepped_plan(d, packet, at, low, budget, self.integer)
                dual = horizon.stepped_dual(d, packet, price, self.integer)
            return (*np.broadcast_arrays(*plan[:3]), dual)

        *plan, dual = self._blocks(best, price, depth, low, self.energy_budget_j)
        return _point(tuple(plan)), dual

    def at_prices(self, price: Array) -> Point:
        """What every round does at prices ``(..., N)``, whatever energy that takes."""

        def best(d: Devices, packet: Packet, price: Array) -> tuple[Array, ...]:
            return tuple(np.broadcast_arrays(*horizon.at_price(d, packet, price, self.integer)[:3]))

        return _point(self._blocks(best, price))

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The dual at the devices' own prices, or at the witness's where that is lower."""
        claim = self._worth(self._solved[1], self.energy_price)
        if witness is not None and "energy_price" in witness:
            given = np.maximum(np.asarray(witness["energy_price"]), 0.0)
            if not np.array_equal(given, self.energy_price):
                claim = np.minimum(claim, self._worth(self._dual(given), given))
        return claim

    def _worth(self, rounds: Array, price: Array) -> Array:
        worth = rounds + price * self.energy_budget_j * (1 + EPS)
        return np.broadcast_to(worth.sum(-1), self.batch_shape)

    def _dual(self, price: Array) -> Array:
        def rounds(d: Devices, packet: Packet, price: Array) -> tuple[Array]:
            if self.smooth_energy:
                return (horizon.water_dual(d, packet, price),)
            return (horizon.stepped_dual(d, packet, price, self.integer),)

        return self._blocks(rounds, price)[0]

    # -- forms --------------------------------------------------------------------------------

    @offers(Level)
    def level(self) -> Level:
        """Devices are lanes of their own, each with its own price; the level scales all prices.

        ``used`` counts energies by the budgets, in devices; those without a price use none.
        """
        own, unit = self.energy_price, self.energy_budget_j
        binds = (own > 0) & (unit > 0)

        def is_one(level: Array) -> bool:
            return bool((level == 1).all())

        def plan(level: Array) -> Point:
            return self._solved[0] if is_one(level) else self.at_prices(own * level[..., None])

        def used(level: Array) -> Array:
            share = self.energy_j(plan(level)) / np.where(binds, unit, 1.0)
            return np.where(binds, share, 0.0).sum(-1)

        one = np.ones(self.batch_shape)
        return Level(
            point=plan,
            used=used,
            budget=used(one),
            bracket=(one / 4, one * 4),
            spacing="log",
            witness=self._witness if not self.integer and self.packet.header is None else None,
        )

    def _witness(self, level: Array) -> Witness:
        return {"energy_price": self.energy_price * level[..., None]}

    @offers(Model)
    def model(self) -> Model:
        """Shares of k_max, of the energy and of the contact; circuit power is convex too."""
        if self.integer or self.packet.header is not None:
            raise NotOffered("whole k or a header is not convex")
        size = (self.sizes["R"], self.sizes["N"], self.devices.circuit is not None)
        return Model(("MADSHorizon", size), lambda backend: MODELS[backend](size))

    @offers(Stages)
    def stages(self) -> Stages:
        """A causal server sees this round's contacts, gains and values, and the priors.

        Of a batch, the first instance: a policy is fed one at a time.
        """
        one = self if self.batch_shape == () else self.flat()[0]
        return Stages(one.sizes["R"], one._seen, one._assembled, one._told)

    def policy(self, name: str, **options: Any) -> Any:
        """The online rule that a solver of this name stands for (``mads_policies``)."""
        from rralloc.problems.mads_policies import POLICIES

        if name not in POLICIES:
            raise NotOffered(f"MADSHorizon has no policy {name}; it has {', '.join(POLICIES)}")
        return POLICIES[name](**options)

    @cached_property
    def priors(self) -> dict[str, Array]:
        """The declared prior statistics ``(..., N)``, or those of this horizon."""
        shape = (*self.batch_shape, self.sizes["R"], self.sizes["N"])
        tau, g, w = (
            np.broadcast_to(v, shape) for v in (self.contact_s, self.snr_per_watt, self.value)
        )
        met = tau > 0
        count = np.maximum(met.sum(-2), 1)
        usual = np.nanmedian(np.where(met.any(-2, keepdims=True) & ~met, np.nan, g), axis=-2)
        own = {
            "prior_contact_s": tau.mean(-2),
            "prior_snr_per_watt": usual,
            "prior_value": np.where(met, np.maximum(w, 0.0), 0.0).sum(-2) / count,
            "prior_gap_rounds": mean_gap(met),
        }
        return {n: v if getattr(self, n) is None else getattr(self, n) for n, v in own.items()}

    @cached_property
    def _constants(self) -> dict[str, Array]:
        """What does not change from round to round, ``(N,)``."""
        names = ("model_size", "bits_per_coordinate", "bandwidth_hz", "power_max_w")
        found = {n: getattr(self, n) for n in (*names, "circuit_power_w", "header_bits")}
        rounds = self.sizes["R"]
        found |= {
            **self.priors,
            "budget_per_round_j": self.energy_budget_j / rounds,
            "rounds": np.array(rounds),
            "integer": np.array(self.integer),
        }
        many = self.sizes["N"]
        return {n: np.broadcast_to(v, many) if v.ndim else v for n, v in found.items()}

    def _seen(self, t: int) -> Round:
        from rralloc.policy import Round

        many, held = self.sizes["N"], self._constants
        now = {
            n: np.broadcast_to(getattr(self, n)[t if getattr(self, n).shape[0] > 1 else 0], many)
            for n in ("value", "contact_s", "snr_per_watt")
        }
        return Round(
            index=t,
            path_gain=now["snr_per_watt"],
            bandwidth_hz=float(held["bandwidth_hz"].max()),
            power_w=held["power_max_w"],
            noise_psd_w_hz=1.0,
            payload_bit=float((held["model_size"] * held["bits_per_coordinate"]).max()),
            compute_s=np.zeros(many),
            share=np.full(many, 1 / many),
            statistics=held | now,
        )

    def _assembled(self, decisions: list[Decision]) -> Point:
        names = [v.name for v in self.variables]
        return {n: np.stack([np.asarray(d.x[n], dtype=float) for d in decisions]) for n in names}

    def _told(self, t: int, decision: Decision) -> dict[str, Any]:
        sends = decision.x["kept"] > 0
        drawn = decision.x["power_w"] + np.where(sends, self._constants["circuit_power_w"], 0.0)
        return {"energy_j": decision.x["airtime_s"] * drawn}


def _rounds(values: Array) -> Array:
    """``(..., N)`` for every round."""
    return values[..., None, :]


def _point(found: tuple[Array, ...]) -> Point:
    return dict(zip(("kept", "power_w", "airtime_s"), found))
