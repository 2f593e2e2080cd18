"""The oracles against each other and against every published number of their sections.

Section numbers are those of the specification of the systems; a printed number is quoted as a
string, and `shows` accepts a value only if it rounds to exactly those digits.
"""

import math
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
import pytest
from oracles import fdma, feel, sum_rate, sync, water_filling
from scipy.special import erfinv, lambertw
from scipy.stats import norm


def shows(value, printed):
    """Whether each value, rounded, is what is printed (numbers separated by blanks)."""
    values, texts = np.atleast_1d(value), printed.split()
    assert len(values) == len(texts)
    for found, text in zip(values, texts):
        unit = 10.0 ** -len(text.partition(".")[2])
        assert abs(found - float(text)) <= 0.5001 * unit, f"{found!r} is printed as {text}"
    return True


# ---- section 0: conventions ------------------------------------------------------------------


def test_section_0_snr_conversion():
    assert shows(10 * math.log10(784), "28.9")
    assert shows(10 * math.log10(64), "18.06")


def test_section_0_two_forms_of_theta():
    for p_c in (0.6, 0.75, 0.9, 0.99):
        assert 2 * erfinv(2 * p_c - 1) ** 2 == pytest.approx(norm.ppf(p_c) ** 2, rel=1e-12)


def test_section_0_digits_data():
    data = pytest.importorskip("sklearn.datasets").load_digits()
    assert data.data.shape == (1797, 64)
    assert (data.data.min(), data.data.max(), len(set(data.target))) == (0, 16, 10)


# ---- section 15.1: water-filling -------------------------------------------------------------

WATER = (2, 1, 0.5, 0.1)


@pytest.mark.parametrize(
    ("budget", "power", "level", "rate"),
    [
        (3, (5 / 3, 7 / 6, 1 / 6, 0), 13 / 6, "3.346431652"),
        (1, (0.75, 0.25, 0, 0), 1.25, "1.643856190"),
        (0.25, (0.25, 0, 0, 0), 0.75, ".584962501"),
    ],
)
def test_section_15_1_water_filling(budget, power, level, rate):
    found, found_level, bits = water_filling.solve(WATER, budget)
    assert found == pytest.approx(power, abs=1e-14)
    assert found_level == pytest.approx(level, rel=1e-14)
    assert shows(bits, rate)
    assert water_filling.min_power(WATER, bits) == pytest.approx(budget, rel=1e-13)
    conic_power, conic_rate = water_filling.solve_cvxpy(WATER, budget)
    assert conic_rate == pytest.approx(bits, abs=1e-7)
    assert conic_power == pytest.approx(power, abs=5e-3)


def test_section_15_1_dead_channel_gets_nothing():
    assert water_filling.solve((0, 1), 2) == ([0.0, 2.0], 3.0, math.log2(3))
    assert water_filling.solve((0, 0), 2) == ([0.0, 0.0], math.inf, 0.0)
    assert water_filling.solve((4, 1), 0) == ([0.0, 0.0], 0.25, 0.0)


# ---- section 15.10: FDMA bandwidth -----------------------------------------------------------


def test_section_15_10_fdma():
    q, total = (4, 1, 0.5), 2
    b, value = fdma.solve(q, total)
    assert shows(b, "1.454545 .363636 .181818")
    assert shows(value, "3.813781191")
    assert value == pytest.approx(total * math.log2(1 + sum(q) / total), rel=1e-14)
    conic_b, conic_value = fdma.solve_cvxpy(q, total)
    assert conic_value == pytest.approx(value, abs=1e-7)
    assert conic_b == pytest.approx(b, abs=1e-4)


def test_section_15_10_share_follows_the_product_of_power_and_gain():
    rng = np.random.default_rng(0)
    for _ in range(5):
        q, total = rng.exponential(size=4) * 10.0 ** rng.uniform(-2, 2, 4), rng.uniform(0.1, 10)
        b, value = fdma.solve(q, total)
        assert b == pytest.approx(total * q / sum(q), rel=1e-6)
        assert value == pytest.approx(total * math.log2(1 + sum(q) / total), rel=1e-12)
    b, _ = fdma.solve((0, 3), 2)
    assert b == pytest.approx([0, 2], rel=1e-12)


# ---- section 5: update synchronisation -------------------------------------------------------


def link_quality(distance_km, fading=None):
    """a = P g / N0 of section 5: 0.1 W, 128.1 + 37.6 log10 d, -174 dBm/Hz."""
    fading = [1.0] * len(distance_km) if fading is None else fading
    loss = [10 ** (-(128.1 + 37.6 * math.log10(d)) / 10) for d in distance_km]
    return [0.1 * g * f / 10**-20.4 for g, f in zip(loss, fading)]


