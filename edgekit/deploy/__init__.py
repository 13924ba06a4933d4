"""From a run on the host to what a board receives."""
