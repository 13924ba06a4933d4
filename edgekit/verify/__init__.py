"""Check exported files against the float model: agreement, tolerance, accuracy, layer by layer."""
