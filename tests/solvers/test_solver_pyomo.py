"""Pyomo: each engine on problems with known optima, its words, its limits, its leftovers."""

import logging
import subprocess
import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from oracles import water_filling

import rralloc as rr
from rralloc.errors import NotOffered, SolverUnavailable, UnknownOption
from rralloc.fields import Constraint, data, option, variable
from rralloc.forms import Handle, Model, offers
from rralloc.problem import Problem
from rralloc.problems import WaterFilling
from rralloc.solvers import Pyomo, _engines, pyomo_model
from rralloc.solvers.pyomo_model import Told, verdict
from rralloc.typing import Array

PACKAGE = {"pounce": "pounce", "casadi": "casadi", "scip": "pyscipopt", "maingo": "maingopy"}
LOCAL, GLOBAL = ("pounce", "casadi"), ("scip", "maingo")


def need(engine):
    pytest.importorskip(PACKAGE[engine], reason=f"the package {PACKAGE[engine]} is optional")
    return f"pyomo:{engine}"


class Ellipsoid(Problem):
    """min x1 x2 x3 s.t. x1^2 + 2 x2^2 + 4 x3^2 <= limit, |x| <= 10; -16 sqrt(2) at limit 48."""

    sense = "min"
    weight: Array = data("K", unit="1", low=0)
    limit: Array = data(unit="1", low=0)
    flaw: str = option(default="")
    x = variable("K", unit="1", low=-10.0, high=10.0, scale=10.0)
    built: ClassVar[list[str]] = []

    def objective(self, x):
        return x["x"].prod(-1)

    def constraints(self, x):
        used = (self.weight * x["x"] ** 2).sum(-1)
        return (Constraint("ellipsoid", self.limit - used, "1", self.limit),)

    @offers(Model)
    def model(self):
        flaw = self.flaw
        return Model(("ellipsoid", flaw), lambda backend: _ellipsoid(flaw), backends=("pyomo",))


class Mirror(Ellipsoid):
    """The same upside down."""

    sense = "max"

    def objective(self, x):
        return -super().objective(x)

    @offers(Model)
    def model(self):
        return Model(("mirror", ""), lambda backend: _ellipsoid("mirror"), backends=("pyomo",))


def _ellipsoid(flaw):
    import pyomo.environ as pyo

    Ellipsoid.built.append(flaw)
    model = pyo.ConcreteModel()
    model.k = pyo.RangeSet(0, 2)
    model.w = pyo.Param(model.k, mutable=True, initialize=1.0)
    model.limit = pyo.Param(mutable=True, initialize=1.0)
    model.x = pyo.Var(model.k, bounds=(-10, 10), initialize=-1.0)
    # A shared expression and an unused variable, as models have them.
    model.square = pyo.Expression(model.k, rule=lambda m, k: m.x[k] ** 2)
    model.unused = pyo.Var(initialize=3.0)
    model.c = pyo.Constraint(expr=sum(model.w[k] * model.square[k] for k in model.k) <= model.limit)
    if flaw == "infeasible":
        model.d = pyo.Constraint(expr=model.square[0] >= model.limit + 12)
    product = model.x[0] * model.x[1] * model.x[2]
    if flaw == "mirror":
        model.f = pyo.Objective(expr=-product, sense=pyo.maximize)
    else:
        model.f = pyo.Objective(expr=product)

    def assign(problem):
        if flaw == "throws":
            raise ArithmeticError("no such data")
        model.limit = float(problem.limit)
        for k in model.k:
            model.w[k] = float(problem.weight[k])

    def start(problem, x):
        for k in model.k:
            model.x[k] = float(x["x"][k])

    def point(problem):
        return {"x": np.array([pyo.value(model.x[k]) for k in model.k])}

    return Handle(model, assign, point, None if flaw == "no start" else start)


def known(limit=48.0, **settings):
    return Ellipsoid(weight=[1.0, 2.0, 4.0], limit=limit, **settings)


def optimum(limit):
    """Each term takes limit/3: |x1 x2 x3| = (limit/3)^1.5 / sqrt(8)."""
    return -((np.asarray(limit) / 3) ** 1.5) / np.sqrt(8)


