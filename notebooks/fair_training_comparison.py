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
# # A fair comparison in training
#
# Two schemes were trained, and one is a point ahead. Is it better? That depends on what you hold
# equal (rounds, seconds, joules, bits), on whether both saw the same data, batches and channels,
# and on how far the difference moves from seed to seed. Here ways to shorten a packet meet on real
# digits, and then a rule that decides how often to send one at all.
#
# As elsewhere, the asserts in the cells test mathematics or orderings, and **against us** marks
# results that speak against what the library offers.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import rralloc as rr
from rralloc import fl
from rralloc.problems import AdaptiveAggregation, FixedSteps, MinMaxLatency


def make_task(seed, learning_rate=0.1):
    """Ten devices, each with one block of label-sorted digits; the server has momentum."""
    return fl.Task.digits(
        clients=10,
        partition="shards",
        shards_per_client=1,
        learning_rate=learning_rate,
        batch_size=20,
        server_momentum=0.9,
        seed=seed,
    )


def make_link(seed):
    """A cell with only 20 kHz, so that bits cost time."""
    return fl.Link.cell(10, compute_s=(0.02, 0.05), bandwidth_hz=2e4, seed=seed)


rr.plot.who_has_what(make_task(0))
plt.show()

# %% [markdown]
# ## What a compressor does to a vector
#
# $v \in \mathbb{R}^d$ becomes $C(v)$ of `bits(d)` bits. `relative_error(v)` is
# $\mathbb{E}\|C(v) - v\|^2 / \|v\|^2$, exactly, not a bound. Monte Carlo must agree.

# %%
compress = fl.compress
v = np.random.default_rng(0).standard_t(3, 1000)  # heavy-tailed, like gradients
rng = np.random.default_rng(1)
kinds = [
    compress.ScaledSign(),
    compress.Ternary(),
    compress.QSGD(4),
    compress.TopK(0.01),
    compress.RandK(0.01),
]
print(f"{'compressor':16s}{'bits':>8s}{'of 32 d':>9s}{'error law':>11s}{'measured':>10s}  unbiased")
for kind in kinds:
    law = float(kind.relative_error(v))
    draws = [np.sum((kind(v, rng) - v) ** 2) / np.sum(v**2) for _ in range(400)]
    share = kind.bits(1000) / 32000
    print(
        f"{kind.name:16s}{kind.bits(1000):8.0f}{share:9.1%}{law:11.3f}{np.mean(draws):10.3f}"
        f"  {kind.unbiased}"
    )
    assert abs(np.mean(draws) - law) <= 4 * np.std(draws) / 20 + 1e-12

# %% [markdown]
# ## In training
#
# `fl.compare` takes pairs of a scheme and a policy. Every pair is trained with every seed on the
# same task, link and random streams. So differences are taken seed by seed, and their t-interval
# says what one point is worth.

# %%
policy = rr.Optimised(MinMaxLatency)
sure = fl.ErrorFree()
pairs = {
    "every float": (sure, policy),
    "top 1 %": (fl.Compressed(compress.TopK(0.01), link=sure), policy),
    "top 1 %, error feedback": (fl.Compressed(compress.TopK(0.01), True, sure), policy),
    "signs, error feedback": (fl.Compressed(compress.ScaledSign(), True, sure), policy),
    "QSGD, 4 levels": (fl.Compressed(compress.QSGD(4), link=sure), policy),
}
found = fl.compare(make_task, make_link, pairs, seeds=range(4), rounds=150, evaluate_every=5)
for cost in ("round", "seconds", "bits"):
    horizon = found.common(cost)
    print(found.table([horizon / 4, horizon], cost=cost), end="\n\n")

# %% [markdown]
# The three tables rank the same runs in three ways. After equal rounds nothing beats sending every
# float: compression buys no round. After equal bits every float is last, after equal seconds it is
# behind all that learn from everything they see. **Against us**: none of these is "the" ranking; a
# paper that shows one of them has chosen its winner.
#
# Top-1 % without error feedback stops at a wrong point whatever is held equal: what it never sends,
# it never learns. With error feedback it is near every float, round by round.

