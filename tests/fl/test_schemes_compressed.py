"""Compressed packets: what arrives, what stays in the memory, what a packet costs, what it buys."""

import dataclasses

import numpy as np
import pytest
from toys import Everybody, decision, make_link, make_task

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.fl import DigitalPacket, ErrorFree, Link, SignModulus, Task
from rralloc.fl.compress import QSGD, NoCompression, RandK, ScaledSign, Ternary, TopK
from rralloc.fl.schemes import Received
from rralloc.fl.schemes.compressed import DGC, Compressed

K, D = 4, 30
COMPRESSORS = [NoCompression(), ScaledSign(), Ternary(), QSGD(4), TopK(3), RandK(15)]
EVERY = np.ones(K, dtype=bool)


def by_name(thing):
    return thing.name


@dataclasses.dataclass
class Tape:
    """A link that loses what it is told to lose, and keeps what was handed to it."""

    lost: list = dataclasses.field(default_factory=list)
    sent: list = dataclasses.field(default_factory=list)
    arrived: list = dataclasses.field(default_factory=list)
    payload: list = dataclasses.field(default_factory=list)
    name: str = "tape"

    def transmit(self, updates, decision, round, gain, link, rng):
        lost = self.lost[len(self.sent)] if self.lost else ~EVERY
        arrived = decision.scheduled & ~lost
        self.sent.append(updates.copy())
        self.arrived.append(arrived)
        self.payload.append(round.payload_bit)
        estimate = np.where(arrived, decision.weight, 0.0) @ updates
        return Received(estimate, arrived, 1.0, 0.0, round.payload_bit * decision.scheduled.sum())


def send(running, updates, scheduled=EVERY, *, everybody=False, link=None, seed=0, weight=None):
    """One round: the running scheme, rows of updates, who is scheduled, whether all compute."""
    link = link or make_link(0, fading="none")
    gain = link.gains(np.random.default_rng(seed))
    share = np.full(K, 1 / K) if weight is None else weight
    round = link.round(0, gain, D, share, {}, everybody_computes=everybody)
    choice = dataclasses.replace(decision(round), scheduled=np.asarray(scheduled, dtype=bool))
    rng = np.random.default_rng(seed)
    return running.transmit(updates, choice, round, gain, link, rng)


def history(rounds, seed=0):
    """Updates, who is scheduled, whether everybody computes, and what is lost, in each round."""
    rng = np.random.default_rng(seed)
    updates = rng.standard_t(3, (rounds, K, D))
    scheduled = rng.random((rounds, K)) < 0.6
    everybody = rng.random(rounds) < 0.3
    lost = rng.random((rounds, K)) < 0.4
    return updates, scheduled, everybody, lost


def played(compressor, rounds=40, seed=0, **settings):
    """A run over a history, with what it was fed."""
    updates, scheduled, everybody, lost = history(rounds, seed)
    tape = Tape(lost=list(lost))
    running = Compressed(compressor, link=tape, **settings).begin(K, D)
    for t in range(rounds):
        send(running, updates[t], scheduled[t], everybody=bool(everybody[t]), seed=t)
    computed = scheduled | everybody[:, None]
    return running, tape, updates, scheduled, computed


# -- one round ------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=by_name)
def test_without_memory_each_round_sends_its_own_compressed_rows(compressor):
    updates, scheduled, *_ = history(6)
    tape = Tape()
    running = Compressed(compressor, link=tape).begin(K, D)
    for t in range(6):
        received = send(running, updates[t], scheduled[t], seed=t)
        rows = compressor(updates[t][scheduled[t]], np.random.default_rng(t))
        np.testing.assert_array_equal(tape.sent[t][scheduled[t]], rows)
        np.testing.assert_array_equal(tape.sent[t][~scheduled[t]], 0.0)
        np.testing.assert_allclose(received.estimate, rows.sum(0) / K, atol=1e-15)


