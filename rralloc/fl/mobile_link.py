"""A link to devices that move: in contact for some seconds of a round, or not at all.

Each device in contact sends on a band of its own, B, over the gain h = law(distance) fade of the
round; g = h/N with noise power N. Two numbers without unit rule what can be had, for a model of s
parameters with b bits each and rounds of T seconds (spec mads.md §5.1):

    chi = 8 B T/(s b)             share of the sparse model that a whole round carries at 8 bit/s/Hz
    psi = Ebar/(p_max duty T)     share of the energy at full power that may be spent

chi above 0.3 or so leaves little to decide. Source: mads.md §2.2-2.4, assumed settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from rralloc.channel import Contacts, macro_3gpp
from rralloc.errors import InvalidProblem
from rralloc.fl.link import Link, fades
from rralloc.fl.reports import OF_THE_SERVER
from rralloc.numerics.gaps import mean_gap
from rralloc.policy import Round
from rralloc.typing import Array

NOISE_PSD_W_HZ = 1e-18
"""-150 dBm/Hz: thermal noise, a noise figure and a margin for interference."""
PRIOR_FADES = 256
"""Fades drawn, the same for each contact, from which the median gain is estimated."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MobileLink(Link):
    """An uplink of N devices whose contacts are given; train over it with ``SparseUpload``.

    Problem data, as ``MADS`` reads them round by round
        contacts: seconds and distance ``(R, N)`` (``rralloc.channel``). bandwidth_hz: B of each
        device, Hz. power_w: p_max, W. noise_psd_w_hz: N0, W/Hz. noise_bandwidth_hz: N = N0 times
        this, Hz; None takes B. path_loss, min_distance_m: gain of a distance in m.
        budget_per_round_j: Ebar, J, one number or ``(N,)``, what may be spent on average.
        circuit_power_w: P_c while sending, W. value_bits: q, bits of a value; a position takes
        ceil(log2 s) more. header_bits: b0. upload_loss: probability that an upload is lost although
        it fits. Computing takes no time beside a round of T seconds.
    What the server knows
        csi: ``full`` this round's gain, ``mean`` the gain without fading (an upload may then not
        fit). contact: ``known`` how long each device is in contact in the round, ``mean`` only who
        is, and how long that is in such a round on average. earlier: contacts from which the prior
        statistics are taken; None takes those of the run, whose long-run means are then known.
        Reports of devices out of contact are NaN: nobody hears them.
    Derived
        chi(weights), psi; mean_gain ``(N,)`` over the contacts.
    Errors
        InvalidProblem for values outside their range.
    Choose this when
        devices move; ``Contacts.always`` makes it synchronous.
    """

    contacts: Contacts
    mean_gain: Array = field(init=False, repr=False)
    compute_s: Array = field(init=False, repr=False)
    bits_per_weight: float = field(init=False, repr=False, default=32.0)
    payload_bit: float | None = field(init=False, repr=False, default=None)
    uplink_s: float | None = field(init=False, repr=False, default=None)
    power_w: Array | float = 0.2
    bandwidth_hz: float = 4e3
    noise_psd_w_hz: float = NOISE_PSD_W_HZ
    noise_bandwidth_hz: float | None = None
    path_loss: Callable[[Array], Array] = macro_3gpp
    min_distance_m: float = 10.0
    budget_per_round_j: Array | float = np.inf
    circuit_power_w: float = 0.0
    value_bits: float = 32.0
    header_bits: float = 0.0
    upload_loss: float = 0.0
    contact: Literal["known", "mean"] = "known"
    earlier: Contacts | None = None

    def __post_init__(self) -> None:
        gain, met = self._path_gain, self.contacts.present
        mean = gain.sum(0) / np.maximum(met.sum(0), 1)
        object.__setattr__(self, "mean_gain", mean)
        object.__setattr__(self, "compute_s", np.zeros(self.contacts.devices))  # within the round
        super().__post_init__()
        budget = np.asarray(self.budget_per_round_j, dtype=float)
        one_each = budget.shape in ((), (self.devices,))
        allowed = {
            "budget_per_round_j": (one_each and (budget >= 0).all(), ">= 0 J, one or one each"),
            "circuit_power_w": (0 <= self.circuit_power_w < np.inf, "in [0, inf) W"),
            "value_bits": (0 < self.value_bits < np.inf, "in (0, inf) bit"),
            "header_bits": (0 <= self.header_bits < np.inf, "in [0, inf) bit"),
            "upload_loss": (0 <= self.upload_loss <= 1, "in [0, 1]"),
            "contact": (self.contact in ("known", "mean"), "'known' or 'mean'"),
        }
        for name, (fine, range_) in allowed.items():
            if not fine:
                raise InvalidProblem(f"MobileLink.{name} = {getattr(self, name)!r} is not {range_}")
        if self.noise_bandwidth_hz is not None and not 0 < self.noise_bandwidth_hz < np.inf:
            raise InvalidProblem(
                f"MobileLink.noise_bandwidth_hz = {self.noise_bandwidth_hz} is not in (0, inf) Hz"
            )
        if self.earlier is not None and self.earlier.devices != self.contacts.devices:
            raise InvalidProblem(
                f"MobileLink.earlier has {self.earlier.devices} devices and contacts "
                f"{self.contacts.devices}; give contacts of the same devices"
            )

    @classmethod
    def scaled(
        cls,
        contacts: Contacts,
        *,
        weights: int,
        chi: float,
        psi: float,
        duty: float | None = None,
        snr_db: float | None = None,
        **settings: Any,
    ) -> MobileLink:
        """The link with given chi and psi for a model of s = ``weights`` parameters.

        B = chi s b/(8 T), Ebar = psi p_max duty T with the mean of p_max over devices; the noise
        power is that of 4 kHz whatever B is, so that chi and the SNR vary apart. duty: share of the
        time in contact, default the mean of ``contacts``. snr_db: sets the noise so that at the
        power psi p_max, which the energy lasts for, the median SNR over contacts is this without
        fading, dB; None takes the noise density.
        Raises InvalidProblem: a number is not > 0.

        Choose this when scarcity is the question.
        """
        duty = float(contacts.share.mean()) if duty is None else duty
        least = 0.0 if snr_db is None else np.finfo(float).tiny
        if not (0 < chi < np.inf and least <= psi < np.inf and weights >= 1):
            raise InvalidProblem(
                f"MobileLink.scaled: chi = {chi}, psi = {psi}, weights = {weights}; give chi > 0, "
                "weights >= 1 and psi >= 0, > 0 with snr_db"
            )
        first = cls(contacts=contacts, **settings)
        b = first.bits_per_coordinate(weights)
        peak = float(np.mean(first.power_w))
        derived = {
            "bandwidth_hz": chi * weights * b / 8 / contacts.round_s,
            "budget_per_round_j": psi * peak * duty * contacts.round_s,
            "noise_bandwidth_hz": 4e3,
        }
        if snr_db is not None and contacts.present.any():
            usual = psi * peak * float(np.median(first._path_gain[contacts.present]))
            derived["noise_psd_w_hz"] = usual / 10 ** (snr_db / 10) / 4e3
        return cls(contacts=contacts, **{**derived, **settings})

    # -- what follows from the data -----------------------------------------------------------

    @property
    def round_s(self) -> float:
        """T, s."""
        return self.contacts.round_s

    @property
    def noise_w(self) -> float:
        """N, W."""
        return self.noise_psd_w_hz * (self.noise_bandwidth_hz or self.bandwidth_hz)

    def bits_per_coordinate(self, weights: int) -> float:
        """b = q + ceil(log2 s): a value and its position."""
        return float(self.value_bits + np.ceil(np.log2(weights)))

    def chi(self, weights: int) -> float:
        """Share of a sparse model of s = ``weights`` that a round carries at 8 bit/s/Hz."""
        return 8 * self.bandwidth_hz * self.round_s / weights / self.bits_per_coordinate(weights)

    @property
    def psi(self) -> float:
        """Share of the energy at full power that may be spent; of means over devices."""
        full = float(np.mean(self.power_w)) * float(self.contacts.share.mean()) * self.round_s
        return float(np.mean(self.budget_per_round_j)) / full if full > 0 else np.inf

    @cached_property
    def _path_gain(self) -> Array:
        """Without fading ``(R, N)``, 0 out of contact."""
        return self.contacts.path_gain(self.path_loss, min_distance_m=self.min_distance_m)

    @cached_property
    def priors(self) -> dict[str, Array]:
        """What is known in advance ``(N,)``: the process of contacts, not its course.

        ``prior_contact_s`` mean of tau over all rounds, ``contact_probability`` of a round,
        ``prior_gap_rounds`` rounds without contact between two with, ``prior_snr_per_watt`` median
        over contacts and fades, ``prior_value`` 1 as weights are normalised. A device that was
        never met is taken for one that is met once in R + 1 rounds, as far away as the others.
        """
        known = self.contacts if self.earlier is None else self.earlier
        met, once = known.present, 1 / (known.rounds + 1)
        ever = met.any(0) if known.rounds else np.zeros(self.devices, dtype=bool)
        return {
            "prior_contact_s": np.where(ever, known.share * known.round_s, once * known.round_s),
            "contact_probability": np.where(ever, known.probability, once),
            "prior_gap_rounds": mean_gap(met),
            "prior_snr_per_watt": self._usual_snr(known),
            "prior_value": np.ones(self.devices),
        }

    def _usual_snr(self, known: Contacts) -> Array:
        """Median of g over contacts and fades; that of all where a device was never met."""
        met = known.present
        gain = known.path_gain(self.path_loss, min_distance_m=self.min_distance_m)
        drawn = fades(self.fading, self.shape, (PRIOR_FADES,), np.random.default_rng(0))
        seen = np.flatnonzero(met.any(0))
        own = [np.median(np.outer(gain[met[:, n], n], drawn)) for n in seen]
        usual = np.full(self.devices, np.median(own) if own else 0.0)
        usual[seen] = own
        return usual / self.noise_w

    # -- what the engine asks -----------------------------------------------------------------

    def gains(self, rng: np.random.Generator, index: int = 0) -> Array:
        """The power gain ``(N,)`` of round ``index``, 0 out of contact."""
        return self._path_gain[index] * fades(self.fading, self.shape, (self.devices,), rng)

    def in_contact(self, index: int) -> Array:
        """Who hears the server in round ``index`` ``(N,)``."""
        heard: Array = self.contacts.present[index]
        return heard

    def admit(self, rounds: int, scheme: str, running: object) -> None:
        """Contacts are known for so many rounds only, and not every scheme knows of contacts."""
        if not getattr(running, "within_contacts", False):
            raise InvalidProblem(
                f"scheme {scheme!r} knows no contacts: over a MobileLink use fl.SparseUpload, "
                "or a policy that brings it, such as DriftPlusPenalty"
            )
        if rounds > self.contacts.rounds:
            raise InvalidProblem(
                f"rounds = {rounds}, and the contacts of the link last {self.contacts.rounds}; "
                "make contacts for as many"
            )

    def round(
        self,
        index: int,
        gain: Array,
        weights: int,
        share: Array,
        statistics: dict[str, Array],
        **settings: Any,
    ) -> Round:
        """What the server knows: besides reports the fields of ``MADS`` as statistics ``(N,)``."""
        stated = {
            "contact_s": self._shown_contact(index),
            "snr_per_watt": self._known(index, gain) / self.noise_w,
            "power_max_w": self.power_w,
            "bandwidth_hz": self.bandwidth_hz,
            "noise_w": self.noise_w,
            "budget_per_round_j": self.budget_per_round_j,
            "circuit_power_w": self.circuit_power_w,
            "model_size": weights,
            "bits_per_coordinate": self.bits_per_coordinate(weights),
            "dense_bits_per_coordinate": self.value_bits,
            "header_bits": self.header_bits,
            **self.priors,
        }
        full = {n: np.broadcast_to(np.asarray(v, float), gain.shape) for n, v in stated.items()}
        plain = {
            "rounds": np.array(self.contacts.rounds),
            "integer": np.array(True),
            "contact_is_mean": np.array(self.contact == "mean"),
        }
        told = {**full, **plain, **self._heard(index, statistics)}
        return super().round(index, gain, weights, share, told, **settings)

    def _heard(self, index: int, statistics: dict[str, Array]) -> dict[str, Array]:
        """Reports of who is in contact; NaN for the others, which the server cannot hear."""
        met = self.in_contact(index)
        heard = {}
        for name, values in statistics.items():
            mask = met.reshape(-1, *[1] * (values.ndim - 1))
            heard[name] = values if name in OF_THE_SERVER else np.where(mask, values, np.nan)
        return heard

    def _known(self, index: int, gain: Array) -> Array:
        return gain.copy() if self.csi == "full" else self._path_gain[index].copy()

    def _shown_contact(self, index: int) -> Array:
        """tau, or its mean for who is in contact."""
        seconds = self.contacts.seconds[index]
        if self.contact == "known":
            return seconds
        mean = self.priors["prior_contact_s"] / self.priors["contact_probability"]
        return np.where(seconds > 0, mean, 0.0)
