"""The two steps of the paper-style alternation for SP-FL, each a problem of its own.

    bandwidth step   min over b (and the split)   sum_k J_k    alpha held, sum b <= 1
    power step       min over alpha               sum_k J_k    bands held

By default

    power step       SCA: the best alpha of the surrogate, again and again
    bandwidth step   ``unbiased``: Newton on the KKT system. Else SCA, whose surrogate is solved by
                     Newton on its KKT system (:mod:`_spfl_surrogates`)

and by name ``closed-form`` (power, exact), ``dual`` (bandwidth, exact) and the generic solvers;
a law that is no sum of exponentials has only those. Source: arXiv 2603.10763 (abstract:
alternating, Newton-Raphson, SCA; which block uses which is not known); spec spfl.md §3.2, derived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Self

import numpy as np

from rralloc.errors import NotOffered
from rralloc.fields import Constraint, data
from rralloc.forms import Blocks, ClosedForm, Model, Separable, Smooth, Surrogate, offers
from rralloc.problems._spfl_majorant import Coordinates, without_nan
from rralloc.problems._spfl_pieces import physical_gradient
from rralloc.problems.spfl import SPFL
from rralloc.smooth import scaled
from rralloc.typing import Array, Field, Point, Witness

BANDS = 40
"""Bands, evenly spaced in their logarithm, among which ``dual`` looks for a device's start."""
SPLITS = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9])
"""Shares of the signs among which it looks with a free split."""


def blocks(problem: SPFL) -> Blocks:
    """Bandwidth given power, and power given bandwidth."""
    refuse_restricted(problem)
    steps: dict[str, type[Held]] = {"bandwidth": _BandwidthStep, "power": _PowerStep}
    return Blocks(tuple(steps), lambda name, x: steps[name].at(problem, x))


def refuse_restricted(problem: SPFL) -> None:
    """Blocks and surrogates are for devices that may send any two packets."""
    if problem.packets != "sign-modulus":
        raise NotOffered(
            f"SPFL.packets = {problem.packets!r} ties split and power to each other; blocks and "
            "surrogates change one without the other"
        )


def check_summable(problem: SPFL) -> None:
    """Raise ``NotOffered`` where the law has no majorant."""
    one = np.ones(problem.shape_of(SPFL.bandwidth_share))
    problem.law.majorant(one, one, problem)


class Held(SPFL):
    """SP-FL with a point: what is not a variable is held there. Base of steps and surrogates."""

    bound_method = ""

    held_band: Field = data("K", unit="1", low=0, high=1, doc="share of the band at the point")
    held_power: Field = data("K", unit="1", low=0, high=1, doc="power on the signs at the point")
    held_split: Field = data("K", unit="1", low=0, high=1, doc="band of the signs at the point")

    @classmethod
    def at(cls, problem: SPFL, x: Point) -> Self:
        """The problem with the point ``x``."""
        fields = {n: problem.__dict__[n] for n in (*SPFL._data, *SPFL._options)}
        split = x["sign_band_share"] if problem.free_split else problem.theta_s
        return cls(
            **fields,
            held_band=np.clip(x["bandwidth_share"], 0.0, 1.0),
            held_power=np.clip(x["sign_power_share"], 0.0, 1.0),
            held_split=np.clip(split, 0.0, 1.0),
        )

    @property
    def has_majorant(self) -> bool:
        """The law is below a sum of exponentials."""
        try:
            check_summable(self)
        except NotOffered:
            return False
        return True

    @property
    def anchor(self) -> dict[str, Array]:
        """The point."""
        out = {"bandwidth_share": self.held_band, "sign_power_share": self.held_power}
        return out | ({"sign_band_share": self.held_split} if self.free_split else {})

    def whole(self, x: Point) -> dict[str, Array]:
        """``x`` with what is held."""
        return self.anchor | {n: x[n] for n in x}

    def exponents(self, x: Point) -> tuple[Array, Array]:
        """s, m ``(..., K)``."""
        return super().exponents(self.whole(x))

    def packet_bands(self, x: Point) -> tuple[Array, Array]:
        """x_s, x_m ``(..., K)``."""
        return super().packet_bands(self.whole(x))

    def gradient(self, x: Point) -> dict[str, Array]:
        """The parent's, for the variables that are left."""
        whole = physical_gradient(self, self.whole(x))
        return {v.name: whole[v.name] for v in self.variables}

    def points(self) -> dict[str, Callable[[], Point]]:
        """``held``: the point itself."""
        names = [v.name for v in self.variables]
        return {"held": lambda: {n: np.array(self.anchor[n]) for n in names}}

    def infeasible(self) -> Array:
        """Never: the point is feasible."""
        return np.zeros(self.batch_shape, dtype=bool)

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """None: the parent has one."""
        return np.full(self.batch_shape, np.nan)

    def blocks(self) -> Blocks:
        """A step is one block."""
        raise NotOffered(f"{type(self).__name__} is one block already")

    def smooth(self) -> Smooth:
        """The variables as they are: those of the parent are not all here."""
        return scaled(self)

    def model(self) -> Model:
        """The parent has one."""
        raise NotOffered(f"{type(self).__name__} has no Model form")


