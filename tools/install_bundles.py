"""Tiny bundles for the trials of the installer: a network of three layers that really answers."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from edgekit.bundle.manifest import MANIFEST, Budgets, Manifest, describe_file, encode_manifest
from edgekit.bundle.reading import write_bundle
from edgekit.core.artifact import ModelCard
from edgekit.core.graph import Array, Graph, Node
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.core.recipe import QuantizeSection
from edgekit.deploy.bundling import BundleRequest, make_bundle
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from edgekit.quantize.calibration import calibrate
from edgekit.quantize.execute import run_float
from edgekit.quantize.ptq import quantize_static

LABELS = ("ant", "bee", "cat", "dog", "emu", "fox", "gnu")
CARD = ModelCard(
    model="tiny",
    scheme="float",
    labels=LABELS,
    preprocess=PreprocessSpec(input_size=(8, 8), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
)


def write_tiny_bundle(folder: Path, release: int, *, budgets: Budgets | None = None, channels: int = 16) -> Path:
    """Make a bundle for this machine.

    Args:
        folder: Where it goes.
        release: Its counter, and the seed of its weights.
        budgets: What it may cost.
        channels: Of its convolution.

    Returns:
        The `.ekb` file.
    """
    run_dir = folder / f"run-{release}-{channels}"
    run_dir.mkdir(parents=True, exist_ok=True)
    graph = tiny_graph(release, channels)
    pictures = np.random.default_rng(0).standard_normal((32, 3, 8, 8), dtype=np.float32) * 2
    section = QuantizeSection(ranges="minmax", bias_correction=False)
    quantized = quantize_static(graph, calibrate(graph, [run_float(graph, pictures)]), section)
    write_onnx(quantized, run_dir / "model.onnx", CARD)
    write_tflite(quantized, run_dir / "model.tflite", msgspec.structs.replace(CARD, scheme=quantized.scheme))
    path = folder / f"tiny-{release}-{channels}.ekb"
    request = BundleRequest(
        run_dir=run_dir, boards=("host_cpu",), release=release, name="tiny", budgets=budgets or Budgets()
    )
    make_bundle(request, path)
    return path


def write_float_model(path: Path, *, bias: float = 0.0, labels: tuple[str, ...] = LABELS) -> bytes:
    """A model file of the same shape with other answers; `bias` is added to every one of them."""
    graph = tiny_graph(99, 8, bias=bias)
    write_tflite(graph, path, msgspec.structs.replace(CARD, labels=labels))
    return path.read_bytes()


def tiny_graph(seed: int, channels: int, *, bias: float = 0.0) -> Graph:
    """A convolution, a rectifier and a dense layer: (1, 3, 8, 8) to (1, 7)."""
    rng = np.random.default_rng(seed)
    features = channels * 4 * 4
    constants: dict[str, Array] = {
        "conv.weight": rng.normal(0, 27**-0.5, (channels, 3, 3, 3)).astype(np.float32),
        "conv.bias": rng.normal(0, 0.1, channels).astype(np.float32),
        "dense.weight": rng.normal(0, features**-0.5, (len(LABELS), features)).astype(np.float32),
        "dense.bias": (rng.normal(0, 0.1, len(LABELS)) + bias).astype(np.float32),
    }
    window = {"strides": (2, 2), "pads": (1, 1, 1, 1), "group": 1, "dilations": (1, 1)}
    nodes = (
        Node(name="conv", op="Conv", inputs=("input", "conv.weight", "conv.bias"), outputs=("conv",), attrs=window),
        Node(name="relu", op="Relu", inputs=("conv",), outputs=("relu",), attrs={}),
        Node(name="flat", op="Flatten", inputs=("relu",), outputs=("flat",), attrs={}),
        Node(name="dense", op="Gemm", inputs=("flat", "dense.weight", "dense.bias"), outputs=("dense",), attrs={}),
    )
    shapes = {"input": (1, 3, 8, 8), "conv": (1, channels, 4, 4), "relu": (1, channels, 4, 4)}
    return Graph(
        name="tiny",
        input="input",
        output="dense",
        nodes=nodes,
        constants=constants,
        shapes={**shapes, "flat": (1, features), "dense": (1, len(LABELS))},
    )


def rewrite_bundle(
    source: Path, target: Path, change: Callable[[Manifest], Manifest] = lambda manifest: manifest, **files: bytes
) -> Path:
    """A bundle with other files (`model_ekz=...` for `model.ekz`) or another manifest; every hash is right again."""
    with zipfile.ZipFile(source) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents.update({key.replace("_", "."): content for key, content in files.items()})
    manifest = msgspec.json.decode(contents.pop(MANIFEST), type=Manifest)
    described = tuple(describe_file(name, content) for name, content in sorted(contents.items()))
    manifest = change(msgspec.structs.replace(manifest, files=described))
    write_bundle(target, {MANIFEST: encode_manifest(manifest), **contents})
    return target
