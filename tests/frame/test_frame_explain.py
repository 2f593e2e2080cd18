"""``rr.explain`` on instances whose cause is known by construction, in closed form."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from toys import Unaware

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.explanation import Change
from rralloc.fields import Constraint, data, variable
from rralloc.problems.downlink_beamforming import DownlinkBeamforming
from rralloc.problems.min_max_latency import MinMaxLatency
from rralloc.problems.multicast import Multicast
from rralloc.problems.power_control import PowerForSINR
from rralloc.problems.sum_rate import SumRate
from rralloc.problems.tau_control import TauControl
from rralloc.problems.water_filling import WaterFilling
from rralloc.typing import Field

Where = tuple[str, tuple[int, ...]]


class Shares(rr.Problem):
    """Band and power to share, both needed in proportion to targets: linear, several families."""

    sense = "min"
    unit = "W"
    efficiency: Field = data("K", unit="bit/s/Hz", low=0)
    rate_target: Field = data("K", unit="bit/s", low=0)
    path_gain: Field = data("K", unit="1", low=0)
    heard_w: Field = data("K", unit="W", low=0, doc="power to be received")
    power_min_w: Field = data("K", unit="W", low=0, doc="least power")
    power_max_w: Field = data("K", unit="W", low=0, doc="power cap")
    bandwidth_budget_hz: Field = data(unit="Hz", low=0)
    power_budget_w: Field = data(unit="W", low=0)
    fronthaul_bps: Field = data(unit="bit/s", low=0)

    bandwidth_hz = variable("K", unit="Hz", low=0, scale="bandwidth_budget_hz")
    power_w = variable("K", unit="W", low="power_min_w", high="power_max_w", scale="power_max_w")

    def objective(self, x):
        return x["power_w"].sum(-1)

    def constraints(self, x):
        rate = self.efficiency * x["bandwidth_hz"]
        band = self.bandwidth_budget_hz - x["bandwidth_hz"].sum(-1)
        power = self.power_budget_w - x["power_w"].sum(-1)
        heard = self.path_gain * x["power_w"] - self.heard_w
        haul = self.fronthaul_bps - rate.sum(-1)
        return (
            Constraint("rate", rate - self.rate_target, "bit/s", self.rate_target),
            Constraint("received power", heard, "W", self.heard_w),
            Constraint("total bandwidth", band, "Hz", self.bandwidth_budget_hz),
            Constraint("total power", power, "W", self.power_budget_w),
            Constraint("fronthaul", haul, "bit/s", self.fronthaul_bps),
        )


class Cell(rr.Problem):
    """min total power: rates b log2(1 + q p/b) with a band budget and caps; concave slacks."""

    sense = "min"
    unit = "W"
    concave_slacks = True
    snr_hz_per_w: Field = data("K", unit="Hz/W", low=0)
    rate_target: Field = data("K", unit="bit/s", low=0)
    power_max_w: Field = data("K", unit="W", low=0, doc="power cap")
    bandwidth_budget_hz: Field = data(unit="Hz", low=0)

    bandwidth_hz = variable("K", unit="Hz", low=0, scale="bandwidth_budget_hz")
    power_w = variable("K", unit="W", low=0, high="power_max_w", scale="power_max_w")

    def objective(self, x):
        return x["power_w"].sum(-1)

    def constraints(self, x):
        band, heard = x["bandwidth_hz"], self.snr_hz_per_w * x["power_w"]
        tiny = 1e-12 * self.bandwidth_budget_hz
        rate = band * np.log1p(heard / (band + tiny[..., None])) / np.log(2)
        left = self.bandwidth_budget_hz - band.sum(-1)
        return (
            Constraint("rate", rate - self.rate_target, "bit/s", self.rate_target),
            Constraint("total bandwidth", left, "Hz", self.bandwidth_budget_hz),
        )


@dataclass(frozen=True)
class Scenario:
    """An instance, the rows to blame, and by how much each must give way alone (unit)."""

    kind: str
    problem: rr.Problem
    culprits: frozenset[Where]
    amounts: dict[Where, float] = field(default_factory=dict)


def blame(why: rr.Explanation) -> frozenset[Where]:
    return frozenset((r.name, r.index) for rows in why.conflicts for r in rows)


def wrong(one: Scenario, why: rr.Explanation) -> str:
    """What is wrong with the explanation; empty if nothing."""
    if why.feasible is not False:
        return f"feasible = {why.feasible}"
    if blame(why) != one.culprits:
        return f"blames {sorted(blame(why))}, not {sorted(one.culprits)}"
    told = {(c.name, c.where[0]): c.amount for c in why.alternatives if len(c.where) == 1}
    for where, amount in one.amounts.items():
        if where not in told or not (
            told[where] == amount or abs(told[where] - amount) <= 1e-2 * amount
        ):
            return f"{where} must give {amount}, said {told.get(where)}"
    alone = why.alternatives if len(why.conflicts) == 1 else ()
    return next(filter(None, (not_enough(one.problem, c) for c in alone)), "")


def not_enough(problem: rr.Problem, c: Change) -> str:
    """The field changed as told does not make the point feasible; empty if it does."""
    if not c.field or c.after is None:
        return ""
    value = np.array(getattr(problem, c.field))
    value[c.where[0]] = max(0.0, c.after + 1e-6 * (c.after - c.before))
    left = rr.verify(problem.replace(**{c.field: value}), c.point).violation
    return "" if c.suffices and left <= 1e-6 else f"{c.name} -> {c.after} leaves {left}"


# -- scenarios ------------------------------------------------------------------------------------

MIN, MAX = "power_w >= power_min_w", "power_w <= power_max_w"


def shares(rng: np.random.Generator, K: int) -> dict[str, np.ndarray | float]:
    """A feasible instance with room in everything; gains over many decades."""
    gain = 10.0 ** rng.uniform(-15, 3) * 10 ** rng.uniform(-2, 2, K)
    power, efficiency = rng.uniform(0.1, 1.0, K), rng.uniform(0.5, 4.0, K)
    band = 1e6 * rng.uniform(0.5, 1.5, K)
    return {
        "efficiency": efficiency,
        "rate_target": band * efficiency,
        "path_gain": gain,
        "heard_w": power * gain,
        "power_min_w": 0.2 * power,
        "power_max_w": rng.uniform(1.5, 3.0) * power,
        "bandwidth_budget_hz": 1.3 * band.sum(),
        "power_budget_w": 1.3 * power.sum(),
        "fronthaul_bps": 2.0 * (band * efficiency).sum(),
    }


def of_shares(rng: np.random.Generator) -> Iterator[Scenario]:
    K = int(rng.integers(2, 6))
    k = int(rng.integers(K))
    one = np.arange(K) == k
    f = shares(rng, K)
    band, power = f["rate_target"] / f["efficiency"], f["heard_w"] / f["path_gain"]
    # (a) one device must be heard better than its cap allows; the total would allow it.
    need = f["power_max_w"][k] * rng.uniform(1.1, 2.0)
    asked = np.where(one, need * f["path_gain"], f["heard_w"])
    yield Scenario(
        "a",
        Shares(**f | {"heard_w": asked, "power_budget_w": 2 * power.sum() + 2 * need}),
        frozenset({("received power", (k,)), (MAX, (k,))}),
        {
            ("received power", (k,)): asked[k] - f["power_max_w"][k] * f["path_gain"][k],
            (MAX, (k,)): need - f["power_max_w"][k],
        },
    )
    # (b, f, g) one of two budgets is short by half of the least need: everybody is needed for it.
    for budget, each, row in (
        ("bandwidth_budget_hz", band, "rate"),
        ("power_budget_w", power, "received power"),
    ):
        short = rng.uniform(0.2, 0.6) * each.min()
        name = "total bandwidth" if row == "rate" else "total power"
        size = f["efficiency"] if row == "rate" else f["path_gain"]
        yield Scenario(
            "b",
            Shares(**f | {budget: each.sum() - short}),
            frozenset({(name, ()), *((row, (j,)) for j in range(K))}),
            {(name, ()): short, **{(row, (j,)): short * size[j] for j in range(K)}},
        )
    # (d) a deaf device, (e) a least power above the cap, and both: two conflicts.
    deaf = {"path_gain": np.where(one, 0.0, f["path_gain"])}
    heard = {("received power", (k,)): f["heard_w"][k]}
    yield Scenario("d", Shares(**f | deaf), frozenset(heard), heard)
    j = (k + 1) % K
    excess = 0.3 * f["power_max_w"][j]
    low = np.where(np.arange(K) == j, f["power_max_w"] + excess, f["power_min_w"])
    crossed = {(MIN, (j,)): excess, (MAX, (j,)): excess}
    room = {"power_budget_w": 10 * f["power_max_w"].sum()}
    yield Scenario("e", Shares(**f | room | {"power_min_w": low}), frozenset(crossed), crossed)
    both = f | deaf | room | {"power_min_w": low}
    yield Scenario("d+e", Shares(**both), frozenset(heard | crossed), heard | crossed)
    # (h) promised rates exceed the fronthaul, whatever band there is.
    rate = f["rate_target"]
    short = 0.5 * rate.min()
    guilty = {("fronthaul", ()): short, **{("rate", (j,)): short for j in range(K)}}
    yield Scenario(
        "h", Shares(**f | {"fronthaul_bps": rate.sum() - short}), frozenset(guilty), guilty
    )


def of_cell(rng: np.random.Generator) -> Iterator[Scenario]:
    K = int(rng.integers(2, 5))
    k = int(rng.integers(K))
    one = np.arange(K) == k
    cap = 10.0 ** rng.uniform(-3, 1) * rng.uniform(0.5, 1.0, K)
    band = 1e5 * rng.uniform(0.5, 1.5, K)
    q = band * 10 ** rng.uniform(0.3, 3, K) / cap
    rate = band * np.log2(1 + q * cap / band)
    f = {"snr_hz_per_w": q, "power_max_w": cap, "rate_target": rate}
    # (a) more than the cap gives with infinite band.
    limit = q[k] * cap[k] / np.log(2)
    asked = np.where(one, 1.5 * limit, 0.5 * rate)
    yield Scenario(
        "a",
        Cell(**f | {"rate_target": asked, "bandwidth_budget_hz": 1e3 * band.sum()}),
        frozenset({("rate", (k,)), (MAX, (k,))}),
    )
    # (b) each needs band_k at its cap; the budget lacks half of the least.
    short = 0.3 * band.min()
    rows = [("total bandwidth", ()), *((n, (j,)) for j in range(K) for n in ("rate", MAX))]
    left = band - np.where(one, short, 0.0)
    yield Scenario(
        "b",
        Cell(**f | {"bandwidth_budget_hz": band.sum() - short}),
        frozenset(rows),
        {
            ("total bandwidth", ()): short,
            ("rate", (k,)): rate[k] - left[k] * np.log2(1 + q[k] * cap[k] / left[k]),
            (MAX, (k,)): left[k] * np.expm1(rate[k] / left[k] * np.log(2)) / q[k] - cap[k],
        },
    )
    # (d) deaf.
    deaf = f | {"snr_hz_per_w": np.where(one, 0.0, q), "bandwidth_budget_hz": 1.2 * band.sum()}
    yield Scenario("d", Cell(**deaf), frozenset({("rate", (k,))}), {("rate", (k,)): rate[k]})


def links(rng: np.random.Generator, kind: str) -> tuple[dict[str, np.ndarray], list[int], dict]:
    """Gain, noise, cap and SINR targets of links; the guilty ones; least SINR and cap changes."""
    K = int(rng.integers(3, 6))
    i, j, *rest = rng.permutation(K).tolist()
    size = 10.0 ** rng.uniform(-18, 6)
    direct, cap = rng.uniform(0.5, 1.5, K), 10.0 ** rng.uniform(-2, 1, K)
    noise = direct * cap * 10.0 ** rng.uniform(-3, -1, K)
    gain = np.diag(direct)
    for a, b in itertools.pairwise(rest):  # innocent interference
        gain[a, b] = 0.1 * rng.uniform() * direct[a] * cap[a] / cap[b]
    free = 1 / ((gain - np.diag(direct)) @ cap + noise) * direct * cap
    target = free * rng.uniform(0.1, 0.5, K)
    changes = {}
    if kind == "a":
        have = direct[i] * cap[i] / noise[i]
        target[i] = have * rng.uniform(1.1, 3.0)
        changes = {"sinr": {i: target[i] - have}, "cap": {i: cap[i] * (target[i] / have - 1)}}
    elif kind == "c":
        # gamma_i gamma_j A_ij A_ji = rho^2 > 1: no power helps.
        target[[i, j]] = rng.uniform(1.0, 4.0, 2)
        rho, tilt = rng.uniform(1.05, 2.0), 10 ** rng.uniform(-0.5, 0.5)
        gain[i, j] = rho * tilt / target[i] * direct[i] * cap[i] / cap[j]
        gain[j, i] = rho / tilt / target[j] * direct[j] * cap[j] / cap[i]
        changes = {"sinr": {}, "cap": {}}
        for a, b in ((i, j), (j, i)):
            # The most SINR of a while b holds its own: a as loud as b's cap allows.
            own = direct[b] * cap[b] / target[b] - noise[b]
            p = min(cap[a], own / gain[b, a])
            q = target[b] * (noise[b] + gain[b, a] * p) / direct[b]
            best = direct[a] * p / (noise[a] + gain[a, b] * q)
            changes["sinr"][a] = target[a] - best if own > 0 else np.inf
    else:
        gain[i, i] = 0.0
        changes = {"sinr": {i: target[i]}, "cap": {}}
    fields = {"gain": size * gain, "noise_w": size * noise, "power_max_w": cap, "target": target}
    return fields, [i, j] if kind == "c" else [i], changes


def of_links(rng: np.random.Generator) -> Iterator[Scenario]:
    for kind in "acd":
        f, guilty, changes = links(rng, kind)
        target = f.pop("target")
        caps = {(MAX, (k,)): v for k, v in changes["cap"].items()}
        sinr = {("SINR target", (k,)): v for k, v in changes["sinr"].items()}
        culprits = frozenset([*(("SINR target", (k,)) for k in guilty), *caps])
        yield Scenario(kind, PowerForSINR(**f, sinr_target=target), culprits, sinr | caps)
        rate = np.log2(1 + target)
        down = {
            ("minimum rate", (k,)): rate[k] - np.log2(1 + target[k] - v)
            for k, v in changes["sinr"].items()
            if np.isfinite(v)
        }
        culprits = frozenset([*(("minimum rate", (k,)) for k in guilty), *caps])
        yield Scenario(kind, SumRate(**f, minimum_rate=rate), culprits, down | caps)


def of_library(rng: np.random.Generator) -> Iterator[Scenario]:
    K = int(rng.integers(2, 7))
    deaf = rng.uniform(size=K) < 0.4
    deaf[rng.integers(K)] = True
    p = MinMaxLatency.random(K=K, rng=rng)
    culprits = frozenset(("needs", (int(k),)) for k in np.flatnonzero(deaf))
    yield Scenario("d", p.replace(path_gain=np.where(deaf, 0.0, p.path_gain)), culprits)
    t = TauControl.random(K=K, rng=rng)
    k = int(rng.integers(K))
    least = t.cost_per_step[k] + t.cost_per_aggregation[k]
    have = least * (1.0 + rng.uniform(0.1, 0.9))  # the reserve takes one, the last check another
    tight = t.replace(budget=np.where(np.arange(K) == k, 0.5 * have, t.budget))
    row = ("one step and one aggregation", (k,))
    yield Scenario("b", tight, frozenset({row}), {row: least - 0.5 * have})


KINDS: tuple[tuple[Callable[[np.random.Generator], Iterator[Scenario]], int], ...] = (
    (of_shares, 12),
    (of_cell, 8),
    (of_links, 10),
    (of_library, 16),
)


def test_causes_known_by_construction_are_found():
    tried, faults = 0, []
    for make, repeats in KINDS:
        for seed in range(repeats):
            for one in make(np.random.default_rng(seed)):
                tried += 1
                said = wrong(one, rr.explain(one.problem))
                if said:
                    faults.append(f"{type(one.problem).__name__} {one.kind} {seed}: {said}")
    print(f"{tried - len(faults)} of {tried} right", *faults, sep="\n")
    assert tried >= 200
    assert len(faults) <= 0.05 * tried, "\n".join(faults)


def test_a_large_excess_is_blamed_on_no_more_devices_than_it_takes():
    f = shares(np.random.default_rng(3), 9)
    need = f["rate_target"] / f["efficiency"]
    total = 0.4 * need.sum()
    why = rr.explain(Shares(**f | {"bandwidth_budget_hz": total}))
    names = {(r.name, r.index) for r in why.conflict}
    assert ("total bandwidth", ()) in names
    assert len(why.conflicts) == 1
    guilty = [index[0] for name, index in names if name == "rate"]
    assert len(guilty) == len(names) - 1  # nothing else
    assert need[guilty].sum() > total >= need[guilty].sum() - need[guilty].min()
    first = why.alternatives[0]
    assert first.name == "total bandwidth"
    assert first.suffices
    assert first.after == pytest.approx(need.sum(), rel=1e-3)
    assert all(
        np.isinf(c.amount) for c in why.alternatives if c.name == "rate" and len(c.where) == 1
    )
    family = next(c for c in why.alternatives if len(c.where) > 1)
    assert family.factor == pytest.approx(0.4, rel=1e-3)
    assert family.suffices


# -- never a false alarm --------------------------------------------------------------------------


def feasible_ones() -> Iterator[tuple[rr.Problem, bool]]:
    """Instances with a known feasible point; True where it is on the edge of what is possible."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        f = shares(rng, 4)
        band, power = f["rate_target"] / f["efficiency"], f["heard_w"] / f["path_gain"]
        yield Shares(**f), False
        tight = {"bandwidth_budget_hz": band.sum(), "power_budget_w": power.sum()}
        yield Shares(**f | tight), True
        g, _, _ = links(rng, "d")
        g["gain"] = g["gain"] + np.diag(1.0 * (np.diag(g["gain"]) == 0)) * np.abs(g["gain"]).max()
        g.pop("target")
        at = g["power_max_w"] * rng.uniform(0.05, 1.0, g["power_max_w"].size)
        sinr = PowerForSINR(**g, sinr_target=1.0).sinr(at)
        for share in (0.9, 1.0):
            yield PowerForSINR(**g, sinr_target=share * sinr), share == 1
            yield SumRate(**g, minimum_rate=np.log2(1 + share * sinr)), share == 1
        q, cap, b = 10 ** rng.uniform(5, 8, 3), rng.uniform(0.1, 1, 3), rng.uniform(1e5, 1e6, 3)
        rate = b * np.log2(1 + q * cap / b)
        cell = {"snr_hz_per_w": q, "power_max_w": cap, "bandwidth_budget_hz": b.sum()}
        yield Cell(**cell, rate_target=0.95 * rate), False
        yield Cell(**cell, rate_target=rate), True
    yield WaterFilling.random(K=5, rng=0), False
    yield Multicast.random(K=3, rng=0), False


