"""SPFL for pyomo, in the coordinates of :mod:`_spfl_smooth`; m >= s is the bound ln(s/m) <= 0.

``plain`` and ``optimal_scaling`` are in [0, 1] in units of sum w G, and minimised: no exponent is
positive, so nothing overflows. The others reach 1e100 and more on starved instances;
there the model minimises the level ln(1 + J/sum w G), J = c0 + sum_t c_t e^(e_t):

    min level    s.t.  (1 + c0) e^-level + sum_t c_t e^(e_t - level) <= 1

s and m are log-convex in these coordinates (Lemma 2), so ``unbiased`` with E <= G stays convex. The
start is the best of three baselines. Source: spec spfl.md §2.7, §3.1; the coordinates derived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rralloc.forms import Handle
from rralloc.problems._spfl_smooth import (
    LEAST,
    LEVEL,
    LOST,
    LOST_SHARP,
    RATIO,
    Logs,
    packets,
    unit_of,
)
from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.problems.spfl import SPFL

SCALE = 1000.0
"""Of the objective: an interior-point method starts with barriers of size 0.1, which in the wide
box of y would outweigh an objective of size 0.1 and lead it to signs only."""
INSIDE = 1e-3
"""A start keeps this distance from the bounds of y."""
STARTS = ("uniform", "rate", "equal-outage")
"""The best of these is the default start; ``best-split`` is flat in y and holds a local solver."""
ENERGIES = ("weight", "gradient", "miss", "noise", "memory", "variance")
"""Names of w, G, E, D, H and w lam in the model of optimal scaling."""

Terms = tuple[tuple[int, int], ...]


def pyomo_model(size: int, terms: Terms | None, common: bool, free: bool) -> Handle:
    """The model of a law that is a sum of e^(u s + v m), terms = (u, v); None: optimal scaling."""
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.k = pyo.RangeSet(0, size - 1)
    names = ENERGIES if terms is None else ("constant", *(f"cost_{t}" for t in range(len(terms))))
    for name in ("rate_sign", "size_sign", "rate_modulus", "size_modulus", *names):
        setattr(model, name, pyo.Param(model.k, mutable=True, initialize=1.0))
    bands = ("z_sign", "z_modulus") if free else ("z",)
    for name in bands:
        least = pyo.Param(model.k, mutable=True, initialize=np.log(LEAST))
        setattr(model, f"least_{name}", least)
        first = -np.log(size * len(bands))
        box = pyo.Var(model.k, bounds=lambda m, k, low=least: (low[k], 0), initialize=first)
        setattr(model, name, box)
    low, high = (-RATIO, 0.0) if common else (-LEVEL, LEVEL)
    model.y = pyo.Var(model.k, bounds=(low, high), initialize=-0.5)
    _outages(model, common, free)
    _physical(model, common, free)
    model.budget = pyo.Constraint(expr=sum(model.bandwidth_share[k] for k in model.k) <= 1)
    _objective(model, terms, common)
    rows = [*(getattr(model, name) for name in bands), model.y]

    def assign(problem: SPFL) -> None:
        least = Logs(problem).bounds()[0]
        data = {f"least_{name}": row for name, row in zip(bands, least)}
        for name, values in (data | _channel(problem) | _costs(problem, names)).items():
            _set(getattr(model, name), values)
        rules = problem.points()
        tried = [rules[name]() for name in STARTS]
        start(problem, min(tried, key=lambda x: float(problem.objective(x))))

    def start(problem: SPFL, x: Point) -> None:
        for row, values in zip(rows, _inside(Logs(problem), x)):
            _set(row, values)
        if hasattr(model, "level"):
            value = float(problem.objective(point(problem))) / unit_of(problem)
            model.level = np.log1p(value if np.isfinite(value) else 1e300)

    def point(problem: SPFL) -> Point:
        values = [[pyo.value(row[k]) for k in model.k] for row in rows]
        return Logs(problem).point(np.array(values))

    return Handle(model, assign, point, start)


def _inside(logs: Logs, x: Point) -> Array:
    """Coordinates of x off the bounds; where J is infinite, on the way to equal outage."""
    least, most = logs.bounds()
    least[-1], most[-1] = least[-1] + INSIDE, most[-1] - INSIDE
    rows = np.clip(logs.coordinates(x), least, most)
    middle = np.clip(logs.coordinates(logs.problem.points()["equal-outage"]()), least, most)
    for share in (0.0, 0.1, 0.5):
        trial: Array = (1 - share) * rows + share * middle
        if logs.problem.objective(logs.point(trial)) < 1e290:
            return trial
    return middle


def _set(part: Any, values: Array) -> None:
    """Values of a Param or a Var."""
    for k, value in enumerate(values):
        part[k] = float(value)


# -- formulas --------------------------------------------------------------------------------------


def _outages(model: Any, common: bool, free: bool) -> None:
    """The expressions s and m."""
    from pyomo.environ import Expression, exp, log

    def threshold(name: str) -> Any:
        rate, size = getattr(model, f"rate_{name}"), getattr(model, f"size_{name}")
        z = getattr(model, f"z_{name}") if free else model.z

        def rule(_: Any, k: int) -> Any:
            u = rate[k] * exp(-z[k])
            value = size[k] + u + log(1 - exp(-u)) - log(u)
            return LOST - log(1 + exp(LOST_SHARP * (LOST - value))) / LOST_SHARP

        return Expression(model.k, rule=rule)

    def log_s(m: Any, k: int) -> Any:
        if common:
            return log(exp(m.phi_sign[k]) + exp(m.y[k] + m.phi_modulus[k]))
        return m.phi_sign[k] + log(1 + exp(-m.y[k]))

    def log_m(m: Any, k: int) -> Any:
        return m.log_s[k] - m.y[k] if common else m.phi_modulus[k] + log(1 + exp(m.y[k]))

    model.phi_sign, model.phi_modulus = threshold("sign"), threshold("modulus")
    model.log_s = Expression(model.k, rule=log_s)
    model.log_m = Expression(model.k, rule=log_m)
    model.s = Expression(model.k, rule=lambda m, k: exp(m.log_s[k]))
    model.m = Expression(model.k, rule=lambda m, k: exp(m.log_m[k]))


def _physical(model: Any, common: bool, free: bool) -> None:
    """The problem's own variables as expressions; tanh, because it never overflows."""
    from pyomo.environ import Expression, exp, tanh

    def band(m: Any, k: int) -> Any:
        return exp(m.z_sign[k]) + exp(m.z_modulus[k]) if free else exp(m.z[k])

    def power(m: Any, k: int) -> Any:
        level = m.phi_sign[k] - m.phi_modulus[k] - m.y[k] if common else m.y[k]
        return 0.5 * (1 + tanh(0.5 * level))

    model.bandwidth_share = Expression(model.k, rule=band)
    model.sign_power_share = Expression(model.k, rule=power)
    if free:
        model.sign_band_share = Expression(
            model.k, rule=lambda m, k: exp(m.z_sign[k]) / m.bandwidth_share[k]
        )


