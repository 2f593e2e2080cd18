"""What the convex rivals of ``coverage`` share: lifted programs built once, and one lane's state.

With M = m m^H and columns g_k of threshold 1, device k lacks x_k of being served:

    tr M - g_k^H M g_k <= x_k,   x >= 0,   tr M = 1,   M >= 0          (and rank M = 1)

M is seen through N^2 real coordinates in an orthonormal basis of the Hermitian matrices, so that
<A, M> is a product of coordinates. Any real W >= 0 of order 2N averages to such an M: Re M is the
mean of its diagonal blocks, Im M half the difference of the others. Nothing forces the blocks of W
to agree: with those equations, or a Hermitian variable, Clarabel stalls before its tolerance on
nearly every instance. Only data are parameters: a device is switched off by a row that always
holds, so that one built program serves all prefixes of all instances of one size.

A program is never believed. Whatever it says, a beam counts for the devices it serves.

Source: spec ota.md §2.3, §3 (a), (b); a reconstruction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rralloc import forms
from rralloc.errors import SolverUnavailable
from rralloc.forms import Coverage, Handle
from rralloc.numerics.beams import normal, unit
from rralloc.run import Interrupted, LaneRun
from rralloc.solution import Stopped
from rralloc.solver import Solver
from rralloc.solvers._engines import Handles, quiet
from rralloc.solvers.coverage import normalised
from rralloc.solvers.cvxpy_model import ECOS_MISSING, NAMES, require_dpp
from rralloc.typing import Array

HANDLES = Handles()

SEMIDEFINITE = ("CLARABEL", "SCS", "MOSEK", "CVXOPT", "COPT", "SDPA")
"""Engines with a semidefinite cone."""
ROOM = {"SCS": 1e-4}
"""How far above the threshold a program aims: more than its engine's tolerance."""
ROOM_ELSE = 1e-6
MOST = 2.0
"""No device lacks as much; without a limit x would be unbounded where it costs nothing."""
TRIALS = 100
"""Gaussian randomisations of a relaxation."""


def require(engine: str, *, semidefinite: bool = True) -> None:
    """Raise ``SolverUnavailable`` when cvxpy or the engine is missing, or lacks the cone."""
    try:
        import cvxpy
    except ImportError:
        raise SolverUnavailable("cvxpy is not installed: pip install cvxpy") from None
    has, name = cvxpy.installed_solvers(), engine.upper()
    if semidefinite and name not in SEMIDEFINITE:
        fit = ", ".join(n for n in has if n in SEMIDEFINITE)
        raise SolverUnavailable(f"{engine!r} has no semidefinite cone; installed with one: {fit}")
    if name not in has:
        missing = f"cvxpy has no engine {engine!r} installed; it has {', '.join(has)}"
        raise SolverUnavailable(ECOS_MISSING if name == "ECOS" else missing)


class Lifted(Solver):
    """One instance at a time through cvxpy; ``engine`` is what solves its programs."""

    needs: ClassVar[tuple[type, ...]] = (Coverage,)
    batched = False
    foreign = True
    variant = "engine"

    engine: str = "CLARABEL"

    def available(self) -> None:
        """Raise when cvxpy or the engine is missing."""
        require(self.engine)


# -- coordinates ----------------------------------------------------------------------------------


def coordinates(A: Array) -> Array:
    """Hermitian ``(..., N, N)`` as N^2 reals: the diagonal, then sqrt(2) times Re and Im above."""
    rows, cols = np.triu_indices(A.shape[-1], 1)
    above = np.sqrt(2) * A[..., rows, cols]
    diagonal = np.diagonal(A, axis1=-2, axis2=-1).real
    return np.concatenate([diagonal, above.real, above.imag], axis=-1)


def hermitian(z: Array) -> Array:
    """Back again: ``(N^2,)`` as ``(N, N)``."""
    size = int(np.sqrt(len(z)))
    above, M = z[size:] / np.sqrt(2), np.diag(z[:size]).astype(complex)
    rows, cols = np.triu_indices(size, 1)
    M[rows, cols] = above[: len(rows)] + 1j * above[len(rows) :]
    M[cols, rows] = M[rows, cols].conj()
    return M


@cache
def _averaging(size: int) -> Any:
    """W, row by row, -> coordinates of M: a sparse matrix ``(N^2, 4 N^2)``."""
    from scipy.sparse import csr_array

    basis = np.stack([hermitian(e) for e in np.eye(size**2)])
    top = np.concatenate([basis.real, -basis.imag], axis=-1)
    low = np.concatenate([basis.imag, basis.real], axis=-1)
    return csr_array(np.concatenate([top, low], axis=-2).reshape(size**2, -1) / 2)


# -- programs -------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """What is asked of M: ``rows @ coordinates(M) + lift * x >= level``, ``(K, N^2)``, ``(K,)``."""

    rows: Array
    lift: Array
    level: Array


