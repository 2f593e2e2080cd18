"""Looking on while a run trains: each observer is shown every round, and changes nothing.

What a policy decided, round by round and device by device:

    log = fl.Log()
    fl.train(task, link, policy, rounds=300, observers=[log])
    log["kept"]                                   # (R, K)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.policy import Decision, Round
from rralloc.typing import Array

if TYPE_CHECKING:
    from rralloc.fl.fleet import Fleet
    from rralloc.fl.schemes import Received, Running
    from rralloc.fl.updates import Updates


@dataclass(frozen=True, eq=False)
class Exchange:
    """One round, complete: what was known, decided, sent and made of it."""

    round: Round
    decision: Decision
    received: Received
    updates: Updates
    """Of all devices, from where ``fleet`` was."""
    before: Array
    """The server's weights ``(d,)`` when the round began."""
    after: Array
    """... and after its step."""
    fleet: Fleet
    """Where the devices were when the round began."""
    in_contact: Array
    """Who hears the server's step ``(K,)``."""
    running: Running
    """The scheme in this run, with its memory after the round."""


class Observer(Protocol):
    """Anything that can be called with every ``Exchange`` of a run."""

    def __call__(self, exchange: Exchange) -> None:
        """Look at one round; arrays that are kept must be copied if they are the run's own."""


class Log(Mapping[str, Array]):
    """What was known and decided of each device, round by round: name -> ``(R, K)``.

    The statistics of the round and the allocation ``Decision.x``, as far as they have one value for
    each device, and ``in_contact``, ``scheduled``, ``arrived`` and, where the scheme keeps account,
    ``energy_j`` and what really happened: ``delivered`` coordinates, ``on_air_s``, and
    ``contact_actual_s``, ``snr_actual_per_watt`` (a policy may have been shown means only). One log
    holds one run. Choose this to re-score, plot or explain what a policy did in training.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, Array]] = []

    def __call__(self, exchange: Exchange) -> None:
        """Keep one round."""
        if self._rows and exchange.round.index == 0:
            raise InvalidProblem("this Log holds a run already; give every run a Log of its own")
        devices = exchange.in_contact.shape
        told = dict(exchange.round.statistics) | dict(exchange.decision.x)
        told |= dict(exchange.received.details)
        row = {n: np.array(v) for n, v in told.items() if np.shape(v) == devices}
        row["in_contact"] = exchange.in_contact.copy()
        row["scheduled"] = exchange.decision.scheduled.copy()
        row["arrived"] = exchange.received.arrived.copy()
        if exchange.received.energy_j is not None:
            row["energy_j"] = exchange.received.energy_j.copy()
        self._rows.append(row)

    @property
    def rounds(self) -> int:
        """R."""
        return len(self._rows)

    def __getitem__(self, name: str) -> Array:
        if not self._rows:
            raise KeyError(name)
        return np.stack([row[name] for row in self._rows])

    def __iter__(self) -> Iterator[str]:
        """Names that every round has."""
        first = self._rows[0] if self._rows else {}
        return (n for n in first if all(n in row for row in self._rows))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def to_xarray(self) -> Any:
        """All of it over ``round`` and ``device``."""
        import xarray as xr

        return xr.Dataset({name: (("round", "device"), self[name]) for name in self})
