"""Federated training: rounds per second against torch, Flower and FedLab; memory against clients.

    python benchmarks/fl.py --output benchmarks/fl.json [--part speed] [--rounds 30] [--cache DIR]

Speed: federated SGD of softmax regression 784 x 10, an MLP 784-64-10 and a CNN, on 20 clients with
300 samples each and on 100 with 60. Everybody has the same samples, start and arithmetic: float32,
one step on all samples of each client in each round, averaged by samples; one thread. That the
arithmetic is equal is asserted first: after 8 rounds in double precision all weights agree to 1e-6
of the largest weight. The weights after the timed rounds, in single precision, differ by rounding,
which is printed and limited to 2.4e-7 of the largest weight a round.
Runners take turns, each in a process of its own; a figure is the median over ``--repeats`` turns
(Flower: one, its rounds are long). Start-up (interpreter, imports, data, ray) and warm-up rounds
are not in it; start-up has its own column. CPU time counts child processes.

* rralloc: ``fl.train`` with an error-free link and an equal band split, nothing evaluated in the
  rounds counted. It must decide a band split and count seconds and joules in every round; the peers
  need not. It never forms the gradient of one client where a scheme needs only their weighted sum.
* torch loop: one backward pass for each client, gradients added up, one step.
* Flower 1.41.0: its simulation on ray, one worker; messages and a store between server and worker.
* FedLab 1.3.0: its serial trainer; once with a ``DataLoader`` for each client and round, as its own
  data sets do, and once with ready batches.

Peers are installed into virtual environments of their own under ``--cache``, never beside rralloc.
The job is tiny, so ratios to frameworks measure their overhead, not what training large models
on them costs.

Memory: peak of synchronous SGD with 10,000 clients over that with 100, same samples and model.
"""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from first_numbers import fingerprint

from rralloc import fl

HERE = Path(__file__).resolve().parent / "fl_peers"
sys.path.insert(0, str(HERE))

from job import BEGAN, DOUBLE, FOLDER, Job

FEATURES, CLASSES, SAMPLES = 784, 10, 6000
CHECKED = 8
AGREE = 1e-6
"""How far weights may differ after CHECKED rounds in double precision."""
DRIFT = 2.0**-22
"""The same in single precision, for each round: two spacings of float32. The frameworks average
weights, not updates, and round them in every round."""
TORCH = "torch==2.13.0"
LAYERS: dict[str, list[list[Any]]] = {
    "softmax": [["linear", 784, 10]],
    "mlp": [["linear", 784, 64], ["relu"], ["linear", 64, 10]],
    "cnn": [
        ["image", 1, 28, 28],
        ["conv", 1, 8, 5, 2],
        ["relu"],
        ["conv", 8, 16, 5, 2],
        ["relu"],
        ["flatten"],
        ["linear", 256, 10],
    ],
}
RATES = {"softmax": 0.05, "mlp": 0.02, "cnn": 0.002}
"""Small, because a ReLU that opens in one runner and not in another is a jump of about the rate."""


@dataclass(frozen=True)
class Runner:
    """A script of ``fl_peers``, the environment it runs in (None: this one), how often it runs."""

    title: str
    script: str
    argument: str = ""
    environment: str | None = None
    once: bool = False

    @property
    def key(self) -> str:
        """The name of its answer."""
        return f"{self.script}_{self.argument}" if self.argument else self.script


RUNNERS = (
    Runner("rralloc, single", "ours", "single"),
    Runner("rralloc, double", "ours", "double"),
    Runner("torch loop", "torch_loop", environment="torch"),
    Runner("FedLab, DataLoader", "fedlab_loop", "loader", environment="fedlab"),
    Runner("FedLab, ready batch", "fedlab_loop", "tensor", environment="fedlab"),
    Runner("Flower simulation", "flower_app", environment="flower", once=True),
)

ENVIRONMENTS: dict[str, list[list[str]]] = {
    "torch": [[TORCH, "numpy"]],
    "fedlab": [
        [TORCH, "numpy"],
        ["nvidia-ml-py", "pandas", "scikit-learn", "tqdm", "munch", "pillow"],
        ["--no-deps", "fedlab==1.3.0"],  # torchvision, which it asks for, brings its own torch
    ],
    "flower": [[TORCH, "numpy", "psutil"], ["flwr[simulation]==1.41.0", TORCH]],
}
"""What goes into each peer's environment, in turn: torch first, so that nobody brings another."""


