"""How samplers move: chains of Gaussian steps from noise to samples, and their weights."""
