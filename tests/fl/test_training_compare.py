"""Fair comparison: paired seeds, resumable, the same in other processes; tuning kept apart."""

import dataclasses
import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from toys import Everybody, OneByOne, make_link, make_task

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.fl import TrainingComparison, mean_interval, paired_difference, tune
from rralloc.fl.compress import QSGD
from rralloc.fl.learners import SoftmaxRegression
from rralloc.fl.schemes import Compressed, DigitalPacket, ErrorFree
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
    budget = found.common()
    every = {n: [h.at_seconds(budget) for h in runs] for n, runs in found.runs.items()}
    assert budget == min(h.seconds[-1] for runs in found.runs.values() for h in runs)
    np.testing.assert_array_equal(found.at("turns", budget), every["turns"])
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
    assert {"policy", "seed", "round", *curves} == set(frame.columns)


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


# -- costs, files, pairs ---------------------------------------------------------------------------


def test_a_comparison_survives_its_file_and_is_read_lazily(tmp_path):
    found = rr.fl.compare(make_task, make_link, POLICIES, range(2), rounds=3, tuned_on=(9,))
    short = rr.fl.compare(make_task, make_link, {"all": Everybody()}, range(2), rounds=1)
    ragged = TrainingComparison({**found.runs, "short": short.runs["all"]}, (0, 1), (9,))
    ragged.save(tmp_path / "deep" / "all.nc")
    again = TrainingComparison.load(tmp_path / "deep" / "all.nc")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["all.nc"]
    assert (again.seeds, again.tuned_on) == ((0, 1), (9,))
    assert list(again.runs) == list(ragged.runs)
    for name, runs in ragged.runs.items():
        for a, b in zip(runs, again.runs[name], strict=True):
            for item in dataclasses.fields(a):
                np.testing.assert_array_equal(getattr(a, item.name), getattr(b, item.name))
    assert again.table([1.0]) == ragged.table([1.0])
    assert "short" in again.runs
    assert "nobody" not in again.runs


def test_seeds_of_any_size_survive(tmp_path):
    for big in (2**63 - 1, 2**63 + 5):
        seeds = [1, big]
        found = rr.fl.compare(make_task(0), make_link(0), {"all": Everybody()}, seeds, rounds=1)
        found.save(tmp_path / "x.nc")
        again = TrainingComparison.load(tmp_path / "x.nc")
        assert [h.seed for h in again.runs["all"]] == seeds


def test_the_dataset_has_the_real_dimensions():
    found = rr.fl.compare(make_task, make_link, POLICIES, range(2), rounds=3).to_xarray()
    assert dict(found.sizes) == {"policy": 3, "seed": 2, "round": 4, "device": 4}
    last = found["accuracy"].sel(policy="feel").isel(round=-1).mean("seed")
    assert 0 < float(last) < 1


@pytest.mark.parametrize("cost", ["seconds", "joules", "bits", "round"])
def test_equal_cost_means_what_each_run_had_reached(cost):
    found = rr.fl.compare(make_task, make_link, POLICIES, range(3), rounds=4)
    budget = 0.6 * found.common(cost)
    for name, runs in found.runs.items():
        expected = []
        for h in runs:
            spent = np.arange(5.0) if cost == "round" else getattr(h, cost)
            expected.append(h.accuracy[spent <= budget][-1])
        np.testing.assert_array_equal(found.at(name, budget, cost), expected)
    gap = found.difference("turns", "all", budget, cost)
    differences = found.at("turns", budget, cost) - found.at("all", budget, cost)
    assert gap.mean == pytest.approx(differences.mean(), abs=1e-12)
    assert found.table([budget], cost=cost).count("\n") == 3


def test_what_an_accuracy_costs():
    found = rr.fl.compare(make_task, make_link, {"all": Everybody()}, range(2), rounds=6)
    target = 0.9 * min(h.accuracy.max() for h in found.runs["all"])
    for value, seconds, h in zip(
        found.reaching("all", target), found.reaching("all", target, "seconds"), found.runs["all"]
    ):
        first = next(r for r, a in enumerate(h.accuracy) if a >= target)
        assert (value, seconds) == (first, h.seconds[first])
        assert h.rounds_to(target) == first
    assert np.isinf(found.reaching("all", 1.1)).all()


def test_schemes_and_policies_come_in_pairs_and_tasks_may_be_one():
    pairs = {"sure": (ErrorFree(), Everybody()), "lossy": (DigitalPacket(1.5), Everybody())}
    task, link = make_task(0), make_link(0, csi="mean")
    found = rr.fl.compare(task, link, pairs, [5], rounds=3)
    for name, (scheme, policy) in pairs.items():
        alone = rr.fl.train(task, link, policy, rounds=3, seed=5, scheme=scheme)
        np.testing.assert_array_equal(found.runs[name][0].accuracy, alone.accuracy)
    assert found.runs["sure"][0].scheme != found.runs["lossy"][0].scheme


def test_a_scheme_is_part_of_a_stored_runs_name(tmp_path, counted):
    task, link = make_task(0), make_link(0, csi="mean")
    for margin in (1.0, 1.5, 1.0):
        pair = {"one": (DigitalPacket(margin), Everybody())}
        rr.fl.compare(task, link, pair, [5], rounds=2, path=tmp_path)
    assert len(counted) == 2


@dataclasses.dataclass(frozen=True)
class Weighted(Everybody):
    weights: object = None


def test_long_arrays_in_a_policy_tell_runs_apart(tmp_path, counted):
    task, link = make_task(0), make_link(0)
    first, second = np.ones(2000), np.ones(2000)
    second[3] += 1e-10
    for weights in (first, second, first.copy()):
        rr.fl.compare(task, link, {"a": Weighted(weights=weights)}, [5], rounds=1, path=tmp_path)
    assert len(counted) == 2


class Scaled:
    """A learner of a user: no dataclass, so its repr is an address."""

    def __init__(self, scale):
        self.scale, self.inner = scale, SoftmaxRegression(2, 3)

    def __getattr__(self, name):
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


def test_a_learner_that_does_not_tell_its_settings_is_not_stored(tmp_path):
    task = dataclasses.replace(make_task(0), learner=Scaled(0.5))
    with pytest.raises(InvalidProblem, match="Scaled does not tell its settings"):
        rr.fl.compare(task, make_link(0), {"a": Everybody()}, [5], rounds=1, path=tmp_path)
    rr.fl.compare(task, make_link(0), {"a": Everybody()}, [5], rounds=1)


def test_one_diverging_rate_does_not_end_a_search():
    scheme = Compressed(QSGD(4), link=ErrorFree())
    with np.errstate(all="ignore"):
        best, means = tune(
            task_at,
            make_link,
            Everybody(),
            [0.5, 1e200],
            [1],
            budget_s=9.0,
            rounds=4,
            scheme=scheme,
        )
    assert best == 0.5
    assert set(means) == {0.5, 1e200}
