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
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rralloc.channel._check import FloatArray, fit, require, require_count
from rralloc.channel.pathloss import macro_3gpp
from rralloc.errors import InvalidProblem
from rralloc.typing import Field

IntArray = npt.NDArray[np.int64]


# Compared by identity: arrays have no single truth value, so == on the fields would raise.
@dataclass(frozen=True, eq=False)
class Track:
    """One unbroken stretch of the motion of one device, straight between its points.

    Before its first and after its last point nothing is known of the device: it is out of contact.
    Several tracks may carry one name; what lies between them is a gap.

    Choose this when positions over time are known, from a simulator, a recording or by hand.

    Attributes
    ----------
    time_s
        Times in s, shape ``(P,)``, P >= 2, finite and increasing. A device that stands has two
        equal positions.
    position_m
        East and north in m, shape ``(P, 2)``, finite.
    name
        Of the device.

    Raises
    ------
    InvalidProblem
        If there are fewer than two points, shapes disagree, a value is not finite, or a time is not
        after the one before it.

    Examples
    --------
    >>> Track([0.0, 10.0], [[0.0, 0.0], [30.0, 40.0]]).length_m
    50.0

    """

    time_s: Field
    position_m: Field
    name: str = "device"

    def __post_init__(self) -> None:
        owner = f"Track {self.name!r}"
        time = _require(f"{owner}: time_s", self.time_s, "(-inf, inf)", "s", "give finite times")
        fix = "give finite positions in metres"
        where = _require(f"{owner}: position_m", self.position_m, "(-inf, inf)", "m", fix)
        if time.ndim != 1 or where.shape != (*time.shape, 2):
            raise InvalidProblem(
                f"{owner}: time_s has shape {time.shape} and position_m {where.shape}; "
                "they must be (P,) in s and (P, 2) in m."
            )
        if time.size < 2:
            raise InvalidProblem(
                f"{owner}: time_s has {time.size} point and needs at least 2: leave the track out, "
                "or repeat the position at a later time if the device stands."
            )
        stuck = np.flatnonzero(np.diff(time) <= 0)
        if stuck.size:
            i = int(stuck[0])
            raise InvalidProblem(
                f"{owner}: time_s[{i + 1}] = {time[i + 1]} s is outside ({time[i]}, inf) s, after "
                f"time_s[{i}]: sort the points by time and keep one for each time."
            )
        for name, array in (("time_s", time), ("position_m", where)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def length_m(self) -> float:
        """Way along the track, m."""
        return float(np.hypot(*np.diff(self.position_m, axis=0).T).sum())

    @property
    def speed_m_per_s(self) -> npt.NDArray[np.float64]:
        """Speed on each straight piece, m/s, shape ``(P - 1,)``."""
        speed: FloatArray = np.hypot(*np.diff(self.position_m, axis=0).T) / np.diff(self.time_s)
        return speed

    def at(self, time_s: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Positions ``(..., 2)`` in m at times ``(...)`` in s within the track.

        Raises InvalidProblem: a time is before the first or after the last point.

        Choose this when you resample a track or mark a moment on the map.
        """
        span = f"[{float(self.time_s[0])!r}, {float(self.time_s[-1])!r}]"
        fix = "give times between the first and the last point"
        time = _require(f"Track {self.name!r}: time_s", time_s, span, "s", fix)
        return np.stack([np.interp(time, self.time_s, x) for x in self.position_m.T], axis=-1)

    def part(self, first_s: float, last_s: float) -> Track | None:
        """What of the track lies between two times in s, None if it is nothing.

        Choose this when you draw or study the motion during one contact or one round.
        """
        low, high = max(first_s, float(self.time_s[0])), min(last_s, float(self.time_s[-1]))
        if not low < high:
            return None
        inner = self.time_s[(self.time_s > low) & (self.time_s < high)]
        time = np.concatenate([[low], inner, [high]])
        return Track(time, self.at(time), self.name)


@dataclass(frozen=True, eq=False)
class Discs:
    """The area served: M discs of one radius, around M servers.

    Choose this when reach is a matter of distance alone.

    Attributes
    ----------
    radius_m
        r in m, within (0, inf).
    centre_m
        East and north of the servers in m, shape ``(M, 2)``, or ``(2,)`` for one; default one at
        the origin.

    Raises
    ------
    InvalidProblem
        If a value is outside its range, or there is no server.

    """

    radius_m: float
    centre_m: Field = (0.0, 0.0)

    def __post_init__(self) -> None:
        fix = "give how far a server reaches, in metres"
        radius = _require_scalar("Discs.radius_m", self.radius_m, "(0, inf)", "m", fix)
        fix = "give the places of the servers in metres"
        centre = np.atleast_2d(_require("Discs.centre_m", self.centre_m, "(-inf, inf)", "m", fix))
        if centre.ndim != 2 or centre.shape[1] != 2 or not centre.size:
            raise InvalidProblem(
                f"Discs.centre_m has shape {centre.shape} and must be (M, 2) in m, M >= 1."
            )
        centre.flags.writeable = False
        object.__setattr__(self, "radius_m", radius)
        object.__setattr__(self, "centre_m", centre)


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
        seconds = _require("Contacts.seconds", self.seconds, f"[0, {round_s!r}]", "s", fix)
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
        known = _require("Contacts.distance_m", asked, "[0, inf)", "m", fix)
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
        shape = _count("rounds", rounds), _count("devices", devices)
        fix = "give one distance in metres, or one for each device"
        distance = _fit(
            "distance_m", _require("distance_m", distance_m, "[0, inf)", "m", fix), shape
        )
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
        count, devices = _count("rounds", rounds), len(intervals)
        edges = _edges(count, round_s, start_s)
        seconds, kept = np.zeros((count, devices)), []
        for n, given in enumerate(intervals):
            each = _ordered(f"intervals[{n}]", given)
            cut = np.clip(each, edges[0], edges[-1])
            cut = cut[cut[:, 0] < cut[:, 1]]
            which, index = _cut(cut[:, 0], cut[:, 1], edges)
            low = np.maximum(cut[which, 0], edges[index])
            spent = np.minimum(cut[which, 1], edges[index + 1]) - low
            seconds[:, n] = np.bincount(index, spent, count)
            kept.append(cut)
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
        return float(_edges(self.rounds, self.round_s, self.start_s)[-1])

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
        low = _require_scalar("min_distance_m", min_distance_m, "(0, inf)", "m", fix)
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
    count = _count("rounds", rounds)
    given = tuple(tracks)
    order = tuple(dict.fromkeys(t.name for t in given)) if names is None else tuple(names)
    place = {name: n for n, name in enumerate(order)}
    chosen = sorted(
        (t for t in given if t.name in place), key=lambda t: (place[t.name], t.time_s[0])
    )
    _refuse_overlap(chosen)
    edges = _edges(count, round_s, start_s)
    parts = _parts(chosen, [place[t.name] for t in chosen], edges, discs)
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
        _joined(parts, len(order)),
        tuple(chosen),
        discs,
    )


@dataclass(frozen=True, eq=False)
class _Parts:
    """Straight parts in contact, in order of device and time: one round, one server each."""

    device: IntArray
    index: IntArray
    begin_s: FloatArray
    end_s: FloatArray
    square: FloatArray
    """Mean of the squared distance, m²."""


def _parts(tracks: list[Track], devices: list[int], edges: FloatArray, discs: Discs) -> _Parts:
    centre, radius = np.asarray(discs.centre_m), discs.radius_m
    first, last, start, step, device = _pieces(tracks, devices)
    # One piece for each round that it touches.
    which, index = _cut(first, last, edges)
    low, high = np.maximum(first[which], edges[index]), np.minimum(last[which], edges[index + 1])
    rate = step[which] / (last - first)[which, None]
    start = start[which] + rate * (low - first[which])[:, None]
    step = rate * (high - low)[:, None]
    # Most pieces come near no server.
    near = _closest(start, step, centre) <= radius
    owner, index, low, high = device[which][near], index[near], low[near], high[near]
    start, step = start[near], step[near]
    cuts = _cuts(start, step, centre, radius)
    begin, end = cuts[:, :-1], cuts[:, 1:]
    row, column = np.nonzero(end > begin)
    begin, end = begin[row, column], end[row, column]
    start, step = start[row], step[row]
    middle = start + (begin + end)[:, None] / 2 * step
    away = np.hypot(*(middle[:, None] - centre).transpose(2, 0, 1))
    server = away.argmin(1)
    y = start + begin[:, None] * step - centre[server]
    z = start + end[:, None] * step - centre[server]
    square = ((y * y + y * z + z * z) / 3).sum(1)
    low, high = low[row], high[row]
    begin_s = np.minimum(low + begin * (high - low), high)
    end_s = np.where(end == 1, high, np.minimum(low + end * (high - low), high))
    keep = (away[np.arange(len(away)), server] <= radius) & (end_s > begin_s)
    return _Parts(owner[row][keep], index[row][keep], begin_s[keep], end_s[keep], square[keep])


def _pieces(
    tracks: list[Track], devices: list[int]
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, IntArray]:
    """All straight pieces: begin and end in s, first position and way in m, device."""
    if not tracks:
        none, places = np.empty(0), np.empty((0, 2))
        return none, none, places, places, np.empty(0, dtype=np.int64)
    return (
        np.concatenate([t.time_s[:-1] for t in tracks]),
        np.concatenate([t.time_s[1:] for t in tracks]),
        np.concatenate([t.position_m[:-1] for t in tracks]),
        np.concatenate([np.diff(t.position_m, axis=0) for t in tracks]),
        np.repeat(np.array(devices), [t.time_s.size - 1 for t in tracks]),
    )


def _cut(first: FloatArray, last: FloatArray, edges: FloatArray) -> tuple[IntArray, IntArray]:
    """Which intervals touch which rounds: positions in ``first``, rounds, both in order."""
    from_round = np.maximum(np.searchsorted(edges, first, "right") - 1, 0)
    to_round = np.minimum(np.searchsorted(edges, last, "left") - 1, edges.size - 2)
    counts = np.maximum(to_round - from_round + 1, 0)
    which = np.repeat(np.arange(first.size), counts)
    index = np.arange(which.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return which, from_round[which] + index


def _closest(start: FloatArray, step: FloatArray, centre: FloatArray) -> FloatArray:
    """Least distance of each straight piece from any server."""
    best = np.full(len(start), np.inf)
    for c in centre:
        u = _finite(((c - start) * step).sum(1), (step * step).sum(1))
        best = np.minimum(best, np.hypot(*(start + u[:, None] * step - c).T))
    # A hair more: the exact cuts decide, not this sieve.
    return best * (1 - 1e-9)


def _cuts(start: FloatArray, step: FloatArray, centre: FloatArray, radius: float) -> FloatArray:
    """Sorted u in [0, 1] between which neither contact nor the nearest server changes."""
    length = np.hypot(*step.T)
    found = [np.zeros(len(start)), np.ones(len(start))]
    with np.errstate(divide="ignore", invalid="ignore"):
        ahead = np.where(length[:, None] > 0, step / length[:, None], 0.0)
    for c in centre:
        from_server = start - c
        offset = np.abs(from_server[:, 0] * ahead[:, 1] - from_server[:, 1] * ahead[:, 0])
        half = np.sqrt(np.maximum((radius - offset) * (radius + offset), 0.0))
        along = -(from_server * ahead).sum(1)
        found += [_finite(along - half, length), _finite(along + half, length)]
    for i, one in enumerate(centre):
        for other in centre[i + 1 :]:
            apart = other - one
            if 0 < np.hypot(*apart) < 2 * radius:
                found.append(_finite((((one + other) / 2 - start) * apart).sum(1), step @ apart))
    return np.sort(np.stack(found, axis=1), axis=1)


def _finite(above: FloatArray, below: FloatArray) -> FloatArray:
    """The ratio cut to [0, 1]; 0 where it is not defined, which cuts nothing."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio: FloatArray = np.nan_to_num(above / below, nan=0.0)
    return np.clip(ratio, 0.0, 1.0)


def _joined(parts: _Parts, devices: int) -> tuple[FloatArray, ...]:
    """Contacts of each device: parts that follow one another without a break are one."""
    new = np.ones(parts.device.size, dtype=bool)
    new[1:] = (np.diff(parts.device) != 0) | (parts.begin_s[1:] != parts.end_s[:-1])
    last = np.roll(new, -1) if new.size else new
    spans = np.stack([parts.begin_s[new], parts.end_s[last]], axis=1)
    owner = parts.device[new]
    bounds = np.searchsorted(owner, np.arange(devices + 1))
    return tuple(spans[a:b] for a, b in pairwise(bounds))


def _refuse_overlap(tracks: list[Track]) -> None:
    for before, after in pairwise(tracks):
        if before.name == after.name and after.time_s[0] < before.time_s[-1]:
            raise InvalidProblem(
                f"Track {after.name!r}: time_s[0] = {after.time_s[0]} s is outside "
                f"[{before.time_s[-1]}, inf) s, where the track before it of the same name ends: "
                "give each device its own name."
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
    each = _require(name, raw, f"[{first_s!r}, {last_s!r}]", "s", fix)
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


def _edges(rounds: int, round_s: float, start_s: float) -> FloatArray:
    return start_s + round_s * np.arange(rounds + 1, dtype=np.float64)


def _clock(round_s: float, start_s: float) -> tuple[float, float]:
    fix = "give the length of a round in seconds"
    length = _require_scalar("round_s", round_s, "(0, inf)", "s", fix)
    fix = "give when round 0 begins, in seconds"
    return length, _require_scalar("start_s", start_s, "(-inf, inf)", "s", fix)


def _require(name: str, value: npt.ArrayLike, within: str, unit: str, fix: str) -> FloatArray:
    """``value`` as float64 within the interval, else InvalidProblem with all that is known."""
    try:
        return require(name, value, within, unit=unit, fix=fix)
    except ValueError as refused:
        raise InvalidProblem(str(refused)) from None


def _require_scalar(name: str, value: npt.ArrayLike, within: str, unit: str, fix: str) -> float:
    array = _require(name, value, within, unit, fix)
    if array.ndim:
        raise InvalidProblem(
            f"{name} has shape {array.shape} and must be one number in {unit}: {fix}."
        )
    return float(array)


def _fit(name: str, array: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    try:
        return fit(name, array, shape)
    except ValueError as refused:
        raise InvalidProblem(str(refused)) from None


def _count(name: str, value: object) -> int:
    try:
        return require_count(name, value)
    except ValueError as refused:
        raise InvalidProblem(str(refused)) from None
