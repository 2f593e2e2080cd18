"""The radio link of a training run: who is where, what fades, what the server knows.

Per round and device the power gain is ``mean_gain * fade`` with a unit-mean fade drawn from the
named stream ``("channel", round)``, so every policy with one seed sees the same channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from rralloc.channel import (
    NOISE_PSD_W_PER_HZ,
    Cell,
    Placement,
    macro_3gpp,
    nakagami,
    nakagami_outage,
    rayleigh,
    rayleigh_outage,
    rician,
    rician_outage,
)
from rralloc.errors import InvalidProblem
from rralloc.fl.streams import Streams
from rralloc.policy import Round
from rralloc.typing import Array

Fading = Literal["none", "rayleigh", "rician", "nakagami"]


def fades(law: Fading, shape: float, size: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Unit-mean power fades of a law; ``shape`` is Rician K-factor or Nakagami m."""
    if law == "none":
        return np.ones(size)
    if law == "rayleigh":
        return rayleigh(size, rng)
    if law == "rician":
        return rician(size, rng, k_factor=shape)
    return nakagami(size, rng, m=shape)


@dataclass(frozen=True, eq=False)
class Link:
    """An uplink that K devices share.

    mean_gain: ``(K,)`` linear path gain. compute_s: ``(K,)`` s for one local step.
    bandwidth_hz: B. power_w: ``(K,)`` or scalar. noise_psd_w_hz: N0.
    payload_bit: size of an update; None takes ``bits_per_weight`` for each weight of the model.
    fading: law of the unit-mean fade; ``shape`` is Rician K-factor or Nakagami m.
    csi: ``full`` shows the server this round's gain, ``mean`` only the mean.
    compute_j: energy of one local step, J.
    placement: where the devices are, for maps.
    uplink_s: T, s, the fixed time in which packets of fixed length are sent (``SignModulus``);
        packets whose airtime follows from their rate do not look at it.
    """

    mean_gain: Array
    compute_s: Array
    bandwidth_hz: float = 1e6
    power_w: Array | float = 0.1
    noise_psd_w_hz: float = NOISE_PSD_W_PER_HZ
    payload_bit: float | None = None
    bits_per_weight: float = 32.0
    fading: Fading = "rayleigh"
    shape: float = 1.0
    csi: Literal["full", "mean"] = "full"
    compute_j: float = 0.0
    placement: Placement | None = None
    uplink_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("mean_gain", "compute_s"):
            self._store(name, np.atleast_1d(np.array(getattr(self, name), dtype=float)))
        self._store("power_w", np.array(self.power_w, dtype=float))
        for name in ("compute_s", "power_w"):
            if getattr(self, name).shape not in ((), (1,), (self.devices,)):
                raise InvalidProblem(f"Link.{name}: give one value, or one for each device")
        positive = ("bandwidth_hz", "noise_psd_w_hz", "bits_per_weight", "payload_bit", "uplink_s")
        for name in positive:
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise InvalidProblem(f"Link.{name} = {value} is not in (0, inf)")
        for name, known in (("fading", get_args(Fading)), ("csi", ("full", "mean"))):
            if getattr(self, name) not in known:
                chosen, words = getattr(self, name), ", ".join(known)
                raise InvalidProblem(f"Link.{name} = {chosen!r}; choose one of {words}")

    def _store(self, name: str, value: Array) -> None:
        """Checked and read-only: a policy is shown these arrays."""
        if not (np.isfinite(value).all() and (value >= 0).all()):
            raise InvalidProblem(f"Link.{name}: give finite values >= 0, one for each device")
        value.setflags(write=False)
        object.__setattr__(self, name, value)

    @classmethod
    def cell(
        cls,
        clients: int,
        *,
        radius_m: float = 500.0,
        min_distance_m: float = 50.0,
        compute_s: tuple[float, float] = (0.1, 0.5),
        seed: int = 0,
        **settings: object,
    ) -> Link:
        """Devices uniform in a cell, 3GPP macro path loss, compute times uniform in a range."""
        streams = Streams(seed)
        placement = Cell(radius_m, min_distance_m).drop(clients, streams.rng("placement"))
        return cls(
            mean_gain=macro_3gpp(placement.distance_m),
            compute_s=streams.rng("compute").uniform(*compute_s, size=clients),
            placement=placement,
            **settings,  # type: ignore[arg-type]  # checked by the dataclass itself
        )

    @classmethod
    def loaded(
        cls,
        clients: int,
        *,
        load: float,
        weights: int,
        modulus_bits: int = 3,
        header_bits: int = 64,
        snr_db: tuple[float, float] = (0.0, 15.0),
        bandwidth_hz: float = 1e6,
        power_w: float = 0.1,
        noise_psd_w_hz: float = NOISE_PSD_W_PER_HZ,
        compute_s: tuple[float, float] = (0.1, 0.5),
        seed: int = 0,
        **settings: object,
    ) -> Link:
        """Devices that must send ``load`` bit/s/Hz together, in a fixed uplink time T.

        The mean SNR of device k on 1/K of the band is uniform in the range ``snr_db``, dB. With
        vectors of l = ``weights`` entries, b = ``modulus_bits`` per modulus and b0 =
        ``header_bits``, T follows from

            load = K (l + l b + b0)/(B T).

        Rayleigh fading, of which the server knows the mean only. Streams: "snr", "compute".

        Choose this when packets have fixed lengths (``SignModulus``) and scarcity is the question.
        """
        if not (0 < load < np.inf and weights >= 1 and clients >= 1):
            raise InvalidProblem(
                f"Link.loaded: load = {load}, weights = {weights}, clients = {clients}; "
                "all must be > 0"
            )
        streams = Streams(seed)
        snr = 10 ** (streams.rng("snr").uniform(*snr_db, size=clients) / 10)
        bits = clients * (weights + weights * modulus_bits + header_bits)
        return cls(
            mean_gain=snr * noise_psd_w_hz * bandwidth_hz / clients / power_w,
            compute_s=streams.rng("compute").uniform(*compute_s, size=clients),
            bandwidth_hz=bandwidth_hz,
            power_w=power_w,
            noise_psd_w_hz=noise_psd_w_hz,
            uplink_s=bits / (load * bandwidth_hz),
            csi="mean",
            **settings,  # type: ignore[arg-type]  # checked by the dataclass itself
        )

    @property
    def devices(self) -> int:
        """K."""
        return int(self.mean_gain.size)

    def gains(self, rng: np.random.Generator, index: int = 0) -> Array:
        """The power gain ``(K,)`` of round ``index``."""
        return self.mean_gain * fades(self.fading, self.shape, (self.devices,), rng)

    def in_contact(self, index: int) -> Array:
        """Who hears the server in round ``index`` ``(K,)``: everybody."""
        return np.ones(self.devices, dtype=bool)

    def admit(self, rounds: int, scheme: str, running: object) -> None:
        """Refuse a run that the link cannot carry; this one carries any."""

    def loss_probability(self, margin: float) -> float:
        """Pr(fade < margin) when the server knows the mean only; 0 when it knows the gain."""
        if self.csi == "full":
            return 0.0 if margin <= 1 else 1.0
        if self.fading == "none":
            return float(margin > 1)
        if self.fading == "rayleigh":
            return float(rayleigh_outage(margin))
        if self.fading == "rician":
            return float(rician_outage(margin, k_factor=self.shape))
        return float(nakagami_outage(margin, m=self.shape))

    def _known(self, index: int, gain: Array) -> Array:
        """The gain that the server is shown."""
        return gain.copy() if self.csi == "full" else self.mean_gain

    def round(
        self,
        index: int,
        gain: Array,
        weights: int,
        share: Array,
        statistics: dict[str, Array],
        *,
        modulus_bits: int | None = None,
        header_bits: int | None = None,
        everybody_computes: bool | None = None,
        payload_bit: float | None = None,
        local_steps: int = 1,
        learning_rate: float | None = None,
    ) -> Round:
        """What the server knows at the start of a round.

        everybody_computes: None says so if there are statistics. payload_bit: what the scheme makes
        of an update; None takes the link's.
        """
        if payload_bit is None:
            payload_bit = self.payload_bit
        payload = self.bits_per_weight * weights if payload_bit is None else payload_bit
        known = self._known(index, gain)
        known.setflags(write=False)
        return Round(
            index=index,
            path_gain=known,
            bandwidth_hz=self.bandwidth_hz,
            power_w=np.broadcast_to(self.power_w, gain.shape),
            noise_psd_w_hz=self.noise_psd_w_hz,
            payload_bit=payload,
            compute_s=np.broadcast_to(self.compute_s * local_steps, gain.shape),
            compute_j=self.compute_j * local_steps,
            share=share,
            statistics=statistics,
            everybody_computes=bool(statistics)
            if everybody_computes is None
            else everybody_computes,
            uplink_s=self.uplink_s,
            weights=weights,
            modulus_bits=modulus_bits,
            header_bits=header_bits,
            local_steps=local_steps,
            learning_rate=learning_rate,
        )
