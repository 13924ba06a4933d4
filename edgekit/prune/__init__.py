"""Pruning: whole channels (faster on any runtime) and single weights (smaller to ship). Plan first, then apply."""
