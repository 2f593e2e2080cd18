"""Data sets for federated training: a training part the clients share out, and a test part.

    x in [0, 1]^(n x F)   one row per sample, one column per feature
    y in {0, ..., C-1}^n  the class of each sample

A loader is one function that returns a `Dataset`. A source without its own test part goes
through `split_dataset`, which keeps the share of every class equal in both parts:

    |test samples of class c| = round(test_share * n_c), kept within [1, n_c - 1]

To add a data set, add one function to this file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rralloc.fl.streams import Streams


def digest_of(label: str, arrays: Iterable[NDArray[Any]]) -> str:
    """Hash of a label and of types, shapes and bytes of arrays."""
    sha = hashlib.sha256(label.encode())
    for array in arrays:
        sha.update(f"{array.dtype}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training samples `train_x (n, F)`, `train_y (n,)` and test samples, labels 0..classes-1.

    Features lie in [0, 1], float64 or float32 as given; labels are int64. The stored arrays are
    read-only views, so that runs which share one data set cannot change it for each other; arrays
    passed in stay as they were.

    Raises ValueError: shapes disagree, a part is empty, a feature lies outside [0, 1] or is not
        a number, or a label is not an integer in [0, classes).

    Choose this when: you bring your own samples; otherwise call a loader such as `load_digits`.
    """

    name: str
    train_x: NDArray[Any]
    train_y: NDArray[np.int64]
    test_x: NDArray[Any]
    test_y: NDArray[np.int64]
    classes: int

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ValueError(f"classes={self.classes} must be at least 2; count the labels.")
        for part in ("train", "test"):
            x = _features(f"{part}_x", getattr(self, f"{part}_x"))
            y = _labels(f"{part}_y", getattr(self, f"{part}_y"), len(x), self.classes)
            object.__setattr__(self, f"{part}_x", x)
            object.__setattr__(self, f"{part}_y", y)
        if self.train_x.shape[1] != self.test_x.shape[1]:
            raise ValueError(
                f"test_x has {self.test_x.shape[1]} features and train_x {self.train_x.shape[1]}; "
                "give both parts the same columns."
            )

    @property
    def features(self) -> int:
        """F, the number of features of a sample."""
        return int(self.train_x.shape[1])

    @cached_property
    def digest(self) -> str:
        """Hash of all samples: which data a stored run was trained on."""
        parts = (self.train_x, self.train_y, self.test_x, self.test_y)
        return digest_of(f"{self.name}|{self.classes}", parts)

    def subset(self, samples: int, rng: np.random.Generator) -> Dataset:
        """The same test part, and `samples` random training samples (all, if there are fewer).

        Choose this when: something cheap must be settled first, such as a learning rate.
        """
        rows = np.sort(rng.permutation(len(self.train_y))[:samples])
        return replace(self, train_x=self.train_x[rows], train_y=self.train_y[rows])


def load_digits(rng: np.random.Generator | None = None, *, test_share: float = 0.2) -> Dataset:
    """1797 handwritten digits of 8 x 8 pixels, 10 classes, x = pixel / 16.

    Comes with scikit-learn: no download. `rng` decides which samples are test samples (default:
    the "data" stream of seed 0); `test_share` in (0, 1) is the share of each class held back.

    Raises ValueError: `test_share` lies outside (0, 1).
    Raises ImportError: scikit-learn is missing.

    Choose this when: a run must end in seconds (F = 64; a linear model reaches about 96 %).
    """
    try:
        from sklearn.datasets import load_digits as fetch
    except ImportError as missing:
        raise ImportError(
            "The digits data set comes with scikit-learn: pip install scikit-learn"
        ) from missing
    pixels, labels = fetch(return_X_y=True)
    return split_dataset("digits", pixels / 16.0, labels, rng, test_share=test_share)


def split_dataset(
    name: str,
    x: ArrayLike,
    y: ArrayLike,
    rng: np.random.Generator | None = None,
    *,
    test_share: float = 0.2,
) -> Dataset:
    """A `Dataset` from samples `x (N, F)`, `y (N,)` without a test part of their own.

    The number of classes is max(y) + 1. `rng` defaults to the "data" stream of seed 0.

    Raises ValueError: as `stratified_split` and `Dataset`.

    Choose this when: you write a loader for a source that is one pile of samples.
    """
    features, labels = np.asarray(x), np.asarray(y)
    generator = Streams(0).rng("data") if rng is None else rng
    train, test = stratified_split(labels, generator, test_share=test_share)
    classes = int(labels.max()) + 1
    return Dataset(name, features[train], labels[train], features[test], labels[test], classes)


def stratified_split(
    labels: ArrayLike, rng: np.random.Generator, *, test_share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted indices (train, test): of n_c samples of class c, round(test_share n_c) are tests.

    The count is kept within [1, n_c - 1], so that every class is in both parts.

    Raises ValueError: `test_share` lies outside (0, 1), or a class has fewer than 2 samples.

    Choose this when: classes are few or unequal, so that a plain random split could lose one.
    """
    if not 0.0 < test_share < 1.0:
        raise ValueError(f"test_share={test_share} must lie in (0, 1); 0.2 is usual.")
    y = np.asarray(labels)
    test = [_class_sample(y, label, rng, test_share) for label in np.unique(y)]
    held_back = np.zeros(len(y), dtype=bool)
    held_back[np.concatenate(test)] = True
    return np.flatnonzero(~held_back), np.flatnonzero(held_back)


def _class_sample(
    y: NDArray[np.int64], label: int, rng: np.random.Generator, share: float
) -> NDArray[np.int64]:
    members = np.flatnonzero(y == label)
    if len(members) < 2:
        raise ValueError(
            f"labels has 1 sample of class {label}; a split needs at least 2 of each: "
            "drop the class or add samples."
        )
    count = int(np.clip(round(share * len(members)), 1, len(members) - 1))
    return rng.permutation(members)[:count]


def _features(label: str, values: ArrayLike) -> NDArray[Any]:
    x = np.asarray(values)
    x = (x if x.dtype == np.float32 else x.astype(np.float64, copy=False)).view()
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"{label} has shape {x.shape}; pass (samples, features), none of them 0.")
    if not (x.min() >= 0.0 and x.max() <= 1.0):  # written so that NaN fails too
        raise ValueError(
            f"{label} has values in [{x.min()}, {x.max()}]; scale the features to [0, 1]."
        )
    x.flags.writeable = False
    return x


def _labels(label: str, values: ArrayLike, samples: int, classes: int) -> NDArray[np.int64]:
    raw = np.asarray(values)
    if raw.shape != (samples,) or raw.dtype.kind not in "iu":
        raise ValueError(
            f"{label} has shape {raw.shape} and type {raw.dtype}; pass ({samples},) integers, "
            "one label per sample."
        )
    if raw.min() < 0 or raw.max() >= classes:
        raise ValueError(
            f"{label} has values in [{raw.min()}, {raw.max()}]; labels must lie in "
            f"[0, {classes - 1}]: renumber them or raise classes."
        )
    y = raw.astype(np.int64, copy=False).view()
    y.flags.writeable = False
    return y
