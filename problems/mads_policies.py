"""Online control of MADS: what a server lets each device send without knowing the future.

    DriftPlusPenalty   every round MADS with value V w and the backlog Q as the price of energy,
                       Q <- [Q + E - Ebar]^+                       (spec mads.md §2.6, §2.7, §2.9)
    FixedKeep, Dense, FixedPower, MaxPower, Ideal    the rules it is compared with

A policy reads the round's ``statistics``, arrays ``(N,)``: ``contact_s``, ``snr_per_watt``,
``value``, ``model_size``, ``bits_per_coordinate``, ``bandwidth_hz``, ``power_max_w``,
``budget_per_round_j`` and, where they apply, ``circuit_power_w``, ``header_bits``, ``integer``,
``rounds`` and the ``prior_...`` of :class:`MADSHorizon`. Its decision says ``kept``, ``power_w``,
``airtime_s`` and the ``value`` w that it saw; ``learn`` is told ``energy_j``.

In training (``fl.train`` over a ``fl.MobileLink``) nobody states values: they are made from what
devices report, ``update_energy`` (|x|^2) or ``staleness`` (theta), and divided by their mean over
all contacts so far, since |x| shrinks as training goes on.

A reconstruction, not a transcript, of arXiv 2506.07328 from its abstract and public reviews; drift
plus penalty is the standard method, which we assume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rralloc.errors import InvalidProblem, UnknownName
from rralloc.numerics.logexp import LN2
from rralloc.numerics.queue import ceiling, served
from rralloc.numerics.rates import efficiency
from rralloc.policy import Decision, Round
from rralloc.problems._mads_kernel import ROUNDING
from rralloc.problems._mads_upload import FINITE
from rralloc.problems.mads import FROM_ROUND, MADS, act, require_contacts
from rralloc.problems.mads_unknown_contact import MADSUnknownContact
from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.fl.schemes import SparseUpload

WEIGHTINGS = {
    "hold": ("update_energy",),
    "norm": ("update_energy",),
    "flat": (),
    "stale": ("staleness",),
}
"""What devices report for each way of valuing a coordinate."""


class Backlog(NamedTuple):
    """Memory: the queue, energy spent so far, the rounds seen, V, the last round's budget.

    ``worth`` over ``contacts`` is the mean of the weights that were seen so far.
    """

    queue: Array
    spent: Array
    rounds: int
    tradeoff: Array
    budget: Array
    worth: float = 0.0
    contacts: int = 0


def weight_of(told: Mapping[str, Array], weighting: str) -> Array:
    """Value of a kept coordinate (spec §2.5): Delta |x|^2/s, |x|^2/s, 1/s or Delta theta^2/s.

    ``hold`` takes the round's own ``value`` if it is told one. Delta is 1/P(contact).
    """
    if weighting == "hold" and "value" in told:
        return told["value"]
    size = told["model_size"]
    if weighting == "flat":
        return 1 / size
    wanted = "staleness" if weighting == "stale" else "update_energy"
    if wanted not in told:
        raise InvalidProblem(f"weighting {weighting!r} needs the statistic {wanted!r}")
    score = told[wanted] ** 2 if weighting == "stale" else told[wanted]
    if weighting == "norm":
        return score / size
    if "contact_probability" not in told:
        raise InvalidProblem(f"weighting {weighting!r} needs the statistic 'contact_probability'")
    met = told["contact_probability"]
    return np.where(met > 0, score / np.where(met > 0, met, 1.0), 0.0) / size


def reference_backlog(told: Mapping[str, Array], budget: Array) -> Array:
    """Q_ref = Ebar max(sqrt(R), 3 mean gap in rounds) (spec §2.9)."""
    return budget * np.maximum(np.sqrt(told["rounds"]), 3 * told["prior_gap_rounds"])


def default_tradeoff(told: Mapping[str, Array], budget: Array) -> Array:
    """V = Q_ref b ln2 (pbar + 1/g_med)/(w_bar B), pbar = Ebar/E[tau] over all rounds (§2.9).

    From prior statistics; 0, which is silence, for a device that has no contact to expect.
    """
    tau, g, w = (told[f"prior_{n}"] for n in ("contact_s", "snr_per_watt", "value"))
    with np.errstate(all="ignore"):
        joule = told["bits_per_coordinate"] * LN2 * (budget / tau + 1 / g) / told["bandwidth_hz"]
        found = reference_backlog(told, budget) * joule / w
    return np.where(np.isfinite(found), found, 0.0)


@dataclass(frozen=True)
class _EnergyAware:
    """What all rules share: the queue as a meter, values, and a cumulative budget if it is hard."""

    budget_per_round_j: float | Array | None = None
    """Ebar, J; None takes the round's."""
    hard_budget: bool = False
    """No device ever spends more than (r + 1) Ebar in rounds 0..r (V5)."""
    weighting: str = "hold"
    """What a coordinate is worth, see :func:`weight_of`; most rules only log it."""

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTINGS:
            raise UnknownName("weighting", self.weighting, WEIGHTINGS)

    @property
    def reports(self) -> tuple[str, ...]:
        """What devices report in training."""
        return WEIGHTINGS[self.weighting]

    @property
    def scheme(self) -> SparseUpload:
        """What devices send in training."""
        from rralloc.fl.schemes import SparseUpload

        return SparseUpload()

    def budget(self, told: Mapping[str, Array]) -> Array:
        """Ebar ``(N,)``."""
        own = self.budget_per_round_j
        given = told["budget_per_round_j"] if own is None else np.asarray(own, dtype=float)
        if not (given >= 0).all():
            raise InvalidProblem("budget_per_round_j must be >= 0, in J")
        return np.broadcast_to(given, told["contact_s"].shape)

    def start(self, round: Round, rng: np.random.Generator) -> Backlog:
        """Empty queues."""
        return self._begun(round.statistics)

    def _begun(self, told: Mapping[str, Array]) -> Backlog:
        require_contacts(told)
        zero = np.zeros(told["contact_s"].shape)
        return Backlog(zero, zero, 0, zero, zero)

    def _limits(self, memory: Backlog) -> dict[str, Array]:
        if not self.hard_budget or np.isinf(memory.budget).all():
            return {}
        left = np.maximum((memory.rounds + 1) * memory.budget - memory.spent, 0.0)
        return {"energy_budget_j": np.minimum(left, FINITE)}

    def decide(
        self, round: Round, memory: Backlog, rng: np.random.Generator
    ) -> tuple[Decision, Backlog]:
        """The rule's coordinates with the power and airtime of least energy for them."""
        told, memory = self._valued(round.statistics, memory)
        memory = memory._replace(budget=self.budget(told))
        x = {**self.choose(told, memory), "value": told["value"]}
        x["budget_per_round_j"] = memory.budget
        return act(round, x), memory._replace(rounds=memory.rounds + 1)

    def _valued(
        self, told: Mapping[str, Array], memory: Backlog
    ) -> tuple[dict[str, Array], Backlog]:
        """The round with its ``value`` w: told, or weighed and over the mean of all contacts."""
        w = np.asarray(weight_of(told, self.weighting), dtype=float)
        if "value" in told:
            return {**told, "value": w}, memory
        here = (told["contact_s"] > 0) & np.isfinite(w)
        worth, contacts = memory.worth + float(w[here].sum()), memory.contacts + int(here.sum())
        usual = worth / contacts if worth > 0 else 1.0
        value = np.where(here, w / usual, 0.0)
        return {**told, "value": value}, memory._replace(worth=worth, contacts=contacts)

    def choose(self, told: Mapping[str, Array], memory: Backlog) -> Point:
        """Kept, power and airtime of this round."""
        raise NotImplementedError

    def learn(self, feedback: Mapping[str, Any], memory: Backlog) -> Backlog:
        """Count what was spent."""
        return memory._replace(spent=memory.spent + feedback["energy_j"])


