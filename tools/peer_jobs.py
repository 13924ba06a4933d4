"""The peers' side of the benchmarks: runs in an interpreter that has the peers, and does one job per line.

    python tools/peer_jobs.py < jobs > answers      (started by peers.py, not by hand)

A job is a JSON line `{"job": NAME, ...paths}`; the answer is a JSON line: `{"wall_s", "cpu_s"}` (and `peak_rss_mib`,
the process's so far), measured here and with imports left out, or `{"missing": PACKAGE}`, or `{"error": TEXT}`. What
libraries print goes to standard error. One process does all jobs, so only the first pays for imports, and contestants
can take turns.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

Job: TypeAlias = Mapping[str, str]
Work: TypeAlias = Callable[[], object]

SIGNATURE = "serving_default"
NNCODEC_QP_DENSITY, NNCODEC_UNARY = 2, 10
"""Its defaults: steps in an octave of the step size, as a power of two; levels that are coded in unary."""


def prepare_litert_torch(job: Job) -> Work:
    """litert-torch: torch module to float TFLite."""
    litert_torch = importlib.import_module("litert_torch")
    module, sample = _module(job)
    return lambda: litert_torch.convert(module, (sample,)).export(job["output"])


def prepare_torch_onnx(job: Job) -> Work:
    """PyTorch's own exporter: torch module to float ONNX."""
    importlib.import_module("onnxscript")
    torch = importlib.import_module("torch")
    module, sample = _module(job)

    def work() -> None:
        torch.onnx.export(module, (sample,), job["output"], dynamo=True, external_data=False)

    return work


def prepare_ort_quantize(job: Job) -> Work:
    """onnxruntime.quantization: float ONNX to QDQ, weights int8 (or int4) symmetric per channel, activations uint8."""
    quantization = importlib.import_module("onnxruntime.quantization")
    preprocess = importlib.import_module("onnxruntime.quantization.shape_inference")
    onnx = importlib.import_module("onnx")
    pictures = np.load(job["calibration"])[: int(job.get("num_pictures", "1000000"))]

    class Reader(quantization.CalibrationDataReader):
        def __init__(self, name: str) -> None:
            self.feeds: Iterator[dict[str, np.ndarray]] = ({name: row[np.newaxis]} for row in pictures)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    def work() -> None:
        prepared = job["output"] + ".float"
        preprocess.quant_pre_process(job["input"], prepared, skip_symbolic_shape=True)
        name = onnx.load(prepared).graph.input[0].name
        quantization.quantize_static(
            prepared,
            job["output"],
            Reader(name),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=getattr(quantization.QuantType, f"QInt{job.get('weight_bits', '8')}"),
            calibrate_method=getattr(quantization.CalibrationMethod, job["method"]),
        )

    return work


def prepare_ort_matmul_nbits(job: Job) -> Work:
    """MatMulNBits of onnxruntime: 4-bit blocks of 32 for matrix products alone, so each Gemm is made one first."""
    nbits = importlib.import_module("onnxruntime.quantization.matmul_nbits_quantizer")
    onnx = importlib.import_module("onnx")

    def work() -> None:
        model = onnx.load(job["input"])
        _split_gemms(onnx, model.graph)
        quantizer = nbits.MatMulNBitsQuantizer(model, block_size=32, is_symmetric=True)
        quantizer.process()
        onnx.save(quantizer.model.model, job["output"])

    return work


def _split_gemms(onnx: Any, graph: Any) -> None:  # noqa: ANN401 - a peer's types
    """Every Gemm of a transposed constant becomes MatMul and Add."""
    constants = {one.name: one for one in graph.initializer}
    nodes: list[Any] = []
    for node in graph.node:
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        weight = constants[node.input[1]]
        values = onnx.numpy_helper.to_array(weight)
        if attributes.get("transB", 0):
            values = np.ascontiguousarray(values.T)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        product = f"{node.output[0]}.product"
        nodes.append(onnx.helper.make_node("MatMul", node.input[:2], [product], name=f"{node.name}.matmul"))
        nodes.append(onnx.helper.make_node("Add", [product, node.input[2]], node.output, name=f"{node.name}.add"))
    del graph.node[:]
    graph.node.extend(nodes)


