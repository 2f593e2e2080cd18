"""SP-FL allocation: sign and modulus packets, sum_k J_k(beta_k, alpha_k, theta_k), sum beta <= 1.

Device k sends the sign packet on the band x_s = theta_s beta with the power share alpha, and the
modulus packet on x_m = (1 - theta_s) beta with 1 - alpha. Objectives: "plain" (the specification
says mse), "sign_unbiased", "unbiased", "optimal_scaling"; fading: "independent", "common". Costs
come from the mean and the second moment of the server's estimator, never from a table of
exponentials; optima come from scans and dynamic programming, never from a derivative.
"""

import itertools
import math
from decimal import MAX_EMAX, MIN_EMIN, Decimal, localcontext

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

OBJECTIVES = ("plain", "sign_unbiased", "unbiased", "optimal_scaling")
FADINGS = ("independent", "common")


def make(seed, K, load):
    """Section 7's instance generator."""
    rng = np.random.default_rng(seed)
    snr = 10 ** (rng.uniform(5, 25, K) / 10)
    w = rng.dirichlet(5 * np.ones(K))
    G = np.exp(1.6 * rng.standard_normal(K))
    E = G * rng.uniform(0.2, 0.6, K)
    D = G * rng.uniform(0.005, 0.05, K)
    scale = sum(w * G)
    G, E, D = G / scale, E / scale, D / scale
    H = G - E
    gamma = snr / K
    size, b, b0 = 1000, 3, 64
    theta_s = size / (size + size * b + b0)
    r_s = load / K * size / (size + size * b + b0)
    r_m = load / K * (size * b + b0) / (size + size * b + b0)
    found = {"gamma": gamma, "w": w, "G": G, "E": E, "D": D, "H": H, "lam": 1.0}
    return found | {"r_s": r_s, "r_m": r_m, "theta_s": theta_s, "theta_m": 1 - theta_s}


# ---- the channel -----------------------------------------------------------------------------


def phi(x, gamma, r):
    """(x / gamma)(2^{r/x} - 1) on the band share x = theta beta; infinite without band."""
    x, gamma, r = np.broadcast_arrays(*(np.asarray(v, float) for v in (x, gamma, r)))
    with np.errstate(all="ignore"):
        found = x / gamma * np.expm1(math.log(2) * r / x)
    return np.where(x > 0, found, np.inf)


def log_phi(x, gamma, r):
    """The logarithm of phi in 60 digits with an unbounded exponent."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, MAX_EMAX, MIN_EMIN
        x, gamma, r = (Decimal(float(v)) for v in (x, gamma, r))
        return float((x / gamma * (((r / x) * Decimal(2).ln()).exp() - 1)).ln())


def _outage_of(phi_s, phi_m, alpha, fading):
    """(q, p): the sign packet arrives; the modulus packet arrives when the sign packet did."""
    with np.errstate(all="ignore"):
        s, m = phi_s / alpha, phi_m / (1 - alpha)
        if fading == "independent":
            return np.exp(-s), np.exp(-m)
        late = np.where(np.isinf(m), np.inf, np.maximum(m - s, 0))  # both arrive: e^{-max(s, m)}
        return np.exp(-s), np.exp(-late)


def outage(x_s, x_m, alpha, gamma, r_s, r_m, fading):
    return _outage_of(phi(x_s, gamma, r_s), phi(x_m, gamma, r_m), np.asarray(alpha, float), fading)


# ---- the cost of a device --------------------------------------------------------------------


def body(p, G, E, D, H):
    """Given the sign packet, sign(g)(M v + (1 - M) gbar): (<g, mean>, ||mean||^2, E||.||^2)."""
    Y = (G + H - E) / 2
    along = p * G + (1 - p) * Y
    mean2 = p**2 * G + 2 * p * (1 - p) * Y + (1 - p) ** 2 * H
    return along, mean2, p * (G + D) + (1 - p) * H


def _over(a, b):
    """a / b for a, b >= 0 with 0 / 0 = 0 and a / 0 = inf."""
    with np.errstate(all="ignore"):
        return np.where(a == 0, 0.0, np.divide(a, b))


def kappa_q(objective, q, p, w, G, E, D, H, lam):
    """q kappa; for optimal_scaling the minimiser of w bias^2 + lam w^2 variance."""
    if objective == "plain":
        return q
    if objective == "sign_unbiased":
        return 1.0
    along, mean2, second = body(p, G, E, D, H)
    with np.errstate(all="ignore"):
        variance = np.where(w == 0, 0.0, lam * w**2 * (_over(second, q) - mean2))
    return _over(w * along, w * mean2 + variance)


def bias2_and_variance(objective, q, p, w, G, E, D, H, lam):
    """||g - E ghat||^2 and E||ghat - E ghat||^2 of one device's estimator."""
    if objective == "unbiased":  # sign(g)(gbar + M (v - gbar)/p) / q: E||.||^2 is second / q
        Y = (G + H - E) / 2
        second = H + 2 * (Y - H) + _over(E + D, p)
        return 0.0, _over(second, q) - G
    t = kappa_q(objective, q, p, w, G, E, D, H, lam)
    along, mean2, second = body(p, G, E, D, H)
    bias2 = G - 2 * t * along + t**2 * mean2
    if objective == "plain":
        return bias2, q * second - q**2 * mean2
    with np.errstate(all="ignore"):
        return bias2, np.where(t == 0, 0.0, t**2 * (_over(second, q) - mean2))


