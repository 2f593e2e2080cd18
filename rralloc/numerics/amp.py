"""Approximate message passing: a sparse vector from fewer noisy projections than it has entries.

    y = A x0 + n,      A (s, d) with s < d, entries i.i.d. of mean 0 and variance 1/s, x0 sparse

    r = y, x = 0, and again and again
        theta = a |r|/sqrt(s)                 |r|^2/s: the variance sigma^2 of the errors of p
        p     = x + A' r                      about x0 + N(0, sigma^2) in each entry
        x     = soft(p, theta)                sign(p) max(|p| - theta, 0)
        r     = y - A x + r |x|_0/s           the last term keeps the errors of p Gaussian

What it found can be *worse than nothing*: with s/d = 0.1 and an SNR of 0 dB the squared error is
two to four times |x0|^2. Since p is x0 plus Gaussian noise, Stein's lemma says how far to trust x:

    <x, x - x0> = sigma^2 |x|_0 - <x, p - x>  =  sigma^2 |x|_0 - theta |x|_1      in expectation

and the multiple c x nearest to x0 has c = <x, x0>/|x|^2 = 1 - <x, x - x0>/|x|^2 (``guarded``).

Source: spec ota.md §5 (the iteration); Donoho, Maleki and Montanari, PNAS 2009. The guard: derived.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.typing import Array

DIVERGED = 1e3
"""A residual this many times that of x = 0 ends the search; the best x so far is kept."""


class Amp(NamedTuple):
    """The vector found, how much of its energy is noise, and the iterations made.

    noise: estimate of <x, x - x0> for the true x0, plus one standard error; negative where
        thresholding took more away than noise put in.
    """

    x: Array
    noise: float
    steps: int


def amp(A: Array, y: Array, *, threshold: float = 1.4, steps: int = 50, tol: float = 1e-4) -> Amp:
    """A sparse x with A x near y: A ``(s, d)`` with columns of norm about 1, y ``(s,)``.

    threshold: a > 0. 1.4 is a compromise: 1.2 is best at 20 dB, 1.7 at 0 dB, and 2.5 spoils what
        20 dB would give. steps: the most iterations, two products with A each. tol: stops when x
        moves by less, relatively.

    The iterate with the smallest |y - A x| is kept. One that had no iteration (y = 0) is 0.

    Choose this when x has at most about 0.2 s entries; it costs a thousandth of a linear program.
    """
    A, y = _checked(A, y, threshold, steps)
    s, d = A.shape
    scale = float(np.abs(y).max())
    if scale == 0.0:
        return Amp(np.zeros(d), 0.0, 0)
    y = y / scale
    x, r, best, least = np.zeros(d), y, Amp(np.zeros(d), 0.0, 0), np.inf
    limit = DIVERGED * float(np.linalg.norm(y))
    for step in range(1, steps + 1):
        # 1. The errors of p = x + A' r have variance |r|^2/s.
        sigma = float(np.linalg.norm(r)) / np.sqrt(s)
        theta = threshold * sigma
        # 2. Cut what could be noise.
        before, p = x, x + r @ A
        x = np.sign(p) * np.maximum(np.abs(p) - theta, 0.0)
        # 3. What is unexplained, and the correction that keeps the next errors Gaussian.
        support = int(np.count_nonzero(x))
        unexplained = y - A @ x
        r = unexplained + r * (support / s)
        # 4. Keep the best, with what Stein's lemma says of it.
        size = float(np.linalg.norm(unexplained))
        if size < least:
            noise = sigma**2 * support - theta * float(np.abs(x).sum())
            error = sigma * float(np.linalg.norm(x))
            least, best = size, Amp(x, noise + error, step)
        moved = float(np.linalg.norm(x - before))
        if moved <= tol * float(np.linalg.norm(x)) or size > limit:
            break
    return Amp(best.x * scale, best.noise * scale**2, step)


def guarded(found: Amp) -> Array:
    """x shrunk by max(0, 1 - noise/|x|^2), never above 1: to 0 where it is all noise.

    The error is then at most that of 0, up to how well the noise is known. Where x is good, this
    changes it by less than its error.

    Choose this always, unless the SNR is known to be high.
    """
    energy = float(found.x @ found.x)
    if energy == 0.0:
        return found.x
    return found.x * min(max(1.0 - found.noise / energy, 0.0), 1.0)


def _checked(A: Array, y: Array, threshold: float, steps: int) -> tuple[Array, Array]:
    A, y = np.asarray(A, dtype=float), np.asarray(y, dtype=float)
    if A.ndim != 2 or A.size == 0 or y.shape != A.shape[:1]:
        raise InvalidProblem(f"amp: A has shape {A.shape} and y {y.shape}; give (s, d) and (s,)")
    if not np.isfinite(y).all():
        raise InvalidProblem("amp: y has entries that are not finite; there is nothing to recover")
    if not 0 < threshold < np.inf or steps < 1:
        raise InvalidProblem(
            f"amp: threshold = {threshold}, steps = {steps}; give a threshold > 0 and steps >= 1"
        )
    return A, y
