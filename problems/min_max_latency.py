"""Bandwidth for update synchronisation: everybody's update in as soon as possible.

    min  max_k { c_k + S_k / r_k(b_k) }    s.t.  sum_k b_k <= B,  b >= 0          (MinMaxLatency)
    min over sets S of  (c0 + c1/|S|) * t*(S)                                     (DeviceCount)

r_k(b) = b log2(1 + P_k g_k/(N0 b)) is the rate [bit/s], c_k the compute time [s], S_k the payload
[bit]. At the optimum of the first all scheduled devices finish together, so one time t fixes every
share; weaker channels and slower processors get more band. The second asks how many devices a
round should have when m devices need N(m) = c0 + c1/m rounds. Source: idea arXiv 2007.07174
(abstract) and 1911.03878; formulas spec rrm.md §5 with its corrections, derived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from rralloc.channel import NOISE_PSD_W_PER_HZ, Cell, macro_3gpp, rayleigh
from rralloc.errors import NotOffered
from rralloc.fields import Constraint, data, variable
from rralloc.forms import ClosedForm, Handle, Level, Model, Smooth, Subsets, offers
from rralloc.numerics.logexp import LN2
from rralloc.numerics.rates import min_bandwidth, min_bandwidth_slope, rate, rate_slope
from rralloc.numerics.roots import bracketed_root
from rralloc.numerics.shapes import batched, shrink
from rralloc.policy import Decision, Round
from rralloc.problem import Problem
from rralloc.typing import Array, Point, Witness

# A time t is a proven lower bound once more than the whole band is needed to finish by then. From
# a point alone the times tried lie this far (relatively) below its latency.
LADDER = np.array([0.0, 1e-13, 1e-11, 1e-9, 1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 0.1])


class _Uplink(Problem):
    """Fields and quantities that both problems share; not a problem by itself."""

    sense = "min"
    unit = "s"
    source = "arXiv 2007.07174, 1911.03878 (ideas); rrm.md §5, derived"

    path_gain: Array = data("K", unit="1", low=0, doc="channel power gain")
    compute_s: Array = data("K", unit="s", low=0, doc="time to compute the update")
    payload_bit: Array = data("K", unit="bit", low=0, doc="size of the update")
    power_w: Array = data("K", unit="W", low=0, doc="transmit power")
    bandwidth_budget_hz: Array = data(unit="Hz", low=0, open_low=True, doc="total bandwidth")
    noise_psd_w_hz: Array = data(
        unit="W/Hz", low=0, open_low=True, default=NOISE_PSD_W_PER_HZ, doc="noise density"
    )

    @classmethod
    def random(
        cls,
        *,
        K: int,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        **settings: Any,
    ) -> Self:
        """Devices uniform in a 500 m cell, 3GPP macro path loss, Rayleigh fading, c ~ U(0.1, 0.5) s.

        0.1 W each, 1 Mbit updates, 1 MHz.
        """
        rng = np.random.default_rng(rng)
        shape = batched(batch, K)
        count = int(np.prod(shape))
        distance = Cell(500.0, 50.0).drop(count, rng).distance_m.reshape(shape)
        fields = {
            "path_gain": macro_3gpp(distance) * rayleigh(shape, rng),
            "compute_s": rng.uniform(0.1, 0.5, size=shape),
            "payload_bit": 1e6,
            "power_w": 0.1,
            "bandwidth_budget_hz": 1e6,
        }
        return cls(**fields | settings)

    @property
    def snr_bandwidth_hz(self) -> Array:
        """a_k = P_k g_k/N0, Hz."""
        return self.power_w * self.path_gain / self.noise_psd_w_hz[..., None]

    def latency(self, bandwidth_hz: Array) -> Array:
        """c_k + S_k/r_k(b_k) ``(..., K)``; inf without band or channel, c_k without payload."""
        speed = rate(bandwidth_hz, self.snr_bandwidth_hz)
        empty = np.real(speed) <= 0
        air = np.where(empty, np.inf, self.payload_bit / np.where(empty, 1.0, speed))
        return self.compute_s + np.where(self.payload_bit > 0, air, 0.0)

    def needed(self, time_s: Array) -> Array:
        """Least band ``(..., K)`` with which each device finishes by ``time_s (...)``; inf if never."""
        window = time_s[..., None] - self.compute_s
        with np.errstate(divide="ignore", invalid="ignore"):
            speed = np.where(window > 0, self.payload_bit / window, np.inf)
        speed = np.where(self.payload_bit > 0, speed, np.where(window >= 0, 0.0, np.inf))
        return min_bandwidth(speed, self.snr_bandwidth_hz)

    def needed_slope(self, time_s: Array, band: Array) -> Array:
        """Derivative of ``needed``: 1/r'(b) times dR/dt = -S/(t-c)^2."""
        window = time_s[..., None] - self.compute_s
        with np.errstate(all="ignore"):
            fall = min_bandwidth_slope(band, self.snr_bandwidth_hz) * self.payload_bit / window**2
        return np.where((band > 0) & (window > 0), -fall, 0.0)

    @property
    def earliest_s(self) -> Array:
        """c_k + S_k ln2/a_k ``(..., K)``: with infinite band; no device is ever faster."""
        with np.errstate(divide="ignore", invalid="ignore"):
            air = self.payload_bit * LN2 / self.snr_bandwidth_hz
        return self.compute_s + np.where(self.payload_bit > 0, air, 0.0)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """The band."""
        slack = self.bandwidth_budget_hz - x["bandwidth_hz"].sum(-1)
        return (Constraint("total bandwidth", slack, "Hz", self.bandwidth_budget_hz),)

    def project(self, x: Point) -> dict[str, Array]:
        """Clip to b >= 0 and scale down onto the band."""
        band = np.maximum(x["bandwidth_hz"], 0.0)
        return {"bandwidth_hz": band * shrink(band.sum(-1), self.bandwidth_budget_hz)[..., None]}


