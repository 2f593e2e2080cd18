"""Water-filling: max sum log2(1 + g_i p_i), sum p <= P, p >= 0 (g already divided by noise)."""

import math

import cvxpy as cp
import numpy as np


def rate(gain, power_w):
    """Sum rate in bit/s/Hz, term by term."""
    return sum(math.log2(1 + g * p) for g, p in zip(gain, power_w))


def solve(gain, power_budget_w):
    """Powers, water level, rate: try every number n of active channels, keep the best."""
    order = sorted((i for i in range(len(gain)) if gain[i] > 0), key=lambda i: -gain[i])
    best = ([0.0] * len(gain), 1 / gain[order[0]] if order else math.inf, 0.0)
    for n in range(1, len(order) + 1):
        active = order[:n]
        level = (power_budget_w + sum(1 / gain[i] for i in active)) / n
        power = [0.0] * len(gain)
        for i in active:
            power[i] = level - 1 / gain[i]
        if min(power) >= 0 and rate(gain, power) > best[2]:
            best = (power, level, rate(gain, power))
    return best


def min_power(gain, target_rate):
    """Least total power for a sum rate: bisection on the water level alone."""
    lo, hi = 0.0, 1.0
    while _rate_at_level(gain, hi) < target_rate:
        hi *= 2
    for _ in range(200):
        mid = (lo + hi) / 2
        lo, hi = (mid, hi) if _rate_at_level(gain, mid) < target_rate else (lo, mid)
    return sum(max(hi - 1 / g, 0) for g in gain if g > 0)


def _rate_at_level(gain, level):
    return sum(max(math.log2(level * g), 0) for g in gain if level * g > 0)


def solve_cvxpy(gain, power_budget_w):
    """Powers and rate from a conic solver."""
    p = cp.Variable(len(gain), nonneg=True)
    bits = cp.sum(cp.log1p(cp.multiply(np.asarray(gain, float), p))) / math.log(2)
    problem = cp.Problem(cp.Maximize(bits), [cp.sum(p) <= power_budget_w])
    problem.solve(solver=cp.CLARABEL)
    return p.value, problem.value
