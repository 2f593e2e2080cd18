"""What a sweep costs beyond the solving: parts, processes, dask, files; and a million scenarios.

    taskset -c 0 python benchmarks/clusters.py --output benchmarks/clusters.json

What a part costs is the CPU time of all processes together, workers too: what exceeds the serial
run is the whole overhead, wherever it falls, and a busy machine does not change it much. Files are
on the wall clock, as a disk is waited for. Each measurement is a process of its own, so that its
peak memory is its own. The million is water-filling with K = 20 by the closed form, in one process;
what would take longer is measured on fewer and extrapolated, and says so.
"""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
import multiprocessing
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

from first_numbers import fingerprint

import rralloc as rr
from rralloc import sweep
from rralloc.problems import SPFL, WaterFilling

MILLION = 1_000_000
SOLVER = ["closed-form"]
CHUNKS = {1: 200, 10: 200, 100: 100, 1_000: 40, 10_000: 8}
"""Instances in a part -> how many parts are timed."""


def water(batch):
    return WaterFilling.random(K=20, batch=batch, rng=0)


def wall(call, *args, **settings):
    """Wall seconds of a call, and its answer."""
    start = time.perf_counter()
    answer = call(*args, **settings)
    return time.perf_counter() - start, answer


def cpu(call, *args, **settings):
    """CPU seconds of a call in this process and all that it started."""
    import psutil

    def so_far():
        here = psutil.Process()
        clocks = [p.cpu_times() for p in [here, *here.children(recursive=True)]]
        return sum(c.user + c.system for c in clocks)

    start = so_far()
    call(*args, **settings)
    return so_far() - start


