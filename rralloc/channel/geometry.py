"""Where the devices are: a disc with the base station in the middle and a hole around it.

A device is uniform *by area* in the annulus r0 <= d <= R when its angle is uniform and

    P(distance <= d) = (d² - r0²) / (R² - r0²),    so    d = sqrt(r0² + U (R² - r0²)),

with U uniform on [0, 1]. (A uniform *distance* would crowd the centre.)

======  ==========================================  =====
symbol  meaning                                     unit
======  ==========================================  =====
R       ``radius_m``, radius of the cell            m
r0      ``min_distance_m``, radius of the hole      m
d       distance from the base station              m
======  ==========================================  =====

r0 > 0 keeps every path-loss law finite and inside the range for which it was measured.

Sources: L. Devroye, "Non-Uniform Random Variate Generation", Springer, 1986, section II.2
(inversion); H. Vogel, "A better way to construct the sunflower head", Mathematical Biosciences
44, 1979 (golden angle).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rralloc.channel._check import (
    FloatArray,
    require,
    require_count,
    require_generator,
    require_scalar,
)

GOLDEN_ANGLE_RAD: float = math.pi * (3.0 - math.sqrt(5.0))
"""2π over the square of the golden ratio; its multiples never line up."""

_ROUNDING = 1e-9  # relative to R: polar to Cartesian and back moves a distance by 1e-16


@dataclass(frozen=True)
class Cell:
    """An annulus around the base station at the origin.

    Choose this when devices are scattered over one cell, at random or at given distances.

    Attributes
    ----------
    radius_m
        R in m, within (0, inf).
    min_distance_m
        r0 in m, within (0, R].

    Raises
    ------
    ValueError
        If a radius is outside its range.

    Examples
    --------
    >>> Cell(500.0).drop(8, np.random.default_rng(0)).positions_m.shape
    (8, 2)

    """

    radius_m: float
    min_distance_m: float = 10.0

    def __post_init__(self) -> None:
        fix = "give the radius of the cell in metres"
        radius = require_scalar("radius_m", self.radius_m, "(0, inf)", unit="m", fix=fix)
        fix = "give a positive distance in metres that does not exceed radius_m"
        require_scalar("min_distance_m", self.min_distance_m, f"(0, {radius}]", unit="m", fix=fix)

    def drop(self, count: int, rng: np.random.Generator) -> Placement:
        """``count`` devices, independent and uniform by area: d = sqrt(r0² + U (R² - r0²)).

        Choose this when positions are part of what is random.

        Parameters
        ----------
        count
            Number K of devices, a whole number >= 0.
        rng
            NumPy ``Generator``.

        Returns
        -------
        Placement
            K positions within [r0, R] of the base station.

        Raises
        ------
        ValueError
            If ``count`` is not a whole number >= 0.
        TypeError
            If ``rng`` is not a NumPy ``Generator``.

        """
        u, turn = require_generator(rng).random((2, require_count("count", count)))
        hole = (self.min_distance_m / self.radius_m) ** 2
        distance = self.radius_m * np.sqrt(hole + u * (1.0 - hole))
        return Placement(self, _polar(distance, 2.0 * math.pi * turn))

    def equispaced(self, distance_m: npt.ArrayLike) -> Placement:
        """Devices at the given distances, each one golden angle further round than the last.

        Choose this when the distances are the experiment and the map only has to be legible.

        Parameters
        ----------
        distance_m
            Distances in m, shape ``(K,)``, within [r0, R].

        Returns
        -------
        Placement
            K positions; ``distance_m`` returns the given distances up to rounding (1e-15
            relative).

        Raises
        ------
        ValueError
            If a distance is outside [r0, R], or the shape is not ``(K,)``.

        Examples
        --------
        >>> np.round(Cell(500.0).equispaced([100.0, 200.0]).distance_m, 9).tolist()
        [100.0, 200.0]

        """
        distance = _inside("distance_m", distance_m, self)
        if distance.ndim != 1:
            raise ValueError(f"distance_m has shape {distance.shape} and must be (K,) in m.")
        return Placement(
            self, _polar(distance, GOLDEN_ANGLE_RAD * np.arange(distance.size, dtype=np.float64))
        )


# Compared by identity: arrays have no single truth value, so == on the fields would raise.
@dataclass(frozen=True, eq=False)
class Placement:
    """Positions of K devices in a cell, the base station at the origin.

    Choose this directly when the positions are known, from a map or a measurement; otherwise
    :meth:`Cell.drop` or :meth:`Cell.equispaced` makes one.

    Attributes
    ----------
    cell
        The cell they lie in.
    positions_m
        East and north in m, shape ``(K, 2)``, copied and read-only; distances within [r0, R].

    Raises
    ------
    ValueError
        If the shape is not ``(K, 2)``, or a device is outside the annulus.

    """

    cell: Cell
    positions_m: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        fix = "give finite positions in metres"
        xy = require("positions_m", self.positions_m, "(-inf, inf)", unit="m", fix=fix)
        if xy.ndim != 2 or xy.shape[1] != 2:
            raise ValueError(f"positions_m has shape {xy.shape} and must be (K, 2) in m.")
        _inside("distance of positions_m", np.hypot(xy[:, 0], xy[:, 1]), self.cell)
        xy.flags.writeable = False
        object.__setattr__(self, "positions_m", xy)

    @property
    def distance_m(self) -> npt.NDArray[np.float64]:
        """Distances d = sqrt(x² + y²) in m, shape ``(K,)``, within [r0, R] exactly."""
        xy = self.positions_m
        distance = np.hypot(xy[:, 0], xy[:, 1])
        return np.clip(distance, self.cell.min_distance_m, self.cell.radius_m)


def _polar(distance: FloatArray, angle: FloatArray) -> FloatArray:
    return np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=-1)


def _inside(name: str, distance_m: npt.ArrayLike, cell: Cell) -> FloatArray:
    """``distance_m`` if within [r0, R]; what only rounding put outside is moved to the edge."""
    distance = np.asarray(distance_m)
    low, high = float(cell.min_distance_m), float(cell.radius_m)
    fix = "move the device into the cell, or change radius_m or min_distance_m"
    if np.issubdtype(distance.dtype, np.number) and not np.iscomplexobj(distance):
        edge = np.clip(distance, low, high)
        distance = np.where(np.abs(distance - edge) <= _ROUNDING * high, edge, distance)
    return require(name, distance, f"[{low}, {high}]", unit="m", fix=fix)
