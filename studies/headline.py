"""SP-FL on Fashion-MNIST: where sign-prioritised allocation pays, and where it does not.

60,000 training and 10,000 test images, Dirichlet labels, MLP 784-32-10 (or a small CNN), full
batches or minibatches of 64, mean SNR 0-15 dB on 1/K of the band, 3 bits for a modulus. Learning
rates are tuned for every row and cell on three other seeds and a tenth of the data. The map is
load x skew; beside it, more devices, independent fading and the CNN. SP-FL here is a reconstruction
from a public abstract (arXiv 2603.10763). Spec: spfl.md, "What moves training".
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

import rralloc as rr
from rralloc import fl
from rralloc.errors import UnknownName
from rralloc.fl import images
from rralloc.fl.compare import TrainingComparison
from rralloc.fl.schemes import ErrorFree, SignModulus
from rralloc.fl.statistics import mean_interval
from rralloc.fl.streams import Streams
from rralloc.policy import Optimised, Policy
from rralloc.pool import pool_of
from rralloc.problems import MinMaxLatency
from rralloc.studies._tuning import Tuned, seeds_of, tuned_comparison
from rralloc.studies.spfl import (
    CLIP,
    CLIPPED,
    FREE_BEST,
    ONE_BIT_BEST,
    SINGLE,
    SINGLE_BEST,
    finals,
    lead,
    optimised,
)
from rralloc.study import study

ROUNDS, EVALUATE_EVERY = 60, 5
RATES = (0.05, 0.1, 0.2, 0.4, 0.8)
TUNING_SEEDS, TUNING_SAMPLES = (1000, 1001, 1002), 6000
SKEWS, LOADS = (0.1, 0.5), (3.0, 6.0, 12.0)
HIDDEN = (32,)
RIVALS = {SINGLE_BEST: "best single", ONE_BIT_BEST: "one-bit inn."}


@dataclass(frozen=True)
class Cell:
    """One setting of the study: everything but the scheme."""

    load: float
    alpha: float = 0.1
    devices: int = 20
    batch: int | None = 64
    fading: Literal["common", "independent"] = "common"
    learner: str = "mlp"

    @property
    def group(self) -> str:
        """The map or the variation that the cell belongs to."""
        batch = "full batch" if self.batch is None else f"batch {self.batch}"
        return f"{self.learner}, K = {self.devices}, {batch}, {self.fading} fading"


def cells() -> dict[str, tuple[Cell, ...]]:
    """The cells by group; the first is the map load x skew."""
    all_cells = [
        *(Cell(load, alpha) for alpha in SKEWS for load in LOADS),
        *(Cell(load, alpha, batch=None) for load, alpha in ((6.0, 0.1), (12.0, 0.1), (12.0, 0.5))),
        Cell(12.0, devices=100),
        Cell(12.0, fading="independent"),
        Cell(12.0, learner="cnn"),
    ]
    groups: dict[str, list[Cell]] = {}
    for cell in all_cells:
        groups.setdefault(cell.group, []).append(cell)
    return {name: tuple(members) for name, members in groups.items()}


def rows(fading: Literal["common", "independent"]) -> dict[str, Policy]:
    """The mandatory rivals and SP-FL, by the names of the digits study."""
    scheme = partial(SignModulus, fading=fading)
    innovations = partial(scheme, reference="innovation")
    split: dict[str, Any] = {"sign_band_share": "free", "fading": fading}
    single: dict[str, Any] = {"packets": "single", "objective": "plain"}
    return {
        SINGLE: optimised(scheme(packets="single"), **single),
        SINGLE_BEST: optimised(innovations(packets="single", rescale=True), **single),
        "one-bit, uniform": optimised(
            scheme(packets="one-bit"), "baseline:uniform", packets="one-bit"
        ),
        ONE_BIT_BEST: optimised(
            innovations(packets="one-bit"), packets="one-bit", objective="plain", fading=fading
        ),
        "SP-FL free split": optimised(scheme(), **split),
        FREE_BEST: optimised(innovations(), objective="plain", **split),
        CLIPPED: optimised(innovations(**CLIP), objective="plain", **split),
        "error-free": Optimised(MinMaxLatency, "baseline:equal-split", scheme=ErrorFree()),
    }


@cache
def samples(count: int | None) -> fl.Dataset:
    """Fashion-MNIST, or a part of its training images; read once a process."""
    everything = images.load_fashion_mnist()
    if count is None:
        return everything
    return everything.subset(count, Streams(TUNING_SEEDS[0]).rng("data"))


def make_task(
    seed: int, learning_rate: float = 0.8, *, cell: Cell, count: int | None = None
) -> fl.Task:
    """The task of a cell."""
    return fl.Task.from_dataset(
        samples(count),
        cell.devices,
        "dirichlet",
        alpha=cell.alpha,
        learner=cell.learner,
        hidden=HIDDEN,
        learning_rate=learning_rate,
        batch_size=cell.batch,
        seed=seed,
    )


def make_link(seed: int, *, cell: Cell, weights: int) -> fl.Link:
    """``load`` bit/s/Hz at the uniform allocation, whatever the size of the model."""
    return fl.Link.loaded(cell.devices, load=cell.load, weights=weights, seed=seed)


@study("headline")
def study_headline(
    out: Path,
    quick: bool = False,
    *,
    group: str | None = None,
    seeds: int | None = None,
    workers: int = 2,
) -> None:
    """SP-FL against its rivals on Fashion-MNIST (60,000 images): the map load x skew of who wins.

    group: only the cells of this group; None takes all (hours). Finished runs are kept in ``out``
    and read back, so a study can be stopped and taken up again.
    """
    reported = seeds_of(seeds, 2 if quick else 5)
    out = out / "quick" if quick else out
    known = cells()
    if group is not None and group not in known:
        raise UnknownName("group of cells", group, known)
    chosen = [c for name, members in known.items() if group in (None, name) for c in members]
    if quick:
        chosen = [Cell(12.0)]
    print(f"\nSP-FL (a reconstruction) on Fashion-MNIST, {ROUNDS} rounds, {len(reported)} seeds;")
    print("learning rates tuned on other seeds and a tenth of the data. Test accuracy, %.")
    with pool_of(workers) as pool:
        for cell in chosen:
            tuned = _tuned(cell, reported, pool, out, quick)
            _print(cell, tuned.comparison)
            _save(cell, tuned, out)
            _draw(out)


def _tuned(cell: Cell, seeds: range, pool: Any, out: Path, quick: bool) -> Tuned:
    weights = make_task(0, cell=cell, count=TUNING_SAMPLES).learner.size
    return tuned_comparison(
        rows(cell.fading),
        partial(make_task, cell=cell),
        partial(make_link, cell=cell, weights=weights),
        make_tuning_task=partial(make_task, cell=cell, count=TUNING_SAMPLES),
        rates=RATES[1:3] if quick else RATES,
        tuning_seeds=TUNING_SEEDS[:1] if quick else TUNING_SEEDS,
        seeds=seeds,
        budget_s=np.inf,
        pool=pool,
        folder=out / "runs",
        tuning={"evaluate_every": 20},
        rounds=20 if quick else ROUNDS,
        evaluate_every=EVALUATE_EVERY,
    )


def _print(cell: Cell, result: TrainingComparison) -> None:
    width = max(map(len, result.runs))
    print(f"\n{cell.group}, Dirichlet({cell.alpha:g}), load {cell.load:g}", flush=True)
    for name in result.runs:
        own = mean_interval(finals(result, name))
        versus = "   ".join(
            f"{lead(result, name, rival):21s} vs {short}" for rival, short in RIVALS.items()
        )
        print(f"{name:{width}s} {own.mean:5.1f} ±{(own.high - own.low) / 2:4.1f}   {versus}")


def _save(cell: Cell, tuned: Tuned, out: Path) -> None:
    """One line for each run of the cell, in a file of its own: nothing is lost by stopping."""
    result, rates = tuned.comparison, tuned.rates
    lines = [
        {**asdict(cell), "scheme": name, "rate": rates[name], "seed": seed, "accuracy": accuracy}
        for name in result.runs
        for seed, accuracy in zip(result.seeds, finals(result, name).tolist())
    ]
    name = "-".join(str(v).replace(".", "_") for v in asdict(cell).values())
    (out / "cells").mkdir(parents=True, exist_ok=True)
    (out / "cells" / f"{name}.json").write_text(json.dumps(lines, indent=1))


def table(out: Path) -> Any:
    """All runs of the cells that are finished, as a DataFrame; one row a run."""
    import pandas as pd

    files = sorted((out / "cells").glob("*.json"))
    return pd.DataFrame([line for f in files for line in json.loads(f.read_text())])


def _draw(out: Path) -> None:
    """One table of all finished cells, and for each group the map of who wins."""
    found = table(out)
    found.to_csv(out / "headline.csv", index=False)
    for group, members in cells().items():
        results = {
            (f"{c.load:g}", f"{c.alpha:g}"): values
            for c in members
            if (values := values_of(found, c))
        }
        if results:
            figure = rr.plot.winners(
                results, x="load, bit/s/Hz at equal bands", y="Dirichlet alpha", unit=" %"
            )
            name = "".join(letter if letter.isalnum() else "_" for letter in group)
            rr.plot.save(figure, out / f"headline_{name}.png")


def values_of(found: Any, cell: Cell) -> dict[str, list[float]]:
    """Accuracy by scheme and seed in one cell, without the error-free reference; {} if not run."""
    settings = asdict(cell)
    batch = settings.pop("batch")
    chosen = found["batch"].isna() if batch is None else found["batch"] == batch
    for name, value in settings.items():
        chosen = chosen & (found[name] == value)
    part = found[chosen & (found["scheme"] != "error-free")].sort_values("seed")
    return {name: group["accuracy"].tolist() for name, group in part.groupby("scheme", sort=False)}