def prepare_nncf(job: Job) -> Work:
    """Quantize a float ONNX file with nncf, in its defaults."""
    nncf = importlib.import_module("nncf")
    onnx = importlib.import_module("onnx")
    pictures = np.load(job["calibration"])

    def work() -> None:
        model = onnx.load(job["input"])
        name = model.graph.input[0].name
        feeds = nncf.Dataset([{name: row[np.newaxis]} for row in pictures])
        onnx.save(nncf.quantize(model, feeds, subset_size=len(pictures)), job["output"])

    return work


def prepare_ai_edge_quantizer(job: Job) -> Work:
    """ai-edge-quantizer: float TFLite to static int8; with 4-bit weights where it has them, on request."""
    quantizer = importlib.import_module("ai_edge_quantizer.quantizer")
    recipes = importlib.import_module("ai_edge_quantizer.recipe_manager")
    pictures = np.load(job["calibration"])
    if pictures.shape[1] in {1, 3} and job.get("layout", "nhwc") == "nhwc":
        pictures = np.ascontiguousarray(pictures.transpose(0, 2, 3, 1))
    content, signature, tensor = with_signature(Path(job["input"]).read_bytes())

    def work() -> None:
        worker = quantizer.Quantizer(bytearray(content))
        worker.load_quantization_recipe(_ai_edge_recipe(recipes, int(job.get("weight_bits", "8"))))
        data = {signature: [{tensor: row[np.newaxis]} for row in pictures]}
        result = worker.quantize(worker.calibrate(data))
        Path(job["output"]).write_bytes(result.quantized_model)

    return work


def _ai_edge_recipe(recipes: ModuleType, weight_bits: int) -> object:
    """Its static_wi8_ai8; fewer bits for the operators that take them: it has no 4-bit depthwise convolution."""
    manager = recipes.RecipeManager()
    manager.add_static_config(".*", "*", 8, 8)
    if weight_bits != 8:
        for operation in ("CONV_2D", "FULLY_CONNECTED"):
            manager.add_static_config(".*", operation, 8, weight_bits)
    return manager.get_quantization_recipe()


def prepare_nncodec_encode(job: Job) -> Work:
    """NNCodec: quantize float tensors of an .npz at a quantization parameter (integers as they are) and encode them.

    Its coder is called without its Python layers (which import torch and more): dependent quantization, row skipping
    and optimized parameters as in its `tensor.encode`, unary length 10, no rate term, all of them its defaults.
    """
    coder = importlib.import_module("nncodec.extensions.deepCABAC")
    tensors = dict(np.load(job["input"]))
    qp = int(job.get("qp", "0"))

    def work() -> None:
        streams: dict[str, Any] = {name: _nncodec_stream(coder, one, qp) for name, one in tensors.items()}
        np.savez(job["output"], **streams)

    return work


def _nncodec_stream(coder: ModuleType, tensor: np.ndarray, qp: int) -> np.ndarray:
    levels = tensor.astype(np.int32)
    is_float = tensor.dtype == np.float32
    if is_float:
        levels = np.zeros(tensor.shape, dtype=np.int32)
        quantizer = coder.Encoder()
        quantizer.initCtxModels(NNCODEC_UNARY, 0)
        quantizer.quantLayer(tensor, levels, 1, NNCODEC_QP_DENSITY, qp, 0.0, NNCODEC_UNARY, 0, 1)
    skipped = np.array([not row.any() for row in levels], dtype=np.int32)
    encoder = coder.Encoder()
    encoder.iae_v(6 + NNCODEC_QP_DENSITY, qp)
    encoder.initCtxModels(NNCODEC_UNARY + 1, 1)
    encoder.encodeLayer(levels, int(is_float), 0, 1, 0, 1, skipped, *_nncodec_no_history(coder), 0, 0)
    return encoder.finish()


