"""Mobility: models of how devices move past servers, each giving the same result.

    contacts = model.contacts(rounds=R, round_s=T, devices=N, rng=rng)

returns :class:`~rralloc.channel.contacts.Contacts`: seconds and distance for each round and device,
and, where there is motion, the tracks. Device n draws from a stream of its own that is derived from
``rng``: more rounds or more devices leave what was there as it was, and two policies given equal
generators meet equal devices. Every model here starts in its stationary law, so no warm-up is
thrown away.

=======================  =======================  =======================================
model                    time in contact          law that holds for it
=======================  =======================  =======================================
``ExponentialContacts``  exponential              mean c/v, gap l/v, share c/(c + l)
``StraightRoad``         chord of a disc          mean π r/(2 v)
``ManhattanGrid``        streets in discs         share = street length in discs / of all
``RandomWaypoint``       chords, turns and rests  speed density 1/v on the way
``RecordedMotion``       as recorded              none
=======================  =======================  =======================================

Symbols: v speed in m/s, c and l mean ways in m in and out of contact, r radius of a disc in m.
With the geometry fixed and no rests, both means of any model are inverse to the speed: a fast
device has many short contacts, a slow one few long ones, and the share of time in contact is the
same.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from rralloc.channel._check import (
    FloatArray,
    fit,
    require,
    require_count,
    require_generator,
    require_scalar,
)
from rralloc.channel.contacts import Contacts, contacts_of
from rralloc.channel.geometry import Cell
from rralloc.channel.motion import Discs, Track
from rralloc.errors import InvalidProblem
from rralloc.typing import Field

MEAN_DISTANCE_IN_UNIT_SQUARE: float = (
    2.0 + math.sqrt(2.0) + 5.0 * math.log(1.0 + math.sqrt(2.0))
) / 15.0
"""0.5214054: between two points, independent and uniform in the unit square."""

_BLOCK = 64  # numbers drawn at a time; independent of how many rounds are asked for


@runtime_checkable
class Mobility(Protocol):
    """Anything that makes contacts of R rounds of T seconds for N devices.

    Choose this when you write a model of your own: one method, everything else is free.
    """

    def contacts(
        self, *, rounds: int, round_s: float, devices: int, rng: np.random.Generator
    ) -> Contacts:
        """Seconds and distance for each round and device; the same ``rng``, the same contacts."""


@dataclass(frozen=True, eq=False)
class ExponentialContacts:
    """Contacts and gaps in turn, each exponential with a mean inverse to the speed.

        contact ~ Exp(mean c/v),   gap ~ Exp(mean l/v),   in contact at time 0 w.p. c/(c + l)

    The distance is drawn anew in each round, uniform by area in the disc (``Cell``).

    Choose this when no geometry is given: two means say all, and the laws are closed forms. Gaps
    are much like this on streets; contacts are less varied there (``ManhattanGrid``).

    Attributes
    ----------
    speed_m_per_s
        v in m/s, within (0, inf), one number or one for each device.
    contact_m, gap_m
        Mean ways c and l in m, within (0, inf).
    radius_m, min_distance_m
        Of the disc in m, as of ``Cell``.

    Raises
    ------
    InvalidProblem
        If a value is outside its range.

    Notes
    -----
    ``contacts`` warns if a round is longer than twice the mean contact of the fastest device: then
    several contacts fall into one round, and the speed stops to matter.

    Examples
    --------
    >>> model = ExponentialContacts(20.0)
    >>> model.contacts(rounds=9, round_s=10, devices=4, rng=np.random.default_rng(0)).seconds.shape
    (9, 4)

    """

    speed_m_per_s: Field
    contact_m: float = 200.0
    gap_m: float = 1800.0
    radius_m: float = 300.0
    min_distance_m: float = 10.0

    def __post_init__(self) -> None:
        _speeds(self.speed_m_per_s)
        for name in ("contact_m", "gap_m"):
            fix = "give the mean way in metres between one change and the next"
            require_scalar(name, getattr(self, name), "(0, inf)", "m", fix)
        self._cell()

    def _cell(self) -> Cell:
        return Cell(self.radius_m, self.min_distance_m)

    def contacts(
        self, *, rounds: int, round_s: float, devices: int, rng: np.random.Generator
    ) -> Contacts:
        """Contacts without tracks. See :class:`Mobility`; raises InvalidProblem as it."""
        count, horizon = _horizon(rounds, round_s)
        speed = fit(
            "speed_m_per_s", _speeds(self.speed_m_per_s), (require_count("devices", devices),)
        )
        shortest = self.contact_m / float(speed.max(initial=0.0) or 1.0)
        # A hair of slack: twice the mean exactly is within the advice.
        if speed.size and round_s > 2.0 * shortest * (1 + 1e-9):
            warnings.warn(
                f"round_s = {round_s} s is more than twice the mean contact of the fastest device, "
                f"{shortest:.3g} s: several contacts fall into one round; take shorter rounds.",
                stacklevel=2,
            )
        intervals, distance = [], np.empty((count, devices))
        for n, own in enumerate(_streams(rng, devices)):
            turns, places = _streams(own, 2)
            mean_s = self.contact_m / speed[n], self.gap_m / speed[n]
            intervals.append(_renewals(*mean_s, horizon, turns))
            distance[:, n] = self._cell().drop(count, places).distance_m
        discs = Discs(self.radius_m)
        return Contacts.from_intervals(
            intervals, rounds=count, round_s=round_s, distance_m=distance, discs=discs
        )


@dataclass(frozen=True, eq=False)
class StraightRoad:
    """One straight pass after the other through a disc, each on a lane of its own.

    Every ``length_m`` of the way the lane's offset from the server is drawn anew, uniform on
    (-r, r), and the direction, east or west. A pass is in contact over its chord,

        w = 2 sqrt(r² - d²),   E w = π r/2,   E w² = 8 r²/3,   share = π r/(2 length)

    Choose this when contacts should come from geometry and still have closed forms: highways,
    railways, ferries on a river.

    Attributes
    ----------
    speed_m_per_s
        v in m/s, within (0, inf), one number or one for each device.
    radius_m
        r in m, within (0, inf).
    length_m
        Way from one pass to the next in m, within [2 r, inf).

    Raises
    ------
    InvalidProblem
        If a value is outside its range.

    """

    speed_m_per_s: Field
    radius_m: float = 300.0
    length_m: float = 2000.0

    def __post_init__(self) -> None:
        _speeds(self.speed_m_per_s)
        radius = Discs(self.radius_m).radius_m
        fix = "give the way from one pass to the next, at least the diameter of the disc"
        require_scalar("length_m", self.length_m, f"[{2 * radius!r}, inf)", "m", fix)

    def contacts(
        self, *, rounds: int, round_s: float, devices: int, rng: np.random.Generator
    ) -> Contacts:
        """One track for each pass. See :class:`Mobility`; raises InvalidProblem as it."""
        count, horizon = _horizon(rounds, round_s)
        speed = fit(
            "speed_m_per_s", _speeds(self.speed_m_per_s), (require_count("devices", devices),)
        )
        tracks = [
            track
            for n, own in enumerate(_streams(rng, devices))
            for track in self._passes(float(speed[n]), horizon, str(n), own)
        ]
        return _contacts(tracks, Discs(self.radius_m), count, round_s, devices)

    def _passes(
        self, speed: float, horizon: float, name: str, rng: np.random.Generator
    ) -> Iterator[Track]:
        spent, period = -rng.random() * self.length_m / speed, self.length_m / speed
        for offset, side in _pairs(rng):
            east = self.length_m / 2 * (1.0 if side < 0.5 else -1.0)
            north = self.radius_m * (2.0 * offset - 1.0)
            if spent >= horizon:
                return
            whole = Track([spent, spent + period], [[-east, north], [east, north]], name)
            part = whole.part(0.0, horizon)
            if part is not None:
                yield part
            spent += period


@dataclass(frozen=True, eq=False)
class ManhattanGrid:
    """Streets on a square grid; at a crossing straight on w.p. 1/2, left or right w.p. 1/4 each.

    Where the grid ends, a turn that leads out of it goes to the other turn, and a street that ends
    in a side street is left to either side w.p. 1/2. Then every directed street is entered with
    total probability one, so at any time the device is uniform over the streets:

        share in contact         = street length in the discs / street length
        mean way of one contact  = 2 street length in the discs / crossings of circles with streets

    Choose this when devices are cars in a city: contacts vary less than exponential ones.

    Attributes
    ----------
    speed_m_per_s
        v in m/s, constant, within (0, inf), one number or one for each device.
    discs
        Default radius 250 m around (500, 500) and (1500, 1500).
    blocks
        Along each side, a whole number >= 1; there are ``blocks + 1`` streets each way.
    block_m
        Length of a block in m, within (0, inf); the corner of the grid is the origin.

    Raises
    ------
    InvalidProblem
        If a value is outside its range.

    """

    speed_m_per_s: Field
    discs: Discs = field(default_factory=lambda: Discs(250.0, [[500.0, 500.0], [1500.0, 1500.0]]))
    blocks: int = 10
    block_m: float = 200.0

    def __post_init__(self) -> None:
        _speeds(self.speed_m_per_s)
        if require_count("blocks", self.blocks) < 1:
            raise InvalidProblem("blocks = 0 is outside 1, 2, ...: give how many along a side.")
        require_scalar("block_m", self.block_m, "(0, inf)", "m", "give the length of a block")

    def contacts(
        self, *, rounds: int, round_s: float, devices: int, rng: np.random.Generator
    ) -> Contacts:
        """One track for each device. See :class:`Mobility`; raises InvalidProblem as it."""
        count, horizon = _horizon(rounds, round_s)
        speed = fit(
            "speed_m_per_s", _speeds(self.speed_m_per_s), (require_count("devices", devices),)
        )
        tracks = [
            self._drive(float(speed[n]), horizon, str(n), own)
            for n, own in enumerate(_streams(rng, devices))
        ]
        return _contacts([t for t in tracks if t], self.discs, count, round_s, devices)

    def _drive(
        self, speed: float, horizon: float, name: str, rng: np.random.Generator
    ) -> Track | None:
        corner, heading = self._directed_street(rng)
        period = self.block_m / speed
        spent = -rng.random() * period  # uniform along the first street
        times, corners = [spent], [corner]
        for draws in _blocks(rng, 1):
            for turn in draws[:, 0]:
                corner = corner[0] + heading[0], corner[1] + heading[1]
                spent += period
                times.append(spent)
                corners.append(corner)
                if spent >= horizon:
                    where = self.block_m * np.array(corners, dtype=np.float64)
                    return Track(times, where, name).part(0.0, horizon)
                heading = self._next(corner, heading, float(turn))
        raise AssertionError  # the stream of blocks does not end

    def _directed_street(self, rng: np.random.Generator) -> tuple[_Corner, _Corner]:
        """Begin and heading of one of the directed streets, all equally likely."""
        along, across = int(rng.integers(self.blocks)), int(rng.integers(self.blocks + 1))
        way = int(rng.integers(4))
        begin = along + (way % 2)
        forward = 1 - 2 * (way % 2)
        return ((begin, across), (forward, 0)) if way < 2 else ((across, begin), (0, forward))

    def _next(self, corner: _Corner, heading: _Corner, turn: float) -> _Corner:
        left, right = (-heading[1], heading[0]), (heading[1], -heading[0])
        if self._inside(corner, heading):
            if turn < 0.5:
                return heading
            first, second = (left, right) if turn < 0.75 else (right, left)
        else:
            first, second = (left, right) if turn < 0.5 else (right, left)
        return first if self._inside(corner, first) else second

    def _inside(self, corner: _Corner, heading: _Corner) -> bool:
        return all(0 <= c + h <= self.blocks for c, h in zip(corner, heading))


@dataclass(frozen=True, eq=False)
class RandomWaypoint:
    """To a point uniform in a square, at a speed uniform on [v_min, v_max], a rest, and so on.

    In the long run, E L = 0.5214 side the mean way between two points and E 1/v =
    ln(v_max/v_min)/(v_max - v_min),

        share at rest              = rest/(rest + E L · E 1/v)
        density of the speed       = 1/(v ln(v_max/v_min)) on [v_min, v_max], on the way
        mean speed on the way      = (v_max - v_min)/ln(v_max/v_min)
        density of a way's length  proportional to L times that of two uniform points, on the way

    Time 0 is drawn from these laws, which is as good as an infinite warm-up. With v_min = 0 there
    is no stationary law: ever longer trips at ever lower speed.

    Choose this when devices roam an area without streets, or to compare with other work: it is the
    usual model. They crowd in the middle of the square.

    Attributes
    ----------
    slowest_m_per_s, fastest_m_per_s
        v_min and v_max in m/s, 0 < v_min <= v_max < inf.
    discs
        Default radius 300 m around (1000, 1000).
    side_m
        Of the square in m, within (0, inf); its corner is the origin.
    rest_s
        At each point in s, within [0, inf).

    Raises
    ------
    InvalidProblem
        If a value is outside its range.

    Notes
    -----
    Sources: W. Navidi and T. Camp, "Stationary distributions for the random waypoint mobility
    model", IEEE Transactions on Mobile Computing 3(1), 2004; J. Yoon, M. Liu and B. Noble, "Random
    waypoint considered harmful", INFOCOM 2003 (v_min = 0).

    """

    slowest_m_per_s: float
    fastest_m_per_s: float
    discs: Discs = field(default_factory=lambda: Discs(300.0, [1000.0, 1000.0]))
    side_m: float = 2000.0
    rest_s: float = 0.0

    def __post_init__(self) -> None:
        fix = "give a positive speed: with 0 the mean speed falls for ever"
        low = require_scalar("slowest_m_per_s", self.slowest_m_per_s, "(0, inf)", "m/s", fix)
        fix = "give a speed that is not below slowest_m_per_s"
        within = f"[{low!r}, inf)"
        require_scalar("fastest_m_per_s", self.fastest_m_per_s, within, "m/s", fix)
        require_scalar("side_m", self.side_m, "(0, inf)", "m", "give the side of the square")
        require_scalar("rest_s", self.rest_s, "[0, inf)", "s", "give the time at each point")

    @property
    def resting(self) -> float:
        """Share of the time at rest, within [0, 1)."""
        low, high = self.slowest_m_per_s, self.fastest_m_per_s
        slowness = 1 / low if low == high else math.log(high / low) / (high - low)
        way_s = MEAN_DISTANCE_IN_UNIT_SQUARE * self.side_m * slowness
        return float(self.rest_s / (self.rest_s + way_s))

    def contacts(
        self, *, rounds: int, round_s: float, devices: int, rng: np.random.Generator
    ) -> Contacts:
        """One track for each device. See :class:`Mobility`; raises InvalidProblem as it."""
        count, horizon = _horizon(rounds, round_s)
        tracks = [
            self._roam(horizon, str(n), own)
            for n, own in enumerate(_streams(rng, require_count("devices", devices)))
        ]
        return _contacts([t for t in tracks if t], self.discs, count, round_s, devices)

    def _roam(self, horizon: float, name: str, rng: np.random.Generator) -> Track | None:
        """Times and places, from a moment that is an ordinary one in the long run."""
        if horizon <= 0:
            return None
        if rng.random() < self.resting:
            here = self.side_m * rng.random(2)
            times, places = [0.0, rng.random() * self.rest_s], [here, here]
        else:
            start, end = self._long_way(rng)
            gone = rng.random()
            speed = self.slowest_m_per_s * (
                (self.fastest_m_per_s / self.slowest_m_per_s) ** rng.random()
            )
            ahead = (1 - gone) * math.dist(start, end) / speed
            times, places = [0.0, ahead], [start + gone * (end - start), end]
            self._rest(times, places)
        for draws in _blocks(rng, 3):
            for x, y, pace in draws:
                if times[-1] >= horizon:
                    track = _without_repeats(times, places, name)
                    return track.part(0.0, horizon)
                end = self.side_m * np.array([x, y])
                speed = self.slowest_m_per_s + pace * (self.fastest_m_per_s - self.slowest_m_per_s)
                times.append(times[-1] + math.dist(places[-1], end) / speed)
                places.append(end)
                self._rest(times, places)
        raise AssertionError  # the stream of blocks does not end

    def _rest(self, times: list[float], places: list[FloatArray]) -> None:
        if self.rest_s:
            times.append(times[-1] + self.rest_s)
            places.append(places[-1])

    def _long_way(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Two points of the square, with density proportional to their distance (by rejection)."""
        for draws in _blocks(rng, 5):
            far = np.hypot(draws[:, 0] - draws[:, 2], draws[:, 1] - draws[:, 3])
            taken = np.flatnonzero(math.sqrt(2.0) * draws[:, 4] < far)
            if taken.size:
                first = self.side_m * draws[taken[0]]
                return first[:2], first[2:4]
        raise AssertionError  # the stream of blocks does not end


