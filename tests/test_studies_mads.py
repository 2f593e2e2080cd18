"""The MADS studies: what mads.md §6 asks of the digits, and rows that survive an interrupt."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rralloc.studies import _mads_horizons as horizons
from rralloc.studies._mads_training import PLACES, trained
from rralloc.studies._rows import gathered

SEEDS = range(5)


def runs(policy, speed):
    rows = [
        {
            "data": "digits",
            "place": "little band",
            "speed": speed,
            "policy": policy,
            "seed": seed,
            "rounds": 300,
        }
        for seed in SEEDS
    ]
    return gathered(trained, rows, None, None)


def test_the_digits_orderings_of_the_specification():
    """k/s falls with v; +20 points over 10 % at 40 m/s; fixed power - 1; energy; dense fails."""
    mads = {speed: runs("MADS", speed) for speed in ("5", "15", "40")}
    kept = [found.keep.to_numpy() for found in mads.values()]
    assert (kept[0] > kept[1]).all()
    assert (kept[1] > kept[2]).all()
    for speed, found in mads.items():
        assert (found.energy_worst <= 1 + 1e-12).all()
        fixed = runs("fixed power", speed).accuracy
        assert found.accuracy.mean() >= fixed.mean() - 0.01
    assert mads["40"].accuracy.mean() >= runs("keep 10 %", "40").accuracy.mean() + 0.20
    assert runs("dense", "40").accuracy.mean() <= 0.25


def test_gap_and_backlog_follow_v():
    """Gap <= drift bound, about halved as V doubles; backlog about V lambda*."""
    found = horizons.sweep(horizons.independent_rounds(3000), (8, 16, 32, 64))
    for row in found:
        assert 0 < row["gap"] <= row["bound"]
        assert row["backlog"] <= row["queue"] <= row["backlog"] + 4
        assert 0.97 < row["energy"] < 1.01
    for small, large in itertools.pairwise(found):
        assert 1.5 < small["gap"] / large["gap"] < 3


def test_a_steadier_price_is_worth_more_than_fixed_power_where_the_signal_is_faint():
    place = PLACES["faint, deep fades"]
    row = {
        **{name: getattr(place, name) for name in ("chi", "psi", "snr_db", "fading", "shape")},
        "speed": "40",
        "rounds": 300,
    }
    scores = [horizons.scored({**row, "seed": seed}) for seed in range(3)]
    for score in scores:
        assert all(0 < value <= 1 for value in score.values())
        assert score["MADS, patient"] > 1.1 * score["fixed power"]
        assert score["MADS, patient"] > score["MADS"] > score["full power"]


@pytest.mark.parametrize("torn", [False, True])
def test_rows_that_are_done_are_not_measured_again(tmp_path, torn):
    path, measured = tmp_path / "rows.jsonl", []

    def measure(row):
        measured.append(row["seed"])
        if row["seed"] == 2 and len(measured) < 4:
            raise KeyboardInterrupt
        return {"twice": 2.0 * row["seed"]}

    rows = [{"name": "a", "seed": seed} for seed in range(4)]
    with pytest.raises(KeyboardInterrupt):
        gathered(measure, rows, path, None)
    if torn:  # the machine went down in the middle of a line
        path.write_text(path.read_text()[:-5])
    found = gathered(measure, rows, path, None)
    np.testing.assert_array_equal(found.twice, [0, 2, 4, 6])
    assert measured == ([0, 1, 2, 1, 2, 3] if torn else [0, 1, 2, 2, 3])
    again = gathered(measure, rows, path, None)
    assert len(measured) == (6 if torn else 5)
    assert again.equals(found)


def test_what_is_measured_is_kept_when_another_row_fails(tmp_path):
    def measure(row):
        if row["seed"] == 3:
            raise ValueError("no such place")
        return {"twice": 2.0 * row["seed"]}

    path, measured = tmp_path / "rows.jsonl", []
    rows = [{"seed": seed} for seed in range(8)]
    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="no such place"):
        gathered(lambda row: measured.append(row["seed"]) or measure(row), rows, path, pool)
    kept = [json.loads(line)["names"]["seed"] for line in path.read_text().splitlines()]
    assert sorted(kept) == sorted(set(measured) - {3})
