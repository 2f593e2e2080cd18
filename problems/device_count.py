"""How many devices should a round have? Fewer finish sooner, more need fewer rounds.

    min over sets S of  (c0 + c1/|S|) * t*(S),     t*(S) the min-max latency of S

For a given time the best m devices are the m that need least band, so one bracketed root for each
m settles it exactly. Source: tradeoff 1911.03878; greedy rule arXiv 2007.07174 (abstract); form
and exact method spec rrm.md §5 problem C with correction (A), derived.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.fields import data, variable
from rralloc.forms import ClosedForm, Subsets, offers
from rralloc.numerics.roots import bracketed_root
from rralloc.problem import Problem
from rralloc.problems._uplink import LADDER, Uplink
from rralloc.problems.min_max_latency import MinMaxLatency
from rralloc.typing import Array, Field, Point, Witness


class DeviceCount(Uplink):
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

    rounds_base: Field = data(unit="1", low=0, default=50.0, doc="rounds needed by many devices")
    rounds_per_device: Field = data(unit="1", low=0, default=200.0, doc="c1 in c0 + c1/m")

    bandwidth_hz = variable("K", unit="Hz", low=0, scale="bandwidth_budget_hz", doc="bandwidth")
    selected = variable("K", unit="1", dtype=bool, derived=True, doc="who takes part")

    def check(self) -> None:
        """A device takes part when it has a band, so nobody may need none."""
        if not (self.payload_bit > 0).all():
            worst = np.argwhere(self.payload_bit <= 0)[0].tolist()
            raise InvalidProblem(
                f"DeviceCount.payload_bit{worst} = 0 bit is not in (0, inf) bit: a device takes "
                "part when it has a band, so every device needs a payload"
            )

    def rounds(self, count: Array) -> Array:
        """N(m) = c0 + c1/m; inf for m = 0."""
        count = np.asarray(count, dtype=float)
        some = np.maximum(count, 1.0)
        return np.where(count > 0, self.rounds_base + self.rounds_per_device / some, np.inf)

    def complete(self, x: Point) -> dict[str, Array]:
        """selected = band > 0."""
        return {"bandwidth_hz": x["bandwidth_hz"], "selected": x["bandwidth_hz"] > 0}

    def objective(self, x: Point) -> Array:
        """Rounds times round time, s; inf when nobody takes part."""
        chosen = x["bandwidth_hz"] > 0
        slowest = np.where(chosen, self.latency(x["bandwidth_hz"]), 0.0).max(-1)
        count = chosen.sum(-1)
        return np.where(count > 0, self.rounds(np.maximum(count, 1)) * slowest, np.inf)

    def infeasible(self) -> Array:
        """Nobody can be heard."""
        heard: Array = np.isfinite(self.earliest_s)
        return np.asarray(~heard.any(-1))

    def why_infeasible(self) -> str:
        """Nobody can be heard."""
        return "no device has received power (P g = 0 everywhere): nobody can take part"

    def points(self) -> dict[str, Callable[[], Point]]:
        """``all``: everybody at an equal split; ``strongest``: the best channel alone."""
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
        """For each count m the time at which the m least bands fill B; best total wins."""
        return ClosedForm(self._best)

    def _times(self) -> Array:
        """t*(m) ``(S, K)`` for m = 1..K; inf where m devices cannot be heard."""
        lanes, size = self.size, self.sizes["K"]
        soon = np.sort(np.broadcast_to(self.earliest_s, (lanes, size)), -1)
        split = self.bandwidth_budget_hz[:, None, None] / np.arange(1, size + 1)[:, None]
        each = np.moveaxis(
            self.latency(np.moveaxis(np.broadcast_to(split, (lanes, size, size)), 1, 0)), 0, 1
        )  # (S, m, K)
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
        rounds = np.stack(
            [np.broadcast_to(self.rounds(np.array(m)), (self.size,)) for m in range(1, size + 1)],
            -1,
        )
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
            shared = {n: getattr(self, n) for n in Uplink._data}
            return MinMaxLatency(**shared, scheduled=mask)

        def lift(mask: Array, x: Point) -> Point:
            return {"bandwidth_hz": np.where(mask, x["bandwidth_hz"], 0.0)}

        return Subsets(self.sizes["K"], fix, lift)
