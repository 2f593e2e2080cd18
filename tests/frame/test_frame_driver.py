"""The driver: who solves, who is believed (nobody), when it stops, what it keeps."""

import pickle
import threading
import time

import numpy as np
import pytest
from toys import Bowl, Says, SaysEach, Stranger, StrangerEach, Waves, offering, sleeper

import rralloc as rr
from rralloc import registry
from rralloc.errors import InvalidProblem, NotOffered, SolverUnavailable, UnknownName, UnknownOption
from rralloc.problems import DeviceCount, FEELScheduling, MinMaxLatency, SumRate, WaterFilling
from rralloc.solvers import ClosedFormSolver, LevelSolver

NATIVE = [
    name
    for name, cls in registry.solver_classes().items()
    if not cls.foreign and cls.rank < 1000 and name != "multistart"
]


def water(batch=None, K=4, **settings):
    return WaterFilling.random(K=K, batch=batch, rng=1, **settings)


# -- who solves -----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["level", LevelSolver, LevelSolver(), LevelSolver(tol=1e-14)])
def test_a_solver_by_name_class_or_instance(solver):
    problem = water()
    sol = rr.solve(problem, solver)
    assert sol.solver == "level"
    assert sol.objective == pytest.approx(rr.solve(problem, "closed-form").objective, rel=1e-12)


def test_without_a_solver_the_one_of_lowest_rank_is_taken():
    assert rr.solve(water()).solver == "closed-form"
    assert rr.solve(FEELScheduling.random(K=3, rng=0)).solver == "level"


def test_variants_and_options():
    problem = water()
    assert rr.solve(problem, "cvxpy:SCS").solver == "cvxpy:SCS"
    assert rr.solve(problem, "cvxpy", engine="SCS").solver == "cvxpy:SCS"
    assert rr.solve(problem, "cvxpy").solver == "cvxpy"
    assert rr.solve(problem, "level", method="bisection").iterations > (
        rr.solve(problem, "level").iterations
    )
    slow = rr.solve(problem, LevelSolver(), method="bisection")
    assert slow.iterations == rr.solve(problem, LevelSolver(method="bisection")).iterations


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("levle", "Did you mean 'level'"),
        ("closed_form", "Did you mean 'closed-form'"),
        ("level:newton", "no solver is named 'level:newton'"),
        ("cvxpy:", "no solver is named 'cvxpy:'"),
        ("", "no solver is named ''"),
    ],
)
def test_an_unknown_solver_is_refused_with_a_suggestion(name, words):
    with pytest.raises(UnknownName, match=words) as caught:
        rr.solve(water(), name)
    assert isinstance(caught.value, LookupError)
    assert "closed-form" in str(caught.value)


def test_an_unknown_option_is_refused_with_those_that_exist():
    with pytest.raises(UnknownOption, match=r"level has no option speed; its options: method, tol"):
        rr.solve(water(), "level", speed=9)
    with pytest.raises(UnknownOption, match=r"closed-form has no option a, b; its options: none"):
        rr.solve(water(), "closed-form", a=1, b=2)


def test_a_missing_engine_is_unavailable():
    with pytest.raises(SolverUnavailable, match="NOPE"):
        rr.solve(water(), "cvxpy:NOPE")


def test_a_solver_that_does_not_apply_says_why():
    with pytest.raises(NotOffered, match="WaterFilling has no Surrogate form"):
        rr.solve(water(), "sca")
    with pytest.raises(NotOffered, match="baseline:equal, baseline:best"):
        rr.solve(water(), "baseline:loudest")


def test_solvers_for_lists_names_and_reasons():
    found = rr.solvers_for(water())
    assert list(found)[:2] == ["closed-form", "level"]
    assert "baseline:equal" in found
    assert found.refused["sca"] == "WaterFilling has no Surrogate form"
    assert not set(found) & set(found.refused)
    lines = repr(found).splitlines()
    assert lines[0] == "applies:"
    assert "does not apply:" in lines
    uneven = WaterFilling(gain=[0.0, 0.0], power_budget_w=1.0)
    assert "no water level exists" in rr.solvers_for(uneven).refused["level"]


