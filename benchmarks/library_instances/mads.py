"""MADS: one round of contacts, and horizons of many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from library_instances.draft import Draft
from rralloc.problems import MADS, MADSHorizon, MADSUnknownContact

RADIO = {
    "model_size": 2410,
    "bits_per_coordinate": 44,
    "bandwidth_hz": 4000.0,
    "power_max_w": 0.2,
}
CONTACTS = {
    "value": [5e-4, 5e-4, 5e-4, 5e-6, 5e-3, 5e-3, 5e-4, 5e-4],
    "energy_price": [0.5, 0.5, 0.5, 0.5, 0.01, 0.01, 0.0, 0.5],
    "contact_s": [5.0, 0.5, 40.0, 5.0, 5.0, 2.0, 5.0, 5.0],
    "snr_per_watt": [300.0, 300.0, 300.0, 300.0, 300.0, 300.0, 300.0, 3.0],
}
"""The public acceptance set of mads.md section 6: all four cases."""


def mads() -> Iterator[Draft]:
    """One round of contacts, with a known and with an unknown end."""

    def one(name: str, problem: MADS, *words: str, convex: bool = False) -> Draft:
        return Draft(f"mads-{name}", problem, convex, *words)

    yield one(
        "acceptance",
        MADS(**CONTACTS, **RADIO),
        *(
            "regular",
            "none",
            "The acceptance set of the specification: silent, energy, power, dense.",
        ),
        convex=True,
    )
    yield one(
        "integer",
        MADS(**CONTACTS, **RADIO, integer=True),
        *("whole coordinates", "integer", "The same with whole coordinates; floor alone errs."),
    )
    circuit = {"circuit_power_w": 0.05, "header_bits": 500.0}
    yield one(
        "circuit-power",
        MADS(**CONTACTS, **RADIO, **circuit),
        *("fixed charge", "jump at zero", "The same with circuit power and header: race to sleep."),
    )
    sleep = {"value": [5e-3], "energy_price": [0.01], "contact_s": [100.0], "snr_per_watt": [30.0]}
    yield one(
        "race-to-sleep",
        MADS(**sleep, **RADIO, circuit_power_w=0.5, header_bits=500.0),
        *("fixed charge", "power cap", "Correction 1: the literal text exceeds the power cap."),
    )
    yield one(
        "coding",
        MADS(**CONTACTS, **RADIO, coding="best", **circuit),
        *("three codings", "combinatorial", "Index, bitmap or dense for each device."),
    )
    curve = np.random.default_rng(0).standard_t(3, (4, 12)) ** 2
    yield one(
        "curve",
        MADS(
            value=[0.2, 0.2, 0.05, 1.0],
            energy_price=[0.5, 0.5, 0.5, 1.0],
            contact_s=[0.05, 0.5, 0.1, 0.02],
            snr_per_watt=[300.0, 30.0, 100.0, 1000.0],
            model_size=12,
            bits_per_coordinate=36,
            bandwidth_hz=4000.0,
            power_max_w=0.2,
            residual=curve,
        ),
        *("true residuals", "integer", "A coordinate is worth its own square, heavy tails."),
    )
    yield one(
        "budget",
        MADS(**CONTACTS, **RADIO, energy_budget_j=[0.05, 0.05, 0.0, 1.0, 0.1, 0.3, 0.2, 0.2]),
        *("energy budget", "two active limits", "A cap on the joules of the round; one is 0."),
        convex=True,
    )
    edge = {
        "value": [5e-4, 5e-4, -1.0, 5e-4, 5e-4, 5e-4, 5e-4],
        "energy_price": [0.5, np.inf, 0.5, 0.5, 1e300, 0.5, 0.5],
        "contact_s": [0.0, 5.0, 5.0, 5.0, 5.0, 1e-300, 1e12],
        "snr_per_watt": [300.0, 300.0, 300.0, 0.0, 300.0, 300.0, 300.0],
    }
    yield one(
        "degenerate",
        MADS(**edge, **RADIO),
        *(
            "degenerate",
            "0/0 and overflow",
            "No contact, no gain, infinite price, 1e-300 s, 1e12 s.",
        ),
        convex=True,
    )
    yield one(
        "priceless",
        MADS(
            value=[np.inf, 5e-4],
            energy_price=[0.5, 0.5],
            contact_s=[2.0, 5.0],
            snr_per_watt=[300.0, 300.0],
            **RADIO,
        ),
        *("degenerate", "infinite optimum", "A coordinate worth inf: sent at any price."),
        convex=True,
    )
    wide = {"value": 5e-4, "energy_price": 0.5, "contact_s": 5.0}
    yield one(
        "gain-spread",
        MADS(**wide, **RADIO, snr_per_watt=10.0 ** np.linspace(-12, 8, 11)),
        *(
            "gains over 20 orders",
            "scaling",
            "From a device nobody hears to one beside the server.",
        ),
        convex=True,
    )
    yield one(
        "sixteen",
        MADS.random(K=16, rng=4242),
        *("regular", "none", "A draw of the specification's generator, sixteen devices."),
        convex=True,
    )

    def unknown(name: str, problem: MADSUnknownContact, *words: str) -> Draft:
        return Draft(f"madsunknowncontact-{name}", problem, False, *words)

    yield unknown(
        "plain",
        MADSUnknownContact.random(K=6, rng=0),
        *("regular", "not concave", "When to stop is a gamble on the end of the contact."),
    )
    yield unknown(
        "spread",
        MADSUnknownContact.random(K=8, rng=1, snr_per_watt=10.0 ** np.linspace(-12, 8, 8)),
        *("gains over 20 orders", "scaling", "Exponents of the chance beside those of the rate."),
    )
    yield unknown(
        "degenerate",
        MADSUnknownContact.random(
            K=4,
            rng=2,
            contact_mean_s=[0.0, 4.0, 1e9, 4.0],
            energy_price=[0.5, 0.0, 0.5, np.inf],
        ),
        *("degenerate", "limits", "No contact, free energy, an endless contact, no energy."),
    )


def horizons() -> Iterator[Draft]:
    """Many rounds on one supply of energy."""

    def second(seed: int, R: int, N: int, joules: Any, **more: Any) -> MADSHorizon:
        rng = np.random.default_rng(seed)  # G2 of mads.md section 6
        u = rng.random((R, N))
        tau = np.where(u < 0.4, rng.exponential(4.0, (R, N)), 0.0)
        g, w = 300 * rng.exponential(1.0, (R, N)), rng.gamma(2.0, 0.5, (R, N))
        fields = {"value": w, "contact_s": tau, "snr_per_watt": g, "energy_budget_j": joules}
        return MADSHorizon(**fields | RADIO | more)

    def one(name: str, problem: MADSHorizon, *words: str, convex: bool = True) -> Draft:
        size = problem.sizes["N"]
        return Draft(f"madshorizon-{name}", problem, convex, *words, size=size)

    yield one(
        "80-rounds",
        second(4343, 80, 1, 4.0),
        *("regular", "none", "G2(4343, 80, 1) of the specification: 33766.6250108184."),
    )
    yield one(
        "12-rounds",
        second(4444, 12, 5, 0.6),
        *("regular", "none", "Five devices, twelve rounds: each has its own price of energy."),
    )
    yield one(
        "slack",
        second(1, 10, 2, 1e6),
        *("slack budget", "zero price", "More energy than can be spent: the price is 0."),
    )
    yield one(
        "no-energy",
        second(1, 10, 2, [0.0, 0.5]),
        *("degenerate", "zero budget", "One device has no energy at all."),
    )
    yield one(
        "scarce",
        second(2, 10, 2, 1e-9),
        *("starved", "cancellation", "A nanojoule: powers and rates far below one bit."),
    )
    yield one(
        "integer",
        second(4343, 20, 2, 1.0, integer=True),
        *("whole coordinates", "knapsack"),
        "Whole coordinates under a budget: the relaxed price leaves a gap.",
        convex=False,
    )
    yield one(
        "circuit-power",
        second(4343, 20, 2, 1.0, circuit_power_w=0.05, header_bits=500.0),
        *("fixed charge", "jump at zero", "Which rounds are worth waking up for."),
        convex=False,
    )