class MinMaxLatency(_Uplink):
    """Split the band so that the last device finishes as early as possible.

    Problem
        min_b max_k { c_k + S_k/r_k(b_k) }  s.t.  sum_k b_k <= B, b_k >= 0, over scheduled k.
    Parameters
        path_gain: g ``(..., K)``, linear. A scheduled device with payload and g = 0 makes the
            instance INFEASIBLE, and the message names it.
        compute_s: c ``(..., K)``, s. payload_bit: S ``(..., K)``, bit. power_w: P ``(..., K)``, W.
        bandwidth_budget_hz: B ``(...)``, Hz, > 0. noise_psd_w_hz: N0 ``(...)``, default -174 dBm/Hz.
        scheduled: ``(..., K)`` bool, default everybody; the others get no band and do not count.
    Variables
        bandwidth_hz: b ``(..., K)``, Hz.
    Bound
        A time by which finishing would need more than the whole band.
    Choose this when
        a synchronous round ends with its slowest device and the server divides the band.
    Source
        Idea arXiv 2007.07174 (abstract), 1911.03878; algorithm rrm.md §5 problem A, derived.
    """

    bound_method = "a time that would need more than the whole band"
    differentiable = False  # a maximum; the Smooth form below goes through the epigraph

    scheduled: Array = data("K", unit="1", dtype=bool, default=True, doc="who takes part")

    bandwidth_hz = variable("K", unit="Hz", low=0, scale="bandwidth_budget_hz", doc="bandwidth")

    def excluding(self, *, max_compute_s: float = np.inf, min_path_gain: float = 0.0) -> Self:
        """Problem B: without devices that compute longer or hear less than the thresholds."""
        kept = (self.compute_s <= max_compute_s) & (self.path_gain >= min_path_gain)
        return self.replace(scheduled=self.scheduled & kept)

    def _held(self, values: Array, idle: float) -> Array:
        return np.where(self.scheduled, values, idle)

    def objective(self, x: Point) -> Array:
        """The latest scheduled device's finishing time in s; 0 when nobody is scheduled."""
        return self._held(self.latency(x["bandwidth_hz"]), 0.0).max(-1)

    def infeasible(self) -> Array:
        """Somebody must send and cannot be heard."""
        deaf = (self.snr_bandwidth_hz <= 0) & (self.payload_bit > 0) & self.scheduled
        return deaf.any(-1)

    def why_infeasible(self) -> str:
        """Name the devices that cannot be heard."""
        deaf = (self.snr_bandwidth_hz <= 0) & (self.payload_bit > 0) & self.scheduled
        names = ", ".join(str(k) for k in np.flatnonzero(np.broadcast_to(deaf, self.sizes["K"])))
        return (
            f"device {names} has a payload to send but no received power (P g = 0): no bandwidth "
            "helps; leave it out with scheduled=False or excluding(min_path_gain=...)"
        )

    def points(self) -> dict[str, Callable[[], Point]]:
        """``equal-split``; ``by-need``: band in proportion to payload over spectral efficiency."""
        shape = self.shape_of(type(self).bandwidth_hz)
        total = self.bandwidth_budget_hz[..., None]

        def split(score: Array) -> Point:
            score = self._held(np.broadcast_to(score, shape), 0.0)
            return {"bandwidth_hz": total * score / np.maximum(score.sum(-1, keepdims=True), 1e-300)}

        def equal() -> Point:
            return split(np.ones(shape))

        def by_need() -> Point:
            band = equal()["bandwidth_hz"]
            with np.errstate(divide="ignore", invalid="ignore"):
                need = self.payload_bit * band / rate(band, self.snr_bandwidth_hz)
            need = np.where(np.isfinite(need), need, 0.0)
            return split(np.where(need.any(-1, keepdims=True), need, 1.0))

        return {"equal-split": equal, "by-need": by_need}

    def used(self, time_s: Array) -> Array:
        """Band that everybody needs to finish by ``time_s (...)``; non-increasing, convex."""
        return self._held(self.needed(time_s), 0.0).sum(-1)

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The latest time that provably cannot be met, just below x's or the witness's time."""
        time = self.objective(x if x is not None else self.initial())
        best = self._held(self.earliest_s, 0.0).max(-1)
        for claimed in [time, *([np.asarray(witness["latency_s"])] if witness else [])]:
            for step in LADDER:
                early = np.where(np.isfinite(claimed), claimed * (1 - step), 0.0)
                proven = self.used(early) >= self.bandwidth_budget_hz
                best = np.where(proven, np.maximum(best, early), best)
                if proven.all():
                    break
        return best

    @offers(Level)
    def level(self) -> Level:
        """level = finishing time; the band needed falls as time passes."""
        equal = self.points()["equal-split"]()
        late = self.objective(equal)
        soon = self._held(self.earliest_s, 0.0).max(-1)
        if not np.isfinite(late).all():
            raise NotOffered("some device cannot be heard: no time suffices")

        def point(time: Array) -> Point:
            band = self._held(self.needed(time), 0.0)
            # Nothing to send (or time to spare): fill the band equally; else share the rounding.
            total = band.sum(-1, keepdims=True)
            spare = np.where(np.isfinite(total) & (total > 0), band, equal["bandwidth_hz"])
            size = spare.sum(-1, keepdims=True)
            fill = self.bandwidth_budget_hz[..., None] / np.where(size > 0, size, 1.0)
            return {"bandwidth_hz": spare * fill}

        def slope(time: Array) -> Array:
            return self._held(self.needed_slope(time, self.needed(time)), 0.0).sum(-1)

        budget = self.bandwidth_budget_hz
        return Level(
            point, self.used, budget, (soon, late), "linear", slope, lambda t: {"latency_s": t}
        )

    @offers(Smooth)
    def smooth(self) -> Smooth:
        """Epigraph: z = (b/B, t/t0), minimise t with t - c_k - S_k/r_k >= 0 and sum b <= B."""
        one = self if self.batch_shape == () else self.flat()[0]
        return _Epigraph(one).form()

    @offers(Model)
    def model(self) -> Model:
        """y = b/B, tau = t/t0; cvxpy: kappa inv_pos(window) <= -rel_entr(y, y + a), which is DPP."""
        size = self.sizes["K"]
        return Model(("MinMaxLatency", size), lambda backend: _MODELS[backend](size))

    @classmethod
    def from_round(cls, round: Round) -> Self:
        """Everybody with data takes part; the known gain counts as the gain."""
        return cls(
            path_gain=round.path_gain,
            compute_s=round.compute_s,
            payload_bit=round.payload_bit,
            power_w=round.power_w,
            bandwidth_budget_hz=round.bandwidth_hz,
            noise_psd_w_hz=round.noise_psd_w_hz,
            scheduled=round.share > 0,
        )

    def to_decision(self, x: Point, round: Round, rng: np.random.Generator) -> Decision:
        """Everybody scheduled sends at once; the aggregate is the plain weighted mean."""
        scheduled = np.broadcast_to(self.scheduled, round.share.shape)
        return Decision(
            scheduled=scheduled,
            weight=np.where(scheduled, round.share, 0.0),
            bandwidth_hz=np.asarray(x["bandwidth_hz"]),
            power_w=np.broadcast_to(round.power_w, round.share.shape),
            x=dict(x),
        )


class DeviceCount(_Uplink):
    """How many devices, which, and what band: fewer finish sooner, more need fewer rounds.

    Problem
        min over nonempty sets S and b of (c0 + c1/|S|) max_{k in S} { c_k + S_k/r_k(b_k) },
        sum_k b_k <= B. A device takes part when its band is positive.
    Parameters
        as MinMaxLatency (payload > 0), and rounds_base: c0 ``(...)``, rounds_per_device: c1
        ``(...)``, the form N(m) = c0 + c1/m of the number of rounds (assumed in the spec).
    Variables
        bandwidth_hz: b ``(..., K)``, Hz; derived: selected ``(..., K)``.
    Bound
        A total v such that, for every m, finishing the m easiest devices by v/N(m) would need
        more than the whole band.
    Choose this when
        total training time, not one round's, is what counts.
    Source
        Tradeoff 1911.03878; greedy rule arXiv 2007.07174 (abstract); form and exact method (for a
        given time the best m-set is the m smallest needed bands) rrm.md §5 problem C, derived.
    """

    bound_method = "for every count, a time that would need more than the whole band"
    differentiable = False

    rounds_base: Array = data(unit="1", low=0, default=50.0, doc="rounds needed by many devices")
    rounds_per_device: Array = data(unit="1", low=0, default=200.0, doc="c1 in c0 + c1/m")

    bandwidth_hz = variable("K", unit="Hz", low=0, scale="bandwidth_budget_hz", doc="bandwidth")
    selected = variable("K", unit="1", dtype=bool, derived=True, doc="who takes part")

    def rounds(self, count: Array) -> Array:
        """N(m) = c0 + c1/m; inf for m = 0."""
        count = np.asarray(count, dtype=float)
        with np.errstate(divide="ignore"):
            return np.where(count > 0, self.rounds_base + self.rounds_per_device / count, np.inf)

    def complete(self, x: Point) -> dict[str, Array]:
        """selected = band > 0."""
        return {"bandwidth_hz": x["bandwidth_hz"], "selected": x["bandwidth_hz"] > 0}

    def objective(self, x: Point) -> Array:
        """Rounds times round time, s; inf when nobody takes part."""
        chosen = x["bandwidth_hz"] > 0
        slowest = np.where(chosen, self.latency(x["bandwidth_hz"]), 0.0).max(-1)
        count = chosen.sum(-1)
        return np.where(count > 0, self.rounds(count) * slowest, np.inf)

    def infeasible(self) -> Array:
        """Nobody can be heard."""
        return ~np.isfinite(self.earliest_s).any(-1)

    def why_infeasible(self) -> str:
        """Nobody can be heard."""
        return "no device has received power (P g = 0 everywhere): nobody can take part"

    def points(self) -> dict[str, Callable[[], Point]]:
        """``all``: everybody at an equal split; ``strongest``: the whole band to the best channel."""
        shape = self.shape_of(type(self).bandwidth_hz)
        total = self.bandwidth_budget_hz[..., None]

        def everybody() -> Point:
            return {"bandwidth_hz": np.broadcast_to(total / shape[-1], shape)}

        def strongest() -> Point:
            first = self.path_gain.argmax(-1)[..., None]
            return {"bandwidth_hz": np.broadcast_to(total * (np.arange(shape[-1]) == first), shape)}

        return {"all": everybody, "strongest": strongest}

    def _used_by_count(self, time_s: Array) -> Array:
        """Band of the m devices that need least by ``time_s (..., K)``, its last axis m = 1..K."""
        count = time_s.shape[-1]
        every = self.needed(np.moveaxis(time_s, -1, 0))  # (m, ..., K)
        total = np.sort(every, axis=-1).cumsum(-1)
        return np.stack([total[m, ..., m] for m in range(count)], axis=-1)

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The largest v just below x's total that no count can reach."""
        total = self.objective(x if x is not None else self.initial())
        size = self.sizes["K"]
        rounds = np.stack([self.rounds(np.array(m)) for m in range(1, size + 1)], -1)
        sooner = np.sort(np.broadcast_to(self.earliest_s, (*self.batch_shape, size)), -1)
        best = (rounds * sooner).min(-1)
        for step in LADDER:
            claim = total * (1 - step)
            used = self._used_by_count(np.broadcast_to(claim[..., None] / rounds, sooner.shape))
            proven = (used >= self.bandwidth_budget_hz[..., None]).all(-1)
            best = np.where(proven, np.maximum(best, claim), best)
        return best

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """For each count m one bracketed time at which the m least bands fill B; best total wins."""
        return ClosedForm(self._best)

    def _times(self) -> Array:
        """t*(m) ``(S, K)`` for m = 1..K; inf where m devices cannot be heard."""
        lanes, size = self.size, self.sizes["K"]
        soon = np.sort(np.broadcast_to(self.earliest_s, (lanes, size)), -1)
        split = self.bandwidth_budget_hz[:, None, None] / np.arange(1, size + 1)[:, None]
        each = np.moveaxis(self.latency(np.moveaxis(np.broadcast_to(
            split, (lanes, size, size)), 1, 0)), 0, 1)  # (S, m, K)
        late = np.stack([np.sort(each[:, m], -1)[:, m] for m in range(size)], -1)
        heard = np.isfinite(late)
        rows, counts = np.nonzero(heard)

        def excess(time: Array, lane: Array, count: Array) -> tuple[Array, Array]:
            part = self[lane.astype(int)]
            band = part.needed(time)
            order = band.argsort(-1)
            first = np.arange(size) <= count[:, None]
            least = np.where(first, np.take_along_axis(band, order, -1), 0.0)
            fall = np.take_along_axis(part.needed_slope(time, band), order, -1)
            gap = least.sum(-1) - part.bandwidth_budget_hz
            return gap, np.where(first, fall, 0.0).sum(-1)

        times = np.full((lanes, size), np.inf)
        times[rows, counts] = bracketed_root(excess, soon[heard], late[heard], rows, counts)
        return times

    def _best(self) -> Point:
        times, size = self._times(), self.sizes["K"]
        rounds = np.stack([np.broadcast_to(self.rounds(np.array(m)), (self.size,)) for m in range(1, size + 1)], -1)
        best = (rounds * times).argmin(-1)
        time = np.take_along_axis(times, best[:, None], -1)[:, 0]
        band = self.needed(time)
        order = band.argsort(-1)
        first = np.zeros(band.shape, dtype=bool)
        np.put_along_axis(first, order, np.arange(size) <= best[:, None], -1)
        band = np.where(first, band, 0.0)
        return {"bandwidth_hz": band * (self.bandwidth_budget_hz / band.sum(-1))[:, None]}

    @offers(Subsets)
    def subsets(self) -> Subsets:
        """Fix who takes part: what remains is MinMaxLatency."""

        def fix(mask: Array) -> Problem:
            shared = {n: getattr(self, n) for n in _Uplink._data}
            return MinMaxLatency(**shared, scheduled=mask)

        def lift(mask: Array, x: Point) -> Point:
            return {"bandwidth_hz": np.where(mask, x["bandwidth_hz"], 0.0)}

        return Subsets(self.sizes["K"], fix, lift)


