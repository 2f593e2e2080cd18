"""Adaptive aggregation in training: each round, how many local steps before the next aggregation?

    AdaptiveAggregation(inner)   tau from ``TauControl``, on what the last round showed
    FixedSteps(inner)            always the same tau, the rival

Both wrap a policy that allocates band and power, and add the local steps to its decision. Source:
arXiv 1804.05271 (abstract) with its public code; spec rrm.md §8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.forms import ClosedForm
from rralloc.numerics.counts import require_whole
from rralloc.policy import Decision, Policy, Round
from rralloc.problems.tau_control import TauControl
from rralloc.typing import Array

ESTIMATES = ("loss_lipschitz", "gradient_lipschitz", "divergence")
"""rho_k, beta_k, delta_k: statistics about the models of the round before."""
BETA_FLOOR = 1e-5
"""The source's least beta_k."""


@dataclass(frozen=True)
class FixedSteps:
    """The same number of local steps in every round; who sends, and how, is the inner policy's.

    inner: allocates band and power; it may not ask for statistics about updates, which would be
        computed before the decision. local_steps: tau >= 1.

    Choose this when you want the baseline of ``AdaptiveAggregation``, or several values of tau over
    one task.
    """

    inner: Policy
    local_steps: int
    label: str = ""

    def __post_init__(self) -> None:
        require_whole("FixedSteps.local_steps", self.local_steps)

    @property
    def name(self) -> str:
        """The label, else the rule."""
        return self.label or f"{self.inner.name}, {self.local_steps} local steps"

    @property
    def reports(self) -> tuple[str, ...]:
        """What the inner policy asks for."""
        return tuple(getattr(self.inner, "reports", ()))

    @property
    def scheme(self) -> Any:
        """What the inner policy transmits."""
        return getattr(self.inner, "scheme", None)

    def start(self, round: Round, rng: np.random.Generator) -> Any:
        """The inner memory."""
        return self.inner.start(round.with_steps(self.local_steps), rng)

    def decide(self, round: Round, memory: Any, rng: np.random.Generator) -> tuple[Decision, Any]:
        """The inner decision, made for rounds of this length."""
        decision, memory = self.inner.decide(round.with_steps(self.local_steps), memory, rng)
        return replace(decision, local_steps=self.local_steps), memory

    def learn(self, feedback: Mapping[str, Any], memory: Any) -> Any:
        """The inner policy's business."""
        return self.inner.learn(feedback, memory)


@dataclass(frozen=True, eq=False)
class Memory:
    """After a round: tau, seconds spent, the last good rho_k, beta_k, delta_k ``(K,)``.

    ``pace`` is that of the round just decided; ``stretch`` is by how much longer packets were on
    air than their rate at the known gain says (a margin of the scheme), 1 before the first.
    """

    inner: Any
    steps: int
    spent_s: float
    estimates: Mapping[str, Array]
    pace: Pace | None = None
    stretch: float = 1.0


