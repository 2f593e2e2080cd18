"""Beam figures: what is drawn is what the problem says of the beam."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

import rralloc as rr
from rralloc.plot import allocation, served
from rralloc.problems import OTASelection, OTAWideband, WaterFilling


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_every_device_is_drawn_once_at_its_strength_and_gain() -> None:
    problem = OTASelection.random(K=12, N=4, rng=0, mse_target=0.5)
    sol = rr.solve(problem, rng=0)
    (ax,) = served({"coverage": sol}).axes
    inside, outside = ax.get_lines()[:2]
    chosen = problem.served(sol.x["beamformer"])
    assert 0 < chosen.sum() < 12
    strength = 10 * np.log10((np.abs(problem.channel) ** 2).sum(0) * 0.5)
    gain = 10 * np.log10(problem.gain(sol.x["beamformer"]))
    for line, mask in ((inside, chosen), (outside, ~chosen)):
        np.testing.assert_allclose(line.get_xdata(), strength[mask])
        np.testing.assert_allclose(line.get_ydata(), gain[mask])
    assert (inside.get_ydata() >= -1e-8).all()
    assert (outside.get_ydata() < 0).all()
    assert inside.get_label() == f"coverage: {chosen.sum()} of 12"
    assert outside.get_fillstyle() == "none"


def test_silent_devices_and_zero_beams_are_drawn_at_the_floor() -> None:
    channel = np.zeros((2, 3), dtype=complex)
    channel[0, 0] = 5
    sol = rr.solve(OTASelection(channel, mse_target=1.0))
    (ax,) = served(sol).axes
    assert all(np.isfinite(line.get_ydata()).all() for line in ax.get_lines())


def test_a_batch_and_other_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="one instance of OTASelection"):
        served(rr.solve(OTASelection.random(K=4, N=3, batch=2, rng=0)))
    with pytest.raises(ValueError, match="one instance of OTASelection"):
        served(rr.solve(WaterFilling.random(K=3, rng=0)))
    with pytest.raises(ValueError, match="one instance of OTASelection"):
        served(rr.solve(OTAWideband.random(K=4, N=3, F=2, rng=0)))


def test_an_allocation_of_devices_not_of_antennas_is_the_default() -> None:
    problem = OTASelection.random(K=9, N=6, rng=1)
    top = allocation(rr.solve(problem, rng=0)).axes[0]
    assert len(top.get_lines()[0].get_xdata()) == 9
