"""closed-form: one evaluation, with a proof where the form carries a witness."""

import numpy as np
import pytest
from oracles import fdma, sync, water_filling

import rralloc as rr
from rralloc.errors import NotOffered
from rralloc.problems import DeviceCount, FDMARate, InverseWaterFilling, WaterFilling


def test_the_example_of_the_package_docstring():
    sol = rr.solve(WaterFilling(gain=[2.0, 1.0, 0.5, 0.1], power_budget_w=3.0))
    np.testing.assert_allclose(sol.power_w, [5 / 3, 7 / 6, 1 / 6, 0], rtol=1e-14)
    assert sol.solver == "closed-form"
    assert sol.status is rr.Status.GLOBAL
    assert sol.iterations == 0


def test_water_filling_and_its_twin_against_the_oracles():
    problem = WaterFilling.random(K=7, batch=10, rng=0)
    sol = rr.solve(problem, "closed-form")
    for i, one in enumerate(problem):
        power, _, rate = water_filling.solve(one.gain, float(one.power_budget_w))
        np.testing.assert_allclose(sol.power_w[i], power, atol=1e-12)
        back = rr.solve(InverseWaterFilling(gain=one.gain, rate_target=rate), "closed-form")
        assert back.objective == pytest.approx(float(one.power_budget_w), rel=1e-10)
        assert back.objective == pytest.approx(water_filling.min_power(one.gain, rate), rel=1e-9)


def test_equal_weights_split_the_band_by_received_power():
    q = np.array([3.0, 1.0, 0.0, 6.0])
    sol = rr.solve(FDMARate(snr_bandwidth_hz=q, bandwidth_budget_hz=5.0), "closed-form")
    np.testing.assert_allclose(sol.bandwidth_hz, q / 2, rtol=1e-14)
    assert sol.objective == pytest.approx(5 * np.log2(1 + 10 / 5), rel=1e-14)
    assert sol.objective == pytest.approx(fdma.value(q, sol.bandwidth_hz), rel=1e-14)


def test_it_is_refused_where_the_instance_has_no_formula():
    problem = FDMARate(snr_bandwidth_hz=[1.0, 2.0], bandwidth_budget_hz=1.0, weight=[1.0, 3.0])
    with pytest.raises(NotOffered, match="weights differ"):
        rr.solve(problem, "closed-form")
    assert rr.solve(problem).solver == "level"


def test_device_count_against_the_exhaustive_oracle():
    problem = DeviceCount.random(K=5, rng=3)
    sol = rr.solve(problem, "closed-form")
    best, chosen = sync.solve_count_exhaustive(
        problem.snr_bandwidth_hz, problem.compute_s, 1e6, 1e6, 50.0, 200.0
    )
    assert sol.objective == pytest.approx(best, rel=1e-9)
    assert np.flatnonzero(sol.selected).tolist() == list(chosen)