def test_feasible_instances_are_not_called_infeasible():
    ones = list(feasible_ones())
    assert len(ones) >= 60
    for problem, edge in ones:
        why = rr.explain(problem)
        assert why.feasible is not False, f"{problem}: {why}"
        assert not why.proven, f"{problem}: {why}"
        if not edge:
            assert why.feasible, f"{problem}: {why}"
            assert rr.verify(problem, why.point).ok(), problem


# -- what must not change the answer --------------------------------------------------------------


@pytest.mark.parametrize("kind", "ac")
def test_permuted_devices_permute_the_blame(kind):
    f, guilty, _ = links(np.random.default_rng(8), kind)
    order = np.random.default_rng(1).permutation(len(f["target"]))
    target = f.pop("target")
    moved = {n: v[np.ix_(order, order)] if n == "gain" else v[order] for n, v in f.items()}
    here = rr.explain(SumRate(**f, minimum_rate=np.log2(1 + target)))
    there = rr.explain(SumRate(**moved, minimum_rate=np.log2(1 + target[order])))
    assert here.devices == tuple(sorted(guilty))
    assert sorted(order[list(there.devices)]) == list(here.devices)
    amounts = {(c.name, c.where[0]): c.amount for c in here.alternatives if len(c.where) == 1}
    for c in there.alternatives:
        if len(c.where) == 1:
            there_is = c.name, (int(order[c.where[0][0]]),)
            assert c.amount == pytest.approx(amounts[there_is], rel=1e-3)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_units_do_not_matter(unit):
    f = shares(np.random.default_rng(2), 4)
    need = f["heard_w"] / f["path_gain"]
    f["power_budget_w"] = need.sum() - 0.5 * need.min()
    other = {n: v * unit if n.startswith("power") else v for n, v in f.items()}
    other["path_gain"] = f["path_gain"] / unit
    here, there = rr.explain(Shares(**f)), rr.explain(Shares(**other))
    assert blame(here) == blame(there)
    assert "total power" in here.budgets
    first, second = here.alternatives[0], there.alternatives[0]
    assert first.name == second.name
    told = [{c.name: c.amount for c in w.alternatives}["total power"] for w in (here, there)]
    assert told[1] == pytest.approx(unit * told[0], rel=1e-6)