@dataclass(frozen=True, eq=False)
class RecordedMotion:
    """Tracks that were recorded or simulated elsewhere.

    Choose this when motion is data: :mod:`rralloc.channel.tracks` reads it.

    Attributes
    ----------
    tracks
        Of all devices; where a device has none it is out of contact.
    discs
        The servers and their reach.
    start_s
        When round 0 begins in the time of the tracks, s; default with the first point of all.

    Raises
    ------
    InvalidProblem
        If there is no track.

    """

    tracks: Sequence[Track]
    discs: Discs
    start_s: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tracks", tuple(self.tracks))
        if not self.tracks:
            raise InvalidProblem("RecordedMotion.tracks is empty: give at least one Track.")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the devices, in the order of their first track."""
        return tuple(dict.fromkeys(track.name for track in self.tracks))

    def contacts(
        self, *, rounds: int, round_s: float, devices: int, rng: np.random.Generator
    ) -> Contacts:
        """``devices`` of those recorded, in their order, drawn without replacement.

        Raises InvalidProblem: there are fewer devices, or the record is shorter than the rounds.
        """
        count, horizon = _horizon(rounds, round_s)
        names, wanted = self.names, require_count("devices", devices)
        if wanted > len(names):
            raise InvalidProblem(
                f"devices = {wanted} is outside [0, {len(names)}]: that many were recorded."
            )
        first = min(float(t.time_s[0]) for t in self.tracks)
        last = max(float(t.time_s[-1]) for t in self.tracks)
        start = first if self.start_s is None else self.start_s
        if start < first or start + horizon > last + 1e-9 * horizon:
            raise InvalidProblem(
                f"rounds from {start} to {start + horizon} s are outside [{first}, {last}] s, "
                "the time recorded: take fewer or shorter rounds, or another start_s."
            )
        drawn = np.sort(require_generator(rng).permutation(len(names))[:wanted])
        chosen = [names[n] for n in drawn]
        return contacts_of(
            self.tracks, self.discs, rounds=count, round_s=round_s, start_s=start, names=chosen
        )


_Corner = tuple[int, int]


def _speeds(given: npt.ArrayLike) -> FloatArray:
    fix = "give a positive speed; a device that stands is a Track with two equal positions"
    return require("speed_m_per_s", given, "(0, inf)", "m/s", fix)


def _speed_each(given: npt.ArrayLike, devices: int) -> FloatArray:
    return fit("speed_m_per_s", _speeds(given), (require_count("devices", devices),))


def _horizon(rounds: int, round_s: float) -> tuple[int, float]:
    length = require_scalar("round_s", round_s, "(0, inf)", "s", "give the length of a round")
    count = require_count("rounds", rounds)
    return count, count * length


def _streams(rng: np.random.Generator, count: int) -> list[np.random.Generator]:
    """Independent generators; the first few do not depend on how many are asked for."""
    words = require_generator(rng).integers(2**63, size=(count, 2))
    return [np.random.default_rng(pair) for pair in words]


def _blocks(rng: np.random.Generator, width: int) -> Iterator[FloatArray]:
    """Uniform numbers ``(64, width)``, for ever."""
    while True:
        yield rng.random((_BLOCK, width))


def _pairs(rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    for block in _blocks(rng, 2):
        yield from block.tolist()


def _renewals(
    contact_s: float, gap_s: float, horizon: float, rng: np.random.Generator
) -> FloatArray:
    """Contacts ``(contacts, 2)`` of an alternating renewal process in its stationary law."""
    inside = rng.random() < contact_s / (contact_s + gap_s)
    means = np.array([contact_s, gap_s] if inside else [gap_s, contact_s])
    changes: list[FloatArray] = []
    spent = 0.0
    # Without memory the rest of the first period has the law of a whole one.
    while spent < horizon or not changes:
        steps = np.cumsum((rng.standard_exponential((_BLOCK, 2)) * means).ravel())
        changes.append(spent + steps)
        spent += float(steps[-1])
    flat = np.concatenate(changes)
    if inside:  # the last one is open, beyond the horizon
        flat = np.append(0.0, flat[:-1])
    return flat.reshape(-1, 2)


def _contacts(
    tracks: list[Track], discs: Discs, rounds: int, round_s: float, devices: int
) -> Contacts:
    names = [str(n) for n in range(devices)]
    return contacts_of(tracks, discs, rounds=rounds, round_s=round_s, names=names)


def _without_repeats(times: list[float], places: list[FloatArray], name: str) -> Track:
    """A track; of points at one time (a way of length 0) the last is kept."""
    time = np.array(times)
    keep = np.append(np.diff(time) > 0, True)
    return Track(time[keep], np.array(places)[keep], name)
