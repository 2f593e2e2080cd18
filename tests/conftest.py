"""Test folders below share ``oracles`` and ``strategies``: put this folder on the path.

Every run is a proof that the tests need no network: the guard goes up before anything else.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "offline")]

from hypothesis import settings  # noqa: E402  # after the path
from no_network import install  # noqa: E402

install()
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("repeatable")
