"""Classic reference problems: slow, obvious solvers for one small instance each."""

import math
from itertools import product

import cvxpy as cp
import numpy as np

# -- downlink beamforming -------------------------------------------------------------------------


def beamforming_socp(h, target, noise):
    """Least total power by a cone program; h has one row for each device."""
    h, target = np.asarray(h), np.asarray(target, float)
    size, antennas = h.shape
    w = cp.Variable((antennas, size), complex=True)
    rules = []
    for k in range(size):
        heard = h[k].conj() @ w
        loud = cp.hstack([heard, np.sqrt(noise[k])])
        rules += [np.sqrt(1 + 1 / target[k]) * cp.real(heard[k]) >= cp.norm(loud)]
        rules += [cp.imag(heard[k]) == 0]
    problem = cp.Problem(cp.Minimize(cp.norm(w, "fro")), rules)
    problem.solve(solver=cp.CLARABEL)
    return problem.value**2


def beamforming_fixed_point(h, target, noise, steps=5000):
    """Total power and powers by the textbook iteration on uplink powers, then a linear system."""
    size, antennas = np.shape(h)
    uplink = [0.0] * size
    for _ in range(steps):
        everybody = np.eye(antennas) + sum(q * np.outer(g, g.conj()) for q, g in zip(uplink, h))
        inverse = np.linalg.inv(everybody)
        uplink = [1 / ((1 + 1 / t) * (g.conj() @ inverse @ g).real) for g, t in zip(h, target)]
    everybody = np.eye(antennas) + sum(q * np.outer(g, g.conj()) for q, g in zip(uplink, h))
    beams = [np.linalg.solve(everybody, g) for g in h]
    beams = [v / np.linalg.norm(v) for v in beams]
    matrix = np.array([[-(abs(g.conj() @ v) ** 2) for v in beams] for g in h])
    for k in range(size):
        matrix[k, k] /= -target[k]
    power = np.linalg.solve(matrix, noise)
    return float(sum(power)), power


# -- MIMO capacity --------------------------------------------------------------------------------


def mimo_logdet(channel, power):
    """Capacity by a semidefinite program in the covariance itself, complex as real blocks."""
    h = np.asarray(channel, complex)
    rows, columns = h.shape
    real, imag = cp.Variable((columns, columns)), cp.Variable((columns, columns))
    q = cp.bmat([[real, -imag], [imag, real]])
    wide = np.block([[h.real, -h.imag], [h.imag, h.real]])
    rules = [real == real.T, imag == -imag.T, q >> 0, cp.trace(real) <= power]
    inner = np.eye(2 * rows) + wide @ q @ wide.T
    problem = cp.Problem(cp.Maximize(cp.log_det((inner + inner.T) / 2) / 2), rules)
    problem.solve(solver=cp.CLARABEL)
    return problem.value / math.log(2)


def mimo_rate(channel, q):
    """log2 det(I + H Q H^H)."""
    h = np.asarray(channel, complex)
    sign, value = np.linalg.slogdet(np.eye(len(h)) + h @ q @ h.conj().T)
    assert abs(sign - 1) < 1e-9
    return value / math.log(2)


# -- subcarriers ----------------------------------------------------------------------------------


def filled_rate(gain, power):
    """Sum rate of parallel channels by bisection on the depth over the best channel's ground."""
    gain = [g for g in gain if g > 0]
    if not gain or power == 0:
        return 0.0
    ground = [1 / g - 1 / max(gain) for g in gain]
    low, high = 0.0, power
    for _ in range(200):
        depth = (low + high) / 2
        used = sum(max(depth - b, 0.0) for b in ground)
        low, high = (depth, high) if used < power else (low, depth)
    return sum(math.log1p(g * max(high - b, 0.0)) for g, b in zip(gain, ground)) / math.log(2)


def subcarriers_brute(gain, power):
    """Best sum rate over every way to give each subcarrier to one device."""
    gain = np.asarray(gain, float)
    owners = product(range(gain.shape[0]), repeat=gain.shape[1])
    return max(filled_rate([gain[k, f] for f, k in enumerate(o)], power) for o in owners)


def quota_brute(gain, quota, power):
    """Best sum rate over every assignment in which device k gets quota_k subcarriers."""
    gain = np.asarray(gain, float)
    best = -math.inf
    for owner in product(range(-1, gain.shape[0]), repeat=gain.shape[1]):
        if all(owner.count(k) == n for k, n in enumerate(quota)):
            nats = sum(math.log1p(gain[k, f] * power[f]) for f, k in enumerate(owner) if k >= 0)
            best = max(best, nats / math.log(2))
    return best


# -- ALOHA ----------------------------------------------------------------------------------------


def aloha_success(p):
    """Success probability of each device, over every set of devices that may send at once."""
    out = [0.0] * len(p)
    for sends in product((False, True), repeat=len(p)):
        if sum(sends) == 1:
            chance = math.prod(a if s else 1 - a for a, s in zip(p, sends))
            out[sends.index(True)] += chance
    return out


def aloha_search(weight, rounds=60):
    """Best probabilities by golden section, one coordinate after another, from 1/2."""
    p = [0.5] * len(weight)

    def worth(trial):
        success = aloha_success(trial)
        return sum(w * math.log(s) for w, s in zip(weight, success) if w > 0)

    for _ in range(3):
        for k in range(len(p)):
            low, high, ratio = 1e-9, 1 - 1e-9, (math.sqrt(5) - 1) / 2
            for _ in range(rounds):
                a, b = high - ratio * (high - low), low + ratio * (high - low)
                left, right = worth([*p[:k], a, *p[k + 1 :]]), worth([*p[:k], b, *p[k + 1 :]])
                low, high = (low, b) if left > right else (a, high)
            p[k] = (low + high) / 2
    return p, worth(p)


# -- proportional fairness ------------------------------------------------------------------------


def fair_shares(rate, weight, step=1e-4):
    """Shares of two or three devices by a grid, refined once; and the utility."""

    def worth(share):
        return sum(w * math.log(s * r) for s, r, w in zip(share, rate, weight))

    def around(centre, width, cells=40):
        axes = [np.linspace(max(c - width, 1e-6), min(c + width, 1), cells) for c in centre[:-1]]
        inside = [(*s, 1 - sum(s)) for s in product(*axes) if sum(s) < 1]
        return max(inside, key=worth)

    best, width = tuple([1 / len(rate)] * len(rate)), 1.0
    while width > step:
        best, width = around(best, width), width / 10
    return best, worth(best)


def fair_schedule(rates, window):
    """Who is served in each slot, in plain numbers: argmax r/Rbar, Rbar forgets in ``window``."""
    size = len(rates[0])
    mean, served = [r / size for r in rates[0]], []
    for now in rates:
        ratio = [r / m for r, m in zip(now, mean)]
        best = ratio.index(max(ratio))
        served.append(best)
        for k in range(size):
            mean[k] = (1 - 1 / window) * mean[k] + (now[k] / window if k == best else 0.0)
    return served


def harmonic(size):
    """H_K = 1 + 1/2 + ... + 1/K: the mean of the largest of K unit exponentials."""
    return sum(1 / k for k in range(1, size + 1))