@pytest.mark.parametrize("link", [ErrorFree(), DigitalPacket(), DigitalPacket(margin=0.5)])
@pytest.mark.parametrize("remembers", [False, True])
@pytest.mark.parametrize("compressor", [*COMPRESSORS, DGC(0.1)], ids=by_name)
def test_any_compressor_goes_over_any_digital_link(compressor, remembers, link):
    """The packet has the compressor's length, and airtime is in proportion."""
    scheme = Compressed(compressor, remembers, link)
    radio = make_link(0, csi="mean", compute_s=0.0, compute_j=0.0)
    updates = history(1)[0][0]
    running = scheme.begin(K, D)
    bits = running.payload_bit
    found = send(running, updates, link=radio, seed=1)
    plain = send(link, updates, link=radio, seed=1)
    np.testing.assert_array_equal(found.arrived, plain.arrived)
    assert found.bits == bits * K
    ratio = bits / radio.payload_bit
    assert found.seconds == pytest.approx(plain.seconds * ratio, rel=1e-12)
    assert found.joules == pytest.approx(plain.joules * ratio, rel=1e-12)
    assert np.isfinite(found.estimate).all()


def test_bits_of_a_packet_are_those_of_the_compressor():
    for compressor in COMPRESSORS:
        tape = Tape()
        running = Compressed(compressor, link=tape).begin(K, D)
        assert running.payload_bit == compressor.bits(D)
        send(running, history(1)[0][0])
        assert tape.payload == [compressor.bits(D)]


def test_the_rest_of_the_round_is_the_links():
    running = Compressed(QSGD(4)).begin(K, D)
    assert running.report(np.zeros((K, D)), []) == {}
    assert (running.statistics, running.everybody_reports) == ((), False)
    assert running.modulus_bits is running.header_bits is None


def test_what_nobody_sends_is_not_looked_at():
    updates = history(1)[0][0]
    updates[2] = np.nan
    for scheme in (Compressed(TopK(3), True, Tape()), Compressed(DGC(0.1), link=Tape())):
        running = scheme.begin(K, D)
        received = send(running, updates, [True, True, False, True])
        assert np.isfinite(received.estimate).all()
        assert np.isfinite(running.memory.unsent).all()
        # Diverged training is not an error: it goes on, and says so.
        assert np.isnan(send(running, updates).estimate).any()


def test_nobody_scheduled():
    for scheme in (Compressed(QSGD(4), link=Tape()), Compressed(DGC(0.1), link=Tape())):
        received = send(scheme.begin(K, D), history(1)[0][0], [False] * K)
        np.testing.assert_array_equal(received.estimate, 0.0)
        assert received.bits == 0


# -- error feedback -------------------------------------------------------------------------------


@pytest.mark.parametrize("compressor", [ScaledSign(), TopK(3), QSGD(40)], ids=by_name)
@pytest.mark.parametrize("seed", range(3))
def test_what_was_computed_has_arrived_or_is_remembered(compressor, seed):
    """sum g = sum of arrived q + e, device by device, with losses and absences."""
    running, tape, updates, _, computed = played(compressor, seed=seed, error_feedback=True)
    total = (computed[..., None] * updates).sum(0)
    arrived = sum(a[:, None] * q for a, q in zip(tape.arrived, tape.sent))
    np.testing.assert_allclose(arrived + running.memory.unsent, total, rtol=0, atol=1e-12)


def test_error_feedback_is_its_three_lines():
    """A loop over rounds and devices: e <- e + g; q = C(e); e <- e - q if it arrived."""
    running, tape, updates, scheduled, computed = played(TopK(3), error_feedback=True)
    e = np.zeros((K, D))
    for t, k in np.ndindex(40, K):
        if computed[t, k]:
            e[k] = e[k] + updates[t, k]
        q = np.zeros(D)
        if scheduled[t, k]:
            largest = np.argsort(-np.abs(e[k]), kind="stable")[:3]
            q[largest] = e[k][largest]
        np.testing.assert_allclose(tape.sent[t][k], q, atol=1e-13)
        if tape.arrived[t][k]:
            e[k] = e[k] - q
    np.testing.assert_allclose(running.memory.unsent, e, atol=1e-13)


