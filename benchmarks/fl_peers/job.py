"""What every runner of ``benchmarks/fl.py`` is given and hands back; NumPy alone.

Given: a folder with ``job.npz`` (samples sorted by client, borders, start) and ``job.json`` (the
learning rate, layers, numbers of rounds). Handed back: ``<name>.npz`` with the final weights, and
``<name>.json`` with CPU and wall seconds for each round and those before the first.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER, BEGAN, DOUBLE = "FL_BENCH_FOLDER", "FL_BENCH_BEGAN", "FL_BENCH_DOUBLE"
"""Environment variables: the job's folder, when the runner's process was started, and whether the
peers are to compute in double precision (set) or in single."""


@dataclass(frozen=True)
class Job:
    """One problem: x (n, F) float32 and y (n,) sorted by client, borders (K + 1,), start (d,)."""

    x: Any
    y: Any
    borders: Any
    start: Any
    learning_rate: float
    warmup: int
    rounds: int
    layers: list[list[Any]]
    folder: Path

    @classmethod
    def load(cls) -> Job:
        """The job in the folder that the environment names."""
        folder = Path(os.environ[FOLDER])
        with np.load(folder / "job.npz") as stored:
            arrays = {name: stored[name] for name in ("x", "y", "borders", "start")}
        told = json.loads((folder / "job.json").read_text())
        return cls(**arrays, **told, folder=folder)

    def save(self) -> None:
        """Write both files into the folder."""
        arrays = {name: getattr(self, name) for name in ("x", "y", "borders", "start")}
        np.savez(self.folder / "job.npz", **arrays)
        names = ("learning_rate", "warmup", "rounds", "layers")
        told = {name: getattr(self, name) for name in names}
        (self.folder / "job.json").write_text(json.dumps(told))

    @property
    def total(self) -> int:
        """Rounds in all, warm-up included."""
        return self.warmup + self.rounds

    @property
    def clients(self) -> list[tuple[Any, Any]]:
        """(x_k, y_k) of every client."""
        parts = [slice(a, b) for a, b in zip(self.borders, self.borders[1:])]
        return [(self.x[part], self.y[part]) for part in parts]

    def finish(self, name: str, clock: Clock, weights: Any) -> None:
        """Write the answer."""
        np.savez(self.folder / f"{name}.npz", weights=np.asarray(weights, dtype=np.float64))
        (self.folder / f"{name}.json").write_text(json.dumps(clock.figures()))


class Clock:
    """Ticked once in every round, always at the same place of it.

    With W warm-up and N further rounds the time between ticks W and W + N is that of N rounds.
    ``cpu``: CPU seconds so far of everything that works for this run.
    """

    def __init__(self, job: Job, cpu: Callable[[], float] = time.process_time) -> None:
        self.first, self.last, self.cpu = job.warmup, job.total, cpu
        self.ticks: list[tuple[float, float]] = []
        self.ready_s = float("nan")

    def tick(self) -> None:
        """Note the time."""
        if not self.ticks:
            self.ready_s = time.time() - float(os.environ[BEGAN])
        counts = len(self.ticks) + 1 in (self.first, self.last)
        self.ticks.append((time.perf_counter(), self.cpu() if counts else float("nan")))

    def figures(self) -> dict[str, float]:
        """Seconds for each round, and before the first tick."""
        if len(self.ticks) != self.last:
            raise RuntimeError(f"{len(self.ticks)} rounds instead of {self.last}")
        (wall, cpu), (wall_end, cpu_end) = self.ticks[self.first - 1], self.ticks[self.last - 1]
        rounds = self.last - self.first
        return {
            "cpu_s": (cpu_end - cpu) / rounds,
            "wall_s": (wall_end - wall) / rounds,
            "ready_s": self.ready_s,
        }
