"""MADS: how much of its sparsified update a moving device sends before it is out of reach.

    max  sum_n W_n k_n - Q_n t_n (p_n + P_c [k_n > 0])
    s.t. k_n b + b0 <= t_n B log2(1 + p_n g_n)  where k_n > 0,
         0 <= k_n <= s,  0 <= p_n <= p_max,  0 <= t_n <= tau_n

k coordinates of s are kept. W is their value (staleness and gradient, times the trade-off V), Q the
backlog of spent energy: drift plus penalty makes every round this problem, and every device one of
its own. With y = log2(1 + p g) the optimum is y = clip(log2(W B g/(b Q ln 2)), 0, y_cap).

A reconstruction, not a transcript: derived anew from the public abstract and public reviews of
arXiv 2506.07328; the paper's own problem and formulas were not available. Source: spec mads.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rralloc.errors import InvalidProblem, NotOffered
from rralloc.forms import ClosedForm, Model, Smooth, offers
from rralloc.numerics.logexp import LN2
from rralloc.policy import Decision, Round
from rralloc.problems import _mads_kernel as kernel
from rralloc.problems._mads_kernel import Plan
from rralloc.problems._mads_models import MODELS, Shares
from rralloc.problems._mads_upload import Upload
from rralloc.solution import _Code, codes
from rralloc.typing import Array, Point, Witness

if TYPE_CHECKING:
    from rralloc.fl.schemes import SparseUpload

FROM_ROUND = (
    *("contact_s", "snr_per_watt", "model_size", "bits_per_coordinate", "bandwidth_hz"),
    *("power_max_w", "circuit_power_w", "header_bits"),
)
"""Fields that a round of a mobile link states."""


class Case(_Code):
    """What limits a device."""

    SILENT = 0
    """It sends nothing: every bit costs more than it is worth, or none can be sent."""
    ENERGY = 1
    """The price of energy."""
    POWER = 2
    """The contact: it sends with the most power that it has (or may still spend)."""
    DENSE = 3
    """Nothing: the whole model is sent."""


def require_contacts(told: Mapping[str, Array]) -> None:
    """Refuse a round that says nothing of contacts."""
    if "contact_s" not in told:
        raise InvalidProblem(
            "MADS decides within contacts, and this round has none; train over a fl.MobileLink, "
            "with Contacts.always where everybody is always in contact"
        )


def act(round: Round, x: Point) -> Decision:
    """Who keeps something sends it, each on its own band."""
    sends = x["kept"] > 0
    return Decision(
        scheduled=sends,
        weight=np.where(sends, round.share, 0.0),
        bandwidth_hz=np.where(sends, round.statistics["bandwidth_hz"], 0.0),
        power_w=np.asarray(x["power_w"]),
        x={n: np.array(v) for n, v in x.items()},
    )


class MADS(Upload):
    """How many coordinates each device keeps, with what power and for how long it sends.

    Problem
        max sum_n W_n k_n - Q_n t_n (p_n + P_c [k_n > 0])
        s.t. k_n b + b0 <= t_n B log2(1 + p_n g_n) where k_n > 0, k_n <= s, p_n <= p_max,
        t_n <= tau_n, and t_n (p_n + P_c [k_n > 0]) <= E_n where an energy budget is given.

    Parameters, all ``(..., N)``
        value: W of a kept coordinate; inf sends at any price, <= 0 never. energy_price: Q, 1/J;
        inf is silence, also where the value is inf. contact_s: tau, s. snr_per_watt:
        g = h/(N0 B), 1/W (twice the bandwidth halves it). model_size: s >= 1 parameters.
        bits_per_coordinate: b. bandwidth_hz: B, Hz. power_max_w: p_max, W.
        integer: whole k.
        circuit_power_w: P_c, W, while sending. header_bits: b0.
        coding: ``index`` (b bits each), ``bitmap`` (q each and s for the map), ``dense`` (q s and
        nothing less), ``best`` of the three for each device; q is dense_bits_per_coordinate,
        by default b - ceil(log2 s).
        residual: squared entries of the update ``(..., N, s)`` in any order and scale. The j-th
        kept coordinate is then worth W c_(j)/mean(c), with W still the mean value; k is whole.
        energy_budget_j: E, J, what may be spent in this round; default no limit.
    Variables
        kept: k. power_w: p, W. airtime_s: t, s. All ``(..., N)``; 0 where a device is silent.
    Bound
        The Lagrangian dual of each device, at prices mu of a bit and nu of the budget; for whole
        k, concavity: no k beats one that neither neighbour beats. ``sol.duals``: ``bit_price`` and
        ``energy_surcharge`` ``(..., N, codings tried)``.
    Errors
        InvalidProblem for values outside their range.
    Choose this when
        devices meet the server for known, short times and energy counts in the long run. Where the
        length of a contact is not known, see MADSUnknownContact.
    Source
        A reconstruction, not a transcript: arXiv 2506.07328 (abstract) and public reviews; closed
        form and variants mads.md §2.6-2.7, derived.
    """

    bound_method = "Lagrangian dual of each device; concavity where k is whole"

    # -- a round of training ------------------------------------------------------------------

    @classmethod
    def from_round(cls, round: Round) -> Self:
        """The round of a ``fl.MobileLink``; value 1 and price 0 unless its statistics say so.

        ``Optimised(MADS, settings={"value": V, "energy_price": Q})`` is a stationary price.
        """
        told = round.statistics
        require_contacts(told)
        return cls.stated(told, told.get("value", 1.0), told.get("energy_price", 0.0))

    @classmethod
    def stated(cls, told: Mapping[str, Array], value: Any, price: Any, **changes: Any) -> Self:
        """The problem with the fields that a round's statistics state."""
        fields = {n: told[n] for n in FROM_ROUND if n in told}
        whole = bool(told.get("integer", False))
        return cls(value=value, energy_price=price, integer=whole, **fields | changes)

    def to_decision(self, x: Point, round: Round, rng: np.random.Generator) -> Decision:
        """Who keeps something sends it, each on its own band."""
        return act(round, {**x, "value": self._full(self.value)})

    @classmethod
    def training_scheme(cls) -> SparseUpload:
        """The largest entries of what is not delivered."""
        from rralloc.fl.schemes import SparseUpload

        return SparseUpload()

    # -- rules and the optimum --------------------------------------------------------------

    def points(self) -> dict[str, Callable[[], Point]]:
        """Rules for k, each with the least energy for it: what fits, a fixed share, or nothing.

        ``half-power``, ``max-power``: what fits the contact at that power. ``1-percent``,
        ``3-percent``, ``10-percent``, ``dense``: that share where it fits, else 0. ``silent``.
        """
        with np.errstate(all="ignore"):
            half = np.log1p(self.power_max_w / 2 * self.snr_per_watt) / LN2
        rules: dict[str, Callable[[], Array]] = {
            "half-power": lambda: self._largest(half),
            "max-power": self._largest,
        }
        rules |= {f"{part}-percent": partial(self._share, part / 100) for part in (1, 3, 10)}
        rules |= {"dense": partial(self._share, 1.0), "silent": partial(self._share, 0.0)}
        return {name: partial(self._by_rule, rule) for name, rule in rules.items()}

    def _share(self, share: float) -> Array:
        """That share of the model, at least one coordinate if whole; 0 where it does not fit."""
        kept = self.model_size * share
        if self.whole and share > 0:
            kept = np.maximum(np.floor(kept), 1.0)
        return np.where(kept <= self._largest(), kept, 0.0)

    def _by_rule(self, rule: Callable[[], Array]) -> Point:
        return self._point(self.sending(rule()))

    def sending(self, kept: Array) -> Plan:
        """Power and airtime of least energy for given k, over the packets; silence if none fits."""
        d, kept = self.devices, np.asarray(kept, dtype=float)
        plans = []
        for packet in self.packets:
            plan, fits = kernel.least_energy(d, packet, kept)
            plans.append(plan.where(fits))
        return self._best(plans)

    def _best(self, plans: list[Plan]) -> Plan:
        """The most valuable plan of each device, the first among equals."""
        best, rest = plans[0], plans[1:]
        for plan in rest:
            better = self._net(plan) > self._net(best)
            best = plan.where(better, best)
        return best

    def _net(self, plan: Plan) -> Array:
        return kernel.net(self.devices, self.gain, plan)

    def _optimum(self) -> Plan:
        d, gain = self.devices, self.gain
        if self.whole:
            return self._best([kernel.best_whole(d, packet, gain)[0] for packet in self.packets])
        return self._best([kernel.relaxed(d, packet) for packet in self.packets])

    def _point(self, plan: Plan) -> Point:
        return {
            "kept": self._full(plan.kept),
            "power_w": self._full(plan.power_w),
            "airtime_s": self._full(plan.airtime_s),
        }

    def cases(self) -> Any:
        """``Case`` of each device at the optimum ``(..., N)``; ``integer``: at the relaxed one."""
        if self.residual is not None:
            plan = self._optimum()
            plan = plan._replace(capped=plan.kept >= self._largest())
        else:
            plan = self._best([kernel.relaxed(self.devices, p) for p in self.packets])
        sending = np.where(plan.dense, Case.DENSE, np.where(plan.capped, Case.POWER, Case.ENERGY))
        return codes(self._full(np.where(plan.kept > 0, sending, Case.SILENT)), Case)

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """Clip the energy-limited efficiency to what power, contact and model allow."""
        proof = None if self.whole else self._prices
        return ClosedForm(lambda: self._point(self._optimum()), proof)

    # -- what proves it -----------------------------------------------------------------------

    def _prices(self) -> dict[str, Array]:
        """mu and nu of every packet, the last axis."""
        found = [kernel.prices(self.devices, packet) for packet in self.packets]
        names = ("bit_price", "energy_surcharge")
        return {n: np.stack([self._full(v) for v in col], -1) for n, col in zip(names, zip(*found))}

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The sum of the devices' duals, at the witness's prices or the closed form's."""
        claims = list(self._whole_bounds() if self.whole else self._duals(witness))
        return np.maximum.reduce([self._full(claim) for claim in claims]).sum(-1)

    def _duals(self, witness: Witness | None) -> Iterator[Array]:
        prices = witness if witness is not None and "bit_price" in witness else self._prices()
        mu, nu = (np.asarray(prices[n]) for n in ("bit_price", "energy_surcharge"))
        for place, packet in enumerate(self.packets):
            yield kernel.dual(self.devices, packet, mu[..., place], nu[..., place])

    def _whole_bounds(self) -> Iterator[Array]:
        d, gain = self.devices, self.gain
        for packet in self.packets:
            yield kernel.whole_bound(d, packet, gain, kernel.best_whole(d, packet, gain)[1])

    def kkt_residual(self, x: Point) -> Array:
        """Scaled KKT residual of each device ``(..., N)`` in the base problem, 0 at the optimum.

        The larger of the relative slack of the rate and |1 - 2^(y - y_eng)|, the latter only where
        it has the wrong sign: too much at y > 0, too little below y_cap.
        """
        self._refuse_kinks()
        if self.circuit_power_w.any() or self.coding != "index":
            raise NotOffered("circuit power and codings are certified by the bound alone")
        d, (packet,) = self.devices, self.packets
        with np.errstate(all="ignore"):
            y = np.log1p(x["power_w"] * self.snr_per_watt) / LN2
            top = np.minimum(d.y_cap, d.y_for(packet.size(d.size)))
            more = -np.expm1((y - d.y_eng(packet)) * LN2)  # what a little more is worth
            more = np.where((self.value > 0) & np.isfinite(self.energy_price), more, -np.inf)
            wrong = np.where(y < top * (1 - kernel.ROUNDING), np.maximum(more, 0.0), 0.0)
            wrong = np.maximum(wrong, np.where(y > 0, -more, 0.0))
            room = self.sent_bits(x) - self.needed_bits(x["kept"])
            slack = np.abs(room) / self.needed_bits(self.kept_max)
        return self._full(np.where(self.kept_max > 0, np.maximum(wrong, slack), x["kept"]))

    # -- other forms --------------------------------------------------------------------------

    def _refuse_infinite(self) -> None:
        if not (np.isfinite(self.value).all() and np.isfinite(self.energy_price).all()):
            raise NotOffered("some value or price of energy is infinite")

    @offers(Smooth)
    def smooth(self) -> Smooth:
        """Shares of k_max, of the energy p_max tau and of the contact: linear over a convex set."""
        self._refuse_kinks()
        self._refuse_infinite()
        return Shares(self if self.batch_shape == () else self.flat()[0]).form()

    @offers(Model)
    def model(self) -> Model:
        """The same shares in cvxpy and pyomo; circuit power is convex too."""
        self._refuse_infinite()
        if self.whole or not self.linear_bits:
            raise NotOffered("whole k, a header or a choice of coding is not convex")
        size = self.sizes["N"]
        return Model(("MADS", size), lambda backend: MODELS[backend](size))
