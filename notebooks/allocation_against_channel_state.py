# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Allocation against channel state
#
# Who should get the resource: the device that is heard well, or the one that is heard badly?
# There is no general answer. It depends on what is being optimised. This notebook draws the same
# picture for four problems, the amount each device gets against how well it is heard, and finds
# four different shapes. Then it lets you draw the picture for a problem of your own.
#
# Each section shows one realisation with the devices sorted from strongest to weakest, and then a
# batch of many channels, where the band runs from the 10th to the 90th percentile.
#
# Numbers that matter are asserted in the cells, so this page cannot claim what the code does not
# do. Sentences that start with **Against us** are results that speak against a method of ours.

# %%
# %matplotlib inline
import numpy as np

import rralloc as rr
from rralloc.channel import NOISE_PSD_W_PER_HZ, db_to_linear
from rralloc.problems import FDMARate, FEELScheduling, MinMaxLatency, SumRate, WaterFilling

# %% [markdown]
# ## (a) Water-filling: more to the strong
#
# Power over parallel channels, $\max \sum_k \log_2(1 + g_k p_k)$ with $\sum_k p_k \le P$. The
# optimum is $p_k = [\nu - 1/g_k]^+$: pour water over the ground $1/g_k$. Strong channels stand
# deep, weak ones stay dry.

# %%
gain = [2.0, 1.0, 0.5, 0.1]
for budget_w, power_w, rate in (
    (3.0, [5 / 3, 7 / 6, 1 / 6, 0], 3.346431652),
    (1.0, [0.75, 0.25, 0, 0], 1.643856190),
    (0.25, [0.25, 0, 0, 0], 0.584962501),
):
    sol = rr.solve(WaterFilling(gain=gain, power_budget_w=budget_w))
    assert np.allclose(sol.power_w, power_w, atol=1e-12)
    assert np.isclose(sol.objective, rate, rtol=0, atol=1e-9)
    assert sol.status == rr.Status.GLOBAL  # the dual bound proves it
    print(f"{budget_w:4.2f} W: power {sol.power_w.round(4)}, rate {sol.objective:.9f} bit/s/Hz")

# %% [markdown]
# One realisation of 20 Rayleigh channels. Little power, so that somebody stays dry:

# %%
scarce = WaterFilling.random(K=20, rng=1, power_budget_w=2.0)
rr.solve(scarce).plot()

# %% [markdown]
# Five hundred realisations, and the rule that most systems use instead, equal power:

# %%
scarce = WaterFilling.random(K=20, batch=500, rng=0, power_budget_w=2.0)
rr.plot.allocation(
    {"water-filling": rr.solve(scarce), "equal power": rr.solve(scarce, "baseline:equal")}
)

# %% [markdown]
# **Against us:** how much is it worth? With ten times the power, next to nothing. At a mean SNR of
# 20 dB the whole method buys less than half a per cent over equal power.

# %%
for snr_db in (-10, 0, 10, 20):
    batch = WaterFilling.random(K=20, batch=500, rng=0, power_budget_w=20 * db_to_linear(snr_db))
    best, equal = rr.solve(batch), rr.solve(batch, "baseline:equal")
    worth = (best.objective / equal.objective - 1).mean()
    print(f"{snr_db:4d} dB: water-filling carries {100 * worth:5.1f} % more than equal power")
    assert best.objective.min() > 0
    assert (best.objective >= equal.objective * (1 - 1e-12)).all()
assert worth < 0.005  # the last line, 20 dB

# %% [markdown]
# ## (b) Min-max latency: more to the weak
#
# Bandwidth for a synchronous round that ends with its slowest device,
# $\min_b \max_k \{c_k + S_k/r_k(b_k)\}$ with $r_k(b) = b \log_2(1 + P g_k/(N_0 b))$. At the optimum
# everybody finishes at the same moment. So the weak device needs more band, and gets it.

# %%
distance_km = np.array([0.1, 0.2, 0.3, 0.5])
four = MinMaxLatency(
    path_gain=db_to_linear(-(128.1 + 37.6 * np.log10(distance_km))),
    compute_s=[0.1, 0.3, 0.2, 0.4],
    payload_bit=1e6,
    power_w=0.1,
    bandwidth_budget_hz=1e6,
    noise_psd_w_hz=NOISE_PSD_W_PER_HZ,
)
sol, equal = rr.solve(four), rr.solve(four, "baseline:equal-split")
assert np.isclose(sol.objective, 0.6883072809, rtol=0, atol=1e-10)
assert np.allclose(sol.bandwidth_hz, [95267.74, 197649.27, 187804.46, 519278.53], atol=0.01)
assert np.isclose(equal.objective, 0.9176811189, rtol=0, atol=1e-10)
assert np.ptp(four.latency(sol.bandwidth_hz)) < 1e-10  # all finish together
print(f"optimal {sol.objective:.4f} s, equal split {equal.objective:.4f} s")
print(f"band in kHz, nearest device first: {(sol.bandwidth_hz / 1e3).round(1)}")