@pytest.fixture
def fresh(monkeypatch):
    """An empty cache and an empty list of builds."""
    monkeypatch.setattr(pyomo_model, "HANDLES", _engines.Handles())
    monkeypatch.setattr(Ellipsoid, "built", [])


@pytest.mark.parametrize("engine", LOCAL)
def test_water_filling_agrees_with_the_oracle(engine):
    problem = WaterFilling.random(K=8, batch=4, rng=1)
    sol = rr.solve(problem, need(engine))
    for i in range(4):
        power, _, rate = water_filling.solve(list(problem.gain[i]), 10.0)
        assert sol.objective[i] == pytest.approx(rate, rel=1e-6)
        assert np.allclose(sol.x["power_w"][i], power, atol=1e-3)
    assert (sol.status == rr.Status.GLOBAL).all()
    assert (sol.stopped == rr.Stopped.CONVERGED).all()
    assert sol.message == ""
    assert sol.solver == f"pyomo:{engine}"


@pytest.mark.parametrize("engine", [*LOCAL, *GLOBAL])
def test_nonconvex_problem_with_known_optimum(engine):
    name = need(engine)
    assert optimum(48.0) == pytest.approx(-16 * np.sqrt(2))
    for problem, best in ((known(), optimum(48.0)), (known(30.0), optimum(30.0))):
        sol = rr.solve(problem, name, feas_tol=1e-8)
        assert sol.objective == pytest.approx(best, rel=1e-6)
        assert sol.stopped == rr.Stopped.CONVERGED
        assert sol.status == rr.Status.LOCAL  # claims prove nothing
        assert np.isnan(sol.bound)
    mirror = rr.solve(Mirror(weight=[1.0, 2.0, 4.0], limit=48.0), name)
    assert mirror.objective == pytest.approx(-optimum(48.0), rel=1e-6)


@pytest.mark.parametrize("engine", GLOBAL)
def test_global_engines_claim_a_bound_in_words_only(engine):
    name = need(engine)
    for problem, best in (
        (known(), optimum(48.0)),
        (Mirror(weight=[1.0, 2.0, 4.0], limit=48.0), -optimum(48.0)),
    ):
        sol = rr.solve(problem, name)
        head, _, tail = sol.message.partition("claims bound ")
        claim = float(tail.split()[0])
        assert head == f"{name}: "
        assert claim == pytest.approx(best, rel=1e-4)
        assert np.isnan(sol.bound)


@pytest.mark.parametrize("engine", GLOBAL)
def test_global_engines_cut_short_do_not_say_converged(engine):
    name = need(engine)
    sol = rr.solve(
        _Interference(gain=np.random.default_rng(0).exponential(size=(14, 14))),
        name,
        time_limit=0.7,
        certify="none",
    )
    assert sol.stopped == rr.Stopped.TIME
    assert sol.status == rr.Status.FEASIBLE
    assert "claims bound" in sol.message


class _Interference(Problem):
    """Sum rate with interference over [0, 1]: too hard to prove in a second."""

    sense = "max"
    gain: Array = data("K J", unit="1", low=0)
    p = variable("K", unit="1", low=0.0, high=1.0)

    def objective(self, x):
        p, own = x["p"], np.diagonal(self.gain, axis1=-2, axis2=-1)
        noise = 1 + (self.gain * p[..., None, :]).sum(-1) - own * p
        return np.log(1 + 10 * p / noise).sum(-1)

    @offers(Model)
    def model(self):
        return Model("interference", lambda backend: _interference(self), backends=("pyomo",))


def _rates(gain, p, log):
    size = len(p)
    total = 0
    for i in range(size):
        noise = 1 + sum(gain[i, j] * p[j] for j in range(size) if j != i)
        total = total + log(1 + 10 * p[i] / noise)
    return total


def _interference(problem):
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.p = pyo.Var(range(len(problem.gain)), bounds=(0, 1), initialize=0.5)
    model.f = pyo.Objective(expr=_rates(problem.gain, model.p, pyo.log), sense=pyo.maximize)
    return Handle(
        model,
        lambda one: None,
        lambda one: {"p": np.array([pyo.value(v) for v in model.p.values()])},
    )


