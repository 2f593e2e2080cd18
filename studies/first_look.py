"""The demo: the five problems, then training, in under a minute and a half on two cores."""

from __future__ import annotations

import time
from pathlib import Path

import rralloc as rr
from rralloc.studies.first_training import (
    compute_bound_link,
    make_mlp_task,
    study_first_training,
)
from rralloc.studies.five_problems import study_five_problems
from rralloc.study import study


@study("first-look")
def study_first_look(out: Path, quick: bool = True, *, seeds: int = 8) -> None:
    """What `make demo` shows: solvers compared on five problems, and what allocation buys."""
    start = time.perf_counter()
    print("1. Five problems, every solver. 'proven': a bound shows the point to be optimal.\n")
    study_five_problems(out, quick=True)
    print("\n2. The same allocations as policies, training a model on real handwritten digits.")
    study_first_training(out, quick=True, seeds=seeds)
    rr.plot.save(rr.plot.cell(compute_bound_link(0)), out / "cell.png")
    rr.plot.save(rr.plot.who_has_what(make_mlp_task(0)), out / "who_has_what.png")
    pictures = sorted(p.name for p in out.glob("*.png"))
    print(f"\n{len(pictures)} figures in {out}/: {', '.join(pictures)}")
    print(f"done in {time.perf_counter() - start:.0f} s")