# %% [markdown]
# Not only the channel counts: the third device is farther away than the second and still gets less
# band, because it computes for 0.2 s instead of 0.3 s. With equal compute times the order is clean.

# %%
same = rr.solve(four.replace(compute_s=0.2))
assert np.isclose(same.objective, 0.5714226018, rtol=0, atol=1e-10)
assert (np.diff(same.bandwidth_hz) > 0).all()  # rising as the gain falls
rr.solve(MinMaxLatency.random(K=20, rng=2, compute_s=0.2)).plot()

# %%
cells = MinMaxLatency.random(K=20, batch=200, rng=0)
optimal, split = rr.solve(cells), rr.solve(cells, "baseline:equal-split")
assert (optimal.status == rr.Status.GLOBAL).all()
saved = 1 - optimal.objective / split.objective
print(f"time saved on an equal split: {100 * saved.mean():.0f} % on average")
rr.plot.allocation({"min-max": optimal, "equal split": split})

# %% [markdown]
# **Against us:** finishing together has a price that the objective does not show. Under an equal
# split the strong devices are done early and fall silent. Under min-max everybody sends until the
# end, at full power.

# %%
energy = {
    name: (cells.power_w * (cells.latency(s.bandwidth_hz) - cells.compute_s)).sum(-1)
    for name, s in {"min-max": optimal, "equal split": split}.items()
}
for name, joules in energy.items():
    print(f"{name:12s} mean energy of a round {joules.mean():.2f} J")
share = (energy["min-max"] > energy["equal split"]).mean()
print(f"min-max burns more energy in {100 * share:.0f} % of the cells")
assert share > 0.5

# %% [markdown]
# **Against a solver we ship:** `scipy:trust-constr` on the same problem is rarely exact, and every
# so often it gives up far from the optimum. It does not hide that: it says STALLED, its points are
# FEASIBLE and not more, and the proven gap shows the damage. `scipy:slsqp` reaches the optimum.

# %%
some = cells[:20]
poor, good = rr.solve(some, "scipy:trust-constr"), rr.solve(some, "scipy:slsqp")
assert (good.status == rr.Status.GLOBAL).all()
far = poor.gap > 0.01
print(f"trust-constr: {far.sum()} of 20 more than 1 % away, the worst gap is {poor.gap.max():.2f}")
print(f"              the median gap is {np.median(poor.gap):.0e}; {poor.stopped.counts()}")
assert (poor.status < rr.Status.GLOBAL)[far].all()

# %% [markdown]
# A table shows all solvers, so that a poor one cannot hide:

# %%
rr.compare({"min-max latency": cells[:5]}, time_limit=10)

# %% [markdown]
# ## (c) FEEL scheduling: importance and channel pull apart
#
# One device a round is drawn with probability $p_k$, and the server stays unbiased. The law
# minimises $\rho \sum_k a_k^2/p_k + (1-\rho) \sum_k p_k T_k$: importance $a_k$ (data share times
# gradient norm) against upload latency $T_k$. It is $p_k = a_k \sqrt{\rho/((1-\rho)T_k+\lambda)}$.
# (The abstract of arXiv 2004.00490 says what is minimised; the formula is derived by us, not copied
# from the paper.)

# %%
expected = {
    0.01: ([0.058014, 0.060267, 0.877920, 0.003798], 0.3769368),
    0.1: ([0.191561, 0.197266, 0.598599, 0.012574], 0.6182641),
    0.5: ([0.435796, 0.332033, 0.199318, 0.032852], 0.8755249),
    0.9: ([0.493845, 0.304678, 0.154569, 0.046908], 0.9783029),
    0.999: ([0.499947, 0.300043, 0.150040, 0.049970], 0.9997875),
}
for tradeoff, (law, value) in expected.items():
    sol = rr.solve(
        FEELScheduling(
            importance=[0.5, 0.3, 0.15, 0.05], latency_s=[1, 0.5, 0.25, 2], tradeoff=tradeoff
        )
    )
    assert np.allclose(sol.probability, law, atol=1e-6)
    assert np.isclose(sol.objective, value, atol=1e-7)
    assert sol.status == rr.Status.GLOBAL
    print(f"rho = {tradeoff:5.3f}: {sol.probability.round(4)}")