@pytest.mark.parametrize(
    ("low", "high", "reason", "words"),
    [
        (-1.0, -1.0 + 1e-6, rr.Stopped.CONVERGED, "claims bound -1 "),
        (-1.5, -1.0, rr.Stopped.STALLED, "claims bound -1.5 "),
        (-1.7e308, -1.0, rr.Stopped.STALLED, ""),
        (None, -1.0, rr.Stopped.CONVERGED, ""),
    ],
)
def test_claims_are_read_from_pyomos_results(monkeypatch, low, high, reason, words):
    import pyomo.environ as pyo

    asked = {}

    class Engine:
        def solve(self, model, **named):
            asked.update(named)
            results = pyo.SolverFactory("scip_direct").solve(model, load_solutions=False)
            results.problem.lower_bound, results.problem.upper_bound = low, high
            return results

    need("scip")
    model = pyo.ConcreteModel()
    model.x = pyo.Var(bounds=(0, 1))
    model.f = pyo.Objective(expr=-model.x)
    engine = Engine()
    real = pyo.SolverFactory
    monkeypatch.setattr(pyo, "SolverFactory", lambda name: engine if name == "stub" else real(name))
    told = pyomo_model._global("stub", model, 5.0, {"limits/gap": 0.1})
    found, said = verdict(told, late=False)
    assert found == reason
    assert words in " ".join(said)
    assert ("claims" in " ".join(said)) == bool(words)
    assert pyo.value(model.x) == pytest.approx(1.0)
    assert asked == {"load_solutions": False, "timelimit": 5.0, "options": {"limits/gap": 0.1}}


@pytest.mark.parametrize("engine", [*LOCAL, *GLOBAL])
def test_infeasible_models_keep_the_engines_words(engine, fresh, caplog):
    sol = rr.solve(known(flaw="infeasible"), need(engine))
    assert sol.stopped == rr.Stopped.ERROR
    assert sol.status < rr.Status.FEASIBLE or engine in LOCAL
    assert f"pyomo:{engine}: " in sol.message
    assert "infeasible" in sol.message.lower()
    assert caplog.records == []


def test_one_model_serves_all_instances_of_a_structure(fresh):
    limits = np.array([12.0, 24.0, 36.0, 48.0, 60.0])
    sol = rr.solve(known(limits), "pyomo:pounce")
    assert np.allclose(sol.objective, optimum(limits), rtol=1e-6)
    assert Ellipsoid.built == [""]
    if _found("casadi"):
        again = rr.solve(known(limits), "pyomo:casadi")
        assert np.allclose(again.objective, sol.objective, rtol=1e-6)
        assert Ellipsoid.built == [""]


def _found(engine):
    return not pyomo_model.fault(engine)


@pytest.mark.parametrize("engine", LOCAL)
def test_an_answer_does_not_depend_on_what_was_solved_before(fresh, engine):
    name = need(engine)
    batch = rr.solve(known([60.0, 12.0]), name, max_iter=3).x["x"]
    pyomo_model.HANDLES = _engines.Handles()
    alone = rr.solve(known(12.0), name, max_iter=3).x["x"]
    assert np.array_equal(batch[1], alone)


@pytest.mark.parametrize("engine", LOCAL)
def test_the_start_decides_the_basin(fresh, engine):
    name = need(engine)
    for signs in ([-1, 1, 1], [1, -1, 1], [1, 1, -1]):
        sol = rr.solve(known(), name, start={"x": np.array(signs, dtype=float)})
        assert np.array_equal(np.sign(sol.x["x"]), signs)
        assert sol.objective == pytest.approx(optimum(48.0), rel=1e-6)
    assert "start" not in sol.message


def test_an_unused_start_is_declared(fresh):
    start = {"x": np.ones(3)}
    sol = rr.solve(known(flaw="no start"), "pyomo:pounce", start=start)
    assert sol.message == "pyomo:pounce does not use the start"
    assert "does not use the start" in rr.solve(known(), need("scip"), start=start).message


