"""Partitions: disjoint, complete, no client empty, and the skew the formulas promise."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rralloc.fl.partition import by_name, dirichlet, iid, label_counts, shards

label_lists = st.lists(st.integers(0, 5), min_size=1, max_size=80).map(np.array)
seeds = st.integers(0, 2**32)


def check(parts, samples, clients):
    assert len(parts) == clients
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(samples))
    for part in parts:
        assert part.dtype == np.int64
        assert len(part) >= 1
        assert np.all(np.diff(part) > 0)


def same(one, two):
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@given(label_lists, st.integers(1, 20), seeds)
def test_iid_is_a_partition_of_equal_sizes(labels, clients, seed):
    assume(clients <= len(labels))
    parts = iid(labels, clients, np.random.default_rng(seed))
    check(parts, len(labels), clients)
    assert {len(p) for p in parts} <= {len(labels) // clients, -(-len(labels) // clients)}


@given(label_lists, st.integers(1, 12), st.integers(1, 4), st.floats(1e-8, 1e8), seeds)
@settings(deadline=None)
def test_dirichlet_is_a_partition_with_the_least_size(labels, clients, least, alpha, seed):
    assume(clients * least <= len(labels))
    rng = np.random.default_rng(seed)
    parts = dirichlet(labels, clients, rng, alpha=alpha, min_samples=least)
    check(parts, len(labels), clients)
    assert min(len(p) for p in parts) >= least


@given(label_lists, st.integers(1, 8), st.integers(1, 5), seeds)
def test_shards_are_a_partition_of_nearly_equal_sizes(labels, clients, each, seed):
    assume(clients * each <= len(labels))
    parts = shards(labels, clients, np.random.default_rng(seed), shards_per_client=each)
    check(parts, len(labels), clients)
    block = len(labels) // (clients * each)
    assert all(each * block <= len(p) <= each * (block + 1) for p in parts)


@given(label_lists, st.sampled_from(["iid", "dirichlet", "shards"]), seeds)
def test_equal_generators_give_equal_partitions_and_labels_stay(labels, kind, seed):
    before = labels.copy()
    assume(len(labels) >= 4)
    clients = len(labels) // 4
    first = by_name(kind, labels, clients, np.random.default_rng(seed))
    second = by_name(kind, labels, clients, np.random.default_rng(seed))
    assert same(first, second)
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "shards"])
def test_another_generator_gives_another_partition(kind):
    labels = np.arange(400) % 10
    one, two = (by_name(kind, labels, 5, np.random.default_rng(s)) for s in (0, 1))
    assert not same(one, two)


@pytest.mark.parametrize("alpha", [0.05, 0.5, 5.0])
def test_dirichlet_concentration_has_its_expected_value(alpha):
    clients, classes, each = 6, 400, 500
    labels = np.repeat(np.arange(classes), each)
    parts = dirichlet(labels, clients, np.random.default_rng(0), alpha=alpha)
    shares = label_counts(parts, labels, classes) / each
    concentration = (shares**2).sum(axis=0)
    expected = (alpha + 1) / (clients * alpha + 1)
    error = concentration.std() / np.sqrt(classes)
    # Cutting 500 samples at whole numbers adds at most 2/500 to a sum of squares.
    assert abs(concentration.mean() - expected) < 5 * error + 2 / each


def test_dirichlet_treats_all_clients_alike():
    labels = np.repeat(np.arange(3000), 20)
    parts = dirichlet(labels, 4, np.random.default_rng(1), alpha=1.0)
    share = np.array([len(p) for p in parts]) / len(labels)
    # One class: Var p_k = (1/4)(3/4)/(4 + 1) = 0.0375. Cutting with floor moves at most 1/20
    # from the first client to the last, on average 1/40.
    assert np.abs(share - 0.25).max() < 1 / 40 + 5 * np.sqrt(0.0375 / 3000)


def test_dirichlet_in_the_limit_gives_each_class_to_one_client():
    labels = np.repeat(np.arange(50), 10)
    parts = dirichlet(labels, 3, np.random.default_rng(0), alpha=1e-9)
    assert np.count_nonzero(label_counts(parts, labels, 50)) == 50


def test_dirichlet_moves_only_what_is_missing():
    labels = np.zeros(100, dtype=int)  # alpha -> 0: one client draws the whole class
    parts = dirichlet(labels, 10, np.random.default_rng(0), alpha=1e-9, min_samples=3)
    assert sorted(len(p) for p in parts) == [3] * 9 + [73]


def test_dirichlet_with_exactly_enough_samples():
    parts = dirichlet(np.zeros(12, int), 4, np.random.default_rng(0), alpha=0.01, min_samples=3)
    assert [len(p) for p in parts] == [3, 3, 3, 3]


@pytest.mark.parametrize("each", [1, 2, 5])
def test_shards_bound_the_classes_of_a_client(each):
    # 10 classes of 40 samples and 10 * each blocks: every block lies inside one class.
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 40))
    parts = shards(labels, 10, np.random.default_rng(1), shards_per_client=each)
    counts = label_counts(parts, labels, 10)
    assert counts.sum(axis=1).tolist() == [40] * 10
    assert np.count_nonzero(counts, axis=1).max() <= each
    assert set((counts % (40 // each)).ravel()) == {0}


def test_one_shard_is_a_contiguous_block_of_the_sorted_labels():
    labels = np.random.default_rng(2).integers(0, 7, size=91)
    parts = shards(labels, 7, np.random.default_rng(3), shards_per_client=1)
    blocks = sorted(np.sort(labels[p]).tolist() for p in parts)
    expected = sorted(b.tolist() for b in np.split(np.sort(labels), 7))
    assert blocks == expected


@pytest.mark.parametrize(
    "split",
    [
        lambda labels, rng: iid(labels, 2, rng),
        lambda labels, rng: dirichlet(labels, 2, rng, alpha=1e6),
        lambda labels, rng: shards(labels, 2, rng, shards_per_client=1),
    ],
)
def test_samples_of_one_class_are_dealt_in_random_order(split):
    parts = split(np.zeros(200, int), np.random.default_rng(0))
    # The mean of 100 of the indices 0..199 without replacement: 99.5 with deviation 4.1.
    assert all(abs(part.mean() - 99.5) < 5 * 4.1 for part in parts)


@given(label_lists, seeds)
def test_label_counts_equal_a_loop(labels, seed):
    clients = min(4, len(labels))
    parts = iid(labels, clients, np.random.default_rng(seed))
    counts = label_counts(parts, labels, 6)
    for k in range(clients):
        for c in range(6):
            assert counts[k, c] == sum(labels[i] == c for i in parts[k])


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf"), 1e308])
def test_bad_alpha(alpha):
    with pytest.raises(ValueError, match="alpha="):
        dirichlet(np.zeros(50, int), 20, np.random.default_rng(0), alpha=alpha)


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "shards"])
@pytest.mark.parametrize("clients", [0, -1, 2.0, True, 11])
def test_bad_number_of_clients(kind, clients):
    with pytest.raises(ValueError, match=r"clients.*="):
        by_name(kind, np.zeros(10, int), clients, np.random.default_rng(0))


@pytest.mark.parametrize("labels", [np.zeros((4, 2), int), np.zeros(4), ["a", "b"]])
def test_bad_labels(labels):
    with pytest.raises(ValueError, match="labels has"):
        iid(labels, 2, np.random.default_rng(0))


def test_bad_least_size_shards_and_name():
    rng, labels = np.random.default_rng(0), np.zeros(10, int)
    with pytest.raises(ValueError, match="min_samples=0"):
        dirichlet(labels, 2, rng, alpha=1.0, min_samples=0)
    with pytest.raises(ValueError, match=r"clients \* min_samples=12"):
        dirichlet(labels, 3, rng, alpha=1.0, min_samples=4)
    with pytest.raises(ValueError, match="shards_per_client=0"):
        shards(labels, 2, rng, shards_per_client=0)
    with pytest.raises(ValueError, match=r"clients \* shards_per_client=12"):
        shards(labels, 3, rng, shards_per_client=4)
    with pytest.raises(ValueError, match="partition='random'"):
        by_name("random", labels, 2, rng)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_label_counts_refuse_a_label_out_of_range(labels):
    with pytest.raises(ValueError, match="classes=3"):
        label_counts((np.array([0, 1]),), labels, 3)
