"""Fair comparison: paired seeds, resumable, the same in other processes; tuning kept apart."""

import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from toys import Everybody, OneByOne, make_link, make_task

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.fl import mean_interval, paired_difference, tune
from rralloc.policy import Optimised
from rralloc.problems import FEELScheduling, MinMaxLatency

POLICIES = {"all": Everybody(), "turns": OneByOne(), "feel": Optimised(FEELScheduling)}


@pytest.fixture
def counted(monkeypatch):
    """Counts the trainings and lets them happen."""
    ran = []
    source = importlib.import_module("rralloc.fl.compare")  # the name itself is the function
    real = source.train

    def train(task, link, policy, **options):
        ran.append((policy.name, options["seed"]))
        return real(task, link, policy, **options)

    monkeypatch.setattr(source, "train", train)
    return ran


def same(one, two):
    assert list(one.runs) == list(two.runs)
    for name in one.runs:
        for a, b in zip(one.runs[name], two.runs[name], strict=True):
            assert (a.policy, a.seed) == (b.policy, b.seed)
            np.testing.assert_array_equal(a.accuracy, b.accuracy)
            np.testing.assert_array_equal(a.seconds, b.seconds)


def test_every_policy_with_every_seed(counted):
    found = rr.fl.compare(make_task, make_link, POLICIES, [3, 1], rounds=2)
    assert len(counted) == 6
    assert found.seeds == (3, 1)
    for name, runs in found.runs.items():
        assert [h.seed for h in runs] == [3, 1]
        assert {h.policy for h in runs} == {POLICIES[name].name}
        alone = rr.fl.train(make_task(3), make_link(3), POLICIES[name], rounds=2, seed=3)
        np.testing.assert_array_equal(runs[0].accuracy, alone.accuracy)


def test_a_comparison_resumes(tmp_path, counted):
    settings = {"rounds": 2, "path": tmp_path / "runs"}
    first = rr.fl.compare(make_task, make_link, POLICIES, range(2), **settings)
    assert len(counted) == 6
    assert len(list((tmp_path / "runs").iterdir())) == 6
    second = rr.fl.compare(make_task, make_link, POLICIES, range(2), **settings)
    assert len(counted) == 6
    same(first, second)
    next((tmp_path / "runs").glob("turns-seed1-*")).unlink()
    rr.fl.compare(make_task, make_link, POLICIES, range(3), **settings)
    assert counted[6:] == [
        ("everybody", 2),
        ("one by one", 1),
        ("one by one", 2),
        (POLICIES["feel"].name, 2),
    ]


def test_other_arguments_are_other_runs(tmp_path, counted):
    settings = {"path": tmp_path}
    one = {"all": Everybody()}
    rr.fl.compare(make_task, make_link, one, [0], rounds=2, **settings)
    rr.fl.compare(make_task, make_link, one, [0], rounds=3, **settings)
    rr.fl.compare(make_task, make_link, {"all": OneByOne()}, [0], rounds=2, **settings)
    tuned = {"all": Optimised(FEELScheduling, settings={"tradeoff": 0.3})}
    rr.fl.compare(make_task, make_link, tuned, [0], rounds=2, **settings)
    tuned = {"all": Optimised(FEELScheduling, settings={"tradeoff": 0.4})}
    rr.fl.compare(make_task, make_link, tuned, [0], rounds=2, **settings)
    assert len(counted) == 5


def test_tuning_seeds_may_not_be_reported():
    with pytest.raises(InvalidProblem, match=r"seeds \[1, 2\] were tuned on"):
        rr.fl.compare(make_task, make_link, POLICIES, range(3), tuned_on=[2, 1, 9], rounds=1)
    found = rr.fl.compare(make_task, make_link, POLICIES, [0], tuned_on=(s for s in [9]), rounds=1)
    assert found.tuned_on == (9,)


def test_processes_give_the_same_runs(tmp_path):
    here = rr.fl.compare(make_task, make_link, POLICIES, range(2), rounds=3)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = rr.fl.compare(
            make_task, make_link, POLICIES, range(2), rounds=3, executor=pool, path=tmp_path
        )
    same(here, there)
    assert len(list(tmp_path.iterdir())) == 6


def test_intervals_are_those_of_paired_seeds():
    found = rr.fl.compare(make_task, make_link, POLICIES, range(4), rounds=6)
    budget = found.common_seconds()
    every = {n: [h.at_seconds(budget) for h in runs] for n, runs in found.runs.items()}
    assert budget == min(h.seconds[-1] for runs in found.runs.values() for h in runs)
    np.testing.assert_array_equal(found.at_seconds("turns", budget), every["turns"])
    assert found.mean("all", budget) == mean_interval(every["all"])
    expected = paired_difference(every["all"], every["feel"])
    assert found.difference("all", "feel", budget) == expected
    assert expected.mean == pytest.approx(np.mean(every["all"]) - np.mean(every["feel"]))


def test_the_table():
    found = rr.fl.compare(make_task, make_link, POLICIES, range(3), rounds=6)
    lines = found.table([1.0, 2.0], rival="turns").splitlines()
    assert "test accuracy, %" in lines[0]
    assert "1 s" in lines[0]
    assert lines[0].endswith("minus turns at 2 s")
    assert [line.split()[0] for line in lines[1:]] == list(POLICIES)
    assert lines[2].rstrip().endswith("-")
    mean = 100 * found.mean("feel", 1.0).mean
    assert f"{mean:.1f} ±" in lines[3]
    d = found.difference("feel", "turns", 2.0)
    assert lines[3].endswith(f"{100 * d.mean:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]")
    assert found.table([1.0]).splitlines()[0].endswith("minus all at 1 s")


def test_the_data_frame_is_long():
    frame = rr.fl.compare(make_task, make_link, POLICIES, range(2), rounds=3).to_dataframe()
    assert len(frame) == 3 * 2 * 4
    curves = {"accuracy", "loss", "seconds", "joules", "bits", "local_steps"}
    assert {"policy", "seed", "round", *curves} == set(
        frame.columns
    )


def task_at(seed, rate):
    return make_task(seed, rate)


def test_tuning_takes_the_best_rate_and_tells_all():
    rates = [1e-6, 0.5, 3.0]
    best, means = tune(
        task_at, make_link, Everybody(), rates, (s for s in (5, 6)), budget_s=1e9, rounds=15
    )
    assert list(means) == rates
    assert best == max(means, key=means.get)
    assert best != 1e-6
    by_hand = [
        rr.fl.train(task_at(s, 0.5), make_link(s), Everybody(), rounds=15, seed=s).accuracy[-1]
        for s in (5, 6)
    ]
    assert means[0.5] == pytest.approx(np.mean(by_hand))


def test_a_failing_run_is_not_hidden():
    silent = {"quiet": Optimised(MinMaxLatency)}

    def link(seed):
        return make_link(seed, mean_gain=[0.0, 1e-11, 1e-11, 1e-11])

    with pytest.raises(rr.errors.RRAllocError, match="device 0"):
        rr.fl.compare(make_task, link, silent, [0], rounds=1)
