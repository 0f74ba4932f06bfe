"""Score models, grad log p at every noise level: what they offer, and those that are learned."""
