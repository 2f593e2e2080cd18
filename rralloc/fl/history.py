"""What a training run leaves behind: curves over rounds, seconds, joules and bits."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from rralloc.errors import ScenarioError
from rralloc.fl import statistics
from rralloc.typing import Array

SCHEMA = "rralloc/history/2"

CURVES = ("accuracy", "loss", "seconds", "joules", "bits", "local_steps")
"""What a run records for every round."""


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

    def at_seconds(self, budget: float) -> float:
        """Test accuracy last measured within ``budget`` seconds."""
        return statistics.at(self.seconds, self.accuracy, budget)

    def at_joules(self, budget: float) -> float:
        """Test accuracy last measured within ``budget`` joules."""
        return statistics.at(self.joules, self.accuracy, budget)

    def final(self, evaluations: int = 3) -> float:
        """Mean test accuracy of the last evaluations, steadier than the last alone."""
        known = self.accuracy[~np.isnan(self.accuracy)]
        return float(known[-evaluations:].mean())

    def seconds_to(self, target: float) -> float:
        """Seconds until the accuracy first reaches ``target``; inf if it never does."""
        return statistics.first_reaching(self.seconds, self.accuracy, target)

    def __repr__(self) -> str:
        return (
            f"<History {self.policy!r} on {self.task}, seed {self.seed}: {self.rounds} rounds, "
            f"accuracy {self.accuracy[-1]:.3f}, {self.seconds[-1]:.1f} s, {self.joules[-1]:.2f} J>"
        )

    def to_dataframe(self) -> Any:
        """One row a round."""
        import pandas as pd

        return pd.DataFrame({n: getattr(self, n) for n in CURVES}).rename_axis("round")

    def save(self, path: str | Path) -> None:
        """Write as JSON; the file appears whole or not at all."""
        document: dict[str, Any] = {"schema": SCHEMA}
        for field in fields(self):
            value = getattr(self, field.name)
            document[field.name] = _plain(value) if isinstance(value, np.ndarray) else value
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(path.suffix + f".{os.getpid()}.part")
        part.write_text(json.dumps(document, allow_nan=False))
        part.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read what ``save`` wrote."""
        document: dict[str, Any] = json.loads(Path(path).read_text())
        if document.pop("schema", None) != SCHEMA:
            raise ScenarioError(f"{path} is not a training history ({SCHEMA})")
        curves = set(CURVES) | {"scheduled", "arrived"}
        values: dict[str, Any] = {
            n: np.array(v, dtype=float) if n in curves else v for n, v in document.items()
        }
        return cls(**values)


def _plain(values: Array) -> list[float | str | None]:
    """JSON has neither NaN (None here) nor infinity (a word here)."""
    return [None if np.isnan(v) else str(v) if np.isinf(v) else float(v) for v in values]
