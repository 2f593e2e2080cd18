"""A problem and a solver as somebody writes them in a notebook cell."""

import ast
import inspect
import runpy
from pathlib import Path

import numpy as np
import pytest
from toys import Says, make_task

import rralloc as rr
from rralloc import fl, registry
from rralloc.errors import ScenarioError, UnknownName, UnknownOption
from rralloc.fields import Constraint, data, variable
from rralloc.problem import Problem
from rralloc.problems import SPFL, WaterFilling
from rralloc.solver import Iterative, Solver
from rralloc.typing import Field


class Harvest(Problem):
    """max sum_k w_k sqrt(p_k), sum p <= P: p ~ w^2, value sqrt(P sum w^2)."""

    sense = "max"
    weight: Field = data("K", unit="1", low=0)
    power_budget_w: Field = data(unit="W", low=0)
    power_w = variable("K", unit="W", low=0, scale="power_budget_w")

    def objective(self, x):
        return (self.weight * np.sqrt(x["power_w"])).sum(-1)

    def constraints(self, x):
        slack = self.power_budget_w - x["power_w"].sum(-1)
        return (Constraint("power", slack, "W", self.power_budget_w),)


@pytest.fixture
def forgotten():
    """Whatever a test registers is unknown again afterwards."""
    before = dict(registry._guests)
    yield
    registry._guests.clear()
    registry._guests.update(before)
    names = ("solver_classes", "problem_classes", "policies", "studies")
    for name in names:
        getattr(registry, name).cache_clear()


def test_a_new_problem_takes_no_more_than_thirty_lines():
    assert len(inspect.getsource(Harvest).splitlines()) <= 30


@pytest.mark.parametrize("solver", [None, "scipy:slsqp", "scipy:trust-constr", "multistart"])
def test_generic_solvers_take_it_at_once(solver):
    problem = Harvest(weight=[[1.0, 2.0, 3.0], [2.0, 2.0, 1.0]], power_budget_w=[2.0, 5.0])
    options = {"starts": 3, "rng": 0} if solver == "multistart" else {}
    sol = rr.solve(problem, solver, **options)
    best = np.sqrt(problem.power_budget_w * (problem.weight**2).sum(-1))
    np.testing.assert_allclose(sol.objective, best, rtol=1e-6)
    assert (sol.status == rr.Status.LOCAL).all()
    assert np.isnan(sol.bound).all()


def test_one_line_more_proves_the_optimum():
    class Proven(Harvest):
        bound_method = "Cauchy-Schwarz"

        def bound(self, x=None, witness=None):
            return np.sqrt(self.power_budget_w * (self.weight**2).sum(-1))

    sol = rr.solve(Proven(weight=[1.0, 2.0], power_budget_w=3.0))
    assert sol.status is rr.Status.GLOBAL
    assert sol.bound_method == "Cauchy-Schwarz"


def test_a_registered_problem_is_known_by_name(forgotten):
    with pytest.raises(UnknownName, match="Harvest"):
        registry.problem_class("Harvest")
    assert rr.register(Harvest) is Harvest
    assert registry.problem_class("Harvest") is Harvest


class Halving(Solver):
    """Walks from the start towards the best corner, half the way at a time."""

    name = "halving"
    warm = True
    steps: int = 60

    def solve(self, problem, start, run):
        x = (problem.initial() if start is None else start)["power_w"]
        goal = problem.points()["best"]()["power_w"]
        for _ in range(self.steps):
            x = (x + goal) / 2
            run.offer({"power_w": x})


def test_a_solver_works_by_instance_and_class_unregistered():
    problem = WaterFilling.random(K=3, batch=4, rng=0)
    for solver in (Halving, Halving(), Halving(steps=5)):
        sol = rr.solve(problem, solver)
        assert sol.solver == "halving"
        assert (sol.status >= rr.Status.FEASIBLE).all()
        assert (sol.objective >= rr.solve(problem, "baseline:best").objective - 1e-9).all()
    assert rr.solve(problem, Halving(), steps=2).solver == "halving"
    with pytest.raises(UnknownOption, match="its options: steps"):
        rr.solve(problem, Halving, size=3)
    with pytest.raises(UnknownName, match="halving"):
        rr.solve(problem, "halving")


def test_a_registered_solver_is_known_by_name(forgotten):
    problem = WaterFilling.random(K=3, rng=0)
    assert rr.register(Halving) is Halving
    assert rr.solve(problem, "halving", steps=3).solver == "halving"
    assert "halving" in rr.solvers_for(problem)
    with pytest.raises(UnknownName, match="Did you mean 'halving'"):
        rr.solve(problem, "halvin")


def test_registering_again_replaces_the_class(forgotten):
    class Second(Halving):
        name = "halving"
        steps: int = 1

    rr.register(Halving)
    rr.register(Second)
    assert registry.solver_classes()["halving"] is Second


