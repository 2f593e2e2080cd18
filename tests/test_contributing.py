"""CONTRIBUTING's code blocks run, and the problem it shows passes the check it prescribes."""

import re
from pathlib import Path

import pytest

import rralloc as rr
from rralloc import testing
from rralloc.problems import WaterFilling

BLOCKS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(), re.S
)


def names(word):
    """The namespace of the block that defines ``word``."""
    for block in BLOCKS:
        space = {}
        exec(block, space)
        if word in space:
            return space[word]
    raise AssertionError(f"no block defines {word}")


def test_the_problem_shown_is_a_problem():
    problem = names("LogUtility")(weight=[1.0, 2.0], budget_hz=1e6)
    assert "smooth" in testing.check(problem)
    sol = rr.solve(problem)
    assert sol.bandwidth_hz == pytest.approx([1e6 / 3, 2e6 / 3], rel=1e-4)  # shares ~ weights


def test_the_solver_shown_is_a_solver():
    sol = rr.solve(WaterFilling.random(K=4, rng=0), names("FirstGuess"))
    assert sol.status >= rr.Status.FEASIBLE
