"""Scheduling rules that need no optimisation: who sends, with an equal share of the band."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rralloc.numerics.counts import require_whole
from rralloc.policy import Decision, Round


@dataclass(frozen=True)
class TopGradient:
    """The ``count`` devices with the largest reported gradient energy share the band equally.

    weight_k = w_k / sum of w over the chosen, so that the estimate has the size of a full
    aggregate; 0 for the others. Ties go to the lower index. With ``count >= K`` everybody sends on
    an equal share.

    scheme: what is transmitted; None leaves it to the training run. It should send gradients: with
    innovations a device that is left out would leave the aggregate, prediction and all.

    Choose this when you want the usual importance scheduling as a baseline; it is biased towards
    devices with unusual data.
    """

    count: int = 5
    scheme: Any = None
    label: str = ""

    reports = ("gradient_energy",)

    def __post_init__(self) -> None:
        require_whole("TopGradient.count", self.count)

    @property
    def name(self) -> str:
        """The label, else the rule."""
        return self.label or f"top {self.count} by gradient energy"

    def start(self, round: Round, rng: np.random.Generator) -> None:
        """No memory."""

    def decide(self, round: Round, memory: None, rng: np.random.Generator) -> tuple[Decision, None]:
        """Rank, choose, renormalise."""
        count = min(self.count, round.devices)
        order = np.argsort(-round.statistics["gradient_energy"], kind="stable")
        chosen = np.zeros(round.devices, dtype=bool)
        chosen[order[:count]] = True
        weight = np.where(chosen, round.share, 0.0)
        total = weight.sum()
        share = np.where(chosen, 1.0 / count, 0.0)
        decision = Decision(
            scheduled=chosen,
            weight=weight / total if total > 0 else weight,
            bandwidth_hz=share * round.bandwidth_hz,
            power_w=np.broadcast_to(round.power_w, chosen.shape),
            x={"bandwidth_share": share},
        )
        return decision, None

    def learn(self, feedback: Mapping[str, Any], memory: None) -> None:
        """Nothing to remember."""
