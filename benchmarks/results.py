"""Every headline ratio measured anew in one run, and the page that shows them.

    python benchmarks/results.py                    # 20 to 40 minutes; writes benchmarks/RESULTS.md
    python benchmarks/results.py --page             # only the page, from the last run's numbers

Runs the other benchmarks one after another on one thread and keeps their numbers in
``benchmarks/results.json``. A benchmark that fails is a line that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from first_numbers import fingerprint

HERE = Path(__file__).resolve().parent
COMMAND = "python benchmarks/results.py"
RUNS: dict[str, list[str]] = {
    "footprint": ["footprint.py"],
    "first_numbers": ["first_numbers.py"],
    "spfl": ["spfl.py", "--part", "speed"],
    "mads": ["mads.py"],
    "ota": ["ota.py", "--part", "paired"],
    "wide": ["ota.py", "--part", "wide"],
    "batch": ["ota.py", "--part", "batch"],
    "fl": ["fl.py", "--part", "speed", "--models", "softmax", "--rounds", "15", "--repeats", "3"],
}
Numbers = dict[str, Any]
Figure = tuple[str, str, Callable[[Numbers], float], str]


def at(*path: str) -> Callable[[Numbers], float]:
    """A number by its path in the results."""

    def read(numbers: Numbers) -> float:
        found: Any = numbers
        for name in path:
            found = found[name]
        return float(found)

    return read


def training(clients: int, rival: str, clock: str = "cpu_over_rralloc") -> Callable[..., float]:
    """CPU of a training round of a rival over ours, softmax regression."""

    def read(numbers: Numbers) -> float:
        jobs = numbers["fl"]["speed"]["jobs"]
        rows = next(j["rows"] for j in jobs if j["clients"] == clients)
        return float(rows[rival][clock])

    return read


def _paired(level: str, what: str) -> Callable[[Numbers], float]:
    return at("ota", "paired", f"{level} dB: {what}")


HEADLINES: list[Figure] = [
    *(
        ("Import and first plot", words, at("footprint", part, name), unit)
        for words, part, name, unit in (
            ("`import rralloc`, CPU", "imports", "import rralloc, CPU s", "s"),
            ("`import numpy`, CPU", "imports", "import numpy, CPU s", "s"),
            (
                "first plot after installation (tutorial's batch), wall",
                "first_plot",
                "the tutorial's (min-max latency, 100 x 20): cold, wall s",
                "s",
            ),
            (
                "first plot of SP-FL, 100 instances with certificates, wall",
                "first_plot",
                "SP-FL, 100 x 20, with certificates: cold, wall s",
                "s",
            ),
        )
    ),
    *(
        ("Peak memory", f"{name}", at("footprint", "memory", f"{name}, peak MB"), "MB")
        for name in (
            "water-filling 1e4 x 20",
            "water-filling 1e6 x 20",
            "SP-FL, dual, 128 x 20",
            "SP-FL, newton, 1000 x 20",
            "MADS, 1e5 x 2",
            "MADS horizon 1e4 x 1e3",
            "OTA selection, coverage, 100 x (6, 20)",
        )
    ),
    *(
        ("Water-filling, 1e4 x 20", words, at("first_numbers", "batch_water_filling", name), unit)
        for words, name, unit in (
            ("closed form, an instance", "closed_form_us_per_instance", "us"),
            ("compiled cvxpy over closed form", "cvxpy_over_closed_form", "x"),
            ("compiled cvxpy over `level`", "cvxpy_over_level", "x"),
        )
    ),
    ("A call", "what `rr.solve` adds", at("first_numbers", "call_overhead", "overhead_us"), "us"),
    *(
        ("SP-FL, 20 devices", words, at("spfl", "speed", name), unit)
        for words, name, unit in (
            ("`newton` in a batch of 1000, an instance", "newton_batch_K20_load3_ms", "ms"),
            ("compiled cvxpy over it", "cvxpy_over_newton_batch", "x"),
            ("Pyomo with pounce over it", "pounce_over_newton_batch", "x"),
            ("K = 1000: cvxpy over `newton`", "cvxpy_over_newton_K1000", "x"),
            ("`dual`, plain, common fading, an instance", "dual_K20_plain_common_fixed_ms", "ms"),
            ("its certificate", "dual_K20_plain_common_fixed_bound_ms", "ms"),
        )
    ),
    *(
        (
            "Training, softmax, a round",
            f"{n} clients: {rival} over rralloc",
            training(n, rival),
            "x",
        )
        for n in (20, 100)
        for rival in ("torch loop", "FedLab, DataLoader", "Flower simulation")
    ),
    *(
        ("MADS", words, at("mads", *path), unit)
        for words, path, unit in (
            ("closed form, a device", ("kernel", "base, first call, ns"), "ns"),
            (
                "parametrised cvxpy and ECOS over `rr.solve`",
                ("peers", "cvxpy + ECOS, parametrised over ours"),
                "x",
            ),
            ("rebuilt cvxpy and ECOS", ("peers", "cvxpy + ECOS, rebuilt over ours"), "x"),
            ("SciPy bounded", ("peers", "scipy bounded over ours"), "x"),
            ("horizon 1e4 x 1e3 with bound", ("horizon", "10000 rounds x 1000 devices, s"), "s"),
        )
    ),
    *(
        (f"OTA (6, 20), {level} dB", words, _paired(level, name), unit)
        for level in ("-4", "-2", "0")
        for words, name, unit in (
            ("`dc` over `coverage`, effort 1", "dc over coverage, effort 1, CPU", "x"),
            ("`dc` over `coverage`, effort 2", "dc over coverage, effort 2, CPU", "x"),
            ("devices more than `dc`, effort 2", "coverage, effort 2 minus dc", ""),
        )
    ),
    *(
        ("OTA (8, 50), 0 dB", words, at("wide", "wide", name), unit)
        for words, name, unit in (
            ("`dc` over `coverage`, effort 1", "dc over coverage, effort 1, CPU", "x"),
            ("devices more than `dc`", "coverage, effort 1 minus dc", ""),
        )
    ),
    ("OTA, batch of 100", "effort 1, CPU", at("batch", "batch", "effort 1, CPU ms"), "ms"),
]


def run() -> Numbers:
    """Every benchmark in turn; what it wrote, or why it did not."""
    numbers: Numbers = {"command": COMMAND, "machine": fingerprint()}
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    for name, (script, *flags) in RUNS.items():
        start, part = time.perf_counter(), HERE / f".{name}.part.json"
        call = [sys.executable, "-W", "ignore", str(HERE / script), *flags, "--output", str(part)]
        done = subprocess.run(call, env=environment, capture_output=True, text=True)
        numbers[name] = json.loads(part.read_text()) if part.exists() else {}
        part.unlink(missing_ok=True)
        if done.returncode:
            numbers[name]["failed"] = done.stderr.strip().splitlines()[-1:] or ["no words"]
        numbers[name]["seconds"] = time.perf_counter() - start
        print(f"{name}: {numbers[name]['seconds']:.0f} s", *numbers[name].get("failed", []))
        (HERE / "results.json").write_text(json.dumps(numbers, indent=1) + "\n")
    return numbers


def page(numbers: Numbers) -> str:
    """The numbers as Markdown."""
    machine = numbers["machine"]
    told = ", ".join(f"{k} {v:.3g}" if k == "load" else f"{k} {v}" for k, v in machine.items())
    lines = [
        "# Headline figures, all from one run",
        "",
        f"Command: `{numbers['command']}`. Machine: {told}. One thread, CPU seconds unless it says",
        "wall. Peers and what exactly is timed: the docstrings of the scripts in this folder.",
        "A ratio of 400 x means that the peer needs 400 times as long.",
    ]
    part = ""
    for group, words, read, unit in HEADLINES:
        if group != part:
            lines += ["", f"**{group}**", "", "| | |", "|---|---|"]
            part = group
        try:
            value = read(numbers)
            shown = f"{value:.4g} {unit}".strip() if value < 1e3 else f"{value:,.0f} {unit}".strip()
        except (KeyError, StopIteration):
            shown = "not measured"
        lines.append(f"| {words} | {shown} |")
    failed = {n: numbers[n]["failed"] for n in RUNS if "failed" in numbers.get(n, {})}
    if failed:
        lines += ["", "Benchmarks that failed in this run:", ""]
        lines += [f"* `{name}`: {' '.join(why)}" for name, why in failed.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    arguments = parser.parse_args()
    kept = HERE / "results.json"
    numbers = json.loads(kept.read_text()) if arguments.page else run()
    (HERE / "RESULTS.md").write_text(page(numbers))
    print(page(numbers))


if __name__ == "__main__":
    main()
