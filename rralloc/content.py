"""A hash of what a thing is made of, the same in every process: finished work is known by it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np


def content(thing: Any) -> str:
    """Hash of what a thing is made of: fields of dataclasses, bytes of arrays, names of classes.

    Raises ValueError: something in it does not tell its settings (its repr is an address).
    """
    known: str | None = None if isinstance(thing, type) else getattr(thing, "digest", None)
    if known is not None:
        return known
    if isinstance(thing, np.ndarray):
        body = hashlib.sha256(np.ascontiguousarray(thing).tobytes()).hexdigest()
        parts = [f"{thing.dtype}{thing.shape}", body]
    elif isinstance(thing, Mapping):
        parts = [content(entry) for entry in sorted(thing.items(), key=lambda e: str(e[0]))]
    elif isinstance(thing, tuple | list):
        parts = [content(entry) for entry in thing]
    elif is_dataclass(thing) and not isinstance(thing, type):
        stated = [item for item in fields(thing) if item.init]  # the rest follows from these
        parts = [f"{item.name}={content(getattr(thing, item.name))}" for item in stated]
    elif isinstance(thing, type):
        parts = [thing.__module__]
    elif isinstance(thing, FunctionType):
        parts = [thing.__module__, *_code(thing)]
    elif isinstance(thing, partial):
        parts = [content((thing.func, thing.args, thing.keywords))]
    else:
        parts = [repr(thing)]
        if " at 0x" in parts[0]:
            raise ValueError(f"the repr of {type(thing).__name__} does not tell its settings")
    named = isinstance(thing, type | FunctionType)
    name = thing.__qualname__ if named else type(thing).__qualname__
    return hashlib.sha256("|".join([name, *parts]).encode()).hexdigest()


def _code(function: FunctionType) -> list[str]:
    """What a function does, if its name and its own code say all of it."""
    module = sys.modules.get(function.__module__)
    known = getattr(module, function.__qualname__, None) is function
    if not known or function.__closure__ or hasattr(function, "__wrapped__"):
        raise ValueError(
            f"function {function.__qualname__} is known by its name alone or holds more than its "
            "code; define it at the top of a module, or use functools.partial of such a one"
        )
    code = function.__code__
    plain = [c for c in code.co_consts if isinstance(c, int | float | str | bytes)]
    return [hashlib.sha256(code.co_code).hexdigest(), repr(plain), repr(code.co_names)]
