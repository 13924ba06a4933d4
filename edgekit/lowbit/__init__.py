"""Fewer than eight bits: which layer gets how many, and how its weights are rounded; planned first, then done."""
