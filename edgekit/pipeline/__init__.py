"""The stages in order; the only place where they meet.

    load (name, run, checkpoint, ONNX) -> hub graph -> calibrate -> quantize -> lower twice (ONNX QDQ, TFLite)
      -> verify -> measure latency -> report

`compress` is the main job. Every stage takes and gives frozen types; files are written into a run folder (DESIGN 4.2).
"""

from __future__ import annotations

from edgekit.pipeline.compression import Compressed, CompressRequest, compress, request_from_recipe, run_calibration
from edgekit.pipeline.runs import export_float, train_run, verify_run

__all__ = [
    "CompressRequest",
    "Compressed",
    "compress",
    "export_float",
    "request_from_recipe",
    "run_calibration",
    "train_run",
    "verify_run",
]
