"""One beam for many: selection, admission, multicast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from library_instances.draft import Draft
from rralloc.library import Method
from rralloc.problem import Problem
from rralloc.problems import Multicast, OTABound, OTASelection, OTASelectionImperfect, OTAWideband


def over_the_air() -> Iterator[Draft]:
    """Who is served by one beam, exactly, with errors, on several subcarriers."""

    def one(name: str, problem: Problem, *words: str, **more: Any) -> Draft:
        return Draft(f"{type(problem).__name__.lower()}-{name}", problem, False, *words, **more)

    def select(K: int, N: int, rng: int, db: float, **more: Any) -> OTASelection:
        return OTASelection.random(
            **{"K": K, "N": N, "rng": rng, "mse_target": 10 ** (db / 10)} | more
        )

    hard = "combinatorial"
    yield one(
        "one-antenna",
        select(8, 1, 0, 0.0),
        *("one antenna", "none", "One antenna: every device by itself, a threshold."),
    )
    yield one(
        "two-antennas",
        select(20, 2, 0, 0.0),
        *("two antennas, larger", hard, "Two antennas: an exact sweep over the sphere."),
    )
    yield one(
        "four-antennas", select(6, 4, 0, -2.0), "regular", hard, "Six devices, four antennas."
    )
    yield one(
        "six-antennas", select(8, 6, 1, -4.0), "regular", hard, "Eight devices, six antennas."
    )
    yield one(
        "twelve",
        select(12, 6, 0, -2.0),
        *("larger", hard, "The size at which the literature's rivals are compared."),
    )
    yield one(
        "twenty",
        select(20, 6, 0, -2.0),
        *("larger", hard, "The usual setting of the literature: 6 antennas, 20 devices, -2 dB."),
    )
    yield one(
        "line-of-sight",
        select(12, 4, 0, -1.0, k_factor=4.0),
        *("larger, line of sight", "nearly parallel channels", "Rician channels, factor 4."),
    )
    yield one(
        "far-and-near",
        select(12, 6, 0, 4.0, loss_db=20.0),
        *("larger, path loss over 20 dB", "order by strength", "Here greedy is nearly right."),
    )
    rng = np.random.default_rng(7)
    h = rng.standard_normal((3, 6)) + 1j * rng.standard_normal((3, 6))
    yield one(
        "weak-units",
        OTASelection(1e-9 * h, mse_target=0.8, noise_power=1e-18),
        *("gains 1e-18", "scaling", "Channels of 1e-9 and noise of 1e-18: normalise first."),
    )
    yield one(
        "gain-spread",
        OTASelection(h * 10.0 ** np.linspace(-10, 0, 6), mse_target=1.0, noise_power=1e-12),
        *("gains over 20 orders", "scaling", "Powers from 1e-20 to 1 in one problem."),
    )
    yield one(
        "dead-and-twin",
        OTASelection(
            np.stack([0 * h[:, 0], h[:, 1], h[:, 1], -1j * h[:, 1], h[:, 2]], -1), mse_target=0.5
        ),
        *("degenerate", "parallel columns", "A dead device and three in one direction."),
    )
    yield one(
        "no-noise",
        OTASelection(np.where(np.arange(6) == 2, 0, h), mse_target=0.5, noise_power=0.0),
        *("degenerate", "zero threshold", "Without noise everybody is served who has a channel."),
    )
    yield one(
        "nobody",
        OTASelection(h, mse_target=1e-6),
        *("degenerate", "zero optimum", "A target that nobody meets: the empty set is the answer."),
    )
    yield one(
        "valued",
        OTASelection(h, mse_target=0.4, value=[5.0, 1.0, 1.0, 2.5, 0.0, 1.5]),
        *("weighted count", hard, "The most data, not the most devices."),
    )
    yield one(
        "weighted-sum",
        OTASelection(h, mse_target=0.4, aggregation_weight=[0.1, 0.3, 1.0, 0.5, 2.0, 0.7]),
        *("weights in the sum", hard, "Large data sets need more of the beam."),
    )
    for name, K, N in (("one-antenna", 5, 1), ("two-antennas", 4, 2)):
        yield one(
            name,
            OTABound.random(K=K, N=N, rng=0),
            *("regular", "none" if N == 1 else "loose bound"),
            "Noise against the data left out. Its own bound is loose; every set by itself proves.",
            methods=(Method("reduction:admission-by-subsets"),),
        )
    yield one(
        "heavy-noise",
        OTABound.random(K=4, N=2, rng=1, noise_power=100.0),
        *("noisy", "loose bound", "The best device alone, or nearly so."),
        methods=(Method("reduction:admission-by-subsets"),),
    )
    yield one(
        "csi-and-phase",
        OTASelectionImperfect.random(K=6, N=2, rng=0, csi_error=0.01, phase_error_rad=0.2),
        *("errors", hard, "Each device served takes some of the error budget of all."),
    )
    yield one(
        "timing",
        OTASelectionImperfect.random(K=4, N=1, rng=1, mse_target=1.5, timing_offset=0.2),
        *("errors, one antenna", hard, "Offsets cost the same whatever the beam is."),
    )
    yield one(
        "four-antennas",
        OTASelectionImperfect.random(K=8, N=4, rng=0),
        *("errors", "loose bound", "The relaxation admits devices that no beam serves."),
        methods=(Method("reduction:errors-by-selection"),),
    )
    yield one(
        "two-carriers",
        OTAWideband.random(K=4, N=2, F=2, rng=0, mse_target=3.0),
        *("two subcarriers", hard, "One set for all subcarriers, a beam for each."),
    )
    yield one(
        "four-carriers",
        OTAWideband.random(K=6, N=3, F=4, rng=0),
        *("four subcarriers", hard, "The tightest subcarrier alone proves what is proven."),
    )


def multicast() -> Iterator[Draft]:
    """The least beam that reaches all."""

    def one(name: str, problem: Multicast, *words: str, **more: Any) -> Draft:
        return Draft(f"multicast-{name}", problem, False, *words, **more)

    def draw(K: int, N: int, rng: int = 0) -> Multicast:
        return Multicast.random(K=K, N=N, rng=rng)

    yield one("pair", draw(2, 4), "regular", "none", "Two devices: a closed form.")
    yield one("three", draw(3, 3), "regular", "rank", "Three devices: the relaxation is exact.")
    yield one("six-two", draw(6, 2), "two antennas", "rank", "Six devices on two antennas.")
    yield one("eight-six", draw(8, 6), "regular", "rank", "The relaxation is exact to 6e-5.")
    yield one(
        "eight-four",
        draw(8, 4),
        *(
            "crowded",
            "loose bound",
            "The relaxation is 14 % low; a tree of selections proves more.",
        ),
        methods=(Method("reduction:multicast-by-selection"),),
    )
    yield one("alone", draw(1, 4), "degenerate", "one device", "One device: its matched filter.")
    h = np.asarray(draw(3, 3, 2).channel)
    yield one(
        "parallel",
        Multicast(np.stack([h[:, 0], 1j * h[:, 0], -2 * h[:, 0]], -1)),
        *("degenerate", "0/0", "Three parallel channels: the pair formula is 0/0."),
    )
    yield one(
        "gain-spread",
        Multicast(h * np.array([1e-10, 1e-5, 1.0])),
        *("gains over 20 orders", "scaling", "Channel powers from 1e-20 to 1."),
    )
