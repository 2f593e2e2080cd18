"""Edges of ``verify`` and ``solution``: each test here kills a mutant that the others let live.

``benchmarks/mutation.py`` makes the mutants; expected values are worked out by hand.
"""

import dataclasses
import pickle

import numpy as np
import pytest
from toys import Bowl, Says, offering

import rralloc as rr
from rralloc.errors import NotOffered
from rralloc.fields import Constraint, data, option, variable
from rralloc.problem import Problem
from rralloc.problems import WaterFilling
from rralloc.solution import Trace, codes
from rralloc.typing import Field
from rralloc.verify import Check, Report


class Plane(Problem):
    """min slope' x + offset, x >= low in units of ``scale``; its start is given."""

    sense = "min"
    slope: Field = data("K", unit="1")
    start: Field = data("K", unit="1", default=0.5)
    low: Field = data("K", unit="1", inf=True, default=0.0)
    scale: Field = data("K", unit="1", low=0, default=1.0)
    offset: Field = data(unit="1", default=0.0)
    room: Field = data(unit="1", inf=True, default=np.inf)
    x = variable("K", unit="1", low="low", scale="scale")

    def objective(self, x):
        return (self.slope * x["x"]).sum(-1) + self.offset

    def constraints(self, x):
        if np.isinf(self.room).all():
            return ()
        return (Constraint("room", self.room - x["x"].sum(-1), "1", 1.0),)

    def points(self):
        return {"start": lambda: {"x": np.broadcast_to(self.start, self.shape_of(type(self).x))}}


class Kinds(Problem):
    """min sum x: a free, a whole, a derived variable, and one of the complex plane."""

    sense = "min"
    target: Field = data("K", unit="1")
    with_beam: bool = option(default=False)
    x = variable("K", unit="m", high=9, scale=3.0)
    count = variable("K", unit="1", low=0, high=5, scale=5.0, dtype=int)
    total = variable(unit="1", low=0, high=1, derived=True)
    beam = variable("K", unit="1", dtype=complex, when="with_beam")

    def objective(self, x):
        return ((x["x"] - self.target) ** 2).sum(-1) + 0 * x["count"].sum(-1)

    def complete(self, x):
        return x | {"total": x["x"].sum(-1)}


class Pair(Problem):
    """min -x + (y - 2)^2 on 0 <= x, y <= 1, with what follows from them."""

    sense = "min"
    one: Field = data(unit="1", default=1.0)
    total = variable(unit="1", derived=True)
    x = variable(unit="1", low=0, high=1)
    y = variable(unit="1", low=0, high=1)

    def objective(self, x):
        return self.one * (-x["x"] + (x["y"] - 2) ** 2)

    def complete(self, x):
        return x | {"total": x["x"] + x["y"]}


def kkt(problem, **x):
    return rr.verify(problem, {n: np.array(v, dtype=float) for n, v in x.items()}).kkt


# -- the report -----------------------------------------------------------------------------------


def check_of(violation):
    return Check("total power", violation, -1.0, "W", (0,))


@pytest.mark.parametrize(
    ("violation", "mark"), [(0.0, "ok "), (5e-10, "ok "), (1e-9, "ok "), (2e-9, "BAD"), (1, "BAD")]
)
def test_the_mark_changes_above_one_in_a_thousand_million(violation, mark):
    assert str(check_of(violation)).startswith(mark)


def report_of(violation, kkt=np.nan):
    return Report(1.0, violation, kkt, (check_of(0.0),), (), "W", "min")


@pytest.mark.parametrize(("violation", "fine"), [(5e-10, True), (1e-9, True), (2e-9, False)])
def test_ok_has_the_same_tolerance_and_includes_it(violation, fine):
    assert report_of(violation).ok() is fine
    assert report_of(np.array([0.0, violation])).ok() is fine
    assert report_of(0.25).ok(feas_tol=0.25)


def test_the_table_shows_the_worst_kkt_residual_that_is_known():
    assert "KKT residual 2.0e-02" in str(report_of(0.0, np.array([np.nan, 1e-3, 2e-2])))
    assert "KKT" not in str(report_of(0.0, np.array([np.nan, np.nan])))


