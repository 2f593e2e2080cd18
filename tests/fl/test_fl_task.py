"""Tasks: updates are the gradients of local training, written out as loops."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rralloc.fl.data import Dataset, load_digits
from rralloc.fl.learners import MLP, SoftmaxRegression
from rralloc.fl.partition import dirichlet
from rralloc.fl.streams import Streams
from rralloc.fl.task import Task


def synthetic(sizes, features=4, classes=3, seed=0):
    """A data set and interleaved clients of the given sizes."""
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    x, y = rng.random((n + 5, features)), rng.integers(0, classes, n + 5)
    data = Dataset("synthetic", x[:n], y[:n], x[n:], y[n:], classes)
    groups = np.split(rng.permutation(n), np.cumsum(sizes)[:-1])
    return data, tuple(groups)


def task(sizes=(3, 1, 7), hidden=(5,), seed=0, **options):
    data, clients = synthetic(sizes, seed=seed)
    learner = MLP(4, 3, hidden, l2=0.01)
    return Task(data, clients, learner, **({"learning_rate": 0.3} | options))


def weights(t, seed=1):
    return np.random.default_rng(seed).normal(size=t.learner.size)


def locally_trained(t, w):
    """Every client's weights after E full-batch steps, the plain way."""
    result = []
    for part in t.clients:
        local = w.copy()
        for _ in range(t.local_steps):
            x, y = t.dataset.train_x[part], t.dataset.train_y[part]
            local = local - t.learning_rate * t.learner.gradient(local, x, y)
        result.append(local)
    return np.array(result)


def test_sizes_and_shares():
    t = task((3, 1, 6))
    assert t.clients_count == 3
    assert t.samples.tolist() == [3, 1, 6]
    np.testing.assert_allclose(t.share, [0.3, 0.1, 0.6], rtol=1e-15)


