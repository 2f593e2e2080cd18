"""Downlink beamforming as a second-order cone program for cvxpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rralloc.forms import Handle

if TYPE_CHECKING:
    from rralloc.problems.downlink_beamforming import DownlinkBeamforming


def cone_program(antennas: int, size: int) -> Handle:
    """Rows over |h_k| and beams over the largest amplitude that a device needs alone."""
    import cvxpy as cp

    shape = (size, antennas)
    rows, lifted = cp.Parameter(shape, complex=True), cp.Parameter(shape, complex=True)
    noise = cp.Parameter(size, nonneg=True)
    w = cp.Variable((antennas, size), complex=True)
    rules = []
    for k in range(size):
        wanted = lifted[k] @ w[:, k]
        everything = cp.hstack([rows[k] @ w, noise[k]])
        rules += [cp.real(wanted) >= cp.norm(everything), cp.imag(wanted) == 0]
    model = cp.Problem(cp.Minimize(cp.sum_squares(w)), rules)

    def scale(problem: DownlinkBeamforming) -> float:
        _, _, target, noise = problem._lanes
        return float(np.sqrt((target * noise).max()))

    def assign(problem: DownlinkBeamforming) -> None:
        h, _, target, noise_over = (lanes[0] for lanes in problem._lanes)
        rows.value = h.conj().T
        lifted.value = np.sqrt(1 + 1 / target)[:, None] * rows.value
        noise.value = np.sqrt(noise_over) / scale(problem)

    return Handle(model, assign, lambda p: {"beamformer": w.value * scale(p)})
