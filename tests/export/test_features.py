"""The cut before the classifier: what is left gives what the last layer was given, in every format."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgekit.core.artifact import ModelCard
from edgekit.core.errors import GraphError, UsageError
from edgekit.core.graph import Graph
from edgekit.export.features import as_extractor, cut_classifier
from edgekit.export.hub import HubRequest, load_hub
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from edgekit.models.zoo import ARCHITECTURES
from edgekit.quantize.execute import run_float
from edgekit.quantize.reference import quantize_input, run_integer
from edgekit.runtime.interpreter import load_interpreter
from edgekit.runtime.predict import predict_logits
from edgekit.runtime.preprocess import normalize
from extractors import CARD, SPEC, tiny_classifier
from graphs import GraphBuilder, quantize_for_test


def draw_input(graph: Graph, num: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num, *graph.shapes[graph.input][1:]), dtype=np.float32)


def draw_pictures(num: int, size: tuple[int, int], channels: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (num, *size, channels)).astype(np.uint8)


def test_cut_features_times_the_classifier_are_the_logits() -> None:
    graph = tiny_classifier()
    cut = cut_classifier(graph)
    last = graph.nodes[-1]
    x = draw_input(graph)

    features = run_float(cut.graph, x)[cut.graph.output]

    weight, bias = graph.constants[last.inputs[1]], graph.constants[last.inputs[2]]
    assert (cut.layer, cut.num_features) == (last.name, 16)
    np.testing.assert_allclose(features @ weight.T + bias, run_float(graph, x)[graph.output], rtol=1e-5, atol=1e-6)
    assert last.inputs[1] not in cut.graph.constants
    assert last.output not in cut.graph.shapes


def test_cut_leaves_the_graph_that_it_is_given_as_it_is() -> None:
    graph = tiny_classifier()
    before = msgspec.structs.astuple(graph)
    cut_classifier(graph)
    assert msgspec.structs.astuple(graph) == before


def test_what_follows_the_classifier_is_cut_away_too() -> None:
    build = GraphBuilder((1, 3, 8, 8))
    pooled = build.flatten(build.global_pool(build.relu(build.conv("input", 6))))
    graph = build.build(build.same("Softmax", build.gemm(pooled, 4), axis=1))

    cut = cut_classifier(graph)

    assert cut.graph.output == pooled
    assert {node.op for node in cut.graph.nodes} == {"Conv", "Relu", "GlobalAveragePool", "Flatten"}


def test_map_of_a_convolution_that_classifies_places_is_averaged() -> None:
    build = GraphBuilder((1, 3, 8, 8))
    places = build.relu(build.conv("input", 6))
    graph = build.build(build.flatten(build.global_pool(build.relu(build.conv(places, 4, 1)))))
    cut = cut_classifier(graph)
    x = draw_input(graph)

    features = run_float(cut.graph, x)[cut.graph.output]

    np.testing.assert_allclose(features, run_float(graph, x)[places].mean(axis=(2, 3)), rtol=1e-5, atol=1e-6)


def test_map_of_a_convolution_with_one_place_is_flattened() -> None:
    build = GraphBuilder((1, 3, 8, 8))
    places = build.relu(build.conv("input", 6))
    graph = build.build(build.flatten(build.conv(places, 4, 6)))
    cut = cut_classifier(graph)
    x = draw_input(graph)

    features = run_float(cut.graph, x)[cut.graph.output]

    assert cut.num_features == 6 * 6 * 6
    np.testing.assert_array_equal(features, run_float(graph, x)[places].reshape(3, -1))


def test_name_of_an_added_node_is_new_when_the_model_has_taken_it() -> None:
    build = GraphBuilder((1, 3, 8, 8))
    places = build.relu(build.conv("input", 6))
    graph = build.build(build.flatten(build.global_pool(build.conv(places, 4, 1))))
    renamed = {places: "features"}
    nodes = [
        msgspec.structs.replace(
            node,
            inputs=tuple(renamed.get(name, name) for name in node.inputs),
            outputs=tuple(renamed.get(name, name) for name in node.outputs),
        )
        for node in graph.nodes
    ]
    shapes = {renamed.get(name, name): shape for name, shape in graph.shapes.items()}

    cut = cut_classifier(graph.replace(nodes=nodes, shapes=shapes))

    assert cut.graph.shapes[cut.graph.output] == (1, 6)
    assert len({node.name for node in cut.graph.nodes}) == len(cut.graph.nodes)


def test_both_files_keep_the_order_of_a_flattened_map(tmp_path: Path) -> None:
    build = GraphBuilder((1, 3, 8, 8))
    graph = build.build(build.gemm(build.flatten(build.relu(build.conv("input", 5, stride=2, pads=1))), 7))
    cut = cut_classifier(graph)
    x = draw_input(graph, 16)
    pictures = draw_pictures(6, (8, 8), 3)
    expected = run_float(cut.graph, normalize(pictures, SPEC))[cut.graph.output]

    for model in (cut.graph, quantize_for_test(cut.graph, x)):
        write_onnx(model, tmp_path / "model.onnx", CARD)
        write_tflite(model, tmp_path / "model.tflite", CARD)
        onnx, tflite = (
            predict_logits(load_interpreter(tmp_path / name), pictures, SPEC) for name in ("model.onnx", "model.tflite")
        )
        np.testing.assert_allclose(onnx, tflite, atol=1e-5 if model is cut.graph else 0.06)
        assert onnx.shape == (6, 5 * 4 * 4)
        assert float((onnx * expected).sum() / np.linalg.norm(onnx) / np.linalg.norm(expected)) > 0.99


def test_quantized_files_give_the_features_of_the_integer_reference(tmp_path: Path) -> None:
    cut = cut_classifier(tiny_classifier())
    model = quantize_for_test(cut.graph, draw_input(cut.graph, 16))
    pictures = draw_pictures(32, (8, 8), 3)
    grid = model.activations[cut.graph.output]
    integers = run_integer(model, quantize_input(model, normalize(pictures, SPEC)))[cut.graph.output]

    for path, write in ((tmp_path / "model.onnx", write_onnx), (tmp_path / "model.tflite", write_tflite)):
        write(model, path, CARD)
        features = predict_logits(load_interpreter(path), pictures, SPEC)
        steps = np.abs(features / float(grid.scale[0]) + int(grid.zero_point[0]) - integers)
        assert steps.max() <= 1.01
        assert steps.mean() < 0.05


@pytest.mark.parametrize("variant", ["lenet5", "mobilenet_v2_w0.5", "squeezenet1_1", "nin_w0.25"])
def test_cut_equals_what_torch_gives_its_last_layer(variant: str) -> None:
    check_against_torch(variant)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES.names)
def test_every_architecture_can_be_cut(name: str) -> None:
    check_against_torch(next(iter(ARCHITECTURES.load(name).variants)))


def check_against_torch(variant: str) -> None:
    hub = load_hub(HubRequest(model=variant, untrained=True, input_size=32))
    extractor, cut = as_extractor(hub)
    spec = extractor.card.preprocess
    pictures = draw_pictures(2, spec.input_size, spec.num_channels)
    assert extractor.torch_logits is not None

    expected = extractor.torch_logits(pictures)

    features = run_float(extractor.graph, normalize(pictures, spec))[extractor.graph.output]
    assert expected.shape == (2, cut.num_features)
    assert expected.std() > 0
    np.testing.assert_allclose(features, expected, atol=1e-4 * max(1.0, float(np.abs(expected).max())))
    assert (extractor.card.kind, extractor.card.labels) == ("features", ())
    assert extractor.num_params < hub.num_params


def test_model_of_one_layer_is_refused() -> None:
    build = GraphBuilder((1, 3, 8, 8))
    graph = build.build(build.flatten(build.global_pool(build.conv("input", 4))))
    with pytest.raises(GraphError, match="no features in front of it"):
        cut_classifier(graph)


def test_model_of_several_heads_is_refused() -> None:
    build = GraphBuilder((1, 3, 8, 8))
    pooled = build.flatten(build.global_pool(build.relu(build.conv("input", 6))))
    graph = build.build(build.binary("Add", build.gemm(pooled, 4), build.gemm(pooled, 4)))
    with pytest.raises(GraphError, match="answers from 2 values: no layer is the last"):
        cut_classifier(graph)


def test_model_without_weights_is_refused() -> None:
    build = GraphBuilder((1, 3, 8, 8))
    graph = build.build(build.flatten(build.global_pool("input")))
    with pytest.raises(GraphError, match="no layer with weights"):
        cut_classifier(graph)


@pytest.mark.parametrize("extension", ["onnx", "tflite"])
def test_files_say_that_they_give_features(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"model.{extension}"
    write = write_onnx if extension == "onnx" else write_tflite
    write(cut_classifier(tiny_classifier()).graph, path, CARD)

    assert load_interpreter(path).card == CARD


def test_card_of_a_classifier_is_written_as_before_there_were_features() -> None:
    card = ModelCard(model="net", scheme="float", labels=("a",), preprocess=SPEC)
    assert b"kind" not in msgspec.json.encode(card)
    assert msgspec.json.decode(msgspec.json.encode(card), type=ModelCard) == card


def test_extractor_is_no_model_to_start_from(tmp_path: Path) -> None:
    path = tmp_path / "float.onnx"
    write_onnx(cut_classifier(tiny_classifier()).graph, path, CARD)
    for name in (path, tmp_path):
        with pytest.raises(UsageError, match="gives features of tiny, not classes"):
            load_hub(HubRequest(model=str(name)))
