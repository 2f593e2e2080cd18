"""What the clients send in a round, as rows (K, d) or as one weighted sum that never holds them.

Local steps e = 0..E-1 of client k from the broadcast w, or from weights of its own, with a gradient
over all its samples or a minibatch,

    g_k^e     = clip(gradient of f_k at w_k^e) + weight_decay w_k^e      clip: to norm <= clip_norm
    v_k^e     = momentum v_k^{e-1} + g_k^e,   v_k^{-1} = 0
    w_k^{e+1} = w_k^e - eta v_k^e,            w_k^0 = w
    update_k  = sum_e v_k^e = (w - w_k^E) / eta

Many schemes need only sum_k a_k update_k. With one plain step that is the gradient of a weighted
loss over all samples, sum_k a_k f_k: one pass, whose memory does not depend on K. With more steps
it is added up over blocks of clients.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rralloc.fl.task import Task

Floats = NDArray[Any]
Ints = NDArray[np.int64]

BLOCK = 2**22
"""Entries of the rows that are held at once while a weighted sum is made."""


class Updates:
    """The updates of one round: ``rows (K, d)`` when asked for, else only ``weights @ updates``.

    task, w: the task and the weights ``(d,)`` broadcast, or ``(K, d)``, each client's own. rng:
    draws the minibatches, once. steps: E of this round; None takes the task's. ``updates[some]``,
    with a mask or indices, are those of some clients; the others' are not computed.
    Raises ValueError: ``w`` is neither ``(d,)`` nor ``(K, d)``, or ``rng`` is missing although
    batches are drawn.
    """

    __array_ufunc__ = None  # weights @ updates comes here instead of to NumPy

    def __init__(
        self, task: Task, w: Floats, rng: np.random.Generator | None, steps: int | None = None
    ) -> None:
        self.task, self.w = task, np.asarray(w, dtype=task.dtype)
        size, many = task.learner.size, task.clients_count
        if self.w.shape not in ((size,), (many, size)):
            raise ValueError(f"w has shape {self.w.shape}; pass ({size},) or ({many}, {size}).")
        self.steps = task.local_steps if steps is None else steps
        self.clients = np.arange(task.clients_count)
        self._batches = self._drawn(rng)

    def __getitem__(self, some: NDArray[Any]) -> Updates | Floats:
        """The updates of some clients."""
        if "rows" in self.__dict__:
            return self.rows[some]
        part = copy.copy(self)
        part.clients = np.atleast_1d(self.clients[some])
        return part

    def __len__(self) -> int:
        return len(self.clients)

    @property
    def shape(self) -> tuple[int, int]:
        """(K, d)."""
        return len(self.clients), self.w.shape[-1]

    @cached_property
    def rows(self) -> Floats:
        """All updates ``(K, d)``."""
        if len(self.clients) == 0:
            return np.zeros(self.shape, dtype=self.w.dtype)
        return self._block(self.clients)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Floats:
        """The rows, for NumPy."""
        return np.array(self.rows, dtype=dtype, copy=copy)

    def __rmatmul__(self, weight: Floats) -> Floats:
        """sum_k weight_k update_k ``(d,)``, in float64."""
        weight = np.asarray(weight, dtype=np.float64)
        if "rows" in self.__dict__:
            return np.asarray(weight @ self.rows, dtype=np.float64)
        if len(self.clients) == 0:
            return np.zeros(self.w.shape[-1])
        one_pass = getattr(self.task.learner, "weighted_gradient", None)
        if one_pass is None or not self._one_plain_step or self.w.ndim == 2:
            return sum_of(weight[part] @ self._block(self.clients[part]) for part in self._parts())
        if self.task.batch_size is None:
            return np.asarray(one_pass(self.w, *self._all_weighted(weight)), dtype=np.float64)
        return sum_of(
            one_pass(self.w, *self._weighted(self.clients[part], weight[part]))
            for part in self._parts()
        )

    # -- the arithmetic -----------------------------------------------------------------------

    @property
    def _one_plain_step(self) -> bool:
        """The update is the gradient at w and nothing else."""
        task = self.task
        return self.steps == 1 and task.clip_norm is None and task.weight_decay == 0.0

    def _block(self, clients: Ints) -> Floats:
        """The rows of these clients."""
        task = self.task
        if self._one_plain_step and self.w.ndim == 1:
            rows, size = self._samples(clients)
            borders = np.concatenate([[0], np.cumsum(size)])
            return task.learner.client_gradients(self.w, task._x[rows], task._y[rows], borders)
        start = np.tile(self.w, (len(clients), 1)) if self.w.ndim == 1 else self.w[clients]
        local, total, velocity = start, np.zeros_like(start), np.zeros_like(start)
        for e in range(self.steps):
            gradient = clipped(self._local_gradients(local, e, clients), task.clip_norm)
            if task.weight_decay > 0.0:
                gradient = gradient + task.weight_decay * local
            velocity = task.momentum * velocity + gradient
            total += velocity
            local = start - task.learning_rate * total
        return total

    def _samples(self, clients: Ints) -> tuple[Ints | slice, Ints]:
        """What these clients use in one step: rows of the sorted samples, and how many each."""
        if self._batches is not None:
            chosen = self._batches[clients, 0]
            return chosen.ravel(), np.full(len(clients), chosen.shape[1])
        borders = self.task._offsets
        size = self.task.samples[clients]
        if (np.diff(clients) == 1).all():
            return slice(borders[clients[0]], borders[clients[-1] + 1]), size
        return np.concatenate([np.arange(borders[k], borders[k + 1]) for k in clients]), size

    def _parts(self) -> list[slice]:
        """The clients in blocks; in each, neither rows nor gathered samples exceed ``BLOCK``."""
        task = self.task
        gathered = 0 if task.batch_size is None else task.batch_size * task._x.shape[1]
        step = max(1, BLOCK // max(gathered, self.w.shape[-1]))
        return [slice(first, first + step) for first in range(0, len(self.clients), step)]

    def _weighted(self, clients: Ints, weight: Floats) -> tuple[Floats, Ints, Floats]:
        """Samples of one step of these clients, and the weight of each sample."""
        rows, size = self._samples(clients)
        return self.task._x[rows], self.task._y[rows], np.repeat(weight / size, size)

    def _all_weighted(self, weight: Floats) -> tuple[Floats, Ints, Floats]:
        """The same for full batches; for most clients all samples, which copies nothing."""
        everybody = self.task.clients_count
        if 2 * len(self.clients) <= everybody:
            return self._weighted(self.clients, weight)
        spread = np.bincount(self.clients, weights=weight, minlength=everybody)
        return self._weighted(np.arange(everybody), spread)

    def _local_gradients(self, local: Floats, e: int, clients: Ints) -> Floats:
        """One gradient ``(len(clients), d)`` per client at its own weights, in local step e."""
        task = self.task
        if self._batches is not None:
            rows = self._batches[clients, e]
            return task.learner.client_batch_gradients(local, task._x[rows], task._y[rows])
        return task._own_gradients(local, clients)

    def _drawn(self, rng: np.random.Generator | None) -> Ints | None:
        """Rows (K, E, m) of the sorted samples, or None for full batches."""
        task = self.task
        if task.batch_size is None:
            return None
        if rng is None:
            raise ValueError(
                f"rng=None with batch_size={task.batch_size}: minibatches are drawn; "
                "pass a generator such as streams.rng('batch', t)."
            )
        # One generator for each step: batches depend neither on E nor on the clients behind k.
        size = task.clients_count, task.batch_size
        uniform = [step.random(size) for step in (rng, *rng.spawn(self.steps - 1))]
        within = np.floor(np.stack(uniform, axis=1) * task.samples[:, None, None]).astype(np.int64)
        return task._offsets[:-1, None, None] + within


def clipped(gradient: Floats, norm: float | None) -> Floats:
    """Each row ``(K, d)`` scaled to at most ``norm``; None leaves it."""
    if norm is None:
        return gradient
    size = np.linalg.norm(gradient.astype(np.float64, copy=False), axis=1, keepdims=True)
    factor = np.minimum(1.0, norm / np.where(size > 0, size, 1.0))
    return gradient * factor.astype(gradient.dtype)


def sum_of(parts: Iterable[Floats]) -> Floats:
    """In float64, without holding the parts."""
    return reduce(lambda total, part: total + part, parts, np.zeros(1))
