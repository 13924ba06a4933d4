"""Apply a `PrunePlan` to a torch module, so that it can be fine-tuned."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.core.errors import GraphError
from edgekit.models.folded import following_norms
from edgekit.models.widths import LayerWidth, resize_layers
from edgekit.prune.cutting import cut_weight
from edgekit.prune.plan import LayerCut, PrunePlan

_NORM_ROWS = ("weight", "bias", "running_mean", "running_var")


def cut_module(module: nn.Module, plan: PrunePlan) -> tuple[LayerWidth, ...]:
    """Cut a module in place; the weights that stay are kept as they are.

    Args:
        module: The network that the plan was made for.
        plan: Made on its hub graph, whose nodes are named after its layers.

    Returns:
        The new widths, for the checkpoint's card.

    Raises:
        GraphError: The plan names a layer that the module does not have.
    """
    norms = following_norms(module)
    widths: list[LayerWidth] = []
    kept: dict[str, Tensor] = module.state_dict()
    for cut in plan.cuts:
        try:
            layer = module.get_submodule(cut.layer)
        except AttributeError as error:
            raise GraphError(f"the prune plan names layer {cut.layer!r}, which the model does not have") from error
        widths.append(_width(layer, cut))
        if isinstance(layer, nn.BatchNorm2d):  # one that follows no convolution is a depthwise one in the hub graph
            _keep_rows(kept, cut.layer, cut, _NORM_ROWS)
            continue
        kept[f"{cut.layer}.weight"] = _cut_weight(layer, cut)
        _keep_rows(kept, cut.layer, cut, ("bias",))
        for norm in norms.get(cut.layer, ()):
            num = len(cut.kept_outputs)
            widths.append(LayerWidth(layer=norm, num_inputs=num, num_outputs=num))
            _keep_rows(kept, norm, cut, _NORM_ROWS)
    resize_layers(module, widths)
    module.load_state_dict(kept)
    return tuple(widths)


def _width(layer: nn.Module, cut: LayerCut) -> LayerWidth:
    groups = 1
    if isinstance(layer, nn.Conv2d):
        is_depthwise = layer.groups > 1 and layer.weight.shape[1] == 1
        groups = len(cut.kept_inputs) if is_depthwise else layer.groups
    return LayerWidth(
        layer=cut.layer, num_inputs=len(cut.kept_inputs), num_outputs=len(cut.kept_outputs), groups=groups
    )


def _cut_weight(layer: nn.Module, cut: LayerCut) -> Tensor:
    weight = layer.get_parameter("weight").detach()
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    kept = cut_weight(weight.cpu().numpy(), np.array(cut.kept_inputs), np.array(cut.kept_outputs), groups)
    return torch.from_numpy(kept).to(weight.device)


def _keep_rows(state: dict[str, Tensor], path: str, cut: LayerCut, names: tuple[str, ...]) -> None:
    for name in names:
        key = f"{path}.{name}"
        if key in state:
            state[key] = state[key][list(cut.kept_outputs)]
