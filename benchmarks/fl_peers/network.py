"""The torch model of a job, and its weights as one vector in the library's order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from job import Job
from torch import nn

torch.set_num_threads(1)

KINDS = {
    "linear": nn.Linear,
    "conv": nn.Conv2d,
    "relu": nn.ReLU,
    "maxpool": nn.MaxPool2d,
    "image": lambda *shape: nn.Unflatten(1, shape),
    "flatten": nn.Flatten,
}
"""What the layers of a job can be; the numbers after the name are the constructor's."""


def network(job: Job) -> nn.Sequential:
    """The model, with the start as its weights."""
    model = nn.Sequential(*(KINDS[kind](*numbers) for kind, *numbers in job.layers))
    load(model, job.start)
    return model


def load(model: nn.Module, flat: Any) -> None:
    """Copy a flat vector into the model; a linear layer is stored as (fan_in, fan_out)."""
    first = 0
    with torch.no_grad():
        for layer, parameter in _parameters(model):
            part = torch.tensor(np.asarray(flat[first : first + parameter.numel()], np.float32))
            first += parameter.numel()
            if _transposed(layer, parameter):
                parameter.copy_(part.reshape(parameter.shape[::-1]).T)
            else:
                parameter.copy_(part.reshape(parameter.shape))
    if first != len(flat):
        raise ValueError(f"the model has {first} weights and the start {len(flat)}")


def flat(model: nn.Module) -> Any:
    """The weights as ``load`` takes them."""
    parts = [
        (parameter.detach().T if _transposed(layer, parameter) else parameter.detach()).reshape(-1)
        for layer, parameter in _parameters(model)
    ]
    return torch.cat(parts).numpy().astype(np.float64)


def tensors(job: Job) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The clients' samples."""
    return [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in job.clients]


def _parameters(model: nn.Module) -> Any:
    for layer in model.children():
        for parameter in layer.parameters():
            yield layer, parameter


def _transposed(layer: nn.Module, parameter: torch.Tensor) -> bool:
    return isinstance(layer, nn.Linear) and parameter.ndim == 2
