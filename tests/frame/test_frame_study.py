"""compare: nothing hidden, resumable, the same in other processes."""

import dataclasses
import json
import multiprocessing
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from toys import SaysEach, StrangerEach, offering, sleeper

import rralloc as rr
from rralloc import regret, sweep
from rralloc.comparison import Comparison, Row
from rralloc.errors import InvalidProblem, UnknownName
from rralloc.problems import OTASelection, SumRate, WaterFilling
from rralloc.solvers import LevelSolver
from rralloc.sweep import Case

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


JUNK = ["", "\n\n", '{"problem": "cut sh', '{"problem": "\xc3', '{"problem": 1e400}\n[3]\n']
OTHERS = ["not json\n", "3\n", "[]\n", '{\n "schema": "rralloc/scenario/1"}']


@pytest.mark.parametrize("junk", OTHERS)
def test_a_file_of_something_else_is_not_touched(tmp_path, junk):
    path = tmp_path / "scenario.json"
    path.write_text(junk)
    with pytest.raises(InvalidProblem, match="something else than cases"):
        rr.compare(water(), ["level"], path=path)
    assert path.read_text() == junk


@pytest.mark.parametrize("junk", JUNK)
def test_foreign_lines_are_skipped(tmp_path, junk):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(junk.encode("latin-1"))
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


def case(problem, solver, seconds, value=1.0, solved=1):
    one, nan = np.array([1]), np.array([np.nan])
    found = np.array([value]) if solved else nan
    return Case(
        problem=problem,
        digest=problem,
        solver=solver,
        settings=solver,
        first=0,
        instances=1,
        objective=found,
        gap=nan,
        violation=0.0 * one,
        status=3 * one * solved,
        stopped=0 * one,
        iterations=one,
        clock=((seconds, seconds / 2),),
        message="",
    )


def by_hand():
    """a is best on 1 and 2; b needs 4 times as long on 1, twice on 2, alone solves 3."""
    cases = [
        *(case("1", "a", 1.0), case("1", "b", 4.0)),
        *(case("2", "a", 1.0), case("2", "b", 2.0)),
        *(case("3", "a", 1.0, value=0.5), case("3", "b", 9.0)),
        *(case("4", "a", 1.0, solved=0), case("4", "b", 1.0, solved=0)),
    ]
    return Comparison({n: water(batch=None) for n in "1234"}, cases, {})  # sense max


def test_profile_by_hand():
    profile = by_hand().profile()
    assert profile.index.tolist() == [1.0, 2.0, 4.0]
    assert profile.a.tolist() == [0.5, 0.5, 0.5]
    assert profile.b.tolist() == [0.25, 0.5, 0.75]


def test_data_profile_by_hand():
    profile = by_hand().profile(kind="data")
    assert profile.index.tolist() == [1.0, 2.0, 4.0, 9.0]
    assert profile.a.tolist() == [0.5] * 4
    assert profile.b.tolist() == [0, 0.25, 0.5, 0.75]
    halves = by_hand().profile("cpu_seconds", kind="data")
    assert halves.index.tolist() == [0.5, 1.0, 2.0, 4.5]


def test_shifted_geometric_means_by_hand():
    """a: 1, 1 and twice 10 x 9; b: 4, 2, 9 and once 90; shift 1."""
    means = by_hand().means(shift=1.0)
    assert means.index.tolist() == ["b", "a"]
    assert means["mean"].a == pytest.approx((2 * 2 * 91 * 91) ** 0.25 - 1)
    assert means["mean"].b == pytest.approx((5 * 3 * 10 * 91) ** 0.25 - 1)
    assert means.solved.tolist() == [3, 2]
    assert means.failed.tolist() == [1, 2]
    assert means.ratio.b == 1


def test_the_caption_says_what_the_numbers_say():
    caption = by_hand().profile().attrs["caption"]
    assert caption == (
        "Of 4 cases, a is quickest in 50 %; nobody solves all, b most (75 %); a misses 50 %."
    )
    both = Comparison({"1": water()}, [case("1", "a", 1.0), case("1", "b", 2e-3)], {})
    assert both.caption() == (
        "Of 1 case, b is quickest in 100 %; b (median 2.0 ms), a (median 1.0 s) solve all; "
        "b is never more than 1 times the best."
    )
    nobody = Comparison({"1": water()}, [case("1", "a", 1.0, solved=0)], {})
    assert nobody.caption() == "Nobody solves any of the 1 case."


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


# -- parts and repetitions ------------------------------------------------------------------------


