"""File names of a run folder."""

from __future__ import annotations

RECIPE, LABELS, CURVES = "recipe.toml", "labels.txt", "curves.png"
FLOAT_ONNX, MODEL_ONNX, MODEL_TFLITE = "float.onnx", "model.onnx", "model.tflite"
FLOAT_TFLITE = "float.tflite"
"""Only in runs of `edgekit embed`."""
MODEL_EKZ = "model.ekz"
MODEL_DC = "model.dc"
"""The same integers in the classic coding of Deep Compression, for comparison."""
ORIGINAL_TFLITE = "original.tflite"
"""What the model would be without pruning and sharing; measured beside, not kept."""
