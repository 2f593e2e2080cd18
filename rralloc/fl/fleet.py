"""Where the devices of a training run are: each at the server's weights, or on its own way.

    heard in round t      w_k <- w              (the server's, after its step)
    out of contact        w_k <- w_k - eta update_k
    theta_k               rounds of training since device k took the server's weights

As long as everybody hears every round there is one w and nothing to keep. Source: mads.md §2.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rralloc.typing import Array

if TYPE_CHECKING:
    from rralloc.fl.updates import Updates


class Fleet:
    """The local models of K devices, and how stale they are."""

    def __init__(self, w: Array, devices: int) -> None:
        self.weights = w
        """``(d,)`` while all are at the same place, else ``(K, d)``."""
        self.staleness = np.ones(devices)
        """theta ``(K,)`` of the update that is computed now: 1 for who heard the last round."""

    def move(self, w: Array, updates: Updates, heard: Array) -> None:
        """After the server's step to w: who heard it is there, the others walked on alone."""
        if heard.all():
            self.weights = w
        else:
            own = self.weights - updates.task.learning_rate * updates.rows
            self.weights = np.where(heard[:, None], w, own)
        self.staleness = np.where(heard, 1.0, self.staleness + 1.0)
