"""Textbook problems with a closed form: energy efficiency, beams, covariances, slots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from library_instances.draft import Draft
from rralloc.problem import Problem
from rralloc.problems import (
    DownlinkBeamforming,
    EnergyEfficiency,
    MIMOCapacity,
    ProportionalFairShare,
    SlottedALOHA,
    SubcarrierAssignment,
    SubcarrierQuota,
)


def textbook() -> Iterator[Draft]:
    """Closed forms where they are delicate: spread gains, ties, dead channels, tight targets."""

    def one(name: str, problem: Problem, *words: str, convex: bool = True, **more: Any) -> Draft:
        return Draft(f"{type(problem).__name__.lower()}-{name}", problem, convex, *words, **more)

    wide = 10.0 ** np.linspace(-12, 8, 11)
    yield one("plain", EnergyEfficiency.random(K=6, rng=0), "regular", "none", "Bits for a joule.")
    yield one(
        "gain-spread",
        EnergyEfficiency(gain=wide, circuit_power_w=1.0, power_max_w=1.0),
        *("gains over 20 orders", "scaling", "Gains from 1e-12 to 1e8 1/W under one cap each."),
    )
    yield one(
        "free-circuits",
        EnergyEfficiency(gain=[1.0, 2.0, 5.0], circuit_power_w=1e-12, power_max_w=1.0),
        *("limit", "cancellation", "Circuits cost nothing: the power tends to 0."),
    )
    yield one(
        "plain",
        DownlinkBeamforming.random(K=4, rng=0),
        *("regular", "none", "Four devices, five antennas."),
        size=4,
    )
    yield one(
        "crowded",
        DownlinkBeamforming.random(K=6, N=3, rng=0, sinr_target=0.6),
        *("crowded", "ill-conditioned", "Six devices on three antennas, targets below the limit."),
        size=6,
    )
    yield one(
        "too-crowded",
        DownlinkBeamforming.random(K=6, N=3, rng=0, sinr_target=3.0),
        *("infeasible", "infeasible", "More than three antennas can separate."),
        infeasible=True,
        size=6,
    )
    yield one("plain", MIMOCapacity.random(K=4, rng=0), "regular", "none", "Four by four.", size=1)
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((4, 4)))[0]
    yield one(
        "eigenvalue-spread",
        MIMOCapacity(channel=turn @ np.diag([1e-6, 1e-2, 1.0, 1e4]) @ turn.T, power_budget_w=10.0),
        *("gains over 20 orders", "scaling", "Eigenchannels from 1e-12 to 1e8."),
        size=1,
    )
    yield one(
        "rank-one",
        MIMOCapacity(channel=np.outer([1, 1j, -1], [2.0, 1.0]), power_budget_w=1.0),
        *("degenerate", "rank", "One direction only: the others have no gain at all."),
        size=1,
    )
    yield one(
        "plain",
        ProportionalFairShare.random(K=6, rng=0),
        *("regular", "none", "Shares of time do not depend on the rates."),
    )
    yield one(
        "rate-spread",
        ProportionalFairShare(rate=wide, weight=np.arange(11.0)),
        *("gains over 20 orders", "zero weight", "Rates over 20 orders and one weight of 0."),
    )
    yield one(
        "dead-device",
        ProportionalFairShare(rate=[1e6, 0.0, 1e5]),
        *("infeasible", "infeasible", "The logarithm of a rate that is 0 whatever is done."),
        infeasible=True,
    )
    yield one("plain", SlottedALOHA.random(K=6, rng=0), "regular", "none", "Six devices.")
    yield one(
        "one-heavy",
        SlottedALOHA(weight=[1.0, 1e-10, 1e-10]),
        *("spread", "1 - p", "One device sends nearly always: 1 - p is 2e-10."),
    )
    yield one(
        "plain",
        SubcarrierAssignment.random(K=4, rng=0),
        *("regular", "combinatorial", "Best device on each, then water."),
        convex=False,
    )
    yield one(
        "ties",
        SubcarrierAssignment(gain=np.ones((3, 5)), power_budget_w=2.0),
        *("degenerate", "ties", "All equal: any owner will do, sharing would too."),
        convex=False,
    )
    yield one(
        "plain",
        SubcarrierQuota.random(K=4, rng=0),
        *("regular", "combinatorial", "A linear assignment with places."),
        convex=False,
    )