def test_parts_give_the_numbers_of_the_whole(tmp_path):
    problem = water(batch=7)
    whole = rr.compare(problem, SOLVERS)
    path = tmp_path / "parts.jsonl"
    parts = rr.compare(problem, SOLVERS, chunk=3, path=path)
    assert [c.first for c in parts.cases] == [0, 3, 6] * len(SOLVERS)
    assert [c.instances for c in parts.cases] == [3, 3, 1] * len(SOLVERS)
    assert parts.solutions == {}
    for one, other in zip(whole.rows, parts.rows):
        assert (one.solver, one.solved, one.proven) == (other.solver, other.solved, other.proven)
        assert one.digest == other.digest == problem.digest
        assert other.objective == pytest.approx(one.objective, nan_ok=True)
        assert other.loss == pytest.approx(one.loss, abs=1e-12, nan_ok=True)
    assert len(path.read_text().splitlines()) == 3 * len(SOLVERS)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    again = rr.compare(problem, SOLVERS, chunk=3, path=path)
    assert plain(again.rows) == plain(parts.rows)
    assert len(path.read_text().splitlines()) == 3 * len(SOLVERS)


def test_every_instance_is_a_case_with_chunk_one():
    found = rr.compare(water(batch=4), ["level", "closed-form"], chunk=1)
    assert found.costs().shape == (4, 2)
    assert np.isfinite(found.costs().to_numpy()).all()


def test_parts_of_batches_with_two_axes_and_in_threads():
    problem = WaterFilling.random(K=3, batch=(2, 3), rng=0)
    here = rr.compare(problem, ["level"], chunk=4)
    with ThreadPoolExecutor(2) as threads:
        there = rr.compare(problem, ["level"], chunk=4, executor=threads)
    assert plain(here.rows) == plain(there.rows)
    assert here.rows[0].instances == 6


def test_random_solvers_draw_differently_in_each_part_and_the_same_again():
    problem = WaterFilling.random(K=3, batch=2, rng=0)
    twins = rr.stack([problem[0], problem[0]])

    def act(problem, start, run):
        run.offer({"power_w": run.rng.uniform(0, 1, 3)})

    first = rr.compare(twins, [SaysEach(act=act)], chunk=1)
    again = rr.compare(twins, [SaysEach(act=act)], chunk=1, repeat=2)
    values = [c.objective[0] for c in first.cases]
    assert values[0] != values[1]
    assert values == [c.objective[0] for c in again.cases]


def test_repetitions_are_all_kept_and_the_quickest_counts(tmp_path):
    path = tmp_path / "rows.jsonl"
    found = rr.compare(water(), ["level"], repeat=3, path=path)
    (only,) = found.cases
    assert len(only.clock) == 3
    assert found.rows[0].seconds == min(wall for wall, _ in only.clock)
    assert found.rows[0].cpu_seconds == min(cpu for _, cpu in only.clock)
    (read,) = rr.compare(water(), ["level"], repeat=3, path=path).cases
    assert read.clock == only.clock
    assert len(rr.compare(water(), ["level"], path=path).solutions) == 1  # once is another case


@pytest.mark.parametrize("wrong", [{"chunk": 0}, {"repeat": 0}, {"chunk": 2.5}, {"repeat": -1}])
def test_sizes_that_mean_nothing_are_refused(wrong):
    with pytest.raises(InvalidProblem, match="is not in"):
        rr.compare(water(), ["level"], **wrong)


class Refuses(ThreadPoolExecutor):
    """A pool that breaks after its first job."""

    def submit(self, *args, **kwargs):
        if getattr(self, "spent", False):
            raise BrokenExecutor("a child died")
        self.spent = True
        return super().submit(*args, **kwargs)


def test_what_is_lost_with_its_process_is_a_row_and_is_done_by_the_next_call(tmp_path):
    path = tmp_path / "rows.jsonl"
    names = ["level", "closed-form", "baseline:equal"]
    with Refuses(1) as pool:
        broken = rr.compare(water(), names, executor=pool, path=path)
    assert [r.solved for r in broken.rows] == [3, 0, 0]
    assert broken.rows[1].message.startswith("failed: lost with its process: BrokenExecutor: a")
    assert len(path.read_text().splitlines()) == 1
    whole = rr.compare(water(), names, path=path)
    assert [r.solved for r in whole.rows] == [3, 3, 3]
    assert plain(whole.rows) == plain(rr.compare(water(), names).rows)


