"""SD cards: the agent, a bundle and first-boot settings into an image; an image onto a card. No root, no mounts."""
