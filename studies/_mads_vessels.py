"""Real vessels that learn where they are going: ten minutes ahead from ten minutes behind.

Each vessel in New York harbour is a device that holds its own windows (AIS, first week of December
2020); an MLP 20-64-20 is trained for 400 rounds. Contacts are exponential, or those of the same
ships with a server at the Battery. Errors are average displacements on windows later than all that
was trained on. Spec: mads.md §5.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rralloc import fl
from rralloc.channel import Contacts, Discs, contacts_of, read_ais
from rralloc.fl.statistics import mean_interval
from rralloc.fl.trajectories import Trajectories, load_vessels
from rralloc.studies import _mads_training as training
from rralloc.studies._mads_training import IDEAL, KEEP, MADS_ROW, SYNCHRONOUS, Place
from rralloc.studies._rows import column, gathered, half, lead

ROUNDS, RATE, HIDDEN = 400, 0.05, 64
REACH_M, OWN_ROUND_S = 5000.0, 1500.0
OWN = "own tracks"
ROWS = (
    *(MADS_ROW, training.PATIENT, *KEEP.values(), "dense"),
    *(training.FIXED_POWER, training.MAX_POWER, IDEAL, SYNCHRONOUS),
)


@cache
def vessels() -> Trajectories:
    """A window every five minutes: 66 vessels have 60 or more. Read once a process."""
    return load_vessels(stride=5)


@cache
def own_contacts(rounds: int) -> Contacts:
    """Within 5 km of the Battery, in rounds of 25 minutes; 400 of them are the week."""
    recorded = read_ais()
    first, _ = recorded.span_s
    return contacts_of(
        recorded.tracks,
        Discs(REACH_M),
        rounds=rounds,
        round_s=OWN_ROUND_S,
        start_s=first,
        names=vessels().names,
    )


def sailed(row: Mapping[str, Any]) -> dict[str, float]:
    """One run, named by speed, policy, seed, rounds; ``error_m`` is the displacement error."""
    data, rounds, seed = vessels(), row["rounds"], row["seed"]
    task = data.task(
        hidden=(HIDDEN,), learning_rate=RATE, batch_size=16, clip_norm=5.0, weighting="equal"
    )
    devices, weights = task.clients_count, task.learner.size
    if row["policy"] == SYNCHRONOUS:
        link = fl.MobileLink(contacts=Contacts.always(rounds, devices, round_s=10.0))
    elif row["speed"] == OWN:
        met = own_contacts(rounds)
        link = fl.MobileLink.scaled(met, weights=weights, chi=Place.chi, psi=Place.psi)
    else:
        met, earlier = (
            training.contacts_of(row["speed"], seed, name, rounds, devices)
            for name in ("contacts", "earlier")
        )
        link = Place().link(met, earlier, weights)
    found = training.measured(task, link, training.rows()[row["policy"]], rounds, seed)
    return {"error_m": -found.pop("accuracy"), **found}


def report(out: Path, quick: bool, seeds: range, pool: Executor | None) -> None:
    """Errors by policy, MADS minus the policy, beside constant velocity.

    Over their own contacts the policies' priors are those of the week itself.
    """
    data, rounds = vessels(), 100 if quick else ROUNDS
    names = ROWS[:3] if quick else ROWS
    jobs = [
        {"speed": speed, "policy": name, "seed": seed, "rounds": rounds, "rate": RATE}
        for speed in ("5", "40", OWN)
        for name in names
        for seed in seeds
    ]
    table = gathered(sailed, jobs, None if quick else out / "mads_vessels.jsonl", pool)
    table.to_csv(out / "mads_vessels.csv", index=False, float_format="%.5g")
    met = own_contacts(rounds)
    lasting = np.concatenate(met.durations_s)
    print(f"\nVessels in New York harbour: {len(data.names)} ships, {len(data.train_y)} windows to")
    print(f"train on, {len(data.test_y)} later ones to test, {data.purged} across the cut purged.")
    print(f"Own contacts: {100 * met.share.mean():.0f} % of the time, {lasting.size} of", end=" ")
    print(f"{np.median(lasting) / 60:.0f} min (median), {REACH_M / 1000:g} km around the Battery.")
    print(
        f"Displacement error over ten minutes, m; constant velocity {data.constant_velocity():.0f}"
    )
    print(f"(k/s, %), MADS minus the row; {len(seeds)} seeds, {rounds} rounds")
    speeds = list(table.speed.unique())
    heads = (f"{s if s == OWN else s + ' m/s':>36s}" for s in speeds)
    print(f"{'':18s}" + "".join(heads))
    for name in names:
        cells = (_cell(table[table.speed == speed], name) for speed in speeds)
        print(f"{name:18s}" + "".join(f"{cell:>36s}" for cell in cells))


def _cell(part: Any, name: str) -> str:
    mean = mean_interval(column(part, name, "error_m"))
    told = f"{mean.mean:.0f} ({100 * column(part, name, 'keep').mean():.2f})"
    if name == MADS_ROW:
        return f"{told} ±{half(mean):.0f}"
    ahead = lead(part, MADS_ROW, name, "error_m")
    return f"{told} {ahead.mean:+.1f} ±{half(ahead):.1f}"