def cost(objective, q, p, w, G, E, D, H, lam):
    """J_k: Jensen on the bias, the variance with lam w^2 (plain: Jensen on the whole error)."""
    bias2, variance = bias2_and_variance(objective, q, p, w, G, E, D, H, lam)
    with np.errstate(all="ignore"):
        found = w * bias2 + (w if objective == "plain" else lam * w**2) * variance
    return np.where(w == 0, 0.0, found)


def costs(inst, beta, alpha, theta_s, objective, fading):
    beta = np.asarray(beta, float)
    x_s, x_m = theta_s * beta, (1 - theta_s) * beta
    q, p = outage(x_s, x_m, alpha, inst["gamma"], inst["r_s"], inst["r_m"], fading)
    return cost(objective, q, p, *(inst[name] for name in ("w", "G", "E", "D", "H", "lam")))


def total(inst, beta, alpha, theta_s, objective, fading):
    return float(np.sum(costs(inst, beta, alpha, theta_s, objective, fading)))


# ---- one device: the best alpha and theta by scans -------------------------------------------

COARSE, FINE = 1, 16  # how often a scan is repeated around its best point
_Z = np.linspace(-12, 12, 121)  # logit alpha
_Y = np.linspace(-5, 5, 41)  # logit theta


def _scan(f, grid, rows, rounds):
    """Row by row, the best point of f on the grid; then of nine points around it, again, ..."""
    x = np.broadcast_to(grid, (rows, len(grid)))
    pick = np.arange(rows)
    best, at = np.full(rows, np.inf), np.zeros(rows)
    for _ in range(rounds):
        values = f(x)
        j = values.argmin(1)
        better = values[pick, j] < best
        best = np.where(better, values[pick, j], best)
        at = np.where(better, x[pick, j], at)
        lo, hi = x[pick, np.maximum(j - 1, 0)], x[pick, np.minimum(j + 1, x.shape[1] - 1)]
        x = lo[:, None] + (hi - lo)[:, None] * np.linspace(0, 1, 9)
    return best, at


def _device(inst, k):
    names = ("w", "G", "E", "D", "H")
    return [np.broadcast_to(inst[n], inst["w"].shape)[k][:, None] for n in names] + [inst["lam"]]


def min_alpha(inst, k, x_s, x_m, objective, fading, rounds=FINE):
    """(value, alpha) for devices k on shares x_s, x_m: a scan, alpha = 1, and the point s = m."""
    k = np.asarray(k)
    phi_s = phi(x_s, inst["gamma"][k], inst["r_s"])[:, None]
    phi_m = phi(x_m, inst["gamma"][k], inst["r_m"])[:, None]
    device = _device(inst, k)

    def f(alpha):
        return cost(objective, *_outage_of(phi_s, phi_m, alpha, fading), *device)

    value, z = _scan(lambda z: f(expit(z)), _Z, len(k), rounds)
    alpha = expit(z)
    with np.errstate(all="ignore"):
        level = np.where(np.isfinite(phi_m), phi_s / (phi_s + phi_m), 1.0)
    level = np.where(np.isfinite(level), level, 1.0)
    for extra in (np.ones_like(phi_s), level):
        other = f(extra)[:, 0]
        alpha = np.where(other <= value, extra[:, 0], alpha)
        value = np.minimum(value, other)
    return value, alpha


def psi(inst, k, beta, objective, fading, free=False, rounds=FINE):
    """(value, alpha, theta) of devices k with bands beta; theta is optimised too when free."""
    k, beta = np.asarray(k), np.asarray(beta, float)
    size = 97 if free else 4000  # rows at a time, to keep the scans in the cache
    parts = [slice(i, i + size) for i in range(0, len(k), size)]
    found = [_psi(inst, k[part], beta[part], objective, fading, free, rounds) for part in parts]
    return tuple(np.concatenate(pieces) for pieces in zip(*found))