def test_solvers_for_depends_on_the_instance():
    free, promised = SumRate.dccp37(), SumRate.dccp37(minimum_rate=1.0)
    assert "sca" in rr.solvers_for(free)
    assert "minimum rates" in rr.solvers_for(promised).refused["sca"]
    crowd = DeviceCount.random(K=20, rng=0)
    assert "20 devices" in rr.solvers_for(crowd).refused["exhaustive"]


# -- batches --------------------------------------------------------------------------------------

CASES = [
    (WaterFilling, {"K": 3}),
    (FEELScheduling, {"K": 3}),
    (MinMaxLatency, {"K": 3}),
    (DeviceCount, {"K": 3}),
    (SumRate, {"K": 2}),
]


@pytest.mark.parametrize("batch", [(5,), (2, 3)])
@pytest.mark.parametrize(("cls", "size"), CASES, ids=[c[0].__name__ for c in CASES])
def test_a_batch_equals_a_loop_for_every_native_solver(cls, size, batch):
    problem = cls.random(**size, batch=batch, rng=2)
    names = [n for n in rr.solvers_for(problem) if n.split(":")[0] in NATIVE]
    assert names
    for name in names:
        sol = rr.solve(problem, name)
        for field in ("objective", "bound", "gap", "violation", "kkt", "status", "stopped"):
            assert np.shape(getattr(sol, field)) == batch, field
        for index in np.ndindex(batch):
            one = rr.solve(problem[index], name)
            assert one.objective == pytest.approx(sol.objective[index], rel=1e-11)
            assert one.status == sol.status[index]
            assert one.stopped == sol.stopped[index]
            for var in problem.variables:
                assert sol.x[var.name].shape == problem.shape_of(var)
                assert one.x[var.name].shape == sol.x[var.name][index].shape


def test_one_instance_gives_numbers_not_arrays():
    sol = rr.solve(water())
    for field in ("objective", "bound", "gap", "violation", "raw_violation", "kkt", "iterations"):
        assert np.ndim(getattr(sol, field)) == 0
    assert sol.power_w.shape == (4,)
    assert sol.duals["water_level_w"].shape == ()


def test_duals_and_points_have_the_batch_shape():
    sol = rr.solve(water((2, 3)))
    assert sol.duals["water_level_w"].shape == (2, 3)
    assert sol.power_w.shape == (2, 3, 4)
    assert sol.power_w is sol.x["power_w"]
    with pytest.raises(AttributeError, match="variables: power_w"):
        _ = sol.powers


def test_indexing_a_solution():
    problem = water((2, 3))
    sol = rr.solve(problem)
    one = sol[1, 2]
    assert one.problem == problem[1, 2]
    assert one.objective == sol.objective[1, 2]
    assert one.status is rr.Status.GLOBAL
    np.testing.assert_array_equal(one.power_w, sol.power_w[1, 2])
    assert sol[0].objective.shape == (3,)
    assert sol[0].duals["water_level_w"].shape == (3,)
    with pytest.raises(IndexError):
        sol[0, 0, 0]


def test_repr_of_one_instance_and_of_a_batch():
    one, many = repr(rr.solve(water())), repr(rr.solve(water((2, 3))))
    assert one.startswith("<WaterFilling by closed-form: global, objective ")
    assert "bit/s/Hz" in one
    assert "gap" in one
    assert many.startswith("<WaterFilling by closed-form: 6 instances: 6 global; worst gap ")
    assert "worst violation" in many
    nothing = rr.solve(water(3), StrangerEach(act=boom))
    assert "3 instances: 3 none" in repr(nothing)
    assert "kaput" in repr(nothing)


# -- nobody is believed ---------------------------------------------------------------------------


def boom(problem, start, run):
    raise ZeroDivisionError("kaput")


def test_an_exception_in_foreign_code_becomes_words():
    for cls, lanes in ((StrangerEach, 3), (Stranger, 3)):
        sol = rr.solve(water(3), cls(act=boom))
        assert (sol.stopped == rr.Stopped.ERROR).all()
        assert (sol.status == rr.Status.NONE).all()
        assert f"ZeroDivisionError: kaput ({lanes} of 3 instances)" in sol.message
        assert np.isnan(sol.objective).all()


