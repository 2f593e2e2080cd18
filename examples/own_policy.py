"""A policy of your own: the longest-waiting devices that are heard well, with memory.

Run it: python examples/own_policy.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import rralloc as rr
from rralloc import fl
from rralloc.problems import FEELScheduling, MinMaxLatency
from rralloc.typing import Array


@dataclass(frozen=True)
class AgeAndGain:
    """Each round the ``count`` devices with the largest age * log(gain rank); equal bands."""

    count: int = 3
    name: str = "age and gain"

    def start(self, round: rr.Round, rng: np.random.Generator) -> Array:
        """Ages, all one."""
        return np.ones(round.devices)

    def decide(
        self, round: rr.Round, memory: Array, rng: np.random.Generator
    ) -> tuple[rr.Decision, Array]:
        """Everybody ages by one round; who is chosen starts again when the update arrives."""
        rank = 1 + round.path_gain.argsort().argsort()  # K for the strongest
        score = memory * np.log1p(rank)
        chosen = np.zeros(round.devices, dtype=bool)
        chosen[np.argsort(-score)[: self.count]] = True
        # Weighed by what is there, so that a round is a step of usual size. Biased: say so.
        weight = np.where(chosen, round.share, 0.0) / round.share[chosen].sum()
        band = np.where(chosen, round.bandwidth_hz / self.count, 0.0)
        return rr.Decision(chosen, weight, band, round.power_w), memory + 1

    def learn(self, feedback: Mapping[str, Any], memory: Array) -> Array:
        """What arrived is fresh."""
        return np.where(feedback["arrived"], 1.0, memory)


if __name__ == "__main__":
    task = fl.Task.digits(clients=10, partition="dirichlet", alpha=0.5, seed=0)
    link = fl.Link.cell(10, seed=0, payload_bit=1e6)
    rivals = [AgeAndGain(), rr.Optimised(MinMaxLatency), rr.Optimised(FEELScheduling)]
    for policy in rivals:
        print(fl.train(task, link, policy, rounds=10_000, max_seconds=20, seed=0))
