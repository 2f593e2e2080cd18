"""What an allocation buys in training, and who holds which data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rralloc.fl import statistics
from rralloc.fl.partition import label_counts
from rralloc.plot import _labels, _style
from rralloc.typing import Array

if TYPE_CHECKING:
    from rralloc.fl.compare import TrainingComparison
    from rralloc.fl.history import Cost, History
    from rralloc.fl.task import Task

_COSTS = {
    "seconds": ("training time", "s", "s"),
    "joules": ("energy of all devices", "J", "J"),
    "round": ("communication round", "1", "rounds"),
    "bits": ("bits sent by all devices", "bit", "bit"),
}
_POINTS = 400
_WIDE = 8.0


@dataclass(frozen=True)
class _Curve:
    """Mean accuracy over seeds with its interval, on the grid up to where the first run ends."""

    at: Array
    mean: Array
    low: Array
    high: Array


def accuracy(comparison: TrainingComparison, *, x: Cost = "seconds", ax: Any = None) -> Any:
    """Mean test accuracy over seeds with its 95 % t-interval; returns the Figure.

    Runs are step functions, read on one grid for all policies. A policy's curve ends where the
    first of its seeds ends, so every point is a mean over all seeds. One seed has no band. Costs
    that differ between policies by more than a factor of eight get a log axis.

    x: what is paid: ``seconds``, ``joules``, ``bits`` (cumulative), or ``round``.
    ax: axes to draw in.

    The title compares the two best policies at the largest cost that all runs reached, by the
    paired difference over seeds. Raises ValueError: ``x`` is none of the four, or no run spent any.

    Choose this when: you ask which policy learns more from the same time, energy or bits.
    """
    if x not in _COSTS:
        raise ValueError(f"x={x!r} must be one of {', '.join(_COSTS)}")
    curves = _curves(comparison, x)
    ranking = sorted(curves, key=lambda name: -curves[name].mean[-1])
    with _style.styled():
        own = ax is None
        ax = _style.own_axes(size=(8.4, 5.8)) if own else ax
        for index, name in enumerate(curves):
            _draw_curve(ax, curves[name], index, _ending(name, curves[name], x))
        _name_cost(ax, x, curves)
        _name_curves(ax, curves, ranking, own)
        _style.title(ax, _verdict(comparison, x, ranking), 70)
        tasks = [h.task for runs in comparison.runs.values() for h in runs]
        seeds = ",".join(str(s) for s in comparison.seeds)
        told = [f"{t.replace(' ', '')};seeds={seeds}" for t in dict.fromkeys(tasks)]
        return _style.stamp(_style.figure_of(ax), told)


def against(
    lines: Mapping[str, Mapping[float, statistics.Interval]],
    *,
    x: str,
    y: str,
    title: str = "",
    ax: Any = None,
) -> Any:
    """Means with their intervals against a setting, one line a name; returns the Figure.

    lines: name -> {setting: interval}. x, y: what the axes show, with unit. title: one sentence; by
    default who is highest at the last setting.

    Choose this when: a study was run at several loads, speeds or budgets.
    """
    if not lines or not all(lines.values()):
        raise ValueError("lines is empty; give at least one name with one setting")
    with _style.styled():
        ax = _style.own_axes(size=(8.4, 5.8)) if ax is None else ax
        for index, (name, line) in enumerate(lines.items()):
            at = np.array(list(line))
            mean, low, high = np.array([[i.mean, i.low, i.high] for i in line.values()]).T
            reach = [mean - low, high - mean] if np.isfinite(low).all() else None
            ax.errorbar(at, mean, yerr=reach, capsize=3, label=name, **_style.look(index))
        last = {n: (max(line), line[max(line)].mean) for n, line in lines.items()}
        best = max(last, key=lambda n: last[n][1])
        told = f"At {last[best][0]:g}, {best} is highest with {last[best][1]:.1f}."
        _style.title(ax, title or told, 70)
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
        return _style.figure_of(ax)


def _curves(comparison: TrainingComparison, x: Cost) -> dict[str, _Curve]:
    """Each policy on the common grid."""
    costs = {n: [h.spent(x) for h in runs] for n, runs in comparison.runs.items()}
    ends = {n: min(c[-1] for c in each) for n, each in costs.items()}
    longest = max(ends.values())
    if longest <= 0:
        raise ValueError(f"no run spent any {x}; choose another x")
    if x == "round":
        grid = np.arange(longest + 1)
    elif longest > _WIDE * min(ends.values()):
        first = min(c[c > 0].min() for each in costs.values() for c in each if c[-1] > 0)
        grid = np.geomspace(first, longest, _POINTS)
    else:
        grid = np.linspace(0, longest, _POINTS)
    return {
        name: _curve(costs[name], runs, np.append(grid[grid < ends[name]], ends[name]))
        for name, runs in comparison.runs.items()
    }


def _curve(costs: Sequence[Array], runs: Sequence[History], grid: Array) -> _Curve:
    pairs = zip(costs, runs)
    values = np.stack([statistics.accuracy_at(c, h.accuracy, grid) for c, h in pairs])
    intervals = [statistics.mean_interval(column) for column in values.T]
    low, high = np.array([[i.low, i.high] for i in intervals]).T
    return _Curve(grid, values.mean(0), low, high)


def _draw_curve(ax: Any, curve: _Curve, index: int, label: str) -> None:
    style = _style.look(index)
    if np.isfinite(curve.low).all():
        ax.fill_between(
            *(curve.at, np.maximum(curve.low, 0), np.minimum(curve.high, 1)),
            step="post", color=style["color"], alpha=0.15, linewidth=0,
        )  # fmt: skip
    every = _style.thinned(len(curve.at), 9)
    # Offsets keep the markers of neighbouring curves from lying on each other.
    marks = (index * every // 5 % every, every)
    ax.plot(curve.at, curve.mean, drawstyle="steps-post", markevery=marks, label=label, **style)


def _ending(name: str, curve: _Curve, x: Cost) -> str:
    spent, unit = curve.at[-1], _COSTS[x][2]
    if x != "round":
        unit, power = _labels.scaled(unit, curve.at[-1:])
        spent = spent / 10.0**power
    return f"{name}: {100 * curve.mean[-1]:.0f} % at {spent:.3g} {unit}"


def _name_cost(ax: Any, x: Cost, curves: dict[str, _Curve]) -> None:
    from matplotlib.ticker import PercentFormatter

    words, unit, _ = _COSTS[x]
    ends = np.array([c.at[-1] for c in curves.values()])
    ax.set_ylabel("test accuracy (%)")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
    start = min(c.at[0] for c in curves.values())
    ax.set_xscale("log" if start > 0 else "linear")
    _labels.name_axis(ax.xaxis, words, unit, ends)
    ax.set_xlim(left=start)
    ax.set_ylim(0, 1)


def _name_curves(ax: Any, curves: dict[str, _Curve], ranking: list[str], own: bool) -> None:
    """Next to the curves where they end together, else in a legend, best first."""
    ends = np.array([curves[n].at[-1] for n in ranking])
    if len(ranking) <= 8 and np.ptp(ends) <= 0.02 * ends.max():
        _label_ends(ax, curves, ranking)
        return
    drawn = [line for line in ax.get_lines() if not line.get_label().startswith("_")]
    handles = dict(zip(curves, drawn[-len(curves) :]))
    _style.legend(ax, [handles[n] for n in ranking], below=own, columns=2)


def _label_ends(ax: Any, curves: dict[str, _Curve], ranking: list[str]) -> None:
    heights = _labels.spread(np.array([curves[n].mean[-1] for n in ranking]), 0.062)
    numbers = {n: i for i, n in enumerate(curves)}
    for name, height in zip(ranking, heights):
        curve, colour = curves[name], _style.look(numbers[name])["color"]
        ax.annotate(
            f"{name} {100 * curve.mean[-1]:.0f} %",
            *((curve.at[-1], curve.mean[-1]), (1.03, height)),
            textcoords=ax.get_yaxis_transform(), va="center", color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkB": 0},
        )  # fmt: skip
    ax.set_xlim(0, max(c.at[-1] for c in curves.values()))


def _verdict(comparison: TrainingComparison, x: Cost, ranking: list[str]) -> str:
    """The two best at equal cost, by the paired difference over seeds."""
    if len(ranking) < 2:
        return ""
    budget = comparison.common(x)
    found = {n: comparison.at(n, budget, x) for n in ranking}
    first, second = sorted(ranking, key=lambda n: -found[n].mean())[:2]
    told, power = _labels.scaled(_COSTS[x][2], np.array([budget]))
    when = f"After {budget / 10.0**power:.3g} {told}"
    lead = statistics.paired_difference(found[first], found[second])
    points = f"{100 * lead.mean:.1f} points"
    if lead.count < 2:
        return f"{when} {first} is {points} ahead of {second} (one seed: no interval)"
    sure = "" if lead.low > 0 else ", which is not settled"
    return (
        f"{when} {first} is {points} ahead of {second} "
        f"(95 %: {100 * lead.low:.1f} to {100 * lead.high:.1f}, {lead.count} seeds){sure}"
    )


# -- who has what ----------------------------------------------------------------------------------


def who_has_what(task: Task, *, ax: Any = None) -> Any:
    """Clients x classes: how many training samples each client holds; returns the Figure.

    Numbers are written into the cells up to 20 clients and 20 classes; beyond, a colour bar tells
    them. The right edge gives each client's total.

    ax: axes to draw in.

    Choose this when: you want to see how far from iid a split is before you train on it.
    """
    counts = label_counts(task.clients, task.dataset.train_y, task.dataset.classes)
    clients, classes = counts.shape
    told = max(clients, classes) <= 20
    size = (min(2.6 + 0.62 * classes, 11.0), min(1.9 + 0.42 * clients, 9.0))
    with _style.styled():
        ax = _style.own_axes(size=size) if ax is None else ax
        ax.grid(False)
        image = ax.imshow(counts, cmap="Blues", aspect="auto", vmin=0)
        if told:
            _write_counts(ax, counts)
        else:
            ax.figure.colorbar(image, ax=ax, label="training samples")
        _name_clients(ax, counts, told)
        held = (counts > 0).sum(1).mean()
        sentence = f"A client holds {held:.1f} of {classes} classes on average ({task.name})"
        _style.title(ax, sentence, int(9.4 * size[0]) - 8)
        return _style.stamp(_style.figure_of(ax), [task.name.replace(" ", "")])


def _write_counts(ax: Any, counts: Array) -> None:
    light = 0.55 * counts.max()
    for (row, column), count in np.ndenumerate(counts):
        if count:
            ink = "white" if count > light else _style.INK
            ax.text(column, row, str(count), ha="center", va="center", color=ink, fontsize=12)


def _name_clients(ax: Any, counts: Array, told: bool) -> None:
    clients, classes = counts.shape
    ax.set_xlabel("class")
    ax.set_ylabel("client")
    if not told:
        return
    ax.set_xticks(np.arange(classes))
    ax.set_yticks(np.arange(clients))
    ax.tick_params(length=0)
    ax.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(clients + 1) - 0.5, minor=True)
    ax.grid(True, which="minor", color="white", linewidth=1.5)
    ax.tick_params(which="minor", length=0)
    totals = ax.secondary_yaxis("right")
    totals.set_yticks(np.arange(clients), [str(n) for n in counts.sum(1)])
    totals.tick_params(length=0, labelsize=12, labelcolor=_style.INK)
    totals.set_ylabel("training samples in all")
