"""Semidefinite relaxation of the shared beam by cvxpy, with randomised rounding.

    min tr M   s.t.  g_k^H M g_k >= 1, M >= 0;     dual: max sum y  s.t.  sum_k y_k g_k g_k^H <= I

Source: Sidiropoulos, Davidson, Luo 2006 (abstract); spec ota.md §2.4, §3 (b).
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np

from rralloc.errors import SolverUnavailable
from rralloc.forms import SharedBeam
from rralloc.numerics.beams import normal
from rralloc.run import LaneRun
from rralloc.solution import Stopped
from rralloc.solver import Solver
from rralloc.solvers._engines import quiet
from rralloc.typing import Array, Point


class SDR(Solver):
    """The relaxation as a semidefinite program, then the best of random beams.

    ``engine``: ``CLARABEL`` or ``SCS``. ``trials``: Gaussian randomisations beside the main
    eigenvector. Nothing is improved afterwards: this is the classic rival, and its bound.

    Choose this when the textbook method is wanted; ``low-rank-sdr`` and ``sca`` are faster and find
    shorter beams.
    """

    name = "sdr"
    rank = 210
    needs = (SharedBeam,)
    batched = False
    foreign = True
    certifies = True
    variant = "engine"

    engine: str = "CLARABEL"
    trials: int = 100

    def available(self) -> None:
        """Raise when cvxpy or the engine is missing."""
        try:
            import cvxpy
        except ImportError:
            raise SolverUnavailable("cvxpy is not installed: pip install cvxpy") from None
        if self.engine.upper() not in cvxpy.installed_solvers():
            raise SolverUnavailable(f"cvxpy has no engine {self.engine!r} installed")

    def solve(self, problem: Any, start: Point | None, run: LaneRun) -> None:
        """Relax, round, offer; the duals prove the bound whatever the engine thinks of them."""
        form = problem.flat().view(SharedBeam)
        g = form.columns[0]
        scale = float(np.linalg.norm(g, axis=0).min())
        unit = g / scale
        model = _model(*unit.shape)
        model.rows.value = np.stack([np.outer(c, c.conj()).real.ravel() for c in unit.T])
        model.turns.value = np.stack([np.outer(c, c.conj()).imag.ravel() for c in unit.T])
        run.check()
        limit = {"time_limit": run.time_left} if self._has_clock(run) else {}
        with quiet():
            model.problem.solve(solver=self.engine.upper(), warm_start=False, **limit)
        status = str(model.problem.status)
        if model.real.value is not None and model.imag.value is not None:
            M = model.real.value + 1j * model.imag.value
            m = self._rounded(unit, M, run.rng)
            y = np.maximum(np.asarray(model.heard.dual_value), 0.0)
            point = {n: v[0] for n, v in form.point(m[None]).items()}
            run.offer(point, witness={"dual_weight": y})
        if status != "optimal":
            reason = Stopped.STALLED if "inaccurate" in status else Stopped.ERROR
            run.end(reason, f"sdr:{self.engine}: {status}")

    def _has_clock(self, run: LaneRun) -> bool:
        return bool(np.isfinite(run.time_left)) and self.engine.upper() == "CLARABEL"

    def _rounded(self, g: Array, M: Array, rng: np.random.Generator) -> Array:
        """The best of the main eigenvector and draws from CN(0, M)."""
        size, vectors = np.linalg.eigh((M + M.conj().T) / 2)
        draws = normal(rng, (self.trials, len(size))) * np.sqrt(np.maximum(size, 0.0))
        beams = np.concatenate([vectors[None, :, -1], draws @ vectors.T])
        beams = beams / np.linalg.norm(beams, axis=-1, keepdims=True)
        gain = np.abs(beams.conj() @ g).min(-1)
        return np.asarray(beams[int(gain.argmax())])


class _Model(NamedTuple):
    """The program of one size: g_k g_k^H as parameters, M = real + j imag as variables."""

    problem: Any
    rows: Any
    turns: Any
    real: Any
    imag: Any
    heard: Any


_BUILT = threading.local()


def _model(antennas: int, devices: int) -> _Model:
    """Built once for each size and thread."""
    held: dict[tuple[int, int], _Model] = _BUILT.__dict__.setdefault("held", {})
    if (antennas, devices) not in held:
        held[antennas, devices] = _built(antennas, devices)
    return held[antennas, devices]


def _built(antennas: int, devices: int) -> _Model:
    import cvxpy as cp

    # [[R, -I], [I, R]] >= 0 is M = R + iJ >= 0; g^H M g = <Re gg^H, R> + <Im gg^H, J>.
    whole = cp.Variable((2 * antennas, 2 * antennas), symmetric=True)
    R, J = whole[:antennas, :antennas], whole[antennas:, :antennas]
    rows = cp.Parameter((devices, antennas**2))
    turns = cp.Parameter((devices, antennas**2))
    gain = rows @ cp.vec(R, order="C") + turns @ cp.vec(J, order="C")
    heard = gain >= 1
    same = [whole[antennas:, antennas:] == R, whole[:antennas, antennas:] == -J]
    problem = cp.Problem(cp.Minimize(cp.trace(R)), [whole >> 0, heard, *same])
    return _Model(problem, rows, turns, R, J, heard)
