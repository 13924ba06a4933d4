from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from edgekit.core.errors import GraphError, UnsupportedOpError
from edgekit.core.graph import Attribute, Node
from edgekit.quantize.execute import run_float, run_node

SIZES = st.integers(1, 3)


def run(op: str, *inputs: npt.NDArray[np.float32], **attrs: Attribute) -> npt.NDArray[np.floating]:
    names = tuple(f"i{index}" for index in range(len(inputs)))
    return run_node(Node(name="n", op=op, inputs=names, outputs=("o",), attrs=attrs), inputs)[0]


def draw_array(seed: int, *shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@given(
    groups=st.integers(1, 4),
    channels=st.tuples(SIZES, SIZES),
    kernel=st.tuples(SIZES, SIZES),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    seed=st.integers(0, 99),
)
def test_convolution_matches_torch(
    *,
    groups: int,
    channels: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    dilation: int,
    pads: tuple[int, int, int, int],
    seed: int,
) -> None:
    x = draw_array(seed, 2, groups * channels[0], 7, 6)
    weight = draw_array(seed + 1, groups * channels[1], channels[0], *kernel)
    bias = draw_array(seed + 2, groups * channels[1])
    actual = run(
        "Conv", x, weight, bias, strides=(stride, stride), pads=pads, dilations=(dilation, dilation), group=groups
    )
    top, left, bottom, right = pads
    padded = functional.pad(torch.from_numpy(x), (left, right, top, bottom))
    expected = functional.conv2d(
        padded, torch.from_numpy(weight), torch.from_numpy(bias), stride=stride, dilation=dilation, groups=groups
    )
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-4, atol=1e-4)


@given(
    kernel=st.tuples(st.integers(2, 3), st.integers(2, 3)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    include_pad=st.booleans(),
    seed=st.integers(0, 99),
)
def test_pools_match_torch(kernel: tuple[int, int], stride: int, padding: int, include_pad: bool, seed: int) -> None:
    x = draw_array(seed, 2, 3, 7, 6)
    window: dict[str, Attribute] = {"kernel_shape": kernel, "strides": (stride, stride), "pads": (padding,) * 4}
    expected = functional.max_pool2d(torch.from_numpy(x), kernel, stride, padding)
    np.testing.assert_array_equal(run("MaxPool", x, **window), expected.numpy())
    expected = functional.avg_pool2d(torch.from_numpy(x), kernel, stride, padding, count_include_pad=include_pad)
    actual = run("AveragePool", x, count_include_pad=int(include_pad), **window)
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "attrs", "expected"),
    [
        ("Relu", {}, functional.relu),
        ("Clip", {"min": 0.0, "max": 6.0}, functional.relu6),
        ("Sigmoid", {}, torch.sigmoid),
        ("HardSwish", {}, functional.hardswish),
        ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, functional.hardsigmoid),
        ("Softmax", {"axis": 1}, lambda x: functional.softmax(x, dim=1)),
        ("ChannelShuffle", {"groups": 2}, lambda x: functional.channel_shuffle(x, 2)),
        ("GlobalAveragePool", {}, lambda x: functional.adaptive_avg_pool2d(x, 1)),
        ("Flatten", {}, lambda x: x.flatten(1)),
        ("Reshape", {"shape": (1, 2, 2, 3, 3)}, lambda x: x.reshape(2, 2, 2, 3, 3)),
        ("Transpose", {"perm": (0, 2, 3, 1)}, lambda x: x.permute(0, 2, 3, 1)),
        ("Slice", {"axis": 1, "start": 1, "end": 3}, lambda x: x[:, 1:3]),
        ("Pad", {"pads": (1, 2, 0, 1), "value": 0.5}, lambda x: functional.pad(x, (2, 1, 1, 0), value=0.5)),
    ],
)
def test_operator_matches_torch(op: str, attrs: dict[str, Attribute], expected: Any) -> None:
    x = draw_array(0, 2, 4, 3, 3) * 10
    reference = expected(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run(op, x, **attrs), reference, rtol=1e-5, atol=1e-6)


def test_run_float_gives_every_activation_in_float32(mobile: Any) -> None:
    graph, pictures = mobile
    values = run_float(graph, pictures[:3])
    assert set(values) == set(graph.activations())
    assert all(value.dtype == np.float32 and value.shape[0] == 3 for value in values.values())
    np.testing.assert_array_equal(np.concatenate([values["left"], values["right"]], axis=1), values["shuffle"])


@pytest.mark.parametrize("shape", [(1, 3, 8, 9), (1, 4, 8, 8), (3, 8, 8), (0, 3, 8, 8)])
def test_run_float_refuses_an_input_of_another_shape(graph_builder: Any, shape: tuple[int, ...]) -> None:
    builder = graph_builder((1, 3, 8, 8))
    builder.add("act", "Relu", "x")
    with pytest.raises(GraphError, match=r"expected \[n, 3, 8, 8\]"):
        run_float(builder.finish(), np.zeros(shape, dtype=np.float32))


def test_unknown_operator_is_named() -> None:
    with pytest.raises(UnsupportedOpError, match=r"node n: .*Einsum"):
        run("Einsum", draw_array(0, 1, 1))
