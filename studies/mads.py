"""MADS in training and without: what sparsity and power control buy devices that come and go.

Digits and Fashion-MNIST, 20 devices, every policy under one hard budget of energy and on the same
contacts and channels; real vessels that predict where they are going; the gap to clairvoyance as V
grows, and where deciding on power pays. MADS here is a reconstruction from a public abstract and
reviews (arXiv 2506.07328). Spec: mads.md §2.9, §5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rralloc as rr
from rralloc.errors import UnknownName
from rralloc.fl.link import Fading
from rralloc.fl.statistics import mean_interval
from rralloc.pool import pool_of
from rralloc.studies import _mads_horizons as horizons
from rralloc.studies import _mads_vessels as vessels
from rralloc.studies._mads_training import (
    FIXED_POWER,
    IDEAL,
    KEEP,
    MADS_ROW,
    MAX_POWER,
    PATIENT,
    PLACES,
    ROUNDS,
    SPEEDS,
    SYNCHRONOUS,
    Place,
    rows,
    trained,
)
from rralloc.studies._rows import Row, column, gathered, half, lead
from rralloc.studies._tuning import seeds_of
from rralloc.study import study

QUICK = (MADS_ROW, PATIENT, KEEP[0.1], FIXED_POWER, IDEAL)
IMAGES = (
    *(MADS_ROW, PATIENT, "MADS, flat weights", *KEEP.values(), "dense"),
    *(FIXED_POWER, MAX_POWER, IDEAL, SYNCHRONOUS),
)
FAINT = "faint, deep fades"
FAINTEST = "very faint, deep fades"
QUICK_ROUNDS = 150


@study("mads")
def study_mads(
    out: Path,
    quick: bool = False,
    *,
    only: str | None = None,
    seeds: int | None = None,
    workers: int = 2,
) -> None:
    """Mobile devices: accuracy and keep ratio against speed, vessels, V, where power control pays.

    ``only``: one of digits, images, vessels, tradeoff, power.
    """
    out.mkdir(parents=True, exist_ok=True)
    if only is not None and only not in PARTS:
        raise UnknownName("part of the study", only, PARTS)
    print(
        "\nMADS (a reconstruction): devices meet the server for seconds; each sends the largest k"
    )
    print("entries of what it has not delivered, at power p. One hard budget of energy for all.")
    with pool_of(workers) as pool:
        for name, part in PARTS.items():
            if name == only or (only is None and (not quick or name in ("digits", "tradeoff"))):
                part(out, quick, seeds, pool)


def digits(out: Path, quick: bool, seeds: int | None, pool: Executor | None) -> None:
    """Every policy at four speeds in four places; quick: three of these cells."""
    reported = seeds_of(seeds, 3 if quick else 6)
    if quick:
        jobs = [
            *_jobs("digits", ["little band"], ["5", "40"], QUICK, reported, QUICK_ROUNDS),
            *_jobs("digits", [FAINTEST], ["40"], (MADS_ROW, FIXED_POWER), reported, QUICK_ROUNDS),
        ]
    else:
        jobs = _jobs("digits", PLACES, SPEEDS, rows(), reported, ROUNDS)
    table = _train(out, "digits", jobs, pool, quick)
    if not quick:
        band = table[table.place == "little band"]
        kept = band[~band.policy.isin([IDEAL, SYNCHRONOUS, "dense"])]
        figure = _against_speed(kept, ["5", "15", "40"], "keep", "kept per contact, % of the model")
        rr.plot.save(figure, out / "mads_keep_against_speed.png")


def images(out: Path, quick: bool, seeds: int | None, pool: Executor | None) -> None:
    """Fashion-MNIST (70,000 images): three speeds, two places."""
    name, places = "fashion-mnist", ("little band", FAINT)
    reported = seeds_of(seeds, 2 if quick else 5)
    if quick:
        jobs = _jobs(name, places, ["40"], QUICK, reported, QUICK_ROUNDS)
    else:
        jobs = _jobs(name, places, ["5", "15", "40"], IMAGES, reported, ROUNDS)
    _train(out, name, jobs, pool, quick)


def _jobs(
    data: str,
    places: Iterable[str],
    speeds: Iterable[str],
    policies: Iterable[str],
    seeds: range,
    rounds: int,
) -> list[Row]:
    """What names each run."""
    speeds, policies = tuple(speeds), tuple(policies)
    return [
        {
            **{"data": data, "place": place, **asdict(PLACES[place]), "speed": speed},
            **{"policy": policy, "seed": seed, "rounds": rounds},
        }
        for place in places
        for speed in speeds
        for policy in policies
        for seed in seeds
    ]


def _train(out: Path, name: str, jobs: Sequence[Row], pool: Executor | None, quick: bool) -> Any:
    """All runs as a table, printed and drawn place by place."""
    table = gathered(trained, jobs, None if quick else out / f"mads_{name}.jsonl", pool)
    table.to_csv(out / f"mads_{name}.csv", index=False, float_format="%.5g")
    for place, part in table.groupby("place", sort=False):
        _print_place(f"{name}, {place}", PLACES[place], part)
        single = [speed for speed in part.speed.unique() if " " not in speed]
        if len(single) > 1 and place in ("little band", FAINT):
            figure = _against_speed(part, single, "accuracy", "test accuracy, %")
            rr.plot.save(figure, out / f"mads_{name}_{place.split(',')[0].replace(' ', '_')}.png")
    return table


def _print_place(title: str, place: Place, table: Any) -> None:
    """Accuracy, keep ratio and MADS minus the row, by speed."""
    table = table.assign(points=100 * table.accuracy)
    snr = "" if place.snr_db is None else f", median SNR {place.snr_db:g} dB at the mean power"
    fading = place.fading if place.fading == "rayleigh" else f"{place.fading}({place.shape:g})"
    print(f"\n{title}: chi = {place.chi:g}, psi = {place.psi:g}, {fading} fading{snr};")
    told = f"{table.seed.nunique()} seeds, {table.rounds.max()} rounds"
    print(f"test accuracy, % (k/s, %) and MADS minus the row in points, {told}")
    speeds = list(table.speed.unique())
    print(f"{'':22s}" + "".join(f"{speed + ' m/s':>34s}" for speed in speeds))
    for policy in table.policy.unique():
        cells = [_cell(table[table.speed == speed], policy) for speed in speeds]
        print(f"{policy:22s}" + "".join(f"{cell:>34s}" for cell in cells))
    for rival in (FIXED_POWER, MAX_POWER):
        if {PATIENT, rival} <= set(table.policy):
            parts = (table[table.speed == speed] for speed in speeds)
            leads = [lead(part, PATIENT, rival, "points") for part in parts]
            told = ", ".join(f"{d.mean:+.1f} [{d.low:+.1f}, {d.high:+.1f}]" for d in leads)
            print(f"{PATIENT} minus {rival}: {told}")
    worst = table[~table.policy.isin([IDEAL, SYNCHRONOUS])].energy_worst.max()
    print(f"most energy of any device: {100 * worst:.1f} % of its budget")


def _cell(part: Any, policy: str) -> str:
    mean = mean_interval(column(part, policy, "points"))
    told = f"{mean.mean:.1f} ({100 * column(part, policy, 'keep').mean():.2f})"
    if policy == MADS_ROW:
        return f"{told} ±{half(mean):.1f}     "
    ahead = lead(part, MADS_ROW, policy, "points")
    return f"{told} {ahead.mean:+5.1f} ±{half(ahead):4.1f}"


def _against_speed(table: Any, speeds: Sequence[str], column: str, label: str) -> Any:
    lines = {
        policy: {
            float(speed): mean_interval(100 * rows_of[rows_of.speed == speed][column])
            for speed in speeds
        }
        for policy, rows_of in table.groupby("policy", sort=False)
        if policy in (*QUICK, MAX_POWER, *KEEP.values(), SYNCHRONOUS)
    }
    return rr.plot.against(lines, x="speed, m/s (a tenth of the time in contact)", y=label)


def tradeoff(out: Path, quick: bool, seeds: int | None, pool: Executor | None) -> None:
    """Gap ~ 1/V and backlog ~ V on independent rounds, beside the drift bound."""
    import pandas as pd

    rounds = 500 if quick else 20000
    found = horizons.sweep(horizons.independent_rounds(rounds))
    pd.DataFrame(found).to_csv(out / "mads_tradeoff.csv", index=False, float_format="%.5g")
    print(f"\nV without training: {rounds} independent rounds, 8 devices; Q starts at V lambda*")
    print("V lambda*/Ebar   gap to clairvoyance   drift bound   mean Q/Ebar   energy/budget")
    for row in found:
        told = f"{row['backlog']:14.0f} {100 * row['gap']:19.2f} % {100 * row['bound']:11.2f} %"
        print(f"{told} {row['queue']:13.1f} {row['energy']:15.3f}")


def power(out: Path, quick: bool, seeds: int | None, pool: Executor | None) -> None:
    """Value over the clairvoyant's for SNRs, fadings and budgets: where control of power pays."""
    reported = seeds_of(seeds, 2 if quick else 5)
    laws: tuple[tuple[Fading, float], ...] = (("rayleigh", 1.0), ("nakagami", 0.5))
    places = [
        Place(psi=psi, snr_db=snr, fading=fading, shape=shape)
        for fading, shape in laws
        for snr in ((30.0, 0.0) if quick else (30.0, 15.0, 0.0, -10.0))
        for psi in (0.1, 0.01)
    ]
    speeds = ("5", "40") if quick else tuple(SPEEDS)
    jobs = [
        {**asdict(place), "speed": speed, "seed": seed, "rounds": ROUNDS}
        for place in places
        for speed in speeds
        for seed in reported
    ]
    path = None if quick else out / "mads_power.jsonl"
    table = gathered(horizons.scored, jobs, path, pool)
    table.to_csv(out / "mads_power.csv", index=False, float_format="%.5g")
    print(f"\nValue over the clairvoyant's, %, gamma weights, {len(reported)} seeds, hard budget")
    print(f"{'fading':10s} {'SNR, dB':>8s} {'psi':>6s} {'m/s':>9s}" + _heads(horizons.RULES))
    for key, part in table.groupby(["fading", "snr_db", "psi", "speed"], sort=False):
        fading, snr, psi, speed = key
        cells = "".join(f"{100 * part[name].mean():15.1f}" for name in horizons.RULES)
        print(f"{fading:10s} {snr:8g} {psi:6g} {speed:>9s}{cells}")
    deep = table[(table.fading == "nakagami") & (table.psi == 0.1) & (table.speed == "40")]
    lines = {
        name: {
            float(snr): mean_interval(100 * part[name])
            for snr, part in deep.groupby("snr_db", sort=True)
        }
        for name in horizons.RULES
    }
    figure = rr.plot.against(
        lines,
        x="median SNR at the mean power, dB (deep fades, 40 m/s)",
        y="value, % of the clairvoyant's",
        title="The fainter the signal, the more the moment of sending matters",
    )
    rr.plot.save(figure, out / "mads_power_control.png")


def _heads(names: Iterable[str]) -> str:
    return "".join(f"{name:>15s}" for name in names)


def ships(out: Path, quick: bool, seeds: int | None, pool: Executor | None) -> None:
    """Where vessels in New York harbour are ten minutes later: displacement error."""
    reported = seeds_of(seeds, 2 if quick else 6)
    vessels.report(out, quick, reported, pool)


Part = Callable[[Path, bool, "int | None", "Executor | None"], None]
PARTS: Mapping[str, Part] = {
    "digits": digits,
    "images": images,
    "vessels": ships,
    "tradeoff": tradeoff,
    "power": power,
}
