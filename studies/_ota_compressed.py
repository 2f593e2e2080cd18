"""Shorter sums: compressed over-the-air schemes on digits, by channel uses.

20 devices, softmax regression (d = 650), learning rate 1, one antenna without fading, P = 1 W and
real noise of ``noise_w`` a channel use. Spec: ota.md §5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rralloc import fl
from rralloc.fl.schemes import communication_gain
from rralloc.policy import Optimised
from rralloc.problems import OTASelection

DEVICES, ROUNDS, LAST = 20, 100, 10
EQUAL_USES = 13_000
SCHEMES: dict[str, Any] = {
    "over the air": fl.OverTheAir(),
    **{
        f"compressed, s/d {share:g}, k/s {density:g}": fl.AnalogCompressed(share, density)
        for share, density in ((0.5, 0.02), (0.5, 0.2), (0.25, 0.02), (0.25, 0.05), (0.1, 0.02))
    },
    "the same, no error feedback": fl.AnalogCompressed(0.25, 0.05, error_feedback=False),
    "the same, guarded": fl.AnalogCompressed(0.25, 0.05, guard=True),
    **{f"shared mask, s/d {share:g}": fl.SharedMask(share) for share in (0.25, 0.1, 0.05)},
    "digital DSGD, s/d 0.5": fl.DigitalDSGD(0.5),
}
QUICK = (
    *("over the air", "compressed, s/d 0.25, k/s 0.05", "the same, no error feedback"),
    *("shared mask, s/d 0.1", "digital DSGD, s/d 0.5"),
)


def uses_of(name: str, weights: int) -> int:
    """Channel uses of a round."""
    scheme = SCHEMES[name]
    return int(scheme.uses(weights)) if hasattr(scheme, "uses") else weights


def gain_of(name: str, weights: int) -> float:
    """Over everybody sending everything in turn."""
    return communication_gain(DEVICES, weights, uses_of(name, weights))


def trained(row: Mapping[str, Any]) -> dict[str, float]:
    """One run, named by partition, scheme, noise_w, rounds (or None and uses), seed."""
    seed = int(row["seed"])
    task = fl.Task.digits(DEVICES, row["partition"], learning_rate=1.0, seed=seed)
    link = fl.AirLink(
        mean_gain=np.ones(DEVICES),
        compute_s=np.zeros(1),
        power_w=1.0,
        noise_psd_w_hz=2 * row["noise_w"] / 1e6,  # half of it is heard in the real part
        fading="none",
    )
    everybody = Optimised(
        OTASelection,
        "baseline:all-devices",
        settings={"mse_target": link.mse_target(90.0)},
        scheme=SCHEMES[row["scheme"]],
    )
    uses = uses_of(row["scheme"], task.learner.size)
    rounds = int(row["rounds"] or EQUAL_USES // uses)
    history = fl.train(task, link, everybody, rounds=rounds, seed=seed)
    return {
        "accuracy": float(np.mean(history.accuracy[-LAST:])),
        "uses": float(uses),
        "gain": gain_of(row["scheme"], task.learner.size),
    }
