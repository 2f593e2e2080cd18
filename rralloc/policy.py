"""Policy: what a server does each round, from what it has received and nothing else.

    memory = policy.start(round_0, rng)
    decision, memory = policy.decide(round, memory, rng)
    memory = policy.learn(feedback, memory)

Memory is explicit and the random stream is the policy's own, so a policy can be replayed. The
common case is ``Optimised(Problem, solver)``: build ``Problem.from_round(round)``, solve it, act on
the solution. ``Causal(policy)`` goes the other way and makes an online policy a solver of a horizon
problem, feeding it one stage at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rralloc.driver import solve
from rralloc.errors import RRAllocError
from rralloc.forms import Stages
from rralloc.problem import Problem
from rralloc.run import Run
from rralloc.solver import Solver
from rralloc.typing import Array, Point


@dataclass(frozen=True, eq=False)
class Round:
    """What a server knows when it decides; per-device arrays are ``(K,)``.

    ``path_gain`` is the gain it knows: this round's with full channel knowledge, else the mean.
    ``statistics`` holds what the policy asked devices to report (its ``reports``), e.g.
    ``gradient_norm``; reporting on this round's update costs everybody the computing. The
    future, other devices' data and unreceived packets are not here.

    ``uplink_s``, ``weights``, ``modulus_bits`` and ``header_bits`` describe packets of fixed length
    in a fixed uplink time; None where that does not apply. With gamma = P rho/(B N0), the rates of
    a sign and a modulus packet over the whole band are l/(B T) and (l b + header)/(B T) bit/s/Hz.
    """

    index: int
    path_gain: Array
    bandwidth_hz: float
    power_w: Array
    noise_psd_w_hz: float
    payload_bit: float
    compute_s: Array
    share: Array
    statistics: Mapping[str, Array] = field(default_factory=dict)
    everybody_computes: bool = False
    """Every device computes its update before the decision, because it has to report on it."""
    uplink_s: float | None = None
    """T, s: how long the uplink lasts in every round (the link's)."""
    weights: int | None = None
    """l, entries of the vector that a device sends (the model's)."""
    modulus_bits: int | None = None
    """b, bits of one quantised modulus (the scheme's)."""
    header_bits: int | None = None
    """Bits of a modulus packet's header (the scheme's)."""
    local_steps: int = 1
    """E, the local steps that ``compute_s`` and ``compute_j`` are for (the task's)."""
    compute_j: float = 0.0
    """J to compute one update."""
    learning_rate: float | None = None
    """eta (the task's)."""
    channel: Array | None = None
    """h, complex ``(N, K)``, antennas by devices, as server and devices know it (``AirLink``)."""

    @property
    def devices(self) -> int:
        """K."""
        return int(self.path_gain.shape[-1])

    def with_steps(self, local_steps: int) -> Round:
        """The same round with another number of local steps: computing costs as much more."""
        times = local_steps / self.local_steps
        return replace(
            self,
            local_steps=local_steps,
            compute_s=self.compute_s * times,
            compute_j=self.compute_j * times,
        )

    @property
    def waiting_s(self) -> Array:
        """Seconds ``(K,)`` before each device could send: its own computing, or everybody's."""
        slowest = np.full(self.compute_s.shape, self.compute_s.max())
        return slowest if self.everybody_computes else self.compute_s

    @property
    def snr_bandwidth_hz(self) -> Array:
        """Received power over noise density, P g / N0 (Hz): the SNR in 1 Hz."""
        return self.power_w * self.path_gain / self.noise_psd_w_hz


@dataclass(frozen=True, eq=False)
class Decision:
    """What the server tells the devices, and how it will weigh what it receives.

    ``weight_k`` multiplies device k's update in the estimate (n_k/n for all, n_k/(n p_k) for a
    device drawn with probability p_k); ``x`` keeps the allocation for logs and plots.
    """

    scheduled: Array
    weight: Array
    bandwidth_hz: Array
    power_w: Array
    in_turn: bool = False
    """Scheduled devices send one after another on the whole band (else at once, side by side)."""
    x: Mapping[str, Array] = field(default_factory=dict)
    local_steps: int | None = None
    """E of this round; None leaves the task's. Needs a policy that asks for no ``gradient_...``
    statistics: those are about updates that have been computed before the decision."""


@runtime_checkable
class Policy(Protocol):
    """Anything with these three methods and a name."""

    @property
    def name(self) -> str:
        """For tables and figures."""

    def start(self, round: Round, rng: np.random.Generator) -> Any:
        """The memory before the first decision."""

    def decide(self, round: Round, memory: Any, rng: np.random.Generator) -> tuple[Decision, Any]:
        """The decision of this round, and the memory after it."""

    def learn(self, feedback: Mapping[str, Any], memory: Any) -> Any:
        """The memory after the round: what arrived, what it cost."""


@dataclass(frozen=True)
class Optimised:
    """Each round: state the problem from what is known, solve it, act on the solution.

    ``problem`` is a class with ``from_round`` and ``to_decision``; ``settings`` are fields of the
    problem that the round does not give (a trade-off); ``options`` go to the solver. A rule is
    the same thing with a baseline as solver: ``Optimised(MinMaxLatency, "baseline:equal-split")``.
    """

    problem: type[Problem]
    solver: str | Solver | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    asks: tuple[str, ...] | None = None
    """Statistics that every device must report; None takes the problem's ``reports``."""
    scheme: Any = None
    """What is transmitted; None takes the problem's, else leaves it to the training run."""

    def __post_init__(self) -> None:
        if self.scheme is None:
            object.__setattr__(self, "scheme", self.problem.training_scheme())

    @property
    def name(self) -> str:
        """The label, else problem and solver."""
        chosen = self.solver.label() if isinstance(self.solver, Solver) else self.solver
        return self.label or f"{self.problem.__name__} by {chosen or 'default'}"

    @property
    def reports(self) -> tuple[str, ...]:
        """What the server is shown each round; nothing is free: who reports has computed."""
        return self.problem.reports if self.asks is None else self.asks

    def start(self, round: Round, rng: np.random.Generator) -> None:
        """No memory."""

    def decide(self, round: Round, memory: None, rng: np.random.Generator) -> tuple[Decision, None]:
        """Solve the round's problem; an instance without a feasible point is an error, by name."""
        problem = self.problem.from_round(round)
        if self.settings:
            problem = problem.replace(**self.settings)
        sol = solve(problem, self.solver, certify="none", rng=rng, **self.options)
        if not sol.violation <= 1e-9:  # NaN where there is no point at all
            words = f"{sol.status.name.lower()}, violation {sol.violation:.1e}"
            raise RRAllocError(f"round {round.index}: {self.name}: {words}. {sol.message}")
        return problem.to_decision(sol.x, round, rng), None

    def learn(self, feedback: Mapping[str, Any], memory: None) -> None:
        """Nothing to remember."""


class Causal(Solver):
    """An online policy as a solver of a horizon problem: its gap to clairvoyance is one call.

    The problem offers ``Stages``; the policy is shown round after round what a causal server knows,
    and its decisions are assembled into a point. Choose this to score a policy against the
    clairvoyant optimum of the same horizon.
    """

    name = "causal"
    rank = 1000
    needs = (Stages,)
    batched = False

    policy: Any

    def label(self) -> str:
        """``causal(policy)``."""
        return f"causal({self.policy.name})"

    def solve(self, problem: Any, start: Point | None, run: Run) -> None:
        """Feed one stage at a time."""
        stages = problem.view(Stages)
        first = stages.seen(0)
        memory = self.policy.start(first, run.rng)
        decisions: list[Decision] = []
        for t in range(stages.rounds):
            run.check()
            decision, memory = self.policy.decide(stages.seen(t), memory, run.rng)
            decisions.append(decision)
            told = stages.feedback(t, decision) if stages.feedback else {}
            memory = self.policy.learn(told, memory)
        run.offer(stages.assemble(decisions))
