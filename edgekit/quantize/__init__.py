"""Post-training quantization of the hub graph, in numpy: ranges, plan, rounding, bias correction."""
