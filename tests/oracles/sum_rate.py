"""Weighted sum rate of interfering links: max sum w_i log2(1 + SINR_i), 0 <= p_i <= P_i.

SINR_i = G_ii p_i / (s + sum_{j != i} G_ij p_j): row = receiver, column = transmitter;
one noise power s for all. Optionally every link must keep log2(1 + SINR_i) >= r_i.
"""

import itertools
import math

import numpy as np
from scipy.optimize import minimize


def rates(gain, noise, p):
    """Rate of each link in bit/s/Hz, one link at a time."""
    links = range(len(p))
    heard = [noise + sum(gain[i][j] * p[j] for j in links if j != i) for i in links]
    return [math.log2(1 + gain[i][i] * p[i] / heard[i]) for i in links]


def value(gain, noise, weight, p):
    """Weighted sum rate."""
    return sum(w * r for w, r in zip(weight, rates(gain, noise, p)))


def gradient(gain, noise, weight, p):
    """Derivative of the weighted sum rate, term by term."""
    links = range(len(p))
    slope = np.zeros(len(p))
    for i in links:
        heard = noise + sum(gain[i][j] * p[j] for j in links if j != i)
        total = heard + gain[i][i] * p[i]
        for j in links:
            step = gain[i][j] / total - (gain[i][j] / heard if j != i else 0)
            slope[j] += weight[i] * step / math.log(2)
    return slope


def slack(gain, noise, p, min_rate):
    """Minimum rates as linear constraints: feasible iff every entry is >= 0."""
    links = range(len(p))
    heard = [noise + sum(gain[i][j] * p[j] for j in links if j != i) for i in links]
    return np.array([gain[i][i] * p[i] - (2.0 ** min_rate[i] - 1) * heard[i] for i in links])


def minimum_power(gain, noise, min_rate):
    """Least powers meeting the minimum rates, or None: solve the equalities, keep if positive."""
    gain, size = np.asarray(gain, float), len(gain)
    need = 2.0 ** np.asarray(min_rate, float) - 1
    matrix = np.array(
        [
            [gain[i, i] if i == j else -need[i] * gain[i, j] for j in range(size)]
            for i in range(size)
        ]
    )
    p = np.linalg.solve(matrix, need * noise)
    reach = np.array(
        [
            [0 if i == j else need[i] * gain[i, j] / gain[i, i] for j in range(size)]
            for i in range(size)
        ]
    )
    return p if max(abs(np.linalg.eigvals(reach))) < 1 else None


def polish(gain, noise, weight, cap, start, min_rate=None):
    """A local maximum near a start: (value, p), clipped to the caps; None if rates are missed."""
    if min_rate is None:
        method, constraints, options = "L-BFGS-B", [], {"ftol": 0, "gtol": 1e-12, "maxiter": 1000}
    else:
        rows = np.array([slack(gain, 0.0, p, min_rate) for p in np.eye(len(cap))]).T
        method, options = "SLSQP", {"ftol": 1e-15, "maxiter": 500}
        constraints = [
            {
                "type": "ineq",
                "fun": lambda p: slack(gain, noise, p, min_rate) / noise,
                "jac": lambda p: rows / noise,
            }
        ]
    found = minimize(
        lambda p: -value(gain, noise, weight, np.clip(p, 0, cap)),
        start,
        jac=lambda p: -gradient(gain, noise, weight, np.clip(p, 0, cap)),
        bounds=[(0, c) for c in cap],
        constraints=constraints,
        method=method,
        options=options,
    )
    p = np.clip(found.x, 0, cap)
    if min_rate is not None and min(slack(gain, noise, p, min_rate)) < -1e-9 * noise:
        return None
    return value(gain, noise, weight, p), p


def grid(gain, noise, weight, cap, points, min_rate=None):
    """(value, p) on a regular grid of the box, feasible points only, best first."""
    axes = [np.linspace(0, c, points) for c in cap]
    scored = []
    for p in itertools.product(*axes):
        if min_rate is None or min(slack(gain, noise, p, min_rate)) >= 0:
            scored.append((value(gain, noise, weight, p), p))
    return sorted(scored, reverse=True)


