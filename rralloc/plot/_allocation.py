"""Who gets how much, against how well each is heard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rralloc.plot import _labels, _style
from rralloc.problem import Problem
from rralloc.solution import Solution
from rralloc.typing import Array

_GAINS = ("gain", "snr_bandwidth_hz", "path_gain", "snr", "snr_per_watt", "channel", "importance")
_LOGARITHMIC = ("gain", "snr", "channel")


@dataclass(frozen=True)
class _Ranked:
    """One solver's instances that have a point, devices sorted from strongest to weakest."""

    amount: Array
    """``(instances, K)``"""
    state: Array
    """``(instances, K)``, linear"""
    lost: int
    """instances without a point"""


def allocation(
    sol: Solution | Mapping[str, Solution],
    *,
    variable: str | None = None,
    against: str | None = None,
    ax: Any = None,
) -> Any:
    """A decision variable against channel state; returns the Figure.

    One instance: the devices from strongest (rank 1) to weakest, and below them their gains. A
    batch: for each rank the mean allocation against the mean gain, with a band from the 10th to
    the 90th percentile over instances.

    sol: one ``Solution``, or several of equal size as ``{label: solution}``.
    variable: a decision variable; default the problem's first with a device axis.
    against: data field or property with one value for each device; default the channel gain
        (importance in FEEL scheduling). Gains and SNRs are drawn in dB; zero has no place there.
    ax: axes to draw in; a pair for one instance draws the gains in the second, else they are left
        out.

    Data stay in SI units; tick labels carry the prefix. Raises ValueError: unknown name, or no
    instance has a point.

    Choose this when: you want to see what an allocation rule does to weak and to strong devices.
    """
    solutions = _style.labelled(sol)
    problem = next(iter(solutions.values())).problem
    against = against or _default_state(problem)
    variable = variable or _default_variable(problem)
    ranked = {n: _ranked(s, variable, against) for n, s in solutions.items()}
    single = all(s.problem.size == 1 for s in solutions.values())
    with _style.styled():
        top, below = _axes(ax, single)
        draw = _draw_single if single else _draw_batch
        draw(top, below, ranked, problem, against)
        amounts = np.concatenate([r.amount.ravel() for r in ranked.values()])
        var = {v.name: v for v in problem.variables}[variable]
        _labels.name_axis(top.yaxis, var.doc or _labels.stem(variable), var.unit, amounts)
        if np.nanmin(amounts) >= 0:
            top.set_ylim(bottom=0)
        if len(ranked) > 1 or not single:
            top.legend(loc="best")
        _style.title(top, _sentence(ranked, variable, against))
        return _style.stamp(_style.figure_of(top), _style.digests(solutions))


def _axes(ax: Any, single: bool) -> tuple[Any, Any]:
    if ax is None and single:
        ax = _style.own_axes(2, 1, size=(7.6, 5.6), sharex=True, height_ratios=(3, 1.6))
    elif ax is None:
        ax = _style.own_axes(size=(7.6, 4.8))
    pair = np.ravel(ax)
    return pair[0], pair[1] if len(pair) > 1 else None


# -- drawing ---------------------------------------------------------------------------------------