def test_infinities_survive_the_file(tmp_path):
    def act(problem, start, run):
        run.offer(problem.initial())

    path = tmp_path / "rows.jsonl"
    free = WaterFilling(gain=[1.0, 2.0], power_budget_w=0.0)
    case = rr.compare(free, [SaysEach(act=act)]).cases[0]
    infinite = dataclasses.replace(case, gap=np.array([np.inf]), objective=np.array([-np.inf]))
    path.write_text("")
    sweep._append(path, infinite)
    (read,) = sweep._read(path).values()
    assert (read.gap, read.objective) == (np.inf, -np.inf)


# -- tables ---------------------------------------------------------------------------------------


def test_markdown_and_latex_show_the_summary_s_numbers():
    found = rr.compare({"a|b & c": water()}, ["level", "sca"])
    lines = found.to_markdown().splitlines()
    assert lines[0].startswith("| problem | solver | solved | proven | mean objective |")
    assert len(lines) == 4
    assert lines[2].startswith("| a/b & c | level | 3/3 | 3/3 |")
    assert "does not apply" in lines[3]
    text = found.to_latex(label="tab:x")
    assert r"a|b \& c & level & 3/3 & 3/3 &" in text
    assert r"\label{tab:x}" in text
    assert r"\caption{Of 1 case, level is quickest in 100 \%" in text
    assert text.count(r"\\") == 3


@pytest.mark.parametrize("suffix", [".csv", ".json", ".md", ".tex"])
def test_tables_are_saved_by_suffix(tmp_path, suffix):
    found = rr.compare(water(), ["level"])
    found.save(tmp_path / f"t{suffix}")
    assert "level" in (tmp_path / f"t{suffix}").read_text()


def test_unknown_kinds_of_table_are_refused(tmp_path):
    with pytest.raises(UnknownName, match="kind of table"):
        rr.compare(water(), ["level"]).save(tmp_path / "t.xlsx")


# -- regret ---------------------------------------------------------------------------------------


def regretted(bins=2):
    """Where gains are strong 'baseline:equal' is nearly optimal, where they are weak it is not."""
    rng = np.random.default_rng(0)
    strength = np.repeat([1e-2, 1e4], 20)
    gain = strength[:, None] * rng.exponential(size=(40, 4))
    problem = WaterFilling(gain=gain, power_budget_w=1.0)
    return problem, rr.compare(problem, ["baseline:equal", "closed-form"])


def test_regret_by_hand():
    problem, found = regretted()
    table = found.regret("mean gain", "spread gain", bins=2, close=1e-2)
    assert table.groupby(["i", "j"]).choice.sum().eq(1).all()
    assert table[table.solver == "closed-form"].instances.sum() == 40
    loss = found.losses()["WaterFilling", "baseline:equal"]
    weak = regret.statistic(problem, "mean gain") < 10
    equal = table[table.solver == "baseline:equal"]
    for i, inside in enumerate([weak, ~weak]):
        mine = equal[equal.i == i]
        assert np.average(mine.regret, weights=mine.instances) == pytest.approx(loss[inside].mean())
    chosen = table[table.choice]
    assert set(chosen[chosen.i == 0].solver) == {"closed-form"}
    assert table.attrs["x"] == "mean gain [dB]"


def test_an_instance_without_a_point_counts_as_regret_one():
    found = rr.compare(water(batch=5), ["sca", "level"])
    table = found.regret("mean gain", lambda p: np.arange(p.size), bins=1)
    assert table[table.solver == "sca"].regret.tolist() == [1.0]
    assert table[table.choice].solver.tolist() == ["level"]


def test_statistics_of_complex_and_plain_fields():
    beams = OTASelection.random(K=3, N=2, batch=2, rng=0)
    want = 10 * np.log10((np.abs(beams.channel) ** 2).mean((-1, -2)))
    assert regret.statistic(beams, "mean channel") == pytest.approx(want)
    p = water()
    assert regret.statistic(p, "power_budget_w") == pytest.approx([10.0] * 3)
    assert regret.statistic(p, "spread gain") == pytest.approx((10 * np.log10(p.gain)).std(-1))
    for wrong in ("mean nothing", "middle gain", "gain", lambda p: 1.0):
        with pytest.raises(InvalidProblem, match="statistic"):
            regret.statistic(p, wrong)


# -- what a reviewer found ------------------------------------------------------------------------


def rule_of(level):
    return SaysEach(act=lambda problem, start, run: run.offer({"power_w": np.full(4, level)}))


