"""The horizon of MADS for one device: bisection by hand, and a conic solver; slow loops.

max sum_r w_r k_r   s.t.  sum_r t_r (p_r + P_c) <= E, every upload fits its contact
"""

import math

import numpy as np

from oracles.mads import least_energy


def drawn_g2(seed, R, N):
    """The seeded horizons of spec §6: contact, gain and value ``(R, N)``."""
    rng = np.random.default_rng(seed)
    u = rng.random((R, N))
    tau = np.where(u < 0.4, rng.exponential(4, (R, N)), 0.0)
    return {
        "contact_s": tau,
        "snr_per_watt": 300 * rng.exponential(1, (R, N)),
        "value": rng.gamma(2, 0.5, (R, N)),
    }


def watts(w, tau, g, s, b, B, p_max, price):
    """Power of one round at a price of energy: what the last bit costs is what it is worth."""
    if tau <= 0 or g <= 0 or w <= 0:
        return 0.0
    need = s * b / (tau * B)
    most = p_max if need > 60 else min(p_max, (2.0**need - 1) / g)
    if price == 0:
        return most
    return min(max(w * B / (b * price * math.log(2)) - 1 / g, 0.0), most)


def clairvoyant(w, tau, g, E, s, b, B, p_max):
    """Value and price of one device, by 300 halvings of a price bracket."""
    rounds = range(len(w))

    def powers(price):
        return [watts(w[r], tau[r], g[r], s, b, B, p_max, price) for r in rounds]

    def spent(price):
        return math.fsum(tau[r] * p for r, p in enumerate(powers(price)))

    low, high = 0.0, max(w[r] * B * g[r] / (b * math.log(2)) for r in rounds) + 1.0
    if spent(0.0) > E:
        for _ in range(300):
            middle = (low + high) / 2
            low, high = (middle, high) if spent(middle) > E else (low, middle)
    else:
        high = 0.0
    kept = [
        min(s, tau[r] * B / b * math.log2(1 + p * g[r])) if p > 0 else 0.0
        for r, p in enumerate(powers(high))
    ]
    return math.fsum(w[r] * k for r, k in enumerate(kept)), high


def conic(w, tau, g, E, s, b, B, p_max, P_c=0.0):
    """The same value by a conic solver, in shares of the model, the energy and the contact."""
    import cvxpy as cp

    some = [r for r in range(len(w)) if tau[r] > 0]
    w, tau, g = (np.asarray(v)[some] for v in (w, tau, g))
    x, e, t = (cp.Variable(len(some), nonneg=True) for _ in range(3))
    need = s * b * math.log(2) / (tau * B)
    fits = cp.multiply(need, x) + cp.rel_entr(t, t + cp.multiply(g * p_max, e)) <= 0
    spent = cp.sum(cp.multiply(tau * p_max, e) + cp.multiply(tau * P_c, t))
    model = cp.Problem(cp.Maximize(w @ x), [fits, x <= 1, e <= t, t <= 1, spent / E <= 1])
    model.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return s * float(model.value)


def whole(w, tau, g, E, s, b, B, p_max, P_c=0.0, b0=0.0):
    """Every combination of whole k over a few rounds, each with its least energy."""
    cost = [
        [0.0, *least_energy(np.arange(1, s + 1) * b + b0, t, gain, B, p_max, P_c)]
        for t, gain in zip(tau, g)
    ]
    best = {0.0: 0.0}  # energy -> value
    for value, row in zip(w, cost):
        best = {
            e + c: max(v + value * k, best.get(e + c, 0.0))
            for e, v in best.items()
            for k, c in enumerate(row)
            if e + c <= E * (1 + 1e-12)
        }
    return max(best.values())