FOUR, SAME = link_quality((0.1, 0.2, 0.3, 0.5)), link_quality((0.2,) * 4)


@pytest.mark.parametrize(
    ("a", "c", "latency", "bandwidth"),
    [
        (FOUR, (0.1, 0.3, 0.2, 0.4), "0.6883072809", "95267.74 197649.27 187804.46 519278.53"),
        (FOUR, (0.2,) * 4, ".5714226018", "157272.1 207784.7 257683.4 377259.8"),
        # The specification prints 188251.2 for the second device; its four numbers then miss 1 MHz.
        (SAME, (0.1, 0.2, 0.3, 0.4), ".6055053137", "147007.9 188251.4 258965.3 405775.4"),
        (SAME, (0.2,) * 4, ".5151937874", "250000 250000 250000 250000"),
    ],
    ids=["reference", "equal compute", "equal gain", "all equal"],
)
def test_section_5_a_min_max_latency(a, c, latency, bandwidth):
    instance = (a, c, 1e6, 1e6)
    t, b = sync.solve_precise(*instance)
    assert shows(t, latency)
    assert sum(b) == pytest.approx(1e6, rel=1e-12)
    ends = [ck + 1e6 / sync.rate(ak, bk) for ak, ck, bk in zip(a, c, b)]
    assert max(ends) - min(ends) < 1e-10
    lowest = max(ck + 1e6 * math.log(2) / ak for ak, ck in zip(a, c))
    assert lowest < t <= sync.equal_split(*instance)
    assert sync.solve(*instance)[0] == pytest.approx(t, abs=1e-14)
    assert sync.solve(*instance)[1] == pytest.approx(b, rel=1e-11)
    assert sync.solve_slsqp(*instance)[0] == pytest.approx(t, abs=1e-13)
    conic_t, conic_b = sync.solve_cvxpy(*instance)
    assert conic_t == pytest.approx(t, abs=1e-7)
    assert conic_b == pytest.approx(b, abs=1)
    assert shows(b, bandwidth)


def test_section_5_a_gain_over_the_equal_split():
    c = (0.1, 0.3, 0.2, 0.4)
    t, _ = sync.solve(FOUR, c, 1e6, 1e6)
    even = sync.equal_split(FOUR, c, 1e6, 1e6)
    assert shows(even, ".9176811189")
    assert shows(100 * (1 - t / even), "25.0")


def test_section_5_a_weaker_channel_and_slower_processor_get_more():
    assert sync.solve(FOUR, (0.2,) * 4, 1e6, 1e6)[1] == sorted(
        sync.solve(FOUR, (0.2,) * 4, 1e6, 1e6)[1]
    )
    b = sync.solve(SAME, (0.1, 0.2, 0.3, 0.4), 1e6, 1e6)[1]
    assert b == sorted(b)


@pytest.mark.parametrize("rate", [1e4, 1e6, 5e6])
@pytest.mark.parametrize("inverse", [sync.min_bandwidth, sync.min_bandwidth_float])
def test_section_5_a_inverse_round_trip(rate, inverse):
    for a in FOUR:
        assert abs(sync.rate(a, inverse(rate, a)) / rate - 1) < 1e-12


def test_section_5_a_rate_ceiling():
    a = 1e6
    assert math.isinf(sync.min_bandwidth(a / math.log(2) * (1 + 1e-12), a))
    assert 1e17 < sync.min_bandwidth(a / math.log(2) * (1 - 1e-12), a) < 1e18
    assert sync.min_bandwidth(0, a) == 0


def test_section_5_a_degenerate():
    assert sync.solve(FOUR[:1], (0.1,), 1e6, 1e6)[1] == pytest.approx([1e6], rel=1e-12)
    assert sync.solve(FOUR, (0.1, 0.3, 0.2, 0.4), 0, 1e6)[0] == 0.4
    with pytest.raises(ValueError, match="device 1"):
        sync.solve([1e9, 0.0], (0.1, 0.1), 1e6, 1e6)
    with pytest.raises(ValueError, match="no bandwidth"):
        sync.solve(FOUR, (0.1,) * 4, 1e6, 0)


def lambert_bandwidth(load):
    """The Lambert form of section 5, with a = 1."""
    return -load / (lambertw(-load * math.exp(-load), -1).real + load)


