"""compare: nothing hidden, resumable, the same in other processes."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from toys import SaysEach, StrangerEach, offering, sleeper

import rralloc as rr
from rralloc.errors import UnknownName
from rralloc.problems import SumRate, WaterFilling
from rralloc.solvers import LevelSolver
from rralloc.study import Comparison, Row

SOLVERS = ["closed-form", "level", "baseline:equal", "sca"]


def water(seed=0, batch=3):
    return WaterFilling.random(K=4, batch=batch, rng=seed)


def broken(problem, start, run):
    raise ZeroDivisionError("kaput")


def test_rows_by_hand():
    problem = water()
    found = rr.compare(problem, SOLVERS)
    rows = {r.solver: r for r in found.rows}
    assert list(rows) == SOLVERS
    best = rr.solve(problem)
    equal = rr.solve(problem, "baseline:equal")
    assert rows["closed-form"].objective == pytest.approx(best.objective.mean())
    assert rows["closed-form"].solved == rows["closed-form"].proven == 3
    assert rows["closed-form"].loss <= 1e-12
    assert rows["closed-form"].stopped == "converged"
    loss = np.mean(1 - equal.objective / best.objective)
    assert rows["baseline:equal"].loss == pytest.approx(loss, rel=1e-9)
    assert rows["baseline:equal"].gap == pytest.approx(np.nanmax(equal.gap))
    assert rows["baseline:equal"].proven == 0
    assert rows["closed-form"].digest == problem.digest


def test_failures_are_rows():
    deviants = [
        "level",
        "sca",
        "cvxpy:NOPE",
        SaysEach(act=broken),
        StrangerEach(act=broken),
    ]
    found = rr.compare(water(), deviants)
    rows = found.rows
    assert len(rows) == 5
    assert rows[1].message == "does not apply: WaterFilling has no Surrogate form"
    assert rows[2].message.startswith("does not apply: cvxpy has no engine 'NOPE'")
    assert rows[3].message == "failed: ZeroDivisionError: kaput"
    assert "ZeroDivisionError: kaput" in rows[4].message
    assert rows[4].stopped == "error"
    assert [r.solved for r in rows] == [3, 0, 0, 0, 0]
    assert len(found.to_dataframe()) == 5
    text = found.summary()
    for words in ("kaput", "no engine 'NOPE'", "no Surrogate form"):
        assert words in text


def test_a_misspelt_solver_is_an_error():
    with pytest.raises(UnknownName, match="Did you mean 'level'"):
        rr.compare(water(), ["closed-form", "levle"])


def test_a_time_limit_is_per_row():
    found = rr.compare(water(), [SaysEach(act=sleeper), "level"], time_limit=0.15)
    slow, quick = found.rows
    assert slow.stopped == "time"
    assert slow.solved == 1
    assert slow.seconds < 2
    assert quick.stopped == "converged"
    assert quick.solved == 3


def test_problems_alone_in_a_list_and_by_name():
    assert {r.problem for r in rr.compare(water(), ["level"]).rows} == {"WaterFilling"}
    listed = rr.compare([water(0), water(1)], ["level", "baseline:best"])
    assert [r.problem for r in listed.rows] == ["WaterFilling 0"] * 2 + ["WaterFilling 1"] * 2
    named = rr.compare({"a": water(0), "b": SumRate.random(K=2, rng=0)})
    assert {r.problem for r in named.rows} == {"a", "b"}
    assert {r.solver for r in named.rows if r.problem == "a"} == set(rr.solvers_for(water(0)))


def test_solvers_may_be_a_generator():
    found = rr.compare([water(0), water(1)], (s for s in ["level", "closed-form"]))
    assert [r.solver for r in found.rows] == ["level", "closed-form"] * 2


def test_two_settings_of_one_solver_are_two_solvers():
    found = rr.compare(water(), [LevelSolver(), LevelSolver(method="bisection"), "level"])
    labels = [r.solver for r in found.rows]
    assert labels == ["level", "level(method='bisection')", "level"]
    newton, halving, _ = found.rows
    assert halving.iterations > newton.iterations


def test_a_mixed_ending_is_spelled_out():
    def act(problem, start, run):
        run.offer(problem.initial())
        if problem.gain[0] > np.median(water().gain[:, 0]):
            run.end(rr.Stopped.STALLED, "stuck")

    (row,) = rr.compare(water(), [SaysEach(act=act)]).rows
    assert row.stopped == "2 converged, 1 stalled"


# -- resuming -------------------------------------------------------------------------------------


def plain(rows):
    """Rows without what the clock said."""
    kept = []
    for row in rows:
        values = dict(vars(row))
        for name in ("seconds", "cpu_seconds"):
            values.pop(name)
        kept.append({k: None if v != v else v for k, v in values.items()})
    return kept


def test_a_second_call_reads_what_the_first_wrote(tmp_path):
    path = tmp_path / "deep" / "rows.jsonl"
    problems = [water(0), water(1)]
    first = rr.compare(problems, SOLVERS, path=path)
    assert len(path.read_text().splitlines()) == 8
    second = rr.compare(problems, SOLVERS, path=path)
    assert plain(second.rows) == plain(first.rows)
    assert second.solutions == {}
    assert len(path.read_text().splitlines()) == 8
    assert [r.seconds for r in second.rows if r.solved] == [
        r.seconds for r in first.rows if r.solved
    ]


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_line_cut_short_by_a_kill_is_computed_again(tmp_path, cut):
    path = tmp_path / "rows.jsonl"
    whole = rr.compare(water(), SOLVERS, path=path)
    path.write_text(path.read_text()[:-cut])
    again = rr.compare(water(), SOLVERS, path=path)
    assert plain(again.rows) == plain(whole.rows)
    once_more = rr.compare(water(), SOLVERS, path=path)
    assert once_more.solutions == {}  # the line written after the broken one was readable
    assert plain(once_more.rows) == plain(whole.rows)


@pytest.mark.parametrize("junk", ["", "\n\n", "not json\n", "3\n", "[]\n", '{"solver": "level"}\n'])
def test_foreign_lines_are_skipped(tmp_path, junk):
    path = tmp_path / "rows.jsonl"
    path.write_text(junk)
    assert len(rr.compare(water(), ["level"], path=path).rows) == 1
    assert rr.compare(water(), ["level"], path=path).solutions == {}


def test_a_solver_added_later_is_compared_with_the_old_ones(tmp_path):
    path = tmp_path / "rows.jsonl"
    rr.compare(water(), ["baseline:equal"], path=path)
    later = rr.compare(water(), ["baseline:equal", "level"], path=path)
    fresh = rr.compare(water(), ["baseline:equal", "level"])
    assert [r.solver for r in later.rows] == ["baseline:equal", "level"]
    assert [r.loss for r in later.rows] == pytest.approx([r.loss for r in fresh.rows])
    pd_later, pd_fresh = later.profile("iterations"), fresh.profile("iterations")
    assert pd_later.equals(pd_fresh)


def test_another_instance_is_another_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    rr.compare({"a": water(0)}, ["level"], path=path)
    (row,) = rr.compare({"b": water(0)}, ["level"], path=path).rows
    assert row.problem == "b"
    (other,) = rr.compare({"b": water(1)}, ["level"], path=path).rows
    assert other.digest != row.digest
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(written) == 2


# -- elsewhere ------------------------------------------------------------------------------------


def test_threads_and_processes_give_the_same_rows():
    problems = {"water": water(), "links": SumRate.random(K=3, batch=2, rng=0)}
    names = ["level", "sca", "baseline:full-power", "baseline:equal"]
    here = rr.compare(problems, names)
    with ThreadPoolExecutor(2) as threads:
        assert plain(rr.compare(problems, names, executor=threads).rows) == plain(here.rows)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as processes:
        there = rr.compare(problems, names, executor=processes)
    assert plain(there.rows) == plain(here.rows)
    for key, sol in here.solutions.items():
        np.testing.assert_array_equal(there.solutions[key].objective, sol.objective)
        assert there.solutions[key].stopped.counts() == sol.stopped.counts()


# -- what it shows --------------------------------------------------------------------------------


def test_summary_puts_the_best_first():
    text = rr.compare(water(), ["baseline:best", "sca", "closed-form", "baseline:equal"]).summary()
    lines = text.splitlines()
    assert lines[0] == "WaterFilling, 3 instances"
    assert lines[1].split() == [
        *["solver", "solved", "proven", "mean", "objective"],
        *["loss", "to", "best", "worst", "gap", "time", "ended"],
    ]
    assert [line.split()[0] for line in lines[2:]] == [
        "closed-form",
        "baseline:equal",
        "baseline:best",
        "sca",
    ]
    assert "1 instance\n" in rr.compare(water(batch=None), ["level"]).summary()
    two = rr.compare([water(0), water(1)], ["level"])
    assert "\n\nWaterFilling 1" in two.summary()
    assert repr(two) == two.summary()


def row(problem, solver, seconds, loss=0.0, solved=1):
    nan = float("nan")
    return Row(
        *(problem, problem, solver, 1, solved, 0, 1.0, loss),
        *(nan, 0.0, 1.0, seconds, seconds, "converged", ""),
    )


def test_profile_by_hand():
    """a is best on 1 and 2; b needs 4 times as long on 1, twice on 2, alone solves 3."""
    rows = [
        *(row("1", "a", 1.0), row("1", "b", 4.0)),
        *(row("2", "a", 1.0), row("2", "b", 2.0)),
        *(row("3", "a", 1.0, loss=0.5), row("3", "b", 9.0)),
        *(row("4", "a", 1.0, solved=0), row("4", "b", 1.0, solved=0)),
    ]
    profile = Comparison(rows, {}).profile()
    assert profile.index.tolist() == [1.0, 2.0, 4.0]
    assert profile.a.tolist() == [0.5, 0.5, 0.5]
    assert profile.b.tolist() == [0.25, 0.5, 0.75]


def test_the_data_frame_has_a_column_for_each_field():
    frame = rr.compare(water(), SOLVERS).to_dataframe()
    assert frame.columns.tolist() == list(Row.__dataclass_fields__)
    assert frame.solver.tolist() == SOLVERS


def test_infeasible_points_do_not_count():
    cheat = SaysEach(act=offering(power_w=np.full(4, 1e3)))
    cheat_row, honest = rr.compare(water(), [cheat, "level"]).rows
    assert cheat_row.solved == 0
    assert np.isnan(cheat_row.objective)
    assert np.isnan(cheat_row.loss)
    assert honest.loss == 0