# -- how it is said -------------------------------------------------------------------------------


def test_the_text_names_devices_budgets_values_and_units():
    p = Shares(
        efficiency=1.0, rate_target=[1e6, 2e6, 0.0], path_gain=1.0, heard_w=0.0,
        power_min_w=0.0, power_max_w=1.0, bandwidth_budget_hz=2e6, power_budget_w=1.0,
        fronthaul_bps=1e9,
    )  # fmt: skip
    why = rr.explain(p)
    assert why.proven
    assert why.devices == (0, 1)
    assert why.budgets == ("total bandwidth",)
    assert why.innocent == (2,)
    assert str(why) == repr(why)
    lines = str(why).splitlines()
    assert lines[0].startswith("infeasible (proven: ")
    assert "rate of devices 0, 1 (1e+06 bit/s, 2e+06 bit/s)" in lines[1]
    assert "total bandwidth (2e+06 Hz)" in lines[1]
    assert "total bandwidth 2e+06 -> 3e+06 Hz (+1e+06 Hz)" in lines[2]
    assert "rate of device 1 2e+06 -> 1e+06 bit/s (-1e+06 bit/s)" in lines[2]
    assert lines[3] == "Not involved: device 2."
    assert len(why.relaxations) == 1  # the least total change is one change


def test_a_batch_holds_the_instances_that_are_not_feasible():
    good = MinMaxLatency.random(K=3, rng=0)
    deaf = good.replace(path_gain=good.path_gain * [1.0, 0.0, 1.0])
    why = rr.explain(rr.stack([good, deaf]))
    assert why.feasible is False
    assert why.proven
    assert list(why.instances) == [(1,)]
    assert why[1].devices == (1,)
    assert "no received power" in why[1].reason
    assert "instance [1]: infeasible" in str(why)
    assert rr.explain(rr.stack([good, good])).feasible


