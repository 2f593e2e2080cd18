"""Who holds which samples: split n training samples over K clients.

A partition is a tuple of K sorted index arrays D_1, ..., D_K with

    D_j and D_k disjoint for j != k,    D_1 u ... u D_K = {0, ..., n-1},    |D_k| >= 1.

    iid        random, sizes equal to within one           every client sees every class
    dirichlet  for each class c: p ~ Dir(alpha, ..., alpha), client k gets the share p_k of it;
               E[sum_k p_k^2] = (alpha + 1) / (K alpha + 1): 1 for alpha -> 0 (one client holds
               the class), 1/K for alpha -> infinity (all hold the same)
    shards     sort by label, cut into K s equal blocks, deal s blocks to each client;
               s = 1 is the label-sorted split, one contiguous block per client
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rralloc.numerics.counts import require_count

Partition = tuple[NDArray[np.int64], ...]


def iid(labels: ArrayLike, clients: int, rng: np.random.Generator) -> Partition:
    """Random samples for every client, sizes n // K or n // K + 1.

    labels: (n,) integer classes; only their number matters here.
    clients: K, 1 <= K <= n.
    rng: decides who gets what.

    Raises ValueError: `clients` is out of range, or `labels` are not (n,) integers.

    Choose this when: data heterogeneity should play no part, as the reference case.
    """
    y = _checked_labels(labels, clients, "clients", clients)
    parts = np.array_split(rng.permutation(len(y)), clients)
    return tuple(np.sort(part) for part in parts)


def dirichlet(
    labels: ArrayLike,
    clients: int,
    rng: np.random.Generator,
    *,
    alpha: float,
    min_samples: int = 1,
) -> Partition:
    """Label skew and unequal sizes: client k gets the share p_k of class c, p ~ Dir(alpha).

    A draw can leave a client short. Then the largest client hands its last sample to the
    smallest one until all have `min_samples`; each move lowers the total shortage by one, so at
    most K min_samples moves are made.

    labels: (n,) integer classes.
    clients: K, 1 <= K min_samples <= n.
    rng: draws the shares and who gets which sample of a class.
    alpha: concentration, > 0, no unit. 0.1 is strong skew, 1 mild, 100 almost iid.
    min_samples: the smallest |D_k| allowed, >= 1.

    Raises ValueError: `alpha`, `clients` or `min_samples` is out of range.

    Choose this when: you want one knob from iid to one class per client.
    """
    if not 0.0 < alpha < math.inf:
        raise ValueError(
            f"alpha={alpha} must be a finite number > 0; use iid() for the limit of no skew."
        )
    require_count("min_samples", min_samples)
    need = clients * min_samples
    y = _checked_labels(labels, clients, "clients * min_samples", need)
    owner = np.empty(len(y), dtype=np.int64)
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        owner[members] = _dirichlet_owners(len(members), clients, rng, alpha)
    return _groups(_topped_up(owner, clients, min_samples), clients)


def shards(
    labels: ArrayLike,
    clients: int,
    rng: np.random.Generator,
    *,
    shards_per_client: int = 2,
) -> Partition:
    """Few classes per client: s blocks of label-sorted samples each, dealt at random.

    The n samples are sorted by label (random order inside a class), cut into K s blocks whose
    sizes differ by at most one, and every client gets s of them.

    labels: (n,) integer classes.
    clients: K, with K s <= n.
    rng: orders the samples inside a class and deals the blocks.
    shards_per_client: s >= 1. s = 1 gives each client one contiguous label-sorted block.

    Raises ValueError: `clients` or `shards_per_client` is out of range.

    Choose this when: sizes should be equal and only the classes differ between clients.
    """
    require_count("shards_per_client", shards_per_client)
    blocks = clients * shards_per_client
    y = _checked_labels(labels, clients, "clients * shards_per_client", blocks)
    shuffled = rng.permutation(len(y))
    by_label = shuffled[np.argsort(y[shuffled], kind="stable")]
    pieces = np.array_split(by_label, blocks)
    hands = rng.permutation(blocks).reshape(clients, shards_per_client)
    return tuple(np.sort(np.concatenate([pieces[i] for i in hand])) for hand in hands)


def by_name(
    kind: str,
    labels: ArrayLike,
    clients: int,
    rng: np.random.Generator,
    *,
    alpha: float = 0.1,
    shards_per_client: int = 2,
) -> Partition:
    """The partition called `kind`: "iid", "dirichlet" (uses `alpha`) or "shards".

    Raises ValueError: `kind` is not one of the three, or as the function it names.

    Choose this when: the kind of partition is a setting of an experiment.
    """
    if kind == "iid":
        return iid(labels, clients, rng)
    if kind == "dirichlet":
        return dirichlet(labels, clients, rng, alpha=alpha)
    if kind == "shards":
        return shards(labels, clients, rng, shards_per_client=shards_per_client)
    raise ValueError(f"partition={kind!r} must be 'iid', 'dirichlet' or 'shards'; choose one.")


def label_counts(
    partition: Sequence[NDArray[np.int64]], labels: ArrayLike, classes: int
) -> NDArray[np.int64]:
    """Counts (K, C): entry [k, c] = number of samples of class c that client k holds.

    Raises ValueError: a label lies outside [0, classes).

    Choose this when: you plot who has what, or measure how far from iid a split is.
    """
    y = _integer_labels(labels)
    if y.size and not 0 <= y.min() <= y.max() < classes:
        raise ValueError(
            f"classes={classes} but labels lie in [{y.min()}, {y.max()}]; "
            f"labels must lie in [0, classes - 1]: raise classes or renumber them."
        )
    return np.stack([np.bincount(y[part], minlength=classes) for part in partition])


def _dirichlet_owners(
    samples: int, clients: int, rng: np.random.Generator, alpha: float
) -> NDArray[np.int64]:
    """The client of each of `samples` samples: sorted, cut at floor(samples * cumulative p)."""
    shares = rng.dirichlet(np.full(clients, alpha))
    if not math.isclose(shares.sum(), 1.0, rel_tol=1e-6):  # sampling over- or underflowed
        raise ValueError(
            f"alpha={alpha} is outside the range of float64 sampling; "
            "use 1e-6 to 1e6, or iid() for the limit of no skew."
        )
    cuts = np.floor(np.cumsum(shares)[:-1] * samples)
    return np.searchsorted(cuts, np.arange(samples), side="right")


def _topped_up(owner: NDArray[np.int64], clients: int, min_samples: int) -> NDArray[np.int64]:
    owner = owner.copy()
    sizes = np.bincount(owner, minlength=clients)
    while sizes.min() < min_samples:
        # n >= K min_samples: while one client is short, the largest has more than it needs.
        donor, receiver = sizes.argmax(), sizes.argmin()
        owner[np.flatnonzero(owner == donor)[-1]] = receiver
        sizes[donor] -= 1
        sizes[receiver] += 1
    return owner


def _groups(owner: NDArray[np.int64], clients: int) -> Partition:
    return tuple(np.flatnonzero(owner == k) for k in range(clients))


def _checked_labels(labels: ArrayLike, clients: int, what: str, need: int) -> NDArray[np.integer]:
    require_count("clients", clients)
    y = _integer_labels(labels)
    if need > len(y):
        raise ValueError(
            f"{what}={need} must be at most the {len(y)} samples; "
            "use fewer clients or more samples."
        )
    return y


def _integer_labels(labels: ArrayLike) -> NDArray[np.integer]:
    y = np.asarray(labels)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise ValueError(
            f"labels has shape {y.shape} and type {y.dtype}; pass (n,) integer classes."
        )
    return y
