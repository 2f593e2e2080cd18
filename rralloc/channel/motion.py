"""Motion: where a device was, and where servers stand. Contacts are made of the two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rralloc.channel._check import FloatArray, require, require_scalar
from rralloc.errors import InvalidProblem
from rralloc.typing import Field


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
        time = require(f"{owner}: time_s", self.time_s, "(-inf, inf)", "s", "give finite times")
        fix = "give finite positions in metres"
        where = require(f"{owner}: position_m", self.position_m, "(-inf, inf)", "m", fix)
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
        time = require(f"Track {self.name!r}: time_s", time_s, span, "s", fix)
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
        radius = require_scalar("Discs.radius_m", self.radius_m, "(0, inf)", "m", fix)
        fix = "give the places of the servers in metres"
        centre = np.atleast_2d(require("Discs.centre_m", self.centre_m, "(-inf, inf)", "m", fix))
        if centre.ndim != 2 or centre.shape[1] != 2 or not centre.size:
            raise InvalidProblem(
                f"Discs.centre_m has shape {centre.shape} and must be (M, 2) in m, M >= 1."
            )
        centre.flags.writeable = False
        object.__setattr__(self, "radius_m", radius)
        object.__setattr__(self, "centre_m", centre)
