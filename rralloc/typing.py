"""The two array types that appear everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
"""A NumPy array; shapes are in the docstrings, leading axes ``(...)`` are the batch."""

Point: TypeAlias = Mapping[str, Array]
"""Variable name -> array ``(..., axes)`` in the unit that the variable declares."""

Witness: TypeAlias = Mapping[str, Any]
"""Price, dual vector or cell tree with leading batch axes; ``problem.bound`` evaluates it."""

Field: TypeAlias = Any
"""A data field: anything array-like goes in, a read-only array comes out.

No narrower type says both to a type checker: frozen dataclasses and descriptors do not mix there.
"""