class Deep(LevelSolver):
    name = "deep"
    depth: float

    def solve(self, problem, start, run):
        run.offer({"power_w": np.full((problem.size, 4), self.depth)})


def test_functions_that_only_have_an_address_are_not_stored(tmp_path):
    with pytest.raises(InvalidProblem, match=r"path: .* could not be told from another"):
        rr.compare(water(), [rule_of(0.1)], path=tmp_path / "rows.jsonl")
    assert [r.solved for r in rr.compare(water(), [rule_of(0.1), rule_of(0.2)]).rows] == [3, 3]


def test_long_arrays_in_the_options_tell_cases_apart(tmp_path):
    problem = WaterFilling.random(K=2000, rng=0)
    starts = [{"power_w": np.zeros(2000)} for _ in range(2)]
    starts[1]["power_w"][700] = 1e-3
    path = tmp_path / "rows.jsonl"
    for count, start in enumerate(starts, 1):
        rr.compare(problem, ["level"], start=start, path=path)
        assert len(path.read_text().splitlines()) == count


def test_two_settings_with_one_label_are_told_apart():
    found = rr.compare(water(), [Deep(depth=0.1), Deep(depth=0.2)])
    assert [r.solver for r in found.rows] == ["deep(depth=0.1)", "deep(depth=0.2)"]
    twins = rr.compare(water(), [rule_of(0.1), rule_of(0.2)])
    assert len({r.solver for r in twins.rows}) == 2
    assert len(twins.solutions) == 2


def test_seconds_of_the_regret_map_are_those_of_the_cell():
    problem = water(batch=4)
    strength = regret.statistic(problem, "mean gain")
    slow = strength > np.median(strength)
    cases = [
        dataclasses.replace(case("w", name, seconds), first=i, digest="w")
        for name in "ab"
        for i, seconds in enumerate(np.where(slow == (name == "a"), 2.0, 1.0).tolist())
    ]
    found = Comparison({"w": problem}, cases, {})
    table = found.regret("mean gain", lambda p: np.zeros(p.size), bins=2)
    assert table[table.choice].sort_values("i").solver.tolist() == ["a", "b"]
    assert table[table.solver == "a"].sort_values("i").seconds.tolist() == [1.0, 2.0]


def test_a_best_of_zero_does_not_make_rounding_a_loss():
    cases = [case("w", "a", 1.0, value=0.0), case("w", "b", 1.0, value=-2e-18)]
    found = Comparison({"w": water(batch=None)}, cases, {})
    assert found.losses()["w", "b"] < 1e-8


def test_one_solver_may_stand_alone_and_wrong_words_are_refused():
    found = rr.compare(water(), "level")
    assert [r.solver for r in found.rows] == ["level"]
    assert found.costs("iterations").to_numpy().min() >= 1
    with pytest.raises(UnknownName, match="kind"):
        found.profile(kind="perfomance")
    with pytest.raises(UnknownName, match="measure"):
        found.costs("second")
    with pytest.raises(InvalidProblem, match="time_limit"):
        rr.compare(water(), "level", time_limit=-1)
    with pytest.raises(InvalidProblem, match="start= belongs"):
        rr.compare(water(), "level", start=rr.solve(water()), chunk=2)
    with pytest.raises(InvalidProblem, match="not finite on 1 of 3"):
        found.regret("mean gain", lambda p: np.array([0.0, np.nan, 1.0]))
    with pytest.raises(InvalidProblem, match="bins"):
        found.regret("mean gain", "spread gain", bins=0)


def test_no_seed_and_parts_go_together():
    (row,) = rr.compare(water(), ["level"], chunk=2, rng=None).rows
    assert row.solved == 3


def test_a_problem_without_instances_is_a_row():
    found = rr.compare({"none": water()[:0], "three": water()}, ["level"])
    assert [(r.problem, r.instances) for r in found.rows] == [("none", 0), ("three", 3)]
    assert rr.compare(water(), []).profile().empty
    assert "three" in found.summary()


def test_a_message_of_several_lines_is_one_cell():
    def act(problem, start, run):
        raise ValueError("a\n\nb")

    found = rr.compare(water(), [SaysEach(act=act)])
    assert found.rows[0].message == "failed: ValueError: a b"
    assert len(found.to_markdown().splitlines()) == 3


def test_means_when_nobody_solves_anything():
    nobody = Comparison({"1": water(batch=None)}, [case("1", "a", 1.0, solved=0)], {})
    assert np.isnan(nobody.means()["mean"].a)
    assert nobody.means().failed.a == 1
