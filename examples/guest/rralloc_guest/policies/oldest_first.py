"""Oldest first: who has not been heard for longest sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rralloc.policy import Decision, Round


@dataclass(frozen=True)
class OldestFirst:
    """The ``count`` devices with the oldest updates share the band equally.

    weight_k = (n_k/n) K/count, unbiased over a turn in which everybody is heard once. Ties go to
    the lower index. It asks for the statistic ``age``, which the server knows by itself.

    Choose this when everybody must be heard in turn and packets get lost: who was lost is still
    the oldest and sends again.
    """

    count: int = 2

    reports = ("age",)

    @property
    def name(self) -> str:
        """For tables."""
        return f"oldest {self.count} first"

    def start(self, round: Round, rng: np.random.Generator) -> None:
        """No memory: the ages are told."""

    def decide(self, round: Round, memory: None, rng: np.random.Generator) -> tuple[Decision, None]:
        """Rank by age, choose, share."""
        count = min(self.count, round.devices)
        chosen = np.zeros(round.devices, dtype=bool)
        chosen[np.argsort(-round.statistics["age"], kind="stable")[:count]] = True
        decision = Decision(
            scheduled=chosen,
            weight=np.where(chosen, round.share * round.devices / count, 0.0),
            bandwidth_hz=np.where(chosen, round.bandwidth_hz / count, 0.0),
            power_w=np.broadcast_to(round.power_w, chosen.shape),
        )
        return decision, None

    def learn(self, feedback: Mapping[str, Any], memory: None) -> None:
        """Nothing to remember."""