@pytest.mark.parametrize("engine", LOCAL)
def test_iteration_limit(fresh, engine):
    sol = rr.solve(WaterFilling.random(K=6, rng=0), need(engine), max_iter=2)
    assert sol.stopped == rr.Stopped.ITERATIONS
    assert "maximumiterationsexceeded" in sol.message.replace(" ", "").lower()
    assert sol.status >= rr.Status.FEASIBLE


@pytest.mark.parametrize("engine", LOCAL)
def test_time_limit_inside_the_engine(engine):
    problem = WaterFilling.random(K=3, rng=0)
    form, name = problem.view(Model), need(engine)
    handle = form.build("pyomo")
    handle.assign(problem)
    told = pyomo_model.ENGINES[engine](handle.model, pyomo_model.Ask(seconds=1e-6))
    reason, words = verdict(told, late=True)
    assert reason == rr.Stopped.TIME
    assert "time" in words[0].lower()
    assert rr.solve(problem, name, time_limit=60).stopped == rr.Stopped.CONVERGED


def test_a_killed_process_is_a_time_out(monkeypatch):
    def slow(model, ask):
        raise subprocess.TimeoutExpired("pounce", 7.0)

    monkeypatch.setitem(pyomo_model.ENGINES, "pounce", slow)
    sol = rr.solve(WaterFilling.random(K=3, rng=0), "pyomo:pounce", time_limit=60)
    assert (sol.stopped, sol.status) == (rr.Stopped.TIME, rr.Status.NONE)
    assert "timed out after 7.0 seconds" in sol.message


@pytest.mark.parametrize("engine", LOCAL)
def test_time_limit_over_a_batch(engine):
    problem = WaterFilling.random(K=10, batch=400, rng=0)
    sol = rr.solve(problem, need(engine), time_limit=0.4, certify="none")
    late = np.asarray(sol.stopped == rr.Stopped.TIME)
    assert late[-1]
    assert (np.diff(late.astype(int)) >= 0).all()
    assert sol.status[-1] == rr.Status.NONE
    assert sol.status[0] >= rr.Status.FEASIBLE


def test_foreign_exception_becomes_an_error_with_its_words(fresh):
    sol = rr.solve(known([48.0, 24.0], flaw="throws"), "pyomo:pounce")
    assert (sol.stopped == rr.Stopped.ERROR).all()
    assert (sol.status == rr.Status.NONE).all()
    assert sol.message == "ArithmeticError: no such data (2 of 2 instances)"
    assert Ellipsoid.built == ["throws", "throws"]  # a spoilt model is not kept
    bad = rr.solve(known(), "pyomo:pounce", settings={"no_such_option": 1})
    assert bad.stopped == rr.Stopped.ERROR
    assert "ApplicationError" in bad.message


@pytest.mark.parametrize(
    ("told", "reason"),
    [(Told(c), r) for c, r in pyomo_model.STOPPED.items()]
    + [
        (Told("infeasible"), rr.Stopped.ERROR),
        (Told("unbounded"), rr.Stopped.ERROR),
        (Told("licensingProblems"), rr.Stopped.ERROR),
        (Told("optimal", "Ipopt 3.14.17: Optimal Solution Found"), rr.Stopped.CONVERGED),
        (Told("optimal", "Ipopt 3.14.17: Solved To Acceptable Level."), rr.Stopped.STALLED),
        (Told("maxIterations", "Maximum CPU Time Exceeded."), rr.Stopped.TIME),
        (Told("maxIterations", "POUNCE: MaximumWallTimeExceeded"), rr.Stopped.TIME),
        (Told("maxIterations", "Search Direction becomes Too Small."), rr.Stopped.STALLED),
        (Told("maxIterations", "Maximum Number of Iterations Exceeded."), rr.Stopped.ITERATIONS),
        (Told("", "Restoration Failed"), rr.Stopped.STALLED),
        (Told("", "Infeasible Problem Detected"), rr.Stopped.ERROR),
        (Told("", "Invalid Number Detected"), rr.Stopped.ERROR),
        (Told("optimal", claim=3.0, gap=1e-2), rr.Stopped.STALLED),
    ],
)
def test_status_tables(told, reason):
    found, words = verdict(told, late=False)
    assert found == reason
    kept = reason is not rr.Stopped.CONVERGED
    assert any(told.condition in w and told.message in w for w in words) == kept


