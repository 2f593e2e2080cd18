"""Over-the-air aggregation when channels are estimates, phases drift and clocks are late.

What device k adds to the error of the sum is its own (``_ota_errors``), so with the unit beam m

    E MSE(S, m) = (noise/P) max_S phi_k^2/|m^H hhat_k|^2 + sum_S c_k(m) <= target,
    c_k(m) = v_k phi_k^2/|m^H hhat_k|^2 + 2 phi_k^2 (1 - kappa_k sinc delta_k).

The set still follows from the beam. Whoever is the weakest admitted fixes the first term; of those
no weaker, the cheapest fit best. So for every device as the weakest: sort by cost, take the longest
prefix that fits. That is exact where all devices have one value; with values it would be a
knapsack, which this problem refuses.

Errors of the *receiver's* estimate alone (the devices know their channels) only raise thresholds:
``worst_case`` and ``with_chance`` return plain OTASelection problems.

Source: ota.md section 7, derived; sizes in the bound derived here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from rralloc.errors import InvalidProblem, NotOffered
from rralloc.fields import data
from rralloc.forms import ClosedForm, Sweep, offers
from rralloc.policy import Round
from rralloc.problems import _ota_bounds as bounds
from rralloc.problems._ota_errors import (
    alignment_error,
    chance_below,
    inversion_error,
    longest,
    lost,
    safest,
)
from rralloc.problems.ota_selection import SERVED, OTASelection
from rralloc.typing import Array, Field, Point, Witness

F = TypeVar("F")
LEVELS = 24
"""Sizes of the set that a sweep tries at most."""
THRESHOLDS = {f for f, n in OTASelection._offers.items() if n in vars(OTASelection)} - {ClosedForm}
"""Forms of OTASelection that rest on its thresholds."""


class OTASelectionImperfect(OTASelection):
    """One receive beam that serves the most devices within an *expected* aggregation error.

    Problem
        max |S|  s.t.  (noise/P) max_S phi_k^2/|m^H hhat_k|^2 + sum_S c_k <= target, |m| = 1,
        c_k = v_k phi_k^2/|m^H hhat_k|^2 + 2 phi_k^2 (1 - kappa_k sinc delta_k).

    Parameters, beyond those of OTASelection
        channel: the *estimate* hhat ``(..., N, K)`` by which devices invert; h = hhat + e.
        csi_error: v_k >= 0 ``(..., K)``, unit of |h|^2: e_k ~ CN(0, v_k I), one antenna's entry.
        phase_error_rad: Delta_k in [0, pi] ``(..., K)``, phase uniform in +-Delta_k; kappa =
        sin(Delta)/Delta. timing_offset: delta_k in [0, 1) ``(..., K)``, symbol periods, sinc pulse.
        All default to 0; without any error this is OTASelection.
        value: one for all devices of an instance, if there is an error in it.
    Variables
        beamformer: m. selected: derived, the most devices that the beam admits, and of such sets
        the one of least error.
    Bound
        That of OTASelection at the threshold which a set of s devices leaves after the costs that
        no beam avoids (those of the s cheapest): the largest s that it admits.
    Errors
        InvalidProblem for values outside their range and for different values beside errors.
    Choose this when
        the error budget must hold on average over estimates, phases and clocks. Where the devices
        know their channels and only the server errs: ``worst_case``, ``with_chance``.
    Source
        ota.md section 7, derived.
    """

    source = "ota.md section 7, derived"
    bound_method = "dual weights of the devices at what the least costs of s devices leave"
    default_solver = None  # with errors there is no coverage

    csi_error: Field = data("K", unit="1", low=0, default=0.0, doc="variance of a channel estimate")
    phase_error_rad: Field = data(
        "K", unit="rad", low=0, high=np.pi, default=0.0, doc="largest phase error"
    )
    timing_offset: Field = data(
        "K", unit="symbol", low=0, high=1, open_high=True, default=0.0, doc="clock offset"
    )

    def check(self) -> None:
        """Errors make the choice a knapsack unless all devices are worth the same."""
        unequal = self.values.max(-1) > self.values.min(-1)
        if (unequal & self._erring).any():
            raise InvalidProblem(
                "OTASelectionImperfect.value differs between devices beside csi_error, "
                "phase_error_rad or timing_offset: the choice would be a knapsack; give one value"
            )

    @property
    def _erring(self) -> Array:
        """Mask ``(...)`` of the instances with some error."""
        some = (self.csi_error > 0) | (self.phase_error_rad > 0) | (self.timing_offset > 0)
        return np.asarray(self._full(some, "K").any(-1))

    @classmethod
    def random(
        cls,
        *,
        K: int,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        N: int = 6,
        **settings: Any,
    ) -> Self:
        """As OTASelection, with csi_error .002, phases within .1 rad, clocks .02 symbols late."""
        errors = {"csi_error": 0.002, "phase_error_rad": 0.1, "timing_offset": 0.02}
        return super().random(K=K, batch=batch, rng=rng, N=N, **errors | settings)

    # -- training -----------------------------------------------------------------------------

    @classmethod
    def from_round(cls, round: Round) -> Self:
        """OTASelection of the round with the errors that its link admits to.

        On the safe side: a clock counts as late by its largest offset, and the error of the real
        part, which is all that is sent, is at most that of the complex sum.
        """
        nominal = OTASelection.from_round(round)
        told, power = round.statistics, np.asarray(round.power_w)
        fields = {n: getattr(nominal, n) for n in OTASelection._data}
        return cls(
            **fields,
            csi_error=told["csi_error"] * power / power.max(),
            phase_error_rad=told["phase_error_rad"],
            timing_offset=told["timing_offset"],
        )

    # -- costs, in units of the target --------------------------------------------------------

    @cached_property
    def _target(self) -> Array:
        return np.broadcast_to(self.mse_target, self.batch_shape)[..., None]

    @cached_property
    def _fixed(self) -> Array:
        """What a device costs whatever the beam ``(..., K)``."""
        cost = alignment_error(self._phi, self.phase_error_rad, self.timing_offset)
        return self._full(cost, "K") / self._target

    def _cost(self, heard: Array) -> Array:
        """c_k/target where |m^H hhat_k|/phi_k is ``heard``."""
        with np.errstate(over="ignore", under="ignore"):
            return inversion_error(np.square(heard) * self._target, self.csi_error) + self._fixed

    def costs(self, m: Array) -> Array:
        """What each device would add to the expected error ``(..., K)``; noise apart."""
        return self._cost(np.abs(self._heard(m))) * self._target

    # -- the set follows from the beam --------------------------------------------------------

    def served(self, m: Array) -> Array:
        """The most devices within the budget of a beam along m; the least error among equals."""
        gain = self.gain(m)
        with np.errstate(divide="ignore"):
            level = 1 / gain  # noise term with this device as the weakest, over the target
        return longest(level, self._cost(np.abs(self._heard(m))), 1 / SERVED)

    def mse(self, x: Point) -> Array:
        """Expected error of the sum over the served devices ``(...)``; 0 where nobody is served."""
        m = x["beamformer"]
        return super().mse(x) + np.where(self.served(m), self.costs(m), 0.0).sum(-1)

    def least_error_scaling(self, x: Point) -> tuple[Array, Array, Array]:
        """Not with errors: that of OTASelection trusts its channels."""
        if self._erring.any():
            raise NotOffered("least_error_scaling trusts the channels; here they are estimates")
        return super().least_error_scaling(x)

    # -- forms --------------------------------------------------------------------------------

    def view(self, form: type[F]) -> F:
        """Without errors all forms of OTASelection; else none that gives devices thresholds."""
        if form in THRESHOLDS and self._erring.any():
            raise NotOffered("errors add up over the served devices: no device has a threshold")
        return super().view(form)

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """One antenna leaves no choice of beam; two have a formula only without errors."""
        if self._erring.any() and self.sizes["N"] > 1:
            raise NotOffered("errors add up over the served devices: no formula beyond 1 antenna")
        return super().closed_form()

    @offers(Sweep)
    def sweep(self) -> Sweep:
        """For s devices, all as weak as the weakest: OTASelection with more noise, less target."""
        if not self._erring.any():
            raise NotOffered("without errors this is OTASelection: coverage applies")
        K = self.sizes["K"]
        sizes = np.unique(np.linspace(1, K, min(K, LEVELS)).round().astype(int))
        left = 1 - np.sort(self._fixed, -1).cumsum(-1)  # of the target, after the s cheapest
        open_ = left.reshape(-1, K).max(0)[sizes - 1] > 0
        sizes = sizes[open_] if open_.any() else sizes[:1]
        return Sweep(sizes, lambda i: self._nominal(int(sizes[i]), left[..., sizes[i] - 1]))

    def _nominal(self, size: int, left: Array) -> OTASelection:
        """Served there: noise and CSI costs of ``size`` equally weak devices in what is left.

        What is left is so for the cheapest, so only these count there.
        """
        dearest = np.sort(self._fixed, -1)[..., size - 1 : size]
        error = np.sort(self._full(self.csi_error, "K"), -1)[..., :size].sum(-1)
        return OTASelection(
            channel=self.channel,
            mse_target=self.mse_target * np.where(left > 0, left, 1.0),
            noise_power=self.noise_power + self.transmit_power * error,
            transmit_power=self.transmit_power,
            aggregation_weight=self.aggregation_weight,
            value=np.where(self._fixed <= dearest, self.values, 0.0),
        )

    # -- what proves it -----------------------------------------------------------------------

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """OTASelection's, and the largest set whose own least costs leave it a chance."""
        nominal = super().bound(x, witness)
        if not self._erring.any():
            return nominal
        if self.sizes["N"] == 1:  # every beam serves the same devices
            only = np.ones(self.shape_of(type(self).beamformer), dtype=complex)
            return self.objective({"beamformer": only})
        worth = self.values.max(-1)
        trials = [np.zeros(self.values.shape), self.values]
        if witness is not None and "dual_weight" in witness:
            trials.append(np.asarray(witness["dual_weight"]))
        # 1. No beam hears a device better than its own matched filter.
        least = self._cost(self._full(np.linalg.norm(self.channel, axis=-2) / self._phi, "K"))
        left = 1 / bounds.LOOSE - np.sort(least, -1).cumsum(-1)
        # 2. s devices need a beam that serves s at the threshold 1/left_s.
        most = np.zeros(self.batch_shape)
        for s in range(1, self.sizes["K"] + 1):
            share = np.maximum(left[..., s - 1], 0.0)
            g = self.columns * np.sqrt(share)[..., None, None]
            claim = np.minimum.reduce([bounds.relaxed(g, self.values, y) for y in trials])
            fits = (share > 0) & (claim * (1 + 1e-9) >= s * worth)
            most = np.where(fits, s * worth, most)
        return np.where(self._erring, np.minimum(nominal, most), nominal)


