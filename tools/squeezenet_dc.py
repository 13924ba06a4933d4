"""Turn the published Deep Compression SqueezeNet (songhan/SqueezeNet-Deep-Compression) into a float ONNX file.

    python tools/squeezenet_dc.py compressed_SqueezeNet.net squeezenet_dc.onnx

The weights stay shared: every convolution holds at most 256 distinct float32 values. Reading is pure numpy; only
writing needs onnx.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgekit.core.errors import IntegrityError

FIRE_WIDTHS = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
CODEBOOK_SIZE = 256
POOL_AFTER = ("conv1", "fire4", "fire8")


class Convolution(msgspec.Struct, frozen=True):
    """One convolution: weights OIHW and biases, float32."""

    name: str
    weights: npt.NDArray[Any]
    biases: npt.NDArray[Any]


def main() -> None:
    """Read the published file, write ONNX."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    write_onnx(read_published(arguments.source.read_bytes()), arguments.target)


def layer_shapes() -> list[tuple[str, tuple[int, int, int, int]]]:
    """Names and OIHW shapes in the order of the file."""
    shapes: list[tuple[str, tuple[int, int, int, int]]] = [("conv1", (96, 3, 7, 7))]
    channels = 96
    for index, (squeeze, expand) in enumerate(FIRE_WIDTHS, start=2):
        shapes.append((f"fire{index}_squeeze1x1", (squeeze, channels, 1, 1)))
        shapes.append((f"fire{index}_expand1x1", (expand, squeeze, 1, 1)))
        shapes.append((f"fire{index}_expand3x3", (expand, squeeze, 3, 3)))
        channels = 2 * expand
    shapes.append(("conv10", (1000, channels, 1, 1)))
    return shapes


def read_published(content: bytes) -> list[Convolution]:
    """The convolutions of the published file.

    Raises:
        IntegrityError: The file ends too early or late, or a position lies outside of its layer.
    """
    shapes = layer_shapes()
    counts = np.frombuffer(_take(content, 0, 4 * len(shapes)), dtype="<u4")
    position = 4 * len(shapes)
    layers: list[Convolution] = []
    for (name, shape), count in zip(shapes, counts.tolist(), strict=True):
        codebook = np.frombuffer(_take(content, position, 4 * CODEBOOK_SIZE), dtype="<f4")
        position += 4 * CODEBOOK_SIZE
        biases = np.frombuffer(_take(content, position, 4 * shape[0]), dtype="<f4")
        position += 4 * shape[0]
        symbols = np.frombuffer(_take(content, position, count), dtype=np.uint8)
        position += count
        packed = np.frombuffer(_take(content, position, -(-count // 2)), dtype=np.uint8)
        position += -(-count // 2)
        gaps = np.stack([packed & 15, packed >> 4], axis=1).ravel()[:count].astype(np.int64)
        places = np.cumsum(gaps + 1) - 1
        weights = np.zeros(int(np.prod(shape)), dtype=np.float32)
        if count and int(places[-1]) >= weights.size:
            raise IntegrityError(f"{name}: a weight at {int(places[-1])}, expected at most {weights.size - 1}")
        weights[places] = codebook[symbols]
        layers.append(Convolution(name, weights.reshape(shape), biases))
    if position != len(content):
        raise IntegrityError(f"{len(content)} bytes, expected {position}")
    return layers


def write_onnx(layers: list[Convolution], path: Path) -> None:
    """SqueezeNet 1.0 as float ONNX, input NCHW 227 x 227, BGR with the means subtracted."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    by_name = {layer.name: layer for layer in layers}
    nodes: list[Any] = []

    def convolve(name: str, source: str) -> str:
        shape = by_name[name].weights.shape
        pad = 1 if shape[2] == 3 else 0
        stride = 2 if name == "conv1" else 1
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"{name}.weight", f"{name}.bias"],
                [f"{name}.sum"],
                kernel_shape=shape[2:],
                pads=[pad] * 4,
                strides=[stride] * 2,
            )
        )
        nodes.append(helper.make_node("Relu", [f"{name}.sum"], [name]))
        return name

    def pool(source: str) -> str:
        nodes.append(
            helper.make_node("MaxPool", [source], [f"{source}.pool"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        )
        return f"{source}.pool"

    flow = pool(convolve("conv1", "input"))
    for index in range(2, 10):
        squeezed = convolve(f"fire{index}_squeeze1x1", flow)
        expanded = [convolve(f"fire{index}_expand{size}", squeezed) for size in ("1x1", "3x3")]
        nodes.append(helper.make_node("Concat", expanded, [f"fire{index}"], axis=1))
        flow = pool(f"fire{index}") if f"fire{index}" in POOL_AFTER else f"fire{index}"
    nodes.append(helper.make_node("GlobalAveragePool", [convolve("conv10", flow)], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["scores"]))
    initializers = [
        numpy_helper.from_array(array, f"{layer.name}.{kind}")
        for layer in layers
        for kind, array in (("weight", layer.weights), ("bias", layer.biases))
    ]
    graph = helper.make_graph(
        nodes,
        "squeezenet_deep_compression",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 227, 227])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 1000])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _take(content: bytes, position: int, length: int) -> bytes:
    if position + length > len(content):
        raise IntegrityError(f"the file ends at {len(content)}, {position + length} bytes needed")
    return content[position : position + length]


if __name__ == "__main__":
    main()
