"""FEEL scheduling: min rho sum a_k^2 / p_k + (1 - rho) sum p_k T_k over the simplex, 0 < rho < 1.

a_k = (n_k / n) ||g_k||, T_k the upload latency; one device is drawn per round, k with chance p_k.
"""

import itertools
import math
from decimal import Decimal, localcontext

import cvxpy as cp
import numpy as np


def objective(p, a, latency_s, rho):
    """The cost; devices with a_k = 0 and p_k = 0 cost nothing."""
    used = [k for k in range(len(a)) if a[k] > 0 or p[k] > 0]
    spread = sum(a[k] ** 2 / p[k] if p[k] > 0 else math.inf for k in used if a[k] > 0)
    return rho * spread + (1 - rho) * sum(p[k] * latency_s[k] for k in used)


def solve(a, latency_s, rho):
    """(p, lam) with p_k = a_k sqrt(rho / ((1 - rho) T_k + lam)) by bisection in 60 digits.

    Needs a_k > 0 and T_k < inf. The bisection variable is the distance lam + (1 - rho) T_min.
    """
    with localcontext() as context:
        context.prec = 60
        weight, delay = [[Decimal(float(v)) for v in values] for values in (a, latency_s)]
        r, fastest = Decimal(float(rho)), min(delay)

        def law(gap):
            return [x * (r / ((1 - r) * (t - fastest) + gap)).sqrt() for x, t in zip(weight, delay)]

        lo, hi = Decimal(0), 2 * r * sum(weight) ** 2
        for _ in range(180):
            mid = (lo + hi) / 2
            lo, hi = (mid, hi) if sum(law(mid)) > 1 else (lo, mid)
        return [float(p) for p in law(hi)], float(hi - (1 - r) * fastest)


def solve_degenerate(a, latency_s, rho):
    """The law with its special cases: (p, indices excluded because their latency is infinite)."""
    if not 0 < rho <= 1:
        raise ValueError("rho = 0 has no minimiser: the infimum is all mass on the fastest device")
    excluded = [k for k in range(len(a)) if math.isinf(latency_s[k])]
    alive = [k for k in range(len(a)) if k not in excluded]
    used = [k for k in alive if a[k] > 0]
    p = [0.0] * len(a)
    if not used:
        shares = {k: 1 / len(alive) for k in alive}
    elif rho == 1:
        shares = {k: a[k] / sum(a[j] for j in used) for k in used}
    else:
        law, _ = solve([a[k] for k in used], [latency_s[k] for k in used], rho)
        shares = dict(zip(used, law))
    for k, share in shares.items():
        p[k] = share
    return p, excluded


def dual_bound(a, latency_s, rho, lam):
    """Lower bound on the cost for any lam > -(1 - rho) T_min."""
    terms = [2 * math.sqrt(rho) * x * math.sqrt((1 - rho) * t + lam) for x, t in zip(a, latency_s)]
    return math.fsum([*terms, -lam])


def solve_cvxpy(a, latency_s, rho):
    """Probabilities and cost from a conic solver."""
    p = cp.Variable(len(a), pos=True)
    spread = sum(float(x) ** 2 * cp.inv_pos(p[k]) for k, x in enumerate(a))
    cost = rho * spread + (1 - rho) * (np.asarray(latency_s, float) @ p)
    problem = cp.Problem(cp.Minimize(cost), [cp.sum(p) == 1])
    problem.solve(solver=cp.CLARABEL)
    return p.value, problem.value


def ordered_draws(p, count):
    """Every ordered draw of `count` devices without replacement, with its probability."""
    for order in itertools.permutations([k for k in range(len(p)) if p[k] > 0], count):
        chance = 1.0
        for step, k in enumerate(order):
            chance *= p[k] / (1 - sum(p[i] for i in order[:step]))
        yield order, chance


def estimate(order, p, share, gradient):
    """Average over steps of: everything drawn before, plus w_k g_k / q_k for the new device."""
    steps = []
    for step, k in enumerate(order):
        before = order[:step]
        q = p[k] / (1 - sum(p[i] for i in before))
        known = sum((share[i] * np.asarray(gradient[i]) for i in before), 0.0)
        steps.append(known + share[k] * np.asarray(gradient[k]) / q)
    return sum(steps) / len(steps)


def mean_and_mse(p, share, gradient, count=1):
    """Exact mean and mean squared error of the estimator, by enumeration of the draws."""
    target = sum(w * np.asarray(g) for w, g in zip(share, gradient))
    mean, mse = 0.0 * target, 0.0
    for order, chance in ordered_draws(p, count):
        found = estimate(order, p, share, gradient)
        mean = mean + chance * found
        mse += chance * float(np.sum((found - target) ** 2))
    return mean, mse
