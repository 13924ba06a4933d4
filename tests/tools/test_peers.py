from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgekit.core.artifact import ModelCard
from edgekit.core.errors import EdgekitError
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from edgekit.runtime.interpreter import load_interpreter
from graphs import GraphBuilder
from peer_jobs import PREPARE, do, with_signature
from peers import Peers, start_peers

SPEC = PreprocessSpec(input_size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)


def small_graph() -> Graph:
    builder = GraphBuilder((1, 3, 8, 8))
    builder.gemm(builder.flatten(builder.relu6(builder.conv("input", 4))), 5)
    return builder.build()


def peers_that_answer(*lines: bytes) -> tuple[Peers, io.BytesIO]:
    jobs = io.BytesIO()
    return Peers(jobs, io.BytesIO(b"".join(lines))), jobs


def test_ask_sends_the_job_and_gives_what_it_took() -> None:
    peers, jobs = peers_that_answer(b'{"wall_s": 2.0, "cpu_s": 1.5}\n')

    taken = peers.ask("nncf", input="a.onnx")

    assert taken is not None
    assert (taken.wall_s, taken.cpu_s) == (2.0, 1.5)
    assert jobs.getvalue() == b'{"job":"nncf","input":"a.onnx"}\n'


def test_ask_says_once_that_a_peer_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    peers, _ = peers_that_answer(b'{"missing": "nncf"}\n', b'{"missing": "nncf"}\n')

    assert peers.ask("nncf") is None
    assert peers.ask("nncf") is None

    said = capsys.readouterr().err
    assert said.count("has no nncf") == 1
    assert "--peers-python" in said


def test_ask_says_why_a_peer_failed(capsys: pytest.CaptureFixture[str]) -> None:
    peers, _ = peers_that_answer(b'{"error": "ValueError: grouped"}\n')

    assert peers.ask("litert_torch") is None
    assert "litert_torch failed: ValueError: grouped" in capsys.readouterr().err


def test_ask_refuses_a_worker_that_has_ended() -> None:
    peers, _ = peers_that_answer()

    with pytest.raises(EdgekitError, match="has ended"):
        peers.ask("nncf")


def test_start_peers_refuses_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="cannot start"), start_peers(str(tmp_path / "python")):
        pass


def test_worker_quantizes_with_onnxruntime(tmp_path: Path) -> None:
    graph = small_graph()
    card = ModelCard(model="a", scheme="float", labels=(), preprocess=SPEC)
    write_onnx(graph, tmp_path / "float.onnx", card)
    x = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    settings = {"input": str(tmp_path / "float.onnx"), "calibration": str(tmp_path / "x.npy"), "method": "MinMax"}

    with start_peers(sys.executable) as peers:
        taken = peers.ask("ort_quantize", output=str(tmp_path / "int8.onnx"), **settings)

    assert taken is not None
    assert taken.cpu_s > 0
    quantized = load_interpreter(tmp_path / "int8.onnx").run(x)
    exact = load_interpreter(tmp_path / "float.onnx").run(x)
    assert 0 < np.abs(quantized - exact).max() < 0.2 * np.abs(exact).max()


def test_do_names_a_missing_package_and_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_job: object) -> object:
        raise ModuleNotFoundError("No module named 'jax'", name="jax")

    def failing(_job: object) -> object:
        return lambda: (_ for _ in ()).throw(RuntimeError("cannot"))

    monkeypatch.setitem(PREPARE, "missing", missing)  # type: ignore[arg-type]
    monkeypatch.setitem(PREPARE, "failing", failing)  # type: ignore[arg-type]

    assert do({"job": "missing"}) == {"missing": "jax"}
    assert do({"job": "failing"}) == {"error": "RuntimeError: cannot"}


def test_with_signature_changes_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    write_tflite(small_graph(), path, ModelCard(model="a", scheme="float", labels=(), preprocess=SPEC))

    content, signature, tensor = with_signature(path.read_bytes())

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    plain = Interpreter(model_path=str(path))
    plain.allocate_tensors()
    x = np.random.default_rng(0).normal(size=plain.get_input_details()[0]["shape"]).astype(np.float32)
    plain.set_tensor(plain.get_input_details()[0]["index"], x)
    plain.invoke()
    answers = interpreter.get_signature_runner(signature)(**{tensor: x})
    assert np.array_equal(next(iter(answers.values())), plain.get_tensor(plain.get_output_details()[0]["index"]))
    assert with_signature(content)[1:] == (signature, tensor)
