"""Float files against the numpy reference, structure, the rim, and what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from edgekit.core.artifact import ModelCard
from edgekit.core.errors import GraphError, OutputError, UnsupportedOpError
from edgekit.core.graph import Graph
from edgekit.core.quant import QuantizedGraph, QuantParams
from edgekit.export.tflite import build_tflite, write_tflite
from edgekit.quantize.execute import run_float
from edgekit.runtime.card import read_tflite_card
from graphs import GraphBuilder, quantize_for_test
from tflite_runs import (
    CARD,
    constant,
    is_wholly_delegated,
    load,
    operators,
    parse,
    run,
    run_float_file,
    scales,
    tensors,
    to_nhwc,
    zero_points,
)


def picture(shape: tuple[int, ...] = (1, 3, 16, 16), seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mixed_net() -> Graph:
    """Every operator of the catalogue's architectures."""
    net = GraphBuilder((1, 3, 16, 16), seed=3)
    x = net.relu6(net.conv("input", 12, 3, stride=2, pads=1))
    x = net.relu(net.conv(x, 12, 3, pads=1, group=12))
    left, right = net.split(x, (6, 6))
    right = net.relu(net.conv(right, 6, 1, group=3))
    x = net.shuffle(net.concat([left, right]), 2)
    x = net.relu(net.binary("Add", x, net.conv(x, 12, 1)))
    x = net.concat([net.pool("MaxPool", x, 3, stride=2, pads=1), net.pool("AveragePool", x, 3, stride=2, pads=1)])
    x = net.shuffle(net.conv(x, 24, 1, bias=False), 3)
    net.gemm(net.flatten(net.global_pool(x)), 10)
    return net.build()


@pytest.fixture(scope="module")
def net() -> Graph:
    return mixed_net()


@pytest.fixture(scope="module")
def quantized(net: Graph) -> QuantizedGraph:
    return quantize_for_test(net, picture())


def test_float_file_matches_reference(net: Graph) -> None:
    x = picture(seed=2)

    np.testing.assert_allclose(run_float_file(net, x), run_float(net, x)[net.output], atol=1e-5)


def test_int8_file_follows_float_closely(net: Graph, quantized: QuantizedGraph) -> None:
    x = picture()
    real = run_float(net, x)[net.output]
    integers = quantized.activations["input"].quantize(x).astype(np.int8)

    answer = quantized.activations[net.output].dequantize(run(build_tflite(quantized, CARD), to_nhwc(integers)))

    assert 10 * np.log10(np.sum(real**2) / np.sum((answer - real) ** 2)) > 25


def test_card_in_the_file_names_the_scheme_of_the_graph_when_the_card_given_has_another(
    net: Graph, quantized: QuantizedGraph, tmp_path: Path
) -> None:
    card = msgspec.structs.replace(CARD, scheme="dynamic_wi8_afp32")
    for model, scheme in ((net, "float"), (quantized, quantized.scheme)):
        artifact = write_tflite(model, tmp_path / "model.tflite", card)
        told = read_tflite_card(artifact.path)
        assert told is not None
        assert (told.scheme, artifact.scheme) == (scheme, scheme)


@pytest.mark.parametrize("float_io", [False, True])
def test_int8_file_is_one_partition_without_float_operators(quantized: QuantizedGraph, float_io: bool) -> None:
    content = build_tflite(quantized, CARD, float_io=float_io)

    assert is_wholly_delegated(content)
    floats = [name for name, tensor in tensors(content).items() if tensor.type == 0]
    assert len(floats) == (2 if float_io else 0)
    assert operators(content)["TRANSPOSE"] == 2


def test_float_file_is_one_partition(net: Graph) -> None:
    assert is_wholly_delegated(build_tflite(net, CARD))


def test_float_io_gives_the_dequantized_output_of_the_int8_file(net: Graph, quantized: QuantizedGraph) -> None:
    x = picture(seed=5)
    integers = quantized.activations["input"].quantize(x).astype(np.int8)
    inner = run(build_tflite(quantized, CARD), to_nhwc(integers))

    outer = run(build_tflite(quantized, CARD, float_io=True), to_nhwc(x))

    assert outer.dtype == np.float32
    np.testing.assert_allclose(outer, quantized.activations[net.output].dequantize(inner), atol=1e-6)


def test_file_holds_exactly_the_decided_integers_and_grids(quantized: QuantizedGraph) -> None:
    content = build_tflite(quantized, CARD)
    stored = tensors(content)

    for node in quantized.graph.nodes:
        if node.op not in {"Conv", "Gemm"}:
            continue
        for name in node.inputs[1:]:
            decided = quantized.constants[name]
            values = constant(content, name)
            if node.op == "Conv" and values.ndim == 4:
                order = (3, 0, 1, 2) if quantized.graph.is_depthwise(node) else (0, 3, 1, 2)
                values = values.transpose(order)
            np.testing.assert_array_equal(values, decided.values)
            np.testing.assert_array_equal(scales(stored[name]), decided.params.scale)
    for name, params in quantized.activations.items():
        if name in stored:
            np.testing.assert_array_equal(scales(stored[name]), params.scale)
            np.testing.assert_array_equal(zero_points(stored[name]), params.zero_point)


