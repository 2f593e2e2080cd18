"""Training over the air under several ways of choosing devices and beam.

20 devices whose path losses are uniform over 20 dB, Rayleigh fading anew in every round, softmax
regression with full batches, two labels a device. "12 dB" serves whoever |m^H h|^2 >= -12 dB, h
with its path loss. Spec: ota.md §6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from rralloc import fl
from rralloc.fl import images
from rralloc.policy import Optimised
from rralloc.problem import Problem
from rralloc.problems import OTABound, OTASelection, OTASelectionImperfect

DEVICES, ANTENNAS, ROUNDS, LAST = 20, 6, 60, 10
EVERYBODY_DB = 90.0
"""A target that serves whoever is heard at all."""
NOISELESS_DB = 200.0
RATES = (0.125, 0.25, 0.5, 1.0)
TUNING_SEEDS = (100, 101, 102)


@dataclass(frozen=True)
class Rule:
    """Problem, solver, target in dB, power control; ``snr_db`` replaces the link's."""

    solver: str | None = "coverage"
    target_db: float | None = 12.0
    control: str = "inversion"
    options: Mapping[str, Any] = field(default_factory=dict)
    snr_db: float | None = None
    problem: type[Problem] = OTASelection

    def policy(self, link: fl.AirLink) -> Optimised:
        """The rule on a link."""
        target = self.target_db
        return Optimised(
            self.problem,
            self.solver,
            settings={} if target is None else {"mse_target": link.mse_target(target)},
            options=self.options,
            scheme=fl.OverTheAir(self.control),  # type: ignore[arg-type]  # checked by the scheme
        )


IDEAL, ALL, SOFT = "ideal (no noise)", "all devices", "all, least error"
TARGETS = (0, 6, 9, 12, 15, 18)
RULES: dict[str, Rule] = {
    IDEAL: Rule("baseline:all-devices", EVERYBODY_DB, snr_db=NOISELESS_DB),
    ALL: Rule("baseline:all-devices", EVERYBODY_DB),
    SOFT: Rule("baseline:all-devices", EVERYBODY_DB, "least-error"),
    **{f"coverage, {db} dB": Rule(target_db=db, options={"effort": 1}) for db in TARGETS},
    "learning bound, a = 4": Rule("sweep", None, options={"refine": None}, problem=OTABound),
    "gsds, 12 dB": Rule("gsds"),
    "subgradient, 12 dB": Rule("subgradient"),
    "strongest, 12 dB": Rule("baseline:strongest"),
    "random, 12 dB": Rule("baseline:random"),
}
ROBUST = "robust, 12 dB"
ERROR_RULES = {
    **{name: RULES[name] for name in (IDEAL, ALL)},
    "coverage, 12 dB": Rule(),  # at effort 2, as the robust one
    ROBUST: Rule(None, problem=OTASelectionImperfect),
}
"""Where the channel is an estimate."""
QUICK = (IDEAL, ALL, "coverage, 12 dB")


@cache
def _data(name: str) -> fl.Dataset:
    return images.load_fashion_mnist() if name == "fashion-mnist" else images.load_mnist5k()


def task_of(data: str, seed: int, learning_rate: float) -> fl.Task:
    """Two label-sorted shards a device; full batches, 200 samples a device on Fashion-MNIST."""
    settings: dict[str, Any] = {"learning_rate": learning_rate, "seed": seed}
    if data == "digits":
        return fl.Task.digits(DEVICES, "shards", **settings)
    batch: dict[str, Any] = {"batch_size": 200} if data == "fashion-mnist" else {}
    return fl.Task.from_dataset(_data(data), DEVICES, "shards", **settings, **batch)


def trained(row: Mapping[str, Any]) -> dict[str, float]:
    """One run, named by data, snr_db, policy, learning_rate, seed, rounds, perhaps csi_error."""
    rule = (RULES | ERROR_RULES)[row["policy"]]
    seed, rounds = int(row["seed"]), int(row["rounds"])
    snr, unknown = row["snr_db"], float(row.get("csi_error", 0.0))
    if rule.snr_db is not None:
        snr, unknown = rule.snr_db, 0.0
    link = fl.AirLink.spread(DEVICES, antennas=ANTENNAS, snr_db=snr, seed=seed, csi_error=unknown)
    task = task_of(row["data"], seed, row["learning_rate"])
    history = fl.train(task, link, rule.policy(link), rounds=rounds, seed=seed)
    accuracy = history.accuracy[-LAST:]
    return {
        "accuracy": float(np.mean(accuracy)),
        "served": float(history.arrived.sum() / rounds),
        "joules": float(history.joules[-1]),
    }
