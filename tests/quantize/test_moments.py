"""Moments of what layers read, against columns gathered one by one in numpy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from edgekit.core.errors import QuantizationError
from edgekit.core.graph import Graph, Node
from edgekit.quantize.moments import FEWEST_POSITIONS, LayerMoments, measure_moments
from edgekit.quantize.network import GraphNetwork
from edgekit.quantize.walk import Pictures, Walk
from graphs import GraphBuilder

Reals = npt.NDArray[np.float64]

EVERY = 10_000
"""Positions to draw when all are wanted."""


def pictures_of(array: npt.NDArray[np.floating], batch_size: int = 5) -> Pictures:
    def batches() -> Iterator[Tensor]:
        for first in range(0, len(array), batch_size):
            yield torch.from_numpy(array[first : first + batch_size].astype(np.float32))

    return batches


def columns_of(graph: Graph, node: Node, x: npt.NDArray[np.floating]) -> Reals:
    """[groups, n * positions, inputs], by the definition of a convolution."""
    weight = graph.constants[node.inputs[1]]
    if node.op == "Gemm":
        return x.astype(np.float64)[None]
    _, per_group, kernel_height, kernel_width = weight.shape
    top, left, bottom, right = node.ints("pads")
    strides, dilations, groups = node.ints("strides"), node.ints("dilations"), node.int("group")
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    _, _, height, width = graph.shapes[node.output]
    columns = np.empty((groups, len(x), height, width, per_group, kernel_height, kernel_width))
    for g, row, col, c, i, j in np.ndindex(groups, height, width, per_group, kernel_height, kernel_width):
        y, z = row * strides[0] + i * dilations[0], col * strides[1] + j * dilations[1]
        columns[g, :, row, col, c, i, j] = padded[:, g * per_group + c, y, z]
    return columns.reshape(groups, len(x) * height * width, -1)


def expected_moments(plain: Reals, quantized: Reals) -> tuple[Reals, Reals, Reals, Reals]:
    """Covariance of `quantized`, cross covariance, and both means."""
    mean, float_mean = quantized.mean(1), plain.mean(1)
    centred, float_centred = quantized - mean[:, None], plain - float_mean[:, None]
    n = plain.shape[1]
    return centred.transpose(0, 2, 1) @ centred / n, float_centred.transpose(0, 2, 1) @ centred / n, mean, float_mean


def measure(
    graph: Graph, x: npt.NDArray[np.floating], *layers: str, num_positions: int | None = EVERY
) -> dict[str, LayerMoments]:
    with closing(Walk(GraphNetwork(graph), pictures_of(x))) as walk:
        return measure_moments(walk, None, layers, num_positions=num_positions)


def assert_equal_moments(found: LayerMoments, plain: Reals, quantized: Reals) -> None:
    covariance, cross, mean, float_mean = expected_moments(plain, quantized)
    scale = np.abs(covariance).max()
    assert np.allclose(found.covariance, covariance, atol=1e-4 * scale)
    assert np.allclose(found.cross, cross, atol=1e-4 * scale)
    assert np.allclose(found.mean, mean, atol=1e-4)
    assert np.allclose(found.float_mean, float_mean, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": 1},
        {"kernel": 3},
        {"kernel": 3, "pads": 1},
        {"kernel": 3, "stride": 2, "pads": 1},
        {"kernel": 3, "stride": 2, "pads": (0, 0, 1, 1)},
        {"kernel": 3, "pads": (2, 0, 1, 3)},
        {"kernel": 3, "dilation": 2, "pads": 2},
        {"kernel": (3, 1), "pads": (1, 0, 1, 0)},
        {"kernel": (2, 5), "stride": 2},
        {"kernel": 3, "pads": 1, "group": 2},
        {"kernel": 3, "stride": 2, "pads": (0, 1, 1, 0), "group": 6, "channels": 6},
        {"kernel": 3, "pads": 1, "group": 6, "channels": 12},
    ],
    ids=str,
)
def test_moments_of_a_convolution_are_those_of_its_columns(options: dict[str, object]) -> None:
    channels = int(str(options.pop("channels", 4)))
    build = GraphBuilder((1, 6, 9, 11))
    build.conv("input", channels, **options)  # type: ignore[arg-type]
    graph = build.build()
    node = graph.nodes[0]
    x = np.random.default_rng(1).normal(2.0, 1.0, (12, 6, 9, 11))

    found = measure(graph, x, node.name)[node.name]

    columns = columns_of(graph, node, x)
    assert found.num_samples == columns.shape[1]
    assert_equal_moments(found, columns, columns)


def test_moments_of_a_fully_connected_layer_are_those_of_its_inputs() -> None:
    build = GraphBuilder((1, 7))
    build.gemm("input", 3)
    x = np.random.default_rng(2).normal(-1.0, 2.0, (33, 7))

    found = measure(build.build(), x, "gemm_0")["gemm_0"]

    assert found.num_samples == 33
    assert_equal_moments(found, x[None], x[None])


def test_moments_do_not_cancel_when_inputs_lie_far_from_zero() -> None:
    build = GraphBuilder((1, 4))
    build.gemm("input", 3)
    x = np.random.default_rng(3).normal(1000.0, 0.25, (200, 4)).astype(np.float32)

    found = measure(build.build(), x, "gemm_0")["gemm_0"]

    assert np.allclose(found.covariance[0], np.cov(x.T.astype(np.float64), bias=True), rtol=1e-3, atol=1e-4)


def two_layers() -> Graph:
    build = GraphBuilder((1, 3, 8, 8))
    hidden = build.relu(build.conv("input", 5, 3, pads=1))
    build.conv(hidden, 4, 3, stride=2, pads=(0, 0, 1, 1))
    return build.build()


def test_cross_moments_pair_the_two_networks_column_by_column() -> None:
    graph = two_layers()
    plain, quantized = GraphNetwork(graph), GraphNetwork(graph)
    with torch.no_grad():
        quantized.weight("conv_0").add_(0.3)
    x = np.random.default_rng(4).normal(size=(9, 3, 8, 8)).astype(np.float32)
    with closing(Walk(plain, pictures_of(x))) as walk, closing(Walk(quantized, pictures_of(x, 5))) as other:
        found = measure_moments(walk, other, ["conv_2"], num_positions=EVERY)["conv_2"]

    def hidden(network: GraphNetwork) -> Reals:
        with torch.no_grad():
            values = network.run(network.begin(torch.from_numpy(x)), 0, 2)
        return columns_of(graph, graph.nodes[2], values["relu_1"].numpy())

    assert_equal_moments(found, hidden(plain), hidden(quantized))


def test_layers_of_one_call_are_measured_as_each_alone() -> None:
    graph = two_layers()
    x = np.random.default_rng(5).normal(size=(9, 3, 8, 8))

    together = measure(graph, x, "conv_0", "conv_2")

    for name in ("conv_0", "conv_2"):
        alone = measure(graph, x, name)[name]
        assert np.allclose(together[name].covariance, alone.covariance, atol=1e-5)
        assert np.allclose(together[name].mean, alone.mean, atol=1e-5)


def test_large_maps_are_sampled_the_same_way_each_time() -> None:
    build = GraphBuilder((1, 2, 24, 24))
    build.conv("input", 3, 1)
    graph = build.build()
    x = np.random.default_rng(6).normal(size=(40, 2, 24, 24))

    first, again = (measure(graph, x, "conv_0", num_positions=None)["conv_0"] for _ in range(2))

    assert first.num_samples == 40 * FEWEST_POSITIONS
    assert np.array_equal(first.covariance, again.covariance)
    exact = expected_moments(*(columns_of(graph, graph.nodes[0], x),) * 2)[0]
    assert np.allclose(first.covariance, exact, atol=0.15)


def test_constant_pictures_have_no_covariance() -> None:
    build = GraphBuilder((1, 2, 6, 6))
    build.conv("input", 3, 3)

    found = measure(build.build(), np.full((8, 2, 6, 6), 0.7), "conv_0")["conv_0"]

    assert np.abs(found.covariance).max() < 1e-12
    assert np.allclose(found.mean, 0.7)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_input_that_is_not_finite_names_the_layer(value: float) -> None:
    x = np.zeros((3, 3, 8, 8))
    x[1, 0, 2, 2] = value

    with pytest.raises(QuantizationError, match=r"layer conv_0: .*not finite"):
        measure(two_layers(), x, "conv_0")


def test_no_pictures_are_an_error() -> None:
    with pytest.raises(QuantizationError, match="layer conv_0: no calibration pictures"):
        measure(two_layers(), np.zeros((0, 3, 8, 8)), "conv_0")
