"""Quantized MobileNets of others: the weights are the file's, the answers LiteRT's, and nothing else passes for one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import flatbuffers
import msgspec
import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema

from bench_import import compare
from edgekit.core.errors import IntegrityError
from edgekit.core.quant import QuantizedGraph
from edgekit.export.tflite import build_tflite
from edgekit.export.torch_graph import trace
from edgekit.models.architecture import BuildOptions
from edgekit.models.importer import import_weights
from edgekit.models.imports.mobilenet_tflite import read
from edgekit.models.weights import read_imagenet_labels
from edgekit.models.zoo import build_model
from edgekit.runtime.preprocess import normalize
from graphs import quantize_for_test
from onnx_files import pictures
from tflite_runs import CARD, parse

NUM_PICTURES = 100

OPTIONS = {
    "v1": BuildOptions(variant="mobilenet_v1", width=0.25, num_classes=1001, input_size=96),
    "v1_relu6": BuildOptions(variant="mobilenet_v1", width=0.25, num_classes=3, input_size=96, activation="relu6"),
    "v1_gray": BuildOptions(variant="mobilenet_v1", width=0.25, num_classes=1000, input_size=66, in_channels=1),
    "v2": BuildOptions(variant="mobilenet_v2", width=0.35, num_classes=7, input_size=96),
}


@cache
def network(name: str) -> QuantizedGraph:
    """A network by TensorFlow's conventions with seeded weights and biases, quantized by us."""
    options = msgspec.structs.replace(OPTIONS[name], padding="same", batch_norm=False)
    module = build_model(options).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    shape = (options.in_channels, options.input_size, options.input_size)
    graph = trace(module, shape, name=name)
    return quantize_for_test(graph, pictures((1, *shape)))


@cache
def file_of(name: str) -> bytes:
    return build_tflite(network(name), CARD)


@pytest.mark.parametrize("name", OPTIONS)
def test_weights_and_biases_are_what_the_integers_stand_for(name: str) -> None:
    imported = read(file_of(name))

    num_dropped = int(OPTIONS[name].num_classes == 1001)
    assert imported.state.keys() == network(name).constants.keys()
    for key, constant in network(name).constants.items():
        real = constant.dequantize()[num_dropped if key.startswith("classifier") else 0 :]
        np.testing.assert_allclose(imported.state[key].numpy(), real, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", OPTIONS)
def test_card_says_which_network_it_is(name: str) -> None:
    card, wanted = read(file_of(name)).card, OPTIONS[name]

    assert (card.options.variant, card.options.width) == (wanted.variant, wanted.width)
    assert (card.options.input_size, card.options.in_channels) == (wanted.input_size, wanted.in_channels)
    assert card.options.activation == (wanted.activation or ("relu" if "v1" in name else "relu6"))
    assert (card.options.padding, card.options.batch_norm) == ("same", False)
    assert card.preprocess.num_channels == wanted.in_channels
    assert card.options.num_classes == (1000 if wanted.num_classes == 1001 else wanted.num_classes)
    is_imagenet = card.options.num_classes == 1000
    assert card.labels == (read_imagenet_labels() if is_imagenet else ())
    assert card.dataset == ("imagenet" if is_imagenet else "unknown")


def test_preprocessing_maps_pixels_to_the_files_own_integers() -> None:
    grid = network("v2").activations["input"]

    spec = read(file_of("v2")).card.preprocess

    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 256, 1).repeat(3, axis=3)
    np.testing.assert_allclose(
        normalize(pixels, spec)[0, 0, 0], grid.dequantize(np.arange(-128, 128, dtype=np.int8)), rtol=1e-5, atol=1e-6
    )


Change = Callable[[Any, Any], None]
"""Damages a model (object form) and its subgraph."""


def _option(index: int, field: str, value: int) -> Change:
    return lambda _, graph: setattr(graph.operators[index].builtinOptions, field, value)


def _inputs(index: int, inputs: list[int]) -> Change:
    return lambda _, graph: setattr(graph.operators[index], "inputs", inputs)


def _shape(which: str, shape: list[int]) -> Change:
    def change(_: Any, graph: Any) -> None:
        index = {"input": graph.inputs[0], "weight": graph.operators[0].inputs[1], "bias": graph.operators[0].inputs[2]}
        graph.tensors[index[which]].shape = shape

    return change


def _grid(which: int, field: str, value: Any) -> Change:
    def change(_: Any, graph: Any) -> None:
        setattr(graph.tensors[graph.operators[0].inputs[which]].quantization, field, value)

    return change


