"""The separable dual and the joint Newton, on SPFL against dynamic programming and each other."""

import numpy as np
import pytest

import rralloc as rr
from rralloc.errors import NotOffered
from rralloc.problems import SPFL, WaterFilling

# Instances on which an earlier version stopped early, SPFL.random(..., batch, rng=7)[index]; the
# value is one that SLSQP, pounce, alternation with exact steps or another run reached, so the
# default may not be above it.
REACHED = [
    (20, 3.0, "plain", "independent", {}, (60, 31), 0.312915896),
    (20, 6.0, "plain", "independent", {}, (60, 43), 0.482027198),
    (5, 6.0, "plain", "common", {}, (20, 3), 0.1951919965),
    (20, 6.0, "optimal_scaling", "common", {}, (20, 5), 0.0755458868),
    (5, 6.0, "optimal_scaling", "common", {"sign_band_share": "free"}, (20, 13), 0.2714404192),
    (20, 6.0, "optimal_scaling", "common", {"sign_band_share": "free"}, (20, 12), 0.1684969778),
    (20, 6.0, "sign_unbiased", "common", {"sign_band_share": "free"}, (20, 10), 0.1616726113),
    (20, 6.0, "plain", "independent", {"sign_band_share": "free"}, (20, 18), 0.3340430948),
]


@pytest.mark.parametrize("case", REACHED, ids=lambda c: "-".join(map(str, c[:4])))
def test_reaches_what_others_reached(case):
    K, load, law, fading, split, (size, index), value = case
    batch = SPFL.random(K=K, load=load, batch=size, rng=7, objective=law, fading=fading, **split)
    sol = rr.solve(batch[index], certify="none")
    assert sol.violation <= 1e-9
    assert sol.objective <= value * (1 + 1e-8)


def test_equals_newton_where_convex():
    for fading in ("common", "independent"):
        for split in ({}, {"sign_band_share": "free"}):
            p = SPFL.random(
                K=8, load=4, batch=10, rng=2, objective="unbiased", fading=fading, **split
            )
            newton, dual = rr.solve(p, "newton"), rr.solve(p, "dual")
            np.testing.assert_allclose(dual.objective, newton.objective, rtol=1e-11)
            assert np.all(newton.gap <= 1e-6)
            assert np.all(dual.gap <= 1e-6)


@pytest.mark.parametrize("law", ["plain", "sign_unbiased", "optimal_scaling"])
def test_a_start_is_only_ever_improved_upon(law):
    p = SPFL.random(K=6, load=6, batch=8, rng=4, objective=law)
    x = p.points()["equal-outage"]()
    sol = rr.solve(p, "dual", start=x, certify="none", rounds=1, polished=1, finished=1)
    assert np.all(sol.objective <= p.objective(x) * (1 + 1e-12))
    assert "start" not in sol.message


def test_starved_beyond_every_menu_is_still_finite():
    p = SPFL.random(K=6, load=12, batch=6, rng=3, objective="sign_unbiased")
    sol = rr.solve(p, "dual", certify="none")
    assert np.all(np.isfinite(sol.objective))
    assert np.all(sol.violation <= 1e-9)


def test_newton_from_any_start_finds_the_same_optimum():
    p = SPFL.random(K=12, load=4, batch=5, rng=8, objective="unbiased")
    ends = [rr.solve(p, "newton", start_from=s).objective for s in ("uniform", "rate")]
    ends.append(rr.solve(p, "newton").objective)
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-12)
    np.testing.assert_allclose(ends[0], ends[2], rtol=1e-12)


def test_both_say_why_they_do_not_apply():
    with pytest.raises(NotOffered, match="not convex"):
        rr.solve(SPFL.random(K=3, rng=0), "newton")
    with pytest.raises(NotOffered, match="Separable"):
        rr.solve(WaterFilling.random(K=3, rng=0), "dual")