def test_data_that_contradict_themselves_and_rows_without_a_field():
    class Odd(rr.Problem):
        level: Field = data("K", unit="W", low=0)
        x = variable("K", unit="W", low=0, high=2.0)

        def objective(self, x):
            return x["x"].sum(-1)

        def constraints(self, x):
            return (Constraint("square", x["x"] ** 2 - self.level**2, "W^2", self.level**2),)

    why = rr.explain(Odd(level=[1.0, 3.0]))
    assert not why.proven
    assert why.feasible is False
    assert blame(why) == {("square", (1,)), ("x <= 2.0", (1,))}
    square, bound = sorted(why.alternatives, key=lambda c: c.name)
    assert (square.amount, bound.amount) == (pytest.approx(5.0), pytest.approx(1.0))
    assert square.before is None
    assert "square of device 1 relaxed by 5 W^2" in str(why)


def test_what_cannot_be_decided_is_not_claimed():
    class Silent(rr.Problem):
        gain: Field = data("K", unit="1", low=0)
        p = variable("K", unit="W", low=0, high=1)

        def objective(self, x):
            return np.where(self.gain > 0, x["p"], np.inf).sum(-1)

    why = rr.explain(Silent(gain=[1.0, 0.0]))
    assert why.feasible is None
    assert not why.proven
    assert str(why).startswith("undecided")

    class Which(rr.Problem):
        cost: Field = data("K", unit="1", low=0)
        on = variable("K", unit="1", dtype=bool)

        def objective(self, x):
            return (self.cost * x["on"]).sum(-1)

        def constraints(self, x):
            return (Constraint("many", x["on"].sum(-1) - 5.0, "1", 1.0),)

    assert rr.explain(Which(cost=[1.0, 1.0])).feasible is None


