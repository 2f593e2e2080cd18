"""Participation for a fixed beam against every subset."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from rralloc.problems._ota_prefix import best_prefix

SEEDS = pytest.mark.parametrize("seed", range(4))


def every_subset(gain, w, cost, constant):
    """The least F over all nonempty sets, from its definition."""
    least, best = math.inf, None
    for count in range(1, len(w) + 1):
        for s in map(list, itertools.combinations(range(len(w)), count)):
            worst = max(w[k] ** 2 / gain[k] if gain[k] > 0 else math.inf for k in s)
            noisy = cost * worst / sum(w[s]) ** 2 if cost > 0 else 0.0
            value = noisy + constant * (1 - sum(w[s]) / sum(w)) ** 2
            if value < least:
                least, best = value, s
    return least, best


@SEEDS
def test_prefix_against_every_subset(seed):
    """ota.md acceptance (I): K <= 10, all subsets."""
    rng = np.random.default_rng(seed)
    for K in (1, 2, 5, 8, 10):
        gain, w = rng.exponential(size=(3, K)), rng.uniform(0.1, 2, (3, K))
        cost, constant = 10.0 ** rng.uniform(-2, 1.5, 3), np.array([4.0, 1.0, 0.5])
        found = best_prefix(gain, w, cost, constant)
        for i in range(3):
            least, best = every_subset(gain[i], w[i], cost[i], constant[i])
            assert found.value[i] == pytest.approx(least, rel=1e-12)
            assert np.flatnonzero(found.chosen[i]).tolist() == best


def test_prefix_with_unheard_devices():
    """They never take part while noise counts; without noise everybody does."""
    rng = np.random.default_rng(3)
    gain, w = rng.exponential(size=(6, 7)), rng.uniform(0.5, 2, (6, 7))
    gain[:, ::3] = 0
    found = best_prefix(gain, w, np.full(6, 0.05))
    for i in range(6):
        least, best = every_subset(gain[i], w[i], 0.05, 4.0)
        assert found.value[i] == pytest.approx(least, rel=1e-12)
        assert np.flatnonzero(found.chosen[i]).tolist() == best
    assert not found.chosen[:, ::3].any()
    free = best_prefix(gain, w, np.zeros(6))
    assert free.chosen.all()
    assert (free.value == 0).all()


def test_prefix_where_nobody_is_heard():
    found = best_prefix(np.zeros((2, 3)), np.ones(3), np.ones(2))
    assert (found.value == np.inf).all()
    assert found.chosen.any(-1).all()


def test_prefix_with_equal_ratios():
    """Equal w^2/gain: taking all of them costs no more noise, so all take part."""
    w = np.array([1.0, 2.0, 3.0])
    found = best_prefix(w**2 * 0.25, w, np.array(10.0), 4.0)
    assert found.chosen.all()
    assert found.value == pytest.approx(10 * 4 / 36)


def test_prefix_takes_the_longest_among_equals():
    """Neither noise nor absence costs anything: everybody takes part."""
    assert best_prefix(np.arange(4.0), np.ones(4), np.array(0.0), 0.0).chosen.all()


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_prefix_does_not_depend_on_units(scale):
    """(gain, cost) -> (s gain, s cost), and weights in other units: the same set, the same F."""
    rng = np.random.default_rng(4)
    gain, w, cost = rng.exponential(size=(9, 6)), rng.uniform(1, 2, (9, 6)), np.full(9, 0.5)
    here = best_prefix(gain, w, cost)
    for there in (best_prefix(gain * scale, w, cost * scale), best_prefix(gain, w * scale, cost)):
        assert (here.chosen == there.chosen).all()
        assert np.allclose(here.value, there.value, rtol=1e-12)


def test_one_call_is_a_batch():
    rng = np.random.default_rng(6)
    gain, w, one = rng.exponential(size=(2, 3, 5)), rng.uniform(1, 2, (2, 3, 5)), np.ones((2, 3))
    whole = best_prefix(gain, w, one)
    for i in np.ndindex(2, 3):
        part = best_prefix(gain[i], w[i], one[i])
        assert (part.chosen == whole.chosen[i]).all()
        assert part.value == whole.value[i]