@given(st.lists(st.integers(1, 8), min_size=1, max_size=5), st.integers(1, 3), st.integers(0, 999))
@settings(deadline=None)
def test_updates_are_the_way_walked_over_the_learning_rate(sizes, steps, seed):
    t = task(sizes, seed=seed, local_steps=steps)
    w = weights(t, seed)
    updates = t.updates(w)
    np.testing.assert_allclose(
        updates, (w - locally_trained(t, w)) / t.learning_rate, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("steps", [1, 4])
def test_the_weighted_step_is_federated_averaging(steps):
    t = task(local_steps=steps)
    w = weights(t)
    averaged = np.average(locally_trained(t, w), axis=0, weights=t.samples)
    step = w - t.learning_rate * t.share @ t.updates(w)
    np.testing.assert_allclose(step, averaged, rtol=1e-12, atol=1e-13)


def test_one_full_step_is_gradient_descent_on_the_whole_set():
    t = task()
    w = weights(t)
    whole = t.learner.gradient(w, t.dataset.train_x, t.dataset.train_y)
    np.testing.assert_allclose(t.share @ t.updates(w), whole, rtol=1e-12, atol=1e-14)


def test_minibatches_come_from_the_client_alone():
    # All samples of a client are equal, so any minibatch of its own has its full gradient.
    rng = np.random.default_rng(0)
    owner = np.array([0, 1, 2, 1, 2, 2, 0, 2])
    x, y = rng.random((3, 4))[owner], np.array([0, 2, 1])[owner]
    data = Dataset("equal", x, y, x, y, 3)
    clients = tuple(np.flatnonzero(owner == k) for k in range(3))
    full = Task(data, clients, MLP(4, 3, (5,)), 0.3, local_steps=3)
    drawn = replace(full, batch_size=5)
    w = weights(full)
    np.testing.assert_allclose(
        drawn.updates(w, np.random.default_rng(0)), full.updates(w), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("steps", [1, 3])
def test_a_clients_minibatches_do_not_depend_on_the_others(steps):
    t = task((4, 6, 9, 5), local_steps=steps, batch_size=3)
    a, b, c, d = t.clients
    others = replace(t, clients=(a, b, np.r_[c, d]))
    w = weights(t)
    one = t.updates(w, np.random.default_rng(2))
    two = others.updates(w, np.random.default_rng(2))
    np.testing.assert_allclose(one[:2], two[:2], rtol=1e-12, atol=1e-14)
    assert not np.allclose(one[2], two[2])


def test_minibatch_gradients_are_unbiased_with_the_variance_of_drawing_with_replacement():
    m, repeats = 4, 4000
    t = task((3, 12), batch_size=m)
    w = weights(t)
    rng = np.random.default_rng(0)
    draws = np.array([t.updates(w, rng) for _ in range(repeats)])
    for k, part in enumerate(t.clients):
        each = np.array(
            [t.learner.gradient(w, t.dataset.train_x[[i]], t.dataset.train_y[[i]]) for i in part]
        )
        variance = each.var(axis=0).sum() / m
        distance = np.sum((draws[:, k].mean(axis=0) - each.mean(axis=0)) ** 2)
        assert distance < 10 * variance / repeats
        spread = np.sum((draws[:, k] - each.mean(axis=0)) ** 2, axis=1)
        assert spread.mean() == pytest.approx(variance, abs=5 * spread.std() / np.sqrt(repeats))


def test_every_step_draws_a_new_minibatch():
    t = task((40,), local_steps=2, batch_size=1, learning_rate=1e-12)
    rng = np.random.default_rng(0)
    w = weights(t)
    each = [
        t.learner.gradient(w, t.dataset.train_x[[i]], t.dataset.train_y[[i]]) for i in range(40)
    ]
    # At a vanishing rate an update is g_i + g_j; the same batch twice would always give 2 g_i.
    doubled = 2 * np.array(each)
    hits = sum(
        np.isclose(doubled, t.updates(w, rng), rtol=1e-7).all(axis=1).any() for _ in range(50)
    )
    assert hits < 15  # Binomial(50, 1/40) when drawn anew


def test_full_batches_leave_the_generator_alone():
    rng = np.random.default_rng(0)
    t = task(local_steps=2)
    t.updates(weights(t), rng)
    assert rng.random() == np.random.default_rng(0).random()


def test_evaluation_is_test_accuracy_and_global_loss():
    t = task()
    w = weights(t)
    accuracy, loss = t.evaluate(w)
    right = t.learner.predict(w, t.dataset.test_x) == t.dataset.test_y
    assert accuracy == right.sum() / 5
    parts = [t.learner.loss(w, t.dataset.train_x[p], t.dataset.train_y[p]) for p in t.clients]
    assert loss == pytest.approx(np.average(parts, weights=t.samples), rel=1e-12)


def test_weights_and_indices_stay_and_samples_cannot_be_written():
    data, clients = synthetic((3, 4))
    before = [c.copy() for c in clients]
    t = Task(data, clients, SoftmaxRegression(4, 3), 0.1, local_steps=2, batch_size=2)
    w = weights(t)
    copy = w.copy()
    t.updates(w, np.random.default_rng(0))
    np.testing.assert_array_equal(w, copy)
    for a, b in zip(before, clients):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="read-only"):
        t.samples[0] = 9


def test_digits_is_built_from_the_named_streams():
    t = Task.digits(6, "dirichlet", alpha=0.3, seed=4, l2=0.01)
    data = load_digits(Streams(4).rng("data"))
    parts = dirichlet(data.train_y, 6, Streams(4).rng("partition"), alpha=0.3)
    np.testing.assert_array_equal(t.dataset.train_x, data.train_x)
    assert all(np.array_equal(a, b) for a, b in zip(t.clients, parts, strict=True))
    assert t.learner == SoftmaxRegression(64, 10, 0.01)


@pytest.mark.parametrize("partition", ["iid", "dirichlet", "shards"])
@pytest.mark.parametrize("learner", ["softmax", "mlp"])
def test_digits_pass_every_option_on(partition, learner):
    t = Task.digits(
        5,
        partition,
        learner=learner,
        hidden=(6,),
        learning_rate=0.2,
        local_steps=2,
        batch_size=8,
        test_share=0.3,
    )
    assert t.learner == (SoftmaxRegression(64, 10) if learner == "softmax" else MLP(64, 10, (6,)))
    assert (t.learning_rate, t.local_steps, t.batch_size) == (0.2, 2, 8)
    assert len(t.dataset.test_y) == pytest.approx(0.3 * 1797, abs=5)
    assert partition in t.name
    assert learner in t.name


def test_seeds_change_the_split_but_not_the_samples():
    one, two = Task.digits(seed=0), Task.digits(seed=1)
    assert one.samples.sum() == two.samples.sum()
    assert one.samples.tolist() != two.samples.tolist()


def test_descent_lemma_holds_at_one_over_the_smoothness_constant():
    # Softmax regression: L <= 1/2 lambda_max(X^T X / n) with X = [x, 1] (Boehning, 1992).
    t = Task.digits()
    x = np.column_stack([t.dataset.train_x, np.ones(len(t.dataset.train_y))])
    smoothness = 0.5 * np.linalg.eigvalsh(x.T @ x / len(x))[-1]
    w = t.learner.init(Streams(0).rng("init"))
    loss = t.evaluate(w).train_loss
    for _ in range(30):
        step = t.share @ t.updates(w)
        w = w - step / smoothness
        after = t.evaluate(w).train_loss
        assert after <= loss - 0.5 / smoothness * step @ step + 1e-12
        loss = after


@pytest.mark.parametrize("learner", ["softmax", "mlp"])
def test_digits_are_learnt_at_the_default_rate(learner):
    t = Task.digits(learner=learner)
    w = t.learner.init(Streams(0).rng("init"))
    for _ in range(100):
        w = w - t.learning_rate * t.share @ t.updates(w)
    assert t.evaluate(w).test_accuracy > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"local_steps": 0}, "local_steps=0"),
        ({"local_steps": 1.5}, "local_steps=1.5"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"clients": ()}, "clients="),
        ({"clients": (np.array([0]), np.array([], dtype=int))}, r"clients\[1\] has shape"),
        ({"clients": (np.array([0.0]),)}, r"clients\[0\] has shape"),
        ({"clients": (np.array([0, 11]),)}, r"clients\[0\] has indices"),
        ({"clients": (np.array([-1]),)}, r"clients\[0\] has indices"),
        ({"clients": (np.array([0, 1]), np.array([1]))}, "share a training sample"),
    ],
)
def test_bad_settings(options, message):
    good = task()
    with pytest.raises(ValueError, match=message):
        replace(good, **options)


def test_bad_weights_and_missing_generator():
    t = task(batch_size=2)
    with pytest.raises(ValueError, match="rng=None with batch_size=2"):
        t.updates(weights(t))
    for steps in (1, 2):
        with pytest.raises(ValueError, match="w has shape"):
            task(local_steps=steps).updates(weights(t)[:-1])
    with pytest.raises(ValueError, match="w has shape"):
        t.evaluate(weights(t)[:-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"partition": "random"}, "partition='random'"), ({"learner": "rnn"}, "learner='rnn'")],
)
def test_bad_names(options, message):
    with pytest.raises(ValueError, match=message):
        Task.digits(**options)