# -- the receiver's estimate alone ----------------------------------------------------------------


def worst_case(problem: OTASelection, radius: Array | float) -> OTASelection:
    """Devices that stay served whatever the server's error |e_k| <= radius_k ``(..., K)``.

    h = hhat + e and |m^H h| >= |m^H hhat| - radius for unit m: a threshold (sqrt(tau) phi_k +
    radius_k)^2, which is OTASelection with phi_k + radius_k/sqrt(tau), tau = noise/(P target).
    Take the beam from it; who is served, ``mse`` and ``transmit_scaling`` with the true weights
    are those of the original problem.

    Source: ota.md section 7, derived.
    """
    radius = np.asarray(radius, dtype=float)
    if not (np.isfinite(radius) & (radius >= 0)).all():
        raise InvalidProblem(f"radius = {radius} is not in [0, inf)")
    if isinstance(problem, OTASelectionImperfect) and problem._erring.any():
        raise NotOffered("worst_case: errors of the devices are in the problem already; give none")
    if (problem.noise_power == 0).any():
        raise InvalidProblem("worst_case: without noise there is no threshold to raise; give some")
    root = np.sqrt(problem.noise_power / problem.transmit_power / problem.mse_target)
    return problem.replace(aggregation_weight=problem._phi + radius / root[..., None])