def test_a_lost_packet_stays_and_an_absent_device_rests():
    g = history(2)[0]
    tape = Tape(lost=[np.arange(K) == 0, ~EVERY])
    running = Compressed(NoCompression(), True, tape).begin(K, D)
    send(running, g[0], [True, True, False, False])
    np.testing.assert_array_equal(running.memory.unsent, g[0] * [[1], [0], [0], [0]])
    send(running, g[1], [True, True, False, False], everybody=True)
    np.testing.assert_allclose(tape.sent[1], [g[0, 0] + g[1, 0], g[1, 1], 0 * g[1, 2], 0 * g[1, 3]])
    np.testing.assert_array_equal(running.memory.unsent, g[1] * [[0], [0], [1], [1]])


@pytest.mark.parametrize(
    ("compressor", "stable"),
    [(ScaledSign(), True), (TopK(3), True), (QSGD(6), True), (QSGD(1), False), (RandK(3), False)],
)
def test_memories_stay_bounded_where_the_error_is_below_one(compressor, stable):
    running, rng = Compressed(compressor, True, Tape()).begin(K, D), np.random.default_rng(0)
    for t in range(60):
        send(running, rng.normal(size=(K, D)), seed=t)
    longest = np.linalg.norm(running.memory.unsent, axis=1).max()
    assert longest < 100 if stable else longest > 1e3


@pytest.mark.parametrize(
    "kind", [{"compressor": TopK(3), "error_feedback": True}, {"compressor": DGC(0.1)}]
)
def test_each_run_begins_anew(kind):
    scheme = Compressed(**kind, link=ErrorFree())
    g = history(3)[0]
    runs = []
    for _ in range(2):
        running = scheme.begin(K, D)
        runs.append([send(running, row).estimate for row in g])
    np.testing.assert_array_equal(*runs)


def test_single_precision_rounding_is_remembered_too():
    g = history(30)[0].astype(np.float32)
    tape = Tape()
    running = Compressed(TopK(3), True, tape).begin(K, D)
    for row in g:
        send(running, row)
    assert {q.dtype for q in tape.sent} == {np.dtype(np.float32)}
    arrived = sum(q.astype(float) for q in tape.sent)
    total = g.astype(float).sum(0)
    np.testing.assert_allclose(arrived + running.memory.unsent, total, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("compensate", "expected"), [(False, 1.0), (True, np.exp(0.5))])
def test_a_memory_makes_compensation_count_late_packets_twice(compensate, expected):
    """The same update for 400 rounds over Rayleigh fading, margin 0.5: Pr(arrival) = exp(-0.5)."""
    g = np.random.default_rng(0).normal(size=(K, D)) + 3.0
    scheme = Compressed(NoCompression(), True, DigitalPacket(margin=0.5, compensate=compensate))
    running, radio = scheme.begin(K, D), make_link(0, csi="mean")
    total = sum(send(running, g, link=radio, seed=t).estimate for t in range(400))
    np.testing.assert_allclose(total / (400 * g.mean(0)), expected, rtol=0.02)


# -- deep gradient compression --------------------------------------------------------------------

VARIANTS = [
    DGC(0.1),
    DGC(0.1, momentum=0.5, masking=False),
    DGC(0.1, clip=6.0),
    DGC(0.05, clip=2.0, warm_up=3, rounds_per_epoch=4),
]


