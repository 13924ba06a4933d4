"""Entropy coder and the `.ekz` packer. Device side: numpy and the standard library."""