# %% [markdown]
# With a small $\rho$ the third device, the fastest, is drawn nearly always. With $\rho$ near one
# the law forgets the channel and follows importance. One realisation, sorted by importance:

# %%
rr.solve(FEELScheduling.random(K=20, rng=3)).plot()

# %% [markdown]
# A batch, against importance and against latency. At $\rho = 0.5$ the law is steep in importance,
# and nearly flat in latency. At $\rho = 0.01$ the quickest device is drawn most of the time.

# %%
rounds = FEELScheduling.random(K=20, batch=500, rng=0)
laws = {str(rho): rr.solve(rounds.replace(tradeoff=rho)) for rho in (0.01, 0.5, 1.0)}
rr.plot.allocation({f"rho = {rho}": sol for rho, sol in laws.items()})

# %%
rr.plot.allocation({f"rho = {rho}": s for rho, s in laws.items()}, against="latency_s")

# %% [markdown]
# **Against us:** the law is optimal for its own objective, and only for that. Whether a trained
# model is better for it is a different question, which training answers and this page does not:
# `rralloc study first-training`.

# %%
uniform = rr.solve(rounds, "baseline:uniform")
ratio = laws["0.5"].objective / uniform.objective
print(f"objective at rho = 0.5 relative to the uniform law: mean {ratio.mean():.2f}")
assert (ratio <= 1 + 1e-12).all()

# %% [markdown]
# ## (d) Sum rate: where local methods stop
#
# Links that share the band interfere: maximise $\sum_k w_k \log_2(1 + \mathrm{SINR}_k)$ with
# $\mathrm{SINR}_k = G_{kk}p_k/(s_k + \sum_{j\ne k} G_{kj}p_j)$. That is not convex. Here is an
# instance of four links that a user of another tool reported: the tool answered 3.4503.
#
# **Against us:** our own default answers the same. So do WMMSE (`sca`), both of SciPy's methods
# and the IPOPT-like engine behind Pyomo, when they start at full power.

# %%
links = SumRate.dccp37()
default = rr.solve(links)
print(default)
assert np.isclose(default.objective, 3.4503, atol=5e-5)
for solver in ("scipy:slsqp", "scipy:trust-constr", "pyomo:pounce"):
    assert np.isclose(rr.solve(links, solver).objective, 3.4503, atol=5e-5), solver

# %% [markdown]
# The derivatives are satisfied: the point is LOCAL. But the solution also carries a bound, what no
# feasible point can beat, and the gap to it is large. That is the warning. A status says what is
# known, and here it says "nobody has proven this". The bound is loose, so the warning does not yet
# say that a better point exists; the next cell does.

# %%
assert default.status == rr.Status.LOCAL
assert default.gap > 0.5
searched = rr.certify(links, default)  # search for a better bound for the same point
print(f"bound at once {default.bound:.2f}, after a search {searched.bound:.4f}")
print(f"so this point may be up to {100 * searched.gap:.0f} % below the optimum")
assert np.isclose(searched.bound, 4.6860, atol=5e-4)

# %%
proven = rr.solve(links, "branch-and-bound", gap=1e-6)
print(proven)
print(f"power {proven.power_w.round(4)} W")
assert proven.status == rr.Status.GLOBAL
assert np.isclose(proven.objective, 4.6860, atol=5e-5)
assert np.allclose(proven.power_w, [0, 0.12114, 1, 0], atol=1e-3)

# %% [markdown]
# Branch and bound found 4.6860 and *proved* it. Several starts find the same point and prove
# nothing. How did they get there?

# %%
many = rr.solve(links, "multistart", rng=0)
print(many)
assert np.isclose(many.objective, 4.6860, atol=5e-5)
rr.plot.convergence({"sca": default, "multistart": many, "branch-and-bound": proven})

# %% [markdown]
# The picture of power against the direct gain shows the trap. At the optimum two links are silent,
# and one of them is the link that is heard best. The local method silences the very link that
# carries the optimum, and from there no small step helps.

# %%
rr.plot.allocation({"sca (3.4503)": default, "branch and bound (4.6860)": proven})

# %% [markdown]
# Is it always like that? No. On random links with weak interference the default usually ends at
# the proven optimum.
#
# **Against us:** the price of a proof grows exponentially with the number of links. A search that
# is cut short proves nothing, and its own point may be worse than the local method's, as it is only
# as good as the centres of its cells. Read the status, and keep the better of the two points.