def _psi(inst, k, beta, objective, fading, free, rounds):
    if not free:
        theta = np.full(len(k), inst["theta_s"])
        x_s, x_m = theta * beta, (1 - theta) * beta
        return *min_alpha(inst, k, x_s, x_m, objective, fading, rounds), theta

    def f(y):
        x_s, x_m = expit(y) * beta[:, None], expit(-y) * beta[:, None]
        who = np.repeat(k, y.shape[1])
        value, _ = min_alpha(inst, who, x_s.ravel(), x_m.ravel(), objective, fading, rounds)
        return value.reshape(y.shape)

    value, y = _scan(f, _Y, len(k), 1 if rounds == COARSE else 12)
    alone, _ = min_alpha(inst, k, beta, 0 * beta, objective, fading, 1)  # everything on the sign
    theta = np.where(alone <= value, 1.0, expit(y))
    _, alpha = min_alpha(inst, k, theta * beta, (1 - theta) * beta, objective, fading, rounds)
    alpha = np.where(theta == 1, 1.0, alpha)
    return np.minimum(alone, value), alpha, theta


# ---- several devices -------------------------------------------------------------------------


def uniform(inst, objective, fading):
    K = len(inst["w"])
    alpha = np.full(K, inst["theta_s"])
    return total(inst, np.full(K, 1 / K), alpha, inst["theta_s"], objective, fading)


def best_alpha(inst, objective, fading):
    """(value, alpha) at beta = 1/K and the fixed band split."""
    K = len(inst["w"])
    value, alpha, _ = psi(inst, np.arange(K), np.full(K, 1 / K), objective, fading)
    return float(sum(value)), alpha


def _answer(inst, beta, objective, fading, free):
    _, alpha, theta = psi(inst, np.arange(len(beta)), beta, objective, fading, free)
    return total(inst, beta, alpha, theta, objective, fading), beta, alpha, theta


def _table(inst, cells, objective, fading, free):
    K, steps = len(inst["w"]), np.arange(cells + 1)
    k, j = np.repeat(np.arange(K), cells + 1), np.tile(steps, K)
    value, _, _ = psi(inst, k, j / cells, objective, fading, free, COARSE)
    return value.reshape(K, cells + 1)


def brute(inst, objective, fading, free=False, cells=60, starts=3):
    """K <= 3: every point of a grid on the simplex, then Nelder-Mead from the best places."""
    K = len(inst["w"])
    assert K <= 3
    table = _table(inst, cells, objective, fading, free)
    points = [n for n in itertools.product(range(cells + 1), repeat=K) if sum(n) == cells]
    points.sort(key=lambda n: sum(table[k, n[k]] for k in range(K)))
    chosen = []
    for n in points:
        if all(max(abs(a - b) for a, b in zip(n, other)) > 3 for other in chosen):
            chosen.append(n)
        if len(chosen) == starts:
            break

    def f(head):
        beta = np.append(head, 1 - sum(head))
        if min(beta) < 0:
            return math.inf
        return sum(psi(inst, np.arange(K), beta, objective, fading, free)[0])

    found = []
    for n in chosen:
        head = np.array(n[:-1]) / cells
        if K > 1:
            corners = np.vstack([head, *(head + 0.4 / cells * (e - head) for e in np.eye(K - 1))])
            rules = {"xatol": 1e-7, "fatol": 1e-13, "initial_simplex": corners}
            head = minimize(f, head, method="Nelder-Mead", options=rules).x
        found.append(np.append(head, 1 - sum(head)))
    answers = [_answer(inst, beta, objective, fading, free) for beta in found]
    return min(answers, key=lambda a: a[0])


def _min_plus(table, budget):
    """The indices j_k minimising sum table[k, j_k] with sum j_k <= budget."""
    best, back = np.zeros(budget + 1), []  # best[i] is for a sum of at most i
    for row in table:
        new, choice = np.full(budget + 1, np.inf), np.zeros(budget + 1, int)
        for j, value in enumerate(row[: budget + 1]):
            sums = best[: budget + 1 - j] + value
            choice[j:] = np.where(sums < new[j:], j, choice[j:])
            new[j:] = np.minimum(new[j:], sums)
        best = new
        back.append(choice)
    left, picks = budget, []
    for choice in reversed(back):
        picks.append(int(choice[left]))
        left -= picks[-1]
    return picks[::-1]