def with_chance(
    problem: OTASelection,
    variance: Array | float,
    probability: float,
    members: Array | int | None = None,
) -> OTASelection:
    """Served devices of which, with chance 1 - probability, not one is lost to e ~ CN(0, v_k I).

    P(|m^H e_k| > r) = exp(-r^2/v_k), so r_k = sqrt(v_k ln(members/probability)) by the union bound.
    ``members``: no fewer than are served ``(...)``; None takes all K. On the safe side: see
    ``calibrated``.

    Source: ota.md section 7, derived.
    """
    _check_chance(variance, probability)
    count = np.asarray(problem.sizes["K"] if members is None else members, dtype=float)[..., None]
    spread = np.sqrt(np.maximum(np.log(np.maximum(count, 1) / probability), 0))
    return worst_case(problem, np.sqrt(variance) * spread)


def risk(problem: OTASelection, m: Array, variance: Array | float) -> Array:
    """P(device k misses its threshold) ``(..., K)`` for h = hhat + e, e ~ CN(0, v_k I)."""
    root = np.sqrt(problem.noise_power / problem.transmit_power / problem.mse_target)
    spread = np.sqrt(np.asarray(variance, dtype=float)) / problem._phi
    return chance_below(np.abs(problem._heard(m)), root[..., None] * np.sqrt(SERVED), spread)


