"""Recorded motion: plain CSV, SUMO's floating car data, and real vessel tracks.

Each reader returns a :class:`Recording`: clean tracks in local metres and seconds, and what was
left out. Longitude λ and latitude φ become east and north of an origin (λ0, φ0) with the radii of
curvature of the WGS 84 ellipsoid there,

    east = N cos φ0 (λ - λ0),    north = M (φ - φ0),                       angles in radians
    N = a/sqrt(1 - e² sin² φ0),  M = a (1 - e²)/(1 - e² sin² φ0)^(3/2),

whose error grows with the distance D from the origin: at most about D² tan(φ0)/M, 7 m at 7 km and
φ0 = 40.7 degrees. A record is cleaned in this order, per device:

1. points are sorted by time, and of points at one time the first is kept;
2. a point that needs more than ``fastest_m_per_s`` from the last one kept is dropped if the next
   point does not; otherwise the jump is real and the track ends before it;
3. a track is split where nothing was recorded for more than ``gap_s``;
4. single points, from which no motion follows, are dropped.

Choose ``contacts_of`` or ``RecordedMotion`` for what comes next. Source of the radii: J. P. Snyder,
"Map Projections: A Working Manual", USGS Professional Paper 1395, 1987, section 4.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from rralloc.channel._check import FloatArray, require, require_scalar
from rralloc.channel.motion import Track
from rralloc.errors import InvalidProblem, MissingData, ScenarioError

Column = str | int

THE_BATTERY: tuple[float, float] = (-74.02, 40.70)
"""Longitude and latitude, degrees, off the southern tip of Manhattan, where two rivers meet."""

NY_HARBOR_WEEK = "NYHarbor_2020_12_first_week.traj"
"""File of ``read_ais``: 140 vessels in and off New York harbour, 1 to 7 December 2020."""

_EQUATOR_M, _ECCENTRICITY2 = 6378137.0, 0.00669437999014  # WGS 84


@dataclass(frozen=True, eq=False)
class Recording:
    """Tracks as read, and what was left out.

    Choose this as the input of ``RecordedMotion(recording.tracks, discs)``.

    Attributes
    ----------
    tracks
        In local metres and seconds; several of one name where its record has gaps.
    origin
        Longitude and latitude in degrees of the point (0, 0), None for metres as recorded.
    began
        UTC of 0 s where the file has dates (the first point of all), else "".
    dropped
        How many points were dropped, by reason: "repeated time", "impossible speed",
        "single point".

    """

    tracks: tuple[Track, ...]
    origin: tuple[float, float] | None = None
    began: str = ""
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the devices, in the order of their first track."""
        return tuple(dict.fromkeys(track.name for track in self.tracks))

    @property
    def points(self) -> int:
        """Of all tracks."""
        return sum(track.time_s.size for track in self.tracks)

    @property
    def span_s(self) -> tuple[float, float]:
        """First and last time of all, s.

        Raises InvalidProblem: there is no track.
        """
        if not self.tracks:
            raise InvalidProblem("Recording.tracks is empty: every point was left out, see dropped")
        first = min(float(track.time_s[0]) for track in self.tracks)
        return first, max(float(track.time_s[-1]) for track in self.tracks)