def solution():
    return rr.solve(WaterFilling(gain=[2.0, 1.0], power_budget_w=3.0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: check_of(0.0),
        lambda: report_of(0.0),
        lambda: Trace([{"lane": 0}]),
        solution,
    ],
    ids=["check", "report", "trace", "solution"],
)
def test_what_is_reported_is_frozen_and_equal_to_itself_only(make):
    """Of arrays there is no one answer to ==; identity is."""
    thing = make()
    name = dataclasses.fields(thing)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(thing, name, None)
    again = dataclasses.replace(thing)
    assert thing == thing  # never by their arrays
    assert (thing == again) is False
    assert len({thing, again}) == 2


# -- residuals ------------------------------------------------------------------------------------


def test_a_missing_number_is_no_false_claim():
    problem = WaterFilling(gain=[2.0, 1.0], power_budget_w=3.0)
    report = rr.verify(problem, {"power_w": [np.nan, 1.0]})
    assert report.false_claims == ()
    assert report.violation == np.inf


@pytest.mark.parametrize("beam", [False, True])
def test_bounds_are_checked_where_a_variable_is_chosen_real_and_bounded(beam):
    problem = Kinds(target=[1.0, 2.0], with_beam=beam)
    x = {"x": [1.0, 8.0], "count": [2.0, 5.0]} | ({"beam": [1j, 2.0]} if beam else {})
    report = rr.verify(problem, x)
    names = ["x <= 9", "count is an integer", "count >= 0", "count <= 5"]
    assert [c.name for c in report.checks] == names  # total = 9 is derived: no bound of its own
    assert report.ok()


@pytest.mark.parametrize(("count", "off"), [(2.25, 0.25), (1.75, 0.25), (3.0, 0.0), (0.5, 0.5)])
def test_a_whole_number_is_missed_by_its_distance_on_either_side(count, off):
    report = rr.verify(Kinds(target=[1.0]), {"x": [0.0], "count": [count]})
    whole = next(c for c in report.checks if "integer" in c.name)
    assert report.violation == whole.violation == off
    assert whole.slack == -off
    assert whole.unit == "1"


def test_the_slack_of_an_equality_is_how_far_it_is_missed():
    problem = Bowl(centre=[0.0, 0.0], budget=1.0, exact=True)
    for total in (0.75, 1.25):
        report = rr.verify(problem, {"x": [total / 2, total / 2]})
        assert {c.name: c.slack for c in report.checks}["sum"] == -0.25


def test_the_tightest_index_is_that_of_the_scaled_slack():
    """Slacks 1 and 3; in units of 1 and 10 the second is the tighter."""
    report = rr.verify(Plane(slope=[1.0, 1.0], scale=[1.0, 10.0]), {"x": [1.0, 3.0]})
    (bound,) = report.checks
    assert bound.index == (1,)
    assert bound.slack == 1.0


# -- KKT ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("off", "status"), [(2.5e-6, "FEASIBLE"), (2.5e-7, "LOCAL")])
def test_local_means_a_residual_of_at_most_one_in_ten_thousand(off, status):
    """Residual 2 d over the change 0.01 from the start: 200 d, 5e-4 and 5e-5."""
    problem = Bowl(centre=[0.4])
    assert kkt(problem, x=[0.4 + off]) == pytest.approx(200 * off, rel=1e-3)
    sol = rr.solve(problem, Says(act=offering(x=[[0.4 + off]])))
    assert sol.status == rr.Status[status]


@pytest.mark.parametrize(("slack", "held"), [(3e-7, True), (3e-6, False)])
def test_a_bound_is_active_within_a_millionth(slack, held):
    assert (kkt(Bowl(centre=[2.0]), x=[1.0 - slack]) < 1e-9) == held
    assert (kkt(Plane(slope=[1.0], offset=1.0), x=[slack]) < 1e-9) == held
    assert (kkt(Plane(slope=[-1.0], room=1.0), x=[1.0 - slack]) < 1e-9) == held


def test_exactly_a_millionth_is_active():
    """Of a lower bound, an upper bound, a constraint."""
    assert kkt(Plane(slope=[1.0], offset=1.0), x=[1e-6]) == 0

    class Ceiling(Plane):
        x = variable("K", unit="1", high=1e-6)

    assert kkt(Ceiling(slope=[-1.0], offset=1.0), x=[0.0]) == 0
    assert kkt(Plane(slope=[-1.0], room=1e-6, low=-5.0, offset=1.0), x=[0.0]) == 0


