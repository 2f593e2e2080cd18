"""How far local models stray from where training is heading, and what bounds it.

The virtual weights v take every update at once, v <- v - eta sum_k rho_k u_k, while w waits for
what arrives and w_k for the next contact. With theta_k rounds since device k last took w, kappa_k
the round in which that was, G the largest norm of an update, e_k the memory and x_k, k_k what the
device held and kept at its last contact (x_k in units of weights, that is eta times gradients):

    |v - w_k|^2 <= 8 (1 - rho_k)^2 theta_k^2 eta^2 G^2 + 2 sum_m rho_m P_m(kappa_k)
    P_m(t) = 2 (1 - k_m/s) |x_m|^2 + 2 eta^2 G^2 theta_m(t)^2                        (D)

    sum_k rho_k |v - w_k|^2 <= sum_k rho_k [2 theta_k^2 eta^2 G^2 + (5 - 3 k_k/s) |x_k|^2]   (S)

(D) is proved pathwise. (S) is Lemma 1 of arXiv 2506.07328 as a public review prints it; we can
prove its first constant only where all devices last took w in the same round. With them, for
L-smooth losses, eta <= 1/L and updates of variance sigma^2, independent over devices,

    mean_r E|df(v_r)|^2 <= 2 (f(w_0) - f*)/(eta R) + L eta sigma^2 sum_k rho_k^2
                           + L^2 mean_r sum_k rho_k |v_r - w_{k,r}|^2                         (T)

Source: mads.md §2.5 (rho_k = 1/N there; general shares derived), a reconstruction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.fl.observers import Exchange
from rralloc.fl.schemes.compressed import ErrorMemory
from rralloc.fl.task import Task
from rralloc.typing import Array


class Sides(NamedTuple):
    """Left and right of an inequality."""

    left: float
    right: float


class Divergence:
    """An observer of ``fl.train`` that measures |v - w_k|^2 and evaluates (D), (S) and (T).

    task: gives the gradients of (T); without it (T) is not evaluated. Needs ``SparseUpload`` and a
    server without momentum.
    Choose this to see whether staleness or sparsification limits a run, or to test a bound.
    """

    def __init__(self, task: Task | None = None) -> None:
        self.task = task
        self._rows: list[_Row] = []
        self._longest = 0.0  # G
        self.virtual: Array
        """v ``(d,)``."""
        self.pending: Array
        """eta e_k ``(K, d)``: what is not delivered."""

    def __call__(self, exchange: Exchange) -> None:
        """Measure at the start of the round, then take in what it brought."""
        memory = getattr(exchange.running, "memory", None)
        if not isinstance(memory, ErrorMemory) or "delivered" not in exchange.received.details:
            raise InvalidProblem("Divergence needs a scheme with an error memory: SparseUpload")
        if self._rows and exchange.round.index == 0:
            raise InvalidProblem("this Divergence holds a run already; give every run its own")
        rows = np.asarray(exchange.updates.rows, dtype=float)
        if not self._rows:
            self._begin(exchange, len(rows))
        self._measure(exchange)
        self._longest = max(self._longest, float(np.linalg.norm(rows, axis=1).max()))
        self.virtual = self.virtual - self.eta * (self.share @ rows)
        sent = exchange.received.details["delivered"]
        self._meet(exchange, self.pending + self.eta * rows, sent / rows.shape[1])
        self.pending = self.eta * memory.unsent

    def _begin(self, exchange: Exchange, devices: int) -> None:
        zero, task = np.zeros(devices), exchange.updates.task
        if task.server_momentum > 0:
            raise InvalidProblem(
                f"server_momentum = {task.server_momentum}: v and the bounds are about plain steps "
                "of the server; train with server_momentum=0"
            )
        self.share, self.eta = exchange.round.share, exchange.updates.task.learning_rate
        self.virtual, self.pending = (
            exchange.before.copy(),
            np.zeros((devices, len(exchange.before))),
        )
        self.energy, self.kept = zero, zero  # |x|^2 and k/s at the last contact
        self.others, self.ages = zero, zero  # the two parts of sum_m rho_m P_m(kappa_k)

    def _measure(self, exchange: Exchange) -> None:
        place = np.broadcast_to(exchange.fleet.weights, self.pending.shape)
        slope = np.nan
        if self.task is not None:
            gradient = self.share @ self.task.client_gradients(self.virtual)
            slope = float(gradient @ gradient)
        row = _Row(
            actual=np.sum((self.virtual - place) ** 2, axis=1),
            theta=exchange.fleet.staleness - 1.0,  # this round's training is still to come
            own=(5 - 3 * self.kept) * self.energy,
            others=self.others,
            ages=self.ages,
            slope=slope,
        )
        self._rows.append(row)

    def _meet(self, exchange: Exchange, x: Array, kept: Array) -> None:
        """P_m is renewed after all contacts of a round, and remembered by who took w in it."""
        met = exchange.in_contact
        self.energy = np.where(met, np.einsum("kd,kd->k", x, x), self.energy)
        self.kept = np.where(met, kept, self.kept)
        since = np.where(met, 0.0, exchange.fleet.staleness)
        others = float(self.share @ (2 * (1 - self.kept) * self.energy))
        ages = float(self.share @ (2 * self.eta**2 * since**2))
        self.others = np.where(met, others, self.others)
        self.ages = np.where(met, ages, self.ages)

    # -- what was found -----------------------------------------------------------------------

    def _all(self, name: str) -> Array:
        return np.array([getattr(row, name) for row in self._rows])

    @property
    def actual(self) -> Array:
        """|v - w_k|^2 at the start of each round ``(R, K)``."""
        return self._all("actual")

    @property
    def proved(self) -> Array:
        """The right side of (D) ``(R, K)``, with G of the whole run."""
        own = 8 * (1 - self.share) ** 2 * (self._all("theta") * self.eta * self._longest) ** 2
        found: Array = own + 2 * (self._all("others") + self._all("ages") * self._longest**2)
        return found

    @property
    def printed(self) -> Array:
        """The right side of (S) ``(R,)``, with G of the whole run."""
        own = 2 * (self._all("theta") * self.eta * self._longest) ** 2 + self._all("own")
        found: Array = own @ self.share
        return found

    def theorem(
        self,
        smoothness: float,
        first_loss: float,
        *,
        least_loss: float = 0.0,
        variance: float = 0.0,
    ) -> Sides:
        """Both sides of (T) for this run.

        smoothness: L of every client's loss. first_loss: f(w_0). least_loss: at most f*.
        variance: sigma^2 of an update, 0 for full batches.
        Raises InvalidProblem: eta > 1/L, where (T) says nothing, or no task was given.
        """
        if self.task is None:
            raise InvalidProblem("Divergence.task is None: give the task, for the gradients of (T)")
        told = self.task
        if told.local_steps > 1 or told.momentum > 0 or told.weight_decay > 0:
            raise InvalidProblem("(T) is about one plain local step: no momentum, no weight decay")
        if told.clip_norm is not None and self._longest >= told.clip_norm * (1 - 1e-9):
            raise InvalidProblem("(T) is about unbiased gradients, and some were clipped")
        if self.eta * smoothness > 1:
            raise InvalidProblem(
                f"the learning rate {self.eta:g} exceeds 1/L = {1 / smoothness:g}: (T) says nothing"
            )
        start = 2 * (first_loss - least_loss) / (self.eta * len(self._rows))
        noise = smoothness * self.eta * variance * float(np.sum(self.share**2))
        strayed = smoothness**2 * float((self.actual @ self.share).mean())
        return Sides(float(self._all("slope").mean()), start + noise + strayed)


class _Row(NamedTuple):
    """What a round adds to the record."""

    actual: Array
    theta: Array
    own: Array
    others: Array
    ages: Array
    slope: float
