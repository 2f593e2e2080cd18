"""A round of training as beam problems see it, and what the server does with a beam."""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.policy import Decision, Round
from rralloc.typing import Array, Point


def stated(round: Round) -> dict[str, Any]:
    """channel, noise_power, transmit_power; weaker transmitters count as farther away."""
    if round.channel is None:
        raise InvalidProblem(
            "the round has no complex channel, which a beam needs; train over fl.AirLink"
        )
    power = np.asarray(round.power_w)
    strongest = float(power.max())
    if not strongest > 0:
        raise InvalidProblem("no device has power (power_w = 0 everywhere): nobody can be heard")
    return {
        "channel": round.channel * np.sqrt(power / strongest),
        "noise_power": round.noise_psd_w_hz * round.bandwidth_hz,
        "transmit_power": strongest,
    }


def act(round: Round, x: Point, chosen: Array) -> Decision:
    """Who is chosen and has data sends; the aggregate is their weighted mean."""
    chosen = chosen & (round.share > 0)
    share = np.where(chosen, round.share, 0.0)
    return Decision(
        scheduled=chosen,
        weight=share / (share.sum() or 1.0),
        bandwidth_hz=np.where(chosen, round.bandwidth_hz, 0.0),
        power_w=np.broadcast_to(round.power_w, share.shape),
        x={**x, "selected": chosen},
    )
