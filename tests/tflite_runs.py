"""Run TFLite bytes in LiteRT and look inside them, for tests."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgekit.core.artifact import ModelCard
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.quant import QuantizedGraph
from edgekit.export.tflite import build_tflite

CARD = ModelCard(
    model="net",
    scheme="float",
    labels=(),
    preprocess=PreprocessSpec(input_size=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.1)),
)
OPERATOR_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def load(content: bytes) -> Interpreter:
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def run(content: bytes, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Output of one NHWC input."""
    interpreter = load(content)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def run_float_file(graph: Graph, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Output of the graph's float file for an NCHW input; maps come back as NCHW."""
    return to_nchw(run(build_tflite(graph, CARD), to_nhwc(x)))


def run_int8_file(model: QuantizedGraph, x: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Output of the int8 file for an NCHW int8 input; maps come back as NCHW."""
    return to_nchw(run(build_tflite(model, CARD), to_nhwc(x)))


def to_nhwc(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def to_nchw(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def parse(content: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromPackedBuf(bytearray(content), 0)


def operators(content: bytes) -> Counter[str]:
    """How often each operator occurs."""
    model = parse(content)
    codes = [code.builtinCode for code in model.operatorCodes or []]
    return Counter(OPERATOR_NAMES[codes[node.opcodeIndex]] for node in subgraph(model).operators or [])


def subgraph(model: schema.ModelT) -> schema.SubGraphT:
    return (model.subgraphs or [])[0]


def tensors(content: bytes) -> dict[str, schema.TensorT]:
    """Tensors by name."""
    return {text(tensor.name): tensor for tensor in subgraph(parse(content)).tensors or []}


def constant(content: bytes, name: str) -> npt.NDArray[Any]:
    """Values of a stored tensor, in the file's layout."""
    model = parse(content)
    tensor = tensors(content)[name]
    dtype = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32}
    return np.frombuffer(buffer_bytes(model, tensor.buffer), dtype[tensor.type]).reshape(vector(tensor.shape))


def scales(tensor: schema.TensorT) -> list[float]:
    """Scales of a quantized tensor, none for others."""
    return vector(tensor.quantization.scale if tensor.quantization else None)


def zero_points(tensor: schema.TensorT) -> list[int]:
    """Zero-points of a quantized tensor, none for others."""
    return vector(tensor.quantization.zeroPoint if tensor.quantization else None)


def text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def is_wholly_delegated(content: bytes) -> bool:
    """Whether XNNPACK takes everything: one partition that reads the model's input and makes its output."""
    interpreter = load(content)
    partitions = [node for node in interpreter._get_ops_details() if node["op_name"] == "DELEGATE"]
    if len(partitions) != 1:
        return False
    model = subgraph(parse(content))
    made = {int(index) for node in model.operators or [] for index in vector(node.outputs)}
    read = {int(index) for index in partitions[0]["inputs"]}
    return not (read & made) and list(partitions[0]["outputs"]) == vector(model.outputs)


def vector(values: Any) -> list[Any]:
    """A vector of the object API, which is None, a list or an array, as a list."""
    return [] if values is None else list(values)


def buffer_bytes(model: schema.ModelT, index: int) -> bytes:
    return bytes(vector((model.buffers or [])[index].data))