PLAIN = {"OPENBLAS_NUM_THREADS": 1, "OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1}
"""The environment of dask's workers without what their nanny adds: see NANNY."""


@contextmanager
def dask(**environment):
    """Two worker processes behind a scheduler, over loopback TCP."""
    import dask.config
    from distributed import Client, LocalCluster

    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": PLAIN | environment}),
        LocalCluster(protocol="tcp", **settings) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor(pure=False)


def pool():
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def overhead(kind):
    """CPU milliseconds of all processes for each part, by its size."""
    found = {}
    with {"serial": nullcontext, "pool": pool, "dask": dask}[kind]() as executor:
        rr.compare(water(100), SOLVER, executor=executor, chunk=10)  # imports, in all processes
        for chunk, parts in CHUNKS.items():
            batch = water(chunk * parts)
            least = min(
                cpu(rr.compare, batch, SOLVER, executor=executor, chunk=chunk) for _ in range(2)
            )
            found[f"chunk_{chunk}_ms_per_part"] = 1e3 * least / parts
        heavy = SPFL.random(K=20, load=6, batch=64, rng=0)
        for chunk in (1, 8, 32):
            spent = cpu(rr.compare, heavy, ["dual"], executor=executor, chunk=chunk)
            found[f"spfl_chunk_{chunk}_ms_per_part"] = 1e3 * spent * chunk / 64
    return found


NANNY = {"MALLOC_TRIM_THRESHOLD_": 65536}
"""What dask sets by default; with it glibc no longer adapts, and large arrays come by ``mmap``."""


def nanny():
    """CPU milliseconds of one SP-FL batch in a worker, by what its nanny sets."""
    batch = SPFL.random(K=20, load=6, batch=8, rng=0)
    found = {}
    mended = {"MALLOC_TRIM_THRESHOLD_": 10**9, "MALLOC_MMAP_THRESHOLD_": 2**25}
    for name, environment in {"plain": {}, "as_dask_starts_it": NANNY, "mended": mended}.items():
        with dask(**environment) as executor:
            for _ in range(3):
                spent = executor.submit(rr.solve, batch, "dual").result().cpu_seconds
                found[f"{name}_ms"] = min(1e3 * spent, found.get(f"{name}_ms", 1e9))
    return found | {"ratio": found["as_dask_starts_it_ms"] / found["plain_ms"]}


def nothing(job):
    return job


def engine(kind):
    """CPU milliseconds of all processes for a job that does nothing, through ``submit``."""

    def empty_jobs():
        for future in [executor.submit(nothing, i) for i in range(400)]:
            future.result()

    with {"pool": pool, "dask": dask}[kind]() as executor:
        empty_jobs()
        least = min(cpu(empty_jobs) for _ in range(3))
        waited = min(wall(empty_jobs)[0] for _ in range(3))
    return {"empty_job_cpu_ms": 1e3 * least / 400, "empty_job_wall_ms": 1e3 * waited / 400}


def travel():
    """Bytes there and back for each instance."""
    found = {}
    for chunk in CHUNKS:
        problem = water(chunk)
        part = sweep.Call(problem, "closed-form", {"time_limit": None, "rng": (0, 0)}, 1, False)
        back = sweep.attempt(part)
        found[f"sent_bytes_chunk_{chunk}"] = len(pickle.dumps(part)) / chunk
        found[f"returned_bytes_chunk_{chunk}"] = len(pickle.dumps(back)) / chunk
        found[f"solution_bytes_chunk_{chunk}"] = len(pickle.dumps(rr.solve(problem))) / chunk
    return found


def both(name, call, *args, **settings):
    """Wall and CPU seconds of a call here, and its answer."""
    start, used = time.perf_counter(), time.process_time()
    answer = call(*args, **settings)
    used, waited = time.process_time() - used, time.perf_counter() - start
    return {f"{name}_cpu_s": used, f"{name}_wall_s": waited}, answer


def make():
    """A million scenarios: to draw, to name, to cut."""
    drawn, batch = both("draw", water, MILLION)
    named, _ = both("digest", lambda: batch.digest)
    many, _ = both("slice_of_10000", lambda: batch[500_000:510_000])
    one, _ = both("slice_of_1", lambda: batch[500_000:500_001])
    data = sum(getattr(batch, name).nbytes for name in batch._data)
    return drawn | named | many | one | {"data_mb": data / 1e6}


def solve_whole():
    """One call with a million scenarios on the batch axis."""
    spent, sol = both("solve", rr.solve, water(MILLION))
    return spent | {"proven": int((sol.status == rr.Status.GLOBAL).sum())}


def compare_parts():
    """The same through ``compare`` in a hundred parts, without a file."""
    spent, table = both("compare", rr.compare, water(MILLION), SOLVER, chunk=10_000)
    return spent | {"solved": table.rows[0].solved}


def compare_file():
    """The same with a file, and the second call that finds everything there."""
    batch = water(MILLION)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # /tmp may be memory
        path = Path(folder) / "rows.jsonl"
        spent, _ = both("compare", rr.compare, batch, SOLVER, chunk=10_000, path=path)
        size = path.stat().st_size
        again, table = both("resume", rr.compare, batch, SOLVER, chunk=10_000, path=path)
    return spent | again | {"file_bytes": size, "solved": table.rows[0].solved}


def lines():
    """What a line costs beyond its numbers: parts of 1, 100 and 10,000 instances."""
    found = {}
    for chunk, parts in {1: 3_000, 100: 300, 10_000: 10}.items():
        batch = water(chunk * parts)
        rr.compare(water(4), SOLVER, chunk=1)
        bare, _ = wall(rr.compare, batch, SOLVER, chunk=chunk)
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # /tmp may be memory
            path = Path(folder) / "rows.jsonl"
            kept, _ = wall(rr.compare, batch, SOLVER, chunk=chunk, path=path)
            again, _ = wall(rr.compare, batch, SOLVER, chunk=chunk, path=path)
            size = path.stat().st_size
        found[f"chunk_{chunk}"] = {
            "no_file_ms_per_line": 1e3 * bare / parts,
            "write_ms_per_line": 1e3 * (kept - bare) / parts,
            "read_ms_per_line": 1e3 * again / parts,
            "bytes_per_instance": size / batch.size,
        }
    one, million = found["chunk_1"], water(MILLION)
    cut = min(wall(lambda: million[7:8])[0] for _ in range(9))
    found["slice_of_1_of_a_million_ms"] = 1e3 * cut
    each = one["no_file_ms_per_line"] + one["write_ms_per_line"] + 1e3 * cut
    found["million_in_parts_of_1_extrapolated"] = {
        "hours": each * MILLION / 3.6e6,
        "file_gb": one["bytes_per_instance"] / 1e3,
        "resume_s": one["read_ms_per_line"] * MILLION / 1e3,
    }
    return found


PARTS = {
    "engine pool": lambda: engine("pool"),
    "engine dask": lambda: engine("dask"),
    "serial": lambda: overhead("serial"),
    "pool": lambda: overhead("pool"),
    "dask": lambda: overhead("dask"),
    "nanny": nanny,
    "bytes": travel,
    "lines": lines,
    "make a million": make,
    "solve a million": solve_whole,
    "compare a million": compare_parts,
    "compare a million with a file": compare_file,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path)
    parser.add_argument("--part", choices=PARTS, nargs="*", help="some only; others are kept")
    parser.add_argument("--here", choices=PARTS, help="one, in this process")
    told = parser.parse_args()
    if told.here:
        found = PARTS[told.here]()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps(found | {"peak_mb": peak}))
        return
    table = {"command": "taskset -c 0 python benchmarks/clusters.py", "machine": fingerprint()}
    if told.part and told.output and told.output.exists():
        table = json.loads(told.output.read_text()) | table
    for part in told.part or PARTS:
        command = [sys.executable, "-W", "ignore", __file__, "--here", part]
        out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        table[part] = json.loads(out)
        print(part, json.dumps(table[part]), flush=True)
        if told.output:
            told.output.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
