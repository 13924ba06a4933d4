"""Dynamic int8 in both formats: the same integers, and the arithmetic of the reference."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from edgekit.core.errors import IntegrityError
from edgekit.core.graph import WEIGHTED_OPS, Graph
from edgekit.core.quant import QuantizedGraph
from edgekit.core.recipe import QuantizeSection
from edgekit.encode.files import pack_file, unpack_file
from edgekit.export.onnx_writer import build_onnx, write_onnx
from edgekit.export.stored import read_stored
from edgekit.export.tflite import build_tflite, write_tflite
from edgekit.export.torch_graph import trace
from edgekit.models.zoo import build_model, parse_model_name
from edgekit.quantize.dynamic import quantize_dynamic, run_dynamic
from edgekit.quantize.execute import run_float
from edgekit.runtime.interpreter import load_interpreter
from edgekit.verify.integers import first_difference
from onnx_files import run
from tflite_runs import CARD, is_wholly_delegated, operators, run_float_file, tensors
from transformers import SIZE, small_graph

FloatArray = npt.NDArray[np.float32]


def quantized(graph: Graph, bits: int = 8) -> QuantizedGraph:
    return quantize_dynamic(graph, QuantizeSection(scheme=f"dynamic_wi{bits}_ai8"))


@pytest.fixture(scope="module")
def model() -> QuantizedGraph:
    return quantized(small_graph())


@pytest.fixture
def picture() -> FloatArray:
    return np.random.default_rng(0).normal(size=(1, 1, SIZE, SIZE)).astype(np.float32)


@pytest.fixture
def files(model: QuantizedGraph, tmp_path: Path) -> tuple[Path, Path]:
    write_onnx(model, tmp_path / "m.onnx", CARD)
    write_tflite(model, tmp_path / "m.tflite", CARD)
    return tmp_path / "m.onnx", tmp_path / "m.tflite"


def noise_db(expected: FloatArray, found: FloatArray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / max(float(np.square(found - expected).sum()), 1e-30)))


def test_onnx_file_computes_the_reference_with_one_grid_for_all_tokens(
    model: QuantizedGraph, picture: FloatArray
) -> None:
    found = run(build_onnx(model, CARD), picture)["classifier"]

    assert noise_db(run_dynamic(model, picture, "tensor")["classifier"], found) > 60


def test_tflite_file_computes_the_reference_with_a_grid_for_each_token(
    model: QuantizedGraph, picture: FloatArray
) -> None:
    content = build_tflite(model, CARD)

    found = run_float_file_of(model, picture)

    assert noise_db(run_dynamic(model, picture, "token")["classifier"], found) > 50
    assert is_wholly_delegated(content)
    assert operators(content)["DEQUANTIZE"] == operators(content)["QUANTIZE"] == 0


def run_float_file_of(model: QuantizedGraph, x: FloatArray) -> FloatArray:
    return run_float_file(model, x)  # pyright: ignore[reportArgumentType] - whatever build_tflite takes


def test_tflite_kernels_without_xnnpack_answer_alike(
    model: QuantizedGraph, files: tuple[Path, Path], picture: FloatArray
) -> None:
    """As verification runs the file, to look at every layer."""
    interpreter = load_interpreter(files[1], keep_tensors=True)

    found = interpreter.run(np.ascontiguousarray(picture.transpose(0, 2, 3, 1)))

    expected = run_float(model.graph, picture)
    assert noise_db(expected["classifier"], found) > 20
    hidden = interpreter.read_tensor("blocks.1.perceptron.0")
    assert noise_db(expected["blocks.1.perceptron.0"], hidden) > 20


def test_both_files_hold_the_same_integers_and_float_only_beside_them(
    model: QuantizedGraph, files: tuple[Path, Path]
) -> None:
    onnx_file, tflite_file = (read_stored(path) for path in files)

    assert first_difference(model.graph, onnx_file, tflite_file, weights_only=True) is None
    assert onnx_file.float_weights == tflite_file.float_weights == ()
    layers = [node for node in model.graph.nodes if node.op in WEIGHTED_OPS]
    assert onnx_file.num_weighted == tflite_file.num_weighted == len(layers)
    for node in layers:
        stored, decided = onnx_file.constants[node.inputs[1]], model.constants[node.inputs[1]]
        assert np.array_equal(stored.values, decided.values)
        assert np.array_equal(stored.scale, decided.params.scale)


@pytest.mark.parametrize("name", ["embedding.patches.weight", "blocks.0.attention.0.weight", "classifier.weight"])
def test_one_changed_integer_or_scale_is_found_in_its_layer(
    model: QuantizedGraph, files: tuple[Path, Path], name: str
) -> None:
    proto = onnx.load(files[0])
    for suffix, what in (("_quantized", "integers"), ("_scale", "scales")):
        changed = onnx.ModelProto()
        changed.CopyFrom(proto)
        tensor = next(each for each in changed.graph.initializer if each.name == name + suffix)
        values = numpy_helper.to_array(tensor).copy()
        values.flat[-1] = values.flat[-1] ^ 1 if what == "integers" else 2 * values.flat[-1]
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        path = files[0].with_name("changed.onnx")
        onnx.save(changed, path)

        difference = first_difference(model.graph, read_stored(path), read_stored(files[1]), weights_only=True)

        assert difference is not None
        assert difference.what == f"{what} of {name} differ"
        assert difference.layer == name.removesuffix(".weight")


def test_float_weights_are_noticed(model: QuantizedGraph, tmp_path: Path) -> None:
    left = "blocks.1.attention.2.weight"
    some = {name: tensor for name, tensor in model.constants.items() if name != left}
    partial = msgspec.structs.replace(model, constants=some)
    write_onnx(partial, tmp_path / "m.onnx", CARD)
    write_tflite(partial, tmp_path / "m.tflite", CARD)

    for name in ("m.onnx", "m.tflite"):
        assert read_stored(tmp_path / name).float_weights == ("blocks.1.attention.2",)


def test_integers_without_a_scale_are_damage(files: tuple[Path, Path]) -> None:
    proto = onnx.load(files[0])
    node = next(node for node in proto.graph.node if node.op_type == "Cast")
    node.output[0] = "nowhere"
    onnx.save(proto, files[0])

    with pytest.raises(IntegrityError, match="no scale of its integer weights"):
        read_stored(files[0])


def test_weights_are_stored_in_a_quarter_of_the_bytes(model: QuantizedGraph) -> None:
    weights = sum(tensor.values.size for tensor in model.constants.values())

    onnx_bytes = [len(build_onnx(each, CARD).SerializeToString()) for each in (model.graph, model)]
    tflite_bytes = [len(build_tflite(each, CARD)) for each in (model.graph, model)]

    for before, after in (onnx_bytes, tflite_bytes):
        assert before - after > 0.97 * 3 * weights


def test_onnx_runtime_fuses_every_layer_on_tokens(model: QuantizedGraph, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(build_onnx(model, CARD).SerializeToString(), options)

    ops = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)

    layers = sum(node.op == "Gemm" for node in model.graph.nodes)
    assert ops["DynamicQuantizeMatMul"] + ops["MatMulIntegerToFloat"] == layers
    assert ops["Erf"] == 0  # GELU became one operator


def test_same_model_gives_the_same_bytes(model: QuantizedGraph) -> None:
    again = quantized(small_graph())

    assert build_tflite(again, CARD) == build_tflite(model, CARD)
    assert build_onnx(again, CARD).SerializeToString(deterministic=True) == build_onnx(model, CARD).SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("bits", [8, 6])
def test_packed_files_come_back_byte_for_byte_and_shrink_with_the_grid(bits: int, tmp_path: Path) -> None:
    model = quantized(small_graph(), bits)
    write_onnx(model, tmp_path / "m.onnx", CARD)
    write_tflite(model, tmp_path / "m.tflite", CARD)
    weights = sum(tensor.values.size for tensor in model.constants.values())

    for name in ("m.onnx", "m.tflite"):
        packed = pack_file(tmp_path / name, tmp_path / f"{name}.ekz")
        restored = unpack_file(tmp_path / f"{name}.ekz", tmp_path / f"again-{name}")

        assert restored.path.read_bytes() == (tmp_path / name).read_bytes()
        in_float = sum(4 * array.size for key, array in model.graph.constants.items() if key not in model.constants)
        assert packed.ekz_bytes < weights * bits / 8 + in_float + 25_000


class Mixture(nn.Module):
    """Layers with and without bias, convolutions in groups, a vector's layer: whatever a dynamic scheme may meet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1, bias=False)
        self.grouped = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2)
        self.norm = nn.LayerNorm(8)
        self.plain = nn.Linear(8, 8, bias=False)
        self.head = nn.Linear(8, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.grouped(torch.relu(self.stem(x))))
        tokens = self.plain(self.norm(x.flatten(2).transpose(1, 2)))
        return self.head(tokens[:, :1].flatten(1))