def test_a_time_limit_leaves_what_is_known():
    f, _, _ = links(np.random.default_rng(8), "c")
    p = Unaware(minimum_rate=np.log2(1 + f.pop("target")), **f)
    why = rr.explain(p, time_limit=0.0)
    assert why.feasible is not True
    assert not why.proven
    assert "time limit" in why.evidence


def test_the_same_seed_gives_the_same_answer():
    f, _, _ = links(np.random.default_rng(4), "c")
    p = SumRate(minimum_rate=np.log2(1 + f.pop("target")), **f)
    assert str(rr.explain(p, rng=1)) == str(rr.explain(p, rng=1))


def test_where_local_search_misleads_the_problems_own_proof_is_followed():
    # Six devices, three antennas: sum of gamma/(1 + gamma) must stay below 3, so four are too many
    # at gamma = 3, and all six fit just below gamma = 1. No power is large enough.
    p = DownlinkBeamforming.random(K=6, N=3, rng=0).replace(sinr_target=3.0)
    why = rr.explain(p)
    assert why.proven
    assert [len(rows) for rows in why.conflicts] == [4]
    target = next(c for c in why.alternatives if c.field == "sinr_target")
    assert target.factor == pytest.approx(1 / 3, rel=1e-6)
    assert why.innocent == ()  # the others count as well


