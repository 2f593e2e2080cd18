"""Who is heard along one beam, against how strong each is by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rralloc.plot import _labels, _style
from rralloc.solution import Solution
from rralloc.typing import Array

FLOOR_DB = -40.0
"""Gains below this are drawn here."""


def served(sol: Solution | Mapping[str, Solution], *, ax: Any = None) -> Any:
    """Gain along the beam against the device's own strength, both over the threshold, in dB.

    sol: one ``Solution`` of an ``OTASelection`` instance, or several as ``{label: solution}``. ax:
        axes to draw in.

    No beam lifts a device above the diagonal; who is above 0 dB is served, errors of channels and
    clocks apart. Markers of devices that are not are hollow. Raises ValueError: a batch, or a
    problem without beam gains.

    Choose this when: you want to see who is given up, and whether strength alone decides it.
    """
    solutions = _style.labelled(sol)
    with _style.styled():
        ax = _style.own_axes(size=(7.2, 5.6)) if ax is None else ax
        edge = [np.inf, -np.inf]
        for index, (label, one) in enumerate(solutions.items()):
            strength, gain, chosen = _data(one)
            edge = [min(edge[0], *strength), max(edge[1], *strength)]
            style = _style.look(index) | {"linestyle": "none"}
            told = f"{label}: {chosen.sum()} of {chosen.size}"
            ax.plot(strength[chosen], gain[chosen], label=told, **style)
            ax.plot(strength[~chosen], gain[~chosen], fillstyle="none", label="_", **style)
        line = np.array([edge[0] - 1, edge[1] + 1])
        ax.plot(line, line, color=_style.FAINT, linestyle=":", label="all of its strength")
        ax.axhline(0.0, color=_style.INK, linewidth=1.2)
        ax.set_xlim(*line)
        ax.set_xlabel("own strength over the threshold, dB")
        ax.set_ylabel("gain along the beam over the threshold, dB")
        ax.legend(loc="best")
        return _style.stamp(_style.figure_of(ax), _style.digests(solutions))


def _data(sol: Solution) -> tuple[Any, Any, Any]:
    problem: Any = sol.problem
    known = hasattr(problem, "columns") and hasattr(problem, "gain")
    if not known or problem.batch_shape or problem.columns.ndim != 2:
        raise ValueError("served draws one instance of OTASelection; index a batch, sol.problem[i]")
    strength = (np.abs(problem.columns) ** 2).sum(0)
    gain = problem.gain(sol.x["beamformer"])
    chosen = np.asarray(problem.served(sol.x["beamformer"]), dtype=bool)
    return _level(strength), _level(gain), chosen


def _level(power: Array) -> Array:
    """In dB, at least the floor."""
    return np.nan_to_num(np.maximum(_labels.decibel(power), FLOOR_DB), nan=FLOOR_DB)
