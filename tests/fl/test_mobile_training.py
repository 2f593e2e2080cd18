"""Asynchronous training against the algorithm of mads.md §2.3 written out device by device."""

import sys
from dataclasses import dataclass, replace
from functools import partial, wraps

import numpy as np
import pytest

import rralloc as rr
from rralloc import fl
from rralloc.channel import Contacts, ExponentialContacts, free_space, macro_3gpp
from rralloc.errors import InvalidProblem
from rralloc.fl.schemes import ErrorFree, SparseUpload
from rralloc.fl.schemes.sparse_upload import packet_bits
from rralloc.policy import Decision, Optimised
from rralloc.problems import MADS, MADSHorizon, MADSUnknownContact, MinMaxLatency
from rralloc.problems.mads_policies import (
    Dense,
    DriftPlusPenalty,
    FixedKeep,
    FixedPower,
    Ideal,
    MaxPower,
)

DEVICES = 6


def task_of(seed=0, **settings):
    chosen = {"learner": "softmax", "learning_rate": 0.2, "weighting": "equal"} | settings
    return fl.Task.digits(clients=DEVICES, partition="dirichlet", alpha=0.3, seed=seed, **chosen)


def contacts_of(seed=0, speed=20.0, rounds=60):
    rng = fl.Streams(seed).rng("contacts")
    return ExponentialContacts(speed).contacts(
        rounds=rounds, round_s=10.0, devices=DEVICES, rng=rng
    )


def link_of(seed=0, rounds=60, chi=0.1, psi=0.3, speed=20.0, **settings):
    contacts = contacts_of(seed, speed, rounds)
    return fl.MobileLink.scaled(contacts, weights=650, chi=chi, psi=psi, duty=0.1, **settings)


class Path:
    """Weights after every round, memories and places."""

    def __init__(self):
        self.w, self.unsent, self.local, self.update = [], [], [], []

    def __call__(self, exchange):
        self.w.append(exchange.after.copy())
        self.unsent.append(exchange.running.memory.unsent.copy())
        self.local.append(np.array(exchange.fleet.weights))
        self.update.append(np.array(exchange.updates.rows))


def top(x, k):
    """The k largest entries by sorting, of equal ones the first."""
    order = np.argsort(-np.abs(x), kind="stable")
    out = np.zeros_like(x)
    out[order[:k]] = x[order[:k]]
    return out


def spelled_out(task, contacts, log, w0, rounds):
    """§2.3, one device after another, with accumulated gradients and memory kept apart."""
    devices, eta = task.clients_count, task.learning_rate
    w, own = w0.copy(), [w0.copy() for _ in range(devices)]
    memory, gathered = ([np.zeros_like(w0) for _ in range(devices)] for _ in range(2))
    path = []
    for r in range(rounds):
        step = np.zeros_like(w0)
        for n in range(devices):
            a, b = task._offsets[n], task._offsets[n + 1]
            u = task.learner.gradient(own[n], task._x[a:b], task._y[a:b])
            gathered[n] += eta * u
            own[n] = own[n] - eta * u
            if contacts.seconds[r, n] > 0:
                x = memory[n] + gathered[n]
                k = int(log["kept"][r, n]) if log["arrived"][r, n] else 0
                sent = top(x, k)
                memory[n], gathered[n] = x - sent, np.zeros_like(w0)
                step += sent / devices
        w = w - step
        for n in range(devices):
            if contacts.seconds[r, n] > 0:
                own[n] = w.copy()
        path.append(w.copy())
    return np.array(path)


