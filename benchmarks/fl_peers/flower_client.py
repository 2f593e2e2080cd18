"""Flower's client: a module of its own, since the simulation's workers import it."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from job import Job
from network import network, tensors

app = ClientApp()


@cache
def _kept() -> tuple[Job, Any, Any]:
    """The job, its model and samples, once in each worker."""
    job = Job.load()
    return job, network(job), tensors(job)


@app.train()
def train(message: Message, context: Context) -> Message:
    """One step on all samples of this client."""
    job, model, clients = _kept()
    x, y = clients[int(context.node_config["partition-id"])]
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), job.learning_rate)
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    content = {
        "arrays": ArrayRecord(model.state_dict()),
        "metrics": MetricRecord({"num-examples": len(y)}),
    }
    return Message(content=RecordDict(content), reply_to=message)
