"""One readable training loop, and what it needs."""
