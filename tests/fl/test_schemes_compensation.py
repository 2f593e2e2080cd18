"""The compensatory modulus: who remembers what, and how well it fits."""

import numpy as np
import pytest

from rralloc.fl.schemes.compensation import ModulusMemory, fit

KINDS = ["zero", "constant", "global", "ema", "memory", "best"]
MEAN = np.array([1.0, 2.0, 3.0])
NONE, FIRST = np.zeros(3, dtype=bool), np.array([True, False, False])


def after(memory, kind, arrived, moduli, estimate=None):
    estimate = np.zeros(4) if estimate is None else estimate
    common = memory.to_broadcast(kind, moduli, estimate)
    return memory.after(kind, arrived, moduli).told(common)


@pytest.mark.parametrize("kind", KINDS)
def test_before_the_first_packet_it_is_the_reported_mean(kind):
    guess = ModulusMemory.empty(3, 4).guess(kind, MEAN, NONE)
    expected = np.zeros((3, 4)) if kind == "zero" else np.tile(MEAN[:, None], 4)
    np.testing.assert_array_equal(guess, expected)


def test_memory_is_a_running_mean_of_the_same_device_and_falls_back_on_the_shared_one():
    memory = ModulusMemory.empty(3, 4)
    one, two = np.arange(4.0)[None], np.ones((1, 4))
    memory = after(memory, "memory", FIRST, one)
    guess = memory.guess("memory", MEAN, NONE)
    np.testing.assert_array_equal(guess[0], one[0])
    np.testing.assert_array_equal(guess[1], one[0])  # device 1: what was received from others
    memory = after(memory, "memory", FIRST, two)
    guess = memory.guess("memory", MEAN, NONE)
    np.testing.assert_array_equal(guess[0], (one[0] + two[0]) / 2)
    memory = after(
        memory, "memory", np.array([False, True, True]), np.array([[4.0] * 4, [8.0] * 4])
    )
    guess = memory.guess("memory", MEAN, NONE)
    np.testing.assert_array_equal(guess[1:], [[4.0] * 4, [8.0] * 4])
    np.testing.assert_array_equal(guess[0], (one[0] + two[0]) / 2)
    np.testing.assert_array_equal(after(memory, "memory", NONE, np.zeros((0, 4))).own, memory.own)


def test_ema_is_one_running_mean_for_all():
    memory = after(ModulusMemory.empty(3, 4), "ema", FIRST, np.full((1, 4), 2.0))
    both = np.array([True, True, False])
    memory = after(memory, "ema", both, np.array([[1.0] * 4, [7.0] * 4]))
    np.testing.assert_array_equal(memory.guess("ema", MEAN, NONE), np.full((3, 4), (2.0 + 4.0) / 2))
    kept = after(memory, "ema", NONE, np.zeros((0, 4)))
    np.testing.assert_array_equal(kept.common, memory.common)


def test_global_is_the_last_estimate_that_was_not_nothing():
    memory = after(
        ModulusMemory.empty(3, 4), "global", NONE, np.zeros((0, 4)), np.array([-1, 0, 2, 3])
    )
    memory = after(memory, "global", NONE, np.zeros((0, 4)), np.zeros(4))
    np.testing.assert_array_equal(memory.guess("global", MEAN, NONE), np.tile([1, 0, 2, 3], (3, 1)))


@pytest.mark.parametrize("kind", ["zero", "constant"])
def test_the_simple_kinds_remember_nothing(kind):
    memory = after(ModulusMemory.empty(3, 4), kind, FIRST, np.ones((1, 4)), np.ones(4))
    assert not memory.own.any()
    assert memory.common is None


def holding(own):
    return ModulusMemory(own, np.ones(len(own), dtype=bool))


def test_the_fit_is_the_best_scalar():
    rng = np.random.default_rng(0)
    m, own = np.abs(rng.normal(size=(5, 8))), np.abs(rng.normal(size=(5, 8)))
    energy = (m**2).sum(1)
    found, gbar = fit("memory", holding(own), m, m.mean(1))
    np.testing.assert_allclose(gbar, found.scale[:, None] * own, rtol=1e-15)
    error = ((m - gbar) ** 2).sum(1)
    np.testing.assert_allclose(found.error, error, rtol=1e-12)
    np.testing.assert_allclose(found.energy, (gbar**2).sum(1), rtol=1e-12)
    np.testing.assert_allclose(found.error, energy - found.energy, rtol=1e-12)
    for scale in (0.9, 1.1):
        assert (((m - scale * gbar) ** 2).sum(1) > error).all()
    assert (found.error <= energy).all()
    assert not found.flat.any()


def test_a_perfect_and_an_empty_guess():
    m = np.array([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]])
    energy = (m**2).sum(1)
    perfect, _ = fit("memory", holding(7 * m), m, m.mean(1))
    np.testing.assert_allclose(perfect.error, 0.0, atol=1e-12)
    np.testing.assert_allclose(perfect.scale, [1 / 7, 1 / 7, 0.0])
    empty, _ = fit("zero", holding(m), m, m.mean(1))
    np.testing.assert_array_equal(empty.scale, 0.0)
    np.testing.assert_array_equal(empty.error, energy)
    np.testing.assert_array_equal(empty.energy, 0.0)


def test_best_takes_the_better_of_memory_and_constant():
    m = np.array([[1.0, 1.1, 0.9, 1.0], [0.0, 0.1, 5.0, 0.0], [0.0] * 4])
    own = np.array([[0.0, 0.0, 9.0, 0.1], [0.0, 0.2, 9.0, 0.0], [1.0] * 4])
    mean = m.mean(1)
    found, gbar = fit("best", holding(own), m, mean)
    assert found.flat.tolist() == [True, False, False]
    np.testing.assert_array_equal(gbar[0], mean[0])
    each = [fit(kind, holding(own), m, mean)[0] for kind in ("memory", "constant")]
    np.testing.assert_allclose(found.error, np.minimum(each[0].error, each[1].error), rtol=1e-12)
    told = holding(own).guess("best", mean, found.flat)
    np.testing.assert_array_equal(found.scale[:, None] * told, gbar)
