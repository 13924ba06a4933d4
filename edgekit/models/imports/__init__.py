"""Trained weights of others, read into our own architectures. The folder is the catalogue: one file per format."""
