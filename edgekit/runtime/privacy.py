"""Runtimes that report to their makers, told not to: nothing leaves a board unless its owner asks for it."""

from __future__ import annotations

import os

OPT_OUT_VARIABLE = "ORT_DISABLE_TELEMETRY"
"""ONNX Runtime 1.32 writes a device id into the user's folder as soon as it is imported, and sends events to its maker,
unless this is set by then (its Privacy.md)."""


def decline_telemetry() -> None:
    """Opt out, before a runtime is imported. What the user has set stays as it is."""
    os.environ.setdefault(OPT_OUT_VARIABLE, "1")
