"""Capture apart from inference: a child process reads the camera, and only the newest picture comes over."""
