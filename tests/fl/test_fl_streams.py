"""Named random streams: one stream never changes another, in any order or process."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rralloc.fl.streams import Streams

NAMES = ("data", "partition", "init", "batch", "channel", "policy", "link")
indices = st.lists(st.integers(0, 2**32 - 1), max_size=3).map(tuple)
keys = st.tuples(st.sampled_from(NAMES), indices)


def draw(seed, name, *index):
    return Streams(seed).rng(name, *index).random(4).tolist()


@given(st.integers(0, 2**64 - 1), keys, keys)
def test_different_names_or_indices_give_different_numbers(seed, one, two):
    assume(one != two)
    assert draw(seed, one[0], *one[1]) != draw(seed, two[0], *two[1])


@given(keys, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_different_seeds_give_different_numbers(key, one, two):
    assume(one != two)
    assert draw(one, key[0], *key[1]) != draw(two, key[0], *key[1])


def test_trailing_zero_indices_are_part_of_the_key():
    first = [tuple(draw(0, "batch", *index)) for index in ((), (0,), (0, 0), (0, 0, 0))]
    assert len(set(first)) == 4


@given(st.permutations(NAMES))
def test_order_of_asking_does_not_matter(order):
    streams = Streams(5)
    numbers = {name: streams.rng(name).random(3).tolist() for name in order}
    assert numbers == {name: Streams(5).rng(name).random(3).tolist() for name in NAMES}


def test_drawing_more_from_one_stream_leaves_the_others():
    streams = Streams(1)
    before = streams.rng("channel", 3).random(5)
    streams.rng("policy", 3).random(10_000)
    np.testing.assert_array_equal(streams.rng("channel", 3).random(5), before)


def test_another_process_with_another_hash_seed_draws_the_same():
    code = (
        "import json; from rralloc.fl.streams import Streams;"
        "print(json.dumps([Streams(7).rng(n, 2).random(3).tolist() for n in "
        f"{NAMES!r}]))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "123"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    here = [Streams(7).rng(name, 2).random(3).tolist() for name in NAMES]
    assert json.loads(run.stdout) == here


def test_numpy_integers_are_integers():
    assert draw(np.int64(3), "batch", np.int32(2)) == draw(3, "batch", 2)


def test_streams_of_many_rounds_are_uncorrelated():
    rows = np.array([Streams(0).rng("channel", t).standard_normal(4000) for t in range(20)])
    correlation = np.corrcoef(rows) - np.eye(20)
    # 190 pairs of N(0, 1/4000): beyond 5 deviations has probability 1e-4 in total.
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "0", None])
def test_bad_seed(seed):
    with pytest.raises(ValueError, match="seed="):
        Streams(seed)


@pytest.mark.parametrize("index", [-1, 2**32, 0.5])
def test_bad_index(index):
    with pytest.raises(ValueError, match=r"indices\[1\]="):
        Streams(0).rng("batch", 0, index)


@pytest.mark.parametrize("name", ["", 3])
def test_bad_name(name):
    with pytest.raises(ValueError, match="name="):
        Streams(0).rng(name)
