"""The catalogue of datasets: one file each, which offers `DATASET`."""
