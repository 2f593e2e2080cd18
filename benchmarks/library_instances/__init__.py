"""The instances of the library: each with the regime it is from and what goes wrong there.

A line in one of the modules is all that a new instance needs; ``library.py`` solves it by every
solver that applies and writes the file. Data are the specification's acceptance sets where there
are some, else seeded draws of ``Problem.random``; no seed was chosen for a small gap.
"""

from __future__ import annotations

from collections.abc import Iterator

from library_instances.air import multicast, over_the_air
from library_instances.classics import classics
from library_instances.draft import Draft
from library_instances.links import interference, power_control
from library_instances.mads import horizons, mads
from library_instances.spfl import spfl
from library_instances.textbook import textbook

FAMILIES = (
    *(classics, textbook, interference, power_control, spfl, mads, horizons),
    *(over_the_air, multicast),
)


def drafts() -> Iterator[Draft]:
    """Every instance of the library."""
    for family in FAMILIES:
        yield from family()
