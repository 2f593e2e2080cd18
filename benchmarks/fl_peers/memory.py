"""Peak memory of a training run: ``memory.py softmax|mlp CLIENTS SAMPLES``; prints JSON.

The peak is the high-water mark of this process alone; ``ru_maxrss`` may contain what the parent had
before it became this program.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np

import rralloc as rr
from rralloc import fl
from rralloc.policy import Optimised
from rralloc.problems import MinMaxLatency

FEATURES = 784


def peak_mb() -> float:
    """High-water mark of the resident memory, MB."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Three rounds."""
    model, clients, samples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = np.random.default_rng(0)
    x = rng.random((samples, FEATURES), dtype=np.float32)
    y = rng.integers(10, size=samples)
    data = fl.Dataset("noise", x, y, x[:10], y[:10], 10)
    parts = np.array_split(np.arange(samples), clients)
    learner = fl.MLP(FEATURES, 10, (64,)) if model == "mlp" else fl.SoftmaxRegression(FEATURES, 10)
    task = fl.Task(data, parts, learner, 0.05)
    link = fl.Link.cell(clients)
    before = peak_mb()
    rr.fl.train(
        task,
        link,
        Optimised(MinMaxLatency, "baseline:equal-split"),
        rounds=3,
        scheme=fl.ErrorFree(),
        evaluate_every=4,
    )
    found = {"before_mb": before, "peak_mb": peak_mb()}
    found["ru_maxrss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