class Between(rr.Problem):
    """a <= x <= b by two constraints of one name."""

    least = data("K", unit="W")
    most = data("K", unit="W")
    power_w = variable("K", unit="W", low=-100.0, high=100.0, scale=1.0)

    def objective(self, x):
        return x["power_w"].sum(-1)

    def constraints(self, x):
        return (
            Constraint("rate", x["power_w"] - self.least, "W", 1.0),
            Constraint("rate", self.most - x["power_w"], "W", 1.0),
        )


def test_two_constraints_of_one_name_are_two():
    why = rr.explain(Between(least=[3.0, 0.0], most=[2.0, 1.0]))
    assert sorted(row.name for row in why.conflict) == ["rate", "rate (2)"]
    assert why.devices == (0,)
    assert min(c.amount for c in why.alternatives) == pytest.approx(1.0, rel=1e-6)


def test_a_batch_tells_whom_to_blame_and_every_instance_can_be_asked():
    batch = Between(least=[[0.0, 0.0], [3.0, 0.0]], most=[[1.0, 1.0], [2.0, 1.0]])
    why = rr.explain(batch)
    assert why.devices == (0,)
    assert why[0].feasible
    assert not why[-1].feasible
    with pytest.raises(IndexError):
        why[2]


@pytest.mark.parametrize("limit", [0.0, 0.02])
def test_a_time_limit_never_makes_the_feasible_infeasible(limit):
    class Blind(Between):
        """No baseline is feasible, so that a search is needed."""

        def initial(self):
            return {"power_w": np.full(self.shape_of(type(self).power_w), 50.0)}

    why = rr.explain(Blind(least=np.zeros((40, 2)), most=np.ones((40, 2))), time_limit=limit)
    assert why.feasible is not False
    assert not any(e.feasible is False for e in why.instances.values())


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_a_time_limit_that_means_nothing_is_refused(limit):
    with pytest.raises(InvalidProblem, match="time_limit"):
        rr.explain(Between(least=[0.0], most=[1.0]), time_limit=limit)


