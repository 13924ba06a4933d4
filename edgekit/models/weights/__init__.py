"""Embedded weights: safetensors in float16 with a JSON card beside each."""
