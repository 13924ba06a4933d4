"""Run a file and see inside: the float network's activations for calibration, any file's for layer comparison."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit.core.artifact import ModelCard
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.storage import write_bytes
from edgekit.data.source import Batch
from edgekit.export.onnx_writer import build_onnx, with_all_outputs
from edgekit.runtime.interpreter import load_interpreter
from edgekit.runtime.preprocess import normalize, to_input

MAX_ACTIVATION_BYTES = 256 * 2**20
MAX_BATCH = 32


def fitting_batch_size(graph: Graph) -> int:
    """Pictures whose activations, all kept at once, take at most 256 MiB as float32; at most 32, at least 1."""
    bytes_each = 4 * sum(math.prod(graph.shapes[name]) for name in graph.activations())
    return max(1, min(MAX_BATCH, MAX_ACTIVATION_BYTES // bytes_each))


def float_activations(
    graph: Graph, spec: PreprocessSpec, batches: Iterable[Batch], names: Collection[str], *, num_threads: int = 2
) -> Iterator[Mapping[str, npt.NDArray[np.float32]]]:
    """Run the float network on batches of pictures and give the named activations of each, NCHW.

    Args:
        graph: Float graph.
        spec: Picture to input.
        batches: Pictures; one batch is held at a time.
        names: Activations wanted; the graph's input is always among what is given.
        num_threads: Threads of the runtime.
    """
    card = ModelCard(model=graph.name, scheme="float", labels=(), preprocess=spec)
    proto = with_all_outputs(build_onnx(graph, card), names)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "activations.onnx"
        write_bytes(path, proto.SerializeToString())
        interpreter = load_interpreter(path, num_threads=num_threads, keep_tensors=True)
        wanted = [name for name in names if name in interpreter.tensor_names]
        for batch in batches:
            x = normalize(batch.pictures, spec)
            interpreter.run(x)
            yield {graph.input: x, **{name: interpreter.read_tensor(name) for name in wanted if name != graph.input}}


def file_activations(
    path: Path, graph: Graph, spec: PreprocessSpec, pictures: npt.NDArray[np.uint8], names: Collection[str]
) -> Iterator[Mapping[str, npt.NDArray[np.float32]]]:
    """Run a TFLite file picture by picture and give the named activations, dequantized, NCHW.

    Args:
        path: .tflite file that was lowered from `graph`.
        graph: Tells which activations are maps.
        spec: Picture to input.
        pictures: uint8 [n, h, w, c].
        names: Activations wanted; those that the file does not hold (fused away) are left out.
    """
    interpreter = load_interpreter(path, keep_tensors=True)
    wanted = [name for name in names if name in interpreter.tensor_names]
    for index in range(len(pictures)):
        interpreter.run(to_input(pictures[index : index + 1], spec, interpreter.input))
        yield {name: _to_nchw(interpreter.read_tensor(name), len(graph.shapes[name])) for name in wanted}


def _to_nchw(values: npt.NDArray[np.float32], rank: int) -> npt.NDArray[np.float32]:
    return values.transpose(0, 3, 1, 2) if rank == 4 and values.ndim == 4 else values
