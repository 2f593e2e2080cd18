"""The training loop: rounds, each a decision, a transmission, a step.

    for t = 1..R
        reported   = what the policy asks devices for (reports.py)
        round      = what the server knows: gains, reports           stream ("channel", t)
        decision   = policy.decide(round)                            stream ("policy", t)
        updates_k  = local steps of every client from w_k            stream ("batch", t)
        received   = scheme.transmit(updates, decision)              stream ("link", t)
        v          = mu v + received.estimate                        mu: server momentum
        w          = w - eta v
        w_k        = w for who is in contact, w_k - eta update_k for the others

Synchronous training is the case in which everybody is always in contact (``Link``): then w_k = w.
On a ``MobileLink`` devices come and go; who is out of contact trains on alone (``fleet.py``).
If reports are about the updates, these come before the decision. Everything random comes from
streams named after what they drive, so two policies with one seed see the same initial weights,
batches and channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from rralloc.errors import InvalidProblem, UnknownName
from rralloc.fl.fleet import Fleet
from rralloc.fl.history import History
from rralloc.fl.link import Link
from rralloc.fl.observers import Exchange, Observer
from rralloc.fl.reports import ABOUT_MODELS, ABOUT_UPDATES, OF_THE_SERVER, about_models
from rralloc.fl.schemes import DigitalPacket, Received, Running, Scheme, WithMemory
from rralloc.fl.schemes.packets import NothingToReport
from rralloc.fl.streams import Streams
from rralloc.fl.task import Task
from rralloc.fl.updates import Updates
from rralloc.policy import Decision, Policy, Round
from rralloc.registry import resolve_policy
from rralloc.typing import Array


def train(
    task: Task,
    link: Link,
    policy: Policy | type[Policy] | str,
    *,
    rounds: int,
    seed: int = 0,
    scheme: Scheme | WithMemory | None = None,
    max_seconds: float = np.inf,
    evaluate_every: int = 1,
    on_round: Callable[[int, Array], None] | None = None,
    observers: Sequence[Observer] = (),
    progress: bool = False,
) -> History:
    """Train ``task`` over ``link`` under ``policy``; returns the curves.

    ``policy``: an object, or the class or name of one that needs no arguments, ``"TopGradient"``.
    ``scheme``: what is transmitted; the policy's own (``policy.scheme``) if None, else digital
    packets. Training ends after ``rounds``, or before the round that would end after
    ``max_seconds`` of simulated time. ``evaluate_every``: rounds between evaluations (the last
    is always evaluated). ``on_round(t, w)`` is called after every round t = 1, 2, ... with the
    weights ``(d,)``, to keep or to judge them; each of ``observers`` is shown the whole round, an
    ``Exchange``: ``Log`` keeps what was decided, ``Divergence`` how far local models strayed.

    A policy is shown the statistics it asks for (``policy.reports``, see ``rralloc.fl.reports``).
    If some are about the updates, every device computes in every round, and its time and energy
    are counted.
    """
    if link.devices != task.clients_count:
        raise InvalidProblem(
            f"the link has {link.devices} devices and the task {task.clients_count} clients; "
            "give both the same number"
        )
    if rounds < 0 or evaluate_every < 1:
        raise InvalidProblem(
            f"rounds = {rounds}, evaluate_every = {evaluate_every}: give rounds >= 0 and "
            "evaluate_every >= 1"
        )
    policy = resolve_policy(policy)
    scheme = scheme or getattr(policy, "scheme", None) or DigitalPacket()
    streams = Streams(seed)
    w = task.learner.init(streams.rng("init"))
    velocity = np.zeros_like(w)
    fleet = Fleet(w, link.devices)
    running = _begin(scheme, link.devices, w.size)
    link.admit(rounds, scheme.name, running)
    server = _Server(task, policy, running)
    record = _Record(task, w)
    memory: Any = None
    for t in _rounds(rounds, progress, policy.name):
        gain = link.gains(streams.rng("channel", t), t)
        updates = None
        if server.reports_on_updates:
            updates = Updates(task, fleet.weights, streams.rng("batch", t))
        round = link.round(
            t,
            gain,
            w.size,
            task.share,
            server.reported(w, updates, fleet),
            modulus_bits=running.modulus_bits,
            header_bits=running.header_bits,
            payload_bit=getattr(running, "payload_bit", None),
            everybody_computes=server.reports_on_updates,
            local_steps=task.local_steps,
            learning_rate=task.learning_rate,
        )
        if t == 0:
            memory = policy.start(round, streams.rng("policy"))
        decision, memory = policy.decide(round, memory, streams.rng("policy", t))
        round = _with_steps(round, decision)
        if updates is None:
            updates = Updates(task, fleet.weights, streams.rng("batch", t), round.local_steps)
        keeps_rows = server.about_models or not getattr(running, "linear", False)
        sent = updates.rows if keeps_rows else updates
        received = running.transmit(sent, decision, round, gain, link, streams.rng("link", t))  # type: ignore[arg-type]  # Updates stands for its rows
        if record.seconds[-1] + received.seconds > max_seconds:
            break
        cost = {name: getattr(received, name) for name in ("seconds", "joules", "bits")}
        if received.energy_j is not None:
            cost["energy_j"] = received.energy_j
        memory = policy.learn({"round": t, "arrived": received.arrived, **cost}, memory)
        computed = round.everybody_computes | decision.scheduled
        server.learn(fleet.weights, updates, computed, received.arrived)
        velocity = task.server_momentum * velocity + received.estimate
        w, before = w - task.learning_rate * velocity, w
        in_contact = link.in_contact(t)
        if observers:
            seen = (round, decision, received, updates, before, w, fleet, in_contact, running)
            for observe in observers:
                observe(Exchange(*seen))
        fleet.move(w, updates, in_contact)
        if on_round is not None:
            on_round(t + 1, w)
        record.add(
            w, received, decision.scheduled, round.local_steps, (t + 1) % evaluate_every == 0
        )
    record.evaluate_last(w)
    return record.history(policy.name, scheme.name, task.name, seed)


def _with_steps(round: Round, decision: Decision) -> Round:
    """The round with the local steps that were decided: computing takes as much longer."""
    steps = decision.local_steps
    if steps is None or steps == round.local_steps:
        return round
    if not isinstance(steps, int | np.integer) or steps < 1 or round.everybody_computes:
        raise InvalidProblem(
            f"round {round.index}: {steps!r} local steps decided; give a whole number >= 1, and "
            "ask for no statistics about updates, which were computed before the decision"
        )
    return round.with_steps(int(steps))


class _Server:
    """Which reports the policy asks for, and what they are made from."""

    def __init__(self, task: Task, policy: Policy, running: Running) -> None:
        self.task, self.running = task, running
        self.asked: tuple[str, ...] = tuple(getattr(policy, "reports", ()))
        known = {*ABOUT_UPDATES, *ABOUT_MODELS, *OF_THE_SERVER, *running.statistics}
        unknown = sorted(set(self.asked) - known)
        if unknown:
            raise UnknownName("statistic", unknown[0], known)
        before = {*ABOUT_MODELS, *OF_THE_SERVER} - set(running.statistics)
        self.about_models = bool(set(self.asked) & set(ABOUT_MODELS) & before)
        self.reports_on_updates = bool(set(self.asked) - before) or running.everybody_reports
        self.local: Array | None = None
        self.age = np.ones(task.clients_count)

    def reported(self, w: Array, updates: Updates | None, fleet: Fleet) -> dict[str, Array]:
        """The statistics asked for, ``(K,)`` each."""
        known: dict[str, Array] = {"age": self.age.copy(), "staleness": fleet.staleness.copy()}
        if self.about_models:
            known |= about_models(self.task, w, self.local)
        if updates is not None:
            rows, share = updates.rows, self.task.share
            known |= {n: f(rows, share) for n, f in ABOUT_UPDATES.items() if n in self.asked}
            own = [name for name in self.asked if name in self.running.statistics]
            known |= self.running.report(rows, own)
        return {name: known[name] for name in self.asked}

    def learn(self, w: Array, updates: Updates, computed: Array, arrived: Array) -> None:
        """Remember what the next round's reports are made from; w: where devices began."""
        self.age = np.where(arrived, 1.0, self.age + 1.0)
        if self.about_models:
            self.local = w - self.task.learning_rate * updates.rows
            self.local[~computed] = np.nan


