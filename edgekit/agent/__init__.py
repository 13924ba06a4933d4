"""The program on the board: camera in, answers out, and an honest account of size and latency."""
