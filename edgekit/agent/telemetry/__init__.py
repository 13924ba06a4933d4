"""What the agent knows about itself: latency, the board, drift, sample pictures, and a record of all of it."""
