"""The catalogue of corruptions: one file each, the file name is the id."""
