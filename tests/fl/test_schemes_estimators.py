"""Outages and estimates against their closed forms: the law of the packets, mean, second moment."""

import numpy as np
import pytest
from scheme_toys import SHARE, allocate, link_of, remembering, round_of

from rralloc.fl.schemes import SignModulus, Statistics, Success, plan, scaling
from rralloc.fl.schemes.estimators import optimal_scale

SNR = [3.0, 8.0, 20.0, 40.0]
ESTIMATORS = ["plain", "sign_unbiased", "unbiased", "optimal_scaling"]
ALLOCATIONS = {
    "alpha above theta": (np.array([0.2, 0.3, 0.25, 0.25]), 0.7, 0.4),
    "alpha below theta": (0.25, 0.2, 0.6),
    "mixed": (0.25, np.array([0.3, 1.0, 0.6, 0.5]), np.array([0.3, 0.5, 1.0, 0.2])),
}


def closed_form(link, beta, alpha, theta, fading, l=6, b=3):  # noqa: E741
    """q, p and the thresholds as the spec writes them, with alpha = 1 or theta = 1 sign-only."""
    beta, alpha, theta = (np.broadcast_to(v, 4).astype(float) for v in (beta, alpha, theta))
    r_s, r_m = (bits / (1e6 * link.uplink_s) for bits in (l, l * b + 64))
    gamma = np.array(SNR)
    s = theta * beta / gamma * (2 ** (r_s / (theta * beta)) - 1) / alpha
    lone = (alpha == 1) | (theta == 1)
    rest = np.where(lone, 0.5, 1 - theta) * beta
    m = rest / gamma * (2 ** (r_m / rest) - 1) / np.where(lone, 0.5, 1 - alpha)
    m = np.where(lone, np.inf, m)
    p = np.exp(-m) if fading == "independent" else np.exp(-np.maximum(m - s, 0.0))
    return np.exp(-s), np.where(lone, 0.0, p)


@pytest.mark.parametrize("fading", ["common", "independent"])
@pytest.mark.parametrize("allocation", ALLOCATIONS.values(), ids=list(ALLOCATIONS))
def test_packets_arrive_as_often_as_the_closed_form_says(allocation, fading):
    """200000 rounds; 4 standard errors."""
    scheme, link, trials = SignModulus(fading=fading), link_of(SNR), 200_000
    round = round_of(scheme, link)
    chosen = plan("sign-modulus", 6, 3, allocate(round, *allocation), round)
    q, p = closed_form(link, *allocation, fading)
    np.testing.assert_allclose(chosen.success(fading).sign, q, rtol=1e-12)
    np.testing.assert_allclose(chosen.success(fading).modulus, p, rtol=1e-12)
    rng = np.random.default_rng(0)
    fade, own = rng.standard_exponential((2, trials, 4))
    sign, modulus = chosen.decoded(fade, fade if fading == "common" else own)
    for found, chance in ((sign, q), (sign & modulus, q * p)):
        spread = np.sqrt(chance * (1 - chance) / trials)
        assert (np.abs(found.mean(0) - chance) <= 4 * spread + 1e-12).all()