def local_maxima(gain, noise, weight, cap, starts=60, points=5, min_rate=None, seed=0):
    """Distinct polished (value, p), best first: from the best grid points and random starts."""
    rng = np.random.default_rng(seed)
    first = [p for _, p in grid(gain, noise, weight, cap, points, min_rate)[: starts // 2]]
    first += [rng.uniform(0, cap) for _ in range(starts - len(first))]
    found = []
    for start in first:
        end = polish(gain, noise, weight, cap, start, min_rate)
        if end is not None and all(np.max(np.abs(end[1] - p)) > 1e-4 for _, p in found):
            found.append(end)
    return sorted(found, key=lambda pair: -pair[0])


def solve(gain, noise, weight, cap, starts=60, points=5, min_rate=None, seed=0):
    """Best point found: (p, value); ValueError if the minimum rates cannot be met."""
    if min_rate is not None:
        least = minimum_power(gain, noise, min_rate)
        if least is None or any(least > np.asarray(cap)):
            raise ValueError("the minimum rates cannot be met within the caps")
    best = local_maxima(gain, noise, weight, cap, starts, points, min_rate, seed)[0]
    return best[1], best[0]


def box_bound(gain, noise, weight, lo, hi):
    """No point of the box lo <= p <= hi does better: own power at hi, interference at lo."""
    links = range(len(lo))
    total = 0.0
    for i in links:
        heard = noise + sum(gain[i][j] * lo[j] for j in links if j != i)
        total += weight[i] * math.log2(1 + gain[i][i] * hi[i] / heard)
    return total


def shrink(gain, noise, lo, hi, min_rate):
    """Cut from a box what the minimum rates forbid; None if nothing is left."""
    lo, hi, links = list(lo), list(hi), range(len(lo))
    for i in links:
        need = 2.0 ** min_rate[i] - 1
        if need == 0:
            continue
        heard = noise + sum(gain[i][j] * lo[j] for j in links if j != i)
        lo[i] = max(lo[i], need * heard / gain[i][i])
        if lo[i] > hi[i]:
            return None
        for j in links:
            if j != i and gain[i][j] > 0:
                spare = gain[i][i] * hi[i] / need - heard
                hi[j] = min(hi[j], lo[j] + spare / gain[i][j])
                if hi[j] < lo[j]:
                    return None
    return lo, hi


def prove_bound(gain, noise, weight, cap, target, min_rate=None, max_boxes=500_000):
    """Number of boxes that prove "no feasible p exceeds target"; None if unproved.

    Branch and bound: drop a box whose bound is below the target, else cut it in two, on a
    logarithmic scale that starts at the noise, along its longest side.
    """
    floor = [noise / gain[i][i] for i in range(len(cap))]
    stack, boxes = [([0.0] * len(cap), list(cap))], 0
    while stack:
        boxes += 1
        lo, hi = stack.pop()
        if boxes > max_boxes:
            return None
        if min_rate is not None:
            box = shrink(gain, noise, lo, hi, min_rate)
            if box is None:
                continue
            lo, hi = box
        if box_bound(gain, noise, weight, lo, hi) <= target:
            continue
        k = max(range(len(cap)), key=lambda i: (hi[i] + floor[i]) / (lo[i] + floor[i]))
        cut = math.sqrt((hi[k] + floor[k]) * (lo[k] + floor[k])) - floor[k]
        stack.append((lo, [*hi[:k], cut, *hi[k + 1 :]]))
        stack.append(([*lo[:k], cut, *lo[k + 1 :]], hi))
    return boxes


def wmmse(gain, noise, weight, start, cap, steps=2000):
    """Textbook scalar WMMSE from a start: (p, list of values); local method, monotone."""
    links = range(len(cap))
    v = [math.sqrt(p) for p in start]
    history = [value(gain, noise, weight, start)]
    h = [[math.sqrt(gain[i][j]) for j in links] for i in links]
    for _ in range(steps):
        power = [noise + sum(gain[i][j] * v[j] ** 2 for j in links) for i in links]
        u = [h[i][i] * v[i] / power[i] for i in links]
        w = [1 / (1 - u[i] * h[i][i] * v[i]) for i in links]
        for i in links:
            curve = sum(weight[j] * w[j] * u[j] ** 2 * gain[j][i] for j in links)
            best = weight[i] * w[i] * u[i] * h[i][i] / curve if curve > 0 else 0.0
            v[i] = min(max(best, 0.0), math.sqrt(cap[i]))
        history.append(value(gain, noise, weight, [x * x for x in v]))
    return [x * x for x in v], history
