"""Update synchronisation: min-max latency (A), exclusion (B), number of devices (C).

Device k computes for c_k seconds and sends S bit at r_k(b) = b log2(1 + a_k / b) bit/s,
a_k = P_k g_k / N0 in Hz; the bandwidths share B hertz.
"""

import itertools
import math
from decimal import Decimal, localcontext

import cvxpy as cp
import numpy as np
from scipy.optimize import brentq, minimize


def rate(a_hz, b_hz):
    """Rate in bit/s."""
    return b_hz * math.log1p(a_hz / b_hz) / math.log(2) if b_hz > 0 and a_hz > 0 else 0.0


def relative_bandwidth(load):
    """The x with x ln(1 + 1/x) = load, for 0 < load < 1: bisection in 50 digits (a Decimal)."""
    with localcontext() as context:
        context.prec = 50
        load, lo, hi = Decimal(load), Decimal(0), Decimal(1)
        while hi * (1 + 1 / hi).ln() < load:
            hi *= 2
        while hi - lo > hi * Decimal(10) ** -20:
            mid = (lo + hi) / 2
            lo, hi = (mid, hi) if mid * (1 + 1 / mid).ln() < load else (lo, mid)
        return hi


def min_bandwidth(rate_bit_s, a_hz):
    """Least bandwidth for a rate, in high precision; inf at or above the ceiling a / ln 2."""
    with localcontext() as context:
        context.prec = 50
        a = Decimal(float(a_hz))
        load = Decimal(float(rate_bit_s)) * Decimal(2).ln() / a if a else Decimal("inf")
        if load >= 1:
            return math.inf if rate_bit_s > 0 else 0.0
        return float(a * relative_bandwidth(load)) if load > 0 else 0.0


def min_bandwidth_float(rate_bit_s, a_hz):
    """The same in double precision, for the long enumerations below."""
    if rate_bit_s == 0:
        return 0.0
    if rate_bit_s * math.log(2) >= a_hz * (1 - 1e-9):
        return math.inf
    hi = rate_bit_s
    while rate(a_hz, hi) < rate_bit_s:
        hi *= 2
    return brentq(lambda b: rate(a_hz, b) - rate_bit_s, 0.0, hi, xtol=1e-12, rtol=1e-14)


def needed(t, a_hz, compute_s, payload_bit, inverse=min_bandwidth_float):
    """Least bandwidth of each device that lets it finish by t (inf if it cannot)."""
    return [
        inverse(payload_bit / (t - c), a) if t > c else math.inf for a, c in zip(a_hz, compute_s)
    ]


def equal_split(a_hz, compute_s, payload_bit, total_hz):
    """Latency when every device gets B / K."""
    share = total_hz / len(a_hz)
    return max(c + payload_bit / rate(a, share) for a, c in zip(a_hz, compute_s))


def solve(a_hz, compute_s, payload_bit, total_hz, inverse=min_bandwidth_float):
    """Problem A: (t*, bandwidths) by bisection on t."""
    if total_hz <= 0:
        raise ValueError("no bandwidth to share")
    for k, a in enumerate(a_hz):
        if a <= 0 and payload_bit > 0:
            raise ValueError(f"device {k} has no channel gain and can never finish")
    if payload_bit == 0:
        return max(compute_s), [0.0] * len(a_hz)
    lo, hi = max(compute_s), equal_split(a_hz, compute_s, payload_bit, total_hz)
    while hi - lo > 4e-16 * hi:
        mid = (lo + hi) / 2
        if not lo < mid < hi:
            break
        fits = sum(needed(mid, a_hz, compute_s, payload_bit, inverse)) <= total_hz
        lo, hi = (lo, mid) if fits else (mid, hi)
    return hi, needed(hi, a_hz, compute_s, payload_bit, inverse)


def solve_precise(a_hz, compute_s, payload_bit, total_hz):
    """Problem A with the inverse rate in high precision."""
    return solve(a_hz, compute_s, payload_bit, total_hz, min_bandwidth)


