"""Over-the-air selection: devices served by every solver, and what serving them buys in training.

Whom to hear, and with which beam, when updates are summed up by the channel. Selection by sparse
and low-rank optimisation is a reconstruction from a public abstract (arXiv 1812.11750), and so is
every rival that is named after a paper. Spec: ota.md §4, §6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

import rralloc as rr
from rralloc.errors import InvalidProblem, UnknownName
from rralloc.fl.statistics import mean_interval, paired_difference
from rralloc.pool import pool_of
from rralloc.studies import _ota_compressed as shorter
from rralloc.studies import _ota_served as served_by
from rralloc.studies import _ota_training as training
from rralloc.studies._rows import Row, column, gathered, half, lead
from rralloc.studies._tuning import seeds_of
from rralloc.study import study

SLOW = ("learning bound, a = 4", "subgradient, 12 dB")
"""A tenth of a second or more in every round: on MNIST-5k only, and at these SNRs."""
SLOW_AT = (-20.0, -10.0)
UNSHOWN = ("coverage, 0 dB", "coverage, 9 dB", "coverage, 15 dB", "random, 12 dB")
"""In tables, but not in figures."""


@study("ota")
def study_ota(
    out: Path,
    quick: bool = False,
    *,
    only: str | None = None,
    seeds: int | None = None,
    workers: int = 2,
) -> None:
    """Over the air: devices served against the target by solver; accuracy against SNR by policy.

    ``only``: one of served, compressed, digits, mnist, fashion, errors. ``seeds``: of training, or
    channels.
    """
    out.mkdir(parents=True, exist_ok=True)
    if only is not None and only not in PARTS:
        raise UnknownName("part of the study", only, PARTS)
    print("\nOver the air (a reconstruction): all devices send at once, the channel adds up, one")
    print("beam hears the sum; the weakest device that is admitted sets the noise.")
    with pool_of(workers) as pool:
        for name, part in PARTS.items():
            if name == only or (only is None and (not quick or name in ("served", "digits"))):
                part(out, quick, seeds, pool)


# -- devices served -------------------------------------------------------------------------------


def served(out: Path, quick: bool, seeds: int | None, pool: Executor | None) -> None:
    """Every solver at (6, 20) over targets; quick: some of them at two targets."""
    draws = seeds_of(seeds, 4 if quick else 30)
    targets = (-4.0, 0.0) if quick else (-8.0, -6.0, -4.0, -2.0, 0.0, 2.0)
    solvers = served_by.QUICK if quick else served_by.SOLVERS
    jobs: list[Row] = [
        {"antennas": 6, "devices": 20, "target_db": db, "solver": name, "draw": draw}
        for name in solvers
        for db in targets
        for draw in draws
    ]
    path = None if quick else out / "ota_served.jsonl"
    table = gathered(served_by.measured, jobs, path, pool)
    table.to_csv(out / "ota_served.csv", index=False, float_format="%.5g")
    print(f"\nDevices served of 20 by 6 antennas, {len(draws)} channels; the same for all solvers;")
    print("± of the difference to coverage, effort 2, paired; CPU ms an instance alone")
    print(f"{'gamma P/noise, dB':20s}" + "".join(f"{db:>18g}" for db in targets) + f"{'ms':>9s}")
    for name in solvers:
        own = table[table.solver == name]
        cells = [_served_cell(table[table.target_db == db], name) for db in targets]
        spent = 1e3 * own.cpu_s.median()
        print(f"{name:20s}" + "".join(f"{cell:>18s}" for cell in cells) + f"{spent:9.1f}")
    proven = table[table.solver == "coverage, effort 2"].groupby("target_db").bound.mean()
    print(f"{'bound, on average':20s}" + "".join(f"{proven[db]:11.2f}       " for db in targets))
    lines = {
        name: {db: mean_interval(own[own.target_db == db].served) for db in targets}
        for name, own in table.groupby("solver", sort=False)
        if name not in ("coverage, effort 1", "coverage, effort 3", "baseline:random", "exact")
    }
    figure = rr.plot.against(lines, x="error target gamma P/noise, dB", y="devices served of 20")
    rr.plot.save(figure, out / "ota_served.png")


def _served_cell(part: Any, name: str) -> str:
    best = part[part.solver == "coverage, effort 2"].sort_values("draw").served
    own = part[part.solver == name].sort_values("draw").served
    mean = float(own.mean())
    if name == "coverage, effort 2":
        return f"{mean:.2f} ±{half(mean_interval(own)):.2f}     "
    behind = paired_difference(np.asarray(own), np.asarray(best))
    return f"{mean:.2f} {behind.mean:+.2f} ±{half(behind):.2f}"


# -- shorter sums ---------------------------------------------------------------------------------


def compressed(out: Path, quick: bool, seeds: int | None, pool: Executor | None) -> None:
    """Compressed schemes on digits, at equal rounds and at equal channel uses."""
    reported = seeds_of(seeds, 2 if quick else 6)
    names = shorter.QUICK if quick else tuple(shorter.SCHEMES)
    rounds = 60 if quick else shorter.ROUNDS
    lengths = (rounds,) if quick else (rounds, None)
    kinds = ("shards",) if quick else ("iid", "shards")
    jobs: list[Row] = [
        {
            **{"partition": kind, "scheme": name, "noise_w": noise},
            **{"rounds": length, "seed": seed},
        }
        for name in names
        for noise in ((1.0,) if quick else (1.0, 0.01))
        for kind in kinds
        for length in lengths
        for seed in reported
    ]
    table = gathered(shorter.trained, jobs, None if quick else out / "ota_compressed.jsonl", pool)
    table.to_csv(out / "ota_compressed.csv", index=False, float_format="%.5g")
    table = table.assign(length=table.rounds.isna().map({False: "rounds", True: "uses"}))
    print(f"\nShorter sums, digits, 20 devices, {len(reported)} seeds: accuracy, %, after {rounds}")
    print(f"rounds{'' if quick else f', and after {shorter.EQUAL_USES} channel uses'}; gain: uses")
    print("of everybody sending everything in turn, over the scheme's")
    columns = list(table.groupby(["noise_w", "partition", "length"], sort=False).groups)
    heads = [f"{kind}, {length}, noise {noise:g}" for noise, kind, length in columns]
    print(f"{'':32s}{'gain':>6s}" + "".join(f"{head:>28s}" for head in heads))
    for name in names:
        own = table[table.scheme == name]
        cells = []
        for noise, kind, length in columns:
            part = own[(own.noise_w == noise) & (own.partition == kind) & (own.length == length)]
            mean = mean_interval(100 * part.accuracy)
            cells.append(f"{mean.mean:.1f} ±{half(mean):4.1f}")
        print(f"{name:32s}{own.gain.iloc[0]:6.0f}" + "".join(f"{c:>28s}" for c in cells))
    at = table[(table.noise_w == 1.0) & (table.partition == "shards") & (table.length == "rounds")]
    lines = {
        family: {
            float(gain): mean_interval(100 * part.accuracy)
            for gain, part in own.groupby("gain", sort=True)
        }
        for family, own in at.groupby(at.scheme.map(_family), sort=False)
    }
    figure = rr.plot.against(
        lines,
        x="communication gain: channel uses of sending everything in turn, over the scheme's",
        y="test accuracy, %",
        title=_gained(lines),
    )
    rr.plot.save(figure, out / "ota_communication_gain.png")


def _gained(lines: Mapping[str, Mapping[float, Any]]) -> str:
    """What the shortest sum of each family that has several reaches."""
    ends = {name: max(line) for name, line in lines.items() if len(line) > 1}
    told = [
        f"{lines[name][gain].mean:.0f} % by {name} at {gain:.0f}" for name, gain in ends.items()
    ]
    return "At the largest gain: " + ", ".join(told) if told else ""


def _family(name: str) -> str:
    if name.startswith("compressed"):
        return "compressed, k/s" + name.rsplit("k/s", 1)[1]
    return name.replace("the same", "compressed") if "same" in name else name.split(",")[0]


# -- training -------------------------------------------------------------------------------------


def digits(out: Path, quick: bool, seeds: int | None, pool: Executor | None) -> None:
    """Digits in the wheel; quick: one SNR, one rate."""
    snrs = (-20.0,) if quick else (-20.0, -10.0, 0.0)
    rules = [n for n in training.RULES if n not in SLOW]
    _train(out, "digits", snrs, rules, quick, seeds_of(seeds, 3 if quick else 8), pool)


def mnist(out: Path, quick: bool, seeds: int | None, pool: Executor | None) -> None:
    """MNIST-5k, the setting of ota.md §6."""
    snrs = (-20.0,) if quick else (-30.0, -20.0, -10.0, 0.0)
    _train(out, "mnist-5k", snrs, training.RULES, quick, seeds_of(seeds, 2 if quick else 8), pool)


def fashion(out: Path, quick: bool, seeds: int | None, pool: Executor | None) -> None:
    """Fashion-MNIST, 70,000 images."""
    snrs = (-20.0,) if quick else (-20.0, -10.0)
    left_out = (*SLOW, *(f"coverage, {db} dB" for db in (0, 15, 18)), "random, 12 dB")
    rules = [n for n in training.RULES if n not in left_out]
    reported = seeds_of(seeds, 2 if quick else 5)
    _train(out, "fashion-mnist", snrs, rules, quick, reported, pool)


def errors(out: Path, quick: bool, seeds: int | None, pool: Executor | None) -> None:
    """Digits at 10 dB when a share of the channel is unknown: robust selection against nominal."""
    reported = seeds_of(seeds, 2 if quick else 6)
    shares = (0.0, 0.1) if quick else (0.0, 0.03, 0.1, 0.3)
    jobs: list[Row] = [
        {**row, "csi_error": share}
        for share in shares
        for row in _jobs(
            "digits",
            [(name, 10.0, 0.5) for name in training.ERROR_RULES],
            reported,
            30 if quick else training.ROUNDS,
        )
    ]
    path = None if quick else out / "ota_errors.jsonl"
    table = gathered(training.trained, jobs, path, pool)
    table.to_csv(out / "ota_errors.csv", index=False, float_format="%.5g")
    table = table.assign(points=100 * table.accuracy)
    print(f"\ndigits, 10 dB, learning rate 0.5, {len(reported)} seeds: accuracy, % (heard a round)")
    print(f"{'unknown share':20s}" + "".join(f"{share:>24g}" for share in shares))
    for name in training.ERROR_RULES:
        own = table[table.policy == name]
        cells = []
        for share in shares:
            part = own[own.csi_error == share]
            mean = mean_interval(part.points)
            cells.append(f"{mean.mean:.1f} ±{half(mean):.1f} ({part.served.mean():.1f})")
        print(f"{name:20s}" + "".join(f"{cell:>24s}" for cell in cells))


def _train(
    out: Path,
    data: str,
    snrs: Sequence[float],
    rules: Iterable[str],
    quick: bool,
    reported: range,
    pool: Executor | None,
) -> None:
    """Every rule with the learning rate that serves it best on other seeds, SNR by SNR."""
    if reported.stop > min(training.TUNING_SEEDS):
        raise InvalidProblem(
            f"seeds = {reported.stop}: rates are tuned on seeds {training.TUNING_SEEDS}; "
            f"report at most {min(training.TUNING_SEEDS)}"
        )
    names = training.QUICK if quick else tuple(rules)
    path = None if quick else out / f"ota_{data}.jsonl"
    rounds = 30 if quick else training.ROUNDS
    asked = ((n, snr) for n in names for snr in snrs if n not in SLOW or snr in SLOW_AT)
    rates = dict.fromkeys(asked, 0.5)
    if not quick:
        cells = [(n, snr, rate) for n, snr in rates for rate in training.RATES]
        tried = gathered(
            training.trained, _jobs(data, cells, training.TUNING_SEEDS, rounds), path, pool
        )
        means = tried.groupby(["policy", "snr_db", "learning_rate"]).accuracy.mean()
        rates = {key: float(means[key].idxmax()) for key in rates}
    cells = [(n, snr, rate) for (n, snr), rate in rates.items()]
    table = gathered(training.trained, _jobs(data, cells, reported, rounds), path, pool)
    table.to_csv(out / f"ota_{data}.csv", index=False, float_format="%.5g")
    _print_training(data, table, rounds, len(reported), tuned=not quick)
    if len(snrs) > 1:
        lines = {
            name: {
                float(snr): mean_interval(100 * part.accuracy)
                for snr, part in table[table.policy == name].groupby("snr_db")
            }
            for name in names
            if name not in (*SLOW, *UNSHOWN)
        }
        first = {name: line[min(snrs)].mean for name, line in lines.items()}
        best = max((n for n in first if n != training.IDEAL), key=lambda n: first[n])
        told = f"{first[best]:.1f} % by {best}, {first[training.ALL]:.1f} % by {training.ALL}"
        figure = rr.plot.against(
            lines, x="P/noise, dB", y="test accuracy, %", title=f"At {min(snrs):g} dB: {told}"
        )
        rr.plot.save(figure, out / f"ota_{data}.png")


def _jobs(
    data: str, cells: Iterable[tuple[str, float, float]], seeds: Iterable[int], rounds: int
) -> list[Row]:
    """What names each run."""
    seeds = tuple(seeds)
    return [
        {
            **{"data": data, "snr_db": snr, "policy": name, "learning_rate": rate},
            **{"seed": seed, "rounds": rounds},
        }
        for name, snr, rate in cells
        for seed in seeds
    ]


def _print_training(data: str, table: Any, rounds: int, seeds: int, *, tuned: bool) -> None:
    table = table.assign(points=100 * table.accuracy)
    how = "learning rate tuned for each on other seeds" if tuned else "learning rate 0.5"
    print(f"\n{data}: accuracy, % (devices heard a round) and the lead of serving all, in points;")
    print(f"{seeds} seeds, {rounds} rounds, {how}")
    snrs = list(table.snr_db.unique())
    print(f"{'P/noise, dB':20s}" + "".join(f"{snr:>30g}" for snr in snrs))
    for name in table.policy.unique():
        cells = [_training_cell(table[table.snr_db == snr], name) for snr in snrs]
        print(f"{name:20s}" + "".join(f"{cell:>30s}" for cell in cells))


def _training_cell(part: Any, name: str) -> str:
    own = column(part, name, "points")
    if not len(own):
        return "-"
    told = f"{own.mean():.1f} ({column(part, name, 'served').mean():.1f})"
    if name == training.ALL:
        return f"{told} ±{half(mean_interval(own)):.1f}      "
    behind = lead(part, training.ALL, name, "points")
    return f"{told} {behind.mean:+5.1f} ±{half(behind):4.1f}"


Part = Callable[[Path, bool, "int | None", "Executor | None"], None]
PARTS: Mapping[str, Part] = {
    "served": served,
    "compressed": compressed,
    "digits": digits,
    "mnist": mnist,
    "fashion": fashion,
    "errors": errors,
}
