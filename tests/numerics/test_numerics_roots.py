"""Elementwise roots against scipy's, and against decimals where doubles are the question."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import elementwise

from rralloc.numerics import bracketed_root

LEVELS = np.array([1e-12, 1e-3, 0.5, 1.0, 7.0, 1e6, 1e11])


def falling_log(x, target):
    return target - np.log1p(x), -1 / (1 + x)


def pole(x, target):
    return 1 / x - target, -1 / x**2


def steep(x, target):
    return -(x**9) + target, -9 * x**8


def flat(x, target):
    """e^-x: Newton creeps by one from the left, however far the root is."""
    return np.exp(-x) - target, -np.exp(-x)


def lying(x, target):
    """The slope is wrong by a factor of a million; only the bracket can be trusted."""
    return target - x, np.full_like(x, -1e-6)


@pytest.mark.parametrize(
    ("fun", "low", "high", "target"),
    [
        (falling_log, 0.0, 1e12, np.log1p(LEVELS)),
        (pole, 1e-13, 1e13, 1 / LEVELS),
        (steep, 0.0, 1e3, np.array([1e-12, 1e-3, 0.5, 1.0, 7.0, 1e6, 1e20])),
        (flat, 0.0, 1400.0, np.array([1.0, 0.5, 1e-5, 1e-50, 1e-200, 1e-300])),
        (lying, 0.0, 1e12, LEVELS),
    ],
    ids=["log", "pole", "steep", "flat", "wrong slope"],
)
def test_agrees_with_scipy(fun, low, high, target):
    ends = np.full(target.shape, low), np.full(target.shape, high)
    ours = bracketed_root(fun, *ends, target)
    theirs = elementwise.find_root(
        lambda x, t: fun(x, t)[0], ends, args=(target,), tolerances={"xrtol": 4e-16}, maxiter=3000
    )
    # scipy stops at f = 0 to its own fatol; the conditioning of the root sets what is comparable.
    value, slope = fun(theirs.x, target)
    blur = np.abs(value / slope) + 8e-16 * np.abs(target / slope)
    assert (np.abs(ours - theirs.x) <= 4e-15 * np.abs(theirs.x) + 2 * blur).all()


@pytest.mark.parametrize("spacing", ["linear", "log"])
def test_cube_roots_over_many_decades(spacing):
    target = 10.0 ** np.arange(-90, 91, 9)

    def cube(x, t):
        return t - x**3, -3 * x**2

    found = bracketed_root(
        cube, np.full(target.shape, 1e-40), np.full(target.shape, 1e40), target, spacing=spacing
    )
    if spacing == "linear":  # the arithmetic middle cannot see what is 1e-16 of the bracket ...
        assert found[10:] == pytest.approx(10.0 ** np.arange(0, 31, 3), rel=1e-15, abs=0)
    else:
        assert found == pytest.approx(10.0 ** np.arange(-30, 31, 3), rel=1e-15, abs=0)


def test_ends_are_answers_when_the_root_lies_outside():
    low, high = np.array([1.0, 1.0]), np.array([2.0, 2.0])
    found = bracketed_root(lambda x, t: (t - x, -np.ones_like(x)), low, high, np.array([0.0, 5.0]))
    assert found == pytest.approx([1.0, 2.0], rel=1e-15)


def test_lanes_do_not_see_each_other():
    target = np.log1p(LEVELS)
    low, high = np.zeros(target.size), np.full(target.size, 1e12)
    together = bracketed_root(falling_log, low, high, target)
    alone = [bracketed_root(falling_log, low[:1], high[:1], t[None])[0] for t in target]
    assert together.tolist() == alone


def test_inputs_stay_as_they_were():
    low, high = np.zeros(2), np.ones(2)
    low.setflags(write=False)
    high.setflags(write=False)
    bracketed_root(falling_log, low, high, np.array([0.1, 0.2]))
    assert low.tolist() == [0, 0]
    assert high.tolist() == [1, 1]


@given(st.floats(1e-6, 1e6), st.floats(1.0, 12.0))
def test_powers(root, power):
    def fun(x):
        return 1 - (x / root) ** power, -power * (x / root) ** power / x

    found = bracketed_root(fun, np.array([1e-7]), np.array([1e7]), spacing="log")
    assert math.isclose(found[0], root, rel_tol=1e-14)
