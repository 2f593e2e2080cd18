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
# # From paper formula to figure in ten minutes
#
# You read a formula and want the figure: allocation against channel state, and what optimising is
# worth. Ten small steps, each with the time that it took the machine.
#
# The formula is typical of the literature on computation offloading (textbook material, not taken
# from one paper; this problem is not in the library). Device $k$ sends $D_k$ bits at power $P_k$ on
# its share $b_k$ of a band, and an edge server works on them for $C_k$ cycles at its share $f_k$ of
# the processor. Minimise the total latency under two budgets:
#
# $$\min_{b,f}\ \sum_k \left[\frac{D_k}{b_k \log_2(1 + q_k/b_k)} + \frac{C_k}{f_k}\right]
# \quad\text{s.t.}\quad \sum_k b_k \le B,\ \ \sum_k f_k \le F,\qquad q_k = \frac{P_k g_k}{N_0}.$$
#
# Numbers that matter are asserted in the cells. **Against us** marks what speaks against the
# effort.

# %%
# %matplotlib inline
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np

import rralloc as rr
from rralloc.channel import NOISE_PSD_W_PER_HZ, Cell, macro_3gpp, rayleigh
from rralloc.fields import Constraint, data, variable
from rralloc.fl.statistics import mean_interval
from rralloc.forms import Level, offers
from rralloc.numerics.logexp import log1p_excess
from rralloc.numerics.rates import rate, rate_slope
from rralloc.numerics.roots import bracketed_root
from rralloc.testing import check
from rralloc.typing import Field

TOOK = {}


@contextmanager
def timed(step):
    """Print and keep the wall time of a step."""
    start = time.perf_counter()
    yield
    TOOK[step] = time.perf_counter() - start
    print(f"[{step}: {TOOK[step]:.3f} s]")


# %% [markdown]
# ## Step 1: data, variables, objective, constraints
#
# One line for each symbol, with unit and range. Sums go over the last axis, the devices; whatever
# axes stand in front are a batch, for nothing.


# %%
class OffloadingByHand(rr.Problem):
    """Total latency of sending tasks to an edge server and having them computed there."""

    sense = "min"
    unit = "s"

    snr_bandwidth_hz: Field = data("K", unit="Hz", low=0, open_low=True, doc="q = P g/N0")
    task_bit: Field = data("K", unit="bit", low=0, open_low=True, doc="D, size of the task")
    task_cycles: Field = data("K", unit="cycle", low=0, open_low=True, doc="C, work")
    band_hz: Field = data(unit="Hz", low=0, open_low=True, doc="B, total bandwidth")
    server_hz: Field = data(unit="cycle/s", low=0, open_low=True, doc="F, speed of the server")

    bandwidth_hz = variable("K", unit="Hz", low=0, scale="band_hz", doc="bandwidth")
    speed_hz = variable("K", unit="cycle/s", low=0, scale="server_hz", doc="processor share")

    def objective(self, x):
        with np.errstate(divide="ignore"):
            upload = self.task_bit / rate(x["bandwidth_hz"], self.snr_bandwidth_hz)
            return (upload + self.task_cycles / x["speed_hz"]).sum(-1)

    def constraints(self, x):
        band, server = self.band_hz, self.server_hz
        return (
            Constraint("band", band - x["bandwidth_hz"].sum(-1), "Hz", band),
            Constraint("server", server - x["speed_hz"].sum(-1), "cycle/s", server),
        )

    def points(self):
        equal = {"bandwidth_hz": self.band_hz, "speed_hz": self.server_hz}
        shape, size = (*self.batch_shape, self.sizes["K"]), self.sizes["K"]
        return {
            "equal": lambda: {
                n: np.broadcast_to(v[..., None] / size, shape) for n, v in equal.items()
            }
        }

    @classmethod
    def random_fields(cls, rng, shape):
        """A 500 m cell, 0.1 W, Rayleigh fading; tasks of 0.2-2 Mbit and 0.1-1 Gcycle."""
        distance = Cell(500.0, 50.0).drop(int(np.prod(shape)), rng).distance_m.reshape(shape)
        return {
            "snr_bandwidth_hz": 0.1
            * macro_3gpp(distance)
            * rayleigh(shape, rng)
            / NOISE_PSD_W_PER_HZ,
            "task_bit": rng.uniform(0.2e6, 2e6, shape),
            "task_cycles": rng.uniform(0.1e9, 1e9, shape),
            "band_hz": 1e7,
            "server_hz": 2e10,
        }