def test_active_is_measured_in_units_of_the_variable():
    """3e-5 of 100 is next to the bound, 3e-7 of 0.01 is not; the same from above."""
    assert kkt(Plane(slope=[1.0], scale=100.0, offset=1.0), x=[3e-5]) == pytest.approx(0, abs=1e-12)
    assert kkt(Plane(slope=[1.0], scale=0.01, offset=1.0), x=[3e-7]) > 1e-3

    class Ceiling(Plane):
        x = variable("K", unit="1", high=0.0, scale="scale")

    assert kkt(Ceiling(slope=[-1.0], scale=100.0, offset=1.0, start=-1.0), x=[-3e-5]) < 1e-12
    assert kkt(Ceiling(slope=[-1.0], scale=0.01, offset=1.0, start=-1.0), x=[-3e-7]) > 1e-3


def test_the_bounds_of_every_variable_hold_and_derived_ones_have_none():
    assert kkt(Pair(), x=1.0, y=1.0) == 0
    assert kkt(Pair(), x=1.0, y=0.5) > 0.1
    assert kkt(Pair(), x=0.5, y=1.0) > 0.1


def test_the_measure_is_the_change_from_the_start_for_one_unit_of_movement():
    """Slope 2 x 10 per unit of 10; change 2 (30 - 5) = 50, spread max(30, 1)/10 = 3."""
    problem = Plane(slope=[2.0, 0.0], scale=10.0, start=[5.0, 1.0], low=-np.inf)
    assert kkt(problem, x=[30.0, 1.0]) == pytest.approx(20.0 / (50.0 / 3.0), rel=1e-12)


@pytest.mark.parametrize(
    ("change", "size"), [(1.0, 1e8), (0.5, 1e8), (5.0, 5.0), (-5.0, 5.0), (2.0, 2.0)]
)
def test_a_change_of_up_to_1e_minus_8_of_the_value_is_none(change, size):
    """Slope 1 over |change|, or over the value 1e8 where the change is lost in it."""
    problem = Plane(slope=[1.0], low=-np.inf, start=-change, offset=1e8)
    assert kkt(problem, x=[0.0]) == pytest.approx(1.0 / size, rel=1e-12)


def test_where_nothing_changed_from_zero_the_steepest_slope_is_the_measure():
    problem = Plane(slope=[0.25, -0.125], low=-np.inf, start=0.0)
    assert kkt(problem, x=[0.0, 0.0]) == 1.0
    assert kkt(Plane(slope=[0.0, 0.0], low=-np.inf, start=0.0), x=[0.0, 0.0]) == 0.0


class Cliff(Plane):
    """Infinite at its start; gradient as told."""

    told: tuple = option(default=(0.25, -0.125))
    height: float = option(default=0.0)

    def objective(self, x):
        cliff = np.where((x["x"] == self.start).all(-1), np.inf, self.height)
        return np.broadcast_to(cliff, x["x"].shape[:-1])

    def gradient(self, x):
        return {"x": np.array(self.told)}


def test_from_an_infinite_start_the_steepest_slope_is_the_measure():
    assert kkt(Cliff(slope=[0.0, 0.0], low=-np.inf), x=[0.0, 0.0]) == 1.0


@pytest.mark.parametrize(
    "settings",
    [{"told": (np.inf, 1.0)}, {"told": (1.0, np.nan)}, {"height": np.inf}, {"height": np.nan}],
)
def test_without_a_finite_value_and_gradient_there_is_no_residual(settings):
    assert np.isnan(kkt(Cliff(slope=[0.0, 0.0], low=-np.inf, **settings), x=[0.0, 0.0]))


@pytest.mark.parametrize("told", [(np.inf, 1.0), (1.0, np.nan)])
def test_one_slope_that_is_not_finite_makes_the_residual_unknown(told):
    """The measure is finite here, and the residual would be infinite or that of the others."""

    class Told(Plane):
        def gradient(self, x):
            return {"x": np.array(told)}

    assert np.isnan(kkt(Told(slope=[1.0, 1.0], low=-np.inf), x=[3.0, 0.5]))


