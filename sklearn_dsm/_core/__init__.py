"""Scores of noised data in torch: what is known of them, how they are learned, and what follows."""