def test_tensors_carry_activation_names_of_the_graph(net: Graph) -> None:
    names = set(tensors(build_tflite(net, CARD)))
    producers = net.producers()
    # What is fused carries the last name; a Concat before a shuffle and a pool before a Flatten go the same way.
    expected = {name for name in net.activations() if name == "input" or producers[name].op in {"Relu", "Clip", "Gemm"}}

    assert expected <= names


@pytest.mark.parametrize("quantize", [False, True])
def test_same_graph_gives_same_bytes(net: Graph, quantized: QuantizedGraph, quantize: bool) -> None:
    model = quantized if quantize else net

    assert build_tflite(model, CARD) == build_tflite(model, CARD)


def test_batch_can_be_resized_by_the_reader(net: Graph) -> None:
    x = picture((4, 3, 16, 16))
    interpreter = load(build_tflite(net, CARD))
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, [4, 16, 16, 3])
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, to_nhwc(x))
    interpreter.invoke()

    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    np.testing.assert_allclose(answer, run_float(net, x)[net.output], atol=1e-5)


def test_operator_versions_are_those_that_old_runtimes_know(quantized: QuantizedGraph) -> None:
    versions = {code.builtinCode: code.version for code in parse(build_tflite(quantized, CARD)).operatorCodes or []}

    # CONV_2D occurs as version 3 and, grouped, as 6.
    assert versions.pop(3) in {3, 6}
    # ADD 2, CONCATENATION 2, DEPTHWISE_CONV_2D 3, FULLY_CONNECTED 4, MAX_POOL_2D 2, RESHAPE 1, PAD 2, TRANSPOSE 2,
    # MEAN 2, SPLIT 2
    assert versions == {0: 2, 2: 2, 4: 3, 9: 4, 17: 2, 22: 1, 34: 2, 39: 2, 40: 2, 49: 2}


def test_write_leaves_the_described_file(net: Graph, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "model.tflite"

    artifact = write_tflite(net, path, CARD)

    assert path.read_bytes() == build_tflite(net, CARD)
    assert (artifact.path, artifact.format, artifact.scheme) == (path, "tflite", "float")
    assert artifact.size_bytes == path.stat().st_size


def test_write_raises_output_error_when_the_folder_is_a_file(net: Graph, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputError, match="cannot write"):
        write_tflite(net, tmp_path / "file" / "model.tflite", CARD)


def test_unknown_operator_is_refused_by_name() -> None:
    net = GraphBuilder((1, 3, 8, 8))
    net.same("Erf", "input")

    with pytest.raises(UnsupportedOpError, match=r"node erf_0 \(Erf\) has no TFLite form"):
        build_tflite(net.build(), CARD)


def test_softmax_over_another_axis_is_refused() -> None:
    net = GraphBuilder((1, 3, 8, 8))
    net.same("Softmax", "input", axis=2)

    with pytest.raises(UnsupportedOpError, match="axis 2"):
        build_tflite(net.build(), CARD)


def test_labels_of_another_number_are_refused(net: Graph) -> None:
    card = ModelCard(model="net", scheme="float", labels=("cat", "dog"), preprocess=CARD.preprocess)

    with pytest.raises(GraphError, match="2 labels for 10 outputs"):
        build_tflite(net, card)


def test_input_that_is_no_picture_is_refused() -> None:
    net = GraphBuilder((1, 12))
    net.gemm("input", 3)

    with pytest.raises(GraphError, match=r"expected nodes and an input \[1, C, H, W\]"):
        build_tflite(net.build(), CARD)


def test_activation_without_grid_is_refused_by_name(net: Graph, quantized: QuantizedGraph) -> None:
    grids = {name: params for name, params in quantized.activations.items() if name != net.output}

    with pytest.raises(GraphError, match=f"activation {net.output} has no grid"):
        build_tflite(msgspec.structs.replace(quantized, activations=grids), CARD)


def test_grids_that_differ_across_a_concat_are_refused_by_node(quantized: QuantizedGraph) -> None:
    concat = next(node for node in quantized.graph.nodes[::-1] if node.op == "Concat")
    other = QuantParams(scale=np.array([0.5], np.float32), zero_point=np.array([3], np.int32))
    grids = {**quantized.activations, concat.inputs[0]: other}

    with pytest.raises(GraphError, match="needs one grid"):
        build_tflite(msgspec.structs.replace(quantized, activations=grids), CARD)


def test_bias_on_a_foreign_scale_is_refused_by_node(quantized: QuantizedGraph) -> None:
    gemm = quantized.graph.nodes[-1]
    bias = quantized.constants[gemm.inputs[2]]
    wrong = msgspec.structs.replace(bias, params=msgspec.structs.replace(bias.params, scale=bias.params.scale * 2))

    with pytest.raises(GraphError, match=f"node {gemm.name}: scale of bias"):
        build_tflite(msgspec.structs.replace(quantized, constants={**quantized.constants, gemm.inputs[2]: wrong}), CARD)


def test_weight_left_in_float_is_refused_by_node(quantized: QuantizedGraph) -> None:
    gemm = quantized.graph.nodes[-1]
    constants = {name: tensor for name, tensor in quantized.constants.items() if name != gemm.inputs[1]}

    with pytest.raises(GraphError, match=f"node {gemm.name}: constant {gemm.inputs[1]} has no integers"):
        build_tflite(msgspec.structs.replace(quantized, constants=constants), CARD)
