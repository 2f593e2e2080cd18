"""Coverage with a proof: a tree over who is in, who is out, and the phases of those who are in.

    max_m  sum_k w_k [|g_k^H m|^2 >= 1],  |m| = 1

A beam belongs to one leaf: some devices are served (in) and their phases lie in known sectors, some
are not counted (out), the rest is undecided. With the phases of a few devices known the others are
bounded well by a small convex program, and its multipliers prove the bound; the tree with the
multipliers is the witness, which the problem checks for itself.

Source: spec ota.md §3 (f) asks for cuts on infeasible sets and a search over phases for each; this
is one tree for both. Phase sectors as in Lu and Liu (arXiv 1702.01974). Derived.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from rralloc.driver import solve
from rralloc.errors import NotOffered
from rralloc.forms import ClosedForm, Coverage
from rralloc.numerics.beams import unit
from rralloc.solution import Stopped
from rralloc.solver import Solver
from rralloc.solvers._coverage_search import Search
from rralloc.solvers._exact_phases import IN, OPEN, OUT, Columns, Dual, Regions, relaxed
from rralloc.solvers.coverage import CoverageSearch, normalised
from rralloc.typing import Array, Point

LOOSE = 1 - 4e-9
"""Threshold of the proof: below the one at which a problem counts a device as served."""
QUADRANTS = 4
"""Sectors into which the phase of a device is divided when it is taken in."""
UNEVEN = 6.0
"""How much a device that is served in part counts, against one whose phase is spread."""
MISSED = 0.3
"""How much it counts that the relaxed beam does not serve a device by itself."""
WORK = 4e7
"""Regions times unknowns cubed that are handled at once: between two looks at the clock."""
NARROW = 1e-7
"""A sector is not cut below this width."""


class ExactSelection(Solver):
    """The most valuable beam, and a proof: branch and bound on devices and phases.

    Stops when no beam can be better by a whole device (or, with values that are not whole, by half
    of the caller's ``gap_tol``), or after ``nodes`` nodes, or at the time limit; best beam and
    proven bound are kept in every case. ``width`` nodes are divided at once, fewer where there are
    many devices.

    Six antennas and 20 devices take about a second, 12 devices a tenth. The tree grows
    exponentially with the antennas and the devices that are neither clearly in nor clearly out.

    Choose this when the optimum must be known: to judge a fast solver, or for a small instance.
    """

    name = "exact"
    rank = 80
    needs = (Coverage,)
    batched = False
    warm = True

    nodes: int = 100_000
    width: int = 64

    def solve(self, problem: Any, start: Point | None, run: Any) -> None:
        """The formula where there is one; else a good beam first, then the tree."""
        form = problem.view(Coverage)
        try:
            formula = problem.view(ClosedForm)
        except NotOffered:
            self._search(problem, form, start, run)
        else:
            run.offer(formula.point())

    def _search(self, problem: Any, form: Coverage, start: Point | None, run: Any) -> None:
        g, w = normalised(form)
        search = Search(g, w)
        # 1. A beam to beat.
        m = _good_beam(problem, start, search, run)
        run.offer(form.point(m))
        able = w > 0
        if not able.any():
            return
        # 2. The tree; values relative to the largest.
        top = float(w.max())
        step = 1 / top if (form.weight == np.rint(form.weight)).all() else 0.0
        tree = _Tree(g[:, able] / np.sqrt(LOOSE), w[able] / top)
        best = search.worth(m) / top
        goal = self._goal(best, step, run)
        tree.bound_root(goal)
        try:
            while tree.open.size and tree.count < self.nodes:
                run.check()
                for x in tree.divide(self.width, goal):
                    new = search.add(unit(x))
                    if search.worth(new) / top > best:
                        best = search.worth(new) / top
                        goal = self._goal(best, step, run)
                        run.offer(form.point(new))
            if tree.open.size:
                run.end(Stopped.ITERATIONS, f"stopped at {tree.count} nodes")
        finally:  # an interrupted search has proven something too
            run.count(tree.count)
            run.prove({"tree": tree.witness(able, top)})

    def _goal(self, best: float, step: float, run: Any) -> float:
        """A region whose bound is below this holds nothing better."""
        return max(best + (1 - 1e-6) * step, best * (1 + run.gap_tol / 2))


def _good_beam(problem: Any, start: Point | None, search: Search, run: Any) -> Array:
    """The better of what the coverage search finds and of the start, grown by whole devices."""
    strongest = np.linalg.norm(search.columns, axis=0).argmax()
    tries = [search.columns[:, strongest]]
    if start is not None and np.isfinite(start["beamformer"]).all():
        tries.append(start["beamformer"])
    limit = run.time_left if np.isfinite(run.time_left) else None
    if limit is None or limit > 0:
        tries.append(
            solve(
                problem,
                CoverageSearch(),
                start=start,
                rng=run.rng,
                certify="none",
                time_limit=limit,
            ).x["beamformer"]
        )
    return max((search.add(unit(m)) for m in tries if np.isfinite(m).all()), key=search.worth)


@dataclass
class _Tree:
    """Nodes in growing arrays; a node's children are consecutive."""

    columns: Array
    value: Array
    count: int = 1
    open: Array = field(default_factory=lambda: np.array([0]))

    def __post_init__(self) -> None:
        norm = np.linalg.norm(self.columns, axis=0)
        self.data = Columns(self.columns / norm, norm**-2.0, self.value)
        K, size = len(norm), 256
        self.state = np.full((size, K), OPEN, dtype=np.int8)
        self.low, self.high, self.y, self.u, self.warm_y, self.warm_u = np.zeros((6, size, K))
        self.lam, self.t, self.angle = np.zeros((3, size))
        self.bound = np.full(size, np.inf)
        self.device, self.child, self.next = np.full((3, size), -1)

    def bound_root(self, goal: float) -> None:
        """Solve the relaxation without any decision."""
        tau, w = self.data.tau, self.data.value
        self.warm_y[0], self.t[0] = np.minimum(0.5 / tau, 1.0) * w, 1.0
        self._bound(np.array([0]), goal)

    def divide(self, width: int, goal: float) -> list[Array]:
        """Divide the most promising nodes; returns beams worth trying."""
        self.open = self.open[self.bound[self.open] >= goal]
        lanes = WORK / (2 * len(self.value) + 2) ** 3
        width = max(1, min(width, int(lanes / (QUADRANTS + 1))))
        ranked = self.open[np.argsort(-self.bound[self.open], kind="stable")]
        self.open = ranked[width:]
        first = self.count
        for node in ranked[:width]:
            self._split(int(node))
        fresh = np.arange(first, self.count)
        if not fresh.size:
            return []
        x = self._bound(fresh, goal)
        promising = np.argsort(-self.bound[fresh])[:2]
        decided = (self.bound[fresh] >= goal) & ~(self.state[fresh] == OPEN).any(1)
        return list(x[np.union1d(promising, np.flatnonzero(decided))])

    def _split(self, node: int) -> None:
        """Children of one node, on the device and at the angle chosen when it was bounded."""
        k, a = int(self.next[node]), float(self.angle[node])
        if self.state[node, k] == IN:
            parts = [(IN, self.low[node, k], a), (IN, a, self.high[node, k])]
        elif not (self.state[node] == IN).any():  # the first one sets the common phase
            parts = [(OUT, 0.0, 0.0), (IN, 0.0, 0.0)]
        else:
            ends = a + 2 * np.pi / QUADRANTS * np.arange(QUADRANTS + 1)
            parts = [(OUT, 0.0, 0.0), *((IN, *pair) for pair in pairwise(ends))]
        self._grow(self.count + len(parts))
        self.device[node], self.child[node] = k, self.count
        for state, low, high in parts:
            new = self.count
            for held in (self.state, self.low, self.high, self.warm_y, self.warm_u):
                held[new] = held[node]
            self.lam[new], self.t[new], self.bound[new] = (
                self.lam[node],
                self.t[node],
                self.bound[node],
            )
            self.state[new, k], self.low[new, k], self.high[new, k] = state, low, high
            self.count += 1

    def _bound(self, nodes: Array, goal: float) -> Array:
        """Bound some nodes and choose where to divide those that remain; returns their beams."""
        regions = Regions(self.state[nodes], self.low[nodes], self.high[nodes])
        start = Dual(self.warm_y[nodes], self.warm_u[nodes], self.lam[nodes], self.t[nodes])
        found = relaxed(self.data, regions, start, goal)
        self.bound[nodes] = np.minimum(self.bound[nodes], found.bound)
        self.y[nodes], self.u[nodes] = found.y, found.u
        self.warm_y[nodes], self.warm_u[nodes] = found.warm.y, found.warm.u
        self.lam[nodes], self.t[nodes] = found.warm.lam, found.warm.t
        # 1. What keeps the bound high: devices served in part, and gain without a phase; where all
        #    seem to be served, the multipliers vanish and what the beam itself misses decides.
        heard = found.x @ self.data.unit.conj()
        power = np.abs(heard) ** 2
        spread = np.maximum(found.heard - power, 0.0) * found.y
        spread += MISSED * self.data.value * np.maximum(1 - power / self.data.tau, 0.0)
        share = np.minimum(found.heard / self.data.tau, 1.0)
        undecided = regions.state == OPEN
        uneven = np.where(undecided, UNEVEN * self.data.value * share * (1 - share), 0.0)
        able = undecided | (regions.state == IN) & (regions.high - regions.low > NARROW)
        score = np.where(able, spread + uneven, -1.0)
        pick = score.argmax(1)
        # 2. The cut: at the phase of the relaxed beam, which then has to give way.
        one = np.arange(len(nodes))
        low, high = regions.low[one, pick], regions.high[one, pick]
        phase = np.angle(heard[one, pick])
        inner = low + np.mod(phase - low, 2 * np.pi)
        edge = 0.15 * (high - low)
        fits = (inner > low + edge) & (inner < high - edge)
        cut = np.where(fits, inner, (low + high) / 2)
        self.next[nodes] = pick
        self.angle[nodes] = np.where(undecided[one, pick], phase, cut)
        going = (self.bound[nodes] >= goal) & (score[one, pick] >= 0)
        self.open = np.union1d(np.setdiff1d(self.open, nodes), nodes[going])
        return found.x

    def _grow(self, need: int) -> None:
        if need <= len(self.bound):
            return
        for name, held in vars(self).items():
            if name not in ("columns", "value", "open") and isinstance(held, np.ndarray):
                setattr(self, name, np.concatenate([held, np.full_like(held, -1)]))

    def witness(self, able: Array, top: float) -> dict[str, Array]:
        """The tree over all devices, multipliers in the caller's values."""
        n = self.count
        kept = np.flatnonzero(able)
        device = np.where(self.device[:n] >= 0, kept[self.device[:n]], -1)
        y, u = np.zeros((2, n, len(able)))
        y[:, kept], u[:, kept] = self.y[:n] * top, self.u[:n] * top
        return {
            "device": device,
            "child": self.child[:n].copy(),
            "angle": self.angle[:n].copy(),
            "y": y,
            "u": u,
        }
