"""Settings of the MADS studies: places, policies, and one training run.

N = 20 devices, R = 300 rounds of T = 10 s, contacts and gaps exponential with means 200 m/v and
1800 m/v, so that the share of time in contact is a tenth at every speed v. Spec: mads.md §5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from rralloc import fl
from rralloc.channel import Contacts, ExponentialContacts
from rralloc.fl import images
from rralloc.fl.link import Fading
from rralloc.policy import Policy
from rralloc.problems.mads_policies import (
    Dense,
    DriftPlusPenalty,
    FixedKeep,
    FixedPower,
    Ideal,
    MaxPower,
)

DEVICES, ROUNDS, ROUND_S, DUTY = 20, 300, 10.0, 0.1
SPEEDS: dict[str, Any] = {"5": 5.0, "15": 15.0, "40": 40.0, "5 and 40": [5.0, 40.0] * 10}
"""m/s; the last is half slow, half fast."""
MADS_ROW, PATIENT, FIXED_POWER, MAX_POWER = "MADS", "MADS, patient", "fixed power", "full power"
IDEAL, SYNCHRONOUS = "ideal", "synchronous"
KEEP = {share: f"keep {100 * share:g} %" for share in (0.01, 0.03, 0.1)}


@dataclass(frozen=True)
class Place:
    """What a device finds in contact: band (chi), energy (psi), median SNR, fading."""

    chi: float = 0.06
    psi: float = 0.1
    snr_db: float | None = None
    fading: Fading = "rayleigh"
    shape: float = 1.0

    def link(self, contacts: Contacts, earlier: Contacts, weights: int) -> fl.MobileLink:
        """The link for a model of so many weights."""
        return fl.MobileLink.scaled(
            contacts,
            weights=weights,
            chi=self.chi,
            psi=self.psi,
            duty=DUTY,
            snr_db=self.snr_db,
            fading=self.fading,
            shape=self.shape,
            earlier=earlier,
        )


PLACES = {
    "little band": Place(),
    "little energy": Place(chi=0.25, psi=0.01),
    "faint, deep fades": Place(snr_db=0.0, fading="nakagami", shape=0.5),
    "very faint, deep fades": Place(snr_db=-10.0, fading="nakagami", shape=0.5),
}
"""The first two are those of mads.md §5.2: the median SNR at the mean power is 24 and 14 dB."""


def rows() -> dict[str, Policy]:
    """Every policy of the study under one hard budget, by the name it has in the tables."""
    mads = partial(DriftPlusPenalty, hard_budget=True)
    return {
        MADS_ROW: mads(),
        PATIENT: mads(patience=16.0),
        "MADS, flat weights": mads(weighting="flat"),
        "MADS, theta^2 weights": mads(weighting="stale"),
        "MADS, curve-aware": mads(curve_aware=True),
        **{name: FixedKeep(share=share, hard_budget=True) for share, name in KEEP.items()},
        "dense": Dense(hard_budget=True),
        FIXED_POWER: FixedPower(hard_budget=True),
        MAX_POWER: MaxPower(hard_budget=True),
        IDEAL: Ideal(),
        SYNCHRONOUS: Ideal(),
    }


def contacts_of(speed: str, seed: int, stream: str, rounds: int, devices: int) -> Contacts:
    """Exponential contacts; "earlier" ones tell the policies' priors, ten times as many."""
    times = 10 if stream == "earlier" else 1
    given = np.ravel(SPEEDS[speed])
    model = ExponentialContacts(np.resize(given, devices))
    rng = fl.Streams(seed).rng(stream)
    return model.contacts(rounds=times * rounds, round_s=ROUND_S, devices=devices, rng=rng)


@cache
def _images(name: str) -> fl.Dataset:
    return images.load_fashion_mnist() if name == "fashion-mnist" else images.load_mnist5k()


def task_of(data: str, seed: int) -> fl.Task:
    """MLP with 32 hidden units, Dirichlet(0.15) labels, batches of 16, gradients of norm <= 5."""
    settings: dict[str, Any] = {
        "learner": "mlp",
        "learning_rate": 0.1,
        "batch_size": 16,
        "clip_norm": 5.0,
        "weighting": "equal",
        "alpha": 0.15,
        "seed": seed,
    }
    if data == "digits":
        return fl.Task.digits(DEVICES, "dirichlet", **settings)
    return fl.Task.from_dataset(_images(data), DEVICES, "dirichlet", **settings)


def trained(row: Mapping[str, Any]) -> dict[str, float]:
    """One run, named by data, place, speed, policy, seed, rounds: accuracy, keep ratio, energy."""
    task = task_of(row["data"], row["seed"])
    seed, rounds = row["seed"], row["rounds"]
    if row["policy"] == SYNCHRONOUS:
        link = fl.MobileLink(contacts=Contacts.always(rounds, DEVICES, round_s=ROUND_S))
    else:
        met, earlier = (
            contacts_of(row["speed"], seed, name, rounds, DEVICES)
            for name in ("contacts", "earlier")
        )
        link = PLACES[row["place"]].link(met, earlier, task.learner.size)
    return measured(task, link, rows()[row["policy"]], rounds, seed)


def measured(
    task: fl.Task, link: fl.MobileLink, policy: Policy, rounds: int, seed: int
) -> dict[str, float]:
    """Final accuracy, mean k/s over contacts, energy over budget (mean and worst device)."""
    log = fl.Log()
    history = fl.train(
        task, link, policy, rounds=rounds, seed=seed, evaluate_every=20, observers=[log]
    )
    budget = rounds * np.asarray(link.budget_per_round_j)
    used = log["energy_j"].sum(0)
    spent = np.where(used > 0, used / np.where(budget > 0, budget, np.nan), 0.0)
    return {
        "accuracy": history.final(),
        "keep": float(log["kept"][log["in_contact"]].mean() / task.learner.size),
        "energy": float(spent.mean()),
        "energy_worst": float(spent.max()),
    }
