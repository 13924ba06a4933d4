"""The catalogue of architectures, one file each."""
