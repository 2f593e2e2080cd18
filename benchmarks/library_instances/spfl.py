"""SP-FL: all objectives under both fadings; starved, degenerate, free splits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from library_instances.draft import Draft
from rralloc.problems import SPFL

OBJECTIVES = ("plain", "sign_unbiased", "unbiased", "optimal_scaling")


def spfl() -> Iterator[Draft]:
    """All objectives under both fadings at an easy load; then starved, degenerate, free splits."""

    def one(name: str, problem: SPFL, *words: str, **more: Any) -> Draft:
        convex = problem.criterion == "unbiased" and bool(problem.is_convex)
        return Draft(f"spfl-{name}", problem, convex, *words, **more)

    for objective in OBJECTIVES:
        for fading in ("common", "independent"):
            law = {"objective": objective, "fading": fading}
            short = objective.replace("_", "-")
            yield one(
                f"{short}-{fading}",
                SPFL.random(K=5, load=3, rng=11, **law),
                *("load 3", "none" if objective == "unbiased" else "not convex per block"),
                "The acceptance instance make(11, 5, 3) of the specification (spfl.md section 7).",
            )
            yield one(
                f"{short}-{fading}-starved",
                SPFL.random(K=5, load=6, rng=11, **law),
                *(
                    "load 6, starved",
                    "values of 1e13 at a start" if objective == "unbiased" else "duality gap",
                ),
                "Twice the load: devices are switched off, and alternation never revives them.",
            )
    for objective in OBJECTIVES:
        yield one(
            f"{objective.replace('_', '-')}-free-split",
            SPFL.random(K=5, load=3, rng=11, objective=objective, sign_band_share="free"),
            *("load 3, free split", "three variables a device"),
            "The band between signs and moduli is decided too: one-bit becomes a point of it.",
        )
    for packets in ("single", "one-bit", "choice"):
        yield one(
            f"plain-packets-{packets}",
            SPFL.random(K=5, load=3, rng=11, objective="plain", packets=packets),
            *("load 3, restricted", "combinatorial" if packets == "choice" else "sigmoidal"),
            "A restriction of the free split that serves as a rival in studies.",
        )
    yield one(
        "plain-independent-20",
        SPFL.random(K=20, load=6, rng=12, objective="plain", fading="independent"),
        *("load 6, larger", "poor local optimum"),
        "make(12, 20, 6): alternation ends at .6154, .5191 is the specification's best.",
    )
    yield one(
        "plain-independent-20-free-gap",
        SPFL.random(
            K=20,
            load=6,
            rng=12,
            objective="plain",
            fading="independent",
            sign_band_share="free",
        ),
        *("load 6, free split, larger", "open gap"),
        "The optimum is 0.40644281 by dynamic programming; the dual stays 8.4e-4 below.",
    )
    yield one(
        "optimal-scaling-common-20",
        SPFL.random(K=20, load=6, rng=12),
        *("load 6, larger", "poor local optimum"),
        "make(12, 20, 6) with the default objective; .1705675857 in the specification.",
    )
    yield one(
        "unbiased-common-20",
        SPFL.random(K=20, load=3, rng=12, objective="unbiased"),
        *("load 3, larger", "none", "The convex objective at the size of a cell."),
    )
    yield from _degenerate_spfl(one)


def _degenerate_spfl(one: Any) -> Iterator[Draft]:
    """P1-P6 of the specification."""
    base = SPFL.random(K=4, load=3, rng=11, objective="plain")
    K4 = np.ones(4)
    yield one(
        "plain-alone",
        SPFL.random(K=1, load=3, rng=11, objective="plain", fading="independent"),
        *("degenerate", "one device", "K = 1 takes the whole band: only the power is decided."),
    )
    silent = {
        n: [0.0, *getattr(base, n)[1:]]
        for n in ("gradient_energy", "compensation_error", "quantization_error")
    }
    yield one(
        "plain-zero-gradient",
        base.replace(**silent),
        *("degenerate", "zero gradient", "P1: a device with nothing to say gets no band."),
    )
    nothing = dict.fromkeys(silent, 0.0)
    yield one(
        "plain-all-silent",
        base.replace(**nothing),
        *("degenerate", "zero optimum", "P1: nobody has anything to say; the optimum is 0."),
    )
    dead = base.snr * [0, 1, 1, 1]
    yield one(
        "plain-dead-channel",
        base.replace(snr=dead),
        *("degenerate", "division by zero", "P2: a device without a channel is switched off."),
    )
    yield one(
        "unbiased-dead-channel",
        base.replace(snr=dead, objective="unbiased"),
        *("infeasible", "infeasible", "P2: an unbiased sum needs every device."),
        infeasible=True,
    )
    yield one(
        "plain-huge-payload",
        base.replace(sign_rate=base.sign_rate * 400, modulus_rate=base.modulus_rate * 400),
        *("starved", "underflow", "P4: no packet arrives whatever is done; all are off."),
    )
    worse = base.gradient_energy * [1.5, 0.4, 1.2, 0.3]
    yield one(
        "unbiased-poor-compensation",
        base.replace(compensation_error=worse, compensation_energy=K4, objective="unbiased"),
        *("degenerate", "convexity lost", "P5: E > G on two devices, the theorem is void."),
    )
    yield one(
        "plain-harmful-modulus",
        base.replace(quantization_error=base.compensation_error * [3.0, 0.1, 2.0, 0.1]),
        *("degenerate", "sign of a coefficient", "P6: D > E, the modulus packet does harm."),
    )
    yield one(
        "plain-snr-spread",
        base.replace(snr=[1e-12, 1e-4, 1e2, 1e8]),
        *("gains over 20 orders", "scaling", "SNR from -120 to 80 dB in one cell."),
    )
    yield one(
        "unbiased-snr-spread",
        SPFL.random(K=6, load=3, rng=11, objective="unbiased", snr=10.0 ** np.linspace(-2, 18, 6)),
        *("gains over 20 orders", "scaling", "The weak device takes nearly all of the band."),
    )
    yield one(
        "plain-twins",
        SPFL(
            snr=2.0 * np.ones(6),
            weight=1 / 6,
            gradient_energy=1.0,
            compensation_error=0.3,
            quantization_error=0.02,
            sign_rate=0.25,
            modulus_rate=0.75,
            objective="plain",
        ),
        *("degenerate", "symmetry breaking", "P7: equal devices; some are on, some off."),
    )
