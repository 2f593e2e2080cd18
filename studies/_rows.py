"""Long studies as rows of a table: each is written when it is done, and read back the next time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from rralloc.fl.statistics import Interval, paired_difference
from rralloc.typing import Array

Row = Mapping[str, Any]
"""What names a row: plain numbers and words."""
Measure = Callable[[Row], Mapping[str, float]]


def gathered(
    measure: Measure, rows: Sequence[Row], path: Path | None, pool: Executor | None
) -> Any:
    """``measure`` of every row as a DataFrame; what the file ``path`` holds already is not rerun.

    A row is known by its names alone, so these must carry every setting that matters. The file has
    one JSON object a line; a line cut off by an interrupt is measured again.
    """
    import pandas as pd

    done = _read(path)
    missing = [row for row in rows if _key(row) not in done]
    for row, found in _measured(measure, missing, pool):
        done[_key(row)] = dict(found)
        if path is not None:
            _append(path, json.dumps({"names": dict(row), "found": dict(found)}))
    return pd.DataFrame([{**row, **done[_key(row)]} for row in rows])


def column(table: Any, policy: str, name: str) -> Array:
    """A measurement of one policy by seed ``(seeds,)``, for pairs."""
    own = table[table.policy == policy].sort_values("seed")
    return np.asarray(own[name], dtype=float)


def lead(table: Any, policy: str, rival: str, name: str) -> Interval:
    """The policy minus its rival, paired over seeds."""
    return paired_difference(column(table, policy, name), column(table, rival, name))


def half(interval: Interval) -> float:
    """Half the width."""
    return (interval.high - interval.low) / 2


def _measured(
    measure: Measure, rows: Sequence[Row], pool: Executor | None
) -> Iterable[tuple[Row, Mapping[str, float]]]:
    if pool is None:
        yield from ((row, measure(row)) for row in rows)
        return
    waiting = {pool.submit(measure, row): row for row in rows}
    failed: BaseException | None = None
    for future in as_completed(waiting):
        if future.cancelled():
            continue
        if future.exception() is None:
            yield waiting[future], future.result()
        elif failed is None:  # what is running ends and is kept; the rest is not begun
            failed = future.exception()
            for other in waiting:
                other.cancel()
    if failed is not None:
        raise failed


def _key(row: Row) -> str:
    return json.dumps(dict(row), sort_keys=True)


def _append(path: Path, line: str) -> None:
    """A line of its own, whatever an interrupt has left at the end of the file."""
    with path.open("a+b") as stream:
        if stream.tell():
            stream.seek(-1, 2)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write(line.encode() + b"\n")


def _read(path: Path | None) -> dict[str, dict[str, float]]:
    if path is None or not path.exists():
        return {}
    found = {}
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[_key(row["names"])] = row["found"]
    return found
