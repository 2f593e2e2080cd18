"""A small convolutional network on torch, with the interface of the other learners.

For images of side x side pixels and `channels` colours:

    conv 5x5, stride 2, ReLU   ->   conv 5x5, stride 2, ReLU   ->   fully connected, softmax

One flat weight vector in the order (kernels, biases) of each layer; clients are visited one after
another, which on a CPU is faster than vectorising over them. Needs torch: pip install
"rralloc[torch]".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Ints = NDArray[np.int64]

EVALUATED_TOGETHER = 1024
"""Samples whose activations are held at once; more would not fit a processor's cache."""


@dataclass(frozen=True)
class CNN:
    """Two 5x5 convolutions of stride 2 with ReLU, then softmax cross-entropy; ``Learner`` on torch.

    features: channels * side^2, one image flattened as (channel, row, column).
    classes: C >= 2. channels: 1 for grey, 3 for colour. filters: of the two convolutions.
    l2: weight of 1/2 ||W||^2 over kernels and the last matrix, biases excepted.

    28 x 28 grey images with filters (8, 16) give d = 5,994. Arithmetic is single or double as the
    samples are. Raises ValueError: the images are not square, or smaller than 13 pixels.
    ImportError: torch is not installed.

    Choose this when: a claim should hold for a network that shares weights over the image.
    """

    features: int
    classes: int
    channels: int = 1
    filters: tuple[int, int] = (8, 16)
    l2: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", tuple(self.filters))
        if self.channels < 1 or self.side**2 * self.channels != self.features:
            raise ValueError(
                f"features={self.features} are not {self.channels} channels of a square image; "
                "give channels=1 for grey and 3 for colour."
            )
        if self.side < 13:
            raise ValueError(f"images of {self.side} pixels are too small; 13 is the least.")
        if self.classes < 2 or min(self.filters) < 1 or len(self.filters) != 2:
            raise ValueError(
                f"classes={self.classes}, filters={self.filters}: give at least 2 classes and two "
                "numbers of filters >= 1."
            )
        if not 0.0 <= self.l2 < math.inf:
            raise ValueError(f"l2={self.l2} must be finite and >= 0; use 0 for none.")
        _torch()

    @property
    def side(self) -> int:
        """Pixels along one edge."""
        return math.isqrt(self.features // max(self.channels, 1))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of kernels and biases, layer by layer."""
        first, second = self.filters
        once = (self.side - 5) // 2 + 1
        twice = (once - 5) // 2 + 1
        last = (self.classes, second * twice**2)
        return (
            *((first, self.channels, 5, 5), (first,)),
            *((second, first, 5, 5), (second,)),
            *(last, (self.classes,)),
        )

    @property
    def size(self) -> int:
        """d, the number of weights."""
        return sum(math.prod(shape) for shape in self.shapes)

    def init(self, rng: np.random.Generator) -> Floats:
        """Starting weights (d,): N(0, 2 / fan_in), biases 0 (He et al., 2015)."""
        parts = [
            np.zeros(shape)
            if len(shape) == 1
            else rng.normal(0.0, math.sqrt(2.0 / math.prod(shape[1:])), size=shape)
            for shape in self.shapes
        ]
        return np.concatenate([part.ravel() for part in parts])

    def loss(self, w: Floats, x: Floats, y: Ints) -> float:
        """Mean cross-entropy (nats) over x (n, F), y (n,), plus l2/2 sum ||W||^2."""
        total = 0.0
        with _torch().no_grad():
            weights = self._tensor(w, x)
            for part in _slices(len(y)):
                logits = self._logits(weights, x[part])
                losses = self._nll(logits, y[part], reduction="sum")
                total += float(losses)
            return total / len(y) + float(self._penalty(weights))

    def gradient(self, w: Floats, x: Floats, y: Ints) -> Floats:
        """df/dw (d,) over the samples x (n, F), y (n,)."""
        return self.weighted_gradient(w, x, y, np.full(len(y), 1.0 / len(y)))

    def weighted_gradient(self, w: Floats, x: Floats, y: Ints, weight: Floats) -> Floats:
        """Gradient (d,) of sum_i weight_i loss_i at w; the regularisation counts sum_i weight_i."""
        weights = self._tensor(w, x).requires_grad_()
        total: Any = 0.0
        for part in _slices(len(y)):
            losses = self._nll(self._logits(weights, x[part]), y[part], reduction="none")
            share = _torch().from_numpy(np.asarray(weight[part], dtype=x.dtype))
            (gradient,) = _torch().autograd.grad(losses @ share, weights)
            total = total + gradient
        if self.l2 > 0.0:
            penalty = float(np.sum(weight)) * self._penalty(weights)
            total = total + _torch().autograd.grad(penalty, weights)[0]
        found: Floats = total.numpy()
        return found

    def client_gradients(self, w: Floats, x: Floats, y: Ints, offsets: Ints) -> Floats:
        """Row k: mean gradient over rows offsets[k]:offsets[k+1], shared w. (K, d)."""
        return np.stack([self.gradient(w, x[a:b], y[a:b]) for a, b in pairwise(offsets)])

    def client_batch_gradients(self, W: Floats, x: Floats, y: Ints) -> Floats:
        """Row k: mean gradient at W[k] over x[k] (m, F), y[k] (m,). (K, d)."""
        return np.stack([self.gradient(*each) for each in zip(W, x, y)])

    def predict(self, w: Floats, x: Floats) -> Ints:
        """The most likely class of every row of x, (n,)."""
        with _torch().no_grad():
            weights = self._tensor(w, x)
            labels = [self._logits(weights, x[p]).argmax(dim=1).numpy() for p in _slices(len(x))]
        return np.concatenate(labels)

    def accuracy(self, w: Floats, x: Floats, y: Ints) -> float:
        """Share of rows whose predicted class is y, in [0, 1]."""
        return float(np.mean(self.predict(w, x) == y))

    # -- torch --------------------------------------------------------------------------------

    def _tensor(self, w: Floats, x: Floats) -> Any:
        """The weights in the precision of the samples."""
        if np.shape(w) != (self.size,) or x.ndim != 2 or x.shape[1] != self.features:
            raise ValueError(
                f"w has shape {np.shape(w)} and x {x.shape}; "
                f"pass ({self.size},) and (n, {self.features})."
            )
        return _torch().tensor(np.asarray(w), dtype=getattr(_torch(), str(x.dtype)))

    def _parts(self, weights: Any) -> list[Any]:
        parts = weights.split([math.prod(shape) for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes)]

    def _logits(self, weights: Any, x: Floats) -> Any:
        conv, relu = _torch().nn.functional.conv2d, _torch().relu
        k1, b1, k2, b2, matrix, bias = self._parts(weights)
        image = _shared(x).view(-1, self.channels, self.side, self.side)
        hidden = relu(conv(relu(conv(image, k1, b1, stride=2)), k2, b2, stride=2))
        return hidden.flatten(1) @ matrix.T + bias

    def _nll(self, logits: Any, y: Ints, *, reduction: str) -> Any:
        labels = _shared(y)
        return _torch().nn.functional.cross_entropy(logits, labels, reduction=reduction)

    def _penalty(self, weights: Any) -> Any:
        kernels = self._parts(weights)[::2]
        return 0.5 * self.l2 * sum((kernel**2).sum() for kernel in kernels)


@cache
def _torch() -> Any:
    try:
        import torch
    except ImportError as missing:
        raise ImportError('CNN needs torch: pip install "rralloc[torch]"') from missing
    return torch


def _slices(count: int) -> list[slice]:
    return [slice(i, i + EVALUATED_TOGETHER) for i in range(0, count, EVALUATED_TOGETHER)]


def _shared(array: NDArray[Any]) -> Any:
    """The tensor over a NumPy array; torch cannot wrap read-only memory, so such is copied."""
    return _torch().from_numpy(array if array.flags.writeable else array.copy())
