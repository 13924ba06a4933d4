"""Which boards there are: the inventory, and what announces itself on the network."""
