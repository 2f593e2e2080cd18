"""A federated learning task: data, who holds it, the model, and what a client sends.

With shares rho_k = n_k / n and local losses f_k (means over the samples D_k), training means

    minimise over w   f(w) = sum_k rho_k f_k(w)

In a round every client starts from the broadcast w, takes E local steps with learning rate eta
and sends the gradients it added up:

    g_k^e     = gradient of f_k at w_k^e, over all samples of the client or a minibatch
    w_k^{e+1} = w_k^e - eta g_k^e,   w_k^0 = w
    update_k  = sum_e g_k^e = (w - w_k^E) / eta

So w - eta sum_k rho_k update_k is FedAvg, and for E = 1 with full batches it is gradient descent
on f. Link impairments, scheduling and scaling act on these updates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rralloc.fl import data, learners
from rralloc.fl.partition import Partition
from rralloc.fl.partition import by_name as _partition_by_name
from rralloc.fl.streams import Streams

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Evaluation(NamedTuple):
    """How good weights are: (test accuracy in [0, 1], f(w) over all training samples held)."""

    test_accuracy: float
    train_loss: float


@dataclass(frozen=True, eq=False)
class Task:
    """One learning task; the same for every allocation scheme that is compared on it.

    dataset: the samples.
    clients: K arrays of training indices, non-empty and disjoint, as a partition gives them.
    learner: the model (`SoftmaxRegression`, `MLP` or anything with the `Learner` members).
    learning_rate: eta > 0.
    local_steps: E >= 1.
    batch_size: m >= 1 samples per step, drawn with replacement (an unbiased gradient for every
        client, also one with n_k < m); None uses all n_k samples.
    name: for legends and tables.

    Derived: samples, the sizes n_k (K,). The training samples are sorted by client once, here.
    Raises ValueError: a number is out of range, a client is empty, or clients share a sample or
        name one that does not exist.

    Choose this when: you combine your own data, split or model; else start at `Task.digits`.
    """

    dataset: data.Dataset
    clients: Partition
    learner: learners.Learner
    learning_rate: float
    local_steps: int = 1
    batch_size: int | None = None
    name: str = "task"
    samples: Ints = field(init=False, repr=False)
    _x: Floats = field(init=False, repr=False)
    _y: Ints = field(init=False, repr=False)
    _offsets: Ints = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_numbers()
        clients = _checked_clients(self.clients, len(self.dataset.train_y))
        object.__setattr__(self, "clients", clients)
        samples = np.array([len(part) for part in clients], dtype=np.int64)
        order = np.concatenate(clients)
        derived = {
            "samples": samples,
            "_x": self.dataset.train_x[order],
            "_y": self.dataset.train_y[order],
            "_offsets": np.concatenate([[0], np.cumsum(samples)]),
        }
        for attribute, value in derived.items():
            value.flags.writeable = False  # one task serves many runs
            object.__setattr__(self, attribute, value)

    @classmethod
    def digits(
        cls,
        clients: int = 10,
        partition: str = "dirichlet",
        *,
        alpha: float = 0.1,
        shards_per_client: int = 2,
        learner: str = "softmax",
        hidden: tuple[int, ...] = (32,),
        l2: float = 0.0,
        learning_rate: float = 0.5,
        local_steps: int = 1,
        batch_size: int | None = None,
        test_share: float = 0.2,
        seed: int = 0,
    ) -> Task:
        """The digits data (F = 64, C = 10), split over clients, everything drawn from `seed`.

        clients: K. partition: "iid", "dirichlet" (uses `alpha`) or "shards".
        learner: "softmax" (d = 650) or "mlp" (uses `hidden`; d = 2410 for (32,)).
        The rest: as in `Task`, `load_digits` and the partition or learner named.
        Streams used: "data" for the test samples, "partition" for the split.
        Raises ValueError: as the functions named.

        Choose this when: you want a task that trains in seconds with nothing to download.
        """
        streams = Streams(seed)
        dataset = data.load_digits(streams.rng("data"), test_share=test_share)
        groups = _partition_by_name(
            partition,
            dataset.train_y,
            clients,
            streams.rng("partition"),
            alpha=alpha,
            shards_per_client=shards_per_client,
        )
        model = learners.by_name(learner, dataset.features, dataset.classes, hidden=hidden, l2=l2)
        name = f"digits, {partition}, {learner}"
        return cls(dataset, groups, model, learning_rate, local_steps, batch_size, name)

    @property
    def clients_count(self) -> int:
        """K."""
        return len(self.clients)

    @property
    def share(self) -> Floats:
        """rho_k = n_k / n, (K,), sum 1."""
        share: Floats = self.samples / self.samples.sum()
        return share

    def updates(self, w: Floats, rng: np.random.Generator | None = None) -> Floats:
        """What each client sends: (K, d), row k = sum of its E local gradients.

        w: (d,) weights broadcast in this round. rng: draws the minibatches, not needed without
        them; give every round its own stream, `streams.rng("batch", t)`. The batches of client k
        come from row k of one uniform draw (K, E, m), so they depend on n_k and not on what the
        other clients hold.
        Raises ValueError: `w` is not (d,), or `rng` is missing with `batch_size` set.

        Choose this when: you write a training loop; w - eta * (share @ updates) is FedAvg.
        """
        if self.local_steps == 1 and self.batch_size is None:
            return self.learner.client_gradients(w, self._x, self._y, self._offsets)
        start = np.tile(np.asarray(w, dtype=np.float64), (self.clients_count, 1))
        total = np.zeros_like(start)
        batches = self._batches(rng)
        for step in range(self.local_steps):
            local = start - self.learning_rate * total
            rows = None if batches is None else batches[:, step]
            total += self._local_gradients(local, rows)
        return total

    def evaluate(self, w: Floats) -> Evaluation:
        """(test accuracy, f(w)) of the weights w (d,).

        Raises ValueError: `w` is not (d,).

        Choose this when: you record a learning curve.
        """
        accuracy = self.learner.accuracy(w, self.dataset.test_x, self.dataset.test_y)
        return Evaluation(accuracy, self.learner.loss(w, self._x, self._y))

    def _batches(self, rng: np.random.Generator | None) -> Ints | None:
        """Rows (K, E, m) of the sorted samples, or None for full batches."""
        if self.batch_size is None:
            return None
        if rng is None:
            raise ValueError(
                f"rng=None with batch_size={self.batch_size}: minibatches are drawn; "
                "pass a generator such as streams.rng('batch', t)."
            )
        uniform = rng.random((self.clients_count, self.local_steps, self.batch_size))
        within = np.floor(uniform * self.samples[:, None, None]).astype(np.int64)
        return self._offsets[:-1, None, None] + within

    def _local_gradients(self, local: Floats, rows: Ints | None) -> Floats:
        """One gradient (K, d) per client at its own weights, over rows (K, m) or all it has."""
        if rows is not None:
            return self.learner.client_batch_gradients(local, self._x[rows], self._y[rows])
        parts = [slice(*border) for border in pairwise(self._offsets)]
        return np.stack(
            [self.learner.gradient(w, self._x[p], self._y[p]) for w, p in zip(local, parts)]
        )

    def _check_numbers(self) -> None:
        if not 0.0 < self.learning_rate < math.inf:
            raise ValueError(
                f"learning_rate={self.learning_rate} must be finite and > 0; 0.1 to 1 is usual."
            )
        _require_count("local_steps", self.local_steps)
        if self.batch_size is not None:
            _require_count("batch_size", self.batch_size)


def _checked_clients(clients: Partition, available: int) -> Partition:
    parts = tuple(np.asarray(part) for part in clients)
    for k, part in enumerate(parts):
        if part.ndim != 1 or part.size == 0 or part.dtype.kind not in "iu":
            raise ValueError(
                f"clients[{k}] has shape {part.shape} and type {part.dtype}; "
                "pass at least one integer index per client."
            )
        if part.min() < 0 or part.max() >= available:
            raise ValueError(
                f"clients[{k}] has indices in [{part.min()}, {part.max()}]; "
                f"they must lie in [0, {available - 1}], the training samples."
            )
    if not parts:
        raise ValueError("clients=() is empty; pass at least one array of training indices.")
    if np.bincount(np.concatenate(parts)).max() > 1:
        raise ValueError("clients share a training sample; pass disjoint arrays of indices.")
    return tuple(part.astype(np.int64) for part in parts)


def _require_count(label: str, value: int) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{label}={value!r} must be an integer >= 1; pass a positive count.")