@dataclass(frozen=True)
class _NoMemory(NothingToReport):
    """A scheme that starts every round anew."""

    transmit: Callable[[Array, Decision, Round, Array, Link, np.random.Generator], Received]
    linear: bool = False
    payload_bit: float | None = None


def _begin(scheme: Scheme | WithMemory, devices: int, weights: int) -> Running:
    begin = getattr(scheme, "begin", None)
    if begin is not None:
        running: Running = begin(devices, weights)
        return running
    return _NoMemory(cast(Scheme, scheme).transmit, getattr(scheme, "linear", False))


def _rounds(rounds: int, progress: bool, name: str) -> Any:
    if not progress:
        return range(rounds)
    from tqdm.auto import tqdm

    return tqdm(range(rounds), desc=name, unit="round", leave=False)


class _Record:
    """Curves as they grow."""

    def __init__(self, task: Task, w: Array) -> None:
        self.task = task
        first = task.evaluate(w)
        self.accuracy, self.loss = [first.test_accuracy], [first.train_loss]
        self.seconds, self.joules, self.bits, self.local_steps = [0.0], [0.0], [0.0], [0]
        self.scheduled = np.zeros(task.clients_count)
        self.arrived = np.zeros(task.clients_count)

    def add(
        self, w: Array, received: Received, scheduled: Array, steps: int, evaluate: bool
    ) -> None:
        now = self.task.evaluate(w) if evaluate else (np.nan, np.nan)
        self.accuracy.append(now[0])
        self.loss.append(now[1])
        self.seconds.append(self.seconds[-1] + received.seconds)
        self.joules.append(self.joules[-1] + received.joules)
        self.bits.append(self.bits[-1] + received.bits)
        self.local_steps.append(steps)
        self.scheduled += scheduled
        self.arrived += received.arrived

    def evaluate_last(self, w: Array) -> None:
        """The final weights are always judged."""
        if np.isnan(self.accuracy[-1]):
            now = self.task.evaluate(w)
            self.accuracy[-1], self.loss[-1] = now.test_accuracy, now.train_loss

    def history(self, policy: str, scheme: str, task: str, seed: int) -> History:
        return History(
            policy=policy,
            scheme=scheme,
            task=task,
            seed=seed,
            accuracy=np.array(self.accuracy),
            loss=np.array(self.loss),
            seconds=np.array(self.seconds),
            joules=np.array(self.joules),
            bits=np.array(self.bits),
            local_steps=np.array(self.local_steps, dtype=float),
            scheduled=self.scheduled,
            arrived=self.arrived,
        )