CHANGES: dict[str, tuple[Change, str]] = {
    "stride": (_option(1, "strideH", 2), r"operator 1 .*stride 1x1, RELU6, got .*stride 2x1"),
    "padding": (_option(0, "padding", schema.Padding.VALID), "got .*padding VALID"),
    "dilation": (_option(1, "dilationHFactor", 2), "got .*dilation"),
    "activation": (_option(1, "fusedActivationFunction", schema.ActivationFunctionType.RELU), "RELU6, got .*RELU"),
    "first_activation": (_option(0, "fusedActivationFunction", schema.ActivationFunctionType.TANH), "activation TANH"),
    "operator_missing": (lambda _, graph: graph.operators.pop(1), "operator 1 .*on the output of the operator before"),
    "output": (lambda _, graph: setattr(graph, "outputs", [0]), "not the last operator's"),
    "two_subgraphs": (lambda model, graph: model.subgraphs.append(graph), "2 subgraphs"),
    "no_weight": (_inputs(0, [0]), "has no weight"),
    "weight_is_activation": (_inputs(0, [0, 0, 0]), "has no weight"),
    "unknown_tensor": (_inputs(0, [0, 99_999, 1]), "tensor 99999"),
    "input_shape": (_shape("input", [1, 96, 64, 3]), r"\[1, 96, 64, 3\]"),
    "input_size": (_shape("input", [1, 5000, 5000, 3]), "input size 5000"),
    "weight_shape": (_shape("weight", [16, 3, 3, 4]), "stores 432 bytes, expected 576"),
    "negative_shape": (_shape("weight", [-16, -3, 3, 3]), "expected"),
    "bias_shape": (_shape("bias", [4, 4]), "bias .*shape"),
    "input_scale": (_grid(0, "scale", [float("inf")]), "input .*scale inf"),
    "weight_scale": (_grid(1, "scale", [float("nan")]), "not positive"),
    "weight_zero_points": (_grid(1, "zeroPoint", [0, 0]), "2 zero-points"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_file_that_is_no_mobilenet_is_refused_with_what_was_expected(name: str) -> None:
    change, message = CHANGES[name]
    with pytest.raises(IntegrityError, match=message):
        read(damaged(file_of("v2"), change))


def test_file_without_a_classifier_is_refused() -> None:
    with pytest.raises(IntegrityError, match="ends where a MobileNet goes on with CONV_2D 1x1 or FULLY_CONNECTED"):
        read(damaged(file_of("v1"), lambda _, graph: graph.operators.pop()))


def damaged(content: bytes, change: Change) -> bytes:
    model: Any = parse(content)
    change(model, model.subgraphs[0])
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_float_file_is_refused() -> None:
    with pytest.raises(IntegrityError, match="FLOAT32") as caught:
        read(build_tflite(network("v1").graph, CARD))
    assert "quantized" in (caught.value.hint or "")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95])
def test_truncated_file_is_refused(share: float) -> None:
    content = file_of("v1")
    with pytest.raises(IntegrityError):
        read(content[: int(share * len(content))])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pretrainedResnet_quant.tflite", r"operator 0 .*expected CONV_2D 3x3, 3 to 8 channels.*got .*3 to 16"),
        ("pretrainedResnet.tflite", "input_1' is FLOAT32 with 0 scales, expected UINT8 or INT8"),
    ],
)
def test_another_architecture_is_refused(name: str, message: str, shared_data: Path) -> None:
    with pytest.raises(IntegrityError, match=message):
        import_weights("mobilenet-tflite", shared_data / "models" / name)


def test_symmetric_padding_of_our_own_is_refused() -> None:
    module = build_model(BuildOptions(variant="mobilenet_v1", width=0.25, num_classes=3, input_size=96)).eval()
    graph = trace(module, (3, 96, 96), name="net")
    with pytest.raises(IntegrityError, match=r"expected CONV_2D 3x3.*got PAD"):
        read(build_tflite(quantize_for_test(graph, pictures((1, 3, 96, 96))), CARD))


class Published(NamedTuple):
    """A third-party file, and the least share of LiteRT's answers that the float network must give."""

    file: str
    variant: str
    width: float | None
    agreement: float


PUBLISHED = (
    # Measured: 94, 99, 98 and 99 of 100. The rest is the rounding of activations, as the test on the grids shows.
    pytest.param(Published("mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v1", 0.25, 0.91), id="v1_0.25"),
    pytest.param(
        Published("mobilenet_v1_0.75_192_quant.tflite", "mobilenet_v1", 0.75, 0.96),
        id="v1_0.75",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        Published("mobilenet_v2_1.0_224_quant.tflite", "mobilenet_v2", None, 0.95), id="v2", marks=pytest.mark.slow
    ),
    pytest.param(
        Published("tf2_mobilenet_v2_1.0_224_ptq.tflite", "mobilenet_v2", None, 0.96),
        id="v2_per_channel",
        marks=pytest.mark.slow,
    ),
)


@pytest.mark.parametrize("published", PUBLISHED)
def test_published_file_answers_as_litert_does(published: Published, shared_data: Path) -> None:
    path = shared_data / "models" / published.file
    options = import_weights("mobilenet-tflite", path)[1].card.options

    compared = compare(path, shared_data / "imagenet-sample")

    assert (options.variant, options.width) == (published.variant, published.width)
    assert compared.num_pictures == NUM_PICTURES
    assert compared.agreement >= published.agreement
    # With every activation rounded as the file rounds it, only the last bit of some is left to differ.
    assert compared.grid_steps < 1.5
    # Measured: 19, 74, 80 and 81 of 100. What this test holds depends on the padding.
    assert compared.symmetric_agreement < 0.9


def test_visual_wake_words_network_is_read_too(shared_data: Path) -> None:
    module, imported = import_weights("mobilenet-tflite", shared_data / "models" / "vww_96_int8.tflite")

    assert (imported.card.options.num_classes, imported.card.options.activation) == (2, "relu")
    assert module(torch.zeros(1, 3, 96, 96)).shape == (1, 2)
