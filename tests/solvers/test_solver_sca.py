"""sca: monotone, stationary, and honest about being local."""

import numpy as np
import pytest
from oracles import sum_rate
from toys import Bowl

import rralloc as rr
from rralloc.errors import NotOffered
from rralloc.fields import data, variable
from rralloc.forms import Surrogate, offers
from rralloc.problem import Problem
from rralloc.problems import SumRate
from rralloc.typing import Field


def oracle_data(problem):
    return problem.gain, float(np.ravel(problem.noise_w)[0]), np.broadcast_to(problem.weight, 4)


def test_from_full_power_the_classic_instance_stops_at_a_local_optimum():
    sol = rr.solve(SumRate.dccp37(), "sca")
    assert sol.objective == pytest.approx(3.45029, abs=1e-5)
    assert sol.status is rr.Status.LOCAL
    assert sol.gap > 0.2
    assert sol.kkt <= 1e-4
    assert rr.solve(SumRate.dccp37(), "sca", certify="full").status is rr.Status.LOCAL


def test_every_step_is_a_step_of_the_textbook_algorithm():
    problem = SumRate.dccp37()
    gain, noise, weight = oracle_data(problem)
    _, history = sum_rate.wmmse(gain, noise, weight, np.ones(4), np.ones(4), steps=25)
    trace = rr.solve(problem, "sca", max_iter=25).trace.column("objective")
    np.testing.assert_allclose(trace[:25], history[1:26], rtol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_monotone_and_never_above_the_bound(seed):
    problem = SumRate.random(K=4, batch=5, rng=seed)
    sol = rr.solve(problem, "sca", max_iter=200)
    for lane in range(5):
        path = sol.trace.column("objective", lane)
        assert len(path) > 1
        assert (np.diff(path) >= -1e-12 * np.abs(path[1:])).all()
        assert path[0] >= problem[lane].objective(problem[lane].initial()) - 1e-12
    assert (sol.objective <= sol.bound).all()
    assert (sol.status < rr.Status.GLOBAL).all()


def test_a_good_start_reaches_the_global_value_but_does_not_prove_it():
    problem = SumRate.dccp37()
    gain, noise, weight = oracle_data(problem)
    point, value = sum_rate.solve(gain, noise, weight, np.ones(4), starts=20)
    sol = rr.solve(problem, "sca", start={"power_w": np.clip(np.asarray(point), 1e-6, 1)})
    assert sol.objective == pytest.approx(value, rel=1e-5)
    assert sol.status < rr.Status.GLOBAL


def test_a_start_outside_the_box_is_brought_in():
    sol = rr.solve(SumRate.dccp37(), "sca", start={"power_w": np.full(4, 10.0)})
    assert sol.violation <= 1e-12
    assert sol.objective == pytest.approx(3.45029, abs=1e-5)


class Crooked(Bowl):
    """A surrogate that is neither tight nor a bound: it drives x to 1."""

    @offers(Surrogate)
    def surrogate(self):
        return Surrogate(lambda x: Bowl(centre=np.full(x["x"].shape, 5.0)))


def test_a_step_that_worsens_the_objective_is_refused():
    problem = Crooked(centre=[0.3, 0.4])
    start = {"x": np.array([0.3, 0.5])}
    sol = rr.solve(problem, "sca", start=start)
    assert sol.stopped is rr.Stopped.STALLED
    np.testing.assert_array_equal(sol.x["x"], start["x"])


class Quartic(Problem):
    """min x^4 - x^2 by the tangent of the concave part: x+ = (x/2)^(1/3)."""

    sense = "min"
    scale: Field = data("K", unit="1", low=0)
    x = variable("K", unit="1", low=0, high=2)

    def objective(self, x):
        return (self.scale * (x["x"] ** 4 - x["x"] ** 2)).sum(-1)

    @offers(Surrogate)
    def surrogate(self):
        def at(x):
            return Tangent(scale=self.scale, slope=2 * x["x"], constant=x["x"] ** 2)

        return Surrogate(at)


class Tangent(Problem):
    """min scale (x^4 - slope x + constant)."""

    sense = "min"
    scale: Field = data("K", unit="1", low=0)
    slope: Field = data("K", unit="1", low=0)
    constant: Field = data("K", unit="1", low=0)
    x = variable("K", unit="1", low=0, high=2)

    def objective(self, x):
        return (self.scale * (x["x"] ** 4 - self.slope * x["x"] + self.constant)).sum(-1)


def test_a_problem_written_here_is_minimised_through_its_surrogate():
    problem = Quartic(scale=[1.0, 3.0])
    sol = rr.solve(problem, "sca", start={"x": [0.2, 1.5]})
    np.testing.assert_allclose(sol.x["x"], np.sqrt(0.5), rtol=1e-4)
    assert sol.objective == pytest.approx(-1.0, abs=1e-8)
    one = rr.solve(problem, "sca", start={"x": [0.2, 1.5]}, max_iter=1)
    np.testing.assert_allclose(one.x["x"], np.cbrt([0.1, 0.75]), rtol=1e-4)


def test_minimum_rates_are_refused_with_the_reason():
    with pytest.raises(NotOffered, match="minimum rates"):
        rr.solve(SumRate.dccp37(minimum_rate=0.5), "sca")