# %% [markdown]
# That was the paper's line. Everything below is about trusting it and making it fast.
#
# ## Step 2: solve at once
#
# Derivatives come from complex steps, the start from the equal split. (The first call also pays for
# finding and importing the solvers.)

# %%
cell = OffloadingByHand.random(K=10, rng=1)
with timed("2 solve by scipy"):
    first = rr.solve(cell)
print(first)
print(repr(rr.solvers_for(cell)).split("does not apply")[0])
assert first.status == rr.Status.LOCAL  # stationary; nobody has proven more yet

# %% [markdown]
# ## Step 3: brute force for two devices
#
# Written from the formula, with nothing of the class: a grid over both splits. The budgets do not
# meet in any term, so the grid may be searched one axis at a time, but the full square is the more
# stupid check, and a check should be stupid.

# %%
two = OffloadingByHand.random(K=2, rng=4)
with timed("3 brute force"):
    b, f = np.linspace(0, 1, 1502)[1:-1, None], np.linspace(0, 1, 1502)[None, 1:-1]
    total = 0.0
    for k, (band, speed) in enumerate(((b, f), (1 - b, 1 - f))):
        hz = 1e7 * band
        bits_per_s = hz * np.log2(1 + two.snr_bandwidth_hz[k] / hz)
        total = total + two.task_bit[k] / bits_per_s + two.task_cycles[k] / (2e10 * speed)
    best = total.min()
found = rr.solve(two).objective
print(f"grid {best:.9f} s, solver {found:.9f} s, off by {best / found - 1:.1e}")
assert found <= best  # no point of the grid beats it
assert best <= found * (1 + 1e-5)  # and the grid comes this near

# %% [markdown]
# ## Step 4: use the structure
#
# The server's part has a formula (Cauchy-Schwarz): $f_k = F \sqrt{C_k}/\sum_j \sqrt{C_j}$. The band
# has one price $\nu$ for all: $D_k r_k'(b)/r_k(b)^2 = \nu$, and each side falls in $b$. So one
# number fixes everything; that is the form `Level`. With $s = q/b$ and $L = \ln(1+s)$ it reads
#
# $$\frac{s^2}{L^2} \left(L - \frac{s}{1+s}\right) = \frac{\nu\, q_k^2}{D_k \ln 2}.$$
#
# ## Step 5: a bound
#
# $1/r$ is convex, so the whole sum is, and a tangent is below it everywhere. Over the two budgets a
# tangent is least in a corner: the whole band to one device, the whole server to one device.


# %%
def inverse_snr(load):
    """s with (s/L)^2 (L - s/(1+s)) = load, L = ln(1+s); in y = ln s, elementwise."""

    def fall(y, goal):
        s = np.exp(y)
        L = np.log1p(s)
        inner = log1p_excess(L)  # L - s/(1+s) without cancellation
        slope = 2 - 2 * s / ((1 + s) * L) + (s / (1 + s)) ** 2 / inner
        return goal - (2 * (y - np.log(L)) + np.log(inner)), -slope

    goal = np.log(load).ravel()
    ends = np.full((2, goal.size), [[-50.0], [60.0]])
    return np.exp(bracketed_root(fall, *ends, goal, tol=1e-13)).reshape(load.shape)


