"""The torch CNN: finite differences, a direct convolution, loops over clients."""

import pickle

import numpy as np
import pytest

from rralloc import fl
from rralloc.fl import cnn
from rralloc.fl.learners import by_name

pytest.importorskip("torch", reason="the CNN needs torch: pip install 'rralloc[torch]'")

RNG = np.random.default_rng(0)
X, Y = RNG.random((7, 169)), RNG.integers(0, 3, 7)


def small(**options):
    return fl.CNN(169, 3, filters=(2, 3), **options)


def convolve(image, kernels, bias):
    """Channels x rows x columns, stride 2, one output at a time."""
    size = (image.shape[1] - 5) // 2 + 1
    out = np.empty((len(kernels), size, size))
    for f, kernel in enumerate(kernels):
        for i in range(size):
            for j in range(size):
                window = image[:, 2 * i : 2 * i + 5, 2 * j : 2 * j + 5]
                out[f, i, j] = np.sum(window * kernel) + bias[f]
    return np.maximum(out, 0.0)


def test_the_loss_is_that_of_a_direct_convolution():
    learner = small(l2=0.1)
    w = learner.init(np.random.default_rng(1)) + 0.01
    parts, first = [], 0
    for shape in learner.shapes:
        parts.append(w[first : first + np.prod(shape)].reshape(shape))
        first += np.prod(shape)
    assert first == learner.size
    k1, b1, k2, b2, matrix, bias = parts
    losses = []
    for x, y in zip(X, Y):
        hidden = convolve(convolve(x.reshape(1, 13, 13), k1, b1), k2, b2)
        z = matrix @ hidden.ravel() + bias
        losses.append(np.log(np.exp(z).sum()) - z[y])
    penalty = 0.05 * sum(np.sum(k**2) for k in (k1, k2, matrix))
    assert learner.loss(w, X, Y) == pytest.approx(np.mean(losses) + penalty, rel=1e-12)


def test_gradients_against_finite_differences():
    learner = small(l2=0.1)
    w = learner.init(np.random.default_rng(1)) + 0.01
    gradient = learner.gradient(w, X, Y)
    for i in range(0, learner.size, 11):
        step = np.zeros(learner.size)
        step[i] = 1e-6
        slope = (learner.loss(w + step, X, Y) - learner.loss(w - step, X, Y)) / 2e-6
        assert gradient[i] == pytest.approx(slope, abs=1e-7)


def test_clients_are_a_loop_and_weights_add_up():
    learner = small(l2=0.1)
    w = learner.init(np.random.default_rng(1))
    offsets = np.array([0, 2, 3, 7])
    rows = learner.client_gradients(w, X, Y, offsets)
    for k, (a, b) in enumerate([(0, 2), (2, 3), (3, 7)]):
        np.testing.assert_allclose(rows[k], learner.gradient(w, X[a:b], Y[a:b]), atol=1e-14)
    weight = np.repeat(np.array([0.2, 3.0, -1.0]) / np.diff(offsets), np.diff(offsets))
    np.testing.assert_allclose(
        learner.weighted_gradient(w, X, Y, weight), np.array([0.2, 3.0, -1.0]) @ rows, atol=1e-13
    )
    W = np.stack([w, 2 * w])
    own = learner.client_batch_gradients(W, X[:6].reshape(2, 3, -1), Y[:6].reshape(2, 3))
    np.testing.assert_allclose(own[1], learner.gradient(2 * w, X[3:6], Y[3:6]), atol=1e-14)


def test_pieces_of_a_large_batch_add_up(monkeypatch):
    learner = small()
    w = learner.init(np.random.default_rng(1))
    whole = learner.loss(w, X, Y), learner.gradient(w, X, Y), learner.predict(w, X)
    monkeypatch.setattr("rralloc.fl.cnn.EVALUATED_TOGETHER", 3)
    pieces = learner.loss(w, X, Y), learner.gradient(w, X, Y), learner.predict(w, X)
    for a, b in zip(whole, pieces):
        np.testing.assert_allclose(a, b, atol=1e-14)


def test_it_trains_in_single_precision():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 60)
    x = 0.2 * rng.random((60, 13, 13))
    x[y == 1, 3:9, 3:9] += 0.6
    x = x.reshape(60, 169).astype(np.float32)
    data = fl.Dataset("squares", x[:40], y[:40], x[40:], y[40:], 2)
    task = fl.Task.from_dataset(data, 4, "iid", learner="cnn", learning_rate=0.5)
    link = fl.Link(mean_gain=np.full(4, 1e-10), compute_s=0.1)
    from rralloc.policy import Optimised
    from rralloc.problems import MinMaxLatency

    history = fl.train(task, link, Optimised(MinMaxLatency), rounds=15)
    assert history.accuracy[-1] == 1.0
    assert task.updates(task.learner.init(rng)).dtype == np.float32


def test_colour_and_names():
    assert by_name("cnn", 3072, 10).channels == 3
    assert by_name("cnn", 784, 10).size == 5994
    for wrong, words in [
        ((170, 3), "square"),
        ((144, 3), "too small"),
        ((169, 1), "classes=1"),
    ]:
        with pytest.raises(ValueError, match=words):
            fl.CNN(*wrong)
    with pytest.raises(ValueError, match="w has shape"):
        small().loss(np.zeros(3), X, Y)


def test_without_torch_the_message_has_the_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    cnn._torch.cache_clear()
    with pytest.raises(ImportError, match=r"rralloc\[torch\]"):
        small()
    cnn._torch.cache_clear()


def test_it_can_be_sent_to_workers():
    learner = small()
    w = learner.init(np.random.default_rng(1))
    assert pickle.loads(pickle.dumps(learner)).loss(w, X, Y) == learner.loss(w, X, Y)
