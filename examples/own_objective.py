"""An objective of your own for SP-FL: an update that is lost counts more than its energy.

    J_k = w [ (1 + a) (1 - q) G + q (1 - p) E + q p D ],    q, p: P(signs), P(moduli | signs) arrive

It is a sum of terms c q^-i p^j, so a table of its coefficients gives value, slopes, every solver
and the certified bound. With a = 0 it is the named objective ``plain``.
Run it: python examples/own_objective.py
"""

from __future__ import annotations

from dataclasses import dataclass

import rralloc as rr
from rralloc import fl
from rralloc.problems import SPFL
from rralloc.problems.spfl_objectives import ExponentialSum, Term
from rralloc.typing import Array


@dataclass(frozen=True)
class OutageAverse(ExponentialSum):
    """Expected error energy, with every lost update counted 1 + aversion times."""

    aversion: float = 1.0
    name: str = "outage-averse"

    def terms(self, problem: SPFL) -> tuple[Array, list[Term]]:
        """The constant, and c, i, j of each term."""
        w, G, E, D, _ = problem.statistics
        lost = (1 + self.aversion) * w * G
        return lost, [Term(w * E - lost, -1, 0), Term(w * (D - E), -1, 1)]


if __name__ == "__main__":
    problem = SPFL.random(K=6, load=6, batch=3, rng=0, objective=OutageAverse(2.0))
    print(rr.compare(problem, ["dual", "sca", "alternating", "baseline:uniform"]))
    task = fl.Task.digits(clients=6, partition="dirichlet", alpha=0.5, seed=0)
    link = fl.Link.loaded(6, load=3.0, weights=task.learner.size, seed=0)
    for name, objective in {"plain": "plain", "averse": OutageAverse(2.0)}.items():
        settings = {"objective": objective}
        policy = rr.Optimised(SPFL, settings=settings, scheme=fl.SignModulus(), label=name)
        print(fl.train(task, link, policy, rounds=20, seed=0))
