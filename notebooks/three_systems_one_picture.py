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
# # Three systems, one picture
#
# Sign and modulus packets (SP-FL), mobile devices with sparse uploads (MADS), and one receive beam
# for the air (OTA selection). All three decide who gets how much of the radio in a round of
# federated learning. Here is the same question to each: **does the strong device get more, or the
# weak one?**
#
# The answer changes within one system when the resource gets scarce. Each section says where, and
# every number in the text is asserted in a cell. SP-FL and MADS are reconstructions from abstracts
# and notes, not transcripts of their papers; the selection follows the abstract of arXiv
# 1812.11750.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import rralloc as rr
from rralloc.problems import MADS, SPFL, OTASelection


def by_rank(values, state):
    """Mean over the batch for each rank, rank 1 the strongest."""
    order = np.argsort(-state, axis=-1)
    return np.take_along_axis(np.asarray(values, dtype=float), order, -1).mean(0)


# %% [markdown]
# ## SP-FL: from helping the weak to giving them up
#
# Twenty devices share a band; the load is the bits that all of them want to send over what the band
# carries at 0 dB. While there is room, the weak get more, to be heard at all. When there is not,
# the weakest are given up.

# %%
loads = (1, 3, 6, 12)
cells = {load: SPFL.random(K=20, load=load, batch=30, rng=0, objective="plain") for load in loads}
plans = {load: rr.solve(cell, certify="none") for load, cell in cells.items()}
rr.plot.allocation({f"load {load}": plans[load] for load in loads}, variable="bandwidth_share")
plt.show()

# %%
silent = {load: (plan.bandwidth_share < 1e-9).mean() for load, plan in plans.items()}
bands = {load: by_rank(plans[load].bandwidth_share, cells[load].snr) for load in loads}
for load in loads:
    strong, weak = bands[load][[0, -1]]
    print(f"load {load:2d}: strongest {strong:.3f} of the band, weakest {weak:.3f};", end=" ")
    print(f"silent {silent[load]:.0%}")
assert bands[1][-1] > 2 * bands[1][0]  # the weak get more
assert bands[12][-1] < bands[12][0] / 2  # the strong get more
assert silent[1] < 0.01 < silent[3] < silent[6] < silent[12]

# %% [markdown]
# Between its two packets a device has one power. The worse its channel, the more the sign takes:

# %%
rr.plot.allocation({f"load {load}": plans[load] for load in (1, 6)}, variable="sign_power_share")
plt.show()
signs = by_rank(plans[6].sign_power_share, cells[6].snr)
print("sign's share of power at load 6, strongest, middle, weakest:", signs[[0, 10, 19]].round(2))
assert signs[0] < signs[10] < signs[19]

# %% [markdown]
# **Against us:** this objective is the error of one round. In training, one-bit innovations with
# optimised band are as good or better where the band is scarce (see
# [the notebook on SP-FL](sign_prioritised_allocation.ipynb)).

# %% [markdown]
# ## MADS: the price of a joule decides
#
# A device is in contact for three seconds. It may send any number of coordinates, at any power up
# to 0.2 W; a delivered coordinate has a value, a joule a price. Cheap joules: the weak shout.
# Dear joules: the weak fall silent, and the strong whisper.

# %%
fleet = MADS.random(K=20, batch=200, rng=0, contact_s=3.0, value=1.2 / 2410)
prices = (0.02, 0.3, 1.0)
uploads = {price: rr.solve(fleet.replace(energy_price=price)) for price in prices}
rr.plot.allocation({f"price {price}": uploads[price] for price in prices}, variable="power_w")
plt.show()

# %%
watts = {price: by_rank(uploads[price].power_w, fleet.snr_per_watt) for price in prices}
for price in prices:
    strong, middle, weak = watts[price][[0, 10, 19]]
    print(f"price {price}: strongest {strong:.3f} W, middle {middle:.3f} W, weakest {weak:.3f} W")
assert watts[0.02][-1] > watts[0.02][0]  # cheap: the weak use full power
assert watts[1.0][-1] == 0 < watts[1.0][0] < 0.2  # dear: the weak are silent
assert all((uploads[p].status == rr.Status.GLOBAL).all() for p in prices)

# %%
rr.plot.allocation({f"price {price}": uploads[price] for price in prices}, variable="kept")
plt.show()
kept = by_rank(uploads[0.3].kept, fleet.snr_per_watt)
print(f"kept at price 0.3: strongest {kept[0]:.0f} of 2410 coordinates, weakest {kept[-1]:.0f}")
assert (np.diff(kept) < 0).all()  # at every price the strong deliver more

# %% [markdown]
# So power is not monotone in the channel, but what is delivered is. The strongest do not need full
# power: their whole model is through before the contact ends.

# %% [markdown]
# ## Over the air: it is not strength alone
#
# All devices send at once and the server sees the sum through one beam. A device is in or out. Here
# path losses spread over 20 dB.

# %%
air = OTASelection.random(K=20, N=6, batch=100, rng=0, loss_db=20.0, mse_target=10**0.4)
strength = (np.abs(air.channel) ** 2).sum(-2)
rules = {"coverage": {}, "baseline:strongest": {}, "baseline:all-devices": {}}
beams = {name: rr.solve(air, name) for name in rules}
share = {name: by_rank(beam.selected, strength) for name, beam in beams.items()}

with plt.style.context({"figure.figsize": (7.5, 4.2), "figure.constrained_layout.use": True}):
    figure, ax = plt.subplots()
    for name, line in zip(share, ("-", "--", ":")):
        ax.plot(np.arange(1, 21), share[name], line, lw=2, label=name)
    ax.set_xlabel("device rank (1 = strongest)")
    ax.set_ylabel("share of channels in which it is served")
    mean = {name: float(beam.objective.mean()) for name, beam in beams.items()}
    ax.set_title(", ".join(f"{n}: {m:.1f} served" for n, m in mean.items()), fontsize=10)
    ax.legend()
plt.show()

# %%
for name in rules:
    print(f"{name:22s} serves {mean[name]:5.2f} of 20 on average")
assert mean["coverage"] > 2 * mean["baseline:strongest"]
assert (np.diff(share["coverage"]) <= 0.05).all()  # the weak are given up ...
given_up = (~beams["coverage"].selected & (strength > np.sort(strength, -1)[:, [10]])).sum(-1)
assert given_up.mean() > 0.5  # ... but some of the stronger half, too: their direction is wrong
print(f"of the ten strongest, {given_up.mean():.1f} are left out on average")

# %%
rr.plot.served({"coverage": beams["coverage"][0], "strongest": beams["baseline:strongest"][0]})
plt.show()

# %% [markdown]
# Who is served lies to the right, but not everybody on the right is served: a strong device whose
# channel is orthogonal to the others' costs more than it brings.
#
# **Against us:** everybody served is not everybody needed. Where labels are skewed, leaving out
# devices costs accuracy that no mean squared error shows (`rralloc study ota`).

# %% [markdown]
# ## What to remember
#
# | system | plenty | scarce | who is silent |
# |---|---|---|---|
# | SP-FL, band | the weak get more | the strong get more | the weakest |
# | SP-FL, power between packets | half and half | signs first | moduli of the weak |
# | MADS, power | the weak at full power | the strong at low power | the weak |
# | MADS, coordinates | the strong more | the strong more | the weak |
# | OTA, served | - | the strong and aligned | the weak, and the misaligned |