def local_metres(
    longitude: npt.ArrayLike, latitude: npt.ArrayLike, origin: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """East and north of the origin in m, ``(..., 2)``; formula and error in the module's text.

    ``longitude`` within [-360, 360] and ``latitude`` within [-89, 89], degrees, ``(...)``;
    ``origin``: longitude and latitude. The shorter way round the globe counts.
    Raises InvalidProblem: a value is outside its range.

    Choose this when positions come from satellite navigation and the area is a city or a harbour.
    """
    fix = "give degrees, longitude first; near a pole use a projection for poles"
    east_of, north_of = _degrees("longitude", longitude), _degrees("latitude", latitude)
    at = require("origin", origin, "[-360, 360]", "degrees", fix)
    if at.shape != (2,):
        raise InvalidProblem(f"origin has shape {at.shape} and must be (longitude, latitude).")
    north = math.radians(float(_degrees("origin latitude", at[1])))
    bend = 1.0 - _ECCENTRICITY2 * math.sin(north) ** 2
    across = _EQUATOR_M / math.sqrt(bend) * math.cos(north)
    along = _EQUATOR_M * (1.0 - _ECCENTRICITY2) / bend**1.5
    turned = (east_of - at[0] + 180.0) % 360.0 - 180.0
    return np.stack([across * np.radians(turned), along * np.radians(north_of - at[1])], axis=-1)


def clean_tracks(
    records: Iterable[tuple[str, npt.ArrayLike, npt.ArrayLike]],
    *,
    gap_s: float = math.inf,
    fastest_m_per_s: float = math.inf,
) -> Recording:
    """Tracks of raw records ``(name, time_s (P,), position_m (P, 2))``, cleaned as told above.

    ``gap_s`` and ``fastest_m_per_s`` within (0, inf]; inf splits and drops nothing.
    Raises InvalidProblem: a value is outside its range or not finite, or shapes disagree.

    Choose this when you have a format of your own and points as they came from the receiver.
    """
    fix = "give the longest silence that is still one track, in seconds; inf never splits"
    gap = require_scalar("gap_s", gap_s, "(0, inf]", "s", fix)
    fix = "give the highest speed that is possible; inf believes every point"
    fastest = require_scalar("fastest_m_per_s", fastest_m_per_s, "(0, inf]", "m/s", fix)
    tracks: list[Track] = []
    dropped = {"repeated time": 0, "impossible speed": 0, "single point": 0}
    for name, times, positions in records:
        time, where = _record(name, times, positions)
        given = time.size
        order = np.argsort(time, kind="stable")
        order = order[np.append(True, np.diff(time[order]) > 0)[:given]]
        time, where = time[order], where[order]
        dropped["repeated time"] += given - time.size
        stretches = _possible(time, where, fastest)
        dropped["impossible speed"] += time.size - sum(s.size for s in stretches)
        for stretch in stretches:
            breaks = np.flatnonzero(np.diff(time[stretch]) > gap) + 1
            for piece in np.split(stretch, breaks):
                if piece.size < 2:
                    dropped["single point"] += piece.size
                else:
                    tracks.append(Track(time[piece], where[piece], name))
    return Recording(tuple(tracks), dropped=dropped)


def read_csv(
    path: str | Path,
    *,
    device: Column = "id",
    time: Column = "time",
    x: Column = "x",
    y: Column = "y",
    geographic: bool = False,
    origin: tuple[float, float] | None = None,
    gap_s: float = math.inf,
    fastest_m_per_s: float = math.inf,
) -> Recording:
    """One point a line: device, time, and two coordinates, in any order; also ``.csv.gz``.

    device, time, x, y: names in the first line, or positions 0, 1, ... if all four are numbers and
        there is no such line. Times are seconds as they are, or ISO dates (UTC unless they say
        otherwise), which count from the first. Lines that start with # are left out.
    geographic: x is longitude and y latitude, degrees; ``origin`` becomes (0, 0), by default the
        mean of all points.
    gap_s, fastest_m_per_s: see ``clean_tracks``.

    Raises MissingData: no such file. ScenarioError: a column is missing, or a line has no number
        where there must be one. InvalidProblem: as ``clean_tracks`` and ``local_metres``.

    Choose this when: the record is a table, whoever wrote it.
    """
    path = Path(path)
    columns = (device, time, x, y)
    with _opened(path) as stream:
        rows = (row for row in csv.reader(stream) if row and not row[0].startswith("#"))
        if all(isinstance(c, int) for c in columns):
            where = [int(c) for c in columns]
        else:
            head = [name.strip() for name in next(rows, [])]
            absent = [str(c) for c in columns if c not in head]
            if absent:
                raise ScenarioError(
                    f"{path} has no column {', '.join(absent)}; its first line names "
                    f"{', '.join(head) or 'nothing'}: say which with device=, time=, x=, y="
                )
            where = [head.index(str(c)) for c in columns]
        points = [_picked(path, number, row, where) for number, row in enumerate(rows, 1)]
    named: dict[str, list[tuple[str, str, str]]] = {}
    for name, *rest in points:
        named.setdefault(name, []).append((rest[0], rest[1], rest[2]))
    return _recording(path, list(named.items()), geographic, origin, gap_s, fastest_m_per_s)


def read_sumo(
    path: str | Path,
    *,
    geographic: bool = False,
    origin: tuple[float, float] | None = None,
    gap_s: float | None = None,
    fastest_m_per_s: float = math.inf,
) -> Recording:
    """Floating car data of the traffic simulator SUMO (``--fcd-output``), ``.xml`` or ``.xml.gz``.

        <fcd-export><timestep time="0.00"><vehicle id="a" x="1.5" y="2.0" .../></timestep> ...

    Vehicles and persons are devices. geographic: written with ``--fcd-output.geo``.
    gap_s: None is 1.5 time steps, since SUMO writes each vehicle in each step that it drives.
    origin, fastest_m_per_s: as in ``read_csv``.

    Raises MissingData: no such file. ScenarioError: it is not such XML, or an attribute is missing.

    Choose this when: traffic was simulated on a real road network.
    """
    path = Path(path)
    named: dict[str, list[tuple[str, str, str]]] = {}
    steps: list[float] = []
    with _opened(path) as stream:
        try:
            for name, when, x, y in _fcd(stream, steps):
                named.setdefault(name, []).append((when, x, y))
        except (ElementTree.ParseError, KeyError, ValueError) as broken:
            what = f"attribute {broken} is missing" if isinstance(broken, KeyError) else broken
            raise ScenarioError(f"{path} is not floating car data of SUMO: {what}") from broken
    if gap_s is None:
        gap_s = 1.5 * float(np.median(np.diff(steps))) if len(steps) > 1 else math.inf
    return _recording(path, list(named.items()), geographic, origin, gap_s, fastest_m_per_s)


def read_traj(
    path: str | Path,
    *,
    origin: tuple[float, float] | None = None,
    gap_s: float = 300.0,
    fastest_m_per_s: float = math.inf,
) -> Recording:
    """Tracks in the text format ``.traj`` of the package tracktable, one a line.

        *T*, ..., *P*, domain, 2, 1, 1, c, (name, type) x c, then points of 4 + c fields:
        device, date, longitude, latitude, c properties

    origin, gap_s, fastest_m_per_s: as in ``read_csv``; properties are left out.

    Raises MissingData: no such file. ScenarioError: a line is not of this format.

    Choose this when: you have such a file that is not in the package of ``read_ais``.
    """
    path = Path(path)
    with _opened(path) as stream:
        rows = enumerate(csv.reader(stream), 1)
        records = [_line(path, number, row) for number, row in rows if row]
    return _recording(path, records, True, origin, gap_s, fastest_m_per_s)


def read_ais(
    file: str = NY_HARBOR_WEEK,
    *,
    origin: tuple[float, float] | None = THE_BATTERY,
    gap_s: float = 600.0,
    fastest_m_per_s: float = 30.0,
) -> Recording:
    """Real vessels: positions they sent by AIS, from the package tracktable-data (BSD, 70 MB).

    file: one of the package's, ``.traj`` or the AIS table in ``.csv``. In the default a vessel
        sends every 70 s (median), a slow one often every 6 minutes only: a ``gap_s`` of 300 s
        cuts many contacts in two. origin, fastest_m_per_s: as in ``read_csv``; 30 m/s is 58 knots.

    Raises MissingData: the package is not installed or has no such file; the message has the
        command or the files. ScenarioError: the file is not what it was.

    Choose this when: a claim about mobility should rest on real motion.
    """
    spec = find_spec("tracktable_data")
    if spec is None or not spec.submodule_search_locations:
        raise MissingData(
            "the vessel tracks come with the package tracktable-data, 70 MB: "
            'pip install "rralloc[ais]", or pip install tracktable-data'
        )
    # Found, not imported: importing it changes the log level and the tracebacks of the process.
    folder = Path(next(iter(spec.submodule_search_locations)))
    paths = {p.name: p for p in sorted(folder.rglob("*")) if p.suffix in (".traj", ".csv")}
    if file not in paths:
        known = ", ".join(name for name in paths if name.endswith(".traj"))
        raise MissingData(f"{folder} has no file {file!r}; it has {known}")
    if paths[file].suffix == ".traj":
        return read_traj(paths[file], origin=origin, gap_s=gap_s, fastest_m_per_s=fastest_m_per_s)
    return read_csv(
        paths[file],
        device="MMSI",
        time="BaseDateTime",
        x="LON",
        y="LAT",
        geographic=True,
        origin=origin,
        gap_s=gap_s,
        fastest_m_per_s=fastest_m_per_s,
    )


_Texts = Sequence[tuple[str, str, str]]


def _recording(
    path: Path,
    records: Sequence[tuple[str, _Texts]],
    geographic: bool,
    origin: tuple[float, float] | None,
    gap_s: float,
    fastest_m_per_s: float,
) -> Recording:
    """Clean tracks of points (time, x, y) that are still text."""
    texts = [point for _, points in records for point in points]
    time, began = _times(path, [when for when, _, _ in texts])
    where = np.array([(_number(path, x), _number(path, y)) for _, x, y in texts]).reshape(-1, 2)
    if geographic:
        if origin is None:
            mean = where.mean(0) if len(where) else np.zeros(2)
            origin = float(mean[0]), float(mean[1])
        where = local_metres(where[:, 0], where[:, 1], origin)
    bounds = np.cumsum([0, *(len(points) for _, points in records)])
    raw = [
        (name, time[a:b], where[a:b]) for (name, _), a, b in zip(records, bounds[:-1], bounds[1:])
    ]
    found = clean_tracks(raw, gap_s=gap_s, fastest_m_per_s=fastest_m_per_s)
    return Recording(found.tracks, origin if geographic else None, began, found.dropped)


def _times(path: Path, texts: Sequence[str]) -> tuple[FloatArray, str]:
    """Seconds as they are; or since the first of all dates, and which it was."""
    try:
        return np.array([float(text) for text in texts]), ""
    except ValueError:
        pass
    try:
        dates = [datetime.fromisoformat(text.strip()) for text in texts]
    except ValueError as broken:
        raise ScenarioError(
            f"{path}: a time is neither seconds nor an ISO date: {broken}"
        ) from None
    stamps = [(d if d.tzinfo else d.replace(tzinfo=UTC)).timestamp() for d in dates]
    first = min(stamps)
    began = datetime.fromtimestamp(first, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return np.array(stamps) - first, began


def _number(path: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ScenarioError(f"{path}: coordinate {text!r} is not a number") from None


def _picked(path: Path, number: int, row: list[str], where: list[int]) -> list[str]:
    try:
        return [row[i].strip() for i in where]
    except IndexError:
        raise ScenarioError(
            f"{path}: point {number} has {len(row)} fields and needs {max(where) + 1}: {row}"
        ) from None


def _fcd(stream: IO[str], steps: list[float]) -> Iterator[tuple[str, str, str, str]]:
    when = None
    for event, element in ElementTree.iterparse(stream, events=("start", "end")):
        if event == "start":
            if when is None and not steps and element.tag not in ("fcd-export", "timestep"):
                raise ValueError(f"it starts with <{element.tag}>")
            if element.tag == "timestep":
                when = element.attrib["time"]
                steps.append(float(when))
        elif element.tag in ("vehicle", "person") and when is not None:
            yield element.attrib["id"], when, element.attrib["x"], element.attrib["y"]
        elif element.tag == "timestep":
            element.clear()


def _line(path: Path, number: int, row: list[str]) -> tuple[str, _Texts]:
    try:
        mark = row.index("*P*")
        properties = int(row[mark + 5])
        width, fields = 4 + properties, row[mark + 6 + 2 * properties :]
        if row[0] != "*T*" or row[mark + 2] != "2" or not fields or len(fields) % width:
            raise ValueError
    except (ValueError, IndexError):
        raise ScenarioError(
            f"{path}: line {number} is not a track of two coordinates: {','.join(row)[:60]} ..."
        ) from None
    points = [(fields[i + 1], fields[i + 2], fields[i + 3]) for i in range(0, len(fields), width)]
    return fields[0], points


def _record(
    name: str, times: npt.ArrayLike, positions: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    fix = "give finite times in seconds"
    time = require(f"record {name!r}: time_s", times, "(-inf, inf)", "s", fix)
    fix = "give finite positions in metres"
    where = require(f"record {name!r}: position_m", positions, "(-inf, inf)", "m", fix)
    if time.ndim != 1 or where.shape != (time.size, 2):
        raise InvalidProblem(
            f"record {name!r}: time_s has shape {time.shape} and position_m {where.shape}; "
            "they must be (P,) in s and (P, 2) in m."
        )
    return time, where


def _possible(time: FloatArray, where: FloatArray, fastest: float) -> list[npt.NDArray[np.intp]]:
    """Positions kept, in stretches between which the jump is too far."""
    whole = np.arange(time.size)
    way = np.hypot(*np.diff(where, axis=0).T)
    if not (way > fastest * np.diff(time)).any():
        return [whole]

    def reached(a: int, b: int) -> bool:
        return bool(math.dist(where[a], where[b]) <= fastest * (time[b] - time[a]))

    stretches: list[list[int]] = [[0]]
    for i in range(1, time.size):
        last = stretches[-1][-1]
        if reached(last, i):
            stretches[-1].append(i)
        elif not (i + 1 < time.size and reached(last, i + 1)):
            stretches.append([i])
    return [np.array(kept) for kept in stretches]


def _degrees(name: str, value: npt.ArrayLike) -> FloatArray:
    fix = "give degrees, longitude first; near a pole use a projection for poles"
    within = "[-360, 360]" if name == "longitude" else "[-89, 89]"
    return require(name, value, within, "degrees", fix)


def _opened(path: Path) -> IO[str]:
    if not path.is_file():
        raise MissingData(f"{path} is not there: give the path of an existing file")
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")
