"""Forms: the structures through which a solver meets a problem.

Structure depends on the *instance* (its objective, its fading, its weights), so the object is
asked: ``problem.view(Level)`` returns a frozen form or raises ``NotOffered`` with the reason. A
method marked ``@offers(Level)`` supplies it. Everything a form's callables take and return has one
leading axis of *lanes*, ``(S, ...)``, unless the docstring says otherwise: the driver flattens the
batch before a solver sees it. Subproblems are Problems, so forms nest.

+-------------+------------------------------------------------------+--------------------------+
| form        | the instance is ...                                  | solvers that then apply  |
+=============+======================================================+==========================+
| ClosedForm  | a formula                                            | closed-form              |
| Level       | fixed by one scalar (price, time, 1/water level)     | level                    |
| Separable   | sum of J_k(x_k) with one coupling budget             | newton, dual             |
| Blocks      | easy in each group of variables                      | alternating              |
| Surrogate   | bounded by a tight convex problem at any point       | sca                      |
| Smooth      | differentiable in flat coordinates                   | scipy:*, multistart      |
| Model       | expressible in cvxpy or pyomo                        | cvxpy, pyomo             |
| Boxes       | bounded on every box of its coordinates              | branch-and-bound         |
| Subsets     | easy once a set of devices is chosen                 | greedy, exhaustive       |
| Coverage    | "one unit vector that serves the most devices"       | coverage, exact, ...     |
| Subcarrier- | "one unit vector for each subcarrier ..., for all    | coverage-wideband        |
| Coverage    | of them the same devices"                            |                          |
| SharedBeam  | "the shortest vector that every device hears"        | pair, sdr, low-rank-sdr  |
| Sweep       | near one of a family of easier problems              | sweep                    |
| Stages      | a sequence of rounds                                 | Causal(policy)           |
+-------------+------------------------------------------------------+--------------------------+
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from rralloc.typing import Array, Point, Witness

if TYPE_CHECKING:
    from rralloc.policy import Decision, Round
    from rralloc.problem import Problem

M = TypeVar("M", bound=Callable[..., Any])
Backend = Literal["cvxpy", "pyomo"]


# Forms hold arrays and closures, which nobody compares or prints; leaving those methods out
# (eq=False, repr=False) halves the time that importing this module takes.


def offers(form: type) -> Callable[[M], M]:
    """Mark the method that supplies ``form``; it returns the form or raises ``NotOffered``."""

    def mark(method: M) -> M:
        method.__offers__ = form  # type: ignore[attr-defined]  # read by Problem.__init_subclass__
        return method

    return mark


@dataclass(frozen=True, eq=False, repr=False)
class ClosedForm:
    """``point()`` is optimal; elementwise bracketed scalar kernels count as a formula."""

    point: Callable[[], Point]
    witness: Callable[[], Witness] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Level:
    """One scalar per lane fixes x: find the level at which ``used(level) == budget``.

    ``used`` is non-increasing in the level, and ``used(bracket[0]) >= budget >= used(bracket[1])``.
    ``slope`` is its derivative where known: the solver then takes safeguarded Newton steps.
    ``witness`` names the level for ``problem.bound``.
    """

    point: Callable[[Array], Point]
    used: Callable[[Array], Array]
    budget: Array
    bracket: tuple[Array, Array]
    spacing: Literal["linear", "log"] = "linear"
    slope: Callable[[Array], Array] | None = None
    witness: Callable[[Array], Witness] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Separable:
    """Minimise ``sum_k J_k(x_k)`` with one budget row ``sum_k row . x_k <= budget`` and boxes.

    ``local`` maps coordinates ``(S, K, n)`` to value ``(S, K)``, gradient ``(S, K, n)`` and Hessian
    blocks ``(S, K, n, n)``; ``row`` ``(n,)`` says which coordinates use the budget. ``point`` and
    ``coordinates`` undo each other. ``convex`` ``(S,)``: any stationary point is a global optimum.
    ``branches(price)``, price ``(S,)``, gives ``(S, K, J, n)``: near each kind of local minimum of
    J_k(x) + price row . x (off, one packet, two, ...) one starting point, and that cost
    ``(S, K, J)`` there, inf where the kind does not exist.
    """

    local: Callable[[Array], tuple[Array, Array, Array]]
    row: Array
    budget: Array
    lower: Array
    upper: Array
    convex: Array
    point: Callable[[Array], Point]
    coordinates: Callable[[Point], Array]
    branches: Callable[[Array], tuple[Array, Array]] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Blocks:
    """Groups of variables; ``fix(name, x)`` is the problem in that group with the rest held at x.

    The subproblem's variables are the group's, under the parent's names, and its objective at
    the group's values equals the parent's (the conformance suite checks it).
    """

    names: tuple[str, ...]
    fix: Callable[[str, Point], Problem]


@dataclass(frozen=True, eq=False, repr=False)
class Surrogate:
    """``at(x0)`` is a convex problem in the same variables: tight at x0, never better than true.

    For ``sense="max"``: surrogate(x0) = f(x0) and surrogate(x) <= f(x) on the feasible set, which
    it may shrink around x0 but not leave.
    """

    at: Callable[[Point], Problem]


@dataclass(frozen=True, eq=False, repr=False)
class Smooth:
    """One instance in flat coordinates z ``(n,)``: minimise a smooth function, constraints >= 0.

    ``flatten`` and ``unflatten`` undo each other; ``value_grad`` is of the *minimised* objective,
    ``constraints_jac`` gives scaled slacks ``(m,)`` and their Jacobian ``(m, n)``.
    """

    flatten: Callable[[Point], Array]
    unflatten: Callable[[Array], Point]
    bounds: tuple[Array, Array]
    value_grad: Callable[[Array], tuple[float, Array]]
    constraints_jac: Callable[[Array], tuple[Array, Array]]
    equality: Array
    """Mask ``(m,)`` of the constraints that must be zero rather than non-negative."""


@dataclass(frozen=True, eq=False, repr=False)
class Handle:
    """A built model: set the data of one instance, optionally a start, solve it, read the point.

    ``model`` is a ``cvxpy.Problem`` or a ``pyomo.environ.ConcreteModel`` in whatever normalised
    coordinates survive extremes; ``point(problem)`` returns physical units.
    """

    model: Any
    assign: Callable[[Any], None]
    point: Callable[[Any], Point]
    start: Callable[[Any, Point], None] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """``build(backend)`` makes the model once per ``key`` (structure without data).

    ``exact`` is False where the model is a relaxation or a restriction of the problem; ``reason``
    says why a backend is missing from ``backends``.
    """

    key: Hashable
    build: Callable[[Backend], Handle]
    exact: bool = True
    backends: tuple[Backend, ...] = ("cvxpy", "pyomo")
    reason: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Boxes:
    """One instance over a box ``[lower, upper]`` of n coordinates, for branch and bound.

    ``bound(lo, hi)`` maps ``(M, n)`` corner pairs to ``(M,)`` values that no point of the box can
    beat (worst possible value, ``-inf`` for max, where the box holds no feasible point);
    ``point(z)`` turns coordinates ``(n,)`` into a point.
    """

    lower: Array
    upper: Array
    bound: Callable[[Array, Array], Array]
    point: Callable[[Array], Point]


@dataclass(frozen=True, eq=False, repr=False)
class Subsets:
    """Choose among ``size`` devices; ``fix(mask)``, masks ``(S, K)``, is the problem that remains.

    ``lift(mask, x)`` turns its point into one of the parent, whose objective judges the set.
    """

    size: int
    fix: Callable[[Array], Problem]
    lift: Callable[[Array, Point], Point]


@dataclass(frozen=True, eq=False, repr=False)
class Coverage:
    """Unit m serving the most devices: ``|columns_k^H m|^2 >= threshold_k``, value weight_k.

    ``columns`` ``(S, N, K)`` complex, ``threshold`` and ``weight`` ``(S, K)``; problems scale the
    columns so that the threshold is 1. ``point`` takes m ``(S, N)``.
    """

    columns: Array
    threshold: Array
    weight: Array
    point: Callable[[Array], Point]


@dataclass(frozen=True, eq=False, repr=False)
class SubcarrierCoverage:
    """Unit m_f serving the most devices on all f: ``|columns_fk^H m_f|^2 >= 1``, value weight_k.

    ``columns`` ``(S, F, N, K)`` complex, ``weight`` ``(S, K)``. ``point`` takes m ``(S, F, N)``.
    """

    columns: Array
    weight: Array
    point: Callable[[Array], Point]


@dataclass(frozen=True, eq=False, repr=False)
class SharedBeam:
    """Shortest m with ``|columns_k^H m| >= 1`` for all k; ``columns`` ``(S, N, K)``, none zero.

    ``point`` takes m ``(S, N)`` of any length and scales it.
    """

    columns: Array
    point: Callable[[Array], Point]


@dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """Easier problems in the same variables, ``at(i)`` the one of ``levels[i]``, ``(L,)``.

    None of them is the problem; its own objective judges what each of them finds.
    """

    levels: Array
    at: Callable[[int], Problem]


@dataclass(frozen=True, eq=False, repr=False)
class Stages:
    """A horizon of ``rounds``; ``seen(t)`` is what a causal server knows at round t, no more."""

    rounds: int
    seen: Callable[[int], Round]
    assemble: Callable[[list[Decision]], Point]
    feedback: Callable[[int, Decision], dict[str, Any]] | None = field(default=None)