def test_only_optimal_is_success_and_an_open_gap_at_the_deadline_is_time():
    good = {c for c, r in pyomo_model.STOPPED.items() if r is rr.Stopped.CONVERGED}
    assert good == {"optimal", "locallyOptimal", "globallyOptimal"}
    assert verdict(Told("optimal", claim=1.0, gap=0.5), late=True)[0] == rr.Stopped.TIME


def test_nothing_is_left_behind(monkeypatch, tmp_path, capfd, caplog):
    elsewhere = tmp_path / "temporary"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger("pyomo").level
    for engine in (*LOCAL, *GLOBAL):
        if _found(engine):
            rr.solve(known(), f"pyomo:{engine}")
            rr.solve(known(flaw="infeasible"), f"pyomo:{engine}")
    assert list(Path(tmp_path).rglob("*")) == [elsewhere]
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.getLogger("pyomo").level == level


def test_engines_are_found_in_order_and_prove_themselves(monkeypatch):
    class Faults(dict):
        def __call__(self, engine):
            return self[engine]

    monkeypatch.setattr(pyomo_model, "fault", Faults(ipopt="", pounce="", casadi=""))
    assert Pyomo()._working() == "ipopt"
    monkeypatch.setattr(pyomo_model, "fault", Faults(ipopt="none", pounce="", casadi=""))
    assert Pyomo()._working() == "pounce"
    assert Pyomo(engine="casadi")._working() == "casadi"
    monkeypatch.setattr(pyomo_model, "fault", Faults(ipopt="none", pounce="bad", casadi="no"))
    with pytest.raises(SolverUnavailable, match="ipopt: none; pyomo:pounce: bad; pyomo:casadi: no"):
        Pyomo().available()


def test_a_wrong_or_missing_engine_is_not_available(monkeypatch):
    def wrong(model, ask):
        model.x.set_value(1.0)

    def missing(model, ask):
        raise ModuleNotFoundError("No module named 'casadi'")

    pyomo_model.fault.cache_clear()
    try:
        monkeypatch.setitem(pyomo_model.ENGINES, "pounce", wrong)
        monkeypatch.setitem(pyomo_model.ENGINES, "casadi", missing)
        with pytest.raises(SolverUnavailable, match=r"found 1 instead of 2\.22474"):
            Pyomo(engine="pounce").available()
        with pytest.raises(SolverUnavailable, match=r"No module.*pip install 'rralloc\[casadi\]'"):
            Pyomo(engine="casadi").available()
    finally:
        pyomo_model.fault.cache_clear()


def test_the_proof_runs_once_in_a_process(monkeypatch):
    calls = []
    real = pyomo_model._try_out
    monkeypatch.setattr(pyomo_model, "_try_out", lambda run: calls.append(1) or real(run))
    pyomo_model.fault.cache_clear()
    Pyomo(engine="pounce").available()
    Pyomo(engine="pounce").available()
    assert calls == [1]


def test_refusals():
    problem = WaterFilling.random(K=3, rng=0)
    with pytest.raises(SolverUnavailable, match="'cplex'; it knows ipopt, pounce"):
        rr.solve(problem, "pyomo:cplex")
    with pytest.raises(UnknownOption, match=r"engin.*engine"):
        rr.solve(problem, "pyomo", engin="pounce")

    class CvxpyOnly(Ellipsoid):
        @offers(Model)
        def model(self):
            return Model("key", lambda backend: None, backends=("cvxpy",))

    other = CvxpyOnly(weight=[1.0, 2.0, 4.0], limit=48.0)
    assert "only, not for pyomo" in rr.solvers_for(other).refused["pyomo"]
    with pytest.raises(NotOffered, match="cvxpy only"):
        rr.solve(other, "pyomo")
