"""SP-FL: bandwidth across devices and power between sign and modulus packets.

    min  sum_k J_k(s_k, m_k)    s.t.  sum_k b_k <= 1,  b >= 0,  0 <= alpha <= 1

Each device sends the signs and the moduli of its gradient in two packets. It has the share b_k of
the band, of which the packets take theta_s and theta_m, and puts the share alpha_k of its power on
the signs. Under Rayleigh fading known by its mean the packets are decoded with probabilities e^-s
and e^-m, s = phi_s/alpha, m = phi_m/(1-alpha), phi_i = (x_i/gamma)(2^(r_i/x_i) - 1),
x_i = theta_i b. J_k is what the loss costs one step of training (:mod:`spfl_objectives`).

This is a *reconstruction*: the idea and the names are from the abstract of arXiv 2603.10763 (Y. Yue
et al., 2026); every equation here is from spec spfl.md, derived and checked there and in tests/.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Self

import numpy as np

from rralloc.channel.packets import fade_threshold
from rralloc.errors import InvalidProblem
from rralloc.fields import Constraint, data, option, variable
from rralloc.forms import Blocks, Model, Separable, Smooth, Surrogate, offers
from rralloc.numerics.minimum import bracketed_minimum
from rralloc.numerics.rates import min_bandwidth
from rralloc.numerics.shapes import within_budget
from rralloc.policy import Decision, Round
from rralloc.problem import Problem
from rralloc.problems._spfl_pieces import physical_gradient, pieces_of
from rralloc.problems.spfl_objectives import CAP, PacketObjective, check_analytic, law_of
from rralloc.typing import Array, Field, Point, Witness

__all__ = ["SPFL"]

LOGITS = np.linspace(-8.0, 8.0, 33)
"""Where the best power share is first looked for (spec, correction 1: 33 points or more)."""


class SPFL(Problem):
    """Allocate band to devices and power to packets so that one training step loses least.

    Problem
        min sum_k J_k(s_k, m_k) s.t. sum_k b_k <= 1, b >= 0, alpha in [0, 1]; with a free split
        also theta_s in [0, 1], theta_m = 1 - theta_s.

    Parameters
        snr: gamma ``(..., K)``, linear, >= 0: mean SNR of device k if it had the whole band.
        weight: w ``(..., K)`` >= 0, the device's share of the data.
        gradient_energy, compensation_error, quantization_error, compensation_energy: G, E, D, H
            ``(..., K)`` >= 0: |g|^2, | |g| - gbar |^2, quantiser error, |gbar|^2 (None: G - E,
            right for an optimally scaled gbar).
        sign_rate, modulus_rate: r_s, r_m ``(..., K)``, bit/s/Hz: bits of a packet over B T.
        sign_band_share, modulus_band_share: theta_s, theta_m ``(..., K)`` of the device's own band;
            None is r_s/(r_s + r_m) and 1 - theta_s; ``sign_band_share="free"`` makes it a decision.
        objective: ``plain``, ``sign_unbiased``, ``unbiased``, ``optimal_scaling``, or an object
            with ``value(s, m, problem)``, see ``spfl_objectives.PacketObjective``.
        fading: ``common`` (both packets see one fade; a modulus is of no use without its sign) or
            ``independent``.
        variance_weight: lam = L eta times what the variance shall count, ``(..., K)`` >= 0.
        packets: ``sign-modulus``, or a restriction of the free split: ``one-bit`` (signs only),
            ``single`` (one packet, common fading), ``choice`` (each device off, one of the two).
    Variables
        bandwidth_share: b ``(..., K)``. sign_power_share: alpha ``(..., K)``.
        sign_band_share: theta_s ``(..., K)``, where the split is free.
    Bound
        Convex objectives: tangent planes. The others: the Lagrangian dual, bounded on cells.
    Choose this when
        gradients are sent as signs and moduli over an uplink known by its mean gain.
    Source
        Reconstruction of arXiv 2603.10763 (abstract); spec spfl.md, derived.
    """

    sense = "min"
    unit = "1"
    source = "arXiv 2603.10763 (abstract); spfl.md, a reconstruction, derived"
    bound_method = "Lagrangian dual: tangent planes where convex, else cells"

    snr: Field = data("K", unit="1", low=0, doc="mean SNR on the whole band")
    weight: Field = data("K", unit="1", low=0, doc="share of the data")
    gradient_energy: Field = data("K", unit="1", low=0, doc="squared norm of the gradient")
    compensation_error: Field = data("K", unit="1", low=0, doc="squared error of the compensation")
    quantization_error: Field = data("K", unit="1", low=0, doc="squared error of the quantiser")
    compensation_energy: Field = data(
        "K", unit="1", low=0, default=None, doc="squared norm of the compensatory modulus"
    )
    sign_rate: Field = data("K", unit="bit/s/Hz", low=0, open_low=True, doc="rate of the signs")
    modulus_rate: Field = data("K", unit="bit/s/Hz", low=0, doc="rate of the moduli")
    sign_band_share: Field = data(
        "K", unit="1", low=0, high=1, default=None, words=("free",), doc="band share of the signs"
    )
    modulus_band_share: Field = data(
        "K", unit="1", low=0, high=1, default=None, doc="band share of the moduli"
    )
    variance_weight: Field = data("K", unit="1", low=0, default=1.0, doc="weight of the variance")
    criterion: Field = option(
        default="optimal_scaling", alias="objective", doc="what a lost packet costs"
    )
    fading: Field = option(
        default="common", choices=("common", "independent"), doc="one fade for both packets, or two"
    )
    packets: Field = option(
        default="sign-modulus",
        choices=("sign-modulus", "single", "one-bit", "choice"),
        doc="which packets a device may send",
    )

    bandwidth_share = variable("K", unit="1", low=0, high=1, doc="share of the band")
    sign_power_share = variable("K", unit="1", low=0, high=1, doc="power on the signs")
    split = variable(
        "K",
        unit="1",
        low=0,
        high=1,
        name="sign_band_share",
        when="free_split",
        doc="band of the signs",
    )

    # -- construction ---------------------------------------------------------------------------

    def check(self) -> None:
        """Known objective, split within the device's band, packets that the fading allows."""
        law = self.law  # an unknown objective is refused here
        if type(law).slopes is PacketObjective.slopes and "slopes" not in vars(law):
            check_analytic(law, self)
        if self.free_split and self.modulus_band_share is not None:
            raise InvalidProblem("SPFL.modulus_band_share: a free split decides it; leave it out")
        if not self.free_split and np.any(self.theta_s + self.theta_m > 1 + 1e-12):
            raise InvalidProblem(
                "SPFL: sign_band_share + modulus_band_share exceeds 1; they are shares of the "
                "device's own band"
            )
        if self.packets in ("single", "choice") and not self.common:
            raise InvalidProblem(
                f"SPFL.packets = {self.packets!r} needs fading='common': one packet has one fade"
            )
        if self.packets != "sign-modulus" and isinstance(self.sign_band_share, np.ndarray):
            raise InvalidProblem(
                f"SPFL.packets = {self.packets!r} fixes the split; leave sign_band_share out"
            )

    @classmethod
    def random(
        cls,
        *,
        K: int,
        load: float = 3.0,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        **settings: Any,
    ) -> Self:
        """Spec §7: SNR 5-25 dB at 1/K of the band; ``load`` bit/s/Hz at the uniform allocation.

        b = 3 bits for a modulus, l = 1000 weights, proportional split.
        """
        length, bits = 1000.0, 3.0
        total = length + length * bits + 64.0
        rates = {
            "sign_rate": load / K * length / total,
            "modulus_rate": load / K * (length * bits + 64.0) / total,
        }
        return super().random(K=K, batch=batch, rng=rng, **rates | settings)

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Everything but the rates, drawn in the order of the spec's ``make(seed, K, load)``."""
        devices = shape[-1]
        snr = 10 ** (rng.uniform(5, 25, shape) / 10)
        weight = rng.dirichlet(5 * np.ones(devices), shape[:-1] or None)
        energy = np.exp(1.6 * rng.standard_normal(shape))
        miss = energy * rng.uniform(0.2, 0.6, shape)
        noise = energy * rng.uniform(0.005, 0.05, shape)
        total = (weight * energy).sum(-1, keepdims=True)
        return {
            "snr": snr / devices,
            "weight": weight,
            "gradient_energy": energy / total,
            "compensation_error": miss / total,
            "quantization_error": noise / total,
        }

    @classmethod
    def from_radio(
        cls,
        *,
        power_w: Array | float,
        path_gain: Array | float,
        bandwidth_hz: float,
        uplink_s: float,
        gradient_length: int,
        modulus_bits: float = 3,
        header_bits: float = 64,
        noise_psd_w_hz: float | None = None,
        **statistics: Any,
    ) -> Self:
        """The problem in radio units: P [W], mean path gain, B [Hz], T [s], l weights, b bits each.

        gamma = P g/(B N0), r_s = l/(B T), r_m = (l b + header)/(B T); the rest are fields of SPFL.
        """
        from rralloc.channel import NOISE_PSD_W_PER_HZ

        for name, value in {
            "bandwidth_hz": bandwidth_hz,
            "uplink_s": uplink_s,
            "gradient_length": gradient_length,
        }.items():
            if not 0 < value < np.inf:
                raise InvalidProblem(f"SPFL.from_radio: {name} = {value} is not in (0, inf)")
        noise = NOISE_PSD_W_PER_HZ if noise_psd_w_hz is None else noise_psd_w_hz
        spread = bandwidth_hz * uplink_s
        return cls(
            snr=np.asarray(power_w) * np.asarray(path_gain) / (bandwidth_hz * noise),
            sign_rate=gradient_length / spread,
            modulus_rate=(gradient_length * modulus_bits + header_bits) / spread,
            **statistics,
        )

    # -- derived data ---------------------------------------------------------------------------

    @property
    def common(self) -> bool:
        """Both packets see the same fade."""
        return bool(self.fading == "common")

    @property
    def free_split(self) -> bool:
        """The band split is decided, not given."""
        return isinstance(self.sign_band_share, str) or self.packets != "sign-modulus"

    @cached_property
    def law(self) -> PacketObjective:
        """The error law J(s, m)."""
        return law_of(self.criterion)

    @cached_property
    def statistics(self) -> tuple[Array, Array, Array, Array, Array]:
        """w, G, E, D, H."""
        G, E, H = self.gradient_energy, self.compensation_error, self.compensation_energy
        if H is None:
            H = np.maximum(G - E, 0.0)
        return self.weight, G, E, self.quantization_error, H

    @cached_property
    def proportional(self) -> Array:
        """r_s/(r_s + r_m): the split with which both packets have one spectral efficiency."""
        return self.sign_rate / (self.sign_rate + self.modulus_rate)

    @property
    def theta_s(self) -> Array:
        """The given band share of the signs (proportional where the split is free)."""
        given = self.sign_band_share
        return given if isinstance(given, np.ndarray) else self.proportional

    @property
    def theta_m(self) -> Array:
        """The given band share of the moduli."""
        return 1.0 - self.theta_s if self.modulus_band_share is None else self.modulus_band_share

    # -- evaluation -----------------------------------------------------------------------------

    def packet_bands(self, x: Point) -> tuple[Array, Array]:
        """x_s, x_m ``(..., K)``: the packets' shares of the whole band."""
        band = x["bandwidth_share"]
        if not self.free_split:
            return self.theta_s * band, self.theta_m * band
        theta = x["sign_band_share"]
        return theta * band, (1.0 - theta) * band

    def thresholds(self, x_s: Array, x_m: Array) -> tuple[Array, Array]:
        """phi_s, phi_m ``(..., K)``: the fades that the packets need at full power."""
        sign = fade_threshold(x_s, self.snr, self.sign_rate)
        return sign, fade_threshold(x_m, self.snr, self.modulus_rate)

    def exponents(self, x: Point) -> tuple[Array, Array]:
        """s = phi_s/alpha, m = phi_m/(1 - alpha) ``(..., K)``; inf for a packet without power."""
        phi_s, phi_m = self.thresholds(*self.packet_bands(x))
        alpha = x["sign_power_share"]
        return _over(phi_s, alpha), _over(phi_m, 1.0 - alpha)

    def success(self, x: Point) -> tuple[Array, Array]:
        """q = P(signs decoded) and p = P(moduli decoded | signs decoded) ``(..., K)``."""
        s, m = (np.real(v) for v in self.exponents(x))
        with np.errstate(invalid="ignore"):
            late = np.where(np.isinf(m), m, m - np.where(np.isinf(s), 0.0, s))
        return np.exp(-s), np.exp(-np.maximum(late, 0.0) if self.common else -m)

    def losses(self, x: Point) -> Array:
        """J_k ``(..., K)``: what each device's lost packets cost."""
        with np.errstate(all="ignore"):
            return self.law.value(*self.exponents(x), self)

    def objective(self, x: Point) -> Array:
        """sum_k J_k; +inf where a device that must be heard is not."""
        return self.losses(x).sum(-1)

    def gradient(self, x: Point) -> dict[str, Array]:
        """The chain rule of spec §2.7 in the physical variables."""
        return physical_gradient(self, x)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """The band is shared; a restricted device sends what ``packets`` allows."""
        out = [Constraint("sum bandwidth_share <= 1", 1.0 - x["bandwidth_share"].sum(-1), "1", 1.0)]
        if self.packets != "sign-modulus":
            out.append(Constraint(f"packets are {self.packets}", self._stray(x), "1", 1.0, True))
        return tuple(out)

    def _stray(self, x: Point) -> Array:
        """Distance ``(..., K)`` from the nearest (theta, alpha) that ``packets`` allows."""
        theta, alpha = x["sign_band_share"], x["sign_power_share"]
        single = np.maximum(np.abs(theta - self.proportional), np.abs(alpha - self.proportional))
        signs = np.maximum(1.0 - theta, 1.0 - alpha)
        kinds = {"single": single, "one-bit": signs, "choice": np.minimum(single, signs)}
        return np.where(x["bandwidth_share"] > 0, kinds[self.packets], 0.0)

    def project(self, x: Point) -> dict[str, Array]:
        """Bounds, the band's budget, and the nearest allowed packets."""
        out = super().project(x)
        out["bandwidth_share"] = within_budget(out["bandwidth_share"], np.ones(()))
        if self.packets != "sign-modulus":
            signs = out["sign_power_share"] > 0.5 * (1 + self.proportional)
            signs = signs & (self.packets == "choice") | (self.packets == "one-bit")
            shape = out["bandwidth_share"].shape
            kind = np.broadcast_to(np.where(signs, 1.0, self.proportional), shape)
            out |= {"sign_power_share": kind.copy(), "sign_band_share": kind.copy()}
        return out

    def one_step_bound(
        self, x: Point, *, loss: Array | float, gradient_norm: Array | float, learning_rate: float
    ) -> Array:
        """What the loss is at most, in the mean, after one step with this allocation ``(...)``.

        loss: F(w). gradient_norm: |grad F(w)|, of the *global* gradient. learning_rate: eta <= 1/L
        for an L-smooth F (and ``variance_weight`` = L eta). With S = sum_k J_k,

            E F(w+) <= F - eta (1 - lam/2) |grad|^2 + (eta/2) S      unbiased (lam the largest)
            E F(w+) <= F - (eta/2) |grad|^2 + (eta/2) S              the others

        G, E, D, H must be in the units of the gradient. Source: spec §2.5, derived; checked by
        Monte Carlo in tests/.
        """
        lam = np.max(self.variance_weight, axis=-1)
        step = 1.0 - lam / 2 if self.law.name == "unbiased" else 0.5
        gain = learning_rate * step * np.square(gradient_norm)
        return loss - gain + 0.5 * learning_rate * self.objective(x)

    # -- feasibility ----------------------------------------------------------------------------

    @cached_property
    def _least_band(self) -> Array:
        """Band ``(..., K)`` below which a device that must be heard never is; inf if none helps."""
        must = self.law.serves_everybody(self)
        least = min_bandwidth(self.sign_rate, self.snr * CAP)
        share = 1.0 if self.free_split else np.where(self.theta_s > 0, self.theta_s, np.nan)
        least = np.where(np.isnan(share), np.inf, least / share)
        return np.where(must, least, 0.0)

    def infeasible(self) -> Array:
        """Those who must be heard need more than the band even to be heard once in e^690 rounds."""
        return self._least_band.sum(-1) > 1.0

    def why_infeasible(self) -> str:
        """Name the devices and what they would need."""
        least = np.broadcast_to(self._least_band, self.sizes["K"])
        worst = np.argsort(-least, kind="stable")[:3]
        told = ", ".join(
            f"device {k} hears no rate at any bandwidth"
            if np.isinf(least[k])
            else f"device {k} needs {least[k]:.3g} of the band"
            for k in worst
            if least[k] > 0
        )
        return (
            f"objective {self.law.name!r} needs the signs of every device, but {told}; leave such "
            "devices out with select(K=...), lower the rates, or use 'plain' or 'optimal_scaling'"
        )

    def note(self) -> str:
        """Say when there is nothing to send."""
        silent = np.all(self.weight * self.gradient_energy == 0, axis=-1)
        return "trivial: every gradient is zero" if np.any(silent) else ""

    # -- baselines ------------------------------------------------------------------------------

    def points(self) -> dict[str, Callable[[], Point]]:
        """``uniform``, ``best-split``, and the starts ``rate`` and ``equal-outage``."""
        from rralloc.problems._spfl_starts import equal_outage, rate_based

        shape = self.shape_of(type(self).bandwidth_share)

        def uniform() -> Point:
            return self.with_equal_density(np.full(shape, 1.0 / shape[-1]))

        def best_split() -> Point:
            x = dict(uniform())
            if self.packets == "sign-modulus":
                x["sign_power_share"] = self.best_power(x)
            return x

        return {
            "uniform": uniform,
            "best-split": best_split,
            "rate": lambda: self.with_equal_density(rate_based(self)),
            "equal-outage": lambda: equal_outage(self),
        }

    def with_equal_density(self, band: Array) -> dict[str, Array]:
        """Those shares of the band with one power density on both packets."""
        share = self.theta_s / (self.theta_s + self.theta_m)
        x = {"bandwidth_share": band, "sign_power_share": np.broadcast_to(share, band.shape).copy()}
        if self.free_split:
            kind = np.ones(()) if self.packets == "one-bit" else self.proportional
            x["sign_band_share"] = np.broadcast_to(kind, band.shape).copy()
            if self.packets == "one-bit":
                x["sign_power_share"] = np.ones(band.shape)
        return x

    def best_power(self, x: Point) -> Array:
        """The best alpha ``(..., K)`` for these bands: a scan, then golden section around its best.

        J has at most one interior minimum in logit(alpha) for ``plain``; alpha = 1 (sign-only) and,
        under common fading, the single packet are tried as well.
        """
        phi_s, phi_m = self.thresholds(*self.packet_bands(x))

        def at(z: Array) -> Array:
            with np.errstate(all="ignore"):
                s = phi_s * (1.0 + np.exp(-z))
                return self.law.value(s, np.where(phi_m == 0, 0.0, phi_m * (1.0 + np.exp(z))), self)

        with np.errstate(divide="ignore", invalid="ignore"):
            middle = np.log(phi_s / phi_m) * (1.0 if self.common else 0.5)
        middle = np.where(np.isfinite(middle), middle, 0.0)
        grid = [middle + z for z in LOGITS]
        best = np.argmin(np.stack([at(z) for z in grid]), axis=0)
        step = LOGITS[1] - LOGITS[0]
        around = middle + LOGITS[best]
        z = bracketed_minimum(at, around - step, around + step)
        alpha, value = 1.0 / (1.0 + np.exp(-z)), at(z)
        with np.errstate(all="ignore"):
            signs = self.law.value(phi_s, np.full(phi_s.shape, np.inf), self)
        tie, at_tie = 1.0 / (1.0 + np.exp(-middle)), at(middle)
        alpha = np.where(at_tie <= value, tie, alpha)
        return np.where(signs <= np.minimum(value, at_tie), 1.0, alpha)

    # -- forms ----------------------------------------------------------------------------------

    @property
    def is_convex(self) -> bool:
        """Every stationary point is a global optimum."""
        return self.law.convex(self) and self.packets == "sign-modulus"

    @offers(Separable)
    def separable(self) -> Separable:
        """sum_k J_k in the coordinates of :mod:`_spfl_pieces`."""
        from rralloc.problems._spfl_menu import branches

        flat = self if len(self.batch_shape) == 1 else self.flat()
        pieces = pieces_of(flat)
        shape = (flat.size, self.sizes["K"], pieces.size)
        upper = np.ones(shape)
        return Separable(
            local=pieces.local,
            row=pieces.row,
            budget=np.ones(flat.size),
            lower=np.zeros(shape),
            upper=upper,
            convex=np.full(flat.size, self.is_convex),
            point=pieces.point,
            coordinates=pieces.coordinates,
            branches=lambda price: branches(flat, pieces, price),
        )

    @offers(Blocks)
    def blocks(self) -> Blocks:
        """``bandwidth`` given alpha, ``power`` given the bands (:mod:`_spfl_blocks`)."""
        from rralloc.problems._spfl_blocks import blocks

        return blocks(self)

    @offers(Surrogate)
    def surrogate(self) -> Surrogate:
        """A convex majorant at any point (:mod:`_spfl_majorant`)."""
        from rralloc.problems._spfl_surrogates import surrogate

        return surrogate(self)

    @offers(Smooth)
    def smooth(self) -> Smooth:
        """Logarithms of the bands and of the power ratio (:mod:`_spfl_smooth`); one instance."""
        from rralloc.problems._spfl_smooth import smooth

        return smooth(self)

    @offers(Model)
    def model(self) -> Model:
        """pyomo for the named objectives; cvxpy where the instance is convex."""
        from rralloc.problems._spfl_models import model

        return model(self)

    # -- training ---------------------------------------------------------------------------------

    reports = (
        "gradient_energy",
        "compensation_error",
        "quantization_error",
        "compensation_energy",
    )

    @classmethod
    def from_round(cls, round: Round) -> Self:
        """gamma = P g/(B N0), r = bits/(B T), and what devices report of the vector they send."""
        if round.uplink_s is None or round.weights is None or round.modulus_bits is None:
            raise InvalidProblem(
                "SPFL needs packets of fixed length in a fixed uplink time: a link with uplink_s "
                "(Link.loaded) and a scheme with modulus packets (SignModulus)"
            )
        spread = round.bandwidth_hz * round.uplink_s
        header = round.header_bits or 0
        return cls(
            snr=round.snr_bandwidth_hz / round.bandwidth_hz,
            weight=round.share,
            sign_rate=round.weights / spread,
            modulus_rate=(round.weights * round.modulus_bits + header) / spread,
            **{name: round.statistics[name] for name in cls.reports},
        )

    def to_decision(self, x: Point, round: Round, rng: np.random.Generator) -> Decision:
        """Who has band sends; the server weighs by data share."""
        shape = round.share.shape
        split = x["sign_band_share"] if self.free_split else self.theta_s
        allocation = dict(x) | {"sign_band_share": np.broadcast_to(split, shape)}
        return Decision(
            scheduled=np.asarray(x["bandwidth_share"]) > 0,
            weight=round.share,
            bandwidth_hz=np.asarray(x["bandwidth_share"]) * round.bandwidth_hz,
            power_w=np.broadcast_to(round.power_w, shape),
            x=allocation,
        )

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The Lagrangian dual at the witness's price of band, else at the price that x suggests."""
        from rralloc.problems._spfl_bound import dual_bound

        return dual_bound(self, x, witness)


def _over(phi: Array, share: Array) -> Array:
    """phi/share; inf where there is no power, 0 for an empty packet."""
    none = np.real(share) <= 0
    with np.errstate(over="ignore", invalid="ignore"):
        ratio = phi / np.where(none, 1.0, share)
    return np.where(phi == 0, 0.0, np.where(none, np.inf, ratio))
