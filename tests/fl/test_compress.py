"""Compressors: what the definitions say, the exact error laws, bits, and rows that stay apart."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rralloc.errors import InvalidProblem
from rralloc.fl.compress import QSGD, NoCompression, RandK, ScaledSign, Ternary, TopK

HEAVY = np.random.default_rng(0).standard_t(3, 1000)
"""The heavy-tailed vector of the acceptance numbers."""

DETERMINISTIC = [NoCompression(), ScaledSign(), TopK(3), TopK(0.5)]
RANDOM = [Ternary(), QSGD(1), QSGD(4), RandK(3), RandK(0.5)]
ALL = DETERMINISTIC + RANDOM
UNBIASED = [NoCompression(), *RANDOM]


def by_name(compressor):
    return compressor.name


every = pytest.mark.parametrize("compressor", ALL, ids=by_name)


class Drawn:
    """A generator whose uniform draws are known."""

    def __init__(self, uniform):
        self.uniform = np.asarray(uniform)

    def random(self, shape, dtype=np.float64):
        assert self.uniform.shape == shape
        return self.uniform.astype(dtype)


# -- the definitions, one row and one entry at a time ---------------------------------------------


def slow(compressor, v, uniform):
    """C(v) of one row from the words of the definition and one uniform number an entry."""
    d = len(v)
    norm, top = math.sqrt(math.fsum(x * x for x in v)), max(abs(x) for x in v)
    sign = [-1.0 if x < 0 else 1.0 for x in v]
    if norm == 0:
        return [0.0] * d
    match compressor:
        case NoCompression():
            return list(v)
        case ScaledSign():
            return [math.fsum(abs(x) for x in v) / d * s for s in sign]
        case Ternary():
            return [top * s if u < abs(x) / top else 0.0 for x, s, u in zip(v, sign, uniform)]
        case QSGD(levels=steps):
            level = [math.floor(steps * abs(x) / norm) for x in v]
            up = [u < steps * abs(x) / norm - low for x, low, u in zip(v, level, uniform)]
            return [norm * s * (low + more) / steps for s, low, more in zip(sign, level, up)]
        case TopK():
            order = sorted(range(d), key=lambda j: (-abs(v[j]), j))
            kept = set(order[: compressor.count(d)])
            return [x if j in kept else 0.0 for j, x in enumerate(v)]
        case RandK():
            order = sorted(range(d), key=lambda j: (-uniform[j], j))
            kept = set(order[: compressor.count(d)])
            return [x * d / len(kept) if j in kept else 0.0 for j, x in enumerate(v)]


def outcomes(compressor, v):
    """All values of C(v) for one row with their probabilities."""
    d = len(v)
    if isinstance(compressor, RandK):
        sets = list(itertools.combinations(range(d), compressor.count(d)))
        for kept in sets:
            chosen = np.isin(np.arange(d), kept)
            yield 1 / len(sets), np.where(chosen, v * d / len(kept), 0.0)
        return
    norm, top = np.linalg.norm(v), np.abs(v).max()
    step = top if isinstance(compressor, Ternary) else norm / compressor.levels
    low = np.floor(np.abs(v) / step)
    up = np.abs(v) / step - low
    for more in itertools.product([0, 1], repeat=d):
        chance = np.prod(np.where(np.array(more) == 1, up, 1 - up))
        yield chance, np.sign(v) * step * (low + more)


@every
@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_of_the_definition(compressor, seed):
    rng = np.random.default_rng(seed)
    v, uniform = rng.standard_t(3, (4, 9)), rng.random((4, 9))
    v[1, 2:5] = 0.0
    v[2] = 0.0
    found = compressor(v, Drawn(uniform))
    expected = [slow(compressor, row, u) for row, u in zip(v, uniform)]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("compressor", RANDOM, ids=by_name)
def test_mean_and_error_law_by_enumeration(compressor):
    v = np.array([0.3, -1.7, 0.9, 0.0, -0.2, 2.5])
    cases = list(outcomes(compressor, v))
    assert sum(p for p, _ in cases) == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(sum(p * q for p, q in cases), v, atol=1e-12)
    error = sum(p * ((q - v) ** 2).sum() for p, q in cases)
    assert compressor.relative_error(v) == pytest.approx(error / (v @ v), rel=1e-12)


@pytest.mark.parametrize("compressor", DETERMINISTIC, ids=by_name)
def test_without_randomness_the_law_is_the_error(compressor):
    v = np.random.default_rng(1).standard_t(3, (5, 40))
    error = ((compressor(v, None) - v) ** 2).sum(-1) / (v**2).sum(-1)
    np.testing.assert_allclose(compressor.relative_error(v), error, rtol=1e-12)
    sizes = np.abs(v).sum(-1) ** 2 / (40 * (v**2).sum(-1))
    np.testing.assert_allclose(ScaledSign().relative_error(v), 1 - sizes, rtol=1e-12)


@pytest.mark.parametrize("compressor", UNBIASED, ids=by_name)
@pytest.mark.parametrize("precision", [np.float64, np.float32])
def test_means_and_errors_by_simulation(compressor, precision):
    """20000 rows of one vector; 4 standard errors."""
    assert compressor.unbiased
    v = np.random.default_rng(2).standard_t(3, 12).astype(precision)
    drawn = compressor(np.tile(v, (20000, 1)), np.random.default_rng(3)).astype(float)
    scatter = drawn.std(0, ddof=1) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(0) - v) <= 4 * scatter + 1e-6).all()
    error = ((drawn - v) ** 2).sum(-1) / (v.astype(float) ** 2).sum()
    scatter = error.std(ddof=1) / np.sqrt(len(error))
    assert abs(error.mean() - compressor.relative_error(v)) <= 4 * scatter + 1e-6


# -- published figures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compressor", "law", "simulated"), [(QSGD(4), 4.461, 4.462), (Ternary(), 3.128, 3.126)]
)
def test_acceptance_of_the_unbiased(compressor, law, simulated):
    assert compressor.relative_error(HEAVY) == pytest.approx(law, abs=5e-4)
    drawn = compressor(np.tile(HEAVY, (400, 1)), np.random.default_rng(4))
    error = ((drawn - HEAVY) ** 2).sum(-1) / (HEAVY @ HEAVY)
    scatter = error.std(ddof=1) / np.sqrt(len(error))
    assert abs(error.mean() - law) <= 4 * scatter
    assert abs(error.mean() - simulated) <= 8 * scatter  # two simulations


def test_acceptance_of_the_biased():
    assert TopK(100).relative_error(HEAVY) == pytest.approx(0.3478, abs=5e-5)
    assert TopK(100).relative_error(HEAVY) <= 1 - 100 / 1000
    formula = 1 - np.abs(HEAVY).sum() ** 2 / (1000 * (HEAVY @ HEAVY))
    assert ScaledSign().relative_error(HEAVY) == pytest.approx(formula, abs=1e-12)
    assert math.sqrt(1000) / 4 == pytest.approx(7.906, abs=5e-4)
    assert QSGD(4).relative_error(HEAVY) <= min(1000 / 16, math.sqrt(1000) / 4)


def test_bits_of_the_table():
    d = 650
    assert NoCompression().bits(d) == 20800
    assert ScaledSign().bits(d) == 682
    assert Ternary().bits(d) == pytest.approx(650 * math.log2(3) + 32, rel=1e-15)
    assert [QSGD(s).bits(d) for s in (1, 2, 3, 4, 7, 8)] == [
        650 * (1 + b) + 32 for b in (1, 2, 2, 3, 3, 4)
    ]
    assert TopK(7).bits(d) == TopK(0.01).bits(d) == 7 * (32 + 10)
    assert RandK(7).bits(d) == RandK(0.01).bits(d) == 7 * 32
    assert TopK(9).bits(1) == 32
    assert [TopK(1).bits(d) - 32 for d in (1, 2, 3, 4, 5, 1024, 1025)] == [0, 1, 2, 2, 3, 10, 11]


RATIOS = [
    (TopK(0.001), 25_500_000, 0.00178),
    (TopK(0.001), 1_000_000, 0.001625),
    (ScaledSign(), 25_500_000, 0.03125),
    (Ternary(), 25_500_000, 0.04953),
    (QSGD(1), 25_500_000, 0.0625),
    (QSGD(4), 25_500_000, 0.125),
    (TopK(0.0140), 25_500_000, 0.025),
]


@pytest.mark.parametrize(("compressor", "d", "ratio"), RATIOS)
def test_ratios_to_the_plain_packet(compressor, d, ratio):
    """0.17 % lies between the two sizes of model; 2.5 % needs 1.40 % of the entries."""
    found = compressor.bits(d) / NoCompression().bits(d)
    assert found == pytest.approx(ratio, rel=3e-3)


@pytest.mark.parametrize(
    ("kept", "d", "k"),
    [
        (0.01, 650, 7),
        (0.07, 100, 7),
        (0.29, 100, 29),
        (1e-9, 10, 1),
        (1.0, 10, 10),
        (0.5, 1, 1),
        (0.001, 25_500_000, 25_500),
        (7, 650, 7),
        (12, 10, 10),
        (np.int64(3), 10, 3),
    ],
)
def test_how_many_are_kept(kept, d, k):
    assert TopK(kept).count(d) == RandK(kept).count(d) == k


# -- degenerate -----------------------------------------------------------------------------------


@every
def test_zero_stays_zero(compressor):
    v = np.zeros((3, 8))
    v[1] = 1.0
    found = compressor(v, np.random.default_rng(0))
    np.testing.assert_array_equal(found[[0, 2]], 0.0)
    np.testing.assert_array_equal(compressor.relative_error(v)[[0, 2]], 0.0)


@every
@pytest.mark.parametrize("x", [2.5, -2.5, 0.0])
def test_one_entry_is_sent_as_it_is(compressor, x):
    v = np.array([x])
    np.testing.assert_allclose(compressor(v, np.random.default_rng(0)), v, rtol=1e-15)
    assert compressor.relative_error(v) == pytest.approx(0.0, abs=1e-15)


@every
def test_no_rows(compressor):
    v = np.zeros((0, 8))
    assert compressor(v, np.random.default_rng(0)).shape == (0, 8)
    assert compressor.relative_error(v).shape == (0,)


@pytest.mark.parametrize("kind", [TopK, RandK])
@pytest.mark.parametrize("kept", [8, 80, 1.0])
def test_keeping_all_is_the_identity(kind, kept):
    v = np.random.default_rng(0).normal(size=(3, 8))
    found = kind(kept)(v, np.random.default_rng(1))
    np.testing.assert_array_equal(found, v)
    assert not np.shares_memory(found, v)
    np.testing.assert_array_equal(kind(kept).relative_error(v), 0.0)


@pytest.mark.parametrize("k", range(1, 7))
def test_ties_keep_exactly_k_the_first(k):
    v = np.array([[1.0, -1, 1, 1, -1, 1], [2, 1, -2, 2, 1, 3], [0, 0, 5, 0, 0, 0]])
    found = TopK(k)(v + 0.0)
    assert (found[:2] != 0).sum(-1).tolist() == [k, k]
    np.testing.assert_array_equal(found[0], np.where(np.arange(6) < k, v[0], 0))
    np.testing.assert_array_equal(found[2], v[2])
    expected = [slow(TopK(k), row, None) for row in v]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", [TopK, RandK])
@pytest.mark.parametrize("kept", [0, -1, 0.0, -0.1, 1.5, np.nan, np.inf, True, "7", None])
def test_nothing_kept_is_refused(kind, kept):
    with pytest.raises(InvalidProblem, match=rf"{kind.__name__}.kept = .*give a whole number >= 1"):
        kind(kept)


@pytest.mark.parametrize("levels", [0, -1, 2.5, True])
def test_levels_are_a_whole_number(levels):
    with pytest.raises(InvalidProblem, match=r"QSGD.levels = .* is not a whole number >= 1"):
        QSGD(levels)


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_place(compressor, bad):
    v = np.ones((2, 3, 8))
    v[1, 0, 5] = bad
    for call in (
        lambda: compressor(v, np.random.default_rng(0)),
        lambda: compressor.relative_error(v),
    ):
        with pytest.raises(InvalidProblem, match=r"v\[1, 0, 5\] = -?(nan|inf) is not finite"):
            call()


@every
def test_shapes_without_entries_are_refused(compressor):
    for v in (np.float64(1.0), np.zeros((3, 0))):
        with pytest.raises(InvalidProblem, match=r"give \(\.\.\., d\)"):
            compressor(v, np.random.default_rng(0))


# -- properties -----------------------------------------------------------------------------------

ROWS = arrays(float, (3, 9), elements=st.floats(-100, 100, allow_subnormal=False))


@every
def test_rows_are_compressed_for_themselves(compressor):
    rng = np.random.default_rng(5)
    v, uniform = rng.normal(size=(2, 3, 9)), rng.random((2, 3, 9))
    v[0, 1] = np.round(v[0, 1])
    whole, law = compressor(v, Drawn(uniform)), compressor.relative_error(v)
    for i, k in np.ndindex(2, 3):
        alone = compressor(v[i, k], Drawn(uniform[i, k]))
        np.testing.assert_array_equal(alone, whole[i, k])
        assert compressor.relative_error(v[i, k]) == law[i, k]


@every
@given(st.permutations(range(9)), st.integers(0, 5))
def test_permuted_entries_are_compressed_to_permuted_entries(compressor, order, seed):
    rng = np.random.default_rng(seed)
    v, uniform = rng.normal(size=9), rng.random(9)
    found = compressor(v[order], Drawn(uniform[order]))
    np.testing.assert_allclose(found, compressor(v, Drawn(uniform))[order], rtol=1e-12)
    law = compressor.relative_error(v)
    assert compressor.relative_error(v[order]) == pytest.approx(law, rel=1e-9, abs=1e-15)


@every
@given(ROWS, st.sampled_from([-1060, -900, -3, 0, 5, 900]), st.integers(0, 5))
def test_units_and_signs_do_not_matter(compressor, v, power, seed):
    """Powers of two are exact, also where squares would not be; moduli are whole numbers."""
    v, scale = np.round(v), 2.0**power
    uniform = np.random.default_rng(seed).random(v.shape)
    found = compressor(v, Drawn(uniform))
    scaled = compressor(scale * v, Drawn(uniform))
    np.testing.assert_allclose(scaled, scale * found, rtol=1e-14, atol=1e-322)
    law = compressor.relative_error(v)
    np.testing.assert_allclose(compressor.relative_error(scale * v), law, rtol=1e-9, atol=1e-12)
    v = np.where(v == 0, 1.0, v)
    mirrored = compressor(-v, Drawn(uniform))
    np.testing.assert_array_equal(mirrored, -compressor(v, Drawn(uniform)))


@given(ROWS, st.integers(1, 12), st.integers(1, 9))
def test_errors_keep_their_bounds(v, s, k):
    d, some = 9, v.any(-1)
    room = 1 + 1e-12
    assert (QSGD(s).relative_error(v) <= min(d / s**2, math.sqrt(d) / s) * room).all()
    assert (Ternary().relative_error(v) <= (math.sqrt(d) - 1) / 2 * room).all()
    assert (ScaledSign().relative_error(v) <= (1 - 1 / d) * room).all()
    assert (TopK(k).relative_error(v) <= (1 - k / d) * room).all()
    np.testing.assert_array_equal(RandK(k).relative_error(v)[some], d / k - 1)


def test_bounds_are_met_with_equality():
    alike = np.array([[2.0, -2.0, 2.0, 2.0]])
    assert TopK(3).relative_error(alike) == pytest.approx(1 - 3 / 4, rel=1e-15)
    assert ScaledSign().relative_error(np.eye(4)[:1]) == pytest.approx(1 - 1 / 4, rel=1e-15)
    one_large = np.array([[3.0, 1.0, -1.0, 1.0]])
    assert Ternary().relative_error(one_large) == pytest.approx((2 - 1) / 2, rel=1e-15)


@given(ROWS, st.integers(1, 9), st.integers(0, 5))
def test_no_more_than_k_are_sent_and_values_lie_on_the_grid(v, k, seed):
    rng = np.random.default_rng(seed)
    for kind in (TopK, RandK):
        assert ((kind(k)(v, rng) != 0).sum(-1) <= k).all()
    top = np.abs(v).max(-1, keepdims=True)
    assert np.isin(Ternary()(v, rng), [0.0, *top.ravel(), *-top.ravel()]).all()
    norm = np.linalg.norm(v, axis=-1, keepdims=True)
    level = np.abs(QSGD(4)(v, rng)) * 4 / np.where(norm > 0, norm, 1.0)
    np.testing.assert_allclose(level, np.round(level), atol=1e-9)
    assert (level <= 4 + 1e-9).all()


@every
def test_precision_is_kept(compressor):
    v = np.random.default_rng(6).normal(size=(3, 20))
    single = compressor(v.astype(np.float32), np.random.default_rng(0))
    assert single.dtype == np.float32
    assert compressor(v, np.random.default_rng(0)).dtype == np.float64
    whole = compressor(np.arange(-3, 5), np.random.default_rng(0))
    assert whole.dtype == np.float64
    law = compressor.relative_error(v)
    np.testing.assert_allclose(compressor.relative_error(v.astype(np.float32)), law, rtol=1e-5)


@every
def test_input_is_left_alone_and_draws_repeat(compressor):
    v = np.random.default_rng(7).normal(size=(3, 20))
    kept = v.copy()
    one, two = (compressor(v, np.random.default_rng(8)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(v, kept)
    assert not np.shares_memory(one, v)


def test_compressors_are_values():
    assert TopK(3) == TopK(3) != TopK(4)
    assert dataclasses.replace(QSGD(4), levels=8) == QSGD(8)
    assert [c.name for c in (TopK(7), TopK(0.01), RandK(0.001), QSGD(4))] == [
        "top-k(7)",
        "top-k(1%)",
        "rand-k(0.1%)",
        "QSGD(4)",
    ]
    assert [c.unbiased for c in ALL] == [True, False, False, False, *[True] * 5]
