"""Below eight bits, and quantization by others: put together from export and quantize."""