@dataclass(frozen=True)
class DriftPlusPenalty(_EnergyAware):
    """Each round max V w k - Q E for every device, and Q <- [Q + E - Ebar]^+.

    ``tradeoff`` V: None takes the rule of §2.9 from the declared priors and starts the queue at its
    reference backlog; larger V is worth more and lets the queue grow: the gap to clairvoyance falls
    as 1/V, the backlog rises as V. ``queue0``: None is 0 with a given V. ``patience`` multiplies
    the rule's V and backlog, so that the price moves more slowly; a hard budget needs no queue, and
    with it 16 was better than 1 wherever we looked. ``weighting``: see :func:`weight_of`. With
    ``hard_budget`` nothing is ever overspent; else R rounds overspend by at most Q_R - Q_0.
    """

    tradeoff: float | Array | None = None
    queue0: float | Array | None = None
    patience: float = 1.0
    curve_aware: bool = False
    """Value the j-th largest entry by its own square, not by the mean (V4)."""
    contact: str = "known"
    """``known``: ``contact_s`` is how long the contact lasts; ``exponential``: its mean (V6)."""
    label: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.contact not in ("known", "exponential"):
            raise UnknownName("contact", self.contact, ("known", "exponential"))
        if self.curve_aware and self.contact != "known":
            raise InvalidProblem("DriftPlusPenalty: curve_aware needs contact='known'")
        for name in ("tradeoff", "queue0"):
            given = getattr(self, name)
            if given is not None and not (np.asarray(given, dtype=float) >= 0).all():
                raise InvalidProblem(f"DriftPlusPenalty.{name} = {given!r} must be >= 0")
        if not 0 < self.patience < np.inf:
            raise InvalidProblem(f"DriftPlusPenalty.patience = {self.patience!r} must be > 0")

    @property
    def name(self) -> str:
        """For tables."""
        return self.label or "drift-plus-penalty"

    @property
    def reports(self) -> tuple[str, ...]:
        """What devices report in training."""
        return (*super().reports, *["residual"] * self.curve_aware)

    def start(self, round: Round, rng: np.random.Generator) -> Backlog:
        """V, and the first backlog."""
        told = round.statistics
        zero, budget = self._begun(told).queue, self.budget(told)
        if self.contact == "exponential" and not told.get("contact_is_mean", True):
            raise InvalidProblem(
                "contact='exponential' plans for contacts of unknown length, and this link shows "
                "how long they last; give MobileLink(contact='mean') or contact='known'"
            )
        ruled = self.tradeoff is None
        if ruled and not np.isfinite(budget).all():
            raise InvalidProblem(
                "budget_per_round_j is infinite, and the default tradeoff follows from it; give a "
                "finite budget in J or a tradeoff"
            )
        first = self.patience * reference_backlog(told, budget) if ruled else zero
        rule = self.patience * default_tradeoff(told, budget) if ruled else 0.0
        tradeoff = zero + np.asarray(rule if self.tradeoff is None else self.tradeoff)
        queue = first if self.queue0 is None else zero + np.asarray(self.queue0)
        return Backlog(queue, zero, 0, tradeoff, budget)

    def choose(self, told: Mapping[str, Array], memory: Backlog) -> Point:
        """The closed form at the backlog."""
        worth, changes = memory.tradeoff * told["value"], self._limits(memory)
        if self.contact == "exponential":
            return _planned(told, worth, memory.queue, changes.get("energy_budget_j", np.inf))
        if self.curve_aware:
            here = told["contact_s"] > 0
            changes["residual"] = np.where(here[:, None], told["residual"], 0.0)
        return MADS.stated(told, worth, memory.queue, **changes).closed_form().point()

    def learn(self, feedback: Mapping[str, Any], memory: Backlog) -> Backlog:
        """Q <- [Q + E - Ebar]^+."""
        memory = super().learn(feedback, memory)
        return memory._replace(queue=served(memory.queue, feedback["energy_j"], memory.budget))

    def witness(self, memory: Backlog) -> dict[str, Array]:
        """``energy_price`` Q/V, which comes near the clairvoyant's; ``queue`` Q, ``tradeoff`` V."""
        some = memory.tradeoff > 0
        price = np.where(some, memory.queue / np.where(some, memory.tradeoff, 1.0), 0.0)
        return {"energy_price": price, "queue": memory.queue, "tradeoff": memory.tradeoff}

    def words(self, round: Round, memory: Backlog) -> str:
        """What the default rule did."""
        if self.tradeoff is not None:
            return ""
        return "tradeoff (in duals) and queue0 by the default rule from the prior_... statistics"

    def queue_ceiling(self, told: Mapping[str, Array], memory: Backlog, w_max: Array) -> Array:
        """No backlog exceeds this (spec §2.9, correction 7), given the largest w, g and tau.

        With ``curve_aware`` one coordinate may be worth all of them, s w.
        """
        if self.curve_aware:
            w_max = w_max * told["model_size"]
        most = w_max * told["bandwidth_hz"] * told["snr_per_watt"] / told["bits_per_coordinate"]
        drawn = told["power_max_w"] + told.get("circuit_power_w", 0.0)
        excess = drawn * told["contact_s"] - self.budget(told)
        return ceiling(memory.queue, memory.tradeoff * most / LN2, excess)


