"""Power control of interfering links and energy efficiency, by slow second methods.

SINR_i = G_ii p_i / (s_i + sum_{j != i} G_ij p_j): row = receiver, column = transmitter.
"""

import math

import cvxpy as cp
import numpy as np
from scipy.optimize import minimize


def sinr(gain, noise, p):
    """SINR of each link, one at a time."""
    links = range(len(p))
    heard = [noise[i] + sum(gain[i][j] * p[j] for j in links if j != i) for i in links]
    return [gain[i][i] * p[i] / heard[i] for i in links]


def foschini_miljanic(gain, noise, target, steps=5000):
    """Each link corrects its own power by what it measures: (p, steps taken), from silence."""
    p = [n / gain[i][i] for i, n in enumerate(noise)]
    for step in range(steps):
        found = sinr(gain, noise, p)
        following = [q * t / f for q, t, f in zip(p, target, found)]
        if max(abs(a - b) / b for a, b in zip(following, p)) < 1e-15:
            return following, step
        p = following
        if max(p) > 1e12:
            return None, step
    return p, steps


def least_power(gain, noise, target):
    """Solve the equalities; None if the spectral radius says that there is no solution."""
    gain, target = np.asarray(gain, float), np.asarray(target, float)
    direct = np.diag(gain)
    loop = target[:, None] * gain / direct[:, None] * (1 - np.eye(len(gain)))
    if max(abs(np.linalg.eigvals(loop))) >= 1 - 1e-13:  # nearer to 1 the system is singular
        return None
    return np.linalg.solve(np.eye(len(gain)) - loop, target * np.asarray(noise) / direct)


def max_min(gain, noise, cap, total=math.inf):
    """Bisection on the SINR: the largest that some powers within the limits reach."""
    low, high = 0.0, min(gain[i][i] * c / noise[i] for i, c in enumerate(cap))
    for _ in range(200):
        middle = (low + high) / 2
        p = least_power(gain, noise, [middle] * len(gain))
        fits = p is not None and all(p <= cap) and sum(p) <= total
        low, high = (middle, high) if fits else (low, middle)
    return low, least_power(gain, noise, [low] * len(gain))


def _heard(gain, noise, p, i):
    """Noise plus interference as a posynomial: non-zero gains only (a zero is not allowed)."""
    return noise[i] + sum(gain[i][j] * p[j] for j in range(len(gain)) if j != i and gain[i][j] > 0)


def geometric(gain, noise, kind, cap=None, total=None, target=None):
    """cvxpy's geometric programming: ``kind`` is "max-min", "product" or "power"; (value, p)."""
    size = len(gain)
    p, t = cp.Variable(size, pos=True), cp.Variable(pos=True)
    ratio = [gain[i][i] * p[i] / _heard(gain, noise, p, i) for i in range(size)]
    limits = [p <= cap] if cap is not None else []
    limits += [cp.sum(p) <= total] if total is not None else []
    if kind == "max-min":
        limits += [t * _heard(gain, noise, p, i) <= gain[i][i] * p[i] for i in range(size)]
        goal = cp.Maximize(t)
    elif kind == "product":
        goal = cp.Maximize(cp.prod(cp.hstack(ratio)))
    else:
        limits += [target[i] * _heard(gain, noise, p, i) <= gain[i][i] * p[i] for i in range(size)]
        goal = cp.Minimize(cp.sum(p))
    model = cp.Problem(goal, limits)
    model.solve(gp=True, solver=cp.CLARABEL)
    return model.value, p.value


def product(gain, noise, cap):
    """The largest product of SINRs: L-BFGS in the logarithms of the powers."""

    def minus_log(q):
        return -sum(math.log(f) for f in sinr(gain, noise, np.exp(q)))

    found = minimize(
        minus_log,
        np.log(cap) - 0.1,
        method="L-BFGS-B",
        bounds=[(None, math.log(c)) for c in cap],
        options={"ftol": 0, "gtol": 1e-10, "maxiter": 2000},
    )
    return math.exp(-found.fun), np.exp(found.x)


def efficiency(gain, circuit, p):
    """log2(1 + g p) summed, over the power spent."""
    return sum(math.log2(1 + g * q) for g, q in zip(gain, p)) / (sum(p) + circuit)


def dinkelbach(gain, circuit, cap, price, steps=100):
    """From a price of power: (efficiency, p, iterations until it repeats to 1e-12)."""
    for step in range(1, steps + 1):
        wanted = [
            math.inf if price == 0 else max(1 / (price * math.log(2)) - 1 / g, 0) if g else 0
            for g in gain
        ]
        p = [min(w, c) if g > 0 else 0.0 for g, w, c in zip(gain, wanted, cap)]
        following = efficiency(gain, circuit, p)
        if abs(following - price) <= 1e-12 * following:
            return following, p, step
        price = following
    return price, p, steps
