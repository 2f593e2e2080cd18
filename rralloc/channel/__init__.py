"""The wireless channel: units, path loss, fading, outage, and where the devices are.

The received SNR of a device is a product, and each factor has a module:

    snr = p · g(d) · X / (N0 b)

with transmit power p in W, path gain g at distance d in m (:mod:`~rralloc.channel.pathloss`,
distances from :mod:`~rralloc.channel.geometry`), fade X of mean one
(:mod:`~rralloc.channel.fading`), noise density N0 in W/Hz (:mod:`~rralloc.channel.units`) and
bandwidth b in Hz. The probability that X is too small for a packet is in
:mod:`~rralloc.channel.outage`. How long devices can be reached is in
:mod:`~rralloc.channel.contacts`, models of motion in :mod:`~rralloc.channel.mobility`, recorded
motion in :mod:`~rralloc.channel.tracks`. What several antennas receive from a direction is in
:mod:`~rralloc.channel.arrays`.

Everything is linear and in SI units; dB appears only in names that end in ``_db`` or ``_dbm``.
Arrays have shape ``(..., K)``: K devices last, any batch before; a scalar gives a scalar. NaN is
refused and never returned. Importing the package needs NumPy alone.
"""

from __future__ import annotations

from rralloc.channel.arrays import array_response, rician_array
from rralloc.channel.contacts import Contacts, contacts_of
from rralloc.channel.fading import (
    nakagami,
    rayleigh,
    rayleigh_coefficients,
    rician,
    rician_coefficients,
)
from rralloc.channel.geometry import GOLDEN_ANGLE_RAD, Cell, Placement
from rralloc.channel.mobility import (
    MEAN_DISTANCE_IN_UNIT_SQUARE,
    ExponentialContacts,
    ManhattanGrid,
    Mobility,
    RandomWaypoint,
    RecordedMotion,
    StraightRoad,
)
from rralloc.channel.motion import Discs, Track
from rralloc.channel.outage import (
    nakagami_outage,
    outage_threshold,
    rayleigh_log_success,
    rayleigh_outage,
    rician_outage,
)
from rralloc.channel.pathloss import (
    SPEED_OF_LIGHT_M_PER_S,
    free_space,
    log_distance,
    macro_3gpp,
    with_shadowing,
)
from rralloc.channel.tracks import (
    NY_HARBOR_WEEK,
    THE_BATTERY,
    Recording,
    clean_tracks,
    local_metres,
    read_ais,
    read_csv,
    read_sumo,
    read_traj,
)
from rralloc.channel.traffic import CityTraffic
from rralloc.channel.units import (
    NOISE_PSD_W_PER_HZ,
    db_to_linear,
    dbm_to_watt,
    linear_to_db,
    watt_to_dbm,
)

__all__ = [
    "GOLDEN_ANGLE_RAD",
    "MEAN_DISTANCE_IN_UNIT_SQUARE",
    "NOISE_PSD_W_PER_HZ",
    "NY_HARBOR_WEEK",
    "SPEED_OF_LIGHT_M_PER_S",
    "THE_BATTERY",
    "Cell",
    "CityTraffic",
    "Contacts",
    "Discs",
    "ExponentialContacts",
    "ManhattanGrid",
    "Mobility",
    "Placement",
    "RandomWaypoint",
    "RecordedMotion",
    "Recording",
    "StraightRoad",
    "Track",
    "array_response",
    "clean_tracks",
    "contacts_of",
    "db_to_linear",
    "dbm_to_watt",
    "free_space",
    "linear_to_db",
    "local_metres",
    "log_distance",
    "macro_3gpp",
    "nakagami",
    "nakagami_outage",
    "outage_threshold",
    "rayleigh",
    "rayleigh_coefficients",
    "rayleigh_log_success",
    "rayleigh_outage",
    "read_ais",
    "read_csv",
    "read_sumo",
    "read_traj",
    "rician",
    "rician_array",
    "rician_coefficients",
    "rician_outage",
    "watt_to_dbm",
    "with_shadowing",
]
