"""One seed, many independent random streams, each with a name.

    key(name, i, j, ...) = (sha256(name)[0:8] as two 32-bit words, i, j, ...)
    stream(seed, key)    = PCG64(SeedSequence(entropy=seed, spawn_key=key))

The numbers of a stream depend on its seed, name and indices only. Asking for another stream,
earlier or later, here or in another process, never changes them. Two schemes that are compared
with the same seed therefore see the same data, the same clients and the same channel in round t,
even when one of them draws more numbers: this is what makes a paired comparison paired.

Python's own `hash` of a string differs from process to process, which is why sha256 is used.
"""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass

import numpy as np

_SEED_LIMIT = 2**64
# SeedSequence cuts a number into 32-bit words. An index of two words would read like two indices.
_INDEX_LIMIT = 2**32


@dataclass(frozen=True)
class Streams:
    """All random streams of one experiment, derived from one `seed` (0 <= seed < 2**64).

    Names used by the library: "data", "partition", "init", "batch", "channel", "policy" and
    "link". Any other non-empty name gives one more independent stream.

    Choose this when: an experiment has more than one source of randomness and a change in one
    of them (say, a scheduler that draws its own numbers) must leave the others as they were.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", _integer("seed", self.seed, _SEED_LIMIT))

    def rng(self, name: str, *indices: int) -> np.random.Generator:
        """A fresh generator at the start of the stream (name, *indices).

        `indices` count rounds, clients, repetitions, ...: `rng("batch", t)` is the stream of
        round t. Calling twice with the same arguments gives the same numbers twice.

        Raises ValueError: `name` is empty or an index is not an integer in [0, 2**32).
        """
        if not isinstance(name, str) or not name:
            raise ValueError(f"name={name!r} must be a non-empty string such as 'channel'.")
        tail = tuple(_integer(f"indices[{i}]", v, _INDEX_LIMIT) for i, v in enumerate(indices))
        sequence = np.random.SeedSequence(self.seed, spawn_key=(*_name_words(name), *tail))
        return np.random.default_rng(sequence)


def _name_words(name: str) -> tuple[int, int]:
    """The first 8 bytes of sha256(name) as two 32-bit words, always two."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def _integer(label: str, value: object, limit: int) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # refusing others is its job
    except TypeError:
        number = -1
    if not 0 <= number < limit:
        raise ValueError(
            f"{label}={value!r} must be an integer in [0, {limit}); pass a whole number."
        )
    return number
