"""Two files of one decision are equal; anything else is found and named."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgekit.core.errors import DataError, EdgekitError
from edgekit.core.graph import Graph
from edgekit.data.memory import MemorySource
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.stored import StoredFile, StoredTensor, read_stored
from edgekit.export.tflite import write_tflite
from edgekit.verify.answers import check_classes
from edgekit.verify.integers import Difference, first_difference
from graphs import GraphBuilder, quantize_for_test
from onnx_files import card_for


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, StoredFile, StoredFile]:
    """A net whose Gemm sees a flattened 4x4 map, read back from both formats."""
    net = GraphBuilder((1, 3, 8, 8))
    features = net.relu(net.conv("input", 6, pads=1, stride=2))
    features = net.relu6(net.conv(features, 6, pads=1, group=6))
    graph = net.build(net.gemm(net.flatten(features), 4))
    x = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    quantized = quantize_for_test(graph, x)
    folder = tmp_path_factory.mktemp("files")
    write_onnx(quantized, folder / "m.onnx", card_for(4))
    write_tflite(quantized, folder / "m.tflite", card_for(4))
    return graph, read_stored(folder / "m.onnx"), read_stored(folder / "m.tflite")


def changed(stored: StoredFile, name: str, tensor: StoredTensor) -> StoredFile:
    return msgspec.structs.replace(stored, constants={**stored.constants, name: tensor})


def test_files_of_one_decision_hold_the_same(files: tuple[Graph, StoredFile, StoredFile]) -> None:
    graph, onnx, tflite = files

    assert first_difference(graph, onnx, tflite) is None
    assert onnx.float_layers == tflite.float_layers == ()
    assert onnx.num_weighted == tflite.num_weighted == 3


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("part", [1, 2])
def test_one_changed_integer_is_found_in_its_layer(
    files: tuple[Graph, StoredFile, StoredFile], position: int, part: int
) -> None:
    graph, onnx, tflite = files
    node = [node for node in graph.nodes if node.op in {"Conv", "Gemm"}][position]
    name = node.inputs[part]
    values = onnx.constants[name].values.copy()
    values.flat[-1] ^= 1

    spoiled = changed(onnx, name, msgspec.structs.replace(onnx.constants[name], values=values))

    assert first_difference(graph, spoiled, tflite) == Difference(layer=node.name, what=f"integers of {name} differ")


def test_swapped_columns_of_one_row_are_found(files: tuple[Graph, StoredFile, StoredFile]) -> None:
    graph, onnx, tflite = files
    node = next(node for node in graph.nodes if node.op == "Gemm")
    tensor = onnx.constants[node.inputs[1]]
    values = tensor.values.copy()
    other = int(np.flatnonzero(values[0] != values[0, 0])[0])
    values[0, [0, other]] = values[0, [other, 0]]

    found = first_difference(
        graph, changed(onnx, node.inputs[1], msgspec.structs.replace(tensor, values=values)), tflite
    )

    assert found is not None
    assert found.layer == node.name


def test_changed_scale_is_found(files: tuple[Graph, StoredFile, StoredFile]) -> None:
    graph, onnx, tflite = files
    node = graph.nodes[0]
    tensor = onnx.constants[node.inputs[1]]

    spoiled = changed(onnx, node.inputs[1], msgspec.structs.replace(tensor, scale=tensor.scale * np.float32(1.01)))

    assert first_difference(graph, spoiled, tflite) == Difference(
        layer=node.name, what=f"scales of {node.inputs[1]} differ"
    )


def test_missing_tensor_and_other_grid_are_found(files: tuple[Graph, StoredFile, StoredFile]) -> None:
    graph, onnx, tflite = files
    name = graph.nodes[0].inputs[1]
    without = {key: value for key, value in tflite.constants.items() if key != name}
    found = first_difference(graph, onnx, msgspec.structs.replace(tflite, constants=without))
    assert found is not None
    assert (found.layer, name in found.what) == (graph.nodes[0].name, True)

    shared = next(name for name in onnx.activations if name in tflite.activations)
    scale, zero_point = tflite.activations[shared]
    moved = msgspec.structs.replace(tflite, activations={**tflite.activations, shared: (scale, zero_point + 1)})
    found = first_difference(graph, onnx, moved)
    assert found is not None
    assert found.layer == shared


def test_classes_must_be_the_models() -> None:
    check_classes(pictures(("Cat", "dog"), [0, 1]), ("cat", "Dog"), 2)
    check_classes(pictures(("cat", "dog"), [0, 1]), (), 2)
    with pytest.raises(DataError, match="pictures has 2 classes, the model 3"):
        check_classes(pictures(("cat", "dog"), [0, 1]), (), 3)
    with pytest.raises(DataError, match="class 0 is 'dog', the model's 'cat'"):
        check_classes(pictures(("dog", "cat"), [0, 1]), ("cat", "dog"), 2)


def test_classes_without_a_picture_are_not_compared() -> None:
    sample = pictures(("tench, Tinca tinca", "class 0001", "crane"), [0, 2])
    check_classes(sample, ("tench", "goldfish", "crane (bird)"), 3)
    with pytest.raises(DataError, match="class 2 is 'crane', the model's 'robin'"):
        check_classes(sample, ("tench", "goldfish", "robin"), 3)


def pictures(class_names: tuple[str, ...], labels: list[int]) -> MemorySource:
    return MemorySource(
        name="pictures",
        split="test",
        class_names=class_names,
        pictures=np.zeros((len(labels), 4, 4, 3), np.uint8),
        labels=np.array(labels, np.int64),
    )


def test_garbage_is_no_stored_file(tmp_path: Path) -> None:

    for name in ("m.onnx", "m.tflite", "m.txt"):
        (tmp_path / name).write_bytes(b"\xff" * 64)
        with pytest.raises(EdgekitError):
            read_stored(tmp_path / name)
