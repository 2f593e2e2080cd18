"""MADS without training: online rules against the clairvoyant, with given weights.

How the gap and the backlog depend on V, and where deciding on power pays beside fitting k to the
contact. Spec: mads.md §2.9 and §5.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import rralloc as rr
from rralloc import fl
from rralloc.problems import MADSHorizon
from rralloc.studies._mads_training import DEVICES, Place, contacts_of

SIZE, BITS, BAND_HZ, PEAK_W = 2410, 44, 4000.0, 0.2
BACKLOGS = (8, 16, 32, 64, 128)
"""V lambda*/Ebar of the sweep."""
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "MADS": ("drift-plus-penalty", {}),
    "MADS, patient": ("drift-plus-penalty", {"patience": 16.0}),
    "fixed power": ("fixed-power", {}),
    "full power": ("max-power", {}),
}


def independent_rounds(rounds: int, devices: int = 8, seed: int = 0) -> MADSHorizon:
    """Contacts in two rounds of five, exponential; Rayleigh fading, gamma weights; 0.05 J."""
    return MADSHorizon.random(K=devices, rounds=rounds, rng=seed)


def sweep(horizon: MADSHorizon, backlogs: Sequence[float] = BACKLOGS) -> list[dict[str, float]]:
    """For each V = backlog Ebar/lambda*: relative gap, its bound B0/(V optimum), mean backlog.

    Queues start at V lambda*. B0 = E[(E - Ebar)^2]/2, measured in the run itself.
    """
    best = rr.solve(horizon)
    rounds, devices = horizon.sizes["R"], horizon.sizes["N"]
    price = np.asarray(best.duals["energy_price"])
    budget = np.broadcast_to(horizon.energy_budget_j / rounds, devices)
    found = []
    for backlog in backlogs:
        V = backlog * budget / price
        sol = rr.solve(horizon, "drift-plus-penalty", tradeoff=V, queue0=V * price)
        energy = sol.x["power_w"] * sol.x["airtime_s"]
        drift = (((energy - budget) ** 2).mean(0) / 2 / V).sum() * rounds
        queue = np.array([step["queue"] for step in sol.trace.rows if "queue" in step])
        row = {
            "backlog": float(backlog),
            "gap": float(1 - sol.objective / best.objective),
            "bound": float(drift / best.objective),
            "queue": float((queue / budget).mean()),
            "energy": float(energy.sum() / (rounds * budget.sum())),
        }
        found.append(row)
    return found


def horizon_of(place: Place, speed: str, seed: int, rounds: int) -> MADSHorizon:
    """The contacts and channels of the training study, with gamma weights of variance 1/2."""
    met, earlier = (
        contacts_of(speed, seed, name, rounds, DEVICES) for name in ("contacts", "earlier")
    )
    link = place.link(met, earlier, SIZE)
    streams = fl.Streams(seed)
    gain = np.array([link.gains(streams.rng("channel", t), t) for t in range(rounds)])
    return MADSHorizon(
        value=streams.rng("weights").gamma(2.0, 0.5, gain.shape),
        contact_s=met.seconds,
        snr_per_watt=gain / link.noise_w,
        energy_budget_j=rounds * link.budget_per_round_j,
        model_size=SIZE,
        bits_per_coordinate=BITS,
        bandwidth_hz=link.bandwidth_hz,
        power_max_w=PEAK_W,
        **{n: v for n, v in link.priors.items() if n.startswith("prior_")},
    )


def scored(row: Mapping[str, Any]) -> dict[str, float]:
    """Value over the clairvoyant's under one hard budget, by rule; a row names place and speed."""
    place = Place(
        chi=row["chi"],
        psi=row["psi"],
        snr_db=row["snr_db"],
        fading=row["fading"],
        shape=row["shape"],
    )
    horizon = horizon_of(place, row["speed"], row["seed"], row["rounds"])
    best = float(rr.solve(horizon).objective)
    return {
        name: float(rr.solve(horizon, rule, hard_budget=True, **options).objective) / best
        for name, (rule, options) in RULES.items()
    }
