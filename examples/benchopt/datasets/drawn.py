"""Random instances of any problem class that rralloc knows, plug-ins' too."""

from __future__ import annotations

from typing import Any

from benchopt import BaseDataset

from rralloc.registry import problem_class


class Dataset(BaseDataset):
    """``problem``: name of the class. ``devices``: K. ``seed``: of the draw."""

    name = "Drawn"
    parameters = {"problem": ["FDMARate"], "devices": [8], "seed": [0]}

    def get_data(self) -> dict[str, Any]:
        """What ``Objective.set_data`` takes."""
        cls = problem_class(self.problem)
        return {"problem": cls.random(K=self.devices, rng=self.seed)}
