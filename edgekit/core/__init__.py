"""The nouns that every layer shares: errors, catalogue, recipe, hub graph, quantized tensors, report."""
