"""A problem of your own: proportional-fair bandwidth, with a bound, in one file.

    max  sum_k log r_k(b_k)     s.t.  sum_k b_k <= B,  b >= 0,     r_k(b) = b log2(1 + q_k/b)

Run it: python examples/own_problem.py
"""

from __future__ import annotations

import numpy as np

import rralloc as rr
from rralloc.fields import Constraint, data, variable
from rralloc.numerics.rates import rate
from rralloc.testing import check
from rralloc.typing import Array, Field, Point, Witness


class ProportionalFair(rr.Problem):
    """Split one band so that the product of the rates is largest."""

    sense = "max"
    bound_method = "tangent of a concave objective"

    snr_bandwidth_hz: Field = data("K", unit="Hz", low=0, open_low=True, doc="P g/N0")
    bandwidth_budget_hz: Field = data(unit="Hz", low=0, open_low=True, doc="total bandwidth")
    bandwidth_hz = variable("K", unit="Hz", low=0, scale="bandwidth_budget_hz", doc="bandwidth")

    def objective(self, x: Point) -> Array:
        """Sum of log rates; -inf where a device gets nothing."""
        with np.errstate(divide="ignore"):
            return np.log(rate(x["bandwidth_hz"], self.snr_bandwidth_hz)).sum(-1)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """The band."""
        total = self.bandwidth_budget_hz
        return (Constraint("total bandwidth", total - x["bandwidth_hz"].sum(-1), "Hz", total),)

    def project(self, x: Point) -> dict[str, Array]:
        """Scale onto the band: more is always better."""
        band = np.maximum(x["bandwidth_hz"], 1e-12 * self.bandwidth_budget_hz[..., None])
        return {"bandwidth_hz": band * (self.bandwidth_budget_hz / band.sum(-1))[..., None]}

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """A concave function lies below its tangents; the best point of one is a corner."""
        x = self.initial() if x is None else x
        slope = self.gradient(x)["bandwidth_hz"]
        best = self.bandwidth_budget_hz * slope.max(-1)
        return self.objective(x) + best - (slope * x["bandwidth_hz"]).sum(-1)


if __name__ == "__main__":
    q = np.random.default_rng(0).exponential(1e6, size=(10, 8))  # 10 channels, 8 devices
    problem = ProportionalFair(snr_bandwidth_hz=q, bandwidth_budget_hz=1e6)
    print(repr(rr.solvers_for(problem)))
    print(rr.compare(problem, ["scipy:slsqp", "scipy:trust-constr"]))
    print("conformance:", ", ".join(check(problem[:3])))
