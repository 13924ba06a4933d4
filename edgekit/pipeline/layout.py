"""File names of a run folder (DESIGN 4.2)."""

from __future__ import annotations

from edgekit.export.hub import FLOAT_NAME

RECIPE, LABELS = "recipe.toml", "labels.txt"
FLOAT_ONNX, MODEL_ONNX, MODEL_TFLITE = FLOAT_NAME, "model.onnx", "model.tflite"
CURVES = "curves.png"
