"""Compressed sums over the air: energy, memory, recovery, what the union of supports costs."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from toys import Everybody, make_link

from rralloc import fl
from rralloc.errors import InvalidProblem
from rralloc.fl.air_link import AirLink
from rralloc.fl.compress import TopK
from rralloc.fl.schemes.analog_compressed import AnalogCompressed
from rralloc.fl.schemes.analog_mask import SharedMask
from rralloc.fl.schemes.digital_dsgd import (
    DigitalDSGD,
    entries,
    grouped,
    packet_bits,
    rate_bits,
)
from rralloc.fl.schemes.over_the_air import OverTheAir
from rralloc.fl.schemes.overhead import communication_gain
from rralloc.policy import Decision

K, D = 5, 60
ALL = np.ones(K, dtype=bool)
POWER = np.array([1.0, 2.0, 0.5, 1.0, 3.0])
SCHEMES = [
    AnalogCompressed(0.5, 0.1),
    AnalogCompressed(0.5, 0.1, common_power=False),
    SharedMask(0.25),
    DigitalDSGD(0.5),
]


def by_name(scheme):
    return scheme.name


def air(devices=K, *, noise=1e-3, antennas=1, fading="none", **settings):
    """``noise``: of a real use along a beam of length 1, W; a use takes 1/4 s."""
    given = {
        "mean_gain": np.ones(devices),
        "compute_s": np.linspace(1, 2, devices),
        "compute_j": 7.0,
        "bandwidth_hz": 4.0,
        "power_w": POWER if devices == K else 1.0,
        "noise_psd_w_hz": 2 * noise / 4.0,
    }
    return AirLink(antennas=antennas, fading=fading, **given | settings)


def send(
    running, updates, link, *, scheduled=None, weight=None, everybody=False, seed=0, channel=None
):
    """One round; with several antennas along a beam that is drawn."""
    rng = np.random.default_rng(seed)
    devices, d = updates.shape
    channel = link.gains(rng) if channel is None else channel
    x = {}
    if len(channel) > 1:
        x["beamformer"] = rng.standard_normal((2, len(channel))).T @ [1.0, 1j]
    share = np.full(devices, 1 / devices)
    round = link.round(0, channel, d, share, {}, everybody_computes=everybody)
    choice = Decision(
        scheduled=np.ones(devices, dtype=bool) if scheduled is None else np.asarray(scheduled),
        weight=share if weight is None else weight,
        bandwidth_hz=np.full(devices, link.bandwidth_hz),
        power_w=round.power_w,
        x=x,
    )
    return running.transmit(updates, choice, round, channel, link, rng)


def normal(*size, seed=0):
    return np.random.default_rng(seed).standard_normal(size)


class Taped:
    """What a running scheme exchanged, round by round."""

    def __init__(self, running):
        self.done, exchange = [], running.exchange

        def taped(x, weight, air):
            self.done.append((exchange(x, weight, air), air.senders))
            return self.done[-1][0]

        running.exchange = taped


# -- energy and time ------------------------------------------------------------------------------


@pytest.mark.parametrize(("antennas", "fading"), [(1, "none"), (1, "rayleigh"), (3, "rayleigh")])
@pytest.mark.parametrize("scheme", SCHEMES, ids=by_name)
def test_energy_is_s_times_power_and_never_more(scheme, antennas, fading):
    link = air(antennas=antennas, fading=fading, noise=1e-9)
    for seed in range(5):
        found = send(scheme.begin(K, D), normal(K, D, seed=seed), link, seed=seed)
        spent = found.energy_j * link.bandwidth_hz / (scheme.uses(D) * POWER)
        assert found.arrived.all()
        assert (spent <= 1 + 1e-9).all()
        assert spent.max() == pytest.approx(1.0, rel=1e-12)  # the weakest spends all it has
        if isinstance(scheme, DigitalDSGD) or not getattr(scheme, "common_power", True):
            np.testing.assert_allclose(spent, 1.0, rtol=1e-12)  # and here everybody does
        assert found.joules == pytest.approx(found.energy_j.sum() + 7 * K)
        assert found.seconds == pytest.approx(2 + scheme.uses(D) / 4)


@pytest.mark.parametrize("scheme", SCHEMES, ids=by_name)
def test_only_who_sends_is_waited_for_and_spends(scheme):
    some = [True, False, True, False, False]
    found = send(scheme.begin(K, D), normal(K, D), air(noise=1e-9), scheduled=some)
    np.testing.assert_array_equal(found.arrived, some)
    np.testing.assert_array_equal(found.energy_j > 0, some)
    assert found.seconds == pytest.approx(1.5 + scheme.uses(D) / 4)
    assert found.joules == pytest.approx(found.energy_j.sum() + 14)


# -- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES, ids=by_name)
def test_what_was_computed_was_sent_or_is_remembered(scheme):
    """With silent devices in deep fades, unscheduled ones, void rounds and rounds of silence."""
    running = dataclasses.replace(scheme, least_gain=0.3).begin(K, D)
    tape = Taped(running)
    rng = np.random.default_rng(4)
    total, dropped = np.zeros((K, D)), 0
    for t in range(30):
        g, scheduled, everybody = rng.standard_t(3, (K, D)), rng.random(K) < 0.7, t % 3 == 0
        link = air(fading="rayleigh", noise=1e6 if t % 5 == 4 else 1e-3)
        found = send(running, g, link, scheduled=scheduled, everybody=everybody, seed=t)
        total += np.where((scheduled | everybody)[:, None], g, 0.0)
        dropped += int((scheduled & ~found.arrived).sum())
    sent = np.zeros((K, D))
    for done, senders in tape.done:
        if done.given is not None:
            sent[senders] += done.given
    assert dropped > 5
    np.testing.assert_allclose(sent + running.memory.unsent, total, atol=1e-12)


@pytest.mark.parametrize("scheme", [SharedMask(0.2), DigitalDSGD(0.5)], ids=by_name)
def test_estimates_add_up_to_what_devices_no_longer_hold(scheme):
    """Seen from the server alone, without noise: K sum of estimates = sum of g - sum of e."""
    running, total, heard = scheme.begin(K, D), np.zeros(D), np.zeros(D)
    for t in range(25):
        g = normal(K, D, seed=t)
        heard += K * send(running, g, air(noise=1e-30, fading="rayleigh"), seed=t).estimate
        total += g.sum(0)
    held = running.memory.unsent.sum(0)
    assert np.abs(heard).max() > 1
    np.testing.assert_allclose(heard, total - held, atol=1e-11)


@pytest.mark.parametrize("scheme", SCHEMES, ids=by_name)
def test_without_error_feedback_every_round_is_the_same(scheme):
    running = dataclasses.replace(scheme, error_feedback=False).begin(K, D)
    again = scheme.begin(K, D)
    g = np.abs(normal(K, D))
    first, second = (send(running, g, air(noise=1e-12)).estimate for _ in range(2))
    if isinstance(scheme, SharedMask):
        mask = scheme.mask(1, D)
        np.testing.assert_allclose(second[mask], g.mean(0)[mask], atol=1e-4)
    else:
        np.testing.assert_allclose(first, second, atol=1e-4)
    send(again, g, air(noise=1e-12))
    assert not np.allclose(send(again, g, air(noise=1e-12)).estimate, second, atol=1e-3)


@pytest.mark.parametrize("scheme", SCHEMES, ids=by_name)
def test_a_device_in_a_deep_fade_is_silent_and_keeps_everything(scheme):
    channel = np.array([[1.0, 1j, 0.05, -1.0, 1.0]])
    running, g = scheme.begin(K, D), normal(K, D)
    found = send(running, g, air(noise=1e-9), channel=channel)
    np.testing.assert_array_equal(found.arrived, [True, True, False, True, True])
    np.testing.assert_array_equal(running.memory.unsent[2], g[2])
    assert found.energy_j[2] == 0


# -- what the server makes of it ------------------------------------------------------------------


def common_support(d, k, devices, seed=0):
    rows = np.zeros((devices, d))
    rows[:, :k] = normal(devices, k, seed=seed) + 3
    return rows


@pytest.mark.parametrize(("antennas", "fading"), [(1, "none"), (1, "rayleigh"), (4, "rayleigh")])
def test_without_noise_a_small_union_comes_back_with_the_weights(antennas, fading):
    d, k = 400, 10
    weight = np.array([0.1, 0.4, 0.2, 0.25, 0.05])
    rows = common_support(d, k, K)
    link = air(noise=1e-20, antennas=antennas, fading=fading)
    scheme = AnalogCompressed(0.5, k / 200, least_gain=0.0)
    found = send(scheme.begin(K, d), rows, link, weight=weight, seed=1)
    np.testing.assert_allclose(found.estimate, weight @ rows, atol=1e-3)


def test_own_power_weighs_by_the_square_root_of_alpha():
    d, k = 400, 10
    weight = np.array([0.1, 0.4, 0.2, 0.25, 0.05])
    rows = common_support(d, k, K)
    scheme = AnalogCompressed(0.5, k / 200, common_power=False)
    found = send(scheme.begin(K, d), rows, air(noise=1e-20), weight=weight)
    A, top = scheme.projection(d), TopK(k)(rows)
    assert A.shape == (199, 400)
    z = [K * weight[i] * (A @ top[i]) for i in range(K)]
    alpha = np.array([200 * POWER[i] / (z[i] @ z[i] + 1) for i in range(K)])
    wanted = K * (np.sqrt(alpha) * weight) @ rows / np.sqrt(alpha).sum()
    np.testing.assert_allclose(found.estimate, wanted, atol=1e-3)
    assert np.abs(wanted - weight @ rows).max() > 0.1


@pytest.mark.parametrize(
    ("devices", "common", "wanted"),
    [(1, True, -21.8), (5, True, -22), (5, False, -7.5), (20, False, -2.3)],
)
def test_independent_supports_cost_what_their_union_costs(devices, common, wanted):
    """ota.md §5: s/d = 0.5, k/s = 0.1, SNR 20 dB; the union of 20 supports is 1.29 s."""
    d, scheme = 2000, AnalogCompressed(0.5, 0.1, least_gain=0.0)
    A, errors = scheme.projection(d), []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        rows, places = np.zeros((devices, d)), rng.permutation(d)[:100]
        for row in rows:
            row[places if common else rng.permutation(d)[:100]] = rng.standard_normal(100)
        wish = rows.mean(0)
        # Noise at which A u has 20 dB after the division by the last symbol, M sqrt(alpha).
        alpha = 1000 / (((rows @ A.T) ** 2).sum(1).max() + 1)
        noise = (wish @ wish) / 1000 / 100 * devices**2 * alpha
        found = send(
            scheme.begin(devices, d), rows, air(devices, noise=noise, power_w=1.0), seed=seed
        )
        errors.append(((found.estimate - wish) ** 2).sum() / (wish @ wish))
    assert 10 * np.log10(np.mean(errors)) == pytest.approx(wanted, abs=1.5)


def test_the_guard_shrinks_what_is_mostly_noise():
    d, errors = 400, {}
    for guard in (False, True):
        scheme, errors[guard] = AnalogCompressed(0.1, 0.2, guard=guard), []
        for seed in range(8):
            rows = common_support(d, 8, K, seed) / 10
            link = air(noise=10.0, power_w=1.0)
            found = send(scheme.begin(K, d), rows, link, seed=seed)
            wish = rows.mean(0)
            errors[guard].append(((found.estimate - wish) ** 2).sum() / (wish @ wish))
    assert np.mean(errors[False]) > 1.5
    assert np.mean(errors[True]) < 1.1


def test_a_round_whose_last_symbol_drowns_is_void():
    running, g = AnalogCompressed(0.5, 0.1).begin(K, D), normal(K, D)
    found = send(running, g, air(noise=1e9))
    np.testing.assert_array_equal(found.estimate, 0.0)
    assert not found.arrived.any()
    assert found.energy_j.sum() > 0
    np.testing.assert_array_equal(running.memory.unsent, g)


def test_errors_of_the_channel_reach_the_estimate():
    d, k = 400, 10
    rows, errors = common_support(d, k, K), []
    for phase in (0.0, 0.5):
        link = air(noise=1e-20, phase_error_rad=phase)
        found = send(AnalogCompressed(0.5, k / 200).begin(K, d), rows, link)
        errors.append(np.linalg.norm(found.estimate - rows.mean(0)))
    assert errors[1] > 10 * errors[0]


# -- shared mask ----------------------------------------------------------------------------------


def test_masks_are_shared_change_and_cover_everything_evenly():
    scheme = SharedMask(0.25, seed=3)
    masks = [scheme.mask(t, D) for t in range(2000)]
    assert {len(np.unique(m)) for m in masks} == {15}
    assert not np.array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[7], SharedMask(0.25, seed=3).mask(7, D))
    count = np.bincount(np.concatenate(masks), minlength=D)
    assert np.abs(count - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


def test_mask_without_noise_is_the_weighted_sum_on_it():
    weight, g = np.array([0.1, 0.4, 0.2, 0.25, 0.05]), normal(K, D)
    scheme = SharedMask(0.25)
    link = air(noise=1e-30, fading="rayleigh", antennas=2)
    estimate = send(scheme.begin(K, D), g, link, weight=weight).estimate
    on = np.isin(np.arange(D), scheme.mask(0, D))
    np.testing.assert_allclose(estimate[on], (weight @ g)[on], atol=1e-12)
    np.testing.assert_array_equal(estimate[~on], 0.0)


def test_mask_noise_is_that_of_the_weakest_device():
    """Variance (noise of a use)/eta, eta = min_k s P_k/|w_k q_k|^2."""
    g, scheme, noise = normal(K, D), SharedMask(0.5), 0.2
    on = scheme.mask(0, D)
    eta = min(30 * POWER[k] / ((g[k, on] / K) ** 2).sum() for k in range(K))
    errors = [
        (send(scheme.begin(K, D), g, air(noise=noise), seed=seed).estimate - g.mean(0))[on]
        for seed in range(400)
    ]
    assert np.var(errors) == pytest.approx(noise / eta, rel=0.05)
    assert abs(np.mean(errors)) < 4 * np.sqrt(noise / eta / (400 * 30))


def test_mask_of_zero_updates_costs_nothing():
    found = send(SharedMask(0.5).begin(K, D), np.zeros((K, D)), air())
    np.testing.assert_array_equal(found.estimate, 0.0)
    assert found.energy_j.sum() == 0
    assert found.arrived.all()


# -- digital --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("power", "count"), [(1.0, 0), (100.0, 7)])
def test_entries_of_the_spec(power, count):
    """d = 650, s = d/2, M = 20, sigma^2 = 1 a real use."""
    bits = 325 / 40 * math.log2(1 + 20 * power)
    assert rate_bits(np.full(20, power), 325) == pytest.approx(bits, rel=1e-12)
    assert entries(bits, 650) == count


@pytest.mark.parametrize("d", [1, 2, 7, 30, 101])
def test_entries_against_exact_binomials(d):
    for count in range(d + 1):
        assert packet_bits(count, d) == pytest.approx(math.log2(math.comb(d, count)) + 33)
    for bits in np.linspace(30, 140, 221) + 1e-3:
        fits = [q for q in range(d // 2 + 1) if math.log2(math.comb(d, q)) + 33 <= bits and q > 0]
        assert entries(bits, d) == max(fits, default=0)


def test_rate_is_the_symmetric_capacity_over_all_groups():
    for seed in range(20):
        snr = 10 ** np.random.default_rng(seed).uniform(-2, 2, 6)
        groups = [g for n in range(1, 7) for g in itertools.combinations(range(6), n)]
        least = min(50 / (2 * len(g)) * math.log2(1 + snr[list(g)].sum()) for g in groups)
        assert rate_bits(snr, 50) == pytest.approx(least, rel=1e-12)


def test_grouped_by_hand():
    x = np.array(
        [[5.0, -1, 3, 0, -4], [1.0, -6, 2, -2, 0], [-1.0, -2, -3, 0, 0], [0.0, 0, 0, 0, 0]]
    )
    wanted = [[4, 0, 4, 0, 0], [0, -4, 0, -4, 0], [0, -2.5, -2.5, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_allclose(grouped(x, 2), wanted)
    np.testing.assert_allclose(grouped(x, 4)[0], [4, 0, 4, 0, 0])  # only two are positive


def test_nothing_fits_and_nothing_is_sent():
    running, g = DigitalDSGD(0.5).begin(K, D), normal(K, D)
    found = send(running, g, air(noise=10.0))
    np.testing.assert_array_equal(found.estimate, 0.0)
    np.testing.assert_array_equal(running.memory.unsent, g)
    assert not found.arrived.any()
    assert (found.energy_j.sum(), found.bits, found.seconds) == (0, 0, 2)


def test_digital_sum_is_the_weighted_sum_of_the_groups():
    weight, g = np.array([0.1, 0.4, 0.2, 0.25, 0.05]), normal(K, D)
    found = send(DigitalDSGD(0.5).begin(K, D), g, air(noise=1e-9), weight=weight)
    count = entries(rate_bits(POWER / 1e-9, 30), D)
    assert count > 3
    np.testing.assert_allclose(found.estimate, weight @ grouped(g, count), atol=1e-14)
    assert found.bits == pytest.approx(K * packet_bits(count, D))


# -- corners --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES, ids=by_name)
def test_nobody_scheduled(scheme):
    running, g = scheme.begin(K, D), normal(K, D)
    found = send(running, g, air(), scheduled=~ALL)
    np.testing.assert_array_equal(found.estimate, 0.0)
    assert (found.seconds, found.joules) == (0, 0)
    found = send(running, g, air(), scheduled=~ALL, everybody=True)
    assert (found.seconds, found.joules) == (2, 7 * K)
    np.testing.assert_array_equal(running.memory.unsent, g)


@pytest.mark.parametrize("scheme", SCHEMES, ids=by_name)
def test_diverged_training_goes_on(scheme):
    g = normal(K, D)
    g[1] = np.nan
    running = scheme.begin(K, D)
    assert np.isfinite(send(running, g, air(), scheduled=np.arange(K) != 1).estimate).all()
    assert np.isnan(send(running, g, air()).estimate).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=by_name)
def test_needs_a_link_that_adds(scheme):
    link = make_link()
    running, gain = scheme.begin(4, D), link.mean_gain
    round = link.round(0, gain, D, np.ones(4) / 4, {})
    choice = Decision(np.ones(4, bool), np.ones(4) / 4, np.ones(4), np.ones(4))
    with pytest.raises(InvalidProblem, match="AirLink"):
        running.transmit(normal(4, D), choice, round, gain, link, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        *((s, {"share": v}) for s in (AnalogCompressed, SharedMask, DigitalDSGD) for v in (0, 1.1)),
        *((s, {"least_gain": 1.0}) for s in (AnalogCompressed, SharedMask, DigitalDSGD)),
        (AnalogCompressed, {"density": 0.0}),
        (AnalogCompressed, {"threshold": 0.0}),
        (AnalogCompressed, {"steps": 0}),
    ],
)
def test_refusals(scheme, options):
    with pytest.raises(InvalidProblem, match=next(iter(options))):
        scheme(**options)


def test_names_tell_what_differs():
    schemes = [
        *SCHEMES,
        AnalogCompressed(0.5, 0.1, guard=True),
        *(type(s)(0.5, error_feedback=False) for s in SCHEMES),
    ]
    assert len({s.name for s in schemes}) == len(schemes) - 1  # the first two become the same


def test_communication_gain():
    assert communication_gain(20, 650, 650) == 20
    assert communication_gain(20, 650, AnalogCompressed(0.1).uses(650)) == 200
    with pytest.raises(InvalidProblem):
        communication_gain(20, 650, 0)


# -- training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def accuracy():
    """Of digits after 100 rounds, softmax, d = 650, M = 20, noise 1 W a real use; two seeds."""
    tasks = []
    for seed in range(2):
        data = fl.load_digits(fl.Streams(seed).rng("data"))
        parts = fl.partition.iid(data.train_y, 20, fl.Streams(seed).rng("partition"))
        tasks.append(fl.Task(data, parts, fl.SoftmaxRegression(64, 10), 1.0))

    def of(scheme, power=1.0):
        link = air(20, noise=1.0, power_w=power)
        runs = [
            fl.train(t, link, Everybody(), rounds=100, seed=i, scheme=scheme, evaluate_every=100)
            for i, t in enumerate(tasks)
        ]
        return np.mean([h.accuracy[-1] for h in runs])

    return of


def test_error_feedback_is_what_makes_compression_work(accuracy):
    """ota.md §5: .853 with and .468 without."""
    with_memory, without = (
        accuracy(AnalogCompressed(0.25, 0.05, error_feedback=fed)) for fed in (True, False)
    )
    assert with_memory > without + 0.2
    assert with_memory == pytest.approx(0.853, abs=0.05)


def test_shared_mask_is_as_good_as_everything_and_better_than_recovery(accuracy):
    """ota.md §5: .946 for a tenth of the uses, .949 for all of them, .662 for a recovery."""
    whole, mask, recovery = (
        accuracy(s) for s in (OverTheAir(), SharedMask(0.1), AnalogCompressed(0.1, 0.02))
    )
    assert mask > whole - 0.03
    assert mask > recovery + 0.1


def test_digital_needs_power(accuracy):
    """ota.md §5: chance at P = 1, .946 at P = 100."""
    assert accuracy(DigitalDSGD(0.5)) < 0.2
    assert accuracy(DigitalDSGD(0.5), 100.0) == pytest.approx(0.946, abs=0.03)
