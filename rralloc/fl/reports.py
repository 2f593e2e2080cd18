"""What devices can report to the server in a round, with any scheme.

About the updates u_k they have just computed (so everybody computes before the decision):

    gradient_norm        ||u_k||
    gradient_energy      ||u_k||^2
    gradient_divergence  ||u_k - sum_j rho_j u_j||

About the local models w_k of the round before and the weights w broadcast now (NaN in the first
round, where w_k = w, and for devices that did not compute; the gradients they take are free, in
time and energy, which favours policies that ask for them):

    loss_lipschitz       |f_k(w_k) - f_k(w)| / ||w_k - w||
    gradient_lipschitz   ||df_k(w_k) - df_k(w)|| / ||w_k - w||
    divergence           ||df_k(w) - sum_j rho_j df_j(w)||       known in the first round too

What the server knows itself:

    age                  rounds since the device's update last arrived, 1 if in the round before
    staleness            rounds of training since it took the server's weights, this one included

A scheme's own statistics (``Running.statistics``) are about the vector that is actually sent.
Source of the middle block: arXiv 1804.05271 with its public code, spec rrm.md §8.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rralloc.fl.task import Task
from rralloc.typing import Array


def _norm(rows: Array) -> Array:
    return np.asarray(np.linalg.norm(rows, axis=1), dtype=float)


ABOUT_UPDATES: dict[str, Callable[[Array, Array], Array]] = {
    "gradient_norm": lambda updates, share: _norm(updates),
    "gradient_energy": lambda updates, share: np.einsum("kd,kd->k", updates, updates, dtype=float),
    "gradient_divergence": lambda updates, share: _norm(updates - share @ updates),
}
"""Name to function of the updates ``(K, d)`` and the shares ``(K,)``."""

ABOUT_MODELS = ("loss_lipschitz", "gradient_lipschitz", "divergence")
OF_THE_SERVER = ("age", "staleness")

SAME = 1e-10
"""Models nearer than this are the same model."""


def about_models(task: Task, w: Array, local: Array | None) -> dict[str, Array]:
    """The middle block above; ``local (K, d)`` are the models w_k, None in the first round."""
    here = task.client_gradients(w)
    found = {"divergence": _norm(here - task.share @ here)}
    if local is None:
        unknown = np.full(task.clients_count, np.nan)
        return {**found, "loss_lipschitz": unknown, "gradient_lipschitz": unknown.copy()}
    known = np.isfinite(local.sum(axis=1))
    local = np.where(known[:, None], local, w)  # then the distance is 0
    distance = _norm(local - w)
    distance = np.where(distance < SAME, np.nan, distance)
    fall = np.abs(task.client_losses(local) - task.client_losses(w))
    turn = _norm(task.client_gradients(local) - here)
    return {**found, "loss_lipschitz": fall / distance, "gradient_lipschitz": turn / distance}
