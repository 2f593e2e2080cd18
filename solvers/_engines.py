"""What the adapters of modelling languages share: built models kept for reuse, and silence."""

from __future__ import annotations

import logging
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from rralloc.errors import NotOffered
from rralloc.forms import Backend, Handle, Model
from rralloc.problem import Problem
from rralloc.typing import Point


def model_for(problem: Problem, backend: Backend) -> Model:
    """The problem's ``Model`` form, refused where it cannot be built for this backend."""
    form = problem.view(Model)
    if backend not in form.backends:
        has, why = ", ".join(form.backends), f": {form.reason}" if form.reason else ""
        name = type(problem).__name__
        raise NotOffered(f"{name} has a model for {has} only, not for {backend}{why}")
    return form


class Handles(threading.local):
    """Built models of one thread, one for each structure; the least recently used goes first.

    A model is out of the cache while it is in use and returns only if nothing was raised, so a
    half-assigned model is never met again and a solve inside a solve gets a model of its own.
    """

    def __init__(self, limit: int = 16) -> None:
        self.limit = limit
        self._held: OrderedDict[Any, tuple[Handle, Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    @contextmanager
    def borrow(
        self,
        problem: Problem,
        form: Model,
        backend: Backend,
        prepare: Callable[[Handle], Any],
    ) -> Iterator[tuple[Handle, Any]]:
        """The handle of ``form.key`` and what ``prepare`` returned when it was built."""
        # The class is part of the key: redefined in a notebook, it must not meet its old model.
        key = type(problem), form.key, backend
        entry = self._held.pop(key, None)
        if entry is None:
            handle = form.build(backend)
            entry = handle, prepare(handle)
        yield entry
        self._held[key] = entry
        while len(self._held) > self.limit:
            self._held.popitem(last=False)


def finite(x: Point) -> bool:
    """Whether every value of a point is there and finite."""
    arrays = [np.asarray(v) for v in x.values()]
    return all(a.dtype != object and bool(np.isfinite(a).all()) for a in arrays)


@contextmanager
def quiet(logger: str | None = None) -> Iterator[None]:
    """No warnings and no log records below CRITICAL: what they say is in the solution instead."""
    log = logging.getLogger(logger) if logger else None
    level = log.level if log else 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if log:
                log.setLevel(logging.CRITICAL)
            yield
        finally:
            if log:
                log.setLevel(level)
