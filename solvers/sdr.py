"""Semidefinite relaxation of the shared beam by cvxpy, with randomised rounding.

    min tr M   s.t.  g_k^H M g_k >= 1, M >= 0;     dual: max sum y  s.t.  sum_k y_k g_k g_k^H <= I

Source: Sidiropoulos, Davidson, Luo 2006 (abstract); spec ota.md §2.4, §3 (b).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.forms import SharedBeam
from rralloc.run import LaneRun
from rralloc.solution import Stopped
from rralloc.solvers._engines import quiet
from rralloc.solvers._lifted import (
    HANDLES,
    TRIALS,
    Lifted,
    Rows,
    coordinates,
    hermitian,
    rounded,
    shortest,
)
from rralloc.solvers.cvxpy_model import NAMES, STOPPED, require_dpp
from rralloc.typing import Array, Point


class SDR(Lifted):
    """The relaxation as a semidefinite program, then the best of random beams.

    ``engine``: ``CLARABEL`` or ``SCS``. ``trials``: Gaussian randomisations beside the main
    eigenvector. Nothing is improved afterwards: this is the classic rival, and its bound.

    Choose this when the textbook method is wanted; ``low-rank-sdr`` and ``sca`` are faster and find
    shorter beams.
    """

    name = "sdr"
    rank = 210
    needs = (SharedBeam,)
    certifies = True

    trials: int = TRIALS

    def solve(self, problem: Any, start: Point | None, run: LaneRun) -> None:
        """Relax, round, offer; the duals prove the bound whatever the engine thinks of them."""
        form, engine = problem.flat().view(SharedBeam), self.engine.upper()
        strength = np.linalg.norm(form.columns[0], axis=0)
        g = form.columns[0] / strength.min()
        # 1. Every row divided by its strength: |g_k|^-2 g_k^H M g_k >= |g_k|^-2, at most 1.
        least = (strength.min() / strength) ** 2
        lifted = coordinates(np.einsum("nk,mk->knm", g, g.conj())) * least[:, None]
        with HANDLES.borrow(problem, shortest(*g.shape), "cvxpy", require_dpp) as (handle, _):
            handle.assign({"rows": Rows(lifted, np.zeros(len(least)), least)})
            run.check()
            clock = NAMES.get(engine, {}).get("time_limit", ())
            limit = dict.fromkeys(clock, run.time_left) if np.isfinite(run.time_left) else {}
            with quiet():
                handle.model.solve(solver=engine, warm_start=False, **limit)
            status, z = str(handle.model.status), handle.point(None)["z"]
            price = handle.model.constraints[1].dual_value
        # 2. A beam of it, and what the prices prove.
        if z is not None and np.isfinite(z).all():
            m = self._beam(g, z, run.rng)
            point = {n: v[0] for n, v in form.point(m[None]).items()}
            proof = {} if price is None else {"dual_weight": np.maximum(price, 0.0) * least}
            run.offer(point, witness=proof or None)
        if status != "optimal":
            run.end(STOPPED.get(status, Stopped.ERROR), f"sdr:{engine}: {status}")

    def _beam(self, g: Array, z: Array, rng: np.random.Generator) -> Array:
        size, vectors = np.linalg.eigh(hermitian(z))
        return rounded(np.maximum(size, 0.0), vectors, g, rng, self.trials)