class Answer(NamedTuple):
    """M through its beams: weights, rising, and unit vectors in columns.

    ``lack`` ``(K,)`` is the least x that M allows; ``x`` is the program's own, which is left
    anywhere above where it costs nothing.
    """

    size: Array
    vectors: Array
    lack: Array
    x: Array

    @property
    def main(self) -> Array:
        """The top eigenvector."""
        return self.vectors[:, -1]

    @property
    def rest(self) -> float:
        """tr M - |M|_2: zero for one beam."""
        return float(self.size[:-1].sum())


def sparse(antennas: int, devices: int) -> forms.Model:
    """min cost^T x + <pull, M> over the rows, tr M = 1, 0 <= x <= 2."""
    return _stated("sparse", antennas, devices)


def squares(antennas: int, devices: int) -> forms.Model:
    """min sum_k (cost_k x_k)^2 over the same."""
    return _stated("squares", antennas, devices)


def shortest(antennas: int, devices: int) -> forms.Model:
    """min tr M over the rows with x = 0: a beam's power, relaxed."""
    return _stated("shortest", antennas, devices)


def _stated(kind: str, antennas: int, devices: int) -> forms.Model:
    return forms.Model(
        (kind, antennas, devices),
        lambda _: _built(kind, antennas, devices),
        exact=False,
        backends=("cvxpy",),
    )


def _built(kind: str, antennas: int, devices: int) -> Handle:
    import cvxpy as cp

    W = cp.Variable((2 * antennas, 2 * antennas), symmetric=True)
    z, x = _averaging(antennas) @ cp.vec(W, order="C"), cp.Variable(devices, nonneg=True)
    rows, level = cp.Parameter((devices, antennas**2)), cp.Parameter(devices)
    lift, cost = (cp.Parameter(devices, nonneg=True) for _ in range(2))
    pull = cp.Parameter(antennas**2)
    trace, cone = cp.sum(z[:antennas]), W >> 0
    if kind == "shortest":
        model = cp.Problem(cp.Minimize(trace), [cone, rows @ z >= level])
    else:
        linear = cost @ x + pull @ z
        goal = linear if kind == "sparse" else cp.sum_squares(cp.multiply(cost, x))
        asked = rows @ z + cp.multiply(lift, x) >= level
        model = cp.Problem(cp.Minimize(goal), [cone, asked, trace == 1, x <= MOST])

    def assign(data: dict[str, Any]) -> None:
        asked = data["rows"]
        rows.value, level.value, lift.value = asked.rows, asked.level, asked.lift
        cost.value, pull.value = data.get("cost"), data.get("pull")

    return Handle(model, assign, lambda _: {"z": z.value, "x": x.value})


# -- one lane -------------------------------------------------------------------------------------