def dp(inst, objective, fading, free=False, cells=None, finest=1e-8, window=3):
    """The best beta on a grid by a dynamic programme; then on a finer grid around it, again, ...

    Bands are integers over `cells`, which doubles when no band of the window improves.
    """
    K = len(inst["w"])
    cells = cells or max(200, 40 * K)
    bands = np.array(_min_plus(_table(inst, cells, objective, fading, free), cells))
    while True:
        reach = bands[:, None] + np.arange(-window, window + 1)
        k = np.repeat(np.arange(K), 2 * window + 1)
        beta = np.maximum(reach, 0).ravel() / cells
        value = psi(inst, k, beta, objective, fading, free)[0].reshape(reach.shape)
        value = np.where(reach < 0, np.inf, value)
        spare = cells - int(bands.sum()) + K * window
        new = reach[np.arange(K), _min_plus(value, min(spare, 2 * K * window))]
        if np.array_equal(new, bands):
            if cells * finest > 1:
                return _answer(inst, bands / cells, objective, fading, free)
            cells, new = 2 * cells, 2 * new
        bands = new


# ---- simulation ------------------------------------------------------------------------------


def simulate_outage(rng, draws, x_s, x_m, alpha, gamma, r_s, r_m, fading):
    """Sample means of (sign packet arrives, both arrive) from the rate condition, no phi."""
    h_s = rng.exponential(size=draws)
    h_m = h_s if fading == "common" else rng.exponential(size=draws)
    sign = x_s * np.log2(1 + alpha * gamma * h_s / x_s) >= r_s
    modulus = x_m * np.log2(1 + (1 - alpha) * gamma * h_m / x_m) >= r_m
    return sign.mean(), (sign & modulus).mean()


def learning_round(rng, K=6, length=40, bits=3, heterogeneity=1.0):
    """Random gradients, compensatory moduli (optimally scaled), a quadratic, and the scalars."""
    w = rng.dirichlet(3 * np.ones(K))
    g = rng.standard_normal(length) + heterogeneity * rng.standard_normal((K, length))
    gbar = np.abs(g) * np.exp(0.7 * rng.standard_normal((K, length)))
    gbar *= (np.abs(g) * gbar).sum(1, keepdims=True) / (gbar**2).sum(1, keepdims=True)
    low, high = np.abs(g).min(1, keepdims=True), np.abs(g).max(1, keepdims=True)
    step = (high - low) / (2**bits - 1)
    fraction = np.mod((np.abs(g) - low) / step, 1)
    root = rng.standard_normal((length, length)) / math.sqrt(length)
    job = {"w": w, "g": g, "gbar": gbar, "low": low, "step": step, "hessian": root @ root.T}
    job |= {"G": (g**2).sum(1), "E": ((np.abs(g) - gbar) ** 2).sum(1), "H": (gbar**2).sum(1)}
    return job | {"D": (step**2 * fraction * (1 - fraction)).sum(1)}


def simulate_step(rng, draws, job, s, m, lam, objective, fading):
    """(one-step decrease / eta, its bound, squared errors of the aggregate, exact, sum J)."""
    w, g, gbar, low, step = (job[name] for name in ("w", "g", "gbar", "low", "step"))
    scalars = (w, *(job[name] for name in ("G", "E", "D", "H")), lam)
    q = np.exp(-s)
    p = np.exp(-m) if fading == "independent" else np.exp(-np.maximum(m - s, 0))
    h_s = rng.exponential(size=(draws, len(w)))
    h_m = h_s if fading == "common" else rng.exponential(size=(draws, len(w)))
    C, M = (h_s >= s)[..., None], (h_m >= m)[..., None]
    cell = (np.abs(g) - low) / step
    v = low + step * np.floor(cell + rng.uniform(size=(draws, *g.shape)))
    if objective == "unbiased":
        ghat = C / q[:, None] * np.sign(g) * (gbar + M * (v - gbar) / p[:, None])
    else:
        kappa = kappa_q(objective, q, p, *scalars) / q
        ghat = kappa[:, None] * C * np.sign(g) * np.where(M, v, gbar)
    whole, mean = np.einsum("k,nkl->nl", w, ghat), w @ g
    L = np.linalg.eigvalsh(job["hessian"])[-1]
    curve = np.einsum("nl,lj,nj->n", whole, job["hessian"], whole)
    change = -whole @ mean + lam / L / 2 * curve
    J = cost(objective, q, p, *scalars).sum()
    front = 1 - lam / 2 if objective == "unbiased" else 0.5
    bias = np.zeros_like(g)
    if objective != "unbiased":
        inner = p[:, None] * g + (1 - p)[:, None] * np.sign(g) * gbar
        bias = (kappa * q)[:, None] * inner - g
    variance = bias2_and_variance(objective, q, p, *scalars)[1]
    exact = ((w @ bias) ** 2).sum() + (w**2 * variance).sum()
    return change, -front * (mean @ mean) + J / 2, ((whole - mean) ** 2).sum(1), exact, J
