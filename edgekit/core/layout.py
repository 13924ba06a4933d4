"""File names of a run folder."""

from __future__ import annotations

RECIPE, LABELS, CURVES = "recipe.toml", "labels.txt", "curves.png"
FLOAT_ONNX, MODEL_ONNX, MODEL_TFLITE = "float.onnx", "model.onnx", "model.tflite"
MODEL_EKZ = "model.ekz"
