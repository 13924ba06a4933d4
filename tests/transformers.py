"""Transformers small enough for tests: seeded weights, and whatever a mistake in export would hide made visible."""

from __future__ import annotations

import torch
from torch import nn

from edgekit.core.graph import Graph
from edgekit.export.torch_graph import trace
from edgekit.models.architecture import BuildOptions
from edgekit.models.zoo import build_model

SIZE = 28


def small_vit(*, in_channels: int = 1, size: int = SIZE, num_classes: int = 5) -> nn.Module:
    """Two blocks of two heads, with norms that scale and shift and weights large enough for attention to choose."""
    torch.manual_seed(0)
    options = BuildOptions(
        variant="vit_ti_16", width=0.67, depth=2, num_classes=num_classes, in_channels=in_channels, input_size=size
    )
    module = build_model(options)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.2)
            elif "attention.0" in name:
                parameter.mul_(4)
    return module.eval()


def small_graph() -> Graph:
    """The same as a hub graph."""
    return trace(small_vit(), (1, SIZE, SIZE), name="small_vit")
