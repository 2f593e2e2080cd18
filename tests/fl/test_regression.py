"""`MLPRegression` against a loop in complex arithmetic, finite differences and sums by hand."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rralloc.fl.learners import MLP, MLPRegression, mean_displacement

hiddens = st.lists(st.integers(1, 5), max_size=3).map(tuple)
seeds = st.integers(0, 2**32)


def case(hidden=(4,), features=3, outputs=4, samples=6, l2=0.1, seed=0):
    rng = np.random.default_rng(seed)
    learner = MLPRegression(features, outputs, hidden, l2)
    w = rng.normal(size=learner.size)
    return learner, w, rng.normal(size=(samples, features)), rng.normal(size=(samples, outputs))


def outputs_of(learner, w, row):
    """z of one sample, unit by unit; also for complex w. And the sum of squared weights."""
    a, first, squares = list(row), 0, 0.0
    for number, (fan_in, fan_out) in enumerate(pairwise(learner.widths)):
        matrix = w[first : first + fan_in * fan_out]
        bias = w[first + fan_in * fan_out : first + (fan_in + 1) * fan_out]
        z = [
            sum(a[i] * matrix[i * fan_out + j] for i in range(fan_in)) + bias[j]
            for j in range(fan_out)
        ]
        squares += sum(u**2 for u in matrix)
        first += (fan_in + 1) * fan_out
        a = z if number == len(learner.hidden) else [u if u.real > 0 else 0.0 for u in z]
    assert first == len(w)
    return a, squares


def oracle_loss(learner, w, x, y):
    total = 0.0
    for row, answer in zip(x, y):
        z, squares = outputs_of(learner, w, row)
        points = len(answer) // 2
        far = sum(
            (z[2 * h] - answer[2 * h]) ** 2 + (z[2 * h + 1] - answer[2 * h + 1]) ** 2
            for h in range(points)
        )
        total += far / points / 2
    return total / len(y) + 0.5 * learner.l2 * squares


@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)])
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_loss_and_gradient_equal_the_loop_and_its_complex_step(hidden, l2):
    for seed in range(3):
        learner, w, x, y = case(hidden, l2=l2, seed=seed)
        assert learner.loss(w, x, y) == pytest.approx(oracle_loss(learner, w, x, y), rel=1e-12)
        slopes = np.empty(len(w))
        for i in range(len(w)):
            moved = w.astype(complex)
            moved[i] += 1e-30j
            slopes[i] = oracle_loss(learner, moved, x, y).imag / 1e-30
        np.testing.assert_allclose(learner.gradient(w, x, y), slopes, rtol=1e-11, atol=1e-13)


@given(hiddens, st.integers(1, 3), st.booleans(), seeds)
@settings(deadline=None, max_examples=30)
def test_gradient_equals_central_differences(hidden, points, decay, seed):
    learner, w, x, y = case(hidden, outputs=2 * points, l2=0.2 * decay, seed=seed)
    v = np.random.default_rng(seed + 1).normal(size=len(w))
    v /= np.linalg.norm(v)
    h = 1e-6
    slope = (learner.loss(w + h * v, x, y) - learner.loss(w - h * v, x, y)) / (2 * h)
    # Only a kink of a ReLU within h of w could part them; w is random.
    assert learner.gradient(w, x, y) @ v == pytest.approx(slope, rel=1e-4, abs=1e-4)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), hiddens, st.booleans(), seeds)
@settings(deadline=None)
def test_client_gradients_equal_a_loop_over_clients(sizes, hidden, decay, seed):
    learner, w, x, y = case(hidden, samples=sum(sizes), l2=0.2 * decay, seed=seed)
    offsets = np.r_[0, np.cumsum(sizes)]
    together = learner.client_gradients(w, x, y, offsets)
    loop = [learner.gradient(w, x[a:b], y[a:b]) for a, b in pairwise(offsets)]
    np.testing.assert_allclose(together, loop, rtol=1e-10, atol=1e-12)
    a = np.random.default_rng(seed).random(len(sizes))
    weight = np.repeat(a / sizes, sizes)
    at_once = learner.weighted_gradient(w, x, y, weight)
    np.testing.assert_allclose(at_once, a @ together, rtol=1e-10, atol=1e-11)


@given(st.integers(1, 5), st.integers(1, 6), hiddens, st.booleans(), seeds)
@settings(deadline=None)
def test_client_batch_gradients_equal_a_loop_over_clients(clients, m, hidden, decay, seed):
    learner = MLPRegression(3, 2, hidden, 0.2 * decay)
    rng = np.random.default_rng(seed)
    W, x = rng.normal(size=(clients, learner.size)), rng.normal(size=(clients, m, 3))
    y = rng.normal(size=(clients, m, 2))
    together = learner.client_batch_gradients(W, x, y)
    loop = [learner.gradient(W[k], x[k], y[k]) for k in range(clients)]
    np.testing.assert_allclose(together, loop, rtol=1e-10, atol=1e-12)


def test_linear_regression_reaches_least_squares():
    learner, w, x, y = case((), samples=40, l2=0.0)
    known = np.hstack([x, np.ones((40, 1))])
    best = np.linalg.lstsq(known, y, rcond=None)[0].ravel()
    np.testing.assert_allclose(learner.gradient(best, x, y), 0.0, atol=1e-13)
    assert learner.loss(best, x, y) < learner.loss(w, x, y)


def test_displacement_by_hand():
    learner = MLPRegression(2, 4, (), unit=10.0)
    w = np.zeros(learner.size)
    w[-4:] = [3.0, 4.0, 0.0, 0.0]  # the bias: z = (3, 4, 0, 0) for every x
    x, y = np.zeros((2, 2)), np.array([[0.0, 0, 0, 0], [3.0, 4, 5, 12]])
    assert learner.displacement(w, x, y) == pytest.approx(10 * (5 + 0 + 0 + 13) / 4, rel=1e-15)
    assert learner.accuracy(w, x, y) == -learner.displacement(w, x, y)
    assert learner.loss(w, x, y) == pytest.approx((25 + 169) / 2 / 4, rel=1e-15)
    np.testing.assert_array_equal(learner.predict(w, x), [[3.0, 4, 0, 0]] * 2)
    assert mean_displacement(learner.predict(w, x), y) == pytest.approx(4.5, rel=1e-15)


def test_right_weights_have_neither_loss_nor_slope():
    learner, w, x, _ = case(l2=0.0)
    y = learner.predict(w, x)
    assert learner.loss(w, x, y) == learner.displacement(w, x, y) == 0.0
    assert not learner.gradient(w, x, y).any()


def test_sizes_and_start():
    assert MLPRegression(20, 20).size == 2644
    assert MLPRegression(5, 2, (3, 4)).widths == (5, 3, 4, 2)
    start = MLPRegression(5, 4, (7,)).init(np.random.default_rng(3))
    np.testing.assert_array_equal(start, MLP(5, 4, (7,)).init(np.random.default_rng(3)))


def test_inputs_stay_and_the_samples_decide_the_precision():
    learner, w, x, y = case()
    copies = [v.copy() for v in (w, x, y)]
    offsets, weight = np.array([0, 2, 6]), np.full(6, 0.5)
    single = x.astype(np.float32)
    for fast, exact in (
        (learner.gradient(w, single, y), learner.gradient(w, x, y)),
        (
            learner.client_gradients(w, single, y, offsets),
            learner.client_gradients(w, x, y, offsets),
        ),
        (
            learner.client_batch_gradients(w[None], single[None], y[None]),
            learner.client_batch_gradients(w[None], x[None], y[None]),
        ),
        (
            learner.weighted_gradient(w, single, y, weight),
            learner.weighted_gradient(w, x, y, weight),
        ),
        (learner.predict(w, single), learner.predict(w, x)),
    ):
        assert (fast.dtype, exact.dtype) == (np.float32, np.float64)
        np.testing.assert_allclose(fast, exact, rtol=1e-4, atol=1e-5)
    for before, after in zip(copies, (w, x, y)):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 0}, "features=0"),
        ({"outputs": 0}, "outputs=0"),
        ({"outputs": 3}, "outputs=3 is odd"),
        ({"hidden": (3, 0)}, r"hidden\[1\]=0"),
        ({"l2": -0.1}, "l2=-0.1"),
        ({"unit": 0.0}, "unit=0.0"),
        ({"unit": float("nan")}, "unit=nan"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        MLPRegression(**({"features": 3, "outputs": 2} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, x, y: (w[:-1], x, y), "w has shape"),
        (lambda w, x, y: (w, x[:, :2], y), "x has shape"),
        (lambda w, x, y: (w, x[:-1], y), "x has shape"),
        (lambda w, x, y: (w, x[:0], y[:0]), "y has shape"),
        (lambda w, x, y: (w, x, y[:, :2]), "y has shape"),
        (lambda w, x, y: (w, x, y[:, 0]), "y has shape"),
        (lambda w, x, y: (w, x, y.astype(str)), "y has shape"),
        (lambda w, x, y: (w, x, y + np.nan), "not finite"),
    ],
)
def test_bad_arrays(change, message):
    learner, *arrays = case()
    arguments = change(*arrays)
    for method in (learner.loss, learner.gradient, learner.accuracy, learner.displacement):
        with pytest.raises(ValueError, match=message):
            method(*arguments)
    with pytest.raises(ValueError, match=message):
        learner.client_batch_gradients(*(v[None] for v in arguments))


def test_bad_weight():
    learner, w, x, y = case()
    with pytest.raises(ValueError, match=r"weight has shape \(6, 4\); pass \(6,\)"):
        learner.weighted_gradient(w, x, y, np.ones((6, 4)))
