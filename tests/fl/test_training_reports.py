"""What devices report, local steps that a policy decides, momentum of the server, streaming."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from toys import Everybody, make_link, make_task

import rralloc as rr
from rralloc.errors import InvalidProblem, UnknownName
from rralloc.fl.reports import about_models
from rralloc.fl.schemes import DigitalPacket, ErrorFree
from rralloc.fl.updates import Updates

SURE = ErrorFree()


class Watching(Everybody):
    """Remembers every round it was shown."""

    def __init__(self, *reports, steps=None, senders=None):
        self.reports, self.steps, self.senders, self.seen = reports, steps, senders, []

    def decide(self, round, memory, rng):
        self.seen.append(round)
        decision, memory = super().decide(round, memory, rng)
        if self.senders is not None:
            decision = dataclasses.replace(decision, scheduled=self.senders(round), in_turn=True)
        steps = None if self.steps is None else self.steps[round.index]
        return dataclasses.replace(decision, local_steps=steps), memory


def test_reports_about_updates():
    task = make_task()
    names = ("gradient_norm", "gradient_energy", "gradient_divergence")
    policy = Watching(*names)
    rr.fl.train(task, make_link(), policy, rounds=1, scheme=SURE)
    w = task.learner.init(rr.fl.Streams(0).rng("init"))
    updates = task.updates(w, rr.fl.Streams(0).rng("batch", 0))
    shown = policy.seen[0].statistics
    assert set(shown) == set(names)
    mean = sum(rho * u for rho, u in zip(task.share, updates))
    for k, u in enumerate(updates):
        assert shown["gradient_norm"][k] == pytest.approx(np.sqrt(np.sum(u**2)))
        assert shown["gradient_energy"][k] == pytest.approx(np.sum(u**2))
        assert shown["gradient_divergence"][k] == pytest.approx(np.sqrt(np.sum((u - mean) ** 2)))
    assert policy.seen[0].everybody_computes


def test_reports_about_models_are_measured_between_rounds():
    task = make_task(local_steps=2)
    policy = Watching("loss_lipschitz", "gradient_lipschitz", "divergence")
    rr.fl.train(task, make_link(), policy, rounds=2, scheme=SURE)
    first, second = (round.statistics for round in policy.seen)
    assert not policy.seen[0].everybody_computes
    assert np.isnan(first["loss_lipschitz"]).all()
    assert np.isnan(first["gradient_lipschitz"]).all()
    w0 = task.learner.init(rr.fl.Streams(0).rng("init"))
    updates = task.updates(w0)
    w1 = w0 - task.learning_rate * (task.share @ updates)
    local = w0 - task.learning_rate * updates
    whole = task.learner.gradient
    for k, mine in enumerate(task.clients):
        x, y = task.dataset.train_x[mine], task.dataset.train_y[mine]
        gap = np.linalg.norm(local[k] - w1)
        loss = abs(task.learner.loss(local[k], x, y) - task.learner.loss(w1, x, y))
        turn = np.linalg.norm(whole(local[k], x, y) - whole(w1, x, y))
        everyone = np.concatenate(task.clients)
        mean = whole(w1, task.dataset.train_x[everyone], task.dataset.train_y[everyone])
        assert second["loss_lipschitz"][k] == pytest.approx(loss / gap, rel=1e-9)
        assert second["gradient_lipschitz"][k] == pytest.approx(turn / gap, rel=1e-9)
        expected = np.linalg.norm(whole(w1, x, y) - mean)
        assert second["divergence"][k] == pytest.approx(expected, rel=1e-9)


def test_a_model_that_did_not_move_says_nothing():
    task = make_task()
    w = np.ones(task.learner.size)
    found = about_models(task, w, np.tile(w, (task.clients_count, 1)))
    assert np.isnan(found["loss_lipschitz"]).all()
    assert np.isnan(found["gradient_lipschitz"]).all()
    assert np.isfinite(found["divergence"]).all()


def test_ages():
    turns = Watching("age", senders=lambda round: np.arange(4) == round.index % 3)
    rr.fl.train(make_task(), make_link(), turns, rounds=5, scheme=SURE)
    ages = [round.statistics["age"].tolist() for round in turns.seen]
    assert ages == [[1, 1, 1, 1], [1, 2, 2, 2], [2, 1, 3, 3], [3, 2, 1, 4], [1, 3, 2, 5]]
    assert not turns.seen[0].everybody_computes


def test_an_unknown_report_is_named():
    with pytest.raises(UnknownName, match=r"gradient_nrom.*gradient_norm"):
        rr.fl.train(make_task(), make_link(), Watching("gradient_nrom"), rounds=1)


def test_a_policy_decides_local_steps_round_by_round():
    task, link = make_task(), make_link(fading="none")
    history = rr.fl.train(task, link, Watching(steps=[1, 3, 2]), rounds=3, scheme=SURE)
    assert history.local_steps.tolist() == [0, 1, 3, 2]
    w = task.learner.init(rr.fl.Streams(0).rng("init"))
    for steps in (1, 3, 2):
        w = w - task.learning_rate * (task.share @ task.updates(w, steps=steps))
    assert history.loss[-1] == pytest.approx(task.evaluate(w).train_loss, rel=1e-12)
    once = rr.fl.train(task, link, Everybody(), rounds=1, scheme=SURE)
    spent = np.diff(history.seconds)
    extra = spent - once.seconds[1]  # the slowest device's computing decides little but surely
    assert extra[0] == pytest.approx(0.0, abs=1e-12)
    assert 0 < extra[2] < extra[1] <= 2 * link.compute_s.max() + 1e-12


def test_computing_costs_time_and_energy_for_every_local_step():
    uplink = make_link(fading="none", compute_s=np.full(4, 6.0), compute_j=5.0)
    plain = rr.fl.train(make_task(), uplink, Everybody(), rounds=1, scheme=SURE)
    for own, decided, steps in [(3, None, 3), (3, 1, 1), (2, 5, 5), (1, 1, 1)]:
        policy = Watching(steps=[decided])
        history = rr.fl.train(make_task(local_steps=own), uplink, policy, rounds=1, scheme=SURE)
        assert history.seconds[1] - plain.seconds[1] == pytest.approx(6.0 * (steps - 1))
        assert history.joules[1] - plain.joules[1] == pytest.approx(4 * 5.0 * (steps - 1))
        assert policy.seen[0].local_steps == own


def test_batches_do_not_depend_on_the_number_of_steps():
    task = make_task(batch_size=4)
    w = task.learner.init(np.random.default_rng(1))
    short, long = (Updates(task, w, np.random.default_rng(3), steps) for steps in (1, 3))
    np.testing.assert_array_equal(short._batches[:, 0], long._batches[:, 0])


def test_who_did_not_compute_has_no_local_model():
    first = Watching(
        "loss_lipschitz", "divergence", senders=lambda round: np.arange(4) == round.index % 2
    )
    rr.fl.train(make_task(), make_link(), first, rounds=3, scheme=SURE)
    known = [~np.isnan(round.statistics["loss_lipschitz"]) for round in first.seen]
    assert [k.tolist() for k in known] == [
        [False] * 4,
        [False] * 4,  # alone, device 0 moved the model exactly to where its own is
        [False] * 4,
    ] or known[1].tolist() == [True, False, False, False]
    assert all(np.isfinite(round.statistics["divergence"]).all() for round in first.seen)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Watching("gradient_norm", steps=[2]), "computed before the decision"),
        (Watching(steps=[0]), "0 local steps"),
        (Watching(steps=[2.0]), "2.0 local steps"),
    ],
)
def test_steps_that_cannot_be_are_refused(policy, words):
    with pytest.raises(InvalidProblem, match=words):
        rr.fl.train(make_task(), make_link(), policy, rounds=1)


def test_the_server_may_have_momentum():
    task = make_task(server_momentum=0.7)
    history = rr.fl.train(task, make_link(), Everybody(), rounds=4, scheme=SURE)
    w, velocity = task.learner.init(rr.fl.Streams(0).rng("init")), 0.0
    for _ in range(4):
        velocity = 0.7 * velocity + task.share @ task.updates(w)
        w = w - task.learning_rate * velocity
    assert history.loss[-1] == pytest.approx(task.evaluate(w).train_loss, rel=1e-12)


def test_a_linear_scheme_never_makes_rows(monkeypatch):
    def rows(self):
        raise AssertionError("rows were made")

    task, link = make_task(), make_link(csi="mean")
    settings = {"rounds": 3, "seed": 1}
    before = [
        rr.fl.train(task, link, Everybody(), scheme=s, **settings) for s in (SURE, DigitalPacket())
    ]
    monkeypatch.setattr(Updates, "rows", property(rows))
    for scheme, plain in zip((SURE, DigitalPacket()), before):
        again = rr.fl.train(task, link, Everybody(), scheme=scheme, **settings)
        np.testing.assert_array_equal(plain.loss, again.loss)
    with pytest.raises(AssertionError, match="rows were made"):
        rr.fl.train(task, link, Watching("gradient_norm"), **settings)


def test_streamed_and_reported_updates_train_alike():
    task, link = make_task(batch_size=3, local_steps=2), make_link(csi="mean")
    plain = rr.fl.train(task, link, Watching(), rounds=4, seed=2)
    watched = rr.fl.train(task, link, Watching("gradient_norm"), rounds=4, seed=2)
    np.testing.assert_allclose(plain.loss, watched.loss, rtol=1e-12)
    np.testing.assert_array_equal(plain.arrived, watched.arrived)


def peak_bytes(clients, batch_size):
    """The most that training held, beyond what the task itself holds."""
    rng = np.random.default_rng(0)
    data = rr.fl.Dataset("noise", rng.random((4000, 64)), rng.integers(0, 10, 4000),
                         rng.random((10, 64)), rng.integers(0, 10, 10), 10)  # fmt: skip
    parts = tuple(np.array_split(np.arange(4000), clients))
    task = rr.fl.Task(data, parts, rr.fl.SoftmaxRegression(64, 10), 0.1, batch_size=batch_size)
    link = rr.fl.Link(mean_gain=np.full(clients, 1e-9), compute_s=0.1)
    rr.fl.train(task, link, Everybody(), rounds=1, scheme=SURE)
    tracemalloc.start()
    rr.fl.train(task, link, Everybody(), rounds=2, scheme=SURE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("batch_size", [None, 32])
def test_memory_does_not_grow_with_the_number_of_clients(batch_size, monkeypatch):
    """4,000 rows of 650 weights would be 21 MB, 4,000 batches 66 MB; the samples are 2 MB."""
    monkeypatch.setattr("rralloc.fl.updates.BLOCK", 50_000)
    indices = 4000 * (batch_size or 0) * 8 * 4  # which samples, and the draws they came from
    assert peak_bytes(4000, batch_size) < 1.5 * peak_bytes(20, batch_size) + 1e6 + indices


def test_weights_can_be_watched():
    task, seen = make_task(), {}
    history = rr.fl.train(
        task, make_link(), Everybody(), rounds=3, scheme=SURE, on_round=seen.__setitem__
    )
    assert list(seen) == [1, 2, 3]
    for t, w in seen.items():
        assert history.loss[t] == task.evaluate(w).train_loss
