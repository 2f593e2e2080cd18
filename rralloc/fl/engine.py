"""The training loop: synchronous rounds, each a decision, a transmission, a step.

    for t = 1..R
        updates_k  = local gradients of every client at w            stream ("batch", t)
        round      = what the server knows: gains, reported norms    stream ("channel", t)
        decision   = policy.decide(round)                            stream ("policy", t)
        received   = scheme.transmit(updates, decision)              stream ("link", t)
        w          = w - eta * received.estimate

Everything random comes from streams named after what they drive, so two policies with one seed
see the same initial weights, batches and channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.errors import InvalidProblem, UnknownName
from rralloc.fl.history import History
from rralloc.fl.link import Link
from rralloc.fl.schemes import DigitalPacket, Received, Scheme
from rralloc.fl.streams import Streams
from rralloc.fl.task import Task
from rralloc.policy import Policy
from rralloc.typing import Array


def train(
    task: Task,
    link: Link,
    policy: Policy,
    *,
    rounds: int,
    seed: int = 0,
    scheme: Scheme | None = None,
    max_seconds: float = np.inf,
    evaluate_every: int = 1,
    progress: bool = False,
) -> History:
    """Train ``task`` over ``link`` under ``policy``; returns the curves.

    ``scheme``: what is transmitted; the policy's own (``policy.scheme``) if None, else digital
    packets. Training ends after ``rounds``, or before the round that would end after
    ``max_seconds`` of simulated time. ``evaluate_every``: rounds between evaluations (the last
    is always evaluated).

    A policy is shown the statistics it asks for (``policy.reports``, e.g. ``gradient_norm``);
    then every device computes in every round, and its time and energy are counted.
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
    asked = _asked(policy)
    streams = Streams(seed)
    w = task.learner.init(streams.rng("init"))
    record = _Record(task, w)
    memory: Any = None
    for t in _rounds(rounds, progress, policy.name):
        gain = link.gains(streams.rng("channel", t))
        updates = task.updates(w, streams.rng("batch", t))
        reported = {name: STATISTICS[name](updates) for name in asked}
        round = link.round(t, gain, w.size, task.share, reported)
        if t == 0:
            memory = policy.start(round, streams.rng("policy"))
        decision, memory = policy.decide(round, memory, streams.rng("policy", t))
        received = scheme.transmit(updates, decision, round, gain, link, streams.rng("link", t))
        if record.seconds[-1] + received.seconds > max_seconds:
            break
        memory = policy.learn({"round": t, "arrived": received.arrived}, memory)
        w = w - task.learning_rate * received.estimate
        record.add(w, received, decision.scheduled, (t + 1) % evaluate_every == 0)
    record.evaluate_last(w)
    return record.history(policy.name, scheme.name, task.name, seed)


STATISTICS = {"gradient_norm": lambda updates: np.linalg.norm(updates, axis=1)}
"""What devices can report about the updates ``(K, d)`` they have just computed."""


def _asked(policy: Policy) -> tuple[str, ...]:
    asked: tuple[str, ...] = tuple(getattr(policy, "reports", ()))
    unknown = sorted(set(asked) - set(STATISTICS))
    if unknown:
        raise UnknownName("statistic", unknown[0], STATISTICS)
    return asked


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
