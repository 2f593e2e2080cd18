"""The transmit scaling of least error: against a dense grid, symbols and hand calculations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rralloc.numerics.air import least_error

SEEDS = pytest.mark.parametrize("seed", range(4))


def scaled(c, phi, power, noise):
    """The same with c = |m^H h| and the power apart."""
    return least_error(np.sqrt(power)[..., None] * c, phi, noise)


def error(z, c, phi, power, noise):
    """MSE of the sum, device by device: amplitude b <= sqrt(P), receiver gain z."""
    total = noise * z * z
    for heard, target in zip(c, phi, strict=True):
        b = math.sqrt(power)
        if z * heard > 0:
            b = min(b, target / (z * heard))
        total += (z * heard * b - target) ** 2
    return total


def on_a_grid(c, phi, power, noise, points=20001):
    """Least MSE on a grid up to where the last device inverts; it is convex, so zoom in twice."""
    high = max(
        (p / (math.sqrt(power) * h) for h, p in zip(c, phi, strict=True) if h > 0), default=0
    )
    grid = np.linspace(0, high, points)
    for _ in range(2):
        short = np.maximum(phi - grid[:, None] * math.sqrt(power) * c, 0)
        at = int(((short**2).sum(1) + noise * grid**2).argmin())
        grid = np.linspace(grid[max(at - 1, 0)], grid[min(at + 1, points - 1)], points)
    return error(grid[points // 2], c, phi, power, noise)


@SEEDS
def test_scaling_against_a_grid(seed):
    rng = np.random.default_rng(seed)
    shape, scale = (3, 4, 7), 10.0 ** rng.uniform(-2, 2, (3, 4))
    c, phi = rng.rayleigh(size=shape) * scale[..., None], rng.uniform(0.1, 3, shape)
    power, noise = rng.uniform(0.1, 5, (3, 4)), 10.0 ** rng.uniform(-4, 2, (3, 4))
    found = scaled(c, phi, power, noise)
    assert found.scale.shape == found.mse.shape == (3, 4)
    for i in np.ndindex(3, 4):
        ours = error(found.scale[i], c[i], phi[i], power[i], noise[i])
        assert found.mse[i] == pytest.approx(ours, rel=1e-12)
        grid = on_a_grid(c[i], phi[i], power[i], noise[i])
        assert found.mse[i] <= grid * (1 + 1e-12)
        assert found.mse[i] == pytest.approx(grid, rel=1e-7)


def test_scaling_beats_full_inversion():
    """Inversion for all is z = max phi/(sqrt(P) c): a point of the same curve, rarely the best."""
    rng = np.random.default_rng(5)
    c, phi = rng.rayleigh(size=(50, 8)), np.ones((50, 8))
    found = scaled(c, phi, np.ones(50), np.ones(50))
    inversion = (phi / c).max(-1) ** 2
    assert (found.mse <= inversion * (1 + 1e-12)).all()
    assert found.mse.mean() < 0.5 * inversion.mean()


def test_scaling_of_one_device_by_hand():
    """z = sqrt(P) phi c/(P c^2 + noise), error phi^2 noise/(P c^2 + noise)."""
    found = scaled(np.array([2.0]), np.array([3.0]), np.array(0.5), np.array(4.0))
    assert found.scale == pytest.approx(math.sqrt(0.5) * 6 / 6)
    assert found.mse == pytest.approx(9 * 4 / 6)


def test_scaling_in_symbols():
    """The MSE is that of symbols: E|s|^2 = 1, b at most sqrt(P), 2e5 of them, 1 %."""
    rng = np.random.default_rng(2)
    c, phi, power, noise = rng.rayleigh(size=5), rng.uniform(0.5, 2, 5), 0.7, 0.4
    z, mse = scaled(c, phi, np.array(power), np.array(noise))
    b = np.minimum(math.sqrt(power), phi / (z * c))
    s, n = (
        (rng.standard_normal((k, 200000)) + 1j * rng.standard_normal((k, 200000))) / math.sqrt(2)
        for k in (5, 1)
    )
    got = z * ((c * b) @ s + math.sqrt(noise) * n[0])
    assert np.mean(np.abs(got - phi @ s) ** 2) == pytest.approx(mse, rel=0.01)


@pytest.mark.parametrize(
    ("c", "phi", "noise", "mse"),
    [
        ([0.0, 0.0], [1.0, 2.0], 1.0, 5.0),  # nobody is heard
        ([0.0, 0.0], [1.0, 2.0], 0.0, 5.0),
        ([0.0, 1.0], [2.0, 1.0], 0.0, 4.0),  # no noise: what is heard is right
        ([0.3, 1.0, 5.0], [1.0, 1.0, 1.0], 0.0, 0.0),
        ([0.0, 1.0], [2.0, 3.0], 1.0, 4.0 + 9.0 / 2),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 14.0, 14.0 / 2),  # equal ratios: all or none fall short
        ([1e-8, 2e-8], [1.0, 2.0], 5e-16, 5.0 / 2),
        ([1e8, 2e8], [1.0, 2.0], 5e16, 5.0 / 2),
    ],
    ids=str,
)
def test_scaling_of_edge_cases(c, phi, noise, mse):
    found = scaled(np.array(c), np.array(phi), np.array(1.0), np.array(noise))
    assert found.mse == pytest.approx(mse, rel=1e-12, abs=1e-25)
    assert np.isfinite(found.scale)


def test_scaling_does_not_depend_on_order():
    rng = np.random.default_rng(8)
    c, phi, turn = rng.rayleigh(size=(20, 9)), rng.uniform(1, 2, (20, 9)), rng.permutation(9)
    one = np.ones(20)
    here, there = scaled(c, phi, one, one), scaled(c[:, turn], phi[:, turn], one, one)
    assert np.allclose(here.mse, there.mse, rtol=1e-13)


def test_one_call_is_a_batch():
    rng = np.random.default_rng(6)
    c, phi, one = rng.exponential(size=(2, 3, 5)), rng.uniform(1, 2, (2, 3, 5)), np.ones((2, 3))
    whole = scaled(c, phi, one, one)
    for i in np.ndindex(2, 3):
        assert scaled(c[i], phi[i], one[i], one[i]).mse == whole.mse[i]
