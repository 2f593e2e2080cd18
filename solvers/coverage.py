"""Coverage: one unit vector that serves the most devices.

    max_m  sum_k w_k [|g_k^H m|^2 >= 1],  |m| = 1

Annealed ascent on the smoothed count from many starts, all instances at once; the best beams are
disturbed and annealed again; then whole devices are added and swapped by least distance.
A reconstruction of what arXiv 1812.11750 (abstract) is for, not of its DC program.

Source: spec ota.md, corrections ("Better ascent", "effort 1/2/3"), §3 (d1), (e); derived.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rralloc.errors import NotOffered, UnknownOption
from rralloc.forms import ClosedForm
from rralloc.forms import Coverage as CoverageForm
from rralloc.run import Run
from rralloc.solver import Solver
from rralloc.solvers import _coverage_ascent as ascent
from rralloc.solvers._coverage_search import Search
from rralloc.typing import Array, Point

STRONG = 1e6
"""Columns are cut to this norm: such a device is lost only to a beam that misses it completely."""
AIM = 1 - 5e-10
"""Where rounding decides, aim below the threshold: problems judge with a tolerance of 1e-9."""
BLOCK = 1 << 18
"""Gains (lanes x devices x starts) that are worked on at once."""


class Preset(NamedTuple):
    """What an effort buys."""

    starts: int
    halve: bool
    """Whether only the better half of the starts is annealed to the end."""
    lanes: int
    """Beams that are annealed again."""
    reheats: int
    """How often they are."""
    polished: int
    """Beams to which devices are added by least distance."""
    swaps: bool
    """Whether devices are exchanged there as well."""
    kicks: int
    dual_steps: int


PRESETS = {
    1: Preset(24, True, 12, 1, 1, False, 0, 20),
    2: Preset(32, False, 16, 8, 1, True, 0, 60),
    3: Preset(96, False, 24, 12, 4, True, 20, 400),
}


class CoverageSearch(Solver):
    """Annealed ascent from many starts, reheats of the best, then adding and swapping devices.

    ``effort``: 1, a fraction of a millisecond for each instance of a batch at 6 antennas and 20
    devices; 2, a few milliseconds, a few hundredths of a device more; 3, more starts, and kicks.
    For up to two antennas the problem's formula is taken, and the optimum is proven.

    The dual weights it leaves prove a bound; it is tight for few antennas, few devices and a
    demanding target only. Random starts come from the ``rng`` of the call, a given start is one of
    them.

    Choose this when one beam must serve many: no lifting, no semidefinite program.
    """

    name = "coverage"
    rank = 20
    needs = (CoverageForm,)
    certifies = True
    warm = True

    effort: int = 2

    def available(self) -> None:
        """Refuse an effort that does not exist."""
        if self.effort not in PRESETS:
            raise UnknownOption(f"coverage: effort = {self.effort!r}; choose 1, 2 or 3")

    def solve(self, problem: Any, start: Point | None, run: Run) -> None:
        """The formula where there is one; else one block of lanes after another."""
        try:
            formula = problem.view(ClosedForm)
        except NotOffered:
            self._search(problem, start, run)
        else:
            run.offer(formula.point())

    def _search(self, problem: Any, start: Point | None, run: Run) -> None:
        form, preset = problem.view(CoverageForm), PRESETS[self.effort]
        g, w = normalised(form)
        first = None if start is None else start["beamformer"]
        if self.effort == 1 and g.shape[1] <= 4:  # dense: halving loses devices here
            preset = preset._replace(starts=48, halve=False)
        size = max(1, BLOCK // (g.shape[2] * preset.starts))
        for low in range(0, len(g), size):
            reason = run.interruption()
            if reason is not None:
                run.end(reason, np.arange(low, len(g)))
                return
            lanes = np.arange(low, min(low + size, len(g)))
            begin = None if first is None else first[lanes]
            m = _best_beams(g[lanes], w[lanes], begin, preset, run, lanes)
            # A bound only where somebody asks for one and there is time.
            steps = preset.dual_steps if run.traced and run.interruption() is None else 0
            proof = {"dual_weight": dual_weight(g[lanes], w[lanes], steps)} if steps else None
            run.offer(form.point(m), lanes=lanes, witness=proof, trace=run.watching)


def normalised(form: CoverageForm) -> tuple[Array, Array]:
    """Columns with threshold 1 and values; what nobody can serve is zero in both."""
    g = form.columns / np.sqrt(form.threshold * AIM)[..., None, :]
    norm = np.linalg.norm(g, axis=-2)
    able = (norm**2 >= 1) & (form.weight > 0)
    scale = np.where(able, np.minimum(1.0, STRONG / np.where(able, norm, 1.0)), 0.0)
    return g * scale[..., None, :], np.where(able, form.weight, 0.0)


def _best_beams(
    g: Array, w: Array, first: Array | None, preset: Preset, run: Run, lanes: Array
) -> Array:
    """One beam ``(B, N)`` for each lane."""
    # 1. Isotropic starts, and the caller's.
    shape = (len(g), g.shape[1], preset.starts)
    drawn = run.rng.standard_normal(shape) + 1j * run.rng.standard_normal(shape)
    if first is not None:
        drawn[:, :, 0] = usable(first, drawn[:, :, 0])
    beams = ascent.unit(drawn.astype(np.complex64))
    field = ascent.Field.of(g, w)
    # 2. Annealed ascent.
    count = ascent.steps(g.shape[1])
    beams, record = ascent.anneal(field, beams, ascent.HOT, count, preset.halve)
    # 3. The best few again, disturbed.
    beams, record = _leading(beams, record, preset.lanes)
    for _ in range(preset.reheats):
        beams, record = ascent.reheat(field, beams, record, run.rng)
    # 4. Add and swap by least distance, for the very best.
    beams, _ = _leading(beams, record, preset.polished)
    found = beams.astype(complex).transpose(0, 2, 1)
    found /= np.linalg.norm(found, axis=-1, keepdims=True)
    best = found[:, 0].copy()
    for lane in range(len(g)):
        reason = run.interruption()
        if reason is not None:
            run.end(reason, lanes[lane:])
            break
        best[lane] = _polished(Search(g[lane], w[lane]), found[lane], preset, run)
    return best


def usable(first: Array, spare: Array) -> Array:
    """The caller's beams at unit size; another where one is zero or not finite."""
    big = np.abs(first).max(-1, keepdims=True)
    good = np.isfinite(big) & (big > 0)
    with np.errstate(invalid="ignore"):
        return np.where(good, first / np.where(good, big, 1.0), spare)


