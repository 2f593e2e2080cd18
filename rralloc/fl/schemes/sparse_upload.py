"""Sparse uploads of asynchronous devices: the k largest entries of all that is not delivered yet.

In a round, with a device's update u_k and its memory e_k of what never arrived,

    x_k = e_k + u_k                  every device, in contact or not
    q_k = the kept_k largest of x_k  who sends
    e_k = x_k - q_k                  if q_k arrived, else x_k: the energy is lost, nothing else

so that e_k carries both the error of sparsification and what was accumulated out of contact, and,
with shares rho_k, step eta and the virtual weights v that every update reaches at once,

    v - w = -eta sum_k rho_k e_k     always, as long as the server has no momentum.

The allocation (``kept``, ``power_w``, ``airtime_s`` of ``Decision.x``) says what is sent and for
how long; an upload arrives if its bits fit into what is sent, if it ends within the contact, and
if the link does not lose it. Source: mads.md §2.3-2.4; a reconstruction of arXiv 2506.07328.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.fl.compress import TopK
from rralloc.fl.link import Link
from rralloc.fl.mobile_link import MobileLink
from rralloc.fl.schemes.compressed import ErrorMemory
from rralloc.fl.schemes.packets import NothingToReport, Received
from rralloc.numerics.rates import efficiency
from rralloc.policy import Decision, Round
from rralloc.typing import Array

ROUNDING = 1e-9
"""An upload that misses a limit by less, relatively, fits."""


def packet_bits(kept: Array, told: Mapping[str, Array]) -> Array:
    """Bits of k coordinates with their positions, of the whole model without; 0 for none.

    With b bits a coordinate, q of them its value, s coordinates and a header b0 (mads.md §2.4):
    b0 + k b for k < s, b0 + s min(b, q) for k = s.
    """
    size, plain = told["model_size"], told["dense_bits_per_coordinate"]
    each = told["bits_per_coordinate"]
    each = np.where(kept >= size, np.minimum(each, plain), each)
    return np.where(kept > 0, told["header_bits"] + kept * each, 0.0)


@dataclass(frozen=True)
class SparseUpload:
    """Top-k uploads with a memory, over a ``MobileLink``.

    progressive: entries are sent in falling order and what got through before the contact ended
        counts; else an upload that the contact cuts short is lost.
    free: everything in contact is delivered whole, at no cost: the bar no policy can pass.

    Devices report ``update_energy`` |x|^2 and ``residual``, the squared entries of x. One whose
    |x|^2 is not finite (training diverged) reports 0 and is worth nothing.

    Choose this when devices come and go (``rralloc.problems.MADS`` decides what they send).
    """

    progressive: bool = False
    free: bool = False

    @property
    def name(self) -> str:
        """For tables."""
        words = ["sparse uploads"] + ["progressive"] * self.progressive + ["free"] * self.free
        return ", ".join(words)

    def begin(self, devices: int, weights: int) -> SparseRun:
        """A run of K ``devices`` that send vectors of d = ``weights`` entries."""
        return SparseRun(self, ErrorMemory(devices, weights))


class SparseRun(NothingToReport):
    """One training run: the memory of the devices."""

    statistics = ("update_energy", "residual")
    everybody_reports = True
    within_contacts = True
    payload_bit: float | None = None

    def __init__(self, scheme: SparseUpload, memory: ErrorMemory) -> None:
        self.scheme, self.memory = scheme, memory

    def report(self, updates: Array, names: Iterable[str]) -> dict[str, Array]:
        """|x|^2 ``(K,)`` and x^2 ``(K, d)`` of x = e + u, before it is sent."""
        wanted = set(names)
        if not wanted:
            return {}
        with np.errstate(over="ignore", invalid="ignore"):
            x = self.memory.unsent + updates
            energy = np.einsum("kd,kd->k", x, x)
            known = np.isfinite(energy)
            found = {"update_energy": np.where(known, energy, 0.0)}
            if "residual" in wanted:
                found["residual"] = np.where(known[:, None], x * x, 0.0)
        return {name: found[name] for name in wanted}

    def transmit(
        self,
        updates: Array,
        decision: Decision,
        round: Round,
        gain: Array,
        link: Link,
        rng: np.random.Generator,
    ) -> Received:
        """Send the largest entries of memory and update; keep what did not arrive."""
        link = _checked(link, decision, round)
        x = self.memory.gather(updates, np.ones(len(updates), dtype=bool))
        contact, lost = link.contacts.seconds[round.index], rng.random(len(x)) < link.upload_loss
        if self.scheme.free:
            upload = _free(decision, contact)
        else:
            upload = _over_the_air(decision, round, gain, contact, self.scheme.progressive)
            upload = upload._replace(kept=np.where(lost, 0.0, upload.kept))
        arrived = decision.scheduled & (upload.kept >= 1)
        delivered = np.where(arrived, np.floor(upload.kept * (1 + ROUNDING)), 0.0)
        sent = np.zeros_like(x)
        for n in np.flatnonzero(arrived):
            sent[n] = TopK(int(delivered[n]))(x[n])
        self.memory.release(sent, arrived)
        return Received(
            estimate=decision.weight[arrived] @ sent[arrived],
            arrived=arrived,
            seconds=link.round_s,
            joules=float(upload.energy_j.sum() + round.compute_j * len(x)),
            bits=float(upload.bits.sum()),
            energy_j=upload.energy_j,
            details={
                "delivered": delivered,
                "on_air_s": upload.on_air_s,
                "contact_actual_s": contact,
                "snr_actual_per_watt": gain / round.statistics["noise_w"],
            },
        )


class _Upload(NamedTuple):
    """What of a decision got through ``(K,)``, and what it cost."""

    kept: Array
    on_air_s: Array
    bits: Array
    energy_j: Array


def _free(decision: Decision, contact_s: Array) -> _Upload:
    """All of it, at no cost."""
    nothing = np.zeros(contact_s.shape)
    return _Upload(np.where(contact_s > 0, decision.x["kept"], 0.0), nothing, nothing, nothing)


def _over_the_air(
    decision: Decision, round: Round, gain: Array, contact_s: Array, progressive: bool
) -> _Upload:
    """Sending ends with the plan or the contact; bits fit at the actual gain, or they do not."""
    told, x = round.statistics, decision.x
    sends = decision.scheduled & (x["kept"] > 0)
    kept, planned = np.where(sends, x["kept"], 0.0), np.where(sends, x["airtime_s"], 0.0)
    on_air = np.minimum(planned, contact_s)
    snr = np.asarray(x["power_w"]) * gain / told["noise_w"]
    capacity = on_air * told["bandwidth_hz"] * efficiency(snr)
    bits = packet_bits(kept, told)
    energy = on_air * (x["power_w"] + told["circuit_power_w"])
    fits = bits <= capacity * (1 + ROUNDING)
    if progressive:
        through = (capacity - told["header_bits"]) / told["bits_per_coordinate"] * (1 + ROUNDING)
        through = np.where(fits, kept, np.clip(np.floor(through), 0.0, kept))
        return _Upload(through, on_air, packet_bits(through, told), energy)
    whole = fits & (planned <= contact_s * (1 + ROUNDING))
    return _Upload(np.where(whole, kept, 0.0), on_air, bits, energy)


def _checked(link: Link, decision: Decision, round: Round) -> MobileLink:
    """The link, if it has contacts and the decision says what to send at an allowed power."""
    if not isinstance(link, MobileLink):
        raise InvalidProblem(
            "SparseUpload sends within contacts and this link has none; train over a "
            "fl.MobileLink, with Contacts.always where everybody is always in contact"
        )
    missing = [n for n in ("kept", "power_w", "airtime_s") if n not in decision.x]
    if missing:
        raise InvalidProblem(
            f"SparseUpload needs {', '.join(missing)} in Decision.x; use a policy that decides on "
            "them, such as DriftPlusPenalty"
        )
    power, most = np.asarray(decision.x["power_w"]), round.statistics["power_max_w"]
    above = decision.scheduled & (power > most * (1 + ROUNDING))
    if above.any():
        n = int(np.argmax(np.where(above, power - most, -np.inf)))
        raise InvalidProblem(
            f"round {round.index}: device {n} is to send at {power[n]:g} W, above its {most[n]:g} W"
        )
    return link
