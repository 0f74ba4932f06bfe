"""Log-densities that are polynomials: monomials, derivatives, moments, and samples."""
