"""Errors of a sum over the air, symbol by symbol: only channels, pulses and averages."""

import numpy as np


def gaussian(rng, *shape):
    """Independent CN(0, 1)."""
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def arrived(symbols, phase, offset, window=400):
    """What one device delivers: symbols ``(T,)`` turned by its phases and sampled late.

    The band-limited signal sum_n s[n] sinc(t - n) is read at t - offset, with the interference of
    ``window`` symbols on either side.
    """
    n = np.arange(-window, window + 1)
    late = np.convolve(symbols, np.sinc(n - offset), mode="same")
    return np.exp(1j * phase) * late


def sum_error(
    rng, estimate, m, members, phi, noise, power, variance, delta, offset, symbols=200_000
):
    """Mean of |estimate of the sum - the sum|^2, and the share of each device in the estimate.

    ``estimate`` ``(N, K)`` is what devices and server believe; for every symbol the true channel
    is that plus CN(0, variance_k I) and the phase uniform in +-delta_k. Devices invert what they
    believe, the weakest sends with all its power, the server divides by sqrt(eta). The phase is
    turned after the pulse, as an oscillator does. The last value is E f s_k^*, phi_k if unbiased.
    """
    m = np.asarray(m) / np.linalg.norm(m)
    believed = {k: np.vdot(m, estimate[:, k]) for k in members}
    eta = power * min(abs(believed[k]) ** 2 / phi[k] ** 2 for k in members)
    got = m.conj() @ (gaussian(rng, len(m), symbols) * np.sqrt(noise))
    wanted, sent = 0.0, {}
    for k in members:
        s = gaussian(rng, symbols)
        sent[k] = s
        b = np.sqrt(eta) * phi[k] * believed[k].conj() / abs(believed[k]) ** 2
        assert abs(b) ** 2 <= power * (1 + 1e-9)
        heard = believed[k] + m.conj() @ gaussian(rng, len(m), symbols) * np.sqrt(variance[k])
        theta = rng.uniform(-delta[k], delta[k], symbols) if delta[k] else np.zeros(symbols)
        got = got + heard * b * arrived(s, theta, offset[k])
        wanted = wanted + phi[k] * s
    f = got / np.sqrt(eta)
    share = {k: np.mean(f * s.conj()) for k, s in sent.items()}
    return float(np.mean(np.abs(f - wanted) ** 2)), share


def largest_set(level, cost, budget):
    """The most devices with max level + sum of costs <= budget, over every set."""
    K, most = len(level), 0
    for bits in range(1, 2**K):
        members = [k for k in range(K) if bits >> k & 1]
        if max(level[k] for k in members) + sum(cost[k] for k in members) <= budget:
            most = max(most, len(members))
    return most


def any_violated(rng, estimate, m, members, phi, tau, variance, trials=200_000):
    """How often some member's true channel falls below its threshold, CN(0, variance_k I) errors.

    Only m^H e matters, but the whole vector is drawn.
    """
    m = np.asarray(m) / np.linalg.norm(m)
    bad = np.zeros(trials, dtype=bool)
    for k in members:
        true = np.vdot(m, estimate[:, k]) + m.conj() @ gaussian(rng, len(m), trials) * np.sqrt(
            variance[k]
        )
        bad |= np.abs(true) ** 2 < tau * phi[k] ** 2
    return bad.mean()
