"""Contacts: how long each device can reach a server in each round, and over which distance.

Servers stand at c_1 ... c_M and reach r metres. A device at x(t) is in contact while

    min_j |x(t) - c_j| <= r,        the nearest server serves it,

and round q = 0 ... R-1 is the time from start + q T to start + (q+1) T. Two numbers are kept for
each round and device n:

    seconds[q, n]    = time in contact within the round,                          0 <= . <= T
    distance_m[q, n] = sqrt( mean of min_j |x(t) - c_j|² over that time ),        0 <= . <= r

The root mean square lies between the mean and the largest distance, and for a device in uniform
motion it is a polynomial. Motion is piecewise linear (:class:`Track`), so nothing is sampled: every
straight piece is cut where it crosses a circle, the border between two servers or the end of a
round, and each part lies wholly in or out of contact. With x(u) = a + u s, 0 <= u <= 1, unit
direction e = s/|s| and offset h = |(a - c) x e| of the line from a server,

    crossings   u = ( -(a - c)·e  ±  sqrt((r - h)(r + h)) ) / |s|,   if h < r
    border      (c_j - c_i)·x(u) = (|c_j|² - |c_i|²) / 2
    mean of |y|² from y to z = (|y|² + y·z + |z|²) / 3

======  ==========================================  =====
symbol  meaning                                     unit
======  ==========================================  =====
R, N    rounds, devices
T       ``round_s``, length of a round              s
r       ``radius_m``, reach of a server             m
c_j     ``centre_m``, where the servers are         m
======  ==========================================  =====

:mod:`rralloc.channel.mobility` draws contacts from models of motion,
:mod:`rralloc.channel.tracks` reads recorded motion. Derived here; contact and inter-contact times
as a model of mobile devices follow A. Chaintreau et al., "Impact of human mobility on
opportunistic forwarding algorithms", IEEE Transactions on Mobile Computing 6(6), 2007.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rralloc.channel._check import FloatArray, fit, require, require_count, require_scalar
from rralloc.channel._straight_parts import joined, round_edges, straight_parts, time_in_rounds
from rralloc.channel.motion import Discs, Track
from rralloc.channel.pathloss import macro_3gpp
from rralloc.errors import InvalidProblem
from rralloc.typing import Field

__all__ = ["Contacts", "Discs", "Track", "contacts_of"]


@dataclass(frozen=True, eq=False)
class Contacts:
    """What a training run needs to know of mobility: seconds and distance, round by round.

    Choose this directly when seconds of contact are known already; otherwise a model of
    :mod:`rralloc.channel.mobility`, :func:`contacts_of` or :meth:`from_intervals` makes one, and
    :meth:`always` is the synchronous case.

    Attributes
    ----------
    seconds
        Time in contact in s, shape ``(R, N)``, within [0, ``round_s``].
    distance_m
        Root mean square distance to the server in contact, m, shape ``(R, N)`` or one number,
        within [0, inf); stored as inf where ``seconds`` is 0, whatever is given there.
    round_s
        T in s, within (0, inf).
    start_s
        When round 0 begins, s.
    names
        Of the N devices; default "0", "1", ...
    intervals
        For each device its contacts, begin and end in s, ``(contacts, 2)``, in order and disjoint,
        cut at the first and the last round. None if only the seconds are known.
    tracks, discs
        Positions over time and servers, where there are any: for maps.

    Raises
    ------
    InvalidProblem
        If a value is outside its range, or shapes disagree.

    Examples
    --------
    >>> contacts = Contacts([[4.0, 0.0], [10.0, 0.0]], 50.0, round_s=10.0)
    >>> contacts.share.tolist(), contacts.probability.tolist()
    ([0.7, 0.0], [1.0, 0.0])

    """

    seconds: Field
    distance_m: Field
    round_s: float
    start_s: float = 0.0
    names: tuple[str, ...] = ()
    intervals: tuple[npt.NDArray[np.float64], ...] | None = None
    tracks: tuple[Track, ...] = ()
    discs: Discs | None = None

    def __post_init__(self) -> None:
        round_s, start_s = _clock(self.round_s, self.start_s)
        fix = "a device is in contact between never and the whole round"
        seconds = require("Contacts.seconds", self.seconds, f"[0, {round_s!r}]", "s", fix)
        if seconds.ndim != 2:
            raise InvalidProblem(f"Contacts.seconds has shape {seconds.shape} and must be (R, N).")
        given = np.asarray(self.distance_m)
        if given.shape not in ((), seconds.shape):
            raise InvalidProblem(
                f"Contacts.distance_m has shape {given.shape}; "
                f"give one number or {seconds.shape}, as seconds."
            )
        here, fix = seconds > 0, "give a finite distance in metres wherever seconds > 0"
        asked = np.where(here, given, 0.0)  # what is said of rounds without contact is not used
        known = require("Contacts.distance_m", asked, "[0, inf)", "m", fix)
        distance = np.where(here, known, np.inf)
        for name, array in (("seconds", seconds), ("distance_m", distance)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        object.__setattr__(self, "round_s", round_s)
        object.__setattr__(self, "start_s", start_s)
        self._keep_names()
        if self.intervals is not None:
            self._keep_intervals(self.intervals)

    def _keep_names(self) -> None:
        names = tuple(self.names) or tuple(str(n) for n in range(self.devices))
        if len(names) != self.devices or len(set(names)) != len(names):
            raise InvalidProblem(
                f"Contacts.names has {len(set(names))} different of {len(names)} names; "
                f"give a different one to each of the {self.devices} devices."
            )
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "tracks", tuple(self.tracks))

    def _keep_intervals(self, given: Sequence[npt.ArrayLike]) -> None:
        if len(given) != self.devices:
            raise InvalidProblem(
                f"Contacts.intervals has {len(given)} entries; "
                f"give one array for each of the {self.devices} devices."
            )
        kept = tuple(
            _ordered(f"Contacts.intervals[{n}]", each, self.start_s, self.end_s)
            for n, each in enumerate(given)
        )
        object.__setattr__(self, "intervals", kept)

    @classmethod
    def always(
        cls, rounds: int, devices: int, *, round_s: float, distance_m: npt.ArrayLike = 0.0
    ) -> Contacts:
        """Everyone in contact all the time: seconds = T.

        ``distance_m``: one number, ``(N,)`` or ``(R, N)``, within [0, inf).
        Raises InvalidProblem: a value is outside its range.

        Choose this when training is synchronous, or as the upper bar of a comparison.
        """
        shape = require_count("rounds", rounds), require_count("devices", devices)
        fix = "give one distance in metres, or one for each device"
        distance = fit("distance_m", require("distance_m", distance_m, "[0, inf)", "m", fix), shape)
        whole = round_s * float(shape[0])
        intervals = (np.array([[0.0, whole]] if shape[0] else np.empty((0, 2))),) * shape[1]
        return cls(np.full(shape, round_s), distance, round_s, intervals=intervals)

    @classmethod
    def from_intervals(
        cls,
        intervals: Sequence[npt.ArrayLike],
        *,
        rounds: int,
        round_s: float,
        distance_m: npt.ArrayLike = 0.0,
        start_s: float = 0.0,
        names: Sequence[str] = (),
        discs: Discs | None = None,
    ) -> Contacts:
        """seconds[q, n] = overlap of round q with the contacts of device n.

        ``intervals``: for each device begin and end in s, ``(contacts, 2)``, in order and disjoint,
        ends may be inf; what lies outside the R rounds does not count. ``distance_m``: one number
        or ``(R, N)``.
        Raises InvalidProblem: a contact ends before it begins or begins before the last one ended,
        or a value is outside its range.

        Choose this when the log says who was connected from when to when, and not where they were.
        """
        round_s, start_s = _clock(round_s, start_s)
        count, devices = require_count("rounds", rounds), len(intervals)
        edges = round_edges(count, round_s, start_s)
        seconds, kept = np.zeros((count, devices)), []
        for n, given in enumerate(intervals):
            each = _ordered(f"intervals[{n}]", given)
            inside = np.clip(each, edges[0], edges[-1])
            inside = inside[inside[:, 0] < inside[:, 1]]
            seconds[:, n] = time_in_rounds(inside, edges)
            kept.append(inside)
        return cls(
            np.minimum(seconds, round_s),
            np.asarray(distance_m, dtype=np.float64),
            round_s,
            start_s,
            tuple(names),
            tuple(kept),
            discs=discs,
        )

    @property
    def rounds(self) -> int:
        """R."""
        return int(self.seconds.shape[0])

    @property
    def devices(self) -> int:
        """N."""
        return int(self.seconds.shape[1])

    @property
    def end_s(self) -> float:
        """When the last round ends, s."""
        return float(round_edges(self.rounds, self.round_s, self.start_s)[-1])

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Who is in contact at all in a round, ``(R, N)``."""
        return self.seconds > 0

    @property
    def share(self) -> npt.NDArray[np.float64]:
        """Share of the time in contact, ``(N,)``, within [0, 1]."""
        whole = self.round_s * max(self.rounds, 1)
        return np.minimum(self.seconds.sum(0) / whole, 1.0)

    @property
    def probability(self) -> npt.NDArray[np.float64]:
        """Share of the rounds with a contact, ``(N,)``: its inverse is the mean hold time."""
        return self.present.sum(0) / max(self.rounds, 1)

    @property
    def durations_s(self) -> tuple[npt.NDArray[np.float64], ...]:
        """For each device how long its contacts last, s; those cut at either end are left out.

        Raises InvalidProblem: ``intervals`` are not known.
        """
        whole = [
            each[(each[:, 0] > self.start_s) & (each[:, 1] < self.end_s)] for each in self._known()
        ]
        return tuple(each[:, 1] - each[:, 0] for each in whole)

    @property
    def gaps_s(self) -> tuple[npt.NDArray[np.float64], ...]:
        """For each device the times between one contact and the next, s.

        Raises InvalidProblem: ``intervals`` are not known.
        """
        return tuple(each[1:, 0] - each[:-1, 1] for each in self._known())

    def _known(self) -> tuple[FloatArray, ...]:
        if self.intervals is None:
            raise InvalidProblem(
                "Contacts.intervals is None: only the seconds of each round are known. Make the "
                "contacts with from_intervals, contacts_of or a mobility model."
            )
        return self.intervals

    def path_gain(
        self,
        law: Callable[[FloatArray], FloatArray] = macro_3gpp,
        *,
        min_distance_m: float = 10.0,
    ) -> npt.NDArray[np.float64]:
        """Linear path gain law(max(distance, ``min_distance_m``)), ``(R, N)``, 0 out of contact.

        ``law``: of a distance in m, e.g. ``functools.partial(free_space, carrier_hz=2.4e9)``.
        Raises InvalidProblem: ``min_distance_m`` is outside (0, inf) m.

        Choose this when contacts feed a link budget.
        """
        fix = "give the distance in metres below which the law is not used"
        low = require_scalar("min_distance_m", min_distance_m, "(0, inf)", "m", fix)
        near = np.where(self.present, np.maximum(self.distance_m, low), low)
        return np.where(self.present, law(near), 0.0)


