"""Five small problems, every solver: what is solved, what is proven, how long it takes.

Water-filling, FDMA rate, min-max latency and FEEL scheduling over a batch of channel states, and
the 4-link sum rate on which local methods stop at 3.4503 although 4.6860 is reachable.
"""

from __future__ import annotations

from pathlib import Path

import rralloc as rr
from rralloc.comparison import Comparison
from rralloc.problem import Problem
from rralloc.problems import FDMARate, FEELScheduling, MinMaxLatency, SumRate, WaterFilling
from rralloc.study import study


def instances(batch: int, devices: int = 20, seed: int = 0) -> dict[str, Problem]:
    """The study's problems: four batches and one hard instance."""
    random = {"K": devices, "batch": batch, "rng": seed}
    return {
        "water-filling": WaterFilling.random(**random),
        "FDMA sum rate": FDMARate.random(**random),
        "min-max latency": MinMaxLatency.random(**random),
        "FEEL scheduling": FEELScheduling.random(**random),
        "4-link sum rate": SumRate.dccp37(),
    }


@study("five-problems")
def study_five_problems(
    out: Path,
    quick: bool = False,
    *,
    batch: int | None = None,
    time_limit: float | None = None,
    seed: int = 0,
) -> None:
    """Every solver on five small problems with known optima: table, profile data, figures."""
    batch = (100 if quick else 1000) if batch is None else batch
    time_limit = (1.0 if quick else 60.0) if time_limit is None else time_limit
    problems = instances(batch, seed=seed)
    table = rr.compare(problems, time_limit=time_limit, rng=seed, start=None)
    print(table.summary())
    print(f"\n{table.caption()}")
    out.mkdir(parents=True, exist_ok=True)
    table.to_dataframe().to_csv(out / "five_problems.csv", index=False)
    table.save(out / "five_problems.tex")
    _figures(table, problems, out)


def _figures(table: Comparison, problems: dict[str, Problem], out: Path) -> None:
    solutions = table.solutions
    rivals = {
        "optimal": solutions["min-max latency", "level"],
        "equal split": solutions["min-max latency", "baseline:equal-split"],
    }
    rr.plot.save(rr.plot.allocation(rivals), out / "bandwidth_against_channel.png")
    one = rr.solve(problems["min-max latency"][0])
    rr.plot.save(rr.plot.allocation(one), out / "bandwidth_one_realisation.png")
    wanted = ("sca", "multistart", "branch-and-bound", "scipy:slsqp")
    hard = {n: s for (name, n), s in solutions.items() if name == "4-link sum rate" and n in wanted}
    rr.plot.save(rr.plot.convergence(hard), out / "sum_rate_convergence.png")
    frame = table.to_dataframe()
    feel = frame[frame.problem == "FEEL scheduling"]
    rr.plot.save(rr.plot.time_against_gap(feel), out / "feel_time_against_gap.png")
    rr.plot.save(rr.plot.profile(table), out / "solver_profile.png")