def newton_bandwidth(load):
    """Correction 2: u / expm1(u) = load, b = 1 / expm1(u), by Newton."""
    u = -2 * math.log(load)
    for _ in range(60):
        f = (u / 2 + u * u / 24 if u < 1e-4 else math.log(math.expm1(u) / u)) + math.log(load)
        u -= f / (0.5 + u / 12 if u < 1e-4 else -1 / math.expm1(-u) - 1 / u)
    return 1 / math.expm1(u)


def test_correction_2_lambert_fails_silently_near_the_ceiling():
    assert lambert_bandwidth(0.5) == pytest.approx(float(sync.relative_bandwidth(0.5)), rel=1e-12)
    for gap in (1e-5, 1e-6, 1e-7):
        ratio = lambert_bandwidth(1 - gap) / float(sync.relative_bandwidth(1 - gap))
        assert ratio == pytest.approx(2, abs=1e-3)
    loads = 1 - 1e-9 * np.linspace(0.5, 2, 200)
    broken = lambertw(-loads * np.exp(-loads), -1).real
    assert np.isnan(broken).any()
    assert not (broken + loads > -1e-12).any()


@pytest.mark.parametrize("load", [1e-12, 1e-6, 0.1, 0.5, 0.9, 0.999, 0.9999, 1 - 1e-6, 1 - 1e-12])
def test_correction_2_newton_solves_the_equation(load):
    found, exact = newton_bandwidth(load), float(sync.relative_bandwidth(load))
    with localcontext() as context:
        context.prec = 50
        x = Decimal(found)
        reached = float(x * (1 + 1 / x).ln() / Decimal(load))
    assert reached == pytest.approx(1, abs=1e-15)
    # In b itself the loss near the ceiling is eps / (1 - load) while the series is not in use.
    assert found == pytest.approx(exact, rel=1e-15 if load in (1e-12, 1 - 1e-12) else 5e-12)


def test_correction_c_total_need_is_convex_and_decreasing():
    c = (0.1, 0.3, 0.2, 0.4)
    totals = [sum(sync.needed(t, FOUR, c, 1e6)) for t in np.linspace(0.5, 1, 60)]
    assert np.all(np.diff(totals) < 0)
    assert np.all(np.diff(totals, 2) > 0)


def test_section_5_b_exclusion():
    assert sync.kept((3, 1, 2, 5), (0.1, 0.2, 0.9, 0.3), 2, 0.5) == [0, 3]
    assert sync.kept((2,), (0.5,), 2, 0.5) == [0]
    assert sync.kept((1.9,), (0.5,), 2, 0.5) == []


def cell(seed, count):
    """The random cell of problem C: distances, then fading, then compute times."""
    rng = np.random.default_rng(seed)
    distance = np.sqrt(rng.uniform(0.05**2, 0.6**2, count))
    fading = rng.exponential(1, count)
    return link_quality(distance, fading), rng.uniform(0.1, 1, count).tolist()