def solve_cvxpy(a_hz, compute_s, payload_bit, total_hz):
    """Problem A from a conic solver, with the band as unit of bandwidth."""
    a, c = np.asarray(a_hz, float) / total_hz, np.asarray(compute_s, float)
    b, t = cp.Variable(len(a), nonneg=True), cp.Variable()
    bits = -cp.rel_entr(b, b + a) / math.log(2)
    constraints = [bits >= payload_bit / total_hz * cp.inv_pos(t - c), cp.sum(b) <= 1]
    problem = cp.Problem(cp.Minimize(t), constraints)
    problem.solve(solver=cp.CLARABEL)
    return problem.value, b.value * total_hz


def solve_slsqp(a_hz, compute_s, payload_bit, total_hz):
    """Problem A from a general non-linear solver: variables are (b / B, t)."""
    a, c, size = np.asarray(a_hz) / total_hz, np.asarray(compute_s), payload_bit / total_hz
    start = np.append(np.full(len(a), 1 / len(a)), equal_split(a, c, size, 1.0))

    def spare_time(x):
        return [x[-1] - c[k] - size / rate(a[k], x[k]) for k in range(len(a))]

    constraints = [
        {"type": "ineq", "fun": spare_time},
        {"type": "eq", "fun": lambda x: x[:-1].sum() - 1},
    ]
    bounds = [(1e-6, 1)] * len(a) + [(None, None)]
    options = {"ftol": 1e-16, "maxiter": 500}
    found = minimize(
        lambda x: x[-1],
        start,
        bounds=bounds,
        constraints=constraints,
        method="SLSQP",
        options=options,
    )
    return found.x[-1], found.x[:-1] * total_hz


def kept(gain, compute_s, min_gain, max_compute_s):
    """Problem B: indices of the devices that neither threshold drops."""
    return [k for k in range(len(gain)) if gain[k] >= min_gain and compute_s[k] <= max_compute_s]


def rounds(count, c0, c1):
    """Number of rounds N(m) = c0 + c1 / m."""
    return c0 + c1 / count


def solve_count_exhaustive(a_hz, compute_s, payload_bit, total_hz, c0, c1):
    """Problem C by trying every subset: (total time, chosen indices)."""
    best = (math.inf, ())
    for m in range(1, len(a_hz) + 1):
        for chosen in itertools.combinations(range(len(a_hz)), m):
            a, c = [a_hz[k] for k in chosen], [compute_s[k] for k in chosen]
            t, _ = solve(a, c, payload_bit, total_hz)
            best = min(best, (rounds(m, c0, c1) * t, chosen))
    return best


def best_latency(count, a_hz, compute_s, payload_bit, total_hz):
    """Least t at which the `count` cheapest devices fit in the band, and those devices."""
    lo, hi = 0.0, 1.0
    while not _fits(hi, count, a_hz, compute_s, payload_bit, total_hz):
        hi *= 2
    for _ in range(60):
        mid = (lo + hi) / 2
        fits = _fits(mid, count, a_hz, compute_s, payload_bit, total_hz)
        lo, hi = (lo, mid) if fits else (mid, hi)
    need = needed(hi, a_hz, compute_s, payload_bit)
    return hi, tuple(sorted(sorted(range(len(need)), key=need.__getitem__)[:count]))


def _fits(t, count, a_hz, compute_s, payload_bit, total_hz):
    return sum(sorted(needed(t, a_hz, compute_s, payload_bit))[:count]) <= total_hz


def solve_count(a_hz, compute_s, payload_bit, total_hz, c0, c1):
    """Problem C, exact for any K: (list of N(m) t*_m for m = 1..K, devices of the best m)."""
    found = [
        best_latency(m, a_hz, compute_s, payload_bit, total_hz) for m in range(1, len(a_hz) + 1)
    ]
    totals = [rounds(m, c0, c1) * t for m, (t, _) in enumerate(found, start=1)]
    return totals, found[totals.index(min(totals))][1]