class _Epigraph:
    """Flat coordinates of one MinMaxLatency instance: shares of the band, and a scaled time."""

    def __init__(self, problem: MinMaxLatency) -> None:
        self.size = problem.sizes["K"]
        self.problem = problem
        self.total = float(problem.bandwidth_budget_hz)
        self.unit_s = float(problem.objective(problem.initial()))
        self.active = np.broadcast_to(problem.scheduled & (problem.payload_bit > 0), self.size)
        if not np.isfinite(self.unit_s) or self.unit_s == 0:
            raise NotOffered("some device cannot be heard, or nothing is to be sent")

    def form(self) -> Smooth:
        low = np.append(np.where(self.active, 1e-9, 0.0), 0.0)
        high = np.append(np.ones(self.size), np.inf)
        kinds = np.zeros(self.size + 1, dtype=bool)
        return Smooth(
            self.flatten, self.unflatten, (low, high), self.value_grad, self.constraints_jac, kinds
        )

    def flatten(self, x: Point) -> Array:
        time = float(self.problem.objective(x)) / self.unit_s
        return np.append(np.asarray(x["bandwidth_hz"]) / self.total, time)

    def unflatten(self, z: Array) -> Point:
        return {"bandwidth_hz": z[:-1] * self.total}

    def value_grad(self, z: Array) -> tuple[float, Array]:
        return float(z[-1]), np.append(np.zeros(self.size), 1.0)

    def constraints_jac(self, z: Array) -> tuple[Array, Array]:
        problem, band = self.problem, np.maximum(z[:-1], 1e-12) * self.total
        q = problem.snr_bandwidth_hz
        speed = np.broadcast_to(rate(band, q), self.size)
        late = np.where(self.active, problem.payload_bit / np.where(speed > 0, speed, 1.0), 0.0)
        late_slope = np.where(self.active, late * rate_slope(band, q) / speed, 0.0) * self.total
        takes_part = np.broadcast_to(problem.scheduled, self.size)
        slack = np.where(takes_part, z[-1] - (problem.compute_s + late) / self.unit_s, 1.0)
        jac = np.zeros((self.size + 1, self.size + 1))
        jac[np.arange(self.size), np.arange(self.size)] = late_slope / self.unit_s
        jac[: self.size, -1] = takes_part
        jac[-1, :-1] = -1.0
        return np.append(slack, 1 - z[:-1].sum()), jac


