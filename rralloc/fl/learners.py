"""Networks over one flat weight vector, with the gradients of all clients at once.

A network with layer widths (F, H_1, ..., O) maps a row x to z, logits of O = C classes or O = 2H
coordinates of H points:

    a_0 = x,   a_i = max(a_{i-1} W_i + b_i, 0),   z = a_{L-1} W_L + b_L

    f(w) = mean over samples of l(z, y)  +  l2/2 sum_i ||W_i||_F^2

    l(z, y) = log sum_c exp(z_c) - z_y        classes: cross-entropy
    l(z, y) = ||z - y||^2 / (2H)              points: half the mean squared displacement

Biases are not regularised. Backpropagation with p = softmax(z) and e_y the one-hot label:

    dZ_L = p - e_y  or  (z - y)/H,   dZ_i = (dZ_{i+1} W_{i+1}^T) * [a_i > 0]    one row per sample
    df/dW_i = mean of a_{i-1}^T dZ_i + l2 W_i,   df/db_i = mean of dZ_i

With shared weights the rows of every client go through the network together, and only the last
product X_k^T dZ_k is made client by client: ragged sizes need no padding.

The flat vector is (W_1, b_1, W_2, b_2, ...): the block of a layer is the matrix [W_i; b_i] of
shape (fan_in + 1, fan_out) in row order. Softmax regression is the network without hidden layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rralloc.numerics.counts import is_count

Floats = NDArray[Any]  # float64, or float32 where the samples are
Ints = NDArray[np.int64]


class Learner(Protocol):
    """What federated training asks of a model: d flat weights `w`, losses and gradients.

    Choose this when: you bring another model; implement these members and pass it to a `Task`.
    """

    @property
    def size(self) -> int:
        """d, the number of weights."""
        ...

    def init(self, rng: np.random.Generator) -> Floats:
        """Starting weights (d,)."""
        ...

    def loss(self, w: Floats, x: Floats, y: Ints) -> float:
        """Mean loss f(w) over the samples x (n, F), y (n, ...), regularisation included."""
        ...

    def gradient(self, w: Floats, x: Floats, y: Ints) -> Floats:
        """df/dw (d,)."""
        ...

    def predict(self, w: Floats, x: Floats) -> Ints:
        """The most likely class of every row of x, (n,); without classes the outputs (n, ...)."""
        ...

    def accuracy(self, w: Floats, x: Floats, y: Ints) -> float:
        """Share of rows whose predicted class is y, in [0, 1]; without classes a score.

        Higher is better in any case.
        """
        ...

    def client_gradients(self, w: Floats, x: Floats, y: Ints, offsets: Ints) -> Floats:
        """Row k: mean gradient over rows offsets[k]:offsets[k+1], shared w. (K, d)."""
        ...

    def client_batch_gradients(self, W: Floats, x: Floats, y: Ints) -> Floats:
        """Row k: mean gradient at W[k] over x[k] (m, F), y[k] (m,). (K, d)."""
        ...


class _Network:
    """ReLU layers and a linear one; a subclass says what its outputs mean and how they are judged.

    The samples y have the leading axes (n,), or (K, m) with weights for each client, and behind
    them what one answer is: nothing for a class, (O,) for coordinates.
    """

    features: int
    hidden: tuple[int, ...]
    l2: float

    @property
    def widths(self) -> tuple[int, ...]:
        """(F, H_1, ..., O)."""
        raise NotImplementedError

    def _sample_loss(self, z: Floats, y: Floats) -> float:
        """Mean of l(z, y) over the samples."""
        raise NotImplementedError

    def _slope(self, z: Floats, y: Floats) -> Floats:
        """dl/dz of every sample, an array of its own."""
        raise NotImplementedError

    def _answers(self, y: Floats, dimensions: int, kind: type) -> tuple[Floats, tuple[int, ...]]:
        """y in the type used, and its leading axes; ValueError unless `dimensions` and filled."""
        raise NotImplementedError

    def _check_values(self, y: Floats) -> None:
        """ValueError if an answer cannot be one."""
        raise NotImplementedError

    def _check_settings(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        _require_width("features", self.features, 1)
        for i, width in enumerate(self.hidden):
            _require_width(f"hidden[{i}]", width, 1)
        if not 0.0 <= self.l2 < math.inf:
            raise ValueError(f"l2={self.l2} must be finite and >= 0; use 0 for none.")

    @property
    def size(self) -> int:
        """d, the number of weights."""
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(self.widths))

    def init(self, rng: np.random.Generator) -> Floats:
        """Starting weights (d,): W_i ~ N(0, 2 / fan_in), biases 0.

        The variance keeps the size of the activations from layer to layer when half the units
        are cut off by ReLU (He et al., 2015).
        """
        w = np.zeros(self.size)
        for block in self._blocks(w):
            fan_in = len(block) - 1
            block[:-1] = rng.normal(0.0, math.sqrt(2.0 / fan_in), size=block[:-1].shape)
        return w

    def loss(self, w: Floats, x: Floats, y: Floats) -> float:
        """f(w): mean of l(z, y) over x (n, F), y (n, ...), plus l2/2 sum ||W_i||^2.

        Raises ValueError: shapes disagree, or an answer y cannot be one.
        """
        w, x, y = self._checked(w, x, y, dimensions=1)
        _, z = self._forward(w, x)
        penalty = sum(float(np.sum(block[:-1] ** 2)) for block in self._blocks(w))
        return self._sample_loss(z, y) + 0.5 * self.l2 * penalty

    def gradient(self, w: Floats, x: Floats, y: Floats) -> Floats:
        """df/dw (d,) over the samples x (n, F), y (n, ...).

        Raises ValueError: as `loss`.
        """
        w, x, y = self._checked(w, x, y, dimensions=1)
        return self._mean_gradient(w, x, y)

    def client_batch_gradients(self, W: Floats, x: Floats, y: Floats) -> Floats:
        """Row k (K, d): mean gradient at the client's own weights W[k] over x[k], y[k].

        W: (K, d). x: (K, m, F). y: (K, m, ...). All clients have the same batch size m.
        Raises ValueError: as `loss`.

        Choose this when: clients take minibatches or several local steps.
        """
        W, x, y = self._checked(W, x, y, dimensions=2)
        return self._mean_gradient(W, x, y)

    def client_gradients(self, w: Floats, x: Floats, y: Floats, offsets: Ints) -> Floats:
        """Row k (K, d): mean gradient over rows offsets[k]:offsets[k+1] at the shared w.

        x: (n, F), sorted by client. y: (n, ...). offsets: (K + 1,) from 0 to n, strictly rising.
        Raises ValueError: as `loss`, or `offsets` leave a client empty or a row out.

        Choose this when: every client uses all its samples at the same weights (FedSGD).
        """
        w, x, y = self._checked(w, x, y, dimensions=1)
        borders = _checked_offsets(offsets, len(y))
        inputs, deltas = self._backward(w, x, y)
        gradients = np.empty((len(borders) - 1, self.size), dtype=w.dtype)
        for row, (first, last) in zip(gradients, pairwise(borders)):
            self._fill(row, [a[first:last] for a in inputs], [d[first:last] for d in deltas])
        return self._add_decay(gradients, w)

    def weighted_gradient(self, w: Floats, x: Floats, y: Floats, weight: Floats) -> Floats:
        """Gradient (d,) of sum_i weight_i loss_i at the shared w, in one pass over x (n, F).

        With weight_i = a_k/n_k for the n_k samples of client k it is sum_k a_k df_k/dw, without
        one gradient per client. The regularisation counts sum_i weight_i times.
        Raises ValueError: as `loss`, or `weight` is not (n,).

        Choose this when: only the weighted sum of the clients' gradients is needed.
        """
        w, x, y = self._checked(w, x, y, dimensions=1)
        weight = np.asarray(weight, dtype=w.dtype)
        if weight.shape != y.shape[:1]:
            raise ValueError(
                f"weight has shape {weight.shape}; pass {y.shape[:1]}, one per sample."
            )
        inputs, deltas = self._backward(w, x, y, weight)
        gradient = np.empty_like(w)
        self._fill(gradient, inputs, deltas, samples=1)
        return self._add_decay(gradient, w, float(weight.sum()))

    def _blocks(self, w: Floats) -> list[Floats]:
        """Views [W_i; b_i] (..., fan_in + 1, fan_out) into w (..., d)."""
        blocks, first = [], 0
        for fan_in, fan_out in pairwise(self.widths):
            last = first + (fan_in + 1) * fan_out
            blocks.append(w[..., first:last].reshape(*w.shape[:-1], fan_in + 1, fan_out))
            first = last
        return blocks

    def _forward(self, w: Floats, x: Floats) -> tuple[list[Floats], Floats]:
        """The input a_{i-1} of every layer, and the outputs z. Leading axes are clients."""
        inputs = [x]
        *hidden, last = self._blocks(w)
        for block in hidden:
            inputs.append(np.maximum(_affine(inputs[-1], block), 0.0))
        return inputs, _affine(inputs[-1], last)

    def _backward(
        self, w: Floats, x: Floats, y: Floats, weight: Floats | None = None
    ) -> tuple[list[Floats], list[Floats]]:
        """(a_{i-1}, dZ_i) for every layer i, one row per sample, times its weight if there is."""
        inputs, z = self._forward(w, x)
        deltas = [self._slope(z, y)]
        if weight is not None:
            deltas[0] *= weight[:, None]
        for block, active in zip(self._blocks(w)[:0:-1], inputs[:0:-1]):
            back = deltas[-1] @ block[..., :-1, :].swapaxes(-1, -2)
            deltas.append(back * (active > 0.0))
        return inputs, deltas[::-1]

    def _mean_gradient(self, w: Floats, x: Floats, y: Floats) -> Floats:
        gradient = np.empty_like(w)
        self._fill(gradient, *self._backward(w, x, y))
        return self._add_decay(gradient, w)

    def _fill(
        self,
        out: Floats,
        inputs: Sequence[Floats],
        deltas: Sequence[Floats],
        samples: int | None = None,
    ) -> None:
        """Write the sum over samples of a^T dZ and dZ, over their number, into out (..., d)."""
        for block, a, delta in zip(self._blocks(out), inputs, deltas):
            np.matmul(a.swapaxes(-1, -2), delta, out=block[..., :-1, :])
            np.sum(delta, axis=-2, out=block[..., -1, :])
        out /= inputs[0].shape[-2] if samples is None else samples

    def _add_decay(self, gradient: Floats, w: Floats, times: float = 1.0) -> Floats:
        """Add l2 W_i to a gradient made here (w broadcasts over its clients)."""
        if self.l2 > 0.0:
            for block, weights in zip(self._blocks(gradient), self._blocks(w)):
                block[..., :-1, :] += times * self.l2 * weights[..., :-1, :]
        return gradient

    def _checked(
        self, w: ArrayLike, x: ArrayLike, y: ArrayLike, *, dimensions: int
    ) -> tuple[Floats, Floats, Floats]:
        """The arrays, in single precision where x is; `dimensions` is how many leading axes."""
        x = np.asarray(x)
        kind = np.float32 if x.dtype == np.float32 else np.float64
        w, x = np.asarray(w, kind), np.asarray(x, kind)
        y, lead = self._answers(np.asarray(y), dimensions, kind)
        if x.shape != (*lead, self.features):
            raise ValueError(f"x has shape {x.shape}; pass {(*lead, self.features)}, as y.")
        if w.shape != (*lead[:-1], self.size):
            raise ValueError(f"w has shape {w.shape}; pass {(*lead[:-1], self.size)}, as y.")
        self._check_values(y)
        return w, x, y


@dataclass(frozen=True)
class MLP(_Network):
    """Multilayer perceptron: ReLU layers of the widths in `hidden`, then softmax cross-entropy.

    features: F, length of a sample.
    classes: C >= 2.
    hidden: widths of the hidden layers, any number of them.
    l2: weight of 1/2 ||W||^2 in the loss, >= 0. scikit-learn's C equals 1 / (n l2).

    d = sum over layers of (fan_in + 1) fan_out; F = 64, hidden = (32,), C = 10 gives 2410.
    Raises ValueError: a width is below 1 or `l2` is negative or not finite.

    Choose this when: the loss should be non-convex, or a linear model is too weak.
    """

    features: int
    classes: int
    hidden: tuple[int, ...] = (32,)
    l2: float = 0.0

    def __post_init__(self) -> None:
        self._check_settings()
        _require_width("classes", self.classes, 2)

    @property
    def widths(self) -> tuple[int, ...]:
        """(F, H_1, ..., C)."""
        return (self.features, *self.hidden, self.classes)

    def predict(self, w: Floats, x: Floats) -> Ints:
        """The most likely class of every row of x (n, F): (n,) int64, ties to the lowest class.

        Raises ValueError: shapes disagree.
        """
        x = np.asarray(x)
        w, x, _ = self._checked(w, x, np.zeros(x.shape[:-1], dtype=np.int64), dimensions=1)
        labels: Ints = self._forward(w, x)[1].argmax(axis=-1)
        return labels

    def accuracy(self, w: Floats, x: Floats, y: Ints) -> float:
        """Share of the rows of x (n, F) whose predicted class is y (n,), in [0, 1].

        Raises ValueError: as `loss`.
        """
        w, x, y = self._checked(w, x, y, dimensions=1)
        return float(np.mean(self.predict(w, x) == y))

    def _sample_loss(self, z: Floats, y: Floats) -> float:
        right = np.take_along_axis(_log_softmax(z), y[:, None], axis=-1)
        return float(-right.mean())

    def _slope(self, z: Floats, y: Floats) -> Floats:
        one_hot = y[..., None] == np.arange(self.classes)
        slope: Floats = np.exp(_log_softmax(z)) - one_hot
        return slope

    def _answers(self, y: Floats, dimensions: int, kind: type) -> tuple[Floats, tuple[int, ...]]:
        if y.ndim != dimensions or y.size == 0 or y.dtype.kind not in "iu":
            expected = "(n,)" if dimensions == 1 else "(K, m)"
            raise ValueError(
                f"y has shape {y.shape} and type {y.dtype}; pass non-empty {expected} integers."
            )
        return y, y.shape

    def _check_values(self, y: Floats) -> None:
        if y.min() < 0 or y.max() >= self.classes:
            raise ValueError(
                f"y has values in [{y.min()}, {y.max()}]; labels must lie in "
                f"[0, {self.classes - 1}]: renumber them or raise classes."
            )


@dataclass(frozen=True)
class SoftmaxRegression(MLP):
    """Linear classifier z = x W + b with softmax cross-entropy: an `MLP` without hidden layers.

    The loss is convex, and strongly convex in W with constant l2. d = (F + 1) C.

    features, classes, l2: as in `MLP`.
    Raises ValueError: as `MLP`.

    Choose this when: you want a convex loss, the setting of most convergence theorems.
    """

    hidden: tuple[int, ...] = field(default=(), init=False, repr=False)

    def init(self, rng: np.random.Generator) -> Floats:
        """Zeros (d,): all classes equally likely, f = log C. `rng` is not used.

        A convex loss has no symmetry to break, so noise in the start would be only noise.
        """
        return np.zeros(self.size)


@dataclass(frozen=True)
class MLPRegression(_Network):
    """ReLU layers of the widths in `hidden`, then H points of the plane: z = (e_1, n_1, e_2, ...).

    f(w) = mean over samples of ||z - y||^2 / (2H)  +  l2/2 sum_i ||W_i||_F^2: half the squared
    displacement, averaged over samples and points. y: (n, 2H) floats, in the unit of z.

    features: F, length of a sample.
    outputs: 2H, even and >= 2.
    hidden: widths of the hidden layers, any number of them; () is linear regression.
    l2: weight of 1/2 ||W||^2 in the loss, >= 0.
    unit: metres per unit of y, in (0, inf): in it `displacement` and `accuracy` are told.

    d = sum over layers of (fan_in + 1) fan_out; F = 20, hidden = (64,), outputs = 20 gives 2644.
    Raises ValueError: a width is below 1, `outputs` is odd, or `l2` or `unit` is out of range.

    Choose this when: places are predicted, such as where a vehicle will be (`Trajectories`).
    """

    features: int
    outputs: int
    hidden: tuple[int, ...] = (64,)
    l2: float = 0.0
    unit: float = 1.0

    def __post_init__(self) -> None:
        self._check_settings()
        _require_width("outputs", self.outputs, 2)
        if self.outputs % 2:
            raise ValueError(f"outputs={self.outputs} is odd; give 2 for each point, east, north.")
        if not 0.0 < self.unit < math.inf:
            raise ValueError(f"unit={self.unit} m must lie in (0, inf) m; use 1 for metres.")

    @property
    def widths(self) -> tuple[int, ...]:
        """(F, H_1, ..., 2H)."""
        return (self.features, *self.hidden, self.outputs)

    def predict(self, w: Floats, x: Floats) -> Floats:
        """z (n, 2H) for every row of x (n, F).

        Raises ValueError: shapes disagree.
        """
        x = np.asarray(x)
        blank = np.zeros((*x.shape[:-1], self.outputs))
        w, x, _ = self._checked(w, x, blank, dimensions=1)
        return self._forward(w, x)[1]

    def displacement(self, w: Floats, x: Floats, y: Floats) -> float:
        """Average displacement error in m: unit * mean over samples and points of |z_h - y_h|.

        x: (n, F). y: (n, 2H). In [0, inf).
        Raises ValueError: as `loss`.

        Choose this when: you report how far predictions are off; the loss weighs far ones more.
        """
        w, x, y = self._checked(w, x, y, dimensions=1)
        return self.unit * mean_displacement(self._forward(w, x)[1], y)

    def accuracy(self, w: Floats, x: Floats, y: Floats) -> float:
        """Minus `displacement`, m, in (-inf, 0]: higher is better, as for a share that is right.

        Raises ValueError: as `loss`.
        """
        return -self.displacement(w, x, y)

    def _sample_loss(self, z: Floats, y: Floats) -> float:
        return float(np.mean(np.sum((z - y) ** 2, axis=-1))) / self.outputs

    def _slope(self, z: Floats, y: Floats) -> Floats:
        slope: Floats = (z - y) * (2.0 / self.outputs)
        return slope

    def _answers(self, y: Floats, dimensions: int, kind: type) -> tuple[Floats, tuple[int, ...]]:
        right = y.ndim == dimensions + 1 and y.shape[-1] == self.outputs and y.size > 0
        if not right or y.dtype.kind not in "iuf":
            lead = "n" if dimensions == 1 else "K, m"
            raise ValueError(
                f"y has shape {y.shape} and type {y.dtype}; "
                f"pass non-empty ({lead}, {self.outputs}) floats, two for each point."
            )
        return y.astype(kind, copy=False), y.shape[:-1]

    def _check_values(self, y: Floats) -> None:
        if not np.isfinite(y).all():
            raise ValueError("y has values that are not finite; leave those samples out.")


def by_name(
    kind: str, features: int, classes: int, *, hidden: tuple[int, ...] = (32,), l2: float = 0.0
) -> Learner:
    """The learner called `kind`: "softmax", "mlp" (uses `hidden`) or "cnn" (needs torch).

    Raises ValueError: `kind` is none of them, or as the class it names.

    Choose this when: the model is a setting of an experiment.
    """
    if kind == "softmax":
        return SoftmaxRegression(features, classes, l2=l2)
    if kind == "mlp":
        return MLP(features, classes, hidden, l2)
    if kind == "cnn":
        from rralloc.fl.cnn import CNN

        return CNN(features, classes, 3 if features == 3072 else 1, l2=l2)
    raise ValueError(f"learner={kind!r} must be 'softmax', 'mlp' or 'cnn'; choose one.")


def mean_displacement(z: Floats, y: Floats) -> float:
    """Mean over samples and points of |z_h - y_h|, in their unit; z, y: (n, 2H).

    Choose this when: predictions come from something that is not a `Learner`.
    """
    apart = (z - y).reshape(len(y), -1, 2)
    return float(np.mean(np.hypot(apart[..., 0], apart[..., 1]), dtype=np.float64))


def _affine(a: Floats, block: Floats) -> Floats:
    """The layer a W + b for block = [W; b]; leading axes, if any, are clients."""
    return a @ block[..., :-1, :] + block[..., -1:, :]


def _log_softmax(logits: Floats) -> Floats:
    """Logits minus their log sum exp along the last axis; the largest exponent is exp(0)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_sum: Floats = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    log_probability: Floats = shifted - log_sum
    return log_probability


def _checked_offsets(offsets: ArrayLike, samples: int) -> list[int]:
    borders = np.asarray(offsets)
    if borders.ndim != 1 or borders.size < 2 or borders.dtype.kind not in "iu":
        raise ValueError(f"offsets has shape {borders.shape}; pass (K + 1,) integers.")
    values: list[int] = borders.tolist()
    if values[0] != 0 or values[-1] != samples or any(a >= b for a, b in pairwise(values)):
        raise ValueError(
            f"offsets={values} must rise strictly from 0 to {samples}; "
            "drop clients without samples."
        )
    return values


def _require_width(label: str, value: int, least: int) -> None:
    if not is_count(value, least):
        raise ValueError(f"{label}={value!r} must be an integer >= {least}; raise it.")