@pytest.mark.parametrize("dgc", VARIANTS, ids=by_name)
@pytest.mark.parametrize("seed", range(2))
def test_dgc_is_its_four_steps(dgc, seed):
    """A loop over rounds, devices and entries, with losses and absences."""
    running, tape, updates, scheduled, computed = played(dgc, seed=seed)
    u, v = np.zeros((K, D)), np.zeros((K, D))
    for t, k in np.ndindex(40, K):
        if computed[t, k]:
            g = updates[t, k]
            if dgc.clip is not None:
                norm = np.sqrt(sum(x * x for x in g))
                g = g * min(1.0, dgc.clip / np.sqrt(K) / norm)
            u[k] = dgc.momentum * u[k] + g
            v[k] = v[k] + u[k]
        density, epoch = dgc.density, t // dgc.rounds_per_epoch
        if epoch < dgc.warm_up:
            density = dgc.density ** ((epoch + 1) / (dgc.warm_up + 1))
        places = np.argsort(-np.abs(v[k]), kind="stable")[: int(np.ceil(density * D))]
        q = np.zeros(D)
        q[places] = v[k][places] * scheduled[t, k]
        np.testing.assert_allclose(tape.sent[t][k], q, rtol=1e-9, atol=1e-13)
        if tape.arrived[t][k]:
            for j in places:
                v[k, j] = 0.0
                u[k, j] = 0.0 if dgc.masking else u[k, j]
    np.testing.assert_allclose(running.memory.unsent, v, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(running.memory.velocity, u, rtol=1e-9, atol=1e-13)


def test_warm_up_falls_to_the_density_of_the_paper():
    dgc = DGC(0.001, warm_up=4, rounds_per_epoch=2)
    found = [dgc.density_at(t) for t in range(14)]
    expected = np.repeat([0.2512, 0.0631, 0.0158, 0.0040, 0.001, 0.001, 0.001], 2)
    np.testing.assert_allclose(found, expected, atol=5e-5)
    assert found[-1] == DGC(0.001).density_at(0) == 0.001
    running = Compressed(dgc, link=Tape()).begin(K, 1000)
    assert running.payload_bit == 252 * (32 + 10)


def test_the_packet_shrinks_while_warming_up():
    tape = Tape()
    running = Compressed(DGC(0.05, warm_up=2), link=tape).begin(K, D)
    told = []
    for row in history(4)[0]:
        told.append(running.payload_bit)
        send(running, row)
    kept = [int(np.ceil(D * 0.05**p)) for p in (1 / 3, 2 / 3, 1, 1)]
    assert told == tape.payload == [k * 37 for k in kept]
    assert [int((q[0] != 0).sum()) for q in tape.sent] == kept


def test_without_momentum_it_is_error_feedback():
    one, *_ = played(DGC(0.1, momentum=0.0))
    two, *_ = played(TopK(0.1), error_feedback=True)
    np.testing.assert_allclose(one.memory.unsent, two.memory.unsent, atol=1e-13)


def test_sent_places_are_exactly_cleared():
    g = history(5)[0]
    tape = Tape(lost=[np.arange(K) == 1] * 5)
    running = Compressed(DGC(0.1), link=tape).begin(K, D)
    for row in g:
        send(running, row)
        gone = tape.sent[-1] != 0
        gone[1] = False
        np.testing.assert_array_equal(running.memory.unsent[gone], 0.0)
        np.testing.assert_array_equal(running.memory.velocity[gone], 0.0)
    assert (running.memory.velocity[1] != 0).all()


def test_clipping_bounds_the_norm_and_leaves_zero_alone():
    g = np.diag([0.0, 0.3, 1.0, 50.0]) @ np.eye(K, D)
    running = Compressed(DGC(1.0, clip=2.0), link=Tape(lost=[EVERY])).begin(K, D)
    send(running, g)
    np.testing.assert_allclose(np.linalg.norm(running.memory.velocity, axis=1), [0, 0.3, 1, 1])


# -- what is refused, how it is called ------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [("density", x) for x in (0, -0.1, 1.1, np.nan)]
    + [("momentum", x) for x in (-0.1, 1.0, np.nan)]
    + [("clip", x) for x in (0.0, -1.0, np.inf, np.nan)]
    + [("warm_up", x) for x in (-1, 1.5, True)]
    + [("rounds_per_epoch", x) for x in (0, 2.5)],
)
def test_options_of_dgc_out_of_range(option, value):
    with pytest.raises(InvalidProblem, match=rf"DGC.{option} = .* is not"):
        DGC(**{option: value})


