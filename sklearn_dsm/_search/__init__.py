"""Model selection within a budget: base densities, then networks that correct them."""
