"""Data sets: ranges, stratified split, and refusal of unusable arrays."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rralloc.fl.data import Dataset, load_digits, split_dataset, stratified_split
from rralloc.fl.streams import Streams


def small(**changes):
    parts = {
        "name": "small",
        "train_x": np.array([[0.0, 0.5], [1.0, 0.25]]),
        "train_y": np.array([0, 1]),
        "test_x": np.array([[0.5, 0.5]]),
        "test_y": np.array([1]),
        "classes": 2,
    }
    return Dataset(**(parts | changes))


def test_digits_are_scikit_learns_samples_scaled_by_sixteen():
    from sklearn.datasets import load_digits as original

    pixels, labels = original(return_X_y=True)
    data = load_digits(Streams(3).rng("data"))
    got = np.column_stack([np.r_[data.train_y, data.test_y], np.r_[data.train_x, data.test_x]])
    want = np.column_stack([labels, pixels / 16])
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got[np.lexsort(got.T)], want[np.lexsort(want.T)])
    assert (data.features, data.classes, data.train_y.dtype) == (64, 10, np.int64)


def test_digits_default_is_the_data_stream_of_seed_zero():
    default, named = load_digits(), load_digits(Streams(0).rng("data"))
    np.testing.assert_array_equal(default.test_x, named.test_x)
    other = load_digits(Streams(1).rng("data"))
    assert not np.array_equal(other.test_x, named.test_x)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_digits_keep_the_share_of_every_class(share):
    data = load_digits(test_share=share)
    train, test = np.bincount(data.train_y), np.bincount(data.test_y)
    assert np.all(np.abs(test - share * (train + test)) <= 0.5)


@given(
    st.lists(st.integers(2, 30), min_size=1, max_size=6),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32),
)
def test_split_is_a_stratified_partition(class_sizes, share, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(class_sizes)), class_sizes))
    train, test = stratified_split(labels, rng, test_share=share)
    np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(len(labels)))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(test) > 0)
    held = np.bincount(labels[test], minlength=len(class_sizes))
    assert all(1 <= h <= n - 1 for h, n in zip(held, class_sizes))
    assert all(abs(h - share * n) <= 1.0 for h, n in zip(held, class_sizes))


def test_split_takes_every_sample_equally_often():
    labels = np.repeat([0, 1], [10, 20])
    counts = np.zeros(30)
    for seed in range(2000):
        counts[stratified_split(labels, np.random.default_rng(seed), test_share=0.3)[1]] += 1
    # Binomial(2000, 0.3): standard deviation 20.5.
    assert np.abs(counts - 600).max() < 5 * 20.5


def test_split_dataset_counts_classes_and_keeps_rows_with_their_labels():
    x = np.linspace(0, 1, 12)[:, None]
    y = np.arange(12) % 3
    data = split_dataset("rows", x, y, np.random.default_rng(0), test_share=0.25)
    assert (data.name, data.classes, len(data.test_y)) == ("rows", 3, 3)
    np.testing.assert_array_equal(np.round(data.train_x[:, 0] * 11).astype(int) % 3, data.train_y)
    np.testing.assert_array_equal(np.round(data.test_x[:, 0] * 11).astype(int) % 3, data.test_y)


def test_arrays_are_read_only_views_and_inputs_stay_writeable():
    x = np.array([[0.0, 0.5], [1.0, 0.25]])
    data = small(train_x=x)
    with pytest.raises(ValueError, match="read-only"):
        data.train_x[0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        data.train_y[0] = 1
    assert x.flags.writeable


def test_missing_scikit_learn_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        load_digits()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 1}, "classes=1"),
        ({"train_x": np.array([[0.0, 16.0], [0.0, 0.0]])}, "train_x has values"),
        ({"train_x": np.array([[0.0, np.nan], [0.0, 0.0]])}, "train_x has values"),
        ({"test_x": np.array([[-0.1, 0.0]])}, "test_x has values"),
        ({"test_x": np.array([0.5, 0.5])}, "test_x has shape"),
        ({"train_x": np.zeros((0, 2)), "train_y": np.zeros(0, int)}, "train_x has shape"),
        ({"test_x": np.array([[0.5, 0.5, 0.5]])}, "test_x has 3 features"),
        ({"train_y": np.array([0, 1, 1])}, "train_y has shape"),
        ({"train_y": np.array([0.0, 1.0])}, "train_y has shape"),
        ({"train_y": np.array([0, 2])}, "train_y has values"),
        ({"test_y": np.array([-1])}, "test_y has values"),
    ],
)
def test_unusable_arrays_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, float("nan")])
def test_bad_share(share):
    with pytest.raises(ValueError, match="test_share="):
        load_digits(test_share=share)


def test_a_class_of_one_sample_cannot_be_split():
    with pytest.raises(ValueError, match="class 1"):
        stratified_split([0, 0, 1], np.random.default_rng(0), test_share=0.2)
