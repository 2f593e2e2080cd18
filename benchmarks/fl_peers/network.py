"""The torch model of a job, and its weights as one vector in the library's order."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from job import DOUBLE, Job
from torch import nn

torch.set_num_threads(1)
DTYPE = torch.float64 if DOUBLE in os.environ else torch.float32

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
    model = nn.Sequential(*(KINDS[kind](*numbers) for kind, *numbers in job.layers)).to(DTYPE)
    load(model, job.start)
    return model


def load(model: nn.Module, flat: Any) -> None:
    """Copy a flat vector into the model, layer by layer (matrix or kernels, then biases).

    Matrices are stored as (fan_in, fan_out) where all layers are linear, else as torch does.
    """
    first = 0
    with torch.no_grad():
        for parameter, transposed in _parameters(model):
            part = torch.from_numpy(np.array(flat[first : first + parameter.numel()]))
            first += parameter.numel()
            if transposed:
                parameter.copy_(part.reshape(parameter.shape[::-1]).T)
            else:
                parameter.copy_(part.reshape(parameter.shape))
    if first != len(flat):
        raise ValueError(f"the model has {first} weights and the start {len(flat)}")


def flat(model: nn.Module) -> Any:
    """The weights as ``load`` takes them."""
    parts = [
        (parameter.detach().T if transposed else parameter.detach()).reshape(-1)
        for parameter, transposed in _parameters(model)
    ]
    return torch.cat(parts).numpy().astype(np.float64)


def tensors(job: Job) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The clients' samples."""
    return [(torch.from_numpy(x).to(DTYPE), torch.from_numpy(y)) for x, y in job.clients]


def _parameters(model: nn.Module) -> Any:
    turned = not any(isinstance(layer, nn.Conv2d) for layer in model.children())
    for parameter in model.parameters():
        yield parameter, turned and parameter.ndim == 2