def test_a_gradient_of_a_problem_that_is_not_differentiable_is_not_asked_for():
    class Kinked(Plane):
        differentiable = False

        def gradient(self, x):
            return {"x": self.slope}

    assert np.isnan(kkt(Kinked(slope=[1.0]), x=[0.5]))


def test_a_gradient_that_is_refused_leaves_every_instance_unknown():
    class Refusing(Plane):
        def gradient(self, x):
            raise NotOffered("not here")

    found = kkt(Refusing(slope=[[1.0], [2.0]]), x=[[0.5], [0.5]])
    assert np.isnan(found).tolist() == [True, True]


def test_where_nnls_gives_up_no_multiplier_is_a_valid_one(monkeypatch):
    """One active row of two columns: the slope itself, over change 1 and spread 1."""

    def tired(matrix, vector):
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr("scipy.optimize.nnls", tired)
    problem = Plane(slope=[1.0, -0.5], start=[1.0, 0.5], low=[0.0, -np.inf])
    assert kkt(problem, x=[0.0, 0.5]) == pytest.approx(1.0, rel=1e-12)


# -- solutions ------------------------------------------------------------------------------------


def test_members_and_arrays_differ_as_numbers_do():
    assert (rr.Status.LOCAL != rr.Status.GLOBAL) is True
    assert (rr.Status.LOCAL != rr.Status.LOCAL) is False
    found = codes(np.array([3, 5]), rr.Status)
    assert (found != rr.Status.GLOBAL).tolist() == [True, False]
    assert (found == rr.Status.GLOBAL).tolist() == [False, True]


def test_a_trace_is_rows_and_their_columns():
    rows = [
        {"lane": 0, "objective": 1.0},
        {"lane": 1, "objective": 5.0, "gap": 0.5},
        {"lane": 0, "objective": 2.0, "gap": 0.25},
        {"lane": -1, "objective": 7.0},
    ]
    trace = Trace(rows)
    assert len(trace) == 4
    assert len(Trace()) == 0
    assert repr(trace) == "<Trace: 4 rows of 3 instances>"
    assert trace.column("objective").tolist() == [1.0, 2.0]
    assert trace.column("gap").tolist() == [0.25]
    assert trace.column("objective", lane=1).tolist() == [5.0]
    frame = trace.to_dataframe()
    assert frame["objective"].tolist() == [1.0, 5.0, 2.0, 7.0]
    assert list(frame.columns) == ["lane", "objective", "gap"]


@pytest.mark.parametrize("index", [1, slice(1, None), [2, 0], (np.array([True, False, True]),)])
def test_some_instances_of_a_solution_keep_every_number(index):
    whole = rr.solve(WaterFilling.random(K=3, batch=3, rng=0), "level")
    some = whole[index]
    assert some.problem == whole.problem[index]
    assert whole.iterations.ndim == 1
    for name in ("objective", "bound", "gap", "violation", "raw_violation", "kkt", "iterations"):
        expected = getattr(whole, name)[index]
        np.testing.assert_array_equal(getattr(some, name), expected, strict=True)
    for name in ("status", "stopped"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[index])
    assert some.duals.keys() == whole.duals.keys() == {"water_level_w"}
    for name in some.duals:
        np.testing.assert_array_equal(some.duals[name], whole.duals[name][index])
    np.testing.assert_array_equal(some.x["power_w"], whole.x["power_w"][index])
    assert (some.solver, some.seconds, some.trace) == (whole.solver, whole.seconds, whole.trace)


def test_a_solution_answers_with_its_variables_and_no_other_name():
    sol = solution()
    assert sol.power_w is sol.x["power_w"]
    with pytest.raises(AttributeError, match=r"Solution has no 'power'; variables: power_w"):
        _ = sol.power
    assert not hasattr(pickle.loads(pickle.dumps(sol)), "powr_w")


def test_a_solution_is_described_and_drawn():
    sol = solution()
    assert repr(sol).startswith("<WaterFilling by closed-form: global, objective ")
    import matplotlib.pyplot as plt

    figure = sol.plot()
    assert figure.axes
    plt.close(figure)
