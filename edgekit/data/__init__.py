"""Pictures: the catalogue of datasets, image folders, splits, the embedded set."""