def _objective(model: Any, terms: Terms | None, common: bool) -> None:
    """sum J, or its level where exponents may be positive."""
    from pyomo.environ import Constraint, Objective, Var, exp

    if terms is None:
        model.last = Objective(expr=SCALE * sum(_scaled(model, common, k) for k in model.k))
        return

    def summed(level: Any) -> Any:
        total = 0.0
        for k in model.k:
            for t, (of_s, of_m) in enumerate(terms):
                exponent = of_s * model.s[k] + of_m * model.m[k] - level
                total += getattr(model, f"cost_{t}")[k] * exp(exponent)
        return total

    constant = sum(model.constant[k] for k in model.k)
    if all(of_s <= 0 and of_m <= 0 for of_s, of_m in terms):
        model.last = Objective(expr=SCALE * (constant + summed(0.0)))
        return
    model.level = Var(bounds=(0, None), initialize=1.0)
    size = (1 + constant) * exp(-model.level) + summed(model.level)
    model.size = Constraint(expr=size <= 1)
    model.last = Objective(expr=SCALE * model.level)


def _scaled(m: Any, common: bool, k: int) -> Any:
    """J_k of optimal scaling, numerator and denominator times q."""
    from pyomo.environ import exp

    w, G, E, D, H, lam = (getattr(m, name)[k] for name in ENERGIES)
    q = exp(-m.s[k])
    p = exp(m.s[k] - m.m[k]) if common else exp(-m.m[k])
    Y = 0.5 * (G + H - E)
    X, T = Y + p * (G - Y), H + p * (G + D - H)
    M = H + p * (2 * (Y - H) + p * E)
    return w * (G - q * X**2 / (q * (1 - lam) * M + lam * T + 1e-30))


# -- data ------------------------------------------------------------------------------------------


def _channel(problem: SPFL) -> dict[str, Array]:
    sign, modulus = packets(problem)
    return {
        "rate_sign": np.maximum(sign.rate, 1e-9),
        "size_sign": sign.size,
        "rate_modulus": np.maximum(modulus.rate, 1e-9),
        "size_modulus": modulus.size,
    }


def _costs(problem: SPFL, names: tuple[str, ...]) -> dict[str, Array]:
    """What the parameters ``names`` are in units of sum w G."""
    unit = unit_of(problem)
    if names == ENERGIES:
        weight, *energies = problem.statistics
        values = [weight, *(v / unit for v in energies), weight * problem.variance_weight]
    else:
        constant, terms = problem.law.terms(problem)
        values = [constant / unit, *(term.c / unit for term in terms)]
    size = problem.sizes["K"]
    return {name: np.broadcast_to(v, size) for name, v in zip(names, values)}