def test_a_registered_solver_that_needs_an_option_is_refused_not_a_crash(forgotten):
    rr.register(rr.Causal)
    rr.register(Says)
    problem = WaterFilling.random(K=3, rng=0)
    found = rr.solvers_for(problem)
    assert "closed-form" in found
    assert "no default for policy" in found.refused["causal"]
    assert "no default for act" in found.refused["says"]
    assert rr.solve(problem).solver == "closed-form"


class Countdown(Iterative):
    """Lane i is done after i + 1 steps, at p = its step count in equal shares."""

    name = "countdown"

    def begin(self, problem, start, run):
        from typing import NamedTuple

        class State(NamedTuple):
            left: np.ndarray
            made: np.ndarray
            done: np.ndarray

        left = np.arange(1, problem.size + 1)
        return State(left, np.zeros(problem.size), np.zeros(problem.size, dtype=bool))

    def step(self, problem, state, run):
        live = ~state.done
        left, made = state.left - live, state.made + live
        return type(state)(left, made, left == 0)

    def point(self, problem, state):
        share = np.ones(problem.shape_of(WaterFilling.power_w))
        return {"power_w": share * state.made[:, None] * 1e-3}


@pytest.mark.parametrize("lanes", [1, 2, 7, 150])
def test_an_iterative_solver_counts_each_lane_by_itself(lanes):
    problem = WaterFilling.random(K=2, batch=lanes, rng=0)
    sol = rr.solve(problem, Countdown)
    steps = np.arange(1, lanes + 1)
    np.testing.assert_array_equal(sol.iterations, steps)
    np.testing.assert_allclose(sol.power_w[:, 0], steps * 1e-3)
    assert (sol.stopped == rr.Stopped.CONVERGED).all()
    cut = rr.solve(problem, Countdown, max_iter=3)
    np.testing.assert_array_equal(cut.stopped, np.where(steps <= 3, 0, rr.Stopped.ITERATIONS))
    np.testing.assert_allclose(cut.power_w[:, 0], np.minimum(steps, 3) * 1e-3)


# -- a cell, run as text: every solver, files, a figure, training ---------------------------------

CELL = """
import numpy as np
import rralloc as rr
from rralloc.fields import Constraint, data, variable

class RootBand(rr.Problem):
    \"\"\"max sum_k w_k sqrt(b_k), sum b <= B: b ~ w^2, value sqrt(B sum w^2).\"\"\"
    sense = "max"
    weight = data("K", unit="1", low=0)
    budget_hz = data(unit="Hz", low=0, open_low=True)
    bandwidth_hz = variable("K", unit="Hz", low=0, scale="budget_hz")

    def objective(self, x):
        return (self.weight * np.sqrt(x["bandwidth_hz"])).sum(-1)

    def constraints(self, x):
        slack = self.budget_hz - x["bandwidth_hz"].sum(-1)
        return (Constraint("total bandwidth", slack, "Hz", self.budget_hz),)

    @classmethod
    def from_round(cls, round):
        return cls(weight=round.share, budget_hz=round.bandwidth_hz)

    def to_decision(self, x, round, rng):
        everybody = np.ones(round.devices, dtype=bool)
        return rr.Decision(everybody, round.share, x["bandwidth_hz"], round.power_w)
"""


@pytest.fixture
def cell():
    """The class that the cell leaves behind."""
    space = {"__name__": "__main__"}
    exec(CELL, space)
    return space["RootBand"]


@pytest.fixture
def root_band(cell):
    return cell(weight=[[1.0, 2.0, 3.0], [2.0, 2.0, 1.0]], budget_hz=[2e6, 5e5])


def test_the_cell_takes_no_more_than_thirty_lines():
    assert len(CELL.strip().splitlines()) <= 30


def test_every_solver_that_applies_finds_the_optimum_of_the_cell(root_band):
    best = np.sqrt(root_band.budget_hz * (root_band.weight**2).sum(-1))
    names = rr.solvers_for(root_band)
    assert {"scipy:slsqp", "scipy:trust-constr", "multistart"} <= set(names)
    for name in names:
        sol = rr.solve(root_band, name, rng=0)
        np.testing.assert_allclose(sol.objective, best, rtol=1e-5, err_msg=name)
        assert (sol.violation <= 1e-9).all(), name
    table = rr.compare(root_band).to_dataframe()
    assert sorted(table["solver"]) == sorted(names)
    assert (table["solved"] == 2).all()


def test_the_cell_is_written_and_read_back_once_it_is_registered(
    cell, root_band, forgotten, tmp_path
):
    sol = rr.solve(root_band)
    rr.io.save_scenario(root_band, tmp_path / "scenario.json")
    rr.io.save_result(sol, tmp_path / "result.json")
    with pytest.raises(UnknownName, match="RootBand"):
        rr.io.load_scenario(tmp_path / "scenario.json")
    rr.register(cell)
    assert rr.io.load_scenario(tmp_path / "scenario.json") == root_band
    read = rr.io.load_result(tmp_path / "result.json")
    np.testing.assert_array_equal(read.bandwidth_hz, sol.bandwidth_hz)
    assert "budget_hz" in str(rr.io.schema(cell))


