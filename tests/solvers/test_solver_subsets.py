"""greedy and exhaustive: sets of devices, judged by the parent's objective."""

import itertools

import numpy as np
import pytest
from oracles import sync
from toys import Bowl

import rralloc as rr
from rralloc.errors import NotOffered
from rralloc.fields import data, variable
from rralloc.forms import ClosedForm, Subsets, offers
from rralloc.problem import Problem
from rralloc.problems import DeviceCount
from rralloc.typing import Field


class Team(Problem):
    """max (sum of pair values inside the set) - (sum of costs): x_k in {0, 1}."""

    sense = "max"
    pair: Field = data("K K", unit="1")
    cost: Field = data("K", unit="1", low=0)
    member = variable("K", unit="1", low=0, high=1)

    def objective(self, x):
        m = x["member"]
        return (m[..., :, None] * m[..., None, :] * self.pair).sum((-2, -1)) - (m * self.cost).sum(
            -1
        )

    @offers(Subsets)
    def subsets(self):
        def lift(mask, x):
            return {"member": np.where(mask, x["x"], 0.0)}

        return Subsets(self.sizes["K"], lambda mask: Ones(centre=mask.astype(float)), lift)

    def best(self):
        every = itertools.product([0.0, 1.0], repeat=self.sizes["K"])
        return max(float(self.objective({"member": np.array(m)})) for m in every if any(m))


class Ones(Bowl):
    """What remains when the set is chosen: x = c."""

    @offers(ClosedForm)
    def closed_form(self):
        return ClosedForm(lambda: {"x": np.broadcast_to(self.centre, self.shape_of(type(self).x))})


def team(seed, K=6):
    rng = np.random.default_rng(seed)
    return Team(pair=rng.normal(size=(K, K)), cost=rng.uniform(0, 1, size=K))


@pytest.mark.parametrize("seed", range(5))
def test_exhaustive_finds_the_best_team(seed):
    problem = team(seed)
    sol = rr.solve(problem, "exhaustive")
    assert sol.objective == pytest.approx(problem.best(), rel=1e-12)
    assert set(np.unique(sol.member)) <= {0.0, 1.0}
    assert rr.solve(problem, "greedy").objective <= sol.objective + 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_exhaustive_against_the_oracle_of_device_counts(seed):
    problem = DeviceCount.random(K=5, rng=seed)
    best, chosen = sync.solve_count_exhaustive(
        problem.snr_bandwidth_hz, problem.compute_s, 1e6, 1e6, 50.0, 200.0
    )
    sol = rr.solve(problem, "exhaustive")
    assert sol.objective == pytest.approx(best, rel=1e-9)
    assert np.flatnonzero(sol.selected).tolist() == list(chosen)
    assert sol.status is rr.Status.GLOBAL
    greedy = rr.solve(problem, "greedy")
    assert best * (1 - 1e-12) <= greedy.objective


def test_greedy_by_hand():
    """Alone 0 is best; then 1 helps by its pair; 2 never helps."""
    pair = np.array([[3.0, 2.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    problem = Team(pair=pair, cost=[0.0, 2.5, 5.0])
    sol = rr.solve(problem, "greedy")
    np.testing.assert_array_equal(sol.member, [1.0, 1.0, 0.0])
    assert sol.objective == pytest.approx(3.5)


def test_patience_walks_through_a_valley():
    """No pair helps, all three together do."""
    pair = np.full((3, 3), 1.0) - 0.5 * np.eye(3)
    problem = Team(pair=pair, cost=[0.0, 2.75, 2.75])
    assert rr.solve(problem, "greedy").objective == pytest.approx(0.5)
    patient = rr.solve(problem, "greedy", patience=2)
    assert patient.objective == pytest.approx(7.5 - 5.5)
    assert patient.objective == pytest.approx(problem.best())


def test_a_device_that_cannot_be_heard_is_not_chosen():
    problem = DeviceCount.random(K=4, rng=1)
    gain = problem.path_gain.copy()
    gain[2] = 0.0
    deaf = problem.replace(path_gain=gain)
    for name in ("greedy", "exhaustive", "closed-form"):
        sol = rr.solve(deaf, name)
        assert not sol.selected[2]
        assert sol.status >= rr.Status.FEASIBLE
    without = rr.solve(problem.select(K=[0, 1, 3]), "exhaustive")
    assert rr.solve(deaf, "exhaustive").objective == pytest.approx(without.objective, rel=1e-12)


def test_too_many_devices_are_refused_with_the_number():
    problem = DeviceCount.random(K=17, rng=0)
    with pytest.raises(NotOffered, match=r"1\.3e\+05 sets of 17 devices; limit is 16"):
        rr.solve(problem, "exhaustive")
    assert "17 devices" in rr.solvers_for(problem).refused["exhaustive"]
    assert rr.solve(problem, "greedy").status >= rr.Status.FEASIBLE
    with pytest.raises(NotOffered, match="limit is 3"):
        rr.solve(DeviceCount.random(K=4, rng=0), "exhaustive", limit=3)