@rr.register
class Offloading(OffloadingByHand):
    """The same with its level form and a bound."""

    bound_method = "tangent of a convex objective over the two budgets"

    @offers(Level)
    def level(self):
        q, D, total = self.snr_bandwidth_hz, self.task_bit, self.band_hz
        root = np.sqrt(self.task_cycles)
        speed = self.server_hz[..., None] * root / root.sum(-1, keepdims=True)

        def band(price):
            return q / inverse_snr(price[..., None] * q**2 / (D * np.log(2)))

        def price_at(b):
            return D * rate_slope(b, q) / rate(b, q) ** 2

        equal = self.points()["equal"]()["bandwidth_hz"]
        bracket = (price_at(equal).min(-1), price_at(equal).max(-1))
        return Level(
            point=lambda price: {"bandwidth_hz": band(price), "speed_hz": speed},
            used=lambda price: band(price).sum(-1),
            budget=total,
            bracket=bracket,
            spacing="log",
        )

    def project(self, x):
        """Scaled down onto a budget that is exceeded."""
        budget = {"bandwidth_hz": self.band_hz, "speed_hz": self.server_hz}
        clipped = {n: np.maximum(v, 0.0) for n, v in x.items()}
        over = {n: np.maximum(v.sum(-1) / budget[n], 1.0)[..., None] for n, v in clipped.items()}
        return {n: v / over[n] for n, v in clipped.items()}

    def bound(self, x=None, witness=None):
        x = self.initial() if x is None else x
        budget = {"bandwidth_hz": self.band_hz, "speed_hz": self.server_hz}
        inner = {n: np.maximum(v, 1e-9 * budget[n][..., None]) for n, v in x.items()}
        low = self.objective(inner)
        for name, slope in self.gradient(inner).items():
            low = low + budget[name] * slope.min(-1) - (slope * inner[name]).sum(-1)
        return low


fields = {n: getattr(cell, n) for n in cell._data}
with timed("4-5 conformance"):
    print("passed:", ", ".join(check(Offloading.random(K=4, batch=3, rng=0))))
with timed("4 solve by level"):
    fast = rr.solve(Offloading(**fields))
print(fast)
assert fast.status == rr.Status.GLOBAL
assert np.isclose(fast.objective, first.objective, rtol=1e-6)
assert fast.objective <= first.objective

# %% [markdown]
# `check` compared both solvers with each other and the bound with clouds of points. From here on
# every answer comes with a proof.
#
# ## Step 6: a thousand channels

# %%
cells = Offloading.random(K=10, batch=1000, rng=0)
with timed("6 level, 1000 channels"):
    optimal = rr.solve(cells)
with timed("6 scipy, 20 of them"):
    few = rr.solve(cells[:20], "scipy:slsqp")
equal = rr.solve(cells, "baseline:equal")
print(optimal)
per_level = TOOK["6 level, 1000 channels"] / 1000
per_scipy = TOOK["6 scipy, 20 of them"] / 20
print(f"level {1e3 * per_level:.3f} ms a channel, scipy {1e3 * per_scipy:.1f} ms")
assert (optimal.status == rr.Status.GLOBAL).all()
assert (optimal.objective[:20] <= few.objective * (1 + 1e-9)).all()
assert (optimal.objective <= equal.objective).all()

# %% [markdown]
# ## Step 7: allocation against channel state
#
# The title of each figure is computed from what it shows.

# %%
with timed("7 figure"):
    figure, axes = plt.subplots(1, 2, figsize=(14, 5), layout="constrained")
    both = {"optimal": optimal, "equal split": equal}
    rr.plot.allocation(both, ax=axes[0])
    rr.plot.allocation(both, variable="speed_hz", against="task_cycles", ax=axes[1])
    axes[1].xaxis.set_major_formatter(lambda v, _: f"{v / 1e6:g}")
    axes[1].yaxis.set_major_formatter(lambda v, _: f"{v / 1e9:g}")
    axes[1].set(
        xlabel="work of the task, mean of each rank (Mcycle)", ylabel="processor share (GHz)"
    )
plt.show()
wide = np.corrcoef(np.log(cells.snr_bandwidth_hz).ravel(), optimal.bandwidth_hz.ravel())[0, 1]
print(f"correlation of band and log channel: {wide:.2f}")
assert wide < 0  # the weak get more

