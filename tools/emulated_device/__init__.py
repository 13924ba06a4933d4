"""Boards without boards: an emulated machine with a V4L2 camera (`guest`), and arm64 namespaces (`board`).

See docs/emulated-device.md.
"""