def contacts_of(
    tracks: Iterable[Track],
    discs: Discs,
    *,
    rounds: int,
    round_s: float,
    start_s: float = 0.0,
    names: Sequence[str] | None = None,
) -> Contacts:
    """Contacts of moving devices with the servers of ``discs``, exact for straight pieces.

    Choose this when there are positions over time, whatever they come from.

    Parameters
    ----------
    tracks
        In any order; those of one device must not overlap in time.
    discs
        The servers and their reach.
    rounds
        R, a whole number >= 0.
    round_s
        T in s, within (0, inf).
    start_s
        When round 0 begins, s.
    names
        Devices in the order of the axis N; a name without a track is never in contact, a track of
        another name is left out. Default: all, in the order of their first track.

    Returns
    -------
    Contacts
        With ``intervals``, ``tracks`` and ``discs``.

    Raises
    ------
    InvalidProblem
        If two tracks of one device overlap, or a value is outside its range.

    Notes
    -----
    O((points + rounds x devices) (M + p) log M) operations, p the number of pairs of discs that
    overlap. Touching a circle is no contact.

    Examples
    --------
    Straight through the middle at 20 m/s: 2 r / v = 30 s, in the second to the fifth round.

    >>> track = Track([0.0, 50.0], [[-500.0, 0.0], [500.0, 0.0]])
    >>> contacts_of([track], Discs(300.0), rounds=5, round_s=10.0).seconds[:, 0].tolist()
    [0.0, 10.0, 10.0, 10.0, 0.0]

    """
    round_s, start_s = _clock(round_s, start_s)
    count = require_count("rounds", rounds)
    given = tuple(tracks)
    order = tuple(dict.fromkeys(t.name for t in given)) if names is None else tuple(names)
    place = {name: n for n, name in enumerate(order)}
    chosen = sorted(
        (t for t in given if t.name in place), key=lambda t: (place[t.name], t.time_s[0])
    )
    edges = round_edges(count, round_s, start_s)
    parts = straight_parts(chosen, [place[t.name] for t in chosen], edges, discs)
    shape, cell = (count, len(order)), parts.index * len(order) + parts.device
    spent = parts.end_s - parts.begin_s
    seconds = np.bincount(cell, spent, count * len(order)).reshape(shape)
    moment = np.bincount(cell, spent * parts.square, count * len(order)).reshape(shape)
    with np.errstate(invalid="ignore"):
        distance = np.sqrt(moment / seconds)
    return Contacts(
        np.minimum(seconds, round_s),
        np.where(seconds > 0, np.minimum(distance, discs.radius_m), np.inf),
        round_s,
        start_s,
        order,
        joined(parts, len(order)),
        tuple(chosen),
        discs,
    )


