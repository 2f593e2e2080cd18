"""Complex steps: exact derivatives, for batches and several variables of different shapes."""

from __future__ import annotations

import numpy as np
import pytest

from rralloc.numerics import gradient, perturb

RNG = np.random.default_rng(3)


def test_one_instance_two_variables():
    x = {"a": np.array([0.3, 2.0]), "b": np.array(1.5)}
    found = gradient(lambda p: np.exp(p["a"]).sum(-1) * p["b"] ** 2, x)
    assert found["a"] == pytest.approx(np.exp(x["a"]) * 2.25, rel=1e-15)
    assert found["b"] == pytest.approx(2 * 1.5 * np.exp(x["a"]).sum(), rel=1e-15)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_batches_do_not_mix(batch):
    x = {"a": RNG.uniform(1, 2, (*batch, 4)), "m": RNG.uniform(1, 2, (*batch, 2, 3))}

    def fun(p):
        return np.log(p["a"]).sum(-1) + (p["m"] ** 3).sum((-1, -2)) * p["a"][..., 0]

    found = gradient(fun, x)
    lead = x["a"][..., 0]
    first = (x["m"] ** 3).sum((-1, -2))
    wanted = 1 / x["a"]
    wanted[..., 0] += first
    assert found["a"] == pytest.approx(wanted, rel=1e-14)
    assert found["m"] == pytest.approx(3 * x["m"] ** 2 * lead[..., None, None], rel=1e-14)


def test_scales_of_1e_minus_18_lose_nothing():
    x = {"g": np.array([1e-18, 1e6])}
    found = gradient(lambda p: np.log1p(p["g"]).sum(-1), x)
    assert found["g"] == pytest.approx(1 / (1 + x["g"]), rel=1e-15)


def test_perturb_moves_one_coordinate_of_each_instance():
    copies = perturb({"a": np.zeros((5, 2)), "b": np.zeros((5,))}, 1)
    assert copies["a"].shape == (3, 5, 2)
    assert copies["b"].shape == (3, 5)
    moved = np.concatenate([copies["a"].imag, copies["b"].imag[..., None]], axis=-1) > 0
    assert (moved == np.eye(3, dtype=bool)[:, None, :]).all()