@dataclass(frozen=True)
class FixedKeep(_EnergyAware):
    """A fixed share of the model at the least power for it, where it fits; else nothing."""

    share: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.share <= 1:
            raise InvalidProblem(f"FixedKeep.share = {self.share!r} is not in [0, 1]")

    @property
    def name(self) -> str:
        """``fixed-keep 10 %``."""
        return f"fixed-keep {100 * self.share:g} %"

    def choose(self, told: Mapping[str, Array], memory: Backlog) -> Point:
        """share s, or the nearest whole number, at least 1."""
        problem = MADS.stated(told, 1.0, 0.0, **self._limits(memory))
        kept = np.full(told["contact_s"].shape, self.share) * told["model_size"]
        if problem.whole and self.share > 0:
            kept = np.maximum(np.floor(kept), 1.0)
        return _sent(problem, np.where(kept <= problem.kept_max, kept, 0.0))


@dataclass(frozen=True)
class Dense(_EnergyAware):
    """The whole model, without positions, or nothing: asynchronous training as it was."""

    name = "dense"

    def choose(self, told: Mapping[str, Array], memory: Backlog) -> Point:
        """All of s coordinates if they fit; ``dense_bits_per_coordinate`` each where told."""
        bits = told.get("dense_bits_per_coordinate", told["bits_per_coordinate"])
        limits = self._limits(memory)
        problem = MADS.stated(told, 1.0, 0.0, **limits, bits_per_coordinate=bits)
        full = np.where(problem.kept_max >= problem.model_size, problem.model_size, 0.0)
        return _sent(problem, full)