def test_one_failing_instance_leaves_the_others_alone():
    def act(problem, start, run):
        if problem.power_budget_w > 5:
            raise ValueError("too loud")
        run.offer(problem.initial())

    problem = water(3, power_budget_w=[1.0, 10.0, 2.0])
    sol = rr.solve(problem, StrangerEach(act=act))
    assert sol.status.names().tolist() == ["feasible", "none", "feasible"]
    assert sol.stopped.names().tolist() == ["converged", "error", "converged"]
    assert "too loud (1 of 3 instances)" in sol.message


def test_an_exception_in_our_code_propagates():
    for cls in (Says, SaysEach):
        with pytest.raises(ZeroDivisionError, match="kaput"):
            rr.solve(water(3), cls(act=boom))


@pytest.mark.parametrize("cls", [SaysEach, StrangerEach])
@pytest.mark.parametrize(
    "power", [[np.nan] * 4, [np.inf, 0, 0, 0], [-np.inf] * 4, [1e308] * 4, [-1.0, 0, 0, 0]]
)
def test_garbage_is_never_feasible_without_projection(cls, power):
    sol = rr.solve(water(), cls(act=offering(power_w=np.array(power, dtype=float))))
    assert sol.status <= rr.Status.VIOLATED or (cls.foreign and sol.violation <= 1e-9)
    assert sol.raw_violation > 0 or np.isnan(sol.raw_violation)
    if np.isnan(power[0]):
        assert sol.status == rr.Status.VIOLATED


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5,), (1, 4), (4, 1)])
def test_a_wrong_shape_is_refused_by_name(shape):
    act = offering(power_w=np.ones(shape))
    with pytest.raises(ValueError, match=r"offer: power_w has shape .*; need \(1, 4\)"):
        rr.solve(water(), SaysEach(act=act))
    sol = rr.solve(water(), StrangerEach(act=act))
    assert sol.stopped == rr.Stopped.ERROR
    assert sol.status == rr.Status.NONE
    assert "power_w has shape" in sol.message


def test_a_missing_variable_is_refused_by_name():
    with pytest.raises(ValueError, match="offer: power_w is missing"):
        rr.solve(water(), SaysEach(act=offering(power=np.ones(4))))


def test_infeasible_points_of_our_own_are_violated_not_repaired():
    problem = water(power_budget_w=10.0)
    sol = rr.solve(problem, SaysEach(act=offering(power_w=[20.0, 0, 0, 0])))
    assert sol.status == rr.Status.VIOLATED
    assert sol.violation == pytest.approx(1.0)
    np.testing.assert_array_equal(sol.power_w, [20.0, 0, 0, 0])


def test_foreign_points_are_projected_and_both_violations_kept():
    problem = water(power_budget_w=10.0)
    sol = rr.solve(problem, StrangerEach(act=offering(power_w=[20.0, -1.0, 0, 0])))
    assert sol.raw_violation == pytest.approx(0.9)
    assert sol.violation <= 1e-12
    np.testing.assert_allclose(sol.power_w, [10.0, 0, 0, 0])
    assert sol.status >= rr.Status.FEASIBLE


@pytest.mark.parametrize("level", [np.nan, -1.0, 0.0, 1e-300, 1e300, np.inf])
def test_a_lying_witness_proves_nothing_false(level):
    problem = water()
    best = rr.solve(problem).objective

    def act(problem, start, run):
        run.offer({"power_w": np.zeros(4)}, witness={"water_level_w": level})

    sol = rr.solve(problem, SaysEach(act=act))
    assert sol.status < rr.Status.GLOBAL
    assert np.isnan(sol.bound) or sol.bound >= best * (1 - 1e-12)


def test_no_solver_can_claim_a_status():
    problem = Bowl(centre=[0.2, 0.7])

    def act(problem, start, run):
        run.offer({"x": np.array([0.2, 0.9])})
        run.end(rr.Stopped.CONVERGED, "optimal, I swear")

    sol = rr.solve(problem, SaysEach(act=act))
    assert sol.status == rr.Status.FEASIBLE
    assert sol.message == "optimal, I swear"
    assert sol.objective == pytest.approx(0.04)


def test_the_best_offer_is_kept_even_if_the_solver_reuses_its_array():
    def act(problem, start, run):
        x = {"x": np.zeros((problem.size, 2))}
        for value in (0.9, 0.25, 0.6):
            x["x"][:] = value
            run.offer(x)
        x["x"][:] = 7.0

    sol = rr.solve(Bowl(centre=[[0.25, 0.25]] * 3), Says(act=act))
    np.testing.assert_array_equal(sol.x["x"], np.full((3, 2), 0.25))