# %% [markdown]
# Who is heard badly gets more band, because total *time* is minimised, and the server divides
# itself by the square root of the work. Channel and work do not meet: the server's shares ignore
# the channel, and the band ignores the cycles.
#
# ## Step 8: what is it worth, and when?
#
# Mean saving over the equal split, with its 95 % interval, against the band. Both halves of the
# allocation are also switched on alone, to see which one does the work.


# %%
def saving(problem, x):
    """Per cent of the equal split's latency, one value for each channel."""
    split = problem.points()["equal"]()
    return 100 * (1 - problem.objective(dict(split) | x) / problem.objective(split))


lines = {"band and server": {}, "band alone": {}, "server alone": {}}
with timed("8 sweep, 5 bands x 200 channels"):
    for mhz in (1, 3, 10, 30, 100):
        some = cells[:200].replace(band_hz=mhz * 1e6)
        x = rr.solve(some).x
        for name, part in zip(
            lines, (x, {"bandwidth_hz": x["bandwidth_hz"]}, {"speed_hz": x["speed_hz"]})
        ):
            lines[name][mhz] = mean_interval(saving(some, part))
figure, ax = plt.subplots(figsize=(8.4, 5.2), layout="constrained")
top = max(lines["band and server"], key=lambda m: lines["band and server"][m].mean)
rr.plot.against(
    lines,
    x="total bandwidth, MHz",
    y="latency saved on the equal split, %",
    title=f"At most {lines['band and server'][top].mean:.1f} % saved, at {top} MHz; "
    f"{lines['band and server'][100].mean:.1f} % at 100 MHz, nearly all of it by the server",
    ax=ax,
)
ax.set_xscale("log")
plt.show()

# %% [markdown]
# **Against us:** the saving is modest, and where the band is wide nearly all of it comes from the
# square-root rule for the server, which is one line and needs no solver.

# %%
wide = {name: line[100].mean for name, line in lines.items()}
print({n: f"{v:.1f} %" for n, v in wide.items()})
assert all(i.low > 0 for i in lines["band and server"].values())
assert wide["server alone"] > 0.8 * wide["band and server"]
for mhz, both in lines["band and server"].items():
    parts = lines["band alone"][mhz].mean + lines["server alone"][mhz].mean
    assert np.isclose(both.mean, parts)  # the two halves do not meet: savings add up

# %% [markdown]
# ## Step 9: the table for the paper


# %%
def cells_of(interval):
    return f"{interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


head = ["MHz", *lines]
rows = [[str(m), *(cells_of(line[m]) for line in lines.values())] for m in lines["band alone"]]
markdown = "\n".join("| " + " | ".join(r) + " |" for r in (head, ["---"] * len(head), *rows))
latex = "\n".join(
    [
        r"\begin{tabular}{r" + "c" * len(lines) + "}",
        " & ".join(head) + r" \\ \hline",
        *(" & ".join(r) + r" \\" for r in rows),
        r"\end{tabular}",
    ]
)
print(markdown, latex, sep="\n\n")
assert len(markdown.splitlines()) == 2 + len(rows)
assert latex.count("&") == (len(rows) + 1) * len(lines)

# %% [markdown]
# ## Step 10: keep the scenario
#
# One JSON file holds the problem with all its channels; nothing is rounded. The digest in the file
# names the data, and every house figure carries it in its metadata.

# %%
with TemporaryDirectory() as folder, timed("10 save and load"):
    path = Path(folder) / "offloading.json"
    rr.io.save_scenario(cells[:20], path)
    again = rr.io.load_scenario(path)
    size = path.stat().st_size
assert again == cells[:20]
assert again.digest == cells[:20].digest
assert (rr.solve(again).bandwidth_hz == rr.solve(cells[:20]).bandwidth_hz).all()
print(f"{size / 1e3:.0f} kB, digest {again.digest}")

# %% [markdown]
# Where the machine's time went:

# %%
for step, seconds in TOOK.items():
    print(f"{step:32s} {seconds:8.3f} s")
print(f"{'together':32s} {sum(TOOK.values()):8.3f} s; the rest of the ten minutes is yours")
