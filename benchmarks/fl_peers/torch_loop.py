"""Federated SGD as a plain torch loop: one backward pass for each client, then one step."""

from __future__ import annotations

import torch
from job import Clock, Job
from network import flat, network, tensors


def main() -> None:
    """Run the job."""
    job = Job.load()
    model, clients = network(job), tensors(job)
    loss = torch.nn.CrossEntropyLoss()
    parameters = list(model.parameters())
    samples = sum(len(y) for _, y in clients)
    clock = Clock(job)
    for _ in range(job.total):
        clock.tick()
        total = [torch.zeros_like(p) for p in parameters]
        for x, y in clients:
            gradient = torch.autograd.grad(loss(model(x), y), parameters)
            torch._foreach_add_(total, gradient, alpha=len(y) / samples)
        with torch.no_grad():
            torch._foreach_add_(parameters, total, alpha=-job.learning_rate)
    job.finish("torch_loop", clock, flat(model))


if __name__ == "__main__":
    main()
