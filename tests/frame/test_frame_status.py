"""Status and Stopped: ordered codes that refuse strings, alone and in arrays."""

import copy
import pickle

import numpy as np
import pytest
from toys import Bowl, Says, offering

import rralloc as rr
from rralloc.problems import MADS, WaterFilling
from rralloc.solution import Codes, codes, gap_between, in_domain


@pytest.fixture
def batch():
    return rr.solve(WaterFilling.random(K=3, batch=(2, 3), rng=0), "baseline:equal")


def test_statuses_are_ordered_by_what_is_known():
    words = ["NONE", "INFEASIBLE", "VIOLATED", "FEASIBLE", "LOCAL", "GLOBAL"]
    members = [rr.Status[w] for w in words]
    assert members == sorted(members)
    assert list(rr.Status) == members
    assert rr.Status.GLOBAL > rr.Status.LOCAL >= rr.Status.LOCAL > rr.Status.FEASIBLE
    assert [m.name for m in rr.Stopped] == [
        "CONVERGED",
        "ITERATIONS",
        "TIME",
        "STALLED",
        "USER",
        "ERROR",
    ]


def test_one_instance_has_members(batch):
    one = rr.solve(WaterFilling.random(K=3, rng=0))
    assert one.status is rr.Status.GLOBAL
    assert one.stopped is rr.Stopped.CONVERGED
    assert batch.status[0, 1] is rr.Status.FEASIBLE
    assert batch[0, 1].status is rr.Status.FEASIBLE
    assert {type(s) for s in batch.status[0]} == {rr.Status}


def test_arrays_compare_with_members_and_numbers(batch):
    assert batch.status.dtype == np.int8
    assert (batch.status >= rr.Status.FEASIBLE).all()
    assert not (batch.status == rr.Status.GLOBAL).any()
    assert (batch.status != rr.Status.GLOBAL).shape == (2, 3)
    assert (batch.status == 3).all()
    assert (batch.status == batch.status).all()


@pytest.mark.parametrize("other", ["GLOBAL", "global", "", np.str_("local"), ["global"] * 3])
def test_comparing_with_strings_raises(batch, other):
    for left in (batch.status, batch.status[0, 0], batch.stopped, rr.Stopped.TIME):
        with pytest.raises(TypeError, match=r"rr\.Status\.GLOBAL"):
            left == other  # noqa: B015
        with pytest.raises(TypeError, match=r"rr\.Status\.GLOBAL"):
            left != other  # noqa: B015
        with pytest.raises(TypeError):
            other == left  # noqa: B015


def test_ordering_against_strings_raises(batch):
    with pytest.raises(TypeError):
        batch.status >= "feasible"  # noqa: B015
    with pytest.raises(TypeError):
        rr.Status.LOCAL < "global"  # noqa: B015


def test_words_and_counts():
    array = codes(np.array([[5, 5, 3], [1, 0, 5]]), rr.Status)
    assert array.counts() == {"global": 3, "feasible": 1, "infeasible": 1, "none": 1}
    assert list(array.counts()) == ["global", "feasible", "infeasible", "none"]
    assert array.names().tolist() == [
        ["global", "global", "feasible"],
        ["infeasible", "none", "global"],
    ]
    assert array[0].names().tolist() == ["global", "global", "feasible"]
    ended = codes(np.array([0, 2]), rr.Stopped)
    assert ended.names().tolist() == ["converged", "time"]
    assert ended[::-1].counts() == {"time": 1, "converged": 1}


@pytest.mark.parametrize("again", [lambda a: pickle.loads(pickle.dumps(a)), copy.copy])
def test_copies_keep_their_words(again):
    ended = again(codes(np.array([0, 4]), rr.Stopped))
    assert isinstance(ended, Codes)
    assert ended.counts() == {"user": 1, "converged": 1}
    assert ended[1] is rr.Stopped.USER


