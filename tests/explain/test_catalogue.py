"""Every family of the catalogue can be looked into: its graph runs with rectifiers as modules, and gives gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.explain.channels import choose_layers, measure_layer
from edgekit.explain.gradients import deconvolution, grad_cam, guided_backpropagation
from edgekit.explain.maps import last_maps
from edgekit.explain.rectified import RectifiedNetwork
from edgekit.export.hub import HubRequest, load_hub

FAMILIES = (
    "densenet121",
    "googlenet",
    "lenet5",
    "lenet_300_100",
    "mobilenet_v1_w0.25",
    "mobilenet_v3_small",
    "nin",
    "resnet18",
    "se_resnet18",
    "shufflenet_v1_x0_25_g3",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_untrained_network_gives_every_image(name: str) -> None:
    hub = load_hub(HubRequest(model=name, input_size=32, untrained=True))
    assert hub.torch_logits is not None
    network = RectifiedNetwork(hub.graph)
    shape = hub.graph.shapes[hub.graph.input]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    assert network.num_rectifiers > 0
    for method in (guided_backpropagation, deconvolution):
        image = method(network, x, 1)
        assert image.shape == (*shape[2:], shape[1])
        assert np.isfinite(image).all()
        assert image.any()
    maps = last_maps(network.graph)
    if name == "lenet_300_100":
        assert maps is None
    else:
        assert maps is not None
        cam = grad_cam(network, x, 1, maps)
        assert cam.shape == hub.graph.shapes[maps.activation][2:]
        assert cam.min() >= 0
    for node in choose_layers(network.graph):
        responses, images = measure_layer(network, node, x, 2)
        assert len(images) == len(responses.channels) == min(2, responses.num_responding)
