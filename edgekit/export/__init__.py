"""Into the hub graph (from torch, from ONNX) and out of it (to ONNX, to TFLite)."""
