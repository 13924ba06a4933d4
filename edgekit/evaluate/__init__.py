"""Metrics of exported files: accuracy with its interval, agreement, confusion."""