class Unavailable(Exception):
    """A row that cannot be had, and why."""


def environment(folder: Path, name: str) -> Path:
    """The Python of a peer's environment, made on first use; what failed is not tried again."""
    made = _environment(folder, name)
    if isinstance(made, str):
        raise Unavailable(made)
    return made


@cache
def _environment(folder: Path, name: str) -> Path | str:
    home, steps = folder / name, ENVIRONMENTS[name]
    python, done = home / "bin" / "python", home / "installed.json"
    if done.exists() and json.loads(done.read_text()) == steps:
        return python
    print(f"installing {name} into {home} ...", flush=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as refused:
        return f"cannot install {name}: {refused}"
    commands = [[sys.executable, "-m", "venv", "--clear", str(home)]]
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    commands += [[*install, *step] for step in steps]
    for command in commands:
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            return f"cannot install {name}: {last_line(ran.stderr or ran.stdout)}"
    done.write_text(json.dumps(steps))
    return python


def installed(python: Path | str) -> dict[str, str]:
    """Versions of what the figures depend on."""
    code = (
        "import importlib.metadata as m, json\n"
        "names = ('numpy', 'torch', 'flwr', 'ray', 'fedlab')\n"
        "print(json.dumps({d.name: d.version for d in m.distributions() if d.name in names}))"
    )
    ran = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    return dict(sorted(json.loads(ran.stdout).items())) if ran.returncode == 0 else {}


def last_line(text: str) -> str:
    """What a failed command said last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line]
    return ((errors or lines)[-1] if lines else "no message")[:300]


def make_job(model: str, clients: int, warmup: int, rounds: int, folder: Path) -> Job:
    """Ten noisy sparse prototypes in [0, 1], labels at random; drawn by the number of clients."""
    rng = np.random.default_rng(clients)
    prototypes = rng.random((CLASSES, FEATURES)) * (rng.random((CLASSES, FEATURES)) < 0.25)
    y = rng.integers(CLASSES, size=SAMPLES)
    noise = rng.random((SAMPLES, FEATURES)) * (rng.random((SAMPLES, FEATURES)) < 0.25)
    x = (0.5 * prototypes[y] + 0.5 * noise).astype(np.float32)
    borders = np.linspace(0, SAMPLES, clients + 1).astype(np.int64)
    start = learner(model).init(np.random.default_rng(0)).astype(np.float32).astype(np.float64)
    return Job(x, y, borders, start, RATES[model], warmup, rounds, LAYERS[model], folder)


def learner(model: str) -> Any:
    """The library's model, for its start."""
    if model == "softmax":
        return fl.SoftmaxRegression(FEATURES, CLASSES)
    if model == "mlp":
        return fl.MLP(FEATURES, CLASSES, (64,))
    if not hasattr(fl, "CNN"):
        raise Unavailable("this version of rralloc has no CNN")
    try:
        return fl.CNN(FEATURES, CLASSES)
    except ImportError as missing:
        raise Unavailable(f"rralloc's CNN: {missing}") from missing


def run(
    runner: Runner, folder: Path, store: Path, double: bool = False
) -> tuple[dict[str, float], Any]:
    """One turn: its figures and its final weights."""
    python: Path | str = sys.executable
    if runner.environment:
        python = environment(store, runner.environment)
    command = [str(python), str(HERE / f"{runner.script}.py"), runner.argument]
    told = {**os.environ, FOLDER: str(folder), BEGAN: repr(time.time())}
    if double:
        told[DOUBLE] = "1"
    try:
        ran = subprocess.run(
            [part for part in command if part],
            env=told,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=1800,
        )
    except subprocess.TimeoutExpired as late:
        raise Unavailable(f"no end after {late.timeout} s") from late
    if ran.returncode:
        raise Unavailable(last_line(ran.stderr))
    if not (folder / f"{runner.key}.json").exists():
        raise Unavailable(f"ended without an answer: {last_line(ran.stderr or ran.stdout)}")
    with np.load(folder / f"{runner.key}.npz") as stored:
        weights = stored["weights"]
    return json.loads((folder / f"{runner.key}.json").read_text()), weights


def one_job(model: str, clients: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All runners on one problem, in turns."""
    found: dict[str, list[dict[str, float]]] = {}
    weights: dict[str, Any] = {}
    missing: dict[str, str] = {}
    exact: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_job(model, clients, 1, CHECKED - 1, folder).save()
        for runner in RUNNERS[1:]:
            try:
                exact[runner.title] = run(runner, folder, arguments.cache, double=True)[1]
            except Unavailable as reason:
                missing[runner.title] = str(reason)
        for answer in folder.iterdir():
            answer.unlink()
        job = make_job(model, clients, arguments.warmup, arguments.rounds, folder)
        job.save()
        for turn in range(arguments.repeats):
            for runner in RUNNERS:
                if runner.title in missing or (runner.once and turn):
                    continue
                try:
                    figures, final = run(runner, folder, arguments.cache)
                except Unavailable as reason:
                    missing[runner.title] = str(reason)
                    continue
                found.setdefault(runner.title, []).append(figures)
                weights[runner.title] = final
    rows = {title: summary(figures) for title, figures in found.items()}
    reference = weights.get("rralloc, double")
    if reference is not None:
        for title, final in weights.items():
            gap = np.abs(final - reference).max() / np.abs(reference).max()
            rows[title]["weights_from_double"] = float(gap)
            rows[title]["weights_from_start"] = float(
                np.abs(final - job.start).max() / np.abs(reference).max()
            )
    return {
        "model": model,
        "clients": clients,
        "samples_per_client": SAMPLES // clients,
        "difference_double": agreement(exact),
        "difference_single": agreement(weights),
        "rows": rows,
        "missing": missing,
    }


def summary(turns: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over the turns, and the range of the CPU time."""
    cpu = [turn["cpu_s"] for turn in turns]
    wall = [turn["wall_s"] for turn in turns]
    return {
        "cpu_ms_per_round": 1e3 * statistics.median(cpu),
        "cpu_ms_range": [1e3 * min(cpu), 1e3 * max(cpu)],
        "wall_ms_per_round": 1e3 * statistics.median(wall),
        "rounds_per_s": 1 / statistics.median(wall),
        "start_up_s": statistics.median(turn["ready_s"] for turn in turns),
        "turns": len(turns),
    }


def agreement(weights: Mapping[str, Any]) -> float:
    """The largest difference between any two runners' weights, over the largest weight."""
    if not weights:
        return 0.0
    every = np.stack(list(weights.values()))
    return float((every.max(axis=0) - every.min(axis=0)).max() / np.abs(every).max())


def show(job: dict[str, Any]) -> None:
    """One table; ratios are to rralloc in single precision, else in double."""
    rows = job["rows"]
    base = rows.get("rralloc, single") or rows.get("rralloc, double")
    print(f"\n{job['model']}, {job['clients']} clients x {job['samples_per_client']} samples")
    print(
        f"{'':22s}{'CPU ms':>9s}{'wall ms':>9s}{'rounds/s':>10s}{'CPU x':>8s}{'wall x':>8s}"
        f"{'start-up s':>12s}{'weights':>10s}"
    )
    for runner in RUNNERS:
        if runner.title in job["missing"]:
            print(f"{runner.title:22s} left out: {job['missing'][runner.title]}")
            continue
        row = rows[runner.title]
        for kind in ("cpu", "wall"):
            mine = base[f"{kind}_ms_per_round"] if base else float("nan")
            row[f"{kind}_over_rralloc"] = row[f"{kind}_ms_per_round"] / mine
        print(
            f"{runner.title:22s}{row['cpu_ms_per_round']:9.2f}{row['wall_ms_per_round']:9.2f}"
            f"{row['rounds_per_s']:10.1f}{row['cpu_over_rralloc']:8.2f}"
            f"{row['wall_over_rralloc']:8.2f}{row['start_up_s']:12.1f}"
            f"{row.get('weights_from_double', float('nan')):10.1e}"
        )
    moved = max((row.get("weights_from_start", 0.0) for row in rows.values()), default=0.0)
    print(
        f"weights, largest difference of any two over the largest weight: "
        f"{job['difference_double']:.1e} in double ({CHECKED} rounds), "
        f"{job['difference_single']:.1e} as timed (they moved by up to {moved:.1e})"
    )


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every model and number of clients."""
    jobs, left_out = [], {}
    for model in arguments.models:
        try:
            fits = learner(model)
            if fits.size != weights_of(LAYERS[model]):
                raise Unavailable(
                    f"rralloc's {model} has {fits.size} weights, the peers' "
                    f"{weights_of(LAYERS[model])}"
                )
        except Unavailable as reason:
            left_out[model] = str(reason)
            print(f"\n{model}: left out: {reason}", flush=True)
            continue
        for clients in arguments.clients:
            job = one_job(model, clients, arguments)
            show(job)
            sys.stdout.flush()
            jobs.append(job)
    versions = {"rralloc": installed(sys.executable)}
    for name in ENVIRONMENTS:
        python = arguments.cache / name / "bin" / "python"
        if python.exists():
            versions[name] = installed(python)
    return {
        "rounds": arguments.rounds,
        "warmup": arguments.warmup,
        "versions": versions,
        "jobs": jobs,
        "left_out": left_out,
    }


def weights_of(layers: list[list[Any]]) -> int:
    """How many numbers a model has."""
    linear = sum((a + 1) * b for kind, *(a, b) in (x for x in layers if x[0] == "linear"))
    conv = sum((a * k * k + 1) * b for kind, a, b, k, *_ in (x for x in layers if x[0] == "conv"))
    return linear + conv


def memory(arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak of three rounds at 10,000 clients over that at 100; 20,000 samples in both."""
    out: dict[str, Any] = {"samples": 20_000, "few": 100, "many": 10_000}
    print("\npeak memory of three rounds, 20,000 samples, MB (before training in brackets)")
    for model in ("softmax", "mlp"):
        found: dict[int, dict[str, float]] = {}
        for clients in (100, 10_000):
            command = [sys.executable, str(HERE / "memory.py"), model, str(clients), "20000"]
            ran = subprocess.run(command, capture_output=True, text=True)
            if ran.returncode:
                out[model] = {"failed": f"{clients} clients: {last_line(ran.stderr)}"}
                print(f"{model:10s} {out[model]['failed']}")
                break
            found[clients] = json.loads(ran.stdout)
        else:
            few, many = found[100], found[10_000]
            ratio = many["peak_mb"] / few["peak_mb"]
            out[model] = {"few": few, "many": many, "ratio": ratio}
            print(
                f"{model:10s} 100 clients {few['peak_mb']:8.1f} [{few['before_mb']:.1f}]   "
                f"10,000 clients {many['peak_mb']:8.1f} [{many['before_mb']:.1f}]   "
                f"ratio {ratio:.3f}",
                flush=True,
            )
    return out


def main() -> None:
    """Run what is asked for, print it, write it, and complain last."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("speed", "memory", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=30, help="rounds that are timed")
    parser.add_argument("--warmup", type=int, default=3, help="rounds before those")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each runner")
    parser.add_argument("--models", nargs="+", choices=tuple(LAYERS), default=list(LAYERS))
    parser.add_argument("--clients", nargs="+", type=int, default=[20, 100])
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "rralloc-bench")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if min(arguments.rounds, arguments.warmup, arguments.repeats) < 1:
        parser.error("--rounds, --warmup and --repeats must be at least 1")
    if any(clients < 2 or SAMPLES % clients for clients in arguments.clients):
        parser.error(f"--clients must divide the {SAMPLES} samples, and be at least 2")
    told = arguments.output
    figures = json.loads(told.read_text()) if told and told.exists() else {}
    figures |= {"command": "python benchmarks/fl.py", "machine": fingerprint()}
    if arguments.part in ("speed", "both"):
        figures["speed"] = speed(arguments)
    if arguments.part in ("memory", "both"):
        figures["memory"] = memory(arguments)
    if told:
        told.write_text(json.dumps(figures, indent=1) + "\n")
    jobs = figures["speed"]["jobs"] if arguments.part != "memory" else []
    limits = {"double": AGREE, "single": DRIFT * (arguments.rounds + arguments.warmup)}
    for kind, limit in limits.items() if jobs else ():
        apart = max(job[f"difference_{kind}"] for job in jobs)
        if apart > limit:
            raise SystemExit(f"weights differ by {apart:.1e} in {kind} precision, over {limit:.1e}")
        print(f"all weights agree to {apart:.1e} in {kind} precision (limit {limit:.1e})")


if __name__ == "__main__":
    main()
