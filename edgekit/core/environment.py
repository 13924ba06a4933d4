"""What a number depends on besides the model: versions, processor, date."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = ("edgekit", "numpy", "onnx", "onnxruntime", "ai-edge-litert", "tflite-runtime", "torch")


def installed_version(package: str) -> str | None:
    """Version of an installed distribution; None when it is not installed. Imports nothing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def describe_environment() -> dict[str, str]:
    """Versions of what computes, Python, platform and processor, for reports."""
    versions = {package: installed_version(package) for package in PACKAGES}
    return {
        **{package: version for package, version in versions.items() if version is not None},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "num_cpus": str(os.cpu_count()),
    }


def date_of_now() -> str:
    """UTC date and time to the second, ISO 8601, for reports."""
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")


def cpu_name() -> str:
    """Model name of the processor, or the machine type where the kernel does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
