"""Tracks cut into parts that lie wholly in one round and in or out of contact with one server.

The geometry is in :mod:`rralloc.channel.contacts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rralloc.channel._check import FloatArray
from rralloc.channel.motion import Discs, Track
from rralloc.errors import InvalidProblem

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Parts:
    """Straight parts in contact, in order of device and time: one round, one server each."""

    device: IntArray
    index: IntArray
    begin_s: FloatArray
    end_s: FloatArray
    square: FloatArray
    """Mean of the squared distance, m²."""


def round_edges(rounds: int, round_s: float, start_s: float) -> FloatArray:
    """When rounds begin, and when the last one ends, s."""
    return start_s + round_s * np.arange(rounds + 1, dtype=np.float64)


def time_in_rounds(intervals: FloatArray, edges: FloatArray) -> FloatArray:
    """How much of each round disjoint intervals ``(n, 2)`` within the rounds cover, s."""
    first, last = intervals.T
    which, index = _cut(first, last, edges)
    spent = np.minimum(last[which], edges[index + 1]) - np.maximum(first[which], edges[index])
    return np.asarray(np.bincount(index, spent, edges.size - 1), dtype=np.float64)


def straight_parts(
    tracks: list[Track], devices: list[int], edges: FloatArray, discs: Discs
) -> Parts:
    """What of the tracks, in order of device and time, is in contact."""
    _refuse_overlap(tracks)
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
    return Parts(owner[row][keep], index[row][keep], begin_s[keep], end_s[keep], square[keep])


def _refuse_overlap(tracks: list[Track]) -> None:
    """Tracks of one device, in order of time, must not overlap."""
    for before, after in pairwise(tracks):
        if before.name == after.name and after.time_s[0] < before.time_s[-1]:
            raise InvalidProblem(
                f"Track {after.name!r}: time_s[0] = {after.time_s[0]} s is outside "
                f"[{before.time_s[-1]}, inf) s, where the track before it of the same name ends: "
                "give each device its own name."
            )


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


def joined(parts: Parts, devices: int) -> tuple[FloatArray, ...]:
    """Contacts of each device: parts that follow one another without a break are one."""
    new = np.ones(parts.device.size, dtype=bool)
    new[1:] = (np.diff(parts.device) != 0) | (parts.begin_s[1:] != parts.end_s[:-1])
    last = np.roll(new, -1) if new.size else new
    spans = np.stack([parts.begin_s[new], parts.end_s[last]], axis=1)
    owner = parts.device[new]
    bounds = np.searchsorted(owner, np.arange(devices + 1))
    return tuple(spans[a:b] for a, b in pairwise(bounds))
