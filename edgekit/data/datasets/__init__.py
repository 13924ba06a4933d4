"""The catalogue of datasets, one file each."""