class Ordinals(Between):
    """Three constraints, the last of which has the very name that tells the second apart."""

    def constraints(self, x):
        below, above = super().constraints(x)
        return below, above, Constraint("rate (2)", x["power_w"] - self.least + 50.0, "W", 1.0)


def test_a_name_that_is_taken_does_not_merge_two_constraints():
    why = rr.explain(Ordinals(least=[3.0, 0.0], most=[2.0, 1.0]))
    assert len(why.conflict) == 2
    assert len({row.name for row in why.conflict}) == 2
    assert "rate (2)" not in {row.name for row in why.conflict}
    assert [c.amount for c in why.alternatives] == pytest.approx([1.0, 1.0], rel=1e-6)
    assert all(c.suffices for c in why.alternatives if c.field)


class Boxed(rr.Problem):
    """lo <= p <= cap, and p reaches a need; the last slack times ``factor``."""

    lo = data("K", unit="W", low=0)
    cap_w = data(unit="W", low=0, doc="cap")
    need_w = data(unit="W", low=0, doc="need")
    factor = data("K", unit="1")
    p = variable("K", unit="W", low="lo", high=100.0, scale=1.0)
    size = 1.0

    def initial(self):
        return {"p": np.zeros(self.shape_of(type(self).p))}

    def objective(self, x):
        return x["p"].sum(-1)

    def constraints(self, x):
        total = x["p"].sum(-1)
        odd = np.log(self.factor) + x["p"]  # no number where the factor is negative
        return (
            Constraint("cap", self.cap_w - total, "W", self.size * self.cap_w),
            Constraint("need", total - self.need_w, "W", self.size),
            Constraint("odd", odd, "W", self.size),
        )


