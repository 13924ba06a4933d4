"""A small feature extractor and folders of pictures for it, written by edgekit's own exporters."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgekit.core.artifact import ModelCard
from edgekit.core.graph import Graph
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.export.features import cut_classifier
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from graphs import GraphBuilder, quantize_for_test

SPEC = PreprocessSpec(input_size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CARD = ModelCard(model="tiny", scheme="float", labels=(), preprocess=SPEC, kind="features")
LONG_AGO_NS = 1_600_000_000_000_000_000


def tiny_classifier(seed: int = 3) -> Graph:
    """Conv, Relu, depthwise Conv, pool, Gemm: 16 features, 7 classes."""
    build = GraphBuilder((1, 3, 8, 8), seed=seed, name="tiny")
    x = build.relu(build.conv("input", 16, stride=2, pads=1))
    x = build.relu(build.conv(x, 16, pads=1, group=16))
    return build.build(build.gemm(build.flatten(build.global_pool(x)), 7))


def write_extractors(folder: Path, seed: int = 3) -> dict[str, Path]:
    """float.onnx, int8.onnx, float.tflite and int8.tflite of one extractor."""
    graph = cut_classifier(tiny_classifier(seed)).graph
    pictures = np.random.default_rng(0).standard_normal((16, 3, 8, 8), dtype=np.float32) * 2
    quantized = quantize_for_test(graph, pictures)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / name for name in ("float.onnx", "int8.onnx", "float.tflite", "int8.tflite")}
    write_onnx(graph, paths["float.onnx"], CARD)
    write_onnx(quantized, paths["int8.onnx"], CARD)
    write_tflite(graph, paths["float.tflite"], CARD)
    write_tflite(quantized, paths["int8.tflite"], CARD)
    return paths


def draw(seed: int, size: int = 20) -> npt.NDArray[np.uint8]:
    """A picture of coarse random patches, uint8 [size, size, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, size // 4, axis=0), size // 4, axis=1)


def write_picture(path: Path, pixels: npt.NDArray[np.uint8], *, is_old: bool = True) -> Path:
    """Write a PNG, by default with a time long past, as the pictures of a collection have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    if is_old:
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return path


def write_pictures(folder: Path, num: int) -> list[Path]:
    """`folder/0000.png`, ..., all different."""
    return [write_picture(folder / f"{index:04d}.png", draw(index)) for index in range(num)]
