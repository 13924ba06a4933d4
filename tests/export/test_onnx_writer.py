from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from edgekit.core.artifact import ModelCard
from edgekit.core.errors import GraphError, OutputError, UnsupportedOpError
from edgekit.core.graph import Graph, Node
from edgekit.export.onnx_writer import IR_VERSION, OPSET, build_onnx, with_all_outputs, write_onnx
from edgekit.export.torch_graph import trace
from edgekit.quantize.execute import run_float
from graphs import GraphBuilder
from onnx_files import SmallNet, card_for, pictures, run, settle


@pytest.fixture(scope="module")
def graph() -> Graph:
    return trace(settle(SmallNet()), (3, 32, 32), name="small")


def test_write_onnx_describes_the_file_that_it_wrote(graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "new" / "net.onnx"

    artifact = write_onnx(graph, path, card_for(5))

    content = path.read_bytes()
    assert (artifact.path, artifact.format, artifact.scheme) == (path, "onnx", "float")
    assert artifact.size_bytes == len(content)
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()


def test_write_onnx_gives_the_same_bytes_for_the_same_graph(graph: Graph, tmp_path: Path) -> None:
    first = write_onnx(graph, tmp_path / "a.onnx", card_for(5))
    second = write_onnx(trace(settle(SmallNet()), (3, 32, 32), name="small"), tmp_path / "b.onnx", card_for(5))

    assert first.size_bytes == second.size_bytes
    assert write_onnx(graph, tmp_path / "c.onnx", card_for(5)).sha256 == first.sha256


def test_write_onnx_leaves_nothing_behind_when_it_cannot_write(graph: Graph, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")

    with pytest.raises(OutputError):
        write_onnx(graph, tmp_path / "file" / "net.onnx", card_for(5))

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_build_onnx_passes_the_checker_at_the_promised_versions(graph: Graph) -> None:
    model = build_onnx(graph, card_for(5))

    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == IR_VERSION == 8
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert OPSET == 17


def test_build_onnx_carries_card_labels_and_normalization(graph: Graph) -> None:
    model = build_onnx(graph, card_for(5))

    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert msgspec.json.decode(entries["edgekit.card"], type=ModelCard) == card_for(5)
    assert entries["labels"].split("\n") == [f"class {index}" for index in range(5)]
    assert entries["mean"] == "0.5,0.25,0.125"
    assert entries["std"] == "0.5,0.5,0.25"


def test_build_onnx_names_the_scheme_of_the_graph_when_the_card_has_another(graph: Graph) -> None:
    card = msgspec.structs.replace(card_for(5), scheme="static_wi8_ai8")

    model = build_onnx(graph, card)

    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert msgspec.json.decode(entries["edgekit.card"], type=ModelCard).scheme == "float"


def test_build_onnx_refuses_labels_of_another_number_of_classes(graph: Graph) -> None:
    with pytest.raises(GraphError, match=r"4 labels.*5 outputs"):
        build_onnx(graph, card_for(4))


def test_build_onnx_leaves_the_batch_open_unless_told_otherwise(graph: Graph) -> None:
    x = pictures((3, 3, 32, 32))

    batched = run(build_onnx(graph, card_for()), x)[graph.output]
    fixed = build_onnx(graph, card_for(), dynamic_batch=False)

    single = [run(fixed, x[index : index + 1])[graph.output] for index in range(3)]
    np.testing.assert_allclose(batched, np.concatenate(single), atol=1e-6)
    assert fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_build_onnx_keeps_names_of_activations_nodes_and_constants(graph: Graph) -> None:
    model = build_onnx(graph, card_for())

    assert [node.name for node in model.graph.node] == [node.name for node in graph.nodes]
    assert [output for node in model.graph.node for output in node.output] == list(graph.activations()[1:])
    assert {tensor.name for tensor in model.graph.initializer} >= set(graph.constants)


def test_build_onnx_computes_every_canonical_operator_as_the_numpy_reference() -> None:
    net = GraphBuilder((1, 3, 12, 10), seed=1)
    x = net.conv("input", 12, 3, stride=2, pads=(1, 0, 1, 2), bias=False)
    left, right = net.split(net.shuffle(net.relu6(x), 3), [5, 7])
    joined = net.concat([net.same("Sigmoid", right), net.same("HardSwish", left)])
    x = net.same("HardSigmoid", net.pool("MaxPool", joined, 3, stride=2, pads=1), alpha=0.25, beta=0.5)
    x = net.binary("Mul", net.conv(x, 12, 3, pads=2, dilation=2, group=4), net.constant("gain", np.ones((1, 12, 1, 1))))
    x = net.binary("Add", x, net.global_pool(x))
    x = net.pool("AveragePool", x, 2, pads=(0, 1, 1, 0), count_include_pad=0)
    _, _, height, width = net.shapes[x]
    padded = (1, 12, height + 1, width + 3)
    x = net.slice(net.node("Pad", [x], [padded], {"pads": (1, 2, 0, 1), "value": 0.5})[0], 2, 8)
    x = net.node("Transpose", [x], [(1, *padded[2:], 6)], {"perm": (0, 2, 3, 1)})[0]
    x = net.node("Reshape", [x], [(1, padded[2] * 2, padded[3] * 3)], {"shape": (1, padded[2] * 2, padded[3] * 3)})[0]
    net.same("Softmax", net.gemm(net.flatten(x), 4, bias=False), axis=1)
    graph = net.build()
    x_values = pictures((2, 3, 12, 10))

    outputs = run(with_all_outputs(build_onnx(graph, card_for())), x_values)

    expected = run_float(graph, x_values)
    assert set(outputs) == set(expected) - {"input"}
    for name, values in outputs.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5, err_msg=name)


def test_build_onnx_names_the_node_when_the_operator_is_not_canonical() -> None:
    node = Node(name="odd", op="Tanh", inputs=("input",), outputs=("y",))
    shapes = {"input": (1, 3), "y": (1, 3)}
    graph = Graph(name="net", input="input", output="y", nodes=(node,), constants={}, shapes=shapes)

    with pytest.raises(UnsupportedOpError, match="Tanh of node 'odd'"):
        build_onnx(graph, card_for())


def test_with_all_outputs_adds_chosen_activations_and_leaves_the_model_alone(graph: Graph) -> None:
    model = build_onnx(graph, card_for())
    before = model.SerializeToString(deterministic=True)

    some = with_all_outputs(model, ["stem.0", "excite.mul"])
    every = with_all_outputs(model)

    assert [output.name for output in some.graph.output] == [graph.output, "stem.0", "excite.mul"]
    assert {output.name for output in every.graph.output} == set(graph.activations()[1:])
    assert model.SerializeToString(deterministic=True) == before


def test_with_all_outputs_infers_shapes_when_another_tool_made_the_model() -> None:
    header = '<ir_version: 8, opset_import: ["" : 17]> net (float[N,3] x) => (float[N,3] y)'
    model = onnx.parser.parse_model(header + "{ h = Relu(x) y = Sigmoid(h) }")

    every = with_all_outputs(model)

    assert [output.name for output in every.graph.output] == ["y", "h"]
