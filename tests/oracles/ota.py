"""OTA selection: one unit m, device k served iff |g_k^H m|^2 >= tau; columns of G are g_k."""

import itertools
import math

import numpy as np
from scipy.optimize import minimize, minimize_scalar


def mse(channel, members, m, noise, power, phi):
    """Error of the sum over the members with power inversion, device by device."""
    m = np.asarray(m) / np.linalg.norm(m)
    worst = max(phi[k] ** 2 / abs(np.vdot(m, channel[:, k])) ** 2 for k in members)
    return noise / power * worst


def pair(a, b):
    """Largest min(|a^H m|^2, |b^H m|^2) over unit m, in closed form."""
    A, B, r = np.vdot(a, a).real, np.vdot(b, b).real, abs(np.vdot(a, b))
    if r >= A:
        return A
    if r >= B:
        return B
    return (A * B - r * r) / (A + B - 2 * r)


def pair_dual(a, b):
    """The same as min over y of lambda_max(y a a^H + (1 - y) b b^H)."""
    aa, bb = np.outer(a, np.conj(a)), np.outer(b, np.conj(b))

    def top(y):
        return np.linalg.eigvalsh(y * aa + (1 - y) * bb)[-1]

    found = minimize_scalar(top, bounds=(0, 1), method="bounded", options={"xatol": 1e-13})
    return min(found.fun, top(0.0), top(1.0))


def least_gain(G, starts=12, seed=0):
    """Largest min_k |g_k^H m|^2 that SLSQP finds from many random starts."""
    size, rng, best = len(G), np.random.default_rng(seed), 0.0

    def gains(z):
        return np.abs(G.conj().T @ (z[:size] + 1j * z[size:-1])) ** 2

    for _ in range(starts):
        z = rng.standard_normal(2 * size)
        z /= np.linalg.norm(z)
        first = np.append(z, 0.0)
        first[-1] = gains(first).min()
        rules = [
            {"type": "ineq", "fun": lambda z: gains(z) - z[-1]},
            {"type": "ineq", "fun": lambda z: 1 - z[:-1] @ z[:-1]},
        ]
        end = minimize(lambda z: -z[-1], first, method="SLSQP", constraints=rules).x
        best = max(best, gains(np.append(end[:-1] / np.linalg.norm(end[:-1]), 0)).min())
    return best


def dual_gain(G, steps=300):
    """An upper bound on the same: lambda_max(sum_k y_k g_k g_k^H) at a good y of the simplex."""
    y, least = np.full(G.shape[1], 1 / G.shape[1]), math.inf
    for step in range(1, steps + 1):
        lam, v = np.linalg.eigh((G * y) @ G.conj().T)
        least = min(least, lam[-1])
        y = y * np.exp(-(np.abs(v[:, -1].conj() @ G) ** 2) / lam[-1] / math.sqrt(step))
        y /= y.sum()
    return least


def best_set(G, tau, value=None):
    """The most valuable set that a beam serves: every set, the most valuable first."""
    K = G.shape[1]
    value = [1.0] * K if value is None else value
    sets = [s for n in range(K + 1) for s in itertools.combinations(range(K), n)]
    for s in sorted(sets, key=lambda s: -sum(value[k] for k in s)):
        part = G[:, list(s)]
        if not s or (dual_gain(part) >= tau and least_gain(part) >= tau * (1 - 1e-9)):
            return sum(value[k] for k in s)
    return 0.0


def two_antennas(G, tau, value=None):
    """N = 2: every cap's axis, a point of every rim, every crossing of two rims is tried."""
    K = G.shape[1]
    value = [1.0] * K if value is None else value
    size = (np.abs(G) ** 2).sum(0)
    n = [
        np.array([2 * (u[0].conj() * u[1]).real, 2 * (u[0].conj() * u[1]).imag, 0.0])
        + np.array([0, 0, abs(u[0]) ** 2 - abs(u[1]) ** 2])
        for u in (G / np.sqrt(size)).T
    ]
    c = [2 * tau / s - 1 for s in size]
    tried = list(n)
    for i in range(K):
        side = np.cross(n[i], [0.6, 0.0, 0.8])
        side /= np.linalg.norm(side)
        if abs(c[i]) <= 1:
            tried.append(c[i] * n[i] + math.sqrt(1 - c[i] ** 2) * side)
        for j in range(i):
            d = n[i] @ n[j]
            if abs(d) < 1 - 1e-12:
                a, b = (c[i] - d * c[j]) / (1 - d * d), (c[j] - d * c[i]) / (1 - d * d)
                flat, up = a * n[i] + b * n[j], np.cross(n[i], n[j])
                height = (1 - flat @ flat) / (up @ up)
                if height >= 0:
                    tried += [flat + math.sqrt(height) * up, flat - math.sqrt(height) * up]
    return max(sum(value[k] for k in range(K) if n[k] @ p >= c[k] - 1e-9) for p in tried)