class Calibrated(NamedTuple):
    """A beam ``(..., N)``, who is served ``(..., K)``, the exact chance that one of them is not
    ``(...)``, and the radius ``(...)`` in deviations at which the beam was found.
    """

    beamformer: Array
    selected: Array
    violated: Array
    radius: Array


def calibrated(
    problem: OTASelection,
    variance: Array | float,
    probability: float,
    solve: Callable[[OTASelection], Any],
    steps: int = 8,
) -> Calibrated:
    """The most devices of which, with chance 1 - probability, not one is lost: radius by bisection.

    ``solve`` is ``rr.solve`` or anything that takes a problem and returns what has ``x``. Errors
    are independent, P(nobody lost) = prod (1 - risk_k), so each beam admits the least risky devices
    as long as the product allows: no set is larger (with values, one may be worth more). The radius
    starts at that of ``with_chance``; it falls where those whom the raised threshold serves are
    safe together and rises where they are not. The best beam of all steps is returned.

    Source: ota.md section 7 ("calibrate by bisection"), derived.
    """
    _check_chance(variance, probability)
    deviation = np.sqrt(np.asarray(variance, dtype=float))
    low = np.zeros(problem.batch_shape)
    high = np.full(problem.batch_shape, np.sqrt(np.log(problem.sizes["K"] / probability)))
    best: Calibrated | None = None
    for step in range(steps + 1):
        r = high if step == 0 else (low + high) / 2
        # 1. A beam for this radius.
        robust = worst_case(problem, r[..., None] * deviation)
        m = np.asarray(solve(robust).x["beamformer"])
        chances = risk(problem, m, variance)
        # 2. Whom it may admit.
        new = Calibrated(m, *safest(chances, problem.values, probability), r)
        best = new if best is None else _better(problem, new, best)
        # 3. Less margin where its own set is safe, more where it is not.
        safe = lost(np.where(robust.served(m), chances, 0.0)) <= probability
        low, high = np.where(safe, low, r), np.where(safe, r, high)
    assert best is not None
    return best


def _better(problem: OTASelection, new: Calibrated, old: Calibrated) -> Calibrated:
    """Per instance the one of more value; of equals the safer."""
    worth = [np.where(c.selected, problem.values, 0.0).sum(-1) for c in (new, old)]
    wins = (worth[0] > worth[1]) | ((worth[0] == worth[1]) & (new.violated < old.violated))
    pick = [
        np.where(wins.reshape(wins.shape + (1,) * (a.ndim - wins.ndim)), a, b)
        for a, b in zip(new, old)
    ]
    return Calibrated(*pick)


def _check_chance(variance: Array | float, probability: float) -> None:
    spread = np.asarray(variance, dtype=float)
    if not (np.isfinite(spread) & (spread >= 0)).all():
        raise InvalidProblem(f"variance = {spread} is not in [0, inf)")
    if not 0 < probability < 1:
        raise InvalidProblem(f"probability = {probability} is not in (0, 1)")
