"""The demo: SP-FL solved, proven, trained; mobile devices; sums over the air; small problems."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

import rralloc as rr
from rralloc.problems import SPFL, PowerForSINR
from rralloc.studies.compression import study_compression
from rralloc.studies.first_training import (
    compute_bound_link,
    make_mlp_task,
    study_first_training,
)
from rralloc.studies.five_problems import study_five_problems
from rralloc.studies.mads import study_mads
from rralloc.studies.ota import study_ota
from rralloc.studies.spfl import study_spfl
from rralloc.study import study

RIVALS = (
    "dual",
    "alternating",
    "scipy:slsqp",
    "pyomo",
    "baseline:uniform",
    "baseline:best-split",
)


@study("first-look")
def study_first_look(out: Path, quick: bool = True, *, seeds: int = 3) -> None:
    """What `make demo` shows: SP-FL, MADS, sums over the air, five small problems, training."""
    start = time.perf_counter()
    print(
        "1. SP-FL (a reconstruction from an abstract): band across devices, power and band across"
    )
    print("   sign and modulus packets. 'proven': a bound shows the point to be optimal.\n")
    _solve_spfl(out)
    print("\n2. What that allocation buys in training on real handwritten digits.")
    study_spfl(out, quick=True, seeds=seeds)
    print("\n3. Shorter packets: what they cost in rounds and save in seconds and bits.")
    study_compression(out, quick=True)
    print("\n4. Devices that come and go: how much to send while in contact, at what power.")
    study_mads(out, quick=True)
    print("\n5. Sums over the air: whom to hear, and with which beam.")
    study_ota(out, quick=True, workers=1)  # too short to start processes for
    print("\n6. Five small problems, every solver.\n")
    study_five_problems(out, quick=True, batch=40, time_limit=0.2)
    print("\n   A cell that cannot be served, explained:\n")
    print(rr.explain(_deaf_links()))
    print("\n7. Their allocations as policies in training.")
    study_first_training(out, quick=True, seeds=seeds)
    rr.plot.save(rr.plot.cell(compute_bound_link(0)), out / "cell.png")
    rr.plot.save(rr.plot.who_has_what(make_mlp_task(0)), out / "who_has_what.png")
    pictures = sorted(p.name for p in out.glob("*.png"))
    print(f"\n{len(pictures)} figures in {out}/: {', '.join(pictures)}")
    print(f"done in {time.perf_counter() - start:.0f} s")


def _deaf_links() -> PowerForSINR:
    """Links 1 and 2 hear each other too well for their targets; the others are innocent."""
    gain = np.eye(4)
    gain[1, 2] = gain[2, 1] = 0.5
    return PowerForSINR(gain=gain, noise_w=0.01, power_max_w=1.0, sinr_target=[2.0, 3.0, 3.0, 2.0])


def _solve_spfl(out: Path) -> None:
    """Two starved instances by the default, its rivals and two rules of thumb; one figure."""
    problem = SPFL.random(K=20, load=6, batch=2, rng=0, sign_band_share="free")
    table = rr.compare({"SP-FL, 2 x 20 devices": problem}, list(RIVALS), time_limit=3)
    print(table.summary())
    out.mkdir(parents=True, exist_ok=True)
    many = SPFL.random(K=20, load=6, batch=100, rng=1, sign_band_share="free")
    sol = rr.solve(many, certify="none")
    rr.plot.save(rr.plot.allocation(sol), out / "spfl_band_against_channel.png")
