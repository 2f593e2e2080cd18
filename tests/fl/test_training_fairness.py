"""Training: whatever the policy, one seed means one data set, one start, one channel."""

import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from toys import Everybody, OneByOne, Tape, make_link, make_task

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.fl import DigitalPacket, ErrorFree, Streams, Task
from rralloc.policy import Optimised
from rralloc.problems import FEELScheduling, MinMaxLatency


def taped(policy, seed=0, rounds=5, inner=None, task=None, link=None):
    tape = Tape(inner or DigitalPacket())
    history = rr.fl.train(
        task or make_task(seed), link or make_link(seed), policy, rounds=rounds, seed=seed,
        scheme=tape,
    )  # fmt: skip
    return history, tape.seen


POLICIES = [
    Everybody(),
    OneByOne(),
    Optimised(MinMaxLatency),
    Optimised(MinMaxLatency, "baseline:equal-split"),
    Optimised(FEELScheduling),
]


@pytest.mark.parametrize("policy", POLICIES[1:], ids=lambda p: p.name)
def test_two_policies_see_the_same_channel_start_and_batches(policy):
    task = make_task(0, batch_size=5, local_steps=2)
    _, one = taped(Everybody(), task=task)
    _, two = taped(policy, task=task)
    for (_, gain, *_), (_, other, *_) in zip(one, two, strict=True):
        np.testing.assert_array_equal(gain, other)
    # Updates of round 0 are a function of data, split, initial weights and batches alone.
    np.testing.assert_array_equal(one[0][0], two[0][0])
    assert not np.array_equal(one[1][0], one[0][0])


def test_batches_depend_on_the_round_not_on_the_policy():
    """With a learning rate of almost zero the weights stand still: every round must agree."""
    task = make_task(0, learning_rate=1e-300, batch_size=4)
    _, one = taped(Everybody(), task=task)
    _, two = taped(OneByOne(), task=task)
    for (updates, *_), (other, *_) in zip(one, two, strict=True):
        np.testing.assert_array_equal(updates, other)
    assert len({updates.tobytes() for updates, *_ in one}) == len(one)


def test_another_seed_is_another_world():
    task = make_task(0, batch_size=5)
    _, one = taped(Everybody(), seed=0, task=task, link=make_link(0))
    _, two = taped(Everybody(), seed=1, task=task, link=make_link(0))
    assert not np.array_equal(one[0][1], two[0][1])
    assert not np.array_equal(one[0][0], two[0][0])


def test_the_digits_task_is_a_function_of_its_seed():
    one, two, other = (Task.digits(6, seed=s) for s in (4, 4, 5))
    np.testing.assert_array_equal(one.dataset.test_x, two.dataset.test_x)
    for part, twin in zip(one.clients, two.clients, strict=True):
        np.testing.assert_array_equal(part, twin)
    assert [len(p) for p in one.clients] != [len(p) for p in other.clients]


def test_a_policy_cannot_touch_the_channel():
    class Vandal(Everybody):
        reports = ("gradient_norm",)

        def decide(self, round, memory, rng):
            for array in (round.path_gain, round.compute_s, round.statistics["gradient_norm"]):
                try:
                    array[:] = 1e-9
                except ValueError:
                    continue
            return super().decide(round, memory, rng)

    _, honest = taped(Everybody())
    _, spoilt = taped(Vandal())
    for (updates, gain, *_), (same, other, *_) in zip(honest, spoilt, strict=True):
        np.testing.assert_array_equal(gain, other)
        np.testing.assert_array_equal(updates, same)


def digest(history) -> str:
    curves = (history.accuracy, history.loss, history.seconds, history.joules, history.bits)
    return hashlib.sha256(b"".join(np.asarray(c).tobytes() for c in curves)).hexdigest()


def one_run(seed: int) -> str:
    policy = Optimised(FEELScheduling, settings={"draws": 2})
    return digest(
        rr.fl.train(make_task(seed, batch_size=3), make_link(seed), policy, rounds=6, seed=seed)
    )


def test_runs_are_the_same_in_every_process():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = list(pool.map(one_run, [0, 1, 0]))
    assert there == [one_run(0), one_run(1), one_run(0)]
    assert there[0] != there[1]


def test_the_policy_draws_from_its_own_stream_of_each_round():
    heard = []

    class Listener(Everybody):
        def start(self, round, rng):
            heard.append(rng.random())

        def decide(self, round, memory, rng):
            heard.append(rng.random())
            rng.normal(size=round.index)
            return super().decide(round, memory, rng)

    taped(Listener(), seed=9, rounds=3)
    streams = Streams(9)
    expected = [streams.rng("policy").random()]
    expected += [streams.rng("policy", t).random() for t in range(3)]
    assert heard == expected


def test_the_server_is_told_what_arrived_and_nothing_else():
    told = []

    class Pupil(Everybody):
        def learn(self, feedback, memory):
            told.append(feedback)
            return memory

    _, seen = taped(Pupil(), link=make_link(0, csi="mean"), rounds=4)
    assert [f["round"] for f in told] == [0, 1, 2, 3]
    for feedback, (_, _, _, received, _) in zip(told, seen, strict=True):
        assert set(feedback) == {"round", "arrived", "seconds", "joules", "bits"}
        assert feedback["seconds"] == received.seconds
        np.testing.assert_array_equal(feedback["arrived"], received.arrived)


def test_with_mean_knowledge_the_server_never_sees_the_gain():
    _, seen = taped(Everybody(), link=make_link(0, csi="mean"))
    mean = make_link(0).mean_gain
    for _, gain, _, _, round in seen:
        np.testing.assert_array_equal(round.path_gain, mean)
        assert not np.array_equal(gain, mean)
    _, seen = taped(Everybody(), link=make_link(0, csi="full"))
    for _, gain, _, _, round in seen:
        np.testing.assert_array_equal(round.path_gain, gain)


def test_full_participation_is_gradient_descent():
    task = make_task(0)
    history, _ = taped(Everybody(), task=task, inner=ErrorFree(), rounds=6)
    w = task.learner.init(Streams(0).rng("init"))
    for t in range(6):
        assert history.loss[t] == pytest.approx(task.evaluate(w).train_loss, rel=1e-12)
        w = w - task.learning_rate * (task.share @ task.updates(w))
    assert history.loss[-1] < history.loss[0]


def test_numbers_of_devices_must_agree():
    with pytest.raises(InvalidProblem, match="3 devices and the task 4 clients"):
        rr.fl.train(
            make_task(), make_link(mean_gain=[1.0] * 3, compute_s=0.1), Everybody(), rounds=1
        )


@pytest.mark.parametrize("wrong", [{"rounds": -1}, {"rounds": 2, "evaluate_every": 0}])
def test_counts_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InvalidProblem, match="rounds >= 0"):
        rr.fl.train(make_task(), make_link(), Everybody(), **wrong)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fading", "ricean"),
        ("csi", "perfect"),
        ("mean_gain", [1e-10, -1e-10, 1e-10, 1e-10]),
        ("mean_gain", [1e-10, np.nan, 1e-10, 1e-10]),
        ("compute_s", [0.1, 0.2]),
        ("power_w", -0.1),
        ("power_w", [0.1, 0.1]),
        ("bandwidth_hz", 0.0),
        ("noise_psd_w_hz", 0.0),
        ("payload_bit", -1.0),
        ("bits_per_weight", np.inf),
    ],
)
def test_a_link_refuses_what_it_cannot_mean(name, value):
    with pytest.raises(InvalidProblem, match=rf"Link\.{name}"):
        make_link(0, **{name: value})
