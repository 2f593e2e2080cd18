"""Power control of interfering links: the best common SINR, and the least power for targets.

    max  min_k SINR_k(p)      s.t.  0 <= p <= P, sum_k p_k <= T          (MaxMinSINR)
    min  sum_k p_k            s.t.  SINR_k(p) >= gamma_k, 0 <= p <= P    (PowerForSINR)

SINR_k(p) = G_kk p_k/(s_k + sum_{j != k} G_kj p_j), row = receiver, column = transmitter. In what
follows A_kj = G_kj/G_kk off the diagonal and v_k = s_k/G_kk, so SINR_k = p_k/(A p + v)_k. Source:
spec rrm.md §15 items 2 and 3 (Foschini-Miljanic, Yates); the level form, the elimination and the
certificates are derived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.fields import Constraint, data, variable
from rralloc.forms import ClosedForm, Level, Model, Smooth, offers
from rralloc.numerics.memo import last_call
from rralloc.numerics.shapes import within_budget
from rralloc.problems._interference import Links, least_fixed_point, loops, spectral_radius, times
from rralloc.problems._power_control_models import LEAST_POWER, MAX_MIN, Epigraph, log_model
from rralloc.typing import Array, Field, Point, Witness

LADDER = (1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)
"""How far above the SINR of a point (relatively) it is tried whether powers for it exist."""


class MaxMinSINR(Links):
    """The highest SINR that all links reach at once.

    Problem
        max_p min_k G_kk p_k/(s_k + sum_{j!=k} G_kj p_j)  s.t.  0 <= p <= P, sum_k p_k <= T.

    Parameters
        gain: G ``(..., K, K)``, >= 0, row = receiver, column = transmitter. A link with G_kk = 0
            has SINR 0 at any power: the optimum is 0, and ``message`` names the link.
        noise_w: s ``(..., K)``, W, > 0.
        power_max_w: P ``(..., K)``, W, > 0, default inf. total_power_w: T ``(...)``, W, > 0,
            default inf. Each link needs one finite limit.
    Variables
        power_w: p ``(..., K)``, W.
    Bound
        Collatz-Wielandt: with N(p) = max(max_k p_k/P_k, sum_k p_k/T), for any p >= 0, not zero,
        no allocation exceeds max_{k: p_k > 0} p_k/(A p + v N(p))_k, nor min_k P_k/v_k alone; nor
        an SINR whose least powers overrun a limit (asked where the first leaves a gap).
    Errors
        InvalidProblem where neither a cap nor the total limits a link.
    Choose this when
        the weakest link counts (fairness, a synchronous round over one band).
    Source
        Spec rrm.md §15 item 2: gamma* = 1/max_n rho(A + v c_n'), c_n the rows of the limits.
        Level form and bound derived (nonlinear Perron-Frobenius).
    """

    sense = "max"
    unit = "1"
    source = "classic; rrm.md §15.2"
    bound_method = "Collatz-Wielandt bracket, or an SINR for which power runs out"
    differentiable = False  # a minimum; the Smooth form goes through the epigraph
    default_solver = "level"

    power_max_w: Field = data(
        "K", unit="W", low=0, open_low=True, inf=True, default=np.inf, doc="power cap of the link"
    )
    total_power_w: Field = data(
        unit="W", low=0, open_low=True, inf=True, default=np.inf, doc="total power"
    )

    power_w = variable("K", unit="W", low=0, high="power_max_w", scale="power_cap_w", doc="power")

    def check(self) -> None:
        """The gain matrix is K x K and every link is limited."""
        super().check()
        if not np.isfinite(self.power_cap_w).all():
            raise InvalidProblem(
                "MaxMinSINR: power_max_w and total_power_w are both inf for some link; give one "
                "limit (without noise to beat, the SINR tends to 1/rho(A) as power grows)"
            )

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Rayleigh fading, cross gains 10 dB below direct ones on average, 20 dB SNR, 1 W."""
        return super().random_fields(rng, shape) | {"power_max_w": 1.0}

    @cached_property
    def power_cap_w(self) -> Array:
        """The most power ``(..., K)`` that a link can ever have: min(P_k, T)."""
        size = self.sizes["K"]
        cap = np.minimum(self.power_max_w, self.total_power_w[..., None])
        return np.broadcast_to(cap, (*cap.shape[:-1], size))

    # -- evaluation -------------------------------------------------------------------------

    def objective(self, x: Point) -> Array:
        """The least SINR."""
        return self.sinr(x["power_w"]).min(-1)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """Total power, where it is limited."""
        limited = np.isfinite(self.total_power_w)
        if not limited.any():
            return ()
        slack = np.where(limited, self.total_power_w - x["power_w"].sum(-1), 1.0)
        return (Constraint("total power", slack, "W", np.where(limited, self.total_power_w, 1.0)),)

    def project(self, x: Point) -> dict[str, Array]:
        """Clip to the caps and scale down onto the total."""
        power = np.clip(x["power_w"], 0.0, self.power_cap_w)
        return {"power_w": within_budget(power, self.total_power_w)}

    def points(self) -> dict[str, Callable[[], Point]]:
        """``full-power``; ``equal-snr``: power in proportion to s_k/G_kk, interference ignored."""
        shape = self.shape_of(type(self).power_w)

        def full() -> Point:
            return self.project({"power_w": np.broadcast_to(self.power_cap_w, shape)})

        def equal_snr() -> Point:
            need = self._relative[1]
            share = need / need.max(-1, keepdims=True)
            return self.project({"power_w": np.broadcast_to(share * self.power_cap_w, shape)})

        return {"full-power": full, "equal-snr": equal_snr}

    def note(self) -> str:
        """Names links without direct gain."""
        return self.dead_links()

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """Collatz-Wielandt at the witness's ``balanced_power_w``, else at x."""
        vector = (x if x is not None else self.initial())["power_w"]
        if witness is not None and "balanced_power_w" in witness:
            vector = np.asarray(witness["balanced_power_w"])
        alone = (self.power_cap_w * self._direct / self.noise_w).min(-1)
        share, (loop, need) = np.maximum(vector, 0.0) / self.power_cap_w, self._relative
        with np.errstate(all="ignore"):
            share = share / self._load(share)[..., None]
            for _ in range(2):  # the map leads towards the Perron vector: its image is a second one
                image = times(loop, share) + need
                reached = np.where(share > 0, share / image, -np.inf).max(-1)
                alone = np.fmin(alone, np.where(reached >= 0, reached, np.nan))
                share = image / self._load(image)[..., None]
        return self._beyond(vector, alone)

    def _beyond(self, power_w: Array, best: Array) -> Array:
        """Where Collatz-Wielandt leaves a gap: an SINR just above a point's that is out of reach.

        Out of reach: the least shares for it overrun a limit, or there are none.
        """
        reached = np.broadcast_to(self.sinr(power_w).min(-1), best.shape)
        for step in LADDER:
            if (best <= reached * (1 + step)).all():
                break
            tried = np.where(reached > 1e-300, reached * (1 + step), 1.0)
            out = (self._room(1 / tried)[0] < 1) & (reached > 1e-300)
            best = np.where(out, np.minimum(best, reached * (1 + step)), best)
        return best

    # -- shares of the caps -----------------------------------------------------------------

    @cached_property
    def _relative(self) -> tuple[Array, Array]:
        """A ``(..., K, K)`` and v ``(..., K)`` in shares y = p/cap; a dead link counts as sound."""
        cap = self.power_cap_w
        heard = np.where(self._direct > 0, self._direct, 1.0) * cap
        return self._cross * cap[..., None, :] / heard[..., None], self.noise_w / heard

    @cached_property
    def _part(self) -> Array:
        """cap/T ``(..., K)``: what a link at its cap uses of the total."""
        return self.power_cap_w / self.total_power_w[..., None]

    def _together(self, share: Array) -> Array:
        """sum_k p_k/T ``(...)``; 0 where there is no total."""
        with np.errstate(invalid="ignore"):
            return np.where(self._part > 0, self._part * share, 0.0).sum(-1)

    def _load(self, share: Array) -> Array:
        """N(y): the share of the tightest limit that is used up."""
        return np.maximum(share.max(-1), self._together(share))

    def _shares(self, root: Array) -> Array:
        """y = (root - A)^-1 v: the least shares that give everybody SINR 1/root; inf if none do."""
        loop, need = self._relative
        return least_fixed_point(loop / root[..., None, None], need / root[..., None])

    def _room(self, root: Array) -> tuple[Array, Array]:
        """1/N(y(root)) ``(...)``, 0 where no y exists, and its slope: almost a straight line."""
        loop, share = self._relative[0], self._shares(root)
        load, together = self._load(share), self._together(share)
        # dy/droot = -(root - A)^-1 y, and the tightest limit is the one that moves.
        fall = least_fixed_point(loop / root[..., None, None], share / root[..., None])
        most = np.take_along_axis(fall, share.argmax(-1)[..., None], -1)[..., 0]
        moved = np.where(together > share.max(-1), self._together(fall), most)
        with np.errstate(invalid="ignore"):
            return 1 / load, np.where(np.isfinite(load), moved / load**2, 0.0)

    def _balanced(self, root: Array) -> Point:
        """The powers at a root, scaled so that the tightest limit is just met."""
        share = self._shares(root)
        over = self._load(share) > 1 + 1e-12
        if over.any():  # the root is a rounding too low, and noise too weak to tell
            near = self._shares(root * (1 + 1e-14 * self.sizes["K"]))
            share = np.where(over[..., None] & np.isfinite(near), near, share)
            share = np.where(np.isfinite(share), share, 1.0)  # below rho(A): no such powers
        share = share / self._load(share)[..., None]
        power = share * self.power_cap_w
        return {"power_w": np.broadcast_to(power, self.shape_of(type(self).power_w))}

    # -- forms ------------------------------------------------------------------------------

    @offers(Level)
    def level(self) -> Level:
        """level = 1/SINR; "used" = -1/N, N the load of the powers that it takes: N = 1 is sought.

        What one rounding of the level moves counts as met: with weak noise N is all rounding
        there, and _balanced takes powers on the safe side.
        """
        loop, need = self._relative
        start = np.ones(self.sizes["K"])
        reached = loop.sum(-1) + need * self._load(start)[..., None]  # f(1), at full power
        low = np.maximum(self._load(need), reached.min(-1))
        rounding = 2e-15 * self.sizes["K"]
        room_at: Callable[[Array], Any] = last_call(self._room)  # type: ignore[arg-type]  # a pair

        def used(root: Array) -> Array:
            room, slope = room_at(root)
            met = np.abs(room - 1) <= rounding * slope * root
            return np.where(met, -1.0, -room)

        return Level(
            self._balanced,
            used,
            np.broadcast_to(-1.0, self.batch_shape),
            (
                np.broadcast_to(low, self.batch_shape),
                np.broadcast_to(reached.max(-1), self.batch_shape),
            ),
            "log",
            lambda root: -room_at(root)[1],
            lambda root: {"balanced_power_w": self._balanced(root)["power_w"]},
        )

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """1/gamma* = max_n rho(A + v c_n'), c_n' p <= 1 the limits; then p = (root - A)^-1 v."""

        def point() -> Point:
            loop, need = self._relative
            size = self.sizes["K"]
            # 1. The limits as rows: each cap, and the total.
            caps = np.broadcast_to(np.eye(size), (*self._part.shape, size))
            limits = np.concatenate([caps, self._part[..., None, :]], axis=-2)
            # 2. The largest Perron root.
            matrix = loop[..., None, :, :] + need[..., None, :, None] * limits[..., :, None, :]
            root = spectral_radius(matrix).max(-1)
            # 3. Newton for the digits that eigenvalues lose where gains span many decades.
            for _ in range(4):
                room, slope = self._room(root)
                root = np.where(slope > 0, root + (1 - room) / np.where(slope > 0, slope, 1), root)
            return self._balanced(root)

        return ClosedForm(point)

    @offers(Smooth)
    def smooth(self) -> Smooth:
        """Epigraph in decades: z = (ln p/cap, ln t), maximise ln t with t below every SINR."""
        return Epigraph(self if self.batch_shape == () else self.flat()[0]).form()

    @offers(Model)
    def model(self) -> Model:
        """Geometric program in logarithms; zero gains have no logarithm and are left out."""
        return log_model(self, MAX_MIN, bool(np.isfinite(self.total_power_w).any()))


class PowerForSINR(Links):
    """The least total power with which every link reaches its SINR target.

    Problem
        min_p sum_k p_k  s.t.  G_kk p_k/(s_k + sum_{j!=k} G_kj p_j) >= gamma_k, 0 <= p <= P.

    Parameters
        gain: G ``(..., K, K)``, >= 0, row = receiver, column = transmitter.
        noise_w: s ``(..., K)``, W, > 0.
        sinr_target: gamma ``(..., K)``, linear, >= 0; a link with target 0 stays silent.
        power_max_w: P ``(..., K)``, W, > 0, default inf.
    Variables
        power_w: p ``(..., K)``, W.
    Infeasible
        exactly if rho(diag(gamma) A) >= 1, a least power exceeds its cap, or a link with a target
        has G_kk = 0; ``message`` names the links.
    Bound
        Linear duality: for any prices mu >= 0, sum_k mu_k gamma_k v_k / t with
        t = max_j (mu_j - sum_k mu_k gamma_k A_kj), rounded against us; and any powers with
        p <= diag(gamma)(A p + v) lie below every feasible allocation, link by link.
    Choose this when
        rates are promised and power is what counts.
    Source
        Spec rrm.md §15 item 3 (Foschini-Miljanic): p = (I - diag(gamma) A)^-1 diag(gamma) v, the
        least in every component at once. Elimination, bound and projection derived.
    """

    sense = "min"
    unit = "W"
    source = "classic; rrm.md §15.3"
    bound_method = "linear duality, or powers below every feasible allocation"

    sinr_target: Field = data("K", unit="1", low=0, doc="SINR to reach")
    power_max_w: Field = data(
        "K", unit="W", low=0, open_low=True, inf=True, default=np.inf, doc="power cap of the link"
    )

    power_w = variable("K", unit="W", low=0, high="power_max_w", scale="power_scale_w", doc="power")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Rayleigh fading; targets are 50 to 100 % of the SINRs at random powers up to 1 W."""
        fields = super().random_fields(rng, shape)
        power = rng.uniform(0.1, 1.0, size=shape)
        links = MaxMinSINR(**fields, power_max_w=1.0)
        target = links.sinr(power) * rng.uniform(0.5, 1.0, size=shape)
        return fields | {"sinr_target": target, "power_max_w": 1.0}

    # -- the least powers -------------------------------------------------------------------

    @cached_property
    def _loop(self) -> tuple[Array, Array]:
        """diag(gamma) A ``(..., K, K)`` and diag(gamma) v ``(..., K)``; 0 where nothing helps."""
        able = self._direct > 0
        reach = np.where(able, self.sinr_target / np.where(able, self._direct, 1.0), 0.0)
        return reach[..., None] * self._cross, reach * self.noise_w

    @cached_property
    def _least(self) -> Array:
        return least_fixed_point(*self._loop)

    @property
    def _deaf(self) -> Array:
        return (self._direct <= 0) & (self.sinr_target > 0)

    @property
    def _over(self) -> Array:
        """More than the cap is needed; 1e-9 of it is rounding."""
        return self._least > self.power_max_w * (1 + 1e-9)

    @cached_property
    def power_scale_w(self) -> Array:
        """The least power of each link ``(..., K)``, the mean one where that is 0 or infinite."""
        least = np.where(np.isfinite(self._least), self._least, 0.0)
        mean = least.mean(-1, keepdims=True)
        scale = np.where(least > 0, least, np.where(mean > 0, mean, 1.0))
        return np.broadcast_to(scale, (*scale.shape[:-1], self.sizes["K"]))

    def infeasible(self) -> Array:
        """Loop gain at least 1, a cap below the least power, or no direct gain."""
        return np.asarray((np.isinf(self._least) | self._over | self._deaf).any(-1))

    def why_infeasible(self) -> str:
        """Name the links, with what they need and what they have."""
        size = self.sizes["K"]
        deaf = np.flatnonzero(np.broadcast_to(self._deaf, size))
        if deaf.size:
            return (
                f"{_names(deaf)} has an SINR target but no direct gain (G_kk = 0): no power helps; "
                "leave it out with select(K=...) or set its target to 0"
            )
        loud = [(group, gain) for group, gain in loops(self._loop[0]) if gain >= 1]
        if loud:
            group, gain = max(loud, key=lambda found: found[1])
            return (
                f"{_names(group)} interfere too much for their SINR targets at any power: the loop "
                f"gain rho(diag(gamma) A) is {gain:.5g} and must be below 1; targets must come "
                f"down by more than {10 * np.log10(gain):.3g} dB, or a link must be left out"
            )
        cap = np.broadcast_to(self.power_max_w, size)
        over = np.flatnonzero(np.broadcast_to(self._over, size))
        needs = [
            f"link {k} needs at least {self._least[k]:.5g} W and has {cap[k]:.5g} W" for k in over
        ]
        if needs:
            return "; ".join(needs)
        return "the loop gain of some links is 1 to rounding: no power suffices"

    # -- evaluation -------------------------------------------------------------------------

    def objective(self, x: Point) -> Array:
        """Total power in W."""
        return x["power_w"].sum(-1)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """Every SINR reaches its target; a violation is the share that is missing."""
        asked = self.sinr_target > 0
        slack = np.where(asked, self.sinr(x["power_w"]) - self.sinr_target, 1.0)
        return (Constraint("SINR target", slack, "1", np.where(asked, self.sinr_target, 1.0)),)

    def points(self) -> dict[str, Callable[[], Point]]:
        """``one-db-margin``: the least powers for 1 dB more noise, or what the caps allow."""

        def margin() -> Point:
            with np.errstate(divide="ignore", invalid="ignore"):
                room = np.fmin(self.power_max_w / self._least, np.inf).min(-1)
            raised = np.clip(room, 1.0, 10**0.1)[..., None] * self._least
            return {"power_w": np.broadcast_to(raised, self.shape_of(type(self).power_w))}

        return {"one-db-margin": margin}

    def project(self, x: Point) -> dict[str, Array]:
        """Add the powers that make up for what is missing; then towards the least, for the caps."""
        loop, need = self._loop
        cap, least = self.power_max_w, self._least
        power = np.clip(x["power_w"], 0.0, cap)
        # 1. The feasible set is a cone above the least powers: raise the shortfalls together.
        missing = np.maximum(need + times(loop, power) - power, 0.0)
        power = np.maximum(power + least_fixed_point(loop, missing), least)
        # 2. It is convex: on the way to the least powers every cap is met in the end.
        with np.errstate(divide="ignore", invalid="ignore"):
            way = np.where(power > cap, (cap - least) / (power - least), 1.0)
        way = np.clip(way.min(-1, keepdims=True), 0.0, 1.0)
        return {"power_w": np.where(way < 1, least + way * (power - least), power)}

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The better of weak duality at the witness's ``noise_price``, else at ours, and floor."""
        loop, need = self._loop
        price = np.asarray((witness or {}).get("noise_price", self._noise_price))
        price = np.maximum(price, 0.0)
        with np.errstate(all="ignore"):
            caused = times(np.swapaxes(loop, -1, -2), price)
            rounding = 4e-16 * self.sizes["K"] * (price + caused)
            top = (price - caused + rounding).max(-1)
            dual = np.where(top > 0, (need * price).sum(-1) / top, np.nan)
        return np.broadcast_to(np.fmax(dual, self._floor), self.batch_shape)

    @cached_property
    def _floor(self) -> Array:
        """Total of powers with p <= loop p + need: every feasible allocation is above them.

        (At the largest ratio t > 1 of such p to a feasible q, p_k = t q_k > (loop p + need)_k.)
        The least powers, lowered by what their rounding can cause, are such a p.
        """
        loop, need = self._loop
        with np.errstate(all="ignore"):
            lowered = self._least - least_fixed_point(loop, 4e-16 * self.sizes["K"] * self._least)
            lowered = np.maximum(lowered, 0.0)
            below = (lowered <= times(loop, lowered) + need).all(-1)
        return np.where(below, lowered.sum(-1), need.sum(-1))

    @cached_property
    def _noise_price(self) -> Array:
        """mu = (I - A' diag(gamma))^-1 1: watts in total for each watt that link k must add."""
        loop, need = self._loop
        return least_fixed_point(np.swapaxes(loop, -1, -2), np.ones_like(need))

    # -- forms ------------------------------------------------------------------------------

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """p = (I - diag(gamma) A)^-1 diag(gamma) v."""
        shape = self.shape_of(type(self).power_w)

        def point() -> Point:
            return {"power_w": np.minimum(np.broadcast_to(self._least, shape), self.power_max_w)}

        return ClosedForm(point, lambda: {"noise_price": np.broadcast_to(self._noise_price, shape)})

    @offers(Model)
    def model(self) -> Model:
        """Linear program in y = p/scale; DPP because the scaled loop is one parameter."""
        size, capped = self.sizes["K"], bool(np.isfinite(self.power_max_w).any())
        return Model(
            ("PowerForSINR", size, capped), lambda backend: LEAST_POWER[backend](size, capped)
        )


def _names(links: Any) -> str:
    listed = [str(int(k)) for k in links]
    if len(listed) == 1:
        return f"link {listed[0]}"
    return f"links {', '.join(listed[:-1])} and {listed[-1]}"