def _draw_single(
    top: Any, below: Any, ranked: Mapping[str, _Ranked], problem: Problem, against: str
) -> None:
    count = len(ranked)
    for index, (label, one) in enumerate(ranked.items()):
        style = _style.look(index) | {"linestyle": "none"}
        rank = np.arange(1, one.amount.shape[1] + 1)
        x = rank + (index - (count - 1) / 2) * min(0.22, 0.7 / count)
        top.vlines(x, 0, one.amount[0], color=style["color"], linewidth=2.2, alpha=0.6)
        top.plot(x, one.amount[0], label=label, clip_on=False, zorder=3, **style)
    first = next(iter(ranked.values()))
    lowest = below if below is not None else top
    order = "strongest" if _logarithmic(against) else f"largest {_labels.stem(against)}"
    lowest.set_xlabel(f"device rank (1 = {order})")
    devices = first.amount.shape[1]
    top.set_xlim(0.3, devices + 0.7)
    step = max(1, 5 * (devices // 50), 2 * (devices > 20))
    lowest.set_xticks([1, *range(step if step > 1 else 2, devices + 1, step)])
    if below is not None:
        _draw_states(below, ranked, problem, against)
        top.figure.align_ylabels([top, below])


def _draw_states(below: Any, ranked: Mapping[str, _Ranked], problem: Problem, against: str) -> None:
    """One line where all solvers had the same channels, else one each."""
    shown = [_shown(r.state, against)[0] for r in ranked.values()]
    same = all(np.array_equal(shown[0], other, equal_nan=True) for other in shown)
    for index, state in enumerate(shown[: 1 if same else None]):
        style = {"color": _style.INK, "marker": "."} if same else _style.look(index)
        below.plot(np.arange(1, state.size + 1), state, **style)
    words, unit = _state_words(problem, against)
    _labels.name_axis(below.yaxis, words, unit, np.concatenate(shown), width=17)


def _draw_batch(
    top: Any, below: Any, ranked: Mapping[str, _Ranked], problem: Problem, against: str
) -> None:
    for index, (label, one) in enumerate(ranked.items()):
        style, x = _style.look(index), _mean(_shown(one.state, against))
        low, high = np.percentile(one.amount, [10, 90], axis=0)
        top.plot(x, one.amount.mean(0), label=f"{label}, mean", **style)
        colour, dashes = style["color"], style["linestyle"]
        band = top.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        top.plot(x, low, x, high, color=colour, linestyle=dashes, linewidth=0.9, alpha=0.7)
        if index == len(ranked) - 1:
            band.set_label("10-90 % of instances")
    words, unit = _state_words(problem, against)
    states = np.concatenate([_mean(_shown(r.state, against)) for r in ranked.values()])
    _labels.name_axis(top.xaxis, f"{words}, mean of each rank", unit, states)


# -- data ------------------------------------------------------------------------------------------


def _default_state(problem: Problem) -> str:
    for name in _GAINS:
        if name in problem._data:
            return name
    for name, info in problem._data.items():
        if info.axes:
            return name
    raise ValueError(f"{problem!r} has no data with a device axis; name one with against=")


def _default_variable(problem: Problem) -> str:
    for axis in ("K", "N"):  # N: devices where there is no K, else antennas
        for var in problem.variables:
            if var.axes and var.axes[-1] == axis:
                return var.name
    raise ValueError(f"{problem!r} has no variable with a device axis")


def _ranked(sol: Solution, variable: str, against: str) -> _Ranked:
    if variable not in sol.x:
        raise ValueError(f"no variable {variable!r}; {sol.solver} returned {', '.join(sol.x)}")
    amount = np.abs(sol.x[variable]) if np.iscomplexobj(sol.x[variable]) else sol.x[variable]
    state = _state(sol.problem, against)
    amount, state = np.broadcast_arrays(np.asarray(amount, dtype=float), state)
    amount, state = amount.reshape(-1, amount.shape[-1]), state.reshape(-1, amount.shape[-1])
    found = np.isfinite(amount).all(-1)
    if not found.any():
        raise ValueError(f"{sol.solver} has no point to draw: {sol.message or 'see sol.status'}")
    order = np.argsort(-state[found], axis=-1, kind="stable")
    amount, state = (np.take_along_axis(a[found], order, -1) for a in (amount, state))
    return _Ranked(amount, state, int((~found).sum()))


def _state(problem: Problem, against: str) -> Array:
    """Channel state ``(..., K)``: links by the diagonal, vectors by their norm."""
    value = getattr(problem, against, None)
    if not isinstance(value, np.ndarray):
        known = ", ".join(n for n, i in problem._data.items() if i.axes)
        raise ValueError(f"against={against!r} is no array of the problem; fields: {known}")
    axes = problem._data[against].axes if against in problem._data else ()
    if len(axes) == 2 and axes[0] == axes[1]:
        return np.diagonal(value, axis1=-2, axis2=-1)
    if np.iscomplexobj(value):
        return (np.abs(value) ** 2).sum(-2) if len(axes) == 2 else np.abs(value) ** 2
    return np.asarray(value, dtype=float)


def _logarithmic(name: str) -> bool:
    return any(word in name for word in _LOGARITHMIC)


def _shown(state: Array, against: str) -> Array:
    return _labels.decibel(state) if _logarithmic(against) else state


def _mean(values: Array) -> Array:
    """Mean over instances of what can be drawn; NaN where nothing can."""
    count = np.isfinite(values).sum(0)
    total = np.where(np.isfinite(values), values, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


# -- words -----------------------------------------------------------------------------------------


def _state_words(problem: Problem, against: str) -> tuple[str, str]:
    """What the channel state is, and its unit as drawn."""
    info = problem._data.get(against)
    words = (info.doc if info else "").split(",")[0] or _labels.stem(against)
    unit = info.unit if info else _labels.unit_of_name(against)
    if info is not None and len(info.axes) == 2 and info.axes[0] == info.axes[1]:
        words = f"direct {words}"
    if _logarithmic(against):
        unit = {"1": "dB", "Hz": "dB re 1 Hz"}.get(unit, f"dB re {unit}")
    return words, unit


def _sentence(ranked: Mapping[str, _Ranked], variable: str, against: str) -> str:
    """The share that the weakest quarter gets; empty where shares mean nothing."""
    first = next(iter(ranked.values()))
    devices = first.amount.shape[1]
    if devices < 2 or any((r.amount < 0).any() or not r.amount.any() for r in ranked.values()):
        return ""
    weak = max(1, round(devices / 4))
    get = "get" if weak > 1 else "gets"
    who = (
        f"The weakest {f'{weak} ' if weak > 1 else ''}of {devices} devices"
        if _logarithmic(against)
        else f"The {weak} of {devices} devices with the least {_labels.stem(against)}"
    )
    return f"{who} {get} {_shares(ranked, weak, _labels.stem(variable))}{_base(ranked)}"


def _shares(ranked: Mapping[str, _Ranked], weak: int, what: str) -> str:
    part = {n.removeprefix("baseline:"): _share(r, weak) for n, r in ranked.items()}
    told = sorted(((100 * s, n) for n, s in part.items()), key=lambda pair: pair[0])
    (low, least), (high, most) = told[0], told[-1]
    if len(told) == 1:
        return f"{_number(low)} % of the {what}"
    if len(told) == 2:
        return f"{_number(high)} % of the {what} by {most}, {_number(low)} % by {least}"
    return f"between {_number(low)} % ({least}) and {_number(high)} % ({most}) of the {what}"


def _number(percent: float) -> str:
    """Whole per cent; a small share is not called nothing."""
    if 0 < percent < 0.95:
        return f"{percent:.1f}" if percent >= 0.05 else "less than 0.1"
    return f"{percent:.0f}"


def _share(one: _Ranked, weak: int) -> float:
    """Mean over instances of the weakest devices' part; instances that give nothing count as 0."""
    total = one.amount.sum(-1)
    part = one.amount[:, -weak:].sum(-1) / np.where(total > 0, total, 1.0)
    return float(part.mean())


def _base(ranked: Mapping[str, _Ranked]) -> str:
    first = next(iter(ranked.values()))
    size, lost = len(first.amount), max(r.lost for r in ranked.values())
    over = f" (mean of {size} instances)" if size > 1 else ""
    return over + (f"; {lost} without a point left out" if lost else "")
