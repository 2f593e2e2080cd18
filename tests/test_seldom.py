"""Paths that coverage showed no other test takes, and that a user may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rralloc as rr
from rralloc import fl, io
from rralloc.errors import InvalidProblem, NotOffered, ScenarioError, UnknownName
from rralloc.fields import data, option, variable
from rralloc.fl import AirLink, Task
from rralloc.fl.observers import Log
from rralloc.policy import Optimised
from rralloc.problem import Problem
from rralloc.problems import OTABound, OTASelection, WaterFilling
from rralloc.typing import Field


@pytest.fixture(scope="module")
def task():
    return Task.digits(clients=5, seed=0)


# -- training -------------------------------------------------------------------------------------


def test_a_bound_over_the_air_is_a_policy(task):
    """OTABound trains: who helps the bound sends, with shares that sum to one."""
    seen = []

    class Watch(Optimised):
        def decide(self, round, memory, rng):
            found = super().decide(round, memory, rng)
            seen.append((round, found[0] if isinstance(found, tuple) else found))
            return found

    link = AirLink.spread(5, antennas=3, snr_db=10.0, seed=1)
    history = rr.fl.train(task, link, Watch(OTABound), rounds=3, seed=2)
    assert len(seen) == 3
    for round, decision in seen:
        assert decision.scheduled.any()
        assert decision.weight.sum() == pytest.approx(1.0)
        assert (decision.weight[~decision.scheduled] == 0).all()
        problem = OTABound.from_round(round)
        assert problem.noise_power == pytest.approx(link.noise_w / 2)
        best = problem.complete({"beamformer": decision.x["beamformer"]})["selected"]
        np.testing.assert_array_equal(decision.scheduled, best & (round.share > 0))
    assert np.isfinite(history.accuracy).all()


def test_a_history_is_read_at_budgets_of_every_kind(task):
    link = AirLink.spread(5, antennas=3, snr_db=10.0, seed=1)
    log = Log()
    history = fl.train(task, link, Optimised(OTASelection), rounds=4, seed=0, observers=[log])
    assert history.at_round(4) == history.accuracy[-1]
    assert history.at_bits(np.inf) == history.at_seconds(np.inf) == history.accuracy[-1]
    assert history.at_best_loss() == history.accuracy[np.nanargmin(history.loss)]
    assert log.rounds == 4
    assert len(log) == len(list(log)) > 0
    frame = log.to_xarray()
    assert frame.sizes == {"round": 4, "device": 5}
    assert "arrived" in frame
    with pytest.raises(KeyError, match="arrived"):
        Log()["arrived"]


def test_a_line_of_sight_at_an_array_leaves_no_fading():
    """With nearly all power in the direct path every antenna hears every device at |h| = 1."""
    problem = OTASelection.random(K=4, batch=2, rng=0, N=3, k_factor=1e8)
    assert problem.channel.shape == (2, 3, 4)
    np.testing.assert_allclose(np.abs(problem.channel), 1.0, atol=1e-3)
    faded = OTASelection.random(K=400, rng=0, N=6, k_factor=4.0)
    assert np.mean(np.abs(faded.channel) ** 2) == pytest.approx(1.0, abs=0.1)


# -- problems -------------------------------------------------------------------------------------


class Plain(Problem):
    """Nothing but what a problem must have."""

    sense = "min"
    differentiable = False
    target: Field = data("K", unit="1", doc="where to go")
    order: float = option(default=1.0)
    x = variable("K", unit="1", low=0, high=1)

    def objective(self, x):
        return np.abs(x["x"] - self.target).sum(-1)


def test_options_of_numpy_and_of_python_are_one_content():
    ours, theirs = Plain(target=[0.5], order=2.0), Plain(target=[0.5], order=np.float64(2.0))
    assert type(theirs.order) is float
    assert (ours == theirs, hash(ours)) == (True, hash(theirs))


def test_what_a_plain_problem_does_not_offer_it_says():
    problem = Plain(target=[0.5])
    with pytest.raises(NotOffered, match="Plain is not differentiable"):
        problem.gradient({"x": np.array([0.5])})
    with pytest.raises(NotOffered, match="Plain does not say how a server acts"):
        problem.to_decision({}, None, np.random.default_rng(0))
    with pytest.raises(InvalidProblem, match=r"Plain\.target is None; give the where to go"):
        Plain(target=None)
    assert problem.why_infeasible() == "no feasible point"
    with pytest.raises(UnknownName, match="newtn"):
        rr.solve(WaterFilling.random(K=2, rng=0), "level", method="newtn")


# -- files ----------------------------------------------------------------------------------------


def test_a_device_keeps_its_place():
    io.write_text("/dev/null", "text")
    assert not Path("/dev/null").is_file()


def test_numbers_that_json_cannot_hold_are_refused():
    with pytest.raises(ScenarioError, match=r"data\.gain: JSON cannot hold an array of "):
        io.values.encode("data.gain", np.array(["1.0"]))


def test_a_constructor_that_fails_is_told_with_the_class():
    class Fussy(Plain):
        def check(self):
            raise TypeError("not like this")

    rr.register(Fussy)
    try:
        document = {"schema": io.SCENARIO, "problem": "Fussy", "data": {"target": [0.5]}}
        with pytest.raises(ScenarioError, match="Fussy cannot be built from this: not like this"):
            io.from_dict(document)
    finally:
        from rralloc import registry

        registry._guests.pop("Fussy")
        registry.problem_classes.cache_clear()