class _BandwidthStep(Held):
    """min sum_k J_k over the bands (with a free split of both packets), alpha held."""

    variables = (SPFL.bandwidth_share, SPFL.split)

    @property
    def default_solver(self) -> str | None:  # type: ignore[override]  # depends on the instance
        """Newton where convex, else SCA where there is a surrogate, else the dual."""
        return "newton" if self.is_convex else "sca:1" if self.has_majorant else "dual"

    def separable(self) -> Separable:
        """sum_k J_k in b, or in (x_s, x_m) with a free split."""
        flat = self if len(self.batch_shape) == 1 else self.flat()
        coordinates = Coordinates(flat, flat.anchor, band=True, power=False)
        shape = (flat.size, flat.sizes["K"], coordinates.row.size)
        starts = _Starts(flat, coordinates)

        def local(y: Array) -> tuple[Array, Array, Array]:
            with np.errstate(all="ignore"):
                s, m = coordinates.curves(y)
                J = flat.law.slopes(s.value, m.value, flat)
                a, b = s.slope, m.slope
                slope = J.s[..., None] * a + J.m[..., None] * b
                bend = _times(J.s, s.bend) + _times(J.m, m.bend)
                for weight, p, q in ((J.ss, a, a), (J.sm, a, b), (J.sm, b, a), (J.mm, b, b)):
                    bend = bend + _times(weight, p[..., :, None] * q[..., None, :])
            return J.value, without_nan(slope), without_nan(bend)

        return Separable(
            local=local,
            row=coordinates.row,
            budget=np.ones(flat.size),
            lower=np.zeros(shape),
            upper=np.ones(shape),
            convex=np.full(flat.size, self.is_convex),
            point=coordinates.point,
            coordinates=coordinates.read,
            branches=starts,
        )

    def surrogate(self) -> Surrogate:
        """The majorant in the bands."""
        from rralloc.problems._spfl_surrogates import BandwidthMajorant

        check_summable(self)
        return Surrogate(lambda x: BandwidthMajorant.at(self, self.whole(x)))


class _PowerStep(Held):
    """min sum_k J_k over alpha, bands held: every device alone."""

    variables = (SPFL.sign_power_share,)

    @property
    def default_solver(self) -> str | None:  # type: ignore[override]  # depends on the instance
        """SCA where there is a surrogate, else the scan."""
        return "sca:1" if self.has_majorant else "closed-form"

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """None: nothing is shared."""
        return ()

    def separable(self) -> Separable:
        """Nothing is shared, so there is a formula."""
        raise NotOffered("the power step couples no devices; see 'closed-form' and 'sca'")

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """The best alpha by scan and golden section."""
        return ClosedForm(lambda: {"sign_power_share": self.best_power(self.anchor)})

    def surrogate(self) -> Surrogate:
        """The majorant in alpha."""
        from rralloc.problems._spfl_surrogates import PowerMajorant

        check_summable(self)
        return Surrogate(lambda x: PowerMajorant.at(self, self.whole(x)))


class _Starts:
    """The kinds of local minima of J_k + price b: off, both, with a free split also signs only."""

    def __init__(self, problem: _BandwidthStep, coordinates: Coordinates) -> None:
        self.problem, self.coordinates = problem, coordinates

    @cached_property
    def menus(self) -> list[tuple[Array, Array]]:
        """For each kind coordinates ``(C, S, K, n)`` and J there ``(C, S, K)``."""
        problem, shape = self.problem, self.problem.held_band.shape
        bands = np.geomspace(1e-4, 1.0, BANDS)
        if problem.free_split:
            both = np.stack([np.outer(bands, SPLITS), np.outer(bands, 1.0 - SPLITS)], -1)
            kinds = [both.reshape(-1, 2), np.stack([bands, 0 * bands], -1)]
        else:
            kinds = [bands[:, None]]
        kinds.append(np.zeros((1, kinds[0].shape[-1])))
        out = []
        for kind in kinds:
            y = np.broadcast_to(kind[:, None, None], (len(kind), *shape, kind.shape[-1]))
            worth = np.stack([problem.losses(self.coordinates.point(v)) for v in y])
            out.append((y, np.where(np.isnan(worth), np.inf, worth)))
        return out

    def __call__(self, price: Array) -> tuple[Array, Array]:
        """The cheapest of each kind ``(S, K, kinds, n)`` and J + price b there."""
        starts, costs = [], []
        for y, worth in self.menus:
            cost = worth + price[:, None] * (y @ self.coordinates.row)
            best = np.argmin(cost, axis=0)[None]
            costs.append(np.take_along_axis(cost, best, 0)[0])
            starts.append(np.take_along_axis(y, best[..., None], 0)[0])
        return np.stack(starts, axis=2), np.stack(costs, axis=2)


def _times(weight: Array, blocks: Array) -> Array:
    return weight[..., None, None] * blocks