def test_whole_numbers_do_not_truncate_later_offers():
    def act(problem, start, run):
        run.offer({"x": np.array([1, 0])})
        run.offer({"x": np.array([0.25, 0.5])})

    sol = rr.solve(Bowl(centre=[0.25, 0.5]), SaysEach(act=act))
    np.testing.assert_array_equal(sol.x["x"], [0.25, 0.5])


def test_feasible_beats_infeasible_whatever_the_objective():
    def act(problem, start, run):
        run.offer({"x": np.array([0.9, 0.9])})
        run.offer({"x": np.array([0.5, 0.4])})
        run.offer({"x": np.array([0.8, 0.8])})
        run.offer({"x": np.array([np.nan, 0.4])})

    sol = rr.solve(Bowl(centre=[0.9, 0.9], budget=1.0), SaysEach(act=act))
    np.testing.assert_array_equal(sol.x["x"], [0.5, 0.4])


# -- when it stops --------------------------------------------------------------------------------


def test_a_time_limit_keeps_incumbents_and_names_what_was_not_reached():
    problem = water(4)
    begun = time.perf_counter()
    sol = rr.solve(problem, SaysEach(act=sleeper), time_limit=0.2)
    assert time.perf_counter() - begun < 2.0
    assert (sol.stopped == rr.Stopped.TIME).all()
    assert sol.status[0] == rr.Status.FEASIBLE
    np.testing.assert_array_equal(sol.power_w[0], problem[0].initial()["power_w"])
    assert (sol.status[1:] == rr.Status.NONE).all()
    assert np.isnan(sol.objective[1:]).all()
    assert np.isnan(sol.power_w[1:]).all()
    assert "time limit: 4 of 4 instances not finished" in sol.message


def test_a_batched_solver_is_stopped_too():
    sol = rr.solve(water(3), Says(act=sleeper), time_limit=0.1)
    assert (sol.stopped == rr.Stopped.TIME).all()
    assert (sol.status == rr.Status.FEASIBLE).all()


def test_no_time_at_all_reaches_nobody():
    sol = rr.solve(water(3), SaysEach(act=sleeper), time_limit=0.0)
    assert (sol.status == rr.Status.NONE).all()
    assert (sol.stopped == rr.Stopped.TIME).all()


def test_branch_and_bound_keeps_point_and_bound_at_the_deadline():
    problem = SumRate.random(K=9, rng=3)
    sol = rr.solve(problem, "branch-and-bound", time_limit=0.3, gap=1e-9)
    assert sol.stopped == rr.Stopped.TIME
    assert sol.status >= rr.Status.FEASIBLE
    assert sol.bound >= sol.objective * (1 - 1e-12)
    assert sol.iterations > 1


def test_a_callback_stops_the_run():
    rows = []

    def enough(row):
        rows.append(row)
        return len(rows) >= 3

    sol = rr.solve(water(), "level", callback=enough)
    assert sol.stopped == rr.Stopped.USER
    assert len(rows) == 3
    assert set(rows[0]) >= {"lane", "iteration", "seconds", "objective", "violation"}
    assert [r["iteration"] for r in rows] == [1, 2, 3]


def test_the_iteration_limit_is_named():
    sol = rr.solve(water(3), "level", max_iter=2)
    assert (sol.stopped == rr.Stopped.ITERATIONS).all()
    assert (sol.iterations == 2).all()
    assert rr.solve(water(), "level").iterations > 2


def test_the_trace_is_there_for_small_batches_and_without_certificate_not():
    assert len(rr.solve(water(3), "level").trace) > 3
    assert len(rr.solve(water(3), "level", certify="none").trace) == 0
    assert len(rr.solve(water(101), "level").trace) == 0
    trace = rr.solve(water(3), "level").trace
    assert (np.diff(trace.column("iteration", lane=1)) > 0).all()
    assert (np.diff(trace.column("seconds", lane=1)) >= 0).all()
    assert set(trace.to_dataframe().lane) == {0, 1, 2}


# -- infeasible instances -------------------------------------------------------------------------


