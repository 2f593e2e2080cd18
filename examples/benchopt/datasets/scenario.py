"""A scenario file, as ``rralloc random`` and ``rr.io.save_scenario`` write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchopt import BaseDataset

import rralloc as rr


class Dataset(BaseDataset):
    """``file``: its path, absolute or in the folder of this benchmark."""

    name = "Scenario"
    parameters = {"file": ["scenarios/four_links.json"]}

    def get_data(self) -> dict[str, Any]:
        """What ``Objective.set_data`` takes."""
        here = Path(__file__).resolve().parents[1]
        return {"problem": rr.io.load_scenario(here / self.file)}
