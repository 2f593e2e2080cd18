"""verify: recomputes everything, believes nobody; KKT residuals against hand calculations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import Bowl, JointRate, Says, StrangerEach, Waves, offering

import rralloc as rr
from rralloc.derivatives import linearise
from rralloc.errors import NotOffered
from rralloc.fields import Constraint, data, variable
from rralloc.numerics.complex_step import gradient
from rralloc.problem import Problem
from rralloc.problems import (
    DeviceCount,
    FDMARate,
    FEELScheduling,
    InverseWaterFilling,
    SumRate,
    WaterFilling,
)
from rralloc.typing import Field
from rralloc.verify import kkt_residual, violation

TWO = WaterFilling(gain=[[2.0, 1.0], [4.0, 0.5]], power_budget_w=[3.0, 1.0])


# -- what it recomputes ---------------------------------------------------------------------------


def test_objective_and_residuals_by_hand():
    report = rr.verify(TWO, {"power_w": [[1.0, 1.0], [1.5, -0.5]]})
    np.testing.assert_allclose(report.objective, [np.log2(3 * 2), np.log2(7 * 0.75)], rtol=1e-14)
    np.testing.assert_allclose(report.violation, [0.0, 0.5], rtol=1e-14)
    low, total = report.checks
    assert (low.name, low.unit, low.index, low.slack) == ("power_w >= 0", "W", (1, 1), -0.5)
    assert low.violation == pytest.approx(0.5)
    assert (total.name, total.unit, total.violation) == ("total power", "W", 0.0)
    assert total.index == (1,)
    assert not report.ok()
    assert report.ok(feas_tol=0.6)


def test_the_table_names_what_is_wrong_where_and_in_which_unit():
    text = str(rr.verify(TWO, {"power_w": [[1.0, 1.0], [1.5, -0.5]]}))
    assert text.startswith("objective ")
    bad = next(line for line in text.splitlines() if line.startswith("BAD"))
    assert "power_w >= 0" in bad
    assert "-5.000e-01 W at [1, 1]" in bad
    assert "ok  total power" in text


def test_worst_index_of_three_violations():
    problem = Bowl(centre=np.zeros((2, 3)))
    x = np.array([[0.5, 1.2, 0.5], [-0.1, 1.7, 0.5]])
    report = rr.verify(problem, {"x": x})
    checks = {c.name: c for c in report.checks}
    assert checks["x <= 1"].index == (1, 1)
    assert checks["x <= 1"].violation == pytest.approx(0.7)
    assert checks["x >= 0"].index == (1, 0)
    np.testing.assert_allclose(report.violation, [0.2, 0.7])


@pytest.mark.parametrize("total", [0.9, 1.1])
def test_an_equality_is_violated_on_either_side(total):
    problem = Bowl(centre=[0.0, 0.0], budget=1.0, exact=True)
    report = rr.verify(problem, {"x": [total / 2, total / 2]})
    assert report.violation == pytest.approx(0.1)
    inequality = rr.verify(problem.replace(exact=False), {"x": [total / 2, total / 2]})
    assert inequality.violation == pytest.approx(max(0.0, total - 1))
    assert rr.verify(problem, {"x": [0.25, 0.75]}).ok()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_ok(value):
    report = rr.verify(TWO, {"power_w": [[1.0, 1.0], [value, 0.0]]})
    assert report.violation[0] == 0
    assert report.violation[1] == np.inf
    assert not report.ok()
    assert not report.ok(feas_tol=1e6)


def test_a_budget_of_zero_is_met_by_zero_only():
    problem = WaterFilling(gain=[1.0, 2.0], power_budget_w=0.0)
    assert rr.verify(problem, {"power_w": [0.0, 0.0]}).violation == 0
    assert rr.verify(problem, {"power_w": [0.0, 1e-300]}).violation == np.inf


def test_points_are_broadcast_and_solutions_are_taken():
    assert rr.verify(TWO, {"power_w": 0.5}).ok()
    sol = rr.solve(TWO)
    np.testing.assert_array_equal(rr.verify(TWO, sol).objective, sol.objective)
    with pytest.raises(NotOffered, match=r"power_w has shape \(3,\); the problem needs \(2, 2\)"):
        rr.verify(TWO, {"power_w": np.ones(3)})
    with pytest.raises(NotOffered, match="lacks power_w; it has"):
        rr.verify(TWO, {"power": np.ones(2)})


def test_false_claims_of_derived_variables_are_reported():
    problem = DeviceCount.random(K=3, rng=0)
    x = {"bandwidth_hz": np.array([5e5, 0.0, 5e5])}
    honest = rr.verify(problem, x | {"selected": np.array([True, False, True])})
    assert honest.false_claims == ()
    assert honest.ok()
    liar = rr.verify(problem, x | {"selected": np.array([True, True, True])})
    assert liar.false_claims == ("selected",)
    assert not liar.ok()
    assert "BAD false claim: selected" in str(liar)
    assert liar.objective == honest.objective
    assert rr.verify(problem, x).ok()


def test_a_solver_cannot_claim_a_derived_variable():
    problem = DeviceCount.random(K=3, batch=2, rng=0)
    x = problem.initial()
    act = offering(**x, selected=np.zeros((2, 3), dtype=bool))
    sol = rr.solve(problem, Says(act=act))
    assert sol.selected.all()


def test_nothing_a_solver_says_is_read():
    problem = WaterFilling.random(K=3, rng=0)

    def act(problem, start, run):
        run.offer({"power_w": np.array([99.0, -3.0, np.nan])}, witness={"water_level_w": 1e-9})
        run.count(1)
        run.end(rr.Stopped.CONVERGED, "solved to global optimality")

    sol = rr.solve(problem, StrangerEach(act=act))
    report = rr.verify(problem, sol)
    assert sol.status == rr.Status.VIOLATED
    assert sol.violation == report.violation == np.inf
    assert not report.ok()


# -- KKT by hand ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("centre", "x", "budget", "exact", "residual"),
    [
        ([0.4], [0.4], np.inf, False, 0.0),  # interior optimum
        # The measure is |f - f0| from the start x0 = 1/2 of each coordinate; here f0 = 0, f = 1/16
        # and the gradient is -1/2.
        ([0.5], [0.25], np.inf, False, 8.0),
        ([2.0], [1.0], np.inf, False, 0.0),  # upper bound holds it
        ([-1.0], [0.0], np.inf, False, 0.0),  # lower bound holds it
        ([0.5], [1.0], np.inf, False, 4.0),  # at a bound, but pulled inwards: 1 over 1/4
        ([0.5], [0.0], np.inf, False, 4.0),
        ([1.0, 1.0], [0.5, 0.5], 1.0, False, 0.0),  # budget holds both alike
        ([1.0, 1.0], [0.25, 0.75], 1.0, False, 4.0),  # (-3/2, -1/2) less 1; 5/8 - 1/2
        ([0.0, 0.0], [0.5, 0.5], 1.0, False, 2.0),  # from inside only; x is x0: 1 over f
        ([0.0, 0.0], [0.5, 0.5], 1.0, True, 0.0),  # an equality holds from both sides
        ([0.0, 0.0], [0.25, 0.75], 1.0, True, 4.0),
    ],
)
def test_kkt_residual_by_hand(centre, x, budget, exact, residual):
    problem = Bowl(centre=centre, budget=budget, exact=exact)
    found = rr.verify(problem, {"x": x}).kkt
    assert found == pytest.approx(residual, abs=1e-12)


def test_a_constant_in_the_objective_hides_nothing():
    """2 * 0.4 of slope over 0.16 of change, whatever is added to both values."""
    for offset in (0.0, 1e6):
        found = rr.verify(Bowl(centre=[0.5], offset=offset), {"x": [0.9]}).kkt
        assert found == pytest.approx(0.8 / 0.16, rel=1e-6)


def test_a_steep_slope_held_by_a_bound_hides_nothing():
    """p1 = 0 is held by a slope of 1e6; p2 = 1/2 may still gain 1/(1.5 ln 2) for each watt."""
    links = SumRate(gain=[[1e-3, 0.0], [1e6, 1.0]], noise_w=1.0, power_max_w=1.0)
    assert rr.verify(links, {"power_w": [0.0, 0.5]}).kkt > 1


def test_kkt_residual_of_a_maximum_has_the_other_sign():
    problem = WaterFilling(gain=[2.0, 1.0], power_budget_w=3.0)
    at = rr.solve(problem).power_w
    assert rr.verify(problem, {"power_w": at}).kkt < 1e-12
    assert rr.verify(problem, {"power_w": 0.9 * at}).kkt > 0.1  # money left
    assert rr.verify(problem, {"power_w": at + np.array([0.3, -0.3])}).kkt > 0.01
    assert rr.verify(problem, {"power_w": [3.0, 0.0]}).kkt > 0.01


def test_kkt_is_per_instance_and_only_where_asked():
    problem = Bowl(centre=[[0.5], [0.5], [0.5]])
    x = {"x": np.array([[0.5], [0.25], [0.5]])}
    np.testing.assert_allclose(kkt_residual(problem, x), [0.0, 8.0, 0.0], atol=1e-12)
    some = kkt_residual(problem, x, np.array([True, False, False]))
    assert some[0] == 0
    assert np.isnan(some[1:]).all()


def test_without_derivatives_there_is_no_kkt_and_no_local():
    problem = JointRate.random(K=2, rng=0)
    assert np.isnan(rr.verify(problem, problem.initial()).kkt)
    assert rr.solve(problem, "alternating").status == rr.Status.FEASIBLE


def test_local_needs_a_stationary_point():
    problem = Bowl(centre=[0.5, 0.5])
    for x, status in (([0.5, 0.5], rr.Status.LOCAL), ([0.5, 0.4], rr.Status.FEASIBLE)):
        sol = rr.solve(problem.flat(), Says(act=offering(x=[x])))
        assert sol.status[0] == status
    hill = Waves(centre=[0.0])  # symmetric: 0 is stationary and the lowest
    assert rr.verify(hill, {"x": [0.0]}).kkt < 1e-12


# -- derivatives ----------------------------------------------------------------------------------

SMOOTH = [WaterFilling, InverseWaterFilling, FDMARate, FEELScheduling, SumRate]


@given(st.sampled_from(SMOOTH), st.integers(0, 10_000))
def test_complex_step_equals_finite_differences(cls, seed):
    problem = cls.random(K=3, rng=seed)
    rng = np.random.default_rng(seed)
    start, drawn = problem.initial(), problem.sample(rng)
    x = {n: 0.6 * start[n] + 0.4 * drawn[n] for n in start}
    slopes = gradient(problem.objective, x)
    own = problem.gradient(x)
    for name, value in x.items():
        np.testing.assert_allclose(own[name], slopes[name], rtol=1e-9)
        for k in range(value.size):
            step = 1e-5 * max(abs(value[k]), 1e-12)
            near = [
                problem.objective(x | {name: value + t * step * np.eye(value.size)[k]})
                for t in (-2, -1, 1, 2)
            ]
            taken = (near[0] - 8 * near[1] + 8 * near[2] - near[3]) / (12 * step)
            rounding = 1e-14 * abs(near[0]) / step
            assert abs(slopes[name][k] - taken) <= 1e-6 * abs(taken) + 10 * rounding


@pytest.mark.parametrize("cls", [*SMOOTH, Bowl])
def test_constraint_jacobians_equal_finite_differences(cls):
    problem = (
        Bowl(centre=[0.2, 0.7, 0.9], budget=1.5, exact=True)
        if cls is Bowl
        else SumRate.dccp37(minimum_rate=0.1)
        if cls is SumRate
        else cls.random(K=3, rng=0)
    )
    x = problem.sample(np.random.default_rng(1))
    here = linearise(problem, x)
    (name,) = x
    scale = np.broadcast_to(problem.limits(getattr(cls, name))[2], x[name].shape)
    for k in range(x[name].size):
        step = np.eye(x[name].size)[k] * scale * 1e-6
        ends = [linearise(problem, {name: x[name] + s * step}).slack for s in (-1, 1)]
        np.testing.assert_allclose(here.jacobian[:, k], (ends[1] - ends[0]) / 2e-6, atol=1e-6)


class Ring(Problem):
    """min x + y on the circle x^2 + y^2 = 1."""

    sense = "min"
    radius: Field = data(unit="1", low=0)
    point = variable("C", unit="1", low=-2, high=2)
    axis: Field = data("C", unit="1", default=1.0)

    def objective(self, x):
        return (self.axis * x["point"]).sum(-1)

    def constraints(self, x):
        slack = (x["point"] ** 2).sum(-1) - self.radius**2
        return (Constraint("circle", slack, "1", 1.0, equality=True),)


def test_a_nonlinear_equality():
    problem = Ring(radius=1.0, axis=[1.0, 1.0])
    low = -np.ones(2) / np.sqrt(2)
    assert rr.verify(problem, {"point": low}).kkt < 1e-9
    assert rr.verify(problem, {"point": -low}).kkt < 1e-9  # the maximum is stationary too
    assert rr.verify(problem, {"point": [1.0, 0.0]}).kkt > 0.5
    sol = rr.solve(problem, "scipy:slsqp", start={"point": [0.0, -1.0]})
    assert sol.objective == pytest.approx(-np.sqrt(2), abs=1e-7)
    assert violation(problem, sol.x) <= 1e-9
