"""Learners against a loop in complex arithmetic, finite differences and scikit-learn."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rralloc.fl.learners import MLP, SoftmaxRegression, by_name

hiddens = st.lists(st.integers(1, 5), max_size=3).map(tuple)
seeds = st.integers(0, 2**32)


def oracle_loss(widths, l2, w, x, y):
    """The loss sample by sample and unit by unit; also for complex w."""
    layers, first = [], 0
    for fan_in, fan_out in pairwise(widths):
        weights = [[w[first + i * fan_out + j] for j in range(fan_out)] for i in range(fan_in)]
        first += fan_in * fan_out
        layers.append((weights, [w[first + j] for j in range(fan_out)]))
        first += fan_out
    assert first == len(w)
    total = 0.0
    for row, label in zip(x, y):
        a = list(row)
        for number, (weights, bias) in enumerate(layers):
            z = [sum(a[i] * weights[i][j] for i in range(len(a))) + b for j, b in enumerate(bias)]
            a = z if number == len(layers) - 1 else [u if u.real > 0 else 0.0 for u in z]
        total += np.log(sum(np.exp(u) for u in a)) - a[label]
    squares = sum(u**2 for weights, _ in layers for line in weights for u in line)
    return total / len(y) + 0.5 * l2 * squares


def complex_step(widths, l2, w, x, y, step=1e-30):
    gradient = np.empty(len(w))
    for i in range(len(w)):
        moved = w.astype(complex)
        moved[i] += 1j * step
        gradient[i] = oracle_loss(widths, l2, moved, x, y).imag / step
    return gradient


def case(hidden=(4,), features=3, classes=3, samples=6, l2=0.1, seed=0):
    """A learner with weights, samples and labels, away from every special point."""
    rng = np.random.default_rng(seed)
    learner = MLP(features, classes, hidden, l2)
    w = rng.normal(size=learner.size)
    return learner, w, rng.random((samples, features)), rng.integers(0, classes, samples)


@pytest.mark.parametrize("hidden", [(), (4,), (4, 3), (2, 3, 2)])
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_loss_and_gradient_equal_the_loop_and_its_complex_step(hidden, l2):
    for seed in range(5):
        learner, w, x, y = case(hidden, l2=l2, seed=seed)
        assert learner.loss(w, x, y) == pytest.approx(
            oracle_loss(learner.widths, l2, w, x, y), rel=1e-13
        )
        np.testing.assert_allclose(
            learner.gradient(w, x, y),
            complex_step(learner.widths, l2, w, x, y),
            rtol=1e-11,
            atol=1e-13,
        )


@pytest.mark.parametrize("hidden", [(), (32,), (16, 16)])
def test_directional_derivatives_at_the_size_of_digits(hidden):
    learner, w, x, y = case(hidden, features=64, classes=10, samples=50, l2=1e-3)
    gradient = learner.gradient(w, x, y)
    rng = np.random.default_rng(1)
    for _ in range(5):
        v = rng.normal(size=learner.size)
        v /= np.linalg.norm(v)
        h = 1e-6
        slope = (learner.loss(w + h * v, x, y) - learner.loss(w - h * v, x, y)) / (2 * h)
        assert gradient @ v == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_softmax_regression_is_the_network_without_hidden_layers():
    learner, w, x, y = case(())
    linear = SoftmaxRegression(3, 3, l2=0.1)
    assert linear.loss(w, x, y) == learner.loss(w, x, y)
    np.testing.assert_array_equal(linear.gradient(w, x, y), learner.gradient(w, x, y))
    assert linear == SoftmaxRegression(3, 3, 0.1)


@pytest.mark.parametrize("inverse_l2", [0.1, 1.0, 10.0])
def test_gradient_vanishes_at_scikit_learns_optimum(inverse_l2):
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    x, y = load_digits(return_X_y=True)
    x = x[:600] / 16
    y = y[:600]
    model = LogisticRegression(C=inverse_l2, solver="newton-cg", tol=1e-10, max_iter=1000)
    model.fit(x, y)
    learner = SoftmaxRegression(64, 10, l2=1 / (inverse_l2 * len(y)))
    w = np.vstack([model.coef_.T, model.intercept_]).ravel()
    start = np.linalg.norm(learner.gradient(np.zeros(650), x, y))
    assert np.linalg.norm(learner.gradient(w, x, y)) < 1e-6 * start
    np.testing.assert_array_equal(learner.predict(w, x), model.predict(x))
    assert learner.accuracy(w, x, y) == pytest.approx(model.score(x, y), abs=1e-12)


def test_cross_entropy_equals_scikit_learns_log_loss():
    from sklearn.metrics import log_loss
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(0)
    x, y = rng.random((40, 6)), np.arange(40) % 3
    model = MLPClassifier((7, 5), solver="lbfgs", max_iter=2000, random_state=0).fit(x, y)
    layers = zip(model.coefs_, model.intercepts_)
    w = np.concatenate([np.vstack([matrix, bias]).ravel() for matrix, bias in layers])
    learner = MLP(6, 3, (7, 5))
    probabilities = model.predict_proba(x)
    assert learner.loss(w, x, y) == pytest.approx(log_loss(y, probabilities), rel=1e-9)
    np.testing.assert_array_equal(learner.predict(w, x), model.predict(x))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), hiddens, st.booleans(), seeds)
@settings(deadline=None)
def test_client_gradients_equal_a_loop_over_clients(sizes, hidden, decay, seed):
    learner, w, x, y = case(hidden, samples=sum(sizes), l2=0.2 * decay, seed=seed)
    offsets = np.r_[0, np.cumsum(sizes)]
    together = learner.client_gradients(w, x, y, offsets)
    loop = [learner.gradient(w, x[a:b], y[a:b]) for a, b in pairwise(offsets)]
    np.testing.assert_allclose(together, loop, rtol=1e-10, atol=1e-13)
    mean = np.array(sizes) @ together / sum(sizes)
    np.testing.assert_allclose(mean, learner.gradient(w, x, y), rtol=1e-10, atol=1e-13)


@given(st.integers(1, 5), st.integers(1, 6), hiddens, st.booleans(), seeds)
@settings(deadline=None)
def test_client_batch_gradients_equal_a_loop_over_clients(clients, m, hidden, decay, seed):
    learner = MLP(3, 4, hidden, 0.2 * decay)
    rng = np.random.default_rng(seed)
    W, x = rng.normal(size=(clients, learner.size)), rng.random((clients, m, 3))
    y = rng.integers(0, 4, (clients, m))
    together = learner.client_batch_gradients(W, x, y)
    loop = [learner.gradient(W[k], x[k], y[k]) for k in range(clients)]
    np.testing.assert_allclose(together, loop, rtol=1e-10, atol=1e-13)


@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), hiddens, seeds, st.randoms())
@settings(deadline=None)
def test_permuting_clients_permutes_rows(sizes, hidden, seed, random):
    learner, w, x, y = case(hidden, samples=sum(sizes), seed=seed)
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    order = list(range(len(sizes)))
    random.shuffle(order)
    rows = np.concatenate([parts[k] for k in order])
    moved = np.r_[0, np.cumsum([sizes[k] for k in order])]
    straight = learner.client_gradients(w, x, y, np.r_[0, np.cumsum(sizes)])
    permuted = learner.client_gradients(w, x[rows], y[rows], moved)
    np.testing.assert_allclose(permuted, straight[order], rtol=1e-10, atol=1e-13)


def test_huge_logits_neither_overflow_nor_lose_the_loss():
    learner = SoftmaxRegression(1, 3)
    w = np.array([0.0, 0.0, 0.0, 1e4, 0.0, -1e4])  # z = b = (1e4, 0, -1e4) for every x
    x = np.array([[1.0]])
    for label, loss in enumerate((0.0, 1e4, 2e4)):
        assert learner.loss(w, x, np.array([label])) == loss
    np.testing.assert_array_equal(
        learner.gradient(w, x, np.array([2])), [1.0, 0.0, -1.0, 1.0, 0.0, -1.0]
    )


def test_sizes():
    assert SoftmaxRegression(64, 10).size == 650
    assert MLP(64, 10).size == 64 * 32 + 32 + 32 * 10 + 10
    assert MLP(5, 2, (3, 4)).widths == (5, 3, 4, 2)
    assert MLP(5, 2, (3, 4)).size == 6 * 3 + 4 * 4 + 5 * 2


def test_softmax_regression_starts_at_log_of_the_classes():
    learner = SoftmaxRegression(4, 7, l2=1.0)
    w = learner.init(np.random.default_rng(0))
    x, y = np.random.default_rng(1).random((5, 4)), np.arange(5)
    assert learner.loss(w, x, y) == pytest.approx(np.log(7), rel=1e-15)


def test_network_starts_with_he_weights_and_no_bias():
    learner = MLP(400, 10, (300,))
    w = learner.init(np.random.default_rng(0))
    first, second = w[: 400 * 300].var(), w[401 * 300 : -10].var()
    # The variance of n normal numbers has a relative deviation of sqrt(2 / n).
    assert first == pytest.approx(2 / 400, rel=5 * np.sqrt(2 / 120_000))
    assert second == pytest.approx(2 / 300, rel=5 * np.sqrt(2 / 3_000))
    x, y = np.zeros((1, 400)), np.array([3])  # without biases, x = 0 says nothing
    assert learner.loss(w, x, y) == pytest.approx(np.log(10), rel=1e-15)


def test_predict_and_accuracy_by_hand():
    learner = SoftmaxRegression(2, 2)
    w = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])  # W = I, b = 0: the larger feature wins
    x = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.5], [0.5, 0.5]])
    assert learner.predict(w, x).tolist() == [0, 1, 0, 0]
    assert learner.accuracy(w, x, np.array([0, 1, 1, 0])) == 0.75


def test_inputs_stay_and_the_samples_decide_the_precision():
    learner, w, x, y = case((4,))
    copies = [v.copy() for v in (w, x, y)]
    offsets = np.array([0, 2, 6])
    rows = learner.client_gradients(w, x, y, offsets)
    learner.gradient(w, x, y)
    learner.loss(w, x, y)
    learner.client_batch_gradients(w[None], x[None], y[None])
    for before, after in zip(copies, (w, x, y)):
        np.testing.assert_array_equal(before, after)
    assert rows.dtype == np.float64
    single = learner.gradient(w, x.astype(np.float32), y)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, learner.gradient(w, x, y), rtol=1e-4, atol=1e-6)


def test_by_name():
    assert by_name("softmax", 4, 3, l2=0.1) == SoftmaxRegression(4, 3, 0.1)
    assert by_name("mlp", 4, 3, hidden=(8, 8), l2=0.1) == MLP(4, 3, (8, 8), 0.1)
    with pytest.raises(ValueError, match="learner='rnn'"):
        by_name("rnn", 4, 3)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"features": 0}, "features=0"),
        ({"classes": 1}, "classes=1"),
        ({"hidden": (3, 0)}, r"hidden\[1\]=0"),
        ({"hidden": (2.5,)}, r"hidden\[0\]=2.5"),
        ({"l2": -0.1}, "l2=-0.1"),
        ({"l2": float("nan")}, "l2=nan"),
    ],
)
def test_bad_settings(settings_, message):
    with pytest.raises(ValueError, match=message):
        MLP(**({"features": 3, "classes": 2} | settings_))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, x, y: (w[:-1], x, y), "w has shape"),
        (lambda w, x, y: (w, x[:, :2], y), "x has shape"),
        (lambda w, x, y: (w, x[:-1], y), "x has shape"),
        (lambda w, x, y: (w, x[:0], y[:0]), "y has shape"),
        (lambda w, x, y: (w, x, y.astype(float)), "y has shape"),
        (lambda w, x, y: (w, x, y + 3), "y has values"),
        (lambda w, x, y: (w, x, y - 3), "y has values"),
    ],
)
def test_bad_arrays(change, message):
    learner, *arrays = case()
    arguments = change(*arrays)
    for method in (learner.loss, learner.gradient, learner.accuracy):
        with pytest.raises(ValueError, match=message):
            method(*arguments)
    with pytest.raises(ValueError, match=message):
        learner.client_batch_gradients(*(v[None] for v in arguments))


@pytest.mark.parametrize(
    "offsets", [[0, 0, 6], [1, 6], [0, 5], [0, 7], [0], [0.0, 6.0], [0, 4, 2, 6]]
)
def test_bad_offsets(offsets):
    learner, w, x, y = case()
    with pytest.raises(ValueError, match="offsets"):
        learner.client_gradients(w, x, y, offsets)
