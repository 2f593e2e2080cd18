"""Federated SGD by rralloc.fl.train over an error-free link with an equal band split.

``ours.py single|double``: the type of samples and gradients.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from job import Clock, Job

import rralloc as rr
from rralloc import fl
from rralloc.policy import Optimised
from rralloc.problems import MinMaxLatency


class Started:
    """A learner with a given start."""

    def __init__(self, learner: Any, start: Any) -> None:
        self.learner, self.start = learner, start

    def __getattr__(self, name: str) -> Any:
        return getattr(self.learner, name)

    def init(self, rng: np.random.Generator) -> Any:
        """The given start."""
        return self.start.copy()


class Timed:
    """A policy that ticks when it is asked."""

    def __init__(self, policy: Any, clock: Clock) -> None:
        self.policy, self.clock = policy, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)

    def decide(self, *arguments: Any) -> Any:
        """As the policy."""
        self.clock.tick()
        return self.policy.decide(*arguments)


def learner_of(layers: list[list[Any]], features: int) -> Any:
    """The library's model with these layers."""
    wide = [numbers for kind, *numbers in layers if kind == "linear"]
    if any(kind == "conv" for kind, *_ in layers):
        import torch

        torch.set_num_threads(1)
        return fl.CNN(features, wide[-1][1])
    if len(wide) == 1:
        return fl.SoftmaxRegression(*wide[0])
    return fl.MLP(wide[0][0], wide[-1][1], tuple(fan_out for _, fan_out in wide[:-1]))


def main() -> None:
    """Run the job."""
    job, precision = Job.load(), sys.argv[1]
    parts = np.split(np.arange(len(job.y)), job.borders[1:-1])
    learner = Started(learner_of(job.layers, job.x.shape[1]), job.start)
    data = fl.Dataset("benchmark", job.x, job.y, job.x[:10], job.y[:10], 10)
    task = fl.Task(data, parts, learner, job.learning_rate, precision=precision)
    clock, weights = Clock(job), dict[int, Any]()
    rr.fl.train(
        task,
        fl.Link.cell(len(parts)),
        Timed(Optimised(MinMaxLatency, "baseline:equal-split"), clock),
        rounds=job.total,
        scheme=fl.ErrorFree(),
        evaluate_every=job.total + 1,
        on_round=weights.__setitem__,
    )
    job.finish(f"ours_{precision}", clock, weights[job.total])


if __name__ == "__main__":
    main()
