"""Architectures and their embedded weights."""
