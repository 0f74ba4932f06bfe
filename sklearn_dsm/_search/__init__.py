"""What a fit chooses between, within the time it has: spaces, mixtures, networks."""
