"""Keys, and the signed repository from which boards fetch their updates. Host side; needs `edgekit[agent]`.

`keyring.Keyring` holds the keys, `publishing.publish` writes the repository. See docs/trust.md.
"""