@dataclass(frozen=True)
class AdaptiveAggregation:
    """Each round, the local steps that ``TauControl`` finds best on what the last round showed.

    With shares n_k/n, the local models w_k of the last round and the weights w of this one:

        rho   = sum_k n_k/n |f_k(w_k) - f_k(w)| / ||w_k - w||
        beta  = sum_k n_k/n max(||df_k(w_k) - df_k(w)|| / ||w_k - w||, 1e-5)
        delta = sum_k n_k/n ||df_k(w) - df(w)||
        tau   = argmin of G over 1..min(growth tau_before, search_limit)

    The first round has tau = 1. Where w_k = w the old rho_k and beta_k are kept (0 if there are
    none). A step costs the c s of the slowest scheduled device, an aggregation the b s that a round
    as long as the one before lasts beyond that device's computing. The last round is shortened
    to what is left of the budget, as in the public code; where no step fits, tau = 1.

    inner: allocates band and power, for a round as long as the one before; it may not ask for
        statistics about updates, which would be computed before the decision.
    control_parameter: phi > 0. It must be tuned for each model: too large, and tau falls to 1.
    budget_s: R, s, the same as ``train(..., max_seconds=)``.
    growth: gamma, the largest factor from one round to the next. search_limit: the largest tau.
    learning_rate: eta; None takes the task's.

    The source keeps the iterate with the least loss: ``min(history.loss)``.

    Choose this when local steps are cheap against an aggregation and nobody knows how different
    the devices' data are. It comes near the best fixed tau without a search.

    Source: arXiv 1804.05271 (abstract), details from its public code; rrm.md §8.
    """

    inner: Policy
    control_parameter: float
    budget_s: float
    growth: int = 10
    search_limit: int = 100
    learning_rate: float | None = None
    label: str = ""

    def __post_init__(self) -> None:
        for count in ("growth", "search_limit"):
            require_whole(f"AdaptiveAggregation.{count}", getattr(self, count))
        for number in ("control_parameter", "budget_s", "learning_rate"):
            value = getattr(self, number)
            if value is not None and not 0 < value < np.inf:
                said = f"AdaptiveAggregation.{number} = {value}"
                raise InvalidProblem(f"{said} is not in (0, inf)")

    @property
    def name(self) -> str:
        """The label, else the rule."""
        return self.label or f"{self.inner.name}, adaptive local steps"

    @property
    def reports(self) -> tuple[str, ...]:
        """What the inner policy asks for, and the three estimates."""
        return tuple(dict.fromkeys((*getattr(self.inner, "reports", ()), *ESTIMATES)))

    @property
    def scheme(self) -> Any:
        """What the inner policy transmits."""
        return getattr(self.inner, "scheme", None)

    def start(self, round: Round, rng: np.random.Generator) -> Memory:
        """Nothing spent, nothing known; tau = 0 says that no round has been."""
        unknown = {name: np.zeros(round.devices) for name in ESTIMATES}
        return Memory(self.inner.start(round.with_steps(1), rng), 0, 0.0, unknown)

    def decide(
        self, round: Round, memory: Memory, rng: np.random.Generator
    ) -> tuple[Decision, Memory]:
        """The inner decision with the best number of local steps."""
        before = max(memory.steps, 1)
        decision, inner = self.inner.decide(round.with_steps(before), memory.inner, rng)
        pace = Pace.of(decision, round)
        on_air = replace(pace, air_s=pace.air_s * memory.stretch)
        estimates = _updated(memory.estimates, round.statistics)
        steps = self._best(round, estimates, on_air.costs(before), before) if memory.steps else 1
        steps = on_air.fitting(steps, self.budget_s - memory.spent_s)
        memory = Memory(inner, steps, memory.spent_s, estimates, pace, memory.stretch)
        return replace(decision, local_steps=steps), memory

    def learn(self, feedback: Mapping[str, Any], memory: Memory) -> Memory:
        """What the round took; the rest is the inner policy's business."""
        seconds, stretch = float(feedback["seconds"]), memory.stretch
        if memory.pace is not None:
            stretch = memory.pace.stretch(memory.steps, seconds)
        return replace(
            memory,
            inner=self.inner.learn(feedback, memory.inner),
            spent_s=memory.spent_s + seconds,
            stretch=stretch,
        )

    def _best(
        self,
        round: Round,
        estimates: Mapping[str, Array],
        costs: tuple[float, float],
        before: int,
    ) -> int:
        """tau* of ``TauControl``; 1 where the budget is too small for one step."""
        rho, beta, delta = (estimates[name] for name in ESTIMATES)
        problem = TauControl(
            cost_per_step=costs[:1],
            cost_per_aggregation=costs[1:],
            budget=[self.budget_s],
            loss_lipschitz=round.share @ rho,
            gradient_lipschitz=round.share @ np.maximum(beta, BETA_FLOOR),
            divergence=round.share @ delta,
            learning_rate=self._learning_rate(round),
            control_parameter=self.control_parameter,
            search_limit=min(self.growth * before, self.search_limit),
            reserve=False,  # training charges no time for a last check
        )
        return 1 if problem.infeasible() else int(problem.view(ClosedForm).point()["local_steps"])

    def _learning_rate(self, round: Round) -> float:
        eta = self.learning_rate if self.learning_rate is not None else round.learning_rate
        if eta is None:
            raise InvalidProblem(
                f"round {round.index}: {self.name}: no learning rate is known; "
                "give AdaptiveAggregation.learning_rate"
            )
        return eta


@dataclass(frozen=True, eq=False)
class Pace:
    """A round of tau local steps lasts max_k (step_k tau + air_k) s, over the scheduled devices."""

    step_s: Array
    air_s: Array

    @classmethod
    def of(cls, decision: Decision, round: Round) -> Pace:
        """Of a decision; ``round.compute_s`` is the time of ``round.local_steps`` steps.

        Packets of fixed length take ``round.uplink_s``, others what their rate needs; who sends
        in turn waits for all.
        """
        from rralloc.fl.schemes.packets import airtime_s  # training loads with the first policy

        sends = decision.scheduled
        step = round.compute_s[sends] / round.local_steps
        if round.uplink_s is not None and round.modulus_bits is not None:
            return cls(step, np.full(step.shape, round.uplink_s))
        air = airtime_s(decision, round)[sends]
        return cls(step, np.full(step.shape, air.sum()) if decision.in_turn else air)

    def lasts(self, steps: int) -> float:
        """Seconds of a round."""
        return float((self.step_s * steps + self.air_s).max(initial=0.0))

    def stretch(self, steps: int, seconds: float) -> float:
        """The factor on the airtimes with which a round of ``steps`` lasts ``seconds``.

        Exact where one device is the slowest before and after, as with equal computing times.
        """
        last = int(np.argmax(self.step_s * steps + self.air_s)) if self.air_s.size else -1
        if last < 0 or self.air_s[last] <= 0:
            return 1.0
        return max((seconds - float(self.step_s[last]) * steps) / float(self.air_s[last]), 0.0)

    def costs(self, steps: int) -> tuple[float, float]:
        """c and b, s, in a round of ``steps``: the slowest device's step, and all beyond those."""
        step = float(self.step_s.max(initial=0.0))
        return step, max(self.lasts(steps) - step * steps, 0.0)

    def fitting(self, steps: int, left_s: float) -> int:
        """At most the steps that fit into the time left, at least 1.

        A hair less than fits, as seconds are added up in another order where they are charged.
        """
        step = np.maximum(self.step_s, 1e-300)  # a step may be free
        with np.errstate(over="ignore"):
            most = ((left_s * (1 - 1e-9) - self.air_s) / step).min(initial=np.inf)
        return int(np.clip(most, 1, steps))


def _updated(old: Mapping[str, Array], new: Mapping[str, Array]) -> dict[str, Array]:
    """What was measured now; what could not be (NaN where w_k = w) stays as it was."""
    return {name: np.where(np.isfinite(new[name]), new[name], old[name]) for name in ESTIMATES}
