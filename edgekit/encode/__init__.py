"""Entropy coder and the `.ekz` packer. Device side: numpy, zstandard and the standard library."""