def test_section_5_c_number_of_devices():
    a, c = cell(3, 20)
    totals, chosen = sync.solve_count(a, c, 1e6, 1e6, 50, 200)
    assert totals.index(min(totals)) + 1 == len(chosen) == 2
    assert shows([totals[m - 1] for m in (2, 1, 4, 20)], "69.10 76.3 70.9 165.4")
    # The two winners, exhaustively over all 190 pairs.
    pairs = [(i, j) for i in range(20) for j in range(i)]
    best = min(sync.solve([a[i], a[j]], [c[i], c[j]], 1e6, 1e6)[0] for i, j in pairs)
    assert sync.rounds(2, 50, 200) * best == pytest.approx(totals[1], rel=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_correction_a_cheapest_set_equals_exhaustive_search(seed):
    a, c = cell(seed, 6)
    total, chosen = sync.solve_count_exhaustive(a, c, 1e6, 1e6, 5, 200)
    totals, devices = sync.solve_count(a, c, 1e6, 1e6, 5, 200)
    assert min(totals) == pytest.approx(total, rel=1e-10)
    assert devices == chosen


# ---- section 4: FEEL scheduling --------------------------------------------------------------

A, T = (0.5, 0.3, 0.15, 0.05), (1, 0.5, 0.25, 2)
FEEL = [
    (0.01, ".058014 .060267 .877920 .003798", "-.247208", ".3769368"),
    (0.1, ".191561 .197266 .598599 .012574", "-.218721", ".6182641"),
    (0.5, ".435796 .332033 .199318 .032852", ".158178", ".8755249"),
    (0.9, ".493845 .304678 .154569 .046908", ".822575", ".9783029"),
    (0.999, ".499947 .300043 .150040 .049970", ".998213", ".9997875"),
]


@pytest.mark.parametrize(("rho", "law", "price", "cost"), FEEL)
def test_section_4_closed_form(rho, law, price, cost):
    p, lam = feel.solve(A, T, rho)
    value = feel.objective(p, A, T, rho)
    assert shows(p, law)
    assert shows(lam, price)
    assert shows(value, cost)
    assert sum(p) == pytest.approx(1, abs=1e-15)
    assert abs(feel.dual_bound(A, T, rho, lam) - value) < 4e-16
    assert -0.25 * (1 - rho) + rho * 0.15**2 <= lam <= -0.25 * (1 - rho) + rho
    conic_p, conic_value = feel.solve_cvxpy(A, T, rho)
    assert conic_p == pytest.approx(p, abs=4e-5)
    assert conic_value == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("rho", [row[0] for row in FEEL])
def test_correction_b_newton_in_y(rho):
    a, wait = np.array(A), (1 - rho) / rho * (np.array(T) - 0.25)
    y, steps, last = 0.15**2, 0, 0.0
    while y > last * (1 + 1e-12):
        last, steps = y, steps + 1
        y += (np.sum(a / np.sqrt(y + wait)) - 1) / np.sum(a / 2 / (y + wait) ** 1.5)
    assert 5 <= steps <= 10
    assert a / np.sqrt(y + wait) == pytest.approx(feel.solve(A, T, rho)[0], rel=1e-13)


def test_trap_of_section_4_the_multiplier_loses_digits():
    rho = 1e-9
    p, lam = feel.solve(A, T, rho)
    rough = sum(x * math.sqrt(rho / ((1 - rho) * t + lam)) for x, t in zip(A, T))
    assert sum(p) == pytest.approx(1, abs=1e-15)
    assert 1e-9 < abs(rough - 1) < 1e-6


def test_section_4_degenerate():
    assert feel.solve_degenerate((0, 1, 3), (1, 1, 1), 0.5)[0] == pytest.approx([0, 0.25, 0.75])
    assert feel.solve_degenerate((0, 0), (1, 2), 0.5)[0] == [0.5, 0.5]
    assert feel.solve_degenerate((1, 3), (1, 2), 1)[0] == [0.25, 0.75]
    assert feel.solve_degenerate((2,), (1,), 0.3)[0] == pytest.approx([1], abs=1e-15)
    assert feel.solve_degenerate((1, 2), (1, math.inf), 0.5)[1] == [1]
    with pytest.raises(ValueError, match="infimum"):
        feel.solve_degenerate(A, T, 0)


@cache
def gradients():
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(5)), rng.normal(size=(5, 3))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_section_4_several_devices_are_unbiased(count):
    share, grad = gradients()
    p, _ = feel.solve(share * np.linalg.norm(grad, axis=1), (1, 0.5, 0.25, 2, 0.1), 0.3)
    chances = [chance for _, chance in feel.ordered_draws(p, count)]
    assert sum(chances) == pytest.approx(1, abs=1e-12)
    mean, mse = feel.mean_and_mse(p, share, grad, count)
    assert mean == pytest.approx(share @ grad, abs=1e-12)
    assert count == 1 or mse < feel.mean_and_mse(p, share, grad, count - 1)[1]


def test_section_4_one_device_error_is_the_first_term_of_the_cost():
    share, grad = gradients()
    a = share * np.linalg.norm(grad, axis=1)
    p, _ = feel.solve(a, (1,) * 5, 0.3)
    _, mse = feel.mean_and_mse(p, share, grad)
    assert mse == pytest.approx(sum(a**2 / p) - np.sum((share @ grad) ** 2), rel=1e-12)


def test_correction_7_an_unreachable_device_leaves_the_sum_over_the_others():
    share, grad = gradients()
    a = share * np.linalg.norm(grad, axis=1)
    p, excluded = feel.solve_degenerate(a, (1, 0.5, math.inf, 2, 0.1), 0.3)
    assert excluded == [2]
    mean, _ = feel.mean_and_mse([*p[:2], *p[3:]], np.delete(share, 2), np.delete(grad, 2, 0))
    assert mean == pytest.approx(share @ grad - share[2] * grad[2], abs=1e-13)


# ---- section 15.5: sum rate ------------------------------------------------------------------

MILD = ((1, 0.1, 0.2), (0.15, 0.8, 0.1), (0.05, 0.2, 1.2))
STRONG = ((1, 0.9), (0.8, 0.6))


