"""Training runs as xarray datasets and netCDF files.

One run has the dimensions (round, device); a comparison has (policy, seed, round, device), padded
with NaN where a run ended early. Attributes and coordinates carry names, seeds and the seeds that
learning rates were tuned on. Files are netCDF 3: any netCDF reader opens them, and SciPy is enough.
Seeds are stored as text, because netCDF 3 has no 64-bit integers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rralloc.errors import ScenarioError

if TYPE_CHECKING:
    from rralloc.fl.compare import TrainingComparison
    from rralloc.fl.history import History

SCHEMA = "rralloc/training/1"
"""Raised when a run would come out differently: it is part of a stored run's name."""
CURVES = ("accuracy", "loss", "seconds", "joules", "bits", "local_steps")
"""What a run records for every round, (round,)."""
COUNTS = ("scheduled", "arrived")
"""Rounds counted for every device, (device,)."""
NAMES = ("policy", "scheme", "task")


def run_to_xarray(history: History) -> Any:
    """One run: an ``xarray.Dataset`` with the curves and counts; names and seed as attributes."""
    import xarray as xr

    curves = {name: ("round", getattr(history, name)) for name in CURVES}
    counts = {name: ("device", getattr(history, name)) for name in COUNTS}
    names = {name: getattr(history, name) for name in NAMES}
    return xr.Dataset(curves | counts, attrs={**names, "seed": str(history.seed), "schema": SCHEMA})


def run_from_xarray(dataset: Any) -> History:
    """The run of ``run_to_xarray``."""
    from rralloc.fl.history import History

    names: dict[str, Any] = {name: str(dataset.attrs[name]) for name in NAMES}
    arrays: dict[str, Any] = {
        n: np.array(dataset[n].values, dtype=float) for n in (*CURVES, *COUNTS)
    }
    return History(**names, seed=int(dataset.attrs["seed"]), **arrays)


def comparison_to_xarray(comparison: TrainingComparison) -> Any:
    """All runs of a comparison: an ``xarray.Dataset`` over (policy, seed, round, device)."""
    import xarray as xr

    flat = [h for runs in comparison.runs.values() for h in runs]
    shape = len(comparison.runs), len(comparison.seeds)
    rounds, devices = max(h.rounds for h in flat) + 1, max(h.arrived.size for h in flat)

    def padded(name: str, length: int) -> np.ndarray[Any, Any]:
        rows = [np.pad(getattr(h, name), (0, length), constant_values=np.nan) for h in flat]
        return np.stack([r[:length] for r in rows]).reshape(*shape, length)

    data: dict[str, Any] = {n: (("policy", "seed", "round"), padded(n, rounds)) for n in CURVES}
    data |= {n: (("policy", "seed", "device"), padded(n, devices)) for n in COUNTS}
    for name in NAMES:
        names = [getattr(h, name) for h in flat]
        data[f"{name}_name"] = (("policy", "seed"), np.array(names).reshape(shape))
    tuned = " ".join(str(seed) for seed in comparison.tuned_on)
    return xr.Dataset(
        data,
        coords={"policy": list(comparison.runs), "seed": _told(comparison.seeds)},
        attrs={"schema": SCHEMA, "tuned_on": tuned},
    )


def comparison_from_file(path: str | Path) -> TrainingComparison:
    """The comparison in a file; each policy's runs are read when asked for."""
    from rralloc.fl.compare import TrainingComparison

    with read(path) as dataset:
        seeds = tuple(int(seed) for seed in dataset["seed"].values)
        tuned = tuple(int(seed) for seed in str(dataset.attrs["tuned_on"]).split())
        policies = tuple(str(name) for name in dataset["policy"].values)
    return TrainingComparison(_Runs(Path(path), policies), seeds, tuned)


def _told(seeds: Iterable[int]) -> list[int] | list[str]:
    """Seeds as numbers, or as text where NumPy would make floats of them."""
    seeds = list(seeds)
    return seeds if max(seeds) < 2**63 else [str(seed) for seed in seeds]


class _Runs(Mapping[str, "list[History]"]):
    """Runs by policy, read from the file on access; the file is not kept open."""

    def __init__(self, path: Path, policies: tuple[str, ...]) -> None:
        self.path, self.policies = path, policies

    def __getitem__(self, policy: str) -> list[History]:
        if policy not in self.policies:
            raise KeyError(policy)
        with read(self.path) as dataset:
            part = dataset.isel(policy=self.policies.index(policy)).load()
        return [self._run(part.isel(seed=i)) for i in range(part.sizes["seed"])]

    def _run(self, one: Any) -> History:
        from rralloc.fl.history import History

        known = int(np.isfinite(one["local_steps"].values).sum())
        curves: dict[str, Any] = {n: np.array(one[n].values[:known], dtype=float) for n in CURVES}
        present = ~np.isnan(one["arrived"].values)
        counts: dict[str, Any] = {n: np.array(one[n].values[present], dtype=float) for n in COUNTS}
        names: dict[str, Any] = {n: str(one[f"{n}_name"].values) for n in NAMES}
        return History(**names, seed=int(one["seed"].values), **curves, **counts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.policies)

    def __len__(self) -> int:
        return len(self.policies)


def write(dataset: Any, path: str | Path) -> None:
    """As netCDF; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(path.suffix + f".{os.getpid()}.part")
    if "seed" in dataset.coords:
        dataset = dataset.assign_coords(seed=[str(seed) for seed in dataset["seed"].values])
    dataset.to_netcdf(part, engine="scipy")
    part.replace(path)


def read(path: str | Path) -> Any:
    """The lazily opened dataset of ``write``.

    Raises ScenarioError: the file is not a netCDF file of training runs.
    """
    import xarray as xr

    try:
        dataset = xr.open_dataset(path, engine="scipy")
    except FileNotFoundError:
        raise
    except Exception as unreadable:  # SciPy raises TypeError, ValueError, IndexError, ...
        raise ScenarioError(f"{path} is not a netCDF file of training runs") from unreadable
    if dataset.attrs.get("schema") != SCHEMA:
        dataset.close()
        raise ScenarioError(f"{path} does not hold training runs ({SCHEMA})")
    return dataset