def test_the_cell_is_plotted(root_band):
    plt = pytest.importorskip("matplotlib.pyplot")
    figure = rr.solve(root_band[0]).plot()
    try:
        assert figure.axes[0].lines or figure.axes[0].collections
        assert "bandwidth" in figure.axes[0].get_ylabel()
    finally:
        plt.close(figure)


def test_the_cell_allocates_in_training(cell):
    task, bands = make_task(), []
    policy = rr.Optimised(cell, options={"tol": 1e-10})
    link = fl.Link.cell(4, seed=0)
    watch = [lambda seen: bands.append(seen.decision.bandwidth_hz)]
    history = fl.train(task, link, policy, rounds=3, observers=watch)
    assert history.rounds == 3
    assert history.policy == "RootBand by default"
    share = task.share**2 / (task.share**2).sum()  # b ~ w^2
    np.testing.assert_allclose(np.array(bands) / link.bandwidth_hz, [share] * 3, atol=1e-4)


# -- an objective of one's own ---------------------------------------------------------------------

OWN = Path(__file__).parents[2] / "examples" / "own_objective.py"


@pytest.fixture(scope="module")
def averse():
    return runpy.run_path(str(OWN))["OutageAverse"]


def own(objective, **settings):
    return SPFL.random(K=3, load=6, rng=0, objective=objective, **settings)


def test_a_new_objective_takes_no_more_than_thirty_lines():
    (node,) = [n for n in ast.parse(OWN.read_text()).body if isinstance(n, ast.ClassDef)]
    assert node.end_lineno - node.decorator_list[0].lineno + 1 <= 30


@pytest.mark.parametrize("fading", ["common", "independent"])
def test_it_is_plain_plus_a_price_on_lost_updates(averse, fading):
    """J_a - J_plain = a w G (1 - q), q = exp(-phi_s/alpha) written out."""
    plain, mine = (own(law, fading=fading, batch=5) for law in ("plain", averse(2.0)))
    assert own(averse(0.0)).objective(own("plain").initial()) == pytest.approx(
        own("plain").objective(own("plain").initial()), rel=1e-12
    )
    x = mine.sample(np.random.default_rng(1))
    phi_s, _ = mine.thresholds(*mine.packet_bands(x))
    with np.errstate(divide="ignore"):
        lost = -np.expm1(-phi_s / x["sign_power_share"])
    price = 2.0 * (mine.weight * mine.gradient_energy * lost).sum(-1)
    np.testing.assert_allclose(mine.objective(x) - plain.objective(x), price, rtol=1e-9)


def test_every_solver_that_applies_takes_it_and_the_bound_holds(averse):
    problem = own(averse(2.0))
    names = rr.solvers_for(problem)
    assert {"dual", "sca", "alternating", "scipy:slsqp", "multistart"} <= set(names)
    found = {name: rr.solve(problem, name, rng=0, time_limit=2.0) for name in names}
    best = found["dual"].objective
    for name, sol in found.items():
        assert sol.status >= rr.Status.FEASIBLE, (name, sol.message)
        assert sol.bound <= best * (1 + 1e-9), name
        assert sol.objective >= best * (1 - 1e-6), name
    assert found["multistart"].objective == pytest.approx(best, rel=1e-6)
    refused = rr.solvers_for(problem).refused
    assert "'outage-averse' has no exported model" in refused["cvxpy"]
    chosen = ["dual", "sca", "baseline:uniform"]
    assert list(rr.compare(problem, chosen).to_dataframe()["solver"]) == chosen


def test_what_cannot_be_exported_says_why_and_what_to_do(averse, tmp_path):
    problem = own(averse(2.0))
    with pytest.raises(ScenarioError, match=r"OutageAverse.*no file can bring it back") as said:
        rr.io.save_scenario(problem, tmp_path / "s.json")
    assert "replace(" in str(said.value)
    with pytest.raises(ScenarioError, match="no file can bring it back"):
        rr.io.save_result(rr.solve(problem), tmp_path / "r.json")
    rr.io.save_scenario(problem.replace(objective="plain"), tmp_path / "s.json")
    read = rr.io.load_scenario(tmp_path / "s.json")
    assert read.replace(objective=averse(2.0)) == problem


def test_it_is_plotted(averse):
    plt = pytest.importorskip("matplotlib.pyplot")
    figure = rr.solve(own(averse(2.0))).plot()
    assert figure.axes
    plt.close(figure)


def test_it_allocates_in_training(averse):
    task = fl.Task.digits(clients=4, partition="iid", seed=0)
    link = fl.Link.loaded(4, load=3.0, weights=task.learner.size, seed=0)
    runs = {
        law: fl.train(
            task,
            link,
            rr.Optimised(SPFL, settings={"objective": law}, scheme=fl.SignModulus()),
            rounds=2,
        )
        for law in ("plain", averse(0.0), averse(5.0))
    }
    plain, same, other = runs.values()
    np.testing.assert_allclose(same.loss, plain.loss, rtol=1e-6)
    assert not np.allclose(other.loss[1:], plain.loss[1:], rtol=1e-6)
