"""The training loop: synchronous rounds, each a decision, a transmission, a step.

    for t = 1..R
        updates_k  = local gradients of every client at w            stream ("batch", t)
        reported   = statistics of what the scheme would send
        round      = what the server knows: gains, reports           stream ("channel", t)
        decision   = policy.decide(round)                            stream ("policy", t)
        received   = scheme.transmit(updates, decision)              stream ("link", t)
        w          = w - eta * received.estimate

Everything random comes from streams named after what they drive, so two policies with one seed
see the same initial weights, batches and channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from rralloc.errors import InvalidProblem, UnknownName
from rralloc.fl.history import History
from rralloc.fl.link import Link
from rralloc.fl.schemes import DigitalPacket, Received, Running, Scheme, WithMemory
from rralloc.fl.streams import Streams
from rralloc.fl.task import Task
from rralloc.policy import Decision, Policy, Round
from rralloc.typing import Array


def train(
    task: Task,
    link: Link,
    policy: Policy,
    *,
    rounds: int,
    seed: int = 0,
    scheme: Scheme | WithMemory | None = None,
    max_seconds: float = np.inf,
    evaluate_every: int = 1,
    progress: bool = False,
) -> History:
    """Train ``task`` over ``link`` under ``policy``; returns the curves.

    ``scheme``: what is transmitted; the policy's own (``policy.scheme``) if None, else digital
    packets. Training ends after ``rounds``, or before the round that would end after
    ``max_seconds`` of simulated time. ``evaluate_every``: rounds between evaluations (the last
    is always evaluated).

    A policy is shown the statistics it asks for (``policy.reports``): ``gradient_norm`` and
    ``gradient_energy`` with every scheme, others as the scheme offers them. Then every device
    computes in every round, and its time and energy are counted.
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
    scheme = scheme or getattr(policy, "scheme", None) or DigitalPacket()
    streams = Streams(seed)
    w = task.learner.init(streams.rng("init"))
    running = _begin(scheme, link.devices, w.size)
    asked = _asked(policy, running)
    record = _Record(task, w)
    memory: Any = None
    for t in _rounds(rounds, progress, policy.name):
        gain = link.gains(streams.rng("channel", t))
        updates = task.updates(w, streams.rng("batch", t))
        reported = _reported(asked, running, updates)
        round = link.round(
            t,
            gain,
            w.size,
            task.share,
            reported,
            modulus_bits=running.modulus_bits,
            header_bits=running.header_bits,
            everybody_computes=bool(asked) or running.everybody_reports,
        )
        if t == 0:
            memory = policy.start(round, streams.rng("policy"))
        decision, memory = policy.decide(round, memory, streams.rng("policy", t))
        received = running.transmit(updates, decision, round, gain, link, streams.rng("link", t))
        if record.seconds[-1] + received.seconds > max_seconds:
            break
        memory = policy.learn({"round": t, "arrived": received.arrived}, memory)
        w = w - task.learning_rate * received.estimate
        record.add(w, received, decision.scheduled, (t + 1) % evaluate_every == 0)
    record.evaluate_last(w)
    return record.history(policy.name, scheme.name, task.name, seed)


STATISTICS: dict[str, Callable[[Array], Array]] = {
    "gradient_norm": lambda updates: np.linalg.norm(updates, axis=1),
    "gradient_energy": lambda updates: np.einsum("kd,kd->k", updates, updates),
}
"""What devices can report about the updates ``(K, d)`` they have just computed, with any scheme.

A scheme's own statistics come first: they are about the vector that is actually sent.
"""


@dataclass(frozen=True)
class _NoMemory:
    """A scheme that starts every round anew."""

    transmit: Callable[[Array, Decision, Round, Array, Link, np.random.Generator], Received]
    statistics: tuple[str, ...] = ()
    modulus_bits: int | None = None
    header_bits: int | None = None
    everybody_reports: bool = False

    def report(self, updates: Array, names: Iterable[str]) -> dict[str, Array]:
        """Nothing of its own."""
        return {}


def _begin(scheme: Scheme | WithMemory, devices: int, weights: int) -> Running:
    begin = getattr(scheme, "begin", None)
    if begin is not None:
        running: Running = begin(devices, weights)
        return running
    return _NoMemory(cast(Scheme, scheme).transmit)


def _asked(policy: Policy, running: Running) -> tuple[str, ...]:
    asked: tuple[str, ...] = tuple(getattr(policy, "reports", ()))
    known = {*STATISTICS, *running.statistics}
    unknown = sorted(set(asked) - known)
    if unknown:
        raise UnknownName("statistic", unknown[0], known)
    return asked


def _reported(asked: tuple[str, ...], running: Running, updates: Array) -> dict[str, Array]:
    own = running.report(updates, [name for name in asked if name in running.statistics])
    return {name: own[name] if name in own else STATISTICS[name](updates) for name in asked}


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
        self.seconds, self.joules, self.bits = [0.0], [0.0], [0.0]
        self.scheduled = np.zeros(task.clients_count)
        self.arrived = np.zeros(task.clients_count)

    def add(self, w: Array, received: Received, scheduled: Array, evaluate: bool) -> None:
        now = self.task.evaluate(w) if evaluate else (np.nan, np.nan)
        self.accuracy.append(now[0])
        self.loss.append(now[1])
        self.seconds.append(self.seconds[-1] + received.seconds)
        self.joules.append(self.joules[-1] + received.joules)
        self.bits.append(self.bits[-1] + received.bits)
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
            scheduled=self.scheduled,
            arrived=self.arrived,
        )
