"""A link that adds: devices send analog symbols at once and N antennas receive their sum.

    y = sum_k h_k b_k s_k + n,    n ~ CN(0, sigma^2 I),  sigma^2 = N0 B

One real number s_k per channel use; the server listens along a beam m and takes Re(m^H y), so half
of the noise power is heard. What server and devices know of the channel is hhat_k:

    h_k = e^{j psi_k} (hhat_k + e_k),  e_k ~ CN(0, csi_error mean_gain I),  psi_k ~ U(-Delta, Delta)

and symbols arrive up to ``timing_offset`` of their duration early or late, which smears them over
their neighbours (sinc pulses). Source: ota.md §2.1, §6, §7; derived.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rralloc.channel import rayleigh_coefficients
from rralloc.errors import InvalidProblem
from rralloc.fl.link import Link
from rralloc.fl.streams import Streams
from rralloc.numerics.counts import is_count
from rralloc.policy import Round
from rralloc.typing import Array


@dataclass(frozen=True, eq=False, kw_only=True)
class AirLink(Link):
    """An uplink in which the channel adds up what K devices send; train with ``OverTheAir``.

    As ``Link``, and
        antennas: N >= 1 of the server. csi_error: share in [0, 1) of the mean gain that is not
        known. phase_error_rad: Delta in [0, pi]. timing_offset: delta in [0, 1), symbol durations.
        fading: ``rayleigh``, h ~ CN(0, mean_gain I), or ``none``, h = sqrt(mean_gain).
    A symbol takes 1/B s. With csi_error = phase_error_rad = timing_offset = 0 everything is known.
    Errors
        InvalidProblem for values outside their range; ``csi="mean"``: a beam needs the channel.
    Choose this when
        updates are summed up over the air.
    """

    antennas: int = 1
    csi_error: float = 0.0
    phase_error_rad: float = 0.0
    timing_offset: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = {
            "antennas": (is_count(self.antennas, 1), "a whole number >= 1"),
            "csi_error": (0 <= self.csi_error < 1, "in [0, 1)"),
            "phase_error_rad": (0 <= self.phase_error_rad <= np.pi, "in [0, pi] rad"),
            "timing_offset": (0 <= self.timing_offset < 1, "in [0, 1) symbols"),
            "fading": (self.fading in ("rayleigh", "none"), "'rayleigh' or 'none'"),
            "csi": (self.csi == "full", "'full': a beam needs the channel; state csi_error"),
        }
        for name, (fine, range_) in allowed.items():
            if not fine:
                raise InvalidProblem(f"AirLink.{name} = {getattr(self, name)!r} is not {range_}")

    @classmethod
    def spread(
        cls,
        clients: int,
        *,
        antennas: int,
        snr_db: float,
        loss_db: tuple[float, float] = (0.0, 20.0),
        seed: int = 0,
        **settings: Any,
    ) -> AirLink:
        """Devices whose path losses are uniform in a range, dB; 1 W, and P/sigma^2 = ``snr_db``.

        Computing takes no time, so that seconds count channel uses. Stream: "placement".
        """
        loss = Streams(seed).rng("placement").uniform(*loss_db, size=clients)
        bandwidth = float(settings.pop("bandwidth_hz", 1e6))
        return cls(
            mean_gain=10 ** (-loss / 10),
            compute_s=np.zeros(1),
            bandwidth_hz=bandwidth,
            power_w=1.0,
            noise_psd_w_hz=10 ** (-snr_db / 10) / bandwidth,
            antennas=antennas,
            **settings,
        )

    @property
    def noise_w(self) -> float:
        """sigma^2 of one antenna, W."""
        return self.noise_psd_w_hz * self.bandwidth_hz

    def mse_target(self, db: float) -> float:
        """gamma with gamma P/sigma^2 = ``db``, P the largest power: from which |m^H h|^2 on
        devices are served.
        """
        return float(10 ** (db / 10) * self.noise_w / np.max(self.power_w))

    # -- what the engine asks -----------------------------------------------------------------

    def gains(self, rng: np.random.Generator, index: int = 0) -> Array:
        """hhat of round ``index``, complex ``(N, K)``: what is known of the channel."""
        size, known = (self.antennas, self.devices), (1 - self.csi_error) * self.mean_gain
        if self.fading == "none":
            return np.ones(size) * np.sqrt(known).astype(complex)
        return np.sqrt(known) * rayleigh_coefficients(size, rng)

    def round(
        self,
        index: int,
        gain: Array,
        weights: int,
        share: Array,
        statistics: dict[str, Array],
        **settings: Any,
    ) -> Round:
        """What the server knows: hhat, and how far to trust it.

        ``path_gain`` is the mean power of hhat over the antennas. Statistics: ``csi_error``
        (variance of one entry), ``phase_error_rad``, ``timing_offset``.
        """
        power = (gain.real**2 + gain.imag**2).mean(0)
        shown = gain.copy()
        shown.setflags(write=False)
        errors = {
            "csi_error": self.csi_error * self.mean_gain,
            "phase_error_rad": np.full(self.devices, self.phase_error_rad),
            "timing_offset": np.full(self.devices, self.timing_offset),
        }
        if settings.get("everybody_computes") is None:  # the link's own statistics cost nobody
            settings["everybody_computes"] = bool(statistics)
        told = super().round(index, power, weights, share, errors | statistics, **settings)
        return replace(told, channel=shown)

    def admit(self, rounds: int, scheme: str, running: object) -> None:
        """Not every scheme knows of antennas and sums."""
        if not getattr(running, "over_the_air", False):
            raise InvalidProblem(
                f"scheme {scheme!r} is not for an AirLink, whose channel is complex (N, K): use "
                "fl.OverTheAir, or a policy that brings it, such as Optimised(OTASelection)"
            )

    # -- what the schemes ask -----------------------------------------------------------------

    def hear(
        self, symbols: Array, factor: Array, beam: Array, known: Array, rng: np.random.Generator
    ) -> Array:
        """Re(m^H y) ``(n,)`` when device k sends ``factor_k symbols_k``; symbols real ``(K, n)``.

        factor: b, complex ``(K,)``, 0 for who is silent. known: hhat ``(N, K)``. The errors of the
        channel, phases and delays are drawn here, then the noise.
        """
        devices, uses = symbols.shape
        # 1. The channel as it is.
        unknown = np.sqrt(self.csi_error * self.mean_gain) * rayleigh_coefficients(known.shape, rng)
        phase = self.phase_error_rad * rng.uniform(-1, 1, devices)
        # 2. Each device's symbols, early or late.
        delay = self.timing_offset * rng.uniform(-1.0, 1.0, size=(devices,))
        if self.timing_offset > 0:
            symbols = shifted(symbols, delay)
        # 3. Their sum along the beam, and noise.
        through = (beam.conj() @ (known + unknown) * np.exp(1j * phase) * factor).real
        loud = np.linalg.norm(beam) * np.sqrt(self.noise_w / 2)
        return through @ symbols + loud * rng.standard_normal(uses)


def shifted(symbols: Array, delay: Array) -> Array:
    """Rows ``(K, n)`` seen ``delay (K,)`` symbol durations late, by sinc pulses, periodically."""
    uses = symbols.shape[-1]
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(uses) * delay[:, None])
    return np.asarray(np.fft.irfft(np.fft.rfft(symbols) * turn, uses))
