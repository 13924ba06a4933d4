"""What Grad-CAM weighs, and the tokens of a transformer laid out as maps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from edgekit.core.graph import Graph
from edgekit.explain.gradients import grad_cam
from edgekit.explain.maps import Maps, TokenMaps, last_maps
from edgekit.explain.rectified import RectifiedNetwork
from edgekit.export.torch_graph import trace
from edgekit.models.architecture import BuildOptions
from edgekit.models.zoo import build_model
from graphs import GraphBuilder
from transformers import SIZE, small_graph, small_vit

PATCH = 4
SIDE = SIZE // PATCH


def test_maps_of_a_transformer_are_the_normalized_tokens_before_its_last_attention() -> None:
    assert last_maps(small_graph()) == Maps(activation="blocks.1.attention_norm", grid=(SIDE, SIDE), num_first=1)


def test_grad_cam_of_tokens_is_that_of_their_maps_by_hand() -> None:
    """Equations 1 and 2 on what torch itself gives the last attention, without the class token."""
    module = small_vit()
    x = torch.randn(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        seen.append(output)

    hook = module.get_submodule("blocks.1.attention_norm").register_forward_hook(keep)
    logits = module(x)
    hook.remove()
    (gradient,) = torch.autograd.grad(logits[0, 3], seen[0])
    tokens, weights = seen[0][0, 1:].detach(), gradient[0, 1:].mean(dim=0)
    expected = torch.relu(tokens @ weights).reshape(SIDE, SIDE).numpy()
    graph = small_graph()
    network = RectifiedNetwork(graph)
    maps = last_maps(graph)
    assert maps is not None

    first, second = (grad_cam(network, x, 3, maps) for _ in range(2))

    assert expected.max() > 0
    np.testing.assert_allclose(first, expected, atol=1e-6 + 1e-4 * expected.max())
    assert (first == second).all()
    np.testing.assert_allclose(network(x).detach().numpy(), logits.detach().numpy(), atol=1e-5)
    assert network.activation(maps.activation, x).shape == (1, 1 + SIDE * SIDE, 128)


def attention_network(*, has_norm: bool = True, extra: tuple[int, int] = (0, 0)) -> Graph:
    """Patches of 2x3 places as tokens, so many more in front and behind, one attention, a dense layer on all."""
    net = GraphBuilder((1, 1, 8, 12))
    patches = net.conv("input", 4, 4, stride=4)
    (rows,) = net.node("Reshape", [patches], [(1, 4, 6)], {"shape": (1, 4, 6)})
    (tokens,) = net.node("Transpose", [rows], [(1, 6, 4)], {"perm": (0, 2, 1)})
    num_tokens = 6 + sum(extra)
    if any(extra):
        pads = (extra[0], 0, extra[1], 0)
        (tokens,) = net.node("Pad", [tokens], [(1, num_tokens, 4)], {"pads": pads, "value": 0.0})
    if has_norm:
        scale, shift = net.constant("scale", np.ones(4)), net.constant("shift", np.full(4, 0.1))
        (tokens,) = net.node("LayerNormalization", [tokens, scale, shift], [(1, num_tokens, 4)], {"epsilon": 1e-6})
    (mixed,) = net.node("Attention", [tokens] * 3, [(1, num_tokens, 4)], {"heads": 1, "scale": 0.5})
    net.gemm(net.flatten(mixed), 2)
    return net.build()


@pytest.mark.parametrize("extra", [(0, 0), (1, 0), (2, 0)])
def test_places_of_tokens_are_those_of_the_patches(extra: tuple[int, int]) -> None:
    graph = attention_network(extra=extra)
    maps = last_maps(graph)
    assert maps is not None
    assert (maps.grid, maps.num_first) == ((2, 3), extra[0])
    assert graph.producers()[maps.activation].op == "LayerNormalization"

    x = torch.randn(1, 1, 8, 12, generator=torch.Generator().manual_seed(1))
    values = grad_cam(RectifiedNetwork(graph), x, 0, maps)

    assert values.shape == (2, 3)
    assert np.isfinite(values).all()


def test_tokens_whose_places_are_not_known_have_no_maps() -> None:
    assert last_maps(attention_network(extra=(0, 1))) is None
    assert last_maps(attention_network(extra=(1, 1))) is None
    assert last_maps(attention_network(has_norm=False)) is None


def test_maps_are_no_tokens() -> None:
    with pytest.raises(ValueError, match="stem has no tokens"):
        TokenMaps(Maps(activation="stem"))


def draw(num: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, npt.NDArray[np.int64]]:
    """Noise, and in it, at some place of two by two patches, stripes or a chequer: pictures, classes, places."""
    stripes = np.tile(np.array([1, 1, -1, -1])[:, np.newaxis], (2, 8))
    chequer = np.kron(np.indices((4, 4)).sum(axis=0) % 2 * 2 - 1, np.ones((2, 2)))
    kinds = np.stack([stripes, stripes.T, chequer])
    pictures = rng.normal(0, 0.3, (num, 1, SIZE, SIZE))
    labels, places = rng.integers(0, len(kinds), num), rng.integers(0, SIDE - 1, (num, 2))
    for picture, label, (row, column) in zip(pictures, labels, PATCH * places, strict=True):
        picture[0, row : row + 2 * PATCH, column : column + 2 * PATCH] += 1.5 * kinds[label]
    return torch.from_numpy(pictures.astype(np.float32)), torch.from_numpy(labels), places


def train_finder(rng: np.random.Generator) -> nn.Module:
    """A Vision Transformer of two blocks that tells what is hidden in the noise."""
    torch.manual_seed(0)
    options = BuildOptions(variant="vit_ti_16", width=0.33, depth=2, num_classes=3, in_channels=1, input_size=SIZE)
    module = build_model(options)
    optimizer = torch.optim.AdamW(module.parameters(), 1e-3)
    for _ in range(120):
        pictures, labels, _ = draw(64, rng)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(pictures), labels).backward()
        optimizer.step()
    return module.eval()


@pytest.mark.slow
def test_grad_cam_of_a_trained_transformer_lies_on_the_object() -> None:
    rng = np.random.default_rng(0)
    module = train_finder(rng)
    pictures, labels, places = draw(60, rng)
    assert (module(pictures).argmax(dim=1) == labels).float().mean() > 0.95
    network = RectifiedNetwork(trace(module, (1, SIZE, SIZE), name="finder"))
    maps = last_maps(network.graph)
    assert maps is not None

    shares: list[float] = []
    for picture, label, (row, column) in zip(pictures, labels.tolist(), places, strict=True):
        values = grad_cam(network, picture[np.newaxis], label, maps)
        if values.max() > 0:
            shares.append(float(values[row : row + 2, column : column + 2].sum() / values.sum()))

    assert len(shares) > 40
    assert np.mean(shares) > 0.4  # by chance it is 4 patches of 49