def test_layers_of_every_kind_compute_the_reference() -> None:
    torch.manual_seed(0)
    model = quantized(trace(Mixture().eval(), (2, 6, 6), name="mixture"))
    x = np.random.default_rng(0).normal(size=(1, 2, 6, 6)).astype(np.float32)
    output = model.graph.output

    assert noise_db(run_dynamic(model, x, "tensor")[output], run(build_onnx(model, CARD), x)[output]) > 60
    assert noise_db(run_float(model.graph, x)[output], run_float_file_of(model, x)) > 20
    stored = tensors(build_tflite(model, CARD))
    assert [stored[f"{layer}.weight"].type for layer in ("stem", "grouped", "plain", "head")] == [9] * 4  # INT8


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["vit_ti_16", "vit_b_16"])
def test_full_size_files_are_close_to_float_and_hold_the_same(variant: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    graph = trace(build_model(parse_model_name(variant)).eval(), (3, 224, 224), name=variant)
    x = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    model = quantized(graph)
    write_onnx(model, tmp_path / "m.onnx", CARD)
    write_tflite(model, tmp_path / "m.tflite", CARD)
    real = run(build_onnx(graph, CARD), x)[graph.output]

    assert noise_db(real, run(tmp_path / "m.onnx", x)[graph.output]) > 20
    assert noise_db(real, run_float_file_of(model, x)) > 20
    difference = first_difference(
        graph, read_stored(tmp_path / "m.onnx"), read_stored(tmp_path / "m.tflite"), weights_only=True
    )
    assert difference is None
