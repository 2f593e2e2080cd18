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
# # Who wins where
#
# Sign-prioritised federated learning (SP-FL, a **reconstruction** from the abstract of arXiv
# 2603.10763) against its rivals on Fashion-MNIST: 60,000 training images, 10,000 test images. The
# runs take hours, so this page reads their results, `benchmarks/headline.csv`, which
# `rralloc study headline --out results/headline` writes. Every number is a set of runs: 60 rounds,
# 5 seeds, and a learning rate tuned for that row and cell on three other seeds and a tenth of the
# data.

# %%
# %matplotlib inline
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import rralloc as rr
from rralloc.fl import paired_difference
from rralloc.studies.headline import cells, values_of
from rralloc.studies.spfl import CLIPPED, FREE_BEST, ONE_BIT_BEST, SINGLE_BEST

runs = pd.read_csv(Path(rr.__file__).parents[1] / "benchmarks" / "headline.csv")
results = {c: values_of(runs, c) for members in cells().values() for c in members}
results = {cell: values for cell, values in results.items() if values}
print(f"{len(runs)} runs in {len(results)} cells")

# %% [markdown]
# The map: load (bit/s/Hz at equal bands) against skew of the labels. A cell is pale where the
# interval of the winner's lead includes zero: there the two are tied.

# %%
for group, members in cells().items():
    found = {(f"{c.load:g}", f"{c.alpha:g}"): results[c] for c in members if c in results}
    if len(found) > 1:
        rr.plot.winners(found, x="load, bit/s/Hz", y="Dirichlet alpha", unit=" %", title=group)
        plt.show()

# %% [markdown]
# **Against us**: no colour of SP-FL is full. One-bit innovations with an optimised band are best or
# tied in every cell, and they are a single point of SP-FL's free split. The split that minimises
# the error of the round mostly loses to it; with clipped moduli (what is cut off comes back in the
# next round) it ties in most cells, because it then sends little but signs.

# %%
rows = []
for cell, values in results.items():
    one_bit = np.array(values[ONE_BIT_BEST])
    row = {"cell": f"{cell.group}, {cell.alpha:g}, load {cell.load:g}"}
    row["one-bit"] = f"{one_bit.mean():.1f}"
    for name, short in ((CLIPPED, "clipped"), (FREE_BEST, "free split"), (SINGLE_BEST, "single")):
        lead = paired_difference(values[name], one_bit)
        row[f"{short} minus one-bit"] = f"{lead.mean:+.1f} [{lead.low:+.1f}, {lead.high:+.1f}]"
        if name in (CLIPPED, FREE_BEST):
            assert lead.low <= 0, f"{name} beats one-bit in {cell}: the text above is out of date"
    rows.append(row)
print(pd.DataFrame(rows).to_string(index=False))

# %% [markdown]
# Where it helps: against the best single packet, SP-FL with innovations is far ahead at every load
# here. What matters is that the signs get through and that what is lost comes back.

# %%
for cell, values in results.items():
    lead = paired_difference(values[CLIPPED], values[SINGLE_BEST])
    print(
        f"{cell.group:42s} {cell.alpha:g} load {cell.load:<4g} clipped SP-FL minus single "
        f"{lead.mean:+5.1f} [{lead.low:+.1f}, {lead.high:+.1f}]"
    )
