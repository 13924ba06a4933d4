"""What every architecture promises, for every variant in the catalogue."""

from __future__ import annotations

import pytest
import torch

from edgekit.models.architecture import BuildOptions
from edgekit.models.counting import measure
from edgekit.models.layers import SMALL_IMAGE, GlobalAveragePool
from edgekit.models.zoo import (
    ARCHITECTURES,
    build_model,
    find_architecture,
    model_name,
    parse_model_name,
    variant_names,
)

VARIANTS = variant_names()
# One variant of each family runs for real at every size; the others differ in channel counts only.
REPRESENTATIVES = (
    "alexnet_w0.125",
    "densenet121_w0.25",
    "efficientnet_lite0",
    "googlenet_w0.25",
    "lenet_300_100",
    "lenet5",
    "mobilenet_v1_w0.25",
    "mobilenet_v2_w0.5",
    "mobilenet_v3_small",
    "nin_w0.25",
    "resnet18_w0.25",
    "resnet50_w0.125",
    "se_resnet18_w0.25",
    "shufflenet_v1_x0_25_g3",
    "shufflenet_v1_x0_25_g8",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "squeezenet1_1",
    "vgg16_w0.125",
    "vit_ti_16_w0.33",
    "zfnet_w0.125",
)
FLATTENING = ("alexnet", "lenet", "vgg", "vit", "zfnet")
"""Families that flatten the last map of large pictures, or have none, instead of pooling it."""


@pytest.mark.parametrize("name", ARCHITECTURES.names)
def test_architecture_is_named_after_its_file_and_cites_a_paper(name: str) -> None:
    architecture = ARCHITECTURES.load(name)

    assert architecture.name == name
    assert "arXiv:" in architecture.paper
    assert architecture.variants
    assert all(variant.startswith(name) for variant in architecture.variants)


@pytest.mark.parametrize("name", ARCHITECTURES.names)
def test_every_family_is_run_by_these_tests(name: str) -> None:
    assert any(find_architecture(parse_model_name(variant).variant).name == name for variant in REPRESENTATIVES)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_counts_match_published_figures(variant: str) -> None:
    published = find_architecture(variant).variants[variant]

    num_params, macs = measure(parse_model_name(variant))

    if published.num_params is not None:
        assert abs(num_params - published.num_params) <= published.tolerance * published.num_params
    if published.macs is not None:
        assert macs == pytest.approx(published.macs, rel=published.macs_tolerance)
    assert (published.macs is None) == variant.startswith("zfnet")  # whose paper counts nothing
    assert published.source


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_name_round_trips(variant: str) -> None:
    assert model_name(parse_model_name(variant)) == variant


@pytest.mark.parametrize("size", [28, 32, 64, 96, 224])
@pytest.mark.parametrize("variant", REPRESENTATIVES)
def test_network_answers_at_every_size_from_a_small_last_map(variant: str, size: int) -> None:
    num_channels = 1 if size <= 32 else 3
    torch.manual_seed(0)
    network = build_model(_options(variant, size, num_channels)).eval()
    maps: list[int] = []
    for layer in network.modules():
        if isinstance(layer, GlobalAveragePool):
            layer.register_forward_hook(lambda _, inputs, __: maps.append(inputs[0].shape[2]))

    with torch.inference_mode():
        logits = network(torch.randn(1, num_channels, size, size))

    assert logits.shape == (1, 7)
    assert torch.isfinite(logits).all()
    # SqueezeNet pools without padding and halves four times only, the others five times.
    if variant.startswith(FLATTENING):
        assert maps == ([4] if variant.startswith("vgg") and size <= SMALL_IMAGE else [])
    elif variant.startswith("squeezenet"):
        assert maps[0] in {28: (3,), 32: (4, 3), 64: (4, 3), 96: (5, 6), 224: (13, 14)}[size]
    elif variant.startswith("nin"):
        assert maps == [{28: 4, 32: 4, 64: 4, 96: 2, 224: 6}[size]]
    else:
        assert maps == [{28: 4, 32: 4, 64: 4, 96: 3, 224: 7}[size]]


@pytest.mark.parametrize(("size", "num_channels"), [(28, 1), (64, 3)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_has_a_form_for_small_pictures(variant: str, size: int, num_channels: int) -> None:
    num_params, macs = measure(_options(variant, size, num_channels))
    large_params, large_macs = measure(_options(variant, 224, num_channels))

    assert num_params <= 1.01 * large_params
    assert macs < 0.5 * large_macs


@pytest.mark.parametrize("variant", REPRESENTATIVES)
def test_network_trains_when_every_weight_gets_a_gradient(variant: str) -> None:
    torch.manual_seed(0)
    network = build_model(_options(variant, 28, 1)).train()

    network(torch.randn(4, 1, 28, 28)).square().sum().backward()

    missing = [name for name, weight in network.named_parameters() if weight.grad is None]
    missing = [name for name in missing if not name.startswith("heads.")]  # tests/train/test_auxiliary.py
    assert missing == []


def _options(variant: str, size: int, num_channels: int) -> BuildOptions:
    options = parse_model_name(variant)
    return BuildOptions(
        variant=options.variant, width=options.width, num_classes=7, in_channels=num_channels, input_size=size
    )
