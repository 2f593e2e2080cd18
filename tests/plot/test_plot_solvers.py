"""Convergence and solver comparison figures."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import rralloc as rr
from rralloc.plot import convergence, time_against_gap
from rralloc.problems import SumRate, WaterFilling


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def runs() -> dict[str, rr.Solution]:
    problem = SumRate.dccp37()
    return {n: rr.solve(problem, n) for n in ("sca", "branch-and-bound", "baseline:strongest")}


def test_objective_follows_the_trace(runs: dict[str, rr.Solution]) -> None:
    left, right = convergence(runs).axes
    line = {x.get_label(): x for x in left.get_lines()}["_sca"]
    trace = runs["sca"].trace
    best = np.maximum.accumulate(trace.column("objective"))
    np.testing.assert_array_equal(line.get_ydata()[:-1], best)
    np.testing.assert_array_equal(line.get_xdata()[:-1], trace.column("seconds"))
    assert line.get_ydata()[-1] == runs["sca"].objective
    bound = runs["branch-and-bound"].bound
    gap = {x.get_label(): x for x in right.get_lines()}["_sca"]
    np.testing.assert_allclose(gap.get_ydata(), np.abs(line.get_ydata() - bound))


def test_axes_are_named_and_logarithmic(runs: dict[str, rr.Solution]) -> None:
    left, right = convergence(runs).axes
    assert left.get_ylabel() == "objective, maximised (bit/s/Hz)"
    assert right.get_ylabel() == "|objective - best bound| (bit/s/Hz)"
    assert right.get_yscale() == "log"
    assert left.get_xlabel() == "wall time (s)"
    assert "branch-and-bound" in right.get_title(loc="left")
    words = [t.get_text() for t in left.figure.legends[0].get_texts()]
    assert words == [*runs, "best bound"]


def test_a_solver_without_history_is_a_marker(runs: dict[str, rr.Solution]) -> None:
    left, _ = convergence({"rule": runs["baseline:strongest"]}).axes
    line = next(x for x in left.get_lines() if x.get_label() == "rule")
    assert len(line.get_xdata()) == 1
    assert line.get_marker() not in ("", "none", "None")


def test_iterations_on_the_axis(runs: dict[str, rr.Solution]) -> None:
    left, _ = convergence(runs, x="iterations").axes
    drawn = {x.get_label(): x.get_xdata() for x in left.get_lines()}
    np.testing.assert_array_equal(drawn["_sca"][:-1], runs["sca"].trace.column("iteration"))
    assert left.get_xlabel() == "iterations"
    assert left.get_xlim()[1] > max(float(r.iterations) for r in runs.values())


def test_infeasible_points_are_skipped() -> None:
    problem = SumRate.dccp37()
    sol = rr.solve(problem, "scipy:trust-constr")
    broken = sol.trace.column("violation") > 1e-9
    left, _ = convergence({"t": sol}).axes
    line = next(x for x in left.get_lines() if x.get_label() == "_t")
    assert len(line.get_xdata()) == (~broken).sum() + 1
    assert (np.diff(line.get_ydata()[:-1]) >= 0).all()


def test_one_lane_of_a_batch_and_exact_optima() -> None:
    sol = rr.solve(WaterFilling.random(K=5, batch=(2, 3), rng=0))
    left, right = convergence(sol, lane=4).axes
    end = next(x for x in left.get_lines() if x.get_label() == sol.solver)
    assert end.get_ydata()[0] == sol.objective[1, 1]
    assert (right.get_lines()[0].get_ydata() > 0).all()
    with pytest.raises(ValueError, match=r"\[0, 5\]"):
        convergence(sol, lane=6)


def test_without_a_bound_the_axis_says_so() -> None:
    sols = {
        n: rr.solve(SumRate.dccp37(), f"baseline:{n}", certify="none")
        for n in ("full-power", "strongest")
    }
    if any(np.isfinite(s.bound) for s in sols.values()):
        pytest.skip("a bound is known without certification")
    left, right = convergence(sols).axes
    assert right.get_ylabel().startswith("|objective - best objective found|")
    assert "best bound" not in [x.get_label() for x in left.get_lines()]


def test_convergence_refuses_mixtures(runs: dict[str, rr.Solution]) -> None:
    other = rr.solve(WaterFilling.random(K=3, rng=0))
    with pytest.raises(ValueError, match="different problems"):
        convergence(runs | {"other": other})
    with pytest.raises(ValueError, match="'seconds' or 'iterations'"):
        convergence(runs, x="hours")  # type: ignore[arg-type]


def test_convergence_in_given_axes(runs: dict[str, rr.Solution]) -> None:
    figure, pair = plt.subplots(1, 2)
    assert convergence(runs, axes=pair) is figure
    assert pair[0].get_legend() is not None


TABLE = pd.DataFrame(
    {
        "solver": ["newton", "level", "slsqp", "greedy", "pyomo"],
        "seconds": [0.01, 2e-4, 0.05, np.nan, 0.9],
        "gap": [0.0, 3e-13, 1e-7, np.nan, np.nan],
        "status": ["GLOBAL", rr.Status.GLOBAL, "local", "NONE", "VIOLATED"],
    }
)


def test_table_positions_are_its_numbers() -> None:
    (ax,) = time_against_gap(TABLE).axes
    drawn = {x.get_label().lstrip("_"): x for x in ax.get_lines()}
    assert set(drawn) == {"newton", "level", "slsqp", "pyomo"}
    for name in ("level", "slsqp"):
        row = TABLE[TABLE.solver == name].iloc[0]
        assert (drawn[name].get_xdata()[0], drawn[name].get_ydata()[0]) == (row.seconds, row.gap)
    ticks = {t.get_text(): t.get_position()[1] for t in ax.get_yticklabels()}
    assert drawn["newton"].get_ydata()[0] == ticks["0"] < 1e-13
    assert drawn["pyomo"].get_ydata()[0] == ticks["none"] > 1e-7
    assert ax.get_xlabel() == "wall time (s)"
    assert "gap" in ax.get_ylabel()
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_table_shows_status_names_and_what_did_not_run() -> None:
    figure = time_against_gap(TABLE)
    (ax,) = figure.axes
    fills = {x.get_label(): x.get_fillstyle() for x in ax.get_lines()}
    assert fills["_newton"] == "full"
    assert fills["_slsqp"] == "left"
    assert {t.get_text() for t in ax.texts} == {"newton", "level", "slsqp", "pyomo"}
    assert ax.get_title(loc="left") == "Did not run: greedy"
    words = [t.get_text() for t in figure.legends[0].get_texts()]
    assert words == ["all proven optimal", "stationary", "not all feasible"]


def test_labels_do_not_lie_on_each_other() -> None:
    figure = time_against_gap(TABLE)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    boxes = [t.get_window_extent(renderer) for t in figure.axes[0].texts]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_a_comparison_is_a_table() -> None:
    problems = {"a": SumRate.random(K=2, rng=0), "b": SumRate.random(K=2, rng=1)}
    found = rr.compare(problems, ["sca", "branch-and-bound"])
    figure = time_against_gap(found)
    (ax,) = figure.axes
    assert len(ax.get_lines()) == 4
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["sca", "branch-and-bound"]
    assert figure.rralloc_scenario.split() == [p.digest for p in problems.values()]


def test_a_table_in_which_nothing_ran_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing ran"):
        time_against_gap(TABLE[TABLE.solver == "greedy"])