def prepare_nncodec_decode(job: Job) -> Work:
    """NNCodec: decode the streams of an .npz; with an "output", write what they stand for."""
    coder = importlib.import_module("nncodec.extensions.deepCABAC")
    with np.load(job["tensors"]) as tensors:
        shapes = {name: (tensors[name].shape, tensors[name].dtype == np.float32) for name in tensors.files}
    streams = dict(np.load(job["input"]))

    def work() -> None:
        decoded: dict[str, Any] = {name: _nncodec_tensor(coder, streams[name], *form) for name, form in shapes.items()}
        if "output" in job:
            np.savez(job["output"], **decoded)

    return work


def _nncodec_tensor(coder: ModuleType, stream: np.ndarray, shape: tuple[int, ...], is_float: bool) -> np.ndarray:
    decoder = coder.Decoder()
    decoder.setStream(stream)
    qp = decoder.iae_v(6 + NNCODEC_QP_DENSITY)
    decoder.initCtxModels(NNCODEC_UNARY + 1)
    levels = np.zeros(shape, dtype=np.int32)
    decoder.decodeLayer(levels, int(is_float), 0, 1, 0, *_nncodec_no_history(coder), 0, 0)
    decoder.finish()
    if not is_float:
        return levels
    values = np.zeros(shape, dtype=np.float32)
    decoder.dequantLayer(values, levels, NNCODEC_QP_DENSITY, qp, 0)
    return values


def _nncodec_no_history(coder: ModuleType) -> tuple[object, np.ndarray]:
    return coder.HdspMode.AlwaysOff, np.zeros(2, dtype=np.int8)


PREPARE: Mapping[str, Callable[[Job], Work]] = {
    "nncodec_encode": prepare_nncodec_encode,
    "nncodec_decode": prepare_nncodec_decode,
    "litert_torch": prepare_litert_torch,
    "torch_onnx": prepare_torch_onnx,
    "ort_quantize": prepare_ort_quantize,
    "ort_matmul_nbits": prepare_ort_matmul_nbits,
    "nncf": prepare_nncf,
    "ai_edge_quantizer": prepare_ai_edge_quantizer,
}


def with_signature(content: bytes) -> tuple[bytes, str, str]:
    """A TFLite file with a signature, the signature's name, and its input's: ai-edge-quantizer asks for one."""
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    flatbuffers = importlib.import_module("flatbuffers")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    if model.signatureDefs:
        first = model.signatureDefs[0]
        return content, first.signatureKey.decode(), first.inputs[0].name.decode()

    def tensors(name: str, index: int) -> list[object]:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, int(index)
        return [entry]

    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs, signature.outputs = tensors("x", graph.inputs[0]), tensors("y", graph.outputs[0])
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), SIGNATURE, "x"


def _module(job: Job) -> tuple[Any, Any]:
    """The torch module of a job with the weights that edgekit wrote, in eval mode, and a sample input."""
    torch = importlib.import_module("torch")
    safetensors = importlib.import_module("safetensors.torch")
    zoo = importlib.import_module("edgekit.models.zoo")
    architecture = importlib.import_module("edgekit.models.architecture")
    msgspec = importlib.import_module("msgspec")
    options = msgspec.json.decode(job["options"], type=architecture.BuildOptions)
    module = zoo.build_model(options)
    module.load_state_dict(safetensors.load_file(job["weights"]))
    return module.eval(), torch.randn(1, options.in_channels, options.input_size, options.input_size)


def do(job: Job) -> dict[str, float | str]:
    """Do one job and say what it took."""
    try:
        work = PREPARE[job["job"]](job)
    except ImportError as error:
        return {"missing": error.name or str(error)}
    cpu_before, wall_before = time.process_time(), time.perf_counter()
    try:
        work()
    except Exception as error:  # noqa: BLE001 - a peer's code: whatever it raises is its answer, and the next may work
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    wall = time.perf_counter() - wall_before
    return {"wall_s": wall, "cpu_s": time.process_time() - cpu_before, **_peak_memory()}


def _peak_memory() -> dict[str, float | str]:
    """Largest resident memory of this process so far; nothing where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    peak = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    return {} if peak is None else {"peak_rss_mib": int(peak) / 1024}


def main() -> None:
    """Answer jobs until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries print to the descriptor too, not only through Python
    for line in sys.stdin:
        print(json.dumps(do(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
