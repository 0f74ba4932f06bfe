"""From scores to log-densities and samples: integrator, probability flow, identity, bound."""