@pytest.mark.parametrize("bad", [0.01, "top-k", None, TopK])
def test_what_is_no_compressor_is_refused(bad):
    with pytest.raises(InvalidProblem, match="is not a compressor"):
        Compressed(bad)


@pytest.mark.parametrize("bad", [SignModulus(), None, DigitalPacket])
def test_what_is_no_link_is_refused(bad):
    with pytest.raises(InvalidProblem, match="has no transmit"):
        Compressed(TopK(3), link=bad)


def test_names_say_what_differs():
    assert Compressed(TopK(0.01)).name == "top-k(1%), digital packets"
    assert Compressed(QSGD(4), True, ErrorFree()).name == "QSGD(4), error feedback, error-free"
    assert Compressed(DGC(0.01), True).name == "DGC(1%), digital packets"
    dgc = DGC(0.001, 0.5, 2.0, 4, 10, False)
    assert dgc.name == "DGC(0.1%, momentum 0.5, clip 2, warm-up 4, no masking)"


# -- training -------------------------------------------------------------------------------------


def test_nothing_compressed_is_the_digital_packet():
    """32 bits a weight, with or without a memory that stays empty."""
    task, link = make_task(), make_link(0, payload_bit=None)
    plain = rr.fl.train(task, link, Everybody(), rounds=6)
    for remembers in (False, True):
        scheme = Compressed(NoCompression(), remembers)
        run = rr.fl.train(task, link, Everybody(), rounds=6, scheme=scheme)
        for curve in ("accuracy", "loss", "seconds", "joules", "bits"):
            np.testing.assert_allclose(getattr(run, curve), getattr(plain, curve), rtol=1e-12)


def test_shorter_packets_train_in_less_time():
    task, link = make_task(), make_link(0, payload_bit=None, compute_s=0.0)
    runs = [
        rr.fl.train(task, link, Everybody(), rounds=6, scheme=Compressed(compressor))
        for compressor in (NoCompression(), RandK(3))
    ]
    np.testing.assert_allclose(runs[1].seconds, runs[0].seconds / 3, rtol=1e-12)
    assert runs[0].bits[-1] == 3 * runs[1].bits[-1] == 6 * 4 * 32 * 9


@pytest.mark.parametrize("partition", ["iid", "shards"])
def test_one_percent_trains_as_well_as_all_with_error_feedback_only(partition):
    """Digits, 10 clients, 300 rounds, 7 of 650 entries; means over five seeds.

    Minibatches of 20 and momentum at the server, for which the figures of rrm.md §7 come out.
    """
    link = Link(mean_gain=np.full(10, 1e-10), compute_s=np.full(10, 0.1), fading="none")
    schemes = {
        "dense": Compressed(NoCompression()),
        "naive": Compressed(TopK(0.01)),
        "feedback": Compressed(TopK(0.01), error_feedback=True),
    }
    final = {name: [] for name in schemes}
    for seed in range(5):
        task = Task.digits(
            10,
            partition,
            shards_per_client=1,
            learning_rate=0.1,
            batch_size=20,
            test_share=400 / 1797,
            server_momentum=0.9,
            seed=seed,
        )
        for name, scheme in schemes.items():
            run = rr.fl.train(
                task, link, Everybody(), rounds=300, seed=seed, scheme=scheme, evaluate_every=300
            )
            final[name].append(run.accuracy[-1])
    dense, naive, feedback = (np.mean(final[name]) for name in schemes)
    assert naive < feedback - 0.02
    assert abs(feedback - dense) < 0.01
