"""Federated SGD by Flower's simulation: FedAvg over all clients, one ray worker with one CPU.

CPU time is that of this process and of all its descendants: ray's services and its worker. The wall
time contains the 0.1 s for which Flower's server sleeps between looking for replies.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from typing import Any

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import psutil
from flower_client import app as client_app
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from job import Clock, Job
from network import flat, network

logging.getLogger("flwr").setLevel(logging.ERROR)


def cpu() -> float:
    """CPU seconds of this process and its descendants, dead ones included."""
    gone = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + gone.ru_utime + gone.ru_stime
    for process in psutil.Process().children(recursive=True):
        try:
            total += sum(process.cpu_times()[:4])  # own and waited-for, user and system
        except psutil.NoSuchProcess:
            continue
    return total


class Timed(FedAvg):
    """Ticks when a round begins."""

    clock: Clock

    def configure_train(self, *arguments: Any, **named: Any) -> Any:
        """As FedAvg."""
        self.clock.tick()
        return super().configure_train(*arguments, **named)


def main() -> None:
    """Run the job."""
    job = Job.load()
    model, clients, clock = network(job), len(job.clients), Clock(job, cpu)
    server_app = ServerApp()

    @server_app.main()
    def run(grid: Any, context: Any) -> None:
        # Without min_train_nodes round 1 samples only those clients that are there already.
        strategy = Timed(
            fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients
        )
        strategy.clock = clock
        result = strategy.start(grid, ArrayRecord(model.state_dict()), num_rounds=job.total)
        model.load_state_dict(result.arrays.to_torch_state_dict())

    run_simulation(
        server_app,
        client_app,
        clients,
        backend_config={
            "init_args": {"num_cpus": 1, "log_to_driver": False, "logging_level": "error"},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    job.finish("flower_app", clock, flat(model))


if __name__ == "__main__":
    main()
