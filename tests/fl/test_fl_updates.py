"""Local steps against a plain loop, and weighted sums against the rows they never make."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rralloc.fl import Dataset, SoftmaxRegression, Task
from rralloc.fl.learners import MLP
from rralloc.fl.updates import Updates, clipped

SIZES = (3, 1, 7, 4)


def make(hidden=(4,), sizes=SIZES, seed=0, dtype=np.float64, **options):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    data = Dataset(
        "toy",
        rng.random((n, 5)).astype(dtype),
        rng.integers(0, 3, n),
        rng.random((6, 5)).astype(dtype),
        rng.integers(0, 3, 6),
        3,
    )
    parts = tuple(np.split(rng.permutation(n), np.cumsum(sizes)[:-1]))
    return Task(data, parts, MLP(5, 3, hidden, l2=0.01), 0.3, **options)


def by_hand(task, w, rng, steps):
    """One client after another, one step after another, as the formulas say."""
    rows = []
    size = len(task.clients), task.batch_size or 1
    draws = [g.random(size) for g in (rng, *rng.spawn(steps - 1))] if rng else None
    for k, mine in enumerate(task.clients):
        x, y = task.dataset.train_x[mine], task.dataset.train_y[mine]
        local, velocity = w.copy(), np.zeros_like(w)
        for e in range(steps):
            if task.batch_size is None:
                g = task.learner.gradient(local, x, y)
            else:
                chosen = np.floor(draws[e][k] * len(mine)).astype(int)
                g = task.learner.gradient(local, x[chosen], y[chosen])
            if task.clip_norm is not None and np.linalg.norm(g) > task.clip_norm:
                g = g * (task.clip_norm / np.linalg.norm(g))
            g = g + task.weight_decay * local
            velocity = task.momentum * velocity + g
            local = local - task.learning_rate * velocity
        rows.append((w - local) / task.learning_rate)
    return np.array(rows)


CASES = {
    "one step": {},
    "steps": {"local_steps": 3},
    "batches": {"batch_size": 2},
    "everything": {
        "local_steps": 4,
        "batch_size": 3,
        "momentum": 0.8,
        "weight_decay": 0.05,
        "clip_norm": 0.4,
    },
    "full batches, everything": {
        "local_steps": 2,
        "momentum": 0.5,
        "weight_decay": 0.1,
        "clip_norm": 0.2,
    },
    "clipping alone": {"clip_norm": 0.1},
    "decay alone": {"weight_decay": 0.2},
}


def rng_of(task):
    return None if task.batch_size is None else np.random.default_rng(5)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_updates_are_the_loop(options):
    task = make(**options)
    w = task.learner.init(np.random.default_rng(1))
    expected = by_hand(task, w, rng_of(task), task.local_steps)
    np.testing.assert_allclose(task.updates(w, rng_of(task)), expected, atol=1e-12)
    more = by_hand(task, w, rng_of(task), 5)
    np.testing.assert_allclose(task.updates(w, rng_of(task), 5), more, atol=1e-12)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
@pytest.mark.parametrize("block", [1, 100, 10**9])
def test_weighted_sums_are_those_of_the_rows(options, block, monkeypatch):
    monkeypatch.setattr("rralloc.fl.updates.BLOCK", block)
    task = make(**options)
    w = task.learner.init(np.random.default_rng(1))
    rows = task.updates(w, rng_of(task))
    weight = np.array([0.5, -1.0, 0.0, 2.0])
    updates = Updates(task, w, rng_of(task))
    np.testing.assert_allclose(weight @ updates, weight @ rows, atol=1e-12)
    for some in (np.array([True, False, False, True]), np.array([False] * 3 + [True])):
        part = updates[some]
        assert part.shape == (some.sum(), w.size)
        np.testing.assert_allclose(weight[some] @ part, weight[some] @ rows[some], atol=1e-12)
    nobody = np.zeros(4, dtype=bool)
    assert (weight[nobody] @ updates[nobody] == 0).all()
    assert "rows" not in updates.__dict__, "a weighted sum made all rows"
    np.testing.assert_allclose(np.asarray(updates), rows, atol=1e-12)
    np.testing.assert_allclose(weight @ updates, weight @ rows, atol=1e-12)


def test_clients_that_are_not_asked_are_not_computed(monkeypatch):
    task = make(local_steps=2)
    w = task.learner.init(np.random.default_rng(1))
    seen = []
    real = MLP.gradient

    def gradient(self, w, x, y):
        seen.append(len(y))
        return real(self, w, x, y)

    monkeypatch.setattr(MLP, "gradient", gradient)
    chosen = np.array([False, False, True, False])
    np.ones(1) @ Updates(task, w, None)[chosen]
    assert seen == [SIZES[2]] * 2


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    batch=st.none() | st.integers(1, 4),
    steps=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_any_split_any_batch(sizes, batch, steps, seed):
    task = make(sizes=tuple(sizes), batch_size=batch, local_steps=steps, seed=seed)
    w = task.learner.init(np.random.default_rng(seed))
    rng = [None if batch is None else np.random.default_rng(3) for _ in range(2)]
    np.testing.assert_allclose(task.updates(w, rng[0]), by_hand(task, w, rng[1], steps), atol=1e-12)


def test_no_step_beyond_the_first_needs_momentum():
    plain, heavy = make(), make(momentum=0.9)
    w = plain.learner.init(np.random.default_rng(1))
    np.testing.assert_array_equal(plain.updates(w), heavy.updates(w))


def test_clipping():
    rows = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    expected = [[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]
    np.testing.assert_allclose(clipped(rows, 1.0), expected, rtol=1e-15)
    assert clipped(rows, None) is rows


def test_single_precision_is_near_and_marked():
    task = make(local_steps=2, momentum=0.5)
    single = dataclasses.replace(task, precision="single")
    w = task.learner.init(np.random.default_rng(1))
    rows = single.updates(w)
    assert (task.dtype, single.dtype, rows.dtype) == (np.float64, np.float32, np.float32)
    np.testing.assert_allclose(rows, task.updates(w), atol=1e-5)
    weight = np.ones(4)
    assert (weight @ Updates(single, w, None)).dtype == np.float64
    assert make(dtype=np.float32).dtype == np.float32
    assert make(dtype=np.float32, precision="double").updates(w).dtype == np.float64


@pytest.mark.parametrize(
    "wrong",
    [
        {"momentum": 1.0},
        {"server_momentum": -0.1},
        {"weight_decay": -1.0},
        {"weight_decay": np.inf},
        {"clip_norm": 0.0},
        {"clip_norm": np.nan},
        {"precision": "half"},
    ],
    ids=str,
)
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make(**wrong)


def test_weighted_gradients_refuse_other_lengths():
    learner = SoftmaxRegression(2, 2)
    with pytest.raises(ValueError, match="one per sample"):
        learner.weighted_gradient(np.zeros(6), np.zeros((3, 2)), np.zeros(3, int), np.ones(2))


def test_losses_and_gradients_of_clients_at_their_own_weights():
    task = make()
    rng = np.random.default_rng(2)
    W = rng.normal(size=(4, task.learner.size))
    for k, mine in enumerate(task.clients):
        x, y = task.dataset.train_x[mine], task.dataset.train_y[mine]
        assert task.client_losses(W)[k] == pytest.approx(task.learner.loss(W[k], x, y))
        assert task.client_losses(W[0])[k] == pytest.approx(task.learner.loss(W[0], x, y))
        own = task.learner.gradient(W[k], x, y)
        np.testing.assert_allclose(task.client_gradients(W)[k], own, atol=1e-13)
        np.testing.assert_allclose(
            task.client_gradients(W[0])[k], task.learner.gradient(W[0], x, y), atol=1e-13
        )
