"""Federated SGD by FedLab: its serial trainer, its FedAvg server, its standalone pipeline.

``fedlab_loop.py loader`` hands each client's samples over in a torch ``DataLoader``, as FedLab's
own data sets do; ``fedlab_loop.py tensor`` as one ready batch, which is the least it can cost.

FedLab's package imports torchvision for data sets that are not used here; torchvision would bring
a torch of its own, so an empty module stands in for it.
"""

from __future__ import annotations

import sys
import types
from typing import Any

sys.modules["torchvision"] = types.ModuleType("torchvision")
sys.modules["torchvision"].transforms = types.ModuleType("torchvision.transforms")
sys.modules["torchvision.transforms"] = sys.modules["torchvision"].transforms

import torch
from fedlab.contrib.algorithm.fedavg import FedAvgSerialClientTrainer, FedAvgServerHandler
from fedlab.contrib.dataset.basic_dataset import BaseDataset, FedDataset
from fedlab.core.standalone import StandalonePipeline
from job import Clock, Job
from network import flat, network, tensors


class Clients(FedDataset):
    """Every client's samples, in a loader or as they are."""

    def __init__(self, job: Job, loader: bool) -> None:
        self.parts, self.loader = tensors(job), loader

    def get_dataloader(self, id: int, batch_size: int) -> Any:
        """Batches of client ``id``: one, of all its samples."""
        x, y = self.parts[id]
        if not self.loader:
            return [(x, y)]
        return torch.utils.data.DataLoader(BaseDataset(x, y), batch_size=batch_size)


class Pipeline(StandalonePipeline):
    """Ticks where the original evaluates."""

    def __init__(self, handler: Any, trainer: Any, clock: Clock) -> None:
        super().__init__(handler, trainer)
        self.clock = clock

    def evaluate(self) -> None:
        """Nothing is evaluated."""
        self.clock.tick()


def main() -> None:
    """Run the job."""
    job, path = Job.load(), sys.argv[1]
    sizes = {len(y) for _, y in job.clients}
    if len(sizes) > 1:
        raise ValueError("FedLab's server weighs all clients alike: give them equal samples")
    trainer = FedAvgSerialClientTrainer(network(job), len(job.clients))
    trainer.setup_dataset(Clients(job, path == "loader"))
    trainer.setup_optim(epochs=1, batch_size=sizes.pop(), lr=job.learning_rate)
    handler = FedAvgServerHandler(network(job), job.total, sample_ratio=1.0)
    clock = Clock(job)
    Pipeline(handler, trainer, clock).main()
    job.finish(f"fedlab_loop_{path}", clock, flat(handler.model))


if __name__ == "__main__":
    main()
