"""Hypothesis strategies: channels over many decades, and instances of the small problems."""

from __future__ import annotations

from functools import partial

import numpy as np
from hypothesis import strategies as st

from rralloc.problems import (
    DeviceCount,
    FDMARate,
    FEELScheduling,
    InverseWaterFilling,
    MinMaxLatency,
    WaterFilling,
)

SMALL = (WaterFilling, InverseWaterFilling, FDMARate, FEELScheduling, MinMaxLatency, DeviceCount)


def decades(low, high):
    """Positive numbers, uniform in their exponent."""
    return st.floats(low, high).map(lambda e: 10.0**e)


def rows(values, size, batch=()):
    """Arrays ``(*batch, size)`` of such values."""
    count = int(np.prod((*batch, size)))
    column = st.lists(values, min_size=count, max_size=count)
    return column.map(lambda v: np.array(v).reshape(*batch, size))


sizes = st.integers(1, 5)
batches = st.sampled_from([(), (1,), (3,), (2, 2)])
gains = decades(-18, 6)


@st.composite
def _instance(draw, cls, fields, batch):
    size, lead = draw(sizes), draw(batch)
    return cls(**{name: draw(make(size, lead)) for name, make in fields.items()})


def _devices(values):
    return lambda size, lead: rows(values, size, lead)


def _whole(values):
    """One value for each instance: ``rows`` with the batch as its only axes."""
    return lambda size, lead: rows(values, 1, lead).map(lambda v: v[..., 0])


def _problem(cls, fields):
    """A strategy of instances; ``batch`` is a strategy of batch shapes."""
    return lambda batch=batches: _instance(cls, fields, batch)


_uplink = {
    "path_gain": _devices(decades(-14, -7)),
    "compute_s": _devices(st.floats(0, 1)),
    "payload_bit": _devices(decades(3, 7)),
    "power_w": _devices(decades(-2, 0)),
    "bandwidth_budget_hz": _whole(decades(5, 8)),
}
water_filling = _problem(
    WaterFilling, {"gain": _devices(gains), "power_budget_w": _whole(decades(-6, 6))}
)
inverse_water_filling = _problem(
    InverseWaterFilling, {"gain": _devices(decades(-9, 6)), "rate_target": _whole(decades(-6, 2))}
)
fdma_rate = _problem(
    FDMARate,
    {
        "snr_bandwidth_hz": _devices(decades(-6, 12)),
        "bandwidth_budget_hz": _whole(decades(0, 9)),
        "weight": _devices(decades(-2, 2)),
    },
)
feel_scheduling = _problem(
    FEELScheduling,
    {
        "importance": _devices(decades(-6, 2)),
        "latency_s": _devices(decades(-4, 3)),
        "tradeoff": _whole(st.one_of(decades(-9, 0), st.just(1.0))),
    },
)
min_max_latency = _problem(MinMaxLatency, _uplink)
device_count = _problem(
    DeviceCount,
    _uplink
    | {"rounds_base": _whole(st.floats(1, 100)), "rounds_per_device": _whole(decades(0, 3))},
)
by_class = dict(
    zip(
        SMALL,
        (
            water_filling,
            inverse_water_filling,
            fdma_rate,
            feel_scheduling,
            min_max_latency,
            device_count,
        ),
    )
)
single = {cls: partial(make, st.just(())) for cls, make in by_class.items()}


def shows(value, printed):
    """Whether each value, rounded, is what the specification prints (numbers between blanks)."""
    values, texts = np.atleast_1d(value), printed.split()
    assert values.size == len(texts)
    for found, text in zip(values.ravel(), texts):
        unit = 10.0 ** -len(text.partition(".")[2])
        assert abs(found - float(text)) <= 0.5001 * unit, f"{found!r} is printed as {text}"
    return True