@pytest.mark.parametrize("fading", ["common", "independent"])
@pytest.mark.parametrize("reference", ["none", "stale", "innovation"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_mean_and_second_moment_of_the_estimate(estimator, reference, fading):
    """2000 rounds from one memory; 4 standard errors."""
    scheme = SignModulus(estimator=estimator, reference=reference, fading=fading)
    link, trials, w = link_of(SNR, rate=0.3), 2000, SHARE
    allocation = ALLOCATIONS["alpha above theta"]
    round, state = round_of(scheme, link), remembering(4, 6, reference)
    choice = allocate(round, *allocation)
    g = np.random.default_rng(1).normal(size=(4, 6))
    message = scheme.prepare(state.device, g)
    rng = np.random.default_rng(2)
    found = np.array(
        [
            scheme.exchange(state, message, choice, round, link.gains(rng), link, rng)[0].estimate
            for _ in range(trials)
        ]
    )
    # By hand, from the spec: what is predicted, what is sent, what a lone sign packet adds.
    d, gbar = state.server.reference, state.server.memory.own
    tau = (g * d).sum(1) / np.maximum((d**2).sum(1), 1e-300)
    f = {"none": 0 * d, "stale": tau[:, None] * d, "innovation": d}[reference]
    u = g - f
    sent = u if reference == "innovation" else g
    scale = (np.abs(sent) * gbar).sum(1) / (gbar**2).sum(1)
    c = np.where(sent < 0, -1, 1) * scale[:, None] * gbar
    if reference == "stale":
        worse = ((g - c) ** 2).sum(1) >= (u**2).sum(1)
        c = np.where(worse[:, None], 0.0, c - f)
    G, E, H = (u**2).sum(1), ((u - c) ** 2).sum(1), (c**2).sum(1)
    D = message.reports.statistics.quantization_error
    for name, value in zip(Statistics._fields, (G, E, D, H)):
        told = getattr(message.reports.statistics, name)
        np.testing.assert_allclose(told, value, rtol=1e-9, err_msg=name)
    q, p = closed_form(link, *allocation, fading)
    each = {
        "plain": np.ones(4),
        "sign_unbiased": 1 / q,
        "unbiased": 1 / q,
        "optimal_scaling": optimal_scale(Success(q, p), Statistics(G, E, D, H), w),
    }
    a = each[estimator]
    mean = (a * q)[:, None] * (p[:, None] * u + (1 - p)[:, None] * c)
    second = a**2 * q * (p * (G + D) + (1 - p) * H)
    if estimator == "unbiased":
        mean, second = u, (G - E) / q + (E + D) / (q * p)
    variance = second - (mean**2).sum(1)
    centre = w @ (f + mean)
    error = found.std(0, ddof=1) / np.sqrt(trials)
    assert (np.abs(found.mean(0) - centre) <= 4 * error).all()
    distance = ((found - centre) ** 2).sum(1)
    spread = distance.std(ddof=1) / np.sqrt(trials)
    assert abs(distance.mean() - w**2 @ variance) <= 4 * spread


def draws(seed, size=500):
    rng = np.random.default_rng(seed)
    q, p = rng.uniform(0.01, 1, (2, size))
    G = np.exp(rng.normal(size=size))
    E = G * rng.uniform(0, 1, size)
    return (
        Success(q, p),
        Statistics(G, E, G * rng.uniform(0, 0.5, size), G - E),
        rng.uniform(0.01, 1, size),
    )


def error_of(kappa, success, statistics, lam_w):
    """Bias^2 + lam w variance of one device, from scratch."""
    (q, p), (G, E, D, H) = success, statistics
    Y = (G + H - E) / 2
    inner = p * G + (1 - p) * Y
    N = p**2 * G + 2 * p * (1 - p) * Y + (1 - p) ** 2 * H
    bias = G - 2 * kappa * q * inner + (kappa * q) ** 2 * N
    return bias + lam_w * kappa**2 * (q * (p * (G + D) + (1 - p) * H) - q**2 * N)


def test_the_optimal_scale_is_the_best_one():
    success, statistics, lam_w = draws(0)
    kappa = optimal_scale(success, statistics, lam_w)
    best = error_of(kappa, success, statistics, lam_w)
    for other in (0.99 * kappa, 1.01 * kappa, 1 / success.sign, np.ones_like(kappa)):
        assert (error_of(other, success, statistics, lam_w) >= best * (1 - 1e-12)).all()
    (q, p), (G, E, D, H) = success, statistics
    X = p * G + (1 - p) * (G + H - E) / 2
    T = p * (G + D) + (1 - p) * H
    N = p**2 * G + p * (1 - p) * (G + H - E) + (1 - p) ** 2 * H
    np.testing.assert_allclose(best, G - q * X**2 / (q * N + lam_w * (T - q * N)), rtol=1e-9)


def test_scaling_is_finite_where_nothing_can_arrive():
    q = np.array([0.0, 1e-310, 0.5, 1.0])
    p = np.array([0.0, 0.5, 0.0, 1.0])
    statistics = Statistics(np.ones(4), np.full(4, 0.5), np.full(4, 0.1), np.full(4, 0.5))
    for estimator in ESTIMATORS:
        for lam in (0.0, 1.0):
            factors = scaling(estimator, Success(q, p), statistics, SHARE, lam)
            assert np.isfinite(factors).all()
    zero = Statistics(*np.zeros((4, 4)))
    assert np.isfinite(scaling("optimal_scaling", Success(q, p), zero, SHARE)).all()