def deaf(**more):
    gain = np.full((4, 3), 1e-11)
    gain[1, 2] = gain[3, 0] = 0.0
    fields = {"compute_s": 0.1, "payload_bit": 1e5, "power_w": 0.1, "bandwidth_budget_hz": 1e6}
    return MinMaxLatency(path_gain=gain, **fields | more)


@pytest.mark.parametrize("solver", [None, "level", "scipy:slsqp", "cvxpy", "baseline:equal-split"])
def test_infeasible_lanes_are_named_and_disturb_nobody(solver):
    problem = deaf()
    sol = rr.solve(problem, solver)
    good = [0, 2]
    assert sol.status[1] == sol.status[3] == rr.Status.INFEASIBLE
    assert (sol.status[good] >= rr.Status.FEASIBLE).all()
    assert "instance 1: device 2 has a payload" in sol.message
    assert "instance 3: device 0 has a payload" in sol.message
    alone = rr.solve(problem[[0, 2]], solver)
    np.testing.assert_array_equal(sol.objective[good], alone.objective)
    np.testing.assert_array_equal(sol.bandwidth_hz[good], alone.bandwidth_hz)
    assert np.isnan(sol.objective[[1, 3]]).all()
    assert np.isnan(sol.bound[[1, 3]]).all()
    assert (sol.iterations[[1, 3]] == 0).all()


def test_trace_and_callback_number_lanes_by_the_whole_batch():
    heard = []
    sol = rr.solve(deaf(), "level", callback=lambda row: heard.append(row["lane"]))
    assert set(heard) == {0, 2}
    assert {row["lane"] for row in sol.trace.rows} == {0, 2}
    rows = []
    stopped = rr.solve(deaf(), "level", callback=lambda row: rows.append(row) or True)
    assert (stopped.stopped[[0, 2]] == rr.Stopped.USER).all()


def test_when_nobody_can_be_served_there_is_no_solver_to_choose():
    sol = rr.solve(deaf()[[1, 3]])
    assert (sol.status == rr.Status.INFEASIBLE).all()
    assert sol.solver == "none"
    one = rr.solve(deaf()[1])
    assert one.status is rr.Status.INFEASIBLE
    assert "device 2" in one.message


def test_long_lists_of_infeasible_instances_are_cut():
    problem = rr.stack([deaf()[1]] * 9)
    assert "and 6 more infeasible instances" in rr.solve(problem).message


# -- starts ---------------------------------------------------------------------------------------


def test_start_from_a_point_or_a_solution():
    problem = SumRate.dccp37()
    good = {"power_w": np.array([0.0, 0.12, 1.0, 0.0])}
    warm = rr.solve(problem, "sca", start=good)
    assert warm.objective == pytest.approx(4.686036, abs=1e-5)
    again = rr.solve(problem, "sca", start=warm)
    assert again.objective >= warm.objective
    assert again.iterations < warm.iterations
    assert "does not use the start" not in warm.message


def test_one_start_serves_a_batch():
    problem = rr.stack([SumRate.dccp37()] * 2)
    sol = rr.solve(problem, "sca", start={"power_w": [0.0, 0.12, 1.0, 0.0]})
    assert (sol.objective > 4.68).all()


def test_a_start_of_the_wrong_shape_or_name_is_refused():
    problem = SumRate.dccp37()
    with pytest.raises(InvalidProblem, match=r"start: power_w has shape \(3,\); need \(4,\)"):
        rr.solve(problem, "sca", start={"power_w": np.ones(3)})
    with pytest.raises(InvalidProblem, match="start lacks power_w; it has nothing"):
        rr.solve(problem, "sca", start={"power": np.ones(4)})
    with pytest.raises(InvalidProblem, match="start"):
        rr.solve(rr.stack([problem] * 3), "sca", start={"power_w": np.ones((2, 4))})


def test_a_solver_that_ignores_the_start_says_so():
    problem = water()
    start = {"power_w": np.ones(4)}
    assert rr.solve(problem, "level", start=start).message == "level does not use the start."
    assert "cvxpy does not use the start." in rr.solve(problem, "cvxpy", start=start).message
    assert rr.solve(problem, "scipy:slsqp", start=start).message == ""


# -- the rest -------------------------------------------------------------------------------------


