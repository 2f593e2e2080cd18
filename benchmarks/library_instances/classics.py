"""Water-filling, shares of a band, laws of drawing, counts, local steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from library_instances.draft import Draft
from rralloc.problems import (
    DeviceCount,
    FDMARate,
    FEELScheduling,
    InverseWaterFilling,
    MinMaxLatency,
    TauControl,
    WaterFilling,
)


def classics() -> Iterator[Draft]:
    """Water-filling, shares of a band, laws of drawing, counts, local steps."""

    def water(name: str, gain: Any, budget: float, *words: str) -> Draft:
        return Draft(
            f"waterfilling-{name}", WaterFilling(gain=gain, power_budget_w=budget), True, *words
        )

    yield water(
        "plain",
        *([2.0, 1.0, 0.5, 0.1], 3.0),
        *("regular", "none", "Three of four channels are used: the yardstick of all others."),
    )
    yield water(
        "spread",
        *(10.0 ** np.linspace(-12, 8, 20), 1.0),
        *("gains over 20 orders", "scaling", "Conic solvers lose digits on data spread this far."),
    )
    yield water(
        "all-on-spread",
        *(10.0 ** np.linspace(-12, 8, 20), 1e13),
        *("gains over 20 orders", "cancellation", "All channels used; water level minus 1/gain."),
    )
    yield water(
        "drowned",
        *(1e-18 * np.array([3.0, 1.0, 2.0, 0.5]), 1.0),
        *("gains 1e-18", "cancellation", "log2(1 + g p) is 0 unless log1p is used."),
    )
    yield water(
        "dead-channels",
        *([0.0, 1.0, 0.0, 3.0], 1.0),
        *("degenerate", "division by zero", "1/gain is infinite where a channel is dead."),
    )
    yield water(
        "no-power",
        *([1.0, 2.0, 0.3], 0.0),
        *("degenerate", "zero optimum", "The optimum is 0: relative gaps mean nothing."),
    )
    yield water(
        "ties",
        *(np.ones(7), 0.1),
        *("degenerate", "ties", "Equal channels share equally; the active set is not unique."),
    )
    yield Draft(
        "inversewaterfilling-high-rate",
        InverseWaterFilling(gain=10.0 ** np.linspace(-4, 4, 8), rate_target=200.0),
        *(True, "exponential", "scaling"),
        "Powers are exponential in the rate: 1e8 W here, and interior points start far away.",
    )
    yield Draft(
        "inversewaterfilling-no-rate",
        InverseWaterFilling(gain=[1.0, 5.0, 0.2], rate_target=0.0),
        *(True, "degenerate", "zero optimum", "Nothing is asked for, nothing is spent."),
    )
    yield Draft(
        "fdmarate-plain",
        FDMARate.random(K=8, rng=0),
        *(True, "regular", "units"),
        "Hertz and bits: numbers of 1e6 beside weights of 1.",
    )
    yield Draft(
        "fdmarate-spread",
        FDMARate(snr_bandwidth_hz=10.0 ** np.linspace(-8, 12, 12), bandwidth_budget_hz=1e6),
        *(True, "gains over 20 orders", "scaling", "Shares of the band over 20 orders as well."),
    )
    yield Draft(
        "fdmarate-weighted-dead",
        FDMARate(
            snr_bandwidth_hz=[0.0, 1e6, 1e7, 5e6, 2e6],
            weight=[1.0, 0.0, 1.0, 3.0, 0.2],
            bandwidth_budget_hz=1e6,
        ),
        *(True, "degenerate", "zero gradient", "A dead device and one without weight."),
    )

    def feel(name: str, a: Any, T: Any, rho: float, *words: str) -> Draft:
        problem = FEELScheduling(importance=a, latency_s=T, tradeoff=rho)
        return Draft(f"feelscheduling-{name}", problem, True, *words)

    a, T = [0.5, 0.3, 0.15, 0.05], [1.0, 0.5, 0.25, 2.0]
    yield feel(
        "plain",
        *(a, T, 0.5),
        *("regular", "none", "The acceptance instance of the specification (rrm.md section 4)."),
    )
    yield feel(
        "unreachable",
        *([0.5, 0.0, 0.3, 0.2], [1.0, 0.5, np.inf, 2.0], 0.5),
        *("degenerate", "infinite data", "One device unreachable, one of no importance."),
    )
    yield feel(
        "importance-only",
        *(a, T, 1.0),
        *("limit", "branch of the formula", "Latency does not count: p is proportional to a."),
    )
    yield feel(
        "nearly-latency-only",
        *(a, T, 1e-9),
        *("limit", "vanishing probabilities", "Weak devices are drawn once in 1e5 rounds."),
    )

    def cell(K: int, rng: int, **change: Any) -> MinMaxLatency:
        return MinMaxLatency.random(K=K, rng=rng, **change)

    km = np.array([0.1, 0.2, 0.3, 0.5])
    spec = {
        "path_gain": 10 ** (-(128.1 + 37.6 * np.log10(km)) / 10),
        "power_w": 0.1,
        "noise_psd_w_hz": 10**-20.4,
        "bandwidth_budget_hz": 1e6,
        "payload_bit": 1e6,
        "compute_s": [0.1, 0.3, 0.2, 0.4],
    }
    yield Draft(
        "minmaxlatency-plain",
        MinMaxLatency(**spec),
        *(True, "regular", "none"),
        "The acceptance instance of the specification: 0.6883072809 s (rrm.md section 5).",
    )
    yield Draft(
        "minmaxlatency-crowded",
        cell(20, 3),
        *(True, "regular", "stalling"),
        "SciPy's trust-constr stalls on cells like this one.",
    )
    yield Draft(
        "minmaxlatency-near-ceiling",
        MinMaxLatency(**spec | {"path_gain": [1e-9, 1e-10, 3e-16, 2e-16]}),
        *(True, "starved", "0/0 in the Lambert branch"),
        "Two devices need minutes: whatever band they get, their rate is near P g/(N0 ln 2).",
    )
    yield Draft(
        "minmaxlatency-nothing-to-send",
        MinMaxLatency(**spec | {"payload_bit": [0.0, 1e6, 0.0, 1e5]}),
        *(True, "degenerate", "zero share", "Two devices need no band, only time to compute."),
    )
    yield Draft(
        "minmaxlatency-dead-device",
        MinMaxLatency(**spec | {"path_gain": [1e-9, 0.0, 1e-10, 1e-11]}),
        *(True, "infeasible", "infeasible", "A device with a packet and no channel."),
        infeasible=True,
    )
    yield Draft(
        "devicecount-plain",
        DeviceCount.random(K=8, rng=0),
        *(False, "regular", "combinatorial", "How many, and which: 255 sets."),
    )
    yield Draft(
        "devicecount-larger",
        DeviceCount.random(K=14, rng=3),
        *(False, "regular", "combinatorial", "16383 sets; the closed form needs none of them."),
    )
    yield Draft(
        "devicecount-rounds-do-not-fall",
        DeviceCount.random(K=8, rng=1, rounds_per_device=0.0),
        *(False, "limit", "boundary optimum", "More devices save no round: one device is best."),
    )
    yield Draft(
        "devicecount-all-dead",
        DeviceCount.random(K=4, rng=0, path_gain=0.0),
        *(False, "infeasible", "infeasible", "Nobody can be heard."),
        infeasible=True,
    )
    base = {
        "cost_per_step": [0.013],
        "cost_per_aggregation": [0.13],
        "budget": [15.0],
        "loss_lipschitz": 1.0,
        "gradient_lipschitz": 2.0,
        "divergence": 0.5,
        "learning_rate": 0.01,
        "control_parameter": 0.025,
    }

    def tau(name: str, change: Mapping[str, Any], *words: str, **more: Any) -> Draft:
        problem = TauControl(**base | dict(change))
        return Draft(f"taucontrol-{name}", problem, False, *words, size=1, **more)

    yield tau(
        "plain",
        {"reserve": False},
        *("regular", "integer", "The acceptance instance: 26 local steps (rrm.md section 8)."),
    )
    yield tau(
        "same-data",
        {"divergence": 0.0},
        *("limit", "boundary optimum", "No drift: as many local steps as are allowed."),
    )
    yield tau(
        "overflow",
        {"gradient_lipschitz": 1e5, "search_limit": 1000.0},
        *("scaling", "overflow", "(1 + eta beta)^tau overflows long before the limit."),
    )
    yield tau(
        "no-budget",
        {"budget": [0.1]},
        *("infeasible", "infeasible", "The budget does not pay one round."),
        infeasible=True,
    )