def boxed(need: float, factor: float = 1.0, kind: type[Boxed] = Boxed) -> Boxed:
    return kind(lo=np.zeros(2), cap_w=3.0, need_w=need, factor=[1.0, factor])


def test_before_and_after_are_told_with_so_many_digits_that_they_differ():
    text = str(rr.explain(boxed(3.0 + 1e-5)))
    assert "cap 3 -> 3.00001 W (+1e-05 W)" in text
    assert "need 3.00001 -> 3 W (-1e-05 W)" in text
    assert "cap (3 W) and need (3.00001 W) cannot be met together" in text
    assert "cap 3 -> 4 W (+1 W)" in str(rr.explain(boxed(4.0)))


def test_what_is_no_number_is_said_to_be_none_and_proves_nothing():
    for need in (2.0, 4.0):
        why = rr.explain(boxed(need, factor=-1.0))
        assert "odd of device 1 is not a finite number there" in str(why)
        assert "e+20" not in str(why)
    assert "Smallest total change: " in str(why)
    assert {c.name: c.amount for c in why.relaxations}["cap"] == pytest.approx(1.0, rel=1e-3)
    assert not rr.explain(boxed(2.0, factor=-1.0)).proven


def test_the_sign_of_a_scale_does_not_matter():
    class Negative(Boxed):
        size = -1.0

    assert rr.explain(boxed(2.5, kind=Negative)).feasible
    here, there = rr.explain(boxed(4.0)), rr.explain(boxed(4.0, kind=Negative))
    assert str(here) == str(there)
    assert [c.amount for c in there.alternatives] == pytest.approx([1.0, 1.0], rel=1e-6)


class Curved(Boxed):
    """The same for p >= 0, but not linear."""

    def constraints(self, x):
        cap, need, _ = super().constraints(x)
        return cap, need, Constraint("odd", 1e4 - x["p"] ** 2, "W^2", 1e4)


class Clock:
    """Late after so many looks: whenever time runs out, without a race."""

    def __init__(self, looks: float) -> None:
        self.looks, self.seen = looks, 0

    def __call__(self) -> float:
        self.seen += 1
        return 0.0 if self.seen <= self.looks else 2.0


@pytest.mark.parametrize("kind", [Boxed, Curved])
def test_whenever_time_runs_out_what_is_told_is_true(kind, monkeypatch):
    def told(need: float, looks: float) -> tuple[rr.Explanation, Clock]:
        clock = Clock(looks)
        with monkeypatch.context() as patch:
            patch.setattr("rralloc.explanation.time.perf_counter", clock)
            return rr.explain(boxed(need, kind=kind), time_limit=1.0), clock

    whole, clock = told(4.0, np.inf)
    assert blame(whole) == {("cap", ()), ("need", ())}
    decided = 0
    for looks in range(1, clock.seen):  # the first look sets the limit
        assert told(2.5, looks)[0].feasible is not False
        why, _ = told(4.0, looks)
        assert "time limit" in why.evidence
        assert why.feasible is not True
        for change in (*why.alternatives, *why.relaxations):
            assert change.amount == pytest.approx(1.0, rel=1e-6)
        if why.feasible is None:
            assert not any((why.conflicts, why.alternatives, why.relaxations, why.devices))
        else:
            decided += 1
            assert blame(why) >= {("cap", ()), ("need", ())}
            assert len(why.conflicts) == 1
    assert 0 < decided < clock.seen


@pytest.mark.parametrize("limit", ["a", [1.0]])
def test_a_time_limit_that_is_no_number_is_refused(limit):
    with pytest.raises(InvalidProblem, match="time_limit"):
        rr.explain(Between(least=[0.0], most=[1.0]), time_limit=limit)
