"""A federated learning task: data, who holds it, the model, and what a client sends.

With shares rho_k = n_k / n (or 1/K each) and local losses f_k (means over the samples D_k),
training means

    minimise over w   f(w) = sum_k rho_k f_k(w)

In a round every client starts from the broadcast w, takes E local steps with learning rate eta
and sends the gradients it added up:

    g_k^e     = gradient of f_k at w_k^e, over all samples of the client or a minibatch
    w_k^{e+1} = w_k^e - eta g_k^e,   w_k^0 = w
    update_k  = sum_e g_k^e = (w - w_k^E) / eta

So w - eta sum_k rho_k update_k is FedAvg, and for E = 1 with full batches it is gradient descent
on f. Link impairments, scheduling and scaling act on these updates. Local momentum, weight decay
and clipping are in `updates`; with server momentum mu the server steps along
v = mu v + sum_k rho_k update_k instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rralloc.fl import data, learners
from rralloc.fl.partition import Partition
from rralloc.fl.partition import by_name as _partition_by_name
from rralloc.fl.streams import Streams
from rralloc.fl.updates import Updates
from rralloc.numerics.counts import require_count

Floats = NDArray[Any]
Ints = NDArray[np.int64]


class Samples(Protocol):
    """What a task reads from its data: a `Dataset`, `Trajectories`, or your own.

    Choose this when: you bring samples of another kind; implement these members.
    """

    @property
    def name(self) -> str:
        """For legends and tables."""
        ...

    @property
    def train_x(self) -> Floats:
        """Training samples (n, F)."""
        ...

    @property
    def train_y(self) -> Floats:
        """Their labels (n,), or answers (n, ...)."""
        ...

    @property
    def test_x(self) -> Floats:
        """Test samples (m, F)."""
        ...

    @property
    def test_y(self) -> Floats:
        """Their labels (m,), or answers (m, ...)."""
        ...

    @property
    def features(self) -> int:
        """F."""
        ...

    @property
    def classes(self) -> int:
        """C, or 0 where answers are not classes."""
        ...

    @property
    def digest(self) -> str:
        """Hash of all samples."""
        ...


class Evaluation(NamedTuple):
    """How good weights are: (test accuracy, f(w) over all training samples held).

    The accuracy is the learner's: a share in [0, 1] for classes; for another model any score of
    which more is better, such as minus an error in metres (`MLPRegression`).
    """

    test_accuracy: float
    train_loss: float


@dataclass(frozen=True, eq=False)
class Task:
    """One learning task; the same for every allocation scheme that is compared on it.

    dataset: the samples (`Dataset`, `Trajectories` or anything with the `Samples` members).
    clients: K arrays of training indices, non-empty and disjoint, as a partition gives them.
    learner: the model (`SoftmaxRegression`, `MLP` or anything with the `Learner` members).
    learning_rate: eta > 0.
    local_steps: E >= 1.
    batch_size: m >= 1 samples per step, drawn with replacement (an unbiased gradient for every
        client, also one with n_k < m); None uses all n_k samples.
    name: for legends and tables.
    momentum: of the local steps, in [0, 1); starts anew in every round, so E = 1 has none.
    weight_decay: >= 0, adds weight_decay * w to every local gradient.
    clip_norm: > 0, the largest norm of a local gradient (before weight decay); None for any.
    server_momentum: mu in [0, 1) of the server's step (FedAvgM).
    weighting: of the clients, "samples" for rho_k = n_k/n, "equal" for 1/K.
    precision: "double" or "single" (half the memory traffic, about twice as fast); None takes the
        data's. The server's weights are float64 in any case.

    Derived: samples, the sizes n_k (K,). The training samples are sorted by client once, here.
    Raises ValueError: a number is out of range, a client is empty, or clients share a sample or
        name one that does not exist.

    Choose this when: you combine your own data, split or model; else start at `Task.digits`.
    """

    dataset: Samples
    clients: Partition
    learner: learners.Learner
    learning_rate: float
    local_steps: int = 1
    batch_size: int | None = None
    name: str = "task"
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = None
    server_momentum: float = 0.0
    precision: Literal["double", "single"] | None = None
    weighting: Literal["samples", "equal"] = "samples"
    samples: Ints = field(init=False, repr=False)
    _test_x: Floats = field(init=False, repr=False)
    _x: Floats = field(init=False, repr=False)
    _y: Floats = field(init=False, repr=False)  # integers where they are classes
    _offsets: Ints = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_numbers()
        clients = _checked_clients(self.clients, len(self.dataset.train_y))
        object.__setattr__(self, "clients", clients)
        samples = np.array([len(part) for part in clients], dtype=np.int64)
        order = np.concatenate(clients)
        derived = {
            "samples": samples,
            "_x": self.dataset.train_x[order].astype(self.dtype, copy=False),
            "_test_x": self.dataset.test_x.astype(self.dtype, copy=False),
            "_y": self.dataset.train_y[order],
            "_offsets": np.concatenate([[0], np.cumsum(samples)]),
        }
        for attribute, value in derived.items():
            value.flags.writeable = False  # one task serves many runs
            object.__setattr__(self, attribute, value)

    @classmethod
    def digits(
        cls, clients: int = 10, partition: str = "dirichlet", *, seed: int = 0, **settings: Any
    ) -> Task:
        """The digits data (F = 64, C = 10), split over clients, everything drawn from `seed`.

        settings: `test_share` (0.2), and those of `from_dataset`.
        Streams used: "data" for the test samples, "partition" for the split.
        Raises ValueError: as the functions named.

        Choose this when: you want a task that trains in seconds with nothing to download.
        """
        share = settings.pop("test_share", 0.2)
        samples = data.load_digits(Streams(seed).rng("data"), test_share=share)
        return cls.from_dataset(samples, clients, partition, seed=seed, **settings)

    @classmethod
    def from_dataset(
        cls,
        dataset: data.Dataset,
        clients: int = 10,
        partition: str = "dirichlet",
        *,
        alpha: float = 0.1,
        shards_per_client: int = 2,
        learner: str = "softmax",
        hidden: tuple[int, ...] = (32,),
        l2: float = 0.0,
        learning_rate: float = 0.5,
        seed: int = 0,
        **settings: Any,
    ) -> Task:
        """A data set split over clients and a model by name; the split is drawn from `seed`.

        clients: K. partition: "iid", "dirichlet" (uses `alpha`) or "shards".
        learner: "softmax" (d = (F + 1) C), "mlp" (uses `hidden`) or "cnn" (needs torch).
        settings: the other fields of `Task`. Stream used: "partition".
        Raises ValueError: as the partition or learner named.

        Choose this when: the partition and the model are settings of an experiment.
        """
        groups = _partition_by_name(
            partition,
            dataset.train_y,
            clients,
            Streams(seed).rng("partition"),
            alpha=alpha,
            shards_per_client=shards_per_client,
        )
        model = learners.by_name(learner, dataset.features, dataset.classes, hidden=hidden, l2=l2)
        name = f"{dataset.name}, {partition}, {learner}"
        return cls(dataset, groups, model, learning_rate, **{"name": name, **settings})

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of samples and gradients."""
        if self.precision is None:
            return self.dataset.train_x.dtype
        return np.dtype(np.float64 if self.precision == "double" else np.float32)

    @property
    def clients_count(self) -> int:
        """K."""
        return len(self.clients)

    @property
    def share(self) -> Floats:
        """rho_k = n_k / n or 1/K, (K,), sum 1."""
        if self.weighting == "equal":
            return np.full(self.clients_count, 1 / self.clients_count)
        share: Floats = self.samples / self.samples.sum()
        return share

    def updates(
        self, w: Floats, rng: np.random.Generator | None = None, steps: int | None = None
    ) -> Floats:
        """What each client sends: (K, d), row k = sum of what its E local steps moved.

        w: (d,) weights broadcast in this round. rng: draws the minibatches, not needed without
        them; give every round its own stream, `streams.rng("batch", t)`. The batches of client k
        in step e come from row k of a uniform draw (K, m) made for that step, so they depend on
        n_k and neither on E nor on what the other clients hold. steps: E of this round, None takes
        `local_steps`.
        Raises ValueError: `w` is not (d,), or `rng` is missing with `batch_size` set.

        Choose this when: you write a training loop; w - eta * (share @ updates) is FedAvg. Where
        only a weighted sum is needed, `weights @ Updates(task, w, rng)` holds no (K, d) array.
        """
        return Updates(self, w, rng, steps).rows

    def evaluate(self, w: Floats) -> Evaluation:
        """(test accuracy, f(w)) of the weights w (d,); the accuracy as the learner defines it.

        Raises ValueError: `w` is not (d,).

        Choose this when: you record a learning curve.
        """
        accuracy = self.learner.accuracy(w, self._test_x, self.dataset.test_y)
        if self.weighting == "equal":
            return Evaluation(accuracy, float(self.share @ self.client_losses(w)))
        return Evaluation(accuracy, self.learner.loss(w, self._x, self._y))

    def client_losses(self, W: Floats) -> Floats:
        """f_k at its own weights, (K,): W is (K, d), or (d,) for the same weights everywhere.

        Choose this when: you compare local models, as adaptive aggregation does.
        """
        rows = np.broadcast_to(W, (self.clients_count, self.learner.size))
        parts = zip(rows, pairwise(self._offsets))
        return np.array([self.learner.loss(w, self._x[a:b], self._y[a:b]) for w, (a, b) in parts])

    def client_gradients(self, W: Floats) -> Floats:
        """Gradient of f_k over all its samples at its own weights, (K, d); W as `client_losses`.

        Choose this when: you compare local models, as adaptive aggregation does.
        """
        if np.ndim(W) == 1:
            return self.learner.client_gradients(W, self._x, self._y, self._offsets)
        return self._own_gradients(W, np.arange(self.clients_count))

    def _own_gradients(self, W: Floats, clients: Ints) -> Floats:
        """Full gradients of some clients, row i at W[i]."""
        borders = [(self._offsets[k], self._offsets[k + 1]) for k in clients]
        return np.stack(
            [self.learner.gradient(w, self._x[a:b], self._y[a:b]) for w, (a, b) in zip(W, borders)]
        )

    def _check_numbers(self) -> None:
        if not 0.0 < self.learning_rate < math.inf:
            raise ValueError(
                f"learning_rate={self.learning_rate} must be finite and > 0; 0.1 to 1 is usual."
            )
        require_count("local_steps", self.local_steps)
        if self.batch_size is not None:
            require_count("batch_size", self.batch_size)
        for name in ("momentum", "server_momentum"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(
                    f"{name}={getattr(self, name)} must lie in [0, 1); 0 for none, 0.9 is usual."
                )
        if not 0.0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay={self.weight_decay} must be finite and >= 0.")
        if self.clip_norm is not None and not 0.0 < self.clip_norm < math.inf:
            raise ValueError(f"clip_norm={self.clip_norm} must be finite and > 0; None for none.")
        if self.weighting not in ("samples", "equal"):
            raise ValueError(f"weighting={self.weighting!r} must be 'samples' or 'equal'.")
        if self.precision not in (None, "double", "single"):
            raise ValueError(
                f"precision={self.precision!r} must be 'double', 'single' or None (the data's)."
            )


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