@pytest.mark.parametrize("loss", [0.0, 0.4])
@pytest.mark.parametrize("learner", ["softmax", "mlp"])
def test_training_is_the_algorithm_written_out(loss, learner):
    task = task_of(learner=learner, hidden=(5,))
    weights = task.learner.size
    contacts = contacts_of()
    link = fl.MobileLink.scaled(contacts, weights=weights, chi=0.1, psi=0.3, upload_loss=loss)
    log, path = fl.Log(), Path()
    policy = DriftPlusPenalty(hard_budget=True)
    fl.train(task, link, policy, rounds=60, seed=3, observers=[log, path], evaluate_every=60)
    sent, arrived = log["scheduled"].sum(), log["arrived"].sum()
    assert sent > 20
    assert arrived == sent if loss == 0 else 0 < arrived < sent
    w0 = task.learner.init(fl.Streams(3).rng("init"))
    expected = spelled_out(task, contacts, log, w0, 60)
    np.testing.assert_allclose(np.array(path.w), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("seed", range(3))
def test_the_memory_identity_holds_in_every_round(seed):
    """v - w = -eta sum_n rho_n e_n: nothing is lost but what the memory still holds."""
    task = task_of(batch_size=8, weighting="samples", seed=seed)
    path = Path()
    policy = DriftPlusPenalty(weighting="norm")
    link = link_of(seed, upload_loss=0.3)
    fl.train(task, link, policy, rounds=60, seed=seed, observers=[path], evaluate_every=60)
    v = task.learner.init(fl.Streams(seed).rng("init"))
    for w, unsent, update in zip(path.w, path.unsent, path.update):
        v = v - task.learning_rate * (task.share @ update)
        np.testing.assert_allclose(
            v - w, -task.learning_rate * (task.share @ unsent), rtol=0, atol=1e-12
        )


def test_everybody_always_in_contact_is_synchronous_training():
    """Ideal uploads over Contacts.always are error-free FedSGD, and the loop does not tell."""
    task = task_of(weighting="samples")
    mobile = fl.MobileLink(contacts=Contacts.always(15, DEVICES, round_s=10.0))
    still = fl.Link(np.ones(DEVICES) * 1e-10, np.zeros(DEVICES))
    paths = Path(), []
    fl.train(task, mobile, Ideal(), rounds=15, seed=1, observers=[paths[0]])
    everyone = Optimised(MinMaxLatency, "baseline:equal-split", scheme=ErrorFree())
    fl.train(task, still, everyone, rounds=15, seed=1, on_round=lambda t, w: paths[1].append(w))
    np.testing.assert_allclose(paths[0].w, paths[1], rtol=0, atol=1e-12)


def test_who_is_out_of_contact_walks_on_and_who_is_in_contact_takes_w():
    task, link = task_of(), link_of()
    path = Path()
    fl.train(task, link, FixedKeep(share=0.01), rounds=60, seed=0, observers=[path])
    for r in range(59):
        before = np.broadcast_to(path.local[r], (DEVICES, 650))
        walked = before - task.learning_rate * path.update[r]
        met = link.contacts.present[r]
        after = np.broadcast_to(path.local[r + 1], (DEVICES, 650))
        np.testing.assert_array_equal(after[met], np.tile(path.w[r], (met.sum(), 1)))
        np.testing.assert_array_equal(after[~met], walked[~met])


def test_a_silent_contact_still_downloads_and_keeps_everything_in_memory():
    task, link = task_of(), link_of()
    path, log = Path(), fl.Log()
    silent = DriftPlusPenalty(tradeoff=0.0)
    fl.train(task, link, silent, rounds=60, seed=0, observers=[path, log])
    assert log["kept"].sum() == 0
    assert log["energy_j"].sum() == 0
    np.testing.assert_allclose(path.unsent[-1], np.sum(path.update, axis=0), atol=1e-12)
    r = int(np.flatnonzero(link.contacts.present.any(1))[0])
    met = link.contacts.present[r]
    after = np.broadcast_to(path.local[r + 1], (DEVICES, 650))
    np.testing.assert_array_equal(after[met], np.tile(path.w[r], (met.sum(), 1)))
    np.testing.assert_array_equal(path.w[-1], path.w[0])  # the server never moved


def test_a_lost_upload_costs_its_energy_and_nothing_else():
    task, path, log = task_of(), Path(), fl.Log()
    link = link_of(upload_loss=1.0)
    fl.train(task, link, FixedPower(), rounds=60, seed=0, observers=[path, log])
    assert log["arrived"].sum() == 0
    assert log["scheduled"].sum() > 5
    spent = np.where(log["scheduled"], log["power_w"] * log["airtime_s"], 0.0)
    np.testing.assert_allclose(log["energy_j"], spent, rtol=1e-12)
    np.testing.assert_allclose(path.unsent[-1], np.sum(path.update, axis=0), atol=1e-12)


def test_energy_queue_and_violation_identity_in_training():
    """Q_R - Q_0 covers the overspending, the ceiling holds, and a hard budget is never passed."""
    task, link = task_of(batch_size=8), link_of(rounds=150, psi=0.1, seed=2)
    for policy in (DriftPlusPenalty(), DriftPlusPenalty(hard_budget=True)):
        log, watched = fl.Log(), _Watching(policy)
        fl.train(task, link, watched, rounds=150, seed=0, observers=[log], evaluate_every=150)
        spent, budget = log["energy_j"].cumsum(0), log["budget_per_round_j"].cumsum(0)
        queues = np.array([m.queue for m in watched.memories])
        start = watched.memories[0]
        over = spent[-1] - budget[-1]
        assert (over <= queues[-1] - queues[0] + 1e-12).all()
        told = {n: log[n].max(0) for n in ("snr_per_watt", "contact_s")}
        told |= {n: log[n][0] for n in ("bandwidth_hz", "bits_per_coordinate", "power_max_w")}
        told["budget_per_round_j"] = log["budget_per_round_j"][0]
        ceiling = policy.queue_ceiling(told, start, log["value"].max(0))
        assert (queues <= ceiling + 1e-12).all()
        if policy.hard_budget:
            assert (spent <= budget * (1 + 1e-12)).all()
        else:
            assert (spent > budget).any()  # the identity was worth asking for


@dataclass
class _Watching:
    """A policy whose memories are kept."""

    policy: DriftPlusPenalty

    def __post_init__(self):
        self.memories, self.name = [], self.policy.name
        self.reports, self.scheme = self.policy.reports, self.policy.scheme

    def start(self, round, rng):
        self.memories.append(self.policy.start(round, rng))
        return self.memories[0]

    def decide(self, round, memory, rng):
        return self.policy.decide(round, memory, rng)

    def learn(self, feedback, memory):
        self.memories.append(self.policy.learn(feedback, memory))
        return self.memories[-1]


RULES = [
    DriftPlusPenalty(),
    DriftPlusPenalty(weighting="stale"),
    DriftPlusPenalty(weighting="flat"),
    DriftPlusPenalty(curve_aware=True),
    FixedKeep(share=0.03),
    FixedPower(),
]


@pytest.mark.parametrize("policy", RULES, ids=lambda p: f"{p.name}-{getattr(p, 'weighting', '')}")
@pytest.mark.parametrize("weighting", ["equal", "samples"])
def test_both_divergence_bounds_hold_in_a_run(policy, weighting):
    task = task_of(batch_size=8, learner="mlp", hidden=(6,), clip_norm=5.0, weighting=weighting)
    size = task.learner.size
    contacts = contacts_of(1, 15.0, 150)
    link = fl.MobileLink.scaled(contacts, weights=size, chi=0.1, psi=0.2, duty=0.1)
    seen = fl.Divergence()
    fl.train(task, link, policy, rounds=150, seed=4, observers=[seen], evaluate_every=150)
    assert seen.actual.shape == (150, DEVICES)
    assert seen.actual[0].max() == 0
    assert seen.actual[10:].max() > 1e-6
    assert (seen.actual <= seen.proved * (1 + 1e-12)).all()
    assert (seen.actual @ task.share <= seen.printed * (1 + 1e-12)).all()
    later = slice(20, None)
    assert (seen.actual[later] / seen.proved[later]).max() > 1e-3  # neither is empty


@pytest.mark.parametrize("share", [0.02, 1.0])
def test_theorem_t_holds_in_a_run_and_needs_its_last_term(share):
    """Full batches (sigma = 0), softmax: L = lambda_max(X'X/n)/2 of the worst device, f* >= 0."""
    task = task_of(learning_rate=0.05)
    smoothness = 0.0
    for a, b in zip(task._offsets, task._offsets[1:]):
        x = np.hstack([task._x[a:b], np.ones((b - a, 1))])
        smoothness = max(smoothness, 0.5 * float(np.linalg.eigvalsh(x.T @ x / (b - a)).max()))
    task = replace(task, learning_rate=1.0 / smoothness)
    seen = fl.Divergence(task)
    policy = FixedKeep(share=share)
    fl.train(task, link_of(rounds=150), policy, rounds=150, seed=0, observers=[seen])
    start = task.evaluate(task.learner.init(None)).train_loss
    left, right = seen.theorem(smoothness, start)
    assert 0 < left <= right
    with pytest.raises(InvalidProblem, match="1/L"):
        seen.theorem(2 * smoothness, start)


def test_a_log_is_scored_against_the_clairvoyant_on_the_realised_weights():
    task, link = task_of(batch_size=8), link_of(rounds=150, psi=0.1)
    log = fl.Log()
    policy = DriftPlusPenalty(hard_budget=True)
    fl.train(task, link, policy, rounds=150, seed=0, observers=[log], evaluate_every=150)
    horizon = MADSHorizon.from_log(log)
    x = MADSHorizon.log_point(log)
    assert rr.verify(horizon, x).ok()
    best = rr.solve(horizon)
    assert best.status == rr.Status.GLOBAL
    ratio = horizon.objective(x) / best.objective
    assert 0.5 < ratio <= 1.0
    by_hand = sum(
        log["value"][r, n] * log["kept"][r, n] for r in range(150) for n in range(DEVICES)
    )
    assert horizon.objective(x) == pytest.approx(by_hand, rel=1e-12)
    # Weights are over their mean so far, so they stay near 1 while |x| shrinks.
    seen = log["value"][log["in_contact"]]
    assert 0.2 < np.median(seen) < 2
    assert (log["value"][~log["in_contact"]] == 0).all()


def test_the_running_mean_of_weights_is_cumulative_over_contacts():
    task, link, log = task_of(), link_of(), fl.Log()
    fl.train(task, link, DriftPlusPenalty(weighting="norm"), rounds=60, seed=0, observers=[log])
    raw = log["update_energy"] / 650
    total = count = 0.0
    for r in range(60):
        met = log["in_contact"][r]
        total, count = total + raw[r, met].sum(), count + met.sum()
        if met.any():
            np.testing.assert_allclose(log["value"][r, met], raw[r, met] * count / total)


def test_unknown_contact_time_loses_uploads_that_the_contact_cuts():
    task = task_of(batch_size=8)
    known, guessed = (link_of(rounds=150, psi=0.3, contact=c) for c in ("known", "mean"))
    logs = []
    for link in (known, guessed):
        logs.append(fl.Log())
        fl.train(task, link, FixedPower(), rounds=150, seed=0, observers=[logs[-1]])
    assert logs[0]["arrived"].sum() == logs[0]["scheduled"].sum()
    cut = guessed.contacts.seconds < logs[1]["airtime_s"] * (1 - 1e-9)
    assert cut.any()
    np.testing.assert_array_equal(logs[1]["arrived"], logs[1]["scheduled"] & ~cut)
    spent = np.minimum(logs[1]["airtime_s"], guessed.contacts.seconds) * logs[1]["power_w"]
    np.testing.assert_allclose(logs[1]["energy_j"], np.where(logs[1]["scheduled"], spent, 0.0))


def test_progressive_uploads_deliver_what_got_through():
    task, link = task_of(batch_size=8), link_of(rounds=150, psi=0.3, contact="mean")
    log, path = fl.Log(), Path()
    scheme = SparseUpload(progressive=True)
    fl.train(task, link, FixedPower(), rounds=150, seed=0, scheme=scheme, observers=[log, path])
    cut = log["scheduled"] & (link.contacts.seconds < log["airtime_s"] * (1 - 1e-9))
    assert (cut & log["arrived"]).sum() > 5
    # Rate times the time that was left, in coordinates.
    rate = log["bandwidth_hz"] * np.log2(1 + log["power_w"] * log["snr_per_watt"])
    fits = np.floor(rate * link.contacts.seconds / log["bits_per_coordinate"] + 1e-9)
    before = np.concatenate([[np.zeros((DEVICES, 650))], path.unsent[:-1]])
    gone = (before + np.array(path.update) != np.array(path.unsent)).sum(-1)
    np.testing.assert_array_equal(gone[cut], fits[cut])


def test_plans_for_unknown_contacts_are_those_of_their_problem():
    """V6 at the round's queue, cut to whole k and, with a hard budget, to what is left."""
    task, link, log = task_of(), link_of(rounds=60, psi=0.3, contact="mean"), fl.Log()
    watched = _Watching(DriftPlusPenalty(contact="exponential", weighting="flat"))
    fl.train(task, link, watched, rounds=60, seed=0, observers=[log])
    fields = ("model_size", "bits_per_coordinate", "bandwidth_hz", "power_max_w", "snr_per_watt")
    for r in np.flatnonzero(log["scheduled"].any(1)):
        memory = watched.memories[r]
        problem = MADSUnknownContact(
            value=memory.tradeoff * log["value"][r],
            energy_price=memory.queue,
            contact_mean_s=log["contact_s"][r],
            **{n: log[n][r] for n in fields},
        )
        x = rr.solve(problem).x
        np.testing.assert_array_equal(log["kept"][r], np.floor(x["kept"] * (1 + 1e-12)))
        sends = log["scheduled"][r]
        np.testing.assert_allclose(log["power_w"][r][sends], x["power_w"][sends], rtol=1e-9)
        assert (log["airtime_s"][r] <= x["airtime_s"] * (1 + 1e-9)).all()
    hard = DriftPlusPenalty(contact="exponential", hard_budget=True)
    fl.train(task, link, hard, rounds=60, seed=0, observers=[log := fl.Log()])
    spent, budget = log["energy_j"].cumsum(0), log["budget_per_round_j"].cumsum(0)
    assert log["kept"].sum() > 0
    assert (spent <= budget * (1 + 1e-12)).all()


def test_mean_csi_loses_uploads_in_fades():
    link = link_of(rounds=150, psi=0.3, csi="mean")
    log = fl.Log()
    fl.train(task_of(), link, FixedPower(), rounds=150, seed=0, observers=[log])
    share = log["arrived"].sum() / log["scheduled"].sum()
    assert 0.15 < share < 0.6  # Pr(Exp(1) > 1) = .37


def test_packet_bits_have_positions_unless_all_is_sent():
    told = {
        "model_size": np.array(100.0),
        "bits_per_coordinate": np.array(39.0),
        "dense_bits_per_coordinate": np.array(32.0),
        "header_bits": np.array(8.0),
    }
    kept = np.array([0.0, 1.0, 14.0, 15.0, 99.0, 100.0])
    by_hand = [0, 8 + 39, 8 + 14 * 39, 8 + 15 * 39, 8 + 99 * 39, 8 + 3200]
    np.testing.assert_array_equal(packet_bits(kept, told), by_hand)


def test_scaled_links_have_the_chi_and_psi_asked_for():
    contacts = contacts_of()
    link = fl.MobileLink.scaled(contacts, weights=2410, chi=0.06, psi=0.1)
    assert link.chi(2410) == pytest.approx(0.06)
    assert link.psi == pytest.approx(0.1)
    assert link.bits_per_coordinate(2410) == 44
    assert link.noise_w == pytest.approx(1e-18 * 4e3)
    faint = fl.MobileLink.scaled(contacts, weights=2410, chi=0.06, psi=0.1, snr_db=-10)
    met = contacts.present
    snr = 0.1 * 0.2 * contacts.path_gain()[met] / faint.noise_w
    assert 10 * np.log10(np.median(snr)) == pytest.approx(-10)


def test_earlier_contacts_are_where_priors_come_from():
    earlier = contacts_of(9, rounds=400)
    link = link_of(earlier=earlier)
    np.testing.assert_allclose(link.priors["prior_contact_s"], earlier.seconds.mean(0))
    np.testing.assert_allclose(link.priors["contact_probability"], earlier.probability)
    with pytest.raises(InvalidProblem, match="devices"):
        link_of(earlier=Contacts.always(5, DEVICES + 1, round_s=1.0))


def test_a_device_that_is_never_in_contact_stays_silent():
    seconds = contacts_of().seconds.copy()
    seconds[:, 2] = 0.0
    link = fl.MobileLink.scaled(Contacts(seconds, 50.0, 10.0), weights=650, chi=0.1, psi=0.3)
    for policy in (DriftPlusPenalty(), FixedPower(), Dense(), MaxPower(), FixedKeep(), Ideal()):
        log = fl.Log()
        h = fl.train(task_of(), link, policy, rounds=60, seed=0, observers=[log])
        assert log["kept"][:, 2].sum() == 0
        assert np.isfinite(h.loss).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"upload_loss": 1.5}, "upload_loss"),
        ({"contact": "guess"}, "contact"),
        ({"circuit_power_w": -1.0}, "circuit_power_w"),
        ({"value_bits": 0.0}, "value_bits"),
        ({"header_bits": np.inf}, "header_bits"),
        ({"budget_per_round_j": np.nan}, "budget_per_round_j"),
        ({"noise_bandwidth_hz": 0.0}, "noise_bandwidth_hz"),
        ({"bandwidth_hz": 0.0}, "bandwidth_hz"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(InvalidProblem, match=words):
        fl.MobileLink(contacts=contacts_of(), **settings)


def test_more_rounds_than_contacts_are_refused():
    with pytest.raises(InvalidProblem, match=r"61.*60"):
        fl.train(task_of(), link_of(), FixedPower(), rounds=61)


def test_sparse_uploads_need_contacts():
    link = fl.Link(np.ones(DEVICES), np.zeros(DEVICES))
    with pytest.raises(InvalidProblem, match=r"Contacts\.always"):
        fl.train(task_of(), link, _EveryoneKeeps(), rounds=1, scheme=SparseUpload())


class _EveryoneKeeps:
    name = "everyone keeps"

    def start(self, round, rng):
        return None

    def decide(self, round, memory, rng):
        one = np.ones(DEVICES)
        x = {"kept": one, "power_w": one, "airtime_s": one}
        return Decision(one > 0, round.share, one * 1e3, one, x=x), None

    def learn(self, feedback, memory):
        return None


def test_a_stationary_price_is_a_policy_too():
    """Optimised(MADS): every round at the same price of energy."""
    link, log = link_of(), fl.Log()
    policy = Optimised(MADS, settings={"value": 1.0, "energy_price": 1e4}, label="price")
    fl.train(task_of(), link, policy, rounds=60, seed=0, observers=[log])
    r, n = np.argwhere(log["scheduled"])[0]
    y = np.log2(link.bandwidth_hz * log["snr_per_watt"][r, n] / (42 * 1e4 * np.log(2)))
    y = min(y, np.log2(1 + 0.2 * log["snr_per_watt"][r, n]))
    k = log["contact_s"][r, n] * link.bandwidth_hz * y / 42
    assert abs(log["kept"][r, n] - min(k, 650)) <= 1


def test_comparisons_over_moving_devices_resume(tmp_path, monkeypatch):
    policies = {"mads": DriftPlusPenalty(), "fixed power": FixedPower()}
    run = partial(fl.compare, task_of(), link_of(), policies, range(2), path=tmp_path, rounds=20)
    first = run()
    assert len(list(tmp_path.glob("*.nc"))) == 4
    monkeypatch.setattr(sys.modules["rralloc.fl.compare"], "train", None)  # no second training
    second = run()
    for name in policies:
        np.testing.assert_array_equal(first.runs[name][0].accuracy, second.runs[name][0].accuracy)


def test_file_names_tell_links_apart(tmp_path):
    policies = {"fixed power": FixedPower()}
    settings = [
        {},
        {"path_loss": partial(free_space, carrier_hz=2.4e9)},
        {"path_loss": partial(free_space, carrier_hz=5.0e9)},
        {"earlier": contacts_of(3)},
        {"contact": "mean"},
    ]
    for given in settings:
        fl.compare(task_of(), link_of(**given), policies, [0], path=tmp_path, rounds=2)
    assert len(list(tmp_path.glob("*.nc"))) == len(settings)
    for law in (lambda d: d**-3.0, _wrapped(macro_3gpp)):
        link = link_of(path_loss=law)
        with pytest.raises(InvalidProblem, match=r"functools\.partial"):
            fl.compare(task_of(), link, policies, [0], path=tmp_path, rounds=2)


def _wrapped(law):
    @wraps(law)
    def louder(distance_m):
        return 3 * law(distance_m)

    return louder


def test_observers_hold_one_run():
    with pytest.raises(InvalidProblem, match="observers"):
        fl.compare(task_of(), link_of(), {"a": Ideal()}, [0], rounds=2, observers=[fl.Log()])
    for observer in (fl.Log(), fl.Divergence()):
        again = partial(fl.train, task_of(), link_of(), Ideal(), rounds=2, observers=[observer])
        again()
        with pytest.raises(InvalidProblem, match="a run already"):
            again()


def test_staleness_is_the_rounds_since_the_weights_were_taken():
    """theta = r + 1 - last, 1 in consecutive rounds of one contact (correction 10)."""
    link, log = link_of(), fl.Log()
    policy = DriftPlusPenalty(weighting="stale")
    fl.train(task_of(), link, policy, rounds=60, seed=0, observers=[log])
    last = np.zeros(DEVICES)
    for r in range(60):
        np.testing.assert_array_equal(log["staleness"][r], r + 1 - last)
        last = np.where(link.contacts.present[r], r + 1, last)
    assert (log["staleness"][link.contacts.present] == 1).any()
    assert log["staleness"].max() > 5


def test_priors_are_those_of_the_contacts():
    seconds = np.zeros((10, 2))
    seconds[[0, 1, 5, 9], 0] = 4.0
    link = fl.MobileLink(contacts=Contacts(seconds, 50.0, 10.0), fading="none")
    assert link.priors["prior_contact_s"].tolist() == pytest.approx([1.6, 10 / 11])
    assert link.priors["contact_probability"].tolist() == pytest.approx([0.4, 1 / 11])
    assert link.priors["prior_gap_rounds"].tolist() == [3.0, 10.0]
    by_hand = macro_3gpp(50.0) / link.noise_w
    assert link.priors["prior_snr_per_watt"].tolist() == pytest.approx([by_hand] * 2)


def test_a_device_that_was_never_met_before_is_served_when_it_comes():
    earlier = Contacts(np.where(np.arange(DEVICES) == 0, 0.0, contacts_of().seconds), 50.0, 10.0)
    link, log = link_of(earlier=earlier), fl.Log()
    fl.train(task_of(), link, DriftPlusPenalty(), rounds=60, seed=0, observers=[log])
    assert link.contacts.present[:, 0].any()
    assert log["kept"][:, 0].sum() > 0


def test_who_is_out_of_contact_is_not_heard():
    log = fl.Log()
    link = link_of()
    fl.train(task_of(), link, DriftPlusPenalty(), rounds=60, seed=0, observers=[log])
    met = link.contacts.present
    assert np.isnan(log["update_energy"][~met]).all()
    assert (log["update_energy"][met] > 0).all()


def test_computing_is_paid_for_by_everybody_in_every_round():
    link = link_of(compute_j=0.5)
    history = fl.train(task_of(), link, DriftPlusPenalty(tradeoff=0.0), rounds=60, seed=0)
    assert history.joules[-1] == pytest.approx(0.5 * DEVICES * 60)
    assert history.seconds[-1] == pytest.approx(600.0)


@pytest.mark.parametrize(
    "change",
    [
        {"link": {"contact": "mean"}},
        {"link": {"csi": "mean"}},
        {"link": {"upload_loss": 0.5}},
        {"link": {"contact": "mean"}, "scheme": SparseUpload(progressive=True)},
        {"policy": DriftPlusPenalty(hard_budget=True, budget_per_round_j=0.05)},
    ],
    ids=str,
)
def test_logs_are_scored_on_what_happened(change):
    """Actual contacts and gains, what arrived, the time on air, the policy's own budget."""
    task, link = task_of(batch_size=8), link_of(rounds=150, psi=0.1, **change.get("link", {}))
    policy, log = change.get("policy", DriftPlusPenalty(hard_budget=True)), fl.Log()
    scheme = change.get("scheme")
    fl.train(task, link, policy, rounds=150, seed=0, scheme=scheme, observers=[log])
    horizon, x = MADSHorizon.from_log(log), MADSHorizon.log_point(log)
    np.testing.assert_array_equal(horizon.contact_s, link.contacts.seconds)
    np.testing.assert_allclose(horizon.energy_j(x), log["energy_j"].sum(0), rtol=1e-12)
    assert rr.verify(horizon, x).ok()
    assert 0 < horizon.objective(x) <= rr.solve(horizon).objective * (1 + 1e-9)
    budget = policy.budget_per_round_j or link.budget_per_round_j
    np.testing.assert_allclose(horizon.energy_budget_j, 150 * budget)


def test_logs_that_cannot_be_scored_are_refused():
    log = fl.Log()
    fl.train(task_of(), link_of(), Ideal(), rounds=60, seed=0, observers=[log])
    with pytest.raises(InvalidProblem, match="free"):
        MADSHorizon.from_log(log)
    with pytest.raises(InvalidProblem, match="at least one round"):
        MADSHorizon.from_log(fl.Log())
    log = fl.Log()
    fl.train(task_of(), link_of(chi=1.0), Dense(), rounds=60, seed=0, observers=[log])
    assert log["delivered"].max() == 650
    with pytest.raises(InvalidProblem, match="dense"):
        MADSHorizon.from_log(log)


def test_the_ceiling_holds_for_the_curve_too():
    log, watched = fl.Log(), _Watching(DriftPlusPenalty(curve_aware=True))
    fl.train(task_of(), link_of(rounds=150), watched, rounds=150, seed=0, observers=[log])
    told = {n: log[n].max(0) for n in ("snr_per_watt", "contact_s")}
    constant = ("bandwidth_hz", "bits_per_coordinate", "power_max_w", "model_size")
    told |= {n: log[n][0] for n in (*constant, "budget_per_round_j")}
    queues = np.array([m.queue for m in watched.memories])
    ceiling = watched.policy.queue_ceiling(told, watched.memories[0], log["value"].max(0))
    assert (queues <= ceiling).all()


def test_divergence_refuses_what_its_bounds_do_not_cover():
    task = task_of(server_momentum=0.5)
    with pytest.raises(InvalidProblem, match="server_momentum"):
        fl.train(task, link_of(), Ideal(), rounds=2, observers=[fl.Divergence()])
    for settings in ({"local_steps": 2}, {"momentum": 0.5}, {"weight_decay": 0.1}):
        task = task_of(learning_rate=1e-3, **settings)
        seen = fl.Divergence(task)
        fl.train(task, link_of(), Ideal(), rounds=2, observers=[seen])
        with pytest.raises(InvalidProblem, match="one plain local step"):
            seen.theorem(1.0, 2.3)


def test_bounds_hold_where_uploads_are_cut_short():
    task = task_of(batch_size=8)
    seen = fl.Divergence()
    link = link_of(rounds=150, psi=0.3, contact="mean")
    scheme = SparseUpload(progressive=True)
    fl.train(task, link, _EverythingKept(), rounds=150, scheme=scheme, observers=[seen])
    assert (seen.actual <= seen.proved * (1 + 1e-12)).all()


@dataclass(frozen=True)
class _EverythingKept(MaxPower):
    """Plans the whole model, whatever fits."""

    def choose(self, told, memory):
        here = told["contact_s"] > 0
        return {
            "kept": np.where(here, told["model_size"], 0.0),
            "power_w": np.where(here, 0.1, 0.0),
            "airtime_s": told["contact_s"],
        }


def test_diverged_training_goes_on_with_what_it_has():
    task = task_of(learning_rate=1e200)
    for policy in (DriftPlusPenalty(), DriftPlusPenalty(curve_aware=True), FixedPower()):
        with np.errstate(all="ignore"):
            history = fl.train(task, link_of(), policy, rounds=20, evaluate_every=20)
        assert history.rounds == 20


@pytest.mark.parametrize("rule", [FixedKeep, Dense, FixedPower, MaxPower])
def test_an_infinite_budget_is_no_limit(rule):
    logs = []
    for hard in (False, True):
        logs.append(fl.Log())
        link = fl.MobileLink(contacts=contacts_of())
        fl.train(task_of(), link, rule(hard_budget=hard), rounds=20, observers=[logs[-1]])
    np.testing.assert_array_equal(logs[0]["kept"], logs[1]["kept"])


def test_what_does_not_go_together_is_refused_with_the_remedy():
    plain = fl.Link(np.ones(DEVICES), np.zeros(DEVICES))
    for policy in (DriftPlusPenalty(), FixedPower(), Optimised(MADS)):
        with pytest.raises(InvalidProblem, match=r"fl\.MobileLink"):
            fl.train(task_of(), plain, policy, rounds=1)
    mobile = link_of()
    for scheme in (ErrorFree(), fl.Compressed(fl.compress.TopK(0.1), error_feedback=True)):
        with pytest.raises(InvalidProblem, match=r"fl\.SparseUpload"):
            fl.train(task_of(), mobile, Ideal(), rounds=1, scheme=scheme)
    silent = Optimised(MinMaxLatency, "baseline:equal-split", scheme=SparseUpload())
    always = fl.MobileLink(contacts=Contacts.always(2, DEVICES, round_s=10.0))
    with pytest.raises(InvalidProblem, match=r"Decision\.x"):
        fl.train(task_of(), always, silent, rounds=1)
    with pytest.raises(InvalidProblem, match="above its"):
        fl.train(task_of(), always, _Loud(), rounds=1)
    with pytest.raises(InvalidProblem, match="unknown length"):
        fl.train(task_of(), mobile, DriftPlusPenalty(contact="exponential"), rounds=1)
    with pytest.raises(InvalidProblem, match="snr_db"):
        link_of(psi=0.0, snr_db=0.0)
    with pytest.raises(TypeError, match="compute_s"):
        fl.MobileLink(contacts=contacts_of(), compute_s=1.0)


class _Loud(_EveryoneKeeps):
    reports = ()
    scheme = SparseUpload()


def test_budgets_and_powers_may_differ_between_devices():
    power = np.linspace(0.05, 0.3, DEVICES)
    link = link_of(power_w=power)
    assert link.psi == pytest.approx(0.3 * 0.1 / link.contacts.share.mean())
    budget = np.linspace(0.0, 0.05, DEVICES)
    link, log = link_of(budget_per_round_j=budget, power_w=power), fl.Log()
    fl.train(task_of(), link, MaxPower(hard_budget=True), rounds=60, observers=[log])
    assert log["energy_j"][:, 0].sum() == 0
    assert (log["energy_j"].sum(0) <= 60 * budget * (1 + 1e-12)).all()
    assert (log["power_w"] <= power * (1 + 1e-12)).all()
