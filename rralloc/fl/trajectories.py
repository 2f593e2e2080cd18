"""Trajectory prediction: where will a device be, given where it was?

A track is cut where nothing was recorded for more than ``gap_s``, and each piece is resampled to
points q_0, q_1, ... every Δ = ``step_s`` on its own clock, straight between recorded points. With
P past steps and H future steps, the window around the point c is

    x = [R (q_{c-P} - q_c), ..., R (q_{c-1} - q_c)] / u      (2P,)  e_1, n_1, e_2, n_2, ...
    y = [R (q_{c+1} - q_c), ..., R (q_{c+H} - q_c)] / u      (2H,)

with u = ``unit_m`` and the rotation R that turns the last past step q_c - q_{c-1} to (+, 0). If
that step is below 1 mm, R turns the net past displacement q_c - q_{c-P} there; if that is below
1 mm too, R = I. So neither place nor heading is in the data, only the form of the motion. Only
moving windows count:

    |q_c - q_{c-P}| >= v_min P Δ,      v_min = least_speed_m_per_s

Each device is a client, and nothing is mixed between devices. Per device, with [t_0, t_1] from the
first to the last moment of all its windows, the future of which training must not know begins at

    t_cut = t_1 - test_share (t_1 - t_0)

    training: windows that end at t_cut or before;   test: windows that start at t_cut or after

Windows that straddle t_cut are purged: they would show points of the test part in training, or
the other way round. The error of a prediction z is the average displacement error

    ADE = u * mean over windows and h of |z_h - y_h|,   m

and constant velocity, z_h = h R (q_c - q_{c-1}) / u, is the prediction to beat.

Source: mads.md section 5.4, derived; the purge is added there as a demand. The data of
``load_vessels`` are real AIS positions of vessels in and off New York harbour, 1 to 7 December
2020, from the PyPI package tracktable-data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rralloc.channel._check import require, require_scalar
from rralloc.channel.motion import Track
from rralloc.channel.tracks import read_ais
from rralloc.errors import InvalidProblem
from rralloc.fl.data import digest_of
from rralloc.fl.learners import MLPRegression, mean_displacement
from rralloc.fl.task import Task
from rralloc.numerics.counts import require_whole

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STANDS_M = 1e-3
"""A displacement below this, m, has no direction."""


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Windows of motion, device by device; a `Task` takes them as its data set.

    name: for legends and tables.
    train_x, test_x: past positions (n, 2P) and (m, 2P), in units of ``unit_m`` around the current
        point, heading east. train_y, test_y: future positions (n, 2H) and (m, 2H), likewise.
    clients: K arrays of training rows, one for each device.
    names: of the devices, K.
    unit_m: u, metres per unit, within (0, inf).
    purged: how many windows of these devices straddled the cut and are in neither part.

    Stored arrays are read-only. Raises InvalidProblem: shapes disagree, a part is empty, a value
    is not finite, or ``unit_m`` is outside its range.

    Choose this when: you have windows of your own; else take `windows` or `load_vessels`.
    """

    name: str
    train_x: Floats
    train_y: Floats
    test_x: Floats
    test_y: Floats
    clients: tuple[Ints, ...]
    names: tuple[str, ...]
    unit_m: float
    purged: int = 0

    def __post_init__(self) -> None:
        require_scalar("unit_m", self.unit_m, "(0, inf)", "m", "give the metres of one unit")
        for field in ("train_x", "train_y", "test_x", "test_y"):
            object.__setattr__(self, field, _points(field, getattr(self, field)))
        for x, y in (("train_x", "train_y"), ("test_x", "test_y")):
            if len(getattr(self, x)) != len(getattr(self, y)):
                raise InvalidProblem(f"{x} and {y} differ in length; give one row per window.")
        for axis in ("x", "y"):
            train, test = getattr(self, f"train_{axis}"), getattr(self, f"test_{axis}")
            if train.shape[1] != test.shape[1]:
                raise InvalidProblem(
                    f"train_{axis} has {train.shape[1]} columns and test_{axis} {test.shape[1]}; "
                    "give both parts the same steps."
                )
        if len(self.clients) != len(self.names):
            raise InvalidProblem(
                f"clients are {len(self.clients)} and names {len(self.names)}; "
                "give one name for each client."
            )

    @property
    def features(self) -> int:
        """2P, length of a sample."""
        return int(self.train_x.shape[1])

    @property
    def outputs(self) -> int:
        """2H, length of an answer."""
        return int(self.train_y.shape[1])

    @property
    def classes(self) -> int:
        """0: answers are places, not classes."""
        return 0

    @cached_property
    def digest(self) -> str:
        """Hash of all windows: which data a stored run was trained on."""
        parts = (self.train_x, self.train_y, self.test_x, self.test_y)
        return digest_of(f"{self.name}|{float(self.unit_m)!r}", parts)

    def constant_velocity(self) -> float:
        """ADE, m, on the test windows if each device went on as in its last past step.

        The velocity is the displacement over that one step, (q_c - q_{c-1})/Δ, not a mean over the
        past: it reacts at once to a turn, and has all the noise of two positions.

        Choose this when: a prediction should be compared with no learning at all.
        """
        velocity = -self.test_x[:, -2:]
        ahead = np.arange(1, self.outputs // 2 + 1)
        predicted = (ahead[None, :, None] * velocity[:, None, :]).reshape(self.test_y.shape)
        return float(self.unit_m) * mean_displacement(predicted, self.test_y)

    def task(
        self,
        hidden: tuple[int, ...] = (64,),
        learning_rate: float = 0.05,
        batch_size: int | None = 16,
        *,
        l2: float = 0.0,
        **settings: Any,
    ) -> Task:
        """Prediction by an `MLPRegression`, each device a client; `settings` as in `Task`.

        Its test accuracy is minus the ADE in m. P = H = 10 and one layer of 64 give d = 2644.
        Raises ValueError: as `MLPRegression` and `Task`.

        Choose this when: federated training is to be tried on a regression, not on classes.
        """
        model = MLPRegression(self.features, self.outputs, hidden, l2, float(self.unit_m))
        given = {"name": f"{self.name}, mlp", "batch_size": batch_size, **settings}
        return Task(self, self.clients, model, learning_rate, **given)


def windows(
    tracks: Iterable[Track],
    *,
    step_s: float = 60.0,
    past: int = 10,
    future: int = 10,
    gap_s: float = 300.0,
    least_speed_m_per_s: float = 1.5,
    least_windows: int = 60,
    test_share: float = 0.2,
    unit_m: float = 500.0,
    stride: int = 1,
) -> Trajectories:
    """Windows of moving devices, split in time; formulas in the module's text.

    tracks: several of one name are one device.
    step_s: Δ, s, within (0, inf). past, future: P and H, whole numbers >= 1.
    gap_s: longest silence, s, within (0, inf], across which positions are interpolated.
    least_speed_m_per_s: v_min, m/s, within [0, inf). least_windows: devices with fewer moving
        windows are left out, a whole number >= 1. A device with none in training is left out too;
        one with none in the test part stays.
    test_share: of each device's time, within (0, 1), the last part.
    unit_m: u, m, within (0, inf). stride: only each ``stride``-th point of a piece is a current
        point, a whole number >= 1; neighbours have nearly the same content.

    Clients are in the order of their first track, windows in the order of the tracks.
    Raises InvalidProblem: a setting is outside its range, or nothing is left for training or for
    tests; the message says what to relax.

    Choose this when: positions over time are known, from `read_csv`, a simulator or a mobility
    model (``ManhattanGrid(...).contacts(...).tracks``).
    """
    cut = _Cut(step_s, past, future, gap_s, least_speed_m_per_s, stride)
    cut.check()
    require_whole("least_windows", least_windows)
    share = require_scalar("test_share", test_share, "(0, 1)", "(share)", "0.2 is usual")
    unit = require_scalar("unit_m", unit_m, "(0, inf)", "m", "give the metres of one unit")
    found = {name: _windows_of(own, cut) for name, own in _by_name(tracks).items()}
    enough = {name: own for name, own in found.items() if len(own.points) >= least_windows}
    parts = {name: _split(own, share) for name, own in enough.items()}
    kept = {name: part for name, part in parts.items() if len(part.train)}
    test = [part.test for part in kept.values() if len(part.test)]
    if not kept or not test:
        raise InvalidProblem(_nothing(found, len(enough), least_windows, share, bool(kept)))
    train_x, train_y = _flat(np.concatenate([part.train for part in kept.values()]), past, unit)
    test_x, test_y = _flat(np.concatenate(test), past, unit)
    borders = np.cumsum([len(part.train) for part in kept.values()])
    clients = tuple(np.split(np.arange(len(train_x)), borders[:-1]))
    purged = sum(part.purged for part in kept.values())
    return Trajectories(
        "trajectories", train_x, train_y, test_x, test_y, clients, tuple(kept), unit, purged
    )


def load_vessels(**settings: Any) -> Trajectories:
    """Windows of the vessels that `read_ais` has: New York harbour, 1 to 7 December 2020.

    settings: those of `windows`; its ``gap_s`` (300 s) also splits the tracks as they are read.

    Raises MissingData: the package tracktable-data is not installed; the message has the command.
    InvalidProblem: as `windows`.

    Choose this when: a claim about prediction should rest on real motion.
    """
    recording = read_ais(gap_s=settings.get("gap_s", 300.0))
    return replace(windows(recording.tracks, **settings), name="vessels of New York harbour")


# -- from tracks to windows ------------------------------------------------------------------------


class _Cut(NamedTuple):
    """How tracks become windows."""

    step_s: float
    past: int
    future: int
    gap_s: float
    least_speed_m_per_s: float
    stride: int

    def check(self) -> None:
        """InvalidProblem if a setting is outside its range."""
        require_scalar("step_s", self.step_s, "(0, inf)", "s", "give the time between points")
        fix = "give the longest silence to interpolate across; inf never splits"
        require_scalar("gap_s", self.gap_s, "(0, inf]", "s", fix)
        fix = "give the least mean speed over the past; 0 keeps devices that stand"
        speed = self.least_speed_m_per_s
        require_scalar("least_speed_m_per_s", speed, "[0, inf)", "m/s", fix)
        for name in ("past", "future", "stride"):
            require_whole(name, getattr(self, name))


class _Windows(NamedTuple):
    """Windows of one device: positions (n, P + 1 + H, 2) in m, first and last moment (n,) in s."""

    points: Floats
    start_s: Floats
    end_s: Floats


class _Part(NamedTuple):
    """Positions of training and test windows, and how many are in neither."""

    train: Floats
    test: Floats
    purged: int


def _by_name(tracks: Iterable[Track]) -> dict[str, list[Track]]:
    named: dict[str, list[Track]] = {}
    for track in tracks:
        named.setdefault(track.name, []).append(track)
    return named


def _windows_of(tracks: list[Track], cut: _Cut) -> _Windows:
    length = cut.past + 1 + cut.future
    points, span = [np.empty((0, length, 2))], [np.empty((0, 2))]
    for time, where in _pieces(tracks, cut):
        first = np.arange(0, len(time) - length + 1, cut.stride)
        seen = where[first[:, None] + np.arange(length)]
        net = np.hypot(*(seen[:, cut.past] - seen[:, 0]).T)
        moving = net >= cut.least_speed_m_per_s * cut.past * cut.step_s
        points.append(seen[moving])
        span.append(np.stack([time[first], time[first + length - 1]], axis=-1)[moving])
    return _Windows(np.concatenate(points), *np.concatenate(span).T)


def _pieces(tracks: list[Track], cut: _Cut) -> Iterator[tuple[Floats, Floats]]:
    """Times (p,) and positions (p, 2), every step_s on the clock of the piece."""
    for track in tracks:
        breaks = np.flatnonzero(np.diff(track.time_s) > cut.gap_s) + 1
        for piece in np.split(np.arange(len(track.time_s)), breaks):
            time, where = track.time_s[piece], track.position_m[piece]
            # A point that rounding puts just behind the last recorded one is that point.
            steps = math.floor((time[-1] - time[0]) / cut.step_s + 1e-9)
            when = time[0] + cut.step_s * np.arange(steps + 1)
            yield when, np.stack([np.interp(when, time, axis) for axis in where.T], axis=-1)


def _split(own: _Windows, share: float) -> _Part:
    """Training before the cut, test after it, and nothing across."""
    first, last = own.start_s.min(), own.end_s.max()
    cut = last - share * (last - first)
    train, test = own.end_s <= cut, own.start_s >= cut
    return _Part(own.points[train], own.points[test], int(len(train) - train.sum() - test.sum()))


def _flat(points: Floats, past: int, unit: float) -> tuple[Floats, Floats]:
    """x (n, 2P) and y (n, 2H) of windows (n, P + 1 + H, 2): moved, turned and scaled."""
    here = points - points[:, past, None]
    east, north = _heading(here, past).T[..., None]
    turned = np.stack(
        [
            east * here[..., 0] + north * here[..., 1],
            east * here[..., 1] - north * here[..., 0],
        ],
        axis=-1,
    )
    scaled = turned / unit
    rows = len(points)
    return scaled[:, :past].reshape(rows, -1), scaled[:, past + 1 :].reshape(rows, -1)


def _heading(here: Floats, past: int) -> Floats:
    """Unit vectors (n, 2): of the last past step, else of the net past, else east."""
    heading = np.tile([1.0, 0.0], (len(here), 1))
    for back in (-here[:, 0], -here[:, past - 1]):
        size = np.hypot(*back.T)
        moved = size >= STANDS_M
        heading[moved] = back[moved] / size[moved, None]
    return heading


def _points(field: str, values: ArrayLike) -> Floats:
    array = require(field, values, "(-inf, inf)", "units", "leave windows out that are not known")
    if array.ndim != 2 or array.size == 0 or array.shape[1] % 2:
        raise InvalidProblem(
            f"{field} has shape {array.shape}; pass (windows, 2 steps), none of them 0."
        )
    array.flags.writeable = False
    return array


def _nothing(
    found: dict[str, _Windows], enough: int, least: int, share: float, trained: bool
) -> str:
    most = max((len(own.points) for own in found.values()), default=0)
    if not enough:
        return (
            f"of {len(found)} devices none has least_windows = {least} moving windows (the most "
            f"is {most}): lower least_windows, least_speed_m_per_s, past, future, step_s or "
            "stride, raise gap_s, or give longer tracks"
        )
    part = "test" if trained else "training"
    fix = "raise" if trained else "lower"
    return (
        f"test_share = {share} leaves no {part} window of {enough} devices that have enough, since "
        f"windows across the cut are left out: {fix} test_share, lower past, future or step_s, "
        "or give longer tracks"
    )
