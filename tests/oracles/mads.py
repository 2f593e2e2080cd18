"""One round of MADS, one device an entry: search and enumeration, from the statement alone.

    max  W k - Q (p + P_c) t [k > 0]
    s.t. k b + b0 <= t B log2(1 + p g)  if k > 0,  0 <= k <= s,  0 <= p <= p_max,  0 <= t <= tau,
         (p + P_c) t <= E

No closed form, no Lambert function, no multiplier: golden section inside golden section, and for
whole numbers every k. Arrays stand for many devices at once only to be quick.
"""

import numpy as np

RATIO = (np.sqrt(5.0) - 1) / 2


def golden(fun, low, high, steps=90):
    """The largest value of a concave function on [low, high], its ends included, and where."""
    low, high = np.broadcast_arrays(*(np.asarray(v, float) for v in (low, high)))
    low, high = low.copy(), high.copy()
    best, at = fun(low), low.copy()

    def tried(x):
        nonlocal best, at
        value = fun(x)
        at = np.where(value > best, x, at)
        best = np.maximum(best, value)
        return value

    tried(high)
    left, right = high - RATIO * (high - low), low + RATIO * (high - low)
    at_left, at_right = tried(left), tried(right)
    for _ in range(steps):
        up = at_left < at_right
        low, high = np.where(up, left, low), np.where(up, high, right)
        new = np.where(up, low + RATIO * (high - low), high - RATIO * (high - low))
        value = tried(new)
        left, right = np.where(up, right, new), np.where(up, new, left)
        at_left, at_right = np.where(up, at_right, value), np.where(up, value, at_left)
    return best, at


def watts(y, g):
    """Power for y bit/s/Hz."""
    return np.expm1(y * np.log(2)) / g


def base(W, Q, tau, g, s, b, B, p_max):
    """Best value and k when all of tau is used: a search over the spectral efficiency y."""
    most = np.minimum(np.log2(1 + p_max * g), s * b / (tau * B))

    def value(y):
        return W * tau * B * y / b - Q * tau * watts(y, g)

    best, y = golden(value, 0.0, most)
    return best, tau * B * y / b


def full(W, Q, tau, g, s, b, B, p_max, P_c=0.0, b0=0.0, E=np.inf, steps=70):
    """Best value with circuit power, header and energy budget: over t, and over y for each t."""

    def at_time(t):
        t = np.maximum(t, 1e-12 * tau)
        allowed = np.maximum(E / t - P_c, 0.0)
        y_max = np.minimum(np.log2(1 + np.minimum(p_max, allowed) * g), (s * b + b0) / (t * B))

        def value(y):
            return W * (t * B * y - b0) / b - Q * t * (watts(y, g) + P_c)

        # Where the circuit alone exceeds the budget nothing is allowed: a steep concave penalty.
        over = np.maximum(t * P_c - E, 0.0)
        best, _ = golden(value, 0.0, y_max, steps)
        return best - np.where(over > 0, 1e6 * (W * s + 1) * over / (tau * P_c + 1e-300), 0.0)

    best, _ = golden(at_time, 0.0, tau, steps)
    return np.maximum(best, 0.0)


def least_energy(bits, tau, g, B, p_max, P_c=0.0):
    """Least (p + P_c) t that carries ``bits`` within tau and p_max; inf where nothing does."""
    shortest = bits / (B * np.log2(1 + p_max * g))
    fits = shortest <= tau * (1 + 1e-12)

    def minus(t):
        y = np.minimum(bits / (t * B), np.log2(1 + p_max * g))
        return -t * (watts(y, g) + P_c)

    best, _ = golden(minus, np.minimum(shortest, tau), tau)
    return np.where(fits, -best, np.inf)


def whole(W, Q, tau, g, s, b, B, p_max, P_c=0.0, b0=0.0, E=np.inf, gain=None):
    """Every k = 0..s of one device: best value and the first k that has it.

    ``gain`` lists the value of the largest entries, one by one, instead of W for each.
    """
    worth = [0.0, *np.cumsum(np.full(s, W) if gain is None else gain)]
    cost = [0.0, *least_energy(np.arange(1, s + 1) * b + b0, tau, g, B, p_max, P_c)]
    values = [
        w - Q * e if e <= E * (1 + 1e-12) else -np.inf for w, e in zip(worth, cost, strict=True)
    ]
    k = int(np.argmax(values))
    return values[k], k


def coded(W, Q, tau, g, s, q, B, p_max, P_c=0.0, b0=0.0, index_bits=None):
    """The best of three codings: index, bitmap, everything."""
    index = full(W, Q, tau, g, s, index_bits, B, p_max, P_c, b0)
    bitmap = full(W, Q, tau, g, s, q, B, p_max, P_c, b0 + s)
    dense = W * s - Q * least_energy(s * q + b0, tau, g, B, p_max, P_c)
    return np.maximum(np.maximum(index, bitmap), dense)
