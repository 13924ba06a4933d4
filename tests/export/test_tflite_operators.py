"""Each operator alone, float against the numpy reference and int8 against the exact integer one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgekit.core.errors import UnsupportedOpError
from edgekit.core.graph import Graph
from edgekit.export.tflite import build_tflite
from edgekit.export.tflite_versions import Op
from edgekit.quantize.execute import run_float
from edgekit.quantize.reference import quantize_input, run_integer
from graphs import GraphBuilder, quantize_for_test
from tflite_runs import CARD, is_wholly_delegated, operators, parse, run_float_file, run_int8_file


def random_input(graph: Graph, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=graph.shapes[graph.input]).astype(np.float32)


def check_float(graph: Graph) -> None:
    x = random_input(graph)

    np.testing.assert_allclose(run_float_file(graph, x), run_float(graph, x)[graph.output], atol=2e-5, rtol=1e-5)


def check_int8(graph: Graph, *, max_steps: int = 1) -> None:
    x = random_input(graph)
    model = quantize_for_test(graph, x)
    integers = quantize_input(model, x)

    answer = run_int8_file(model, integers)

    steps = np.abs(answer.astype(int) - run_integer(model, integers)[graph.output].astype(int))
    assert steps.max() <= max_steps


@st.composite
def convolutions(draw: st.DrawFn) -> Graph:
    group = draw(st.sampled_from([1, 2, 3]))
    in_channels = group * draw(st.integers(1, 4))
    channels = in_channels * draw(st.sampled_from([1, 2])) if draw(st.booleans()) else group * draw(st.integers(1, 4))
    if draw(st.booleans()):
        group, channels = in_channels, in_channels * draw(st.sampled_from([1, 2]))
    kernel = (draw(st.sampled_from([1, 2, 3, 5])), draw(st.sampled_from([1, 3, 4])))
    pads = tuple(draw(st.integers(0, 2)) for _ in range(4))
    dilation = draw(st.sampled_from([1, 1, 2]))
    stride = 1 if dilation > 1 else draw(st.sampled_from([1, 2, 3]))
    size = (draw(st.integers(5, 11)), draw(st.integers(5, 11)))
    assume(all(size[i] + pads[i] + pads[2 + i] >= (kernel[i] - 1) * dilation + 1 for i in (0, 1)))
    net = GraphBuilder((1, in_channels, *size), seed=draw(st.integers(0, 9)))
    edges = (pads[0], pads[1], pads[2], pads[3])
    x = net.conv(
        "input", channels, kernel, stride=stride, pads=edges, dilation=dilation, group=group, bias=draw(st.booleans())
    )
    activation = draw(st.sampled_from(["none", "relu", "relu6"]))
    if activation != "none":
        net.relu(x) if activation == "relu" else net.relu6(x)
    return net.build()


@given(convolutions())
@settings(max_examples=150)
def test_conv_matches_reference_in_float(graph: Graph) -> None:
    check_float(graph)


@given(convolutions())
@settings(max_examples=150)
def test_conv_is_within_one_step_of_exact_integers(graph: Graph) -> None:
    check_int8(graph)


@st.composite
def pools(draw: st.DrawFn, op: str) -> Graph:
    kernel = draw(st.integers(1, 4))
    pads = tuple(draw(st.integers(0, kernel // 2)) for _ in range(4))
    size = (draw(st.integers(4, 9)), draw(st.integers(4, 9)))
    net = GraphBuilder((1, draw(st.integers(1, 5)), *size))
    x = net.relu("input") if draw(st.booleans()) else "input"
    edges = (pads[0], pads[1], pads[2], pads[3])
    x = net.pool(op, x, kernel, stride=draw(st.integers(1, 3)), pads=edges)
    if draw(st.booleans()):
        net.relu(x)
    return net.build()


@pytest.mark.parametrize("check", [check_float, check_int8])
@given(data=st.data())
@settings(max_examples=60)
def test_max_pool_matches_reference(check: Callable[[Graph], None], data: st.DataObject) -> None:
    check(data.draw(pools("MaxPool")))


@pytest.mark.parametrize("check", [check_float, check_int8])
@given(data=st.data())
@settings(max_examples=60)
def test_average_pool_matches_reference(check: Callable[[Graph], None], data: st.DataObject) -> None:
    check(data.draw(pools("AveragePool")))


@st.composite
def pools_that_count_no_padding(draw: st.DrawFn) -> Graph:
    kernel = draw(st.sampled_from([2, 3, 4, 6]))
    pads = tuple(draw(st.integers(0, kernel // 2)) for _ in range(4))
    size = (draw(st.integers(6, 9)), draw(st.integers(6, 9)))
    net = GraphBuilder((1, draw(st.integers(1, 5)), *size))
    edges = (pads[0], pads[1], pads[2], pads[3])
    x = net.pool("AveragePool", "input", kernel, stride=draw(st.integers(1, 3)), pads=edges, count_include_pad=0)
    if draw(st.booleans()):
        net.relu(x)
    return net.build()


@given(graph=pools_that_count_no_padding())
@settings(max_examples=100)
def test_average_pool_that_counts_no_padding_matches_reference(graph: Graph) -> None:
    check_float(graph)
    # In a corner a quarter of the window lies inside: what the mean is rounded by counts four times, and is rounded.
    check_int8(graph, max_steps=3)


@pytest.mark.parametrize("pads", [(1, 1, 0, 0), (1, 1, 1, 1)])
def test_average_pool_that_counts_no_padding_is_delegated(pads: tuple[int, int, int, int]) -> None:
    net = GraphBuilder((1, 3, 8, 8))
    net.pool("AveragePool", "input", 3, stride=2, pads=pads, count_include_pad=0)
    graph = net.build()
    quantized = build_tflite(quantize_for_test(graph, random_input(graph)), CARD)

    assert operators(build_tflite(graph, CARD)) == {"PAD": 1, "AVERAGE_POOL_2D": 1, "MUL": 1}
    assert operators(quantized) == {"PAD": 1, "DEPTHWISE_CONV_2D": 1, "MUL": 1}
    assert is_wholly_delegated(quantized)
    check_int8(graph, max_steps=2)


def test_average_pool_that_ignores_same_padding_matches_reference() -> None:
    net = GraphBuilder((1, 3, 8, 8))
    net.pool("AveragePool", "input", 3, pads=1, count_include_pad=0)

    check_float(net.build())
    check_int8(net.build())


def test_average_pool_over_the_whole_map_becomes_a_mean() -> None:
    net = GraphBuilder((1, 3, 7, 7))
    net.pool("AveragePool", "input", 7)

    assert operators(build_tflite(net.build(), CARD)) == {"MEAN": 1}
    check_float(net.build())
    check_int8(net.build())


def single(op: str, **attrs: float | tuple[int, ...]) -> Graph:
    net = GraphBuilder((1, 6, 5, 4))
    net.same(op, "input", **attrs)
    return net.build()


def binary(op: str, other: str) -> Graph:
    net = GraphBuilder((1, 6, 5, 4), seed=4)
    branch = net.conv("input", 6, 1)
    if other == "pooled":
        net.binary(op, branch, net.same("Sigmoid", net.global_pool("input")))
    elif other == "constant":
        net.binary(op, branch, net.constant("operand", np.linspace(-1, 2, 6).reshape(6, 1, 1)))
    elif other == "self":
        net.relu(net.binary(op, branch, branch))
    else:
        net.relu6(net.binary(op, "input", branch))
    return net.build()


def reshaped(*steps: tuple[str, tuple[int, ...], dict[str, int | tuple[int, ...]]]) -> Graph:
    net = GraphBuilder((1, 6, 5, 4))
    x = "input"
    for op, shape, attrs in steps:
        x = net.node(op, [x], [shape], attrs)[0]
    return net.build()


def cut(sizes: tuple[int, ...], axis: int, part: int) -> Graph:
    net = GraphBuilder((1, 6, 5, 4))
    parts = net.split("input", sizes, axis)
    return net.build(parts[part])


def sliced(start: int, end: int, axis: int) -> Graph:
    net = GraphBuilder((1, 6, 5, 4))
    net.slice("input", start, end, axis)
    return net.build()


def flattened(*, activation: str = "none", readers: str = "gemm") -> Graph:
    net = GraphBuilder((1, 6, 5, 4), seed=2)
    x = net.flatten(net.relu(net.conv("input", 4, 3)))
    x = net.same("HardSwish", x) if activation == "hard_swish" else x
    if readers == "gemm":
        x = net.gemm(x, 5)
    elif readers == "both":
        net.binary("Add", net.gemm(x, 24), x)
    return net.build()


def concat(axis: int, *, shuffle: int = 0, relu: bool = False) -> Graph:
    net = GraphBuilder((1, 6, 5, 4), seed=2)
    x = net.concat([net.conv("input", 6, 1), "input"], axis)
    x = net.shuffle(x, shuffle) if shuffle else x
    net.relu(x) if relu else None
    return net.build()


GRAPHS = {
    "relu": single("Relu"),
    "relu6": single("Clip", min=0.0, max=6.0),
    "relu_n1_to_1": single("Clip", min=-1.0, max=1.0),
    "sigmoid": single("Sigmoid"),
    "softmax": single("Softmax", axis=1),
    "hard_swish": single("HardSwish"),
    "hard_sigmoid": single("HardSigmoid", alpha=1 / 6, beta=0.5),
    "response_norm": single("LRN", size=5, alpha=1e-4, beta=0.75, bias=2.0),
    "strong_response_norm": single("LRN", size=3, alpha=1.0, beta=0.75, bias=1.0),
    "shuffle_2": single("ChannelShuffle", groups=2),
    "shuffle_3": single("ChannelShuffle", groups=3),
    "shuffle_1": single("ChannelShuffle", groups=1),
    "shuffle_after_concat": concat(1, shuffle=2),
    "shuffle_into_other_groups": concat(1, shuffle=3),
    "relu_after_concat": concat(1, relu=True),
    "concat_channels": concat(1),
    "concat_rows": concat(2),
    "add": binary("Add", "input"),
    "add_twice": binary("Add", "self"),
    "add_constant": binary("Add", "constant"),
    "mul": binary("Mul", "input"),
    "mul_squeeze_excite": binary("Mul", "pooled"),
    "mul_constant": binary("Mul", "constant"),
    "split_equal": cut((3, 3), 1, 1),
    "split_uneven": cut((1, 3, 2), 1, 1),
    "split_rows": cut((2, 3), 2, 1),
    "slice_channels": sliced(2, 5, 1),
    "slice_columns": sliced(1, 3, 3),
    "flatten_alone": flattened(readers="none"),
    "flatten_gemm": flattened(),
    "flatten_hard_swish_gemm": flattened(activation="hard_swish"),
    "flatten_gemm_and_add": flattened(readers="both"),
    "reshape_to_map": reshaped(("Reshape", (1, 12, 2, 5), {"shape": (1, 12, 2, 5)})),
    "reshape_shuffle": reshaped(
        ("Reshape", (1, 2, 3, 5, 4), {"shape": (1, 2, 3, 5, 4)}),
        ("Transpose", (1, 3, 2, 5, 4), {"perm": (0, 2, 1, 3, 4)}),
        ("Reshape", (1, 6, 5, 4), {"shape": (1, 6, 5, 4)}),
    ),
    "reshape_to_row": reshaped(("Reshape", (1, 120), {"shape": (1, 120)})),
    "transpose_map": reshaped(("Transpose", (1, 4, 6, 5), {"perm": (0, 3, 1, 2)})),
    "pad": reshaped(("Pad", (1, 6, 8, 5), {"pads": (1, 0, 2, 1), "value": 0})),
    "global_pool": reshaped(("GlobalAveragePool", (1, 6, 1, 1), {})),
    "global_pool_flatten": reshaped(("GlobalAveragePool", (1, 6, 1, 1), {}), ("Flatten", (1, 6), {})),
}
# HARD_SWISH, SOFTMAX and clips that the grid does not imply are computed in other ways than the reference.
STEPS = {
    "softmax": 2,
    "hard_swish": 1,
    "hard_sigmoid": 2,
    "strong_response_norm": 3,
    "mul_squeeze_excite": 2,
    "flatten_hard_swish_gemm": 2,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_operator_matches_reference_in_float(name: str) -> None:
    check_float(GRAPHS[name])


@pytest.mark.parametrize("name", GRAPHS)
def test_operator_is_near_exact_integers(name: str) -> None:
    check_int8(GRAPHS[name], max_steps=STEPS.get(name, 1))


@pytest.mark.parametrize("name", [name for name in GRAPHS if "response_norm" not in name])  # XNNPACK has none
def test_float_operator_is_delegated(name: str) -> None:
    assert is_wholly_delegated(build_tflite(GRAPHS[name], CARD))


def test_clip_to_odd_limits_works_in_float() -> None:
    check_float(single("Clip", min=-0.5, max=0.75))
    check_float(single("Clip", min=-0.5, max=np.inf))


def test_clip_to_odd_limits_is_refused_in_int8() -> None:
    graph = single("Clip", min=-0.25, max=0.25)

    with pytest.raises(UnsupportedOpError, match="clip_0"):
        build_tflite(quantize_for_test(graph, random_input(graph)), CARD)


def test_flatten_before_gemm_costs_no_operator() -> None:
    assert operators(build_tflite(flattened(), CARD)) == {"CONV_2D": 1, "FULLY_CONNECTED": 1}


def test_flatten_after_global_pool_costs_no_operator() -> None:
    assert operators(build_tflite(GRAPHS["global_pool_flatten"], CARD)) == {"MEAN": 1}


@pytest.mark.parametrize("groups", [2, 3])
def test_shuffle_costs_one_transpose(groups: int) -> None:
    content = build_tflite(single("ChannelShuffle", groups=groups), CARD)

    assert operators(content) == {"RESHAPE": 2, "TRANSPOSE": 1}


def test_padding_that_tflite_calls_same_costs_no_operator() -> None:
    net = GraphBuilder((1, 3, 8, 8))
    net.conv("input", 4, 3, pads=1)

    assert operators(build_tflite(net.build(), CARD)) == {"CONV_2D": 1}


def test_five_dimensional_transpose_says_so_in_its_version() -> None:
    codes = parse(build_tflite(GRAPHS["reshape_shuffle"], CARD)).operatorCodes or []

    assert {code.builtinCode: code.version for code in codes}[Op.TRANSPOSE] == 4


@pytest.mark.parametrize("num_inputs", [5, 8, 9])
def test_concat_of_many_is_joined_in_steps_that_are_delegated(num_inputs: int) -> None:
    net = GraphBuilder((1, 9, 4, 4))
    net.concat([net.slice("input", start, start + 1 + start % 2) for start in range(num_inputs - 1)] + ["input"])
    graph = net.build()
    content = build_tflite(graph, CARD)

    check_float(graph)
    check_int8(graph)
    assert is_wholly_delegated(content)
    assert operators(content)["CONCATENATION"] == (2 if num_inputs < 8 else 3)