# %%
rounds = found.common("round")
naive = found.difference("top 1 %", "top 1 %, error feedback", rounds, "round")
close = found.difference("top 1 %, error feedback", "every float", rounds, "round")
print(f"naive minus error feedback {100 * naive.mean:+.1f} points, up to {100 * naive.high:+.1f}")
print(f"error feedback minus every float: [{100 * close.low:+.1f}, {100 * close.high:+.1f}]")
assert naive.high < -0.02
assert close.low > -0.03

for name in pairs:
    r, s, b = (np.mean(found.reaching(name, 0.9, c)) for c in ("round", "seconds", "bits"))
    print(f"90 % costs {name:24s} {r:5.0f} rounds {s:7.1f} s {b / 1e6:7.2f} Mbit")

fig, axes = plt.subplots(1, 2, figsize=(15, 5.2))
rr.plot.accuracy(found, x="round", ax=axes[0])
rr.plot.accuracy(found, x="seconds", ax=axes[1])
plt.tight_layout()
plt.show()

# %% [markdown]
# ## How many local steps before sending anything?
#
# Fewer, longer rounds send less, but local models drift apart where data differ. `TauControl` picks
# the number of steps $\tau$ that a convergence bound likes best; `AdaptiveAggregation` measures the
# bound's constants in training and asks it every round. Its constant $\varphi$ must be tuned for
# each model.

# %%
BUDGET_S = 15.0


def sorted_task(seed, partition="shards"):
    """Full batches, so that only the split and the steps matter."""
    return fl.Task.digits(
        clients=5, partition=partition, shards_per_client=1, learning_rate=0.2, seed=seed
    )


def slow_link(seed):
    """13 ms for a local step; a packet takes about ten times as long."""
    return fl.Link(np.full(5, 1e-9), 0.013, bandwidth_hz=50_000.0, fading="none")


fixed = {f"{tau} steps": FixedSteps(policy, tau) for tau in (1, 10, 50)}
adaptive = {
    "adaptive": AdaptiveAggregation(policy, control_parameter=3e-5, budget_s=BUDGET_S),
    "adaptive, phi 0.025": AdaptiveAggregation(policy, 0.025, BUDGET_S),
}
options = {"rounds": 400, "max_seconds": BUDGET_S, "scheme": sure, "evaluate_every": 4}
for partition in ("iid", "shards"):
    runs = fl.compare(
        lambda seed, p=partition: sorted_task(seed, p),
        slow_link,
        {**fixed, **adaptive},
        seeds=[0],
        **options,
    )
    losses = {name: np.mean([np.nanmin(h.loss) for h in hs]) for name, hs in runs.runs.items()}
    steps = np.mean([h.local_steps[1:].mean() for h in runs.runs["adaptive"]])
    told = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
    print(f"{partition:7s} least loss: {told} (mean tau {steps:.1f})")
    assert losses["adaptive"] <= min(losses[name] for name in fixed) + 0.03

# %% [markdown]
# It comes near the best fixed number on both splits without knowing which one it is on.
# **Against us**: with $\varphi = 0.025$, the value its authors used for an SVM, it falls back to
# one step on the sorted split, the worst choice there. One seed is enough to see that, not to rank
# neighbours.
#
# ## Keep what you computed
#
# A comparison is one xarray dataset and one netCDF file. With `path=` every finished run is a file
# of its own, and an interrupted comparison resumes.

# %%
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "compression.nc"
    found.save(file)
    again = fl.TrainingComparison.load(file)  # read when looked at
    assert again.table([rounds], cost="round") == found.table([rounds], cost="round")
cube = found.to_xarray()
print(cube["accuracy"].isel(round=-1).mean("seed").to_series().round(3).to_string())
