"""What a training run leaves behind: curves over rounds, seconds, joules and bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rralloc.fl import results, statistics
from rralloc.typing import Array

Cost = Literal["seconds", "joules", "bits", "round"]
"""What runs may be compared after equal amounts of."""


@dataclass(frozen=True, eq=False)
class History:
    """One run. Curves have R + 1 entries, the first before training; costs are cumulative.

    ``scheduled`` and ``arrived`` count rounds for each device ``(K,)``. Rounds that were not
    evaluated carry NaN in ``accuracy`` and ``loss`` (``evaluate_every``).
    """

    policy: str
    scheme: str
    task: str
    seed: int
    accuracy: Array
    loss: Array
    seconds: Array
    joules: Array
    bits: Array
    local_steps: Array
    scheduled: Array
    arrived: Array

    @property
    def rounds(self) -> int:
        """Rounds trained."""
        return len(self.seconds) - 1

    def spent(self, cost: Cost) -> Array:
        """The cumulative cost ``(R + 1,)``: s, J, uplink bits, or the number of the round."""
        if cost == "round":
            return np.arange(self.rounds + 1.0)
        curve: Array = getattr(self, cost)
        return curve

    def at(self, budget: float, cost: Cost) -> float:
        """Test accuracy last measured within a budget of ``cost``."""
        return statistics.at(self.spent(cost), self.accuracy, budget)

    def at_seconds(self, budget: float) -> float:
        """Test accuracy last measured within ``budget`` seconds."""
        return self.at(budget, "seconds")

    def at_joules(self, budget: float) -> float:
        """Test accuracy last measured within ``budget`` joules."""
        return self.at(budget, "joules")

    def at_bits(self, budget: float) -> float:
        """Test accuracy last measured within ``budget`` uplink bits."""
        return self.at(budget, "bits")

    def at_round(self, budget: float) -> float:
        """Test accuracy last measured within ``budget`` rounds."""
        return self.at(budget, "round")

    def at_best_loss(self) -> float:
        """Test accuracy of the iterate with the least training loss among those evaluated."""
        return float(self.accuracy[np.nanargmin(self.loss)])

    def final(self, evaluations: int = 3) -> float:
        """Mean test accuracy of the last evaluations, steadier than the last alone."""
        known = self.accuracy[~np.isnan(self.accuracy)]
        return float(known[-evaluations:].mean())

    def seconds_to(self, target: float) -> float:
        """Seconds until the accuracy first reaches ``target``; inf if it never does."""
        return statistics.first_reaching(self.seconds, self.accuracy, target)

    def rounds_to(self, target: float) -> int | None:
        """Rounds until the accuracy first reaches ``target``; None if it never does."""
        return statistics.rounds_to(self.accuracy, target)

    def __repr__(self) -> str:
        return (
            f"<History {self.policy!r} on {self.task}, seed {self.seed}: {self.rounds} rounds, "
            f"accuracy {self.accuracy[-1]:.3f}, {self.seconds[-1]:.1f} s, {self.joules[-1]:.2f} J>"
        )

    def to_dataframe(self) -> Any:
        """One row a round."""
        import pandas as pd

        return pd.DataFrame({n: getattr(self, n) for n in results.CURVES}).rename_axis("round")

    def to_xarray(self) -> Any:
        """Curves over ``round`` and counts over ``device``, as an ``xarray.Dataset``."""
        return results.run_to_xarray(self)

    def save(self, path: str | Path) -> None:
        """Write as netCDF; the file appears whole or not at all."""
        results.write(self.to_xarray(), path)

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read what ``save`` wrote."""
        with results.read(path) as dataset:
            return results.run_from_xarray(dataset)
