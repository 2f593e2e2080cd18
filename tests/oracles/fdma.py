"""FDMA bandwidth: max sum b_k log2(1 + q_k / b_k), sum b <= B, b >= 0; q = P g / N0 in Hz."""

import math

import cvxpy as cp
import numpy as np


def value(q_hz, bandwidth_hz):
    """Sum rate in bit/s; a user without bandwidth or without gain has rate 0."""
    return sum(
        b * math.log1p(q / b) / math.log(2) for q, b in zip(q_hz, bandwidth_hz) if b > 0 and q > 0
    )


def _marginal(q, b):
    """d/db of b log2(1 + q/b), decreasing in b."""
    return (math.log1p(q / b) - q / (b + q)) / math.log(2)


def _bandwidth_at_price(q, price, top):
    """The b in (0, top] whose marginal rate equals the price."""
    lo, hi = 0.0, top
    for _ in range(100):
        mid = (lo + hi) / 2
        lo, hi = (mid, hi) if _marginal(q, mid) > price else (lo, mid)
    return hi


def solve(q_hz, total_hz):
    """Bandwidths and sum rate by bisection on the price, and for each price on each b."""
    used = [q for q in q_hz if q > 0]
    lo, hi = 0.0, max(_marginal(q, total_hz / len(used) / 2) for q in used)
    for _ in range(100):
        price = (lo + hi) / 2
        spent = sum(_bandwidth_at_price(q, price, total_hz) for q in used)
        lo, hi = (price, hi) if spent > total_hz else (lo, price)
    b = [_bandwidth_at_price(q, hi, total_hz) if q > 0 else 0.0 for q in q_hz]
    return b, value(q_hz, b)


def solve_cvxpy(q_hz, total_hz):
    """Bandwidths and sum rate from a conic solver (inputs of order one)."""
    q = np.asarray(q_hz, float)
    b = cp.Variable(len(q), nonneg=True)
    bits = cp.sum(-cp.rel_entr(b, b + q)) / math.log(2)
    problem = cp.Problem(cp.Maximize(bits), [cp.sum(b) <= total_hz])
    problem.solve(solver=cp.CLARABEL)
    return b.value, problem.value