@pytest.mark.parametrize(
    ("gain", "power", "rate"), [(MILD, (1, 1, 1), "5.670403344"), (STRONG, (1, 0), "3.459431619")]
)
def test_section_15_5_sum_rate(gain, power, rate):
    ones = [1] * len(gain)
    p, value = sum_rate.solve(gain, 0.1, ones, ones)
    assert p == pytest.approx(power, abs=1e-12)
    assert shows(value, rate)
    coarse, point = sum_rate.grid(gain, 0.1, ones, ones, 21)[0]
    assert coarse == pytest.approx(value, rel=1e-14)
    assert point == pytest.approx(power)
    assert sum_rate.prove_bound(gain, 0.1, ones, ones, value + 1e-6)
    reached, history = sum_rate.wmmse(gain, 0.1, ones, ones, ones)
    assert reached == pytest.approx(power, abs=1e-12)
    assert min(np.diff(history)) >= -1e-12


def test_section_15_5_other_points_of_the_strong_instance():
    assert shows(sum_rate.value(STRONG, 0.1, (1, 1), (1, 1)), "1.736966")
    assert shows(sum_rate.value(STRONG, 0.1, (1, 1), (0, 1)), "2.807355")
    maxima = [tuple(p) for _, p in sum_rate.local_maxima(STRONG, 0.1, (1, 1), (1, 1))]
    assert maxima == [(1, 0), (0, 1)]


def test_sum_rate_gradient_matches_differences():
    p, h = np.array([0.3, 0.6, 0.9]), 1e-6
    for j, slope in enumerate(sum_rate.gradient(MILD, 0.1, (1, 2, 3), p)):
        up, down = (sum_rate.value(MILD, 0.1, (1, 2, 3), p + s * h * np.eye(3)[j]) for s in (1, -1))
        assert slope == pytest.approx((up - down) / 2 / h, abs=1e-8)


# ---- the four-link instance of the dccp project, issue 37 ------------------------------------

# As quoted there: row = transmitter, so our gain (row = receiver) is the transpose.
H = (
    (0.4310, 0.0002, 0.2605, 0.0039),
    (0.0002, 0.3018, 0.0008, 0.0054),
    (0.0129, 0.0005, 0.4266, 0.1007),
    (0.0011, 0.0031, 0.0099, 0.0634),
)
LINKS = (tuple(zip(*H)), 1e-4, (1 / 6, 1 / 6, 1 / 3, 1 / 3), (1, 1, 1, 1))


def test_four_links_without_minimum_rates():
    maxima = sum_rate.local_maxima(*LINKS)
    assert shows([value for value, _ in maxima], "4.68604 3.45029 3.41089")
    assert shows(maxima[0][1], "0.00000 0.12114 1.00000 0.00000")
    assert shows(maxima[1][1], "1.0000 0.7216 0.0000 1.0000")
    assert shows(maxima[2][1], "1 1 0 0")
    coarse, point = sum_rate.grid(*LINKS, 21)[0]
    assert coarse <= maxima[0][0]
    assert point == pytest.approx(maxima[0][1], abs=0.03)
    assert sum_rate.prove_bound(*LINKS, maxima[0][0] + 1e-4)


def test_four_links_with_one_bit_each():
    maxima = sum_rate.local_maxima(*LINKS, min_rate=(1,) * 4)
    assert shows([value for value, _ in maxima], "3.03826 2.94160 2.94088")
    assert shows(maxima[0][1], "0.00569 1.00000 0.14051 0.31027")
    assert min(sum_rate.rates(*LINKS[:2], maxima[0][1])) > 1 - 1e-9
    # Proved: nothing else is better by 0.03 (the runner-up is 0.097 worse).
    assert sum_rate.prove_bound(*LINKS, maxima[0][0] + 0.03, min_rate=(1,) * 4)


def test_four_links_transposed_is_another_instance():
    p, value = sum_rate.solve(H, *LINKS[1:])
    assert shows(value, "4.70131")
    assert p == pytest.approx((0, 0.1942, 1, 0), abs=1e-4)


def test_four_links_that_cannot_meet_their_rates():
    with pytest.raises(ValueError, match="cannot be met"):
        sum_rate.solve(*LINKS, min_rate=(6,) * 4)
    least = sum_rate.minimum_power(*LINKS[:2], (1,) * 4)
    assert sum_rate.rates(*LINKS[:2], least) == pytest.approx([1] * 4, rel=1e-12)
