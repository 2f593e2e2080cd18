"""Over-the-air aggregation by a learning bound: noise of the sum against data left out.

    F(S, m) = c max_{k in S} w_k^2/|m^H h_k|^2 / (sum_S w)^2 + a (1 - sum_S w/sum w)^2,  |m| = 1

with c = noise/P (half of it if real parts are sent) and a = 4 in the published bound. For a given
beam the best S is a prefix of the devices in falling |m^H h_k|^2/w_k^2, so again only the beam is
looked for. a = 4 is a worst case.

Source: Liu, Yuan, Zhang (public code of arXiv 2011.05051) for the form, a reconstruction; prefix,
surrogate and bound ota.md §2.5, derived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rralloc.channel import rayleigh_coefficients
from rralloc.fields import data, variable
from rralloc.forms import ClosedForm, Surrogate, Sweep, offers
from rralloc.numerics.beams import normal, unit
from rralloc.numerics.least_distance import shortest
from rralloc.numerics.shapes import batched
from rralloc.policy import Decision, Round
from rralloc.problem import Problem
from rralloc.problems import _ota_bounds as bounds
from rralloc.problems._ota_prefix import best_prefix
from rralloc.problems._ota_round import act, stated
from rralloc.problems.ota_selection import OTASelection
from rralloc.typing import Array, Field, Point, Witness

if TYPE_CHECKING:
    from rralloc.fl.schemes import OverTheAir

LEVELS = 12
"""Error targets that are tried."""
STEPS = 128
"""Error levels between which the bound is taken."""


class OTABound(Problem):
    """Noise of the sum against the data of the devices that are left out.

    Problem
        min c max_{k in S} w_k^2/|m^H h_k|^2/(sum_S w)^2 + a (1 - sum_S w/sum w)^2, |m| = 1, S
        nonempty.
    Parameters
        channel: h ``(..., N, K)``, complex: antennas by devices; the one positional argument.
        noise_power: sigma^2 >= 0, W. transmit_power: P > 0, W. data_size: w_k > 0 ``(..., K)``.
        constant: a >= 0, what leaving out all data costs; 4 is a worst case.
    Variables
        beamformer: m ``(..., N)``, complex; only its direction counts, zero hears nobody.
        selected: ``(..., K)``, derived: the best set for the beam.
    Bound
        Between two error levels no beam admits more data than the relaxation of ``OTASelection``
        allows at the upper one; the least F over the levels. Loose where many devices are admitted.
    Errors
        InvalidProblem for values outside their range.
    Choose this when
        no error target is given, and how many to admit is itself the question.
    Source
        Liu, Yuan, Zhang (arXiv 2011.05051, public code; a reconstruction); ota.md §2.5, derived.
    """

    differentiable = False
    source = "arXiv 2011.05051 (a reconstruction); ota.md §2.5"
    bound_method = "relaxed selections between error levels"

    channel: Field = data("N K", unit="1", dtype=complex, kw_only=False, doc="channel amplitude")
    noise_power: Field = data(unit="W", low=0, default=1.0, doc="noise power of an antenna")
    transmit_power: Field = data(
        unit="W", low=0, open_low=True, default=1.0, doc="largest power of a device"
    )
    data_size: Field = data(
        "K", unit="1", low=0, open_low=True, default=1.0, doc="data of a device"
    )
    constant: Field = data(unit="1", low=0, default=4.0, doc="cost of leaving all data out")

    beamformer = variable("N", unit="1", dtype=complex, doc="receive beam")
    selected = variable("K", unit="1", dtype=bool, derived=True, doc="who takes part")

    @classmethod
    def random(
        cls,
        *,
        K: int,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        N: int = 6,
        **settings: Any,
    ) -> Self:
        """Rayleigh channels with path losses uniform over 20 dB; data sizes uniform in [1, 2]."""
        rng = np.random.default_rng(rng)
        drawn = rayleigh_coefficients(batched(batch, N, K), rng)
        loss = rng.uniform(0, 20, batched(batch, 1, K))
        size = rng.uniform(1, 2, batched(batch, K))
        fields = {"channel": drawn * 10 ** (-loss / 20), "data_size": size, "noise_power": 10.0}
        return cls(**fields | settings)

    # -- training ---------------------------------------------------------------------------

    @classmethod
    def from_round(cls, round: Round) -> Self:
        """The channel as the server knows it; real parts are sent, so half of the noise counts."""
        told = stated(round)
        noise = told.pop("noise_power") / 2
        return cls(
            **told, noise_power=noise, data_size=np.where(round.share > 0, round.share, 1e-9)
        )

    def to_decision(self, x: Point, round: Round, rng: np.random.Generator) -> Decision:
        """Who takes part sends; the aggregate is their weighted mean."""
        return act(round, x, self._best(x)[0])

    @classmethod
    def training_scheme(cls) -> OverTheAir:
        """Analog sums."""
        from rralloc.fl.schemes import OverTheAir

        return OverTheAir()

    # -- evaluation -------------------------------------------------------------------------

    @cached_property
    def _size(self) -> Array:
        """w ``(..., K)``, mean 1."""
        w = np.broadcast_to(self.data_size, (*self.batch_shape, self.sizes["K"]))
        w = np.maximum(w / w.max(-1, keepdims=True), 1e-100)
        return np.asarray(w / w.mean(-1, keepdims=True))

    @property
    def _cost(self) -> Array:
        return np.broadcast_to(self.noise_power / self.transmit_power, self.batch_shape)

    def gain(self, m: Array) -> Array:
        """|m^H h_k|^2 of the unit vector along m ``(..., K)``; 0 for m = 0."""
        y = (unit(m).conj()[..., None, :] @ self.channel)[..., 0, :]
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(y.real**2 + y.imag**2)

    def _best(self, x: Point) -> tuple[Array, Array]:
        """The set that is best for the beam and its F."""
        gain = self.gain(np.asarray(x["beamformer"]))
        found = best_prefix(gain, self._size, self._cost, self.constant)
        return found.chosen, found.value

    def objective(self, x: Point) -> Array:
        """F of the best set for the beam; inf where nobody is heard and there is noise."""
        return self._best(x)[1]

    def complete(self, x: Point) -> dict[str, Array]:
        """``selected`` from the beam."""
        return {**x, "selected": self._best(x)[0]}

    def project(self, x: Point) -> dict[str, Array]:
        """The beam at unit norm; zero stays zero."""
        return {**x, "beamformer": unit(np.asarray(x["beamformer"]))}

    def sample(self, rng: np.random.Generator) -> dict[str, Array]:
        """A beam in a random direction."""
        return {"beamformer": unit(normal(rng, self.shape_of(type(self).beamformer)))}

    def points(self) -> dict[str, Callable[[], Point]]:
        """``all-devices``, ``strongest``: beams of ``OTASelection``, each with its best set."""
        rules = self._selection(np.ones(self.batch_shape)).points()
        return {name: rules[name] for name in ("all-devices", "strongest")}

    # -- what proves it -----------------------------------------------------------------------

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """min over error levels l_i of l_i/B(l_{i+1})^2 + a (1 - B(l_{i+1})/sum w)^2.

        B(l): no beam admits more data at error l. The first level is the cheapest device alone; at
        the last the noise alone costs what is known to be reachable.
        """
        g, w = self._columns, self._size
        total = w.sum(-1)
        size = (g.real**2 + g.imag**2).sum(-2).max(-1)
        known = np.minimum(self.objective(self.points()["strongest"]()), 1e300)
        with np.errstate(divide="ignore"):
            low = np.where(size > 0, 1 / size, np.inf)
        high = known * total**2
        step = np.linspace(0, 1, STEPS + 1)
        # Where even the cheapest error leaves no room, F >= known.
        tight = np.isfinite(low) & (low > 0) & (high <= low)
        usable = np.isfinite(low) & (low > 0) & (high > low)
        low, high = np.where(usable, low, 1.0), np.where(usable, high, 2.0)
        levels = low[..., None] * (high / low)[..., None] ** step
        scaled = g[..., None, :, :] * np.sqrt(levels)[..., None, None]
        weight = np.broadcast_to(w[..., None, :], scaled.shape[:-2] + w.shape[-1:])
        most = np.minimum(
            bounds.relaxed(scaled, weight, np.zeros(weight.shape)),
            bounds.relaxed(scaled, weight, weight),
        )
        most = np.clip(most[..., 1:] * (1 + 1e-9), 0.0, total[..., None])
        left = self.constant[..., None] * (1 - most / total[..., None]) ** 2
        with np.errstate(divide="ignore"):
            least = (levels[..., :-1] / most**2 + left).min(-1)
        found = np.where(usable, np.minimum(least, known), 0.0)
        return np.where(tight, known * (1 - 1e-9), found)

    @cached_property
    def _columns(self) -> Array:
        """h_k/w_k sqrt(P)/sigma ``(..., N, K)``: |m^H g|^2 >= 1/l keeps the error within l."""
        with np.errstate(divide="ignore"):
            reach = np.sqrt(self.transmit_power / self.noise_power)
        reach = np.minimum(reach, 1e100)[..., None, None]
        return np.asarray(self.channel / self._size[..., None, :] * reach)

    # -- forms ------------------------------------------------------------------------------

    def _selection(self, target: Array) -> OTASelection:
        """Admit the most data within an error ``(...)``."""
        return OTASelection(
            self.channel,
            mse_target=target,
            noise_power=self.noise_power,
            transmit_power=self.transmit_power,
            aggregation_weight=self._size,
            value=self._size,
        )

    @offers(Sweep)
    def sweep(self) -> Sweep:
        """Error targets from what the strongest device alone leaves to what serving all does."""
        strongest = self.gain(self.points()["strongest"]()["beamformer"])
        everybody = self.gain(self.points()["all-devices"]()["beamformer"])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            low = self._cost * (self._size**2 / strongest).min(-1)
            high = self._cost * (self._size**2 / everybody).max(-1)
        low, high = (np.nan_to_num(v, nan=1e-200) for v in (low, high))  # no noise: all fit
        low = np.clip(low, 1e-200, 1e200)
        high = np.clip(high, low, 1e200)
        step = np.linspace(0, 1, LEVELS)
        return Sweep(step, lambda i: self._selection(low * (high / low) ** step[i]))

    @offers(Surrogate)
    def surrogate(self) -> Surrogate:
        """The set of x kept and its phases frozen: F cannot be above it."""
        return Surrogate(self._frozen)

    def _frozen(self, x: Point) -> Problem:
        chosen, _ = self._best(x)
        g = self._columns
        rows = g.conj().swapaxes(-1, -2)
        heard = (rows @ unit(np.asarray(x["beamformer"]))[..., None])[..., 0]
        inside = np.where(chosen, self._size, 0.0).sum(-1)
        share = inside / self._size.sum(-1)
        return FrozenSet(
            g * np.exp(1j * np.angle(heard))[..., None, :],
            member=chosen,
            scale=inside**-2.0,
            offset=self.constant * (1 - share) ** 2,
        )


class FrozenSet(Problem):
    """The bound with its set and the phases of the heard sums held.

    Problem
        min scale |m|^2/min_{k in S} Re(g_k^H m)^2 + offset.
    Choose this when
        never by hand: ``OTABound`` makes it at each point for ``sca``.
    Source
        ota.md §2.5, §3 (d1), derived.
    """

    differentiable = False

    channel: Field = data("N K", unit="1", dtype=complex, kw_only=False, doc="turned channel")
    member: Field = data("K", unit="1", dtype=bool, doc="who takes part")
    scale: Field = data(unit="1", low=0, doc="weight of the noise")
    offset: Field = data(unit="1", low=0, doc="cost of the data left out")

    beamformer = variable("N", unit="1", dtype=complex, doc="beam")

    def objective(self, x: Point) -> Array:
        """The value with set and phases held; inf where a member is not in its half-plane."""
        rows = self.channel.conj().swapaxes(-1, -2)
        heard = (rows @ unit(np.asarray(x["beamformer"]))[..., None])[..., 0].real
        least = np.where(self.member, heard, np.inf).min(-1)
        with np.errstate(divide="ignore"):
            noise = np.where(least > 0, self.scale / np.maximum(least, 0.0) ** 2, np.inf)
        return np.asarray(noise + self.offset)

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """The shortest vector in the members' half-planes, instance by instance."""
        return ClosedForm(self._nearest)

    def _nearest(self) -> Point:
        m = np.empty(self.shape_of(type(self).beamformer), dtype=complex)
        for index in np.ndindex(self.batch_shape):
            g = self.channel[index][:, self.member[index]]
            weakest = np.linalg.norm(g, axis=0).min()
            m[index] = np.nan  # no point where a member hears nothing, or no vector suits all
            if weakest > 0:
                found = shortest(g.conj().T / weakest)
                if found is not None:
                    m[index] = unit(found.x)
        return {"beamformer": m}
