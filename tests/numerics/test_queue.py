"""The virtual queue: against a slow loop, and the two promises of its docstring on every path."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rralloc.numerics.queue import ceiling, path, served


def loop(start, spent, budget):
    """One number after another."""
    backlog, out = start, [start]
    for energy in spent:
        backlog = max(backlog + energy - budget, 0.0)
        out.append(backlog)
    return out


amounts = st.lists(st.floats(0, 10), min_size=1, max_size=40)


@given(st.floats(0, 20), amounts, st.floats(0, 5))
def test_a_path_is_the_loop(start, spent, budget):
    spent = np.array(spent)
    expected = loop(start, spent, budget)
    assert path(np.array(start), spent, budget) == pytest.approx(expected, abs=1e-12)
    backlog = np.array(start)
    for energy, after in zip(spent, expected[1:], strict=True):
        backlog = served(backlog, energy, budget)
        assert backlog == after


@given(st.floats(0, 20), amounts, st.floats(0, 5))
def test_overspending_is_within_the_backlog(start, spent, budget):
    found = path(np.array(start), np.array(spent), budget)
    assert (found >= 0).all()
    overspent = np.cumsum(np.array(spent) - budget)
    assert (overspent <= found[1:] - start + 1e-12).all()


@given(st.floats(0, 20), amounts, st.floats(0.1, 5), st.floats(0, 10))
def test_a_rule_that_stops_has_a_bounded_backlog(start, wishes, budget, level):
    backlog = np.array(start)
    for wish in wishes:
        backlog = served(backlog, wish if backlog < level else 0.0, budget)
        assert backlog <= ceiling(np.array(start), np.array(level), max(wishes) - budget) + 1e-12


def test_devices_are_independent_and_a_budget_each_is_allowed():
    spent = np.random.default_rng(0).exponential(size=(50, 3))
    budget, start = np.array([0.5, 1.0, 2.0]), np.array([0.0, 4.0, 9.0])
    found = path(start, spent, budget)
    for n in range(3):
        assert found[:, n] == pytest.approx(loop(start[n], spent[:, n], budget[n]), abs=1e-12)