def test_what_is_computed_from_codes_is_plain(batch):
    better = batch.status >= rr.Status.FEASIBLE
    assert type(better) is np.ndarray
    assert better.dtype == bool
    assert better[0, 0] == np.True_
    assert type(batch.status + 1) is np.ndarray
    assert int(batch.status.max()) == rr.Status.FEASIBLE
    assert np.unique(np.asarray(batch.status)).tolist() == [3]


def test_gap_formula():
    objective = np.array([4.0, 4.0, -2.0, 0.0, 0.0, 1.0, 3.0, np.inf])
    bound = np.array([5.0, 4.0, -1.0, 0.0, 1e-320, np.nan, np.inf, np.inf])
    gap = gap_between(objective, bound)
    np.testing.assert_allclose(gap[:4], [0.2, 0.0, 0.5, 0.0], rtol=1e-15)
    assert gap[4] == 1e-320 / 1e-300
    assert np.isnan(gap[5:7]).all()
    assert gap[7] == 0.0


def test_only_the_bad_infinity_is_outside_the_domain():
    values = np.array([1.0, np.inf, -np.inf, np.nan])
    assert in_domain(values, "max").tolist() == [True, True, False, False]
    assert in_domain(values, "min").tolist() == [True, False, True, False]


def test_a_coordinate_that_is_worth_everything_is_sent_and_proven():
    fields = {"contact_s": 5.0, "snr_per_watt": 300.0, "model_size": 2410, "bandwidth_hz": 4e3}
    fields |= {"bits_per_coordinate": 44, "power_max_w": 0.2}
    problem = MADS(value=[1.0, np.inf], energy_price=0.5, **fields)
    sol = rr.solve(problem)
    assert sol.objective == np.inf
    assert sol.status == rr.Status.GLOBAL
    assert rr.certify(problem, sol).status == rr.Status.GLOBAL
    assert rr.verify(problem, sol).ok()
    assert "domain" not in sol.message
    dear = MADS(value=1.0, energy_price=[np.inf], **fields)
    paid = {"kept": [1.0], "power_w": [0.1], "airtime_s": [1.0]}
    assert dear.objective(paid) == -np.inf
    assert not rr.verify(dear, paid).ok()


def test_the_verdict_tells_the_two_infinities_apart():
    """A point of finite worth, one of +inf, one of -inf: the last alone is outside the domain."""
    point = {"kept": [[1.0]] * 3, "power_w": [[0.1]] * 3, "airtime_s": [[1.0]] * 3}
    problem = MADS(
        value=[[1.0], [np.inf], [1.0]],
        energy_price=[[0.5], [0.5], [np.inf]],
        **{"contact_s": 5.0, "snr_per_watt": 300.0, "model_size": 2410, "bandwidth_hz": 4e3},
        **{"bits_per_coordinate": 44, "power_max_w": 0.2},
    )
    sol = rr.solve(problem, Says(act=offering(**point)))
    words = [rr.Status.FEASIBLE, rr.Status.GLOBAL, rr.Status.VIOLATED]
    assert sol.objective[1:].tolist() == [np.inf, -np.inf]
    assert (sol.violation == 0).all()
    assert sol.gap[1] == 0
    assert sol.status.tolist() == words
    assert rr.certify(problem, sol).status.tolist() == words
    assert "1 of 3 points outside the objective's domain (infinite)" in sol.message
    assert [rr.verify(problem[i], sol[i]).ok() for i in range(3)] == [True, True, False]


class Nameless(Bowl):
    """A bowl whose worth is not a number."""

    def objective(self, x):
        return np.full(x["x"].shape[:-1], np.nan)


@pytest.mark.parametrize("sense", ["min", "max"])
def test_a_worth_that_is_not_a_number_is_not_feasible(monkeypatch, sense):
    monkeypatch.setattr(Nameless, "sense", sense)
    problem = Nameless(centre=[0.5])
    sol = rr.solve(problem, Says(act=offering(x=[[0.5]])))
    assert sol.violation == 0
    assert sol.status == rr.Status.VIOLATED
    assert not rr.verify(problem, sol).ok()
