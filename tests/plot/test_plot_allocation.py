"""Allocation figures: what is drawn equals what was solved, sorted by channel state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

import rralloc as rr
from rralloc.plot import allocation
from rralloc.problems import FDMARate, FEELScheduling, MinMaxLatency, SumRate, WaterFilling


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def _lines(ax: Any) -> list[Any]:
    return [line for line in ax.get_lines() if not line.get_label().startswith("_")]


def test_one_instance_is_sorted_by_gain() -> None:
    problem = WaterFilling.random(K=8, rng=1)
    sol = rr.solve(problem)
    top, below = allocation(sol).axes
    order = np.argsort(-problem.gain)
    (line,) = _lines(top)
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 9))
    np.testing.assert_array_equal(line.get_ydata(), sol.power_w[order])
    gains = below.get_lines()[0].get_ydata()
    np.testing.assert_allclose(gains, 10 * np.log10(problem.gain[order]))
    assert top.get_ylabel() == "transmit power (W)"
    assert "dB" in below.get_ylabel()
    assert "1/W" in below.get_ylabel()
    assert "1 = strongest" in below.get_xlabel()


def test_title_tells_the_share_of_the_weakest_quarter() -> None:
    sol = rr.solve(FDMARate(snr_bandwidth_hz=[4e6, 3e6, 2e6, 1e6], bandwidth_budget_hz=1e6))
    told = allocation(sol).axes[0].get_title(loc="left")
    assert told == "The weakest of 4 devices gets 10 % of the bandwidth"


def test_a_small_share_is_not_called_nothing() -> None:
    for weak, told in ((0.0, " 0 %"), (1.0, "less than 0.1 %"), (3e3, " 0.3 %")):
        sol = rr.solve(FDMARate(snr_bandwidth_hz=[1e6, weak], bandwidth_budget_hz=1e6))
        assert told in allocation(sol).axes[0].get_title(loc="left")


def test_a_batch_draws_mean_and_band_over_mean_gain_of_each_rank() -> None:
    problem = MinMaxLatency.random(K=6, batch=(5, 4), rng=0)
    sol = rr.solve(problem)
    figure = allocation(sol)
    (ax,) = figure.axes
    gain, band = problem.path_gain.reshape(20, 6), sol.bandwidth_hz.reshape(20, 6)
    order = np.argsort(-gain, axis=-1)
    gain, band = (np.take_along_axis(a, order, -1) for a in (gain, band))
    (line,) = _lines(ax)
    np.testing.assert_allclose(line.get_ydata(), band.mean(0))
    np.testing.assert_allclose(line.get_xdata(), (10 * np.log10(gain)).mean(0))
    edges = ax.collections[0].get_paths()[0].vertices[:, 1]
    low, high = np.percentile(band, [10, 90], axis=0)
    for value in (*low, *high):
        assert np.isclose(edges, value).any()
    assert ax.get_ylabel() == "bandwidth (kHz)"
    assert "(dB)" in ax.get_xlabel()
    assert "10-90 % of instances" in [t.get_text() for t in ax.get_legend().get_texts()]
    assert "20 instances" in ax.get_title(loc="left")


def test_several_solvers_share_one_figure() -> None:
    problem = MinMaxLatency.random(K=5, batch=8, rng=0)
    sols = {n: rr.solve(problem, n) for n in ("level", "baseline:equal-split")}
    (ax,) = allocation(sols).axes
    drawn = {line.get_label(): line for line in _lines(ax)}
    assert list(drawn) == ["level, mean", "baseline:equal-split, mean"]
    np.testing.assert_allclose(drawn["baseline:equal-split, mean"].get_ydata(), 1e6 / 5)
    assert len({line.get_marker() for line in drawn.values()}) == 2
    assert len({line.get_color() for line in drawn.values()}) == 2


def test_several_solvers_on_one_instance_stand_side_by_side() -> None:
    problem = FEELScheduling.random(K=7, rng=3)
    sols = {n: rr.solve(problem, n) for n in ("level", "baseline:uniform", "baseline:importance")}
    top, below = allocation(sols).axes
    x = np.array([line.get_xdata() for line in _lines(top)])
    assert (np.diff(x, axis=0) > 0.1).all()
    assert (np.abs(x - np.arange(1, 8)) < 0.5).all()
    (state,) = below.get_lines()
    np.testing.assert_array_equal(state.get_ydata(), np.sort(problem.importance)[::-1])
    assert top.get_ylabel() == "probability of being drawn"
    assert "1 = largest importance" in below.get_xlabel()
    title = top.get_title(loc="left")
    assert "uniform" in title
    assert "between" in title


def test_different_channels_are_drawn_one_each() -> None:
    sols = {str(s): rr.solve(WaterFilling.random(K=4, rng=s)) for s in (0, 1)}
    figure = allocation(sols)
    assert len(figure.axes[1].get_lines()) == 2
    assert figure.rralloc_scenario.split() == [s.problem.digest for s in sols.values()]


def test_links_are_ranked_by_their_direct_gain() -> None:
    problem = SumRate.dccp37()
    sol = rr.solve(problem, "baseline:strongest")
    top, below = allocation(sol).axes
    direct = np.diagonal(problem.gain)
    np.testing.assert_array_equal(_lines(top)[0].get_ydata(), sol.power_w[np.argsort(-direct)])
    assert below.get_ylabel().startswith("direct power gain")


@pytest.mark.parametrize(
    ("against", "words"),
    [("snr_bandwidth_hz", "dB re 1 Hz"),
     ("compute_s", "ms"), ("payload_bit", "bit")],
)  # fmt: skip
def test_against_takes_fields_and_properties(against: str, words: str) -> None:
    sol = rr.solve(MinMaxLatency.random(K=5, batch=4, rng=0))
    (ax,) = allocation(sol, against=against).axes
    assert words in ax.get_xlabel()


def test_names_that_do_not_exist_are_refused() -> None:
    sol = rr.solve(WaterFilling.random(K=4, rng=0))
    with pytest.raises(ValueError, match="no variable 'bandwidth_hz'"):
        allocation(sol, variable="bandwidth_hz")
    with pytest.raises(ValueError, match="fields: gain"):
        allocation(sol, against="distance")
    with pytest.raises(ValueError, match="no solutions"):
        allocation({})


def test_silent_devices_are_left_out_of_the_gain_panel() -> None:
    sol = rr.solve(FDMARate(snr_bandwidth_hz=[1e6, 0.0, 2e6], bandwidth_budget_hz=1e6))
    top, below = allocation(sol).axes
    assert len(_lines(top)[0].get_ydata()) == 3
    np.testing.assert_array_equal(np.isnan(below.get_lines()[0].get_ydata()), [False, False, True])


def test_instances_without_a_point_are_counted_not_drawn() -> None:
    problem = MinMaxLatency.random(K=4, batch=3, rng=0)
    gain = problem.path_gain.copy()
    gain[1, 2] = 0.0
    sol = rr.solve(problem.replace(path_gain=gain))
    if np.isfinite(sol.bandwidth_hz[1]).all():
        pytest.skip("the solver returns a point for infeasible instances too")
    title = allocation(sol).axes[0].get_title(loc="left")
    assert "1 without a point left out" in title.replace("\n", " ")
    with pytest.raises(ValueError, match="no point to draw"):
        allocation(sol[1])


def test_own_axes_are_used() -> None:
    figure, pair = plt.subplots(2)
    single = rr.solve(WaterFilling.random(K=4, rng=0))
    assert allocation(single, ax=pair) is figure
    assert len(pair[1].get_lines()) == 1
    other, ax = plt.subplots()
    assert allocation(single, ax=ax) is other
    assert "device rank" in ax.get_xlabel()
    part = plt.figure().subfigures(1, 2)[0]
    assert allocation(single, ax=part.subplots()) is part.figure


def test_solution_plot_is_the_same_figure() -> None:
    sol = rr.solve(WaterFilling.random(K=4, batch=3, rng=0))
    drawn = _lines(sol.plot(variable="power_w").axes[0])[0]
    np.testing.assert_array_equal(drawn.get_ydata(), _lines(allocation(sol).axes[0])[0].get_ydata())