def _ordered(
    name: str, given: npt.ArrayLike, first_s: float = -np.inf, last_s: float = np.inf
) -> FloatArray:
    """Begin and end of contacts, checked and read-only."""
    raw = np.asarray(given)
    if raw.size == 0:
        raw = np.empty((0, 2))
    if raw.ndim != 2 or raw.shape[1] != 2:
        raise InvalidProblem(f"{name} has shape {raw.shape} and must be (contacts, 2) in s.")
    fix = "give begin and end of each contact in seconds"
    each = require(name, raw, f"[{first_s!r}, {last_s!r}]", "s", fix)
    flat = each.ravel()
    wrong = np.flatnonzero(np.diff(flat) < 0)
    if wrong.size:
        i = int(wrong[0]) + 1
        raise InvalidProblem(
            f"{name}[{i // 2}, {i % 2}] = {flat[i]} s is outside [{flat[i - 1]}, inf) s, where the "
            "begin and end before it are: give contacts in order of time, disjoint."
        )
    each.flags.writeable = False
    return each


def _clock(round_s: float, start_s: float) -> tuple[float, float]:
    fix = "give the length of a round in seconds"
    length = require_scalar("round_s", round_s, "(0, inf)", "s", fix)
    fix = "give when round 0 begins, in seconds"
    return length, require_scalar("start_s", start_s, "(-inf, inf)", "s", fix)
