"""Datasets: the catalogue, folders of pictures, splits, and the batches that every later stage reads."""