class Lane:
    """One instance, the best beam so far by direct count, and what the engine said.

    Devices that nobody can serve, or of value 0, are not ``hopeful``: no program sees them.
    """

    def __init__(self, problem: Any, run: LaneRun, engine: str, label: str) -> None:
        self.problem, self.run, self.engine = problem, run, engine.upper()
        self.label = f"{label}:{self.engine}"
        self.form = problem.flat().view(Coverage)
        columns, value = normalised(self.form)
        self.g, self.value = columns[0], value[0] / max(float(value[0].max(initial=0.0)), 1e-300)
        self.hopeful = self.value > 0
        self.strength = (self.g.real**2 + self.g.imag**2).sum(0)
        self.room = ROOM.get(self.engine, ROOM_ELSE)
        self.worth = -1.0
        self.programs, self.answered, self.trouble = 0, 0, Counter[str]()
        # With nobody to serve any beam will do.
        self.offer(unit(self.g[:, int(self.strength.argmax())]))

    # -- beams --------------------------------------------------------------------------------

    def gain(self, m: Array) -> Array:
        """|g_k^H m|^2 ``(K,)`` for unit m."""
        y = self.g.conj().T @ m
        return y.real**2 + y.imag**2

    def offer(self, m: Array) -> Array:
        """Propose a unit beam if it is worth more than the best so far; returns whom it serves."""
        if not m.any():
            m = np.full(len(m), len(m) ** -0.5 + 0j)
        served = (self.gain(m) >= 1) & self.hopeful
        worth = float(self.value[served].sum())
        if worth > self.worth:
            self.worth = worth
            self.run.offer({n: v[0] for n, v in self.form.point(m[None]).items()})
        return served

    @property
    def finished(self) -> bool:
        """Whether all who can be served are."""
        return self.worth >= self.most(self.hopeful)

    def most(self, members: Array) -> float:
        """What a beam for all the members is worth at least."""
        return float(self.value[members].sum())

    # -- programs -----------------------------------------------------------------------------

    @contextmanager
    def program(self, model: forms.Model) -> Iterator[Handle]:
        """The built program, kept for the next instance of this size."""
        with HANDLES.borrow(self.problem, model, "cvxpy", require_dpp) as (handle, _):
            yield handle

    def asked(self, served: Array, allowed: Array) -> Rows:
        """Rows that the ``served`` meet and where the ``allowed`` may lack x_k; no others.

        Each row is divided by the device's strength where that is above 1.
        """
        on, scale = served | allowed, 1 / np.maximum(self.strength, 1.0)
        scaled = self.g * np.sqrt(scale)
        every = coordinates(np.einsum("nk,mk->knm", scaled, scaled.conj()))
        return Rows(
            np.where(on[:, None], every, 0.0),
            np.where(allowed, scale, np.where(on, 0.0, 1.0)),
            np.where(on, (1 + self.room) * scale, -1.0),  # 0 >= -1: always met
        )

    def answer(self, handle: Handle, **data: Any) -> Answer | None:
        """Solve one lifted program; None where it has no answer."""
        handle.assign(data)
        if not self.solved(handle):
            return None
        z, x = handle.point(None).values()
        if z is None or not np.isfinite(z).all():
            return None
        size, vectors = np.linalg.eigh(hermitian(z))
        size = np.maximum(size, 0.0)
        y = vectors.conj().T @ self.g
        heard = size @ (y.real**2 + y.imag**2)
        lack = np.maximum(size.sum() * (1 + self.room) - heard, 0.0)
        own = lack if x is None else np.clip(x, 0.0, MOST)
        on = self.hopeful
        return Answer(size, vectors, np.where(on, lack, 0.0), np.where(on, own, 0.0))

    def solved(self, handle: Handle) -> bool:
        """Run the engine; whether the variables hold something to look at.

        ``infeasible`` is an answer. What is inaccurate is looked at, and remembered as trouble.
        """
        from cvxpy.error import SolverError

        self.run.check()
        if self.run.max_iter is not None and self.programs >= self.run.max_iter:
            raise Interrupted(Stopped.ITERATIONS)
        model, limit = handle.model, self.run.time_left
        clock = NAMES.get(self.engine, {}).get("time_limit", ()) if np.isfinite(limit) else ()
        try:
            with quiet():
                model.solve(solver=self.engine, warm_start=False, **dict.fromkeys(clock, limit))
            status = str(model.status)
        except SolverError:
            status = "solver_error"
        self.programs += 1
        self.run.count(self.programs)
        if status in ("optimal", "infeasible"):
            self.answered += 1
        else:
            self.run.check()  # cut short by the clock
            self.trouble[status] += 1
        return status in ("optimal", "optimal_inaccurate")

    def end(self) -> None:
        """Say how the programs ended, if not all ended well."""
        if self.trouble:
            told = ", ".join(f"{n} {status}" for status, n in sorted(self.trouble.items()))
            reason = Stopped.STALLED if self.answered else Stopped.ERROR
            self.run.end(reason, f"{self.label}: of {self.programs} programs {told}")


# -- rounding -------------------------------------------------------------------------------------


def by_relaxation(lane: Lane, order: Array) -> None:
    """The longest prefix of an order that a rounded relaxation serves, from all down to one."""
    nobody = np.zeros(len(lane.value), dtype=bool)
    with lane.program(shortest(*lane.g.shape)) as handle:
        for members in prefixes(lane, order):
            # 1. The least power of a matrix for the prefix; above 1 there is no beam either.
            found = lane.answer(handle, rows=lane.asked(members, nobody))
            if found is None:
                continue
            # 2. One beam of it; only what it serves counts.
            part = lane.g[:, members]
            served = lane.offer(rounded(found.size, found.vectors, part, lane.run.rng))
            if served[members].all():
                return


def prefixes(lane: Lane, order: Array) -> Iterator[Array]:
    """Masks of the first K, K - 1, ... 1 devices of an order, while they are worth more."""
    for count in range(len(order), 0, -1):
        members = np.zeros(len(lane.value), dtype=bool)
        members[order[:count]] = True
        if lane.worth >= lane.most(members):
            return
        yield members


def rounded(
    size: Array, vectors: Array, members: Array, rng: np.random.Generator, trials: int = TRIALS
) -> Array:
    """Of the main eigenvector and draws from CN(0, M), the beam with the largest least gain."""
    draws = normal(rng, (trials, len(size))) * np.sqrt(size)
    beams = np.concatenate([vectors[None, :, -1], unit(draws @ vectors.T)])
    least = np.abs(beams.conj() @ members).min(-1)
    return np.asarray(beams[int(least.argmax())])


def ranked(lane: Lane, lack: Array) -> Array:
    """The hopeful devices by what they lack; equals by number."""
    order = lack.argsort(kind="stable")
    return np.asarray(order[lane.hopeful[order]])