@dataclass(frozen=True)
class MaxPower(_EnergyAware):
    """Whatever fits the contact at full power."""

    name = "max-power"

    def _power(self, told: Mapping[str, Array]) -> Array:
        return told["power_max_w"]

    def choose(self, told: Mapping[str, Array], memory: Backlog) -> Point:
        """All that fits, then the least power for it."""
        limits = self._limits(memory) | {"power_max_w": self._power(told)}
        problem = MADS.stated(told, 1.0, 0.0, **limits)
        return _sent(problem, problem.kept_max)


@dataclass(frozen=True)
class FixedPower(MaxPower):
    """What fits the contact at the power that the budget allows on average, Ebar/E[tau]."""

    name = "fixed-power"

    def _power(self, told: Mapping[str, Array]) -> Array:
        mean = told["prior_contact_s"]
        usual = self.budget(told) / np.where(mean > 0, mean, 1.0) - told.get("circuit_power_w", 0.0)
        return np.minimum(np.maximum(usual, 0.0), told["power_max_w"])


@dataclass(frozen=True)
class Ideal(_EnergyAware):
    """Everything at every contact, at no cost: what no rule can pass (training only)."""

    name = "ideal"

    @property
    def scheme(self) -> SparseUpload:
        """Uploads are free."""
        from rralloc.fl.schemes import SparseUpload

        return SparseUpload(free=True)

    def choose(self, told: Mapping[str, Array], memory: Backlog) -> Point:
        """k = s in contact."""
        kept = np.where(told["contact_s"] > 0, told["model_size"], 0.0)
        return {"kept": kept, "power_w": np.zeros(kept.shape), "airtime_s": np.zeros(kept.shape)}


def _planned(told: Mapping[str, Array], worth: Array, price: Array, left_j: Any) -> Point:
    """V6: power and duration for a contact of mean ``contact_s``; cut to whole k and the budget."""
    if np.any(told.get("circuit_power_w", 0.0)) or np.any(told.get("header_bits", 0.0)):
        raise InvalidProblem("contact='exponential' knows neither circuit power nor headers")
    mean = told["contact_s"]
    fields = {n: told[n] for n in FROM_ROUND if n in MADSUnknownContact._data}
    problem = MADSUnknownContact(value=worth, energy_price=price, contact_mean_s=mean, **fields)
    x = problem.closed_form().point()
    power = x["power_w"]
    time = np.minimum(x["airtime_s"], left_j / np.where(power > 0, power, 1.0))
    rate = told["bandwidth_hz"] * efficiency(power * told["snr_per_watt"])
    kept = np.minimum(time * rate / told["bits_per_coordinate"], x["kept"])
    if told.get("integer", False):
        kept = np.floor(kept * (1 + ROUNDING))
    sends = kept > 0
    bits = kept * told["bits_per_coordinate"]
    time = np.where(sends, bits / np.where(sends, rate, 1.0), 0.0)
    return {"kept": kept, "power_w": np.where(sends, power, 0.0), "airtime_s": time}


def _sent(problem: MADS, kept: Array) -> Point:
    plan = problem.sending(kept)
    shape = kept.shape
    names = ("kept", "power_w", "airtime_s")
    return {n: np.broadcast_to(v, shape) for n, v in zip(names, plan)}


POLICIES: dict[str, type[_EnergyAware]] = {
    "drift-plus-penalty": DriftPlusPenalty,
    "fixed-keep": FixedKeep,
    "dense": Dense,
    "fixed-power": FixedPower,
    "max-power": MaxPower,
}
"""The solvers' names of the policies."""