# %%
for links_count in (2, 4, 6, 8):
    easy = SumRate.random(K=links_count, rng=links_count)
    local = rr.solve(easy)
    tree = rr.solve(easy, "branch-and-bound", time_limit=1.0)
    print(f"{links_count} links: default {local.objective:7.4f}, branch and bound", end=" ")
    print(f"{tree.objective:7.4f} ({tree.status.name}), no point beats {tree.bound:7.4f}")
    assert local.objective <= tree.bound * (1 + 1e-12)

# %% [markdown]
# With a minimum rate of 1 bit/s/Hz for every link, the optimum is another one:

# %%
promised = rr.solve(SumRate.dccp37(minimum_rate=1.0), "branch-and-bound", gap=1e-4)
print(promised, promised.power_w.round(4), sep="\n")
assert np.isclose(promised.objective, 3.03826, atol=5e-4)

# %% [markdown]
# ## (e) Your own problem, in one cell
#
# Proportional fairness: split a band so that the *product* of the rates is largest, that is
# $\max_b \sum_k \log r_k(b_k)$ with $r_k(b) = b \log_2(1 + q_k/b)$. Declare the data, the variable,
# the objective and the constraint. That is enough to solve. The objective is concave, so any
# tangent is a bound: the `bound` method turns good points into proven ones.

# %%
from rralloc.fields import Constraint, data, variable
from rralloc.numerics.rates import rate
from rralloc.typing import Field


@rr.register
class ProportionalFair(rr.Problem):
    """Split one band so that the product of the rates is largest."""

    sense = "max"
    bound_method = "tangent of a concave objective"

    snr_bandwidth_hz: Field = data("K", unit="Hz", low=0, open_low=True, doc="P g/N0")
    bandwidth_budget_hz: Field = data(unit="Hz", low=0, open_low=True, doc="total bandwidth")
    bandwidth_hz = variable("K", unit="Hz", low=0, scale="bandwidth_budget_hz", doc="bandwidth")

    def objective(self, x):
        return np.log(rate(x["bandwidth_hz"], self.snr_bandwidth_hz)).sum(-1)

    def constraints(self, x):
        total = self.bandwidth_budget_hz
        return (Constraint("total bandwidth", total - x["bandwidth_hz"].sum(-1), "Hz", total),)

    def points(self):
        equal = self.bandwidth_budget_hz[..., None] / self.sizes["K"]
        shape = self.shape_of(type(self).bandwidth_hz)
        return {"equal": lambda: {"bandwidth_hz": np.broadcast_to(equal, shape)}}

    def bound(self, x=None, witness=None):
        slope = self.gradient(x)["bandwidth_hz"]  # the best a tangent can do: all on the steepest
        best = self.bandwidth_budget_hz * slope.max(-1)
        return self.objective(x) + best - (slope * x["bandwidth_hz"]).sum(-1)


# %% [markdown]
# Which solvers apply, and why not the others:

# %%
channels = FDMARate.random(K=12, batch=10, rng=0)
fair = ProportionalFair(
    snr_bandwidth_hz=channels.snr_bandwidth_hz,
    bandwidth_budget_hz=channels.bandwidth_budget_hz,
)
rr.solvers_for(fair)

# %%
sol = rr.solve(fair)
print(sol)
assert (sol.status == rr.Status.GLOBAL).all()

# %%
rr.compare(fair)

# %%
efficient = rr.solve(channels)  # FDMARate: the largest *sum* of rates on the same channels
rr.plot.allocation({"largest product": sol, "largest sum": efficient}, against="snr_bandwidth_hz")

# %% [markdown]
# The sum gives the band to the strong, in proportion to what is received. The product gives nearly
# the same to all.
#
# **Against us:** so nearly that the equal split, which needs no solver, loses very little here.

# %%
equal = rr.solve(fair, "baseline:equal")
loss = np.expm1((sol.objective - equal.objective) / 12)
print(f"geometric mean of the rates: {100 * loss.mean():.1f} % above the equal split")
assert loss.min() >= 0
assert loss.max() < 0.1

# %% [markdown]
# ## What to remember
#
# | objective | who gets more | rival that is nearly as good |
# |---|---|---|
# | sum of rates, one power budget | the strong | equal power, when power is plentiful |
# | last device as early as possible | the weak and the slow | none here, but it costs energy |
# | unbiased draw, importance and latency | the important, then the quick | see training |
# | sum rate with interference | a few links, others silent | none: local methods may stop early |
# | product of rates | almost equal | the equal split itself |
