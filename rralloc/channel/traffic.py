"""Cars in a city that follow each other and slow down for turns: a stand-in for recorded motion.

The tracks are **synthetic**, and results that rest on them should be marked so: nothing in them was
measured. What they have and a constant speed has not: queues, braking, turns seen coming.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.random import Generator

from rralloc.channel._check import FloatArray, require, require_count, require_scalar
from rralloc.channel.contacts import Contacts
from rralloc.channel.mobility import ManhattanGrid, _contacts, _horizon, _streams
from rralloc.channel.motion import Discs, Track
from rralloc.errors import InvalidProblem

_WARM_UP_S = 60.0  # from rest; a free road takes about 20 s
_Corner: TypeAlias = tuple[int, int]
_Leg: TypeAlias = tuple[_Corner, _Corner, _Corner, _Corner]  # corner, heading, one before, after


@dataclass(frozen=True, eq=False)
class CityTraffic:
    """Cars on the streets of a ``ManhattanGrid``, with its turns, by the intelligent driver model.

    A car n wants v_0 ~ U(``desired_m_per_s``). With speed v, gap s and closing speed Δv to the next
    car on its way, on its street or on the one it enters next,

        dv/dt = a [1 - (v/v_0)⁴ - (s*/s)²],     s* = s_0 + max(0, v T + v Δv/(2 sqrt(a b)))

    within [-b, a]. Turns are quarter circles of radius ρ, driven at v_t = sqrt(a_lat ρ) or less,
    and the way d to a turn, a line or a car bounds the speed so that braking by b is enough:

        v² <= v_t² + 2 b d              before a turn
        v² <= v_ahead² + 2 b (s - s_0)  behind a car, s >= s_0
        v² <= 2 b d                     before a crossing, d to a line ρ before it, unless the law
                                        behind a car holds for who enters the next street before

    with the terms of order Δ that make this exact for steps of Δ = ``step_s``. So cars on one
    directed street keep s >= s_0 (less b Δ²/8), no braking exceeds b, and v <= v_0. Who comes
    within v_max²/(2 b) + v_max Δ of the line first enters a street first. Cars that cross or meet
    do not see each other: there are no lights, and cars have no length.

    Choose this when a predictor of motion should be tried on cars that brake and turn, and no
    recording is at hand. Mark results as synthetic. ``ManhattanGrid`` has laws in closed form.

    Attributes
    ----------
    discs, blocks, block_m
        As of ``ManhattanGrid``; block_m in m, within [2 ρ + v_max²/(2 b) + 2 v_max Δ, inf).
    desired_m_per_s
        Least and largest v_0 in m/s, 0 < least <= largest = v_max < inf.
    headway_s, gap_m
        T in s, within [0, inf), and s_0 in m, within (0, inf), from car to car in a queue.
    acceleration_m_per_s2, braking_m_per_s2, lateral_m_per_s2
        a, b and a_lat in m/s², within (0, inf).
    turn_radius_m
        ρ in m, within (0, inf). Default 10, usual where two-lane streets cross: v_t = 4.5 m/s.
    step_s, noise_m
        Δ in s, within (0, 1]; standard deviation of a recorded coordinate in m, within [0, inf).

    Raises
    ------
    InvalidProblem
        If a value is outside its range.

    Notes
    -----
    Cars start at rest, uniform over the streets, 60 s before time 0. Speed, start and turns of one
    are from its own stream, but cars hinder each other: more rounds leave what was there, more
    devices do not. Queues all around a block stay: keep N far below street length over s_0.

    Sources: M. Treiber, A. Hennecke and D. Helbing, "Congested traffic states in empirical
    observations and microscopic simulations", Physical Review E 62, 2000 (dv/dt); S. Krauß,
    "Microscopic modeling of traffic flow", 1998 (a speed from which braking is enough); mads.md,
    section 5.4 (values). The bound -b on dv/dt and the order at crossings are derived here.

    Examples
    --------
    >>> tracks = CityTraffic(blocks=3).tracks(20.0, 4, np.random.default_rng(0))
    >>> [track.name for track in tracks], tracks[0].position_m.shape
    (['0', '1', '2', '3'], (201, 2))

    """

    discs: Discs = field(default_factory=lambda: Discs(250.0, [[500.0, 500.0], [1500.0, 1500.0]]))
    blocks: int = 10
    block_m: float = 200.0
    desired_m_per_s: tuple[float, float] = (8.0, 16.0)
    headway_s: float = 1.5
    acceleration_m_per_s2: float = 1.4
    braking_m_per_s2: float = 2.0
    lateral_m_per_s2: float = 2.0
    turn_radius_m: float = 10.0
    gap_m: float = 2.0
    step_s: float = 0.1
    noise_m: float = 0.3

    def __post_init__(self) -> None:
        if require_count("blocks", self.blocks) < 1:
            raise InvalidProblem("blocks = 0 is outside 1, 2, ...: give how many along a side.")
        for name, within, unit, fix in _FIELDS:
            require_scalar(name, getattr(self, name), within, unit, fix)
        fix = "give the least and the largest speed on a free road, in order"
        speeds = require("desired_m_per_s", self.desired_m_per_s, "(0, inf)", "m/s", fix)
        if speeds.shape != (2,) or speeds[0] > speeds[1]:
            raise InvalidProblem(f"desired_m_per_s = {speeds.tolist()} m/s is no range: {fix}.")
        least = 2 * self.turn_radius_m + self._zone_m + speeds[1] * self.step_s
        fix = "the fastest car must be able to brake between two turns; or lower its speed"
        require_scalar("block_m", self.block_m, f"[{float(least)!r}, inf)", "m", fix)

    def contacts(self, *, rounds: int, round_s: float, devices: int, rng: Generator) -> Contacts:
        """Of the tracks without noise. See :class:`Mobility`; raises InvalidProblem as it."""
        count, horizon = _horizon(rounds, round_s)
        steps = math.ceil(horizon / self.step_s) + 1  # rounding must not end a track early
        tracks = [track.part(0.0, horizon) for track in self._drive(steps, devices, rng)]
        return _contacts([t for t in tracks if t], self.discs, count, round_s, devices)

    def tracks(
        self, duration_s: float, devices: int, rng: Generator, *, noisy: bool = True
    ) -> list[Track]:
        """Positions every ``step_s`` from 0 to ``duration_s``, one track for each device.

        duration_s: s, within [``step_s``, inf). devices: N, a whole number >= 0.
        noisy: add N(0, σ²) with σ = ``noise_m`` to each coordinate, as a receiver on board does.

        Raises InvalidProblem: a value is outside its range. TypeError: ``rng`` is no ``Generator``.

        Choose this when a trajectory is to be learnt: pass them to ``fl.trajectories.windows`` with
        ``step_s=0.1, past=20, future=30, gap_s=1.0``, and mark the result as synthetic.
        """
        least, fix = float(self.step_s), "give for how long to drive, at least one step"
        length = require_scalar("duration_s", duration_s, f"[{least!r}, inf)", "s", fix)
        steps = math.floor(length / self.step_s + 1e-9)  # rounding must not drop the last point
        return self._drive(steps, devices, rng, self.noise_m if noisy else 0.0)

    def _drive(self, steps: int, devices: int, rng: Generator, noise_m: float = 0.0) -> list[Track]:
        """One track for each device, of ``steps`` >= 1 steps from time 0."""
        own = [_streams(each, 2) for each in _streams(rng, require_count("devices", devices))]
        if not own:
            return []
        # 1. Drive from rest, and forget the first minute.
        warm = math.ceil(_WARM_UP_S / self.step_s)
        cars = _Cars(self, [drive for drive, _ in own], warm + steps + 1)
        place, leg = np.empty((steps + 1, devices)), np.empty((steps + 1, devices), dtype=np.intp)
        for step in range(-warm, steps + 1):
            if step >= 0:
                place[step], leg[step] = cars.place, [len(route) - 1 for route in cars.routes]
            cars.advance(step)
        # 2. From places along streets to positions.
        time, tracks = self.step_s * np.arange(steps + 1), []
        for n, (_, blur) in enumerate(own):
            legs = np.array(cars.routes[n], dtype=np.float64)[leg[:, n]]
            where = self._where(place[:, n, None], *np.moveaxis(legs, 1, 0))
            tracks.append(Track(time, blur.normal(where, noise_m), str(n)))
        return tracks

    def _where(self, place: FloatArray, *leg: FloatArray) -> FloatArray:
        """Positions (P, 2), in m, at places (P, 1) along legs, four arrays (P, 2)."""
        length, radius = self.block_m, self.turn_radius_m
        start, heading, before, after = leg

        def arc(enter: FloatArray, leave: FloatArray, way: FloatArray) -> FloatArray:
            """From a corner to a place on the quarter circle that cuts it."""
            angle = way / radius
            return radius * (leave * (1 - np.cos(angle)) + enter * (np.sin(angle) - 1))

        # If one coordinate of the heading changes, both do.
        turn_in = (before != heading) & (place < radius)
        turn_out = (after != heading) & (place > length - radius)
        first = arc(before, heading, place + (math.pi / 2 - 1) * radius)
        last = length * heading + arc(heading, after, place + radius - length)
        along = np.where(turn_in, first, np.where(turn_out, last, place * heading))
        return length * start + along

    @property
    def _zone_m(self) -> float:
        """Before the line, where the order into a street is settled."""
        fastest = self.desired_m_per_s[1]
        return float(fastest**2 / (2 * self.braking_m_per_s2) + fastest * self.step_s)

    def _stopping_m(self, speed: FloatArray) -> FloatArray:
        """Σ_k (v - k b Δ) Δ until v is 0, up to b Δ²/8."""
        return speed**2 / (2 * self.braking_m_per_s2) - speed * self.step_s / 2

    def _within(self, way_m: FloatArray) -> FloatArray:
        """Largest speed v with v Δ + stopping way of v <= way."""
        half = self.braking_m_per_s2 * self.step_s / 2
        return np.sqrt(half**2 + 2 * self.braking_m_per_s2 * np.maximum(way_m, 0.0)) - half


class _Cars:
    """N cars. A place is in m along the street; a turn at either end cuts the corner there.

    A car is listed on its street and, once claimed, on the next, at a place < 0 there. On each
    street the order is that of the claims, and never changes.
    """

    def __init__(self, model: CityTraffic, streams: list[Generator], steps: int) -> None:
        self.model, count = model, len(streams)
        self.grid = ManhattanGrid(1.0, model.discs, model.blocks, model.block_m)
        self.cut = model.turn_radius_m * (1 - math.pi / 4)
        self.turn = math.sqrt(model.lateral_m_per_s2 * model.turn_radius_m)
        self.desired = np.array([own.uniform(*model.desired_m_per_s) for own in streams])
        starts = [self.grid._directed_street(own) for own in streams]
        self.place = np.array([own.random() for own in streams])
        self.place *= model.block_m - model.turn_radius_m
        legs = steps * model.step_s * self.desired / (model.block_m - 2 * self.cut) + 3
        self.turns = [own.random(int(most)) for own, most in zip(streams, legs, strict=True)]
        self.street, self.target = np.zeros((2, count), dtype=np.intp)
        self.speed, self.end, self.shift = np.zeros((3, count))
        self.turns_in, self.turns_out = np.zeros((2, count), dtype=np.bool_)
        self.stamp = -1e9 - self.place  # whoever is ahead came first
        self.claim = np.full(count, np.inf)
        self.numbers: dict[tuple[_Corner, _Corner], int] = {}  # of directed streets
        self.routes: list[list[_Leg]] = [[] for _ in streams]
        for n, (corner, heading) in enumerate(starts):
            self._enter(n, corner, heading, heading)

    def _enter(self, n: int, corner: _Corner, heading: _Corner, before: _Corner) -> None:
        """A new leg of car n, at whose end it turns as ManhattanGrid does."""
        ahead = corner[0] + heading[0], corner[1] + heading[1]
        after = self.grid._next(ahead, heading, float(self.turns[n][len(self.routes[n])]))
        self.routes[n].append((corner, heading, before, after))
        for kept, street in ((self.street, (corner, heading)), (self.target, (ahead, after))):
            kept[n] = self.numbers.setdefault(street, len(self.numbers))
        self.turns_in[n], self.turns_out[n] = before != heading, after != heading
        cut = self.cut * self.turns_out[n]
        self.end[n], self.shift[n] = self.model.block_m - cut, self.model.block_m - 2 * cut

    def advance(self, step: int) -> None:
        """The step from Δ ``step`` to Δ (``step`` + 1)."""
        model = self.model
        # 1. Claims: first come, first served.
        line = model.block_m - model.turn_radius_m - self.place
        beyond = model._zone_m - line
        due = np.isinf(self.claim) & (beyond >= 0)
        self.claim[due] = step - beyond[due] / model.block_m  # < 1: earlier within the step
        # 2. Speed: as the driver likes it, within what braking can keep.
        lead, gap, seen = self._ahead()
        wanted = self.speed + model.step_s * self._acceleration(seen, lead)
        safe = model._within(gap - model.gap_m + model._stopping_m(lead))
        behind, entering = np.split(safe * (gap > model.gap_m - 1e-6), 2)  # a hair of slack
        entering = np.maximum(entering, model._within(line))
        bounds = [wanted, self.desired, behind, entering, self._turning(line)]
        self.speed = np.maximum(np.minimum.reduce(bounds), 0.0)
        # 3. Motion, and the next street.
        self.place += self.speed * model.step_s
        for n in np.flatnonzero(self.place >= self.end).tolist():
            self.place[n] -= self.shift[n]
            self.stamp[n], self.claim[n] = self.claim[n], np.inf
            corner, heading, _, after = self.routes[n][-1]
            self._enter(n, (corner[0] + heading[0], corner[1] + heading[1]), after, heading)

    def _turning(self, line: FloatArray) -> FloatArray:
        """Largest speed in an arc and before it."""
        before = self.model._within(line + self.model._stopping_m(np.asarray(self.turn)))
        coming = np.where(self.turns_out, np.maximum(before, self.turn), np.inf)
        inside = self.turns_in & (self.place < self.model.turn_radius_m)
        return np.where(inside, self.turn, coming)

    def _ahead(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Of the cars ahead on this street and on the next (2N,): speed, gap, gap if there yet."""
        count = len(self.place)
        streets = np.concatenate([self.street, np.where(self.claim < np.inf, self.target, -1)])
        order = np.lexsort((np.concatenate([self.stamp, self.claim]), streets))
        same = (streets[order[1:]] == streets[order[:-1]]) & (streets[order[1:]] >= 0)
        ahead = np.full(2 * count, -1)
        ahead[order[1:][same]] = order[:-1][same]
        place = np.concatenate([self.place, self.place - self.shift])
        gap = np.where(ahead >= 0, place[ahead] - place, np.inf)
        speed = np.where(ahead >= 0, self.speed[ahead % count], 0.0)
        return speed, gap, np.where(ahead < count, gap, np.inf)

    def _acceleration(self, gap: FloatArray, lead: FloatArray) -> FloatArray:
        """Of the intelligent driver, within [-b, a]."""
        a, b = self.model.acceleration_m_per_s2, self.model.braking_m_per_s2
        speed = np.tile(self.speed, 2)
        headway = self.model.headway_s + (speed - lead) / (2 * math.sqrt(a * b))
        wish = self.model.gap_m + speed * np.maximum(headway, 0.0)
        press = (wish / np.maximum(gap, 1e-3)).reshape(2, -1).max(axis=0)
        return np.clip(a * (1 - (self.speed / self.desired) ** 4 - press**2), -b, a)


_FIELDS = (
    ("headway_s", "[0, inf)", "s", "give the time a driver keeps to the car ahead"),
    ("acceleration_m_per_s2", "(0, inf)", "m/s^2", "give how hard a car speeds up at most"),
    ("braking_m_per_s2", "(0, inf)", "m/s^2", "give how hard a car brakes at most"),
    ("lateral_m_per_s2", "(0, inf)", "m/s^2", "give how hard a car may turn"),
    ("turn_radius_m", "(0, inf)", "m", "give the radius of a turn, such as 10"),
    ("gap_m", "(0, inf)", "m", "give the gap in a queue, such as 2"),
    ("step_s", "(0, 1]", "s", "give a step that is short beside the headway, such as 0.1"),
    ("noise_m", "[0, inf)", "m", "give the standard deviation of a position; 0 for none"),
)
