"""Small bundles for tests: contents made by hand for the format, and runs whose models really answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from edgekit.bundle.manifest import (
    GOLDEN,
    LABELS,
    LOGITS,
    MANIFEST,
    MODEL,
    Budgets,
    Compatible,
    GoldenEntry,
    Manifest,
    ModelEntry,
    Needs,
    RuntimeNeed,
    describe_file,
    encode_manifest,
)
from edgekit.core.artifact import ModelCard
from edgekit.core.preprocessing import PreprocessSpec
from edgekit.export.onnx_writer import write_onnx
from edgekit.export.tflite import write_tflite
from graphs import GraphBuilder, quantize_for_test

LABEL_NAMES = ("ant", "bee", "cat")
CARD = ModelCard(
    model="tiny",
    scheme="float",
    labels=(*LABEL_NAMES, "dog", "emu", "fox", "gnu"),
    preprocess=PreprocessSpec(input_size=(8, 8), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
)


def plain_files() -> dict[str, bytes]:
    """Every file but the manifest: two pictures of 4x4 in gray, three classes, and bytes in place of a model."""
    logits = np.array([[0.0, 5.0, 1.0], [7.0, 2.0, 3.0]], "<f4")
    return {
        MODEL: b"no model, " * 5,
        LABELS: "".join(f"{name}\n" for name in LABEL_NAMES).encode(),
        GOLDEN: bytes(range(32)),
        LOGITS: logits.tobytes(),
    }


def plain_manifest(files: dict[str, bytes] | None = None) -> Manifest:
    """A manifest for `plain_files`."""
    contents = files or plain_files()
    return Manifest(
        name="pets",
        release=4,
        created_unix_s=1_700_000_000,
        made_by="edgekit test",
        compatible=Compatible(
            boards=("host_cpu", "raspberry_pi_4b"),
            architectures=("aarch64", "x86_64"),
            python_at_least=(3, 10),
            runtimes=(RuntimeNeed(name="litert", at_least="2.0"), RuntimeNeed(name="onnxruntime", at_least="1.23")),
        ),
        needs=Needs(ram_mib=100, disk_mib=10),
        budgets=Budgets(p90_ms=40.0, rss_mib=200.0),
        files=tuple(describe_file(name, content) for name, content in sorted(contents.items())),
        model=ModelEntry(
            format="tflite",
            size_bytes=1000,
            sha256="ab" * 32,
            name="tiny",
            scheme="static_wi8_ai8",
            input_size=(4, 4),
            num_channels=1,
            num_classes=3,
        ),
        golden=GoldenEntry(
            origin="generated", source="seeds 0, 1", judge="onnxruntime 1.32.0", top1=(1, 0), tolerance=0.5
        ),
        baseline=(0.25, 0.5, 0.25),
    )


def plain_contents() -> dict[str, bytes]:
    """All files of a bundle that passes every check that needs no runtime."""
    return {MANIFEST: encode_manifest(plain_manifest()), **plain_files()}


def with_manifest(contents: dict[str, bytes], change: Callable[[Manifest], Manifest]) -> dict[str, bytes]:
    """The contents with a changed manifest, whose entries are those of the files as they are."""
    files = {name: content for name, content in contents.items() if name != MANIFEST}
    described = tuple(describe_file(name, content) for name, content in sorted(files.items()))
    manifest = msgspec.json.decode(contents[MANIFEST], type=Manifest)
    return {MANIFEST: encode_manifest(change(msgspec.structs.replace(manifest, files=described))), **files}


def write_run(folder: Path, seed: int = 3, *, float_io: bool = False) -> Path:
    """A run folder with what a bundle is made of: model.tflite and model.onnx of the same integers; no recipe."""
    build = GraphBuilder((1, 3, 8, 8), seed=seed, name="tiny")
    x = build.relu(build.conv("input", 16, stride=2, pads=1))
    x = build.conv(x, 16, pads=1, group=16)
    graph = build.build(build.gemm(build.flatten(x), len(CARD.labels)))
    pictures = np.random.default_rng(0).standard_normal((32, 3, 8, 8), dtype=np.float32) * 2
    quantized = quantize_for_test(graph, pictures)
    folder.mkdir(parents=True, exist_ok=True)
    write_onnx(quantized, folder / "model.onnx", CARD)
    card = msgspec.structs.replace(CARD, scheme=quantized.scheme)
    write_tflite(quantized, folder / "model.tflite", card, float_io=float_io)
    return folder