def _leading(beams: Array, record: Array, count: int) -> tuple[Array, Array]:
    """The ``count`` most valuable beams of each lane, the best first."""
    order = (-record).argsort(-1, kind="stable")[:, :count]
    return np.take_along_axis(beams, order[:, None, :], -1), np.take_along_axis(record, order, -1)


def _polished(search: Search, beams: Array, preset: Preset, run: Run) -> Array:
    """The best of some beams ``(L, N)`` after adding, swapping and kicking."""
    top, best = search.value.sum(), beams[0]
    for m in beams:
        if search.worth(best) >= top:  # everybody who can be served is
            break
        new = search.add(m)
        if preset.swaps:
            new = search.swap(new)
        if search.worth(new) > search.worth(best):
            best = new
    if preset.kicks and search.worth(best) < top:
        best = search.kick(best, run.rng, preset.kicks)
    return best


def dual_weight(g: Array, w: Array, steps: int) -> Array:
    """y in [0, w] ``(B, K)`` with small lambda_max(sum_k y_k g_k g_k^H) + sum_k (w_k - y_k).

    Subgradient steps in s = y/w; devices far above the threshold get 0.
    """
    usual = (w > 0) & (np.linalg.norm(g, axis=-2) < 1e3)
    scale = np.maximum(w.max(-1, keepdims=True), 1e-300)
    w, s = w / scale, np.where(usual, 0.5, 0.0)
    best, least = s.copy(), np.full(len(g), np.inf)
    for step in range(1, steps + 1):
        # 1. The value at s, and the direction that proves it.
        y = s * w
        weighted = g * y[:, None, :]
        lam, v = np.linalg.eigh(weighted @ g.conj().swapaxes(-1, -2))
        value = lam[:, -1] + (w - y).sum(-1)
        better = value < least
        best, least = np.where(better[:, None], s, best), np.where(better, value, least)
        # 2. A step down, shorter and shorter.
        gain = np.abs((v[:, None, :, -1].conj() @ g)[:, 0]) ** 2
        slope = np.where(usual, w * (gain - 1), 0.0)
        length = np.linalg.norm(slope, axis=-1, keepdims=True)
        s = np.clip(s - 0.3 / np.sqrt(step) * slope / np.where(length > 0, length, 1.0), 0, 1)
        s = np.where(usual, s, 0.0)
    return best * w * scale