def test_certify_none_and_cheap():
    none, cheap = rr.solve(water(), certify="none"), rr.solve(water())
    assert none.status == rr.Status.FEASIBLE
    assert np.isnan(none.bound)
    assert np.isnan(none.gap)
    assert none.bound_method == ""
    assert none.objective == cheap.objective
    assert cheap.status == rr.Status.GLOBAL
    assert cheap.bound_method == WaterFilling.bound_method


def test_tolerances_move_the_verdict():
    problem = water()
    act = offering(power_w=rr.solve(problem).power_w * (1 - 1e-3))
    assert rr.solve(problem, SaysEach(act=act)).status < rr.Status.GLOBAL
    assert rr.solve(problem, SaysEach(act=act), gap_tol=0.01).status == rr.Status.GLOBAL
    over = offering(power_w=rr.solve(problem).power_w * (1 + 1e-6))
    assert rr.solve(problem, SaysEach(act=over)).status == rr.Status.VIOLATED
    assert rr.solve(problem, SaysEach(act=over), feas_tol=1e-5).status == rr.Status.GLOBAL


@pytest.mark.parametrize("factor", [1e-18, 1e-9, 1e6])
@pytest.mark.parametrize("solver", ["closed-form", "level", "scipy:slsqp", "cvxpy"])
def test_a_change_of_units_changes_nothing(factor, solver):
    base = water()
    other = base.replace(gain=base.gain * factor, power_budget_w=base.power_budget_w / factor)
    one, two = rr.solve(base, solver), rr.solve(other, solver)
    assert two.objective == pytest.approx(one.objective, rel=1e-7)
    np.testing.assert_allclose(two.power_w * factor, one.power_w, rtol=1e-3, atol=1e-3)
    assert two.status == one.status == rr.Status.GLOBAL


def test_a_solution_can_be_pickled():
    sol = rr.solve(water((2, 3)), "level")
    again = pickle.loads(pickle.dumps(sol))
    np.testing.assert_array_equal(again.objective, sol.objective)
    np.testing.assert_array_equal(again.power_w, sol.power_w)
    assert again.problem == sol.problem
    assert again.status.counts() == {"global": 6}
    assert again.stopped.counts() == {"converged": 6}
    assert again.trace.rows == sol.trace.rows
    assert repr(again) == repr(sol)
    assert pickle.loads(pickle.dumps(rr.solve(water()))).status is rr.Status.GLOBAL
    cells = rr.solve(Waves(centre=[0.3]), "branch-and-bound")
    assert rr.certify(cells.problem, pickle.loads(pickle.dumps(cells))).bound == cells.bound


def test_threads_do_not_disturb_each_other():
    problem = SumRate.random(K=3, batch=6, rng=0)
    filled = water(6)
    expected = rr.solve(problem, "sca").objective, rr.solve(filled, "cvxpy").objective
    wrong = []

    def work(lanes):
        for i in lanes:
            if rr.solve(problem[i], "sca").objective != pytest.approx(expected[0][i], rel=1e-9):
                wrong.append(("sca", i))
            if rr.solve(filled[i], "cvxpy").objective != pytest.approx(expected[1][i], rel=1e-7):
                wrong.append(("cvxpy", i))

    orders = [range(6), range(5, -1, -1), [2, 0, 4, 1, 5, 3], range(6)]
    threads = [threading.Thread(target=work, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(t.is_alive() for t in threads)
    assert wrong == []


def test_a_seed_repeats_a_run():
    problem = Waves(centre=[0.3, -0.2, 0.5])
    one, two, three = (
        rr.solve(problem, "multistart", starts=3, rng=r) for r in (5, np.random.default_rng(5), 6)
    )
    np.testing.assert_array_equal(one.x["x"], two.x["x"])
    assert not np.array_equal(one.x["x"], three.x["x"])


def test_seconds_are_the_wall_clock_of_the_call():
    begun = time.perf_counter()
    sol = rr.solve(water(3), Says(act=sleeper), time_limit=0.1)
    spent = time.perf_counter() - begun
    assert 0.1 <= sol.seconds <= spent
    assert sol.cpu_seconds <= spent + 0.1
    assert closed_form_is_quick() < 1.0


def closed_form_is_quick() -> float:
    return rr.solve(water(), ClosedFormSolver).seconds
