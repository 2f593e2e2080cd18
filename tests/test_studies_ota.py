"""The study's findings in small: orderings that hold on every set of seeds tried."""

from __future__ import annotations

import numpy as np
import pytest

from rralloc.studies import _ota_compressed as shorter
from rralloc.studies import _ota_served as served
from rralloc.studies import _ota_training as training
from rralloc.studies.ota import PARTS, study_ota


def accuracy(policy, snr_db, seeds=3, rounds=40, **more):
    row = {"data": "digits", "snr_db": snr_db, "policy": policy, "learning_rate": 0.5}
    row |= {"rounds": rounds, **more}
    return np.array([training.trained({**row, "seed": s})["accuracy"] for s in range(seeds)])


def test_at_low_snr_an_interior_target_is_best():
    """ota.md 6: at -20 dB neither everybody nor very few; at -10 dB everybody is as good."""
    middle, everybody = accuracy("coverage, 12 dB", -20.0), accuracy(training.ALL, -20.0)
    few, strongest = accuracy("coverage, 0 dB", -20.0), accuracy("strongest, 12 dB", -20.0)
    assert (middle > everybody).all()
    assert middle.mean() > few.mean()
    assert middle.mean() > strongest.mean() + 0.02
    at_ten = accuracy("coverage, 12 dB", -10.0) - accuracy(training.ALL, -10.0)
    assert abs(at_ten.mean()) < 0.03


def test_robust_selection_serves_fewer_devices():
    row = {"data": "digits", "snr_db": 10.0, "learning_rate": 0.5, "rounds": 5, "seed": 0}
    heard = {
        name: training.trained({**row, "policy": name, "csi_error": 0.1})["served"]
        for name in (training.ROBUST, "coverage, 12 dB", training.IDEAL)
    }
    assert heard[training.ROBUST] < heard["coverage, 12 dB"] < heard[training.IDEAL] == 20


@pytest.mark.parametrize("name", served.QUICK)
def test_rows_of_served_devices_are_feasible_and_below_their_bound(name):
    row = {"antennas": 6, "devices": 20, "target_db": -2.0, "solver": name, "draw": 3}
    found = served.measured(row)
    assert 8 <= found["served"] <= found["bound"] <= 20
    assert found["violation"] <= 1e-9


def test_memory_is_what_makes_compressed_sums_learn_and_a_mask_is_the_one_to_beat():
    """ota.md 5 and acceptance (K): error feedback by more than .2 at s/d = .25."""
    row = {"partition": "iid", "noise_w": 1.0, "rounds": 60, "seed": 0}
    found = {
        name: shorter.trained({**row, "scheme": name})
        for name in (*shorter.QUICK, "shared mask, s/d 0.25")
    }
    told = {name: value["accuracy"] for name, value in found.items()}
    assert told["compressed, s/d 0.25, k/s 0.05"] > told["the same, no error feedback"] + 0.2
    assert told["shared mask, s/d 0.25"] > told["compressed, s/d 0.25, k/s 0.05"] + 0.02
    assert told["digital DSGD, s/d 0.5"] < 0.15  # not one entry fits
    gains = {name: value["gain"] for name, value in found.items()}
    assert gains["over the air"] == 20
    assert gains["shared mask, s/d 0.1"] == 200


def test_every_part_runs_quickly_and_names_are_checked(tmp_path, capsys):
    for part in ("served", "compressed"):
        study_ota(tmp_path, quick=True, only=part, seeds=2, workers=1)
    told = capsys.readouterr().out
    assert "coverage, effort 2" in told
    assert "shared mask" in told
    assert {p.name for p in tmp_path.glob("*.csv")} == {"ota_served.csv", "ota_compressed.csv"}
    with pytest.raises(Exception, match=f"one of|{next(iter(PARTS))}"):
        study_ota(tmp_path, quick=True, only="nothing")
