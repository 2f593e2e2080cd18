"""Figures: an allocation, how solvers got there, what it buys in training, who is where.

Every function takes existing axes or makes its own figure, and returns the matplotlib ``Figure``:

    >>> import rralloc as rr
    >>> from rralloc.problems import MinMaxLatency
    >>> sol = rr.solve(MinMaxLatency.random(K=20, batch=200, rng=0))
    >>> rr.plot.save(rr.plot.allocation(sol), "allocation.png")  # doctest: +SKIP

====================  ===========================================================
``allocation``        a variable against channel state, one or several solvers
``convergence``       objective and gap over seconds or iterations
``time_against_gap``  solvers of a table: seconds spent against gap proven
``profile``           share of cases solved: performance and data profiles of solvers
``regret``            which solver to use where, over two statistics of the channel
``against``           means with intervals against a setting of the study
``accuracy``          test accuracy over seconds, joules, bits or rounds
``who_has_what``      clients x classes, how many samples
``winners``           who is best where, over two settings of a study
``served``            gain along one beam against each device's strength
``cell``              devices on the map
``contact_map``       paths of moving devices, and the discs in which they are in contact
``contact_timeline``  a row for each device, a bar while it is in contact
``save``              PNG, SVG or PDF that names the scenario it shows
====================  ===========================================================

No function shows a window or changes ``matplotlib.rcParams``. matplotlib is imported when the
first figure is made, not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rralloc.plot._allocation import allocation
    from rralloc.plot._contacts import contact_map, contact_timeline
    from rralloc.plot._convergence import convergence
    from rralloc.plot._map import cell
    from rralloc.plot._profiles import profile, regret
    from rralloc.plot._served import served
    from rralloc.plot._solvers import time_against_gap
    from rralloc.plot._style import save
    from rralloc.plot._training import accuracy, against, who_has_what
    from rralloc.plot._winners import winners

__all__ = [
    "accuracy",
    "against",
    "allocation",
    "cell",
    "contact_map",
    "contact_timeline",
    "convergence",
    "profile",
    "regret",
    "save",
    "served",
    "time_against_gap",
    "who_has_what",
    "winners",
]

_HOME = {
    "accuracy": "_training",
    "against": "_training",
    "allocation": "_allocation",
    "cell": "_map",
    "contact_map": "_contacts",
    "contact_timeline": "_contacts",
    "convergence": "_convergence",
    "profile": "_profiles",
    "regret": "_profiles",
    "save": "_style",
    "served": "_served",
    "time_against_gap": "_solvers",
    "who_has_what": "_training",
    "winners": "_winners",
}


def __getattr__(name: str) -> Any:
    """Load a figure family on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'rralloc.plot' has no attribute {name!r}")
    return getattr(import_module(f"rralloc.plot.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