# -- models ---------------------------------------------------------------------------------------


def _normalised(problem: MinMaxLatency, size: int) -> tuple[Array, Array, Array, float]:
    """kappa = S ln2/(t0 B), c/t0, a/B and t0; a device that does not take part has 0, 0, 1."""
    total = float(problem.bandwidth_budget_hz)
    unit_s = float(problem.objective(problem.initial())) or 1.0
    active = np.broadcast_to(problem.scheduled & (problem.payload_bit > 0), size)
    kappa = np.where(active, problem.payload_bit * LN2 / (unit_s * total), 0.0)
    compute = np.where(problem.scheduled, problem.compute_s / unit_s, 0.0)
    heard = np.where(active, problem.snr_bandwidth_hz / total, 1.0)
    return kappa, np.broadcast_to(compute, size), heard, unit_s


def _cvxpy(size: int) -> Handle:
    import cvxpy as cp

    kappa, compute, heard = (cp.Parameter(size, nonneg=True) for _ in range(3))
    y, tau = cp.Variable(size, nonneg=True), cp.Variable()
    # The window is a variable of its own: two parameters must not meet in one product (DPP).
    window = cp.Variable(size, nonneg=True)
    sent = cp.multiply(kappa, cp.inv_pos(window)) + cp.rel_entr(y, y + heard)
    limits = [sent <= 0, window <= tau - compute, cp.sum(y) <= 1]
    model = cp.Problem(cp.Minimize(tau), limits)

    def assign(problem: MinMaxLatency) -> None:
        kappa.value, compute.value, heard.value, _ = _normalised(problem, size)

    return Handle(model, assign, lambda p: {"bandwidth_hz": y.value * p.bandwidth_budget_hz})


