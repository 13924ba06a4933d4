"""Living under systemd: what it is told, what beats, and what happens when something no longer does."""
