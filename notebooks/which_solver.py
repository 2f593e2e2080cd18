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
# # Which solver should I use?
#
# `rr.compare` runs solvers on the same instances and hides nothing: a solver that fails, does not
# apply or runs out of time is a row with its reason. This notebook reads one such table from all
# sides: rows, performance and data profiles, shifted means, and a map of who to choose where.
#
# Times are those of the machine that ran the notebook; look at orders of magnitude.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import rralloc as rr
from rralloc.problems import SPFL, MinMaxLatency, OTASelection, SumRate

# %% [markdown]
# ## A table in which nothing is hidden
#
# One batch of cells, several solvers and one that does not apply. `repeat=2` calls each twice and
# shows the quickest, so that building a model is not mixed into solving it.

# %%
cells = MinMaxLatency.random(K=6, batch=10, rng=0)
names = ["level", "cvxpy", "cvxpy:SCS", "scipy:slsqp", "scipy:trust-constr", "newton"]
table = rr.compare(cells, [*names, "baseline:equal-split"], repeat=2, rng=0)
table

# %% [markdown]
# `loss to best` compares the points that were found, `worst gap` is what the problem itself proves.
# A small loss beside a large gap is a claim without proof; a gap of zero needs no rival.

# %%
rows = table.to_dataframe().set_index("solver")
assert rows.proven["level"] == 10  # proves all
assert rows.message["newton"].startswith("does not apply")
assert rows.loss["baseline:equal-split"] > 0.05  # what optimising is worth
rows[["solved", "proven", "loss", "gap", "seconds", "cpu_seconds"]]

# %% [markdown]
# For a paper: `table.to_latex()`, `table.to_markdown()`, `table.save("table.tex")`.

# %%
print(table.to_latex()[:420], "...")

# %% [markdown]
# ## Profiles: every instance a case
#
# With `chunk=1` every instance is solved and timed alone. A *performance profile* (Dolan and Moré)
# asks: on what share of the cases is a solver within a factor of the quickest? High and left is
# better; where a curve starts is how often it wins, where it ends is how much it solves.

# %%
cases = rr.compare(cells, names[:-1], chunk=1, rng=0)
rr.plot.profile(cases)
plt.show()

# %% [markdown]
# A *data profile* (Moré and Wild) does not look at rivals: what share is solved within so many
# seconds? Its curves do not change when somebody joins the table.

# %%
rr.plot.profile(cases, kind="data")
plt.show()

# %%
print(cases.caption())
means = cases.means()
print(means.round(4))
assert means.failed["level"] == 0
assert means.index[0] == means["mean"].idxmin()

# %% [markdown]
# The shifted geometric mean is one number a solver. A case that was not solved counts as ten times
# the dearest solved one: a solver cannot gain by giving up.
#
# ## Where the choice is not obvious
#
# SP-FL is not convex. `dual` is the default; `alternating` and `scipy:slsqp` are rivals. Who is
# better depends on the channel. Two statistics of an instance, here mean and spread of the SNR in
# dB, make a map. In each cell stands the quickest solver that loses at most 0.1 %.

# %%
rng = np.random.default_rng(0)
count, devices = 27, 5
mean_db = rng.uniform(-5, 20, count)
spread_db = rng.uniform(0, 12, count)
snr = 10 ** ((mean_db[:, None] + spread_db[:, None] * rng.normal(size=(count, devices))) / 10)
drawn = SPFL.random(K=devices, load=4, batch=count, rng=0, objective="plain").replace(snr=snr)
spfl = rr.compare({"SP-FL": drawn}, ["scipy:slsqp", "dual", "alternating", "baseline:uniform"])
spfl

# %%
rr.plot.regret(spfl, "mean snr", "spread snr", bins=3)
plt.show()

# %%
chart = spfl.regret("mean snr", "spread snr", bins=3)
assert chart.groupby(["i", "j"]).choice.sum().eq(1).all()
whole = chart.groupby("solver").apply(
    lambda g: np.average(g.regret, weights=g.instances), include_groups=False
)
print((100 * whole).round(3).to_string())
assert whole["dual"] <= whole["scipy:slsqp"]

# %% [markdown]
# The title says what taking the first solver of the table everywhere would cost. The map is made of
# losses against the best point *found*; `dual` also leaves a bound, so ask how far the best point
# can be from the optimum:

# %%
gap = spfl.solutions["SP-FL", "dual"].gap
print(f"dual's gap: median {np.median(gap):.1e}, worst {gap.max():.1e}")
assert gap.max() < 0.05

# %% [markdown]
# ## Proof, time, and devices served
#
# Over the air `coverage` is quick and `exact` proves. `time_against_gap` puts both on one picture.

# %%
air = OTASelection.random(K=10, N=4, batch=4, rng=0)
served = rr.compare(air, ["coverage", "greedy", "exact", "baseline:strongest"], rng=0)
rr.plot.time_against_gap(served)
plt.show()

# %%
found = served.to_dataframe().set_index("solver")
print(found[["objective", "loss", "gap", "seconds"]])
assert found.proven["exact"] == 4
assert found.loss["coverage"] <= 0.05

# %% [markdown]
# **Against us:** on the interfering links below the default of the problem is the local method
# `sca`, and it stops a quarter below the optimum
# ([why certificates matter](why_certificates_matter.ipynb)).

# %%
links = rr.compare(SumRate.dccp37(), ["sca", "branch-and-bound"])
print(links)
assert links.to_dataframe().set_index("solver").loss["sca"] > 0.2

# %% [markdown]
# ## Long sweeps
#
# `path=` keeps each case as it ends, `chunk=` cuts a batch into parts, `executor=` spreads them
# over processes or machines. A second call does only what is missing.

# %%
with tempfile.TemporaryDirectory() as folder:
    kept = Path(folder) / "cases.jsonl"
    big = MinMaxLatency.random(K=8, batch=1000, rng=1)
    first = rr.compare(big, ["level", "baseline:equal-split"], chunk=250, path=kept)
    again = rr.compare(big, ["level", "baseline:equal-split"], chunk=250, path=kept)
    print(len(kept.read_text().splitlines()), "cases on disk")
    assert again.to_markdown() == first.to_markdown()  # clocks included: nothing ran twice
first