def _pyomo(size: int) -> Handle:
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.k = pyo.RangeSet(0, size - 1)
    for name in ("kappa", "compute", "heard"):
        setattr(model, name, pyo.Param(model.k, mutable=True, initialize=1.0))
    model.total_hz = pyo.Param(mutable=True, initialize=1.0)
    model.y = pyo.Var(model.k, bounds=(1e-12, 1), initialize=1 / size)
    model.tau = pyo.Var(bounds=(0, None), initialize=1.0)
    model.bandwidth_hz = pyo.Expression(model.k, rule=lambda m, k: m.total_hz * m.y[k])
    model.band = pyo.Constraint(expr=sum(model.y[k] for k in model.k) <= 1)
    model.late = pyo.Constraint(
        model.k,
        rule=lambda m, k: (m.tau - m.compute[k]) * m.y[k] * pyo.log(1 + m.heard[k] / m.y[k])
        >= m.kappa[k],
    )
    model.window = pyo.Constraint(model.k, rule=lambda m, k: m.tau >= m.compute[k])
    model.last = pyo.Objective(expr=model.tau)

    def assign(problem: MinMaxLatency) -> None:
        kappa, compute, heard, _ = _normalised(problem, size)
        model.total_hz = float(problem.bandwidth_budget_hz)
        for k in range(size):
            model.kappa[k], model.compute[k] = float(kappa[k]), float(compute[k])
            model.heard[k] = float(heard[k])

    def start(problem: MinMaxLatency, x: Point) -> None:
        for k, value in enumerate(x["bandwidth_hz"]):
            model.y[k] = max(float(value) / float(problem.bandwidth_budget_hz), 1e-12)
        model.tau = float(problem.objective(x)) / _normalised(problem, size)[3]

    def point(_: MinMaxLatency) -> Point:
        return {"bandwidth_hz": np.array([pyo.value(model.bandwidth_hz[k]) for k in model.k])}

    return Handle(model, assign, point, start)


_MODELS: dict[str, Callable[[int], Handle]] = {"cvxpy": _cvxpy, "pyomo": _pyomo}
