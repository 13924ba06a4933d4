from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

from edgekit.core.artifact import CARD_KEY, ModelCard
from edgekit.core.errors import (
    GraphError,
    IntegrityError,
    UnknownNameError,
    UsageError,
)
from edgekit.core.graph import Graph
from edgekit.encode.files import pack_file
from edgekit.quantize.execute import run_float
from edgekit.runtime.interpreter import load_interpreter, preload_runtime
from edgekit.runtime.predict import predict_logits
from edgekit.runtime.preprocess import normalize
from edgekit.runtime.sample import random_input

OnnxMaker = Callable[..., Path]

FILES = ("float.onnx", "int8.onnx", "float.tflite", "int8.tflite")


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (5, 8, 8, 3), np.uint8)


class TestLoading:
    @pytest.mark.parametrize("name", FILES)
    def test_load_interpreter_reads_the_card(self, tiny_models: dict[str, Path], card: ModelCard, name: str) -> None:
        scheme = "float" if name.startswith("float") else "static_wi8_ai8"
        assert load_interpreter(tiny_models[name]).card == msgspec.structs.replace(card, scheme=scheme)

    @pytest.mark.parametrize("name", ["int8.tflite", "float.onnx"])
    def test_load_interpreter_restores_a_packed_file(
        self, tiny_models: dict[str, Path], tmp_path: Path, name: str
    ) -> None:
        packed = tmp_path / "model.ekz"
        pack_file(tiny_models[name], packed)
        preload_runtime(packed)
        original, restored = load_interpreter(tiny_models[name]), load_interpreter(packed)
        batch = np.zeros((1, *original.input.shape[1:]), original.input.dtype)
        assert (restored.run(batch) == original.run(batch)).all()
        assert restored.card == original.card
        assert restored.file_path == packed

    def test_load_interpreter_names_the_packed_file_when_it_is_damaged(
        self, tiny_models: dict[str, Path], tmp_path: Path
    ) -> None:
        packed = tmp_path / "model.ekz"
        pack_file(tiny_models["float.tflite"], packed)
        packed.write_bytes(packed.read_bytes()[:-1])
        with pytest.raises(IntegrityError, match=r"model\.ekz: the file has"):
            load_interpreter(packed)

    def test_load_interpreter_names_the_runtime_and_its_version(self, tiny_models: dict[str, Path]) -> None:
        assert load_interpreter(tiny_models["float.onnx"]).name == f"onnxruntime {onnxruntime.__version__}"
        assert load_interpreter(tiny_models["float.tflite"]).name.split()[0] == "litert"

    def test_load_interpreter_describes_the_quantized_input(self, tiny_models: dict[str, Path]) -> None:
        tensor = load_interpreter(tiny_models["int8.tflite"]).input
        assert (tensor.shape, tensor.dtype, tensor.layout) == ((1, 8, 8, 3), "int8", "NHWC")
        assert tensor.scale is not None
        assert tensor.image_shape == load_interpreter(tiny_models["float.onnx"]).input.image_shape == (8, 8, 3)

    @pytest.mark.parametrize("name", ["absent.tflite", "absent.onnx"])
    def test_load_interpreter_names_the_file_when_there_is_none(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UsageError, match=name):
            load_interpreter(tmp_path / name)

    @pytest.mark.parametrize("name", ["model.pt", "model", "model.tflite.zip"])
    def test_load_interpreter_refuses_another_extension(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"TFL3")
        with pytest.raises(UsageError, match=r"no \.tflite, \.onnx or \.ekz"):
            load_interpreter(tmp_path / name)

    def test_load_interpreter_refuses_zero_threads(self, tiny_models: dict[str, Path]) -> None:
        with pytest.raises(UsageError, match="num_threads is 0"):
            load_interpreter(tiny_models["float.onnx"], num_threads=0)

    @pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
    @pytest.mark.parametrize("content", [b"", b"hello", b"\0\0\0\0TFL3" + bytes(200)])
    def test_load_interpreter_raises_integrity_error_when_the_file_is_garbage(
        self, tmp_path: Path, name: str, content: bytes
    ) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(IntegrityError, match=name):
            load_interpreter(tmp_path / name)

    @pytest.mark.parametrize("name", FILES)
    def test_load_interpreter_raises_integrity_error_when_the_file_is_cut(
        self, tiny_models: dict[str, Path], tmp_path: Path, name: str
    ) -> None:
        content = tiny_models[name].read_bytes()
        cut = tmp_path / name
        cut.write_bytes(content[: len(content) // 2])
        with pytest.raises(IntegrityError, match="cannot be loaded"):
            load_interpreter(cut)

    def test_load_interpreter_counts_several_inputs(self, make_onnx: OnnxMaker) -> None:
        with pytest.raises(GraphError, match=r"has 2 inputs \(x0, x1\)"):
            load_interpreter(make_onnx(num_inputs=2))

    def test_load_interpreter_counts_several_outputs(self, make_onnx: OnnxMaker) -> None:
        with pytest.raises(GraphError, match=r"has 2 outputs \(y0, y1\)"):
            load_interpreter(make_onnx(num_outputs=2))

    def test_load_interpreter_names_the_type_when_it_is_no_pictures(self, make_onnx: OnnxMaker) -> None:
        with pytest.raises(GraphError, match=r"'x0' is tensor\(int64\)"):
            load_interpreter(make_onnx(dtype=TensorProto.INT64))

    def test_load_interpreter_refuses_a_free_height(self, make_onnx: OnnxMaker) -> None:
        with pytest.raises(GraphError, match="fixed height and width"):
            load_interpreter(make_onnx(shape=("n", 3, "height", "width")))

    @pytest.mark.parametrize("content", ["{", '{"model": "m"}', "[]"])
    def test_load_interpreter_raises_integrity_error_when_the_card_is_damaged(
        self, make_onnx: OnnxMaker, content: str
    ) -> None:
        with pytest.raises(IntegrityError, match="card"):
            load_interpreter(make_onnx(metadata={CARD_KEY: content}))

    def test_load_interpreter_refuses_a_card_with_impossible_preprocessing(
        self, make_onnx: OnnxMaker, card: ModelCard
    ) -> None:
        broken = msgspec.structs.replace(card, preprocess=msgspec.structs.replace(card.preprocess, mean=(0.5,)))
        with pytest.raises(IntegrityError, match="1 means"):
            load_interpreter(make_onnx(metadata={CARD_KEY: msgspec.json.encode(broken).decode()}))

    def test_load_interpreter_has_no_card_when_the_file_is_foreign(self, make_onnx: OnnxMaker) -> None:
        assert load_interpreter(make_onnx()).card is None


class TestRunning:
    @pytest.mark.parametrize("name", ["float.onnx", "float.tflite"])
    def test_predict_logits_equals_the_reference_when_the_file_is_float(
        self, tiny_models: dict[str, Path], tiny_graph: Graph, card: ModelCard, pictures: np.ndarray, name: str
    ) -> None:
        expected = run_float(tiny_graph, normalize(pictures, card.preprocess))[tiny_graph.output]
        logits = predict_logits(load_interpreter(tiny_models[name]), pictures, card.preprocess)
        np.testing.assert_allclose(logits, expected, atol=1e-5)

    def test_predict_logits_of_both_quantized_files_differs_by_at_most_two_steps(
        self, tiny_models: dict[str, Path], card: ModelCard, pictures: np.ndarray
    ) -> None:
        tflite = load_interpreter(tiny_models["int8.tflite"])
        ours = predict_logits(tflite, pictures, card.preprocess)
        theirs = predict_logits(load_interpreter(tiny_models["int8.onnx"]), pictures, card.preprocess)
        assert tflite.output.scale is not None
        assert np.abs(ours - theirs).max() <= 2.01 * tflite.output.scale

    @pytest.mark.parametrize("name", FILES)
    def test_run_of_a_batch_equals_its_pictures_one_by_one(self, tiny_models: dict[str, Path], name: str) -> None:
        interpreter = load_interpreter(tiny_models[name])
        batch = np.concatenate([random_input(interpreter.input, seed=seed) for seed in range(5)])
        single = np.concatenate([interpreter.run(batch[index : index + 1]) for index in range(5)])
        np.testing.assert_allclose(interpreter.run(batch), single, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("name", FILES)
    def test_run_gives_an_empty_answer_when_the_batch_is_empty(self, tiny_models: dict[str, Path], name: str) -> None:
        interpreter = load_interpreter(tiny_models[name])
        answer = interpreter.run(random_input(interpreter.input, seed=0)[:0])
        assert answer.shape == (0, 7)
        assert answer.dtype == interpreter.output.dtype

    def test_run_fills_up_the_last_slice_when_the_batch_size_is_fixed(self, make_onnx: OnnxMaker) -> None:
        batch = np.random.default_rng(0).standard_normal((5, 3, 8, 8), dtype=np.float32)
        answer = load_interpreter(make_onnx(shape=(2, 3, 8, 8))).run(batch)
        np.testing.assert_allclose(answer, batch.mean(axis=(2, 3)), atol=1e-6)

    @pytest.mark.parametrize("name", FILES)
    def test_run_returns_memory_of_its_own(self, tiny_models: dict[str, Path], name: str) -> None:
        interpreter = load_interpreter(tiny_models[name])
        first = interpreter.run(random_input(interpreter.input, seed=0))
        kept = first.copy()
        interpreter.run(random_input(interpreter.input, seed=1))
        np.testing.assert_array_equal(first, kept)

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("change", ["dtype", "rank", "size"])
    def test_run_says_what_it_expects_when_the_batch_does_not_fit(
        self, tiny_models: dict[str, Path], name: str, change: str
    ) -> None:
        interpreter = load_interpreter(tiny_models[name])
        batch = random_input(interpreter.input, seed=0)
        wrong = {"dtype": batch.astype(np.float64), "rank": batch[0], "size": batch[..., :-1]}[change]
        with pytest.raises(UsageError, match=rf"takes {interpreter.input.dtype} \[n, .*got {wrong.dtype} \["):
            interpreter.run(wrong)

    def test_predict_logits_does_not_depend_on_the_batch_size(
        self, tiny_models: dict[str, Path], card: ModelCard, pictures: np.ndarray
    ) -> None:
        interpreter = load_interpreter(tiny_models["float.onnx"])
        whole = predict_logits(interpreter, pictures, card.preprocess)
        np.testing.assert_allclose(
            predict_logits(interpreter, pictures, card.preprocess, batch_size=2), whole, rtol=1e-5
        )
        assert predict_logits(interpreter, pictures[:0], card.preprocess).shape == (0, 7)

    def test_predict_logits_feeds_raw_pixels_when_the_input_is_plain_uint8(
        self, make_onnx: OnnxMaker, card: ModelCard
    ) -> None:
        interpreter = load_interpreter(make_onnx(dtype=TensorProto.UINT8))
        pictures = np.full((2, 8, 8, 3), 200, np.uint8)
        np.testing.assert_allclose(predict_logits(interpreter, pictures, card.preprocess), 200.0)

    @pytest.mark.parametrize(
        "name",
        [
            "mobilenet_v1_0.25_128_quant.tflite",
            "tf2_mobilenet_v2_1.0_224_ptq.tflite",
            "vww_96_int8.tflite",
            "pretrainedResnet.tflite",
            "pretrainedResnet_quant.tflite",
        ],
    )
    def test_load_interpreter_runs_a_foreign_file(self, shared_data: Path, name: str) -> None:
        interpreter = load_interpreter(shared_data / "models" / name)
        answer = interpreter.run(np.concatenate([random_input(interpreter.input, seed=seed) for seed in (0, 1)]))
        assert answer.shape == (2, *interpreter.output.shape[1:])
        assert interpreter.card is None
        # All of these end in a softmax.
        np.testing.assert_allclose(interpreter.output.dequantize(answer).sum(axis=1), 1.0, atol=0.25)


class TestKeptTensors:
    def test_read_tensor_equals_the_reference_when_tflite_keeps_tensors(
        self, tiny_models: dict[str, Path], tiny_graph: Graph, card: ModelCard, pictures: np.ndarray
    ) -> None:
        values = run_float(tiny_graph, normalize(pictures[:1], card.preprocess))
        interpreter = load_interpreter(tiny_models["float.tflite"], keep_tensors=True)
        predict_logits(interpreter, pictures[:1], card.preprocess)
        shared = [name for name in interpreter.tensor_names if name in values and values[name].ndim == 4]
        assert len(shared) >= 3
        for name in shared:
            read = interpreter.read_tensor(name)
            if read.ndim == 4:
                np.testing.assert_allclose(read.transpose(0, 3, 1, 2), values[name], atol=1e-5)

    def test_read_tensor_dequantizes(
        self, tiny_models: dict[str, Path], tiny_graph: Graph, card: ModelCard, pictures: np.ndarray
    ) -> None:
        interpreter = load_interpreter(tiny_models["int8.tflite"], keep_tensors=True)
        predict_logits(interpreter, pictures[:1], card.preprocess)
        read = interpreter.read_tensor(tiny_graph.input)
        assert interpreter.input.scale is not None
        expected = np.clip(normalize(pictures[:1], card.preprocess).transpose(0, 2, 3, 1), read.min(), read.max())
        assert np.abs(read - expected).max() <= interpreter.input.scale / 2 * 1.001

    def test_read_tensor_gives_every_output_when_onnx_keeps_tensors(self, make_onnx: OnnxMaker) -> None:
        interpreter = load_interpreter(make_onnx(num_outputs=3), keep_tensors=True)
        batch = np.random.default_rng(0).standard_normal((4, 3, 8, 8), dtype=np.float32)
        answer = interpreter.run(batch)
        np.testing.assert_array_equal(interpreter.read_tensor("y0"), answer)
        np.testing.assert_array_equal(interpreter.read_tensor("y2"), -answer)

    @pytest.mark.parametrize("name", FILES)
    def test_read_tensor_names_the_nearest_when_the_name_is_unknown(
        self, tiny_models: dict[str, Path], name: str
    ) -> None:
        interpreter = load_interpreter(tiny_models[name])
        with pytest.raises(UnknownNameError, match="unknown tensor"):
            interpreter.read_tensor("nowhere")

    @pytest.mark.parametrize("name", FILES)
    def test_read_tensor_refuses_before_the_first_run(self, tiny_models: dict[str, Path], name: str) -> None:
        interpreter = load_interpreter(tiny_models[name])
        with pytest.raises(UsageError, match="after a run of 0 pictures"):
            interpreter.read_tensor(interpreter.tensor_names[0])

    def test_read_tensor_refuses_after_a_batch_that_went_one_by_one(self, tiny_models: dict[str, Path]) -> None:
        interpreter = load_interpreter(tiny_models["int8.tflite"])
        batch = random_input(interpreter.input, seed=0)
        interpreter.run(np.concatenate([batch, batch]))
        with pytest.raises(UsageError, match="after a run of 2 pictures"):
            interpreter.read_tensor(interpreter.tensor_names[0])


def test_damaged_metadata_archive_is_an_integrity_error(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    shutil.copy(tiny_models["float.tflite"], damaged)
    content = bytearray(damaged.read_bytes())
    start = content.rfind(b'"labels"')
    content[start : start + 8] = b"\xff" * 8
    damaged.write_bytes(content)
    with pytest.raises(IntegrityError, match="damaged"):
        load_interpreter(damaged)
